// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_PPC_GET_HTAB_FD under fire: vCPUs change their page table as fast as they
 * can, by hypercalls, and by loads and stores for which the hardware sets R and
 * C. Meanwhile readers with odd buffers, bad ones, and ones whose pages are long
 * in coming, and with signals thrown at them, replay what they are told. When
 * the vCPUs have stopped and each reader has come to the end, all of them have to
 * know the table as it is, bit for bit.
 *
 * In some variants the memory behind the pages is taken away, merged, and asked
 * of whether it is dirty, all the time, which changes entries and takes their C.
 *
 * HTAB_SEED in the environment has the same choices made again.
 */
#include <sys/uio.h>

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"
#include "userfaultfd_util.h"
#include "htab.h"

/* How long, at the least */
#define FIRE_MS		3000

/*
 * The pages that it is about: this many groups of HPTEs, all over the table, and
 * so many pages in each, in an entry of their own each. Pages of a group are
 * HPT_GROUPS apart. The last entry of a group may be the host's.
 */
#define HPT_GROUPS	BIT(17)
#define GROUPS		64
#define PLANES		7
#define PAGES		(GROUPS * PLANES)
#define FIRST_GVA	0x40000000UL

/* The memory behind them */
#define DATA_PAGES	16
#define DATA_GPA	0x100000UL

#define MAX_VCPUS	4
#define MAX_READERS	3
#define MAX_READ	5000U

struct page {
	uint64_t gva;
	uint64_t index;
	uint64_t v;
};

/* What the guest knows, too */
struct shared {
	uint64_t stop;
	uint64_t rounds[MAX_VCPUS];
	uint64_t r[DATA_PAGES];
	struct page page[PAGES];
};

static uint64_t any(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state >> 8;
}

/*
 * The guest
 */

/* What has become of it depends on the other vCPUs */
static void guest_hpt_hcall(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	uint64_t args[HCALL_ARGS] = { a, b, c, d };
	long ret = papr_hcall(nr, args);

	GUEST_ASSERT(ret == 0 || ret == H_NOT_FOUND || (nr == H_ENTER && ret == H_PTEG_FULL));
}

static void guest_bulk_remove(struct shared *s, uint64_t *state)
{
	uint64_t args[HCALL_ARGS] = {};
	unsigned int i;

	for (i = 0; i < 4; i++)
		args[2 * i] = 0x4000000000000000ULL | s->page[any(state) % PAGES].index;
	GUEST_ASSERT_EQ(papr_hcall(H_BULK_REMOVE, args), 0);
}

static void guest_step(struct shared *s, uint64_t *state)
{
	struct page *page = &s->page[any(state) % PAGES];
	uint64_t x = any(state);

	switch (x % 16) {
	case 0 ... 4:
		guest_hpt_hcall(H_ENTER, H_EXACT, page->index,
				page->v | (x & 0x100 ? HPTE_V_BOLTED : 0),
				s->r[(x >> 12) % DATA_PAGES] | (x & 0x200 ? HPTE_R_R : 0) |
				(x & 0x400 ? HPTE_R_C : 0) | (x & 0x800 ? 3 : 2));
		break;
	case 5:
		guest_hpt_hcall(H_REMOVE, 0, page->index, 0, 0);
		break;
	case 6 ... 7:
		/* So that most pages have an entry most of the time */
		if (x & 0x7000)
			guest_hpt_hcall(H_PROTECT, x & 0x100 ? 3 : 2, page->index, 0, 0);
		else
			guest_bulk_remove(s, state);
		break;
	case 8:
		guest_hpt_hcall(H_CLEAR_REF, 0, page->index, 0, 0);
		break;
	case 9:
		guest_hpt_hcall(H_CLEAR_MOD, 0, page->index, 0, 0);
		break;
	case 10 ... 11:
		READ_ONCE(*(uint64_t *)page->gva);
		break;
	default:
		WRITE_ONCE(*(uint64_t *)page->gva, x);
	}
}

static void guest_fire(struct shared *s, uint64_t id, uint64_t seed)
{
	unsigned int i;

	while (!READ_ONCE(s->stop)) {
		for (i = 0; i < 64; i++)
			guest_step(s, &seed);
		WRITE_ONCE(s->rounds[id], s->rounds[id] + 1);
	}
	GUEST_DONE();
}

