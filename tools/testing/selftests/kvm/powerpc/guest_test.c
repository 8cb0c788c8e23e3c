// SPDX-License-Identifier: GPL-2.0
/*
 * What the library promises of guests on powerpc: their memory is where their
 * page table says, and an exception is told of.
 */
#include <pthread.h>

#include "kvm_util.h"
#include "kselftest_harness.h"
#include "processor.h"
#include "ucall_common.h"

/* Pages of the same group of HPTEs are this many pages apart */
#define HPT_GROUPS		BIT(17)
/* Those that find room in the group, and in the other one */
#define PAGES_OF_GROUP		14

#define FREE_GVA		0x40000000UL
#define FREE_GPA		0x200000UL
/* An address without a segment */
#define BEYOND_SEGMENT		BIT(40)

#define DSISR_NO_HPTE		0x40000000
#define DSISR_STORE		0x02000000
#define SRR1_NO_HPTE		0x40000000
#define SRR1_TRAP		0x00020000

FIXTURE(guest)
{
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
};

FIXTURE_VARIANT(guest)
{
	bool small;
};

FIXTURE_VARIANT_ADD(guest, pages_of_the_host)
{
};

FIXTURE_VARIANT_ADD(guest, pages_of_4k)
{
	.small = true,
};

static void guest_nothing(void)
{
	GUEST_DONE();
}

FIXTURE_SETUP(guest)
{
	struct vm_shape shape = VM_SHAPE_DEFAULT;

	if (variant->small)
		shape.mode = VM_MODE_P40V48_4K;
	self->vm = vm_create_shape_with_one_vcpu(shape, &self->vcpu, guest_nothing);
}

FIXTURE_TEARDOWN(guest)
{
	kvm_vm_free(self->vm);
}

static void run_until_done(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	vcpu_run(vcpu);
	switch (get_ucall(vcpu, &uc)) {
	case UCALL_DONE:
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
		break;
	default:
		TEST_FAIL("Unexpected exit: %s", exit_reason_str(vcpu->run->exit_reason));
	}
}

#define RUN(_code, _n, ...) do {					\
	vcpu_arch_set_entry_point(self->vcpu, _code);			\
	vcpu_args_set(self->vcpu, _n, __VA_ARGS__);			\
	run_until_done(self->vcpu);					\
} while (0)

/* Pages from an address on: each has the number that it is to have, and gets another */
static void guest_check_pages(uint64_t addr, uint64_t stride, uint64_t n, uint64_t value,
			      uint64_t next)
{
	uint64_t i;

	for (i = 0; i < n; i++) {
		uint64_t *p = (uint64_t *)(addr + i * stride);

		GUEST_ASSERT_EQ(READ_ONCE(*p), value + i);
		WRITE_ONCE(*p, next + i);
	}
	GUEST_DONE();
}

TEST_F(guest, memory)
{
	uint64_t size = self->vm->page_size;
	gva_t gva = vm_alloc(self->vm, 5 * size, KVM_UTIL_MIN_VADDR);
	uint64_t *hva[5];
	unsigned int i;

	for (i = 0; i < 5; i++) {
		hva[i] = addr_gva2hva(self->vm, gva + i * size);
		*hva[i] = 100 + i;
	}
	RUN(guest_check_pages, 5, gva, size, 5UL, 100UL, 200UL);
	for (i = 0; i < 5; i++)
		EXPECT_EQ(200 + i, *hva[i]);
	EXPECT_EQ(0x18, addr_gva2gpa(self->vm, gva + size + 0x18) % size);
	EXPECT_EQ(addr_hva2gpa(self->vm, hva[1]) + 0x18,
		  addr_gva2gpa(self->vm, gva + size + 0x18));
}

