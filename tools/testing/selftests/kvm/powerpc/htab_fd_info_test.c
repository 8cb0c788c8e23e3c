// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_PPC_GET_HTAB_FD: what can be seen of a file descriptor from outside, in
 * /proc/PID/fdinfo, in the statistics of the VM and by trace events.
 */
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/userfaultfd.h>

#include "htab_fixture.h"

/*
 * fdinfo
 */

struct info {
	char flavour[8];
	char direction[8];
	char table[8];
	uint64_t id;
	uint64_t order;
	uint64_t pass;
	uint64_t position;
	uint64_t pending;
	uint64_t entries;
	uint64_t invalid;
	uint64_t bytes;
};

#define READER_LINES	11
#define WRITER_LINES	8

/* Returns how many of its lines are there, each of them once */
static int info_of(pid_t pid, int fd, struct info *info)
{
	struct {
		const char *name;
		uint64_t *number;
		char *word;
	} lines[] = {
		{ "id", &info->id }, { "flavour", NULL, info->flavour },
		{ "direction", NULL, info->direction }, { "table", NULL, info->table },
		{ "order", &info->order }, { "pass", &info->pass },
		{ "position", &info->position }, { "pending", &info->pending },
		{ "entries", &info->entries }, { "invalid", &info->invalid },
		{ "bytes", &info->bytes },
	};
	char path[64], line[128], name[32], value[32], more;
	unsigned int i, seen = 0;
	FILE *f;

	memset(info, 0, sizeof(*info));
	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid, fd);
	f = fopen(path, "r");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, "hpt-", 4))
			continue;
		if (sscanf(line, "hpt-%31[a-z]:\t%31s%c", name, value, &more) != 3 || more != '\n')
			break;
		for (i = 0; i < ARRAY_SIZE(lines) && strcmp(name, lines[i].name); i++)
			;
		if (i == ARRAY_SIZE(lines) || seen & 1 << i || strlen(value) >
		    (lines[i].word ? sizeof(info->table) - 1 : sizeof(value) - 1))
			break;
		seen |= 1 << i;
		if (lines[i].word)
			memcpy(lines[i].word, value, strlen(value) + 1);
		else
			*lines[i].number = strtoull(value, NULL, 10);
	}
	i = feof(f) ? __builtin_popcount(seen) : 0;
	fclose(f);
	return i;
}

#define INFO(_fd, _lines) ({						\
	int _want = (_lines);						\
	struct info _info;						\
									\
	ASSERT_EQ(_want, info_of(getpid(), _fd, &_info));		\
	EXPECT_STREQ(variant->type == KVM_VM_PPC_PR ? "pr" : "hv", _info.flavour); \
	EXPECT_STREQ(_want == READER_LINES ? "read" : "write", _info.direction); \
	EXPECT_NE(0, _info.id);						\
	_info;								\
})

/* The reader is at this place of a pass and this much is left of it */
#define READER_IS_AT(_fd, _pass, _position, _pending) do {		\
	struct info _at = INFO(_fd, READER_LINES);			\
									\
	EXPECT_STREQ("current", _at.table);				\
	EXPECT_EQ(self->vm.order, _at.order);				\
	EXPECT_EQ(_pass, _at.pass);					\
	EXPECT_EQ(_position, _at.position);				\
	EXPECT_EQ(_pending, _at.pending);				\
} while (0)

/* This is what it has returned, or what has been written */
#define COUNT_IS(_fd, _lines, _entries, _invalid, _bytes) do {		\
	struct info _count = INFO(_fd, _lines);				\
									\
	EXPECT_EQ(_entries, _count.entries);				\
	EXPECT_EQ(_invalid, _count.invalid);				\
	EXPECT_EQ(_bytes, _count.bytes);				\
} while (0)

#define READ_COUNT_IS(_fd, _bytes) \
	COUNT_IS(_fd, READER_LINES, self->got.valid, self->got.invalid, _bytes)

