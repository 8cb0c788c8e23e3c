// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit test of the HPT file descriptor (book3s_hpt_fd.c): its file operations
 * on a flavour of KVM that is a fake.  The table is an array, the change log a
 * bitmap, and whatever the flavour is asked for can be made to fail, or to
 * change things under way.
 *
 * Of each reader the test keeps what it has been told of each HPTE, and which
 * ones are due: those that it has yet to be told of.  A read must return the
 * present state of HPTEs that are due, by ascending index, with none left out.
 * How they are divided among records is not looked at, in one case apart.
 */

#include <kunit/static_stub.h>
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>
#include <asm/book3s/64/mmu-hash.h>
#include <asm/kvm_ppc.h>

#include "book3s_hpt.h"

#define HEADER_SIZE	sizeof(struct kvm_get_htab_header)
#define ENTRY_SIZE	sizeof(struct kvm_hpt_entry)
#define MIN_READ	(HEADER_SIZE + ENTRY_SIZE)

/* A read or write of everything, and what is looked at behind a read */
#define ALL		SZ_4M
#define MARGIN		64
#define CANARY		0xa5
#define MAX_READERS	3
#define MANY		20000
#define MAX_NR		200000UL

/* HPTEs that may be gone through while the table is held, one record apart */
#define HELD_LIMIT	20480
/* A table that cannot be gone through while it is held once */
#define LARGE		(2 * HELD_LIMIT)

/* An HPTE of the table is invalid with none of these. */
#define FAKE_THERE	(HPTE_V_VALID | HPTE_V_ABSENT | HPTE_V_HVLOCK)

/* What the flavour is asked for ... */
enum call { AT_HOLD = 1, AT_RELEASE, AT_COPY, AT_LOOK, AT_PUT };
/* ... and what then happens: to all such calls, to every other, or once */
enum act { NOTHING, FAIL, RANDOM, STUTTER, SIGNAL, RESET, REPLACE, GIVE_UP, CHANGE, TOUCH };

struct reader {
	struct file *file;
	bool bolted;
	bool strict;		/* It is to return nothing but what is due. */
	unsigned long nr;	/* 0 if it is not tied to a table */
	u64 start;		/* HPTEs before that need never be returned. */
	u64 entries, invalid, bytes;	/* that have been returned */
	unsigned long last;	/* HPTEs, by the last read */
	DECLARE_BITMAP(due, MAX_NR);
	/* What has been returned: all zeroes if invalid, all ones if nothing */
	struct kvm_hpt_entry hptes[MAX_NR];
};

struct info {			/* fdinfo */
	char table[8];
	u32 order, pass;
	unsigned long position, pending;
	u64 entries, invalid, bytes;
};

static struct fake {
	struct kvm kvm;
	struct kunit *test;
	unsigned long nr;
	u64 clock;		/* makes the contents of each HPTE unique */
	struct rnd_state rnd;
	struct file *writer;
	size_t len, stream;	/* bytes of records in got, want */
	unsigned int step;	/* of a script */
	/* Manners: copy refuses, or stops after so many. */
	struct kvmppc_hpt_ops ops;
	bool refuse;
	unsigned int at_once;
	bool no_memory;		/* What one misses comes in the next pass. */
	/* What is to happen after how many calls, and has in this read */
	enum call at;
	enum act act, fired;
	unsigned int after;
	long arg;
	/* An HPTE is locked until the timer unlocks it. */
	struct timer_list timer;
	unsigned long locked;
	struct kvm_hpt_entry unlocked_as;
	bool held;
	unsigned int held_flags;
	unsigned long nr_held;	/* HPTEs gone through since it is held, ... */
	unsigned long held_limit;	/* ... and how many may be */
	const char *misuse;

	/* From here on, nothing is cleared before a test. */
	struct reader readers[MAX_READERS];
	DECLARE_BITMAP(log, MAX_NR);
	DECLARE_BITMAP(touched, MAX_NR);	/* by the hardware, which sets R */
	struct kvm_hpt_entry hptes[MAX_NR];
	struct kvm_hpt_entry wanted[MAX_NR];	/* what a write is to make of them */
	u8 got[ALL + MARGIN];
	u8 want[ALL + MARGIN];
} *f;

static size_t record_size(const struct kvm_get_htab_header *rec)
{
	return HEADER_SIZE + rec->n_valid * ENTRY_SIZE;
}

/* A call that must not be is remembered, since an assertion can't fail there. */
static void fake_require(bool good, const char *misuse)
{
	if (!good && !f->misuse)
		f->misuse = misuse;
}

/* An HPTE as a reader is to see it: all zeroes if that is as an invalid one */
static struct kvm_hpt_entry fake_view(unsigned long i, bool bolted)
{
	struct kvm_hpt_entry hpte = f->hptes[i];
	u64 v = be64_to_cpu(hpte.v);

	if (!(v & (HPTE_V_VALID | HPTE_V_ABSENT)) || (bolted && !(v & HPTE_V_BOLTED)))
		return (struct kvm_hpt_entry){};
	hpte.v = cpu_to_be64((v & ~FAKE_THERE) | HPTE_V_VALID);
	if (test_bit(i, f->touched))
		hpte.r |= cpu_to_be64(HPTE_R_R);
	return hpte;
}

/* Every reader is to be told. */
static void fake_due(unsigned long i)
{
	unsigned int n;

	for (n = 0; n < MAX_READERS; n++)
		if (f->readers[n].nr)
			__set_bit(i, f->readers[n].due);
}

static void fake_changed(unsigned long i)
{
	__clear_bit(i, f->touched);
	if (atomic_read(&f->kvm.arch.hpte_mod_interest))
		set_bit(i, f->log);
	fake_due(i);
}

/* The hardware sets R, and tells nobody. */
static void fake_touch(unsigned long i)
{
	if (!fake_view(i, false).v)
		return;
	__set_bit(i, f->touched);
	fake_due(i);
}

/* It comes out. */
static bool fake_untouch(unsigned long i)
{
	if (!__test_and_clear_bit(i, f->touched))
		return false;
	f->hptes[i].r |= cpu_to_be64(HPTE_R_R);
	return true;
}

/*
 * (v)alid, (a)bsent, (b)olted, (B)olted and absent, (i)nvalid, (s)o too, but
 * bolted, (z)ero.  Invalid ones have contents, which nobody is to see.
 */
static struct kvm_hpt_entry fake_new_hpte(char c)
{
	u64 v = ++f->clock << HPTE_V_AVPN_SHIFT;

	if (c == 'z')
		return (struct kvm_hpt_entry){};
	v |= strchr("vb", c) ? HPTE_V_VALID : 0;
	v |= strchr("aB", c) ? HPTE_V_ABSENT : 0;
	v |= strchr("bBs", c) ? HPTE_V_BOLTED : 0;
	return (struct kvm_hpt_entry){ cpu_to_be64(v), cpu_to_be64(f->clock << 12) };
}

/* HPTEs become what the pattern says, again and again; with (.) they stay. */
static void fake_set(unsigned long first, unsigned long n, const char *pattern)
{
	const char *c = pattern;
	unsigned long i;

	for (i = first; i < first + n; i++) {
		if (*c != '.') {
			f->hptes[i] = fake_new_hpte(*c);
			fake_changed(i);
		}
		if (!*++c)
			c = pattern;
	}
}

/* A reader meets a table, or has to start over. */
static void reader_start(struct reader *r, u64 start)
{
	if (!r->nr)
		memset(r->hptes, 0xff, f->nr * ENTRY_SIZE);
	r->nr = f->nr;
	r->start = start;
	bitmap_zero(r->due, r->nr);
	if (start < r->nr)
		bitmap_set(r->due, start, r->nr - start);
}

/* A new table takes the place of the old, or, of the same size, a reset. */
static void fake_table(unsigned long nr, const char *pattern)
{
	struct reader *r;

	f->nr = nr;
	for (r = f->readers; r < f->readers + MAX_READERS; r++) {
		if (r->nr && r->nr == nr)
			reader_start(r, 0);
		else
			r->nr = 0;
	}
	memset(f->hptes, 0, nr * ENTRY_SIZE);
	bitmap_zero(f->log, MAX_NR);
	bitmap_zero(f->touched, MAX_NR);
	kvmppc_hpt_replaced(&f->kvm, nr ? order_base_2(nr) + 4 : 0);
	if (pattern)
		fake_set(0, nr, pattern);
}

static void fake_arm(enum call at, unsigned int after, enum act act, long arg)
{
	f->at = at;
	f->after = after;
	f->act = act;
	f->arg = arg;
}

/* Something changes, in most cases near what is being looked at. */
static void fake_random_change(unsigned long index)
{
	u32 x = prandom_u32_state(&f->rnd);
	unsigned long i = x & BIT(20) ? x % f->nr : min(index + x % 5, f->nr - 1);

	fake_set(i, 1, &"v\0a\0i\0z"[x >> 20 & 6]);
	if (x & BIT(23))
		fake_touch(i);
}

static int fake_call(enum call at, unsigned long index)
{
	enum act act = f->act;

	might_sleep();
	/* At random, but not without end, or a read might never see one */
	if (!act || (act == RANDOM ? at == AT_HOLD || !f->after : at != f->at))
		return 0;
	if (f->after && f->after-- && act != RANDOM)
		return 0;
	f->fired = act;
	if (act == FAIL || act == STUTTER) {
		f->after = act == STUTTER;
		return f->arg;
	}
	f->act = act == RANDOM ? RANDOM : NOTHING;
	if (act == RANDOM)
		fake_random_change(index);
	else if (act == SIGNAL)
		send_sig(SIGUSR1, current, 1);
	else if (act == CHANGE)
		fake_set(f->arg, 1, "v");
	else if (act == TOUCH)
		fake_touch(f->arg);
	else if (act == RESET)
		fake_table(f->nr, "vvviaz");
	else
		fake_table(act == GIVE_UP ? 0 : f->nr == 64 ? 128 : 64, NULL);
	return 0;
}

