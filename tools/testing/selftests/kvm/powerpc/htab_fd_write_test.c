// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_PPC_GET_HTAB_FD, case by case: writing, and the format of the stream.
 */
#include <sys/uio.h>

#include "htab_fixture.h"

/*
 * Writing: records
 */

/* A write with nothing good in it: its error, and the table as it was */
#define WRITE_FAILS(_error) do {					\
	EXPECT_EQ(_error, xwrite(self->writer, self->s.buf, self->s.len)); \
	TABLE_IS(&self->want);						\
	stream_reset(&self->s);						\
} while (0)

TEST_F(htab, record_past_end_of_table)
{
	uint32_t end;

	TABLE(HTAB_ORDER);
	FILL(0, 20, 0);
	end = self->vm.npte;
	FILL(end - 20, 20, 0);

	stream_run(&self->s, end, 1, 0, 1);
	WRITE_FAILS(-EINVAL);
	stream_header(&self->s, end, 0, 1);
	WRITE_FAILS(-EINVAL);
	stream_run(&self->s, end - 1, 2, 0, 1);
	WRITE_FAILS(-EINVAL);
	stream_header(&self->s, end - 1, 0, 2);
	WRITE_FAILS(-EINVAL);
	stream_run(&self->s, end - 1, 1, 1, 1);
	WRITE_FAILS(-EINVAL);
	stream_header(&self->s, end - 10, 0, 0xffff);
	WRITE_FAILS(-EINVAL);
	/* sums that do not fit in 32 bits */
	stream_run(&self->s, 0xffffffff, 1, 0, 1);
	WRITE_FAILS(-EINVAL);
	stream_header(&self->s, 0xffffffff, 0, 1);
	WRITE_FAILS(-EINVAL);
	stream_run(&self->s, 0xfffffffe, 2, 5, 1);
	WRITE_FAILS(-EINVAL);
	stream_header(&self->s, 0xffff0001, 0, 0xffff);
	WRITE_FAILS(-EINVAL);
	stream_header(&self->s, 0x80000000, 0, 1);
	WRITE_FAILS(-EINVAL);

	/* and one that just fits */
	stream_run(&self->s, end - 5, 2, 3, 1);
	WRITE_STREAM();
	TABLE_IS(&self->want);
}

TEST_F(htab, entry_without_valid_bit)
{
	struct hpte e = hpte_of(3, 1);

	TABLE(HTAB_ORDER);
	FILL(0, 20, 0);
	stream_header(&self->s, 3, 1, 0);
	stream_entry(&self->s, e.v & ~HPTE_V_VALID, e.r);
	WRITE_FAILS(-EINVAL);
	stream_header(&self->s, 3, 1, 0);
	stream_entry(&self->s, 0, 0);
	WRITE_FAILS(-EINVAL);
	/* The host's bit for "absent" does not make it valid */
	stream_header(&self->s, 3, 1, 0);
	stream_entry(&self->s, (e.v & ~HPTE_V_VALID) | HPTE_V_HOST, e.r);
	WRITE_FAILS(-EINVAL);
}

TEST_F(htab, entry_of_bad_page_size)
{
	/* For a large page the low bits of the page number tell its size */
	static const uint64_t lp[] = {
		0x2000, 0x4000, 0x5000, 0x6000, 0x9000, 0xa000, 0xb000, 0xc000, 0xd000, 0xe000,
		0xf000, 0x10000, 0x13000, 0x18000, 0x28000,
	};
	struct hpte e = hpte_of(3, 1);
	unsigned int i;

	TABLE(HTAB_ORDER);
	FILL(0, 20, 0);
	for (i = 0; i < ARRAY_SIZE(lp); i++) {
		stream_header(&self->s, 3, 1, 0);
		stream_entry(&self->s, e.v | HPTE_V_LARGE, (e.r & ~0xff000ULL) | lp[i]);
		WRITE_FAILS(-EINVAL);
	}
}