#define NOTHING_COUNTED(_fd, _lines)	COUNT_IS(_fd, _lines, 0, 0, 0)

TEST_F(htab, fdinfo_of_reader)
{
	uint64_t bytes = 0, pass;
	unsigned int reads;
	int other;
	ssize_t n;

	TABLE(20);
	PATTERN(0);
	READER();
	READER_IS_AT(self->reader, 1, 0, self->vm.npte);
	NOTHING_COUNTED(self->reader, READER_LINES);

	/* What each read of the first pass has returned */
	for (reads = 0; self->got.next < self->vm.npte; reads++) {
		n = xread(self->reader, self->buf, HTAB_QEMU_BUF);
		ASSERT_LT(0, n);
		ASSERT_EQ(0, model_replay(&self->got, self->buf, n));
		bytes += n;
		READ_COUNT_IS(self->reader, bytes);
		if (self->got.next < self->vm.npte)
			READER_IS_AT(self->reader, 1, self->got.next,
				     self->vm.npte - self->got.next);
	}
	EXPECT_LT(10, reads);
	EXPECT_EQ(self->vm.npte, self->got.valid + self->got.invalid);
	READER_IS_AT(self->reader, 2, 0, 0);

	/* A pass in vain is one, too */
	ASSERT_EQ(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	READER_IS_AT(self->reader, 3, 0, 0);

	/* A reader that is the only one does not look for more than it can return */
	FILL(100, 10, 0);
	ASSERT_EQ(HTAB_ONE, xread(self->reader, self->buf, HTAB_ONE));
	ASSERT_EQ(0, model_replay(&self->got, self->buf, HTAB_ONE));
	READER_IS_AT(self->reader, 3, 101, 0);
	n = model_drain(&self->got, self->reader, self->buf, HTAB_QEMU_BUF);
	ASSERT_LT(0, n);
	bytes += HTAB_ONE + n;
	READ_COUNT_IS(self->reader, bytes);
	pass = INFO(self->reader, READER_LINES).pass;

	/* Else changes count when they are found, ten of these here and the rest behind */
	other = htab_reader(&self->vm);
	ASSERT_LE(0, other);
	DRAIN(&self->want, other);
	FILL(100, 10, 1);
	FILL(self->vm.npte - 20, 10, 1);
	READER_IS_AT(self->reader, pass, 0, 0);
	ASSERT_EQ(HTAB_ONE, xread(self->reader, self->buf, HTAB_ONE));
	ASSERT_EQ(0, model_replay(&self->got, self->buf, HTAB_ONE));
	bytes += HTAB_ONE;
	READER_IS_AT(self->reader, pass, 101, 9);
	READ_COUNT_IS(self->reader, bytes);
	n = model_drain(&self->got, self->reader, self->buf, HTAB_QEMU_BUF);
	ASSERT_LT(0, n);
	bytes += n;
	READ_COUNT_IS(self->reader, bytes);
	pass = INFO(self->reader, READER_LINES).pass;
	READER_IS_AT(self->reader, pass, 0, 0);
	EXPECT_LT(3, pass);
	close(other);
}

TEST_F(htab, fdinfo_of_start_index)
{
	TABLE(HTAB_ORDER);
	FILL(0, 2000, 0);
	self->reader = htab_open(&self->vm, 0, 1001);
	ASSERT_LE(0, self->reader);
	READER_IS_AT(self->reader, 1, 1001, self->vm.npte - 1001);
	ASSERT_LT(0, xread(self->reader, self->buf, BIG_BUF));
	READER_IS_AT(self->reader, 2, 0, 0);
	close(self->reader);

	self->reader = htab_open(&self->vm, KVM_GET_HTAB_BOLTED_ONLY, ~0ULL);
	ASSERT_LE(0, self->reader);
	READER_IS_AT(self->reader, 1, self->vm.npte, 0);
	ASSERT_EQ(0, xread(self->reader, self->buf, BIG_BUF));
	READER_IS_AT(self->reader, 2, 0, 0);
	NOTHING_COUNTED(self->reader, READER_LINES);
}

/* Each has its own numbers, but who finds a change finds it for all */
TEST_F(htab, fdinfo_of_several_readers)
{
	uint64_t pass;
	int other;

	TABLE(HTAB_ORDER);
	FILL(0, 1000, 0);
	READER();
	other = htab_reader(&self->vm);
	ASSERT_LE(0, other);
	EXPECT_NE(INFO(self->reader, READER_LINES).id, INFO(other, READER_LINES).id);
	DRAIN_AND_COMPARE();
	READER_IS_AT(other, 1, 0, self->vm.npte);
	NOTHING_COUNTED(other, READER_LINES);
	DRAIN(&self->want, other);
	pass = INFO(other, READER_LINES).pass;

	FILL(500, 33, 1);
	model_forget(&self->got);
	DRAIN_AND_COMPARE();
	EXPECT_EQ(33, self->got.valid);
	READER_IS_AT(other, pass, 0, 33);
	DRAIN(&self->want, other);
	EXPECT_EQ(0, INFO(other, READER_LINES).pending);
}

/* What was not delivered does not count, and is pending again */
TEST_F(htab, fdinfo_after_a_fault)
{
	char *p = buffer_before_hole(100);
	ssize_t n;

	TABLE(HTAB_ORDER);
	FILL(0, 1000, 0);
	READER();
	ASSERT_NE(NULL, p);
	ASSERT_EQ(-EFAULT, xread(self->reader, p + 100, 4096));
	READER_IS_AT(self->reader, 1, 0, self->vm.npte);
	NOTHING_COUNTED(self->reader, READER_LINES);
	n = xread(self->reader, p, 4096);
	if (n == -EFAULT)
		n = 0;
	ASSERT_LE(0, n);
	ASSERT_EQ(0, model_replay(&self->got, p, n));
	READER_IS_AT(self->reader, 1, self->got.next, self->vm.npte - self->got.next);
	READ_COUNT_IS(self->reader, n);
	DRAIN_AND_COMPARE();
}

TEST_F(htab, fdinfo_of_writer)
{
	struct info info;
	size_t whole;

	TABLE(HTAB_ORDER);
	NOTHING_COUNTED(self->writer, WRITER_LINES);
	stream_run(&self->s, 10, 20, 5, 0);
	stream_run(&self->s, 100, 0, 70, 0);
	stream_run(&self->s, 200, 1, 0, 0);
	whole = self->s.len;
	ASSERT_EQ(whole, xwrite(self->writer, self->s.buf, whole));
	COUNT_IS(self->writer, WRITER_LINES, 21, 75, whole);
	info = INFO(self->writer, WRITER_LINES);
	EXPECT_STREQ("current", info.table);
	EXPECT_EQ(HTAB_ORDER, info.order);

	/* Only what has been applied counts: neither what is cut short ... */
	EXPECT_EQ(whole - HTAB_ONE, xwrite(self->writer, self->s.buf, whole - 1));
	COUNT_IS(self->writer, WRITER_LINES, 41, 150, 2 * whole - HTAB_ONE);
	/* ... nor what is bad */
	stream_reset(&self->s);
	stream_run(&self->s, self->vm.npte, 3, 0, 0);
	EXPECT_EQ(-EINVAL, xwrite(self->writer, self->s.buf, self->s.len));
	COUNT_IS(self->writer, WRITER_LINES, 41, 150, 2 * whole - HTAB_ONE);
}

TEST_F(htab, fdinfo_without_table)
{
	struct info info;

	READER();
	self->writer = htab_writer(&self->vm);
	ASSERT_LE(0, self->writer);
	info = INFO(self->writer, WRITER_LINES);
	EXPECT_STREQ("none", info.table);
	EXPECT_EQ(0, info.order);
	info = INFO(self->reader, READER_LINES);
	EXPECT_STREQ("none", info.table);
	EXPECT_EQ(0, info.order);
	EXPECT_EQ(0, info.pass);
	EXPECT_EQ(0, info.position);
	EXPECT_EQ(0, info.pending);

	/* It is theirs from the first read or write on */
	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
	EXPECT_STREQ("none", INFO(self->reader, READER_LINES).table);
	ASSERT_EQ(HTAB_HEADER, xread(self->reader, self->buf, HTAB_ONE));
	READER_IS_AT(self->reader, 2, 0, 0);
	stream_run(&self->s, 0, 1, 0, 0);
	ASSERT_EQ(HTAB_ONE, xwrite(self->writer, self->s.buf, self->s.len));
	info = INFO(self->writer, WRITER_LINES);
	EXPECT_STREQ("current", info.table);
	EXPECT_EQ(HTAB_ORDER, info.order);
}

/* A reader starts over, which can be seen before it reads; what it has returned remains */
TEST_F(htab, fdinfo_after_reset)
{
	struct info before, info;
	unsigned int amid;

	TABLE(HTAB_ORDER);
	for (amid = 0; amid < 2; amid++) {
		FILL(0, 1000, 0);
		self->reader = htab_open(&self->vm, 0, 500);
		ASSERT_LE(0, self->reader);
		do {
			ASSERT_LT(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
			before = INFO(self->reader, READER_LINES);
		} while (!amid && before.pass == 1);
		ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
		READER_IS_AT(self->reader, 1, 0, self->vm.npte);
		COUNT_IS(self->reader, READER_LINES, before.entries, before.invalid, before.bytes);
		info = INFO(self->writer, WRITER_LINES);
		EXPECT_STREQ("current", info.table);
		EXPECT_LE(1000 * (amid + 1), info.entries);

		ASSERT_EQ(HTAB_HEADER, xread(self->reader, self->buf, HTAB_QEMU_BUF));
		COUNT_IS(self->reader, READER_LINES, before.entries,
			 before.invalid + self->vm.npte, before.bytes + HTAB_HEADER);
		READER_IS_AT(self->reader, 2, 0, 0);
		close(self->reader);
	}
}

#define BOTH_ARE_GONE(_order, _before) do {				\
	struct info _then = (_before);					\
	struct info _now = INFO(self->reader, READER_LINES);		\
	unsigned int _was = (_order);					\
									\
	EXPECT_STREQ("gone", _now.table);				\
	EXPECT_EQ(_was, _now.order);					\
	EXPECT_EQ(0, _now.pending);					\
	EXPECT_EQ(_then.entries, _now.entries);				\
	EXPECT_EQ(_then.bytes, _now.bytes);				\
	_now = INFO(self->writer, WRITER_LINES);			\
	EXPECT_STREQ("gone", _now.table);				\
	EXPECT_EQ(_was, _now.order);					\
} while (0)

TEST_F(htab, fdinfo_after_replacement)
{
	struct info before;
	int again;

	TABLE(HTAB_ORDER);
	FILL(0, 1000, 0);
	READER();
	ASSERT_LT(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	before = INFO(self->reader, READER_LINES);
	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER + 1));
	BOTH_ARE_GONE(HTAB_ORDER, before);
	EXPECT_EQ(-ESTALE, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	BOTH_ARE_GONE(HTAB_ORDER, before);
	again = htab_reader(&self->vm);
	ASSERT_LE(0, again);
	READER_IS_AT(again, 1, 0, self->vm.npte);
	/* One of the old order is another one all the same */
	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
	BOTH_ARE_GONE(HTAB_ORDER, before);
	EXPECT_STREQ("gone", INFO(again, READER_LINES).table);
}

TEST_F(htab, fdinfo_after_radix)
{
	struct info before;

	if (!htab_has_radix(&self->vm))
		SKIP(return, "no radix guests here");
	TABLE(HTAB_ORDER);
	FILL(0, 1000, 0);
	READER();
	ASSERT_LT(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	before = INFO(self->reader, READER_LINES);
	ASSERT_EQ(0, htab_configure_mmu(&self->vm, true));
	BOTH_ARE_GONE(HTAB_ORDER, before);
	close(self->reader);
	READER();
	EXPECT_STREQ("none", INFO(self->reader, READER_LINES).table);
}

/* It is in /proc, so for whoever may look there */
TEST_F(htab, fdinfo_seen_by_another_process)
{
	struct info mine, seen;
	int status;
	pid_t pid;

	TABLE(HTAB_ORDER);
	FILL(0, 1000, 0);
	READER();
	ASSERT_LT(0, xread(self->reader, self->buf, HTAB_QEMU_BUF));
	mine = INFO(self->reader, READER_LINES);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int lines = info_of(getppid(), self->reader, &seen);

		_exit(lines != READER_LINES || memcmp(&mine, &seen, sizeof(mine)));
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

struct sleeper {
	pthread_t thread;
	int fd;
	void *buf;
	size_t size;
	ssize_t ret;
};

static void *sleeper_thread(void *arg)
{
	struct sleeper *s = arg;

	s->ret = xread(s->fd, s->buf, s->size);
	return NULL;
}

/* A read waits for a page of its buffer, for as long as someone likes; fdinfo does not */
TEST_F(htab, fdinfo_does_not_wait_for_a_read)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_zeropage zero = {};
	struct sleeper s = { .size = 4 * getpagesize() };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	struct pollfd ready = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg;
	struct info info;

	ASSERT_LE(0, uffd);
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_API, &api));
	s.buf = mmap(NULL, s.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, s.buf);
	range.range.start = (uintptr_t)s.buf;
	range.range.len = s.size;
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_REGISTER, &range));

	TABLE(HTAB_ORDER);
	PATTERN(0);
	READER();
	s.fd = self->reader;
	ASSERT_EQ(0, pthread_create(&s.thread, NULL, sleeper_thread, &s));
	ASSERT_EQ(1, poll(&ready, 1, 20000));
	ASSERT_EQ(sizeof(msg), xread(uffd, &msg, sizeof(msg)));
	ASSERT_EQ(UFFD_EVENT_PAGEFAULT, msg.event);

	info = INFO(self->reader, READER_LINES);
	EXPECT_STREQ("current", info.table);
	EXPECT_EQ(1, info.pass);
	EXPECT_NE(0, info.position);
	EXPECT_GT(self->vm.npte, info.pending);
	EXPECT_EQ(0, info.bytes);

	/* Not in the way of a replacement, and seen at once */
	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
	READER_IS_AT(self->reader, 1, 0, self->vm.npte);

	zero.range = range.range;
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_ZEROPAGE, &zero));
	ASSERT_EQ(0, pthread_join(s.thread, NULL));
	EXPECT_LT(0, s.ret);
	EXPECT_EQ(s.ret, INFO(self->reader, READER_LINES).bytes);
	close(uffd);
}