static bool fake_in_range(unsigned long first, unsigned long n)
{
	bool good = first <= f->nr && n <= f->nr - first;

	fake_require(f->held, "used while it was not held");
	fake_require(good, "used beyond the end of the table");
	fake_require(f->nr_held <= f->held_limit, "held for too long");
	return good;
}

static int fake_hold(struct kvm *kvm, struct kvmppc_hpt_hold *hold, unsigned int flags)
{
	int err;

	fake_require(!f->held, "held twice");
	fake_require(flags & KVMPPC_HPT_NOKILL || !signal_pending(current), "held after a signal");
	err = fake_call(AT_HOLD, 0);
	if (err && !(flags & KVMPPC_HPT_NOKILL))
		return err;
	f->held = true;
	f->held_flags = flags;
	f->nr_held = 0;
	hold->nr = f->nr;
	hold->hptes = f->hptes;
	hold->there = cpu_to_be64(FAKE_THERE);
	hold->locked = cpu_to_be64(HPTE_V_HVLOCK);
	hold->changes = f->nr ? f->log : NULL;
	return 0;
}

static void fake_release(struct kvm *kvm, struct kvmppc_hpt_hold *hold, unsigned int flags)
{
	fake_require(f->held, "released, but not held");
	fake_require(flags == f->held_flags, "released with other flags");
	f->held = false;
	fake_call(AT_RELEASE, 0);
}

static void fake_follow(struct kvm *kvm, const struct kvmppc_hpt_hold *hold, unsigned long first,
			unsigned long end)
{
	unsigned long i = first;

	if (!fake_in_range(first, end - first))
		return;
	fake_require(end - first <= f->held_limit, "followed for too long");
	for_each_set_bit_from(i, f->touched, end)
		if (fake_untouch(i))
			set_bit(i, f->log);
}

static bool fake_is_locked(unsigned long i)
{
	return READ_ONCE(f->hptes[i].v) & cpu_to_be64(HPTE_V_HVLOCK);
}

static unsigned long fake_copy(struct kvm *kvm, const struct kvmppc_hpt_hold *hold,
			       unsigned long first, unsigned long n, struct kvm_hpt_entry *hptes)
{
	bool refuse = f->refuse;
	unsigned long i;

	if (!fake_in_range(first, n))
		return 0;
	fake_require(n && BIT_WORD(first) == BIT_WORD(first + n - 1), "not of one word");
	refuse |= fake_call(AT_COPY, first);
	for (i = 0; i < min(n, f->at_once ?: n); i++) {
		if (!(f->hptes[first + i].v & cpu_to_be64(FAKE_THERE)))
			break;
		/* Who has taken it from the log should have waited. */
		fake_require(!fake_is_locked(first + i) || test_bit(first + i, f->log),
			     "copied while locked");
		refuse |= test_bit(first + i, f->touched);
		hptes[i] = fake_view(first + i, false);
	}
	f->nr_held += i;
	/* Nobody is to look at that, nor at what may have changed meanwhile. */
	if (refuse || f->log[BIT_WORD(first)])
		memset(hptes, CANARY, i * ENTRY_SIZE);
	return refuse ? 0 : i;
}

static bool fake_look(struct kvm *kvm, const struct kvmppc_hpt_hold *hold, unsigned long index,
		      struct kvm_hpt_entry *hpte, bool *news)
{
	unsigned long deadline = jiffies + 10 * HZ;
	struct kvm_hpt_entry is;

	if (!fake_in_range(index, 1))
		return false;
	fake_call(AT_LOOK, index);
	while (fake_is_locked(index) && time_before(jiffies, deadline))
		cpu_relax();
	if (fake_untouch(index))
		*news = true;
	is = fake_view(index, false);
	if (is.v)
		*hpte = is;
	return is.v;
}

static int fake_put(struct kvm *kvm, struct kvmppc_hpt_hold *hold, unsigned long first,
		    unsigned int n_valid, unsigned int n_invalid, const struct kvm_hpt_entry *hptes)
{
	unsigned int i, n = n_valid + n_invalid;
	int err;

	if (!fake_in_range(first, n))
		return -ENXIO;
	fake_require(f->held_flags & KVMPPC_HPT_WRITE, "written while held for reading");
	fake_require(n, "called for no HPTE");
	f->nr_held += n;
	err = fake_call(AT_PUT, first);
	if (err)
		return err;
	for (i = 0; i < n; i++) {
		f->hptes[first + i] = i < n_valid ? hptes[i] : (struct kvm_hpt_entry){};
		fake_require(i >= n_valid || hptes[i].v & cpu_to_be64(HPTE_V_VALID),
			     "given an invalid HPTE as a valid one");
		fake_changed(first + i);
	}
	return 0;
}

static const struct kvmppc_hpt_ops fake_ops = {
	.name		= "fake",
	.hold		= fake_hold,
	.release	= fake_release,
	.follow		= fake_follow,
	.copy		= fake_copy,
	.look		= fake_look,
	.put		= fake_put,
};

/* Who has locked an HPTE is done. */
static void fake_unlock(struct timer_list *timer)
{
	WRITE_ONCE(f->hptes[f->locked].r, f->unlocked_as.r);
	smp_wmb();	/* whole when it is found to be unlocked */
	WRITE_ONCE(f->hptes[f->locked].v, f->unlocked_as.v);
}

/* Somebody is about to make an HPTE something else, and has logged that. */
static void fake_lock(unsigned long i, const char *pattern)
{
	f->locked = i;
	f->unlocked_as = fake_new_hpte(*pattern);
	f->hptes[i].v |= cpu_to_be64(HPTE_V_HVLOCK);
	fake_changed(i);
	mod_timer(&f->timer, jiffies + msecs_to_jiffies(30));
}

static struct file *fake_open(u64 flags, u64 start)
{
	struct kvm_get_htab_fd args = { flags, start, { U64_MAX, U64_MAX } };

	return kvmppc_hpt_fd_file(&f->kvm, &f->ops, &args);
}

static struct reader *open_reader(unsigned int n, u64 flags, u64 start)
{
	struct reader *r = &f->readers[n], *other;
	struct file *file = fake_open(flags, start);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(f->test, file);
	memset(r, 0, offsetof(struct reader, due));
	r->strict = true;
	for (other = f->readers; other < f->readers + MAX_READERS; other++) {
		r->strict &= !other->file;
		other->strict &= other == r;
	}
	r->file = file;
	r->bolted = flags & KVM_GET_HTAB_BOLTED_ONLY;
	if (f->nr)
		reader_start(r, start);
	r->start = start;
	return r;
}

static void close_file(struct file **file)
{
	if (!IS_ERR_OR_NULL(*file))
		__fput_sync(*file);
	*file = NULL;
}

static void close_reader(struct reader *r)
{
	close_file(&r->file);
	r->nr = 0;
}

static const char *fdinfo_text(struct file *file)
{
	static char text[512];
	struct seq_file m = { .buf = text, .size = sizeof(text) };

	file->f_op->show_fdinfo(&m, file);
	text[min(m.count, sizeof(text) - 1)] = '\0';
	return text;
}

static struct info fdinfo(struct file *file)
{
	const char *text = strstr(fdinfo_text(file), file == f->writer ? "write\n" : "read\n");
	struct info is = {};
	int n, more;

	KUNIT_ASSERT_NOT_NULL(f->test, text);
	n = sscanf(strstr(text, "hpt-table"),
		   "hpt-table: %7s hpt-order: %u hpt-pass: %u hpt-position: %lu hpt-pending: %lu",
		   is.table, &is.order, &is.pass, &is.position, &is.pending);
	more = sscanf(strstr(text, "hpt-entries"),
		      "hpt-entries: %llu hpt-invalid: %llu hpt-bytes: %llu",
		      &is.entries, &is.invalid, &is.bytes);
	KUNIT_ASSERT_EQ(f->test, n + more, file == f->writer ? 5 : 8);
	return is;
}

/* What a read may be */
#define CUT	BIT(0)		/* short for a reason */
#define RACY	BIT(1)		/* of HPTEs that have changed since */

static unsigned int fake_read_was(void)
{
	if (f->fired == NOTHING)
		return 0;
	if (f->fired == FAIL || f->fired == STUTTER)
		return f->at == AT_HOLD ? CUT : 0;
	/* If it has held the table after a reset, nothing of before is returned. */
	if (f->fired == SIGNAL || (f->fired == RESET && f->at == AT_HOLD))
		return CUT;
	return CUT | RACY;
}

/* Take in what has been read; returns the index behind the last HPTE. */
static unsigned long reader_replay(struct reader *r, size_t len, bool racy)
{
	const struct kvm_hpt_entry *entry, none = {};
	const struct kvm_get_htab_header *rec;
	struct kunit *test = f->test;
	unsigned long i, n, next = 0;
	size_t at;

	r->last = 0;
	r->bytes += len;
	f->len = len;
	for (at = 0; at < len; at += record_size(rec)) {
		rec = (const void *)f->got + at;
		KUNIT_ASSERT_GE(test, len - at, record_size(rec));
		n = rec->n_valid + rec->n_invalid;
		KUNIT_ASSERT_GT(test, n, 0UL);
		/* A reset makes them be returned again, from the beginning. */
		KUNIT_ASSERT_TRUE(test, rec->index >= next || racy);
		next = rec->index + n;
		entry = (const void *)(rec + 1);
		r->entries += rec->n_valid;
		r->invalid += rec->n_invalid;
		r->last += n;
		KUNIT_ASSERT_TRUE(test, !r->nr || next <= r->nr);
		for (i = rec->index; i < next && r->nr; i++) {
			struct kvm_hpt_entry is = fake_view(i, r->bolted);

			r->hptes[i] = next - i > rec->n_invalid ? *entry++ : none;
			if (!memcmp(&r->hptes[i], &is, ENTRY_SIZE)) {
				if (!__test_and_clear_bit(i, r->due) && r->strict)
					KUNIT_FAIL_AND_ABORT(test, "HPTE %lu came again", i);
			} else if (!racy) {	/* else it must come again */
				KUNIT_FAIL_AND_ABORT(test, "HPTE %lu is another one", i);
			}
		}
	}
	return next;
}

