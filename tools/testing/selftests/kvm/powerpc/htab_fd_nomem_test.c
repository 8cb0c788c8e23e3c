// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_PPC_GET_HTAB_FD when memory runs out: each call is made again and again,
 * and the first, second, third ... of its allocations fails, until it has none
 * left that could.  It fails with ENOMEM, and nothing has changed, or it does
 * without.
 *
 * This is for a kernel with FAULT_INJECTION, FAILSLAB, FAIL_PAGE_ALLOC and
 * FAULT_INJECTION_DEBUG_FS.
 */
#include <dirent.h>
#include <sys/mount.h>

#include "htab_fixture.h"

#define MAX_ALLOCATIONS	2000
#define LONG_RECORD	6000	/* more than the writer's buffer takes */

static const char *const faults[] = { "failslab", "fail_page_alloc" };

static const struct {
	const char *file;
	const char *value;
	bool pages;		/* of fail_page_alloc only */
} settings[] = {
	/* Those that may sleep are to fail as well, ... */
	{ "ignore-gfp-wait", "N" },
	{ "ignore-gfp-highmem", "N", true },
	{ "min-order", "0", true },
	/* ... the log is to say nothing of it, ... */
	{ "verbose", "0" },
	/* ... and if a thread wants it so, all of its own fail. */
	{ "task-filter", "Y" },
	{ "probability", "100" },
	{ "times", "-1" },
};

static int each_setting(int (*fn)(const char *path, const char *value))
{
	char path[64];
	unsigned int i, k;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(faults); i++) {
		for (k = 0; k < ARRAY_SIZE(settings) && !ret; k++) {
			if (settings[k].pages && i == 0)
				continue;
			snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s", faults[i],
				 settings[k].file);
			ret = fn(path, settings[k].value);
		}
	}
	return ret;
}

static int keep(const char *path, const char *value)
{
	(void)value;
	keep_setting(path);
	return 0;
}

__attribute__((constructor))
static void keep_settings(void)
{
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	each_setting(keep);
}

static int prepare(void)
{
	return each_setting(file_put);
}

static int fail_nth = -1;	/* of this thread */
static int make_it_fail = -1;

static void set(int fd, unsigned int n)
{
	char value[16];

	snprintf(value, sizeof(value), "%u", n);
	if (pwrite(fd, value, strlen(value), 0) < 0)
		abort();
}

/* Has it come to that allocation? */
static bool disarm(void)
{
	char value[16] = {};

	if (pread(fail_nth, value, sizeof(value) - 1, 0) < 0)
		abort();
	set(fail_nth, 0);
	return !atoi(value);
}

static bool can_inject(void)
{
	fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	make_it_fail = open("/proc/thread-self/make-it-fail", O_RDWR | O_CLOEXEC);
	return fail_nth >= 0 && make_it_fail >= 0;
}

#define NO_INJECTION	"this kernel cannot make allocations fail"

/* A series of calls, each of which lacks another allocation; the last one lacks none */
struct scarcity {
	unsigned int n;		/* the allocation that fails */
	unsigned int enomem;	/* how many calls have failed */
	bool met;		/* has the call come to it? */
};

static bool goes_on(struct scarcity *s)
{
	if (s->n == MAX_ALLOCATIONS || (s->n && !s->met))
		return false;
	s->n++;
	return true;
}

#define LACKING(_s, _call) ({						\
	struct scarcity *_lacking = (_s);				\
	long _result;							\
									\
	set(fail_nth, _lacking->n);					\
	_result = (_call);						\
	_lacking->met = disarm();					\
	_lacking->enomem += _result == -ENOMEM;				\
	_result;							\
})

/* None succeeds: an allocation that falls back to another fails only then */
#define LACKING_ALL(_call) ({						\
	long _result;							\
									\
	set(make_it_fail, 1);						\
	_result = (_call);						\
	set(make_it_fail, 0);						\
	_result;							\
})

