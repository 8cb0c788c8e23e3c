// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit test of the HPT file descriptor (book3s_hpt_fd.c): its file operations
 * on a flavour of KVM that is a fake.  The table is an array of any size, the
 * change log a bitmap, and a test may have itself called back from whatever
 * the flavour is asked for, to fail it or to change things under way.
 *
 * A model goes with each reader.  It says byte by byte what a read has to
 * return, found HPTE by HPTE from what has been changed and nothing else, and
 * takes in what is returned, to be compared with the table in the end.
 */

#include <kunit/test.h>
#include <linux/bitmap.h>
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kvm_host.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/srcu.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>
#include <asm/book3s/64/mmu-hash.h>

#include "book3s_hpt.h"
#include "book3s_hpt_records.h"

#define HEADER_SIZE	sizeof(struct kvm_get_htab_header)
#define ENTRY_SIZE	sizeof(struct kvm_hpt_entry)
#define MIN_READ	(HEADER_SIZE + ENTRY_SIZE)

/* Known of book3s_hpt_fd.c: HPT_BUF_SIZE, which no record read crosses ... */
#define CHUNK		SZ_64K
/* ... and HPT_STRETCH, after which the table is given up for a moment. */
#define STRETCH		16384UL

/* The largest read or write here, and what is looked at behind a read. */
#define BUF_SIZE	SZ_4M
#define MARGIN		64
#define CANARY		0xa5

/* What an HPTE is made to be. */
#define INVALID		0
#define VALID		HPTE_V_VALID
#define BOLTED		(HPTE_V_VALID | HPTE_V_BOLTED)

#define MAX_READERS	3

/* What the flavour is being asked for. */
enum call {
	AT_HOLD, AT_RELEASE, AT_HARVEST, AT_LOOK, AT_SKIP, AT_EMIT, AT_PUT,
};

struct fake;

struct reader {
	struct fake *f;
	struct file *file;
	bool bolted;
	u64 start;

	/* The model of what is to be returned. */
	unsigned long nr;	/* 0 if the reader is not tied to a table */
	unsigned long *pending;
	unsigned long pos;
	bool first_pass;
	unsigned long stop;	/* where reads are going to be interrupted, ... */
	int stop_err;		/* ... with this, if they have nothing by then */

	/* What has been returned: HPTEs, all zeroes if invalid. */
	struct kvm_hpt_entry *hptes;
	unsigned long *known;
	/* ... and how much of it, from whichever table. */
	u64 entries, invalid, bytes;
};

struct fake {
	struct kvm kvm;
	struct kunit *test;

	unsigned long nr;
	struct kvm_hpt_entry *hptes;
	unsigned long *log;
	unsigned long *touched;	/* by the hardware, which sets R */
	u64 clock;		/* makes the contents of each HPTE unique */

	/* Set by a test. */
	int (*hook)(struct fake *f, enum call at, unsigned long index);
	enum call hook_at;
	unsigned int hook_after;
	int hook_err;
	struct rnd_state rnd;

	/* Kept by the flavour. */
	bool held;
	unsigned int held_flags;
	unsigned long nr_put;	/* HPTEs, since it is held, ... */
	unsigned long put_end;	/* ... and the one behind the last */
	unsigned int puts;
	const char *misuse;

	struct reader readers[MAX_READERS];
	struct file *writer;
	struct kvm_hpt_entry *wanted;	/* what a write is to make of hptes */
	char fdinfo[512];

	/* BUF_SIZE and a margin each. */
	void *got;
	void *want;
};

static size_t record_size(const struct kvm_get_htab_header *rec)
{
	return HEADER_SIZE + rec->n_valid * ENTRY_SIZE;
}

/* ------------------------------------------------------------ the flavour */

static struct fake *to_fake(struct kvm *kvm)
{
	return container_of(kvm, struct fake, kvm);
}

/* A call that must not be is remembered, since an assertion can't fail here. */
static void fake_require(struct fake *f, bool good, const char *misuse)
{
	if (!good && !f->misuse)
		f->misuse = misuse;
}

static int fake_call(struct fake *f, enum call at, unsigned long index)
{
	might_sleep();
	return f->hook ? f->hook(f, at, index) : 0;
}

static bool fake_in_range(struct fake *f, unsigned long first, unsigned long n)
{
	bool good = f->hptes && first <= f->nr && n <= f->nr - first;

	fake_require(f, f->held, "used while it was not held");
	fake_require(f, good, "used beyond the end of the table");
	return good;
}

static int fake_hold(struct kvm *kvm, struct kvmppc_hpt_hold *hold,
		     unsigned int flags)
{
	struct fake *f = to_fake(kvm);
	int err;

	fake_require(f, !f->held, "held twice");
	err = fake_call(f, AT_HOLD, 0);
	if (err && !(flags & KVMPPC_HPT_NOKILL))
		return err;
	f->held = true;
	f->held_flags = flags;
	f->nr_put = 0;
	f->put_end = ULONG_MAX;
	hold->nr = f->nr;
	hold->changes = f->log;
	hold->mmu_ready = 12345;
	return 0;
}

static void fake_release(struct kvm *kvm, struct kvmppc_hpt_hold *hold,
			 unsigned int flags)
{
	struct fake *f = to_fake(kvm);

	fake_require(f, f->held, "released, but not held");
	fake_require(f, flags == f->held_flags, "released with other flags");
	fake_require(f, hold->mmu_ready == 12345, "mmu_ready was changed");
	f->held = false;
	fake_call(f, AT_RELEASE, 0);
}

static void fake_follow(struct kvm *kvm, unsigned long first,
			unsigned long end)
{
	struct fake *f = to_fake(kvm);

	if (!fake_in_range(f, first, end - first))
		return;
	fake_require(f, end - first <= STRETCH, "harvested for too long");
	fake_call(f, AT_HARVEST, first);
}

/* By then they are to be out of the log. */
static void fake_await(struct kvm *kvm, unsigned long word, unsigned long bits)
{
	struct fake *f = to_fake(kvm);

	if (fake_in_range(f, word * BITS_PER_LONG, 1))
		fake_require(f, bits && !(f->log[word] & bits),
			     "told of a change that was not taken");
}

/* An HPTE as a reader is to see it: all zeroes if that is as an invalid one. */
static struct kvm_hpt_entry fake_view(struct fake *f, unsigned long i,
				      bool bolted)
{
	u64 needed = bolted ? BOLTED : VALID;

	if ((be64_to_cpu(f->hptes[i].v) & needed) == needed)
		return f->hptes[i];
	return (struct kvm_hpt_entry){};
}

/* What readers are going to be given, unless they are being given it now. */
static void model_changed(struct fake *f, unsigned long index)
{
	struct reader *r;

	for (r = f->readers; r < f->readers + MAX_READERS; r++)
		if (r->nr)
			__set_bit(index, r->pending);
}

static bool fake_look(struct kvm *kvm, unsigned long index, bool bolted,
		      struct kvm_hpt_entry *hpte)
{
	struct fake *f = to_fake(kvm);

	if (!fake_in_range(f, index, 1))
		return false;
	fake_call(f, AT_LOOK, index);
	if (__test_and_clear_bit(index, f->touched)) {
		f->hptes[index].r |= cpu_to_be64(HPTE_R_R);
		kvmppc_hpt_changed(kvm, index);
		model_changed(f, index);
	}
	*hpte = fake_view(f, index, bolted);
	return hpte->v;
}

/* What has been touched is not to be had this way, nor what changes now. */
static __always_inline int fake_peek(struct kvm *kvm, unsigned long index,
				     struct kvm_hpt_entry *hpte)
{
	struct fake *f = to_fake(kvm);

	fake_call(f, AT_LOOK, index);
	if (test_bit(index, f->touched) || test_bit(index, f->log))
		return -EAGAIN;
	*hpte = fake_view(f, index, false);
	return !!hpte->v;
}

static unsigned long fake_sweep(struct kvm *kvm, struct kvmppc_hpt_records *out,
				unsigned long first, unsigned long end)
{
	struct fake *f = to_fake(kvm);

	if (!fake_in_range(f, first, end - first))
		return first;
	fake_require(f, end - first <= STRETCH, "swept for too long");
	return kvmppc_hpt_sweep(kvm, f->log, out, first, end, fake_peek);
}

static unsigned long fake_skip(struct kvm *kvm, unsigned long first,
			       unsigned long n)
{
	struct fake *f = to_fake(kvm);
	unsigned long i;

	if (!fake_in_range(f, first, n))
		return 0;
	fake_call(f, AT_SKIP, first);
	for (i = 0; i < n; i++)
		if (fake_view(f, first + i, false).v)
			break;
	return i;
}

static __always_inline void fake_copy(struct kvmppc_hpt_view *view,
				      const __be64 *hptep, __be64 v,
				      __be64 flip, __be64 *to)
{
	to[-1] = v;
	to[0] = hptep[1];
}

/* What has been touched is not to be had this way. */
static unsigned long fake_emit(struct kvm *kvm, struct kvmppc_hpt_records *out,
			       unsigned long first, unsigned long n)
{
	struct fake *f = to_fake(kvm);
	struct kvmppc_hpt_view view = {
		.hptes = f->hptes,
		.there = cpu_to_be64(VALID),
	};

	if (!fake_in_range(f, first, n))
		return 0;
	fake_require(f, MIN_READ <= out->size - out->len,
		     "called without room for an HPTE");
	fake_call(f, AT_EMIT, first);
	if (find_next_bit(f->touched, first + n, first) < first + n)
		return 0;
	return kvmppc_hpt_emit(&view, out, first, n, fake_copy);
}

static void fake_changed(struct fake *f, unsigned long index)
{
	if (atomic_read(&f->kvm.arch.hpte_mod_interest))
		__set_bit(index, f->log);
	model_changed(f, index);
}

/* May a record, or what is invalid of it, be put here? */
static bool fake_may_put(struct fake *f, unsigned long first, unsigned long n)
{
	fake_require(f, f->held_flags & KVMPPC_HPT_WRITE,
		     "written while it was held for reading");
	fake_require(f, n, "called for no HPTE");
	fake_require(f, f->nr_put < STRETCH || first == f->put_end,
		     "held for too long");
	f->nr_put += n;
	f->put_end = first + n;
	return fake_in_range(f, first, n);
}

static int fake_put_valid(struct kvm *kvm, struct kvmppc_hpt_hold *hold,
			  unsigned long first, unsigned long n,
			  const struct kvm_hpt_entry *hptes)
{
	struct fake *f = to_fake(kvm);
	unsigned long i;
	int err;

	if (!fake_may_put(f, first, n))
		return -ENXIO;
	f->puts++;
	err = fake_call(f, AT_PUT, first);
	if (err)
		return err;
	for (i = 0; i < n; i++) {
		fake_require(f, hptes[i].v & cpu_to_be64(VALID),
			     "given an invalid HPTE as a valid one");
		f->hptes[first + i] = hptes[i];
		fake_changed(f, first + i);
	}
	return 0;
}

static void fake_put_invalid(struct kvm *kvm, unsigned long first,
			     unsigned long n)
{
	struct fake *f = to_fake(kvm);
	unsigned long i;

	if (!fake_may_put(f, first, n))
		return;
	for (i = first; i < first + n; i++) {
		f->hptes[i] = (struct kvm_hpt_entry){};
		fake_changed(f, i);
	}
}

static const struct kvmppc_hpt_ops fake_ops = {
	.name		= "fake",
	.hold		= fake_hold,
	.release	= fake_release,
	.follow		= fake_follow,
	.await		= fake_await,
	.sweep		= fake_sweep,
	.look		= fake_look,
	.skip		= fake_skip,
	.emit		= fake_emit,
	.put_valid	= fake_put_valid,
	.put_invalid	= fake_put_invalid,
};

/* -------------------------------------------------------------- the table */

static void *fake_alloc(struct fake *f, size_t size)
{
	void *p = vzalloc(size);

	KUNIT_ASSERT_NOT_NULL(f->test, p);
	return p;
}

static unsigned long *fake_alloc_bitmap(struct fake *f, unsigned long nr)
{
	return fake_alloc(f, BITS_TO_LONGS(nr) * sizeof(long));
}

/* The model of a reader, when it meets a table or has to start over. */
static void reader_start(struct reader *r)
{
	struct fake *f = r->f;

	if (!r->nr) {
		r->nr = f->nr;
		r->pending = fake_alloc_bitmap(f, r->nr);
		r->known = fake_alloc_bitmap(f, r->nr);
		r->hptes = fake_alloc(f, array_size(r->nr, ENTRY_SIZE));
		if (r->start < r->nr)
			bitmap_set(r->pending, r->start, r->nr - r->start);
	} else {
		bitmap_fill(r->pending, r->nr);
	}
	r->pos = min(r->start, r->nr);
	r->first_pass = true;
}

/* The model of a reader whose table is no more. */
static void reader_untie(struct reader *r)
{
	r->nr = 0;
	vfree(r->pending);
	vfree(r->known);
	vfree(r->hptes);
	r->pending = NULL;
	r->known = NULL;
	r->hptes = NULL;
}

/* A new table takes the place of the old, or, of the same size, a reset. */
static void fake_table(struct fake *f, unsigned long nr)
{
	struct reader *r;

	for (r = f->readers; r < f->readers + MAX_READERS; r++) {
		if (r->nr && r->nr == nr)
			reader_start(r);
		else
			reader_untie(r);
	}
	vfree(f->hptes);
	vfree(f->log);
	vfree(f->touched);
	vfree(f->wanted);
	f->hptes = NULL;
	f->log = NULL;
	f->touched = NULL;
	f->wanted = NULL;
	f->nr = 0;
	if (nr) {
		f->hptes = fake_alloc(f, array_size(nr, ENTRY_SIZE));
		f->log = fake_alloc_bitmap(f, nr);
		f->touched = fake_alloc_bitmap(f, nr);
		f->wanted = fake_alloc(f, array_size(nr, ENTRY_SIZE));
		f->nr = nr;
	}
	kvmppc_hpt_replaced(&f->kvm, nr ? order_base_2(nr) + 4 : 0);
}