struct busy {
	pthread_t thread;
	struct htab_vm *vm;
	unsigned int order;
	int fd;
	bool stop;
	unsigned long count;
	const char *error;
};

static bool busy_over(struct busy *b)
{
	b->count++;
	return b->error || __atomic_load_n(&b->stop, __ATOMIC_RELAXED);
}

static void *busy_reader(void *arg)
{
	struct busy *b = arg;
	char buf[5000];

	while (!busy_over(b))
		if (xread(b->fd, buf, sizeof(buf)) < 0)
			b->error = "read";
	return NULL;
}

static void *busy_writer(void *arg)
{
	struct busy *b = arg;
	struct stream s = {};
	unsigned int gen;

	for (gen = 0; !busy_over(b); gen++) {
		stream_reset(&s);
		stream_run(&s, gen * 13 % 1500, 1 + gen * 7 % 200, gen * 11 % 200, gen);
		if (stream_write(&s, b->fd) != (ssize_t)s.len)
			b->error = "write";
	}
	free(s.buf);
	return NULL;
}

static void *busy_allocator(void *arg)
{
	struct busy *b = arg;

	while (!busy_over(b)) {
		__u32 order = b->order;

		if (ioctl(b->vm->fd, KVM_PPC_ALLOCATE_HTAB, &order))
			b->error = "allocate";
		usleep(1000);
	}
	return NULL;
}