/* A read of @size bytes has returned @got; before, the reader was at @was. */
static void reader_check(struct reader *r, ssize_t got, size_t size, struct info *was)
{
	unsigned long next, due = r->nr;
	struct kunit *test = f->test;
	struct info is;
	unsigned int how = fake_read_was();
	bool again;

	if (!strcmp(was->table, "none") || f->fired == RESET)
		*was = (struct info) { .pass = 1, .position = f->fired ? 0 : was->position };
	r->strict &= f->fired != RESET && !(how & RACY);
	KUNIT_ASSERT_STREQ(test, f->misuse ?: "", "");
	if (r->nr)
		due = find_next_bit(r->due, r->nr, was->position);
	next = reader_replay(r, max(got, 0L), how & RACY);
	is = fdinfo(r->file);
	KUNIT_ASSERT_EQ(test, is.entries, r->entries);
	KUNIT_ASSERT_EQ(test, is.invalid, r->invalid);
	KUNIT_ASSERT_EQ(test, is.bytes, r->bytes);
	if (!r->nr || how & RACY)
		return;

	if (got > 0 && !f->no_memory) {
		/* It may have gone on with the next pass. */
		again = *(u32 *)f->got < was->position;
		if (again)
			KUNIT_ASSERT_GE_MSG(test, due, r->nr, "left in the last pass");
		due = find_next_bit(r->due, r->nr, again ? 0 : was->position);
		KUNIT_ASSERT_GE_MSG(test, due, is.position ?: r->nr, "left out");
		if (is.position) {
			KUNIT_ASSERT_GE(test, is.position, next);
			KUNIT_ASSERT_LT(test, is.position, r->nr);
			KUNIT_ASSERT_TRUE(test, how & CUT || size - got < MIN_READ);
		}
		if (r->strict)
			KUNIT_ASSERT_EQ(test, is.pass, was->pass + again + !is.position);
	} else if (!got) {	/* The first pass ends by itself. */
		due = find_next_bit(r->due, r->nr, was->pass == 1 ? was->position : 0);
		KUNIT_ASSERT_GE_MSG(test, due, r->nr, "more is due");
		KUNIT_ASSERT_GT(test, is.pass, was->pass);
		KUNIT_ASSERT_EQ(test, is.position, 0);
	}
	if (bitmap_empty(f->log, r->nr) && bitmap_empty(f->touched, r->nr)) {
		due = bitmap_weight(r->due, r->nr);
		KUNIT_ASSERT_GE(test, is.pending, due);
		KUNIT_ASSERT_LE(test, is.pending, r->strict ? due : r->nr);
	}
}

/* In three segments, none of which need be large enough */
static struct iov_iter in_segments(struct kvec *segments, void *buf, size_t size, int direction)
{
	size_t first = size / 5, second = min(23, size / 2);
	struct iov_iter iter;

	segments[0] = (struct kvec){ buf, first };
	segments[1] = (struct kvec){ buf + first, second };
	segments[2] = (struct kvec){ buf + first + second, size - first - second };
	iov_iter_kvec(&iter, direction, segments, 3, size);
	return iter;
}

/* Read to f->got, or to user memory, which may end anywhere behind @to. */
static ssize_t reader_read(struct reader *r, size_t size, unsigned long to)
{
	struct info was = fdinfo(r->file);
	struct kvec segments[3];
	struct iov_iter iter = in_segments(segments, f->got, size, ITER_DEST);
	ssize_t got;
	size_t len;

	memset(f->got, CANARY, size + MARGIN);
	if (to)
		iov_iter_ubuf(&iter, ITER_DEST, (void __user *)to, size);
	f->fired = NOTHING;
	got = vfs_iter_read(r->file, &iter, NULL, 0);
	len = max(got, 0L);
	KUNIT_ASSERT_LE(f->test, len, size);
	if (to) {
		KUNIT_ASSERT_EQ(f->test, copy_from_user(f->got, (void __user *)to, len), 0);
		if (!fake_read_was())
			f->fired = SIGNAL;	/* cut short, as by one */
	}
	KUNIT_ASSERT_NULL(f->test, memchr_inv(f->got + len, CANARY, size + MARGIN - len));
	reader_check(r, got, size, &was);
	return got;
}

/* Read until nothing comes, by when all must have come. */
static void reader_drain(struct reader *r, size_t size)
{
	unsigned long i, reads = 0;
	ssize_t got;

	do {
		got = reader_read(r, size, 0);
		KUNIT_ASSERT_GE(f->test, got, 0L);
		KUNIT_ASSERT_LT_MSG(f->test, reads++, 100 * f->nr / size + 100, "without end");
		/* If it was the first pass that ended, there may be more. */
	} while (got || fake_read_was() & RACY || !bitmap_empty(r->due, r->nr));
	for (i = 0; i < r->nr; i++) {
		struct kvm_hpt_entry hpte = fake_view(i, r->bolted);

		if (memcmp(&r->hptes[i], &hpte, ENTRY_SIZE) &&
		    (i >= r->start || memchr_inv(&r->hptes[i], 0xff, ENTRY_SIZE)))
			KUNIT_FAIL_AND_ABORT(f->test, "HPTE %lu was lost", i);
	}
}

/* User memory that ends at the address returned, and none behind it */
static unsigned long user_memory(size_t size)
{
	unsigned long start = kunit_vm_mmap(f->test, NULL, 0, PAGE_ALIGN(size) + PAGE_SIZE,
					    PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);

	KUNIT_ASSERT_FALSE(f->test, !start || IS_ERR_VALUE(start));
	start += PAGE_ALIGN(size);
	KUNIT_ASSERT_EQ(f->test, vm_munmap(start, PAGE_SIZE), 0);
	return start;
}

static void open_writer(void)
{
	close_file(&f->writer);
	f->stream = 0;
	f->writer = fake_open(KVM_GET_HTAB_WRITE, 0);
	KUNIT_ASSERT_FALSE(f->test, IS_ERR(f->writer));
}

/* Add a record to the stream; returns the bytes that there are now. */
static size_t add_record(u32 index, u16 n_valid, u16 n_invalid)
{
	struct kvm_get_htab_header *rec = (void *)f->want + f->stream;
	struct kvm_hpt_entry *hptes = (void *)(rec + 1);
	unsigned int i;

	*rec = (struct kvm_get_htab_header){ index, n_valid, n_invalid };
	for (i = 0; i < n_valid; i++)
		hptes[i] = fake_new_hpte('v');
	f->stream += record_size(rec);
	return f->stream;
}

/* An entry of the stream, in the last record so many from the end, becomes bad. */
static void spoil_record(unsigned int back)
{
	struct kvm_hpt_entry *hptes = (void *)f->want + f->stream;

	hptes[-1 - (int)back].v ^= cpu_to_be64(HPTE_V_VALID | HPTE_V_ABSENT);
}

/*
 * What a write of @len bytes has to return, and to make of the table, one HPTE
 * after the other; no more than @records of them, if that comes first.
 */
static ssize_t model_write(size_t len, unsigned int records)
{
	size_t done = 0;

	memcpy(f->wanted, f->hptes, f->nr * ENTRY_SIZE);
	while (done < len && records--) {
		const struct kvm_get_htab_header *rec = (const void *)f->want + done;
		const struct kvm_hpt_entry *hptes = (const void *)(rec + 1);
		u64 index = rec->index, i;

		if (len - done < HEADER_SIZE || len - done < record_size(rec) ||
		    index >= f->nr || index + rec->n_valid + rec->n_invalid > f->nr)
			return done ?: -EINVAL;
		for (i = 0; i < rec->n_valid; i++)
			if (!(hptes[i].v & cpu_to_be64(HPTE_V_VALID)))
				return done ?: -EINVAL;
		memcpy(&f->wanted[index], hptes, rec->n_valid * ENTRY_SIZE);
		memset(&f->wanted[index + rec->n_valid], 0, rec->n_invalid * ENTRY_SIZE);
		done += record_size(rec);
	}
	return done;
}

/*
 * Write @len bytes of the stream, which then is empty: no more than @records of
 * them can be applied, and then @err comes.  Or write all of it, but only @len
 * bytes are there, in user memory, before @end.
 */
static ssize_t writer_write(size_t len, unsigned int records, int err, unsigned long end)
{
	ssize_t want = f->nr ? model_write(len, records) : 0, got;
	void __user *from = (void __user *)(end - len);
	struct kvec segments[3];
	struct iov_iter iter = in_segments(segments, f->want, len, ITER_SOURCE);

	if (end) {
		KUNIT_ASSERT_EQ(f->test, copy_to_user(from, f->want, len), 0);
		iov_iter_ubuf(&iter, ITER_SOURCE, from, f->stream);
		want = want == -EINVAL ? 0 : want;
	}
	got = vfs_iter_write(f->writer, &iter, NULL, 0);
	KUNIT_ASSERT_STREQ(f->test, f->misuse ?: "", "");
	KUNIT_ASSERT_EQ(f->test, got, want ?: err);
	KUNIT_ASSERT_EQ(f->test, memcmp(f->hptes, f->wanted, f->nr * ENTRY_SIZE), 0);
	f->stream = 0;
	return got;
}