static struct kvm_hpt_entry fake_new_hpte(struct fake *f, u64 bits)
{
	f->clock++;
	return (struct kvm_hpt_entry){
		.v = cpu_to_be64(f->clock << HPTE_V_AVPN_SHIFT | bits),
		.r = cpu_to_be64(~f->clock << 12),
	};
}

/* Invalid HPTEs have contents too, which nobody is to see. */
static void fake_set(struct fake *f, unsigned long i, u64 bits)
{
	f->hptes[i] = fake_new_hpte(f, bits);
	fake_changed(f, i);
}

static void fake_set_range(struct fake *f, unsigned long first,
			   unsigned long end, u64 bits)
{
	unsigned long i;

	for (i = first; i < end; i++)
		fake_set(f, i, bits);
}

/* ------------------------------------------------------- patterns of HPTEs */

static bool all(unsigned long i)
{
	return true;
}

static bool none(unsigned long i)
{
	return false;
}

static bool alternating(unsigned long i)
{
	return i & 1;
}

static bool runs(unsigned long i)
{
	return (i / 9) & 1;
}

static bool uneven(unsigned long i)
{
	return (0xf0e1c3fe06d23a95UL >> (i % 64)) & 1;
}

static bool single(unsigned long i)
{
	return i == 33;
}

static bool (*const patterns[])(unsigned long i) = {
	all, none, alternating, runs, uneven, single,
};

/* The HPTEs of one pattern are changed, to be valid by another. */
static void fake_fill(struct fake *f, bool (*which)(unsigned long i),
		      bool (*valid)(unsigned long i))
{
	unsigned long i;

	for (i = 0; i < f->nr; i++)
		if (which(i))
			fake_set(f, i, valid(i) ? VALID : INVALID);
}

/* ------------------------------------------------------------ what fails */

/* A hook's time has come: at the call it is meant for, after some of them. */
static bool hook_due(struct fake *f, enum call at)
{
	if (at != f->hook_at)
		return false;
	if (!f->hook_after)
		return true;
	f->hook_after--;
	return false;
}

static void fake_arm(struct fake *f, int (*hook)(struct fake *, enum call,
						 unsigned long),
		     enum call at, unsigned int after)
{
	f->hook_at = at;
	f->hook_after = after;
	f->hook = hook;
}

/* From then on, all calls fail. */
static int hook_fail(struct fake *f, enum call at, unsigned long index)
{
	return hook_due(f, at) ? f->hook_err : 0;
}

static int hook_signal(struct fake *f, enum call at, unsigned long index)
{
	if (hook_due(f, at)) {
		f->hook = NULL;
		send_sig(SIGUSR1, current, 1);
	}
	return 0;
}

/* -------------------------------------------------------------- reading */

static struct file *fake_open(struct fake *f, u32 flags, u64 start)
{
	struct kvm_get_htab_fd args = {
		.flags = flags,
		.start_index = start,
	};

	return kvmppc_hpt_fd_file(&f->kvm, &fake_ops, &args);
}

static struct reader *open_reader(struct fake *f, unsigned int n, u32 flags,
				  u64 start)
{
	struct reader *r = &f->readers[n];
	struct file *file = fake_open(f, flags, start);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(f->test, file);
	r->f = f;
	r->file = file;
	r->bolted = flags & KVM_GET_HTAB_BOLTED_ONLY;
	r->start = start;
	r->stop = 0;
	r->entries = 0;
	r->invalid = 0;
	r->bytes = 0;
	if (f->nr)
		reader_start(r);
	return r;
}

static void close_reader(struct reader *r)
{
	reader_untie(r);
	if (r->file)
		__fput_sync(r->file);
	r->file = NULL;
}

static ssize_t read_segments(struct file *file, const struct kvec *segments,
			     unsigned int n, size_t size)
{
	struct iov_iter iter;

	iov_iter_kvec(&iter, ITER_DEST, segments, n, size);
	return vfs_iter_read(file, &iter, NULL, 0);
}

/* What @size bytes hold of the HPTEs that are pending from pos on. */
static size_t model_encode(struct reader *r, void *buf, size_t size)
{
	unsigned long end = r->stop ? min(r->stop, r->nr) : r->nr;
	struct kvm_get_htab_header *rec = NULL;
	unsigned long next = 0;
	size_t len = 0;

	for (; r->pos < end; r->pos++) {
		struct kvm_hpt_entry hpte;
		size_t needed;
		bool more;

		if (!test_bit(r->pos, r->pending))
			continue;
		hpte = fake_view(r->f, r->pos, r->bolted);
		more = rec && r->pos == next;
		if (hpte.v) {
			more = more && !rec->n_invalid && rec->n_valid < 65535;
			needed = ENTRY_SIZE;
		} else {
			more = more && rec->n_invalid < 65535;
			needed = 0;
		}
		if (!more)
			needed += HEADER_SIZE;
		if (size - len < needed)
			break;

		if (!more) {
			rec = buf + len;
			len += HEADER_SIZE;
			rec->index = r->pos;
			rec->n_valid = 0;
			rec->n_invalid = 0;
		}
		if (hpte.v) {
			memcpy(buf + len, &hpte, ENTRY_SIZE);
			len += ENTRY_SIZE;
			rec->n_valid++;
		} else {
			rec->n_invalid++;
		}
		next = r->pos + 1;
		__clear_bit(r->pos, r->pending);
	}
	return len;
}

/* Only @reach bytes get to the user: records which are not whole there stay. */
static size_t model_deliver(struct reader *r, const void *buf, size_t len,
			    size_t reach)
{
	const struct kvm_get_htab_header *rec;
	size_t at, done = 0;

	for (at = 0; at < len; at += record_size(rec)) {
		rec = buf + at;
		if (at + record_size(rec) <= reach) {
			done = at + record_size(rec);
			continue;
		}
		if (at == done)
			r->pos = rec->index;
		bitmap_set(r->pending, rec->index,
			   rec->n_valid + rec->n_invalid);
	}
	return done;
}

/* What a read of @size bytes has to return, of which @reach can be written. */
static ssize_t model_read(struct reader *r, void *buf, size_t size,
			  size_t reach)
{
	size_t total = 0;

	if (size < MIN_READ)
		return -EINVAL;
	while (size - total >= MIN_READ) {
		bool whole_table = r->pos == 0;
		bool stopped;
		size_t len, done;

		len = model_encode(r, buf + total, min(size - total, CHUNK));
		done = model_deliver(r, buf + total, len, reach - total);
		total += done;
		if (done < len)
			return total ?: -EFAULT;
		stopped = r->stop && r->pos >= r->stop;
		if (r->pos == r->nr) {
			bool over = total || r->first_pass || whole_table;

			r->pos = 0;
			r->first_pass = false;
			if (over)
				break;
		}
		if (stopped)
			return total ?: r->stop_err;
	}
	return total;
}

/* Take in what has been read. */
static void reader_replay(struct reader *r, const void *buf, size_t len)
{
	const struct kvm_get_htab_header *rec;
	struct kunit *test = r->f->test;
	size_t at;

	for (at = 0; at < len; at += record_size(rec)) {
		unsigned long n;

		rec = buf + at;
		KUNIT_ASSERT_GE(test, len - at, HEADER_SIZE);
		KUNIT_ASSERT_GE(test, len - at, record_size(rec));
		n = rec->n_valid + rec->n_invalid;
		KUNIT_ASSERT_GT(test, n, 0UL);
		KUNIT_ASSERT_LE(test, rec->index + n, r->nr);
		memcpy(&r->hptes[rec->index], rec + 1, rec->n_valid * ENTRY_SIZE);
		memset(&r->hptes[rec->index + rec->n_valid], 0,
		       rec->n_invalid * ENTRY_SIZE);
		bitmap_set(r->known, rec->index, n);
		r->entries += rec->n_valid;
		r->invalid += rec->n_invalid;
	}
	r->bytes += len;
}

/* What fdinfo shows of a file, but for the number that the file has got. */
static const char *fdinfo(struct fake *f, struct file *file)
{
	struct seq_file m = { .buf = f->fdinfo, .size = sizeof(f->fdinfo) };
	char *rest;

	file->f_op->show_fdinfo(&m, file);
	KUNIT_ASSERT_LT(f->test, m.count, m.size);
	f->fdinfo[m.count] = '\0';
	rest = strchr(f->fdinfo, '\n');
	KUNIT_ASSERT_NOT_NULL(f->test, rest);
	KUNIT_ASSERT_EQ(f->test, strncmp(f->fdinfo, "hpt-id:\t", 8), 0);
	return rest + 1;
}

static u64 fdinfo_number(struct fake *f, const char *text, const char *name)
{
	const char *line = strstr(text, name);
	char digits[24] = "";
	u64 number;

	KUNIT_ASSERT_NOT_NULL_MSG(f->test, line, "%s", name);
	line += strlen(name);
	strscpy(digits, line, min(sizeof(digits), strcspn(line, "\n") + 1));
	KUNIT_ASSERT_EQ_MSG(f->test, kstrtou64(digits, 10, &number), 0, "%s", name);
	return number;
}

/* It must show what has been returned, and what has been found to be. */
static void reader_check_fdinfo(struct reader *r)
{
	struct kunit *test = r->f->test;
	const char *text = fdinfo(r->f, r->file);

	KUNIT_ASSERT_EQ(test, fdinfo_number(r->f, text, "entries:\t"), r->entries);
	KUNIT_ASSERT_EQ(test, fdinfo_number(r->f, text, "invalid:\t"), r->invalid);
	KUNIT_ASSERT_EQ(test, fdinfo_number(r->f, text, "bytes:\t"), r->bytes);
	if (bitmap_empty(r->f->log, r->nr))
		KUNIT_ASSERT_EQ(test, fdinfo_number(r->f, text, "pending:\t"),
				bitmap_weight(r->pending, r->nr));
}

/* What a read of @size bytes has returned must be what the model says. */
static void reader_check(struct reader *r, ssize_t got, size_t size,
			 size_t reach)
{
	struct fake *f = r->f;
	ssize_t want = model_read(r, f->want, size, reach);
	size_t len = max(got, 0L);

	KUNIT_ASSERT_STREQ(f->test, f->misuse ?: "", "");
	KUNIT_ASSERT_EQ_MSG(f->test, got, want, "read of %zu bytes", size);
	KUNIT_ASSERT_EQ_MSG(f->test, memcmp(f->got, f->want, len), 0,
			    "read of %zu bytes", size);
	reader_replay(r, f->got, len);
	reader_check_fdinfo(r);
}

/* A read must return what the model says, and write nothing behind it. */
static ssize_t reader_read(struct reader *r, size_t size)
{
	struct fake *f = r->f;
	ssize_t got;
	size_t len;

	memset(f->got, CANARY, size + MARGIN);
	got = kernel_read(r->file, f->got, size, NULL);
	KUNIT_ASSERT_LE(f->test, got, (ssize_t)size);
	len = max(got, 0L);
	KUNIT_ASSERT_NULL_MSG(f->test,
			      memchr_inv(f->got + len, CANARY,
					 size + MARGIN - len),
			      "read of %zu bytes, of which %zd returned", size,
			      got);
	reader_check(r, got, size, SIZE_MAX);
	return got;
}

/* All that the reader has been given must be what is in the table. */
static void reader_compare(struct reader *r)
{
	struct fake *f = r->f;
	unsigned long i;

	for (i = 0; i < r->nr; i++) {
		struct kvm_hpt_entry hpte = fake_view(f, i, r->bolted);

		if (!test_bit(i, r->known)) {
			if (i < r->start)
				continue;
			KUNIT_FAIL_AND_ABORT(f->test, "HPTE %lu was never read",
					     i);
		}
		if (memcmp(&r->hptes[i], &hpte, ENTRY_SIZE))
			KUNIT_FAIL_AND_ABORT(f->test, "HPTE %lu was lost", i);
	}
}

/* Read until nothing comes, by when all must have come. */
static void reader_drain(struct reader *r, size_t size)
{
	ssize_t got;

	do {
		got = reader_read(r, size);
		KUNIT_ASSERT_GE(r->f->test, got, 0L);
	} while (got);
	reader_compare(r);
}

/*
 * The same when a hook changes things under way and nobody can say what comes
 * when: in the end all must have come, and the model is made to fit.
 */
static void reader_drain_any(struct reader *r, size_t size)
{
	struct fake *f = r->f;
	ssize_t got;
	bool over;

	do {
		over = !f->hook;
		do {
			got = kernel_read(r->file, f->got, size, NULL);
			KUNIT_ASSERT_GE(f->test, got, 0L);
			KUNIT_ASSERT_LE(f->test, got, (ssize_t)size);
			reader_replay(r, f->got, got);
		} while (got);
		f->hook = NULL;
	} while (!over);
	KUNIT_ASSERT_STREQ(f->test, f->misuse ?: "", "");
	bitmap_zero(r->pending, r->nr);
	r->pos = 0;
	r->first_pass = false;
	reader_compare(r);
}