/* Whatever goes on, what is shown is possible, and what has been returned grows */
TEST_F(htab, fdinfo_while_all_goes_on)
{
	void *(*const threads[])(void *) = { busy_reader, busy_writer, busy_allocator };
	struct busy b[ARRAY_SIZE(threads)] = {};
	struct info info, before = {};
	uint64_t begin;
	unsigned int i, n = 0;

	TABLE(HTAB_ORDER);
	READER();
	for (i = 0; i < ARRAY_SIZE(threads); i++) {
		b[i].vm = &self->vm;
		b[i].order = HTAB_ORDER;
		b[i].fd = i ? self->writer : self->reader;
		ASSERT_EQ(0, pthread_create(&b[i].thread, NULL, threads[i], &b[i]));
	}
	for (begin = now_ms(); now_ms() - begin < 2000 || n < 10; n++) {
		ASSERT_GT(SOON_S * 1000, now_ms() - begin);
		info = INFO(self->reader, READER_LINES);
		ASSERT_STREQ("current", info.table);
		ASSERT_EQ(HTAB_ORDER, info.order);
		ASSERT_NE(0, info.pass);
		ASSERT_GE(self->vm.npte, info.position);
		ASSERT_GE(self->vm.npte, info.pending);
		ASSERT_LE(before.entries, info.entries);
		ASSERT_LE(before.invalid, info.invalid);
		ASSERT_LE(before.bytes, info.bytes);
		before = info;
		ASSERT_STREQ("current", INFO(self->writer, WRITER_LINES).table);
	}
	for (i = 0; i < ARRAY_SIZE(threads); i++) {
		__atomic_store_n(&b[i].stop, true, __ATOMIC_RELAXED);
		ASSERT_EQ(0, pthread_join(b[i].thread, NULL));
		EXPECT_EQ(NULL, b[i].error) {
			TH_LOG("%s", b[i].error);
		}
		EXPECT_NE(0, b[i].count);
	}
	EXPECT_NE(0, before.bytes);
}

