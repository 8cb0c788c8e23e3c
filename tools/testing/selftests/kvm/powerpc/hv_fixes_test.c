// SPDX-License-Identifier: GPL-2.0
/*
 * What a guest of HV KVM can get of the host's memory that is not its own, by
 * large pages and by H_PAGE_INIT; and how its process can make a CPU of the host
 * wait for ever.  A host that fails the latter does not survive it.
 */
#define HTAB_HV_ONLY
#include <semaphore.h>

#include "htab_fixture.h"

#define OTHER_MEM	0x40000000UL	/* where a test has a slot of its own */

static long huge_kb(void)
{
	return get_number("/proc/self/smaps_rollup", "AnonHugePages:");
}

/* Memory of huge pages, aligned to its size or to 16 MB; 0 if this host has none */
static uintptr_t huge_memory(size_t size)
{
	size_t align = 16UL << 20;
	long kb = huge_kb();
	uintptr_t mem;

	mem = (uintptr_t)mmap(NULL, size + align, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == (uintptr_t)MAP_FAILED)
		return 0;
	mem = (mem + align - 1) & -align;
	madvise((void *)mem, size, MADV_HUGEPAGE);
	memset((void *)mem, 0x55, size);
	return huge_kb() - kb < (long)(size >> 10) ? 0 : mem;
}

/* A guest with a segment of large pages, and the host's memory for such a page */
struct large {
	struct segment seg;
	size_t size;		/* of the page */
	size_t host;		/* of the host's, which may be larger */
	uintptr_t mem;		/* three of the host's; 0 if it has none */
	struct hpte e;		/* maps OTHER_MEM ... */
	uint64_t index;		/* ... and belongs here */
};

static int large_create(struct htab_vm *vm, struct large *l)
{
	struct kvm_regs regs = { .pc = GUEST_CODE, .msr = MSR_OURS | MSR_DR };
	int ret;

	l->seg = (struct segment){
		.ea = 0x50000000, .vsid = 0x123, .page_shift = getpagesize() == 4096 ? 16 : 24,
	};
	l->size = 1UL << l->seg.page_shift;
	l->host = l->size < 2UL << 20 ? 2UL << 20 : l->size;
	l->e = segment_hpte(&l->seg, 0, OTHER_MEM);
	l->index = 8 * segment_group(&l->seg, 0, vm->npte, false);
	ret = guest_create(vm) ?: guest_run(vm) ?: guest_set_segment(vm, 0, &l->seg) ?:
	      xioctl(vm->vcpu, KVM_SET_REGS, &regs) ?: guest_run(vm);
	if (ret)
		return ret;

	l->mem = huge_memory(3 * l->host);
	if (!l->mem)
		return 0;
	/* And does it let the guest have one of them? */
	ret = htab_set_slot(vm, 1, 0, OTHER_MEM, (void *)l->mem, l->size);
	if (ret)
		return ret;
	if (guest_hcall(vm, H_ENTER, 0, l->index, l->e.v, l->e.r) ||
	    guest_hcall(vm, H_REMOVE, 0, l->index, 0, 0))
		l->mem = 0;
	return htab_set_slot(vm, 1, 0, OTHER_MEM, NULL, 0);
}

/*
 * An entry for a large page is taken if there is no memory at its address yet.
 * If then there is, but less than the page, and the host has a page as large
 * there, the guest does not get all of it.
 */
TEST_F(htab, large_page_past_its_slot)
{
	uint64_t args[9] = {};
	struct large l;
	int ret;

	TABLE(HTAB_ORDER);
	ASSERT_EQ(0, large_create(&self->vm, &l));
	if (!l.mem)
		SKIP(return, "this host has no page of %zu KB for it", l.host >> 10);
	HCALL(H_ENTER, 0, l.index, l.e.v, l.e.r);
	/* At the end of the host's page, if that is larger */
	ASSERT_EQ(0, htab_set_slot(&self->vm, 1, 0, OTHER_MEM,
				   (void *)(l.mem + l.host - l.size), l.size / 4));
	args[0] = l.seg.ea;
	ret = guest_do(&self->vm, GUEST_LOAD, args);
	EXPECT_EQ(-EFAULT, ret);
	if (ret)
		return;
	args[0] = l.seg.ea + l.size / 2;
	ret = guest_do(&self->vm, GUEST_LOAD, args);
	TH_LOG("past the slot the guest finds %lx (%d)", (long)args[0], ret);
}

