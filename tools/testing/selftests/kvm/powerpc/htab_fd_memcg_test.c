// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_PPC_GET_HTAB_FD, and what makes the table, at the limit of a memory cgroup:
 * what is charged fails with ENOMEM, nothing is lost by that, and nobody is
 * killed; what needs nothing succeeds; and once the limit is raised all goes on.
 *
 * htab_fd_nomem_test has each allocation fail by itself.  Here it is the kernel
 * that decides whether to fail it or to kill the process.
 */
#include <dirent.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "htab_fixture.h"

#define GROUP		"htab_fd_memcg_test"
#define NR_MARKS	16UL
#define LONG_RECORD	6000

static const unsigned int big_orders[] = { 26, 28, 30 };

/*
 * Groups.  All are below the top of the hierarchy and bear the number of the
 * program's first process, which takes them away when it ends, since a test
 * that is killed does not.
 */
static char top[256];		/* where cgroup v2 is mounted, "" if it is not */
static const char *unfit;	/* why there are no groups */
static bool mounted, enabled;	/* by us */
static pid_t program;

static void find_top(void)
{
	FILE *f = fopen("/proc/self/mounts", "r");
	char line[1024], where[256], type[32];

	while (f && !*top && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %255s %31s", where, type) == 2 && !strcmp(type, "cgroup2"))
			strcpy(top, where);
	if (f)
		fclose(f);
}

static bool in_file(const char *name, const char *word)
{
	char path[300], text[1024], *p;

	snprintf(path, sizeof(path), "%s/%s", top, name);
	file_get(path, text, sizeof(text));
	for (p = strtok(text, "\n "); p && strcmp(p, word); p = strtok(NULL, "\n "))
		;
	return p;
}

static int put_in(const char *name, const char *text)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", top, name);
	return file_put(path, text);
}

__attribute__((constructor))
static void prepare_groups(void)
{
	program = getpid();
	find_top();
	if (!*top) {
		mounted = !mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL);
		find_top();
	}
	if (!*top) {
		unfit = "no cgroup v2";
	} else if (!in_file("cgroup.controllers", "memory")) {
		unfit = "cgroup v2 has no memory controller";
	} else if (!in_file("cgroup.subtree_control", "memory")) {
		enabled = !put_in("cgroup.subtree_control", "+memory");
		if (!enabled)
			unfit = "the memory controller cannot be enabled for groups";
	}
}

__attribute__((destructor))
static void remove_groups(void)
{
	char name[64], path[600];
	struct dirent *d;
	DIR *dir;

	if (!*top || getpid() != program)
		return;
	snprintf(name, sizeof(name), "%s.%d.", GROUP, program);
	dir = opendir(top);
	while (dir && (d = readdir(dir))) {
		if (strncmp(d->d_name, name, strlen(name)))
			continue;
		snprintf(path, sizeof(path), "%s/%s", top, d->d_name);
		if (rmdir(path))
			fprintf(stderr, "# %s stays: %s\n", path, strerror(errno));
	}
	if (dir)
		closedir(dir);
	if (enabled)
		put_in("cgroup.subtree_control", "-memory");
	if (mounted)
		umount(top);
}

/*
 * The group that this process is in.  Its files are kept open, since to open a
 * file, or to read it for the first time, takes memory, too.
 */
static struct group {
	unsigned int nr;
	int current, max, events;
	char *filler;
	size_t filler_size;
	/* What has happened at the limit */
	long met;		/* charges that were refused at first */
	long ooms;		/* how often that was not the end of it */
	long grown;		/* bytes */
} group = { .current = -1, .max = -1, .events = -1 };

static void fail(const char *what)
{
	fprintf(stderr, "# %s: %s\n", what, strerror(errno));
	abort();
}

static char *group_path(char *path, size_t size, unsigned int nr, const char *file)
{
	snprintf(path, size, "%s/%s.%d.%d-%u%s%s", top, GROUP, program, getpid(), nr,
		 *file ? "/" : "", file);
	return path;
}

