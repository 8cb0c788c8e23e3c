// SPDX-License-Identifier: GPL-2.0-only
/*
 * The file descriptor of KVM_PPC_GET_HTAB_FD: a guest's hashed page table
 * (HPT) read as a stream of records, first whole, then only what changed, and
 * written from such a stream.
 *
 * Documentation/virt/kvm/ppc-hpt-fd.rst says what userspace may rely on,
 * book3s_hpt.h what this file asks of the flavour of KVM that has the table.
 *
 * How a reader learns of changes: each table has a change log, one bit an
 * HPTE, which the flavour sets wherever an HPTE may have changed.  There is
 * one log and any number of readers, so each reader has a bitmap of its own,
 * "pending": the HPTEs whose present state it has not been given.  A read
 * first harvests a stretch of the log, which takes bits from the log and sets
 * them in the pending bitmap of every reader, and then returns the HPTEs of
 * that stretch which are pending for itself.  The first pass is no special
 * case: a reader begins with everything pending from its start index on.  A
 * pending bit is cleared when the HPTE is copied to the reader's buffer and
 * set again if the buffer then fails to reach userspace, so that neither a
 * fault, nor a signal, nor another reader can lose a change.  A reader that is
 * the only one, and has nothing pending, takes a shortcut: it sweeps changes from
 * the log straight into its buffer, and leaves there what it cannot.
 *
 * When the table is reset or replaced by one of the same size, its readers
 * start over; readers and writers of one that is gone are told so (-ESTALE).
 *
 * Locks, outermost first:
 *
 *  hpt_reader.lock, hpt_writer.lock
 *	One read or write at a time on a file descriptor.  Protects the fields
 *	of the reader or writer, with the exceptions below.  User memory is
 *	accessed under this lock (so mmap_lock nests inside it).
 *  the table lock: kvmppc_hpt_ops.hold and .release
 *	HV: mmu_setup_lock (which nests inside kvm->slots_lock), PR: hpt_mutex.
 *	Keeps the table where and what it is.  Protects kvm->arch.hpt_watch
 *	but for the list, the statistics hpt_entries_written and
 *	hpt_changes_harvested, and of each reader in the list @pending,
 *	@nr_pending, @generation and @lineage.  PR accesses a table that is in the memory
 *	of userspace under it.
 *  what the flavour needs for an HPTE
 *	HV: kvm->srcu, the HPTE's lock bit or kvm->mmu_lock (which gives a
 *	writer all HPTEs), the rmap chain's lock.
 *	PR: kvm->mmu_lock, to flush its shadow HPTEs.
 *  kvm->arch.hpt_watch.lock
 *	Protects changes of the list of readers that are to be told of changes.
 *	They are told under RCU, and the table lock.
 *
 * fdinfo takes none of them, since who looks on should neither wait for a read,
 * which may itself wait for a page of its buffer, nor keep a guest waiting that
 * needs the table.  It shows what it finds, possibly of different moments.
 */

#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kvm_host.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rculist.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>
#include <asm/book3s/64/mmu-hash.h>
#include <asm/kvm_ppc.h>
#include <kunit/visibility.h>

#include "book3s_hpt.h"
#include "book3s_hpt_records.h"

#define CREATE_TRACE_POINTS
#include "trace_hpt.h"

/* HPTEs looked at under one hold of the table, between reschedule points. */
#define HPT_STRETCH		16384UL

/* HPTEs read at once, without the lock of any, where some are changing. */
#define HPT_SMALL_BATCH		32UL

/* What goes to or from userspace in one copy. */
#define HPT_BUF_SIZE	SZ_64K

/*
 * A process that is at the limit of its memory cgroup is to be told so, not to
 * be killed.
 */
#define HPT_GFP		(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

/* The least that a read can be given to return in every case: one entry. */
#define HPT_MIN_READ	(sizeof(struct kvm_get_htab_header) + \
			 sizeof(struct kvm_hpt_entry))

/* The index in a record's header is of 32 bits. */
#define HPT_MAX_NR	BIT(32)

/* What has gone through a file descriptor */
struct hpt_count {
	u64 valid, invalid, bytes;
};

struct hpt_reader {
	struct kvm *kvm;
	const struct kvmppc_hpt_ops *ops;
	unsigned int id;
	bool bolted;
	u64 start_index;

	struct mutex lock;	/* see above; protects what follows */
	void *buf;
	unsigned long nr;	/* HPTEs of the table */
	unsigned long pos;	/* the next one to look at */
	unsigned long quiet;	/* HPTEs passed in vain by this read */
	unsigned int pass;
	struct hpt_count count;	/* of what has been returned, ... */
	struct hpt_count before;	/* ... until this pass began */

	/* Protected by the table lock. */
	struct list_head node;
	unsigned long *pending;	/* once there, it stays */
	unsigned long nr_pending;	/* bits set in it */
	u64 generation;
	u64 lineage;		/* of the table it is for, */
	u32 order;		/* and its order */
};