TEST_F(htab, entry_of_reserved_segment_size)
{
	struct hpte e = hpte_of(3, 1);

	TABLE(HTAB_ORDER);
	FILL(0, 20, 0);
	stream_header(&self->s, 3, 1, 0);
	stream_entry(&self->s, e.v | 2ULL << 62, e.r);
	WRITE_FAILS(-EINVAL);
	stream_header(&self->s, 3, 1, 0);
	stream_entry(&self->s, e.v | 3ULL << 62, e.r);
	WRITE_FAILS(-EINVAL);
	/* in an empty slot too */
	stream_header(&self->s, 300, 1, 0);
	stream_entry(&self->s, e.v | 2ULL << 62, e.r);
	WRITE_FAILS(-EINVAL);
}

/*
 * What H_ENTER would refuse is bad too: under HV, a page larger than the memory
 * it maps. PR looks at the memory when the guest does.
 */
TEST_F(htab, entry_that_memory_cannot_take)
{
	struct hpte e = hpte_of(23, 1);
	ssize_t n;

	TABLE(HTAB_ORDER);
	ASSERT_EQ(0, htab_add_memory(&self->vm));
	FILL(0, 30, 0);
	stream_run(&self->s, 20, 3, 0, 1);
	((struct kvm_get_htab_header *)self->s.buf)->n_valid = 4;
	stream_entry(&self->s, e.v | HPTE_V_LARGE, HPTE_R_R | HPTE_R_C | HPTE_R_M);
	n = xwrite(self->writer, self->s.buf, self->s.len);
	if (variant->type == KVM_VM_PPC_PR) {
		EXPECT_EQ(self->s.len, n);
		ASSERT_EQ(0, model_expect(&self->want, &self->s));
	} else {
		EXPECT_EQ(-EIO, n);
	}
	TABLE_IS(&self->want);
}

TEST_F(htab, record_cut_short)
{
	size_t len, good, whole;

	TABLE(HTAB_ORDER);
	FILL(0, 20, 0);
	stream_run(&self->s, 3, 4, 2, 1);
	whole = self->s.len;
	for (len = 1; len < whole; len++) {
		self->s.len = len;
		ASSERT_EQ(-EINVAL, xwrite(self->writer, self->s.buf, len));
	}
	stream_reset(&self->s);
	TABLE_IS(&self->want);

	/* behind a good one it is left for the next write */
	stream_run(&self->s, 10, 2, 0, 1);
	good = self->s.len;
	ASSERT_EQ(0, model_expect(&self->want, &self->s));
	stream_run(&self->s, 3, 4, 2, 1);
	for (len = good; len < good + whole; len++)
		ASSERT_EQ(good, xwrite(self->writer, self->s.buf, len));
	TABLE_IS(&self->want);
}

/* Fault 5: mainline forgets to count the header */
TEST_F(htab, record_cut_short_is_not_read_past)
{
	size_t len;
	char *p;

	TABLE(HTAB_ORDER);
	FILL(0, 20, 0);
	/* No memory behind the buffer, */
	stream_run(&self->s, 3, 2, 0, 1);
	for (len = self->s.len - HTAB_HEADER; len < self->s.len; len++) {
		p = buffer_before_hole(len);
		ASSERT_NE(NULL, p);
		memcpy(p, self->s.buf, len);
		ASSERT_EQ(-EINVAL, xwrite(self->writer, p, len));
	}
	/* and memory with the very bytes that are missing */
	for (len = self->s.len - HTAB_HEADER; len < self->s.len; len++)
		ASSERT_EQ(-EINVAL, xwrite(self->writer, self->s.buf, len));
	TABLE_IS(&self->want);
}

TEST_F(htab, record_empty)
{
	TABLE(HTAB_ORDER);
	FILL(0, 20, 0);
	stream_header(&self->s, 5, 0, 0);
	EXPECT_EQ(HTAB_HEADER, xwrite(self->writer, self->s.buf, self->s.len));
	stream_header(&self->s, 0, 0, 0);
	stream_run(&self->s, 6, 1, 0, 1);
	EXPECT_EQ(self->s.len, xwrite(self->writer, self->s.buf, self->s.len));
	stream_reset(&self->s);
	stream_run(&self->s, 6, 1, 0, 1);
	ASSERT_EQ(0, model_expect(&self->want, &self->s));
	TABLE_IS(&self->want);
}