static long number_in(int fd, const char *after)
{
	char text[512] = {};
	const char *p;

	if (pread(fd, text, sizeof(text) - 1, 0) <= 0)
		fail("a file of the group");
	p = strstr(text, after);
	return p ? atol(p + strlen(after)) : 0;
}

static int group_file(unsigned int nr, const char *name, int flags)
{
	char path[400];
	int fd = open(group_path(path, sizeof(path), nr, name), flags | O_CLOEXEC);

	if (fd < 0)
		fail(path);
	if (flags == O_RDONLY)
		number_in(fd, "");
	return fd;
}

static void set_max(const char *value)
{
	if (pwrite(group.max, value, strlen(value), 0) < 0)
		fail("memory.max");
}

/*
 * Go into a new group, in which each CPU's stock of charges in advance is empty,
 * but for what this process takes there: it stays on one CPU.
 */
static void enter_group(void)
{
	unsigned int nr = group.nr++;
	char path[400], pid[16];

	if (stay_on_cpu(sched_getcpu()) ||
	    mkdir(group_path(path, sizeof(path), group.nr, ""), 0755))
		fail("a new group");
	/* There is none without swap */
	file_put(group_path(path, sizeof(path), group.nr, "memory.swap.max"), "0");
	close(group.current);
	close(group.max);
	close(group.events);
	group.current = group_file(group.nr, "memory.current", O_RDONLY);
	group.events = group_file(group.nr, "memory.events", O_RDONLY);
	group.max = group_file(group.nr, "memory.max", O_WRONLY);
	snprintf(pid, sizeof(pid), "%d", getpid());
	if (file_put(group_path(path, sizeof(path), group.nr, "cgroup.procs"), pid))
		fail(path);
	if (nr && rmdir(group_path(path, sizeof(path), nr, "")))
		fail(path);
}

/*
 * Use up what is in stock: a charge takes a lot at once (64 pages), which shows in
 * memory.current, and the rest of it is there for the next ones, by which that
 * does not change.  To store to the zero page takes just one page if there is all
 * else that memory of a process needs.
 */
static void map_filler(void)
{
	size_t i;

	group.filler_size = 256 * getpagesize();
	group.filler = mmap(NULL, group.filler_size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (group.filler == MAP_FAILED)
		fail("mmap");
	madvise(group.filler, group.filler_size, MADV_NOHUGEPAGE);
	group.filler[0] = 1;
	for (i = 0; i < group.filler_size; i += getpagesize())
		(void)__atomic_load_n(&group.filler[i], __ATOMIC_RELAXED);
}

static void use_up_stock(void)
{
	long page = getpagesize(), batch = 0, left = -1, was = 0, now;
	size_t i;

	for (i = page; i < group.filler_size && left; i += page) {
		__atomic_store_n(&group.filler[i], 1, __ATOMIC_RELAXED);
		now = number_in(group.current, "");
		/* It may be less, for another group can be given the place of its stock */
		if (!batch)
			batch = now / page;
		left = now > was ? batch - 1 : left - 1;
		was = now;
	}
	if (left)
		fail("the group's stock");
}

/* Nothing but what this process calls the kernel for takes memory any more */
static void begin_limit(unsigned long room)
{
	char value[24];

	if (mlockall(MCL_CURRENT))
		fail("mlockall");
	map_filler();
	enter_group();
	use_up_stock();
	group.grown = number_in(group.current, "");
	snprintf(value, sizeof(value), "%lu", group.grown + room);
	set_max(value);
}

/* The process stays in the group */
static void end_limit(void)
{
	group.grown = number_in(group.current, "") - group.grown;
	group.met = number_in(group.events, "\nmax ");
	group.ooms = number_in(group.events, "\noom ") + number_in(group.events, "oom_kill ");
	set_max("max");
	munmap(group.filler, group.filler_size);
	munlockall();
}

/* A call with so much room up to the limit, which is raised again after it */
#define WITHIN(_room, _call) ({						\
	long _result;							\
									\
	begin_limit(_room);						\
	_result = (_call);						\
	end_limit();							\
	_result;							\
})