/*
 * Statistics of the VM
 */

#define NO_STAT		(~0ULL)

static uint64_t stat_of(struct htab_vm *vm, const char *name)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *desc;
	uint64_t value = NO_STAT;
	size_t size;
	char *all;
	int fd = ioctl(vm->fd, KVM_GET_STATS_FD, NULL);
	unsigned int i;

	if (fd < 0)
		return NO_STAT;
	if (pread(fd, &header, sizeof(header), 0) != sizeof(header))
		return NO_STAT;
	size = sizeof(*desc) + header.name_size;
	all = malloc(header.num_desc * size);
	if (!all)
		abort();
	if (pread(fd, all, header.num_desc * size, header.desc_offset) ==
	    (ssize_t)(header.num_desc * size)) {
		for (i = 0; i < header.num_desc; i++) {
			desc = (void *)(all + i * size);
			if (strcmp(desc->name, name))
				continue;
			if (desc->size != 1 ||
			    (desc->flags & KVM_STATS_TYPE_MASK) != KVM_STATS_TYPE_CUMULATIVE ||
			    pread(fd, &value, sizeof(value), header.data_offset +
				  desc->offset) != sizeof(value))
				value = NO_STAT;
		}
	}
	free(all);
	close(fd);
	return value;
}

#define STATS_ARE(_read, _written, _harvested) do {			\
	EXPECT_EQ(_read, stat_of(&self->vm, "hpt_entries_read"));	\
	EXPECT_EQ(_written, stat_of(&self->vm, "hpt_entries_written"));	\
	EXPECT_EQ(_harvested, stat_of(&self->vm, "hpt_changes_harvested")); \
} while (0)

