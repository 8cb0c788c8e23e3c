// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_PPC_GET_HTAB_FD with a vCPU: changes by hypercalls and by the hardware,
 * writing while one runs, resizing, and a guest restored from a stream.
 */
#include "htab_fixture.h"

TEST_F(htab, memory_mapped_for_real_mode)
{
	unsigned long i, pages = 0;

	if (variant->type == KVM_VM_PPC_PR)
		SKIP(return, "PR's real mode does not use the table");
	TABLE(HTAB_ORDER);
	ASSERT_EQ(0, guest_create(&self->vm));
	READER();
	DRAIN_AND_COMPARE();
	ASSERT_EQ(0, self->got.valid);
	model_forget(&self->got);

	/* The kernel's own entries are changes like any */
	ASSERT_EQ(0, guest_run(&self->vm));
	DRAIN(&self->got, self->reader);
	for (i = 0; i < self->vm.npte; i++)
		if (self->got.hpte[i].v)
			pages++;
	EXPECT_LT(0, pages);
	EXPECT_EQ(pages, self->got.valid);
	EXPECT_LE(0, model_vrma(&self->got, GUEST_CODE));
	EXPECT_LE(0, model_vrma(&self->got, GUEST_DATA));
	TABLE_IS(&self->got);
	TOLD_OF_NOTHING();
}

TEST_F(htab, hypercalls_are_told)
{
	struct hpte e = mapping(0, GUEST_DATA);
	uint64_t args[9] = {};
	unsigned int i;

	GUEST();
	READER();
	DRAIN(&self->got, self->reader);

	HCALL(H_ENTER, H_EXACT, 2, e.v, e.r);
	TOLD_OF(2);
	EXPECT_EQ(e.v, self->got.hpte[2].v);
	EXPECT_EQ(e.r, self->got.hpte[2].r);

	/* Permissions, no execution, key: bits as the architecture has them */
	HCALL(H_PROTECT, 0x3 | HPTE_R_N | 0x600, 2, 0, 0);
	TOLD_OF(2);
	e.r = (e.r & ~(HPTE_R_PP | HPTE_R_KEY)) | 0x3 | HPTE_R_N | 0x600;
	EXPECT_EQ(e.v, self->got.hpte[2].v);
	EXPECT_EQ(e.r, self->got.hpte[2].r);

	HCALL(H_CLEAR_MOD, 0, 2, 0, 0);
	TOLD_OF(2);
	e.r &= ~HPTE_R_C;
	EXPECT_EQ(e.r, self->got.hpte[2].r);

	HCALL(H_CLEAR_REF, 0, 2, 0, 0);
	TOLD_OF(2);
	e.r &= ~HPTE_R_R;
	EXPECT_EQ(e.r, self->got.hpte[2].r);

	/* Reading it changes nothing, nor does a call that fails */
	args[1] = 2;
	ASSERT_EQ(0, guest_do(&self->vm, H_READ, args));
	ASSERT_EQ(0, args[8]);
	EXPECT_EQ(e.v, args[0]);
	EXPECT_EQ(e.r, args[1]);
	HCALL_IS(H_PTEG_FULL, H_ENTER, H_EXACT, 2, e.v, e.r);
	HCALL_IS(H_NOT_FOUND, H_REMOVE, 0, 3, 0, 0);
	HCALL_IS(H_NOT_FOUND, H_PROTECT, 0, 3, 0, 0);
	HCALL_IS(H_PARAMETER, H_PROTECT, 0, self->vm.npte, 0, 0);
	TOLD_OF_NOTHING();

	HCALL(H_REMOVE, 0, 2, 0, 0);
	TOLD_OF(2);
	EXPECT_EQ(1, self->got.invalid);

	/* Several at once, and not in the order in which they are told */
	for (i = 0; i < 4; i++) {
		e = mapping(10 + i, GUEST_DATA + i * 0x1000);
		HCALL(H_ENTER, H_EXACT, 64 * (4 - i), e.v, e.r);
		args[2 * i] = 1ULL << 62 | 64 * (4 - i);
		args[2 * i + 1] = 0;
	}
	model_forget(&self->got);
	DRAIN(&self->got, self->reader);
	EXPECT_EQ(4, self->got.valid);
	model_forget(&self->got);
	ASSERT_EQ(0, guest_do(&self->vm, H_BULK_REMOVE, args));
	ASSERT_EQ(0, args[8]);
	DRAIN(&self->got, self->reader);
	EXPECT_EQ(0, self->got.valid);
	EXPECT_EQ(4, self->got.invalid);
	for (i = 1; i < 5; i++)
		EXPECT_EQ(1, self->got.told[64 * i]);
	TABLE_IS(&self->got);
}

