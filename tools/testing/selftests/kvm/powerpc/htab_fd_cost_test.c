// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_PPC_GET_HTAB_FD: what reading and writing cost.
 *
 * Counted in instructions, the kernel's included, which unlike time are the
 * same on every run. The bounds are for HV and for PR.
 */
#include "htab_fixture.h"

/* Lockdep and KASAN, if it has them, have a share in all that it does. */
static bool kernel_checks_itself(void)
{
	FILE *f = fopen("/proc/kallsyms", "r");
	char line[512];
	bool found = !access("/proc/lockdep", F_OK);

	while (f && !found && fgets(line, sizeof(line), f))
		found = strstr(line, " kasan_report");
	if (f)
		fclose(f);
	return found;
}

static const char *no_cost;	/* why there is none */

/* The counter, or less than 0 */
static int cost_open(void)
{
	int counter = count_open();

	if (counter < 0 || !count_now(counter))
		no_cost = "no instruction counter";
	else if (kernel_checks_itself())
		no_cost = "instructions of a kernel that checks itself";
	else
		return counter;
	return -1;
}

#define COST_IS_UNDER(_hv, _pr, _count, _n, _what) do {			\
	double _cost = (double)(_count) / (_n);				\
									\
	TH_LOG("%s: %.2f instructions", _what, _cost);			\
	EXPECT_LT(_cost, variant->type == KVM_VM_PPC_PR ? (_pr) : (_hv)); \
} while (0)

/* Fault 7: on POWER9 each put_user() of mainline costs a flush of the L1D */
TEST_F(htab, cost_of_first_pass)
{
	int cost = cost_open();
	unsigned long i;
	uint64_t begin;
	ssize_t n;

	if (cost < 0)
		SKIP(return, "%s", no_cost);

	TABLE(20);
	for (i = 0; i < self->vm.npte; i += 8) {
		stream_run(&self->s, i, 4, 4, 0);
		if (self->s.len > 60000)
			WRITE_STREAM();
	}
	WRITE_STREAM();
	READER();
	memset(self->buf, 1, HTAB_QEMU_BUF);
	begin = count_now(cost);
	while ((n = xread(self->reader, self->buf, HTAB_QEMU_BUF)) > 0)
		;
	begin = count_now(cost) - begin;
	ASSERT_EQ(0, n);
	COST_IS_UNDER(50, 41, begin, self->vm.npte, "first pass, half full, an HPTE");
}

/* Fault 8: mainline looks at each entry to find that none has changed */
TEST_F(htab, cost_of_unchanged_pass)
{
	int cost = cost_open();
	uint64_t begin, least = UINT64_MAX;
	unsigned int i;

	if (cost < 0)
		SKIP(return, "%s", no_cost);

	TABLE(22);
	FILL(0, 20000, 0);
	READER();
	DRAIN_AND_COMPARE();
	/* The first may tidy up */
	ASSERT_EQ(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	/* An interrupt may come in between, and adds a quarter */
	for (i = 0; i < 9; i++) {
		begin = count_now(cost);
		ASSERT_EQ(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
		begin = count_now(cost) - begin;
		if (begin < least)
			least = begin;
	}
	COST_IS_UNDER(0.10, 0.10, least, self->vm.npte, "unchanged pass, an HPTE");
}

/*
 * To open a reader, read a group of 8 entries, and close it is what QEMU does for
 * each address that a debugger looks at. The size of the table is not to matter.
 */
TEST_F(htab, cost_of_a_look)
{
	static const unsigned int orders[] = { 18, 24 };
	int cost = cost_open();
	uint64_t least[ARRAY_SIZE(orders)], begin;
	unsigned int i, k;

	if (cost < 0)
		SKIP(return, "%s", no_cost);

	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		least[i] = UINT64_MAX;
		TABLE(orders[i]);
		for (k = 0; k < 32; k++)
			stream_run(&self->s, self->vm.npte / 2 + 8 * k, 4, 4, 0);
		WRITE_STREAM();
		for (k = 0; k < 24; k++) {
			begin = count_now(cost);
			self->reader = htab_open(&self->vm, 0, self->vm.npte / 2 + 8 * k);
			ASSERT_LE(HTAB_HEADER, xread(self->reader, self->buf,
						     HTAB_HEADER + 8 * HTAB_ENTRY));
			close(self->reader);
			begin = count_now(cost) - begin;
			if (begin < least[i])
				least[i] = begin;
		}
		TH_LOG("a look at a table of order %u: %lu instructions", orders[i],
		       (unsigned long)least[i]);
	}
	/*
	 * Most of it is a grace period of SRCU, which may spin. To go over the bitmap
	 * of the larger table took 60,000 more; lab/bench has a closer bound.
	 */
	EXPECT_LT(least[0], 50000);
	EXPECT_LT(least[1], 50000);
}

TEST_F(htab, cost_of_few_changes)
{
	int cost = cost_open();
	unsigned long i;
	uint64_t begin;
	ssize_t n;

	if (cost < 0)
		SKIP(return, "%s", no_cost);

	TABLE(22);
	FILL(0, 20000, 0);
	READER();
	DRAIN_AND_COMPARE();
	ASSERT_EQ(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	for (i = 0; i < 100; i++)
		FILL(i * 2600, 1, 1);
	model_forget(&self->got);
	begin = count_now(cost);
	n = xread(self->reader, self->buf, 65536);
	begin = count_now(cost) - begin;
	ASSERT_LE(0, n);
	ASSERT_EQ(0, model_replay(&self->got, self->buf, n));
	EXPECT_EQ(100, self->got.valid);
	COST_IS_UNDER(0.5, 0.4, begin, self->vm.npte, "pass over 100 changes, an HPTE");
}

/* Fault 10: mainline has a H_ENTER and two get_user() for each */
TEST_F(htab, cost_of_restore)
{
	int cost = cost_open();
	uint64_t total = 0, begin;
	unsigned long i, k;

	if (cost < 0)
		SKIP(return, "%s", no_cost);

	TABLE(20);
	ASSERT_EQ(0, htab_add_memory(&self->vm));
	for (i = 0; i + 127 < 32768; i += 127) {
		stream_header(&self->s, i, 127, 0);
		for (k = i; k < i + 127; k++) {
			struct hpte e = hpte_of(k, 0);

			/* of memory that there is, as most are */
			e.r = (e.r & ~HPTE_R_RPN) | (k << 12) % HTAB_MEM_SIZE;
			stream_entry(&self->s, e.v, e.r);
		}
		begin = count_now(cost);
		ASSERT_EQ(self->s.len, xwrite(self->writer, self->s.buf, self->s.len));
		total += count_now(cost) - begin;
		stream_reset(&self->s);
	}
	COST_IS_UNDER(600, 122, total, i, "restore, an HPTE");
}

TEST_HARNESS_MAIN