/* What was read last begins, or goes on, with this record. */
static size_t expect_record(struct fake *f, size_t at, u32 index, u16 n_valid,
			    u16 n_invalid)
{
	const struct kvm_get_htab_header *rec = f->got + at;

	KUNIT_EXPECT_EQ(f->test, rec->index, index);
	KUNIT_EXPECT_EQ(f->test, rec->n_valid, n_valid);
	KUNIT_EXPECT_EQ(f->test, rec->n_invalid, n_invalid);
	return at + HEADER_SIZE + n_valid * ENTRY_SIZE;
}

static void test_open(struct kunit *test)
{
	struct fake *f = test->priv;
	struct kvm_get_htab_fd args = {};
	static const u32 flags[] = {
		0, KVM_GET_HTAB_BOLTED_ONLY, KVM_GET_HTAB_WRITE,
		KVM_GET_HTAB_BOLTED_ONLY | KVM_GET_HTAB_WRITE,
	};
	struct file *file;
	unsigned int i;

	fake_table(f, 64);

	/* Readers are counted, writers are not. */
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		bool reads = !(flags[i] & KVM_GET_HTAB_WRITE);

		args.flags = flags[i];
		memset(args.reserved, 0xff, sizeof(args.reserved));
		file = kvmppc_hpt_fd_file(&f->kvm, &fake_ops, &args);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
		KUNIT_EXPECT_EQ(test, !!(file->f_mode & FMODE_READ), reads);
		KUNIT_EXPECT_EQ(test, !!(file->f_mode & FMODE_WRITE), !reads);
		/* No position: no pread() or pwrite() either. */
		KUNIT_EXPECT_EQ(test, vfs_llseek(file, 0, SEEK_SET), -ESPIPE);
		KUNIT_EXPECT_FALSE(test,
				   file->f_mode & (FMODE_PREAD | FMODE_PWRITE));
		KUNIT_EXPECT_EQ(test, refcount_read(&f->kvm.users_count), 2);
		KUNIT_EXPECT_EQ(test,
				atomic_read(&f->kvm.arch.hpte_mod_interest),
				reads);
		__fput_sync(file);
		KUNIT_EXPECT_EQ(test, refcount_read(&f->kvm.users_count), 1);
		KUNIT_EXPECT_EQ(test,
				atomic_read(&f->kvm.arch.hpte_mod_interest), 0);
	}

	for (i = 2; i < 32; i++) {
		file = fake_open(f, BIT(i) | (i & 3), 0);
		KUNIT_EXPECT_PTR_EQ(test, file, ERR_PTR(-EINVAL));
	}
}

static void test_open_too_large(struct kunit *test)
{
	struct fake *f = test->priv;
	struct file *file;
	unsigned int i;

	/* An index has 32 bits. */
	f->nr = (1UL << 32) + 1;
	file = fake_open(f, 0, 0);
	KUNIT_EXPECT_PTR_EQ(test, file, ERR_PTR(-EOVERFLOW));
	/* The end of the test sees whether all was undone. */
	for (i = 0; i < 1000 && refcount_read(&f->kvm.users_count) > 1; i++) {
		flush_delayed_fput();
		fsleep(1000);
	}
	f->nr = 0;
}

/* Who closes it need not wait for those who have the table */
static void test_close_while_held(struct kunit *test)
{
	struct fake *f = test->priv;
	struct reader *r;

	fake_table(f, 64);
	fake_set_range(f, 3, 5, VALID);
	r = open_reader(f, 0, 0, 0);
	reader_drain(r, 500);
	f->held = true;
	close_reader(r);
	f->held = false;
}

static void test_read_sizes_too_small(struct kunit *test)
{
	struct fake *f = test->priv;
	struct reader *r;
	size_t size;

	fake_table(f, 64);
	fake_set_range(f, 3, 5, VALID);
	r = open_reader(f, 0, 0, 0);
	for (size = 0; size < MIN_READ; size++)
		KUNIT_EXPECT_EQ(test, reader_read(r, size), -EINVAL);

	/* Nothing was lost by that, in the first pass or in a later one. */
	reader_drain(r, MIN_READ);
	fake_set(f, 1, VALID);
	for (size = 0; size < MIN_READ; size++)
		KUNIT_EXPECT_EQ(test, reader_read(r, size), -EINVAL);
	KUNIT_EXPECT_EQ(test, reader_read(r, MIN_READ), MIN_READ);
	reader_drain(r, MIN_READ);
}

static void test_read_small_buffers(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned int i, j;
	size_t size;

	/* All sizes, patterns of valid HPTEs and patterns of changed ones. */
	for (i = 0; i < ARRAY_SIZE(patterns); i++) {
		for (size = MIN_READ; size <= 200; size++) {
			struct reader *r;

			fake_table(f, 67);
			fake_fill(f, all, patterns[i]);
			r = open_reader(f, 0, 0, 0);
			reader_drain(r, size);
			for (j = 0; j < ARRAY_SIZE(patterns); j++) {
				unsigned int k = (i + j + size) %
						 ARRAY_SIZE(patterns);

				fake_fill(f, patterns[j], patterns[k]);
				reader_drain(r, size);
			}
			close_reader(r);
		}
	}
}

static void test_read_as_many_as_fit(struct kunit *test)
{
	struct fake *f = test->priv;
	struct reader *r;
	size_t n, size;

	fake_table(f, 4096);
	fake_set_range(f, 0, 4096, VALID);
	r = open_reader(f, 0, 0, 0);
	for (n = 1; n <= 12; n++) {
		for (size = HEADER_SIZE + n * ENTRY_SIZE;
		     size < HEADER_SIZE + (n + 1) * ENTRY_SIZE; size++) {
			unsigned long index = r->pos;

			KUNIT_EXPECT_EQ(test, reader_read(r, size),
					HEADER_SIZE + n * ENTRY_SIZE);
			expect_record(f, 0, index, n, 0);
		}
	}
}

static void test_read_split_valid(struct kunit *test)
{
	static const unsigned long counts[] = { 65534, 65535, 65536, 131071 };
	struct fake *f = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		unsigned long n = counts[i];
		struct reader *r;

		fake_table(f, 132000);
		fake_set_range(f, 0, n, VALID);
		r = open_reader(f, 0, 0, 0);

		/* Into buffers that end in the middle of an HPTE, too. */
		KUNIT_EXPECT_GT(test, reader_read(r, 30 * ENTRY_SIZE + 7), 0L);
		KUNIT_EXPECT_GT(test, reader_read(r, CHUNK + 9), 0L);
		reader_drain(r, BUF_SIZE);
		fake_set_range(f, 0, n, VALID);
		reader_drain(r, BUF_SIZE);
		fake_set_range(f, 0, n, INVALID);
		reader_drain(r, BUF_SIZE);
		close_reader(r);
	}
}

static void test_read_split_invalid(struct kunit *test)
{
	static const unsigned long counts[] = { 65534, 65535, 65536, 131071 };
	struct fake *f = test->priv;
	unsigned int i, pass;

	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		unsigned long n = counts[i];
		struct reader *r;

		fake_table(f, 132000);
		fake_set_range(f, n, n + 3, VALID);
		r = open_reader(f, 0, 0, 0);
		for (pass = 0; pass < 2; pass++) {
			unsigned long left, done = 0;
			size_t at = 0;

			KUNIT_EXPECT_GT(test, reader_read(r, CHUNK), 0L);
			for (left = n; left; left -= done) {
				done = min(left, 65535UL);
				at = expect_record(f, at, n - left, 0, done);
			}
			expect_record(f, at, n, 3, min(132000 - n - 3, 65535));
			reader_drain(r, CHUNK);

			fake_set_range(f, 0, f->nr, INVALID);
			fake_set_range(f, n, n + 3, VALID);
		}

		/* With room for one record at a time. */
		reader_drain(r, MIN_READ);
		close_reader(r);
	}
}

static void test_read_split_both(struct kunit *test)
{
	static const unsigned long counts[] = { 65534, 65535, 65536, 131071 };
	struct fake *f = test->priv;
	unsigned int i;

	/* The first HPTEs are valid, and then some are not. */
	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		unsigned long n = counts[i];
		struct reader *r;
		size_t at;

		fake_table(f, 132000);
		fake_set_range(f, 0, 10, VALID);
		fake_set_range(f, 10 + n, f->nr, VALID);
		r = open_reader(f, 0, 0, 0);
		KUNIT_EXPECT_GT(test, reader_read(r, 400), 0L);
		at = expect_record(f, 0, 0, 10, min(n, 65535));
		if (n > 65535)
			at = expect_record(f, at, 10 + 65535, 0,
					   min(n - 65535, 65535));
		if (n > 2 * 65535)
			at = expect_record(f, at, 10 + 2 * 65535, 0,
					   n - 2 * 65535);
		reader_drain(r, BUF_SIZE);
		close_reader(r);
	}
}

static void test_read_bolted(struct kunit *test)
{
	static const u64 before[] = {
		INVALID, VALID, HPTE_V_BOLTED, BOLTED, BOLTED,
	};
	static const u64 after[] = {
		BOLTED, HPTE_V_BOLTED, VALID, VALID, INVALID,
	};
	struct fake *f = test->priv;
	struct reader *r;
	unsigned long i;
	size_t size;

	for (size = MIN_READ; size <= 200; size += 11) {
		fake_table(f, 200);
		for (i = 0; i < f->nr; i++)
			fake_set(f, i, before[(i ^ i / 7) % 5]);
		r = open_reader(f, 0, KVM_GET_HTAB_BOLTED_ONLY, 0);
		reader_drain(r, size);

		/* What goes from one kind to the other. */
		for (i = 0; i < f->nr; i += 3)
			fake_set(f, i, after[i % 5]);
		reader_drain(r, size);
		close_reader(r);
	}

	fake_table(f, 200);
	fake_set_range(f, 0, 100, VALID);
	fake_set_range(f, 100, 103, BOLTED);
	r = open_reader(f, 0, KVM_GET_HTAB_BOLTED_ONLY, 0);
	KUNIT_EXPECT_EQ(test, reader_read(r, 400), 2 * HEADER_SIZE + 3 * ENTRY_SIZE);
	expect_record(f, expect_record(f, 0, 0, 0, 100), 100, 3, 97);
}

static void test_read_start_index(struct kunit *test)
{
	static const u64 starts[] = {
		0, 1, 63, 64, 65, 100, 127, 128, 198, 199, 200, 201, 4096,
		U32_MAX, 1ULL << 32, (1ULL << 32) + 5, 1ULL << 63, U64_MAX,
	};
	struct fake *f = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(starts); i++) {
		struct reader *r;

		fake_table(f, 200);
		fake_fill(f, all, uneven);
		r = open_reader(f, 0, 0, starts[i]);
		if (starts[i] < f->nr) {
			ssize_t got = reader_read(r, BUF_SIZE);

			KUNIT_ASSERT_GT(test, got, 0L);
			KUNIT_EXPECT_EQ(test, *(u32 *)f->got, starts[i]);
		} else {
			/* Changes before the start are left to the next pass. */
			fake_set(f, 5, VALID);
			KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), 0);
		}
		reader_drain(r, 100);

		/* What comes before the start comes when it changes. */
		fake_set(f, 0, VALID);
		fake_set(f, min(starts[i], f->nr) / 2, VALID);
		fake_set(f, f->nr - 1, INVALID);
		reader_drain(r, 100);
		close_reader(r);

		/* In small pieces, with a change on the way. */
		r = open_reader(f, 0, 0, starts[i]);
		reader_read(r, 60);
		fake_set_range(f, 60, 70, VALID);
		reader_drain(r, 60);

		/* A reset begins there as well, and goes on with the rest. */
		fake_table(f, 200);
		fake_fill(f, all, runs);
		if (starts[i] >= f->nr)
			KUNIT_EXPECT_EQ(test, reader_read(r, 100), 0);
		reader_drain(r, 100);
		close_reader(r);
	}
}

static void test_read_changes(struct kunit *test)
{
	struct fake *f = test->priv;
	struct reader *r;

	fake_table(f, 3 * STRETCH);
	fake_fill(f, all, uneven);
	r = open_reader(f, 0, 0, 0);
	reader_drain(r, BUF_SIZE);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), 0);

	/* One, at either end and at those of a stretch. */
	fake_set(f, 0, VALID);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), MIN_READ);
	expect_record(f, 0, 0, 1, 0);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), 0);
	fake_set(f, f->nr - 1, INVALID);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), HEADER_SIZE);
	expect_record(f, 0, f->nr - 1, 0, 1);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), 0);
	fake_set_range(f, STRETCH - 1, STRETCH + 1, VALID);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), HEADER_SIZE + 2 * ENTRY_SIZE);
	expect_record(f, 0, STRETCH - 1, 2, 0);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), 0);

	/* Several times the same. */
	fake_set(f, 77, VALID);
	fake_set(f, 77, INVALID);
	fake_set(f, 77, VALID);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), MIN_READ);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), 0);

	/* While the pass is elsewhere: before, at and after its place. */
	fake_set(f, 1000, VALID);
	fake_set(f, 2000, VALID);
	fake_set(f, 2500, VALID);
	fake_set(f, 3000, VALID);
	KUNIT_EXPECT_EQ(test, reader_read(r, MIN_READ), MIN_READ);
	KUNIT_EXPECT_EQ(test, reader_read(r, MIN_READ), MIN_READ);
	expect_record(f, 0, 2000, 1, 0);
	fake_set(f, 1500, VALID);
	fake_set(f, 2500, INVALID);
	fake_set(f, 2800, VALID);
	KUNIT_EXPECT_EQ(test, reader_read(r, MIN_READ), HEADER_SIZE);
	expect_record(f, 0, 2500, 0, 1);
	KUNIT_EXPECT_EQ(test, reader_read(r, MIN_READ), MIN_READ);
	expect_record(f, 0, 2800, 1, 0);
	KUNIT_EXPECT_EQ(test, reader_read(r, MIN_READ), MIN_READ);
	expect_record(f, 0, 3000, 1, 0);
	KUNIT_EXPECT_EQ(test, reader_read(r, MIN_READ), MIN_READ);
	expect_record(f, 0, 1500, 1, 0);
	KUNIT_EXPECT_EQ(test, reader_read(r, MIN_READ), 0);
	reader_compare(r);
}

