/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Helpers of the tests of KVM_PPC_GET_HTAB_FD: virtual machines, streams of
 * records, a model that replays what a reader is told, and a guest small
 * enough to be written here that makes hypercalls on request.
 *
 * The library rests on what these tests are to test, so they do without it.
 * Functions return 0 or a count, or a negative errno.
 */
#ifndef SELFTEST_KVM_POWERPC_HTAB_H
#define SELFTEST_KVM_POWERPC_HTAB_H

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <linux/kvm.h>
#include <linux/kvm_hpt.h>
#include <linux/perf_event.h>
#include "kselftest_harness.h"

/*
 * How long a test may take, and how long it waits for what is to happen soon,
 * in seconds: an emulated host that checks itself can be very slow.  This is no
 * more than a bound.  On hardware each program, with all of its tests, has to be
 * done in the 120 seconds that kselftest gives it (see ../settings); what lasts
 * for a set time, however fast the host, counts in full there.  A program that can
 * do more of the same does so if the environment asks for it.
 */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	180
#define SOON_S			60

/* The architecture's bits of an HPT entry, as H_ENTER takes them */
#define HPTE_V_1TB_SEG		0x4000000000000000ULL
#define HPTE_V_SSIZE		0xc000000000000000ULL
#define HPTE_V_BOLTED		0x0000000000000010ULL
#define HPTE_V_LARGE		0x0000000000000004ULL
#define HPTE_V_SECONDARY	0x0000000000000002ULL
#define HPTE_V_VALID		0x0000000000000001ULL
/* Two of the software bits of the first doubleword belong to the host */
#define HPTE_V_HOST		0x0000000000000060ULL
/* What POWER9 keeps of an AVPN; the rest of the test stays within it */
#define HPTE_V_AVPN_3_0		0x000fffffffffff80ULL

#define HPTE_R_PP0		0x8000000000000000ULL
/* One reserved bit of the second doubleword belongs to the host too */
#define HPTE_R_HOST		0x4000000000000000ULL
#define HPTE_R_KEY		0x3000000000000e00ULL
#define HPTE_R_RPN		0x0ffffffffffff000ULL
#define HPTE_R_R		0x0000000000000100ULL
#define HPTE_R_C		0x0000000000000080ULL
#define HPTE_R_M		0x0000000000000010ULL
#define HPTE_R_N		0x0000000000000004ULL
#define HPTE_R_PP		0x0000000000000003ULL

#define H_REMOVE		0x04
#define H_ENTER			0x08
#define H_READ			0x0c
#define H_CLEAR_MOD		0x10
#define H_CLEAR_REF		0x14
#define H_PROTECT		0x18
#define H_PAGE_INIT		0x2c
#define H_BULK_REMOVE		0x124
#define H_EXACT			0x0000008000000000ULL
#define H_READ_4		0x0000002000000000ULL
#define H_AVPN			0x0000000080000000ULL
#define H_ANDCOND		0x0000000040000000ULL
#define H_ZERO_PAGE		0x0000000000008000ULL
#define H_COPY_PAGE		0x0000000000004000ULL

#define H_PARAMETER		-4
#define H_PTEG_FULL		-6
#define H_NOT_FOUND		-7

#define PATB_GR			0x8000000000000000ULL

#define MSR_IR			0x20ULL
#define MSR_DR			0x10ULL
/* 64-bit, machine checks enabled, this program's byte order, in interrupts too */
#define MSR_OURS		(0x8000000000001000ULL | (__BYTE_ORDER == __LITTLE_ENDIAN))
#define LPCR_OURS		((__BYTE_ORDER == __LITTLE_ENDIAN) * 0x0000000002000000ULL)
#define SLB_ESID_V		0x0000000008000000ULL
#define SLB_VSID_L		0x0000000000000100ULL
#define SLB_VSID_LP_01		0x0000000000000010ULL

#define HTAB_HEADER		sizeof(struct kvm_get_htab_header)
#define HTAB_ENTRY		16UL
#define HTAB_ONE		(HTAB_HEADER + HTAB_ENTRY)
#define HTAB_MAX_RUN		0xffffUL
#define HTAB_QEMU_BUF		2048UL
#define HTAB_ORDER		18
#define HTAB_MEM_SIZE		(4UL << 20)

/* Where things are in the memory of the guest; interrupt vectors come first */
#define GUEST_CODE		0x10000UL
#define GUEST_DATA		0x100000UL
#define GUEST_CONTROL		0x200000UL

struct hpte {
	uint64_t v;
	uint64_t r;
};

struct htab_vm {
	int kvm;
	int fd;
	unsigned long type;
	unsigned int order;
	unsigned long npte;
	void *mem;
	int vcpu;
	struct kvm_run *run;
};

static inline unsigned long htab_npte(unsigned int order)
{
	return 1UL << (order - 4);
}