enum op {
	END, STEPS_, TABLE_, SET_, R_IN_, LOCK_, ARM_, NOMEM_, OPEN_, CLOSE_, GET_, ALL_OF_,
	FAULT_, DRAIN_, WRITER_, RECORD_, SPOIL_, ECHO_, APPLY_, INFO_, STAT_,
};

struct step {
	enum op op;
	long a, b, c, d, e;
	const char *s;
	const struct step *steps;
};

#define ANY		LONG_MAX
#define ONE		MIN_READ	/* as much as one HPTE takes */
#define SCRIPT(name, ...) { STEPS_, .s = name, .steps = (const struct step[]) { __VA_ARGS__, {} } }
#define STEPS(...)	SCRIPT(NULL, __VA_ARGS__)
/* A new table, of 0 HPTEs for none; a reset if it has as many as the last one */
#define TABLE(nr)	{ TABLE_, nr }
#define FILLED(nr, pattern) { TABLE_, nr, .s = pattern }
/* Change HPTEs, see fake_set(); have the hardware change one; somebody locks one */
#define SET(first, n, pattern) { SET_, first, n, .s = pattern }
#define R_IN(index)	{ R_IN_, index }
#define LOCK(index, pattern) { LOCK_, index, .s = pattern }
/* Something is to happen at a call behind so many; no memory for bitmaps (1) */
#define ARM(at, after, act, arg) { ARM_, at, after, act, arg }
#define NOMEM(none)	{ NOMEM_, none }
/* Open a reader, and perhaps read all */
#define OPEN(r, start)	{ OPEN_, r, start }
#define READER(r)	STEPS(OPEN(r, 0), REST(r))
#define CLOSE(r)	{ CLOSE_, r }
/* A read gets so many HPTEs or an errno; a large one, and none is left; not all arrive */
#define GET(r, size, want) { GET_, r, size, want }
#define ALL_OF(r, want)	{ ALL_OF_, r, ALL, want }
#define FAULT(r, size, reach, want) { FAULT_, r, size, want, reach }
/* Reads until none is left */
#define DRAIN(r, size)	{ DRAIN_, r, size }
#define REST(r)		{ DRAIN_, r, ALL }
/* Open a writer; add to the stream; of which so many are applied, then an errno comes */
#define WRITER		{ WRITER_ }
#define RECORD(index, v, i) { RECORD_, index, v, i }
#define SPOIL		{ SPOIL_ }
#define ECHO		{ ECHO_ }	/* what was read last */
#define APPLY(n, err)	{ APPLY_, n, err }
/* What is seen from outside, -1 being the writer */
#define INFO(r, table, order, pass, position, pending) \
	{ INFO_, r, order, pass, position, pending, table }
#define INFO_WRITER(table, order, entries, invalid, bytes) \
	{ INFO_, -1, order, entries, invalid, bytes, table }
#define STAT(read, written, harvested) { STAT_, read, written, harvested }

static unsigned long *no_pending(unsigned long nr)
{
	fake_require(!f->held, "memory sought while the table is held");
	return NULL;
}

static void play_no_memory(bool none)
{
	f->no_memory = true;
	if (none)
		kunit_activate_static_stub(f->test, kvmppc_hpt_alloc_pending, no_pending);
	else
		kunit_deactivate_static_stub(f->test, kvmppc_hpt_alloc_pending);
}

static void expect(long got, long want)
{
	KUNIT_ASSERT_EQ(f->test, got, want == ANY ? max(got, 0L) : want);
}

static void play_info(const struct step *s)
{
	struct info is = fdinfo(s->a < 0 ? f->writer : f->readers[s->a].file);

	KUNIT_ASSERT_STREQ(f->test, is.table, s->s);
	expect(is.order, s->b);
	expect(s->a < 0 ? is.entries : is.pass, s->c);
	expect(s->a < 0 ? is.invalid : is.position, s->d);
	expect(s->a < 0 ? is.bytes : is.pending, s->e);
}

static void play_read(struct reader *r, const struct step *s)
{
	ssize_t got;

	/* It meets a table. */
	if (f->nr && !strcmp(fdinfo(r->file).table, "none"))
		reader_start(r, r->start);
	got = reader_read(r, s->b, s->op == FAULT_ ? user_memory(s->b) - s->d : 0);
	expect(got < 0 ? got : r->last, s->c);
	if (s->op == ALL_OF_)
		expect(reader_read(r, s->b, 0), 0);
}

static void play(const struct step *s)
{
	struct reader *r = &f->readers[s->a % MAX_READERS];

	f->step++;	/* shown if it fails */
	switch (s->op) {
	case TABLE_:	return fake_table(s->a, s->s);
	case SET_:	return fake_set(s->a, s->b, s->s);
	case R_IN_:	return fake_touch(s->a);
	case LOCK_:	return fake_lock(s->a, s->s);
	case ARM_:	return fake_arm(s->a, s->b, s->c, s->d);
	case NOMEM_:	return play_no_memory(s->a);
	case OPEN_:	return (void)open_reader(s->a, 0, s->b);
	case CLOSE_:	return close_reader(r);
	case GET_ ... FAULT_: return play_read(r, s);
	case DRAIN_:	return reader_drain(r, s->b);
	case WRITER_:	return open_writer();
	case RECORD_:	return (void)add_record(s->a, s->b, s->c);
	case SPOIL_:	return spoil_record(0);
	case ECHO_:	return (void)memcpy(f->want, f->got, f->stream = f->len);
	case APPLY_:	return (void)writer_write(f->stream, s->a, s->b, 0);
	case INFO_:	return play_info(s);
	case STAT_:
		expect(atomic64_read(&f->kvm.stat.hpt_entries_read), s->a);
		expect(f->kvm.stat.hpt_entries_written, s->b);
		return expect(f->kvm.stat.hpt_changes_harvested, s->c);
	default:
		for (s = s->steps; s->op; s++)
			play(s);
	}
}

static void test_script(struct kunit *test)
{
	struct reader *r;

	play(test->param_value);
	/* However it ends, nothing is lost. */
	for (r = f->readers; r < f->readers + MAX_READERS; r++)
		if (r->nr)
			reader_drain(r, ALL);
}

#define SPARSE "v.................................................................."

/* Wherever it fails, the rest comes later. */
#define FAR(reach) STEPS(SET(0, 40000, "vvvaz...vaaz..v."), FAULT(0, SZ_256K, reach, ANY), \
			 SET(1, 1, "i"), REST(0))

/* As many as fit, and one byte too few for more */
#define FIT(n)	STEPS(GET(0, 8 + 16 * (n), n), GET(0, 15 + 16 * (n), n), GET(0, 23 + 16 * (n), n))
/* More of the same than a record can tell of, and a little before and behind it */
#define LONG_RUN(n, is) SCRIPT(#n " times " is, FILLED(132096, "vvvvvvvvvi"), \
			       SET(10, n, is), OPEN(0, 0), GET(0, 487, ANY), \
			       GET(0, SZ_64K + 9, ANY), REST(0), SET(8, n, is), REST(0))
/* What changes before the start comes next, also on the way; then there is a reset. */
#define START(start, n) SCRIPT("from " #start " on", FILLED(192, "vvaizvi"), \
				OPEN(0, start), SET((191 - (n)) & 191, 1, "v"), \
				GET(0, ALL, n), ALL_OF(0, (n) < 192), SET(0, 1, "v"), \
				SET((192 - (n)) / 2, 1, "v"), SET(191, 1, "i"), \
				DRAIN(0, 100), CLOSE(0), OPEN(0, start), GET(0, 60, ANY), \
				SET(60, 10, "v"), DRAIN(0, 60), FILLED(192, "av"), \
				DRAIN(0, 100))
/* Two readers that have both read all, each with a bitmap after that */
#define TWO_READERS STEPS(OPEN(0, 0), OPEN(1, 0), REST(0), REST(1), REST(0))

/* Alone, and between two good ones */
#define BAD(...) STEPS(RECORD(__VA_ARGS__), APPLY(0, -EINVAL), RECORD(5, 1, 0), \
		       RECORD(__VA_ARGS__), RECORD(6, 1, 0), APPLY(1, 0))
#define GOOD(...) STEPS(RECORD(__VA_ARGS__), APPLY(1, 0))
#define MIXED(v) STEPS(GOOD(20 + (v), v, 0), GOOD(20 + (v), v, 1), GOOD(20 + (v), v, 2), \
		       RECORD(10 * (v), v, 3), RECORD(10 * (v) + 1, v, 4), APPLY(2, 0))
/* More than a writer has room for at first, alone, between others, and bad ones */
#define LONG_RECORD(n) SCRIPT("a record of " #n, TABLE(200000), WRITER, \
			      GOOD(7, n, 65535), WRITER, RECORD(0, 3, 3), RECORD(9, n, 1), \
			      RECORD(70000, n, 0), RECORD(199999, 1, 0), APPLY(4, 0), \
			      RECORD(200000 - (n) + 1, n, 0), APPLY(0, -EINVAL), \
			      RECORD(0, n, 0), SPOIL, APPLY(0, -EINVAL))