/* It meets the limit, or needs nothing that is charged */
#define REFUSED(_result, _room, _call) do {				\
	long _got = WITHIN(_room, _call);				\
									\
	ASSERT_EQ(_result, _got);					\
	ASSERT_LT(0, group.met);					\
	ASSERT_EQ(0, group.ooms);					\
} while (0)

#define NEEDS_NOTHING(_result, _room, _call) do {			\
	long _got = WITHIN(_room, _call);				\
									\
	ASSERT_EQ(_result, _got);					\
	ASSERT_EQ(0, group.met);					\
	ASSERT_EQ(0, group.ooms);					\
} while (0)

/*
 * Entries in a table too large for a model: few, far from each other.
 */

static unsigned long mark_index(unsigned long npte, unsigned long k)
{
	/* In a place that the guest leaves free */
	return k * (npte / NR_MARKS) + 8 * k + 3;
}

static bool is_mark(unsigned long npte, unsigned long index)
{
	unsigned long k = index / (npte / NR_MARKS);

	return k < NR_MARKS && index == mark_index(npte, k);
}

static int write_marks(struct htab_vm *vm, unsigned int gen)
{
	struct stream s = {};
	unsigned long k;
	ssize_t n;
	int fd;

	for (k = 0; k < NR_MARKS; k++)
		stream_run(&s, mark_index(vm->npte, k), 1, 0, gen);
	fd = htab_writer(vm);
	n = fd < 0 ? fd : xwrite(fd, s.buf, s.len);
	close(fd);
	free(s.buf);
	return n < 0 ? n : 0;
}

/* What a pass has told */
struct pass {
	unsigned long next;	/* HPTE, if all were told without a gap; else 0 */
	unsigned long marks;	/* as they were written */
	unsigned long others;	/* valid as well */
	unsigned long invalid;
};

static int replay(struct pass *p, const char *at, size_t len, unsigned long npte,
		  unsigned int gen)
{
	const char *end = at + len;

	while (at < end) {
		struct kvm_get_htab_header hdr;
		unsigned int i;

		if ((size_t)(end - at) < sizeof(hdr))
			return -EPROTO;
		memcpy(&hdr, at, sizeof(hdr));
		at += sizeof(hdr);
		if ((size_t)(end - at) < hdr.n_valid * HTAB_ENTRY ||
		    (unsigned long)hdr.index + hdr.n_valid + hdr.n_invalid > npte)
			return -EPROTO;
		for (i = 0; i < hdr.n_valid; i++, at += HTAB_ENTRY) {
			struct hpte e = hpte_of(hdr.index + i, gen);
			uint64_t raw[2];

			memcpy(raw, at, sizeof(raw));
			if (is_mark(npte, hdr.index + i) && be64toh(raw[0]) == e.v &&
			    be64toh(raw[1]) == e.r)
				p->marks++;
			else
				p->others++;
		}
		p->invalid += hdr.n_invalid;
		p->next = hdr.index == p->next ? p->next + hdr.n_valid + hdr.n_invalid : 0;
	}
	return 0;
}

/* Read until there is nothing */
static int read_pass(struct pass *p, int fd, char *buf, unsigned long npte, unsigned int gen)
{
	ssize_t n;
	int err = 0;

	memset(p, 0, sizeof(*p));
	while (!err && (n = xread(fd, buf, BIG_BUF)) > 0)
		err = replay(p, buf, n, npte, gen);
	return err ?: n;
}

/* All is told, the marks and, if they are all that is in the table, nothing else */
#define WHOLE(_p, _others) do {						\
	const struct pass *_pass = (_p);				\
									\
	ASSERT_EQ(self->vm.npte, _pass->next);				\
	ASSERT_EQ(NR_MARKS, _pass->marks);				\
	ASSERT_EQ(_others, _pass->others);				\
} while (0)

