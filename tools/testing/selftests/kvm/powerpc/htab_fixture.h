/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The fixture that the tests of KVM_PPC_GET_HTAB_FD share, and the steps that
 * most of them are made of.
 *
 * Where a stream is checked for something else, the host's bits in it are
 * only noted; lock_bit_not_in_stream is the test that fails for them.
 */
#ifndef SELFTEST_KVM_POWERPC_HTAB_FIXTURE_H
#define SELFTEST_KVM_POWERPC_HTAB_FIXTURE_H

#include "htab.h"

#define BIG_BUF		(4UL << 20)

FIXTURE(htab)
{
	struct htab_vm vm;
	struct stream s;
	struct model want;	/* what the table holds */
	struct model got;	/* what a reader was told */
	char *buf;
	int writer;
	int reader;
};

FIXTURE_VARIANT(htab)
{
	unsigned long type;
};

#ifndef HTAB_PR_ONLY
FIXTURE_VARIANT_ADD(htab, hv)
{
	.type = KVM_VM_PPC_HV,
};
#endif

#ifndef HTAB_HV_ONLY
FIXTURE_VARIANT_ADD(htab, pr)
{
	.type = KVM_VM_PPC_PR,
};
#endif

FIXTURE_SETUP(htab)
{
	int ret = htab_vm_open(&self->vm, variant->type);

	if (ret == -ENOENT)
		SKIP(return, "no /dev/kvm");
	if (ret == -EINVAL)
		SKIP(return, "this host has another flavour of KVM");
	ASSERT_EQ(0, ret);
	self->buf = mmap(NULL, BIG_BUF, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->buf);
	self->writer = -1;
	self->reader = -1;
}

FIXTURE_TEARDOWN(htab)
{
	htab_vm_close(&self->vm);
}

/* A table of this order, its models and a writer */
#define TABLE(_order) do {						\
	ASSERT_LT(0, ioctl(self->vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_PPC_HTAB_FD)); \
	ASSERT_EQ(0, htab_allocate(&self->vm, _order));			\
	model_init(&self->want, self->vm.npte);				\
	model_init(&self->got, self->vm.npte);				\
	self->writer = htab_writer(&self->vm);				\
	ASSERT_LE(0, self->writer);					\
} while (0)

/* Write the stream that was built, and forget it; the model keeps it in mind */
#define WRITE_STREAM() do {						\
	ASSERT_EQ(self->s.len, stream_write(&self->s, self->writer));	\
	ASSERT_EQ(0, model_expect(&self->want, &self->s));		\
	stream_reset(&self->s);						\
} while (0)

/* Entries [index, index + n) valid, in records of the size that QEMU writes */
#define FILL(_index, _n, _gen) do {					\
	unsigned long _i = (_index), _end = _i + (_n), _m;		\
									\
	for (; _i < _end; _i += _m) {					\
		_m = _end - _i < 127 ? _end - _i : 127;			\
		stream_run(&self->s, _i, _m, 0, _gen);			\
		WRITE_STREAM();						\
	}								\
} while (0)

#define READER() do {							\
	self->reader = htab_reader(&self->vm);				\
	ASSERT_LE(0, self->reader);					\
} while (0)

#define DRAIN(_model, _fd) do {						\
	struct model *_told = (_model);					\
	ssize_t _n = model_drain(_told, _fd, self->buf, BIG_BUF);	\
									\
	ASSERT_LE(0, _n) {						\
		TH_LOG("%s", _told->error ? _told->error : strerror(-_n)); \
	}								\
} while (0)

/* Read a pass in full, and be told of all that there is */
#define DRAIN_AND_COMPARE() do {					\
	DRAIN(&self->got, self->reader);				\
	ASSERT_EQ(-1, model_differ(&self->want, &self->got));		\
} while (0)

/* The table as a reader sees it that comes now */
#define TABLE_IS(_model) do {						\
	struct model _m;						\
	int _fd = htab_reader(&self->vm);				\
									\
	ASSERT_LE(0, _fd);						\
	model_init(&_m, self->vm.npte);					\
	DRAIN(&_m, _fd);						\
	ASSERT_EQ(-1, model_differ(_model, &_m));			\
	model_free(&_m);						\
	close(_fd);							\
} while (0)

/* A bit of everything: valid runs of several lengths, holes of several */
#define PATTERN(_gen) do {						\
	unsigned int _pattern = (_gen);					\
	unsigned long _k, _at = 0;					\
									\
	for (_k = 0; _at + 300 < self->vm.npte; _k++) {			\
		stream_run(&self->s, _at, _k % 130, 0, _pattern);	\
		_at += _k % 130 + _k % 7 + _k % 170;			\
		if (_k % 130)						\
			WRITE_STREAM();					\
		else							\
			stream_reset(&self->s);				\
	}								\
	FILL(self->vm.npte - 1, 1, _pattern);				\
} while (0)

/*
 * With a vCPU
 */

/* A table and a guest that waits for commands */
#define GUEST() do {							\
	TABLE(HTAB_ORDER);						\
	ASSERT_EQ(0, guest_create(&self->vm));				\
	ASSERT_EQ(0, guest_run(&self->vm));				\
} while (0)

#define HCALL_IS(_result, _nr, ...) do {				\
	long _ret = guest_hcall(&self->vm, _nr, __VA_ARGS__);		\
									\
	ASSERT_EQ(_result, _ret);					\
} while (0)

#define HCALL(_nr, ...)		HCALL_IS(0, _nr, __VA_ARGS__)

#define GUEST_LOADS(_addr, _value) do {					\
	uint64_t _args[9] = { _addr };					\
									\
	ASSERT_EQ(0, guest_do(&self->vm, GUEST_LOAD, _args));		\
	ASSERT_EQ(0, _args[8]);						\
	ASSERT_EQ(_value, _args[0]);					\
} while (0)

#define GUEST_STORES(_addr, _value) \
	HCALL_IS(0, GUEST_STORE, _addr, _value, 0, 0)

/* Be told of one entry, and no other */
#define TOLD_OF(_index) do {						\
	model_forget(&self->got);					\
	DRAIN(&self->got, self->reader);				\
	ASSERT_EQ(1, self->got.valid + self->got.invalid);		\
	ASSERT_EQ(1, self->got.told[_index]);				\
} while (0)

#define TOLD_OF_NOTHING() do {						\
	model_forget(&self->got);					\
	DRAIN(&self->got, self->reader);				\
	ASSERT_EQ(0, self->got.valid + self->got.invalid);		\
} while (0)

/* An entry of 4K for the memory of the guest, R and C set */
static inline struct hpte mapping(unsigned int n, uint64_t addr)
{
	struct hpte e = hpte_of(n, 0);

	e.r = (e.r & ~HPTE_R_RPN) | addr;
	return e;
}

/* Wait until something comes true, but not for ever */
#define SOON(_condition) do {						\
	uint64_t _begin = now_ms();					\
	bool _true;							\
									\
	while (!(_true = (_condition)) && now_ms() - _begin < SOON_S * 1000)	\
		usleep(1000);						\
	ASSERT_TRUE(_true);						\
} while (0)

/* A doubleword in the memory of the guest, which it may be changing */
#define GUEST_SEES(_addr) \
	__atomic_load_n((uint64_t *)guest_mem(&self->vm, _addr), __ATOMIC_ACQUIRE)

#endif