static inline int xioctl(int fd, unsigned long request, void *arg)
{
	int ret = ioctl(fd, request, arg);

	return ret < 0 ? -errno : ret;
}

static inline ssize_t xread(int fd, void *buf, size_t len)
{
	ssize_t ret = read(fd, buf, len);

	return ret < 0 ? -errno : ret;
}

static inline ssize_t xwrite(int fd, const void *buf, size_t len)
{
	ssize_t ret = write(fd, buf, len);

	return ret < 0 ? -errno : ret;
}

/* Files by which the kernel is told and asked */
static inline int file_put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = xwrite(fd, text, strlen(text));
	close(fd);
	return n < 0 ? n : 0;
}

/* Returns how much there is, 0 if the file cannot be read */
static inline size_t file_get(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;

	while (fd >= 0 && (n = xread(fd, buf + len, size - 1 - len)) > 0)
		len += n;
	close(fd);
	buf[len] = 0;
	return len;
}

/* The number in a file after @after, -1 if there is none */
static inline long get_number(const char *path, const char *after)
{
	char buf[8192];
	char *p;

	if (!file_get(path, buf, sizeof(buf)))
		return -1;
	p = strstr(buf, after);
	return p ? atol(p + strlen(after)) : -1;
}

/*
 * Settings of the host that tests change: kept by a program before its tests,
 * which are processes of their own, and put back when it ends.
 */
static struct kept_setting {
	char path[64];
	char value[32];
} *kept_settings;
static unsigned int nr_kept_settings;

static inline void keep_setting(const char *path)
{
	struct kept_setting *k;

	kept_settings = realloc(kept_settings, (nr_kept_settings + 1) * sizeof(*k));
	if (!kept_settings)
		abort();
	k = &kept_settings[nr_kept_settings];
	snprintf(k->path, sizeof(k->path), "%s", path);
	nr_kept_settings += !!file_get(path, k->value, sizeof(k->value));
}

__attribute__((destructor))
static inline void put_settings_back(void)
{
	struct kept_setting *k = kept_settings + nr_kept_settings;

	while (k-- > kept_settings)
		if (file_put(k->path, k->value))
			fprintf(stderr, "# %s is not what it was\n", k->path);
}

#define KSM	"/sys/kernel/mm/ksm/"

static inline void keep_ksm_settings(void)
{
	keep_setting(KSM "run");
	keep_setting(KSM "pages_to_scan");
	keep_setting(KSM "sleep_millisecs");
}

/* Where there is but one CPU, everybody stays on it: -EINVAL for the others */
static inline int stay_on_cpu(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

/*
 * A count of this thread's instructions, the kernel's included. It is perf's or,
 * with HTAB_BY_TIME in the environment, made of the time base: for hosts that QEMU
 * emulates with -icount shift=1, where an instruction takes 2 ns, and perf's is not
 * exact (see htab_fd_bench).
 */
#define COUNT_BY_TIME	1000	/* instead of a file descriptor */

static inline int count_open(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_HW_INSTRUCTIONS,
	};
	int fd;

	if (getenv("HTAB_BY_TIME"))
		return COUNT_BY_TIME;
	fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
	return fd < 0 ? -errno : fd;
}

/* 0 if it cannot be read */
static inline uint64_t count_now(int counter)
{
	uint64_t count = 0;

	if (counter == COUNT_BY_TIME)
		return __builtin_ppc_get_timebase() * 1000 / 1024;	/* 512 MHz */
	return read(counter, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static inline uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ULL + ts.tv_nsec / 1000;
}

static inline uint64_t now_ms(void)
{
	return now_us() / 1000;
}

/* A buffer whose end is the end of a page, with no memory behind it */
static inline void *buffer_before_hole(size_t size)
{
	size_t page = getpagesize();
	size_t len = (size + page - 1) / page * page;
	char *p = mmap(NULL, len + page, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + len, page, PROT_NONE))
		return NULL;
	return p + len - size;
}

/*
 * Virtual machines
 */

static inline int htab_vm_open(struct htab_vm *vm, unsigned long type)
{
	memset(vm, 0, sizeof(*vm));
	vm->type = type;
	vm->vcpu = -1;
	vm->fd = -1;
	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0)
		return -errno;
	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, type);
	return vm->fd < 0 ? -errno : 0;
}