/* Each kind of bad record, built at the end of a stream */
enum bad { BAD_INDEX, BAD_INVALID, BAD_PAGE_SIZE, BAD_SEGMENT_SIZE, BAD_KINDS };

static void stream_bad(struct stream *s, enum bad kind, unsigned int good_entries)
{
	unsigned int i;

	stream_header(s, kind == BAD_INDEX ? 0x7fffffff : 100, good_entries + 1, 50);
	for (i = 0; i <= good_entries; i++) {
		struct hpte e = hpte_of(100 + i, 5);

		if (i == good_entries && kind == BAD_INVALID)
			e.v &= ~HPTE_V_VALID;
		if (i == good_entries && kind == BAD_PAGE_SIZE) {
			e.v |= HPTE_V_LARGE;
			e.r = (e.r & ~0xff000ULL) | 0x2000;
		}
		if (i == good_entries && kind == BAD_SEGMENT_SIZE)
			e.v |= 2ULL << 62;
		stream_entry(s, e.v, e.r);
	}
}

TEST_F(htab, good_records_before_a_bad_one)
{
	enum bad kind;
	size_t good;

	TABLE(HTAB_ORDER);
	FILL(0, 300, 0);
	for (kind = 0; kind < BAD_KINDS; kind++) {
		stream_run(&self->s, 10 * kind, 3, 2, kind + 1);
		stream_header(&self->s, 280 + kind, 0, 1);
		good = self->s.len;
		ASSERT_EQ(0, model_expect(&self->want, &self->s));
		stream_bad(&self->s, kind, 3);
		/* and none behind it is looked at */
		stream_run(&self->s, 200, 5, 0, 1);
		EXPECT_EQ(good, xwrite(self->writer, self->s.buf, self->s.len));
		TABLE_IS(&self->want);
		/* What is left begins with the bad one, which now is first */
		EXPECT_EQ(-EINVAL, xwrite(self->writer, self->s.buf + good, self->s.len - good));
		TABLE_IS(&self->want);
		stream_reset(&self->s);
	}
}

TEST_F(htab, bad_record_changes_nothing)
{
	static const unsigned int good_entries[] = { 0, 1, 7, 127, 1000 };
	enum bad kind;
	unsigned int i;

	TABLE(HTAB_ORDER);
	FILL(90, 500, 0);
	READER();
	DRAIN_AND_COMPARE();
	model_forget(&self->got);
	for (i = 0; i < ARRAY_SIZE(good_entries); i++) {
		for (kind = 0; kind < BAD_KINDS; kind++) {
			stream_bad(&self->s, kind, good_entries[i]);
			WRITE_FAILS(-EINVAL);
		}
	}
	/* and a reader is not told of changes that never were */
	DRAIN_AND_COMPARE();
	EXPECT_EQ(0, self->got.valid + self->got.invalid);
}

TEST_F(htab, bad_record_of_full_length_changes_nothing)
{
	enum bad kind;

	/* More than any batch can be */
	TABLE(21);
	FILL(0, 200, 0);
	for (kind = 0; kind < BAD_KINDS; kind++) {
		stream_bad(&self->s, kind, HTAB_MAX_RUN - 1);
		WRITE_FAILS(-EINVAL);
	}
}

TEST_F(htab, records_of_valid_and_invalid)
{
	unsigned long i;

	TABLE(HTAB_ORDER);
	PATTERN(0);
	for (i = 1; i < 100; i++)
		stream_run(&self->s, i * 160, i % 70, i % 90, i);
	WRITE_STREAM();
	TABLE_IS(&self->want);
}

/* Mainline loses its place in the buffer behind the first record's entries */
TEST_F(htab, several_records_in_one_write)
{
	unsigned long i;

	TABLE(HTAB_ORDER);
	PATTERN(0);
	for (i = 1; i < 100; i++)
		stream_run(&self->s, i * 160, i % 70, i % 90, i);
	/* the same entries twice: the last counts */
	stream_run(&self->s, 50, 10, 0, 2);
	stream_run(&self->s, 55, 10, 5, 3);
	ASSERT_EQ(self->s.len, xwrite(self->writer, self->s.buf, self->s.len));
	ASSERT_EQ(0, model_expect(&self->want, &self->s));
	TABLE_IS(&self->want);
}