struct hpt_writer {
	struct kvm *kvm;
	const struct kvmppc_hpt_ops *ops;
	unsigned int id;

	struct mutex lock;	/* see above; protects what follows */
	void *buf;
	size_t buf_size;
	struct hpt_count count;	/* of what has been applied */
	u64 lineage;		/* of the table it is for, 0 before there is one */
	u32 order;		/* of that table */
};

static atomic_t hpt_ids = ATOMIC_INIT(0);

static size_t hpt_record_size(const struct kvm_get_htab_header *rec)
{
	return sizeof(*rec) + rec->n_valid * sizeof(struct kvm_hpt_entry);
}

/**
 * kvmppc_hpt_init_vm - prepare a new VM for readers of its HPT
 * @kvm:	the VM
 */
void kvmppc_hpt_init_vm(struct kvm *kvm)
{
	spin_lock_init(&kvm->arch.hpt_watch.lock);
	INIT_LIST_HEAD(&kvm->arch.hpt_watch.readers);
}
EXPORT_SYMBOL_IF_KUNIT(kvmppc_hpt_init_vm);

/**
 * kvmppc_hpt_replaced - tell readers that the HPT is another one now
 * @kvm:	the VM
 * @order:	log2 of the size in bytes of the table now in use, 0 if there is
 *		none because the guest has switched to radix translation
 *
 * To be called after the table has been reset, allocated, replaced or given
 * up.  A table of the same order continues its predecessor: readers start over.
 * One of another order, or one after a time without, does not.
 *
 * Context: the table lock is held.
 */
void kvmppc_hpt_replaced(struct kvm *kvm, u32 order)
{
	struct kvm_hpt_watch *watch = &kvm->arch.hpt_watch;

	trace_kvm_hpt_replaced(kvm->userspace_pid, watch->order, order);
	watch->generation++;
	if (order != watch->order)
		watch->lineage++;
	watch->order = order;
}
EXPORT_SYMBOL_GPL(kvmppc_hpt_replaced);

/* The HPTEs with @bits in word @word of the bitmaps have changed. */
static void hpt_changed(struct kvm *kvm, unsigned long word, unsigned long bits)
{
	struct kvm_hpt_watch *watch = &kvm->arch.hpt_watch;
	struct hpt_reader *r;

	kvm->stat.hpt_changes_harvested += hweight_long(bits);
	rcu_read_lock();
	list_for_each_entry_rcu(r, &watch->readers, node) {
		/* Who has yet to notice a new table will start over with it. */
		if (r->generation != watch->generation)
			continue;
		/* In one step, since fdinfo looks on: never more than there are. */
		r->nr_pending += hweight_long(bits & ~r->pending[word]);
		r->pending[word] |= bits;
	}
	rcu_read_unlock();
}

/**
 * kvmppc_hpt_changed - make an HPTE pending for every reader
 * @kvm:	the VM
 * @index:	the HPTE
 *
 * Context: between kvmppc_hpt_ops.hold and .release.
 */
void kvmppc_hpt_changed(struct kvm *kvm, unsigned long index)
{
	hpt_changed(kvm, BIT_WORD(index), BIT_MASK(index));
}
EXPORT_SYMBOL_GPL(kvmppc_hpt_changed);

/* Make what has changed in word @i of the log pending for every reader. */
static noinline void hpt_harvest_word(struct hpt_reader *r,
				      struct kvmppc_hpt_hold *hold, unsigned long i)
{
	unsigned long bits = xchg_acquire(&hold->changes[i], 0);

	if (r->ops->await)
		r->ops->await(r->kvm, i, bits);
	hpt_changed(r->kvm, i, bits);
}

/*
 * Make the HPTEs @first to @end - 1 that have changed since the last harvest
 * pending for every reader, along with their neighbours in a word of the log.
 *
 * Context: the table is held.
 */
static void hpt_reader_harvest(struct hpt_reader *r,
			       struct kvmppc_hpt_hold *hold,
			       unsigned long first, unsigned long end)
{
	unsigned long words = BITS_TO_LONGS(end), i = BIT_WORD(first);

	for (; (i = kvmppc_hpt_next_word(hold->changes, i, words)) < words; i++)
		hpt_harvest_word(r, hold, i);
}

/*
 * Tie a reader to the table that there is now, when it first meets one, or
 * have it start over.  Returns -ENODATA if there is no table, -ESTALE if the
 * reader's is gone for good.
 *
 * Context: the table is held.
 */
static noinline int hpt_reader_rebind(struct hpt_reader *r,
				      struct kvmppc_hpt_hold *hold)
{
	struct kvm_hpt_watch *watch = &r->kvm->arch.hpt_watch;
	unsigned long *pending;
	unsigned long i;
	size_t size;

	if (!hold->nr)
		return -ENODATA;
	if (r->pending && r->lineage != watch->lineage)
		return -ESTALE;