static inline void htab_vm_close(struct htab_vm *vm)
{
	if (vm->run)
		munmap(vm->run, ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	if (vm->vcpu >= 0)
		close(vm->vcpu);
	if (vm->fd >= 0)
		close(vm->fd);
	if (vm->mem)
		munmap(vm->mem, HTAB_MEM_SIZE);
	close(vm->kvm);
}

static inline int htab_allocate(struct htab_vm *vm, unsigned int order)
{
	__u32 arg = order;
	int ret = xioctl(vm->fd, KVM_PPC_ALLOCATE_HTAB, &arg);

	if (!ret) {
		vm->order = order;
		vm->npte = htab_npte(order);
	}
	return ret;
}

static inline int htab_open(struct htab_vm *vm, uint64_t flags, uint64_t start_index)
{
	struct kvm_get_htab_fd arg = { .flags = flags, .start_index = start_index };

	return xioctl(vm->fd, KVM_PPC_GET_HTAB_FD, &arg);
}

static inline int htab_reader(struct htab_vm *vm)
{
	return htab_open(vm, 0, 0);
}

static inline int htab_writer(struct htab_vm *vm)
{
	return htab_open(vm, KVM_GET_HTAB_WRITE, 0);
}

static inline int resize_prepare(struct htab_vm *vm, unsigned int order)
{
	struct kvm_ppc_resize_hpt arg = { .shift = order };

	return xioctl(vm->fd, KVM_PPC_RESIZE_HPT_PREPARE, &arg);
}

static inline int resize_commit(struct htab_vm *vm, unsigned int order)
{
	struct kvm_ppc_resize_hpt arg = { .shift = order };

	return xioctl(vm->fd, KVM_PPC_RESIZE_HPT_COMMIT, &arg);
}

/* A positive result asks to come back later */
static inline int resize_prepared(struct htab_vm *vm, unsigned int order)
{
	int ret;

	while ((ret = resize_prepare(vm, order)) > 0)
		usleep(1000);
	return ret;
}

/* Commit, and know the new table */
static inline int htab_commit(struct htab_vm *vm, unsigned int order)
{
	int ret = resize_commit(vm, order);

	if (!ret) {
		vm->order = order;
		vm->npte = htab_npte(order);
	}
	return ret;
}

static inline int htab_resize(struct htab_vm *vm, unsigned int order)
{
	return resize_prepared(vm, order) ?: htab_commit(vm, order);
}

static inline int htab_configure_mmu(struct htab_vm *vm, bool radix)
{
	struct kvm_ppc_mmuv3_cfg arg = {
		.flags = radix ? KVM_PPC_MMUV3_RADIX | KVM_PPC_MMUV3_GTSE : 0,
		.process_table = radix ? PATB_GR : 0,
	};

	return xioctl(vm->fd, KVM_PPC_CONFIGURE_V3_MMU, &arg);
}

static inline bool htab_has_radix(struct htab_vm *vm)
{
	return ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_PPC_MMU_RADIX) > 0;
}

