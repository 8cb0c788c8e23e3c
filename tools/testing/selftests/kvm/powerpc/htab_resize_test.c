// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_PPC_RESIZE_HPT_PREPARE and KVM_PPC_RESIZE_HPT_COMMIT: what a process, or
 * a guest, can do by them to the host, and what a resize has to keep.
 *
 * As with htab_fd_race_test, a host that fails here may crash.
 */
#include "htab_fixture.h"

#define RACE_MS		3000
#define BIG_ORDER	24
#define TAINT_WARN	0x200

/*
 * The VM goes while a table is being allocated, or when that was cancelled, or
 * another one is to be.  None of them stays: they take more than 32 MB.
 */
TEST_F(htab, resize_against_end_of_vm)
{
	long kb = get_number("/proc/meminfo", "MemAvailable:");
	uint64_t begin = now_ms();
	unsigned int i;

	ASSERT_LT(0, kb);
	for (i = 0; now_ms() - begin < RACE_MS; i++) {
		struct htab_vm vm;

		ASSERT_EQ(0, htab_vm_open(&vm, variant->type));
		ASSERT_EQ(0, htab_allocate(&vm, HTAB_ORDER));
		ASSERT_LT(0, resize_prepare(&vm, BIG_ORDER));
		if (i % 3 == 1)
			ASSERT_LT(0, resize_prepare(&vm, BIG_ORDER - 1));
		if (i % 3 == 2)
			ASSERT_EQ(0, resize_prepare(&vm, 0));
		usleep(i % 7 * 500);
		htab_vm_close(&vm);
	}
	SOON(get_number("/proc/meminfo", "MemAvailable:") > kb - (i / 2 << BIG_ORDER >> 10));
}

/* The VM goes with a table that was prepared, which takes more than 32 MB */
TEST_F(htab, resize_prepared_then_end_of_vm)
{
	enum { NR = 10 };
	long kb = get_number("/proc/meminfo", "MemAvailable:");
	unsigned int i;

	ASSERT_LT(0, kb);
	for (i = 0; i < NR; i++) {
		struct htab_vm vm;

		ASSERT_EQ(0, htab_vm_open(&vm, variant->type));
		ASSERT_EQ(0, htab_allocate(&vm, HTAB_ORDER));
		ASSERT_EQ(0, resize_prepared(&vm, BIG_ORDER));
		htab_vm_close(&vm);
	}
	SOON(get_number("/proc/meminfo", "MemAvailable:") > kb - (NR / 2 << BIG_ORDER >> 10));
}

/*
 * A table takes its time, so whoever asks for it is always told to come back,
 * and that it is there only when it is, but then as often as they ask.
 */
TEST_F(htab, resize_prepares_in_background)
{
	unsigned int i;

	GUEST();
	for (i = 0; i < 10; i++) {
		unsigned int order = HTAB_ORDER + i % 2;

		ASSERT_LT(0, resize_prepare(&self->vm, order));
		ASSERT_EQ(0, resize_prepared(&self->vm, order));
		ASSERT_EQ(0, resize_prepare(&self->vm, order));
		/* for another order, or after it was cancelled, as before */
		ASSERT_LT(0, resize_prepare(&self->vm, order + 1));
		ASSERT_EQ(0, resize_prepare(&self->vm, 0));
		ASSERT_EQ(0, resize_prepare(&self->vm, 0));
		ASSERT_LT(0, resize_prepare(&self->vm, order));
		ASSERT_EQ(0, resize_prepared(&self->vm, order));
		ASSERT_EQ(0, resize_commit(&self->vm, order));
		ASSERT_LT(0, resize_prepare(&self->vm, order));
		GUEST_LOADS(GUEST_DATA, 0);
	}
}

/*
 * A COMMIT that comes before the table is ready fails, and ends the request.  It
 * may not come so early if something keeps the test from running.
 */
TEST_F(htab, resize_committed_too_early)
{
	uint64_t begin = now_ms();
	unsigned int early, i;
	int ret;

	GUEST();
	for (i = early = 0; early < 5 && now_ms() - begin < SOON_S * 1000; i++) {
		ASSERT_LT(0, resize_prepare(&self->vm, BIG_ORDER));
		ret = resize_commit(&self->vm, BIG_ORDER);
		if (!ret)
			continue;
		ASSERT_EQ(-EBUSY, ret);
		ASSERT_EQ(-ENXIO, resize_commit(&self->vm, BIG_ORDER));
		early++;
	}
	EXPECT_EQ(5, early) {
		TH_LOG("after %u", i);
	}
	GUEST_LOADS(GUEST_DATA, 0);
}

/* Another order instead, or none: a table of the order last asked for is there in the end */
TEST_F(htab, resize_prepared_anew)
{
	unsigned int i;

	GUEST();
	for (i = 0; i < 20; i++) {
		ASSERT_LE(0, resize_prepare(&self->vm, HTAB_ORDER + 1 + i % 3));
		usleep(i * 100);
		if (i % 4 == 0)
			ASSERT_EQ(0, resize_prepare(&self->vm, 0));
	}
	ASSERT_EQ(0, resize_prepared(&self->vm, HTAB_ORDER + 1));
	ASSERT_EQ(0, resize_commit(&self->vm, HTAB_ORDER + 1));
	EXPECT_EQ(-ENXIO, resize_commit(&self->vm, HTAB_ORDER + 1));
	GUEST_LOADS(GUEST_DATA, 0);
}