/* The same of entries that map no memory, which never are valid to hardware */
TEST_F(htab, hypercalls_on_absent_entries_are_told)
{
	struct hpte e = hpte_of(5, 0);
	uint64_t args[9] = { 1ULL << 62 | 9, 0, 3ULL << 62 };

	GUEST();
	READER();
	DRAIN(&self->got, self->reader);
	HCALL(H_ENTER, H_EXACT, 9, e.v, e.r);
	TOLD_OF(9);
	EXPECT_EQ(e.v, self->got.hpte[9].v);
	EXPECT_EQ(e.r, self->got.hpte[9].r);
	HCALL(H_PROTECT, 0x3, 9, 0, 0);
	TOLD_OF(9);
	EXPECT_EQ(e.r | 3, self->got.hpte[9].r);
	HCALL(H_CLEAR_MOD, 0, 9, 0, 0);
	TOLD_OF(9);
	EXPECT_EQ((e.r | 3) & ~HPTE_R_C, self->got.hpte[9].r);
	ASSERT_EQ(0, guest_do(&self->vm, H_BULK_REMOVE, args));
	ASSERT_EQ(0, args[8]);
	TOLD_OF(9);
	EXPECT_EQ(1, self->got.invalid);
}

TEST_F(htab, every_reader_is_told_of_hypercalls)
{
	enum { NR = 3 };
	struct hpte e = mapping(0, GUEST_DATA);
	struct model m[NR];
	int fd[NR], step, i;

	GUEST();
	for (i = 0; i < NR; i++) {
		fd[i] = htab_reader(&self->vm);
		ASSERT_LE(0, fd[i]);
		model_init(&m[i], self->vm.npte);
		DRAIN(&m[i], fd[i]);
	}
	for (step = 0; step < 6; step++) {
		switch (step) {
		case 0:
			HCALL(H_ENTER, H_EXACT, 2, e.v, e.r);
			break;
		case 1:
			HCALL(H_PROTECT, 3, 2, 0, 0);
			e.r |= 3;
			break;
		case 2:
			HCALL(H_CLEAR_MOD, 0, 2, 0, 0);
			e.r &= ~HPTE_R_C;
			break;
		case 3:
			HCALL(H_CLEAR_REF, 0, 2, 0, 0);
			e.r &= ~HPTE_R_R;
			break;
		case 4:
			HCALL(H_REMOVE, 0, 2, 0, 0);
			e.v = 0;
			e.r = 0;
			break;
		case 5:
			e = mapping(0, GUEST_DATA + 0x2000);
			HCALL(H_ENTER, H_EXACT, 2, e.v, e.r);
			break;
		}
		for (i = 0; i < NR; i++) {
			/* one of them looks only now and then */
			if (i == 1 && step % 3 != 2)
				continue;
			model_forget(&m[i]);
			DRAIN(&m[i], fd[i]);
			EXPECT_EQ(1, m[i].told[2]);
			EXPECT_EQ(e.v, m[i].hpte[2].v);
			EXPECT_EQ(e.r, m[i].hpte[2].r);
		}
	}
}

/* Map the data of the guest anew, with neither R nor C */
#define CLEAR_RC(_index, _e) do {					\
	uint64_t _at = (_index);					\
	struct hpte _new = (_e);					\
									\
	_new.r &= ~(HPTE_R_R | HPTE_R_C);				\
	HCALL(H_REMOVE, 0, _at, 0, 0);					\
	HCALL(H_ENTER, H_EXACT, _at, _new.v, _new.r);			\
} while (0)