/*
 * The host
 */

struct reader {
	pthread_t thread;
	int fd;
	bool *stop;
	uint64_t seed;
	char *linear;		/* MAX_READ bytes, and no memory behind them */
	char *slow;		/* as many, whose pages userfaultfd provides */
	size_t slow_size;
	struct model m;
	unsigned long passes, reads, faults, signals, slow_reads;
	const char *error;
	long number;
};

struct runner {
	pthread_t thread;
	struct kvm_vcpu *vcpu;
	unsigned long exceptions;
};

struct memory {
	pthread_t thread;
	struct kvm_vm *vm;
	bool *stop;
	uint64_t seed;
	char *data;
	unsigned long taken, asked, switched;
};

FIXTURE(fire)
{
	struct kvm_vm *vm;
	struct htab_vm htab;	/* the same VM, for what htab.h has */
	struct shared *shared;
	struct runner runner[MAX_VCPUS];
	struct reader reader[MAX_READERS];
	struct uffd_desc *uffd[MAX_READERS];
	struct memory memory;
	uint64_t seed;
	bool stop;
};

FIXTURE_VARIANT(fire)
{
	unsigned int vcpus, readers;
	bool small;		/* pages of 4K, whatever the host has */
	bool memory;		/* comes and goes */
};

FIXTURE_VARIANT_ADD(fire, one_vcpu_one_reader)
{
	.vcpus = 1,
	.readers = 1,
};

FIXTURE_VARIANT_ADD(fire, two_vcpus_three_readers)
{
	.vcpus = 2,
	.readers = 3,
};

FIXTURE_VARIANT_ADD(fire, four_vcpus_two_readers_4k)
{
	.vcpus = 4,
	.readers = 2,
	.small = true,
};

FIXTURE_VARIANT_ADD(fire, one_vcpu_two_readers_memory)
{
	.vcpus = 1,
	.readers = 2,
	.memory = true,
};

FIXTURE_VARIANT_ADD(fire, two_vcpus_two_readers_memory_4k)
{
	.vcpus = 2,
	.readers = 2,
	.small = true,
	.memory = true,
};

static uint64_t seed_of_this_run(void)
{
	const char *given = getenv("HTAB_SEED");

	/* One of 0 would stay 0 */
	return 1 | (given ? strtoull(given, NULL, 0) : time(NULL) * 1000003ULL + now_ms());
}

__attribute__((constructor))
static void keep_settings(void)
{
	keep_ksm_settings();
}

/* Where the host has it, KSM is to merge pages as they are found alike */
static void start_ksm(void)
{
	static const char * const settings[][2] = {
		{ KSM "sleep_millisecs", "10" },
		{ KSM "pages_to_scan", "1000" },
		{ KSM "run", "1" },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(settings); i++) {
		int ret = file_put(settings[i][0], settings[i][1]);

		if (ret)
			printf("# %s: %s\n", settings[i][0], strerror(-ret));
	}
}

/* Which page of these is the first whose group holds nothing else */
static uint64_t free_group(struct kvm_vm *vm, uint64_t page)
{
	while (vm->arch.hptes_used[hpt_group(vm, page << vm->page_shift, false) / 8])
		page++;
	return page;
}

static gpa_t set_up_pages(struct kvm_vm *vm, struct shared *s)
{
	uint64_t first = FIRST_GVA >> vm->page_shift;
	uint64_t align = vm->page_size > (size_t)getpagesize() ?
			 vm->page_size : (size_t)getpagesize();
	/* None of the host's pages is to hold other things as well */
	gpa_t gpa = vm_phy_pages_alloc(vm, DATA_PAGES + 2 * align / vm->page_size - 1,
					    DATA_GPA, 0);
	unsigned int i, k;

	gpa = (gpa + align - 1) & -align;
	for (i = 0; i < DATA_PAGES; i++)
		s->r[i] = hpte_r(vm, gpa + i * vm->page_size);
	for (i = 0; i < GROUPS; i++) {
		uint64_t page = free_group(vm, first + i * (HPT_GROUPS / GROUPS));

		for (k = 0; k < PLANES; k++) {
			struct page *p = &s->page[i * PLANES + k];

			p->gva = (page + k * HPT_GROUPS) << vm->page_shift;
			p->index = hpt_group(vm, p->gva, false) + k;
			p->v = hpte_v(vm, p->gva, false);
		}
	}
	return gpa;
}