/* Some calls have failed, and the last has not */
#define ALL_MET(_s) do {						\
	const struct scarcity *_series = (_s);				\
									\
	TH_LOG("%u allocations, %u of them needed", _series->n - 1, _series->enomem); \
	EXPECT_NE(0, _series->enomem);					\
	ASSERT_FALSE(_series->met);					\
} while (0)

/* Tables, reverse maps and bitmaps, which are vmalloc'ed and nobody else's */
static long areas(void)
{
	FILE *f = fopen("/proc/vmallocinfo", "r");
	char line[512];
	long n = 0;

	while (f && fgets(line, sizeof(line), f))
		n += !!strstr(line, "hpt");
	if (f)
		fclose(f);
	return n;
}

/* Buffers, and others of their size that may come and go */
static long buffers(void)
{
	FILE *f = fopen("/proc/slabinfo", "r");
	unsigned long objects;
	char line[512];
	long n = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "kmalloc-64k %lu", &objects) == 1 ||
		    sscanf(line, "kmalloc-cg-64k %lu", &objects) == 1)
			n += objects;
	if (f)
		fclose(f);
	return n;
}

struct in_use {
	long areas;
	long buffers;
	bool kept;		/* buffers that were freed, for a while: KASAN does */
};

static struct in_use in_use(struct htab_vm *vm)
{
	struct in_use now = { .buffers = buffers() };
	unsigned int i;

	for (i = 0; i < 16; i++)
		close(htab_reader(vm));
	now.kept = buffers() >= now.buffers + 4;
	now.areas = areas();
	return now;
}

/* No area, nor a buffer for each failure */
#define NOTHING_LEAKED(_before, _s) do {				\
	const struct in_use *_then = (_before);				\
									\
	EXPECT_EQ(_then->areas, areas());				\
	if (!_then->kept)						\
		EXPECT_GT(_then->buffers + 3 + (long)(_s)->enomem / 2, buffers()); \
} while (0)

/* The other reader's view and that of a new one */
#define NOTHING_CHANGED() do {						\
	TOLD_OF_NOTHING();						\
	TABLE_IS(&self->want);						\
} while (0)

/* Entries of which some map memory, and a reader that knows them */
#define FILL_AND_READ(_gen) do {					\
	unsigned int _k;						\
									\
	FILL(0, 3000, _gen);						\
	stream_header(&self->s, 3000, 64, 0);				\
	for (_k = 0; _k < 64; _k++) {					\
		struct hpte _e = mapping(3000 + _k, _k << 12);		\
									\
		stream_entry(&self->s, _e.v, _e.r);			\
	}								\
	WRITE_STREAM();							\
	DRAIN_AND_COMPARE();						\
} while (0)

/* The reader has met another one, for which it keeps a bitmap */
#define KNOWN_TABLE() do {						\
	ASSERT_EQ(0, htab_add_memory(&self->vm));			\
	TABLE(HTAB_ORDER);						\
	READER();							\
	FILL_AND_READ(0);						\
	NOTHING_CHANGED();						\
} while (0)

/* The table has been replaced by an empty one of another order */
#define OTHER_TABLE() do {						\
	ASSERT_EQ(-ESTALE, xread(self->reader, self->buf, BIG_BUF));	\
	close(self->reader);						\
	close(self->writer);						\
	model_free(&self->want);					\
	model_free(&self->got);						\
	model_init(&self->want, self->vm.npte);				\
	model_init(&self->got, self->vm.npte);				\
	self->writer = htab_writer(&self->vm);				\
	ASSERT_LE(0, self->writer);					\
	READER();							\
} while (0)

static unsigned int other_order(const struct htab_vm *vm)
{
	return vm->order == HTAB_ORDER ? HTAB_ORDER + 1 : HTAB_ORDER;
}