	size = BITS_TO_LONGS(hold->nr) * sizeof(long);
	if (!r->pending) {
		if (hold->nr > HPT_MAX_NR)
			return -EOVERFLOW;
		pending = __vmalloc(size, HPT_GFP | __GFP_ZERO);
		if (!pending)
			return -ENOMEM;
		/* What changed up to now is news to the older readers only. */
		for (i = 0; i < hold->nr; i += HPT_STRETCH) {
			hpt_reader_harvest(r, hold, i,
					   min(i + HPT_STRETCH, hold->nr));
			cond_resched();
		}
		r->nr = hold->nr;
		for (i = min(r->start_index, r->nr); i % BITS_PER_LONG; i++)
			__set_bit(i, pending);
		r->nr_pending = r->nr - min(r->start_index, r->nr);
		i = BIT_WORD(i);
		memset(pending + i, 0xff, size - i * sizeof(long));
		r->lineage = watch->lineage;
		r->order = watch->order;
	} else {
		/* All of it may differ from what this reader knows. */
		pending = r->pending;
		memset(pending, 0xff, size);
		r->nr_pending = r->nr;
	}
	r->generation = watch->generation;
	r->pos = min(r->start_index, r->nr);
	r->pass = 1;
	r->before = r->count;
	if (!r->pending) {
		/* Pairs with hpt_reader_show_fdinfo(). */
		smp_store_release(&r->pending, pending);
		spin_lock(&watch->lock);
		list_add_tail_rcu(&r->node, &watch->readers);
		spin_unlock(&watch->lock);
	}
	return 0;
}

/* The same, at no cost if there is nothing to be done, as there mostly is not. */
static int hpt_reader_bind(struct hpt_reader *r, struct kvmppc_hpt_hold *hold)
{
	/* No table comes or goes without another generation. */
	if (r->pending && r->generation == r->kvm->arch.hpt_watch.generation)
		return 0;
	return hpt_reader_rebind(r, hold);
}

/*
 * Append HPTE @index to the records, whatever there is to be considered.
 * Returns false if there is no room for it.
 */
static bool hpt_reader_emit_one(struct hpt_reader *r,
				struct kvmppc_hpt_records *out,
				unsigned long index)
{
	struct kvm_hpt_entry hpte;
	bool valid = r->ops->look(r->kvm, index, r->bolted, &hpte);

	return kvmppc_hpt_append(out, index, valid ? &hpte : NULL);
}

/*
 * Append HPTEs @first to @end - 1 to the records.  Returns the first of them
 * for which there is no room, or @end.
 *
 * Context: the table is held.
 */
static unsigned long hpt_reader_emit_run(struct hpt_reader *r,
					 struct kvmppc_hpt_records *out,
					 unsigned long first, unsigned long end)
{
	unsigned long batch = HPT_STRETCH, careful = 0, at = first;

	while (at < end) {
		struct kvm_get_htab_header *rec = out->last;
		unsigned long n, done, most = U16_MAX;

		if (careful || r->bolted || end - first == 1) {
			if (!hpt_reader_emit_one(r, out, at))
				break;
			careful -= !!careful;
			at++;
			continue;
		}

		if (rec && rec->n_invalid) {
			n = min(end - at, (unsigned long)U16_MAX - rec->n_invalid);
			n = r->ops->skip(r->kvm, at, n);
			rec->n_invalid += n;
			out->nr_hptes += n;
			at += n;
			if (at == end)
				break;
		}
		if (rec)
			most -= max(rec->n_valid, rec->n_invalid);
		n = min3(end - at, most, batch);
		if (!n || out->size - out->len < HPT_MIN_READ) {
			careful = 1;
			continue;
		}
		done = r->ops->emit(r->kvm, out, at, n);
		at += done;
		if (done && done < n)
			break;
		/* Something is going on among these: narrow it down. */
		if (!done && n > HPT_SMALL_BATCH)
			batch = HPT_SMALL_BATCH;
		else if (!done)
			careful = n;
	}
	return at;
}

/*
 * Find the next run of pending HPTEs between r->pos and @end: returns its first
 * one, @end if there is none, and *@stop is the one behind its last.
 *
 * Context: the table is held.
 */
static unsigned long hpt_reader_next_run(struct hpt_reader *r, unsigned long end,
					 unsigned long *stop)
{
	unsigned long words = BITS_TO_LONGS(end), i = BIT_WORD(r->pos);
	unsigned long word, first;
	unsigned int n;

	if (!r->nr_pending)
		return end;
	word = r->pending[i] & BITMAP_FIRST_WORD_MASK(r->pos);
	if (!word) {
		i = kvmppc_hpt_next_word(r->pending, i + 1, words);
		if (i == words)
			return end;
		word = r->pending[i];
	}
	first = i * BITS_PER_LONG + __ffs(word);
	word >>= __ffs(word);
	n = ~word ? ffz(word) : BITS_PER_LONG;
	/* It may go on in the next word. */
	if ((first + n) % BITS_PER_LONG)
		*stop = min(first + n, end);
	else
		*stop = find_next_zero_bit(r->pending, end, first + n);
	return min(first, end);
}