TEST_F(guest, as_many_pages_as_the_groups_hold)
{
	uint64_t stride = HPT_GROUPS * self->vm->page_size;
	gpa_t gpa[PAGES_OF_GROUP];
	unsigned int i;

	for (i = 0; i < PAGES_OF_GROUP; i++) {
		gpa[i] = vm_phy_page_alloc(self->vm, FREE_GPA, 0);
		virt_map(self->vm, FREE_GVA + i * stride, gpa[i], 1);
		*(uint64_t *)addr_gpa2hva(self->vm, gpa[i]) = 300 + i;
	}
	for (i = 0; i < PAGES_OF_GROUP; i++)
		EXPECT_EQ(gpa[i], addr_gva2gpa(self->vm, FREE_GVA + i * stride));
	RUN(guest_check_pages, 5, FREE_GVA, stride, (uint64_t)PAGES_OF_GROUP, 300UL, 400UL);
	for (i = 0; i < PAGES_OF_GROUP; i++)
		EXPECT_EQ(400 + i, *(uint64_t *)addr_gpa2hva(self->vm, gpa[i]));
}

TEST_F(guest, mapped_elsewhere)
{
	gpa_t gpa[2];
	unsigned int i;

	for (i = 0; i < 4; i++) {
		gpa[i % 2] = vm_phy_page_alloc(self->vm, FREE_GPA, 0);
		*(uint64_t *)addr_gpa2hva(self->vm, gpa[i % 2]) = 500 + i;
		virt_map(self->vm, FREE_GVA, gpa[i % 2], 1);
		EXPECT_EQ(gpa[i % 2], addr_gva2gpa(self->vm, FREE_GVA));
		RUN(guest_check_pages, 5, FREE_GVA, 0UL, 1UL, 500UL + i, 600UL);
		EXPECT_EQ(600, *(uint64_t *)addr_gpa2hva(self->vm, gpa[i % 2]));
	}
}

/* Entries far from each other are found, too */
TEST_F(guest, dump)
{
	unsigned int lines = 0, told = 0;
	gpa_t gpa = vm_phy_page_alloc(self->vm, FREE_GPA, 0);
	char *text, *line;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	ASSERT_NE(NULL, f);
	virt_map(self->vm, FREE_GVA, gpa, 1);
	vm_dump(f, self->vm, 0);
	fclose(f);
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++)
		told += !!strstr(line, "hpte 0x");
	free(text);
	EXPECT_LT(3, told) {
		TH_LOG("%u lines", lines);
	}
}

static void guest_load(uint64_t addr)
{
	READ_ONCE(*(uint64_t *)addr);
	GUEST_DONE();
}

static void guest_store(uint64_t addr)
{
	WRITE_ONCE(*(uint64_t *)addr, 0);
	GUEST_DONE();
}

static void guest_call(uint64_t addr)
{
	asm volatile("mtctr %0; bctrl" : : "r" (addr) : "ctr", "lr", "memory");
	GUEST_DONE();
}

static void guest_trap(uint64_t addr)
{
	asm volatile("trap");
	GUEST_DONE();
}

#define EXCEPTION(_code, _addr, _vector) do {				\
	vcpu_arch_set_entry_point(self->vcpu, _code);			\
	vcpu_args_set(self->vcpu, 1, _addr);				\
	ASSERT_EQ(0, __vcpu_run(self->vcpu));				\
	ASSERT_TRUE(vcpu_get_exception(self->vcpu, &ex));		\
	EXPECT_EQ(_vector, ex.vector);					\
} while (0)

TEST_F(guest, load_without_a_mapping_is_told)
{
	struct guest_exception ex;

	EXCEPTION(guest_load, FREE_GVA + 8, EXCEPTION_DATA_STORAGE);
	EXPECT_EQ(FREE_GVA + 8, ex.dar);
	EXPECT_EQ(DSISR_NO_HPTE, ex.dsisr & (DSISR_NO_HPTE | DSISR_STORE));
}

