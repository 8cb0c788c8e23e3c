// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_PPC_GET_HTAB_FD: random and mutated streams into a writer, and reads
 * into buffers of any size and kind.
 *
 * What a write is to do is worked out here from the text of
 * Documentation/virt/kvm/ppc-hpt-fd.rst, record by record, in a model of the
 * table.  After each write a reader is told of the entries of its records and
 * no others, and each reader's every entry is what the model has.  No vCPU
 * runs, so there is nothing that changes by itself.
 *
 * From the environment:
 *   HTAB_SEED          the seed, which is printed; a random one by default
 *   HTAB_FUZZ_RECORDS  how many records to write (1000000, for which an emulated
 *                      host takes a minute)
 */
#include <sys/auxv.h>
#include <sys/uio.h>

#include "htab_fixture.h"

#define RECORDS		1000000UL
#define ROUND_RECORDS	8000UL
#define MAX_ORDER	21

#define ARENA		(4UL << 20)	/* memory to write from or read into, */
#define HOLE		(4UL << 20)	/* and no memory after it */
#define CORPUS		(256UL << 10)
#define MAX_READ	70000UL
#define LONG_STREAM	70000UL
#define GUARD		16UL

#define FEATURE2_ARCH_3_00	0x00800000UL

/* What a record may fail with; 0 if it has to be applied */
#define E_INVAL		1U
#define E_IO		2U
#define E_FAULT		4U
#define OR_NOT		8U	/* or it may be applied */

struct fuzz_reader {
	int fd;
	bool bolted;
	unsigned long start;	/* index; past the end the first pass is a 0 */
	bool later;		/* a 0 is no such one */
	struct model m;
};

/* Guest memory, besides that of htab_add_memory() */
struct fuzz_slot {
	uint64_t base;
	uint64_t size;
	bool there;		/* in memory, for certain */
};

struct fuzz {
	struct htab_vm *vm;
	uint64_t rng;
	bool hv;
	uint64_t v_mask;	/* of what was written, what is kept */
	struct fuzz_slot slot[3];
	int writer;
	struct model want;
	struct fuzz_reader keen;	/* reads after each write */
	struct fuzz_reader lazy;	/* now and then, into all kinds of buffers */
	struct fuzz_reader bolted;	/* the same, of bolted entries */
	uint32_t serial;		/* of the last write, 0 before the first of a round */
	uint32_t *stamp;		/* of the last write that may have touched an entry */
	struct stream s;
	char *arena;
	char *buf;			/* of BIG_BUF, for the keen one */
	struct stream corpus;		/* records that were read */
	unsigned long hot;		/* many records are near this entry */
	unsigned long records, applied, refused, faulted, writes, entries;
	unsigned long reads, told, read_faults;
	uint64_t begin;
	uint64_t said;			/* when progress was last told */
	char failure[300];
};

#define fails(_f, ...) ({						\
	struct fuzz *_fuzz = (_f);					\
									\
	snprintf(_fuzz->failure, sizeof(_fuzz->failure), __VA_ARGS__);	\
	false;								\
})

/*
 * Random numbers: splitmix64
 */

