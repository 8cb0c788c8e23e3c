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
 * HPTE, which the flavour sets wherever an HPTE may have changed.  A reader goes
 * through the table by the words of the log.  It takes the bits of a word from
 * the log (it harvests the word), puts the HPTEs that they stand for into its
 * buffer, and on to the next word.  Its first pass returns every HPTE, whatever
 * the log says.  What finds no room, or then fails to reach userspace, is put
 * back, so that neither a fault nor a signal can lose a change.
 *
 * There is one log and any number of readers: who harvests a word tells the
 * others.  Each has a bitmap for that, "pending", from when it, or the first other
 * one, comes to the end of a pass; so a reader that is alone never has one, nor
 * does one that is closed after a few HPTEs, as a debugger's is.  If there is no
 * memory for it, or what it is told of is behind it in its first pass, the
 * reader's next pass returns every HPTE again.
 *
 * When the table is reset or replaced by one of the same size, its readers
 * start over; readers and writers of one that is gone are told so (-ESTALE).
 *
 * Locks, outermost first:
 *
 *  hpt_file.lock
 *	One read or write at a time on a file descriptor.  Protects the fields
 *	of the reader or writer, with the exceptions below.  User memory is
 *	accessed under this lock (so mmap_lock nests inside it).
 *  the table lock: kvmppc_hpt_ops.hold and .release
 *	HV: mmu_setup_lock (which nests inside kvm->slots_lock), PR: hpt_mutex.
 *	Keeps the table where and what it is.  Protects kvm->arch.hpt_watch, the
 *	statistics hpt_entries_written and hpt_changes_harvested, and what a
 *	reader has marked so.  PR accesses a table that is in the memory of
 *	userspace under it.
 *  what the flavour needs for an HPTE
 *	HV: kvm->srcu, the HPTE's lock bit or kvm->mmu_lock (which gives a
 *	writer all HPTEs), the rmap chain's lock.
 *	PR: kvm->mmu_lock, to flush its shadow HPTEs.
 *  kvm->arch.hpt_watch.lock
 *	Keeps the readers in the list: it is what one needs to go, for which it
 *	should wait for no table, and another one to tell it something.
 *
 * fdinfo takes none of them, since who looks on should neither wait for a read,
 * which may itself wait for a page of its buffer, nor keep a guest waiting that
 * needs the table.  It shows what it finds, possibly of different moments.
 */

#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kvm_host.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>
#include <asm/book3s/64/mmu-hash.h>
#include <asm/kvm_book3s_64.h>
#include <asm/kvm_ppc.h>
#include <kunit/static_stub.h>
#include <kunit/visibility.h>

#include "book3s_hpt.h"

#define CREATE_TRACE_POINTS
#include "trace_hpt.h"

/*
 * HPTEs looked at under one hold of the table, between reschedule points; less than
 * half of what a record can have, since that many may go to it at once.
 */
#define HPT_STRETCH		16384UL

/* What goes to userspace in one copy */
#define HPT_BUF_SIZE		SZ_64K

/* The longest record there may be, which is what comes from there in one copy */
#define HPT_MAX_RECORD	(sizeof(struct kvm_get_htab_header) + \
			 U16_MAX * sizeof(struct kvm_hpt_entry))

/* The least that a read can be given to return in every case: one entry. */
#define HPT_MIN_READ	(sizeof(struct kvm_get_htab_header) + \
			 sizeof(struct kvm_hpt_entry))

/* The index in a record's header is of 32 bits. */
#define HPT_MAX_NR	BIT(32)

/* What has gone through a file descriptor */
struct hpt_count {
	u64 valid, invalid, bytes;
};

/* A buffer with records */
struct hpt_records {
	void *buf;
	void *to;		/* the end of what is in it, ... */
	void *end;		/* ... and of the buffer */
	struct kvm_get_htab_header *last;	/* record, ... */
	unsigned long next;	/* ... and the HPTE behind it */
	unsigned long valid, invalid;	/* HPTEs in all records */
};

/* A reader or a writer */
struct hpt_file {
	struct kvm *kvm;
	const struct kvmppc_hpt_ops *ops;
	unsigned int id;
	bool writes;
	bool bolted;		/* others are to be read as invalid */
	u64 start_index;

	struct mutex lock;	/* see above; protects what follows */
	void *buf;
	struct hpt_count count;	/* of what has been returned, or applied */
	u64 lineage;		/* of the table it is for, 0 before there is one, */
	u32 order;		/* and the order of that */