TEST_F(htab, stats)
{
	int other;

	STATS_ARE(0, 0, 0);
	TABLE(HTAB_ORDER);
	STATS_ARE(0, 0, 0);
	/* Nobody reads yet, so nobody wants to know of changes */
	FILL(0, 1000, 0);
	STATS_ARE(0, 1000, 0);
	READER();
	other = htab_reader(&self->vm);
	ASSERT_LE(0, other);
	STATS_ARE(0, 1000, 0);
	DRAIN_AND_COMPARE();
	STATS_ARE(1000, 1000, 0);
	DRAIN(&self->want, other);
	STATS_ARE(2000, 1000, 0);

	/* A change is found once, and returned to each */
	FILL(500, 50, 1);
	stream_header(&self->s, 700, 0, 25);
	WRITE_STREAM();
	STATS_ARE(2000, 1050, 0);
	DRAIN_AND_COMPARE();
	STATS_ARE(2050, 1050, 75);
	DRAIN(&self->want, other);
	STATS_ARE(2100, 1050, 75);

	/* What fails does not count */
	FILL(300, 2, 1);
	STATS_ARE(2100, 1052, 75);
	ASSERT_EQ(-EFAULT, xread(self->reader, (char *)buffer_before_hole(0), 4096));
	STATS_ARE(2100, 1052, 77);
	DRAIN_AND_COMPARE();
	STATS_ARE(2102, 1052, 77);
	stream_run(&self->s, self->vm.npte - 1, 2, 0, 0);
	EXPECT_EQ(-EINVAL, xwrite(self->writer, self->s.buf, self->s.len));
	STATS_ARE(2102, 1052, 77);

	/* They are of the VM: neither a new table nor a closed reader takes from them */
	close(self->reader);
	close(other);
	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER + 1));
	STATS_ARE(2102, 1052, 77);
}