TEST_F(htab, write_replaces_entries)
{
	TABLE(HTAB_ORDER);
	FILL(0, 400, 0);
	READER();
	DRAIN_AND_COMPARE();
	model_forget(&self->got);
	FILL(100, 200, 1);
	DRAIN_AND_COMPARE();
	EXPECT_EQ(200, self->got.valid);
	EXPECT_EQ(0, self->got.invalid);
	TABLE_IS(&self->want);
}

TEST_F(htab, write_what_was_read)
{
	ssize_t n;

	/* What a reader is given a writer takes, over whatever there is */
	TABLE(HTAB_ORDER);
	PATTERN(0);
	READER();
	while ((n = xread(self->reader, self->buf, HTAB_QEMU_BUF)) > 0) {
		stream_reserve(&self->s, n);
		memcpy(self->s.buf + self->s.len, self->buf, n);
		self->s.len += n;
	}
	ASSERT_EQ(0, n);
	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
	for (n = 0; n < 16000; n += 500) {
		struct stream old = {};

		stream_run(&old, n, 250, 0, 3);
		ASSERT_EQ(old.len, stream_write(&old, self->writer));
		free(old.buf);
	}
	WRITE_STREAM();
	TABLE_IS(&self->want);
}

TEST_F(htab, fault_during_write)
{
	size_t good, len;
	char *p;

	TABLE(HTAB_ORDER);
	FILL(0, 300, 0);
	stream_run(&self->s, 10, 2, 1, 1);
	good = self->s.len;
	ASSERT_EQ(0, model_expect(&self->want, &self->s));
	stream_run(&self->s, 100, 20, 5, 1);

	/* The record that is not all there is not applied, those before are */
	for (len = good; len < self->s.len; len++) {
		p = buffer_before_hole(len);
		ASSERT_NE(NULL, p);
		memcpy(p, self->s.buf, len);
		ASSERT_EQ(good, xwrite(self->writer, p, self->s.len));
		if (len > good)
			ASSERT_EQ(-EFAULT, xwrite(self->writer, p + good, self->s.len - good));
		munmap(p - (uintptr_t)p % getpagesize(), 2 * getpagesize());
	}
	EXPECT_EQ(-EFAULT, xwrite(self->writer, NULL, self->s.len));
	TABLE_IS(&self->want);
}

TEST_F(htab, writev_in_odd_pieces)
{
	static const size_t pieces[] = { 1, 3, 8, 16, 13, 7, 100, 5, 500 };
	struct iovec iov[ARRAY_SIZE(pieces) + 1];
	size_t i, at = 0;

	TABLE(HTAB_ORDER);
	FILL(0, 300, 0);
	for (i = 0; i < 20; i++)
		stream_run(&self->s, i * 10, 3, 2, 1);
	stream_run(&self->s, 210, 40, 2, 1);
	for (i = 0; i < ARRAY_SIZE(pieces); i++) {
		iov[i].iov_base = self->s.buf + at;
		iov[i].iov_len = pieces[i];
		at += pieces[i];
	}
	iov[i].iov_base = self->s.buf + at;
	iov[i].iov_len = self->s.len - at;
	EXPECT_EQ(self->s.len, writev(self->writer, iov, ARRAY_SIZE(iov)));
	ASSERT_EQ(0, model_expect(&self->want, &self->s));
	TABLE_IS(&self->want);
}

/*
 * The format
 */

