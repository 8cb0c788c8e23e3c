// SPDX-License-Identifier: GPL-2.0
/*
 * PR KVM on Book3S 64 with the HPT in user memory (SDR1): what hypercalls do
 * to the table, which this program can see directly, and what once went wrong:
 * registers and pages lost in a migration, entries overwritten, translations
 * that outlive their removal, memory of the host within reach of the guest.
 */
#include <poll.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <linux/userfaultfd.h>
#include "htab.h"
#include "pr_guest.h"

#define FSCR_TAR		0x100ULL
#define FSCR_EBB		0x80ULL
#define FSCR_DSCR		0x4ULL
#define FSCR_SCV		0x1000ULL
#define FSCR_PREFIX		0x2000ULL

#define BULK_REQUEST		0x4000000000000000ULL
#define BULK_RESPONSE		0x8000000000000000ULL
#define BULK_END		0xc000000000000000ULL
#define BULK_NOT_FOUND		0x1000000000000000ULL
#define BULK_PARM		0x2000000000000000ULL
#define BULK_AVPN		0x0200000000000000ULL
#define BULK_ANDCOND		0x0100000000000000ULL
/* Where R and C of a removed entry are to be, and where they have been seen */
#define BULK_RC			0x0c0c000000000000ULL

/* One more slot of memory */
#define SLOT1			1
#define SLOT1_ADDR		0x10000000UL
/* Addresses in the segment, other than those that are mapped to themselves */
#define EA			0x300000UL

#define READ(_p)	__atomic_load_n(_p, __ATOMIC_ACQUIRE)
#define WRITE(_p, _v)	__atomic_store_n(_p, _v, __ATOMIC_RELEASE)

static int set_sdr1(struct htab_vm *vcpu, void *table)
{
	struct kvm_sregs sregs;
	int ret = xioctl(vcpu->vcpu, KVM_GET_SREGS, &sregs);

	sregs.u.s.sdr1 = (uintptr_t)table | (HTAB_ORDER - 18);
	return ret ?: xioctl(vcpu->vcpu, KVM_SET_SREGS, &sregs);
}

static int get_dirty_log(struct htab_vm *vm, unsigned int slot, void *bitmap)
{
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bitmap };

	return xioctl(vm->fd, KVM_GET_DIRTY_LOG, &log);
}

/* Signals end a KVM_RUN that lasts too long, even one that has yet to begin */
static struct kvm_run *watched;

static void stop_running(int sig)
{
	struct kvm_run *run = READ(&watched);

	(void)sig;
	if (run)
		run->immediate_exit = 1;
}

static void watch(struct htab_vm *vcpu, unsigned int seconds)
{
	struct sigaction sa = { .sa_handler = stop_running };
	struct itimerval timer = { .it_value.tv_sec = seconds, .it_interval.tv_usec = 100000 };

	if (!seconds)
		memset(&timer, 0, sizeof(timer));
	WRITE(&watched, vcpu->run);
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	vcpu->run->immediate_exit = 0;
}

FIXTURE(pr)
{
	struct htab_vm vm;
	struct htab_vm other;	/* another vCPU of it */
	__be64 *table;
	unsigned long npte;
};

FIXTURE_SETUP(pr)
{
	size_t size = 1UL << HTAB_ORDER;
	char *p;
	int ret;

	self->other.vcpu = -1;
	ret = htab_vm_open(&self->vm, KVM_VM_PPC_PR);
	if (ret == -ENOENT || ret == -EINVAL)
		SKIP(return, "no PR KVM on this host");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, guest_create(&self->vm));
	load_guest(&self->vm);
	/* As aligned as it is large */
	p = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ASSERT_NE(MAP_FAILED, p);
	self->table = (__be64 *)(((uintptr_t)p + size - 1) & -size);
	self->npte = htab_npte(HTAB_ORDER);
	ASSERT_EQ(0, set_sdr1(&self->vm, self->table));
}

FIXTURE_TEARDOWN(pr)
{
	WRITE(&watched, NULL);
	if (self->other.vcpu >= 0)
		close(self->other.vcpu);
	htab_vm_close(&self->vm);
}

/* One more vCPU; what htab.h does with that of a VM can be done with this one, too */
#define ADD_VCPU(_vcpu, _id) do {					\
	struct htab_vm *_v = (_vcpu);					\
									\
	*_v = self->vm;							\
	ASSERT_EQ(0, guest_add_vcpu(_v, _id));				\
	ASSERT_EQ(0, set_sdr1(_v, self->table));			\
} while (0)

#define HCALL(_vcpu, _nr, ...) \
	ASSERT_EQ(0, guest_hcall(_vcpu, _nr, __VA_ARGS__))

/* The table as the host's program sees it */
#define entry_v(_index)		be64toh(self->table[2 * (_index)])
#define entry_r(_index)		be64toh(self->table[2 * (_index) + 1])

#define PUT_ENTRY(_index, _v, _r) do {					\
	__be64 *_entry = &self->table[2 * (_index)];			\
									\
	_entry[1] = htobe64(_r);					\
	_entry[0] = htobe64(_v);					\
} while (0)

#define ENTRY_IS(_index, _v, _r) do {					\
	__be64 *_entry = &self->table[2 * (_index)];			\
									\
	EXPECT_EQ(_v, be64toh(_entry[0]));				\
	EXPECT_EQ(_r, be64toh(_entry[1]));				\
} while (0)

/* Map a page in the table without the guest; gives the index */
static unsigned long map(__be64 *table, const struct segment *seg, uint64_t ea, uint64_t addr,
			 uint64_t bits)
{
	unsigned long index = 8 * segment_group(seg, ea, htab_npte(HTAB_ORDER), false);
	struct hpte e = segment_hpte(seg, ea, addr);
	unsigned int i;

	for (i = 0; i < 8; i++, index++) {
		__be64 *entry = &table[2 * index];

		if (be64toh(entry[0]) & HPTE_V_VALID)
			continue;
		entry[1] = htobe64(e.r | bits);
		entry[0] = htobe64(e.v);
		return index;
	}
	abort();
}

#define MAP(...)	map(self->table, __VA_ARGS__)

#define MEM(_addr)	((uint64_t *)guest_mem(&self->vm, _addr))

#define LOADS(_vcpu, _addr, _value) do {				\
	uint64_t _args[9] = { _addr };					\
									\
	ASSERT_EQ(0, guest_do(_vcpu, GUEST_LOAD, _args));		\
	ASSERT_EQ(0, (long)_args[8]);					\
	ASSERT_EQ(_value, _args[0]);					\
} while (0)

#define STORES(_vcpu, _addr, _value) do {				\
	uint64_t _args[9] = { _addr, _value };				\
									\
	ASSERT_EQ(0, guest_do(_vcpu, GUEST_STORE, _args));		\
	ASSERT_EQ(0, (long)_args[8]);					\
} while (0)

/*
 * The hypercalls on a table in user memory
 */

TEST_F(pr, user_table_enter)
{
	struct hpte e = hpte_of(1, 0);
	uint64_t args[9];
	unsigned long i;

	ASSERT_EQ(0, guest_run(&self->vm));

	/* The first free entry of the group, all bits as they were given */
	e.v |= HPTE_V_HOST | HPTE_V_BOLTED;
	e.r |= HPTE_R_HOST;
	for (i = 0; i < 8; i++) {
		memset(args, 0, sizeof(args));
		args[1] = 17;
		args[2] = e.v;
		args[3] = e.r + (i << 12);
		ASSERT_EQ(0, guest_do(&self->vm, H_ENTER, args));
		EXPECT_EQ(0, args[8]);
		EXPECT_EQ(16 + i, args[0]);
		ENTRY_IS(16 + i, e.v, e.r + (i << 12));
	}
	EXPECT_EQ(H_PTEG_FULL, guest_hcall(&self->vm, H_ENTER, 0, 17, e.v, 0));
	for (i = 0; i < 8; i++)
		ENTRY_IS(16 + i, e.v, e.r + (i << 12));

	/* Only this one */
	HCALL(&self->vm, H_ENTER, H_EXACT, 31, e.v, e.r);
	ENTRY_IS(31, e.v, e.r);
	/* Valid or not is the guest's to say */
	HCALL(&self->vm, H_ENTER, H_EXACT, 29, e.v & ~HPTE_V_VALID, e.r);
	ENTRY_IS(29, e.v & ~HPTE_V_VALID, e.r);
	HCALL(&self->vm, H_ENTER, H_EXACT, 29, e.v, 0ULL);
	ENTRY_IS(29, e.v, 0ULL);
	/* An index past the end comes round */
	HCALL(&self->vm, H_ENTER, H_EXACT, self->npte + 26, e.v, e.r);
	ENTRY_IS(26, e.v, e.r);

	/* and all else is untouched */
	for (i = 0; i < self->npte; i++)
		if ((i < 16 || i >= 24) && i != 26 && i != 29 && i != 31)
			ASSERT_EQ(0, self->table[2 * i] | self->table[2 * i + 1]);
}