/* Under HV there is nothing to resize until a vCPU has run, and that is no fault of the host */
TEST_F(htab, resize_before_first_run)
{
	long tainted = get_number("/proc/sys/kernel/tainted", "");
	int want = variant->type == KVM_VM_PPC_HV ? -EIO : 0;

	ASSERT_LE(0, tainted);
	TABLE(HTAB_ORDER);
	ASSERT_EQ(0, resize_prepared(&self->vm, HTAB_ORDER + 1));
	EXPECT_EQ(want, resize_commit(&self->vm, HTAB_ORDER + 1));
	if (!(tainted & TAINT_WARN))
		EXPECT_EQ(0, get_number("/proc/sys/kernel/tainted", "") & TAINT_WARN);
}

/*
 * A guest may enter HPTEs where their hash does not lead, so that a resize
 * takes two of them to the same place: bolted pages of 16M, whose hash does not
 * depend on the place.  Under HV they stay in the slot that they have; under PR
 * there is room in another one.
 */
TEST_F(htab, resize_of_colliding_entries)
{
	const struct segment seg = { .vsid = 0x123, .page_shift = 24 };
	int want = variant->type == KVM_VM_PPC_HV ? -ENOSPC : 0;
	struct hpte e = segment_hpte(&seg, 0, 0x100000000000ULL);
	unsigned int order;

	e.v |= HPTE_V_BOLTED;
	e.r |= HPTE_R_R | HPTE_R_C;
	for (order = HTAB_ORDER; order <= HTAB_ORDER + 1; order++) {
		struct model m;

		GUEST();
		HCALL(H_ENTER, H_EXACT, 3, e.v, e.r);
		HCALL(H_ENTER, H_EXACT, 11, e.v, e.r);
		DRAIN(&self->want, htab_reader(&self->vm));
		EXPECT_EQ(want, htab_resize(&self->vm, order));
		/* The guest goes on, with the table that it had if there is none other */
		if (want)
			TABLE_IS(&self->want);
		GUEST_STORES(GUEST_DATA, order);
		GUEST_LOADS(GUEST_DATA, order);
		if (want) {
			HCALL(H_REMOVE, 0, 11, 0, 0);
			ASSERT_EQ(0, htab_resize(&self->vm, order));
		}
		model_init(&m, self->vm.npte);
		DRAIN(&m, htab_reader(&self->vm));
		EXPECT_EQ(0, m.hpte[3].v);
		EXPECT_EQ(0, m.hpte[11].v);
		EXPECT_EQ(e.v, m.hpte[8 * segment_group(&seg, 0, m.npte, false) + 3].v);
		GUEST_LOADS(GUEST_DATA, order);
		model_free(&m);

		htab_vm_close(&self->vm);
		ASSERT_EQ(0, htab_vm_open(&self->vm, variant->type));
	}
}

/* The R and C that the hardware has set go along */
TEST_F(htab, resize_keeps_r_and_c)
{
	unsigned int order;
	struct hpte e;
	int index;

	GUEST();
	DRAIN(&self->got, htab_reader(&self->vm));
	for (order = HTAB_ORDER; order <= HTAB_ORDER + 1; order++) {
		struct model m;

		index = model_vrma(&self->got, GUEST_DATA);
		ASSERT_LE(0, index);
		e = self->got.hpte[index];
		HCALL(H_REMOVE, 0, index, 0, 0);
		HCALL(H_ENTER, H_EXACT, index, e.v, e.r & ~(HPTE_R_R | HPTE_R_C));
		GUEST_STORES(GUEST_DATA, order);
		ASSERT_EQ(0, htab_resize(&self->vm, order));
		model_init(&m, self->vm.npte);
		DRAIN(&m, htab_reader(&self->vm));
		index = model_vrma(&m, GUEST_DATA);
		ASSERT_LE(0, index);
		EXPECT_EQ(HPTE_R_R | HPTE_R_C, m.hpte[index].r & (HPTE_R_R | HPTE_R_C));
		model_free(&m);
	}
}

/*
 * A vCPU inserts a bolted entry, where a resize comes by first, and removes it
 * again.  It does so in the old table or in the new one: none that it has
 * inserted is lost, and none that it has removed comes back.
 */
TEST_F(htab, resize_against_hypercalls)
{
	struct hpte e = hpte_of(0, 0);
	struct guest_thread t = {
		.vm = &self->vm,
		.command = GUEST_PAIRS,
		.args = { 0, 0, GUEST_CONTROL, e.v | HPTE_V_BOLTED, e.r },
	};
	uint64_t *control, begin;
	unsigned int i;

	GUEST();
	control = guest_mem(&self->vm, GUEST_CONTROL);
	/* The kernel as a rule lets others run only before it enters the guest */
	stay_on_cpu(1);
	ASSERT_EQ(0, guest_start(&t));
	stay_on_cpu(0);
	SOON(GUEST_SEES(GUEST_CONTROL + 8));
	begin = now_ms();
	for (i = 0; now_ms() - begin < RACE_MS; i++)
		ASSERT_EQ(0, htab_resize(&self->vm, HTAB_ORDER + i % 2));
	__atomic_store_n(control, 1, __ATOMIC_RELAXED);
	ASSERT_EQ(0, guest_join(&t, SOON_S * 1000));
	EXPECT_EQ(0, (long)t.args[8]) {
		TH_LOG("after %lu pairs, %u resizes", (long)control[1], i);
	}
	TH_LOG("%lu pairs, %u resizes", (long)control[1], i);
}

TEST_HARNESS_MAIN
