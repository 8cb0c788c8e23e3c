// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_PPC_GET_HTAB_FD, case by case: opening and reading.
 *
 * These tests need no guest: entries are put in through a writer and map
 * addresses without memory. Writing is in htab_fd_write_test.c, changes by
 * hypercalls and by the hardware in htab_fd_guest_test.c, what it costs in
 * htab_fd_cost_test.c, races in htab_fd_race_test.c.
 */
#include <sys/time.h>
#include <sys/uio.h>

#include "htab_fixture.h"

/*
 * Opening
 */

TEST_F(htab, capability)
{
	EXPECT_EQ(2, ioctl(self->vm.kvm, KVM_CHECK_EXTENSION, KVM_CAP_PPC_HTAB_FD));
	EXPECT_EQ(2, ioctl(self->vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_PPC_HTAB_FD));
}

TEST_F(htab, unknown_flag)
{
	unsigned int bit;

	TABLE(HTAB_ORDER);
	for (bit = 2; bit < 64; bit++) {
		EXPECT_EQ(-EINVAL, htab_open(&self->vm, 1ULL << bit, 0));
		EXPECT_EQ(-EINVAL, htab_open(&self->vm, 1ULL << bit | KVM_GET_HTAB_WRITE, 0));
	}
}

TEST_F(htab, reserved_is_ignored)
{
	struct kvm_get_htab_fd arg = { .reserved = { 1, ~0ULL } };

	TABLE(HTAB_ORDER);
	FILL(5, 3, 0);
	self->reader = xioctl(self->vm.fd, KVM_PPC_GET_HTAB_FD, &arg);
	ASSERT_LE(0, self->reader);
	DRAIN_AND_COMPARE();
}

TEST_F(htab, open_argument_unreadable)
{
	TABLE(HTAB_ORDER);
	EXPECT_EQ(-EFAULT, xioctl(self->vm.fd, KVM_PPC_GET_HTAB_FD, (void *)8));
}

TEST_F(htab, open_modes)
{
	int both;

	TABLE(HTAB_ORDER);
	READER();
	EXPECT_EQ(O_RDONLY, fcntl(self->reader, F_GETFL) & O_ACCMODE);
	EXPECT_EQ(O_WRONLY, fcntl(self->writer, F_GETFL) & O_ACCMODE);
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->reader, F_GETFD));
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->writer, F_GETFD));

	/* "bolted only" means nothing to a writer and does no harm */
	both = htab_open(&self->vm, KVM_GET_HTAB_WRITE | KVM_GET_HTAB_BOLTED_ONLY, 0);
	ASSERT_LE(0, both);
	EXPECT_EQ(O_WRONLY, fcntl(both, F_GETFL) & O_ACCMODE);
	close(self->writer);
	self->writer = both;
	FILL(9, 2, 0);
	TABLE_IS(&self->want);
}

TEST_F(htab, read_on_writer_and_write_on_reader)
{
	TABLE(HTAB_ORDER);
	READER();
	stream_run(&self->s, 3, 1, 0, 0);
	EXPECT_EQ(-EBADF, xread(self->writer, self->buf, 4096));
	EXPECT_EQ(-EBADF, xwrite(self->reader, self->s.buf, self->s.len));
	TABLE_IS(&self->want);
}

TEST_F(htab, seek)
{
	TABLE(HTAB_ORDER);
	FILL(0, 10, 0);
	READER();
	EXPECT_EQ(-1, lseek(self->reader, 0, SEEK_CUR));
	EXPECT_EQ(ESPIPE, errno);
	EXPECT_EQ(-1, lseek(self->reader, 0, SEEK_SET));
	EXPECT_EQ(ESPIPE, errno);
	EXPECT_EQ(-1, lseek(self->writer, 8, SEEK_SET));
	EXPECT_EQ(ESPIPE, errno);
	EXPECT_EQ(-1, pread(self->reader, self->buf, 4096, 0));
	EXPECT_EQ(ESPIPE, errno);
	stream_run(&self->s, 3, 1, 0, 0);
	EXPECT_EQ(-1, pwrite(self->writer, self->s.buf, self->s.len, 0));
	EXPECT_EQ(ESPIPE, errno);
	DRAIN_AND_COMPARE();
}

/*
 * Reading: buffers
 */

TEST_F(htab, read_buffer_under_24)
{
	size_t n;

	TABLE(HTAB_ORDER);
	FILL(0, 10, 0);
	READER();
	for (n = 1; n < HTAB_ONE; n++)
		ASSERT_EQ(-EINVAL, xread(self->reader, self->buf, n));
	/* ... in the first pass, with nothing to tell, and with a change */
	DRAIN_AND_COMPARE();
	for (n = 1; n < HTAB_ONE; n++)
		ASSERT_EQ(-EINVAL, xread(self->reader, self->buf, n));
	FILL(4, 1, 1);
	for (n = 1; n < HTAB_ONE; n++)
		ASSERT_EQ(-EINVAL, xread(self->reader, self->buf, n));
	DRAIN_AND_COMPARE();
}