/* Where a guest that is not PAPR has its table, and where there is no memory */
#define OWN_TABLE		0x100000UL
#define OWN_DATA		0x80000UL
#define OWN_MMIO		0x8000000UL

/* R and C that are set in a table in the guest's memory are stores to that. */
TEST_F(pr, own_table_is_logged)
{
	const uint64_t code = GUEST_OWN + (pr_guest_stores - pr_guest_start);
	const uint64_t mapped[] = { code, OWN_MMIO, OWN_DATA };
	const uint64_t page = getpagesize();
	uint64_t dirty[HTAB_MEM_SIZE / 4096 / 64] = {};
	struct htab_vm *own = &self->other;
	struct kvm_regs regs = {};
	__be64 *entry = NULL;
	unsigned int i;

	*own = self->vm;
	ASSERT_EQ(0, guest_add_plain_vcpu(own, 1));
	ASSERT_EQ(0, set_sdr1(own, (void *)OWN_TABLE));
	ASSERT_EQ(0, guest_set_segment(own, 0, &vrma));
	for (i = 0; i < ARRAY_SIZE(mapped); i++) {
		struct hpte e = segment_hpte(&vrma, mapped[i], mapped[i]);

		entry = guest_mem(own, OWN_TABLE);
		entry += 16 * segment_group(&vrma, mapped[i], self->npte, false);
		entry[0] = htobe64(e.v);
		entry[1] = htobe64(e.r);
	}

	/* The first store has been done when the second is told of. */
	regs.pc = code;
	regs.msr = MSR_OURS | MSR_IR | MSR_DR;
	regs.gpr[4] = OWN_DATA;
	regs.gpr[5] = OWN_MMIO;
	ASSERT_EQ(0, xioctl(own->vcpu, KVM_SET_REGS, &regs));
	ASSERT_EQ(0, htab_set_slot(own, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, own->mem, HTAB_MEM_SIZE));
	ASSERT_EQ(0, get_dirty_log(own, 0, dirty));
	watch(own, 5);
	ASSERT_EQ(0, xioctl(own->vcpu, KVM_RUN, NULL));
	watch(own, 0);
	ASSERT_EQ(KVM_EXIT_MMIO, own->run->exit_reason);
	ASSERT_EQ(OWN_MMIO, own->run->mmio.phys_addr);
	ASSERT_EQ(HPTE_R_R | HPTE_R_C, be64toh(entry[1]) & (HPTE_R_R | HPTE_R_C));

	ASSERT_EQ(0, get_dirty_log(own, 0, dirty));
	EXPECT_TRUE(test_le_bit((uint8_t *)dirty, OWN_DATA / page));
	EXPECT_TRUE(test_le_bit((uint8_t *)dirty, ((char *)entry - (char *)own->mem) / page));
}

TEST_F(pr, user_table_remove)
{
	struct hpte e = hpte_of(3, 0);
	uint64_t avpn = e.v & ~0x7fULL;
	uint64_t args[9] = {};

	ASSERT_EQ(0, guest_run(&self->vm));
	PUT_ENTRY(40, e.v, e.r);

	EXPECT_EQ(H_NOT_FOUND, guest_hcall(&self->vm, H_REMOVE, 0, 41, 0, 0));
	EXPECT_EQ(H_NOT_FOUND, guest_hcall(&self->vm, H_REMOVE, H_AVPN, 40, avpn + 0x80, 0));
	EXPECT_EQ(H_NOT_FOUND, guest_hcall(&self->vm, H_REMOVE, H_ANDCOND, 40, HPTE_V_VALID, 0));
	ENTRY_IS(40, e.v, e.r);

	/* Only the first doubleword is gone */
	args[1] = 40;
	ASSERT_EQ(0, guest_do(&self->vm, H_REMOVE, args));
	EXPECT_EQ(0, args[8]);
	EXPECT_EQ(e.v, args[0]);
	EXPECT_EQ(e.r, args[1]);
	ENTRY_IS(40, 0ULL, e.r);

	PUT_ENTRY(40, e.v, e.r);
	HCALL(&self->vm, H_REMOVE, H_AVPN, 40, avpn, 0);
	ENTRY_IS(40, 0ULL, e.r);
	PUT_ENTRY(40, e.v, e.r);
	HCALL(&self->vm, H_REMOVE, H_ANDCOND, 40, HPTE_V_BOLTED, 0);
	ENTRY_IS(40, 0ULL, e.r);
	PUT_ENTRY(40, e.v, e.r);
	HCALL(&self->vm, H_REMOVE, 0, self->npte + 40, 0, 0);
	ENTRY_IS(40, 0ULL, e.r);
}

TEST_F(pr, user_table_protect)
{
	struct hpte e = hpte_of(4, 0);
	uint64_t avpn = e.v & ~0x7fULL;

	ASSERT_EQ(0, guest_run(&self->vm));
	PUT_ENTRY(50, e.v, e.r);

	EXPECT_EQ(H_NOT_FOUND, guest_hcall(&self->vm, H_PROTECT, 3, 51, 0, 0));
	EXPECT_EQ(H_NOT_FOUND, guest_hcall(&self->vm, H_PROTECT, H_AVPN | 3, 50, avpn + 0x80, 0));
	ENTRY_IS(50, e.v, e.r);

	HCALL(&self->vm, H_PROTECT, 1, 50, 0, 0);
	ENTRY_IS(50, e.v, (e.r & ~HPTE_R_PP) | 1);
	/* PP0, the whole of the key and N, at the places that flags have for them */
	HCALL(&self->vm, H_PROTECT, H_AVPN | HPTE_R_PP0 >> 55 | 0x3000000000000000ULL >> 48 |
	      0xe00 | HPTE_R_N | 2, 50, avpn, 0);
	ENTRY_IS(50, e.v, (e.r & ~HPTE_R_PP) | HPTE_R_PP0 | HPTE_R_KEY | HPTE_R_N | 2);
	HCALL(&self->vm, H_PROTECT, 0, 50, 0, 0);
	ENTRY_IS(50, e.v, e.r & ~HPTE_R_PP);
}

TEST_F(pr, user_table_bulk_remove)
{
	struct hpte e = hpte_of(5, 0);
	uint64_t avpn = e.v & ~0x7fULL;
	uint64_t args[9] = {
		BULK_REQUEST | 60, 0,
		BULK_REQUEST | BULK_AVPN | 61, avpn + 0x80,
		BULK_REQUEST | BULK_ANDCOND | 62, HPTE_V_BOLTED,
		BULK_REQUEST | 63, 0,
	};
	unsigned long i;

	ASSERT_EQ(0, guest_run(&self->vm));
	e.r &= ~(HPTE_R_R | HPTE_R_C);
	for (i = 60; i < 63; i++)
		PUT_ENTRY(i, e.v, e.r);
	ASSERT_EQ(0, guest_do(&self->vm, H_BULK_REMOVE, args));
	EXPECT_EQ(0, args[8]);
	EXPECT_EQ(BULK_RESPONSE | 60, args[0]);
	EXPECT_EQ(BULK_RESPONSE | BULK_NOT_FOUND | BULK_AVPN | 61, args[2]);
	EXPECT_EQ(BULK_RESPONSE | BULK_ANDCOND | 62, args[4]);
	EXPECT_EQ(BULK_RESPONSE | BULK_NOT_FOUND | 63, args[6]);
	ENTRY_IS(60, 0ULL, e.r);
	ENTRY_IS(61, e.v, e.r);
	ENTRY_IS(62, 0ULL, e.r);
	ENTRY_IS(63, 0ULL, 0ULL);

	/* No further than the end, or than what is no request */
	PUT_ENTRY(60, e.v, e.r | HPTE_R_R | HPTE_R_C);
	args[0] = BULK_REQUEST | BULK_AVPN | 60;
	args[1] = avpn;
	args[2] = BULK_END;
	args[4] = BULK_REQUEST | 61;
	args[6] = BULK_REQUEST | 61;
	ASSERT_EQ(0, guest_do(&self->vm, H_BULK_REMOVE, args));
	EXPECT_EQ(0, args[8]);
	EXPECT_EQ(BULK_RESPONSE | BULK_AVPN | 60, args[0] & ~BULK_RC);
	EXPECT_EQ(BULK_END, args[2]);
	EXPECT_EQ(BULK_REQUEST | 61, args[4]);
	ENTRY_IS(60, 0ULL, e.r | HPTE_R_R | HPTE_R_C);
	args[0] = 61;
	ASSERT_EQ(0, guest_do(&self->vm, H_BULK_REMOVE, args));
	EXPECT_EQ(H_PARAMETER, (long)args[8]);
	EXPECT_EQ(61, args[0]);
	args[0] = BULK_REQUEST | BULK_AVPN | BULK_ANDCOND | 61;
	ASSERT_EQ(0, guest_do(&self->vm, H_BULK_REMOVE, args));
	EXPECT_EQ(H_PARAMETER, (long)args[8]);
	EXPECT_EQ(BULK_RESPONSE | BULK_PARM | BULK_AVPN | BULK_ANDCOND | 61, args[0]);
	ENTRY_IS(61, e.v, e.r);
}