static inline int htab_set_slot(struct htab_vm *vm, unsigned int slot, uint32_t flags,
				uint64_t addr, void *mem, size_t size)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = addr,
		.memory_size = size,
		.userspace_addr = (uintptr_t)mem,
	};

	return xioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static inline int htab_add_memory(struct htab_vm *vm)
{
	vm->mem = mmap(NULL, HTAB_MEM_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (vm->mem == MAP_FAILED) {
		vm->mem = NULL;
		return -errno;
	}
	return htab_set_slot(vm, 0, 0, 0, vm->mem, HTAB_MEM_SIZE);
}

/* KVM's bitmaps are little-endian everywhere */
static inline bool test_le_bit(const uint8_t *bitmap, unsigned long bit)
{
	return bitmap[bit / 8] >> bit % 8 & 1;
}

/*
 * Streams to write
 */

struct stream {
	char *buf;
	size_t len;
	size_t cap;
};

static inline void stream_reserve(struct stream *s, size_t n)
{
	if (s->len + n <= s->cap)
		return;
	s->cap = 2 * (s->len + n);
	s->buf = realloc(s->buf, s->cap);
	if (!s->buf)
		abort();
}

static inline void stream_header(struct stream *s, uint32_t index, uint16_t n_valid,
				 uint16_t n_invalid)
{
	struct kvm_get_htab_header hdr = {
		.index = index, .n_valid = n_valid, .n_invalid = n_invalid,
	};

	stream_reserve(s, sizeof(hdr));
	memcpy(s->buf + s->len, &hdr, sizeof(hdr));
	s->len += sizeof(hdr);
}

static inline void stream_entry(struct stream *s, uint64_t v, uint64_t r)
{
	uint64_t raw[2] = { htobe64(v), htobe64(r) };

	stream_reserve(s, sizeof(raw));
	memcpy(s->buf + s->len, raw, sizeof(raw));
	s->len += sizeof(raw);
}

static inline void stream_reset(struct stream *s)
{
	s->len = 0;
}

/* Write a stream a record at a time, as QEMU does */
static inline ssize_t stream_write(const struct stream *s, int fd)
{
	size_t at, len;
	ssize_t n;

	for (at = 0; at < s->len; at += len) {
		struct kvm_get_htab_header hdr;

		memcpy(&hdr, s->buf + at, sizeof(hdr));
		len = sizeof(hdr) + hdr.n_valid * HTAB_ENTRY;
		n = xwrite(fd, s->buf + at, len);
		if (n < 0)
			return n;
		if ((size_t)n != len)
			return at + n;
	}
	return at;
}

/*
 * Entries that tests insert: no two indexes or generations give the same one.
 * They map addresses where the guest has no memory, R and C are set.
 */
static inline struct hpte hpte_of(unsigned long index, unsigned int gen)
{
	struct hpte e = {
		.v = (((index * 8 + gen % 8) << 7) & HPTE_V_AVPN_3_0) | HPTE_V_VALID,
		.r = (0x100000000000ULL + ((index + gen * 0x1000003ULL) << 12)) |
		     HPTE_R_R | HPTE_R_C | HPTE_R_M | 2,
	};

	return e;
}

static inline void stream_run(struct stream *s, unsigned long index, unsigned int n_valid,
			      unsigned int n_invalid, unsigned int gen)
{
	unsigned int i;

	stream_header(s, index, n_valid, n_invalid);
	for (i = 0; i < n_valid; i++) {
		struct hpte e = hpte_of(index + i, gen);

		stream_entry(s, e.v, e.r);
	}
}

/*
 * The model: a table as a reader has been told of it
 */

struct model {
	unsigned long npte;
	struct hpte *hpte;
	unsigned int *told;	/* times told of the entry since model_forget() */
	unsigned long valid;	/* entries told valid since then */
	unsigned long invalid;
	unsigned long records;
	unsigned long disorder;	/* records that begin before the end of the last */
	unsigned long next;
	uint64_t host_bits;	/* of the host's bits, those that were seen */
	const char *error;
};

static inline void model_forget(struct model *m)
{
	memset(m->told, 0, m->npte * sizeof(*m->told));
	m->valid = 0;
	m->invalid = 0;
	m->records = 0;
	m->disorder = 0;
	m->next = 0;
}

static inline void model_init(struct model *m, unsigned long npte)
{
	memset(m, 0, sizeof(*m));
	m->npte = npte;
	m->hpte = calloc(npte, sizeof(*m->hpte));
	m->told = calloc(npte, sizeof(*m->told));
	if (!m->hpte || !m->told)
		abort();
}

static inline void model_free(struct model *m)
{
	free(m->hpte);
	free(m->told);
}

static inline int model_error(struct model *m, const char *error)
{
	m->error = error;
	return -EPROTO;
}

/* Replay what a read returned; any fault of form is an error */
static inline int model_replay(struct model *m, const void *buf, size_t len)
{
	const char *p = buf;
	const char *end = p + len;

	while (p < end) {
		struct kvm_get_htab_header hdr;
		unsigned long i, stop;

		if ((size_t)(end - p) < sizeof(hdr))
			return model_error(m, "header cut short");
		memcpy(&hdr, p, sizeof(hdr));
		p += sizeof(hdr);
		if (!hdr.n_valid && !hdr.n_invalid)
			return model_error(m, "empty record");
		if ((size_t)(end - p) < hdr.n_valid * HTAB_ENTRY)
			return model_error(m, "record cut short");
		i = hdr.index;
		stop = i + hdr.n_valid + hdr.n_invalid;
		if (stop > m->npte)
			return model_error(m, "record past the end of the table");
		if (i < m->next)
			m->disorder++;
		m->next = stop;
		m->records++;
		for (stop = i + hdr.n_valid; i < stop; i++) {
			uint64_t raw[2], v, r;

			memcpy(raw, p, sizeof(raw));
			p += sizeof(raw);
			v = be64toh(raw[0]);
			r = be64toh(raw[1]);
			if (!(v & HPTE_V_VALID))
				return model_error(m, "entry without its valid bit");
			/* Note the host's bits, but see what else there is to see */
			m->host_bits |= (v & HPTE_V_HOST) | (r & HPTE_R_HOST);
			m->hpte[i].v = v & ~HPTE_V_HOST;
			m->hpte[i].r = r & ~HPTE_R_HOST;
			m->told[i]++;
			m->valid++;
		}
		for (stop = i + hdr.n_invalid; i < stop; i++) {
			m->hpte[i].v = 0;
			m->hpte[i].r = 0;
			m->told[i]++;
			m->invalid++;
		}
	}
	return 0;
}

/* Read until there is nothing, replaying all of it; returns the bytes */
static inline ssize_t model_drain(struct model *m, int fd, void *buf, size_t size)
{
	/* More than this no pass can be, so it would never end */
	size_t limit = 4 * m->npte * HTAB_ONE;
	size_t total = 0;
	ssize_t n;
	int err;

	while ((n = xread(fd, buf, size)) > 0) {
		if ((size_t)n > size)
			return model_error(m, "more returned than asked for");
		err = model_replay(m, buf, n);
		if (err)
			return err;
		total += n;
		if (total > limit)
			return model_error(m, "a pass without end");
	}
	return n < 0 ? n : (ssize_t)total;
}

/* What the table is to look like when a stream has been written */
static inline int model_expect(struct model *m, const struct stream *s)
{
	return model_replay(m, s->buf, s->len);
}

/* The index of the first entry in which two models differ, or -1 */
static inline long model_differ(const struct model *a, const struct model *b)
{
	unsigned long i;

	if (a->npte != b->npte)
		return 0;
	for (i = 0; i < a->npte; i++)
		if (a->hpte[i].v != b->hpte[i].v || a->hpte[i].r != b->hpte[i].r)
			return i;
	return -1;
}

/* Were entries [from, to) told exactly this many times? The first that was not, or -1 */
static inline long model_told(const struct model *m, unsigned long from, unsigned long to,
			      unsigned int times)
{
	unsigned long i;

	for (i = from; i < to; i++)
		if (m->told[i] != times)
			return i;
	return -1;
}

/* A page of 4K, or of 64K if the kernel has them */
static inline uint64_t hpte_page(const struct hpte *e)
{
	uint64_t rpn = e->r & HPTE_R_RPN;

	return e->v & HPTE_V_LARGE ? rpn & ~0xffffULL : rpn;
}

/* Which entry maps this address for real mode: those are bolted; or -1 */
static inline long model_vrma(const struct model *m, uint64_t addr)
{
	unsigned long i;

	for (i = 0; i < m->npte; i++)
		if (m->hpte[i].v & HPTE_V_BOLTED && hpte_page(&m->hpte[i]) == addr)
			return i;
	return -1;
}

/*
 * Segments of a guest, and entries for pages in them
 */

struct segment {
	uint64_t ea;
	uint64_t vsid;
	bool tb;			/* one of 1 TB, otherwise of 256 MB */
	unsigned int page_shift;	/* 12, 16 or 24 */
};

static inline unsigned int segment_shift(const struct segment *seg)
{
	return seg->tb ? 40 : 28;
}

static inline uint64_t segment_page_mask(const struct segment *seg)
{
	return ~((1ULL << seg->page_shift) - 1);
}

/* The group of 8 entries to which the hash of the page at an offset leads */
static inline unsigned long segment_group(const struct segment *seg, uint64_t offset,
					  unsigned long npte, bool secondary)
{
	uint64_t hash = seg->vsid ^ offset >> seg->page_shift;

	if (seg->tb)
		hash ^= seg->vsid << 25;
	if (secondary)
		hash = ~hash;
	return hash & (npte / 8 - 1);
}

/* An entry by which this page is that of an address: readable, writable, neither R nor C */
static inline struct hpte segment_hpte(const struct segment *seg, uint64_t offset, uint64_t addr)
{
	uint64_t mask = segment_page_mask(seg);
	struct hpte e = {
		.v = seg->vsid << (segment_shift(seg) - 16) | (offset & mask) >> 23 << 7 |
		     HPTE_V_VALID,
		.r = (addr & mask) | HPTE_R_M,
	};

	if (seg->tb)
		e.v |= HPTE_V_1TB_SEG;
	if (seg->page_shift != 12)
		e.v |= HPTE_V_LARGE;
	if (seg->page_shift == 16)
		e.r |= 0x1000;
	return e;
}

/* Where the guest then finds this address */
static inline uint64_t segment_ea(const struct segment *seg, uint64_t offset, uint64_t addr)
{
	uint64_t mask = segment_page_mask(seg);

	return seg->ea | (offset & mask) | (addr & ~mask);
}

/*
 * The guest: waits for a command in a hypercall to userspace, does it, and
 * comes back with its results.
 *
 * Under HV it runs in real mode, for which the kernel maps its memory by
 * entries of the table.  PR needs none for real mode, so there it runs with
 * translation, by entries like those of HV, which are made here, and an
 * interrupt brings it back to where it waits, in real mode.
 */

#define GUEST_WAIT	0xf00c	/* hypercall number that KVM leaves to userspace */
/* Commands: hypercall numbers, or these */
#define GUEST_STORE	-1	/* store args[1] at args[0] */
#define GUEST_LOAD	-2	/* load args[0] from args[0] */
#define GUEST_COUNT	-3	/* increment the doubleword at args[0], for ever */
#define GUEST_CHURN	-4	/* insert, protect, remove; see below */
#define GUEST_WATCH	-5	/* store at args[2] what is at args[0], and how often, for ever */
#define GUEST_PV	-6	/* KVM's own hypercall args[0] of args[1] and args[2] */
#define GUEST_PAIRS	-7	/* insert and remove; see below */
/* Instead of a hypercall's result: the vCPU did not come back as it should */
#define GUEST_LOST	-1000L
/* ... or had an interrupt: the negative of its vector */
#define GUEST_NO_DATA	-0x300L	/* data storage: no entry, or one that forbids it */

/* Under PR the guest's sc 1 can end in the hypervisor below: this never does */
#define INST_SC_1	0x44000022
#define INST_SC_1_PR	0x7c000268

/*
 * GUEST_CHURN: args[0] first index, args[1] number of indexes, args[2] address
 * of two doublewords: stop when the first is not zero, count rounds in the
 * second; args[3] and args[4] the entry to begin with; args[5] the index of
 * the entry that maps args[6], whose R and C are cleared and set again.
 *
 * GUEST_PAIRS: insert the entry args[3] and args[4] at index args[0] and remove
 * it, until one of these fails, whose result is returned, or the first of two
 * doublewords at args[2] is not zero; the second counts.
 */
__asm__("	.pushsection .rodata\n"
	"	.balign	8\n"
	"	.globl	htab_guest_start\n"
	"	.globl	htab_guest_end\n"
	"htab_guest_start:\n"
	"0:	li	3, 0\n"
	"	ori	3, 3, 0xf00c\n"
	"	sc	1\n"
	"	cmpdi	3, 0\n"
	"	bge	1f\n"
	"	cmpdi	3, -1\n"
	"	beq	2f\n"
	"	cmpdi	3, -2\n"
	"	beq	3f\n"
	"	cmpdi	3, -3\n"
	"	beq	4f\n"
	"	cmpdi	3, -4\n"
	"	beq	5f\n"
	"	cmpdi	3, -5\n"
	"	beq	10f\n"
	"	cmpdi	3, -6\n"
	"	beq	11f\n"
	"	b	12f\n"
	/* a hypercall */
	"1:	sc	1\n"
	"	mr	12, 3\n"
	"	b	0b\n"
	/* store */
	"2:	std	5, 0(4)\n"
	"	sync\n"
	"	li	12, 0\n"
	"	b	0b\n"
	/* load */
	"3:	ld	4, 0(4)\n"
	"	sync\n"
	"	li	12, 0\n"
	"	b	0b\n"
	/* count */
	"4:	ld	5, 0(4)\n"
	"	addi	5, 5, 1\n"
	"	std	5, 0(4)\n"
	"	b	4b\n"
	/* churn */
	"5:	mr	14, 4\n"
	"	mr	15, 5\n"
	"	mr	16, 6\n"
	"	mr	18, 7\n"
	"	mr	19, 8\n"
	"	mr	22, 9\n"
	"	mr	23, 10\n"
	"6:	li	17, 0\n"
	"7:	ld	4, 0(16)\n"
	"	cmpdi	4, 0\n"
	"	bne	9f\n"
	"	add	20, 14, 17\n"
	"	addi	19, 19, 0x1000\n"
	"	li	3, 0x08\n"
	"	li	4, 1\n"
	"	sldi	4, 4, 39\n"
	"	mr	5, 20\n"
	"	mr	6, 18\n"
	"	mr	7, 19\n"
	"	sc	1\n"
	"	li	3, 0x18\n"
	"	rldicl	4, 19, 52, 62\n"
	"	mr	5, 20\n"
	"	li	6, 0\n"
	"	sc	1\n"
	"	srdi	21, 15, 1\n"
	"	add	21, 21, 17\n"
	"	cmpd	21, 15\n"
	"	blt	8f\n"
	"	subf	21, 15, 21\n"
	"8:	add	21, 21, 14\n"
	"	li	3, 0x04\n"
	"	li	4, 0\n"
	"	mr	5, 21\n"
	"	li	6, 0\n"
	"	sc	1\n"
	"	li	3, 0x10\n"
	"	li	4, 0\n"
	"	mr	5, 22\n"
	"	sc	1\n"
	"	li	3, 0x14\n"
	"	li	4, 0\n"
	"	mr	5, 22\n"
	"	sc	1\n"
	"	ld	4, 0(23)\n"
	"	addi	4, 4, 1\n"
	"	std	4, 0(23)\n"
	"	addi	17, 17, 1\n"
	"	cmpd	17, 15\n"
	"	blt	7b\n"
	"	ld	4, 8(16)\n"
	"	addi	4, 4, 1\n"
	"	std	4, 8(16)\n"
	"	b	6b\n"
	"9:	li	12, 0\n"
	"	b	0b\n"
	/* watch */
	"10:	ld	5, 0(4)\n"
	"	addi	7, 7, 1\n"
	"	std	5, 0(6)\n"
	"	lwsync\n"
	"	std	7, 8(6)\n"
	"	sync\n"
	"	b	10b\n"
	/* KVM's own hypercall, with its magic number */
	"11:	lis	0, 0x4b56\n"
	"	ori	0, 0, 0x4d21\n"
	"	mr	11, 4\n"
	"	mr	3, 5\n"
	"	mr	4, 6\n"
	"	sc\n"
	"	mr	12, 3\n"
	"	b	0b\n"
	/* pairs */
	"12:	mr	14, 4\n"
	"	mr	16, 6\n"
	"	mr	18, 7\n"
	"	mr	19, 8\n"
	"	li	17, 0\n"
	"	li	12, 0\n"
	"13:	ld	4, 0(16)\n"
	"	cmpdi	4, 0\n"
	"	bne	0b\n"
	"	li	3, 0x08\n"
	"	li	4, 1\n"
	"	sldi	4, 4, 39\n"
	"	mr	5, 14\n"
	"	mr	6, 18\n"
	"	mr	7, 19\n"
	"	sc	1\n"
	"	mr	12, 3\n"
	"	cmpdi	12, 0\n"
	"	bne	0b\n"
	"	li	3, 0x04\n"
	"	li	4, 0\n"
	"	mr	5, 14\n"
	"	li	6, 0\n"
	"	sc	1\n"
	"	mr	12, 3\n"
	"	cmpdi	12, 0\n"
	"	bne	0b\n"
	"	addi	17, 17, 1\n"
	"	std	17, 8(16)\n"
	"	b	13b\n"
	"htab_guest_end:\n"
	"	.popsection\n");

extern const char htab_guest_start[];
extern const char htab_guest_end[];

static inline void *guest_mem(const struct htab_vm *vm, uint64_t addr)
{
	return (char *)vm->mem + addr;
}

static inline int guest_set_reg(struct htab_vm *vm, uint64_t id, uint64_t value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };

	return xioctl(vm->vcpu, KVM_SET_ONE_REG, &reg);
}