#define MARKS_ONLY(_p) do {						\
	const struct pass *_pass = (_p);				\
									\
	ASSERT_EQ(NR_MARKS, _pass->marks);				\
	ASSERT_EQ(0, _pass->others + _pass->invalid);			\
} while (0)

/* What a table is charged for: PR has all of it in the memory of whoever asks */
static unsigned long table_charge(unsigned long type, unsigned int order)
{
	unsigned long bitmap = htab_npte(order) / 8;

	return type == KVM_VM_PPC_HV ? 2 * bitmap : (1UL << order) + bitmap;
}

/*
 * How large a table this host has memory for.  The smallest of these orders it
 * must have; under HV others take memory that is reserved at boot.
 */
static int allocate_big(struct htab_vm *vm, unsigned int order)
{
	int ret = htab_allocate(vm, order);

	if (ret == -ENOMEM && order > big_orders[0])
		ksft_print_msg("this host has no memory for a table of order %u\n", order);
	return ret;
}

/* It takes its struct, and a buffer */
TEST_F(htab, open_at_limit)
{
	static const uint64_t flags[] = { 0, KVM_GET_HTAB_BOLTED_ONLY, KVM_GET_HTAB_WRITE };
	static const unsigned long buffers[] = { 64UL << 10, 64UL << 10, 1UL << 20 };
	unsigned long room;
	unsigned int i;
	int fd;

	if (unfit)
		SKIP(return, "%s", unfit);
	TABLE(HTAB_ORDER);
	FILL(0, 3000, 0);
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		for (room = 0; room <= buffers[i]; room = 2 * room ?: getpagesize())
			REFUSED(-ENOMEM, room, htab_open(&self->vm, flags[i], 0));
		/*
		 * With as much as it needs it succeeds, and has been charged for that:
		 * a kernel that checks itself puts something around each object.
		 */
		fd = WITHIN(4 * buffers[i] + (256UL << 10), htab_open(&self->vm, flags[i], 0));
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, group.met);
		EXPECT_LE(buffers[i], group.grown);
		close(fd);
	}

	READER();
	close(self->writer);
	self->writer = htab_writer(&self->vm);
	ASSERT_LE(0, self->writer);
	DRAIN_AND_COMPARE();
	ASSERT_EQ(-1, model_told(&self->got, 0, self->vm.npte, 1));
	FILL(2000, 3000, 1);
	DRAIN_AND_COMPARE();
}

/*
 * A read needs nothing, but when there are several readers, each is given a
 * bitmap; without one it returns all entries again.
 */
TEST_F(htab, read_at_limit)
{
	struct pass pass = {};
	unsigned int i;
	int ret, first, second;

	if (unfit)
		SKIP(return, "%s", unfit);
	for (i = 0; i < ARRAY_SIZE(big_orders); i++) {
		ret = allocate_big(&self->vm, big_orders[i]);
		if (ret == -ENOMEM && i)
			break;
		ASSERT_EQ(0, ret);
		ASSERT_EQ(0, write_marks(&self->vm, 0));
		first = htab_reader(&self->vm);
		ASSERT_LE(0, first);
		NEEDS_NOTHING(0, 0, read_pass(&pass, first, self->buf, self->vm.npte, 0));
		WHOLE(&pass, 0);

		/* The second one comes to the end of its first pass */
		second = htab_reader(&self->vm);
		ASSERT_LE(0, second);
		REFUSED(0, 0, read_pass(&pass, second, self->buf, self->vm.npte, 0));
		WHOLE(&pass, 0);

		/* The first one cannot tell it what it has found */
		ASSERT_EQ(0, write_marks(&self->vm, 1));
		REFUSED(0, 0, read_pass(&pass, first, self->buf, self->vm.npte, 1));
		MARKS_ONLY(&pass);
		REFUSED(0, 0, read_pass(&pass, second, self->buf, self->vm.npte, 1));
		WHOLE(&pass, 0);

		/* And neither can the second */
		ASSERT_EQ(0, write_marks(&self->vm, 2));
		REFUSED(0, self->vm.npte / 16,
			read_pass(&pass, second, self->buf, self->vm.npte, 2));
		MARKS_ONLY(&pass);

		/* With the limit raised nothing has been lost, ... */
		ASSERT_EQ(0, read_pass(&pass, first, self->buf, self->vm.npte, 2));
		WHOLE(&pass, 0);
		/* ... and both have their bitmaps */
		ASSERT_EQ(0, write_marks(&self->vm, 3));
		NEEDS_NOTHING(0, 0, read_pass(&pass, second, self->buf, self->vm.npte, 3));
		MARKS_ONLY(&pass);
		NEEDS_NOTHING(0, 0, read_pass(&pass, first, self->buf, self->vm.npte, 3));
		MARKS_ONLY(&pass);
		close(first);
		close(second);
	}
}