/* The other hypercalls on the table are userspace's to serve */
TEST_F(pr, user_table_other_hypercalls)
{
	static const unsigned long nr[] = { H_READ, H_CLEAR_REF, H_CLEAR_MOD };
	struct hpte e = hpte_of(6, 0);
	uint64_t args[9] = { 0, 60 };
	unsigned int i;

	ASSERT_EQ(0, guest_run(&self->vm));
	PUT_ENTRY(60, e.v, e.r);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(-EPROTO, guest_do(&self->vm, nr[i], args));
		EXPECT_EQ(KVM_EXIT_PAPR_HCALL, self->vm.run->exit_reason);
		EXPECT_EQ(nr[i], self->vm.run->papr_hcall.nr);
		EXPECT_EQ(60, args[1]);
		ASSERT_EQ(0, guest_do(&self->vm, 0, args));
	}
	ENTRY_IS(60, e.v, e.r);
}

/*
 * H_EXACT tested a bit of the entry as it is in memory, big-endian
 */
TEST_F(pr, h_enter_exact_into_valid)
{
	struct hpte e = hpte_of(1, 0), new = hpte_of(1, 1);
	uint64_t in_the_way = 1ULL << 56;
	unsigned long i;

	ASSERT_EQ(0, guest_run(&self->vm));
	for (i = 0; i < 8; i++)
		PUT_ENTRY(80 + i, e.v, e.r);
	for (i = 0; i < 8; i++) {
		EXPECT_EQ(H_PTEG_FULL,
			  guest_hcall(&self->vm, H_ENTER, H_EXACT, 80 + i, new.v, new.r));
		ENTRY_IS(80 + i, e.v, e.r);
	}
	PUT_ENTRY(80, e.v | in_the_way, e.r);
	EXPECT_EQ(H_PTEG_FULL, guest_hcall(&self->vm, H_ENTER, H_EXACT, 80, new.v, new.r));
	ENTRY_IS(80, e.v | in_the_way, e.r);

	/* The bit that was tested instead does not matter */
	PUT_ENTRY(81, in_the_way, 0ULL);
	EXPECT_EQ(0, guest_hcall(&self->vm, H_ENTER, H_EXACT, 81, new.v, new.r));
	ENTRY_IS(81, new.v, new.r);
}

TEST_F(pr, bulk_remove_returns_r_and_c)
{
	static const uint64_t rc[] = { 0, HPTE_R_C, HPTE_R_R, HPTE_R_R | HPTE_R_C };
	struct hpte e = hpte_of(7, 0);
	uint64_t args[9] = {};
	unsigned int i;

	ASSERT_EQ(0, guest_run(&self->vm));
	e.r &= ~(HPTE_R_R | HPTE_R_C);
	for (i = 0; i < 4; i++) {
		PUT_ENTRY(90 + i, e.v, e.r | rc[i]);
		args[2 * i] = BULK_REQUEST | (90 + i);
	}
	ASSERT_EQ(0, guest_do(&self->vm, H_BULK_REMOVE, args));
	EXPECT_EQ(0, args[8]);
	for (i = 0; i < 4; i++)
		EXPECT_EQ(BULK_RESPONSE | rc[i] << 51 | (90 + i), args[2 * i]);
}

/*
 * The SLB has 64 entries, and what follows them in the host's memory is not the
 * guest's. Only a host that does not show it is asked to overwrite it.
 */
TEST_F(pr, slb_index_past_the_end)
{
	uint64_t args[9] = { 64 };
	struct kvm_sregs sregs;

	ASSERT_EQ(0, guest_run(&self->vm));
	ASSERT_EQ(0, run_label(&self->vm, pr_guest_slbmf, args));
	ASSERT_EQ(0, (long)args[8]);
	ASSERT_EQ(0, args[0] | args[1]);

	args[0] = 64;
	args[1] = 0x123400;
	args[2] = 0x50000000 | SLB_ESID_V | 64;
	ASSERT_EQ(0, run_label(&self->vm, pr_guest_slbmte, args));
	ASSERT_EQ(0, (long)args[8]);
	EXPECT_EQ(0, args[0] | args[1]);
	/* Nor does it come from userspace; the last one is an entry like any */
	ASSERT_EQ(0, xioctl(self->vm.vcpu, KVM_GET_SREGS, &sregs));
	sregs.u.s.ppc64.slb[5].slbe = 0x50000000 | SLB_ESID_V | 64;
	sregs.u.s.ppc64.slb[5].slbv = 0x123400;
	sregs.u.s.ppc64.slb[6].slbe = 0x60000000 | SLB_ESID_V | 63;
	sregs.u.s.ppc64.slb[6].slbv = 0x567800;
	ASSERT_EQ(0, xioctl(self->vm.vcpu, KVM_SET_SREGS, &sregs));
	args[0] = 64;
	ASSERT_EQ(0, run_label(&self->vm, pr_guest_slbmf, args));
	EXPECT_EQ(0, args[0] | args[1]);
	args[0] = 63;
	ASSERT_EQ(0, run_label(&self->vm, pr_guest_slbmf, args));
	EXPECT_EQ(0x60000000 | SLB_ESID_V, args[0]);
	EXPECT_EQ(0x567800, args[1]);
	STORES(&self->vm, GUEST_DATA, 1);
	LOADS(&self->vm, GUEST_DATA, 1);
}

/*
 * A store that the host emulates. It happens with and without the fix; without
 * it a kernel with lockdep says that it may use a memory slot after its end.
 */
TEST_F(pr, patched_dcbz)
{
	uint64_t *data = guest_mem(&self->vm, GUEST_DATA);
	uint64_t args[9] = { GUEST_DATA + 40 };
	unsigned int i;

	ASSERT_EQ(0, guest_run(&self->vm));
	for (i = 0; i < 12; i++)
		data[i] = -1;
	ASSERT_EQ(0, run_label(&self->vm, pr_guest_dcbz, args));
	ASSERT_EQ(0, (long)args[8]);
	for (i = 0; i < 12; i++)
		EXPECT_EQ(i / 4 == 1 ? 0 : -1, (long)data[i]);
}

/*
 * Registers and pages in a migration
 */

#define get_tar() ({							\
	uint64_t _tar;							\
									\
	__asm__ __volatile__("mfspr %0, 815" : "=r"(_tar));		\
	_tar;								\
})

TEST_F(pr, fscr_is_not_fpscr)
{
	static const uint64_t fscr[] = {
		FSCR_TAR, 0, FSCR_DSCR, FSCR_EBB | FSCR_DSCR, FSCR_TAR | FSCR_EBB | FSCR_DSCR,
		FSCR_EBB, FSCR_TAR,
	};
	uint64_t args[9] = {};
	unsigned int i;

	if (!(getauxval(AT_HWCAP2) & PPC_FEATURE2_TAR))
		SKIP(return, "no TAR on this host");
	ASSERT_EQ(0, guest_run(&self->vm));
	ASSERT_EQ(0, guest_set_reg(&self->vm, KVM_REG_PPC_FPSCR, 0x91));
	/* This program has a TAR of its own, which is not at stake either */
	__asm__ __volatile__("mtspr 815, %0" : : "r"(0x1234500ULL));
	for (i = 0; i < ARRAY_SIZE(fscr); i++) {
		ASSERT_EQ(0, guest_set_reg(&self->vm, KVM_REG_PPC_TAR, 0x77000 + 16 * i));
		ASSERT_EQ(0, guest_set_reg(&self->vm, KVM_REG_PPC_FSCR, fscr[i]));
		EXPECT_EQ(0x1234500, get_tar());
		EXPECT_EQ(fscr[i], guest_get_reg(&self->vm, KVM_REG_PPC_FSCR));
		EXPECT_EQ(0x91, guest_get_reg(&self->vm, KVM_REG_PPC_FPSCR));

		/* What it is for: the guest may use TAR, or is told that it may not */
		if (fscr[i] & FSCR_TAR) {
			ASSERT_EQ(0, run_label(&self->vm, pr_guest_tar, args));
			EXPECT_EQ(0x77000 + 16 * i, args[0]);
			EXPECT_EQ(0x77001 + 16 * i, args[1]);
			EXPECT_EQ(0x77001 + 16 * i, guest_get_reg(&self->vm, KVM_REG_PPC_TAR));
		} else {
			ASSERT_EQ(0, run_label(&self->vm, pr_guest_tar, args));
			EXPECT_EQ(GUEST_FACILITY, (long)args[8]);
		}
		EXPECT_EQ(0x1234500, get_tar());
	}
}