static inline uint64_t guest_get_reg(struct htab_vm *vm, uint64_t id)
{
	uint64_t value = 0;
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };

	return xioctl(vm->vcpu, KVM_GET_ONE_REG, &reg) ? ~0ULL : value;
}

/* Have it begin at the top */
static inline int guest_reset(struct htab_vm *vm, bool translated)
{
	struct kvm_regs regs = {
		.pc = GUEST_CODE,
		.msr = MSR_OURS | (translated ? MSR_IR | MSR_DR : 0),
	};

	return xioctl(vm->vcpu, KVM_SET_REGS, &regs);
}

static inline int guest_set_segment(struct htab_vm *vm, unsigned int slot,
				    const struct segment *seg)
{
	struct kvm_sregs sregs;
	int ret = xioctl(vm->vcpu, KVM_GET_SREGS, &sregs);

	if (ret)
		return ret;
	sregs.u.s.ppc64.slb[slot].slbe = seg->ea | SLB_ESID_V | slot;
	sregs.u.s.ppc64.slb[slot].slbv = seg->vsid << (segment_shift(seg) - 16) |
		(seg->tb ? HPTE_V_1TB_SEG : 0) | (seg->page_shift != 12 ? SLB_VSID_L : 0) |
		(seg->page_shift == 16 ? SLB_VSID_LP_01 : 0);
	return xioctl(vm->vcpu, KVM_SET_SREGS, &sregs);
}