TEST_F(htab, hardware_sets_r_and_c)
{
	struct hpte e;
	int index, i;

	GUEST();
	READER();
	DRAIN(&self->got, self->reader);
	index = model_vrma(&self->got, GUEST_DATA);
	ASSERT_LE(0, index);
	e = self->got.hpte[index];
	CLEAR_RC(index, e);
	TOLD_OF(index);
	ASSERT_EQ(0, self->got.hpte[index].r & (HPTE_R_R | HPTE_R_C));
	TOLD_OF_NOTHING();

	for (i = 0; i < 3; i++) {
		GUEST_LOADS(GUEST_DATA + 8, i);
		TOLD_OF(index);
		EXPECT_EQ(HPTE_R_R, self->got.hpte[index].r & (HPTE_R_R | HPTE_R_C));
		EXPECT_EQ(e.v, self->got.hpte[index].v);
		EXPECT_EQ(e.r & ~HPTE_R_C, self->got.hpte[index].r);
		GUEST_LOADS(GUEST_DATA + 8, i);
		TOLD_OF_NOTHING();

		GUEST_STORES(GUEST_DATA + 8, i + 1);
		TOLD_OF(index);
		EXPECT_EQ(e.v, self->got.hpte[index].v);
		EXPECT_EQ(e.r, self->got.hpte[index].r);
		GUEST_STORES(GUEST_DATA + 8, i + 1);
		TOLD_OF_NOTHING();

		/* Both at once, in a pass that has other things to tell */
		CLEAR_RC(index, e);
		GUEST_STORES(GUEST_DATA + 8, i + 1);
		TOLD_OF(index);
		EXPECT_EQ(e.r, self->got.hpte[index].r);

		/* and cleared, each on its own */
		HCALL(H_CLEAR_MOD, 0, index, 0, 0);
		TOLD_OF(index);
		EXPECT_EQ(e.r & ~HPTE_R_C, self->got.hpte[index].r);
		GUEST_STORES(GUEST_DATA + 8, i + 1);
		TOLD_OF(index);
		EXPECT_EQ(e.r, self->got.hpte[index].r);
		HCALL(H_CLEAR_REF, 0, index, 0, 0);
		TOLD_OF(index);
		EXPECT_EQ(e.r & ~HPTE_R_R, self->got.hpte[index].r);
		GUEST_LOADS(GUEST_DATA + 8, i + 1);
		TOLD_OF(index);
		EXPECT_EQ(e.r, self->got.hpte[index].r);
		CLEAR_RC(index, e);
		TOLD_OF(index);
	}
}

TEST_F(htab, every_reader_is_told_of_r_and_c)
{
	struct model other;
	struct hpte e;
	int index, fd, i;

	GUEST();
	READER();
	DRAIN(&self->got, self->reader);
	fd = htab_reader(&self->vm);
	ASSERT_LE(0, fd);
	model_init(&other, self->vm.npte);
	DRAIN(&other, fd);
	index = model_vrma(&self->got, GUEST_DATA);
	ASSERT_LE(0, index);
	e = self->got.hpte[index];

	for (i = 0; i < 4; i++) {
		CLEAR_RC(index, e);
		DRAIN(&self->got, self->reader);
		DRAIN(&other, fd);
		if (i % 2)
			GUEST_STORES(GUEST_DATA, 1);
		else
			GUEST_LOADS(GUEST_DATA, i / 2);
		DRAIN(&self->got, self->reader);
		DRAIN(&other, fd);
		EXPECT_EQ(i % 2 ? e.r : e.r & ~HPTE_R_C, self->got.hpte[index].r);
		EXPECT_EQ(i % 2 ? e.r : e.r & ~HPTE_R_C, other.hpte[index].r);
		/* and who comes now sees it at once */
		TABLE_IS(&other);
	}
}

/* R and C are not lost when the entry is changed before anybody looks */
TEST_F(htab, r_and_c_then_protect)
{
	struct hpte e;
	int index;

	GUEST();
	READER();
	DRAIN(&self->got, self->reader);
	index = model_vrma(&self->got, GUEST_DATA);
	ASSERT_LE(0, index);
	e = self->got.hpte[index];
	CLEAR_RC(index, e);
	TOLD_OF(index);
	GUEST_STORES(GUEST_DATA, 5);
	HCALL(H_PROTECT, 0x200, index, 0, 0);
	TOLD_OF(index);
	EXPECT_EQ(HPTE_R_R | HPTE_R_C, self->got.hpte[index].r & (HPTE_R_R | HPTE_R_C));
	EXPECT_EQ(0x200, self->got.hpte[index].r & HPTE_R_KEY);
}