TEST_F(htab, read_buffer_of_exact_entries)
{
	/* buffer, bytes: no entry that would fit is left behind */
	static const size_t sizes[][2] = {
		{ 24, 24 }, { 32, 24 }, { 39, 24 }, { 40, 40 }, { 41, 40 }, { 55, 40 },
		{ 56, 56 }, { 136, 136 }, { 200, 200 },
	};
	size_t i, at = 0;

	TABLE(HTAB_ORDER);
	FILL(0, 200, 0);
	READER();
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct kvm_get_htab_header *hdr = (void *)self->buf;

		ASSERT_EQ(sizes[i][1], xread(self->reader, self->buf, sizes[i][0]));
		ASSERT_EQ(at, hdr->index);
		ASSERT_EQ((sizes[i][1] - HTAB_HEADER) / HTAB_ENTRY, hdr->n_valid);
		ASSERT_EQ(0, hdr->n_invalid);
		ASSERT_EQ(0, model_replay(&self->got, self->buf, sizes[i][1]));
		at += hdr->n_valid;
	}
	DRAIN_AND_COMPARE();
	EXPECT_EQ(-1, model_told(&self->got, 0, self->vm.npte, 1));
}

/* Fault 4: mainline takes a buffer for one entry as the end of the pass */
TEST_F(htab, read_one_entry_at_a_time)
{
	size_t size;

	TABLE(HTAB_ORDER);
	PATTERN(0);
	for (size = HTAB_ONE; size < 80; size += 11) {
		model_free(&self->got);
		model_init(&self->got, self->vm.npte);
		READER();
		ASSERT_LE(0, model_drain(&self->got, self->reader, self->buf, size));
		EXPECT_EQ(-1, model_differ(&self->want, &self->got));
		EXPECT_EQ(-1, model_told(&self->got, 0, self->vm.npte, 1));
		close(self->reader);
	}

	/* and of a later pass too */
	READER();
	DRAIN_AND_COMPARE();
	model_forget(&self->got);
	FILL(100, 30, 1);
	FILL(7000, 5, 1);
	ASSERT_LE(0, model_drain(&self->got, self->reader, self->buf, HTAB_ONE));
	EXPECT_EQ(-1, model_differ(&self->want, &self->got));
	EXPECT_EQ(35, self->got.valid);
	EXPECT_EQ(0, self->got.invalid);
}

TEST_F(htab, readv_in_odd_pieces)
{
	static const size_t pieces[] = { 1, 3, 8, 16, 13, 7, 100, 5, 1000, 24 };
	struct iovec iov[ARRAY_SIZE(pieces)];
	ssize_t n;
	size_t i, at = 0;

	TABLE(HTAB_ORDER);
	PATTERN(0);
	READER();
	for (i = 0; i < ARRAY_SIZE(pieces); i++) {
		iov[i].iov_base = self->buf + at;
		iov[i].iov_len = pieces[i];
		at += pieces[i];
	}
	while ((n = readv(self->reader, iov, ARRAY_SIZE(pieces))) > 0)
		ASSERT_EQ(0, model_replay(&self->got, self->buf, n));
	ASSERT_EQ(0, n);
	EXPECT_EQ(-1, model_differ(&self->want, &self->got));
	EXPECT_EQ(-1, model_told(&self->got, 0, self->vm.npte, 1));

	/* Fewer bytes than an entry is too few, in however many pieces */
	for (i = 0; i < 4; i++)
		iov[i].iov_len = 5;
	EXPECT_EQ(-1, readv(self->reader, iov, 4));
	EXPECT_EQ(EINVAL, errno);
}

/*
 * Reading: passes
 */