/* So that a page is there a while after it is wanted */
static int provide_page(int mode, int uffd, struct uffd_msg *msg)
{
	unsigned long page = getpagesize();
	struct uffdio_zeropage zero = {
		.range.start = msg->arg.pagefault.address & -page,
		.range.len = page,
	};

	/* Who has been interrupted by a signal asks once more */
	return ioctl(uffd, UFFDIO_ZEROPAGE, &zero) && errno != EEXIST ? -1 : 0;
}

FIXTURE_SETUP(fire)
{
	struct vm_shape shape = VM_SHAPE_DEFAULT;
	struct sigaction sa = { .sa_handler = guest_signal };
	struct kvm_vcpu *vcpu[MAX_VCPUS];
	gva_t shared;
	gpa_t data;
	unsigned int i;

	self->seed = seed_of_this_run();
	TH_LOG("HTAB_SEED=%lu", (unsigned long)self->seed);
	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	if (variant->small)
		shape.mode = VM_MODE_P40V48_4K;
	self->vm = __vm_create_with_vcpus(shape, variant->vcpus, 4 * DATA_PAGES, guest_fire, vcpu);
	self->htab.fd = self->vm->fd;
	self->htab.npte = self->vm->arch.hptes;
	ASSERT_EQ(0, guest_enable_hcall(&self->htab, H_CLEAR_REF));
	ASSERT_EQ(0, guest_enable_hcall(&self->htab, H_CLEAR_MOD));

	shared = vm_alloc(self->vm, sizeof(*self->shared), KVM_UTIL_MIN_VADDR);
	self->shared = addr_gva2hva(self->vm, shared);
	data = set_up_pages(self->vm, self->shared);
	for (i = 0; i < variant->vcpus; i++) {
		self->runner[i].vcpu = vcpu[i];
		vcpu_args_set(vcpu[i], 3, shared, (uint64_t)i, self->seed + 0x1001 * i);
	}

	for (i = 0; i < variant->readers; i++) {
		struct reader *r = &self->reader[i];

		r->stop = &self->stop;
		r->seed = self->seed + 0x100001 * (i + 1);
		r->linear = buffer_before_hole(MAX_READ);
		ASSERT_NE(NULL, r->linear);
		r->slow_size = (MAX_READ + getpagesize() - 1) & -getpagesize();
		r->slow = mmap(NULL, r->slow_size, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, r->slow);
		self->uffd[i] = uffd_setup_demand_paging(UFFDIO_REGISTER_MODE_MISSING, 700,
							 r->slow, r->slow_size, 1, provide_page);
		model_init(&r->m, self->htab.npte);
		r->fd = htab_reader(&self->htab);
		ASSERT_LE(0, r->fd);
	}

	self->memory.vm = self->vm;
	self->memory.stop = &self->stop;
	self->memory.seed = self->seed + 7;
	self->memory.data = addr_gpa2hva(self->vm, data);
	if (variant->memory) {
		start_ksm();
		ASSERT_EQ(0, madvise(self->memory.data, DATA_PAGES * self->vm->page_size,
				     MADV_MERGEABLE));
	}
}

FIXTURE_TEARDOWN(fire)
{
	unsigned int i;

	for (i = 0; i < variant->readers; i++) {
		uffd_stop_demand_paging(self->uffd[i]);
		close(self->reader[i].fd);
	}
	kvm_vm_free(self->vm);
}