/* What a guest cannot set by mtspr does not come from userspace, either */
TEST_F(pr, fscr_of_no_scv_or_prefix)
{
	static const uint64_t forbidden[] = {
		FSCR_SCV, FSCR_PREFIX, FSCR_SCV | FSCR_PREFIX,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(forbidden); i++) {
		ASSERT_EQ(0, guest_set_reg(&self->vm, KVM_REG_PPC_FSCR,
					   forbidden[i] | FSCR_EBB | FSCR_DSCR));
		EXPECT_EQ(FSCR_EBB | FSCR_DSCR, guest_get_reg(&self->vm, KVM_REG_PPC_FSCR));
		ASSERT_EQ(0, guest_set_reg(&self->vm, KVM_REG_PPC_FSCR, forbidden[i]));
		EXPECT_EQ(0, guest_get_reg(&self->vm, KVM_REG_PPC_FSCR));
	}
}

/* Nor are the floating point registers of this program the guest's */
TEST_F(pr, set_regs_loads_no_fpu)
{
	uint64_t before = 0x4009216872b020c5ULL, after = 0;
	struct kvm_regs regs;
	long ret;

	ASSERT_EQ(0, guest_run(&self->vm));
	ASSERT_EQ(0, xioctl(self->vm.vcpu, KVM_GET_REGS, &regs));
	regs.msr |= MSR_FP;
	/* In one statement, since the compiler may use any of them between two */
	__asm__ __volatile__("	mr	0, %1\n"
			     "	mr	3, %2\n"
			     "	mr	4, %3\n"
			     "	mr	5, %4\n"
			     "	lfd	14, 0(%5)\n"
			     "	sc\n"
			     "	stfd	14, 0(%6)\n"
			     "	mr	%0, 3\n"
			     : "=r"(ret)
			     : "r"((long)SYS_ioctl), "r"((long)self->vm.vcpu),
			       "r"((long)KVM_SET_REGS), "r"(&regs), "b"(&before), "b"(&after)
			     : "memory", "fr14", "cr0", "ctr", "xer", "r0", "r3", "r4", "r5", "r6",
			       "r7", "r8", "r9", "r10", "r11", "r12");
	ASSERT_EQ(0, ret);
	EXPECT_EQ(before, after);
}

/*
 * A guest makes system calls and counts them on either side. Whenever a signal
 * ends KVM_RUN, PC says if the last one has been made, and the counts have to
 * agree: an interrupt that is merely queued stays behind in a migration.
 */
#define SYSCALLS_MS	1000
#define SYSCALL_VECTOR	0xc00

TEST_F(pr, queued_interrupt_is_visible)
{
	uint64_t loop = GUEST_OWN + (pr_guest_syscalls - pr_guest_start);
	const struct {
		uint64_t pc;
		unsigned int outstanding;	/* system calls */
	} places[] = {
		{ loop, 0 },
		{ loop + 4, 1 },
		{ loop + 8, 0 },
		{ SYSCALL_VECTOR, 1 },
		{ SYSCALL_VECTOR + 4, 0 },
	};
	struct itimerval timer = { .it_interval.tv_usec = 1000 };
	struct sigaction sa = { .sa_handler = guest_signal };
	unsigned int seen[ARRAY_SIZE(places)] = {}, n, i;
	uint64_t begin = now_ms();
	struct kvm_regs regs;

	load_code(&self->vm, SYSCALL_VECTOR, pr_guest_handler, pr_guest_handler_end);
	ASSERT_EQ(0, set_label(&self->vm, pr_guest_syscalls, 0));
	ASSERT_EQ(0, sigaction(SIGALRM, &sa, NULL));
	for (n = 1; now_ms() - begin < SYSCALLS_MS; n++) {
		/* Most exits are for the guest's sc and rfid: many signals come meanwhile */
		timer.it_value.tv_usec = 200 + n * 37 % 1999;
		ASSERT_EQ(0, setitimer(ITIMER_REAL, &timer, NULL));
		ASSERT_EQ(-EINTR, xioctl(self->vm.vcpu, KVM_RUN, NULL));
		ASSERT_EQ(0, xioctl(self->vm.vcpu, KVM_GET_REGS, &regs));
		for (i = 0; i < ARRAY_SIZE(places) && regs.pc != places[i].pc; i++)
			;
		ASSERT_LT(i, ARRAY_SIZE(places)) {
			TH_LOG("at 0x%lx", (unsigned long)regs.pc);
		}
		seen[i]++;
		ASSERT_EQ(places[i].outstanding, regs.gpr[14] - regs.gpr[15]) {
			TH_LOG("at 0x%lx, after %lu system calls, %u signals, %lu ms",
			       (unsigned long)regs.pc, (unsigned long)regs.gpr[14], n,
			       (unsigned long)(now_ms() - begin));
		}
		/* One that has begun knows where to return to */
		if (regs.pc == SYSCALL_VECTOR || regs.pc == SYSCALL_VECTOR + 4)
			ASSERT_EQ(loop + 8, regs.srr0);
	}
	memset(&timer, 0, sizeof(timer));
	setitimer(ITIMER_REAL, &timer, NULL);
	/* If none came when an interrupt was due, there was nothing to see */
	EXPECT_LT(0, seen[3]);
	TH_LOG("%lu system calls, %u signals, %u of them at the vector",
	       (unsigned long)regs.gpr[14], n - 1, seen[3]);
}

/*
 * A guest makes system calls, so its CPU is often about to enter it when one of
 * the host's timers expires.  That interrupt must neither be forgotten, with the
 * CPU's clock, nor be warned of.
 */
#define TIMER_MS	5000
#define TIMER_US	400
#define TAINT_WARN	0x200

TEST_F(pr, host_timer_while_entering)
{
	const struct itimerspec often = {
		.it_value.tv_nsec = 1, .it_interval.tv_nsec = TIMER_US * 1000,
	};
	long tainted = get_number("/proc/sys/kernel/tainted", "");
	struct guest_thread t = { .vm = &self->vm };
	struct kvm_regs regs;
	int timer;

	ASSERT_LE(0, tainted);
	load_code(&self->vm, SYSCALL_VECTOR, pr_guest_handler, pr_guest_handler_end);
	ASSERT_EQ(0, set_label(&self->vm, pr_guest_syscalls, 0));
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	ASSERT_LE(0, timer);
	/* Where the timer is armed, it expires */
	stay_on_cpu(1);
	ASSERT_EQ(0, timerfd_settime(timer, 0, &often, NULL));
	ASSERT_EQ(0, guest_start(&t));
	stay_on_cpu(0);
	usleep(TIMER_MS * 1000);
	EXPECT_EQ(-EINTR, guest_stop(&t));
	close(timer);
	if (!(tainted & TAINT_WARN))
		EXPECT_EQ(0, get_number("/proc/sys/kernel/tainted", "") & TAINT_WARN);
	ASSERT_EQ(0, xioctl(self->vm.vcpu, KVM_GET_REGS, &regs));
	EXPECT_LT(0, regs.gpr[14]);
	TH_LOG("%lu system calls", (unsigned long)regs.gpr[14]);
}

TEST_F(pr, dirty_log_from_the_start)
{
	unsigned long pages = HTAB_MEM_SIZE / getpagesize();
	unsigned long page = GUEST_DATA / getpagesize();
	uint8_t bitmap[HTAB_MEM_SIZE / 4096 / 8];
	int round, i;

	ASSERT_EQ(0, guest_run(&self->vm));
	for (round = 0; round < 3; round++) {
		/* Known to be writable, as a page written is or, later, one read */
		if (round)
			LOADS(&self->vm, GUEST_DATA, 2);
		else
			STORES(&self->vm, GUEST_DATA, 1);
		ASSERT_EQ(0, htab_set_slot(&self->vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, self->vm.mem,
					   HTAB_MEM_SIZE));
		memset(bitmap, 0xff, sizeof(bitmap));
		ASSERT_EQ(0, get_dirty_log(&self->vm, 0, bitmap));
		for (i = 0; i < pages; i++)
			EXPECT_FALSE(test_le_bit(bitmap, i));
		for (i = 0; i < 3; i++) {
			STORES(&self->vm, GUEST_DATA, i);
			memset(bitmap, 0, sizeof(bitmap));
			ASSERT_EQ(0, get_dirty_log(&self->vm, 0, bitmap));
			EXPECT_TRUE(test_le_bit(bitmap, page)) {
				TH_LOG("round %d, store %d", round, i);
			}
		}
		ASSERT_EQ(0, htab_set_slot(&self->vm, 0, 0, 0, self->vm.mem, HTAB_MEM_SIZE));
	}
}