static void test_read_end_of_pass(struct kunit *test)
{
	struct fake *f = test->priv;
	struct reader *r;

	/* A pass that returns something ends the read, as full as it may be. */
	fake_table(f, 3 * STRETCH);
	fake_set_range(f, 10, 15, VALID);
	r = open_reader(f, 0, 0, 0);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), 2 * HEADER_SIZE + 5 * ENTRY_SIZE);
	fake_set(f, 3, VALID);
	fake_set(f, 9000, VALID);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), 2 * MIN_READ);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), 0);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), 0);

	/* The last one of a pass fits exactly, or with room for a header. */
	fake_set(f, 5000, VALID);
	fake_set(f, f->nr - 1, VALID);
	KUNIT_EXPECT_EQ(test, reader_read(r, 2 * MIN_READ), 2 * MIN_READ);
	fake_set(f, f->nr - 1, VALID);
	KUNIT_EXPECT_EQ(test, reader_read(r, MIN_READ + 8), MIN_READ);
	KUNIT_EXPECT_EQ(test, reader_read(r, MIN_READ), 0);
	reader_compare(r);

	/* What is left in the middle is found from any place. */
	fake_set(f, 100, VALID);
	fake_set(f, 5000, VALID);
	KUNIT_EXPECT_EQ(test, reader_read(r, MIN_READ), MIN_READ);
	fake_set(f, 50, INVALID);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), MIN_READ);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), HEADER_SIZE);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), 0);
	reader_compare(r);
}

/* An interruption leaves a reader in the middle of a table. */
static void test_read_goes_around(struct kunit *test)
{
	struct fake *f = test->priv;
	struct reader *r;
	unsigned int i;

	fake_table(f, 3 * STRETCH);
	r = open_reader(f, 0, 0, 0);
	reader_drain(r, BUF_SIZE);

	for (i = 1; i < 3; i++) {
		unsigned int pending;

		/* Before that place, behind it, both or none. */
		for (pending = 0; pending < 4; pending++) {
			f->hook_err = -EINTR;
			fake_arm(f, hook_fail, AT_HOLD, i);
			r->stop = i * STRETCH;
			r->stop_err = -ERESTARTSYS;
			KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE),
					-ERESTARTSYS);
			f->hook = NULL;
			r->stop = 0;

			if (pending & 1)
				fake_set(f, 100, VALID);
			if (pending & 2)
				fake_set(f, f->nr - 100, INVALID);
			if (pending & 2)
				KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE),
						HEADER_SIZE);
			if (pending & 1)
				KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE),
						MIN_READ);
			KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), 0);
			reader_compare(r);
		}
	}
}

static void test_read_several_readers(struct kunit *test)
{
	struct fake *f = test->priv;
	struct reader *a, *b, *c;

	fake_table(f, 3 * STRETCH);
	fake_fill(f, all, uneven);
	a = open_reader(f, 0, 0, 0);
	reader_drain(a, BUF_SIZE);

	/* What changed before the second came is not taken from the first. */
	fake_set(f, 10, VALID);
	fake_set(f, 5000, VALID);
	b = open_reader(f, 1, 0, 4000);
	fake_set(f, 20, VALID);
	fake_set(f, 6000, VALID);
	reader_drain(b, BUF_SIZE);
	KUNIT_EXPECT_FALSE(test, test_bit(10, b->known));
	KUNIT_EXPECT_TRUE(test, test_bit(20, b->known));
	KUNIT_EXPECT_EQ(test, reader_read(a, BUF_SIZE), 4 * MIN_READ);
	KUNIT_EXPECT_EQ(test, reader_read(a, BUF_SIZE), 0);
	reader_compare(a);

	/* A third in its first pass, the others in the middle of a later one. */
	c = open_reader(f, 2, KVM_GET_HTAB_BOLTED_ONLY, 0);
	fake_set_range(f, 8000, 8100, VALID);
	KUNIT_EXPECT_GT(test, reader_read(c, 1000), 0L);
	KUNIT_EXPECT_GT(test, reader_read(a, 1000), 0L);
	fake_set_range(f, 0, 10, BOLTED);
	fake_set_range(f, 8050, 8060, INVALID);
	KUNIT_EXPECT_GT(test, reader_read(b, 100), 0L);
	KUNIT_EXPECT_GT(test, reader_read(c, 64), 0L);
	reader_drain(a, 200);
	reader_drain(b, 300);
	reader_drain(c, 400);

	/* One that goes takes nothing along. */
	fake_set(f, 1, VALID);
	fake_set(f, f->nr - 1, VALID);
	KUNIT_EXPECT_EQ(test, reader_read(a, MIN_READ), MIN_READ);
	close_reader(a);
	KUNIT_EXPECT_EQ(test, reader_read(b, BUF_SIZE), 2 * MIN_READ);
	reader_drain(c, BUF_SIZE);
}

/* The hardware has set R, which comes out only when the HPTE is read. */
static void test_read_finds_more(struct kunit *test)
{
	struct fake *f = test->priv;
	struct reader *a, *b;

	fake_table(f, 200);
	fake_set_range(f, 0, f->nr, VALID);
	a = open_reader(f, 0, 0, 0);
	b = open_reader(f, 1, 0, 0);
	reader_drain(a, BUF_SIZE);
	reader_drain(b, BUF_SIZE);

	fake_set_range(f, 50, 60, VALID);
	reader_drain(a, BUF_SIZE);
	__set_bit(55, f->touched);
	KUNIT_EXPECT_EQ(test, reader_read(b, 400),
			HEADER_SIZE + 10 * ENTRY_SIZE);

	/* It is news to the other, and no longer to who found it. */
	KUNIT_EXPECT_EQ(test, reader_read(b, 400), 0);
	KUNIT_EXPECT_EQ(test, reader_read(a, 400), MIN_READ);
	expect_record(f, 0, 55, 1, 0);
	reader_drain(a, BUF_SIZE);
	reader_compare(b);
}

/* More than one buffer of the kernel's, and several of the user's. */
static void test_read_segments(struct kunit *test)
{
	struct fake *f = test->priv;
	struct kvec segments[8];
	struct reader *r;
	size_t split, size;
	unsigned int i;
	ssize_t got;

	fake_table(f, 64);
	r = open_reader(f, 0, 0, 0);
	for (split = 0; split <= 160; split++) {
		fake_fill(f, all, uneven);
		segments[0].iov_base = f->got;
		segments[0].iov_len = split;
		segments[1].iov_base = f->got + split;
		segments[1].iov_len = 160 - split;
		got = read_segments(r->file, segments, 2, 160);
		reader_check(r, got, 160, SIZE_MAX);
		reader_drain(r, 200);
	}
	close_reader(r);

	/* Together they must be large enough, not each. */
	fake_table(f, 64);
	fake_set_range(f, 0, 64, VALID);
	r = open_reader(f, 0, 0, 0);
	for (i = 0; i < 8; i++) {
		segments[i].iov_base = f->got + 3 * i;
		segments[i].iov_len = 3;
	}
	got = read_segments(r->file, segments, 7, 21);
	reader_check(r, got, 21, SIZE_MAX);
	KUNIT_EXPECT_EQ(test, got, -EINVAL);
	got = read_segments(r->file, segments, 8, 24);
	reader_check(r, got, 24, SIZE_MAX);
	KUNIT_EXPECT_EQ(test, got, MIN_READ);
	close_reader(r);

	/* Long ones. */
	fake_table(f, 20000);
	fake_set_range(f, 0, 20000, VALID);
	r = open_reader(f, 0, 0, 0);
	for (i = 0, size = 0; i < 8; i++) {
		segments[i].iov_base = f->got + size;
		segments[i].iov_len = i * 9001;
		size += i * 9001;
	}
	got = read_segments(r->file, segments, 8, size);
	KUNIT_EXPECT_GT(test, got, (ssize_t)size - (ssize_t)MIN_READ);
	reader_check(r, got, size, SIZE_MAX);
	reader_drain(r, BUF_SIZE);
}

/* User memory that ends at the address returned, and none behind it. */
static unsigned long user_memory(struct kunit *test, size_t size)
{
	unsigned long start, end;

	size = PAGE_ALIGN(size);
	start = kunit_vm_mmap(test, NULL, 0, size + PAGE_SIZE,
			      PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_NE(test, start, 0UL);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(start));
	end = start + size;
	KUNIT_ASSERT_EQ(test, vm_munmap(end, PAGE_SIZE), 0);
	return end;
}

static ssize_t user_read(struct file *file, unsigned long addr, size_t size)
{
	struct iov_iter iter;

	iov_iter_ubuf(&iter, ITER_DEST, (void __user *)addr, size);
	return vfs_iter_read(file, &iter, NULL, 0);
}

/* Read to where only @reach bytes can be written. */
static ssize_t reader_read_fault(struct reader *r, unsigned long end,
				 size_t size, size_t reach)
{
	struct fake *f = r->f;
	ssize_t got = user_read(r->file, end - reach, size);

	KUNIT_ASSERT_LE(f->test, got, (ssize_t)min(size, reach));
	if (got > 0)
		KUNIT_ASSERT_EQ(f->test,
				copy_from_user(f->got,
					       (void __user *)(end - reach),
					       got), 0);
	reader_check(r, got, size, reach);
	return got;
}

static void test_read_fault(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long end = user_memory(test, CHUNK);
	struct reader *r, *other;
	unsigned int i;
	size_t reach;

	fake_table(f, 64);
	r = open_reader(f, 0, 0, 0);
	other = open_reader(f, 1, 0, 0);
	reader_drain(other, BUF_SIZE);

	/* Wherever it stops, the rest comes later, and to the other reader. */
	for (i = 0; i < ARRAY_SIZE(patterns); i++) {
		for (reach = 0; reach <= 300; reach++) {
			fake_fill(f, all, patterns[i]);
			reader_read_fault(r, end, 280, reach);
			reader_read_fault(r, end, 280, reach / 2);
			/* With changes to what was not returned, or was. */
			fake_set_range(f, reach % 64, reach % 64 + 1, VALID);
			reader_read_fault(r, end, 280, 100);
			reader_drain(r, 280);
			reader_drain(other, 280);
		}
	}

	/* All of it, several times over. */
	fake_fill(f, all, uneven);
	for (i = 0; i < 3; i++)
		KUNIT_EXPECT_EQ(test, reader_read_fault(r, end, 280, 7),
				-EFAULT);
	reader_drain(r, MIN_READ);
}

static void test_read_fault_in_first_pass(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long end = user_memory(test, CHUNK);
	size_t reach;

	for (reach = 0; reach <= 200; reach += 5) {
		struct reader *r;

		fake_table(f, 100);
		fake_fill(f, all, uneven);
		r = open_reader(f, 0, 0, 13);
		reader_read_fault(r, end, 200, reach);
		reader_read_fault(r, end, 200, reach);
		reader_drain(r, 77);
		close_reader(r);
	}
}

static void test_read_fault_far_in(struct kunit *test)
{
	static const size_t reaches[] = {
		CHUNK - 17, CHUNK - 8, CHUNK - 1, CHUNK, CHUNK + 1, CHUNK + 8,
		CHUNK + 24, 2 * CHUNK - 16, 2 * CHUNK - 1, 2 * CHUNK + 1000,
	};
	struct fake *f = test->priv;
	unsigned long end = user_memory(test, 4 * CHUNK);
	struct reader *r;
	unsigned int i;

	fake_table(f, 4 * STRETCH);
	r = open_reader(f, 0, 0, 0);
	for (i = 0; i < ARRAY_SIZE(reaches); i++) {
		fake_set_range(f, 0, f->nr, VALID);
		reader_read_fault(r, end, 4 * CHUNK, reaches[i]);
		reader_drain(r, BUF_SIZE);

		/* Records of all lengths, and gaps between them. */
		fake_fill(f, runs, uneven);
		reader_read_fault(r, end, 4 * CHUNK, reaches[i]);
		fake_set(f, 1, INVALID);
		reader_drain(r, BUF_SIZE);
	}
}

/* Interrupt reads after each stretch of the table, in four passes. */
static void read_interrupted(struct fake *f, struct reader *r, bool by_signal,
			     int err)
{
	static bool (*const pending[])(unsigned long i) = {
		NULL, all, single, runs,
	};
	unsigned int i, stretch;

	for (i = 0; i < ARRAY_SIZE(pending); i++) {
		for (stretch = 0; stretch < r->nr / STRETCH; stretch++) {
			ssize_t got;

			if (pending[i])
				fake_fill(f, pending[i], none);
			if (by_signal) {
				fake_arm(f, hook_signal, AT_RELEASE, 0);
			} else {
				f->hook_err = err;
				fake_arm(f, hook_fail, AT_HOLD, 1);
			}
			r->stop = round_down(r->pos, STRETCH) + STRETCH;
			r->stop_err = err == -EINTR ? -ERESTARTSYS : err;
			got = kernel_read(r->file, f->got, BUF_SIZE, NULL);
			f->hook = NULL;
			flush_signals(current);
			reader_check(r, got, BUF_SIZE, SIZE_MAX);
			r->stop = 0;
		}
		reader_drain(r, BUF_SIZE);
	}
}