TEST_F(htab, stats_of_hypercalls)
{
	uint64_t harvested;
	struct hpte e = hpte_of(0, 0);
	unsigned int i;

	GUEST();
	READER();
	DRAIN(&self->got, self->reader);
	TOLD_OF_NOTHING();
	harvested = stat_of(&self->vm, "hpt_changes_harvested");
	ASSERT_NE(NO_STAT, harvested);
	for (i = 0; i < 10; i++)
		HCALL(H_ENTER, H_EXACT, 80 + 8 * i, e.v, e.r);
	DRAIN(&self->got, self->reader);
	EXPECT_LE(harvested + 10, stat_of(&self->vm, "hpt_changes_harvested"));
}

static void *drain_thread(void *arg)
{
	struct busy *b = arg;
	char buf[HTAB_ONE];
	ssize_t n;

	/* One at a time, so that they meet often */
	while ((n = xread(b->fd, buf, sizeof(buf))) > 0)
		b->count++;
	if (n < 0)
		b->error = "read";
	return NULL;
}

/* Readers at the same time: none of their entries is missing from the sum */
TEST_F(htab, stats_of_concurrent_readers)
{
	enum { NR = 4 };
	struct busy b[NR] = {};
	unsigned int i;

	TABLE(HTAB_ORDER);
	FILL(0, self->vm.npte, 0);
	for (i = 0; i < NR; i++) {
		b[i].fd = htab_reader(&self->vm);
		ASSERT_LE(0, b[i].fd);
	}
	for (i = 0; i < NR; i++)
		ASSERT_EQ(0, pthread_create(&b[i].thread, NULL, drain_thread, &b[i]));
	for (i = 0; i < NR; i++) {
		ASSERT_EQ(0, pthread_join(b[i].thread, NULL));
		EXPECT_EQ(NULL, b[i].error);
	}
	STATS_ARE(NR * self->vm.npte, self->vm.npte, 0);
}

/*
 * Trace events
 */

#define TRACING		"/sys/kernel/tracing/instances/htab_fd_info"

