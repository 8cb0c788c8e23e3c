// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_PPC_GET_HTAB_FD under PR, whose own table in the kernel is younger than
 * the ioctl: the hypercalls and the guest's loads and stores that change it,
 * writing while vCPUs run, allocating, resizing, and guests whose table is in
 * the memory of userspace as it always was.
 */
#include <linux/kvm_para.h>
#include <sys/stat.h>

#define HTAB_PR_ONLY
#include "htab_fixture.h"

#define RC	(HPTE_R_R | HPTE_R_C)

TEST_F(htab, capabilities)
{
	static const int caps[] = {
		KVM_CAP_PPC_ALLOC_HTAB, KVM_CAP_SPAPR_RESIZE_HPT,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(caps); i++) {
		EXPECT_EQ(1, ioctl(self->vm.kvm, KVM_CHECK_EXTENSION, caps[i]));
		EXPECT_EQ(1, ioctl(self->vm.fd, KVM_CHECK_EXTENSION, caps[i]));
	}
}

/*
 * Hypercalls
 */

/* A guest, and a reader that knows the table */
#define GUEST_AND_READER() do {						\
	GUEST();							\
	READER();							\
	DRAIN(&self->got, self->reader);				\
} while (0)

/* An entry is what it is said to be, to the reader and to the guest */
#define ENTRY_IS(_index, _v, _r) do {					\
	uint64_t _read[9] = { 0, (_index) };				\
	struct hpte _told = self->got.hpte[_read[1]];			\
									\
	ASSERT_EQ(_v, _told.v);						\
	ASSERT_EQ(_r, _told.r);						\
	ASSERT_EQ(0, guest_do(&self->vm, H_READ, _read));		\
	ASSERT_EQ(0, _read[8]);						\
	ASSERT_EQ(_told.v, _read[0]);					\
	ASSERT_EQ(_told.r, _read[1]);					\
} while (0)

/* Enter, remove or clear, where the call returns more than success */
#define HCALL_RETURNS(_first, _nr, ...) ({				\
	uint64_t _args[9] = { __VA_ARGS__ };				\
									\
	ASSERT_EQ(0, guest_do(&self->vm, _nr, _args));			\
	ASSERT_EQ(0, _args[8]);						\
	ASSERT_EQ(_first, _args[0]);					\
	_args[1];							\
})

TEST_F(htab, enter_takes_a_free_place)
{
	struct hpte e;
	unsigned int i;

	GUEST_AND_READER();
	for (i = 0; i < 8; i++) {
		/* The low bits of the index do not count, nor do the host's */
		e = mapping(i, GUEST_DATA);
		HCALL_RETURNS(80 + i, H_ENTER, 0, 80 + (i * 5) % 8,
			      (e.v | HPTE_V_HOST) & ~HPTE_V_VALID, e.r);
		TOLD_OF(80 + i);
		ENTRY_IS(80 + i, e.v, e.r);
	}
	HCALL_IS(H_PTEG_FULL, H_ENTER, 0, 80, e.v, e.r);
	TOLD_OF_NOTHING();
	HCALL(H_REMOVE, 0, 83, 0, 0);
	TOLD_OF(83);
	HCALL_RETURNS(83, H_ENTER, 0, 80, e.v, e.r);
	TOLD_OF(83);
	ENTRY_IS(83, e.v, e.r);
}

TEST_F(htab, enter_takes_the_exact_place)
{
	struct hpte e = mapping(1, GUEST_DATA), other = mapping(2, GUEST_DATA);

	GUEST_AND_READER();
	HCALL_RETURNS(85, H_ENTER, H_EXACT, 85, e.v, e.r);
	TOLD_OF(85);
	ENTRY_IS(85, e.v, e.r);
	/* and no other, and never one that is taken */
	HCALL_IS(H_PTEG_FULL, H_ENTER, H_EXACT, 85, other.v, other.r);
	TOLD_OF_NOTHING();
	ENTRY_IS(85, e.v, e.r);
}

TEST_F(htab, enter_refuses)
{
	struct hpte e = mapping(1, GUEST_DATA);
	uint64_t npte;

	GUEST_AND_READER();
	npte = self->vm.npte;
	HCALL_IS(H_PARAMETER, H_ENTER, H_EXACT, npte, e.v, e.r);
	HCALL_IS(H_PARAMETER, H_ENTER, 0, npte, e.v, e.r);
	HCALL_IS(H_PARAMETER, H_ENTER, H_EXACT, 1ULL << 60 | 2, e.v, e.r);
	HCALL_IS(H_PARAMETER, H_ENTER, H_EXACT, ~0ULL, e.v, e.r);
	/* a page size and segment sizes that there are not */
	HCALL_IS(H_PARAMETER, H_ENTER, H_EXACT, 2, e.v | HPTE_V_LARGE, e.r | 0x2000);
	HCALL_IS(H_PARAMETER, H_ENTER, H_EXACT, 2, e.v | 2ULL << 62, e.r);
	HCALL_IS(H_PARAMETER, H_ENTER, 0, 2, e.v | 3ULL << 62, e.r);
	TOLD_OF_NOTHING();
}

TEST_F(htab, remove_if)
{
	struct hpte e = mapping(0x1234, GUEST_DATA);
	uint64_t avpn;

	e.v |= HPTE_V_BOLTED;
	avpn = e.v & ~0x7fULL;
	GUEST_AND_READER();
	HCALL(H_ENTER, H_EXACT, 2, e.v, e.r);
	TOLD_OF(2);
	HCALL_IS(H_NOT_FOUND, H_REMOVE, H_AVPN, 2, avpn ^ 0x80, 0);
	HCALL_IS(H_NOT_FOUND, H_REMOVE, H_ANDCOND, 2, HPTE_V_BOLTED, 0);
	HCALL_IS(H_NOT_FOUND, H_REMOVE, 0, 3, 0, 0);
	HCALL_IS(H_PARAMETER, H_REMOVE, 0, self->vm.npte, 0, 0);
	HCALL_IS(H_PARAMETER, H_REMOVE, 0, 1ULL << 60 | 2, 0, 0);
	TOLD_OF_NOTHING();

	/* It returns what was there */
	ASSERT_EQ(e.r, HCALL_RETURNS(e.v, H_REMOVE, H_AVPN, 2, avpn));
	TOLD_OF(2);
	EXPECT_EQ(1, self->got.invalid);
	HCALL_IS(H_NOT_FOUND, H_REMOVE, 0, 2, 0, 0);
	TOLD_OF_NOTHING();
	HCALL(H_ENTER, H_EXACT, 2, e.v, e.r & ~HPTE_R_C);
	ASSERT_EQ(e.r & ~HPTE_R_C, HCALL_RETURNS(e.v, H_REMOVE, H_ANDCOND, 2, 0x8));
	TOLD_OF(2);
	EXPECT_EQ(1, self->got.invalid);
}

/* A request of H_BULK_REMOVE in its first byte, and what replaces it */
#define BULK_REQUEST	(0x40ULL << 56)
#define BULK_ANDCOND	(0x01ULL << 56)
#define BULK_AVPN	(0x02ULL << 56)
#define BULK_END	(0xc0ULL << 56)
#define BULK_DONE	(0x80ULL << 56)
#define BULK_NOT_FOUND	(0x90ULL << 56)
#define BULK_PARAMETER	(0xa0ULL << 56)
#define BULK_R		(0x08ULL << 56)
#define BULK_C		(0x04ULL << 56)