/*
 * Put the pending HPTEs before @end into records, from r->pos on, which moves
 * up to the first one that has not been dealt with.  Returns true if there is
 * no room for it.
 *
 * Context: the table is held.
 */
static bool hpt_reader_emit(struct hpt_reader *r, unsigned long end,
			    struct kvmppc_hpt_records *out)
{
	while (r->pos < end) {
		unsigned long first, last;

		first = hpt_reader_next_run(r, end, &last);
		r->quiet += first - r->pos;
		r->pos = first;
		if (first == end)
			break;
		kvmppc_hpt_end_record(out, first);
		r->pos = hpt_reader_emit_run(r, out, first, last);
		bitmap_clear(r->pending, first, r->pos - first);
		r->nr_pending -= r->pos - first;
		if (r->pos < last)
			return true;
	}
	return false;
}

/*
 * Is it so that what a harvest finds is news to nobody but this reader, who
 * wants to know all of it and of nothing else?
 *
 * Context: the table is held.
 */
static bool hpt_reader_is_alone(struct hpt_reader *r)
{
	struct list_head *readers = &r->kvm->arch.hpt_watch.readers;

	if (r->nr_pending || r->bolted)
		return false;
	/* Without the list's lock: others may go meanwhile, but not come. */
	return data_race(readers->next == &r->node &&
			 readers->prev == &r->node);
}

/*
 * Put HPTEs from r->pos on, before @end, into records: those that are pending,
 * or have changed.  r->pos moves up to the first that has not been dealt with.
 * Returns true if there is no room for it.
 *
 * Context: the table is held.
 */
static bool hpt_reader_gather(struct hpt_reader *r, struct kvmppc_hpt_hold *hold,
			      unsigned long end, struct kvmppc_hpt_records *out)
{
	bool full = false;

	/* First, since to wait for a change may bring it into the log. */
	if (r->ops->follow)
		r->ops->follow(r->kvm, r->pos, end);

	while (!full && r->pos < end) {
		unsigned long stop = end, nr = out->nr_hptes;

		if (hpt_reader_is_alone(r)) {
			stop = r->ops->sweep(r->kvm, out, r->pos, end);
			r->kvm->stat.hpt_changes_harvested += out->nr_hptes - nr;
			r->quiet += stop - r->pos;
			r->pos = stop;
			if (stop == end)
				break;
			if (out->size - out->len < HPT_MIN_READ)
				return true;
			/* On with the sweep behind the word that has made it stop */
			stop = min(round_up(stop + 1, BITS_PER_LONG), end);
		}
		hpt_reader_harvest(r, hold, r->pos, stop);
		full = hpt_reader_emit(r, stop, out);
	}
	return full;
}

/*
 * Fill the reader's buffer with up to out->size bytes of records.  Returns 0,
 * without any if the end of the table is reached.
 *
 * Context: r->lock is held.
 */
static int hpt_reader_fill(struct hpt_reader *r, struct kvmppc_hpt_records *out)
{
	unsigned long ahead = HPT_STRETCH;
	u64 generation = r->generation;
	struct kvmppc_hpt_hold hold;
	bool full;
	int err;

	/* Little room will soon be full: do not look too far ahead. */
	if (out->size < HPT_BUF_SIZE)
		ahead = max(out->size / 8, HPT_STRETCH / 64);
	do {
		unsigned long next, end;

		err = r->ops->hold(r->kvm, &hold, 0);
		if (err)
			return out->len ? 0 : err;
		err = hpt_reader_bind(r, &hold);
		if (err) {
			r->ops->release(r->kvm, &hold, 0);
			return err;
		}
		if (generation != r->generation) {
			/* What was gathered is of a table that is no more. */
			generation = r->generation;
			*out = (struct kvmppc_hpt_records) {
				.buf = out->buf,
				.size = out->size,
			};
		}

		end = min(round_down(r->pos, HPT_STRETCH) + HPT_STRETCH, r->nr);
		next = r->pos;
		if (r->nr_pending && next < end && !test_bit(next, r->pending))
			next = find_next_bit(r->pending, end, next);
		end = min(end, round_up(next + ahead, BITS_PER_LONG));
		ahead = min(2 * ahead, HPT_STRETCH);
		full = hpt_reader_gather(r, &hold, end, out);
		r->ops->release(r->kvm, &hold, 0);
		if (full || r->pos == r->nr)
			break;
		cond_resched();
	} while (!signal_pending(current));

	if (!out->len && r->pos < r->nr)
		return -ERESTARTSYS;
	return 0;
}