TEST_F(pr, dirty_log_into_a_bad_buffer)
{
	unsigned long page = GUEST_DATA / getpagesize();
	uint8_t bitmap[HTAB_MEM_SIZE / 4096 / 8] = {};

	ASSERT_EQ(0, guest_run(&self->vm));
	ASSERT_EQ(0, htab_set_slot(&self->vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, self->vm.mem,
				   HTAB_MEM_SIZE));
	STORES(&self->vm, GUEST_DATA, 1);
	EXPECT_EQ(-EFAULT, get_dirty_log(&self->vm, 0, NULL));
	ASSERT_EQ(0, get_dirty_log(&self->vm, 0, bitmap));
	EXPECT_TRUE(test_le_bit(bitmap, page));
}

/*
 * A round: the guest writes each page once, so nothing makes up for a page that
 * is lost; this program copies what it is told of, and all must be there.
 */
#define SWEEP_PAGES	1024UL
#define SWEEP_SECONDS	5

TEST_F(pr, dirty_log_loses_nothing)
{
	unsigned long page = getpagesize(), size = SWEEP_PAGES * page, lost, i;
	struct guest_thread t = { .vm = &self->vm };
	uint64_t copy[SWEEP_PAGES] = {};
	uint8_t bitmap[SWEEP_PAGES / 8];
	uint64_t begin = now_ms();
	unsigned long logs = 0;
	uint64_t round;
	char *mem;

	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, htab_set_slot(&self->vm, SLOT1, KVM_MEM_LOG_DIRTY_PAGES, SLOT1_ADDR, mem,
				   size));
	ASSERT_EQ(0, guest_run(&self->vm));
	for (round = 1; now_ms() - begin < SWEEP_SECONDS * 1000; round++) {
		bool done = false, last;

		t.args[0] = SLOT1_ADDR;
		t.args[1] = page;
		t.args[2] = SWEEP_PAGES;
		t.args[3] = round;
		ASSERT_EQ(0, set_label(&self->vm, pr_guest_sweep, 0));
		ASSERT_EQ(0, guest_start(&t));
		do {
			last = done;
			done = done || !pthread_tryjoin_np(t.thread, NULL);
			ASSERT_EQ(0, get_dirty_log(&self->vm, SLOT1, bitmap));
			logs++;
			for (i = 0; i < SWEEP_PAGES; i++)
				if (test_le_bit(bitmap, i))
					copy[i] = READ((uint64_t *)(mem + i * page));
		} while (!last);
		ASSERT_EQ(0, t.ret);
		for (i = 0, lost = 0; i < SWEEP_PAGES; i++) {
			ASSERT_EQ(round, *(uint64_t *)(mem + i * page));
			lost += copy[i] != round;
		}
		ASSERT_EQ(0, lost) {
			TH_LOG("of %lu pages, in round %lu after %lu ms and %lu logs", SWEEP_PAGES,
			       (unsigned long)round, (unsigned long)(now_ms() - begin), logs);
		}
	}
	TH_LOG("%lu rounds, %lu logs", (unsigned long)round - 1, logs);
}