TEST_F(htab, bulk_remove_if)
{
	struct hpte e[4];
	unsigned int i;

	GUEST_AND_READER();
	for (i = 0; i < 4; i++) {
		/* with neither R nor C, with one, with both */
		e[i] = mapping(0x1234 + i, GUEST_DATA + i * 0x1000);
		e[i].r &= ~RC;
		e[i].r |= i << 7;
		HCALL(H_ENTER, H_EXACT, 100 + i, e[i].v, e[i].r);
	}
	DRAIN(&self->got, self->reader);
	{
		uint64_t args[9] = {
			BULK_REQUEST | 100, 0,
			BULK_REQUEST | BULK_AVPN | 101, (e[1].v & ~0x7fULL) ^ 0x80,
			BULK_REQUEST | BULK_ANDCOND | 102, HPTE_V_VALID,
			BULK_REQUEST | BULK_AVPN | 103, e[3].v & ~0x7fULL,
		};

		ASSERT_EQ(0, guest_do(&self->vm, H_BULK_REMOVE, args));
		EXPECT_EQ(0, args[8]);
		EXPECT_EQ(BULK_DONE | 100, args[0]);
		EXPECT_EQ(BULK_NOT_FOUND | BULK_AVPN | 101, args[2]);
		EXPECT_EQ(BULK_NOT_FOUND | BULK_ANDCOND | 102, args[4]);
		EXPECT_EQ(BULK_DONE | BULK_AVPN | BULK_R | BULK_C | 103, args[6]);
	}
	model_forget(&self->got);
	DRAIN(&self->got, self->reader);
	EXPECT_EQ(0, self->got.valid);
	EXPECT_EQ(2, self->got.invalid);
	EXPECT_EQ(1, self->got.told[100]);
	EXPECT_EQ(1, self->got.told[103]);

	/* What is behind the end is not looked at */
	uint64_t ended[9] = {
		BULK_REQUEST | 100, 0,
		BULK_REQUEST | BULK_ANDCOND | 101, HPTE_V_BOLTED,
		BULK_END, 0,
		BULK_REQUEST | 102, 0,
	};

	ASSERT_EQ(0, guest_do(&self->vm, H_BULK_REMOVE, ended));
	EXPECT_EQ(0, ended[8]);
	EXPECT_EQ(BULK_NOT_FOUND | 100, ended[0]);
	EXPECT_EQ(BULK_DONE | BULK_ANDCOND | BULK_C | 101, ended[2]);
	EXPECT_EQ(BULK_END, ended[4]);
	EXPECT_EQ(BULK_REQUEST | 102, ended[6]);
	TOLD_OF(101);
	EXPECT_EQ(1, self->got.invalid);
	TABLE_IS(&self->got);
}

TEST_F(htab, bulk_remove_refuses)
{
	struct hpte e = mapping(1, GUEST_DATA);
	uint64_t bad[3];
	unsigned int i;

	GUEST_AND_READER();
	bad[0] = BULK_REQUEST | BULK_AVPN | BULK_ANDCOND | 200;
	bad[1] = BULK_REQUEST | self->vm.npte;
	bad[2] = BULK_REQUEST | 0x00ffffffffffffffULL;
	HCALL(H_ENTER, H_EXACT, 200, e.v, e.r);
	TOLD_OF(200);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		uint64_t args[9] = { BULK_REQUEST | 100, 0, bad[i], 0, BULK_REQUEST | 200, 0 };

		HCALL(H_ENTER, H_EXACT, 100, e.v, e.r);
		TOLD_OF(100);
		ASSERT_EQ(0, guest_do(&self->vm, H_BULK_REMOVE, args));
		EXPECT_EQ(H_PARAMETER, (long)args[8]);
		/* Those before it have been done, it says which it is */
		EXPECT_EQ(BULK_DONE | BULK_R | BULK_C | 100, args[0]);
		EXPECT_EQ(bad[i] ^ BULK_REQUEST ^ BULK_PARAMETER, args[2]);
		EXPECT_EQ(BULK_REQUEST | 200, args[4]);
		TOLD_OF(100);
		EXPECT_EQ(1, self->got.invalid);
	}
	/* No request at all */
	HCALL_IS(H_PARAMETER, H_BULK_REMOVE, 200, 0, 0, 0);
	TOLD_OF_NOTHING();
}

TEST_F(htab, protect_if)
{
	struct hpte e = mapping(0x1234, GUEST_DATA);
	uint64_t avpn = e.v & ~0x7fULL;

	GUEST_AND_READER();
	HCALL(H_ENTER, H_EXACT, 2, e.v, e.r);
	TOLD_OF(2);
	HCALL_IS(H_NOT_FOUND, H_PROTECT, H_AVPN | 1, 2, avpn ^ 0x80, 0);
	HCALL_IS(H_NOT_FOUND, H_PROTECT, 1, 3, 0, 0);
	HCALL_IS(H_PARAMETER, H_PROTECT, 1, self->vm.npte, 0, 0);
	HCALL_IS(H_PARAMETER, H_PROTECT, 1, 1ULL << 60 | 2, 0, 0);
	TOLD_OF_NOTHING();

	/* The flags are pp, N and the low bits of the key, and pp0 and its high bits */
	HCALL(H_PROTECT, H_AVPN | 0x207, 2, avpn, 0);
	TOLD_OF(2);
	e.r |= 0x207;
	ENTRY_IS(2, e.v, e.r);
	HCALL(H_PROTECT, 0x100 | 0x3000 | 0x400 | 2, 2, 0, 0);
	TOLD_OF(2);
	e.r = (e.r & ~0x207ULL) | HPTE_R_PP0 | 0x3000000000000000ULL | 0x400 | 2;
	ENTRY_IS(2, e.v, e.r);
}

TEST_F(htab, read_four)
{
	struct hpte e[4];
	uint64_t args[9] = { H_READ_4, 42 };
	unsigned int i;

	GUEST_AND_READER();
	for (i = 0; i < 4; i++) {
		e[i] = mapping(i, GUEST_DATA);
		if (i != 2)
			HCALL(H_ENTER, H_EXACT, 40 + i, e[i].v, e[i].r);
	}
	/* All that are with it in a block of four; one of them is not valid */
	ASSERT_EQ(0, guest_do(&self->vm, H_READ, args));
	ASSERT_EQ(0, args[8]);
	for (i = 0; i < 4; i++) {
		if (i == 2) {
			EXPECT_EQ(0, args[2 * i] & HPTE_V_VALID);
			continue;
		}
		EXPECT_EQ(e[i].v, args[2 * i]);
		EXPECT_EQ(e[i].r, args[2 * i + 1]);
	}
	HCALL_IS(H_PARAMETER, H_READ, 0, self->vm.npte, 0, 0);
	HCALL_IS(H_PARAMETER, H_READ, H_READ_4, self->vm.npte, 0, 0);
	HCALL_IS(H_PARAMETER, H_READ, 0, 1ULL << 60 | 40, 0, 0);
}

TEST_F(htab, clear_r_and_c)
{
	struct hpte e = mapping(1, GUEST_DATA);

	GUEST_AND_READER();
	HCALL(H_ENTER, H_EXACT, 2, e.v, e.r);
	TOLD_OF(2);
	/* They return what was there */
	HCALL_RETURNS(e.r, H_CLEAR_REF, 0, 2);
	TOLD_OF(2);
	ENTRY_IS(2, e.v, e.r & ~HPTE_R_R);
	HCALL_RETURNS(e.r & ~HPTE_R_R, H_CLEAR_MOD, 0, 2);
	TOLD_OF(2);
	ENTRY_IS(2, e.v, e.r & ~RC);
	HCALL_RETURNS(e.r & ~RC, H_CLEAR_REF, 0, 2);
	HCALL_RETURNS(e.r & ~RC, H_CLEAR_MOD, 0, 2);
	HCALL_IS(H_NOT_FOUND, H_CLEAR_REF, 0, 3, 0, 0);
	HCALL_IS(H_NOT_FOUND, H_CLEAR_MOD, 0, 3, 0, 0);
	HCALL_IS(H_PARAMETER, H_CLEAR_REF, 0, self->vm.npte, 0, 0);
	HCALL_IS(H_PARAMETER, H_CLEAR_MOD, 0, self->vm.npte, 0, 0);
	TOLD_OF_NOTHING();
}