/*
 * Make the HPTEs of those records pending again that have not reached the user,
 * who has the first @copied bytes.  Takes these records out of @out.
 *
 * Context: r->lock is held.
 */
static void hpt_reader_undo(struct hpt_reader *r, struct kvmppc_hpt_records *out,
			    size_t copied)
{
	struct kvm_get_htab_header *rec = out->buf;
	struct kvmppc_hpt_hold hold;
	size_t at, done = 0;

	while (done + hpt_record_size(rec) <= copied) {
		done += hpt_record_size(rec);
		rec = out->buf + done;
	}

	r->ops->hold(r->kvm, &hold, KVMPPC_HPT_NOKILL);
	for (at = done; at < out->len; at += hpt_record_size(rec)) {
		unsigned long first, end, clear, stop;

		rec = out->buf + at;
		out->nr--;
		out->nr_hptes -= rec->n_valid + rec->n_invalid;
		/* If the table is another one, all is pending, or nothing is. */
		if (r->generation != r->kvm->arch.hpt_watch.generation)
			continue;
		first = rec->index;
		end = first + rec->n_valid + rec->n_invalid;
		if (at == done)
			r->pos = first;
		/* Some may have changed, and be pending, since. */
		clear = first;
		for_each_clear_bitrange_from(clear, stop, r->pending, end)
			r->nr_pending += stop - clear;
		bitmap_set(r->pending, first, end - first);
		cond_resched();
	}
	r->ops->release(r->kvm, &hold, KVMPPC_HPT_NOKILL);
	out->len = done;
}

/* Context: r->lock is held. */
static void hpt_reader_end_pass(struct hpt_reader *r)
{
	trace_kvm_hpt_pass(r->id, r->pass, r->count.valid - r->before.valid,
			   r->count.invalid - r->before.invalid,
			   r->count.bytes - r->before.bytes);
	r->pass++;
	r->pos = 0;
	r->before = r->count;
}

/*
 * The end of a pass ends the read, if it has something to return.  If not, it
 * goes on with the next pass, until it has passed every HPTE in vain: to QEMU,
 * which may have left the last pass in the middle of the table, 0 means that
 * there is nothing left anywhere.  But the first pass ends by itself.
 */
static ssize_t hpt_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct hpt_reader *r = iocb->ki_filp->private_data;
	struct hpt_count was;
	unsigned int pass;
	ssize_t ret = 0;
	size_t size;
	int err = 0;

	if (iov_iter_count(to) < HPT_MIN_READ)
		return -EINVAL;
	if (mutex_lock_interruptible(&r->lock))
		return -ERESTARTSYS;

	was = r->count;
	pass = r->pass;
	r->quiet = 0;
	while ((size = iov_iter_count(to)) >= HPT_MIN_READ) {
		struct kvmppc_hpt_records out = {
			.buf = r->buf,
			.size = min(size, HPT_BUF_SIZE),
		};
		unsigned long valid;
		size_t copied;

		err = hpt_reader_fill(r, &out);
		pass = r->pass;
		if (err)
			break;
		copied = copy_to_iter(r->buf, out.len, to);
		if (copied < out.len) {
			hpt_reader_undo(r, &out, copied);
			err = -EFAULT;
		}
		ret += out.len;
		valid = (out.len - out.nr * sizeof(struct kvm_get_htab_header)) /
			sizeof(struct kvm_hpt_entry);
		r->count.valid += valid;
		r->count.invalid += out.nr_hptes - valid;
		r->count.bytes += out.len;
		/* There may be other readers, each with a lock of its own. */
		atomic64_add(valid, &r->kvm->stat.hpt_entries_read);
		if (err)
			break;
		if (r->pos == r->nr) {
			bool over = ret || r->pass == 1 || r->quiet >= r->nr;

			hpt_reader_end_pass(r);
			if (over)
				break;
		}
		if (signal_pending(current)) {
			err = -ERESTARTSYS;
			break;
		}
		cond_resched();
	}

	/* No table is no error: there is nothing in it. */
	if (!ret && err && err != -ENODATA)
		ret = err == -EINTR ? -ERESTARTSYS : err;
	trace_kvm_hpt_read(r->id, pass, r->pos, r->count.valid - was.valid,
			   r->count.invalid - was.invalid, ret);
	mutex_unlock(&r->lock);
	return ret;
}

/* What does not depend on the direction; @lineage is 0 if there is no table. */
static void hpt_show_fdinfo(struct seq_file *m, struct kvm *kvm,
			    const struct kvmppc_hpt_ops *ops, unsigned int id,
			    const char *direction, u64 lineage, u32 order)
{
	const char *table = "none";

	if (lineage) {
		/* Without the table lock: either answer is as good. */
		if (data_race(kvm->arch.hpt_watch.lineage) == lineage)
			table = "current";
		else
			table = "gone";
	}
	seq_printf(m, "hpt-id:\t%u\n", id);
	seq_printf(m, "hpt-flavour:\t%s\n", ops->name);
	seq_printf(m, "hpt-direction:\t%s\n", direction);
	seq_printf(m, "hpt-table:\t%s\n", table);
	seq_printf(m, "hpt-order:\t%u\n", lineage ? order : 0);
}