/* Under HV it takes what is needed to undo a record, if there is something to undo */
TEST_F(htab, write_at_limit)
{
	static const unsigned int lengths[] = { 1, 100, LONG_RECORD };
	bool hv = variant->type == KVM_VM_PPC_HV;
	struct stream again = {}, more = {}, none = {};
	unsigned int i;

	if (unfit)
		SKIP(return, "%s", unfit);
	TABLE(HTAB_ORDER);
	READER();
	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		unsigned int n = lengths[i];

		/* Where nothing is */
		stream_reset(&more);
		stream_run(&more, 1000, n, 0, 2 * i);
		NEEDS_NOTHING(more.len, 0, xwrite(self->writer, more.buf, more.len));
		ASSERT_EQ(0, model_expect(&self->want, &more));
		DRAIN_AND_COMPARE();

		/* Where they are */
		stream_reset(&again);
		stream_run(&again, 1000, n, 9, 2 * i + 1);
		if (hv) {
			REFUSED(-ENOMEM, 0, xwrite(self->writer, again.buf, again.len));
			TOLD_OF_NOTHING();
			TABLE_IS(&self->want);
			ASSERT_EQ(again.len, xwrite(self->writer, again.buf, again.len));
		} else {
			NEEDS_NOTHING(again.len, 0, xwrite(self->writer, again.buf, again.len));
		}
		ASSERT_EQ(0, model_expect(&self->want, &again));
		DRAIN_AND_COMPARE();

		/* To remove them */
		stream_reset(&none);
		stream_header(&none, 1000, 0, n);
		NEEDS_NOTHING(none.len, 0, xwrite(self->writer, none.buf, none.len));
		ASSERT_EQ(0, model_expect(&self->want, &none));
		DRAIN_AND_COMPARE();
		TABLE_IS(&self->want);
	}
}