static const struct step scripts[] = {
	/* One reader */
	SCRIPT("as many as fit", FILLED(4096, "v"), OPEN(0, 0), FIT(1), FIT(2), FIT(3), FIT(4),
	       FIT(5), FIT(63), FIT(64), FIT(65), FIT(129)),
	LONG_RUN(65535, "v"), LONG_RUN(65536, "a"), LONG_RUN(131071, "v"), LONG_RUN(65535, "z"),
	LONG_RUN(65536, "i"), LONG_RUN(131071, "z"), START(0, 192), START(1, 191), START(63, 129),
	START(64, 128), START(65, 127), START(190, 2), START(191, 1), START(192, 0), START(193, 0),
	START(4096, 0), START(U32_MAX, 0), START(BIT(32), 0), START(BIT(32) + 5, 0),
	START(BIT(63), 0), START(U64_MAX, 0),
	SCRIPT("buffer too small", TABLE(64), SET(3, 2, "v"), OPEN(0, 0), GET(0, 23, -EINVAL),
	       DRAIN(0, ONE), SET(1, 1, "v"), GET(0, 23, -EINVAL), GET(0, ONE, 1), DRAIN(0, ONE)),
	SCRIPT("one change", FILLED(49152, "vivvaiz"), READER(0), GET(0, ALL, 0), SET(0, 1, "v"),
	       ALL_OF(0, 1), SET(49151, 1, "i"), ALL_OF(0, 1), SET(63, 2, "v"), ALL_OF(0, 2),
	       SET(255, 66, "a"), ALL_OF(0, 66), SET(16383, 2, "v"), ALL_OF(0, 2)),
	SCRIPT("before, at and behind the place", TABLE(4096), READER(0), SET(1000, 1, "v"),
	       SET(2000, 1, "v"), SET(2500, 1, "v"), SET(3000, 1, "v"), GET(0, ONE, 1),
	       GET(0, ONE, 1), SET(1500, 1, "v"), SET(2500, 1, "i"), SET(2800, 1, "v"),
	       GET(0, ONE, 1), GET(0, ONE, 1), GET(0, ONE, 1), INFO(0, "current", 16, 4, 0, 0),
	       GET(0, ONE, 1), GET(0, ONE, 0)),
	SCRIPT("the last one fits", TABLE(8192), READER(0), SET(5000, 1, "v"), SET(8191, 1, "v"),
	       GET(0, 2 * ONE, 2), SET(8191, 1, "v"), GET(0, ONE + 8, 1), GET(0, ONE, 0)),
	SCRIPT("a change in the first pass", FILLED(192, "v"), OPEN(0, 0), GET(0, 1000, 62),
	       SET(10, 1, "v"), SET(61, 2, "v"), SET(150, 1, "v"), GET(0, ALL, 130), ALL_OF(0, 2)),
	SCRIPT("hidden changes", FILLED(192, "va"), OPEN(0, 0), R_IN(5), R_IN(100),
	       GET(0, 1000, 62), R_IN(7), R_IN(190), GET(0, ALL, 130), ALL_OF(0, 1), R_IN(64),
	       R_IN(191), ALL_OF(0, 2)),
	SCRIPT("locked", FILLED(192, "vai"), READER(0), LOCK(9, "v"), GET(0, ALL, 1), LOCK(10, "i"),
	       GET(0, ALL, 1), LOCK(99, "z"), GET(0, ALL, 1), LOCK(101, "v"), ALL_OF(0, 1)),
	SCRIPT("locked, first pass", FILLED(192, "vi"), OPEN(0, 0), LOCK(10, "i"), ALL_OF(0, 192)),
	SCRIPT("locked in the first pass of one of two", TABLE(192), SET(0, 64, "v"), OPEN(0, 0),
	       OPEN(1, 0), LOCK(10, "v"), GET(1, ALL, 192), REST(0), LOCK(100, "a")),
	SCRIPT("a copy that fails", TABLE(192), READER(0), SET(0, 64, "v."),
	       FAULT(0, 280, 23, -EFAULT), FAULT(0, 280, 0, -EFAULT), FAULT(0, 280, 24, 1),
	       FAULT(0, 280, 100, 4), FAULT(0, 280, 7, -EFAULT), INFO(0, "current", 12, 3, 10, 0),
	       SET(0, 1, "v"), SET(12, 1, "z"), GET(0, ALL, 27), ALL_OF(0, 1)),
	SCRIPT("a copy fails far in", TABLE(40000), OPEN(0, 0), FAR(65519), FAR(65535), FAR(65536),
	       FAR(65537), FAR(65560), FAR(131056), FAR(131071), FAR(132000), FAR(200000)),
	SCRIPT("a copy that fails in the first pass", FILLED(192, "vi"), OPEN(0, 5),
	       FAULT(0, 200, 8, 1), INFO(0, "current", 12, 1, 6, 186), FAULT(0, 200, 0, -EFAULT),
	       FAULT(0, 200, 24, ANY), ALL_OF(0, ANY)),

	/* Several readers, a writer beside them */
	SCRIPT("changes all over the table", FILLED(40000, "v"), TWO_READERS, SET(0, 40000, SPARSE),
	       ALL_OF(0, 598), ALL_OF(1, 598), R_IN(8200), SET(8260, 1, "v"), ALL_OF(0, 2)),
	SCRIPT("a reader's fdinfo", OPEN(0, 5), INFO(0, "none", 0, 0, 0, 0), TABLE(128),
	       SET(10, 10, "v"), GET(0, 32, 6), INFO(0, "current", 11, 1, 11, 117),
	       GET(0, ALL, 117), INFO(0, "current", 11, 2, 0, 0), GET(0, ALL, 0),
	       INFO(0, "current", 11, 3, 0, 0), SET(50, 3, "v"), INFO(0, "current", 11, 3, 0, 0),
	       GET(0, ONE, 1), INFO(0, "current", 11, 3, 51, 0), TABLE(128),
	       INFO(0, "current", 11, 1, 0, 128), GET(0, ALL, 128), INFO(0, "current", 11, 2, 0, 0),
	       TABLE(0), INFO(0, "gone", 11, 2, 0, 0), TABLE(128), INFO(0, "gone", 11, 2, 0, 0)),
	SCRIPT("statistics of a lone reader", FILLED(192, "vi"), OPEN(0, 0), DRAIN(0, 100),
	       STAT(96, 0, 0), SET(64, 10, "v"), GET(0, ONE, 1), GET(0, 40, 2), STAT(99, 0, ANY),
	       FAULT(0, 100, 8, -EFAULT), DRAIN(0, 100), STAT(106, 0, 10), R_IN(0), REST(0),
	       STAT(107, 0, 11)),
	SCRIPT("statistics of several readers and a writer", TABLE(4096), WRITER,
	       RECORD(0, 100, 50), APPLY(1, 0), STAT(0, 100, 0), OPEN(0, 0), OPEN(1, 50),
	       DRAIN(0, 1000), STAT(100, 100, 0), DRAIN(1, 1000), STAT(150, 100, 0), DRAIN(0, 1000),
	       SET(5, 2, "v"), SET(3000, 1, "v"), STAT(150, 100, 0), REST(0), STAT(153, 100, 3),
	       REST(1), STAT(156, 100, 3), RECORD(4096, 1, 0), APPLY(0, -EINVAL), SET(8, 1, "v"),
	       FAULT(0, 280, 7, -EFAULT), STAT(156, 100, 4), REST(0), STAT(157, 100, 4)),
	SCRIPT("a change is for each", FILLED(4096, "viva"), TWO_READERS, SET(10, 3, "v"),
	       SET(4095, 1, "z"), GET(0, ALL, 4), INFO(1, "current", 16, 3, 0, 4), GET(0, ALL, 0),
	       ALL_OF(1, 4), GET(0, ALL, 0)),
	SCRIPT("what has no room is kept", FILLED(4096, "viva"), TWO_READERS, SET(10, 3, "v"),
	       SET(70, 1, "v"), GET(0, ONE, 1), ALL_OF(1, 4), ALL_OF(0, 3), GET(1, ALL, 0)),
	SCRIPT("what fails to arrive is kept for one", FILLED(4096, "viva"), TWO_READERS,
	       SET(10, 3, "v.v"), FAULT(0, 100, 30, 1), ALL_OF(1, 2), ALL_OF(0, 1)),
	SCRIPT("before, at and behind the other's place", FILLED(4096, "viva"), TWO_READERS,
	       SET(100, 3, "v"), GET(1, ONE, 1), SET(50, 1, "v"), SET(101, 1, "v"),
	       SET(200, 1, "v"), GET(0, ALL, 5), GET(1, ALL, 3), ALL_OF(1, 1)),
	SCRIPT("told of changes in the first pass", FILLED(4096, "v"), READER(0), OPEN(1, 64),
	       FAULT(1, 280, 7, -EFAULT), GET(0, ALL, 0), GET(1, 4096, 255), SET(4000, 1, "v"),
	       REST(0), INFO(1, "current", 16, 1, 319, 3777), SET(3, 1, "v"), SET(100, 2, "vi"),
	       SET(319, 1, "v"), REST(0), GET(1, ALL, 3777), GET(1, 1000, 62), SET(3, 1, "v"),
	       REST(0), GET(1, ALL, 4034), ALL_OF(1, 1)),
	SCRIPT("one that goes takes nothing along", FILLED(4096, "viva"), TWO_READERS,
	       SET(10, 1, "v"), SET(4000, 1, "v"), GET(0, ONE, 1), CLOSE(0), ALL_OF(1, 2),
	       SET(5, 60, "v"), GET(1, ONE, 1), ALL_OF(1, 59), REST(1), OPEN(0, 0), SET(7, 1, "v")),
	SCRIPT("a hidden change found by another's first pass", FILLED(192, "va"), READER(0),
	       SET(70, 2, "v"), OPEN(1, 0), R_IN(55), REST(1), ALL_OF(0, 3)),
	SCRIPT("a hidden change found by one", FILLED(4096, "viva"), TWO_READERS, R_IN(0),
	       ALL_OF(0, 1), ALL_OF(1, 1), SET(64, 3, "v"), ARM(AT_COPY, 0, TOUCH, 65),
	       GET(0, ALL, 3)),
	SCRIPT("bitmaps for two at once", FILLED(192, "v"), OPEN(0, 0), OPEN(1, 0), OPEN(2, 0),
	       GET(0, ALL, 192), GET(1, ALL, 192), GET(2, ALL, 192), SET(5, 2, "v"), ALL_OF(0, 2),
	       ALL_OF(1, 2), ALL_OF(2, 2)),
	SCRIPT("no memory: the next pass returns all", FILLED(192, "vai"), NOMEM(1), TWO_READERS,
	       SET(5, 1, "v"), GET(0, ALL, 1), INFO(1, "current", 12, 3, 0, 192), ALL_OF(1, 192),
	       REST(1), GET(0, ALL, 0)),
	SCRIPT("no memory, midway", FILLED(192, "v"), NOMEM(1), TWO_READERS, SET(64, 3, "v"),
	       GET(1, ONE, 1), SET(0, 1, "v"), REST(0), SET(190, 1, "v"), GET(1, ALL, 1),
	       GET(1, ALL, 192), NOMEM(0), REST(0), SET(9, 2, "v"), GET(0, ALL, 2), ALL_OF(1, 2)),
	SCRIPT("memory comes in a second whole pass", FILLED(192, "v"), NOMEM(1), TWO_READERS,
	       SET(5, 1, "v"), GET(0, ALL, 1), GET(1, 1000, 62), NOMEM(0), SET(3, 1, "v"),
	       GET(0, ALL, 1), GET(1, ALL, 130), ALL_OF(1, 192), SET(7, 1, "v"), GET(0, ALL, 1),
	       ALL_OF(1, 1)),
	SCRIPT("no memory, and then a reset", TABLE(192), NOMEM(1), TWO_READERS, SET(5, 1, "v"),
	       GET(0, ALL, 1), TABLE(192), NOMEM(0), ALL_OF(1, 192)),

	/* A table is reset, or replaced */
	SCRIPT("a reset in the first pass", FILLED(192, "v"), OPEN(0, 5), GET(0, 1000, 62),
	       FILLED(192, "vi"), INFO(0, "current", 12, 1, 0, 192), ALL_OF(0, 192)),
	SCRIPT("a reset for several", FILLED(4096, "viva"), TWO_READERS, SET(3, 3, "v"),
	       GET(0, ONE, 1), TABLE(4096), SET(0, 1, "v"), GET(1, ALL, 4096),
	       INFO(0, "current", 16, 1, 0, 4096), GET(0, ALL, 4096), REST(0), REST(1),
	       SET(3, 2, "v"), GET(1, ONE, 1), GET(0, ALL, 2), GET(1, ALL, 1),
	       INFO(0, "current", 16, ANY, 0, 0)),
	SCRIPT("a larger table", TABLE(64), OPEN(0, 0), TABLE(128), OPEN(1, 100), SET(127, 1, "v"),
	       REST(1), GET(0, 100, -ESTALE), GET(0, 23, -EINVAL), INFO(0, "gone", 10, 1, 0, 0),
	       SET(127, 1, "v"), REST(1), GET(0, 100, -ESTALE), TABLE(64), GET(0, 100, -ESTALE),
	       GET(1, 100, -ESTALE), CLOSE(0), OPEN(0, 0), DRAIN(0, 100), GET(1, 100, -ESTALE),
	       TABLE(64), TABLE(128), TABLE(128), GET(0, 100, -ESTALE)),
	SCRIPT("no table yet", OPEN(0, 0), INFO(0, "none", 0, 0, 0, 0), GET(0, 100, 0),
	       GET(0, 23, -EINVAL), OPEN(1, 30), FILLED(64, "vzaiv"), INFO(0, "none", 0, 0, 0, 0),
	       GET(0, ALL, 64), SET(10, 1, "v"), DRAIN(0, 100), TABLE(0), GET(0, 100, 0),
	       GET(1, 100, 0), INFO(0, "gone", 10, 4, 0, 0), FILLED(64, "vi"), GET(0, 100, -ESTALE),
	       GET(1, ALL, 34), DRAIN(1, 100), TABLE(0), GET(1, 100, 0), TABLE(64),
	       GET(1, 100, -ESTALE)),
	SCRIPT("replaced with all there to be copied", FILLED(64, "v"), OPEN(0, 0),
	       ARM(AT_RELEASE, 0, REPLACE, 0), GET(0, 100, 5), GET(0, 100, -ESTALE)),
	SCRIPT("replaced, and the copy fails", FILLED(64, "v"), OPEN(0, 0),
	       ARM(AT_RELEASE, 0, REPLACE, 0), FAULT(0, 100, 20, -EFAULT), GET(0, 100, -ESTALE)),
	SCRIPT("given up, and the copy fails", FILLED(64, "v"), READER(0), SET(0, 64, "v."),
	       ARM(AT_RELEASE, 0, GIVE_UP, 0), FAULT(0, 100, 20, -EFAULT), GET(0, 100, 0)),
	SCRIPT("reset with all there to be copied, or not", FILLED(192, "v"), READER(0),
	       SET(0, 192, "v."), ARM(AT_RELEASE, 0, RESET, 0), GET(0, 100, 4), REST(0),
	       SET(0, 192, "v."), ARM(AT_RELEASE, 0, RESET, 0), FAULT(0, 100, 30, 1),
	       INFO(0, "current", 12, 1, 0, 192)),

	/* Writing */
	SCRIPT("a writer's fdinfo", WRITER, INFO_WRITER("none", 0, 0, 0, 0), TABLE(128),
	       RECORD(10, 3, 4), RECORD(50, 0, 50), RECORD(100, 1, 50), APPLY(2, 0),
	       INFO_WRITER("current", 11, 3, 54, 64), ARM(AT_PUT, 1, FAIL, -EIO), RECORD(10, 1, 0),
	       RECORD(20, 1, 0), APPLY(1, 0), INFO_WRITER("current", 11, 4, 54, 88), TABLE(128),
	       INFO_WRITER("current", 11, 4, 54, 88), TABLE(64),
	       INFO_WRITER("gone", 11, 4, 54, 88)),
	SCRIPT("a reader gets it", TABLE(64), WRITER, READER(0), RECORD(30, 3, 2), APPLY(1, 0),
	       ALL_OF(0, 5)),
	SCRIPT("the later one wins", TABLE(64), WRITER, RECORD(10, 10, 0), RECORD(15, 3, 0),
	       RECORD(19, 0, 5), RECORD(21, 2, 2), RECORD(5, 6, 0), RECORD(10, 0, 1),
	       RECORD(63, 1, 0), RECORD(63, 1, 0), APPLY(8, 0)),
	SCRIPT("empty records", TABLE(64), WRITER, RECORD(0, 0, 0), APPLY(1, 0), RECORD(0, 0, 0),
	       RECORD(5, 2, 1), RECORD(5, 0, 0), RECORD(63, 0, 0), RECORD(63, 1, 0), APPLY(5, 0),
	       RECORD(64, 0, 0), APPLY(0, -EINVAL), RECORD(0, 0, 0), RECORD(64, 0, 0), APPLY(1, 0)),
	SCRIPT("no table", WRITER, INFO_WRITER("none", 0, 0, 0, 0), RECORD(0, 0, 0),
	       APPLY(0, -EINVAL), RECORD(0, 1, 0), APPLY(0, -EINVAL), TABLE(128), TABLE(64),
	       RECORD(0, 1, 0), APPLY(1, 0), TABLE(64), RECORD(0, 1, 0), APPLY(1, 0)),
	SCRIPT("another table before anything is written", TABLE(64), WRITER, TABLE(128),
	       RECORD(0, 1, 0), APPLY(0, -ESTALE), INFO_WRITER("gone", 10, 0, 0, 0), TABLE(64),
	       RECORD(0, 1, 0), APPLY(0, -ESTALE)),
	SCRIPT("the table goes", TABLE(64), WRITER, RECORD(0, 1, 0), APPLY(1, 0), TABLE(0),
	       RECORD(0, 1, 0), APPLY(0, -EINVAL), TABLE(64), RECORD(0, 1, 0), APPLY(0, -ESTALE)),
	SCRIPT("refused by the flavour", TABLE(64), WRITER, ARM(AT_PUT, 0, FAIL, -EIO),
	       RECORD(4, 2, 1), RECORD(8, 3, 2), APPLY(0, -EIO), ARM(AT_PUT, 1, FAIL, -ENOMEM),
	       RECORD(4, 2, 1), RECORD(8, 3, 2), APPLY(1, 0), RECORD(8, 3, 2), APPLY(0, -ENOMEM),
	       ARM(AT_PUT, 2, FAIL, -EINVAL), RECORD(4, 2, 1), RECORD(8, 3, 2), RECORD(20, 1, 0),
	       RECORD(7, 2, 2), APPLY(2, 0), INFO_WRITER("current", 10, 7, 4, 3 * 8 + 7 * 16),
	       ARM(AT_PUT, 0, FAIL, -EINVAL), RECORD(4, 0, 9), APPLY(0, -EINVAL)),
	SCRIPT("bounds are seen to before the entries, and both before the flavour", TABLE(64),
	       WRITER, ARM(AT_PUT, 0, FAIL, -EIO), RECORD(63, 2, 0), APPLY(0, -EINVAL),
	       RECORD(63, 1, 0), SPOIL, APPLY(0, -EINVAL)),
	SCRIPT("good", FILLED(64, "vi"), WRITER, MIXED(0), MIXED(1), MIXED(2), MIXED(3), MIXED(4),
	       GOOD(63, 0, 0), GOOD(63, 1, 0), GOOD(63, 0, 1), GOOD(62, 1, 1), GOOD(0, 64, 0),
	       GOOD(0, 0, 64), GOOD(0, 63, 1), GOOD(0, 1, 63)),
	SCRIPT("out of bounds", TABLE(64), WRITER, BAD(64, 0, 0), BAD(64, 1, 0), BAD(64, 0, 1),
	       BAD(65, 1, 1), BAD(63, 2, 0), BAD(63, 0, 2), BAD(63, 1, 1), BAD(60, 2, 3),
	       BAD(0, 65, 0), BAD(0, 0, 65), BAD(0, 64, 1), BAD(0, 1, 64), BAD(0, 65535, 0),
	       BAD(0, 0, 65535), BAD(1, 65535, 65535), BAD(U32_MAX, 0, 0), BAD(U32_MAX, 1, 0),
	       BAD(U32_MAX, 0, 1), BAD(U32_MAX, 1, 1), BAD(U32_MAX, 65535, 65535),
	       BAD(U32_MAX - 65534, 65535, 0), BAD(U32_MAX - 65534, 0, 65535),
	       BAD(U32_MAX - 63, 64, 64), BAD(BIT(31), 1, 0), BAD(BIT(31), 0, 65535)),
	LONG_RECORD(4095), LONG_RECORD(4096), LONG_RECORD(4097), LONG_RECORD(10000),
	LONG_RECORD(65534), LONG_RECORD(65535),
	SCRIPT("what was read", FILLED(200000, "vvvziv"), SET(1000, 9000, "v"),
	       SET(50000, 130000, "i"), OPEN(0, 0), WRITER, GET(0, ALL, 200000), ECHO,
	       SET(0, 200000, "vi"), APPLY(UINT_MAX, 0)),
};