/* Slots that go take with them what was mapped for the guest */
TEST_F(pr, memory_slot_removed)
{
	uint64_t args[9] = { SLOT1_ADDR };
	size_t size = 16 * getpagesize();
	char *mem[2];
	int i;

	for (i = 0; i < 2; i++) {
		mem[i] = mmap(NULL, size, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		ASSERT_NE(MAP_FAILED, mem[i]);
		*(uint64_t *)mem[i] = i + 1;
	}
	ASSERT_EQ(0, htab_set_slot(&self->vm, SLOT1, 0, SLOT1_ADDR, mem[0], size));
	ASSERT_EQ(0, guest_run(&self->vm));
	LOADS(&self->vm, SLOT1_ADDR, 1);
	STORES(&self->vm, SLOT1_ADDR + 8, 1);

	/* Other memory in its place */
	ASSERT_EQ(0, htab_set_slot(&self->vm, SLOT1, 0, SLOT1_ADDR, mem[0], 0));
	ASSERT_EQ(0, htab_set_slot(&self->vm, SLOT1, 0, SLOT1_ADDR, mem[1], size));
	LOADS(&self->vm, SLOT1_ADDR, 2);
	STORES(&self->vm, SLOT1_ADDR + 8, 2);
	EXPECT_EQ(1, ((uint64_t *)mem[0])[1]);
	EXPECT_EQ(2, ((uint64_t *)mem[1])[1]);

	/* Elsewhere: an access to where it was is for userspace to serve */
	ASSERT_EQ(0, htab_set_slot(&self->vm, SLOT1, 0, SLOT1_ADDR + size, mem[1], size));
	LOADS(&self->vm, SLOT1_ADDR + size, 2);
	EXPECT_EQ(-EPROTO, guest_do(&self->vm, GUEST_LOAD, args));
	EXPECT_EQ(KVM_EXIT_MMIO, self->vm.run->exit_reason);
	EXPECT_EQ(SLOT1_ADDR, self->vm.run->mmio.phys_addr);
}

/* A guest that waits for an interrupt, having run before */
static const struct {
	const char *what;
	const char *label;
	uint64_t msr;
} waits[] = {
	{ "sleeps", pr_guest_cede, MSR_RI },
	{ "sleeps with EE", pr_guest_cede, MSR_EE },
	{ "spins", pr_guest_spin, MSR_EE },
};

/* Run until there is an interrupt, and return it, or -EINTR if there is none */
static long run_to_interrupt(struct htab_vm *vcpu, unsigned int seconds)
{
	int ret;

	watch(vcpu, seconds);
	ret = guest_run(vcpu);
	watch(vcpu, 0);
	return ret ?: (long)vcpu->run->papr_hcall.args[8];
}

/* Have a vCPU wait in one of these ways, as if it had come from another host */
static long load_and_wait(struct htab_vm *vcpu, unsigned int how)
{
	return set_label(vcpu, waits[how].label, waits[how].msr) ?: run_to_interrupt(vcpu, 3);
}

/* Have it sleep as if it had been reset before, so that nothing is added to what is due */
static long wait_for_interrupt(struct htab_vm *vcpu, unsigned int seconds)
{
	return set_label(vcpu, pr_guest_cede, 0) ?: run_to_interrupt(vcpu, seconds);
}

/* Set DEC to 4 s, enable interrupts and wait a while, likewise; 0 if there is none */
static long run_dec(struct htab_vm *vcpu)
{
	uint64_t args[9] = { 0x7fffffff, MSR_OURS | MSR_EE };

	return run_label(vcpu, pr_guest_dec, args) ?: (long)args[8];
}

/* Set DEC to next to nothing, and be there until it has come, however long it takes */
static long expire_dec(struct htab_vm *vcpu)
{
	vcpu->run->papr_hcall.args[0] = 100;
	vcpu->run->papr_hcall.args[1] = MSR_OURS | MSR_EE;
	return set_label(vcpu, pr_guest_until, 0) ?: run_to_interrupt(vcpu, SOON_S);
}

/*
 * The decrementer of a vCPU that is new, though its guest is not, has to come:
 * the guest may have gone to sleep relying on it. An early one does no harm.
 */
TEST_F(pr, decrementer_of_new_vcpu)
{
	struct htab_vm vcpu[3];
	unsigned int i;
	long ret;

	for (i = 0; i < 3; i++) {
		ADD_VCPU(&vcpu[i], 1 + i);
		ret = load_and_wait(&vcpu[i], i);
		if (ret == GUEST_EXTERNAL)
			ret = wait_for_interrupt(&vcpu[i], 3);
		EXPECT_EQ(GUEST_DEC, ret) {
			TH_LOG("%s", waits[i].what);
		}
		if (ret != GUEST_DEC)
			continue;
		/* Then as the guest has set it: not at once, or soon */
		EXPECT_EQ(0, run_dec(&vcpu[i]));
		EXPECT_EQ(GUEST_DEC, expire_dec(&vcpu[i]));
	}
}

/*
 * Whoever sets it before taking interrupts is not told that it had expired, nor
 * does it expire because userspace has been visited
 */
TEST_F(pr, decrementer_set_by_new_vcpu)
{
	ASSERT_EQ(0, guest_run(&self->vm));
	EXPECT_EQ(0, run_dec(&self->vm));
	LOADS(&self->vm, GUEST_DATA, 0);
	EXPECT_EQ(GUEST_DEC, expire_dec(&self->vm));
}

/*
 * One that was pending before a migration may be known to the interrupt
 * controller only, which does not know that this vCPU has not been told. It is
 * given one, and no more.
 */
TEST_F(pr, external_interrupt_of_new_vcpu)
{
	struct htab_vm vcpu[3];
	unsigned int i;

	for (i = 0; i < 3; i++) {
		long first, second;

		ADD_VCPU(&vcpu[i], 1 + i);
		first = load_and_wait(&vcpu[i], i);
		/* In whatever order */
		second = first == GUEST_DEC ? wait_for_interrupt(&vcpu[i], 3) : first;
		EXPECT_EQ(GUEST_EXTERNAL, second) {
			TH_LOG("%s", waits[i].what);
		}
		if (second != GUEST_EXTERNAL)
			continue;
		EXPECT_EQ(0, run_dec(&vcpu[i]));
		LOADS(&vcpu[i], GUEST_DATA, 0);
	}
}

/*
 * How a guest may have been stopped: PR KVM leaves an interrupt that was queued
 * at its vector, in real mode, where SRR1 has the MSR of before; and RTAS runs
 * in real mode with RI, and SRR1 is whatever it was called with.
 */
static const struct {
	const char *what;
	uint64_t msr, srr1;
} stopped[] = {
	{ "with EE", MSR_EE, 0 },
	{ "with IR", MSR_IR, 0 },
	{ "with DR", MSR_DR, 0 },
	{ "with PR", MSR_PR, 0 },
	{ "with RI", MSR_RI, MSR_OURS },
	{ "at a vector, from where EE was", 0, MSR_OURS | MSR_EE },
	{ "at a vector, from where PR, IR and DR were", 0, MSR_OURS | MSR_PR | MSR_IR | MSR_DR },
};

/* The state of a guest is loaded: into a vCPU that has run, has had its interrupts, and has DEC */
static int load_stopped(struct htab_vm *vcpu, unsigned int how)
{
	struct kvm_regs regs;
	int ret = xioctl(vcpu->vcpu, KVM_GET_REGS, &regs);

	regs.pc = GUEST_CODE;
	regs.msr = MSR_OURS | stopped[how].msr;
	regs.srr1 = stopped[how].srr1;
	ret = ret ?: xioctl(vcpu->vcpu, KVM_SET_REGS, &regs);
	/*
	 * It need not get far with this: an instruction that faults, or may not
	 * be executed, brings it to where it waits as well.
	 */
	memset((void *)vcpu->run->papr_hcall.args, 0, sizeof(vcpu->run->papr_hcall.args));
	watch(vcpu, 3);
	ret = ret ?: guest_run(vcpu);
	watch(vcpu, 0);
	return ret;
}

/* The interrupt that it gets then or, if that is another one than @want, next */
static int interrupt_of_stopped(struct htab_vm *vcpu, unsigned int how, long want, long *got)
{
	int ret;

	/* Whatever was set is of another time */
	run_dec(vcpu);
	ret = load_stopped(vcpu, how);
	*got = vcpu->run->papr_hcall.args[8];
	if (!ret && *got != want)
		*got = wait_for_interrupt(vcpu, 3);
	return ret;
}

TEST_F(pr, decrementer_of_loaded_state)
{
	unsigned int i;
	long ret;

	ASSERT_EQ(0, guest_run(&self->vm));
	for (i = 0; i < ARRAY_SIZE(stopped); i++) {
		ASSERT_EQ(0, interrupt_of_stopped(&self->vm, i, GUEST_DEC, &ret)) {
			TH_LOG("%s", stopped[i].what);
		}
		if (ret == GUEST_EXTERNAL)
			ret = wait_for_interrupt(&self->vm, 3);
		EXPECT_EQ(GUEST_DEC, ret) {
			TH_LOG("%s", stopped[i].what);
		}
		EXPECT_EQ(0, run_dec(&self->vm));
		EXPECT_EQ(GUEST_DEC, expire_dec(&self->vm));
	}
}

TEST_F(pr, external_interrupt_of_loaded_state)
{
	unsigned int i;
	long ret;

	ASSERT_EQ(0, guest_run(&self->vm));
	for (i = 0; i < ARRAY_SIZE(stopped); i++) {
		ASSERT_EQ(0, interrupt_of_stopped(&self->vm, i, GUEST_EXTERNAL, &ret)) {
			TH_LOG("%s", stopped[i].what);
		}
		EXPECT_EQ(GUEST_EXTERNAL, ret) {
			TH_LOG("%s", stopped[i].what);
		}
	}
}

/*
 * A guest that begins is not told of what it never asked for: it may have no
 * code for that yet. So one whose vCPU is reset.
 */
TEST_F(pr, no_interrupts_at_reset)
{
	struct htab_vm vcpu;

	ADD_VCPU(&vcpu, 1);
	EXPECT_EQ(-EINTR, wait_for_interrupt(&vcpu, 2));
	ASSERT_EQ(0, guest_reset(&vcpu, false));
	ASSERT_EQ(0, guest_run(&vcpu));
	EXPECT_EQ(0, run_dec(&vcpu));

	ASSERT_EQ(GUEST_EXTERNAL, load_and_wait(&vcpu, 2));
	EXPECT_EQ(0, run_dec(&vcpu));
	ASSERT_EQ(0, guest_reset(&vcpu, false));
	ASSERT_EQ(0, guest_run(&vcpu));
	EXPECT_EQ(-EINTR, wait_for_interrupt(&vcpu, 2));
	/* Loaded, but reset before it is run; a DEC lasts for 4 s at most */
	EXPECT_EQ(0, run_dec(&vcpu));
	ASSERT_EQ(0, set_label(&vcpu, pr_guest_spin, MSR_EE));
	ASSERT_EQ(0, guest_reset(&vcpu, false));
	ASSERT_EQ(0, guest_run(&vcpu));
	EXPECT_EQ(-EINTR, wait_for_interrupt(&vcpu, 2));
}

/*
 * What userspace asserts stays until it says otherwise, and not longer, whenever
 * it does so and whatever was due before.
 */

static int set_line(struct htab_vm *vcpu, __u32 what)
{
	struct kvm_interrupt irq = { .irq = what };

	return xioctl(vcpu->vcpu, KVM_INTERRUPT, &irq);
}

/* Several are delivered; then, when it is deasserted, none */
#define LINE_IS_ASSERTED(_vcpu) do {					\
	struct htab_vm *_v = (_vcpu);					\
	unsigned int _i;						\
									\
	for (_i = 0; _i < 3; _i++)					\
		EXPECT_EQ(GUEST_EXTERNAL, wait_for_interrupt(_v, 3));	\
	ASSERT_EQ(0, set_line(_v, KVM_INTERRUPT_UNSET));		\
	EXPECT_EQ(0, run_dec(_v));					\
} while (0)

/* A new vCPU with interrupts disabled, to which one is due since its state was loaded */
#define ADD_LOADED_VCPU(_vcpu, _id) do {				\
	struct htab_vm *_added = (_vcpu);				\
									\
	ADD_VCPU(_added, _id);						\
	ASSERT_EQ(0, set_pc(_added, GUEST_CODE, MSR_RI));		\
	ASSERT_EQ(0, guest_run(_added));				\
} while (0)

TEST_F(pr, external_level_before_first_run)
{
	ASSERT_EQ(0, set_line(&self->vm, KVM_INTERRUPT_SET_LEVEL));
	ASSERT_EQ(0, set_pc(&self->vm, GUEST_CODE, MSR_RI));
	ASSERT_EQ(0, guest_run(&self->vm));
	LINE_IS_ASSERTED(&self->vm);
}