	/* What follows is a reader's. */
	unsigned long nr;	/* HPTEs of the table */
	unsigned long passed;	/* HPTEs that this read has gone over */
	unsigned int pass;
	struct hpt_count before;	/* what @count was when this pass began */
	u64 generation;		/* of the table */

	/* Protected by the table lock. */
	struct list_head node;
	unsigned long pos;	/* the next HPTE to look at */
	bool whole;		/* this pass returns all from @pos on */
	bool missed;		/* the next one has to */
	unsigned long *pending;	/* to be returned besides what the log says */
	unsigned long nr_pending;	/* bits set in it */
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

/*
 * Does nobody else want to know what this reader harvests?  Others may go
 * meanwhile, but not come, as long as the table is held.
 */
static bool hpt_reader_is_alone(struct hpt_file *r)
{
	return READ_ONCE(r->kvm->arch.hpt_watch.nr_readers) == 1;
}

/*
 * Is this one to be told of changes, but has no bitmap for them?  One in its
 * first pass, which may be closed soon, can do without, but not one in a second
 * whole one, or it would never come to return but what has changed.
 *
 * Context: the table is held.
 */
static bool hpt_reader_is_bare(struct hpt_file *r)
{
	/* Without its lock: a pass that ends just now is as good either way. */
	const bool first = r->whole && data_race(r->pass) == 1;

	return !r->pending && !r->missed && !first &&
	       r->generation == r->kvm->arch.hpt_watch.generation;
}

VISIBLE_IF_KUNIT unsigned long *kvmppc_hpt_alloc_pending(unsigned long nr)
{
	KUNIT_STATIC_STUB_REDIRECT(kvmppc_hpt_alloc_pending, nr);
	return __vmalloc(BITS_TO_BYTES(nr), KVMPPC_HPT_GFP | __GFP_ZERO);
}
EXPORT_SYMBOL_IF_KUNIT(kvmppc_hpt_alloc_pending);

/*
 * Give a bitmap to each reader that needs one, as long as there is memory.  This
 * one has come to the end of a pass, before which it need not have told anybody
 * of anything; of the others only one that was alone before has none.
 *
 * Context: r->lock is held.
 */
static void hpt_reader_equip_all(struct hpt_file *r)
{
	struct kvm_hpt_watch *watch = &r->kvm->arch.hpt_watch;
	unsigned long *pending = NULL;
	struct kvmppc_hpt_hold hold;
	struct hpt_file *other;
	bool more;

	do {
		if (r->ops->hold(r->kvm, &hold, 0))
			break;
		more = false;
		spin_lock(&watch->lock);
		list_for_each_entry(other, &watch->readers, node) {
			if (r->generation != watch->generation ||
			    !hpt_reader_is_bare(other))
				continue;
			more = !pending;
			if (more)
				break;
			other->pending = pending;
			pending = NULL;
		}
		spin_unlock(&watch->lock);
		r->ops->release(r->kvm, &hold, 0);
		/* Not under the table lock, since that takes its time. */
		if (more)
			pending = kvmppc_hpt_alloc_pending(r->nr);
	} while (more && pending && !signal_pending(current));
	kvfree(pending);
}

/*
 * Make HPTEs, with @bits in word @word of the log, pending for this reader.
 *
 * Context: the table is held.
 */
static void hpt_reader_remember(struct hpt_file *r, unsigned long word,
				unsigned long bits)
{
	/* In one step, since fdinfo looks on: never more than there are. */
	r->nr_pending += hweight_long(bits & ~r->pending[word]);
	r->pending[word] |= bits;
}

/*
 * Tell the other readers what has been taken from the log.
 *
 * Context: the table is held.
 */
static void hpt_reader_tell_others(struct hpt_file *r, unsigned long word,
				   unsigned long bits)
{
	struct kvm_hpt_watch *watch = &r->kvm->arch.hpt_watch;
	struct hpt_file *other;

	spin_lock(&watch->lock);
	list_for_each_entry(other, &watch->readers, node) {
		/* Who has yet to notice a new table will start over with it. */
		if (other == r || other->generation != watch->generation)
			continue;
		if (other->whole && word * BITS_PER_LONG >= other->pos)
			continue;
		if (other->pending)
			hpt_reader_remember(other, word, bits);
		else
			other->missed = true;
	}
	spin_unlock(&watch->lock);
}

/*
 * Put HPTEs back of which this reader has yet to be given the present state.
 *
 * Context: the table is held.
 */
static void hpt_reader_put_back(struct hpt_file *r,
				struct kvmppc_hpt_hold *hold,
				unsigned long word, unsigned long bits)
{
	if (r->pending) {
		hpt_reader_remember(r, word, bits);
	} else {
		atomic_long_or(bits, (atomic_long_t *)&hold->changes[word]);
		/* They will be found again. */
		r->kvm->stat.hpt_changes_harvested -= hweight_long(bits);
	}
}

/*
 * Take what has changed in a word, of @mask, from the log, and what is pending
 * there for this reader.  It counts as given from here on, and who has logged it
 * is done.
 *
 * Context: the table is held.
 */
static __always_inline unsigned long
hpt_reader_harvest(struct hpt_file *r, struct kvmppc_hpt_hold *hold,
		   unsigned long word, unsigned long mask)
{
	const struct kvm_hpt_entry *hptes = hold->hptes + word * BITS_PER_LONG;
	atomic_long_t *changes = (atomic_long_t *)&hold->changes[word];
	unsigned long bits = 0, wait, n = 0;

	if (atomic_long_read(changes) & mask) {
		/* An acquire: first the bits, then the locks (p03). */
		bits = mask & atomic_long_fetch_andnot_acquire(mask, changes);
		/* That is not long: who locks an HPTE is not preempted. */
		for (wait = bits; wait; wait &= wait - 1, n++)
			while (READ_ONCE(hptes[__ffs(wait)].v) & hold->locked)
				cpu_relax();
		/* First the locks, then what else there is of HPTEs (p03). */
		smp_rmb();
		r->kvm->stat.hpt_changes_harvested += n;
		if (!hpt_reader_is_alone(r))
			hpt_reader_tell_others(r, word, bits);
	}
	if (r->nr_pending) {
		bits |= r->pending[word] & mask;
		r->nr_pending -= hweight_long(r->pending[word] & mask);
		r->pending[word] &= ~mask;
	}
	return bits;
}

/*
 * See to it that HPTE @index can go to the last record, where it comes next: the
 * one there is, or a new one.  If it is @valid, there is room for it at out->to.
 * Returns false if there is no room.
 */
static inline bool hpt_record(struct hpt_records *out, unsigned long index,
			      bool valid)
{
	size_t need = valid ? sizeof(struct kvm_hpt_entry) : 0;
	size_t room = out->end - out->to;
	struct kvm_get_htab_header *rec = out->last;

	/* Valid HPTEs come before invalid ones. */
	if (index == out->next && !(valid && rec->n_invalid) &&
	    max(rec->n_valid, rec->n_invalid) <= U16_MAX / 2)
		return room >= need;
	if (room < sizeof(*rec) + need)
		return false;
	rec = out->to;
	*rec = (struct kvm_get_htab_header) { .index = index };
	out->last = rec;
	out->to += sizeof(*rec);
	return true;
}

/* @n_valid of the HPTEs from @index on are at out->to, @n_invalid follow. */
static inline void hpt_recorded(struct hpt_records *out, unsigned long index,
				unsigned long n_valid, unsigned long n_invalid)
{
	out->last->n_valid += n_valid;
	out->last->n_invalid += n_invalid;
	out->to += n_valid * sizeof(struct kvm_hpt_entry);
	out->next = index + n_valid + n_invalid;
	out->valid += n_valid;
	out->invalid += n_invalid;
}

/*
 * hpt_reader_emit() of HPTEs that are changing, or of which not all are wanted:
 * one by one, whatever goes on.
 *
 * Context: the table is held.
 */
static noinline unsigned long
hpt_reader_emit_slowly(struct hpt_file *r, struct kvmppc_hpt_hold *hold,
		       struct hpt_records *out, unsigned long at, unsigned long end)
{
	struct kvm_hpt_entry hpte;
	bool valid, news;