static void test_read_interrupted(struct kunit *test)
{
	struct fake *f = test->priv;
	struct reader *r;

	fake_table(f, 3 * STRETCH);
	r = open_reader(f, 0, 0, 0);
	read_interrupted(f, r, false, -EINTR);
	close_reader(r);

	fake_table(f, 3 * STRETCH);
	r = open_reader(f, 0, 0, 0);
	read_interrupted(f, r, false, -EBUSY);
	close_reader(r);

	allow_signal(SIGUSR1);
	fake_table(f, 3 * STRETCH);
	r = open_reader(f, 0, 0, 0);
	read_interrupted(f, r, true, -EINTR);
}

/* What a test leaves to a hook to do once. */
static int hook_reset(struct fake *f, enum call at, unsigned long index)
{
	if (hook_due(f, at)) {
		f->hook = NULL;
		fake_table(f, f->nr);
		fake_fill(f, all, runs);
	}
	return 0;
}

static int hook_replace(struct fake *f, enum call at, unsigned long index)
{
	if (hook_due(f, at)) {
		f->hook = NULL;
		fake_table(f, f->nr * 2);
		fake_fill(f, all, runs);
	}
	return 0;
}

static int hook_give_up(struct fake *f, enum call at, unsigned long index)
{
	if (hook_due(f, at)) {
		f->hook = NULL;
		fake_table(f, 0);
	}
	return 0;
}

static void test_read_reset(struct kunit *test)
{
	struct fake *f = test->priv;
	struct reader *r, *other;
	unsigned int i;

	fake_table(f, 3 * STRETCH);
	fake_fill(f, all, uneven);
	r = open_reader(f, 0, 0, 0);
	other = open_reader(f, 1, 0, 5000);

	/* In the first pass, at its end, and later. */
	for (i = 0; i < 4; i++) {
		if (i)
			reader_read(r, 1000);
		if (i == 2)
			reader_drain(r, BUF_SIZE);
		if (i == 3) {
			fake_set_range(f, 100, 200, VALID);
			reader_read(r, 100);
		}
		fake_table(f, 3 * STRETCH);
		if (i & 1)
			fake_fill(f, single, all);
		reader_read(r, 100);
		fake_set(f, 1, VALID);
		fake_set(f, f->nr - 1, VALID);
		reader_drain(r, BUF_SIZE);
	}
	reader_drain(other, 999);
}

static void test_read_reset_under_way(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned int after, start;

	/* Between two stretches: what was gathered is of the old table. */
	for (start = 0; start < 2; start++) {
		struct reader *r;

		for (after = 0; after < 3 - start; after++) {
			fake_table(f, 3 * STRETCH);
			r = open_reader(f, 0, 0, start * 5000);
			fake_arm(f, hook_reset, AT_HOLD, after);
			reader_read(r, BUF_SIZE);
			KUNIT_EXPECT_NULL(test, f->hook);
			reader_drain(r, BUF_SIZE);
			close_reader(r);
		}

		/* In a later pass, even where that has just been. */
		fake_table(f, 3 * STRETCH);
		r = open_reader(f, 0, 0, start * 5000);
		for (after = 0; after < 3; after++) {
			reader_drain(r, BUF_SIZE);
			fake_set(f, 10, VALID);
			fake_set_range(f, 4990, 5000, VALID);
			fake_arm(f, hook_reset, AT_HOLD, after);
			reader_read(r, BUF_SIZE);
			KUNIT_EXPECT_NULL(test, f->hook);
			reader_drain(r, BUF_SIZE);
		}
		close_reader(r);
	}
}

/* A reset that comes when the records are made, but not yet with the user. */
static void test_read_reset_before_copy(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long end = user_memory(test, CHUNK);
	struct reader *r;
	ssize_t got;

	fake_table(f, 1000);
	fake_set_range(f, 0, 1000, VALID);
	r = open_reader(f, 0, 0, 0);

	fake_arm(f, hook_reset, AT_RELEASE, 0);
	got = kernel_read(r->file, f->got, 100, NULL);
	KUNIT_EXPECT_NULL(test, f->hook);
	KUNIT_EXPECT_EQ(test, got, HEADER_SIZE + 5 * ENTRY_SIZE);
	expect_record(f, 0, 0, 5, 0);
	reader_replay(r, f->got, got);
	reader_drain(r, 100);

	/* And fail to get there. */
	fake_fill(f, uneven, all);
	fake_arm(f, hook_reset, AT_RELEASE, 0);
	got = user_read(r->file, end - 30, 100);
	KUNIT_EXPECT_NULL(test, f->hook);
	KUNIT_ASSERT_EQ(test, got, MIN_READ);
	KUNIT_ASSERT_EQ(test, copy_from_user(f->got, (void __user *)(end - 30), got), 0);
	reader_replay(r, f->got, got);
	reader_drain(r, 100);
}

static void test_read_stale(struct kunit *test)
{
	struct fake *f = test->priv;
	struct reader *a, *b;
	unsigned int i;

	/* A small table, and one whose last HPTE is far from the bitmap's end. */
	fake_table(f, 64);
	a = open_reader(f, 0, 0, 0);
	fake_table(f, 1 << 20);
	b = open_reader(f, 1, 0, f->nr - 100);
	for (i = 0; i < 2; i++) {
		fake_set(f, f->nr - 1, VALID);
		reader_drain(b, BUF_SIZE);
		KUNIT_EXPECT_EQ(test, kernel_read(a->file, f->got, 100, NULL),
				-ESTALE);
	}
	KUNIT_EXPECT_EQ(test, kernel_read(a->file, f->got, 23, NULL), -EINVAL);

	/* It stays so when a table of its size comes back. */
	fake_table(f, 64);
	KUNIT_EXPECT_EQ(test, kernel_read(a->file, f->got, 100, NULL), -ESTALE);
	KUNIT_EXPECT_EQ(test, kernel_read(b->file, f->got, 100, NULL), -ESTALE);
	close_reader(a);
	a = open_reader(f, 0, 0, 0);
	reader_drain(a, 100);
	KUNIT_EXPECT_EQ(test, kernel_read(b->file, f->got, 100, NULL), -ESTALE);

	/* A reset in between makes no difference. */
	fake_table(f, 64);
	fake_table(f, 128);
	fake_table(f, 128);
	KUNIT_EXPECT_EQ(test, kernel_read(a->file, f->got, 100, NULL), -ESTALE);
}

static void test_read_stale_under_way(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long end = user_memory(test, CHUNK);
	unsigned int after;
	size_t reach;

	for (after = 0; after < 3; after++) {
		struct reader *r;

		fake_table(f, 3 * STRETCH);
		r = open_reader(f, 0, 0, 0);
		fake_arm(f, hook_replace, AT_HOLD, after);
		KUNIT_EXPECT_EQ(test, kernel_read(r->file, f->got, 100, NULL),
				-ESTALE);
		KUNIT_EXPECT_NULL(test, f->hook);
		KUNIT_EXPECT_EQ(test, kernel_read(r->file, f->got, 100, NULL),
				-ESTALE);
		close_reader(r);

		/* There is none any more. */
		fake_table(f, 3 * STRETCH);
		r = open_reader(f, 0, 0, 0);
		fake_arm(f, hook_give_up, AT_HOLD, after);
		KUNIT_EXPECT_EQ(test, kernel_read(r->file, f->got, 100, NULL),
				0);
		KUNIT_EXPECT_NULL(test, f->hook);
		KUNIT_EXPECT_EQ(test, kernel_read(r->file, f->got, 100, NULL),
				0);
		close_reader(r);

		/* What is with the user by then is returned first. */
		fake_table(f, 3 * STRETCH);
		fake_set_range(f, 0, f->nr, VALID);
		r = open_reader(f, 0, 0, 0);
		fake_arm(f, hook_replace, AT_HOLD, 1 + after);
		KUNIT_EXPECT_EQ(test,
				kernel_read(r->file, f->got, BUF_SIZE, NULL),
				(after + 1) * (CHUNK - 8));
		KUNIT_EXPECT_NULL(test, f->hook);
		KUNIT_EXPECT_EQ(test, kernel_read(r->file, f->got, 100, NULL),
				-ESTALE);
		close_reader(r);
	}

	/* What comes too late for the copy, whether that fails or not. */
	for (reach = 0; reach <= 100; reach += 20) {
		struct reader *r;

		fake_table(f, 64);
		fake_set_range(f, 0, f->nr, VALID);
		r = open_reader(f, 0, 0, 0);
		fake_arm(f, hook_replace, AT_RELEASE, 0);
		KUNIT_EXPECT_EQ(test, user_read(r->file, end - reach, 100),
				reach >= 88 ? 88 : -EFAULT);
		KUNIT_EXPECT_NULL(test, f->hook);
		KUNIT_EXPECT_EQ(test, kernel_read(r->file, f->got, 100, NULL),
				-ESTALE);
		close_reader(r);
	}
}

static void test_read_no_table(struct kunit *test)
{
	struct fake *f = test->priv;
	struct reader *r, *late;

	/* No table has been there yet. */
	r = open_reader(f, 0, 0, 0);
	KUNIT_EXPECT_EQ(test, kernel_read(r->file, f->got, 100, NULL), 0);
	KUNIT_EXPECT_EQ(test, kernel_read(r->file, f->got, 23, NULL), -EINVAL);
	late = open_reader(f, 1, 0, 30);

	/* The first that comes is read, by one at once, by the other later. */
	fake_table(f, 64);
	fake_fill(f, all, uneven);
	reader_start(r);
	reader_drain(r, 100);
	fake_set(f, 10, VALID);
	reader_drain(r, 100);

	/* It goes: nothing to be read. */
	fake_table(f, 0);
	KUNIT_EXPECT_EQ(test, kernel_read(r->file, f->got, 100, NULL), 0);
	KUNIT_EXPECT_EQ(test, kernel_read(late->file, f->got, 100, NULL), 0);

	/* Another of its size is not the same. */
	fake_table(f, 64);
	fake_fill(f, all, runs);
	KUNIT_EXPECT_EQ(test, kernel_read(r->file, f->got, 100, NULL), -ESTALE);
	reader_start(late);
	reader_drain(late, 100);

	/* One that has read in between knows as much. */
	fake_table(f, 0);
	KUNIT_EXPECT_EQ(test, kernel_read(late->file, f->got, 100, NULL), 0);
	fake_table(f, 64);
	KUNIT_EXPECT_EQ(test, kernel_read(late->file, f->got, 100, NULL),
			-ESTALE);
}

/* Something changes at every turn, near what is being looked at. */
static int hook_change(struct fake *f, enum call at, unsigned long index)
{
	u32 x = prandom_u32_state(&f->rnd);
	unsigned long i;

	/* Not without end, or a reader might wait for two that agree. */
	if (at == AT_PUT || !f->hook_after)
		return 0;
	f->hook_after--;
	i = min(index + x % 5, f->nr - 1);
	if (x & BIT(20))
		i = x % f->nr;
	fake_set(f, i, x & BIT(21) ? VALID : INVALID);
	if (x & BIT(22))
		__set_bit(i, f->touched);
	return 0;
}

static void test_read_changes_under_way(struct kunit *test)
{
	static const size_t sizes[] = { 24, 25, 32, 40, 47, 64, 100, 200, 4096 };
	struct fake *f = test->priv;
	unsigned int i, j;

	prandom_seed_state(&f->rnd, 1);
	for (i = 0; i < ARRAY_SIZE(patterns); i++) {
		for (j = 0; j < ARRAY_SIZE(sizes); j++) {
			struct reader *r, *other;

			fake_table(f, 80);
			fake_fill(f, all, patterns[i]);
			r = open_reader(f, 0, 0, 0);
			other = open_reader(f, 1, 0, 0);
			fake_arm(f, hook_change, AT_HOLD, 300);
			reader_drain_any(r, sizes[j]);
			fake_arm(f, hook_change, AT_HOLD, 300);
			reader_drain_any(other, sizes[j]);
			reader_drain(r, sizes[j]);
			fake_fill(f, patterns[i], uneven);
			fake_arm(f, hook_change, AT_HOLD, 300);
			reader_drain_any(r, sizes[j]);
			reader_drain(other, sizes[j]);
			close_reader(r);
			close_reader(other);
		}
	}
}

static void test_read_at_random(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long end = user_memory(test, CHUNK);
	unsigned int i;

	prandom_seed_state(&f->rnd, 2);
	fake_table(f, 2 * STRETCH + 1000);
	fake_fill(f, all, uneven);
	open_reader(f, 0, 0, 0);
	open_reader(f, 1, 0, 6000);
	open_reader(f, 2, KVM_GET_HTAB_BOLTED_ONLY, 64);

	for (i = 0; i < 4000; i++) {
		u32 x = prandom_u32_state(&f->rnd);
		struct reader *r = &f->readers[x % MAX_READERS];
		unsigned long first = (x >> 4) % f->nr;
		size_t size;

		switch (prandom_u32_state(&f->rnd) % 16) {
		case 0 ... 4:
			fake_set(f, first, x & BIT(30) ? BOLTED : INVALID);
			break;
		case 5:
			size = x % 200;
			fake_set_range(f, first, min(first + size, f->nr),
				       x & BIT(30) ? VALID : BOLTED);
			break;
		case 6 ... 12:
			size = MIN_READ + (x >> 8) % 300;
			reader_read(r, size);
			break;
		case 13:
			size = MIN_READ + (x >> 8) % 20000;
			reader_read(r, size);
			break;
		case 14:
			size = MIN_READ + (x >> 8) % 500;
			reader_read_fault(r, end, size, x % size);
			break;
		case 15:
			if (x % 64)
				break;
			fake_table(f, f->nr);
			fake_fill(f, all, runs);
			break;
		}
	}
	for (i = 0; i < MAX_READERS; i++)
		reader_drain(&f->readers[i], 500);
}