static void hpt_show_count(struct seq_file *m, const struct hpt_count *counting)
{
	/* Without the lock of the reader or writer: what it is just now. */
	const struct hpt_count count = data_race(*counting);

	seq_printf(m, "hpt-entries:\t%llu\n", count.valid);
	seq_printf(m, "hpt-invalid:\t%llu\n", count.invalid);
	seq_printf(m, "hpt-bytes:\t%llu\n", count.bytes);
}

static void hpt_reader_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct hpt_reader *r = file->private_data;
	struct kvm_hpt_watch *watch = &r->kvm->arch.hpt_watch;
	unsigned long pending = 0, pos = 0;
	unsigned int pass = 0;
	u64 lineage = 0;
	bool there, reset;

	/* If @pending is there, what tells of the table is, and stays. */
	if (smp_load_acquire(&r->pending)) {
		lineage = r->lineage;
		/* Without the reader's lock: how far it is just now, ... */
		pass = data_race(r->pass);
		/* ... and where. */
		pos = data_race(r->pos);
		/* Without the table lock: is its table still there, ... */
		there = data_race(watch->lineage) == lineage;
		/* ... and has it been reset? */
		reset = data_race(watch->generation != r->generation);
		if (there && reset) {
			/* What the next read will find. */
			pass = 1;
			pos = min(r->start_index, r->nr);
			pending = r->nr;
		} else if (there) {
			/* Without the table lock: how many are there now? */
			pending = data_race(r->nr_pending);
		}
	}

	hpt_show_fdinfo(m, r->kvm, r->ops, r->id, "read", lineage, r->order);
	seq_printf(m, "hpt-pass:\t%u\n", pass);
	seq_printf(m, "hpt-position:\t%lu\n", pos);
	seq_printf(m, "hpt-pending:\t%lu\n", pending);
	hpt_show_count(m, &r->count);
}

static int hpt_reader_release(struct inode *inode, struct file *file)
{
	struct hpt_reader *r = file->private_data;
	struct kvm *kvm = r->kvm;

	/*
	 * Not the table lock: whoever has been given the file closes it, or a
	 * kernel thread on behalf of all, and should not wait for a VM.
	 */
	if (r->pending) {
		spin_lock(&kvm->arch.hpt_watch.lock);
		list_del_rcu(&r->node);
		spin_unlock(&kvm->arch.hpt_watch.lock);
		/* Whoever has the table may have found it before that. */
		synchronize_rcu_expedited();
	}
	atomic_dec(&kvm->arch.hpte_mod_interest);
	vfree(r->pending);
	kvfree(r->buf);
	kfree(r);
	kvm_put_kvm(kvm);
	return 0;
}

static const struct file_operations hpt_reader_fops = {
	.owner		= THIS_MODULE,
	.read_iter	= hpt_read_iter,
	.release	= hpt_reader_release,
	.show_fdinfo	= hpt_reader_show_fdinfo,
};

/*
 * Tie a writer to the table that there is now, when it first meets one.
 * Returns -EINVAL if there is no table, -ESTALE if the writer's is gone.
 *
 * Context: the table is held, w->lock too unless @w is new.
 */
static int hpt_writer_bind(struct hpt_writer *w, struct kvmppc_hpt_hold *hold)
{
	struct kvm_hpt_watch *watch = &w->kvm->arch.hpt_watch;

	if (!hold->nr)
		return -EINVAL;
	if (!w->lineage) {
		w->order = watch->order;
		/* Pairs with hpt_writer_show_fdinfo(). */
		smp_store_release(&w->lineage, watch->lineage);
	}
	return w->lineage == watch->lineage ? 0 : -ESTALE;
}

/*
 * Apply one record.  If it cannot be, nothing is changed.
 *
 * Context: the table is held for writing.
 */
static int hpt_writer_apply(struct hpt_writer *w, struct kvmppc_hpt_hold *hold,
			    const struct kvm_get_htab_header *rec)
{
	const struct kvm_hpt_entry *hptes = (const void *)(rec + 1);
	unsigned long n = rec->n_valid;
	unsigned long i;
	int err;

	if (rec->index >= hold->nr ||
	    n + rec->n_invalid > hold->nr - rec->index)
		return -EINVAL;
	for (i = 0; i < n; i++)
		if (!(hptes[i].v & cpu_to_be64(HPTE_V_VALID)))
			return -EINVAL;

	if (n) {
		err = w->ops->put_valid(w->kvm, hold, rec->index, n, hptes);
		if (err)
			return err;
	}
	if (rec->n_invalid)
		w->ops->put_invalid(w->kvm, rec->index + n, rec->n_invalid);
	return 0;
}