/*
 * Loads and stores
 */

/* It has an interrupt instead; then let it go on */
#define GUEST_FAULTS(_command, _addr) do {				\
	uint64_t _dar = (_addr);					\
									\
	HCALL_IS(GUEST_NO_DATA, _command, _dar, 0, 0, 0);		\
	ASSERT_EQ(_dar, guest_get_reg(&self->vm, KVM_REG_PPC_DAR));	\
	ASSERT_EQ(0, guest_reset(&self->vm, true));			\
	ASSERT_EQ(0, guest_run(&self->vm));				\
} while (0)

/* One segment of each kind, beside the one that the guest has */
static const struct segment segments[] = {
	{ .ea = 0x10000000000, .vsid = 0x123456789, .page_shift = 12 },
	{ .ea = 0x20000000000, .vsid = 0x54321, .tb = true, .page_shift = 12 },
	{ .ea = 0x30000000000, .vsid = 0x98765432a, .page_shift = 16 },
	{ .ea = 0x40000000000, .vsid = 0x1abcdef, .tb = true, .page_shift = 16 },
	{ .ea = 0x50000000000, .vsid = 0x555555555, .page_shift = 24 },
	{ .ea = 0x60000000000, .vsid = 0x1fedcba, .tb = true, .page_shift = 24 },
};

#define SEGMENTS() do {							\
	unsigned int _i;						\
									\
	for (_i = 0; _i < ARRAY_SIZE(segments); _i++)			\
		ASSERT_EQ(0, guest_set_segment(&self->vm, _i + 1, &segments[_i])); \
} while (0)

/* A page that is not at the beginning of anything */
#define OFFSET	0xba50000ULL

TEST_F(htab, loads_and_stores_set_r_and_c)
{
	uint64_t *data;
	unsigned int i;

	GUEST_AND_READER();
	SEGMENTS();
	data = guest_mem(&self->vm, GUEST_DATA + 8);
	/* Pages of each kind, entered by either hash */
	for (i = 0; i < 2 * ARRAY_SIZE(segments); i++) {
		const struct segment *seg = &segments[i / 2];
		struct hpte e = segment_hpte(seg, OFFSET, GUEST_DATA);
		uint64_t ea = segment_ea(seg, OFFSET, GUEST_DATA + 8);
		unsigned long index = 8 * segment_group(seg, OFFSET, self->vm.npte, i % 2) + i % 7;

		TH_LOG("segment of %s, page of 2^%u, %s hash", seg->tb ? "1T" : "256M",
		       seg->page_shift, i % 2 ? "secondary" : "primary");
		if (i % 2)
			e.v |= HPTE_V_SECONDARY;
		GUEST_FAULTS(GUEST_LOAD, ea);
		HCALL(H_ENTER, H_EXACT, index, e.v, e.r);
		TOLD_OF(index);
		ENTRY_IS(index, e.v, e.r);

		/* First read, then written */
		*data = i;
		GUEST_LOADS(ea, i);
		TOLD_OF(index);
		ENTRY_IS(index, e.v, e.r | HPTE_R_R);
		GUEST_LOADS(ea, i);
		TOLD_OF_NOTHING();
		GUEST_STORES(ea, i + 10);
		TOLD_OF(index);
		ENTRY_IS(index, e.v, e.r | RC);
		GUEST_STORES(ea, i + 20);
		GUEST_LOADS(ea, i + 20);
		TOLD_OF_NOTHING();
		ASSERT_EQ(i + 20, *data);

		/* Cleared, they can be set again, each on its own */
		HCALL_RETURNS(e.r | RC, H_CLEAR_MOD, 0, index);
		TOLD_OF(index);
		GUEST_LOADS(ea, i + 20);
		TOLD_OF_NOTHING();
		GUEST_STORES(ea, i + 30);
		TOLD_OF(index);
		ENTRY_IS(index, e.v, e.r | RC);
		HCALL_RETURNS(e.r | RC, H_CLEAR_REF, 0, index);
		TOLD_OF(index);
		GUEST_LOADS(ea, i + 30);
		TOLD_OF(index);
		ENTRY_IS(index, e.v, e.r | RC);

		/* Written without having been read */
		HCALL(H_CLEAR_MOD, 0, index, 0, 0);
		HCALL(H_CLEAR_REF, 0, index, 0, 0);
		TOLD_OF(index);
		ENTRY_IS(index, e.v, e.r);
		GUEST_STORES(ea, i + 40);
		TOLD_OF(index);
		ENTRY_IS(index, e.v, e.r | RC);

		ASSERT_EQ(e.r | RC, HCALL_RETURNS(e.v, H_REMOVE, 0, index));
		TOLD_OF(index);
		GUEST_FAULTS(GUEST_LOAD, ea);
		GUEST_FAULTS(GUEST_STORE, ea);
		TOLD_OF_NOTHING();
	}
}

TEST_F(htab, protection_holds)
{
	const struct segment *seg = &segments[0];
	struct hpte e = segment_hpte(seg, OFFSET, GUEST_DATA);
	uint64_t ea = segment_ea(seg, OFFSET, GUEST_DATA);
	unsigned long index;

	GUEST_AND_READER();
	SEGMENTS();
	index = 8 * segment_group(seg, OFFSET, self->vm.npte, false);
	HCALL(H_ENTER, H_EXACT, index, e.v, e.r);
	GUEST_STORES(ea, 1);
	/* What has been stored to is C, whether or not it can be stored to now */
	HCALL(H_PROTECT, 3, index, 0, 0);
	TOLD_OF(index);
	ENTRY_IS(index, e.v, e.r | RC | 3);
	GUEST_FAULTS(GUEST_STORE, ea);
	GUEST_LOADS(ea, 1);
	HCALL(H_CLEAR_MOD, 0, index, 0, 0);
	TOLD_OF(index);
	GUEST_FAULTS(GUEST_STORE, ea);
	GUEST_LOADS(ea, 1);
	TOLD_OF_NOTHING();
	HCALL(H_PROTECT, 0, index, 0, 0);
	TOLD_OF(index);
	GUEST_STORES(ea, 2);
	TOLD_OF(index);
	ENTRY_IS(index, e.v, e.r | RC);
	/* In bulk it is gone as well */
	HCALL_RETURNS(BULK_DONE | BULK_R | BULK_C | index, H_BULK_REMOVE, BULK_REQUEST | index, 0,
		      BULK_END);
	GUEST_FAULTS(GUEST_LOAD, ea);
}

/*
 * Writing while vCPUs run
 */

/* Where a vCPU that watches an address reports what is there, and how often it has looked */
#define WATCH_VALUE(_k)	(GUEST_CONTROL + 0x1000 * ((_k) + 1))
#define WATCH_COUNT(_k)	(WATCH_VALUE(_k) + 8)

/* Of two pages that take turns at GUEST_DATA, each has its number in it */
static struct hpte watched_page(struct htab_vm *vm, unsigned int i)
{
	struct hpte e = vrma_hpte(GUEST_DATA);

	e.r += 0x40000 * i;
	*(uint64_t *)guest_mem(vm, e.r & HPTE_R_RPN) = i;
	return e;
}

/* Map one of them, with what is before it; the vCPU sees it from now on */
#define WATCHED_PAGE_IS(_i, _index, _before, _k) do {			\
	unsigned int _nr = (_i), _at = (_index), _first = _at - (_before), _vcpu = (_k); \
	struct hpte _page = watched_page(&self->vm, _nr), _e;		\
	uint64_t _count;						\
									\
	stream_header(&self->s, _first, _at - _first + 1, 0);		\
	for (; _first < _at; _first++) {				\
		_e = self->got.hpte[_first];				\
		if (!_e.v)						\
			_e = hpte_of(_first, 0);			\
		stream_entry(&self->s, _e.v, _e.r);			\
	}								\
	stream_entry(&self->s, _page.v, _page.r);			\
	ASSERT_EQ(self->s.len, xwrite(self->writer, self->s.buf, self->s.len)); \
	stream_reset(&self->s);						\
	/* One look may have been under way, the next has begun after */ \
	_count = GUEST_SEES(WATCH_COUNT(_vcpu));			\
	SOON(GUEST_SEES(WATCH_COUNT(_vcpu)) >= _count + 2);		\
	ASSERT_EQ(_nr, GUEST_SEES(WATCH_VALUE(_vcpu)));			\
} while (0)