	for (; at < end; at++) {
		news = false;
		valid = r->ops->look(r->kvm, hold, at, &hpte, &news);
		if (news && !hpt_reader_is_alone(r))
			set_bit(at % BITS_PER_LONG, &hold->changes[BIT_WORD(at)]);
		if (valid && r->bolted)
			valid = hpte.v & cpu_to_be64(HPTE_V_BOLTED);
		if (!hpt_record(out, at, valid))
			break;
		if (valid)
			*(struct kvm_hpt_entry *)out->to = hpte;
		hpt_recorded(out, at, valid, !valid);
	}
	return at;
}

/*
 * How many HPTEs are invalid, from @first on and before @end?
 *
 * Context: the table is held.
 */
static inline unsigned long hpt_count_invalid(const struct kvmppc_hpt_hold *hold,
					      unsigned long first, unsigned long end)
{
	const struct kvm_hpt_entry *p = &hold->hptes[first], *stop = &hold->hptes[end];
	const __be64 there = hold->there;

	/* Four at a time, since they mostly all are */
	for (; p + 4 <= stop; p += 4)
		if ((READ_ONCE(p[0].v) | READ_ONCE(p[1].v) |
		     READ_ONCE(p[2].v) | READ_ONCE(p[3].v)) & there)
			break;
	while (p < stop && !(READ_ONCE(p->v) & there))
		p++;
	return p - &hold->hptes[first];
}

/*
 * Put HPTEs @at to @end - 1 into records.  Returns the first that has found no
 * room, or @end.
 *
 * Context: the table is held.
 */
static __always_inline unsigned long
hpt_reader_emit(struct hpt_file *r, struct kvmppc_hpt_hold *hold,
		struct hpt_records *out, unsigned long at, unsigned long end)
{
	while (at < end) {
		bool valid = READ_ONCE(hold->hptes[at].v) & hold->there;
		unsigned long n, n_valid = 0, n_invalid = 0;

		if (!hpt_record(out, at, valid))
			break;
		if (valid) {
			n = (out->end - out->to) / sizeof(struct kvm_hpt_entry);
			n = min3(n, end - at, BITS_PER_LONG - at % BITS_PER_LONG);
			n_valid = r->ops->copy(r->kvm, hold, at, n, out->to);
			/* First the HPTEs, then the log: have they changed (p01)? */
			smp_rmb();
			if (!n_valid || r->bolted || READ_ONCE(hold->changes[BIT_WORD(at)])) {
				struct hpt_records slow = *out;

				slow.next = at;
				n += at;
				at = hpt_reader_emit_slowly(r, hold, &slow, at, n);
				*out = slow;
				if (at < n)
					break;
				continue;
			}
		}
		if (at + n_valid < end)
			n_invalid = hpt_count_invalid(hold, at + n_valid, end);
		/* The one at @at has been invalid, whatever it is by now. */
		if (!valid && !n_invalid)
			n_invalid = 1;
		hpt_recorded(out, at, n_valid, n_invalid);
		at = out->next;
	}
	return at;
}

/*
 * Put all HPTEs before @end into records, from r->pos on, which moves up to the
 * first that is still to be looked at.  Returns true if there is no room for it.
 *
 * Context: the table is held.
 */
static noinline bool
hpt_reader_gather_all(struct hpt_file *r, struct kvmppc_hpt_hold *hold,
		      unsigned long end, struct hpt_records *records)
{
	unsigned long word, mask = BITMAP_FIRST_WORD_MASK(r->pos);
	struct hpt_records out = *records;

	/* What has changed is among them; but others want to see it in the log. */
	if (hpt_reader_is_alone(r))
		for (word = BIT_WORD(r->pos); word < BIT_WORD(end); word++, mask = ~0UL)
			if (READ_ONCE(hold->changes[word]))
				hpt_reader_harvest(r, hold, word, mask);

	r->pos = hpt_reader_emit(r, hold, &out, r->pos, end);
	*records = out;
	return r->pos < end;
}

/*
 * The first word of a bitmap, from @at on and before @end, that is not 0; @end if
 * there is none.  Others may be setting bits.  This is all that a pass over an
 * unchanged table costs, so it goes by four words.
 */
static inline unsigned long hpt_next_word(const unsigned long *map,
					  unsigned long at, unsigned long end)
{
	for (; at + 4 <= end; at += 4)
		if (READ_ONCE(map[at]) | READ_ONCE(map[at + 1]) |
		    READ_ONCE(map[at + 2]) | READ_ONCE(map[at + 3]))
			break;
	while (at < end && !READ_ONCE(map[at]))
		at++;
	return at;
}

/*
 * As hpt_reader_gather_all(), with those that have changed, or are pending.
 *
 * Context: the table is held.
 */
static noinline bool
hpt_reader_gather_changed(struct hpt_file *r, struct kvmppc_hpt_hold *hold,
			  unsigned long end, struct hpt_records *records)
{
	unsigned long word = BIT_WORD(r->pos), words = BIT_WORD(end), from;
	/* What is before that is for the next pass. */
	unsigned long mask = BITMAP_FIRST_WORD_MASK(r->pos);
	struct hpt_records out = *records;
	unsigned long bits, rest, at = end, stop = end;

	/* First, since this brings changes into the log. */
	if (r->ops->follow)
		r->ops->follow(r->kvm, hold, r->pos, end);

	for (; word < words && at == stop; word++) {
		from = word;
		word = hpt_next_word(hold->changes, from, words);
		if (r->nr_pending)
			word = hpt_next_word(r->pending, from, word);
		if (word == words)
			break;
		bits = hpt_reader_harvest(r, hold, word, word == from ? mask : ~0UL);
		mask = ~0UL;
		for (; bits; bits = rest) {
			/* The lowest run of bits that are set, and those above */
			rest = bits & (bits + (bits & -bits));
			at = word * BITS_PER_LONG + __ffs(bits);
			stop = word * BITS_PER_LONG + __fls(bits ^ rest) + 1;
			at = hpt_reader_emit(r, hold, &out, at, stop);
			if (at < stop) {
				bits &= BITMAP_FIRST_WORD_MASK(at);
				hpt_reader_put_back(r, hold, word, bits);
				break;
			}
		}
	}

	r->pos = at < stop ? at : words * BITS_PER_LONG;
	*records = out;
	return at < stop;
}

/*
 * Have a reader start over, or begin, with the table that there is now.  All of
 * it may differ from what the reader knows.
 *
 * Context: the table is held.
 */
static void hpt_reader_start(struct hpt_file *r, struct kvmppc_hpt_hold *hold)
{
	struct kvm_hpt_watch *watch = &r->kvm->arch.hpt_watch;

	r->nr = hold->nr;
	r->generation = watch->generation;
	r->pos = r->lineage ? 0 : min(r->start_index, r->nr);
	r->whole = true;
	r->missed = false;
	kvfree(r->pending);
	r->pending = NULL;
	r->nr_pending = 0;
	r->pass = 1;
	r->before = r->count;
	if (!r->lineage) {
		spin_lock(&watch->lock);
		list_add_tail(&r->node, &watch->readers);
		WRITE_ONCE(watch->nr_readers, watch->nr_readers + 1);
		spin_unlock(&watch->lock);
	}
}

/*
 * Tie a reader or writer to the table that there is now, when it first meets one.
 * Returns -ENODATA if there is no table, -ESTALE if the one it is for is gone for
 * good, -EOVERFLOW if a reader's has too many HPTEs for records.
 *
 * Context: the table is held.
 */
static int hpt_bind(struct hpt_file *f, struct kvmppc_hpt_hold *hold)
{
	struct kvm_hpt_watch *watch = &f->kvm->arch.hpt_watch;

	if (!hold->nr)
		return -ENODATA;
	if (f->lineage && f->lineage != watch->lineage)
		return -ESTALE;
	if (!f->writes && hold->nr > HPT_MAX_NR)
		return -EOVERFLOW;
	if (!f->writes && (!f->lineage || f->generation != watch->generation))
		hpt_reader_start(f, hold);
	if (!f->lineage) {
		f->order = watch->order;
		/* Pairs with hpt_show_fdinfo() (l14). */
		smp_store_release(&f->lineage, watch->lineage);
	}
	return 0;
}

/*
 * Fill the reader's buffer, all of which is free, with records.  Returns 0,
 * without any if the end of the table is reached.
 *
 * Context: r->lock is held.
 */
static int hpt_reader_fill(struct hpt_file *r, struct hpt_records *out)
{
	/* Little room will soon be full: do not look too far ahead. */
	unsigned long ahead = max((out->end - out->buf) / 8UL, HPT_STRETCH / 64);
	const struct hpt_records empty = *out;
	u64 generation = r->generation;
	struct kvmppc_hpt_hold hold;
	bool full = false;
	int err;

	do {
		unsigned long pos, end, n;

		err = r->ops->hold(r->kvm, &hold, 0);
		if (err)
			return out->to > out->buf ? 0 : err;
		err = hpt_bind(r, &hold);
		if (err) {
			r->ops->release(r->kvm, &hold, 0);
			return err;
		}
		if (generation != r->generation) {
			/* What was gathered is of a table that is no more. */
			generation = r->generation;
			*out = empty;
		}

		pos = r->pos;
		/* Each word may be looked at once for each reader. */
		n = HPT_STRETCH / READ_ONCE(r->kvm->arch.hpt_watch.nr_readers);
		end = round_up(pos + clamp(n, 1, ahead), BITS_PER_LONG);
		end = min(end, r->nr);
		full = r->whole ? hpt_reader_gather_all(r, &hold, end, out) :
				  hpt_reader_gather_changed(r, &hold, end, out);
		ahead = min(2 * ahead, HPT_STRETCH);
		r->passed += r->pos - pos;
		r->ops->release(r->kvm, &hold, 0);
		if (full || r->pos == r->nr)
			break;
		cond_resched();
	} while (!signal_pending(current));

	if (out->to == out->buf && r->pos < r->nr)
		return -ERESTARTSYS;
	return 0;
}

/*
 * Put the HPTEs of those records back that have not reached the user, who has
 * the first @copied bytes.  Takes these records out of @out.
 *
 * Context: r->lock is held.
 */
static void hpt_reader_undo(struct hpt_file *r, struct hpt_records *out,
			    size_t copied)
{
	struct kvm_hpt_watch *watch = &r->kvm->arch.hpt_watch;
	struct kvm_get_htab_header *rec = out->buf;
	struct kvmppc_hpt_hold hold;
	void *at, *done = out->buf;
	unsigned int words = 0;

	for (; done + hpt_record_size(rec) <= out->buf + copied; rec = done)
		done += hpt_record_size(rec);

	r->ops->hold(r->kvm, &hold, KVMPPC_HPT_NOKILL);
	/* But if the table is another one, the reader starts over. */
	r->pos = rec->index;
	for (at = done; at < out->to; at += hpt_record_size(rec)) {
		unsigned long i, end, n;

		rec = at;
		out->valid -= rec->n_valid;
		out->invalid -= rec->n_invalid;
		end = (u64)rec->index + rec->n_valid + rec->n_invalid;
		for (i = rec->index; i < end && !r->whole &&
		     r->generation == watch->generation; i += n) {
			n = min(end - i, BITS_PER_LONG - i % BITS_PER_LONG);
			hpt_reader_put_back(r, &hold, BIT_WORD(i),
					    GENMASK(n - 1, 0) << i % BITS_PER_LONG);
			if (++words % 1024)
				continue;
			/* That is a lot for one hold. */
			r->ops->release(r->kvm, &hold, KVMPPC_HPT_NOKILL);
			cond_resched();
			r->ops->hold(r->kvm, &hold, KVMPPC_HPT_NOKILL);
		}
	}
	r->ops->release(r->kvm, &hold, KVMPPC_HPT_NOKILL);
	out->to = done;
}

/* Context: r->lock is held. */
static void hpt_reader_end_pass(struct hpt_file *r)
{
	struct kvm_hpt_watch *watch = &r->kvm->arch.hpt_watch;

	trace_kvm_hpt_pass(r->id, r->pass, r->count.valid - r->before.valid,
			   r->count.invalid - r->before.invalid,
			   r->count.bytes - r->before.bytes);
	r->pass++;
	r->before = r->count;
	/* In place of the table lock: nobody is told anything without this one. */
	spin_lock(&watch->lock);
	r->pos = 0;
	r->whole = r->missed;
	r->missed = false;
	spin_unlock(&watch->lock);
	if (!hpt_reader_is_alone(r))
		hpt_reader_equip_all(r);
}

/*
 * The end of a pass ends the read, if it has something to return.  If not, it
 * goes on with the next pass, until it has passed every HPTE in vain: to QEMU,
 * which may have left the last pass in the middle of the table, 0 means that
 * there is nothing left anywhere.  But the first pass ends by itself.
 */
static ssize_t hpt_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct hpt_file *r = iocb->ki_filp->private_data;
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
	r->passed = 0;
	while ((size = iov_iter_count(to)) >= HPT_MIN_READ) {
		struct hpt_records out;
		size_t len, copied;

		out = (struct hpt_records) {
			.buf = r->buf, .to = r->buf, .last = r->buf,
			.end = r->buf + min(size, HPT_BUF_SIZE), .next = ULONG_MAX,
		};
		err = hpt_reader_fill(r, &out);
		pass = r->pass;
		if (err)
			break;
		len = out.to - out.buf;
		copied = copy_to_iter(out.buf, len, to);
		if (copied < len) {
			hpt_reader_undo(r, &out, copied);
			err = -EFAULT;
		}
		len = out.to - out.buf;
		ret += len;
		r->count.valid += out.valid;
		r->count.invalid += out.invalid;
		r->count.bytes += len;
		/* There may be other readers, each with a lock of its own. */
		atomic64_add(out.valid, &r->kvm->stat.hpt_entries_read);
		if (err)
			break;
		if (r->pos == r->nr) {
			bool over = ret || r->pass == 1;

			hpt_reader_end_pass(r);
			if (over || (r->passed >= r->nr && !r->whole))
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

/* What a reader has to say, at this moment; @lineage is 0 if it has met no table. */
static void hpt_reader_show(struct seq_file *m, struct hpt_file *r, u64 lineage)
{
	struct kvm_hpt_watch *watch = &r->kvm->arch.hpt_watch;
	unsigned long pending = 0, pos = 0;
	unsigned int pass = 0;
	bool there, reset;

	if (lineage) {
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
			pos = 0;
			pending = r->nr;
		} else if (there) {
			/* Without the table lock: how many are there now? */
			pending = data_race(r->nr_pending);
			/* Is it to be given all, in the next pass ... */
			if (data_race(r->missed))
				pending = r->nr;
			/* ... or in this one? */
			else if (data_race(r->whole))
				pending = min(pending + r->nr - pos, r->nr);
		}
	}
	seq_printf(m, "hpt-pass:\t%u\n", pass);
	seq_printf(m, "hpt-position:\t%lu\n", pos);
	seq_printf(m, "hpt-pending:\t%lu\n", pending);
}

static void hpt_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct hpt_file *f = file->private_data;
	/* Without the lock of the reader or writer: what it is just now. */
	const struct hpt_count count = data_race(f->count);
	/* If it is there, what tells of the table is, and stays. */
	const u64 lineage = smp_load_acquire(&f->lineage);
	const char *table = "none";

	if (lineage)
		/* Without the table lock: either answer is as good. */
		table = data_race(f->kvm->arch.hpt_watch.lineage) == lineage ?
			"current" : "gone";
	seq_printf(m, "hpt-id:\t%u\n", f->id);
	seq_printf(m, "hpt-flavour:\t%s\n", f->ops->name);
	seq_printf(m, "hpt-direction:\t%s\n", f->writes ? "write" : "read");
	seq_printf(m, "hpt-table:\t%s\n", table);
	seq_printf(m, "hpt-order:\t%u\n", lineage ? f->order : 0);
	if (!f->writes)
		hpt_reader_show(m, f, lineage);
	seq_printf(m, "hpt-entries:\t%llu\n", count.valid);
	seq_printf(m, "hpt-invalid:\t%llu\n", count.invalid);
	seq_printf(m, "hpt-bytes:\t%llu\n", count.bytes);
}

/*
 * Apply one record.  If it cannot be, nothing is changed.
 *
 * Context: the table is held for writing.
 */
static int hpt_writer_apply(struct hpt_file *w, struct kvmppc_hpt_hold *hold,
			    const struct kvm_get_htab_header *rec)
{
	/* Nothing is to be said against a page of 4K in a segment that there is. */
	const __be64 doubt = cpu_to_be64(2UL << HPTE_V_SSIZE_SHIFT | HPTE_V_LARGE);
	const struct kvm_hpt_entry *hptes = (const void *)(rec + 1);
	unsigned long i, n = rec->n_valid;

	if (rec->index >= hold->nr ||
	    n + rec->n_invalid > hold->nr - rec->index)
		return -EINVAL;
	for (i = 0; i < n; i++)
		if (!(hptes[i].v & cpu_to_be64(HPTE_V_VALID)) ||
		    (hptes[i].v & doubt &&
		     !kvmppc_hpte_acceptable(be64_to_cpu(hptes[i].v),
					     be64_to_cpu(hptes[i].r))))
			return -EINVAL;

	if (!n && !rec->n_invalid)
		return 0;
	return w->ops->put(w->kvm, hold, rec->index, n, rec->n_invalid, hptes);
}

/*
 * Apply whole records among the @len bytes at @buf, as many as are fit for one
 * hold of the table, up to the first that fails, for which *@err is set.
 * Returns the bytes of those applied, 0 if there is no whole record.
 *
 * Context: w->lock is held.
 */
static size_t hpt_writer_drain(struct hpt_file *w, const void *buf,
			       size_t len, int *err)
{
	u64 valid = 0, invalid = 0;
	struct kvmppc_hpt_hold hold;
	size_t done = 0;

	*err = w->ops->hold(w->kvm, &hold, KVMPPC_HPT_WRITE);
	if (*err)
		return 0;
	*err = hpt_bind(w, &hold);
	if (*err == -ENODATA)
		*err = -EINVAL;

	while (!*err && valid + invalid < HPT_STRETCH && done < SZ_256K &&
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

static ssize_t hpt_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct hpt_file *w = iocb->ki_filp->private_data;
	struct hpt_count was;
	ssize_t ret = 0;
	int err = 0;

	/* The page tables of the VM's process are about to be walked. */
	if (w->kvm->mm != current->mm)
		return -EIO;
	if (mutex_lock_interruptible(&w->lock))
		return -ERESTARTSYS;

	was = w->count;
	while (!err && iov_iter_count(from)) {
		size_t size = min(iov_iter_count(from), HPT_MAX_RECORD);
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
		/* The first record is not all there. */
		if (!err && !done)
			err = len < size ? -EFAULT : -EINVAL;
		cond_resched();
	}

	if (!ret && err)
		ret = err == -EINTR ? -ERESTARTSYS : err;
	trace_kvm_hpt_write(w->id, w->count.valid - was.valid,
			    w->count.invalid - was.invalid, ret);
	mutex_unlock(&w->lock);
	return ret;
}

static void hpt_free(struct hpt_file *f)
{
	kvfree(f->pending);
	kvfree(f->buf);
	kfree(f);
}

static int hpt_release(struct inode *inode, struct file *file)
{
	struct hpt_file *f = file->private_data;
	struct kvm *kvm = f->kvm;
	struct kvm_hpt_watch *watch = &kvm->arch.hpt_watch;

	/*
	 * Not the table lock: whoever has been given the file closes it, or a
	 * kernel thread on behalf of all, and should not wait for a VM.  Who has
	 * found it in the list is done when this has the lock (l15).
	 */
	if (!f->writes && f->lineage) {
		spin_lock(&watch->lock);
		list_del(&f->node);
		WRITE_ONCE(watch->nr_readers, watch->nr_readers - 1);
		spin_unlock(&watch->lock);
	}
	if (!f->writes)
		atomic_dec(&kvm->arch.hpte_mod_interest);
	hpt_free(f);
	kvm_put_kvm(kvm);
	return 0;
}

/* How it is opened says which of the two it does. */
static const struct file_operations hpt_fops = {
	.owner		= THIS_MODULE,
	.read_iter	= hpt_read_iter,
	.write_iter	= hpt_write_iter,
	.release	= hpt_release,
	.show_fdinfo	= hpt_show_fdinfo,
};

VISIBLE_IF_KUNIT
struct file *kvmppc_hpt_fd_file(struct kvm *kvm,
				const struct kvmppc_hpt_ops *ops,
				const struct kvm_get_htab_fd *args)
{
	struct kvmppc_hpt_hold hold;
	struct hpt_file *f;
	struct file *file;
	int err;

	if (args->flags & ~(KVM_GET_HTAB_BOLTED_ONLY | KVM_GET_HTAB_WRITE))
		return ERR_PTR(-EINVAL);

	/*
	 * These first: by far the most is the buffer, so it is here that the limit
	 * of a memory cgroup is met.  The file is charged as all files are, with
	 * GFP_KERNEL, and nothing is left to be allocated once it is there.
	 */
	f = kzalloc_obj(*f, KVMPPC_HPT_GFP);
	if (!f)
		return ERR_PTR(-ENOMEM);
	f->writes = args->flags & KVM_GET_HTAB_WRITE;
	f->buf = f->writes ? __vmalloc(HPT_MAX_RECORD, KVMPPC_HPT_GFP) :
			     kvmalloc(HPT_BUF_SIZE, KVMPPC_HPT_GFP);
	if (!f->buf) {
		hpt_free(f);
		return ERR_PTR(-ENOMEM);
	}
	f->kvm = kvm;
	f->ops = ops;
	f->id = atomic_inc_return(&hpt_ids);
	f->bolted = args->flags & KVM_GET_HTAB_BOLTED_ONLY;
	f->start_index = args->start_index;
	mutex_init(&f->lock);

	file = anon_inode_getfile("kvm-htab", &hpt_fops, f,
				  f->writes ? O_WRONLY : O_RDONLY);
	if (IS_ERR(file)) {
		hpt_free(f);
		return file;
	}
	stream_open(file_inode(file), file);

	/* From here on, hpt_release() cleans up. */
	kvm_get_kvm(kvm);
	if (!f->writes) {
		/*
		 * A change made by someone who has not seen our interest is not
		 * in the log, and HPTEs may be read without their lock: wait for
		 * those who are at it, hypercalls, page faults and mmu notifiers,
		 * which hold kvm->srcu.  Others hold the table lock.  On POWER8
		 * that misses the vCPUs of other VMs that a core runs along with
		 * those of its own, whose srcu only it holds: there a hypercall
		 * would have to last from here until the first pass comes to its
		 * HPTE.
		 */
		atomic_inc(&kvm->arch.hpte_mod_interest);
		synchronize_srcu_expedited(&kvm->srcu);
	}

	err = ops->hold(kvm, &hold, 0);
	if (!err) {
		err = hpt_bind(f, &hold);
		ops->release(kvm, &hold, 0);
	}
	/* The table may come later. */
	if (err && err != -ENODATA) {
		fput(file);
		return ERR_PTR(err);
	}
	trace_kvm_hpt_open(f->id, kvm->userspace_pid, args->flags,
			   args->start_index, f->order);
	return file;
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