TEST_F(htab, open_without_memory)
{
	struct scarcity reading = {}, writing = {};
	char path[64];
	struct in_use before;
	int next, fd;

	if (!can_inject())
		SKIP(return, NO_INJECTION);
	ASSERT_EQ(0, prepare());
	KNOWN_TABLE();
	before = in_use(&self->vm);
	next = dup(0);
	close(next);

	while (goes_on(&reading)) {
		fd = LACKING(&reading, htab_reader(&self->vm));
		if (fd != -ENOMEM) {
			ASSERT_EQ(next, fd);
			model_init(&self->got, self->vm.npte);
			DRAIN(&self->got, fd);
			close(fd);
		}
		NOTHING_CHANGED();
	}
	ALL_MET(&reading);
	NOTHING_LEAKED(&before, &reading);

	while (goes_on(&writing)) {
		fd = LACKING(&writing, htab_writer(&self->vm));
		if (fd != -ENOMEM) {
			ASSERT_EQ(next, fd);
			close(self->writer);
			self->writer = dup(fd);
			close(fd);
			FILL(writing.n, 10, 1);
			DRAIN_AND_COMPARE();
		}
		NOTHING_CHANGED();
	}
	ALL_MET(&writing);
	NOTHING_LEAKED(&before, &writing);

	/* None of those that failed holds the VM */
	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d", getpid(), self->vm.fd);
	ASSERT_EQ(0, access(path, F_OK));
	close(self->reader);
	close(self->writer);
	close(self->vm.fd);
	self->vm.fd = -1;
	SOON(access(path, F_OK));
}

/* The table comes after the reader, which needs no memory for it */
TEST_F(htab, first_read_without_memory)
{
	long n;

	if (!can_inject())
		SKIP(return, NO_INJECTION);
	ASSERT_EQ(0, prepare());
	READER();
	ASSERT_EQ(0, xread(self->reader, self->buf, BIG_BUF));
	TABLE(HTAB_ORDER);
	FILL(0, 3000, 0);
	/* The buffer does */
	memset(self->buf, 0, HTAB_QEMU_BUF);
	n = LACKING_ALL(xread(self->reader, self->buf, HTAB_QEMU_BUF));
	ASSERT_LT(0, n);
	ASSERT_EQ(0, model_replay(&self->got, self->buf, n));
	DRAIN_AND_COMPARE();
}

/* What one reader comes across, another that has no memory for it reads anew */
TEST_F(htab, two_readers_without_memory)
{
	struct model other;
	int reader;
	long n;

	if (!can_inject())
		SKIP(return, NO_INJECTION);
	ASSERT_EQ(0, prepare());
	KNOWN_TABLE();
	reader = htab_reader(&self->vm);
	ASSERT_LE(0, reader);
	model_init(&other, self->vm.npte);
	DRAIN(&other, reader);
	FILL(100, 300, 1);
	do {
		n = LACKING_ALL(xread(self->reader, self->buf, 300));
		ASSERT_LE(0, n);
		ASSERT_EQ(0, model_replay(&self->got, self->buf, n));
	} while (n);
	ASSERT_EQ(-1, model_differ(&self->want, &self->got));
	DRAIN(&other, reader);
	EXPECT_EQ(-1, model_differ(&self->want, &other));
	model_free(&other);
	close(reader);
}

/* It needs none */
TEST_F(htab, read_without_memory)
{
	long n;

	if (!can_inject())
		SKIP(return, NO_INJECTION);
	ASSERT_EQ(0, prepare());
	KNOWN_TABLE();
	FILL(100, 300, 1);
	do {
		n = LACKING_ALL(xread(self->reader, self->buf, 300));
		ASSERT_LE(0, n);
		ASSERT_EQ(0, model_replay(&self->got, self->buf, n));
	} while (n);
	ASSERT_EQ(-1, model_differ(&self->want, &self->got));
}