TEST_F(htab, write_takes_effect_at_once)
{
	enum { NR = 2, ROUNDS = 200 };
	struct htab_vm vm[NR];
	struct guest_thread t[NR] = {};
	unsigned int i, k;
	int index;

	GUEST_AND_READER();
	index = model_vrma(&self->got, GUEST_DATA);
	ASSERT_LE(100, index);
	for (k = 0; k < NR; k++) {
		vm[k] = self->vm;
		if (k) {
			ASSERT_EQ(0, guest_add_vcpu(&vm[k], k));
			ASSERT_EQ(0, guest_run(&vm[k]));
		}
		t[k].vm = &vm[k];
		t[k].command = GUEST_WATCH;
		t[k].args[0] = GUEST_DATA;
		t[k].args[2] = WATCH_VALUE(k);
		ASSERT_EQ(0, guest_start(&t[k]));
		SOON(GUEST_SEES(WATCH_COUNT(k)));
	}
	/* By itself, and behind so many that their shadow HPTEs are flushed all at once */
	for (i = 0; i < ROUNDS; i++)
		WATCHED_PAGE_IS(i / 2 % 2, index, i % 8 < 4 ? 0 : 100, i % 2);
	/* and when it is no longer there they have an interrupt */
	stream_header(&self->s, index, 0, 1);
	ASSERT_EQ(self->s.len, xwrite(self->writer, self->s.buf, self->s.len));
	for (k = 0; k < NR; k++) {
		ASSERT_EQ(0, guest_join(&t[k], SOON_S * 1000));
		EXPECT_EQ(GUEST_NO_DATA, (long)t[k].args[8]);
	}
}

/*
 * Allocating
 */

TEST_F(htab, allocate_returns_order)
{
	static const unsigned int orders[] = { 18, 19, 18, 24, 24, 20 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		__u32 order = orders[i];

		ASSERT_EQ(0, xioctl(self->vm.fd, KVM_PPC_ALLOCATE_HTAB, &order));
		EXPECT_EQ(orders[i], order);
		self->vm.npte = htab_npte(order);
		model_init(&self->got, self->vm.npte);
		READER();
		DRAIN(&self->got, self->reader);
		EXPECT_EQ(-1, model_told(&self->got, 0, self->vm.npte, 1));
		EXPECT_EQ(self->vm.npte, self->got.invalid);
	}
}

/* 64 TB: the table there is stays, and the guest lives on it */
TEST_F(htab, allocate_too_much)
{
	GUEST_AND_READER();
	GUEST_STORES(GUEST_DATA, 7);
	EXPECT_EQ(-ENOMEM, htab_allocate(&self->vm, 46));
	EXPECT_EQ(-ENOMEM, resize_prepared(&self->vm, 46));
	EXPECT_EQ(-ENXIO, resize_commit(&self->vm, 46));
	/* A failure is told only once */
	EXPECT_LT(0, resize_prepare(&self->vm, 46));
	GUEST_LOADS(GUEST_DATA, 7);
	TOLD_OF_NOTHING();
	TABLE_IS(&self->got);
}

/* Only its code is there again: no translation outlives the table it is from */
TEST_F(htab, allocate_leaves_no_translations)
{
	struct hpte e = segment_hpte(&vrma, GUEST_CODE, GUEST_CODE);
	unsigned int order;

	GUEST();
	for (order = HTAB_ORDER; order < HTAB_ORDER + 2; order++) {
		GUEST_STORES(GUEST_DATA, 7);
		ASSERT_EQ(0, htab_allocate(&self->vm, order));
		self->writer = htab_writer(&self->vm);
		ASSERT_LE(0, self->writer);
		stream_reset(&self->s);
		stream_header(&self->s,
			      8 * segment_group(&vrma, GUEST_CODE, self->vm.npte, false), 1, 0);
		stream_entry(&self->s, e.v, e.r);
		ASSERT_EQ(self->s.len, stream_write(&self->s, self->writer));
		GUEST_FAULTS(GUEST_LOAD, GUEST_DATA);
		ASSERT_EQ(0, guest_map_memory(&self->vm));
		GUEST_LOADS(GUEST_DATA, 7);
	}
}

TEST_F(htab, allocate_while_vcpu_runs)
{
	struct guest_thread t = {
		.vm = &self->vm, .command = GUEST_COUNT, .args = { GUEST_CONTROL },
	};
	uint64_t before;
	int i;

	GUEST_AND_READER();
	ASSERT_EQ(0, guest_start(&t));
	SOON(GUEST_SEES(GUEST_CONTROL));
	for (i = 0; i < 20; i++) {
		EXPECT_EQ(-EBUSY, htab_allocate(&self->vm, HTAB_ORDER + i % 2));
		before = GUEST_SEES(GUEST_CONTROL);
		SOON(GUEST_SEES(GUEST_CONTROL) != before);
	}
	ASSERT_EQ(-EINTR, guest_stop(&t));
	TOLD_OF_NOTHING();
	EXPECT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER + 1));
}

/* A VM begins without a table, even at the place of one that had a table */
TEST_F(htab, table_goes_with_its_vm)
{
	struct htab_vm vm;
	unsigned int i;
	int fd;

	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, htab_vm_open(&vm, variant->type));
		fd = htab_reader(&vm);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, xread(fd, self->buf, HTAB_QEMU_BUF));
		close(fd);
		ASSERT_EQ(0, htab_allocate(&vm, HTAB_ORDER));
		fd = htab_writer(&vm);
		ASSERT_LE(0, fd);
		stream_run(&self->s, 0, 100, 0, 0);
		ASSERT_EQ(self->s.len, stream_write(&self->s, fd));
		stream_reset(&self->s);
		close(fd);
		htab_vm_close(&vm);
	}
}

/*
 * Resizing
 */

#define PREPARE(_order, _flags) ({					\
	struct kvm_ppc_resize_hpt _arg = { .shift = (_order), .flags = (_flags) }; \
									\
	xioctl(self->vm.fd, KVM_PPC_RESIZE_HPT_PREPARE, &_arg);		\
})

#define COMMIT(_order, _flags) ({					\
	struct kvm_ppc_resize_hpt _arg = { .shift = (_order), .flags = (_flags) }; \
									\
	xioctl(self->vm.fd, KVM_PPC_RESIZE_HPT_COMMIT, &_arg);		\
})

TEST_F(htab, resize_refuses)
{
	static const unsigned int orders[] = { 1, 17, 47, 64, 0x80000013 };
	unsigned int i;

	GUEST_AND_READER();
	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		EXPECT_EQ(-EINVAL, PREPARE(orders[i], 0));
		EXPECT_EQ(-EINVAL, COMMIT(orders[i], 0));
	}
	EXPECT_EQ(-EINVAL, PREPARE(HTAB_ORDER + 1, 1));
	EXPECT_EQ(-ENXIO, COMMIT(HTAB_ORDER + 1, 0));
	/* prepared, but for another order, which uses it up */
	EXPECT_EQ(0, resize_prepared(&self->vm, HTAB_ORDER + 1));
	EXPECT_EQ(-EINVAL, COMMIT(HTAB_ORDER + 1, 1));
	EXPECT_EQ(-ENXIO, COMMIT(HTAB_ORDER + 2, 0));
	EXPECT_EQ(-ENXIO, COMMIT(HTAB_ORDER + 1, 0));
	/* prepared, and cancelled */
	EXPECT_EQ(0, resize_prepared(&self->vm, HTAB_ORDER + 1));
	EXPECT_EQ(0, PREPARE(0, 0));
	EXPECT_EQ(-ENXIO, COMMIT(HTAB_ORDER + 1, 0));
	/* and replaced by another */
	EXPECT_EQ(0, resize_prepared(&self->vm, HTAB_ORDER + 1));
	EXPECT_LT(0, PREPARE(HTAB_ORDER + 2, 0));
	EXPECT_EQ(-ENXIO, COMMIT(HTAB_ORDER + 1, 0));
	/* while one that is refused leaves it */
	EXPECT_EQ(0, resize_prepared(&self->vm, HTAB_ORDER + 1));
	EXPECT_EQ(-EINVAL, htab_allocate(&self->vm, 17));
	EXPECT_EQ(0, PREPARE(HTAB_ORDER + 1, 0));
	GUEST_LOADS(GUEST_DATA, 0);
	TOLD_OF_NOTHING();
	TABLE_IS(&self->got);
}