static void test_open(struct kunit *test)
{
	atomic_t *interest = &f->kvm.arch.hpte_mod_interest;
	struct reader *r = &f->readers[0];
	unsigned int i, id, last = 0;
	struct file *file;

	fake_table(64, NULL);
	/* Readers are counted, writers are not; and no position, so no pread() either. */
	for (i = 0; i < 4; i++) {
		file = fake_open(i, 0);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
		KUNIT_EXPECT_EQ(test, file->f_mode & (FMODE_READ | FMODE_WRITE),
				i & KVM_GET_HTAB_WRITE ? FMODE_WRITE : FMODE_READ);
		KUNIT_EXPECT_EQ(test, vfs_llseek(file, 0, SEEK_SET), -ESPIPE);
		KUNIT_EXPECT_FALSE(test, file->f_mode & (FMODE_PREAD | FMODE_PWRITE));
		KUNIT_EXPECT_TRUE(test, sscanf(fdinfo_text(file), "hpt-id: %u", &id) == 1);
		KUNIT_EXPECT_GT(test, id, last);
		last = id;
		KUNIT_EXPECT_EQ(test, refcount_read(&f->kvm.users_count), 2);
		KUNIT_EXPECT_EQ(test, atomic_read(interest), !(i & KVM_GET_HTAB_WRITE));
		/* Who closes it need not wait for those who have the table. */
		f->held = true;
		__fput_sync(file);
		f->held = false;
		KUNIT_EXPECT_EQ(test, refcount_read(&f->kvm.users_count), 1);
		KUNIT_EXPECT_EQ(test, atomic_read(interest), 0);
	}
	for (i = 2; i < 64; i++)
		KUNIT_EXPECT_PTR_EQ(test, fake_open(BIT(i) | (i & 3), 0), ERR_PTR(-EINVAL));

	/* An index has 32 bits.  The largest table of all is one in name only. */
	kvmppc_hpt_replaced(&f->kvm, 36);
	f->nr = BIT(32);
	r->file = fake_open(0, BIT(32) - 1);
	KUNIT_ASSERT_FALSE(test, IS_ERR(r->file));
	KUNIT_EXPECT_EQ(test, fdinfo(r->file).pending, 1);
	for (i = 0; i < MIN_READ; i++)
		KUNIT_EXPECT_EQ(test, kernel_read(r->file, f->got, i, NULL), -EINVAL);
	open_writer();
	add_record(U32_MAX, 0, 0);
	add_record(U32_MAX - 5, 3, 4);
	KUNIT_EXPECT_EQ(test, kernel_write(f->writer, f->want, f->stream, NULL), 8);
	KUNIT_EXPECT_EQ(test, kernel_write(f->writer, f->want + 8, f->stream - 8, NULL), -EINVAL);
	f->nr += 64;
	/* The end of the test sees to what is left behind. */
	KUNIT_EXPECT_PTR_EQ(test, fake_open(0, 0), ERR_PTR(-EOVERFLOW));
	fake_arm(AT_HOLD, 0, FAIL, -EINTR);
	KUNIT_EXPECT_PTR_EQ(test, fake_open(0, 0), ERR_PTR(-EINTR));
	KUNIT_EXPECT_PTR_EQ(test, fake_open(KVM_GET_HTAB_WRITE, 0), ERR_PTR(-EINTR));
}