static void *run_vcpu(void *arg)
{
	struct runner *r = arg;
	struct guest_exception ex;
	struct ucall uc;

	for (;;) {
		if (__vcpu_run(r->vcpu)) {
			TEST_ASSERT(errno == EINTR, "KVM_RUN: %s", strerror(errno));
			continue;
		}
		/* There is no entry just now, or it forbids to store */
		if (vcpu_get_exception(r->vcpu, &ex) && ex.vector == EXCEPTION_DATA_STORAGE) {
			r->exceptions++;
			vcpu_skip_instruction(r->vcpu, &ex);
			continue;
		}
		switch (get_ucall(r->vcpu, &uc)) {
		case UCALL_DONE:
			return NULL;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
		default:
			TEST_FAIL("Unexpected exit: %s",
				  exit_reason_str(r->vcpu->run->exit_reason));
		}
	}
}

/* One read, by one of several ways; what it returned is in *buf */
static ssize_t read_somehow(struct reader *r, char **buf)
{
	uint64_t x = any(&r->seed);
	size_t size = HTAB_ONE + x % (MAX_READ - HTAB_ONE - 8);
	size_t a = HTAB_ONE + (x >> 16) % (size - HTAB_ONE + 1), b = (x >> 32) % (size - a + 1);
	struct iovec iov[3];
	ssize_t n;

	*buf = r->linear + (x >> 13) % 8;
	switch ((x >> 48) % 8) {
	case 0:		/* less memory than it says, or none at all */
		*buf = r->linear + MAX_READ - (x >> 20) % (2 * HTAB_ONE);
		return xread(r->fd, *buf, size);
	case 1:
		*buf = r->linear + MAX_READ - size / 2;
		return xread(r->fd, *buf, size);
	case 2:
		*buf = r->slow;
		if (madvise(r->slow, r->slow_size, MADV_DONTNEED))
			return -errno;
		r->slow_reads++;
		return xread(r->fd, *buf, size);
	case 3 ... 4:
		iov[0].iov_base = *buf;
		iov[0].iov_len = a;
		iov[1].iov_base = *buf + a;
		iov[1].iov_len = b;
		iov[2].iov_base = *buf + a + b;
		iov[2].iov_len = size - a - b;
		n = readv(r->fd, iov, 3);
		return n < 0 ? -errno : n;
	default:
		return xread(r->fd, *buf, size);
	}
}

static void *read_under_fire(void *arg)
{
	struct reader *r = arg;
	char *buf;

	while (!r->error && !__atomic_load_n(r->stop, __ATOMIC_RELAXED)) {
		ssize_t n = read_somehow(r, &buf);

		r->reads++;
		r->number = n;
		if (n == -EFAULT)
			r->faults++;
		else if (n == -EINTR)
			r->signals++;
		else if (n < 0)
			r->error = strerror(-n);
		else if (!n)
			r->passes++;
		else if (model_replay(&r->m, buf, n))
			r->error = r->m.error;
	}
	return NULL;
}

static void *memory_under_fire(void *arg)
{
	struct memory *m = arg;
	size_t page = getpagesize(), n = DATA_PAGES * m->vm->page_size / page;
	unsigned long bits[1024];
	bool logging = false;

	while (!__atomic_load_n(m->stop, __ATOMIC_RELAXED)) {
		uint64_t x = any(&m->seed);

		if (x % 4 && logging) {
			kvm_vm_get_dirty_log(m->vm, 0, bits);
			m->asked++;
		} else if (x % 32 == 0) {
			logging = !logging;
			vm_mem_region_set_flags(m->vm, 0, logging ? KVM_MEM_LOG_DIRTY_PAGES : 0);
			m->switched++;
		} else {
			TEST_ASSERT(!madvise(m->data + (x >> 8) % n * page, page, MADV_DONTNEED),
				    "madvise: %s", strerror(errno));
			m->taken++;
		}
		usleep((x >> 40) % 3000);
	}
	return NULL;
}

/*
 * Without all of these it would be no fire. Not that passes come to an end: where
 * changes keep pace with a reader, none does.
 */
static bool enough(struct shared *s, unsigned int vcpus, struct reader *r, unsigned int readers)
{
	unsigned int i;

	for (i = 0; i < vcpus; i++)
		if (__atomic_load_n(&s->rounds[i], __ATOMIC_RELAXED) < 20)
			return false;
	for (i = 0; i < readers; i++)
		if (!r[i].error &&
		    (__atomic_load_n(&r[i].m.valid, __ATOMIC_RELAXED) <= PAGES ||
		     !__atomic_load_n(&r[i].faults, __ATOMIC_RELAXED) ||
		     !__atomic_load_n(&r[i].slow_reads, __ATOMIC_RELAXED)))
			return false;
	return true;
}