/*
 * 256 MB, which takes a while.  A request that is given up meanwhile is gone at
 * once, and the next one is served when the kernel is done with that table.
 */
TEST_F(htab, resize_given_up_under_way)
{
	enum { ORDER = 28 };
	unsigned int i;

	GUEST();
	for (i = 0; i < 3; i++) {
		/* by a cancellation, */
		ASSERT_LT(0, PREPARE(ORDER, 0));
		usleep(i * 10000);
		ASSERT_EQ(0, PREPARE(0, 0));
		EXPECT_EQ(-ENXIO, COMMIT(ORDER, 0));
		/* by a request for another order, */
		ASSERT_LT(0, PREPARE(ORDER, 0));
		usleep(i * 10000);
		ASSERT_LT(0, PREPARE(HTAB_ORDER + 1, 0));
		EXPECT_EQ(0, htab_resize(&self->vm, HTAB_ORDER + 1));
		EXPECT_EQ(-ENXIO, COMMIT(ORDER, 0));
		/* by a COMMIT of another order, */
		ASSERT_LT(0, PREPARE(ORDER, 0));
		usleep(i * 10000);
		EXPECT_EQ(-ENXIO, COMMIT(ORDER + 1, 0));
		/* for one of the same order, which may begin anew, */
		ASSERT_LT(0, PREPARE(ORDER, 0));
		usleep(i * 10000);
		ASSERT_EQ(0, PREPARE(0, 0));
		ASSERT_LT(0, PREPARE(ORDER, 0));
		EXPECT_EQ(0, htab_resize(&self->vm, ORDER));
		GUEST_STORES(GUEST_DATA, i);
		/* and by a table that is allocated. */
		ASSERT_LT(0, PREPARE(ORDER, 0));
		usleep(i * 10000);
		EXPECT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
		EXPECT_EQ(-ENXIO, COMMIT(ORDER, 0));
		ASSERT_EQ(0, guest_map_memory(&self->vm));
		GUEST_LOADS(GUEST_DATA, i);
	}
}

#define CGROUPS		"/sys/fs/cgroup/"
#define CGROUP		CGROUPS "htab_fd_pr_test/"

/*
 * It is the kernel's thread that allocates a table, but whoever asked for it has
 * it charged to them, also if they have left for elsewhere, and nobody is killed
 * when that is too much.
 */
TEST_F(htab, resize_is_charged_to_caller)
{
	enum { MB = 1 << 20 };
	long before;

	GUEST();
	rmdir(CGROUP);
	if (file_put(CGROUPS "cgroup.subtree_control", "+memory") || mkdir(CGROUP, 0755))
		SKIP(return, "no memory cgroup can be made");
	ASSERT_EQ(0, file_put(CGROUP "memory.max", "128M"));
	ASSERT_EQ(0, file_put(CGROUP "cgroup.procs", "0"));

	before = get_number(CGROUP "memory.current", "");
	EXPECT_EQ(0, resize_prepared(&self->vm, 25));
	EXPECT_LE(before + 32 * MB, get_number(CGROUP "memory.current", ""));
	EXPECT_EQ(0, resize_prepare(&self->vm, 0));
	SOON(get_number(CGROUP "memory.current", "") < before + 16 * MB);

	EXPECT_LT(0, resize_prepare(&self->vm, 28));
	ASSERT_EQ(0, file_put(CGROUPS "cgroup.procs", "0"));
	EXPECT_EQ(-ENOMEM, resize_prepared(&self->vm, 28));
	EXPECT_EQ(0, get_number(CGROUP "memory.events", "oom_kill"));
	EXPECT_NE(0, get_number(CGROUP "memory.events", "max"));
	/* and there it is not too much */
	EXPECT_EQ(0, resize_prepared(&self->vm, 28));
	EXPECT_EQ(0, rmdir(CGROUP));
	GUEST_LOADS(GUEST_DATA, 0);
}

/* Where in its group an entry is, or -1 */
static long find(const struct model *m, const struct segment *seg, uint64_t offset, struct hpte e)
{
	long at = 8 * segment_group(seg, offset, m->npte, e.v & HPTE_V_SECONDARY);
	long end = at + 8;

	for (; at < end; at++)
		if (m->hpte[at].v == e.v && m->hpte[at].r == e.r)
			return at;
	return -1;
}

/* The first address of the guest that no entry maps where it has to be, or -1 */
static long not_mapped(const struct model *m)
{
	uint64_t addr;

	for (addr = 0; addr < HTAB_MEM_SIZE; addr += 0x1000)
		if (find(m, &vrma, addr, vrma_hpte(addr)) < 0)
			return addr;
	return -1;
}

/* What there is after a resize, from a new reader */
#define RESIZED() do {							\
	EXPECT_EQ(-ESTALE, xread(self->reader, self->buf, HTAB_QEMU_BUF)); \
	close(self->reader);						\
	model_free(&self->got);						\
	model_init(&self->got, self->vm.npte);				\
	READER();							\
	DRAIN(&self->got, self->reader);				\
	ASSERT_EQ(-1, model_told(&self->got, 0, self->vm.npte, 1));	\
	ASSERT_EQ(-1, not_mapped(&self->got));				\
} while (0)

/* A bolted entry of each kind; odd ones are entered by the secondary hash */
static struct hpte bolted(unsigned int n)
{
	struct hpte e = segment_hpte(&segments[n / 2], OFFSET, GUEST_DATA + n * 0x10000);

	e.v |= HPTE_V_BOLTED | (n % 2 ? HPTE_V_SECONDARY : 0);
	e.r |= RC;
	return e;
}

TEST_F(htab, resize_moves_bolted_entries)
{
	enum { NR = 2 * ARRAY_SIZE(segments) };
	static const unsigned int orders[] = { 19, 22, 20, 18 };
	const uint64_t other = OFFSET + 0x1000;
	unsigned int i, n;

	GUEST_AND_READER();
	SEGMENTS();
	for (n = 0; n < NR; n++) {
		const struct segment *seg = &segments[n / 2];
		struct hpte e = bolted(n);

		stream_header(&self->s, 8 * segment_group(seg, OFFSET, self->vm.npte, n % 2) + 2,
			      1, 0);
		stream_entry(&self->s, e.v, e.r);
	}
	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		/* Those that are not bolted are gone afterwards, also one that was in use */
		struct hpte e = segment_hpte(&segments[0], other, GUEST_CONTROL);

		stream_run(&self->s, 0, 100, 0, i);
		ASSERT_EQ(self->s.len, stream_write(&self->s, self->writer));
		stream_reset(&self->s);
		HCALL(H_ENTER, 0, 8 * segment_group(&segments[0], other, self->vm.npte, false),
		      e.v, e.r);
		GUEST_LOADS(segments[0].ea + other, 0);
		ASSERT_EQ(0, htab_resize(&self->vm, orders[i]));
		RESIZED();
		GUEST_FAULTS(GUEST_LOAD, segments[0].ea + other);
		EXPECT_EQ(HTAB_MEM_SIZE / 0x1000 + NR, self->got.valid);
		for (n = 0; n < NR; n++)
			ASSERT_LE(0, find(&self->got, &segments[n / 2], OFFSET, bolted(n)));
		/* The guest finds its pages; of two entries for one, the first */
		*(uint64_t *)guest_mem(&self->vm, GUEST_DATA) = i;
		GUEST_LOADS(GUEST_DATA, i);
		for (n = 0; n < NR; n += 2) {
			uint64_t addr = GUEST_DATA + n * 0x10000;

			*(uint64_t *)guest_mem(&self->vm, addr) = i + n;
			GUEST_LOADS(segment_ea(&segments[n / 2], OFFSET, addr), i + n);
		}
		TOLD_OF_NOTHING();
		close(self->writer);
		self->writer = htab_writer(&self->vm);
		ASSERT_LE(0, self->writer);
	}
}