TEST_F(pr, external_level_after_first_run)
{
	struct htab_vm vcpu[5];

	ADD_LOADED_VCPU(&vcpu[0], 1);
	ASSERT_EQ(0, set_line(&vcpu[0], KVM_INTERRUPT_SET_LEVEL));
	LINE_IS_ASSERTED(&vcpu[0]);

	/* Deasserted again, or found to be so, before the guest takes it */
	ADD_LOADED_VCPU(&vcpu[1], 2);
	ASSERT_EQ(0, set_line(&vcpu[1], KVM_INTERRUPT_SET_LEVEL));
	ASSERT_EQ(0, set_line(&vcpu[1], KVM_INTERRUPT_UNSET));
	EXPECT_EQ(0, run_dec(&vcpu[1]));
	ADD_LOADED_VCPU(&vcpu[2], 3);
	ASSERT_EQ(0, set_line(&vcpu[2], KVM_INTERRUPT_UNSET));
	EXPECT_EQ(0, run_dec(&vcpu[2]));
	ASSERT_EQ(0, set_line(&vcpu[2], KVM_INTERRUPT_SET_LEVEL));
	LINE_IS_ASSERTED(&vcpu[2]);

	/* Asserted when the one has been taken */
	ADD_LOADED_VCPU(&vcpu[3], 4);
	EXPECT_EQ(GUEST_EXTERNAL, wait_for_interrupt(&vcpu[3], 3));
	ASSERT_EQ(0, set_line(&vcpu[3], KVM_INTERRUPT_SET_LEVEL));
	LINE_IS_ASSERTED(&vcpu[3]);

	/* Asserted before the state is loaded again */
	ADD_LOADED_VCPU(&vcpu[4], 5);
	ASSERT_EQ(0, set_line(&vcpu[4], KVM_INTERRUPT_SET_LEVEL));
	ASSERT_EQ(0, set_pc(&vcpu[4], GUEST_CODE, MSR_RI));
	ASSERT_EQ(0, guest_run(&vcpu[4]));
	LINE_IS_ASSERTED(&vcpu[4]);
}

/* KVM_INTERRUPT_SET is delivered once, and does not change what the line does */
TEST_F(pr, external_level_after_set)
{
	ASSERT_EQ(0, guest_run(&self->vm));
	ASSERT_EQ(0, set_line(&self->vm, KVM_INTERRUPT_SET));
	EXPECT_EQ(GUEST_EXTERNAL, wait_for_interrupt(&self->vm, 3));
	EXPECT_EQ(0, run_dec(&self->vm));

	ASSERT_EQ(0, set_line(&self->vm, KVM_INTERRUPT_SET));
	ASSERT_EQ(0, set_line(&self->vm, KVM_INTERRUPT_SET_LEVEL));
	LINE_IS_ASSERTED(&self->vm);

	ASSERT_EQ(0, set_line(&self->vm, KVM_INTERRUPT_SET_LEVEL));
	ASSERT_EQ(0, set_line(&self->vm, KVM_INTERRUPT_SET));
	LINE_IS_ASSERTED(&self->vm);

	ASSERT_EQ(0, set_line(&self->vm, KVM_INTERRUPT_SET));
	ASSERT_EQ(0, set_line(&self->vm, KVM_INTERRUPT_UNSET));
	EXPECT_EQ(0, run_dec(&self->vm));
	ASSERT_EQ(0, set_line(&self->vm, KVM_INTERRUPT_SET_LEVEL));
	LINE_IS_ASSERTED(&self->vm);
}

/*
 * The line is asserted by one thread while the vCPU, in another, takes one that
 * is delivered once.
 */
#define LEVEL_MS	3000

static void spin(unsigned int n)
{
	while (n--)
		__asm__ __volatile__("" : : : "memory");
}

TEST_F(pr, external_level_against_oneshot)
{
	struct guest_thread t = { .vm = &self->vm };
	uint64_t begin = now_ms();
	unsigned int n;

	ASSERT_EQ(0, guest_run(&self->vm));
	for (n = 0; now_ms() - begin < LEVEL_MS; n++) {
		/* Enables interrupts, and is there until one comes */
		t.args[0] = 0x7fffffff;
		t.args[1] = MSR_OURS | MSR_EE;
		ASSERT_EQ(0, set_label(&self->vm, pr_guest_until, 0));
		ASSERT_EQ(0, guest_start(&t));
		spin(n * 37 % 4099);
		ASSERT_EQ(0, set_line(&self->vm, KVM_INTERRUPT_SET));
		spin(n * 101 % 2039);
		ASSERT_EQ(0, set_line(&self->vm, KVM_INTERRUPT_SET_LEVEL));
		ASSERT_EQ(0, guest_join(&t, SOON_S * 1000));
		ASSERT_EQ(GUEST_EXTERNAL, (long)t.args[8]);
		ASSERT_EQ(GUEST_EXTERNAL, wait_for_interrupt(&self->vm, 3)) {
			TH_LOG("after %u times, %u ms", n, (unsigned int)(now_ms() - begin));
		}
		ASSERT_EQ(0, set_line(&self->vm, KVM_INTERRUPT_UNSET));
	}
	TH_LOG("%u times", n);
}

/*
 * Translations that are looked up in the table
 */

static const struct segment small = { .vsid = 0x2345, .page_shift = 12 };
static const struct segment big = { .vsid = 0x3456, .page_shift = 16 };

static const struct {
	const char *what;
	const struct segment *seg;
} segment[] = {
	{ "256M of 4K", &small },
	{ "256M of 64K", &big },
	{ "1T of 4K", &vrma },
};

/* Have a vCPU go on with translation on; KVM_SET_SREGS comes last, as in QEMU */
static int translate(struct htab_vm *vcpu, const struct segment *seg)
{
	return set_pc(vcpu, GUEST_CODE, MSR_IR | MSR_DR) ?:
	       guest_set_segment(vcpu, 0, seg) ?: guest_run(vcpu);
}

#define MAP_CODE(_seg) do {						\
	const struct segment *_s = (_seg);				\
									\
	MAP(_s, GUEST_CODE, GUEST_CODE, HPTE_R_R | HPTE_R_C);		\
	MAP(_s, GUEST_OWN, GUEST_OWN, HPTE_R_R | HPTE_R_C);		\
} while (0)

#define RC(_index)	(entry_r(_index) & (HPTE_R_R | HPTE_R_C))

/*
 * A page that is read may be written later, through what was mapped for the
 * read, if that is not taken care of
 */
TEST_F(pr, page_read_then_written_gets_c)
{
	static const uint64_t pp[] = { 2, 0, 1 };
	struct htab_vm vcpu[3];
	unsigned long index;
	unsigned int i, j;

	for (i = 0; i < 3; i++) {
		MAP_CODE(segment[i].seg);
		ADD_VCPU(&vcpu[i], 1 + i);
		ASSERT_EQ(0, translate(&vcpu[i], segment[i].seg));
		for (j = 0; j < 3; j++) {
			uint64_t ea = EA + j * 0x10000;

			index = MAP(segment[i].seg, ea, GUEST_DATA + j * 0x10000, pp[j]);
			EXPECT_EQ(0, RC(index));
			LOADS(&vcpu[i], ea, 0);
			EXPECT_EQ(HPTE_R_R, RC(index));
			STORES(&vcpu[i], ea + 8, i);
			EXPECT_EQ(HPTE_R_R | HPTE_R_C, RC(index)) {
				TH_LOG("segment of %s, PP = %u", segment[i].what, (int)pp[j]);
			}
			/* And if it is written first */
			HCALL(&vcpu[i], H_REMOVE, 0, index, 0, 0);
			index = MAP(segment[i].seg, ea, GUEST_DATA + j * 0x10000, pp[j]);
			STORES(&vcpu[i], ea + 8, i);
			EXPECT_EQ(HPTE_R_R | HPTE_R_C, RC(index));
		}
	}
}

/* The same if what was read are instructions */
TEST_F(pr, page_executed_then_written_gets_c)
{
	unsigned long index;

	index = MAP(&small, GUEST_CODE, GUEST_CODE, 2);
	ASSERT_EQ(0, translate(&self->vm, &small));
	EXPECT_EQ(HPTE_R_R, RC(index));
	STORES(&self->vm, GUEST_CODE + 0xff8, 1);
	EXPECT_EQ(HPTE_R_R | HPTE_R_C, RC(index));
}

/*
 * A fault that has found its entry, but has to wait for the page, must not map
 * what has been invalidated in the meantime.
 */
enum { REMOVE, BULK_REMOVE, PROTECT, TLBIE, NR_WAYS };

static const char *const way_names[NR_WAYS] = {
	"H_REMOVE", "H_BULK_REMOVE", "H_PROTECT", "tlbie",
};

/* From one page to the next: these may have 64K */
#define STRIDE		0x10000UL