/* The table is kept if there is no memory for another one; to reset it takes none */
TEST_F(htab, allocate_at_limit)
{
	bool hv = variant->type == KVM_VM_PPC_HV;
	struct pass pass = {};
	unsigned int i, k;
	int ret, fd;

	if (unfit)
		SKIP(return, "%s", unfit);
	/* The first one of a VM */
	REFUSED(-ENOMEM, 0, htab_allocate(&self->vm, HTAB_ORDER));
	TABLE(HTAB_ORDER);
	for (i = 0; i < ARRAY_SIZE(big_orders); i++) {
		unsigned int order = big_orders[i];
		unsigned long charge = table_charge(variant->type, order);

		/* Is there memory for it at all? */
		ret = allocate_big(&self->vm, order);
		if (ret == -ENOMEM && i)
			break;
		ASSERT_EQ(0, ret);
		ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
		model_free(&self->want);
		model_init(&self->want, self->vm.npte);
		close(self->writer);
		self->writer = htab_writer(&self->vm);
		ASSERT_LE(0, self->writer);
		READER();
		FILL(0, 3000, i);
		DRAIN_AND_COMPARE();

		for (k = 0; k < 2; k++) {
			REFUSED(-ENOMEM, k * charge / 4, htab_allocate(&self->vm, order));
			TOLD_OF_NOTHING();
			TABLE_IS(&self->want);
		}
		NEEDS_NOTHING(0, 2 * charge, htab_allocate(&self->vm, order));
		/* POWER8's log may be of the memory for tables, but the other bitmap is not */
		EXPECT_LE(hv ? charge / 2 : charge, group.grown);
		EXPECT_EQ(-ESTALE, xread(self->reader, self->buf, BIG_BUF));
		close(self->reader);
		self->reader = -1;

		ASSERT_EQ(0, write_marks(&self->vm, 1));
		fd = htab_reader(&self->vm);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, read_pass(&pass, fd, self->buf, self->vm.npte, 1));
		WHOLE(&pass, 0);

		/* The same order */
		NEEDS_NOTHING(0, 0, htab_allocate(&self->vm, order));
		ASSERT_EQ(0, write_marks(&self->vm, 2));
		NEEDS_NOTHING(0, 0, read_pass(&pass, fd, self->buf, self->vm.npte, 2));
		WHOLE(&pass, 0);
		close(fd);
	}
}

/*
 * Under PR it is the caller who is charged, under HV nobody, since a thread of
 * the kernel's allocates the table.  To exchange the tables takes nothing.
 */
TEST_F(htab, resize_at_limit)
{
	bool hv = variant->type == KVM_VM_PPC_HV;
	struct pass pass = {};
	unsigned int i, k;
	int ret, fd;

	if (unfit)
		SKIP(return, "%s", unfit);
	GUEST();
	GUEST_STORES(GUEST_DATA, 0x1234);
	FILL(9, 5, 0);
	READER();
	DRAIN(&self->want, self->reader);
	DRAIN(&self->got, self->reader);
	for (i = 0; i < ARRAY_SIZE(big_orders); i++) {
		unsigned int order = big_orders[i];
		unsigned long charge = table_charge(variant->type, order);
		unsigned long others;

		/* Is there memory for it at all? */
		ret = resize_prepared(&self->vm, order);
		if (ret == -ENOMEM && i) {
			TH_LOG("this host has no memory for a table of order %u", order);
			break;
		}
		ASSERT_EQ(0, ret);
		ASSERT_EQ(0, resize_prepared(&self->vm, 0));

		for (k = 0; k < 2 && !hv; k++) {
			REFUSED(-ENOMEM, k * charge / 4, resize_prepared(&self->vm, order));
			if (!i) {
				TOLD_OF_NOTHING();
				TABLE_IS(&self->want);
			}
		}
		NEEDS_NOTHING(0, hv ? 0 : 2 * charge, resize_prepared(&self->vm, order));
		if (!hv)
			EXPECT_LE(charge, group.grown);
		NEEDS_NOTHING(0, 0, htab_commit(&self->vm, order));
		if (!i) {
			EXPECT_EQ(-ESTALE, xread(self->reader, self->buf, BIG_BUF));
			close(self->reader);
		}
		GUEST_LOADS(GUEST_DATA, 0x1234);

		/* What the guest has bolted is there, and nothing is to be read twice */
		fd = htab_reader(&self->vm);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, read_pass(&pass, fd, self->buf, self->vm.npte, 0));
		ASSERT_EQ(self->vm.npte, pass.next);
		others = pass.others;
		ASSERT_LT(0, others);
		ASSERT_EQ(0, write_marks(&self->vm, 1));
		close(fd);
		fd = htab_reader(&self->vm);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, read_pass(&pass, fd, self->buf, self->vm.npte, 1));
		WHOLE(&pass, others);
		close(fd);
	}
}

TEST_HARNESS_MAIN