/* More bolted entries than the smaller table has places */
TEST_F(htab, resize_without_room)
{
	unsigned long i;

	TABLE(HTAB_ORDER + 1);
	for (i = 0; i < self->vm.npte; i++) {
		/* Each page in a segment of its own, at the offset that its group wants */
		struct segment s = { .vsid = 0x100000 + i, .page_shift = 12 };
		uint64_t offset = ((s.vsid ^ i / 8) & (self->vm.npte / 8 - 1)) << 12;
		struct hpte e = segment_hpte(&s, offset, i << 12);

		stream_header(&self->s, i, 1, 0);
		stream_entry(&self->s, e.v | HPTE_V_BOLTED, e.r);
	}
	ASSERT_EQ(self->s.len, xwrite(self->writer, self->s.buf, self->s.len));
	ASSERT_EQ(0, model_expect(&self->want, &self->s));
	READER();
	DRAIN_AND_COMPARE();
	EXPECT_EQ(-ENOSPC, htab_resize(&self->vm, HTAB_ORDER));
	model_forget(&self->got);
	DRAIN_AND_COMPARE();
	EXPECT_EQ(0, self->got.valid + self->got.invalid);
	TABLE_IS(&self->want);
	/* what there is no room for is not kept in mind */
	EXPECT_EQ(-ENXIO, COMMIT(HTAB_ORDER, 0));
	EXPECT_EQ(0, htab_resize(&self->vm, HTAB_ORDER + 2));
}

TEST_F(htab, resize_while_vcpu_runs)
{
	struct guest_thread t = {
		.vm = &self->vm, .command = GUEST_COUNT, .args = { GUEST_CONTROL },
	};
	struct htab_vm vm;
	uint64_t before;
	int i;

	GUEST_AND_READER();
	/* the thread has the vCPU of a copy, since the order is going to change */
	vm = self->vm;
	t.vm = &vm;
	ASSERT_EQ(0, guest_start(&t));
	SOON(GUEST_SEES(GUEST_CONTROL));
	for (i = 1; i <= 20; i++) {
		ASSERT_EQ(0, htab_resize(&self->vm, HTAB_ORDER + i % 3));
		RESIZED();
		before = GUEST_SEES(GUEST_CONTROL);
		SOON(GUEST_SEES(GUEST_CONTROL) != before);
	}
	ASSERT_EQ(-EINTR, guest_stop(&t));
	TOLD_OF_NOTHING();
}

struct reading {
	struct htab_vm *vm;
	bool stop;
	int error;
	unsigned long count;
};

static void *read_thread(void *arg)
{
	struct reading *reading = arg;
	int fd = htab_reader(reading->vm);
	char buf[4096];

	while (!__atomic_load_n(&reading->stop, __ATOMIC_RELAXED)) {
		ssize_t n = xread(fd, buf, sizeof(buf));

		if (n == -ESTALE) {
			close(fd);
			fd = htab_reader(reading->vm);
		} else if (n < 0) {
			reading->error = n;
			break;
		}
		reading->count++;
	}
	close(fd);
	return NULL;
}

/*
 * One vCPU makes hypercalls, another watches a page, a reader reads, entries
 * are written and the table is resized, all at the same time.
 */
TEST_F(htab, everything_at_once)
{
	struct hpte e = mapping(0, GUEST_CODE);
	struct htab_vm vm[2];
	struct guest_thread churn = {
		.vm = &vm[0], .command = GUEST_CHURN,
		.args = { 0, 300, GUEST_CONTROL, e.v, e.r, 0, GUEST_DATA + 0x1000 },
	};
	struct guest_thread watch = {
		.vm = &vm[1], .command = GUEST_WATCH, .args = { GUEST_DATA, 0, WATCH_VALUE(0) },
	};
	struct reading reading = { .vm = &self->vm };
	pthread_t reader;
	uint64_t begin;
	unsigned int i, k;
	int index = -1;

	GUEST_AND_READER();
	churn.args[5] = model_vrma(&self->got, GUEST_DATA + 0x1000);
	vm[0] = self->vm;
	vm[1] = self->vm;
	ASSERT_EQ(0, guest_add_vcpu(&vm[1], 1));
	ASSERT_EQ(0, guest_run(&vm[1]));
	ASSERT_EQ(0, guest_start(&churn));
	ASSERT_EQ(0, guest_start(&watch));
	ASSERT_EQ(0, pthread_create(&reader, NULL, read_thread, &reading));
	SOON(GUEST_SEES(WATCH_COUNT(0)));
	begin = now_ms();
	for (i = 0; now_ms() - begin < 3000; i++) {
		if (i % 10 == 0) {
			ASSERT_EQ(0, htab_resize(&self->vm, HTAB_ORDER + i / 10 % 3));
			close(self->writer);
			self->writer = htab_writer(&self->vm);
			ASSERT_LE(0, self->writer);
			close(self->reader);
			model_free(&self->got);
			model_init(&self->got, self->vm.npte);
			READER();
			DRAIN(&self->got, self->reader);
			for (k = 0, index = -1; k < 2 && index < 0; k++)
				index = find(&self->got, &vrma, GUEST_DATA,
					     watched_page(&self->vm, k));
			ASSERT_LE(0, index);
		}
		WATCHED_PAGE_IS(i % 2, index, 0, 0);
	}
	TH_LOG("%u entries written, %lu reads, %lu rounds of hypercalls", i, reading.count,
	       (unsigned long)GUEST_SEES(GUEST_CONTROL + 8));
	__atomic_store_n(&reading.stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(reader, NULL));
	EXPECT_EQ(0, reading.error);
	EXPECT_NE(0, reading.count);
	*(uint64_t *)guest_mem(&self->vm, GUEST_CONTROL) = 1;
	ASSERT_EQ(0, guest_join(&churn, SOON_S * 1000));
	EXPECT_EQ(0, churn.args[8]);
	ASSERT_EQ(-EINTR, guest_stop(&watch));
	/* The reader from before the last few changes knows them all */
	DRAIN(&self->got, self->reader);
	TABLE_IS(&self->got);
}

/*
 * Tables in the memory of userspace
 */

/* One aligned to its size, none of whose entries is valid, and not all zeroes */
static __be64 *user_table(unsigned int order)
{
	size_t size = 1UL << order;
	char *p = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	p += -(uintptr_t)p & (size - 1);
	memset(p, 0x5a, size);
	return (__be64 *)p;
}

static bool user_table_is_untouched(const __be64 *table, unsigned int order)
{
	unsigned long i;

	for (i = 0; i < (1UL << order) / sizeof(*table); i++)
		if (table[i] != 0x5a5a5a5a5a5a5a5aULL)
			return false;
	return true;
}

static uint64_t get_sdr1(struct htab_vm *vm)
{
	struct kvm_sregs sregs;

	return xioctl(vm->vcpu, KVM_GET_SREGS, &sregs) ? ~0ULL : sregs.u.s.sdr1;
}