/* Over entries that are there, some of which map memory: they must be kept, if not replaced */
TEST_F(htab, write_without_memory)
{
	static const unsigned int lengths[] = { 100, 3000, LONG_RECORD };
	unsigned int i, k;
	struct in_use before;

	if (!can_inject())
		SKIP(return, NO_INJECTION);
	ASSERT_EQ(0, prepare());
	KNOWN_TABLE();
	before = in_use(&self->vm);
	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		struct scarcity s = {};

		for (k = 0; !k || goes_on(&s); k++) {
			struct stream more = {};
			long n;

			/* Some have no predecessor, so that there is something to undo */
			stream_header(&self->s, 2900, 0, 50);
			WRITE_STREAM();
			DRAIN_AND_COMPARE();
			stream_run(&more, 2900, lengths[i], 9, 1 + k % 7);
			if (k)
				n = LACKING(&s, xwrite(self->writer, more.buf, more.len));
			else
				n = LACKING_ALL(xwrite(self->writer, more.buf, more.len));
			if (n != -ENOMEM) {
				ASSERT_EQ(more.len, n);
				ASSERT_EQ(0, model_expect(&self->want, &more));
			}
			free(more.buf);
			/* PR needs nothing */
			if (!k && variant->type == KVM_VM_PPC_HV)
				ASSERT_EQ(-ENOMEM, n);
			DRAIN_AND_COMPARE();
			TABLE_IS(&self->want);
			if (n != -ENOMEM)
				FILL_AND_READ(k);
		}
		TH_LOG("%u entries: %u allocations, %u of them needed", lengths[i], s.n - 1,
		       s.enomem);
		EXPECT_FALSE(s.met);
		NOTHING_LEAKED(&before, &s);
	}
}

TEST_F(htab, first_allocate_without_memory)
{
	struct scarcity s = {};
	struct in_use before;

	if (!can_inject())
		SKIP(return, NO_INJECTION);
	ASSERT_EQ(0, prepare());
	before = in_use(&self->vm);
	while (goes_on(&s)) {
		struct htab_vm vm;
		int fd, ret;

		ASSERT_EQ(0, htab_vm_open(&vm, variant->type));
		fd = htab_reader(&vm);
		ASSERT_LE(0, fd);
		ret = LACKING(&s, htab_allocate(&vm, HTAB_ORDER));
		if (ret == -ENOMEM) {
			EXPECT_EQ(0, xread(fd, self->buf, BIG_BUF));
			ret = htab_allocate(&vm, HTAB_ORDER);
		}
		ASSERT_EQ(0, ret);
		EXPECT_LT(0, xread(fd, self->buf, BIG_BUF));
		close(fd);
		htab_vm_close(&vm);
	}
	ALL_MET(&s);
	NOTHING_LEAKED(&before, &s);
}

/* Another order: there are two tables for a moment, and the old one stays if they cannot be */
TEST_F(htab, allocate_without_memory)
{
	struct scarcity s = {};
	struct in_use before;
	int ret;

	if (!can_inject())
		SKIP(return, NO_INJECTION);
	ASSERT_EQ(0, prepare());
	KNOWN_TABLE();
	before = in_use(&self->vm);
	while (goes_on(&s)) {
		ret = LACKING(&s, htab_allocate(&self->vm, other_order(&self->vm)));
		if (ret == -ENOMEM) {
			NOTHING_CHANGED();
			continue;
		}
		ASSERT_EQ(0, ret);
		OTHER_TABLE();
		DRAIN_AND_COMPARE();
		FILL_AND_READ(s.n);
		NOTHING_CHANGED();
	}
	ALL_MET(&s);
	NOTHING_LEAKED(&before, &s);
}

/* The same order: the table is reset, for which no memory is needed */
TEST_F(htab, reset_without_memory)
{
	struct scarcity s = {};

	if (!can_inject())
		SKIP(return, NO_INJECTION);
	ASSERT_EQ(0, prepare());
	KNOWN_TABLE();
	while (goes_on(&s)) {
		ASSERT_EQ(0, LACKING(&s, htab_allocate(&self->vm, HTAB_ORDER)));
		model_free(&self->want);
		model_init(&self->want, self->vm.npte);
		DRAIN_AND_COMPARE();
		FILL_AND_READ(s.n);
	}
	EXPECT_FALSE(s.met);
}