/*
 * Apply whole records among the @len bytes at @buf, as many as are fit for one
 * hold of the table, up to the first that fails, for which *@err is set.
 * Returns the bytes of those applied, 0 if there is no whole record.
 *
 * Context: w->lock is held.
 */
static size_t hpt_writer_drain(struct hpt_writer *w, const void *buf,
			       size_t len, int *err)
{
	u64 valid = 0, invalid = 0;
	struct kvmppc_hpt_hold hold;
	size_t done = 0;

	*err = w->ops->hold(w->kvm, &hold, KVMPPC_HPT_WRITE);
	if (*err)
		return 0;
	*err = hpt_writer_bind(w, &hold);

	while (!*err && valid + invalid < HPT_STRETCH &&
	       len - done >= sizeof(struct kvm_get_htab_header)) {
		const struct kvm_get_htab_header *rec = buf + done;

		if (len - done < hpt_record_size(rec))
			break;
		*err = hpt_writer_apply(w, &hold, rec);
		if (*err)
			break;
		done += hpt_record_size(rec);
		valid += rec->n_valid;
		invalid += rec->n_invalid;
	}
	w->count.valid += valid;
	w->count.invalid += invalid;
	w->count.bytes += done;
	w->kvm->stat.hpt_entries_written += valid;

	w->ops->release(w->kvm, &hold, KVMPPC_HPT_WRITE);
	return done;
}

/*
 * The first record in a buffer of @len bytes is not whole, and @left more
 * bytes are there to be written: make room for it.  Returns -EINVAL if it is
 * not all there.
 *
 * Context: w->lock is held.
 */
static int hpt_writer_grow(struct hpt_writer *w, size_t len, size_t left)
{
	struct kvm_get_htab_header *rec = w->buf;
	size_t size;
	void *buf;

	if (len < sizeof(*rec))
		return -EINVAL;
	size = hpt_record_size(rec);
	if (size <= w->buf_size || size > len + left)
		return -EINVAL;
	buf = kvmalloc(size, HPT_GFP);
	if (!buf)
		return -ENOMEM;
	kvfree(w->buf);
	w->buf = buf;
	w->buf_size = size;
	return 0;
}

static ssize_t hpt_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct hpt_writer *w = iocb->ki_filp->private_data;
	struct hpt_count was;
	ssize_t ret = 0;
	int err = 0;

	/* The page tables of the VM's process are about to be walked. */
	if (w->kvm->mm != current->mm)
		return -EIO;
	if (mutex_lock_interruptible(&w->lock))
		return -ERESTARTSYS;

	was = w->count;
	while (iov_iter_count(from)) {
		size_t size = min(iov_iter_count(from), w->buf_size);
		size_t len = copy_from_iter(w->buf, size, from);
		size_t done = 0, n;

		for (;;) {
			n = hpt_writer_drain(w, w->buf + done, len - done, &err);
			done += n;
			if (!err && signal_pending(current))
				err = -ERESTARTSYS;
			if (!n || done == len || err)
				break;
			cond_resched();
		}
		iov_iter_revert(from, len - done);
		ret += done;
		if (!err && !done)
			err = len < size ? -EFAULT :
			      hpt_writer_grow(w, len, iov_iter_count(from) - len);
		if (err || !iov_iter_count(from))
			break;
		cond_resched();
	}

	if (!ret && err)
		ret = err == -EINTR ? -ERESTARTSYS : err;
	trace_kvm_hpt_write(w->id, w->count.valid - was.valid,
			    w->count.invalid - was.invalid, ret);
	mutex_unlock(&w->lock);
	return ret;
}

static void hpt_writer_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct hpt_writer *w = file->private_data;
	/* If it is there, then so is @order. */
	u64 lineage = smp_load_acquire(&w->lineage);

	hpt_show_fdinfo(m, w->kvm, w->ops, w->id, "write", lineage, w->order);
	hpt_show_count(m, &w->count);
}

static int hpt_writer_release(struct inode *inode, struct file *file)
{
	struct hpt_writer *w = file->private_data;
	struct kvm *kvm = w->kvm;

	kvfree(w->buf);
	kfree(w);
	kvm_put_kvm(kvm);
	return 0;
}

static const struct file_operations hpt_writer_fops = {
	.owner		= THIS_MODULE,
	.write_iter	= hpt_write_iter,
	.release	= hpt_writer_release,
	.show_fdinfo	= hpt_writer_show_fdinfo,
};