TEST_F(fire, readers_agree)
{
	uint64_t begin = now_ms(), seed = self->seed;
	struct shared *s = self->shared;
	struct model now;
	unsigned int i;
	long differ;
	int fd;

	for (i = 0; i < variant->readers; i++)
		ASSERT_EQ(0, pthread_create(&self->reader[i].thread, NULL, read_under_fire,
					    &self->reader[i]));
	for (i = 0; i < variant->vcpus; i++)
		ASSERT_EQ(0, pthread_create(&self->runner[i].thread, NULL, run_vcpu,
					    &self->runner[i]));
	if (variant->memory)
		ASSERT_EQ(0, pthread_create(&self->memory.thread, NULL, memory_under_fire,
					    &self->memory));

	while (now_ms() - begin < FIRE_MS ||
	       !enough(s, variant->vcpus, self->reader, variant->readers)) {
		ASSERT_GT(SOON_S * 1000, now_ms() - begin) {
			TH_LOG("too slow: %lu rounds, %lu entries told",
			       (unsigned long)s->rounds[0], self->reader[0].m.valid);
		}
		usleep(any(&seed) % 5000);
		pthread_kill(self->reader[any(&seed) % variant->readers].thread, SIGUSR1);
		if (any(&seed) % 4 == 0)
			pthread_kill(self->runner[any(&seed) % variant->vcpus].thread, SIGUSR1);
	}

	__atomic_store_n(&s->stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < variant->vcpus; i++)
		ASSERT_EQ(0, pthread_join(self->runner[i].thread, NULL));
	__atomic_store_n(&self->stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < variant->readers; i++)
		ASSERT_EQ(0, pthread_join(self->reader[i].thread, NULL));
	if (variant->memory) {
		ASSERT_EQ(0, pthread_join(self->memory.thread, NULL));
		TH_LOG("memory: %lu pages taken, dirty log read %lu times and switched %lu times",
		       self->memory.taken, self->memory.asked, self->memory.switched);
		EXPECT_NE(0, self->memory.taken);
		EXPECT_NE(0, self->memory.asked);
	}

	/* All read to the end before anybody else looks and might help them to it */
	for (i = 0; i < variant->readers; i++) {
		struct reader *r = &self->reader[i];

		ASSERT_EQ(NULL, r->error) {
			TH_LOG("reader %u: %s (%ld)", i, r->error, r->number);
		}
		ASSERT_LE(0, model_drain(&r->m, r->fd, r->linear, MAX_READ));
	}
	model_init(&now, self->htab.npte);
	fd = htab_reader(&self->htab);
	ASSERT_LE(0, fd);
	ASSERT_LE(0, model_drain(&now, fd, self->reader[0].linear, MAX_READ));
	close(fd);

	for (i = 0; i < variant->readers; i++) {
		struct reader *r = &self->reader[i];

		differ = model_differ(&now, &r->m);
		EXPECT_EQ(-1, differ) {
			TH_LOG("reader %u: entry 0x%lx is 0x%016lx 0x%016lx", i, differ,
			       now.hpte[differ].v, now.hpte[differ].r);
			TH_LOG("but was told to be 0x%016lx 0x%016lx", r->m.hpte[differ].v,
			       r->m.hpte[differ].r);
		}
		TH_LOG("reader %u: %lu passes, %lu entries and %lu invalid", i, r->passes,
		       r->m.valid, r->m.invalid);
		TH_LOG("%lu reads, %lu into slow pages, %lu bad buffers, %lu signals", r->reads,
		       r->slow_reads, r->faults, r->signals);
		model_free(&r->m);
	}
	model_free(&now);
	for (i = 0; i < variant->vcpus; i++) {
		TH_LOG("vCPU %u: %lu rounds, %lu exceptions", i, (unsigned long)s->rounds[i],
		       self->runner[i].exceptions);
		EXPECT_NE(0, self->runner[i].exceptions);
	}
}

TEST_HARNESS_MAIN