TEST_F(htab, read_at_end_of_pass)
{
	TABLE(HTAB_ORDER);
	FILL(0, 10, 0);
	READER();
	ASSERT_LT(0, model_drain(&self->got, self->reader, self->buf, HTAB_QEMU_BUF));
	ASSERT_EQ(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	ASSERT_EQ(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	/* the read after the 0 begins a pass, which tells of this ... */
	FILL(3, 1, 1);
	ASSERT_EQ(HTAB_ONE, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	ASSERT_EQ(0, model_replay(&self->got, self->buf, HTAB_ONE));
	EXPECT_EQ(-1, model_differ(&self->want, &self->got));
	/* ... and of it no more */
	ASSERT_EQ(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	ASSERT_EQ(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
}

TEST_F(htab, first_pass_whole_table)
{
	TABLE(HTAB_ORDER);
	PATTERN(0);
	READER();
	ASSERT_LT(0, model_drain(&self->got, self->reader, self->buf, HTAB_QEMU_BUF));
	EXPECT_EQ(-1, model_differ(&self->want, &self->got));
	EXPECT_EQ(-1, model_told(&self->got, 0, self->vm.npte, 1));
	EXPECT_EQ(0, self->got.disorder);
}

TEST_F(htab, first_pass_of_empty_table)
{
	TABLE(HTAB_ORDER);
	READER();
	ASSERT_LT(0, model_drain(&self->got, self->reader, self->buf, HTAB_QEMU_BUF));
	EXPECT_EQ(-1, model_told(&self->got, 0, self->vm.npte, 1));
	EXPECT_EQ(self->vm.npte, self->got.invalid);
}

TEST_F(htab, first_pass_from_start_index)
{
	static const unsigned long starts[] = { 1, 8, 777, 16383 };
	unsigned long i;

	TABLE(HTAB_ORDER);
	FILL(0, self->vm.npte - 20, 0);
	for (i = 0; i < ARRAY_SIZE(starts); i++) {
		model_forget(&self->got);
		self->reader = htab_open(&self->vm, 0, starts[i]);
		ASSERT_LE(0, self->reader);
		DRAIN(&self->got, self->reader);
		EXPECT_EQ(-1, model_told(&self->got, 0, starts[i], 0));
		EXPECT_EQ(-1, model_told(&self->got, starts[i], self->vm.npte, 1));
		EXPECT_EQ(0, memcmp(self->got.hpte + starts[i], self->want.hpte + starts[i],
				    (self->vm.npte - starts[i]) * sizeof(struct hpte)));
		close(self->reader);
	}
}

TEST_F(htab, first_pass_bolted_only)
{
	unsigned long i;

	TABLE(HTAB_ORDER);
	for (i = 0; i < 500; i++) {
		struct hpte e = hpte_of(i, 0);

		if (i % 3)
			e.v |= HPTE_V_BOLTED;
		stream_header(&self->s, i, 1, 0);
		stream_entry(&self->s, e.v, e.r);
	}
	WRITE_STREAM();
	self->reader = htab_open(&self->vm, KVM_GET_HTAB_BOLTED_ONLY, 0);
	ASSERT_LE(0, self->reader);
	DRAIN(&self->got, self->reader);
	EXPECT_EQ(-1, model_told(&self->got, 0, self->vm.npte, 1));
	for (i = 0; i < 500; i += 3)
		memset(&self->want.hpte[i], 0, sizeof(struct hpte));
	EXPECT_EQ(-1, model_differ(&self->want, &self->got));
}

TEST_F(htab, later_pass_bolted_only)
{
	struct hpte e = hpte_of(40, 1);

	TABLE(HTAB_ORDER);
	FILL(0, 100, 0);
	self->reader = htab_open(&self->vm, KVM_GET_HTAB_BOLTED_ONLY, 0);
	ASSERT_LE(0, self->reader);
	DRAIN(&self->got, self->reader);
	model_forget(&self->got);

	/* An entry that is not bolted is never shown; one that gets so is */
	FILL(30, 4, 1);
	stream_header(&self->s, 40, 1, 0);
	stream_entry(&self->s, e.v | HPTE_V_BOLTED, e.r);
	WRITE_STREAM();
	DRAIN(&self->got, self->reader);
	EXPECT_EQ(1, self->got.valid);
	EXPECT_EQ(1, self->got.told[40]);
	EXPECT_EQ(e.v | HPTE_V_BOLTED, self->got.hpte[40].v);
	model_forget(&self->got);

	/* ... and is told invalid when it is bolted no more */
	FILL(40, 1, 2);
	DRAIN(&self->got, self->reader);
	EXPECT_EQ(0, self->got.valid);
	EXPECT_EQ(1, self->got.told[40]);
}

TEST_F(htab, counts_split_at_65535)
{
	unsigned long i;

	/* 131072 invalid entries do not go into one count */
	TABLE(21);
	READER();
	ASSERT_LT(0, model_drain(&self->got, self->reader, self->buf, HTAB_QEMU_BUF));
	EXPECT_EQ(-1, model_told(&self->got, 0, self->vm.npte, 1));
	EXPECT_EQ(self->vm.npte, self->got.invalid);
	EXPECT_LE(3, self->got.records);
	/* but need not go into many */
	EXPECT_GE(128, self->got.records);

	/* nor do 65540 valid ones, written in a record as large as can be */
	for (i = 0; i < 65540; i += HTAB_MAX_RUN) {
		stream_run(&self->s, i, i ? 65540 - i : HTAB_MAX_RUN, 0, 0);
		WRITE_STREAM();
	}
	DRAIN_AND_COMPARE();
	model_forget(&self->got);
	close(self->reader);
	READER();
	DRAIN_AND_COMPARE();
	EXPECT_EQ(-1, model_told(&self->got, 0, self->vm.npte, 1));
	EXPECT_EQ(65540, self->got.valid);

	/* and as many go at once */
	model_forget(&self->got);
	stream_header(&self->s, 1, 0, HTAB_MAX_RUN);
	WRITE_STREAM();
	DRAIN_AND_COMPARE();
	EXPECT_EQ(HTAB_MAX_RUN, self->got.invalid);
	EXPECT_EQ(0, self->got.valid);
}

TEST_F(htab, later_pass_only_changes)
{
	static const unsigned long changed[] = { 0, 1, 2, 63, 64, 127, 128, 4095, 8000, 16383 };
	unsigned long i;

	TABLE(HTAB_ORDER);
	PATTERN(0);
	READER();
	DRAIN_AND_COMPARE();
	model_forget(&self->got);
	for (i = 0; i < ARRAY_SIZE(changed); i++)
		FILL(changed[i], 1, 1);
	DRAIN_AND_COMPARE();
	EXPECT_EQ(ARRAY_SIZE(changed), self->got.valid);
	EXPECT_EQ(0, self->got.invalid);
	for (i = 0; i < ARRAY_SIZE(changed); i++)
		EXPECT_EQ(1, self->got.told[changed[i]]);

	/* Many passes, one change each */
	for (i = 0; i < 50; i++) {
		model_forget(&self->got);
		FILL(i * 300, 1, 2);
		DRAIN_AND_COMPARE();
		ASSERT_EQ(1, self->got.valid);
		ASSERT_EQ(0, self->got.invalid);
	}
}

TEST_F(htab, later_passes_begin_at_0)
{
	TABLE(HTAB_ORDER);
	FILL(0, 1000, 0);
	/* In case the table has changes left of before the reader was there */
	READER();
	DRAIN_AND_COMPARE();
	close(self->reader);

	self->reader = htab_open(&self->vm, 0, 500);
	ASSERT_LE(0, self->reader);
	DRAIN(&self->got, self->reader);
	model_forget(&self->got);
	FILL(7, 1, 1);
	FILL(600, 1, 1);
	DRAIN(&self->got, self->reader);
	EXPECT_EQ(2, self->got.valid);
	EXPECT_EQ(0, self->got.invalid);
	EXPECT_EQ(1, self->got.told[7]);
	EXPECT_EQ(1, self->got.told[600]);
	EXPECT_EQ(0, self->got.disorder);
}

TEST_F(htab, removed_entry_is_counted_invalid)
{
	unsigned long i;

	TABLE(HTAB_ORDER);
	FILL(0, 1000, 0);
	READER();
	DRAIN_AND_COMPARE();
	model_forget(&self->got);
	stream_header(&self->s, 10, 0, 5);
	stream_header(&self->s, 900, 0, 1);
	WRITE_STREAM();
	DRAIN_AND_COMPARE();
	EXPECT_EQ(0, self->got.valid);
	EXPECT_EQ(6, self->got.invalid);
	for (i = 10; i < 15; i++)
		EXPECT_EQ(1, self->got.told[i]);
	EXPECT_EQ(1, self->got.told[900]);

	/* Removing what is not there changes nothing */
	model_forget(&self->got);
	stream_header(&self->s, 2000, 0, 50);
	WRITE_STREAM();
	DRAIN_AND_COMPARE();
	EXPECT_EQ(0, self->got.valid);
}

TEST_F(htab, changes_during_a_pass)
{
	unsigned int gen, i;

	TABLE(HTAB_ORDER);
	FILL(0, 4000, 0);
	READER();
	for (gen = 1; gen < 5; gen++) {
		/* Part of the pass, then changes before, behind and at the cursor */
		for (i = 0; i < 10; i++) {
			ssize_t n = xread(self->reader, self->buf, 1000);

			ASSERT_LE(0, n);
			ASSERT_EQ(0, model_replay(&self->got, self->buf, n));
		}
		FILL(gen, 1, gen);
		FILL(600, 40, gen);
		FILL(3500, 30, gen);
		stream_header(&self->s, 50 * gen, 0, 3);
		stream_header(&self->s, 3000 + 50 * gen, 0, 3);
		WRITE_STREAM();
		/* The pass goes on, and the next has what this one missed */
		DRAIN(&self->got, self->reader);
		DRAIN_AND_COMPARE();
		/* something to be amid of next time */
		FILL(0, 600, gen);
		FILL(2000, 600, gen);
	}
}

TEST_F(htab, start_index_past_the_end)
{
	unsigned long i;
	const uint64_t starts[] = {
		htab_npte(HTAB_ORDER), htab_npte(HTAB_ORDER) + 5, 1ULL << 32, 1ULL << 60, ~0ULL,
	};

	TABLE(HTAB_ORDER);
	FILL(0, 100, 0);
	READER();
	DRAIN_AND_COMPARE();
	close(self->reader);
	for (i = 0; i < ARRAY_SIZE(starts); i++) {
		self->reader = htab_open(&self->vm, 0, starts[i]);
		ASSERT_LE(0, self->reader);
		ASSERT_EQ(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
		/* That was the first pass; now there are changes to be told of */
		model_forget(&self->got);
		FILL(50, 1, i + 1);
		DRAIN_AND_COMPARE();
		EXPECT_EQ(1, self->got.valid);
		EXPECT_EQ(0, self->got.invalid);
		close(self->reader);
	}
}

/*
 * Reading: the table is replaced
 */

/*
 * QEMU reads for 5 ms and goes on another time: in the end, with the guest
 * stopped, until it gets 0. Here it has left off where no more changes are.
 */
TEST_F(htab, pass_left_in_the_middle)
{
	enum { N = (HTAB_QEMU_BUF - HTAB_HEADER) / HTAB_ENTRY };
	ssize_t n;

	TABLE(HTAB_ORDER);
	FILL(0, 3000, 0);
	READER();
	DRAIN_AND_COMPARE();
	FILL(1000, N, 1);
	n = xread(self->reader, self->buf, HTAB_QEMU_BUF);
	ASSERT_LT(0, n);
	ASSERT_EQ(0, model_replay(&self->got, self->buf, n));
	FILL(5, 1, 2);
	while ((n = xread(self->reader, self->buf, HTAB_QEMU_BUF)) > 0)
		ASSERT_EQ(0, model_replay(&self->got, self->buf, n));
	ASSERT_EQ(0, n);
	ASSERT_EQ(-1, model_differ(&self->want, &self->got));
}

/* Mainline has freed the table by the time that it looks at the order */
TEST_F(htab, allocate_of_bad_order)
{
	static const unsigned int orders[] = { 0, 1, 17, 47, 64, 0x80000018, ~0U };
	unsigned int i;

	TABLE(HTAB_ORDER);
	FILL(5, 3, 0);
	for (i = 0; i < ARRAY_SIZE(orders); i++)
		EXPECT_EQ(-EINVAL, htab_allocate(&self->vm, orders[i]));
	TABLE_IS(&self->want);
}

/* Fault 6: mainline says that nothing has changed */
TEST_F(htab, reset_at_same_order)
{
	TABLE(HTAB_ORDER);
	PATTERN(0);
	READER();
	DRAIN_AND_COMPARE();
	model_forget(&self->got);
	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
	memset(self->want.hpte, 0, self->vm.npte * sizeof(struct hpte));
	FILL(30, 10, 1);
	DRAIN_AND_COMPARE();
	EXPECT_EQ(-1, model_told(&self->got, 0, self->vm.npte, 1));
	model_forget(&self->got);
	FILL(35, 2, 2);
	DRAIN_AND_COMPARE();
	EXPECT_EQ(2, self->got.valid);
}

TEST_F(htab, reset_during_a_pass)
{
	ssize_t n;

	TABLE(HTAB_ORDER);
	FILL(0, 4000, 0);
	READER();
	n = xread(self->reader, self->buf, 20000);
	ASSERT_LT(0, n);
	ASSERT_EQ(0, model_replay(&self->got, self->buf, n));
	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
	memset(self->want.hpte, 0, self->vm.npte * sizeof(struct hpte));
	FILL(3000, 10, 1);
	DRAIN_AND_COMPARE();

	/* A reset that nobody saw happen, twice */
	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
	memset(self->want.hpte, 0, self->vm.npte * sizeof(struct hpte));
	DRAIN_AND_COMPARE();
}

TEST_F(htab, order_changed)
{
	int fresh, i;

	TABLE(HTAB_ORDER);
	FILL(0, 100, 0);
	READER();
	DRAIN_AND_COMPARE();
	fresh = htab_reader(&self->vm);
	ASSERT_LE(0, fresh);

	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER + 1));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(-ESTALE, xread(self->reader, self->buf, HTAB_QEMU_BUF));
		EXPECT_EQ(-ESTALE, xread(fresh, self->buf, HTAB_QEMU_BUF));
	}
	close(self->reader);
	close(fresh);
	close(self->writer);
	TABLE(HTAB_ORDER + 1);
	FILL(self->vm.npte - 50, 50, 1);
	READER();
	DRAIN_AND_COMPARE();
	EXPECT_EQ(-1, model_told(&self->got, 0, self->vm.npte, 1));
}

/* For ever: an order like the reader's own is another table all the same */
TEST_F(htab, order_changed_and_back)
{
	TABLE(HTAB_ORDER);
	FILL(0, 100, 0);
	READER();
	DRAIN_AND_COMPARE();
	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER + 1));
	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
	EXPECT_EQ(-ESTALE, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	EXPECT_EQ(-ESTALE, xread(self->reader, self->buf, HTAB_QEMU_BUF));
}

TEST_F(htab, order_changed_under_writer)
{
	TABLE(HTAB_ORDER);
	FILL(0, 100, 0);
	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER + 1));
	stream_run(&self->s, 3, 1, 0, 0);
	EXPECT_EQ(-ESTALE, xwrite(self->writer, self->s.buf, self->s.len));
	stream_reset(&self->s);
	close(self->writer);
	model_free(&self->want);
	model_free(&self->got);
	TABLE(HTAB_ORDER + 1);
	TABLE_IS(&self->want);
	FILL(0, 100, 0);
	TABLE_IS(&self->want);
}

