// SPDX-License-Identifier: GPL-2.0
/*
 * PR KVM: a guest's HPT in the kernel is to cost no more than one in the memory
 * of userspace does.
 *
 * Counted in instructions, which unlike time are the same on every run. All of
 * the vCPU's thread count: those of the host's kernel, of userspace and of the
 * guest, which under PR is a part of it. What the host has done by a hypervisor
 * below does not count.
 */
#include "htab.h"

/* A table of 16 MB, as a guest of 2 GB has it */
#define COST_ORDER	24
/* So often is everything done; the median counts, since interrupts cost, too */
#define COST_N		255

#define RC		(HPTE_R_R | HPTE_R_C)

static const char * const owners[] = { "userspace", "the kernel" };

FIXTURE(cost)
{
	struct htab_vm vm;
	int counter;
	long cost[2];		/* with the HPT of either */
};

FIXTURE_SETUP(cost)
{
	int ret = htab_vm_open(&self->vm, KVM_VM_PPC_PR);

	if (ret == -ENOENT || ret == -EINVAL)
		SKIP(return, "this host has another flavour of KVM");
	ASSERT_EQ(0, ret);
	htab_vm_close(&self->vm);
	self->counter = count_open();
	if (self->counter < 0)
		SKIP(return, "no instruction counter: %s", strerror(-self->counter));
}

FIXTURE_TEARDOWN(cost)
{
}

/*
 * Begin to wait for commands. Interrupts that the guest does not take would cost
 * something at each exit: those that a new vCPU has are withdrawn.
 */
static int cost_begin(struct htab_vm *vm, bool translated)
{
	uint32_t *inst = (uint32_t *)((char *)vm->mem + GUEST_CODE + 0x800);
	struct kvm_interrupt external = { .irq = KVM_INTERRUPT_UNSET };
	struct kvm_regs regs;
	int ret;

	inst[0] = 0x3da07fff;		/* lis 13, 0x7fff */
	inst[1] = 0x7db603a6;		/* mtdec 13 */
	inst[2] = 0x4bfff7f8;		/* b GUEST_CODE */
	__builtin___clear_cache((char *)inst, (char *)(inst + 3));

	ret = guest_reset(vm, translated) ?: xioctl(vm->vcpu, KVM_GET_REGS, &regs);
	if (ret)
		return ret;
	regs.pc = GUEST_CODE + 0x800;
	return xioctl(vm->vcpu, KVM_SET_REGS, &regs) ?: guest_run(vm) ?:
	       xioctl(vm->vcpu, KVM_INTERRUPT, &external);
}

/* The SDR1 for a table of userspace, which has to be aligned to its size */
static uint64_t cost_user_table(void)
{
	size_t size = 1UL << COST_ORDER;
	char *table = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (table == MAP_FAILED)
		return 0;
	return (((uintptr_t)table + size - 1) & ~(size - 1)) | (COST_ORDER - 18);
}

/* A guest that waits, without translation yet */
static int cost_guest(struct htab_vm *vm, bool in_kernel)
{
	struct kvm_sregs sregs;
	int ret;

	ret = htab_vm_open(vm, KVM_VM_PPC_PR) ?: guest_create(vm);
	if (ret)
		return ret;
	if (in_kernel) {
		ret = htab_allocate(vm, COST_ORDER);
	} else {
		ret = xioctl(vm->vcpu, KVM_GET_SREGS, &sregs);
		sregs.u.s.sdr1 = cost_user_table();
		ret = ret ?: xioctl(vm->vcpu, KVM_SET_SREGS, &sregs);
		vm->order = COST_ORDER;
		vm->npte = htab_npte(COST_ORDER);
	}
	return ret ?: cost_begin(vm, false);
}

/* Instructions from one time that the guest waits for a command to the next */
static uint64_t cost_of(struct __test_metadata *_metadata, struct _test_data_cost *self,
			long command, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	uint64_t args[9] = { a, b, c, d }, begin, end;

	begin = count_now(self->counter);
	ASSERT_NE(0, begin);
	ASSERT_EQ(0, guest_do(&self->vm, command, args));
	end = count_now(self->counter);
	ASSERT_EQ(0, args[8]);
	return end - begin;
}

#define COST_OF(...)	cost_of(_metadata, self, __VA_ARGS__)

#define HCALL(...)	ASSERT_EQ(0, guest_hcall(&self->vm, __VA_ARGS__))

static int cost_compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static uint64_t cost_median(uint64_t *counts)
{
	qsort(counts, COST_N, sizeof(counts[0]), cost_compare);
	return counts[COST_N / 2];
}