/* Fault 9: mainline shows the bit by which the host locks an entry */
TEST_F(htab, lock_bit_not_in_stream)
{
	unsigned long i;

	TABLE(HTAB_ORDER);
	FILL(0, 500, 0);
	READER();
	DRAIN_AND_COMPARE();
	EXPECT_EQ(0, self->got.host_bits);
	FILL(100, 50, 1);
	/* What comes in with these bits goes out without */
	for (i = 200; i < 250; i++) {
		struct hpte e = hpte_of(i, 1);

		stream_header(&self->s, i, 1, 0);
		stream_entry(&self->s, e.v | HPTE_V_HOST, e.r | HPTE_R_HOST);
	}
	WRITE_STREAM();
	DRAIN_AND_COMPARE();
	EXPECT_EQ(0, self->got.host_bits);
}

TEST_F(htab, stream_is_what_was_written)
{
	static const uint64_t v[] = {
		0, HPTE_V_BOLTED, 0x8, 0x18, HPTE_V_SECONDARY,
		HPTE_V_1TB_SEG, HPTE_V_1TB_SEG | HPTE_V_BOLTED | HPTE_V_SECONDARY,
		HPTE_V_AVPN_3_0 & ~HPTE_V_HOST, HPTE_V_1TB_SEG | HPTE_V_AVPN_3_0,
		0x0005a5a5a5a5a580ULL,
	};
	/* Pages of 4K, then (L set) 64K, 16M, 16G, 64K in 4K, 16M in 64K, 16M in 4K */
	static const struct {
		uint64_t v;
		uint64_t r;
	} size[] = {
		{ 0, 0x123450abc000ULL },
		{ HPTE_V_LARGE, 0x123450ab1000ULL },
		{ HPTE_V_LARGE, 0x123451000000ULL },
		{ HPTE_V_LARGE, 0x100000003000ULL },
		{ HPTE_V_LARGE, 0x123450ab7000ULL },
		{ HPTE_V_LARGE, 0x123451008000ULL },
		{ HPTE_V_LARGE, 0x123451038000ULL },
	};
	static const uint64_t r[] = {
		HPTE_R_M, HPTE_R_R, HPTE_R_C, HPTE_R_R | HPTE_R_C, HPTE_R_PP, HPTE_R_PP0 | 2,
		HPTE_R_N, 0x8, 0x20, 0x40, 0x78, HPTE_R_KEY, 0x1000000000000000ULL, 0x200,
		HPTE_R_PP0 | HPTE_R_KEY | 0x1ff,
		/* the page number reaches into what POWER9 has for the segment size */
		0x0c00000000000000ULL,
	};
	unsigned long i, j, k, at = 0;

	TABLE(HTAB_ORDER);
	for (i = 0; i < ARRAY_SIZE(v); i++)
		for (j = 0; j < ARRAY_SIZE(size); j++)
			for (k = 0; k < ARRAY_SIZE(r); k++) {
				stream_header(&self->s, at++, 1, 0);
				stream_entry(&self->s, v[i] | size[j].v | HPTE_V_VALID,
					     size[j].r | r[k]);
			}
	WRITE_STREAM();
	READER();
	DRAIN(&self->got, self->reader);
	for (i = 0; i < at; i++) {
		ASSERT_EQ(self->want.hpte[i].v, self->got.hpte[i].v);
		ASSERT_EQ(self->want.hpte[i].r, self->got.hpte[i].r);
	}
	EXPECT_EQ(-1, model_differ(&self->want, &self->got));
	/* and the same when it is told as a change */
	model_forget(&self->got);
	stream_header(&self->s, 0, 0, at);
	WRITE_STREAM();
	DRAIN_AND_COMPARE();
	EXPECT_EQ(at, self->got.invalid);
}