static uint64_t rnd(struct fuzz *f)
{
	uint64_t z = f->rng += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static unsigned long below(struct fuzz *f, unsigned long n)
{
	return (rnd(f) >> 32) % n;
}

static bool one_in(struct fuzz *f, unsigned long n)
{
	return !below(f, n);
}

/*
 * What the document says
 */

/* Page sizes of entries that have L set, by the low bits of the page number */
static const struct {
	uint64_t mask;
	uint64_t lp;
	unsigned int shift;
} page_sizes[] = {
	{ 0xff000, 0x00000, 24 },
	{ 0x0f000, 0x01000, 16 },
	{ 0xff000, 0x03000, 34 },
	{ 0x0f000, 0x07000, 16 },	/* where the base page is of 4K */
	{ 0xff000, 0x08000, 24 },	/* of 64K */
	{ 0xff000, 0x38000, 24 },	/* of 4K */
};

static unsigned int entry_page_shift(const struct hpte *e)
{
	unsigned int i;

	if (!(e->v & HPTE_V_LARGE))
		return 12;
	for (i = 0; i < ARRAY_SIZE(page_sizes); i++)
		if ((e->r & page_sizes[i].mask) == page_sizes[i].lp)
			return page_sizes[i].shift;
	return 0;
}

/* The errors for which an entry can be refused */
static unsigned int judge_entry(const struct fuzz *f, const struct hpte *e)
{
	unsigned int shift = entry_page_shift(e);
	uint64_t size = 1ULL << shift;
	uint64_t addr = e->r & HPTE_R_RPN & ~(size - 1);
	unsigned int i;

	if (!(e->v & HPTE_V_VALID) || !shift || e->v >> 63)
		return E_INVAL;
	if (!f->hv || size <= (uint64_t)getpagesize())
		return 0;
	for (i = 0; i < ARRAY_SIZE(f->slot); i++) {
		const struct fuzz_slot *slot = &f->slot[i];

		if (addr - slot->base >= slot->size)
			continue;
		if ((slot->base | slot->size) & (size - 1))
			return E_IO;
		return slot->there ? E_IO : E_IO | OR_NOT;
	}
	return 0;
}

static struct hpte entry_at(const char *p)
{
	uint64_t raw[2];

	memcpy(raw, p, sizeof(raw));
	return (struct hpte){ .v = be64toh(raw[0]), .r = be64toh(raw[1]) };
}

/*
 * The same of the record at p, where a write has len bytes more, of which the
 * first "readable" are there
 */
static unsigned int judge_record(const struct fuzz *f, const char *p, size_t len,
				 size_t readable, struct kvm_get_htab_header *hdr)
{
	unsigned int errors = 0, e;
	bool certain = false;
	size_t size, i;

	if (len < sizeof(*hdr))
		errors |= E_INVAL;
	if (readable < sizeof(*hdr) && readable < len)
		errors |= E_FAULT;
	if (errors)
		return errors;

	memcpy(hdr, p, sizeof(*hdr));
	size = sizeof(*hdr) + hdr->n_valid * HTAB_ENTRY;
	if (size > len)
		errors |= E_INVAL;
	if (readable < size && readable < len)
		errors |= E_FAULT;
	if (hdr->index >= f->want.npte ||
	    (uint64_t)hdr->index + hdr->n_valid + hdr->n_invalid > f->want.npte)
		errors |= E_INVAL;
	if (errors)
		return errors;

	for (i = 0; i < hdr->n_valid; i++) {
		struct hpte hpte = entry_at(p + sizeof(*hdr) + i * HTAB_ENTRY);

		e = judge_entry(f, &hpte);
		errors |= e;
		certain |= e && !(e & OR_NOT);
	}
	return certain ? errors & ~OR_NOT : errors;
}

static void touch(struct fuzz *f, const struct kvm_get_htab_header *hdr)
{
	unsigned long i;

	for (i = 0; i < hdr->n_valid + (unsigned long)hdr->n_invalid; i++)
		f->stamp[hdr->index + i] = f->serial;
}

/* In the model */
static void apply_record(struct fuzz *f, const struct kvm_get_htab_header *hdr, const char *p)
{
	struct hpte *want = &f->want.hpte[hdr->index];
	unsigned long i;

	p += sizeof(*hdr);
	for (i = 0; i < hdr->n_valid; i++) {
		struct hpte e = entry_at(p + i * HTAB_ENTRY);

		want[i].v = e.v & f->v_mask;
		want[i].r = e.r & ~HPTE_R_HOST;
	}
	memset(want + i, 0, hdr->n_invalid * sizeof(*want));
	touch(f, hdr);
	f->applied++;
	f->entries += hdr->n_valid;
}

/*
 * Reading
 */

/* The table as a reader is to see it */
static struct hpte view(const struct fuzz *f, const struct fuzz_reader *r, unsigned long i)
{
	static const struct hpte invalid;
	const struct hpte *e = &f->want.hpte[i];

	return r->bolted && !(e->v & HPTE_V_BOLTED) ? invalid : *e;
}

static bool entry_is_right(struct fuzz *f, const struct fuzz_reader *r, unsigned long i,
			   const char *what)
{
	const struct hpte *got = &r->m.hpte[i];
	struct hpte want = view(f, r, i);

	if (got->v == want.v && got->r == want.r)
		return true;
	return fails(f, "entry %#lx: %s %016llx %016llx, is %016llx %016llx", i, what,
		     (unsigned long long)got->v, (unsigned long long)got->r,
		     (unsigned long long)want.v, (unsigned long long)want.r);
}

static bool table_is_right(struct fuzz *f, const struct fuzz_reader *r, const char *what)
{
	unsigned long i;

	for (i = 0; i < f->want.npte; i++)
		if (!entry_is_right(f, r, i, what))
			return false;
	return true;
}

/* Each entry that a read returned is in its place, and as it is just now */
static bool replay(struct fuzz *f, struct fuzz_reader *r, const char *buf, size_t n)
{
	struct kvm_get_htab_header hdr;
	size_t at;

	f->reads++;
	r->m.next = 0;
	r->m.disorder = 0;
	if (model_replay(&r->m, buf, n))
		return fails(f, "%zu bytes read: %s", n, r->m.error);
	if (r->m.disorder)
		return fails(f, "%zu bytes read: records not in ascending order", n);
	if (r->m.host_bits)
		return fails(f, "the host's bits %llx were read",
			     (unsigned long long)r->m.host_bits);
	for (at = 0; at < n; at += sizeof(hdr) + hdr.n_valid * HTAB_ENTRY) {
		unsigned long i, end;

		memcpy(&hdr, buf + at, sizeof(hdr));
		end = hdr.index + hdr.n_valid + (unsigned long)hdr.n_invalid;
		f->told += end - hdr.index;
		for (i = hdr.index; i < end; i++) {
			if (!entry_is_right(f, r, i, "told of"))
				return false;
			if (r == &f->keen && f->serial && f->stamp[i] != f->serial)
				return fails(f, "told of entry %#lx, which was not written", i);
		}
	}
	return true;
}

/* The keen reader: until there is nothing more */
static bool drain_keen(struct fuzz *f)
{
	ssize_t n;

	while ((n = xread(f->keen.fd, f->buf, BIG_BUF)) > 0)
		if (!replay(f, &f->keen, f->buf, n))
			return false;
	return n ? fails(f, "read: %zd", n) : true;
}

/* What was read is something to write again */
static void keep(struct fuzz *f, const char *buf, size_t n)
{
	if (f->corpus.len + n > CORPUS)
		stream_reset(&f->corpus);
	if (n > CORPUS)
		return;
	stream_reserve(&f->corpus, n);
	memcpy(f->corpus.buf + f->corpus.len, buf, n);
	f->corpus.len += n;
}

/* Pieces of any size, some empty, that together are the buffer */
static int in_pieces(struct fuzz *f, struct iovec *iov, int nr, const char *p, size_t len)
{
	int i;

	for (i = 0; i < nr && len; i++) {
		size_t n = i == nr - 1 ? len : below(f, one_in(f, 4) ? len + 1 : 40);

		if (n > len)
			n = len;
		iov[i].iov_base = (char *)p;
		iov[i].iov_len = n;
		p += n;
		len -= n;
	}
	return i;
}

static ssize_t read_somehow(struct fuzz *f, int fd, char *p, size_t len)
{
	struct iovec iov[16];
	ssize_t n;

	if (!one_in(f, 4) || !len)
		return xread(fd, p, len);
	n = readv(fd, iov, in_pieces(f, iov, ARRAY_SIZE(iov), p, len));
	return n < 0 ? -errno : n;
}

static size_t odd_size(struct fuzz *f)
{
	switch (below(f, 8)) {
	case 0:
		return below(f, HTAB_ONE);
	case 1:
		return HTAB_ONE;
	case 2:
	case 3:
		return HTAB_ONE + below(f, 80);
	case 4:
	case 5:
		return HTAB_ONE + below(f, HTAB_QEMU_BUF);
	default:
		return HTAB_ONE + below(f, MAX_READ - HTAB_ONE);
	}
}

static bool guard_is_whole(const char *p)
{
	unsigned int i;

	for (i = 0; i < GUARD; i++)
		if (p[i] != 0x5a)
			return false;
	return true;
}

/*
 * One read into a buffer of any size, at any address, which may end before a
 * hole or not be there at all
 */
static bool read_once(struct fuzz *f, struct fuzz_reader *r)
{
	size_t size = odd_size(f);
	size_t there = size;		/* of which are in memory */
	char *p = f->arena + GUARD + below(f, 64);
	bool behind;			/* is there memory too? */
	ssize_t n;

	if (one_in(f, 4)) {
		there = one_in(f, 4) ? 0 : below(f, size + 1);
		p = f->arena + ARENA - there;
	}
	behind = p + size + GUARD <= f->arena + ARENA;
	memset(p - GUARD, 0x5a, GUARD);
	if (behind)
		memset(p + size, 0x5a, GUARD);
	n = read_somehow(f, r->fd, p, size);
	if (!guard_is_whole(p - GUARD) || (behind && !guard_is_whole(p + size)))
		return fails(f, "read of %zu bytes wrote outside of them", size);
	if (size < HTAB_ONE)
		return n == -EINVAL ? true : fails(f, "read of %zu bytes: %zd", size, n);
	if (n == -EFAULT && there < size) {
		f->read_faults++;
		return true;
	}
	if (n < 0 || (size_t)n > there)
		return fails(f, "read of %zu bytes, with room for %zu: %zd", size, there, n);
	if (!replay(f, r, p, n))
		return false;
	if (n && one_in(f, 4))
		keep(f, p, n);
	if (n)
		return true;
	if (one_in(f, 8) && r->later)
		return table_is_right(f, r, "nothing left to tell, but was told of");
	r->later = true;
	return true;
}

/* Until there is nothing left */
static bool drain_lazy(struct fuzz *f, struct fuzz_reader *r)
{
	bool later;
	ssize_t n;

	do {
		if (!read_once(f, r))
			return false;
		later = r->later;
		n = xread(r->fd, f->buf, HTAB_QEMU_BUF);
		if (n < 0)
			return fails(f, "read: %zd", n);
		if (!replay(f, r, f->buf, n))
			return false;
		r->later |= !n;
	} while (n || !later);
	return table_is_right(f, r, "nothing left to tell, but was told of");
}

/*
 * Streams
 */

static struct hpte random_entry(struct fuzz *f)
{
	static const uint64_t lp[] = { 0, 0x1000, 0x1000, 0x3000, 0x7000, 0x8000, 0x38000 };
	uint64_t bits = rnd(f);
	struct hpte e = {
		.v = (rnd(f) & 0x3fffffffffffff80ULL) | (bits & 0x1a) | HPTE_V_VALID,
		.r = bits & (HPTE_R_PP0 | HPTE_R_KEY | HPTE_R_R | HPTE_R_C | 0x78 | HPTE_R_N |
			     HPTE_R_PP),
	};
	uint64_t addr;

	if (one_in(f, 2))
		e.r |= HPTE_R_R | HPTE_R_C;
	if (one_in(f, 4))
		e.v |= HPTE_V_1TB_SEG;
	if (one_in(f, 8)) {
		e.v |= rnd(f) & HPTE_V_HOST;
		e.r |= rnd(f) & HPTE_R_HOST;
	}
	if (one_in(f, 64))	/* which real mode uses */
		e.v = (e.v & 0x7f) | HPTE_V_1TB_SEG | vrma.vsid << 24;
	switch (below(f, 64)) {
	case 0:
		addr = rnd(f) & HPTE_R_RPN;
		break;
	case 1:
		addr = f->slot[1].base + below(f, f->slot[1].size);
		break;
	case 2:
		addr = f->slot[2].base + below(f, f->slot[2].size);
		break;
	case 3 ... 12:
		addr = f->slot[0].base + below(f, f->slot[0].size);
		break;
	default:
		addr = 0x100000000000ULL + (rnd(f) & 0xfffffffff000ULL);
	}
	addr &= HPTE_R_RPN;
	if (one_in(f, 4)) {
		e.v |= HPTE_V_LARGE;
		/* mostly what any memory can take */
		addr &= ~0xff000ULL;
		addr |= one_in(f, 6) ? lp[below(f, ARRAY_SIZE(lp))] : 0x1000;
	}
	e.r |= addr;
	switch (below(f, 200)) {
	case 0:
		e.v &= ~HPTE_V_VALID;
		break;
	case 1:
		e.v |= 1ULL << 63;
		break;
	case 2:
		e.v |= HPTE_V_LARGE;
		e.r ^= rnd(f) & 0xff000;
		break;
	case 3:
		e.v = rnd(f);
		e.r = rnd(f);
		break;
	}
	return e;
}

static unsigned long random_index(struct fuzz *f)
{
	switch (below(f, 200)) {
	case 0:
		return f->want.npte + below(f, 40);
	case 1:
		return 0xffffffff - below(f, 70000);
	case 2 ... 6:
		return f->want.npte - 1 - below(f, 40);
	case 7 ... 120:
		return f->hot + below(f, 500);
	default:
		return below(f, f->want.npte);
	}
}

static unsigned long random_count(struct fuzz *f)
{
	switch (below(f, 128)) {
	case 0:
		return below(f, 200);
	case 1 ... 10:
		return below(f, 20);
	case 11 ... 50:
		return 1 + below(f, 5);
	case 51 ... 90:
		return 0;
	default:
		return 1;
	}
}

static void random_record(struct fuzz *f, struct stream *s)
{
	unsigned long index = random_index(f);
	unsigned long n = random_count(f);
	unsigned long m = one_in(f, 3) ? random_count(f) : 0;

	if (one_in(f, 20000) && f->want.npte > 2 * HTAB_MAX_RUN)
		n = HTAB_MAX_RUN;
	if (one_in(f, 2000))
		m = below(f, HTAB_MAX_RUN + 1);
	if (!one_in(f, 50)) {
		if (n > f->want.npte - 1)
			n = f->want.npte - 1;
		if (index < f->want.npte && index + n > f->want.npte)
			index = f->want.npte - n;
		if (index < f->want.npte && index + n + m > f->want.npte)
			m = f->want.npte - index - n;
	}
	stream_header(s, index, n, m);
	while (n--) {
		struct hpte e = random_entry(f);

		stream_entry(s, e.v, e.r);
	}
}

/* Add records of the same or another stream, wherever there is one to begin with */
static void copy_records(struct fuzz *f, struct stream *s, const struct stream *from)
{
	unsigned long skip = below(f, 200), n = 1 + below(f, one_in(f, 4) ? 20 : 2);
	size_t at, len = from->len;

	for (at = 0; at < len && n; skip -= !!skip) {
		struct kvm_get_htab_header hdr;
		size_t size;

		if (len - at < sizeof(hdr))
			break;
		memcpy(&hdr, from->buf + at, sizeof(hdr));
		size = sizeof(hdr) + hdr.n_valid * HTAB_ENTRY;
		if (size > len - at || size > 100 * HTAB_ENTRY)
			break;
		if (!skip) {
			stream_reserve(s, size);
			memcpy(s->buf + s->len, from->buf + at, size);
			s->len += size;
			n--;
		}
		at += size;
	}
}

static void random_bytes(struct fuzz *f, struct stream *s, size_t n)
{
	stream_reserve(s, n);
	while (n--)
		s->buf[s->len++] = rnd(f);
}

/* Where a record begins, if the stream is well-formed up to there */
static size_t random_record_at(struct fuzz *f, const struct stream *s)
{
	unsigned long skip = below(f, 40);
	size_t at = 0, next = 0;

	do {
		struct kvm_get_htab_header hdr;

		at = next;
		if (s->len - at < 2 * sizeof(hdr))
			break;
		memcpy(&hdr, s->buf + at, sizeof(hdr));
		next = at + sizeof(hdr) + hdr.n_valid * HTAB_ENTRY;
	} while (skip-- && next + sizeof(struct kvm_get_htab_header) <= s->len);
	return at;
}

static void mutate(struct fuzz *f, struct stream *s)
{
	static const uint16_t counts[] = { 0, 1, 2, 0x7fff, 0x8000, 0xfffe, 0xffff };
	struct kvm_get_htab_header hdr;
	size_t at = random_record_at(f, s), n;

	if (s->len < at + sizeof(hdr))
		return;
	memcpy(&hdr, s->buf + at, sizeof(hdr));
	switch (below(f, 10)) {
	case 0:
		s->buf[at + below(f, sizeof(hdr))] ^= 1 << below(f, 8);
		return;
	case 1:
	case 2:
		n = at + below(f, 100);
		if (n < s->len)
			s->buf[n] ^= 1 << below(f, 8);
		return;
	case 3:
		hdr.n_valid = counts[below(f, ARRAY_SIZE(counts))];
		break;
	case 4:
		hdr.n_invalid = counts[below(f, ARRAY_SIZE(counts))];
		break;
	case 5:
		hdr.n_valid += one_in(f, 2) ? 1 : -1;
		break;
	case 6:
		hdr.index = random_index(f);
		break;
	case 7:		/* bytes taken out */
		n = 1 + below(f, one_in(f, 2) ? 4 : 40);
		at += below(f, 40);
		if (at + n >= s->len)
			return;
		memmove(s->buf + at, s->buf + at + n, s->len - at - n);
		s->len -= n;
		return;
	case 8:		/* and put in */
		n = 1 + below(f, one_in(f, 2) ? 4 : 40);
		stream_reserve(s, n);
		memmove(s->buf + at + n, s->buf + at, s->len - at);
		s->len += n;
		while (n--)
			s->buf[at + n] = rnd(f);
		return;
	case 9:
		s->len -= below(f, s->len < 100 ? s->len : 100);
		return;
	}
	memcpy(s->buf + at, &hdr, sizeof(hdr));
}

/* More than the kernel takes in at a time, and nothing that would end it before */
static void long_stream(struct fuzz *f, struct stream *s)
{
	size_t len = LONG_STREAM + below(f, LONG_STREAM);

	while (s->len < len) {
		unsigned long n = 1 + below(f, 200);

		stream_run(s, below(f, f->want.npte - n), n, 0, below(f, 256));
	}
}

static void random_stream(struct fuzz *f)
{
	unsigned long n = 1 + below(f, one_in(f, 4) ? 100 : 25);
	struct stream *s = &f->s;

	stream_reset(s);
	if (one_in(f, 500)) {
		long_stream(f, s);
		return;
	}
	if (one_in(f, 50))
		random_bytes(f, s, below(f, 600));
	while (n-- && s->len < ARENA / 2) {
		if (one_in(f, 10))
			copy_records(f, s, &f->corpus);
		else if (one_in(f, 20))
			copy_records(f, s, s);
		else
			random_record(f, s);
	}
	while (one_in(f, 2))
		mutate(f, s);
}

/*
 * Writing
 */

static ssize_t write_somehow(struct fuzz *f, const char *p, size_t len)
{
	struct iovec iov[16];
	ssize_t n;

	f->writes++;
	if (!one_in(f, 4) || !len)
		return xwrite(f->writer, p, len);
	n = writev(f->writer, iov, in_pieces(f, iov, ARRAY_SIZE(iov), p, len));
	return n < 0 ? -errno : n;
}

static unsigned int error_bit(ssize_t n)
{
	return n == -EINVAL ? E_INVAL : n == -EIO ? E_IO : n == -EFAULT ? E_FAULT : 0;
}

/* What was applied, by the result of a write; *at moves to the first that was not */
static bool applied(struct fuzz *f, const char *p, size_t len, size_t readable, size_t *at,
		    ssize_t n)
{
	struct kvm_get_htab_header hdr = {};
	size_t end = *at + (n < 0 ? 0 : n);
	unsigned int errors;

	if (end > len)
		return fails(f, "write of %zu bytes: %zd", len - *at, n);
	while (*at < end) {
		errors = judge_record(f, p + *at, len - *at, readable - *at, &hdr);
		if (errors && !(errors & OR_NOT))
			return fails(f, "%u+%u entries at %#x were written, errors %#x expected",
				     hdr.n_valid, hdr.n_invalid, hdr.index, errors);
		if (sizeof(hdr) + hdr.n_valid * HTAB_ENTRY > end - *at)
			return fails(f, "write: %zd, which is within a record", n);
		apply_record(f, &hdr, p + *at);
		*at += sizeof(hdr) + hdr.n_valid * HTAB_ENTRY;
		f->records++;
	}
	if (*at == len)
		return true;

	errors = judge_record(f, p + *at, len - *at, readable - *at, &hdr);
	if (n < 0 ? !(errors & error_bit(n)) : !errors)
		return fails(f, "%u+%u entries at %#x were refused: %zd, errors %#x expected",
			     hdr.n_valid, hdr.n_invalid, hdr.index, n, errors);
	/* It may have been taken back, which readers may notice */
	if (errors & E_IO && !(errors & E_INVAL))
		touch(f, &hdr);
	return true;
}

/* The keen reader, who has had his say, knows of all that was applied */
static bool is_known(struct fuzz *f, const char *p, const char *end)
{
	struct kvm_get_htab_header hdr;

	for (; p < end; p += sizeof(hdr) + hdr.n_valid * HTAB_ENTRY) {
		unsigned long i;

		memcpy(&hdr, p, sizeof(hdr));
		for (i = 0; i < hdr.n_valid + (unsigned long)hdr.n_invalid; i++)
			if (!entry_is_right(f, &f->keen, hdr.index + i, "was last told of"))
				return false;
	}
	return true;
}

/* Write all of a stream, wherever its bad records are */
static bool write_stream(struct fuzz *f)
{
	size_t len = f->s.len, readable = len, at = 0;
	char *p;

	if (one_in(f, 4))
		len += below(f, one_in(f, 2) ? 64 : 2048);
	/* What is beyond the stream is a hole, or zeros and what was there before */
	if (len == readable || one_in(f, 2)) {
		p = f->arena + below(f, 64);
		readable = len;
	} else {
		p = f->arena + ARENA - readable;
	}
	memcpy(p, f->s.buf, f->s.len);

	while (at < len) {
		ssize_t n = write_somehow(f, p + at, len - at);
		struct kvm_get_htab_header hdr;
		size_t size, was = at;

		f->serial++;
		if (!n)
			return fails(f, "write of %zu bytes: 0", len - at);
		if (!applied(f, p, len, readable, &at, n) || !drain_keen(f) ||
		    !is_known(f, p + was, p + at))
			return false;
		if (n > 0)
			continue;
		/* Skip the one that is bad, if it can be */
		f->records++;
		f->refused++;
		f->faulted += n == -EFAULT;
		if (readable - at < sizeof(hdr))
			break;
		memcpy(&hdr, p + at, sizeof(hdr));
		size = sizeof(hdr) + hdr.n_valid * HTAB_ENTRY;
		if (size > readable - at)
			break;
		at += size;
	}
	return true;
}

/*
 * A round: another table, and in the end all of it is right
 */

static bool is_stale(struct fuzz *f)
{
	struct kvm_get_htab_header none = {};
	ssize_t n;

	n = xread(f->keen.fd, f->buf, HTAB_ONE);
	if (n == -ESTALE)
		n = xread(f->bolted.fd, f->buf, BIG_BUF);
	if (n == -ESTALE)
		n = xwrite(f->writer, &none, sizeof(none));
	return n == -ESTALE ? true : fails(f, "of a table that is gone: %zd", n);
}

static bool open_reader(struct fuzz *f, struct fuzz_reader *r, bool bolted)
{
	unsigned long i, start = bolted ? below(f, f->want.npte + 10) : 0;

	if (r->fd >= 0)
		close(r->fd);
	r->bolted = bolted;
	r->start = start;
	r->later = start < f->want.npte;
	r->fd = htab_open(f->vm, bolted ? KVM_GET_HTAB_BOLTED_ONLY : 0, start);
	if (r->fd < 0)
		return fails(f, "a reader: %d", r->fd);
	if (r->m.npte != f->want.npte) {
		model_free(&r->m);
		model_init(&r->m, f->want.npte);
	}
	/* What it is not told of in the first place it is taken to know */
	for (i = 0; i < start && i < f->want.npte; i++)
		r->m.hpte[i] = view(f, r, i);
	return true;
}

static bool new_table(struct fuzz *f)
{
	unsigned int order = one_in(f, 8) ? HTAB_ORDER + below(f, MAX_ORDER - HTAB_ORDER + 1) :
			     HTAB_ORDER;
	bool same = f->vm->order == order;
	int err = htab_allocate(f->vm, order);

	if (err)
		return fails(f, "a table of order %u: %d", order, err);
	f->serial = 0;
	if (f->writer >= 0 && !same && !is_stale(f))
		return false;
	if (same) {
		memset(f->want.hpte, 0, f->want.npte * sizeof(*f->want.hpte));
		f->bolted.later = f->bolted.start < f->want.npte;
	} else {
		model_free(&f->want);
		model_init(&f->want, f->vm->npte);
		free(f->stamp);
		f->stamp = calloc(f->vm->npte, sizeof(*f->stamp));
		if (!f->stamp)
			abort();
		if (f->writer >= 0)
			close(f->writer);
		f->writer = htab_writer(f->vm);
		if (f->writer < 0)
			return fails(f, "a writer: %d", f->writer);
		if (!open_reader(f, &f->keen, false) || !open_reader(f, &f->lazy, false))
			return false;
	}
	if (!same || one_in(f, 2))
		if (!open_reader(f, &f->bolted, true))
			return false;
	memset(f->stamp, 0, f->want.npte * sizeof(*f->stamp));
	if (!drain_keen(f) || !table_is_right(f, &f->keen, "reset, told of"))
		return false;
	f->hot = below(f, f->want.npte - 500);
	return true;
}

static void tell_progress(const struct fuzz *f)
{
	fprintf(stderr, "# %lu records in %lu s: %lu applied in %lu writes, with %lu entries; ",
		f->records, (unsigned long)(now_ms() - f->begin) / 1000, f->applied, f->writes,
		f->entries);
	fprintf(stderr, "%lu refused, %lu faults; told of %lu entries in %lu reads, %lu faults\n",
		f->refused, f->faulted, f->told, f->reads, f->read_faults);
}

static bool fuzz_round(struct fuzz *f)
{
	unsigned long end = f->records + ROUND_RECORDS;
	struct fuzz_reader fresh = { .fd = -1 };
	bool good;

	if (!new_table(f))
		return false;
	while (f->records < end) {
		random_stream(f);
		if (!write_stream(f))
			return false;
		if (one_in(f, 2) && !read_once(f, &f->lazy))
			return false;
		if (one_in(f, 4) && !read_once(f, &f->bolted))
			return false;
		/* The memory behind entries comes and goes, they stay */
		if (one_in(f, 20))
			madvise(f->vm->mem + (below(f, HTAB_MEM_SIZE) & -getpagesize()),
				getpagesize(), MADV_DONTNEED);
		if (one_in(f, 10))
			*((char *)f->vm->mem + below(f, HTAB_MEM_SIZE)) = 1;
		if (now_ms() - f->said > 10000) {
			f->said = now_ms();
			tell_progress(f);
		}
	}
	if (!table_is_right(f, &f->keen, "was told of"))
		return false;
	if (!drain_lazy(f, &f->lazy) || !drain_lazy(f, &f->bolted))
		return false;
	good = open_reader(f, &fresh, false) && drain_lazy(f, &fresh);
	close(fresh.fd);
	model_free(&fresh.m);
	return good;
}

/* Guest memory by pages that are there, and the same of which none is */
static int add_slots(struct fuzz *f)
{
	const uint64_t size = 16 << 20;
	char *p = mmap(NULL, 3 * size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	unsigned int i;
	int ret = htab_add_memory(f->vm);

	if (ret)
		return ret;
	if (p == MAP_FAILED)
		return -errno;
	/* No pages but those of the kernel's size, aligned as it is in the guest */
	madvise(p, 3 * size, MADV_NOHUGEPAGE);
	p = (char *)(((uintptr_t)p + size - 1) & ~(size - 1));
	memset(p, 1, size);
	/* The first slot's will come and go */
	f->slot[0] = (struct fuzz_slot){ .size = HTAB_MEM_SIZE };
	f->slot[1] = (struct fuzz_slot){ .base = size, .size = size, .there = true };
	f->slot[2] = (struct fuzz_slot){ .base = 2 * size, .size = size };
	for (i = 1; i < ARRAY_SIZE(f->slot) && !ret; i++) {
		struct kvm_userspace_memory_region region = {
			.slot = i,
			.guest_phys_addr = f->slot[i].base,
			.memory_size = size,
			.userspace_addr = (uintptr_t)p + f->slot[i].base - size,
		};

		ret = xioctl(f->vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
	}
	return ret;
}

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);

	return value ? strtoull(value, NULL, 0) : otherwise;
}

static uint64_t random_seed(void)
{
	uint64_t seed = now_ms();

	getentropy(&seed, sizeof(seed));
	return seed;
}

/* As long as it may take if the environment asks for more, or the host checks itself */
TEST_F_TIMEOUT(htab, streams_and_buffers_at_random, 3600)
{
	unsigned long records = number("HTAB_FUZZ_RECORDS", RECORDS);
	struct fuzz f = {
		.vm = &self->vm,
		.buf = self->buf,
		.hv = variant->type == KVM_VM_PPC_HV,
		.v_mask = ~HPTE_V_HOST,
		.writer = -1,
		.keen = { .fd = -1 },
		.lazy = { .fd = -1 },
		.bolted = { .fd = -1 },
		.begin = now_ms(),
		.said = now_ms(),
	};
	uint64_t seed = number("HTAB_SEED", random_seed());
	bool good = true;

	TH_LOG("HTAB_SEED=%#llx", (unsigned long long)seed);
	f.rng = seed;
	/* With virtual addresses of 68 bits the others of an AVPN are ignored */
	if (f.hv && getauxval(AT_HWCAP2) & FEATURE2_ARCH_3_00)
		f.v_mask &= HPTE_V_SSIZE | 0x000fffffffffffffULL;
	f.arena = mmap(NULL, ARENA + HOLE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	ASSERT_NE(MAP_FAILED, f.arena);
	ASSERT_EQ(0, mprotect(f.arena + ARENA, HOLE, PROT_NONE));
	ASSERT_EQ(0, add_slots(&f));
	while (good && f.records < records)
		good = fuzz_round(&f);
	tell_progress(&f);
	ASSERT_TRUE(good) {
		TH_LOG("%s", f.failure);
		TH_LOG("after %lu records, %lu writes; repeat it with HTAB_SEED=%#llx", f.records,
		       f.writes, (unsigned long long)seed);
	}
	/* It was no idle run */
	EXPECT_NE(0, f.applied);
	EXPECT_NE(0, f.refused);
	EXPECT_NE(0, f.faulted);
	EXPECT_NE(0, f.told);
	EXPECT_NE(0, f.read_faults);
}

TEST_HARNESS_MAIN