/* -------------------------------------------------------------- writing */

static void open_writer(struct fake *f)
{
	f->writer = fake_open(f, KVM_GET_HTAB_WRITE, 0);
	if (IS_ERR(f->writer)) {
		int err = PTR_ERR(f->writer);

		f->writer = NULL;
		KUNIT_FAIL_AND_ABORT(f->test, "opened for writing: %d", err);
	}
}

static void close_writer(struct fake *f)
{
	if (f->writer)
		__fput_sync(f->writer);
	f->writer = NULL;
}

/* Add a record to the stream in f->want, which gets @len bytes by that. */
static size_t add_record(struct fake *f, size_t len, u32 index, u16 n_valid,
			 u16 n_invalid)
{
	struct kvm_get_htab_header *rec = f->want + len;
	struct kvm_hpt_entry *hptes = (void *)(rec + 1);
	unsigned int i;

	rec->index = index;
	rec->n_valid = n_valid;
	rec->n_invalid = n_invalid;
	for (i = 0; i < n_valid; i++)
		hptes[i] = fake_new_hpte(f, VALID);
	return len + record_size(rec);
}

/*
 * What a write of @len bytes has to return, and to make of the table, one HPTE
 * after the other.
 */
static ssize_t model_write(struct fake *f, const void *buf, size_t len)
{
	size_t done = 0;

	memcpy(f->wanted, f->hptes, f->nr * ENTRY_SIZE);
	while (done < len) {
		const struct kvm_get_htab_header *rec = buf + done;
		const struct kvm_hpt_entry *hptes = (const void *)(rec + 1);
		unsigned int i;
		u64 index;

		if (len - done < HEADER_SIZE || len - done < record_size(rec))
			goto bad;
		index = rec->index;
		if (index >= f->nr || index + rec->n_valid > f->nr ||
		    index + rec->n_valid + rec->n_invalid > f->nr)
			goto bad;
		for (i = 0; i < rec->n_valid; i++)
			if (!(be64_to_cpu(hptes[i].v) & HPTE_V_VALID))
				goto bad;

		for (i = 0; i < rec->n_valid; i++)
			f->wanted[index++] = hptes[i];
		for (i = 0; i < rec->n_invalid; i++)
			f->wanted[index++] = (struct kvm_hpt_entry){};
		done += record_size(rec);
	}
	return done;
bad:
	return done ?: -EINVAL;
}

/* A write has returned @got: it must be what the model says, as the table is. */
static void writer_check(struct fake *f, ssize_t got, ssize_t want)
{
	KUNIT_ASSERT_STREQ(f->test, f->misuse ?: "", "");
	KUNIT_ASSERT_EQ(f->test, got, want);
	KUNIT_ASSERT_EQ(f->test, memcmp(f->hptes, f->wanted, f->nr * ENTRY_SIZE), 0);
}

/* Write the first @len bytes of the stream in f->want. */
static ssize_t writer_write(struct fake *f, size_t len)
{
	ssize_t want = model_write(f, f->want, len);
	ssize_t got = kernel_write(f->writer, f->want, len, NULL);

	writer_check(f, got, want);
	return got;
}

static ssize_t write_segments(struct file *file, const struct kvec *segments,
			      unsigned int n, size_t size)
{
	struct iov_iter iter;

	iov_iter_kvec(&iter, ITER_SOURCE, segments, n, size);
	return vfs_iter_write(file, &iter, NULL, 0);
}

static void test_write_mixed(struct kunit *test)
{
	struct fake *f = test->priv;
	struct reader *r;
	unsigned int v, i;
	size_t len;

	fake_table(f, 64);
	fake_fill(f, all, alternating);
	open_writer(f);
	KUNIT_EXPECT_EQ(test, writer_write(f, 0), 0);

	/* Over what is valid and what is not, alone and in a row. */
	for (v = 0; v < 5; v++) {
		for (i = 0; i < 5; i++) {
			len = add_record(f, 0, 20 + v, v, i);
			KUNIT_EXPECT_EQ(test, writer_write(f, len), len);
		}
	}
	len = 0;
	for (v = 0; v < 5; v++)
		for (i = 0; i < 5; i++)
			len = add_record(f, len, 10 * v + i, v, i);
	KUNIT_EXPECT_EQ(test, writer_write(f, len), len);

	/* The whole table, and the ends of it. */
	len = add_record(f, 0, 0, 40, 24);
	KUNIT_EXPECT_EQ(test, writer_write(f, len), len);
	len = add_record(f, 0, 63, 1, 0);
	len = add_record(f, len, 0, 0, 1);
	KUNIT_EXPECT_EQ(test, writer_write(f, len), len);

	/* Readers get it. */
	r = open_reader(f, 0, 0, 0);
	reader_drain(r, BUF_SIZE);
	len = add_record(f, 0, 30, 3, 2);
	KUNIT_EXPECT_EQ(test, writer_write(f, len), len);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), len);
	expect_record(f, 0, 30, 3, 2);
	reader_drain(r, BUF_SIZE);
}

static void test_write_what_was_read(struct kunit *test)
{
	struct fake *f = test->priv;
	struct reader *r;
	ssize_t got;

	fake_table(f, 200000);
	fake_fill(f, all, uneven);
	fake_set_range(f, 1000, 9000, VALID);
	fake_set_range(f, 50000, 180000, INVALID);
	r = open_reader(f, 0, 0, 0);
	open_writer(f);
	got = reader_read(r, BUF_SIZE);
	KUNIT_ASSERT_GT(test, got, CHUNK);
	reader_compare(r);

	/* The model has left the same in f->want. */
	fake_table(f, 200000);
	fake_fill(f, all, runs);
	KUNIT_EXPECT_EQ(test, writer_write(f, got), got);
	KUNIT_EXPECT_EQ(test, memcmp(f->hptes, r->hptes, f->nr * ENTRY_SIZE),
			0);
}

static void test_write_cut_short(struct kunit *test)
{
	struct fake *f = test->priv;
	size_t first, second, total, len;

	fake_table(f, 64);
	fake_fill(f, all, uneven);
	open_writer(f);
	for (len = 0; ; len++) {
		ssize_t got;

		/* New contents each time, so that what is done is seen. */
		first = add_record(f, 0, 5, 3, 2);
		second = add_record(f, first, 20, 0, 7);
		total = add_record(f, second, 30, 2, 1);
		if (len > total)
			break;
		got = writer_write(f, len);
		if (len && len < first)
			KUNIT_EXPECT_EQ(test, got, -EINVAL);
		else if (len < second)
			KUNIT_EXPECT_EQ(test, got, len ? first : 0);
		else
			KUNIT_EXPECT_EQ(test, got,
					len < total ? second : total);
	}

	/* One that says it is longer than there is. */
	first = add_record(f, 0, 0, 65535, 65535);
	KUNIT_EXPECT_EQ(test, writer_write(f, 8), -EINVAL);
	KUNIT_EXPECT_EQ(test, writer_write(f, 2 * CHUNK), -EINVAL);
}

static void test_write_overlapping(struct kunit *test)
{
	struct fake *f = test->priv;
	size_t len;

	fake_table(f, 64);
	open_writer(f);

	/* The later one wins, whatever the two are. */
	len = add_record(f, 0, 10, 10, 0);
	len = add_record(f, len, 15, 3, 0);
	len = add_record(f, len, 19, 0, 5);
	len = add_record(f, len, 21, 2, 2);
	len = add_record(f, len, 5, 6, 0);
	len = add_record(f, len, 10, 0, 1);
	len = add_record(f, len, 63, 1, 0);
	len = add_record(f, len, 63, 1, 0);
	KUNIT_EXPECT_EQ(test, writer_write(f, len), len);
	KUNIT_EXPECT_FALSE(test, fake_view(f, 10, false).v);
	KUNIT_EXPECT_TRUE(test, fake_view(f, 21, false).v);
	KUNIT_EXPECT_FALSE(test, fake_view(f, 23, false).v);
}

static void test_write_index_overflow(struct kunit *test)
{
	static const struct kvm_get_htab_header bad[] = {
		{ 64, 0, 0 }, { 64, 1, 0 }, { 64, 0, 1 }, { 65, 1, 1 },
		{ 63, 2, 0 }, { 63, 0, 2 }, { 63, 1, 1 }, { 60, 2, 3 },
		{ 0, 65, 0 }, { 0, 0, 65 }, { 0, 64, 1 }, { 0, 1, 64 },
		{ 0, 65535, 0 }, { 0, 0, 65535 }, { 1, 65535, 65535 },
		{ U32_MAX, 0, 0 }, { U32_MAX, 1, 0 }, { U32_MAX, 0, 1 },
		{ U32_MAX, 1, 1 }, { U32_MAX, 2, 0 }, { U32_MAX, 0, 65535 },
		{ U32_MAX, 65535, 65535 }, { U32_MAX - 65534, 65535, 0 },
		{ U32_MAX - 65534, 0, 65535 }, { U32_MAX - 63, 64, 64 },
		{ 1U << 31, 1, 0 }, { 1U << 31, 0, 65535 },
	};
	static const struct kvm_get_htab_header large[] = {
		{ U32_MAX, 2, 0 }, { U32_MAX, 0, 2 }, { U32_MAX, 1, 1 },
		{ U32_MAX - 5, 3, 4 }, { U32_MAX, 65535, 65535 },
	};
	static const struct kvm_get_htab_header good[] = {
		{ 63, 0, 0 }, { 63, 1, 0 }, { 63, 0, 1 }, { 62, 1, 1 },
		{ 0, 64, 0 }, { 0, 0, 64 }, { 0, 63, 1 }, { 0, 1, 63 },
	};
	struct fake *f = test->priv;
	unsigned int i;
	size_t first, len;

	fake_table(f, 64);
	open_writer(f);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		len = add_record(f, 0, bad[i].index, bad[i].n_valid,
				 bad[i].n_invalid);
		KUNIT_EXPECT_EQ_MSG(test, writer_write(f, len), -EINVAL,
				    "case %u", i);

		/* After a good one, and with another behind. */
		first = add_record(f, 0, i, 1, 0);
		len = add_record(f, first, bad[i].index, bad[i].n_valid,
				 bad[i].n_invalid);
		len = add_record(f, len, i + 1, 1, 0);
		KUNIT_EXPECT_EQ_MSG(test, writer_write(f, len), first,
				    "case %u", i);
	}
	for (i = 0; i < ARRAY_SIZE(good); i++) {
		len = add_record(f, 0, good[i].index, good[i].n_valid,
				 good[i].n_invalid);
		KUNIT_EXPECT_EQ_MSG(test, writer_write(f, len), len,
				    "case %u", i);
	}
	close_writer(f);

	/* The largest table of all is one in name only. */
	fake_table(f, 0);
	f->nr = 1UL << 32;
	open_writer(f);
	for (i = 0; i < ARRAY_SIZE(large); i++) {
		len = add_record(f, 0, large[i].index, large[i].n_valid,
				 large[i].n_invalid);
		KUNIT_EXPECT_EQ_MSG(test,
				    kernel_write(f->writer, f->want, len, NULL),
				    -EINVAL, "case %u", i);
	}
	len = add_record(f, 0, U32_MAX, 0, 0);
	KUNIT_EXPECT_EQ(test, kernel_write(f->writer, f->want, len, NULL), len);
	f->nr = 0;
}

static void test_write_empty_record(struct kunit *test)
{
	struct fake *f = test->priv;
	size_t len;

	fake_table(f, 64);
	fake_fill(f, all, uneven);
	open_writer(f);
	len = add_record(f, 0, 0, 0, 0);
	KUNIT_EXPECT_EQ(test, writer_write(f, len), len);
	len = add_record(f, len, 5, 2, 1);
	len = add_record(f, len, 5, 0, 0);
	len = add_record(f, len, 63, 0, 0);
	len = add_record(f, len, 63, 1, 0);
	KUNIT_EXPECT_EQ(test, writer_write(f, len), len);
	KUNIT_EXPECT_EQ(test, f->puts, 2);
}

static void test_write_bad_entry(struct kunit *test)
{
	struct fake *f = test->priv;
	struct kvm_hpt_entry *hptes;
	unsigned int n, bad;
	size_t first, len;

	fake_table(f, 64);
	fake_fill(f, all, uneven);
	open_writer(f);
	for (n = 1; n < 8; n++) {
		for (bad = 0; bad < n; bad++) {
			len = add_record(f, 0, 20, n, 3);
			hptes = f->want + HEADER_SIZE;
			hptes[bad].v &= ~cpu_to_be64(HPTE_V_VALID);
			KUNIT_EXPECT_EQ(test, writer_write(f, len), -EINVAL);
			KUNIT_EXPECT_EQ(test, f->puts, 0);

			first = add_record(f, 0, 5, 1, 1);
			len = add_record(f, first, 20, n, 3);
			hptes = f->want + first + HEADER_SIZE;
			hptes[bad].v &= ~cpu_to_be64(HPTE_V_VALID);
			len = add_record(f, len, 40, 1, 1);
			KUNIT_EXPECT_EQ(test, writer_write(f, len), first);
			KUNIT_EXPECT_EQ(test, f->puts, 1);
			f->puts = 0;
		}
	}
}