static int set_sdr1(struct htab_vm *vm, uint64_t sdr1)
{
	struct kvm_sregs sregs;
	int ret = xioctl(vm->vcpu, KVM_GET_SREGS, &sregs);

	sregs.u.s.sdr1 = sdr1;
	return ret ?: xioctl(vm->vcpu, KVM_SET_SREGS, &sregs);
}

/* With a table in the kernel, SDR1 is a number that is kept */
TEST_F(htab, sdr1_beside_a_kernel_table)
{
	struct hpte e = mapping(1, GUEST_DATA);
	uint64_t sdr1;
	__be64 *table;

	GUEST_AND_READER();
	table = user_table(HTAB_ORDER);
	ASSERT_NE(NULL, table);
	sdr1 = (uintptr_t)table | (HTAB_ORDER - 18);
	ASSERT_EQ(0, set_sdr1(&self->vm, sdr1));
	EXPECT_EQ(sdr1, get_sdr1(&self->vm));

	GUEST_STORES(GUEST_DATA, 5);
	GUEST_LOADS(GUEST_DATA, 5);
	HCALL(H_ENTER, H_EXACT, 2, e.v, e.r);
	TOLD_OF(2);
	HCALL(H_PROTECT, 3, 2, 0, 0);
	TOLD_OF(2);
	HCALL(H_REMOVE, 0, 2, 0, 0);
	TOLD_OF(2);
	EXPECT_TRUE(user_table_is_untouched(table, HTAB_ORDER));
	EXPECT_EQ(sdr1, get_sdr1(&self->vm));
}

/* A guest in real mode whose table is in the memory of userspace */
#define USER_TABLE_GUEST() ({						\
	__be64 *_table = user_table(HTAB_ORDER);			\
									\
	ASSERT_NE(NULL, _table);					\
	ASSERT_EQ(0, guest_create(&self->vm));				\
	ASSERT_EQ(0, set_sdr1(&self->vm, (uintptr_t)_table | (HTAB_ORDER - 18))); \
	ASSERT_EQ(0, guest_run(&self->vm));				\
	_table;								\
})

/* What is in the first place of the group to which a page of the guest belongs */
#define USER_INDEX(_addr) \
	(8 * segment_group(&vrma, _addr, htab_npte(HTAB_ORDER), false))

#define USER_ENTRY_IS(_addr, _v, _r) do {				\
	__be64 *_e = &table[2 * USER_INDEX(_addr)];			\
									\
	ASSERT_EQ(_v, be64toh(_e[0]));					\
	ASSERT_EQ(_r, be64toh(_e[1]));					\
} while (0)

TEST_F(htab, user_table_is_as_before)
{
	static const uint64_t pages[] = { GUEST_CODE, GUEST_DATA, GUEST_CONTROL };
	__be64 *table = USER_TABLE_GUEST();
	struct hpte e;
	unsigned int i;

	/* It maps itself by hypercalls, and turns translation on */
	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		e = segment_hpte(&vrma, pages[i], pages[i]);
		HCALL_RETURNS(USER_INDEX(pages[i]), H_ENTER, 0, USER_INDEX(pages[i]), e.v, e.r);
		USER_ENTRY_IS(pages[i], e.v, e.r);
	}
	ASSERT_EQ(0, guest_reset(&self->vm, true));
	/* twice, for kernels that do not notice at the first time */
	ASSERT_EQ(0, guest_set_segment(&self->vm, 0, &vrma));
	ASSERT_EQ(0, guest_run(&self->vm));
	e = segment_hpte(&vrma, GUEST_DATA, GUEST_DATA);
	GUEST_LOADS(GUEST_DATA, 0);
	USER_ENTRY_IS(GUEST_DATA, e.v, e.r | HPTE_R_R);
	e = segment_hpte(&vrma, GUEST_CONTROL, GUEST_CONTROL);
	GUEST_STORES(GUEST_CONTROL, 5);
	USER_ENTRY_IS(GUEST_CONTROL, e.v, e.r | RC);
	HCALL(H_PROTECT, 3, USER_INDEX(GUEST_CONTROL), 0, 0);
	USER_ENTRY_IS(GUEST_CONTROL, e.v, e.r | RC | 3);
	HCALL_IS(GUEST_NO_DATA, GUEST_STORE, GUEST_CONTROL, 0, 0, 0);
	ASSERT_EQ(e.r | RC | 3, HCALL_RETURNS(e.v, H_REMOVE, 0, USER_INDEX(GUEST_CONTROL)));
	EXPECT_EQ(0, be64toh(table[2 * USER_INDEX(GUEST_CONTROL)]) & HPTE_V_VALID);
}

/* A hypercall that is left to userspace, which fails it */
#define HCALL_IS_LEFT(_nr) do {						\
	uint64_t _call = (_nr), _args[9] = { 0, 2 };			\
									\
	ASSERT_EQ(-EPROTO, guest_do(&self->vm, _call, _args));		\
	ASSERT_EQ(KVM_EXIT_PAPR_HCALL, self->vm.run->exit_reason);	\
	ASSERT_EQ(_call, self->vm.run->papr_hcall.nr);			\
	ASSERT_EQ(2, self->vm.run->papr_hcall.args[1]);			\
	self->vm.run->papr_hcall.ret = H_PARAMETER;			\
	ASSERT_EQ(0, guest_run(&self->vm));				\
	ASSERT_EQ(H_PARAMETER, (long)self->vm.run->papr_hcall.args[8]);	\
} while (0)

/* These were for userspace to do while it had all tables */
TEST_F(htab, user_table_leaves_hypercalls)
{
	USER_TABLE_GUEST();
	ASSERT_EQ(0, guest_enable_hcall(&self->vm, H_CLEAR_REF));
	ASSERT_EQ(0, guest_enable_hcall(&self->vm, H_CLEAR_MOD));
	HCALL_IS_LEFT(H_READ);
	HCALL_IS_LEFT(H_CLEAR_REF);
	HCALL_IS_LEFT(H_CLEAR_MOD);
}