/* Nor when nobody looked at all: he who comes after write access is gone sees C */
TEST_F(htab, c_before_write_access_is_taken_away)
{
	struct hpte e;
	int index;

	GUEST();
	READER();
	DRAIN(&self->got, self->reader);
	index = model_vrma(&self->got, GUEST_DATA);
	ASSERT_LE(0, index);
	e = self->got.hpte[index];
	ASSERT_EQ(0, close(self->reader));

	HCALL(H_REMOVE, 0, index, 0, 0);
	/* In the same HPTEG, but where no entry has been followed before */
	do {
		index = index % 8 ? index - 1 : index + 7;
	} while (self->got.hpte[index].v);
	HCALL(H_ENTER, H_EXACT, index, e.v, e.r & ~HPTE_R_C);
	GUEST_STORES(GUEST_DATA, 5);
	HCALL(H_PROTECT, 0x3, index, 0, 0);
	READER();
	DRAIN(&self->want, self->reader);
	EXPECT_EQ(e.r | 0x3, self->want.hpte[index].r);
}

TEST_F(htab, write_while_vcpu_runs)
{
	struct guest_thread t = {
		.vm = &self->vm, .command = GUEST_COUNT, .args = { GUEST_CONTROL },
	};
	uint64_t before;
	int i;

	GUEST();
	DRAIN(&self->want, htab_reader(&self->vm));
	ASSERT_EQ(0, guest_start(&t));
	SOON(GUEST_SEES(GUEST_CONTROL));

	stream_run(&self->s, 0, 2, 1, 0);
	for (i = 0; i < 20; i++) {
		ssize_t n = xwrite(self->writer, self->s.buf, self->s.len);

		/* HV would have to stop the vCPU, PR need not */
		ASSERT_EQ(variant->type == KVM_VM_PPC_HV ? -EBUSY : (ssize_t)self->s.len, n);
	}
	/* It runs on regardless, and the table can be read meanwhile */
	before = GUEST_SEES(GUEST_CONTROL);
	SOON(GUEST_SEES(GUEST_CONTROL) != before);
	if (variant->type != KVM_VM_PPC_HV)
		ASSERT_EQ(0, model_expect(&self->want, &self->s));
	TABLE_IS(&self->want);

	ASSERT_EQ(-EINTR, guest_stop(&t));
	WRITE_STREAM();
	TABLE_IS(&self->want);
}

TEST_F(htab, written_entry_is_the_guests)
{
	struct hpte e;
	int index;

	GUEST();
	DRAIN(&self->got, htab_reader(&self->vm));
	index = model_vrma(&self->got, GUEST_DATA);
	ASSERT_LE(0, index);
	GUEST_STORES(GUEST_DATA, 0x1111);
	GUEST_STORES(GUEST_DATA + 0x40000, 0x2222);
	GUEST_LOADS(GUEST_DATA, 0x1111);

	/* Elsewhere with it; then back */
	e = self->got.hpte[index];
	e.r += 0x40000;
	stream_header(&self->s, index, 1, 0);
	stream_entry(&self->s, e.v, e.r);
	WRITE_STREAM();
	GUEST_LOADS(GUEST_DATA, 0x2222);
	stream_header(&self->s, index, 1, 0);
	stream_entry(&self->s, e.v, e.r - 0x40000);
	WRITE_STREAM();
	GUEST_LOADS(GUEST_DATA, 0x1111);
}

/* When the entry has gone by which a page was written to, the dirty log still tells of it */
TEST_F(htab, dirty_log_of_removed_entry)
{
	uint64_t bitmap[HTAB_MEM_SIZE / 4096 / 64];
	struct kvm_dirty_log log = { .dirty_bitmap = bitmap };
	unsigned long page = GUEST_DATA / getpagesize();
	long index;

	GUEST();
	READER();
	DRAIN(&self->got, self->reader);
	index = model_vrma(&self->got, GUEST_DATA);
	ASSERT_LE(0, index);
	ASSERT_EQ(0, htab_set_slot(&self->vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, self->vm.mem,
				   HTAB_MEM_SIZE));
	ASSERT_EQ(0, xioctl(self->vm.fd, KVM_GET_DIRTY_LOG, &log));
	ASSERT_EQ(0, xioctl(self->vm.fd, KVM_GET_DIRTY_LOG, &log));
	EXPECT_FALSE(test_le_bit((uint8_t *)bitmap, page));

	GUEST_STORES(GUEST_DATA, 1);
	HCALL(H_REMOVE, 0, index, 0, 0);
	ASSERT_EQ(0, xioctl(self->vm.fd, KVM_GET_DIRTY_LOG, &log));
	EXPECT_TRUE(test_le_bit((uint8_t *)bitmap, page));
}