TEST_F(guest, store_without_a_mapping_is_told)
{
	struct guest_exception ex;

	EXCEPTION(guest_store, FREE_GVA + 8, EXCEPTION_DATA_STORAGE);
	EXPECT_EQ(FREE_GVA + 8, ex.dar);
	EXPECT_EQ(DSISR_NO_HPTE | DSISR_STORE, ex.dsisr & (DSISR_NO_HPTE | DSISR_STORE));
}

TEST_F(guest, fetch_without_a_mapping_is_told)
{
	struct guest_exception ex;

	EXCEPTION(guest_call, FREE_GVA + 8, EXCEPTION_INST_STORAGE);
	EXPECT_EQ(FREE_GVA + 8, ex.nip);
	EXPECT_EQ(SRR1_NO_HPTE, ex.msr & SRR1_NO_HPTE);
}

TEST_F(guest, load_without_a_segment_is_told)
{
	struct guest_exception ex;

	EXCEPTION(guest_load, BEYOND_SEGMENT + 8, EXCEPTION_DATA_SEGMENT);
	EXPECT_EQ(BEYOND_SEGMENT + 8, ex.dar);
}

TEST_F(guest, trap_is_told)
{
	struct guest_exception ex;

	EXCEPTION(guest_trap, 0UL, EXCEPTION_PROGRAM);
	EXPECT_EQ(SRR1_TRAP, ex.msr & SRR1_TRAP);
	EXPECT_EQ(0x7fe00008, *(uint32_t *)addr_gva2hva(self->vm, ex.nip));
}

/* Nothing is stored on the way to userspace, so that this is no endless loop */
TEST_F(guest, exception_without_a_stack_is_told)
{
	struct guest_exception ex;
	struct kvm_regs regs;

	vcpu_regs_get(self->vcpu, &regs);
	regs.gpr[1] = BEYOND_SEGMENT;
	vcpu_regs_set(self->vcpu, &regs);
	ASSERT_EQ(0, __vcpu_run(self->vcpu));
	ASSERT_TRUE(vcpu_get_exception(self->vcpu, &ex));
	EXPECT_EQ(EXCEPTION_DATA_SEGMENT, ex.vector);
}

#define VCPUS		2
#define ROUNDS		200

static void guest_count(uint64_t addr, uint64_t id)
{
	uint64_t *p = (uint64_t *)addr;
	unsigned int i;

	GUEST_ASSERT_EQ(guest_get_vcpuid(), id);
	for (i = 0; i < ROUNDS; i++) {
		__atomic_fetch_add(p, 1, __ATOMIC_RELAXED);
		GUEST_SYNC(i);
		GUEST_ASSERT_EQ(guest_get_vcpuid(), id);
	}
	GUEST_DONE();
}

static void *count(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	struct ucall uc;
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		vcpu_run(vcpu);
		if (get_ucall(vcpu, &uc) == UCALL_ABORT)
			REPORT_GUEST_ASSERT(uc);
		TEST_ASSERT_EQ(uc.cmd, UCALL_SYNC);
		TEST_ASSERT_EQ(uc.args[1], i);
	}
	run_until_done(vcpu);
	return NULL;
}

TEST_F(guest, vcpus_share_memory)
{
	gva_t gva = vm_alloc_page(self->vm);
	struct kvm_vcpu *vcpu[VCPUS] = { self->vcpu };
	pthread_t thread[VCPUS];
	unsigned int i;

	/* The table cannot be written to while one runs */
	for (i = 1; i < VCPUS; i++)
		vcpu[i] = vm_vcpu_add(self->vm, i, guest_nothing);
	for (i = 0; i < VCPUS; i++) {
		vcpu_arch_set_entry_point(vcpu[i], guest_count);
		vcpu_args_set(vcpu[i], 2, gva, (uint64_t)i);
	}
	for (i = 0; i < VCPUS; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, count, vcpu[i]));
	for (i = 0; i < VCPUS; i++)
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
	EXPECT_EQ(VCPUS * ROUNDS, *(uint64_t *)addr_gva2hva(self->vm, gva));
}

TEST_HARNESS_MAIN
