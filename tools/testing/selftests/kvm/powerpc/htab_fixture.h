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

#include "kselftest_harness.h"
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

FIXTURE_VARIANT_ADD(htab, hv)
{
	.type = KVM_VM_PPC_HV,
};

FIXTURE_SETUP(htab)
{
	ASSERT_EQ(0, htab_vm_open(&self->vm, variant->type));
	ASSERT_LT(0, ioctl(self->vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_PPC_HTAB_FD));
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

#endif