/* A writer goes on: an incoming migration may begin with a reset */
TEST_F(htab, reset_under_writer)
{
	TABLE(HTAB_ORDER);
	FILL(0, 100, 0);
	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
	memset(self->want.hpte, 0, self->vm.npte * sizeof(struct hpte));
	FILL(50, 100, 1);
	TABLE_IS(&self->want);
}

TEST_F(htab, radix_guest)
{
	if (!htab_has_radix(&self->vm))
		SKIP(return, "no radix guests on this machine");
	TABLE(HTAB_ORDER);
	ASSERT_EQ(0, htab_configure_mmu(&self->vm, true));
	close(self->writer);
	READER();
	self->writer = htab_writer(&self->vm);
	ASSERT_LE(0, self->writer);
	EXPECT_EQ(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	EXPECT_EQ(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	stream_run(&self->s, 3, 1, 0, 0);
	EXPECT_EQ(-EINVAL, xwrite(self->writer, self->s.buf, self->s.len));
}

TEST_F(htab, radix_and_back)
{
	if (!htab_has_radix(&self->vm))
		SKIP(return, "no radix guests on this machine");
	TABLE(HTAB_ORDER);
	FILL(0, 100, 0);
	READER();
	DRAIN_AND_COMPARE();
	ASSERT_EQ(0, htab_configure_mmu(&self->vm, true));
	/* Nothing to read of a radix guest, and too late for this reader after that */
	EXPECT_EQ(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	ASSERT_EQ(0, htab_configure_mmu(&self->vm, false));
	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
	EXPECT_EQ(-ESTALE, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	EXPECT_EQ(-ESTALE, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	close(self->reader);
	close(self->writer);
	TABLE(HTAB_ORDER);
	FILL(0, 100, 1);
	READER();
	DRAIN_AND_COMPARE();
}

TEST_F(htab, no_table_yet)
{
	READER();
	self->writer = htab_writer(&self->vm);
	ASSERT_LE(0, self->writer);
	EXPECT_EQ(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	EXPECT_EQ(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	stream_run(&self->s, 0, 1, 0, 0);
	EXPECT_EQ(-EINVAL, xwrite(self->writer, self->s.buf, self->s.len));
}

/* Who reads before there is a table is not told afterwards that it is empty */
TEST_F(htab, no_table_then_table)
{
	int early;

	early = htab_reader(&self->vm);
	ASSERT_LE(0, early);
	ASSERT_EQ(0, xread(early, self->buf, HTAB_QEMU_BUF));
	TABLE(HTAB_ORDER);
	FILL(0, 100, 0);
	self->reader = early;
	DRAIN_AND_COMPARE();
}

TEST_F(htab, vm_fd_closed)
{
	TABLE(HTAB_ORDER);
	FILL(0, 100, 0);
	READER();
	close(self->vm.fd);
	self->vm.fd = -1;
	DRAIN_AND_COMPARE();
	FILL(50, 100, 1);
	DRAIN_AND_COMPARE();
	close(self->writer);
	EXPECT_EQ(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	EXPECT_EQ(0, close(self->reader));
}

/*
 * Reading: several readers
 */

/* Fault 2: mainline has one "modified" bit for all readers */
TEST_F(htab, readers_each_see_all_changes)
{
	enum { NR = 3 };
	struct model m[NR];
	int fd[NR], gen, i, k;

	TABLE(HTAB_ORDER);
	PATTERN(0);
	for (i = 0; i < NR; i++) {
		fd[i] = htab_reader(&self->vm);
		ASSERT_LE(0, fd[i]);
		model_init(&m[i], self->vm.npte);
		DRAIN(&m[i], fd[i]);
		ASSERT_EQ(-1, model_differ(&self->want, &m[i]));
	}
	for (gen = 1; gen < 6; gen++) {
		FILL(17 * gen, 17, gen);
		stream_header(&self->s, 300 * gen, 0, 20);
		WRITE_STREAM();
		/* In turn, not always from the same, one that skips a pass */
		for (k = 0; k < NR; k++) {
			i = (k + gen) % NR;
			if (i == 1 && gen % 2)
				continue;
			model_forget(&m[i]);
			DRAIN(&m[i], fd[i]);
			ASSERT_EQ(-1, model_differ(&self->want, &m[i]));
			if (i != 1)
				EXPECT_EQ(17, m[i].valid);
		}
	}
	DRAIN(&m[1], fd[1]);
	EXPECT_EQ(-1, model_differ(&self->want, &m[1]));
}

TEST_F(htab, readers_come_and_go)
{
	unsigned int gen;

	TABLE(HTAB_ORDER);
	PATTERN(0);
	READER();
	DRAIN_AND_COMPARE();
	/* Neither the first pass of another nor its end takes a change away */
	for (gen = 1; gen < 5; gen++) {
		FILL(100 * gen, 20, gen);
		TABLE_IS(&self->want);
		FILL(110 * gen, 20, gen);
		model_forget(&self->got);
		DRAIN_AND_COMPARE();
		EXPECT_LE(20, self->got.valid);
		EXPECT_GE(40, self->got.valid);
	}
	close(self->reader);
	FILL(0, 50, 6);
	TABLE_IS(&self->want);
}

struct drainer {
	pthread_t thread;
	struct model m;
	int fd;
	ssize_t ret;
};

static void *drain_thread(void *arg)
{
	struct drainer *d = arg;
	char buf[600];

	d->ret = model_drain(&d->m, d->fd, buf, sizeof(buf));
	return NULL;
}

TEST_F(htab, concurrent_reads_on_one_fd)
{
	enum { NR = 4 };
	struct drainer d[NR];
	unsigned long i;
	int k, round;

	TABLE(HTAB_ORDER);
	PATTERN(0);
	for (round = 0; round < 10; round++) {
		READER();
		for (k = 0; k < NR; k++) {
			model_init(&d[k].m, self->vm.npte);
			d[k].fd = self->reader;
			ASSERT_EQ(0, pthread_create(&d[k].thread, NULL, drain_thread, &d[k]));
		}
		model_forget(&self->got);
		for (k = 0; k < NR; k++) {
			ASSERT_EQ(0, pthread_join(d[k].thread, NULL));
			ASSERT_LE(0, d[k].ret);
			for (i = 0; i < self->vm.npte; i++) {
				if (!d[k].m.told[i])
					continue;
				self->got.told[i] += d[k].m.told[i];
				self->got.hpte[i] = d[k].m.hpte[i];
			}
			model_free(&d[k].m);
		}
		ASSERT_EQ(-1, model_differ(&self->want, &self->got));
		ASSERT_EQ(-1, model_told(&self->got, 0, self->vm.npte, 1));
		close(self->reader);
	}
}

/*
 * Reading: faults and signals
 */

/* Fault 3: mainline has forgotten what it could not hand over */
TEST_F(htab, fault_during_read_loses_nothing)
{
	static const size_t before[] = { 0, 1, 8, 23, 24, 40, 100, 1000, 5000 };
	unsigned long i, k;
	ssize_t n;

	TABLE(HTAB_ORDER);
	PATTERN(0);
	READER();
	/* The first round is in the first pass, the others are later passes */
	for (i = 0; i < ARRAY_SIZE(before); i++) {
		char *p = buffer_before_hole(before[i]);

		ASSERT_NE(NULL, p);
		n = xread(self->reader, p, 65536);
		if (n >= 0) {
			ASSERT_LE(n, before[i]);
			ASSERT_EQ(0, model_replay(&self->got, p, n));
		} else {
			ASSERT_EQ(-EFAULT, n);
		}
		/* Nowhere to put anything: the page of the hole itself */
		ASSERT_EQ(-EFAULT, xread(self->reader, p + before[i], 4096));
		DRAIN_AND_COMPARE();
		for (k = 0; k < 40; k++)
			FILL(k * 300 + i, 10, i + 1);
	}
}

TEST_F(htab, fault_in_one_of_several_pieces)
{
	struct iovec iov[3];
	ssize_t n;

	TABLE(HTAB_ORDER);
	FILL(0, 1000, 0);
	READER();
	DRAIN_AND_COMPARE();
	FILL(0, 1000, 1);
	iov[0].iov_base = self->buf;
	iov[0].iov_len = 1001;
	iov[1].iov_base = (char *)buffer_before_hole(0);
	iov[1].iov_len = 1000;
	iov[2].iov_base = self->buf + 1001;
	iov[2].iov_len = 1000;
	n = readv(self->reader, iov, 3);
	if (n >= 0) {
		ASSERT_NE(0, n);
		ASSERT_GE(1001, n);
		ASSERT_EQ(0, model_replay(&self->got, self->buf, n));
	} else {
		EXPECT_EQ(EFAULT, errno);
	}
	DRAIN_AND_COMPARE();
}

static void nothing(int sig)
{
	(void)sig;
}

/* Have SIGALRM come all the time; the harness has its own in its own process */
static void tick(unsigned int usec)
{
	struct itimerval it = {
		.it_interval.tv_usec = usec, .it_value.tv_usec = usec,
	};
	struct sigaction sa = { .sa_handler = usec ? nothing : SIG_IGN };

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &it, NULL);
}

/* The shorter time in microseconds: this one, or that from begin until now */
static uint64_t min_since(uint64_t least, uint64_t begin)
{
	uint64_t usec = now_us() - begin;

	return usec < least ? usec : least;
}

TEST_F(htab, signal_interrupts_read)
{
	unsigned int round, early = 0;
	uint64_t begin, least = UINT64_MAX;
	ssize_t n, whole;

	TABLE(21);
	FILL(0, 65536, 0);
	memset(self->buf, 1, BIG_BUF);
	/* So long does it take here, if nothing comes in between ... */
	for (round = 0; round < 5; round++) {
		READER();
		begin = now_us();
		whole = xread(self->reader, self->buf, BIG_BUF);
		least = min_since(least, begin);
		ASSERT_LT((ssize_t)(65536 * HTAB_ENTRY), whole);
		close(self->reader);
	}
	/* ... so that ticks of a quarter come whenever it begins */
	for (round = 0; round < 10; round++) {
		READER();
		model_free(&self->got);
		model_init(&self->got, self->vm.npte);
		tick(least / 4 ?: 1);
		while ((n = xread(self->reader, self->buf, BIG_BUF)) == -EINTR || n > 0) {
			if (n < whole)
				early++;
			if (n > 0)
				ASSERT_EQ(0, model_replay(&self->got, self->buf, n));
		}
		tick(0);
		ASSERT_EQ(0, n);
		/* Whatever was interrupted: told of everything, and once */
		ASSERT_EQ(-1, model_differ(&self->want, &self->got));
		ASSERT_EQ(-1, model_told(&self->got, 0, self->vm.npte, 1));
		close(self->reader);
	}
	EXPECT_LT(0, early);
}

TEST_F(htab, signals_lose_no_changes)
{
	unsigned int gen;
	ssize_t n;

	TABLE(20);
	FILL(0, 30000, 0);
	READER();
	DRAIN_AND_COMPARE();
	for (gen = 1; gen < 4; gen++) {
		FILL(0, 15000, gen);
		model_forget(&self->got);
		tick(1000);
		while ((n = xread(self->reader, self->buf, BIG_BUF)) == -EINTR || n > 0)
			if (n > 0)
				ASSERT_EQ(0, model_replay(&self->got, self->buf, n));
		tick(0);
		ASSERT_EQ(0, n);
		ASSERT_EQ(-1, model_differ(&self->want, &self->got));
		EXPECT_EQ(15000, self->got.valid);
	}
}

/* Applies a long record over and over, with the table held for each */
struct long_writes {
	int fd;
	const struct stream *s;
	bool stop;
	ssize_t n;
};

static void *write_long_records(void *arg)
{
	struct long_writes *w = arg;

	do
		w->n = xwrite(w->fd, w->s->buf, w->s->len);
	while (w->n == (ssize_t)w->s->len && !__atomic_load_n(&w->stop, __ATOMIC_RELAXED));
	return NULL;
}

/* QEMU takes an EINTR of a debugger's read for fatal */
TEST_F(htab, signal_while_the_table_is_taken)
{
	struct long_writes w;
	unsigned int i, waited = 0;
	uint64_t begin, at, least = UINT64_MAX;
	pthread_t thread;
	sigset_t alarm;
	int fd;

	TABLE(22);
	stream_run(&self->s, 0, 0xffff, 0xffff, 0);
	w = (struct long_writes) { .fd = self->writer, .s = &self->s };
	/* So long the table is taken for one: some ticks come meanwhile */
	for (i = 0; i < 5; i++) {
		at = now_us();
		ASSERT_EQ(self->s.len, xwrite(self->writer, self->s.buf, self->s.len));
		least = min_since(least, at);
	}
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm, NULL);
	ASSERT_EQ(0, pthread_create(&thread, NULL, write_long_records, &w));
	pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);

	tick(least / 8 ?: 1);
	for (begin = now_ms(); now_ms() - begin < 2000 || !waited;) {
		fd = htab_reader(&self->vm);
		ASSERT_LE(0, fd);
		at = now_us();
		ASSERT_LT(0, xread(fd, self->buf, HTAB_QEMU_BUF));
		waited += now_us() - at > least / 4;
		close(fd);
		ASSERT_GT(SOON_S * 1000, now_ms() - begin);
	}
	tick(0);
	TH_LOG("%u reads have waited", waited);
	__atomic_store_n(&w.stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ((ssize_t)self->s.len, w.n);
}

TEST_F(htab, killed_during_read)
{
	int round, status, victim, begun[2];
	uint64_t begin;
	pid_t pid;

	TABLE(21);
	FILL(0, 50000, 0);
	READER();
	DRAIN_AND_COMPARE();
	for (round = 0; round < 4; round++) {
		/* The victim is amid a first pass or, at the end of it, in later ones */
		victim = htab_reader(&self->vm);
		ASSERT_LE(0, victim);
		FILL(round * 1000, 2000, round + 1);
		ASSERT_EQ(0, pipe(begun));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			xread(victim, self->buf, HTAB_QEMU_BUF);
			xwrite(begun[1], self->buf, 1);
			while (xread(victim, self->buf, BIG_BUF) >= 0)
				;
			_exit(1);
		}
		ASSERT_EQ(1, xread(begun[0], self->buf, 1));
		close(begun[0]);
		close(begun[1]);
		usleep(round * 30000);
		begin = now_ms();
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
		EXPECT_GT(5000, now_ms() - begin);
		close(victim);
		/* Nothing is lost to others, no entry is left locked */
		DRAIN_AND_COMPARE();
		FILL(round * 1000, 5000, round + 2);
		DRAIN_AND_COMPARE();
	}
}

TEST_HARNESS_MAIN