/* Each change is told to each reader: the more there are, the fewer under one hold. */
static void test_many_readers(struct kunit *test)
{
	static struct file *files[MANY];
	unsigned int i;

	if (totalram_pages() < SZ_2G >> PAGE_SHIFT)
		kunit_skip(test, "the buffers of 20,000 readers take 1.3 GB");
	fake_table(LARGE, "v");
	reader_drain(open_reader(0, 0, 0), ALL);
	for (i = 0; i < MANY; i++)
		files[i] = fake_open(0, 0);
	fake_set(0, LARGE, "vi");
	f->held_limit = BITS_PER_LONG;	/* of which each of the others is told */
	reader_drain(&f->readers[0], ALL);
	for (i = 0; i < MANY; i++)
		__fput_sync(files[i]);
}

/* What goes out, byte by byte, and what fdinfo says */
static void test_format(struct kunit *test)
{
	static const struct kvm_get_htab_header header = { 70, 2, 1 };
	static const char text[] = "hpt-flavour:\tfake\nhpt-direction:\tread\n"
		"hpt-table:\tcurrent\nhpt-order:\t12\nhpt-pass:\t4\nhpt-position:\t0\n"
		"hpt-pending:\t0\nhpt-entries:\t2\nhpt-invalid:\t193\nhpt-bytes:\t48\n";
	struct reader *r;

	fake_table(192, NULL);
	r = open_reader(0, 0, 0);
	reader_drain(r, ALL);
	fake_set(70, 3, "vvi");
	KUNIT_ASSERT_EQ(test, reader_read(r, ALL, 0), 40);
	KUNIT_EXPECT_MEMEQ(test, f->got, &header, HEADER_SIZE);
	KUNIT_EXPECT_MEMEQ(test, f->got + HEADER_SIZE, &f->hptes[70], 2 * ENTRY_SIZE);
	KUNIT_EXPECT_STREQ(test, strstr(fdinfo_text(r->file), "hpt-flavour"), text);
}

/* What may come between wherever a read or write gives up the table */
static const struct between {
	const char *name;
	enum call at;
	enum act act;
	int arg, err, err_of_write;
} between[] = {
	{ "killed while it waits", AT_HOLD, FAIL, -EINTR, -ERESTARTSYS, -ERESTARTSYS },
	{ "vCPUs run", AT_HOLD, FAIL, -EBUSY, -EBUSY, -EBUSY },
	{ "a signal", AT_RELEASE, SIGNAL, 0, -ERESTARTSYS },
	{ "a reset", AT_HOLD, RESET },
	{ "another table", AT_HOLD, REPLACE, 0, -ESTALE, -ESTALE },
	{ "no table any more", AT_HOLD, GIVE_UP, 0, 0, -EINVAL },
};

/* In the first pass, or in a later one with nothing, or something, to return */
static void test_read_between(struct kunit *test)
{
	const struct between *b = test->param_value;
	unsigned int mode, after;
	struct reader *r;
	ssize_t got;

	allow_signal(SIGUSR1);
	for (mode = 0; mode < 6; mode++) {
		for (after = 0; ; after = 4 * after + 1) {
			fake_arm(0, 0, NOTHING, 0);
			fake_table(LARGE, SPARSE);
			r = open_reader(0, 0, 5000);
			if (mode % 3)
				reader_drain(r, ALL);
			if (mode % 3 == 2)
				fake_set(0, LARGE, SPARSE);
			fake_arm(b->at, after, b->act, b->arg);
			got = reader_read(r, mode > 2 ? 3000 : ALL, 0);
			fake_arm(b->at, 0, NOTHING, 0);
			flush_signals(current);
			if (!f->fired)
				break;
			/* There is nothing to return, or what there was is of no use. */
			if (b->act != RESET && (mode % 3 == 1 || b->act > RESET))
				KUNIT_EXPECT_TRUE(test, got <= 0);
			if (got < 0)
				KUNIT_EXPECT_EQ(test, got, b->err);
			if (b->act == REPLACE || b->act == GIVE_UP) {
				KUNIT_EXPECT_EQ(test, reader_read(r, 100, 0), b->err);
			} else {
				/* Before the place where that left it, and behind */
				fake_set(100, 1, "v");
				fake_set(LARGE - 100, 1, mode < 3 ? "i" : ".");
				reader_drain(r, ALL);
			}
			close_reader(r);
		}
		/* So much cannot be had at once. */
		KUNIT_EXPECT_TRUE(test, mode > 2 || after > 1);
		close_reader(r);
	}
}