/* The segment that real mode has under HV, and PR's guests at address 0 */
static const struct segment vrma = { .vsid = 0x1ffffff, .tb = true, .page_shift = 12 };

static inline struct hpte vrma_hpte(uint64_t addr)
{
	struct hpte e = segment_hpte(&vrma, addr, addr);

	e.v |= HPTE_V_BOLTED;
	e.r |= HPTE_R_R | HPTE_R_C;
	return e;
}

/* Enter what HV would enter when a vCPU is first run */
static inline int guest_map_memory(struct htab_vm *vm)
{
	struct stream s = {};
	uint64_t addr;
	ssize_t n;
	int fd;

	for (addr = 0; addr < HTAB_MEM_SIZE; addr += 0x1000) {
		struct hpte e = vrma_hpte(addr);

		stream_header(&s, 8 * segment_group(&vrma, addr, vm->npte, false) + 7, 1, 0);
		stream_entry(&s, e.v, e.r);
	}
	fd = htab_writer(vm);
	n = fd < 0 ? fd : xwrite(fd, s.buf, s.len);
	close(fd);
	free(s.buf);
	return n < 0 ? n : 0;
}

/* A vCPU as the kernel makes it, which is not PAPR */
static inline int guest_add_plain_vcpu(struct htab_vm *vm, unsigned int id)
{
	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, id);
	if (vm->vcpu < 0)
		return -errno;
	vm->run = mmap(NULL, ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0),
		       PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	if (vm->run == MAP_FAILED) {
		vm->run = NULL;
		return -errno;
	}
	return 0;
}