/* The next event has to be this one, without what the tracer puts before it */
#define EVENT(...) do {							\
	char _want[256], *_got;						\
									\
	snprintf(_want, sizeof(_want), __VA_ARGS__);			\
	while ((_got = strsep(&at, "\n")) && !strstr(_got, "kvm_hpt_"))	\
		;							\
	ASSERT_NE(NULL, _got) {						\
		TH_LOG("no event, but for %s", _want);			\
	}								\
	EXPECT_STREQ(_want, strstr(_got, "kvm_hpt_"));			\
} while (0)

TEST_F(htab, trace_events)
{
	unsigned int reader, writer;
	int pid = getpid();
	char *at;
	ssize_t n;

	if (mkdir(TRACING, 0700) && errno != EEXIST)
		SKIP(return, "no " TRACING ": %s", strerror(errno));
	ASSERT_EQ(0, file_put(TRACING "/events/kvm_hpt/enable", "1"));
	ASSERT_EQ(0, file_put(TRACING "/trace", ""));

	TABLE(HTAB_ORDER);
	FILL(0, 100, 0);
	READER();
	writer = INFO(self->writer, WRITER_LINES).id;
	reader = INFO(self->reader, READER_LINES).id;
	n = xread(self->reader, self->buf, HTAB_HEADER + 60 * HTAB_ENTRY);
	ASSERT_EQ(HTAB_HEADER + 60 * HTAB_ENTRY, n);
	n = xread(self->reader, self->buf, BIG_BUF);
	ASSERT_EQ(HTAB_HEADER + 40 * HTAB_ENTRY, n);
	ASSERT_EQ(0, xread(self->reader, self->buf, BIG_BUF));
	stream_run(&self->s, self->vm.npte, 1, 0, 0);
	ASSERT_EQ(-EINVAL, xwrite(self->writer, self->s.buf, self->s.len));
	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER + 1));
	ASSERT_EQ(-ESTALE, xread(self->reader, self->buf, BIG_BUF));

	ASSERT_EQ(0, file_put(TRACING "/events/kvm_hpt/enable", "0"));
	ASSERT_LT(0, file_get(TRACING "/trace", self->buf, BIG_BUF));
	ASSERT_EQ(0, rmdir(TRACING));

	at = self->buf;
	EVENT("kvm_hpt_replaced: vm=%d was=0 order=%d", pid, HTAB_ORDER);
	EVENT("kvm_hpt_open: id=%u vm=%d flags=0x2 start=0 order=%d", writer, pid, HTAB_ORDER);
	EVENT("kvm_hpt_write: writer=%u valid=100 invalid=0 ret=1608", writer);
	EVENT("kvm_hpt_open: id=%u vm=%d flags=0x0 start=0 order=%d", reader, pid, HTAB_ORDER);
	EVENT("kvm_hpt_read: reader=%u pass=1 position=60 valid=60 invalid=0 ret=968", reader);
	EVENT("kvm_hpt_pass: reader=%u pass=1 valid=100 invalid=16284 bytes=1616", reader);
	EVENT("kvm_hpt_read: reader=%u pass=1 position=0 valid=40 invalid=16284 ret=648", reader);
	EVENT("kvm_hpt_pass: reader=%u pass=2 valid=0 invalid=0 bytes=0", reader);
	EVENT("kvm_hpt_read: reader=%u pass=2 position=0 valid=0 invalid=0 ret=0", reader);
	EVENT("kvm_hpt_write: writer=%u valid=0 invalid=0 ret=-22", writer);
	EVENT("kvm_hpt_replaced: vm=%d was=%d order=%d", pid, HTAB_ORDER, HTAB_ORDER + 1);
	EVENT("kvm_hpt_read: reader=%u pass=3 position=0 valid=0 invalid=0 ret=-116", reader);
	EXPECT_EQ(NULL, strstr(at, "kvm_hpt_"));
}

TEST_HARNESS_MAIN