static void test_write_flavour_refuses(struct kunit *test)
{
	static const int errs[] = { -EINVAL, -EIO, -ENOMEM };
	struct fake *f = test->priv;
	unsigned int i, after;
	size_t len[5] = {};

	fake_table(f, 64);
	fake_fill(f, all, uneven);
	open_writer(f);
	for (i = 0; i < ARRAY_SIZE(errs); i++) {
		f->hook_err = errs[i];
		for (after = 0; after < 4; after++) {
			len[1] = add_record(f, 0, 4, 2, 1);
			len[2] = add_record(f, len[1], 8, 3, 2);
			len[3] = add_record(f, len[2], 20, 1, 0);
			len[4] = add_record(f, len[3], 7, 2, 2);
			model_write(f, f->want, len[after]);
			fake_arm(f, hook_fail, AT_PUT, after);
			writer_check(f, kernel_write(f->writer, f->want,
						     len[4], NULL),
				     len[after] ?: errs[i]);

			/* What is left, written again, has the error. */
			model_write(f, f->want, 0);
			writer_check(f, kernel_write(f->writer,
						     f->want + len[after],
						     len[4] - len[after], NULL),
				     errs[i]);
			f->hook = NULL;
			writer_write(f, len[4]);
		}
	}

	/* Records without valid HPTEs do not need it. */
	fake_arm(f, hook_fail, AT_PUT, 0);
	len[1] = add_record(f, 0, 4, 0, 9);
	KUNIT_EXPECT_EQ(test, writer_write(f, len[1]), len[1]);
}

/* The table cannot be held, from the start or after some 64K. */
static void test_write_not_now(struct kunit *test)
{
	static const int errs[][2] = {
		{ -EBUSY, -EBUSY }, { -EINTR, -ERESTARTSYS },
	};
	struct fake *f = test->priv;
	size_t len = 0, first = 0;
	unsigned int i;

	fake_table(f, 10000);
	fake_fill(f, all, uneven);
	open_writer(f);
	for (i = 0; i < 90; i++) {
		len = add_record(f, len, i * 100, 99, 1);
		if (len <= CHUNK)
			first = len;
	}
	KUNIT_ASSERT_GT(test, len, 2 * CHUNK);

	for (i = 0; i < ARRAY_SIZE(errs); i++) {
		f->hook_err = errs[i][0];
		fake_arm(f, hook_fail, AT_HOLD, 0);
		model_write(f, f->want, 0);
		writer_check(f, kernel_write(f->writer, f->want, len, NULL),
			     errs[i][1]);
		fake_table(f, 10000);
		fake_arm(f, hook_fail, AT_HOLD, 1);
		model_write(f, f->want, first);
		writer_check(f, kernel_write(f->writer, f->want, len, NULL),
			     first);
	}
	f->hook = NULL;

	/* A signal on the way. */
	allow_signal(SIGUSR1);
	fake_table(f, 10000);
	fake_arm(f, hook_signal, AT_RELEASE, 0);
	model_write(f, f->want, first);
	writer_check(f, kernel_write(f->writer, f->want, len, NULL), first);
	flush_signals(current);
	KUNIT_EXPECT_EQ(test, writer_write(f, len), len);
}

static void test_write_no_table(struct kunit *test)
{
	struct fake *f = test->priv;
	size_t len;

	open_writer(f);
	len = add_record(f, 0, 0, 0, 0);
	KUNIT_EXPECT_EQ(test, kernel_write(f->writer, f->want, len, NULL),
			-EINVAL);
	len = add_record(f, 0, 0, 1, 0);
	KUNIT_EXPECT_EQ(test, kernel_write(f->writer, f->want, len, NULL),
			-EINVAL);

	/* The first one that it meets is the writer's, resets included. */
	fake_table(f, 128);
	fake_table(f, 64);
	KUNIT_EXPECT_EQ(test, writer_write(f, len), len);
	fake_table(f, 64);
	KUNIT_EXPECT_EQ(test, writer_write(f, len), len);
}

/* A stream is not for a table of another size. */
static void test_write_stale(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned int i;
	size_t len;

	len = add_record(f, 0, 0, 1, 0);
	for (i = 0; i < 4; i++) {
		fake_table(f, 64);
		open_writer(f);
		if (i & 1)
			KUNIT_EXPECT_EQ(test, writer_write(f, len), len);
		fake_table(f, i & 2 ? 128 : 0);
		model_write(f, f->want, 0);
		writer_check(f, kernel_write(f->writer, f->want, len, NULL),
			     i & 2 ? -ESTALE : -EINVAL);
		fake_table(f, 64);
		model_write(f, f->want, 0);
		writer_check(f, kernel_write(f->writer, f->want, len, NULL),
			     -ESTALE);
		close_writer(f);
	}

	/* It is replaced, or given up, when a part has been applied. */
	for (i = 0; i < 3; i++) {
		unsigned int n;

		fake_table(f, 3 * STRETCH);
		open_writer(f);
		len = 0;
		for (n = 0; n < 120; n++)
			len = add_record(f, len, n * 100, 98, 2);
		fake_arm(f, i < 2 ? hook_replace : hook_give_up, AT_HOLD,
			 1 + i % 2);
		/* These are as many as fit in a buffer, and make a stretch. */
		KUNIT_EXPECT_EQ(test,
				kernel_write(f->writer, f->want, len, NULL),
				41 * record_size(f->want));
		KUNIT_EXPECT_NULL(test, f->hook);
		model_write(f, f->want, 0);
		writer_check(f, kernel_write(f->writer, f->want, len, NULL),
			     i < 2 ? -ESTALE : -EINVAL);
		close_writer(f);
	}
}

static void test_write_other_process(struct kunit *test)
{
	struct fake *f = test->priv;
	size_t len;

	fake_table(f, 64);
	open_writer(f);
	len = add_record(f, 0, 0, 1, 0);
	/* Gives this thread an mm, unlike the VM. */
	user_memory(test, CHUNK);
	model_write(f, f->want, 0);
	writer_check(f, kernel_write(f->writer, f->want, len, NULL), -EIO);
	f->kvm.mm = current->mm;
	KUNIT_EXPECT_EQ(test, writer_write(f, len), len);
}

/* Records longer than the kernel's first buffer. */
static void test_write_long_records(struct kunit *test)
{
	static const unsigned int counts[] = {
		4095, 4096, 4097, 10000, 65534, 65535,
	};
	struct fake *f = test->priv;
	size_t first, second, len;
	unsigned int i;

	fake_table(f, 200000);
	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		unsigned int n = counts[i];

		/* A writer afresh, since its buffer stays grown. */
		open_writer(f);
		first = add_record(f, 0, 7, n, 65535);
		KUNIT_EXPECT_EQ(test, writer_write(f, first - 1), -EINVAL);
		KUNIT_EXPECT_EQ(test, writer_write(f, first - ENTRY_SIZE), -EINVAL);
		KUNIT_EXPECT_EQ(test, writer_write(f, first), first);

		/* Between others. */
		first = add_record(f, 0, 0, 3, 3);
		second = add_record(f, first, 9, n, 1);
		len = add_record(f, second, 70000, n, 0);
		KUNIT_EXPECT_EQ(test, writer_write(f, second - 1), first);
		KUNIT_EXPECT_EQ(test, writer_write(f, second), second);
		KUNIT_EXPECT_EQ(test, writer_write(f, len - 8), second);
		len = add_record(f, len, 199999, 1, 0);
		KUNIT_EXPECT_EQ(test, writer_write(f, len), len);

		/* A bad one changes nothing, however long. */
		len = add_record(f, 0, 200000 - n + 1, n, 0);
		KUNIT_EXPECT_EQ(test, writer_write(f, len), -EINVAL);
		len = add_record(f, 0, 0, n, 0);
		((struct kvm_hpt_entry *)(f->want + len))[-1].v = 0;
		KUNIT_EXPECT_EQ(test, writer_write(f, len), -EINVAL);
		close_writer(f);
	}
}

/* A record goes across the end of the kernel's buffer, at every place. */
static void test_write_across_buffers(struct kunit *test)
{
	struct fake *f = test->priv;
	size_t place, len;

	fake_table(f, 5000);
	open_writer(f);
	for (place = CHUNK - 64; place <= CHUNK + HEADER_SIZE; place += HEADER_SIZE) {
		unsigned int empty;

		len = add_record(f, 0, 50, 4080, 2);
		KUNIT_ASSERT_LT(test, len, place);
		for (empty = 0; len < place; empty++)
			len = add_record(f, len, empty, 0, 0);
		KUNIT_ASSERT_EQ(test, len, place);
		len = add_record(f, len, 0, 3, 1);
		len = add_record(f, len, 60, 5, 5);
		KUNIT_EXPECT_EQ(test, writer_write(f, len), len);
		KUNIT_EXPECT_EQ(test, writer_write(f, len - 1),
				len - MIN_READ - 4 * ENTRY_SIZE);
	}
}

/* However much there is to do, the table is given up now and then. */
static void test_write_many(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned int i;
	size_t len = 0;

	fake_table(f, 10000);
	fake_fill(f, all, uneven);
	open_writer(f);
	for (i = 0; i < 500; i++)
		len = add_record(f, len, i, i % 5, i % 7 ? i : 9 * i);
	KUNIT_EXPECT_EQ(test, writer_write(f, len), len);
}

static void test_write_segments(struct kunit *test)
{
	struct fake *f = test->priv;
	struct kvec segments[8];
	size_t split, len, at;
	unsigned int i;
	ssize_t want;

	fake_table(f, 10000);
	fake_fill(f, all, uneven);
	open_writer(f);
	for (split = 0; split <= 104; split++) {
		len = add_record(f, 0, 5, 3, 2);
		len = add_record(f, len, 20, 0, 7);
		len = add_record(f, len, 6, 2, 1);
		KUNIT_ASSERT_EQ(test, len, 104);
		segments[0].iov_base = f->want;
		segments[0].iov_len = split;
		segments[1].iov_base = f->want + split;
		segments[1].iov_len = len - split;
		want = model_write(f, f->want, len);
		writer_check(f, write_segments(f->writer, segments, 2, len),
			     want);
	}

	/* With an odd address, and the last record cut short. */
	for (split = 0; split < 80; split++) {
		len = add_record(f, 0, 5, 3, 2);
		len = add_record(f, len, 20, 1, 7);
		KUNIT_ASSERT_EQ(test, len, 80);
		memcpy(f->got, f->want, split);
		memcpy(f->got + split + 1, f->want + split, len - split);
		segments[0].iov_base = f->got;
		segments[0].iov_len = split;
		segments[1].iov_base = f->got + split + 1;
		segments[1].iov_len = len - 1 - split;
		want = model_write(f, f->want, len - 1);
		writer_check(f, write_segments(f->writer, segments, 2, len - 1),
			     want);
	}

	/* A record of several buffers in segments of several pages. */
	len = add_record(f, 0, 3, 2, 2);
	len = add_record(f, len, 100, 9800, 90);
	len = add_record(f, len, 1, 1, 1);
	for (i = 0, at = 0; i < 8; i++) {
		segments[i].iov_base = f->want + at;
		segments[i].iov_len = i < 7 ? 1 + i * 7000 : len - at;
		at += segments[i].iov_len;
	}
	want = model_write(f, f->want, len);
	writer_check(f, write_segments(f->writer, segments, 8, len), want);
	KUNIT_EXPECT_EQ(test, want, len);
}

static ssize_t user_write(struct file *file, unsigned long addr, size_t size)
{
	struct iov_iter iter;

	iov_iter_ubuf(&iter, ITER_SOURCE, (void __user *)addr, size);
	return vfs_iter_write(file, &iter, NULL, 0);
}

/* Only @reach bytes of the stream can be read: whole records of it count. */
static void writer_write_fault(struct fake *f, unsigned long end, size_t len,
			       size_t reach)
{
	ssize_t want = model_write(f, f->want, reach);
	void __user *to = (void __user *)(end - reach);

	if (want <= 0)
		want = -EFAULT;
	KUNIT_ASSERT_EQ(f->test, copy_to_user(to, f->want, reach), 0);
	writer_check(f, user_write(f->writer, end - reach, len), want);
}

static void test_write_fault(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long end = user_memory(test, 4 * CHUNK);
	size_t reach, len = 1;

	fake_table(f, 20000);
	f->kvm.mm = current->mm;
	open_writer(f);
	for (reach = 0; reach < len; reach++) {
		len = add_record(f, 0, 5, 3, 2);
		len = add_record(f, len, 20, 0, 7);
		len = add_record(f, len, 6, 2, 1);
		writer_write_fault(f, end, len, reach);
	}

	/* In the second of the kernel's buffers, and in a record of several. */
	len = add_record(f, 0, 5, 4000, 0);
	len = add_record(f, len, 10, 1000, 2);
	writer_write_fault(f, end, len, len - 1);
	writer_write_fault(f, end, len, CHUNK + 1);
	writer_write_fault(f, end, len, CHUNK);
	len = add_record(f, 0, 5, 1, 1);
	len = add_record(f, len, 10, 9000, 2);
	writer_write_fault(f, end, len, len - 1);
	writer_write_fault(f, end, len, CHUNK + 1);
	writer_write_fault(f, end, len, CHUNK);
	KUNIT_EXPECT_EQ(test, writer_write(f, len), len);
	f->kvm.mm = NULL;
}