/* A vCPU whose memory is there */
static inline int guest_add_vcpu(struct htab_vm *vm, unsigned int id)
{
	struct kvm_enable_cap papr = { .cap = KVM_CAP_PPC_PAPR };
	int ret = guest_add_plain_vcpu(vm, id) ?: xioctl(vm->vcpu, KVM_ENABLE_CAP, &papr);

	if (!ret && vm->type == KVM_VM_PPC_PR)
		ret = guest_set_reg(vm, KVM_REG_PPC_HIOR, 0) ?:
		      guest_set_reg(vm, KVM_REG_PPC_LPCR_64, LPCR_OURS) ?:
		      guest_set_segment(vm, 0, &vrma);
	return ret ?: guest_reset(vm, vm->type == KVM_VM_PPC_PR && vm->npte);
}

/* Some are not enabled unless asked for */
static inline int guest_enable_hcall(struct htab_vm *vm, unsigned int nr)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_PPC_ENABLE_HCALL, .args = { nr, 1 } };

	return xioctl(vm->fd, KVM_ENABLE_CAP, &cap);
}

/* Make the vCPU and its memory, without running anything yet */
static inline int guest_create(struct htab_vm *vm)
{
	static const uint16_t vectors[] = { 0x300, 0x380, 0x400, 0x480, 0x600, 0x700, 0 };
	size_t size = htab_guest_end - htab_guest_start;
	uint32_t *inst;
	unsigned int i;
	int ret;

	ret = vm->mem ? 0 : htab_add_memory(vm);
	if (ret)
		return ret;
	inst = guest_mem(vm, GUEST_CODE);
	memcpy(inst, htab_guest_start, size);
	for (i = 0; i < size / 4; i++)
		if (vm->type == KVM_VM_PPC_PR && inst[i] == INST_SC_1)
			inst[i] = INST_SC_1_PR;
	for (i = 0; vectors[i]; i++) {
		inst = guest_mem(vm, vectors[i]);
		inst[0] = 0x39800000 | (-vectors[i] & 0xffff);	/* li 12, -vector */
		inst[1] = 0x48000002 | GUEST_CODE;		/* ba GUEST_CODE */
	}
	__builtin___clear_cache((char *)vm->mem, (char *)vm->mem + GUEST_CODE + 0x1000);

	if (vm->npte)
		ret = guest_enable_hcall(vm, H_CLEAR_REF) ?: guest_enable_hcall(vm, H_CLEAR_MOD);
	if (!ret && vm->type == KVM_VM_PPC_PR && vm->npte)
		ret = guest_map_memory(vm);
	return ret ?: guest_add_vcpu(vm, 0);
}