static struct file *hpt_reader_open(struct kvm *kvm,
				    const struct kvmppc_hpt_ops *ops,
				    const struct kvm_get_htab_fd *args)
{
	struct kvmppc_hpt_hold hold;
	struct hpt_reader *r;
	struct file *file;
	int err;

	r = kzalloc_obj(*r, HPT_GFP);
	if (!r)
		return ERR_PTR(-ENOMEM);
	r->buf = kvmalloc(HPT_BUF_SIZE, HPT_GFP);
	if (!r->buf) {
		kfree(r);
		return ERR_PTR(-ENOMEM);
	}
	r->kvm = kvm;
	r->ops = ops;
	r->id = atomic_inc_return(&hpt_ids);
	r->bolted = args->flags & KVM_GET_HTAB_BOLTED_ONLY;
	r->start_index = args->start_index;
	mutex_init(&r->lock);

	file = anon_inode_getfile("kvm-htab", &hpt_reader_fops, r, O_RDONLY);
	if (IS_ERR(file)) {
		kvfree(r->buf);
		kfree(r);
		return file;
	}
	stream_open(file_inode(file), file);

	/*
	 * From here on, hpt_reader_release() cleans up.
	 *
	 * A change made by someone who has not seen our interest is not in
	 * the log, and HPTEs may be read without their lock: wait for those
	 * who are at it, hypercalls, page faults and mmu notifiers, which hold
	 * kvm->srcu.  Others hold the table lock.  On POWER8 that misses the
	 * vCPUs of other VMs that a core runs along with those of its own, whose
	 * srcu only it holds: there a hypercall would have to last from here
	 * until the first pass comes to its HPTE.
	 */
	kvm_get_kvm(kvm);
	atomic_inc(&kvm->arch.hpte_mod_interest);
	synchronize_srcu_expedited(&kvm->srcu);

	err = ops->hold(kvm, &hold, 0);
	if (!err) {
		err = hpt_reader_bind(r, &hold);
		ops->release(kvm, &hold, 0);
	}
	if (err && err != -ENODATA) {
		fput(file);
		return ERR_PTR(err);
	}
	trace_kvm_hpt_open(r->id, kvm->userspace_pid, args->flags,
			   args->start_index, r->order);
	return file;
}

static struct file *hpt_writer_open(struct kvm *kvm,
				    const struct kvmppc_hpt_ops *ops,
				    const struct kvm_get_htab_fd *args)
{
	struct kvmppc_hpt_hold hold;
	struct hpt_writer *w;
	struct file *file;
	int err;

	w = kzalloc_obj(*w, HPT_GFP);
	if (!w)
		return ERR_PTR(-ENOMEM);
	w->buf_size = HPT_BUF_SIZE;
	w->buf = kvmalloc(w->buf_size, HPT_GFP);
	if (!w->buf) {
		kfree(w);
		return ERR_PTR(-ENOMEM);
	}
	w->kvm = kvm;
	w->ops = ops;
	w->id = atomic_inc_return(&hpt_ids);
	mutex_init(&w->lock);

	file = anon_inode_getfile("kvm-htab", &hpt_writer_fops, w, O_WRONLY);
	if (IS_ERR(file)) {
		kvfree(w->buf);
		kfree(w);
		return file;
	}
	stream_open(file_inode(file), file);
	kvm_get_kvm(kvm);

	err = ops->hold(kvm, &hold, 0);
	if (err) {
		fput(file);
		return ERR_PTR(err);
	}
	hpt_writer_bind(w, &hold);
	ops->release(kvm, &hold, 0);
	trace_kvm_hpt_open(w->id, kvm->userspace_pid, args->flags,
			   args->start_index, w->order);
	return file;
}

VISIBLE_IF_KUNIT
struct file *kvmppc_hpt_fd_file(struct kvm *kvm,
				const struct kvmppc_hpt_ops *ops,
				const struct kvm_get_htab_fd *args)
{
	if (args->flags & ~(KVM_GET_HTAB_BOLTED_ONLY | KVM_GET_HTAB_WRITE))
		return ERR_PTR(-EINVAL);
	if (args->flags & KVM_GET_HTAB_WRITE)
		return hpt_writer_open(kvm, ops, args);
	return hpt_reader_open(kvm, ops, args);
}
EXPORT_SYMBOL_IF_KUNIT(kvmppc_hpt_fd_file);

/**
 * kvmppc_hpt_fd_open - KVM_PPC_GET_HTAB_FD
 * @kvm:	the VM
 * @args:	what userspace asks for
 *
 * Return: a file descriptor, or -EINVAL for an unknown flag, -ENOTTY if this
 * flavour of KVM does not have the guest's HPT, -EOVERFLOW if its HPTEs are
 * too many for the records' format, -EMFILE, -ENFILE, -ENOMEM, or -EINTR if it
 * was killed.
 */
int kvmppc_hpt_fd_open(struct kvm *kvm, const struct kvm_get_htab_fd *args)
{
	const struct kvmppc_hpt_ops *ops = kvm->arch.kvm_ops->hpt_ops;
	struct file *file;
	int fd;

	if (!ops)
		return -ENOTTY;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	file = kvmppc_hpt_fd_file(kvm, ops, args);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	fd_install(fd, file);
	return fd;
}