/*
 * The memory of a slot need not be aligned as the slot is. The host then has no
 * page as large as the guest's there, even if its own are larger.
 */
TEST_F(htab, large_page_of_misaligned_memory)
{
	uint64_t args[9] = {};
	unsigned int tries = 10;
	struct large l;
	uintptr_t fresh;
	void *mem;
	long ret;

	TABLE(HTAB_ORDER);
	ASSERT_EQ(0, large_create(&self->vm, &l));
	if (!l.mem)
		SKIP(return, "this host has no page of %zu KB for it", l.host >> 10);
	mem = (void *)(l.mem + getpagesize());
	ASSERT_EQ(0, htab_set_slot(&self->vm, 1, 0, OTHER_MEM, mem, l.size));
	/* While the host is busy with its page tables, it enters it absent */
	while ((ret = guest_hcall(&self->vm, H_ENTER, 0, l.index, l.e.v, l.e.r)) == 0 && tries--)
		HCALL(H_REMOVE, 0, l.index, 0, 0);
	ASSERT_EQ(H_PARAMETER, ret);
	stream_reset(&self->s);
	stream_header(&self->s, l.index, 1, 0);
	stream_entry(&self->s, l.e.v, l.e.r);
	EXPECT_EQ(-EIO, xwrite(self->writer, self->s.buf, self->s.len));
	ASSERT_EQ(0, htab_set_slot(&self->vm, 1, 0, OTHER_MEM, mem, 0));

	/* Where the host has no page yet nobody can tell: both ways take it */
	fresh = (uintptr_t)mmap(NULL, 4 * (16UL << 20), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE((uintptr_t)MAP_FAILED, fresh);
	fresh = ((fresh + (16UL << 20)) & -(16UL << 20)) + getpagesize();
	ASSERT_EQ(0, htab_set_slot(&self->vm, 1, 0, OTHER_MEM, (void *)fresh, l.size));
	HCALL(H_ENTER, 0, l.index, l.e.v, l.e.r);
	HCALL(H_REMOVE, 0, l.index, 0, 0);
	EXPECT_EQ(self->s.len, xwrite(self->writer, self->s.buf, self->s.len));
	HCALL(H_REMOVE, 0, l.index, 0, 0);
	ASSERT_EQ(0, htab_set_slot(&self->vm, 1, 0, OTHER_MEM, (void *)fresh, 0));

	/* Nor if it is entered before there is memory */
	HCALL(H_ENTER, 0, l.index, l.e.v, l.e.r);
	ASSERT_EQ(0, htab_set_slot(&self->vm, 1, 0, OTHER_MEM, mem, l.size));
	args[0] = l.seg.ea;
	EXPECT_EQ(-EFAULT, guest_do(&self->vm, GUEST_LOAD, args));
}

/*
 * A page that the process maps privately is the file's until it is written to;
 * whom the guest has do that makes no difference.
 */
TEST_F(htab, page_init_of_shared_page)
{
	const uint64_t word = 0x0123456789abcdefULL;
	size_t size = getpagesize();
	uint64_t now, *mem;
	int fd;

	GUEST();
	ASSERT_EQ(0, guest_enable_hcall(&self->vm, H_PAGE_INIT));
	fd = memfd_create("shared", 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, size));
	ASSERT_EQ(sizeof(word), pwrite(fd, &word, sizeof(word), 0));
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, htab_set_slot(&self->vm, 1, 0, OTHER_MEM, mem, size));

	/* Reading it gets it into the process, to be copied when written to */
	ASSERT_EQ(word, *mem);
	HCALL(H_PAGE_INIT, H_ZERO_PAGE, OTHER_MEM, 0, 0);
	EXPECT_EQ(0, *mem);
	ASSERT_EQ(sizeof(now), pread(fd, &now, sizeof(now), 0));
	EXPECT_EQ(word, now);

	/* The copy is the process' own: now it is written to directly */
	GUEST_STORES(GUEST_DATA, 0x1234);
	HCALL(H_PAGE_INIT, H_COPY_PAGE, OTHER_MEM, GUEST_DATA, 0);
	EXPECT_EQ(0x1234, *mem);

	ASSERT_EQ(sizeof(word), pwrite(fd, &word, sizeof(word), 0));
	ASSERT_EQ(0, madvise(mem, size, MADV_DONTNEED));
	ASSERT_EQ(word, *mem);
	HCALL(H_PAGE_INIT, H_COPY_PAGE, OTHER_MEM, GUEST_DATA, 0);
	EXPECT_EQ(0x1234, *mem);
	ASSERT_EQ(sizeof(now), pread(fd, &now, sizeof(now), 0));
	EXPECT_EQ(word, now);
}