/* The same of memory that there is, whose entries are the hardware's to use */
TEST_F(htab, stream_is_what_was_written_of_memory)
{
	static const uint64_t v[] = {
		0, HPTE_V_BOLTED, 0x18, HPTE_V_SECONDARY, HPTE_V_1TB_SEG,
		HPTE_V_1TB_SEG | HPTE_V_BOLTED | HPTE_V_SECONDARY,
		0x0005a5a5a5a5a580ULL, HPTE_V_1TB_SEG | 0x000a5a5a5a5a5a00ULL,
	};
	static const struct {
		uint64_t v;
		uint64_t r;
	} size[] = {
		{ 0, 0x123000 }, { HPTE_V_LARGE, 0x121000 }, { HPTE_V_LARGE, 0x127000 },
	};
	static const uint64_t r[] = {
		HPTE_R_M, HPTE_R_R, HPTE_R_C, HPTE_R_R | HPTE_R_C, HPTE_R_PP, HPTE_R_PP0 | 2,
		HPTE_R_N, 0x20, 0x28, HPTE_R_KEY, 0x1000000000000000ULL, 0x200, 0x400,
	};
	unsigned long i, j, k, at = 0;
	/* Pages of 64K take a kernel that has them */
	unsigned long sizes = getpagesize() < 65536 ? 1 : ARRAY_SIZE(size);

	TABLE(HTAB_ORDER);
	ASSERT_EQ(0, htab_add_memory(&self->vm));
	READER();
	DRAIN_AND_COMPARE();
	for (i = 0; i < ARRAY_SIZE(v); i++)
		for (j = 0; j < sizes; j++)
			for (k = 0; k < ARRAY_SIZE(r); k++) {
				uint64_t lo = size[j].r | r[k];

				stream_header(&self->s, at++, 1, 0);
				/* all but some are memory like any other */
				if (!(lo & 0x78))
					lo |= HPTE_R_M;
				stream_entry(&self->s, v[i] | size[j].v | HPTE_V_VALID, lo);
			}
	WRITE_STREAM();
	DRAIN_AND_COMPARE();
	TABLE_IS(&self->want);
	/* Memory that goes away makes them absent, which the guest cannot see */
	ASSERT_EQ(0, madvise(self->vm.mem, HTAB_MEM_SIZE, MADV_DONTNEED));
	DRAIN_AND_COMPARE();
	TABLE_IS(&self->want);
}

TEST_F(htab, stream_bytes)
{
	/* One entry in bytes: the header is the host's, the entry big-endian */
	static const unsigned char entry[16] = {
		0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x91,
		0x00, 0x00, 0x10, 0x20, 0x30, 0x40, 0x51, 0x92,
	};
	struct kvm_get_htab_header hdr = { .index = 0x1234, .n_valid = 1, .n_invalid = 2 };

	TABLE(HTAB_ORDER);
	READER();
	DRAIN_AND_COMPARE();
	memcpy(self->buf, &hdr, sizeof(hdr));
	memcpy(self->buf + sizeof(hdr), entry, sizeof(entry));
	ASSERT_EQ(HTAB_ONE, xwrite(self->writer, self->buf, HTAB_ONE));
	memset(self->buf, 0xff, HTAB_ONE);
	ASSERT_EQ(HTAB_ONE, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	hdr.n_invalid = 0;
	EXPECT_EQ(0, memcmp(self->buf, &hdr, sizeof(hdr)));
	/* but for the lock, which is not what this is about */
	self->buf[sizeof(hdr) + 7] &= ~HPTE_V_HOST;
	EXPECT_EQ(0, memcmp(self->buf + sizeof(hdr), entry, sizeof(entry)));
}

/*
 * The log
 */

/* Fault 11: mainline prints what it did not like, as often as it is asked to */
TEST_F(htab, bad_writes_are_not_logged)
{
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	char line[1024];
	enum bad kind;
	ssize_t n;

	ASSERT_LE(0, log);
	TABLE(HTAB_ORDER);
	ASSERT_LE(0, lseek(log, 0, SEEK_END));
	for (kind = 0; kind < BAD_KINDS; kind++) {
		stream_bad(&self->s, kind, 2);
		EXPECT_GT(0, xwrite(self->writer, self->s.buf, self->s.len));
		stream_reset(&self->s);
	}
	while ((n = xread(log, line, sizeof(line) - 1)) > 0 || n == -EPIPE) {
		if (n == -EPIPE)
			continue;
		line[n] = 0;
		/* Others may print as well */
		if (strcasestr(line, "htab") || strcasestr(line, "hpt") || strcasestr(line, "kvm"))
			EXPECT_STREQ("", line);
	}
	EXPECT_EQ(-EAGAIN, n);
	close(log);
}

TEST_HARNESS_MAIN