static void test_write_at_random(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned int i;

	prandom_seed_state(&f->rnd, 3);
	fake_table(f, 200);
	open_writer(f);
	for (i = 0; i < 2000; i++) {
		unsigned int n = prandom_u32_state(&f->rnd) % 12;
		size_t len = 0;

		while (n--) {
			u32 x = prandom_u32_state(&f->rnd);
			u32 index = (x >> 12) % 220;

			/* Some too far out. */
			if (!(x & 0xf00))
				index = x;
			len = add_record(f, len, index, x & 7, x >> 4 & 7);
			/* Some with a last HPTE that is not valid. */
			if (x & 7 && !(x >> 24 & 15))
				((u8 *)f->want)[len - ENTRY_SIZE + 7] &= ~VALID;
		}
		/* Most of them whole. */
		if (len && i % 4 == 3)
			len = prandom_u32_state(&f->rnd) % len;
		writer_write(f, len);
	}
}

/* ------------------------------------------------ what is seen from outside */

static void expect_reader(struct reader *r, const char *table, u32 order,
			  unsigned int pass, unsigned long position,
			  unsigned long pending, u64 entries, u64 invalid,
			  u64 bytes)
{
	char want[sizeof(r->f->fdinfo)];

	scnprintf(want, sizeof(want),
		  "hpt-flavour:\tfake\nhpt-direction:\tread\nhpt-table:\t%s\nhpt-order:\t%u\nhpt-pass:\t%u\nhpt-position:\t%lu\nhpt-pending:\t%lu\nhpt-entries:\t%llu\nhpt-invalid:\t%llu\nhpt-bytes:\t%llu\n",
		  table, order, pass, position, pending, entries, invalid, bytes);
	KUNIT_EXPECT_STREQ(r->f->test, fdinfo(r->f, r->file), want);
}

static void expect_writer(struct fake *f, const char *table, u32 order,
			  u64 entries, u64 invalid, u64 bytes)
{
	char want[sizeof(f->fdinfo)];

	scnprintf(want, sizeof(want),
		  "hpt-flavour:\tfake\nhpt-direction:\twrite\nhpt-table:\t%s\nhpt-order:\t%u\nhpt-entries:\t%llu\nhpt-invalid:\t%llu\nhpt-bytes:\t%llu\n",
		  table, order, entries, invalid, bytes);
	KUNIT_EXPECT_STREQ(f->test, fdinfo(f, f->writer), want);
}

static void test_fdinfo_reader(struct kunit *test)
{
	struct fake *f = test->priv;
	struct reader *r;

	/* No table. */
	r = open_reader(f, 0, 0, 5);
	expect_reader(r, "none", 0, 0, 0, 0, 0, 0, 0);
	KUNIT_EXPECT_EQ(test, kernel_read(r->file, f->got, 100, NULL), 0);
	fake_table(f, 100);
	fake_set_range(f, 10, 20, VALID);
	expect_reader(r, "none", 0, 0, 0, 0, 0, 0, 0);

	/* Amid the first pass, at its end, and when there is nothing new. */
	reader_start(r);
	KUNIT_EXPECT_EQ(test, reader_read(r, HEADER_SIZE + MIN_READ + 1),
			HEADER_SIZE + MIN_READ);
	expect_reader(r, "current", 11, 1, 11, 89, 1, 5, 32);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), MIN_READ + 8 * ENTRY_SIZE);
	expect_reader(r, "current", 11, 2, 0, 0, 10, 85, 184);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), 0);
	expect_reader(r, "current", 11, 3, 0, 0, 10, 85, 184);

	/* A change, when somebody has found it, which this one makes hard. */
	fake_set_range(f, 50, 53, VALID);
	__set_bit(50, f->touched);
	expect_reader(r, "current", 11, 3, 0, 0, 10, 85, 184);
	KUNIT_EXPECT_EQ(test, reader_read(r, MIN_READ), MIN_READ);
	expect_reader(r, "current", 11, 3, 51, 2, 11, 85, 208);

	/* A reset, before the reader knows and after; then the table goes. */
	fake_table(f, 100);
	expect_reader(r, "current", 11, 1, 5, 100, 11, 85, 208);
	KUNIT_EXPECT_EQ(test, reader_read(r, BUF_SIZE), HEADER_SIZE);
	expect_reader(r, "current", 11, 2, 0, 5, 11, 180, 216);
	fake_table(f, 0);
	expect_reader(r, "gone", 11, 2, 0, 0, 11, 180, 216);
	fake_table(f, 100);
	expect_reader(r, "gone", 11, 2, 0, 0, 11, 180, 216);
}

static void test_fdinfo_large_table(struct kunit *test)
{
	struct fake *f = test->priv;
	const char *text;
	struct reader *r;

	/* Pending HPTEs are counted in stretches, the last of them no whole one. */
	fake_table(f, 5 * STRETCH + 77);
	r = open_reader(f, 0, 0, STRETCH + 1);
	text = fdinfo(f, r->file);
	KUNIT_EXPECT_EQ(test, fdinfo_number(f, text, "pending:\t"),
			4 * STRETCH + 76);
	KUNIT_EXPECT_EQ(test, fdinfo_number(f, text, "position:\t"), STRETCH + 1);
	fake_set(f, 0, VALID);
	fake_set(f, f->nr - 1, VALID);
	reader_drain(r, 1000);
}

static void test_fdinfo_writer(struct kunit *test)
{
	struct fake *f = test->priv;
	size_t len;

	open_writer(f);
	expect_writer(f, "none", 0, 0, 0, 0);
	fake_table(f, 100);
	len = add_record(f, 0, 10, 3, 4);
	len = add_record(f, len, 50, 0, 50);
	len = add_record(f, len, 50, 1, 50);
	KUNIT_EXPECT_EQ(test, writer_write(f, len), 64);
	expect_writer(f, "current", 11, 3, 54, 64);

	/* One that the flavour refuses does not count, the one before does. */
	len = add_record(f, 0, 10, 1, 0);
	len = add_record(f, len, 20, 1, 0);
	f->hook_err = -EIO;
	fake_arm(f, hook_fail, AT_PUT, 1);
	model_write(f, f->want, MIN_READ);
	writer_check(f, kernel_write(f->writer, f->want, len, NULL), MIN_READ);
	expect_writer(f, "current", 11, 4, 54, 88);
	f->hook = NULL;

	fake_table(f, 100);
	expect_writer(f, "current", 11, 4, 54, 88);
	fake_table(f, 200);
	expect_writer(f, "gone", 11, 4, 54, 88);
}

static void expect_stats(struct fake *f, u64 read, u64 written, u64 harvested)
{
	struct kvm_vm_stat *stat = &f->kvm.stat;

	KUNIT_EXPECT_EQ(f->test, atomic64_read(&stat->hpt_entries_read), read);
	KUNIT_EXPECT_EQ(f->test, stat->hpt_entries_written, written);
	KUNIT_EXPECT_EQ(f->test, stat->hpt_changes_harvested, harvested);
}

static void test_stats(struct kunit *test)
{
	struct fake *f = test->priv;
	struct reader *a, *b;
	unsigned long end;
	size_t len;

	fake_table(f, 2 * STRETCH);
	open_writer(f);
	len = add_record(f, 0, 0, 100, 50);
	KUNIT_EXPECT_EQ(test, writer_write(f, len), len);
	expect_stats(f, 0, 100, 0);
	a = open_reader(f, 0, 0, 0);
	b = open_reader(f, 1, 0, 50);
	reader_drain(a, 1000);
	expect_stats(f, 100, 100, 0);
	reader_drain(b, 1000);
	expect_stats(f, 150, 100, 0);

	/* A change is harvested once, however many learn of it. */
	fake_set(f, 5, VALID);
	fake_set(f, 6, VALID);
	fake_set(f, STRETCH, VALID);
	expect_stats(f, 150, 100, 0);
	KUNIT_EXPECT_EQ(test, reader_read(a, MIN_READ), MIN_READ);
	expect_stats(f, 151, 100, 2);
	reader_drain(b, 1000);
	expect_stats(f, 154, 100, 3);
	reader_drain(a, 1000);
	expect_stats(f, 156, 100, 3);

	/* One that the flavour finds on the way is a change, too. */
	fake_set(f, 7, VALID);
	__set_bit(7, f->touched);
	KUNIT_EXPECT_EQ(test, reader_read(a, MIN_READ), MIN_READ);
	expect_stats(f, 157, 100, 5);
	reader_drain(a, 1000);
	reader_drain(b, 1000);

	expect_stats(f, 158, 100, 5);

	/* What is refused has not been written, what does not arrive not read. */
	len = add_record(f, 0, f->nr, 1, 0);
	KUNIT_EXPECT_EQ(test, writer_write(f, len), -EINVAL);
	end = user_memory(test, CHUNK);
	fake_set(f, 8, VALID);
	KUNIT_EXPECT_EQ(test, reader_read_fault(a, end, 280, 7), -EFAULT);
	expect_stats(f, 158, 100, 6);
	reader_drain(a, 1000);
	expect_stats(f, 159, 100, 6);
}

/* ------------------------------------------------------------- the suite */

static int hpt_fd_init(struct kunit *test)
{
	struct fake *f = vzalloc(sizeof(*f));

	if (!f)
		return -ENOMEM;
	if (init_srcu_struct(&f->kvm.srcu)) {
		vfree(f);
		return -ENOMEM;
	}
	f->test = test;
	f->kvm.mm = current->mm;
	/* Ours, so that it is never destroyed. */
	refcount_set(&f->kvm.users_count, 1);
	kvmppc_hpt_init_vm(&f->kvm);
	test->priv = f;
	f->got = vzalloc(BUF_SIZE + MARGIN);
	f->want = vzalloc(BUF_SIZE + MARGIN);
	return f->got && f->want ? 0 : -ENOMEM;
}

static void hpt_fd_exit(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned int i;

	if (!f)
		return;

	f->hook = NULL;
	for (i = 0; i < MAX_READERS; i++)
		close_reader(&f->readers[i]);
	close_writer(f);

	/* Nothing is left behind. */
	KUNIT_EXPECT_STREQ(test, f->misuse ?: "", "");
	KUNIT_EXPECT_FALSE(test, f->held);
	KUNIT_EXPECT_TRUE(test, list_empty(&f->kvm.arch.hpt_watch.readers));
	KUNIT_EXPECT_EQ(test, atomic_read(&f->kvm.arch.hpte_mod_interest), 0);
	KUNIT_EXPECT_EQ(test, refcount_read(&f->kvm.users_count), 1);
	if (refcount_read(&f->kvm.users_count) != 1)
		return;	/* somebody has it, rather lose it */

	cleanup_srcu_struct(&f->kvm.srcu);
	vfree(f->hptes);
	vfree(f->log);
	vfree(f->touched);
	vfree(f->wanted);
	vfree(f->got);
	vfree(f->want);
	vfree(f);
}

static struct kunit_case hpt_fd_cases[] = {
	KUNIT_CASE(test_open),
	KUNIT_CASE(test_open_too_large),
	KUNIT_CASE(test_close_while_held),
	KUNIT_CASE(test_read_sizes_too_small),
	KUNIT_CASE_SLOW(test_read_small_buffers),
	KUNIT_CASE(test_read_as_many_as_fit),
	KUNIT_CASE(test_read_split_valid),
	KUNIT_CASE(test_read_split_invalid),
	KUNIT_CASE(test_read_split_both),
	KUNIT_CASE(test_read_bolted),
	KUNIT_CASE(test_read_start_index),
	KUNIT_CASE(test_read_changes),
	KUNIT_CASE(test_read_changes_under_way),
	KUNIT_CASE(test_read_end_of_pass),
	KUNIT_CASE(test_read_goes_around),
	KUNIT_CASE(test_read_several_readers),
	KUNIT_CASE(test_read_finds_more),
	KUNIT_CASE(test_read_segments),
	KUNIT_CASE(test_read_fault),
	KUNIT_CASE(test_read_fault_in_first_pass),
	KUNIT_CASE(test_read_fault_far_in),
	KUNIT_CASE(test_read_interrupted),
	KUNIT_CASE(test_read_reset),
	KUNIT_CASE(test_read_reset_under_way),
	KUNIT_CASE(test_read_reset_before_copy),
	KUNIT_CASE(test_read_stale),
	KUNIT_CASE(test_read_stale_under_way),
	KUNIT_CASE(test_read_no_table),
	KUNIT_CASE(test_read_at_random),
	KUNIT_CASE(test_write_mixed),
	KUNIT_CASE(test_write_what_was_read),
	KUNIT_CASE(test_write_cut_short),
	KUNIT_CASE(test_write_overlapping),
	KUNIT_CASE(test_write_index_overflow),
	KUNIT_CASE(test_write_empty_record),
	KUNIT_CASE(test_write_bad_entry),
	KUNIT_CASE(test_write_flavour_refuses),
	KUNIT_CASE(test_write_not_now),
	KUNIT_CASE(test_write_no_table),
	KUNIT_CASE(test_write_stale),
	KUNIT_CASE(test_write_other_process),
	KUNIT_CASE(test_write_long_records),
	KUNIT_CASE(test_write_across_buffers),
	KUNIT_CASE(test_write_many),
	KUNIT_CASE(test_write_segments),
	KUNIT_CASE(test_write_fault),
	KUNIT_CASE(test_write_at_random),
	KUNIT_CASE(test_fdinfo_reader),
	KUNIT_CASE(test_fdinfo_large_table),
	KUNIT_CASE(test_fdinfo_writer),
	KUNIT_CASE(test_stats),
	{}
};

static struct kunit_suite hpt_fd_suite = {
	.name = "kvm-hpt-fd",
	.init = hpt_fd_init,
	.exit = hpt_fd_exit,
	.test_cases = hpt_fd_cases,
};

kunit_test_suite(hpt_fd_suite);

MODULE_DESCRIPTION("KUnit test of the HPT file descriptor of KVM on Book3S 64");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