static const struct soak {
	const char *name;
	unsigned long nr;
	unsigned int readers;
	bool bolted, settled, under_way;
} soaks[] = {
	{ "one reader", 192, 1 }, { "one of bolted HPTEs", 192, 1, .bolted = true },
	{ "one and nothing hidden", 192, 1, .settled = true },
	{ "one and changes under way", 192, 1, .under_way = true },
	{ "three readers", 192, 3 }, { "three of a large table", 33792, 3 },
	{ "three and changes under way", 192, 3, .under_way = true },
};

static void test_read_at_random(struct kunit *test)
{
	static const char * const patterns[] = {
		"v", "a", "i", "b", "v.", "za", "ivvaviaavbsBzzvvvivvaiiv", "zzzzzzzzzzzzzzzv",
		"vvvvvvvvvaiiiiiiiii", "v..............................", "aaaaaaaaaaaaaaaa.", "vi",
	};
	const struct soak *soak = test->param_value;
	unsigned long end = user_memory(SZ_64K);
	unsigned int i, k;

	prandom_seed_state(&f->rnd, soak - soaks);
	f->ops.follow = soak->settled ? NULL : fake_follow;
	fake_table(soak->nr, NULL);
	for (i = 0; i < 400; i++) {
		u32 x = prandom_u32_state(&f->rnd), what = prandom_u32_state(&f->rnd) % 16;
		const char *pattern = patterns[(x >> 24) % ARRAY_SIZE(patterns)];
		struct reader *r = &f->readers[x % soak->readers];
		unsigned long first = (x >> 4) % f->nr;
		size_t size = MIN_READ + (x >> 8) % (what < 11 ? 50 : 500);

		/* At first, and now and then, all is new. */
		for (k = 0; !(i % 100) && k < soak->readers; k++) {
			if (i)
				reader_drain(&f->readers[k], size);
			close_reader(&f->readers[k]);
			open_reader(k, soak->bolted ^ k ? KVM_GET_HTAB_BOLTED_ONLY : 0, k * first);
		}
		if (what < 4) {
			fake_set(first, what ? 1 : min(x % 200, f->nr - first), pattern);
		} else if (what < 5 && !soak->settled) {
			fake_touch(first);
		} else if (what < 13) {
			f->refuse = x & BIT(30);
			f->at_once = x >> 28 & 3;
			fake_arm(AT_COPY, soak->under_way ? 9 : 0,
				 soak->under_way ? RANDOM : x & BIT(27) ? STUTTER : NOTHING, -1);
			reader_read(r, size, 0);
			fake_arm(0, 0, NOTHING, 0);
		} else if (what < 15) {
			reader_read(r, size, end - x % size);
		} else if (!(x % 16)) {
			fake_table(f->nr, pattern);
		}
	}
	for (k = 0; k < soak->readers; k++)
		reader_drain(&f->readers[k], 500);
}

/* Cut short, or to be read no further, near what is of interest, as the first 64K are */
static void test_write_short(struct kunit *test)
{
	static const unsigned int lengths[] = { 1, 9000, 4000, 4085, 4086, 4087, 4088, 4089, 4090 };
	unsigned long end = user_memory(SZ_256K);
	unsigned int i, n, back;

	f->kvm.mm = current->mm;
	fake_table(20032, NULL);
	open_writer();
	for (i = 0; i < 2 * ARRAY_SIZE(lengths); i++) {
		n = lengths[i / 2];
		for (back = 0; back < (n == 1 ? 113 : 100); back += n == 1 ? 1 : 7) {
			add_record(5, 3, 2);
			add_record(20, 0, 7);
			add_record(30, n, 1);
			writer_write(add_record(6, 1, 1) - back, UINT_MAX,
				     i & 1 ? -EFAULT : 0, i & 1 ? end : 0);
		}
	}
	f->kvm.mm = NULL;
	/* The page tables of this process are not those of the VM. */
	KUNIT_EXPECT_EQ(test, writer_write(add_record(0, 1, 0), 0, -EIO, 0), -EIO);
}

static void test_write_between(struct kunit *test)
{
	const struct between *b = test->param_value;
	unsigned int i, after, done;
	ssize_t got;

	allow_signal(SIGUSR1);
	for (after = 0; ; after = 2 * after + 1) {
		fake_arm(0, 0, NOTHING, 0);
		fake_table(163840, NULL);
		open_writer();
		for (i = 0; i < 40; i++)
			add_record(i * 4000, 1, 3999);
		fake_arm(b->at, after, b->act, b->arg);
		f->fired = NOTHING;
		got = kernel_write(f->writer, f->want, f->stream, NULL);
		flush_signals(current);
		KUNIT_ASSERT_STREQ(test, f->misuse ?: "", "");
		if (!f->fired)
			break;
		if (!after && b->err_of_write)
			KUNIT_EXPECT_EQ(test, got, b->err_of_write);
		else	/* whole records, if not all */
			KUNIT_EXPECT_TRUE(test, got > 0 && got % MIN_READ == 0);
		done = max(got, 0L) / MIN_READ;
		if (b->act != SIGNAL)
			KUNIT_EXPECT_EQ(test, done == 40, b->act == RESET);
		if (b->act <= SIGNAL)
			KUNIT_EXPECT_TRUE(test, (!done || f->hptes[(done - 1) * 4000].v) &&
					  !f->hptes[done * 4000].v);
		/* What is left, written again, tells why. */
		if (b->err_of_write)
			KUNIT_EXPECT_EQ(test, kernel_write(f->writer, f->want, MIN_READ, NULL),
					b->err_of_write);
	}
	KUNIT_EXPECT_GT(test, after, 1);
}

static void test_write_at_random(struct kunit *test)
{
	unsigned int i, n;
	size_t len;

	prandom_seed_state(&f->rnd, 3);
	fake_table(192, NULL);
	open_writer();
	for (i = 0; i < 2000; i++) {
		for (n = prandom_u32_state(&f->rnd) % 12, len = 0; n; n--) {
			u32 x = prandom_u32_state(&f->rnd);

			/* Some too far out, some with an entry that is bad, most whole */
			len = add_record(x & 0xf00 ? (x >> 12) % 200 : x, x & 7, x >> 4 & 7);
			if (x & 7 && !(x >> 24 & 15))
				spoil_record(x % (x & 7));
		}
		if (len && i % 4 == 3)
			len = prandom_u32_state(&f->rnd) % len;
		writer_write(len, UINT_MAX, 0, 0);
	}
}

static int hpt_fd_init(struct kunit *test)
{
	memset(f, 0, offsetof(struct fake, readers));
	f->test = test;
	f->ops = fake_ops;
	f->held_limit = HELD_LIMIT;
	f->kvm.mm = current->mm;
	refcount_set(&f->kvm.users_count, 1);	/* ours, so that it is never destroyed */
	kvmppc_hpt_init_vm(&f->kvm);
	timer_setup(&f->timer, fake_unlock, 0);
	return init_srcu_struct(&f->kvm.srcu);
}

static void hpt_fd_exit(struct kunit *test)
{
	struct kvm_hpt_watch *watch = &f->kvm.arch.hpt_watch;
	unsigned int i;

	if (f->step && test->status == KUNIT_FAILURE)
		kunit_info(test, "in step %u\n", f->step);
	fake_arm(0, 0, NOTHING, 0);
	timer_shutdown_sync(&f->timer);
	flush_signals(current);
	for (i = 0; i < MAX_READERS; i++)
		close_reader(&f->readers[i]);
	close_file(&f->writer);
	/* What could not be opened is closed by others. */
	for (i = 0; i < 1000 && refcount_read(&f->kvm.users_count) > 1; i++) {
		flush_delayed_fput();
		fsleep(1000);
	}
	/* Nothing is left behind. */
	KUNIT_EXPECT_STREQ(test, f->misuse ?: "", "");
	KUNIT_EXPECT_TRUE(test, list_empty(&watch->readers) && !watch->nr_readers);
	KUNIT_EXPECT_EQ(test, atomic_read(&f->kvm.arch.hpte_mod_interest), 0);
	KUNIT_EXPECT_EQ(test, refcount_read(&f->kvm.users_count), 1);
	cleanup_srcu_struct(&f->kvm.srcu);
}

static int hpt_fd_suite_init(struct kunit_suite *suite)
{
	f = vzalloc(sizeof(*f));
	return f ? 0 : -ENOMEM;
}

static void hpt_fd_suite_exit(struct kunit_suite *suite)
{
	vfree(f);
}

KUNIT_ARRAY_PARAM_DESC(scripts, scripts, s);
KUNIT_ARRAY_PARAM_DESC(between, between, name);
KUNIT_ARRAY_PARAM_DESC(soaks, soaks, name);

static struct kunit_case hpt_fd_cases[] = {
	KUNIT_CASE(test_open),
	KUNIT_CASE_SLOW(test_many_readers),
	KUNIT_CASE(test_format),
	KUNIT_CASE_PARAM(test_script, scripts_gen_params),
	KUNIT_CASE_PARAM(test_read_between, between_gen_params),
	KUNIT_CASE_PARAM(test_read_at_random, soaks_gen_params),
	KUNIT_CASE(test_write_short),
	KUNIT_CASE_PARAM(test_write_between, between_gen_params),
	KUNIT_CASE(test_write_at_random),
	{}
};

static struct kunit_suite hpt_fd_suite = {
	.name = "kvm-hpt-fd",
	.init = hpt_fd_init,
	.exit = hpt_fd_exit,
	.suite_init = hpt_fd_suite_init,
	.suite_exit = hpt_fd_suite_exit,
	.test_cases = hpt_fd_cases,
};

kunit_test_suite(hpt_fd_suite);

MODULE_DESCRIPTION("KUnit test of the HPT file descriptor of KVM on Book3S 64");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