/* The last 4K of a slot are as good as the others, and what follows is not there */
TEST_F(htab, page_init_at_the_end_of_a_slot)
{
	const uint64_t last = OTHER_MEM + getpagesize() - 0x1000;
	uint64_t *mem;

	GUEST();
	ASSERT_EQ(0, guest_enable_hcall(&self->vm, H_PAGE_INIT));
	mem = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, htab_set_slot(&self->vm, 1, 0, OTHER_MEM, mem, getpagesize()));
	mem += (last - OTHER_MEM) / sizeof(*mem);

	*mem = 0x5678;
	HCALL(H_PAGE_INIT, H_COPY_PAGE, GUEST_DATA, last, 0);
	GUEST_LOADS(GUEST_DATA, 0x5678);
	GUEST_STORES(GUEST_DATA, 0x1234);
	HCALL(H_PAGE_INIT, H_COPY_PAGE, last, GUEST_DATA, 0);
	EXPECT_EQ(0x1234, *mem);
	HCALL(H_PAGE_INIT, H_ZERO_PAGE, last, 0, 0);
	EXPECT_EQ(0, *mem);
	HCALL_IS(H_PARAMETER, H_PAGE_INIT, H_ZERO_PAGE, last + 0x1000, 0, 0);
	HCALL_IS(H_PARAMETER, H_PAGE_INIT, H_COPY_PAGE, last + 0x1000, GUEST_DATA, 0);
	HCALL_IS(H_PARAMETER, H_PAGE_INIT, H_COPY_PAGE, GUEST_DATA, last + 0x1000, 0);
}

/*
 * Who holds the lock of an HPTE, or that of a page's chain of them, must not be
 * preempted: an MMU notifier on the same CPU would wait for it, and not let it
 * go on.  Here comes one by a timer, in the middle of what goes through many
 * HPTEs, each time at another moment.  It has the higher priority and the pages
 * that the HPTEs map, so it looks at all that are left.
 */
#define PREEMPT_MS	3000
#define PREEMPT_PAGES	16UL
#define PREEMPT_GROUPS	300UL	/* of HPTEs, each with 7 of ours */

struct preempted {
	pthread_t thread;
	struct htab_vm *vm;
	int (*prepare)(struct preempted *p);
	int (*go)(struct preempted *p);
	struct stream s;
	int writer;
	char *mem;
	size_t size;
	sem_t aim;
	unsigned int delay;	/* from that to the notifier, in us; 0 is none */
	unsigned int notified;
	unsigned int done;
	unsigned int amid;	/* of those, with a notifier before the end */
	bool stop;
	int error;
};

#define NOTIFIED(_p)	__atomic_load_n(&(_p)->notified, __ATOMIC_RELAXED)