TEST_F(htab, user_table_is_not_in_the_file)
{
	struct hpte e = mapping(1, GUEST_DATA);

	USER_TABLE_GUEST();
	HCALL(H_ENTER, H_EXACT, 2, e.v, e.r);
	READER();
	EXPECT_EQ(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	EXPECT_EQ(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	self->writer = htab_writer(&self->vm);
	ASSERT_LE(0, self->writer);
	stream_run(&self->s, 0, 1, 0, 0);
	EXPECT_EQ(-EINVAL, xwrite(self->writer, self->s.buf, self->s.len));
	EXPECT_EQ(-EINVAL, PREPARE(HTAB_ORDER, 0));
}

TEST_F(htab, kernel_table_replaces_user_table)
{
	struct hpte e = mapping(1, GUEST_DATA);
	__be64 *table = USER_TABLE_GUEST();
	uint64_t sdr1 = get_sdr1(&self->vm);

	HCALL(H_ENTER, H_EXACT, 2, e.v, e.r);
	EXPECT_FALSE(user_table_is_untouched(table, HTAB_ORDER));
	memset(table, 0x5a, 1UL << HTAB_ORDER);

	TABLE(HTAB_ORDER);
	READER();
	DRAIN(&self->got, self->reader);
	EXPECT_EQ(0, self->got.valid);
	HCALL(H_ENTER, H_EXACT, 2, e.v, e.r);
	TOLD_OF(2);
	ASSERT_EQ(0, guest_map_memory(&self->vm));
	ASSERT_EQ(0, guest_reset(&self->vm, true));
	ASSERT_EQ(0, guest_run(&self->vm));
	GUEST_STORES(GUEST_DATA, 5);
	EXPECT_TRUE(user_table_is_untouched(table, HTAB_ORDER));
	EXPECT_EQ(sdr1, get_sdr1(&self->vm));
}

/* What a guest maps that userspace does not know of is lost with a migration */
TEST_F(htab, no_magic_page_with_kernel_table)
{
	uint64_t args[9] = { KVM_HCALL_TOKEN(KVM_HC_FEATURES) };

	GUEST();
	ASSERT_EQ(0, guest_do(&self->vm, GUEST_PV, args));
	EXPECT_EQ(EV_SUCCESS, args[8]);
	EXPECT_EQ(0, args[0] & 1 << KVM_FEATURE_MAGIC_PAGE);
	HCALL_IS(EV_UNIMPLEMENTED, GUEST_PV, KVM_HCALL_TOKEN(KVM_HC_PPC_MAP_MAGIC_PAGE),
		 -0x1000, -0x1000, 0);
}

TEST_F(htab, magic_page_with_user_table)
{
	uint64_t args[9] = { KVM_HCALL_TOKEN(KVM_HC_FEATURES) };

	USER_TABLE_GUEST();
	ASSERT_EQ(0, guest_do(&self->vm, GUEST_PV, args));
	EXPECT_EQ(EV_SUCCESS, args[8]);
	EXPECT_EQ(1 << KVM_FEATURE_MAGIC_PAGE, args[0]);
	HCALL_IS(EV_SUCCESS, GUEST_PV, KVM_HCALL_TOKEN(KVM_HC_PPC_MAP_MAGIC_PAGE),
		 -0x1000, -0x1000, 0);
}

/* One that it has is taken from it by a table in the kernel: the memory is there again */
TEST_F(htab, magic_page_goes_with_user_table)
{
	uint64_t args[9] = { KVM_HCALL_TOKEN(KVM_HC_FEATURES) };
	uint64_t addr = GUEST_DATA + 0xff8, *data;

	USER_TABLE_GUEST();
	data = guest_mem(&self->vm, addr);
	HCALL_IS(EV_SUCCESS, GUEST_PV, KVM_HCALL_TOKEN(KVM_HC_PPC_MAP_MAGIC_PAGE),
		 GUEST_DATA, GUEST_DATA, 0);
	GUEST_STORES(addr, 5);
	EXPECT_NE(5, *data);

	TABLE(HTAB_ORDER);
	ASSERT_EQ(0, guest_map_memory(&self->vm));
	ASSERT_EQ(0, guest_reset(&self->vm, true));
	ASSERT_EQ(0, guest_run(&self->vm));
	GUEST_STORES(addr, 6);
	EXPECT_EQ(6, *data);
	ASSERT_EQ(0, guest_do(&self->vm, GUEST_PV, args));
	EXPECT_EQ(EV_SUCCESS, args[8]);
	EXPECT_EQ(0, args[0] & 1 << KVM_FEATURE_MAGIC_PAGE);
	HCALL_IS(EV_UNIMPLEMENTED, GUEST_PV, KVM_HCALL_TOKEN(KVM_HC_PPC_MAP_MAGIC_PAGE),
		 GUEST_DATA, GUEST_DATA, 0);
	GUEST_STORES(addr, 7);
	EXPECT_EQ(7, *data);
}

/* Asked of a VM, this is about that VM; who asks before it makes a table may make one */
TEST_F(htab, resize_is_offered_where_it_works)
{
	EXPECT_EQ(1, ioctl(self->vm.kvm, KVM_CHECK_EXTENSION, KVM_CAP_SPAPR_RESIZE_HPT));
	EXPECT_EQ(1, ioctl(self->vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_SPAPR_RESIZE_HPT));
	USER_TABLE_GUEST();
	EXPECT_EQ(-EINVAL, PREPARE(HTAB_ORDER, 0));
	EXPECT_EQ(0, ioctl(self->vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_SPAPR_RESIZE_HPT));
	EXPECT_EQ(1, ioctl(self->vm.kvm, KVM_CHECK_EXTENSION, KVM_CAP_SPAPR_RESIZE_HPT));

	TABLE(HTAB_ORDER);
	EXPECT_EQ(1, ioctl(self->vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_SPAPR_RESIZE_HPT));
	EXPECT_LT(0, PREPARE(HTAB_ORDER, 0));
	EXPECT_EQ(0, resize_prepared(&self->vm, HTAB_ORDER));
}

/* Mainline puts R and C where nobody looks */
TEST_F(htab, bulk_remove_returns_r_and_c)
{
	uint64_t args[9] = {};
	unsigned int i;

	USER_TABLE_GUEST();
	for (i = 0; i < 4; i++) {
		struct hpte e = mapping(i, GUEST_DATA);

		HCALL(H_ENTER, H_EXACT, 100 + i, e.v, (e.r & ~RC) | i << 7);
		args[2 * i] = BULK_REQUEST | (100 + i);
	}
	ASSERT_EQ(0, guest_do(&self->vm, H_BULK_REMOVE, args));
	ASSERT_EQ(0, args[8]);
	for (i = 0; i < 4; i++)
		EXPECT_EQ(BULK_DONE | (i & 1 ? BULK_C : 0) | (i & 2 ? BULK_R : 0) | (100 + i),
			  args[2 * i]);
}

/* It may take a wrong turn here and never come back by itself */
#define GUEST_LOADS_SOON(_addr, _value) do {				\
	struct guest_thread _t = { .vm = &self->vm, .command = GUEST_LOAD, .args = { _addr } }; \
									\
	ASSERT_EQ(0, guest_start(&_t));					\
	if (guest_join(&_t, 3000) == -ETIMEDOUT)			\
		ASSERT_EQ(0, guest_stop(&_t));				\
	ASSERT_EQ(0, _t.ret);						\
	ASSERT_EQ(_value, _t.args[0]);					\
} while (0)

/* Mainline goes on with the segments of before */
TEST_F(htab, set_regs_changes_translation)
{
	__be64 *table = USER_TABLE_GUEST();
	uint64_t addr, i;

	for (i = 0; i < 2; i++)
		*(uint64_t *)guest_mem(&self->vm, GUEST_DATA + i * 0x40000) = i;
	for (addr = 0; addr < HTAB_MEM_SIZE; addr += 0x1000) {
		struct hpte e = vrma_hpte(addr);

		if (addr == GUEST_DATA)
			e.r += 0x40000;
		table[2 * USER_INDEX(addr)] = htobe64(e.v);
		table[2 * USER_INDEX(addr) + 1] = htobe64(e.r);
	}
	/* In real mode, with translation, in real mode, ... */
	for (i = 0; i < 4; i++) {
		GUEST_LOADS_SOON(GUEST_DATA, i % 2);
		ASSERT_EQ(0, guest_reset(&self->vm, !(i % 2)));
		/* It begins anew, and what it is told to load is lost */
		GUEST_LOADS_SOON(0, 0);
	}
}

struct unmapping {
	char *page;
	bool stop;
	int error;
};

static void *unmap_thread(void *arg)
{
	struct unmapping *u = arg;

	while (!u->error && !__atomic_load_n(&u->stop, __ATOMIC_RELAXED))
		u->error = mprotect(u->page, 0x10000, PROT_READ) ?:
			   mprotect(u->page, 0x10000, PROT_READ | PROT_WRITE);
	return NULL;
}

/*
 * PR looks at the instruction that brought the guest out. Mainline takes one
 * that it finds unmapped for an illegal one.
 */
TEST_F(htab, code_unmapped_while_vcpu_runs)
{
	struct unmapping u = {};
	uint64_t begin = now_ms();
	pthread_t thread;

	USER_TABLE_GUEST();
	u.page = guest_mem(&self->vm, GUEST_CODE);
	ASSERT_EQ(0, pthread_create(&thread, NULL, unmap_thread, &u));
	while (now_ms() - begin < 3000)
		HCALL_IS(H_NOT_FOUND, H_REMOVE, 0, 2, 0, 0);
	__atomic_store_n(&u.stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, u.error);
}

TEST_HARNESS_MAIN