/* Run until the guest waits for a command */
static inline int guest_run(struct htab_vm *vm)
{
	int ret = xioctl(vm->vcpu, KVM_RUN, NULL);

	if (ret)
		return ret;
	if (vm->run->exit_reason != KVM_EXIT_PAPR_HCALL ||
	    vm->run->papr_hcall.nr != GUEST_WAIT)
		return -EPROTO;
	return 0;
}

/*
 * Have the waiting guest do a command. The results replace args; what the
 * hypercall returned is in the last.
 */
static inline int guest_do(struct htab_vm *vm, long command, uint64_t args[9])
{
	int ret;

	vm->run->papr_hcall.ret = command;
	memcpy((void *)vm->run->papr_hcall.args, args, 9 * sizeof(args[0]));
	ret = guest_run(vm);
	memcpy(args, (void *)vm->run->papr_hcall.args, 9 * sizeof(args[0]));
	return ret;
}

/* The same for up to four arguments; returns what the hypercall returned */
static inline long guest_hcall(struct htab_vm *vm, long nr, uint64_t a, uint64_t b, uint64_t c,
			       uint64_t d)
{
	uint64_t args[9] = { a, b, c, d };
	int ret = guest_do(vm, nr, args);

	return ret ? GUEST_LOST : (long)args[8];
}

/*
 * A vCPU that runs a command in a thread of its own, for ever
 */

struct guest_thread {
	pthread_t thread;
	struct htab_vm *vm;
	long command;
	uint64_t args[9];
	int ret;
};

static inline void guest_signal(int sig)
{
	(void)sig;
}

static inline void *guest_thread_run(void *arg)
{
	struct guest_thread *t = arg;

	t->ret = guest_do(t->vm, t->command, t->args);
	return NULL;
}

static inline int guest_start(struct guest_thread *t)
{
	struct sigaction sa = { .sa_handler = guest_signal };

	if (sigaction(SIGUSR1, &sa, NULL))
		return -errno;
	return -pthread_create(&t->thread, NULL, guest_thread_run, t);
}

/* Wait until it comes back by itself; -ETIMEDOUT if it does not */
static inline int guest_join(struct guest_thread *t, unsigned int ms)
{
	uint64_t begin = now_ms();

	while (pthread_tryjoin_np(t->thread, NULL)) {
		if (now_ms() - begin > ms)
			return -ETIMEDOUT;
		usleep(1000);
	}
	return t->ret;
}

/* Make it come back: -EINTR if it was in the guest until then */
static inline int guest_stop(struct guest_thread *t)
{
	int ret = -ETIMEDOUT, i;

	t->vm->run->immediate_exit = 1;
	for (i = 0; i < 1000 && ret == -ETIMEDOUT; i++) {
		pthread_kill(t->thread, SIGUSR1);
		ret = guest_join(t, 10);
	}
	t->vm->run->immediate_exit = 0;
	return ret;
}

#endif