static void *notifier_thread(void *arg)
{
	const struct sched_param param = { .sched_priority = 1 };
	struct preempted *p = arg;

	if (stay_on_cpu(0) || sched_setscheduler(0, SCHED_FIFO, &param)) {
		p->error = -errno;
		return NULL;
	}
	while (!sem_wait(&p->aim) && !__atomic_load_n(&p->stop, __ATOMIC_RELAXED)) {
		usleep(p->delay);
		if (madvise(p->mem, p->size, MADV_DONTNEED))
			p->error = -errno;
		__atomic_add_fetch(&p->notified, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* With a notifier after a delay, or none; *@us is how long it took */
static int preempted_once(struct preempted *p, unsigned int delay, uint64_t *us)
{
	unsigned int before = NOTIFIED(p);
	ssize_t n;
	int ret;

	ret = p->prepare(p);
	if (ret)
		return ret;
	/* HPTEs map what is there when they are written */
	memset(p->mem, 1, p->size);
	n = xwrite(p->writer, p->s.buf, p->s.len);
	if (n != (ssize_t)p->s.len)
		return n < 0 ? n : -EIO;
	p->delay = delay;
	if (delay)
		sem_post(&p->aim);
	*us = now_us();
	ret = p->go(p);
	*us = now_us() - *us;
	if (!delay)
		return ret;
	p->done++;
	p->amid += NOTIFIED(p) != before;
	while (NOTIFIED(p) == before && !p->error)
		usleep(100);
	return ret ?: p->error;
}

static void *preempted_thread(void *arg)
{
	struct preempted *p = arg;
	uint64_t begin, us, last;
	unsigned int i;

	p->error = stay_on_cpu(0);
	/* The first time is no measure */
	for (i = 0; i < 3 && !p->error; i++)
		p->error = preempted_once(p, 0, &us);
	begin = now_ms();
	for (i = 0; (now_ms() - begin < PREEMPT_MS || !p->amid) && !p->error; i++)
		p->error = preempted_once(p, 1 + us * (i * 37 % 64) / 64, &last);
	__atomic_store_n(&p->stop, true, __ATOMIC_RELAXED);
	sem_post(&p->aim);
	return NULL;
}

#define PREEMPTED(_prepare, _go) do {					\
	struct preempted p = {						\
		.vm = &self->vm,					\
		.prepare = (_prepare),					\
		.go = (_go),						\
		.size = PREEMPT_PAGES * getpagesize(),			\
	};								\
	pthread_t notifier;						\
	unsigned long i;						\
									\
	GUEST();							\
	p.writer = self->writer;					\
	p.mem = mmap(NULL, p.size, PROT_READ | PROT_WRITE,		\
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);		\
	ASSERT_NE(MAP_FAILED, p.mem);					\
	ASSERT_EQ(0, htab_set_slot(&self->vm, 1, 0, OTHER_MEM, p.mem, p.size)); \
	for (i = 0; i < 8 * PREEMPT_GROUPS; i++) {			\
		struct hpte e = mapping(i, OTHER_MEM + i % PREEMPT_PAGES * getpagesize()); \
									\
		/* The last of a group may be one that real mode needs */	\
		if (i % 8 == 0)						\
			stream_header(&p.s, i, 7, 0);			\
		if (i % 8 != 7)						\
			stream_entry(&p.s, e.v, e.r);			\
	}								\
	ASSERT_EQ(0, sem_init(&p.aim, 0, 0));				\
	ASSERT_EQ(0, pthread_create(&notifier, NULL, notifier_thread, &p)); \
	ASSERT_EQ(0, pthread_create(&p.thread, NULL, preempted_thread, &p)); \
	/* If there is another CPU, it can tell */			\
	stay_on_cpu(1);							\
	for (i = 0; i < SOON_S * 10 && pthread_tryjoin_np(p.thread, NULL); i++) \
		usleep(100000);						\
	ASSERT_GT(SOON_S * 10, i) {					\
		TH_LOG("CPU 0 hangs, after %u, %u", p.done, p.amid);	\
	}								\
	ASSERT_EQ(0, pthread_join(notifier, NULL));			\
	EXPECT_EQ(0, p.error);						\
	EXPECT_LT(0, p.amid);						\
	TH_LOG("%u done, %u of them with a notifier meanwhile", p.done, p.amid); \
} while (0)

/* The guest loads from where a device is to be: from which address? */
static int mmio_load(struct htab_vm *vm, uint64_t ea, uint64_t *gpa)
{
	uint64_t args[9] = { ea };

	if (guest_do(vm, GUEST_LOAD, args) != -EPROTO ||
	    vm->run->exit_reason != KVM_EXIT_MMIO)
		return -EPROTO;
	*gpa = vm->run->mmio.phys_addr;
	return guest_run(vm);
}

/* A vCPU remembers where MMIO goes, but not beyond the table that said so */
#define MMIO_AFTER(_replace) do {					\
	struct kvm_regs regs = { .pc = GUEST_CODE, .msr = MSR_OURS | MSR_DR }; \
	struct segment seg = { .ea = 0x50000000, .vsid = 0x123, .page_shift = 16 }; \
	uint64_t index, gpa;						\
	struct hpte e;							\
	unsigned int i;							\
									\
	GUEST();							\
	ASSERT_EQ(0, guest_set_segment(&self->vm, 0, &seg));		\
	ASSERT_EQ(0, xioctl(self->vm.vcpu, KVM_SET_REGS, &regs));	\
	ASSERT_EQ(0, guest_run(&self->vm));				\
	index = 8 * segment_group(&seg, 0, self->vm.npte, false);	\
	for (i = 0; i < 3; i++) {					\
		e = segment_hpte(&seg, 0, OTHER_MEM + (i << 20));	\
		HCALL(H_ENTER, 0, index, e.v, e.r);			\
		ASSERT_EQ(0, mmio_load(&self->vm, seg.ea, &gpa));	\
		EXPECT_EQ(OTHER_MEM + (i << 20), gpa);			\
		ASSERT_EQ(0, _replace(&self->vm, HTAB_ORDER));		\
	}								\
} while (0)

TEST_F(htab, mmio_after_reset)
{
	MMIO_AFTER(htab_allocate);
}

TEST_F(htab, mmio_after_resize)
{
	MMIO_AFTER(htab_resize);
}

static int commit_prepare(struct preempted *p)
{
	return resize_prepared(p->vm, HTAB_ORDER);
}

static int commit(struct preempted *p)
{
	return resize_commit(p->vm, HTAB_ORDER);
}

TEST_F(htab, resize_preempted_by_notifier)
{
	PREEMPTED(commit_prepare, commit);
}

static int slot_add(struct preempted *p)
{
	return htab_set_slot(p->vm, 1, 0, OTHER_MEM, p->mem, p->size);
}

static int slot_remove(struct preempted *p)
{
	return htab_set_slot(p->vm, 1, 0, OTHER_MEM, p->mem, 0);
}

TEST_F(htab, slot_removal_preempted_by_notifier)
{
	PREEMPTED(slot_add, slot_remove);
}

/* Of what the host keeps for tables alone, since it has no other memory as large */
#define RESERVED_ORDER	25

/*
 * VMs with a table each, until there is no room for another one of that size: then
 * it returns -ENOMEM, 0 if there is room for all of them.
 */
static int exhaust(struct htab_vm *vms, unsigned int n)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < n && !ret; i++)
		ret = htab_vm_open(&vms[i], KVM_VM_PPC_HV) ?:
		      htab_allocate(&vms[i], RESERVED_ORDER);
	return ret;
}