TEST_F(htab, restored_guest_runs)
{
	struct htab_vm to;
	struct hpte e;
	int index, fd;
	ssize_t n;

	GUEST();
	DRAIN(&self->got, htab_reader(&self->vm));
	index = model_vrma(&self->got, GUEST_DATA);
	ASSERT_LE(0, index);
	GUEST_STORES(GUEST_DATA + 0x40000, 0x3333);
	e = self->got.hpte[index];
	e.r += 0x40000;
	stream_header(&self->s, index, 1, 0);
	stream_entry(&self->s, e.v, e.r);
	WRITE_STREAM();

	/* All of it into a VM that has never run ... */
	ASSERT_EQ(0, htab_vm_open(&to, variant->type));
	ASSERT_EQ(0, htab_allocate(&to, HTAB_ORDER));
	ASSERT_EQ(0, htab_add_memory(&to));
	memcpy(to.mem, self->vm.mem, HTAB_MEM_SIZE);
	ASSERT_EQ(0, guest_create(&to));
	READER();
	while ((n = xread(self->reader, self->buf, HTAB_QEMU_BUF)) > 0) {
		stream_reserve(&self->s, n);
		memcpy(self->s.buf + self->s.len, self->buf, n);
		self->s.len += n;
	}
	ASSERT_EQ(0, n);
	fd = htab_writer(&to);
	ASSERT_LE(0, fd);
	ASSERT_EQ(self->s.len, stream_write(&self->s, fd));
	close(fd);

	/* ... which then does, with the mapping that no kernel would make */
	ASSERT_EQ(0, guest_run(&to));
	htab_vm_close(&self->vm);
	self->vm = to;
	GUEST_LOADS(GUEST_DATA, 0x3333);
}

TEST_F(htab, order_changed_by_resize)
{
	int writer;

	GUEST();
	READER();
	DRAIN(&self->got, self->reader);
	writer = self->writer;
	ASSERT_EQ(0, htab_resize(&self->vm, HTAB_ORDER + 1));
	EXPECT_EQ(-ESTALE, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	EXPECT_EQ(-ESTALE, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	stream_run(&self->s, 0, 1, 0, 0);
	EXPECT_EQ(-ESTALE, xwrite(writer, self->s.buf, self->s.len));
	close(self->reader);
	model_free(&self->got);
	model_init(&self->got, self->vm.npte);
	READER();
	DRAIN(&self->got, self->reader);
	EXPECT_EQ(-1, model_told(&self->got, 0, self->vm.npte, 1));
	EXPECT_LE(0, model_vrma(&self->got, GUEST_DATA));
	GUEST_LOADS(GUEST_DATA, 0);
	HCALL(H_REMOVE, 0, model_vrma(&self->got, GUEST_DATA), 0, 0);
	model_forget(&self->got);
	DRAIN(&self->got, self->reader);
	EXPECT_EQ(1, self->got.invalid);
}

/* Another table of the same size, in which only bolted entries are left */
TEST_F(htab, resize_to_same_order)
{
	struct hpte e = mapping(0, GUEST_DATA);

	GUEST();
	HCALL(H_ENTER, H_EXACT, 2, e.v, e.r);
	READER();
	DRAIN(&self->got, self->reader);
	EXPECT_EQ(e.v, self->got.hpte[2].v);
	model_forget(&self->got);
	ASSERT_EQ(0, htab_resize(&self->vm, HTAB_ORDER));
	/* The reader starts over */
	DRAIN(&self->got, self->reader);
	EXPECT_EQ(-1, model_told(&self->got, 0, self->vm.npte, 1));
	EXPECT_EQ(0, self->got.hpte[2].v);
	TABLE_IS(&self->got);
}

/* Prepared but not committed changes nothing for anybody */
TEST_F(htab, resize_prepared_only)
{
	struct hpte e = mapping(0, GUEST_DATA);

	GUEST();
	READER();
	DRAIN(&self->got, self->reader);
	ASSERT_EQ(0, resize_prepared(&self->vm, HTAB_ORDER + 1));
	TOLD_OF_NOTHING();
	HCALL(H_ENTER, H_EXACT, 2, e.v, e.r);
	TOLD_OF(2);
	ASSERT_EQ(0, resize_prepare(&self->vm, 0));
	TOLD_OF_NOTHING();
	HCALL(H_REMOVE, 0, 2, 0, 0);
	TOLD_OF(2);
}

TEST_HARNESS_MAIN