TEST_F(pr, removed_while_faulting)
{
	unsigned long page = getpagesize(), size = 3 * NR_WAYS * STRIDE;
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct htab_vm vcpu[3];
	unsigned int i, way;
	uint64_t *source;
	char *mem;
	int uffd;

	uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0)
		SKIP(return, "no userfaultfd: %s", strerror(errno));
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_API, &api));
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	madvise(mem, size, MADV_NOHUGEPAGE);
	source = mmap(NULL, page, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ASSERT_NE(MAP_FAILED, source);
	reg.range.start = (uintptr_t)mem;
	reg.range.len = size;
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_REGISTER, &reg));
	ASSERT_EQ(0, htab_set_slot(&self->vm, SLOT1, 0, SLOT1_ADDR, mem, size));

	/* Real mode for the one that removes */
	ASSERT_EQ(0, guest_run(&self->vm));
	for (i = 0; i < 3; i++) {
		MAP_CODE(segment[i].seg);
		ADD_VCPU(&vcpu[i], 1 + i);
		ASSERT_EQ(0, translate(&vcpu[i], segment[i].seg));
	}

	for (i = 0; i < 3 * NR_WAYS; i++) {
		const struct segment *seg = segment[i / NR_WAYS].seg;
		struct htab_vm *faults = &vcpu[i / NR_WAYS];
		struct pollfd ready = { .fd = uffd, .events = POLLIN };
		struct guest_thread t = { .vm = faults, .command = GUEST_LOAD };
		unsigned long index, addr = SLOT1_ADDR + i * STRIDE;
		uint64_t ea = EA + (i % NR_WAYS) * STRIDE;
		struct uffdio_copy copy = {
			.dst = (uintptr_t)mem + i * STRIDE,
			.src = (uintptr_t)source,
			.len = page,
		};
		struct uffd_msg msg;
		uint64_t args[9] = {};

		/* An access finds the entry and then waits for the page */
		*source = 0x1111;
		*MEM(GUEST_DATA + i * STRIDE) = 0x2222;
		way = i % NR_WAYS;
		index = MAP(seg, ea, addr, HPTE_R_R | HPTE_R_C | 2);
		t.args[0] = ea;
		if (way == PROTECT) {
			t.command = GUEST_STORE;
			t.args[1] = 0x1111;
		}
		ASSERT_EQ(0, guest_start(&t));
		ASSERT_EQ(1, poll(&ready, 1, SOON_S * 1000));
		ASSERT_EQ(sizeof(msg), read(uffd, &msg, sizeof(msg)));
		ASSERT_EQ(UFFD_EVENT_PAGEFAULT, msg.event);
		ASSERT_EQ(copy.dst, msg.arg.pagefault.address & -page);

		/* Now the other vCPU */
		switch (way) {
		case REMOVE:
			HCALL(&self->vm, H_REMOVE, 0, index, 0, 0);
			break;
		case BULK_REMOVE:
			args[0] = BULK_REQUEST | index;
			args[2] = BULK_END;
			ASSERT_EQ(0, guest_do(&self->vm, H_BULK_REMOVE, args));
			ASSERT_EQ(0, args[8]);
			break;
		case PROTECT:
			HCALL(&self->vm, H_PROTECT, 3, index, 0, 0);
			break;
		case TLBIE:
			PUT_ENTRY(index, 0, 0);
			args[0] = (seg->vsid << segment_shift(seg) | ea) & ~0xfffULL;
			if (seg->page_shift == 16)
				args[0] |= 0x1001;
			ASSERT_EQ(0, run_label(&self->vm, pr_guest_tlbie, args));
			ASSERT_EQ(0, args[8]);
			break;
		}
		if (way != PROTECT)
			MAP(seg, ea, GUEST_DATA + i * STRIDE, HPTE_R_R | HPTE_R_C | 2);

		/* The page is there, the first access comes to its end, another one begins */
		ASSERT_EQ(0, ioctl(uffd, UFFDIO_COPY, &copy));
		ASSERT_EQ(0, guest_join(&t, SOON_S * 1000));
		if (way == PROTECT) {
			/* if it may store, it is stopped at the latest now */
			if (!t.args[8]) {
				t.args[0] = ea;
				t.args[1] = 0x3333;
				ASSERT_EQ(0, guest_do(faults, GUEST_STORE, t.args));
			}
			EXPECT_EQ(GUEST_NO_DATA, (long)t.args[8]) {
				TH_LOG("%s: segment of %s", way_names[way],
				       segment[i / NR_WAYS].what);
			}
			EXPECT_NE(0x3333, *(uint64_t *)copy.dst);
			/* where it has been, translation is off */
			ASSERT_EQ(0, translate(faults, seg));
			continue;
		}
		ASSERT_EQ(0, t.args[8]);
		memset(args, 0, sizeof(args));
		args[0] = ea;
		ASSERT_EQ(0, guest_do(faults, GUEST_LOAD, args));
		EXPECT_EQ(0, args[8]);
		EXPECT_EQ(0x2222, args[0]) {
			TH_LOG("%s: segment of %s", way_names[way], segment[i / NR_WAYS].what);
		}
	}
}

/*
 * The same without a delay: one vCPU moves an address to and fro between two
 * pages and counts in them; when it has told of that, another one must not find
 * a lower number at the address.
 */
#define REMAP_MS	8000

TEST_F(pr, remapped_while_read)
{
	uint64_t rc = HPTE_R_R | HPTE_R_C | 2, *told = MEM(GUEST_CONTROL);
	struct hpte e = segment_hpte(&small, EA, GUEST_DATA);
	struct guest_thread check = {
		.vm = &self->vm,
		.args = { GUEST_CONTROL, EA },
	};
	struct guest_thread remap = { .vm = &self->other };
	unsigned int ms;

	/* Between two entries there is none: try again */
	load_code(&self->vm, 0x300, pr_guest_retry, pr_guest_retry_end);
	MAP(&small, GUEST_CONTROL, GUEST_CONTROL, rc);
	remap.args[0] = MAP(&small, EA, GUEST_DATA, rc);
	remap.args[1] = e.v;
	remap.args[2] = e.r | rc;
	remap.args[3] = STRIDE;
	remap.args[4] = GUEST_CONTROL;
	ADD_VCPU(&self->other, 1);
	ASSERT_EQ(0, guest_run(&self->other));
	MAP_CODE(&small);
	ASSERT_EQ(0, translate(&self->vm, &small));
	ASSERT_EQ(0, set_label(&self->other, pr_guest_remap, 0));
	ASSERT_EQ(0, set_label(&self->vm, pr_guest_check, MSR_IR | MSR_DR));
	ASSERT_EQ(0, guest_start(&remap));
	ASSERT_EQ(0, guest_start(&check));

	for (ms = 0; ms < REMAP_MS && guest_join(&check, 10) == -ETIMEDOUT; ms += 10)
		;
	WRITE(&told[1], 1);
	if (ms >= REMAP_MS)
		ASSERT_EQ(0, guest_join(&check, SOON_S * 1000));
	EXPECT_EQ(0, check.ret);
	EXPECT_EQ(0, (long)check.args[8]);
	EXPECT_LE(check.args[2], check.args[3]) {
		TH_LOG("after %u ms", ms);
	}
	ASSERT_EQ(0, guest_join(&remap, SOON_S * 1000));
	EXPECT_EQ(0, (long)remap.args[8]);
	EXPECT_EQ(0, remap.args[0]);
	TH_LOG("%lu times", (unsigned long)remap.args[1]);
}

/*
 * A guest that runs keeps no interrupt of the host's for itself: each time, a thread
 * of its CPU is woken by another CPU.
 */
static int ping[2], pong[2];

static void *echo(void *arg)
{
	char c;

	while (read(ping[0], &c, 1) == 1 && write(pong[1], &c, 1) == 1)
		;
	return NULL;
}

TEST_F(pr, wakes_other_thread)
{
	struct guest_thread count = {
		.vm = &self->vm,
		.command = GUEST_COUNT,
		.args = { GUEST_DATA },
	};
	uint64_t *counted = MEM(GUEST_DATA), begin;
	unsigned int i;
	pthread_t t;
	char c;

	ASSERT_EQ(0, guest_run(&self->vm));
	ASSERT_EQ(0, pipe(ping));
	ASSERT_EQ(0, pipe(pong));
	stay_on_cpu(1);
	ASSERT_EQ(0, guest_start(&count));
	ASSERT_EQ(0, pthread_create(&t, NULL, echo, NULL));
	stay_on_cpu(0);
	for (i = 0; i < 200; i++) {
		struct pollfd ready = { .fd = pong[0], .events = POLLIN };

		begin = READ(counted);
		while (READ(counted) == begin)	/* until it is in the guest */
			usleep(100);
		ASSERT_EQ(1, write(ping[1], "", 1));
		ASSERT_EQ(1, poll(&ready, 1, SOON_S * 1000)) {
			TH_LOG("not woken, after %u times", i);
		}
		ASSERT_EQ(1, read(pong[0], &c, 1));
	}
	close(ping[1]);
	EXPECT_EQ(0, pthread_join(t, NULL));
	EXPECT_EQ(-EINTR, guest_stop(&count));
}

TEST_HARNESS_MAIN