#define MUCH_ROOM	"this host keeps more for tables than 64 large ones take"

/* Where there is no room for two, one that no vCPU has run with is given up */
TEST_F(htab, unused_table_makes_room)
{
	struct htab_vm vms[64];
	int ret;

	ASSERT_EQ(0, htab_allocate(&self->vm, RESERVED_ORDER + 1));
	ret = exhaust(vms, ARRAY_SIZE(vms));
	if (!ret)
		SKIP(return, MUCH_ROOM);
	ASSERT_EQ(-ENOMEM, ret);
	EXPECT_EQ(0, htab_allocate(&self->vm, RESERVED_ORDER));
	/* What that leaves, too: then a larger one has no room even in its place */
	ASSERT_EQ(-ENOMEM, exhaust(vms, ARRAY_SIZE(vms)));
	EXPECT_EQ(-ENOMEM, htab_allocate(&self->vm, RESERVED_ORDER + 1));
	TABLE(RESERVED_ORDER);
	FILL(0, 20, 0);
	TABLE_IS(&self->want);
}

/* But it stays if one has, and has all that the guest put there */
TEST_F(htab, used_table_stays)
{
	struct htab_vm vms[64];
	int ret;

	GUEST();
	FILL(100, 20, 0);
	READER();
	DRAIN(&self->want, self->reader);
	ret = exhaust(vms, ARRAY_SIZE(vms));
	if (!ret)
		SKIP(return, MUCH_ROOM);
	ASSERT_EQ(-ENOMEM, ret);
	EXPECT_EQ(-ENOMEM, htab_allocate(&self->vm, RESERVED_ORDER));
	TABLE_IS(&self->want);
	EXPECT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
}

TEST_HARNESS_MAIN