TEST_F(cost, enter_and_remove)
{
	uint64_t enter[COST_N], remove[COST_N], none[COST_N];
	struct hpte e = hpte_of(0, 0);
	unsigned int k, i;

	for (k = 0; k < 2; k++) {
		ASSERT_EQ(0, cost_guest(&self->vm, k));
		for (i = 0; i < COST_N; i++) {
			uint64_t index = self->vm.npte / COST_N * i;

			/* First have the host itself map this part of the table */
			HCALL(H_ENTER, 0, index, e.v, e.r);
			HCALL(H_REMOVE, 0, index, 0, 0);
			enter[i] = COST_OF(H_ENTER, 0, index, e.v, e.r);
			remove[i] = COST_OF(H_REMOVE, 0, index, 0, 0);
			/* The way there and back */
			none[i] = COST_OF(GUEST_LOAD, GUEST_DATA, 0, 0, 0);
		}
		self->cost[k] = cost_median(enter) + cost_median(remove) -
				2 * cost_median(none);
		TH_LOG("H_ENTER and H_REMOVE, HPT of %s: %ld instructions", owners[k],
		       self->cost[k]);
		/* None is done with in less */
		EXPECT_LT(500, self->cost[k]);
		htab_vm_close(&self->vm);
	}
	EXPECT_LE(self->cost[1], self->cost[0]);
}

/*
 * The first load or store in each of some pages that the guest has entered, less
 * the second, which finds the shadow entry there. Stores set R and C.
 */
static void cost_of_fault(struct __test_metadata *_metadata, struct _test_data_cost *self,
			  const struct segment *seg, long command)
{
	uint64_t page = 1UL << seg->page_shift, first[COST_N], second[COST_N];
	struct hpte code = segment_hpte(&vrma, GUEST_CODE, GUEST_CODE);
	unsigned long index;
	unsigned int k, i;

	for (k = 0; k < 2; k++) {
		ASSERT_EQ(0, cost_guest(&self->vm, k));
		ASSERT_EQ(0, guest_set_segment(&self->vm, 1, seg));
		index = 8 * segment_group(&vrma, GUEST_CODE, self->vm.npte, false);
		HCALL(H_ENTER, 0, index, code.v, code.r | RC);
		ASSERT_EQ(0, cost_begin(&self->vm, true));

		for (i = 0; i < COST_N; i++) {
			struct hpte e = segment_hpte(seg, i * page, GUEST_DATA);
			uint64_t args[9] = {};

			if (command == GUEST_LOAD)
				e.r |= RC;
			index = 8 * segment_group(seg, i * page, self->vm.npte, false);
			HCALL(H_ENTER, H_EXACT, index, e.v, e.r);
			first[i] = COST_OF(command, seg->ea + i * page, 0, 0, 0);
			second[i] = COST_OF(command, seg->ea + i * page, 0, 0, 0);

			/* They went by this entry, which has R and C now */
			args[1] = index;
			ASSERT_EQ(0, guest_do(&self->vm, H_REMOVE, args));
			ASSERT_EQ(0, args[8]);
			ASSERT_EQ(e.v, args[0]);
			ASSERT_EQ(e.r | RC, args[1]);
		}
		self->cost[k] = cost_median(first) - cost_median(second);
		TH_LOG("fault of a %s, page of %luK, HPT of %s: %ld instructions",
		       command == GUEST_LOAD ? "load" : "store", page >> 10, owners[k],
		       self->cost[k]);
		EXPECT_LT(500, self->cost[k]);
		htab_vm_close(&self->vm);
	}
	EXPECT_LE(self->cost[1], self->cost[0]);
}

static const struct segment pages_of_4k = {
	.ea = 0x10000000000, .vsid = 0x123456789, .page_shift = 12,
};

static const struct segment pages_of_64k = {
	.ea = 0x30000000000, .vsid = 0x98765432a, .page_shift = 16,
};

TEST_F(cost, fault_of_load_4k)
{
	cost_of_fault(_metadata, self, &pages_of_4k, GUEST_LOAD);
}

TEST_F(cost, fault_of_load_64k)
{
	cost_of_fault(_metadata, self, &pages_of_64k, GUEST_LOAD);
}

TEST_F(cost, fault_of_store_4k)
{
	cost_of_fault(_metadata, self, &pages_of_4k, GUEST_STORE);
}

TEST_F(cost, fault_of_store_64k)
{
	cost_of_fault(_metadata, self, &pages_of_64k, GUEST_STORE);
}

TEST_HARNESS_MAIN