/* What makes an allocation of a kworker fail, -1 for another thread */
static int open_kworker(unsigned int pid)
{
	char path[64], name[32];

	snprintf(path, sizeof(path), "/proc/%u/comm", pid);
	if (!file_get(path, name, sizeof(name)) || strncmp(name, "kworker/", 8))
		return -1;
	snprintf(path, sizeof(path), "/proc/%u/fail-nth", pid);
	return open(path, O_RDWR | O_CLOEXEC);
}

/*
 * It is a thread of the kernel's that prepares a table: make it fail there.
 * Threads come and go, but what a thread is called is asked only once:
 * to look into /proc is slow on a kernel that checks itself.
 */
static void each_kworker(void (*fn)(int fd, void *arg), void *arg)
{
	static int fds[1 << 15];	/* by thread; 0 of one not yet seen */
	DIR *dir = opendir("/proc");
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		unsigned int pid = atoi(d->d_name);

		if (!pid || pid >= ARRAY_SIZE(fds))
			continue;
		if (!fds[pid])
			fds[pid] = open_kworker(pid);
		if (fds[pid] > 0)
			fn(fds[pid], arg);
	}
	if (dir)
		closedir(dir);
}

static void arm_kworker(int fd, void *n)
{
	dprintf(fd, "%u", *(unsigned int *)n);
}

static void disarm_kworker(int fd, void *met)
{
	char value[16] = {};

	if (pread(fd, value, sizeof(value) - 1, 0) > 0 && !atoi(value))
		*(bool *)met = true;
	pwrite(fd, "0", 1, 0);
}

TEST_F(htab, resize_without_memory)
{
	bool hv = variant->type == KVM_VM_PPC_HV;
	struct scarcity s = {}, there = {}, none = {};
	unsigned int order = HTAB_ORDER + 1;
	struct in_use before;
	int ret;

	if (!can_inject())
		SKIP(return, NO_INJECTION);
	ASSERT_EQ(0, prepare());
	GUEST();
	READER();
	DRAIN(&self->want, self->reader);
	READER();
	DRAIN_AND_COMPARE();
	FILL(1, 5, 0);
	FILL(9, 5, 0);
	DRAIN_AND_COMPARE();
	before = in_use(&self->vm);

	/* Under HV the request itself takes memory */
	while (hv && goes_on(&s)) {
		ret = LACKING(&s, resize_prepared(&self->vm, order));
		if (ret != -ENOMEM) {
			ASSERT_EQ(0, ret);
			ASSERT_EQ(0, resize_prepare(&self->vm, 0));
		}
		NOTHING_CHANGED();
	}
	if (hv)
		ALL_MET(&s);
	NOTHING_LEAKED(&before, &s);

	/* Where all kinds of things are done, so a failure may be another's */
	while (goes_on(&there)) {
		each_kworker(arm_kworker, &there.n);
		ret = resize_prepared(&self->vm, order);
		there.met = false;
		each_kworker(disarm_kworker, &there.met);
		there.enomem += ret == -ENOMEM;
		if (ret != -ENOMEM) {
			ASSERT_EQ(0, ret);
			ASSERT_EQ(0, resize_prepare(&self->vm, 0));
		}
		NOTHING_CHANGED();
	}
	ALL_MET(&there);
	NOTHING_LEAKED(&before, &there);

	/* To exchange the tables needs none */
	ASSERT_EQ(0, resize_prepared(&self->vm, order));
	ASSERT_TRUE(goes_on(&none));
	ASSERT_EQ(0, LACKING(&none, resize_commit(&self->vm, order)));
	EXPECT_FALSE(none.met);
	self->vm.npte = htab_npte(order);
	OTHER_TABLE();
	DRAIN(&self->got, self->reader);
	memcpy(self->want.hpte, self->got.hpte, self->vm.npte * sizeof(struct hpte));
	EXPECT_NE(0, self->got.valid);
	FILL_AND_READ(1);
}

TEST_HARNESS_MAIN
