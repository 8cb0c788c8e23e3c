// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_PPC_GET_HTAB_FD: readers and writers against all that can happen to a
 * table meanwhile. Each test runs for a few seconds.
 *
 * A kernel without the locks that it takes does not fail here but crashes, so
 * this is a program of its own.
 */
#include <sys/mount.h>
#include <sys/wait.h>

#include "htab_fixture.h"

#define RACE_MS		3000
#define MAX_ORDER	(HTAB_ORDER + 1)

struct race {
	struct htab_vm *vm;
	bool stop;
};

struct racer {
	pthread_t thread;
	struct race *race;
	struct model m;
	size_t size;		/* of the buffer */
	unsigned int id;
	bool faithful;		/* never reopens, so its model has to be right */
	bool maps;		/* writes entries for the guest's memory */
	int fd;
	unsigned long passes;
	unsigned long count;
	const char *error;
	long number;
};

static bool race_over(struct racer *t)
{
	return t->error || __atomic_load_n(&t->race->stop, __ATOMIC_RELAXED);
}

static void *racer_fails(struct racer *t, const char *error, long number)
{
	t->error = error;
	t->number = number;
	return NULL;
}

/* The number of the pass that a reader is in, 1 again when it has started over */
static unsigned int reader_pass(int fd)
{
	char path[64], buf[1024], *pass;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file_get(path, buf, sizeof(buf));
	pass = strstr(buf, "hpt-pass:");
	return pass ? strtoul(pass + strlen("hpt-pass:"), NULL, 10) : 0;
}

/*
 * Read passes for as long as it lasts; on ESTALE or at random begin anew.  There
 * need not be a moment at which nothing is left to be read: a pass has come to
 * its end, too, when the next begins, at a lower index.
 */
static void *reader_thread(void *arg)
{
	struct racer *t = arg;
	char *buf = malloc(t->size);
	unsigned int at = 0;

	while (!race_over(t)) {
		ssize_t n = xread(t->fd, buf, t->size);

		t->count++;
		if (n > 0) {
			const struct kvm_get_htab_header *first = (void *)buf;

			if (first->index < at && reader_pass(t->fd) > 1)
				t->passes++;
			at = first->index;
			if (model_replay(&t->m, buf, n))
				racer_fails(t, t->m.error, n);
			continue;
		}
		at = 0;
		if (n < 0 && n != -ESTALE)
			racer_fails(t, "read", n);
		if (n < 0 && t->faithful)
			racer_fails(t, "read by a faithful reader", n);
		if (!n)
			t->passes++;
		if (t->faithful || (!n && t->passes % 7))
			continue;
		close(t->fd);
		t->fd = htab_reader(t->race->vm);
		if (t->fd < 0)
			racer_fails(t, "open", t->fd);
	}
	free(buf);
	return NULL;
}

/* The same, but this one's model has to be right in the end */
static void *faithful_thread(void *arg)
{
	struct racer *t = arg;

	t->faithful = true;
	return reader_thread(t);
}

/* Entries that map the guest's memory, many of them the same page of the host */
static void stream_maps(struct stream *s, unsigned int index, unsigned int n, unsigned int gen)
{
	unsigned int i;

	stream_header(s, index, n, gen * 11 % 200);
	for (i = 0; i < n; i++) {
		struct hpte e = mapping(index + i, (gen * 7 + i) % (HTAB_MEM_SIZE >> 12) << 12);

		stream_entry(s, e.v, e.r);
	}
}

/* Write what it likes to its own part of the table */
static void *writer_thread(void *arg)
{
	struct racer *t = arg;
	struct stream s = {};
	unsigned int gen;

	for (gen = 0; !race_over(t); gen++) {
		unsigned int n = 1 + gen * 7 % 200;
		ssize_t ret;

		stream_reset(&s);
		if (t->maps)
			stream_maps(&s, t->id * 2000 + gen * 13 % 1500, n, gen);
		else
			stream_run(&s, t->id * 2000 + gen * 13 % 1500, n, gen * 11 % 200, gen);
		ret = stream_write(&s, t->fd);
		t->count++;
		if (ret == -ESTALE) {
			close(t->fd);
			t->fd = htab_writer(t->race->vm);
			if (t->fd < 0)
				racer_fails(t, "open", t->fd);
		} else if (ret != (ssize_t)s.len) {
			racer_fails(t, "write", ret);
		}
	}
	free(s.buf);
	return NULL;
}

#define START(_t, _nr, _fn, _open) do {					\
	struct racer *_new = (_t);					\
	unsigned int _i;						\
									\
	for (_i = 0; _i < (_nr); _i++, _new++) {			\
		_new->race = &race;					\
		_new->id = _i;						\
		_new->size = HTAB_ONE + _i * 1000;			\
		_new->fd = _open;					\
		ASSERT_LE(0, _new->fd);					\
		model_init(&_new->m, htab_npte(MAX_ORDER));		\
		ASSERT_EQ(0, pthread_create(&_new->thread, NULL, _fn, _new)); \
	}								\
} while (0)

#define START_READERS(_t, _nr) \
	START(_t, _nr, reader_thread, htab_reader(&self->vm))

#define STOP(_t, _nr) do {						\
	struct racer *_old = (_t);					\
	unsigned int _i;						\
									\
	__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);		\
	for (_i = 0; _i < (_nr); _i++, _old++) {			\
		ASSERT_EQ(0, pthread_join(_old->thread, NULL));		\
		EXPECT_EQ(NULL, _old->error) {				\
			TH_LOG("%u: %s: %ld", _i, _old->error, _old->number); \
		}							\
		EXPECT_NE(0, _old->count);				\
	}								\
} while (0)

/* After it all a reader has been told of everything */
#define READER_IS_RIGHT(_t) do {					\
	struct racer *_one = (_t);					\
									\
	EXPECT_NE(0, _one->passes);					\
	EXPECT_EQ(0, _one->m.host_bits);				\
	_one->m.npte = self->vm.npte;					\
	TABLE_IS(&_one->m);						\
} while (0)

/* All read to the end before anybody else looks and might help them to it */
#define READERS_ARE_RIGHT(_t, _nr) do {					\
	struct racer *_all = (_t);					\
	unsigned int _i, _many = (_nr);					\
									\
	for (_i = 0; _i < _many; _i++)					\
		DRAIN(&_all[_i].m, _all[_i].fd);			\
	for (_i = 0; _i < _many; _i++)					\
		READER_IS_RIGHT(_all + _i);				\
} while (0)

static bool race_goes_on(uint64_t begin)
{
	return now_ms() - begin < RACE_MS;
}

/* Has each reader come to the end of a pass, or failed? On a busy machine that takes longer */
static bool all_passed(struct racer *t, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (!__atomic_load_n(&t[i].passes, __ATOMIC_RELAXED) &&
		    !__atomic_load_n(&t[i].error, __ATOMIC_RELAXED))
			return false;
	return true;
}

TEST_F(htab, readers_against_allocate)
{
	enum { NR = 3 };
	struct race race = { .vm = &self->vm };
	struct racer t[NR] = {};
	uint64_t begin = now_ms();
	unsigned int i;

	TABLE(HTAB_ORDER);
	START_READERS(t, NR);
	for (i = 0; race_goes_on(begin); i++)
		ASSERT_EQ(0, htab_allocate(&self->vm, i % 2 ? HTAB_ORDER : MAX_ORDER));
	STOP(t, NR);
}

TEST_F(htab, readers_against_reset)
{
	enum { NR = 3 };
	struct race race = { .vm = &self->vm };
	struct racer t[NR] = {};
	uint64_t begin = now_ms();
	unsigned int i;

	TABLE(HTAB_ORDER);
	START(t, NR, faithful_thread, htab_reader(&self->vm));
	for (i = 0; race_goes_on(begin) || !all_passed(t, NR); i++) {
		ASSERT_GT(SOON_S * 1000, now_ms() - begin);
		FILL(i % 9 * 1000, 500, i);
		FILL(i % 7 * 1100, 500, i);
		/* Now and then a reader is to come to the end */
		usleep(i % 16 ? i % 5 * 1000 : 300000 + i * 10000);
		ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
	}
	FILL(100, 300, i);
	STOP(t, NR);
	READERS_ARE_RIGHT(t, NR);
}

TEST_F(htab, readers_against_resize)
{
	enum { NR = 3 };
	struct race race = { .vm = &self->vm };
	struct racer t[NR] = {};
	uint64_t begin = now_ms();
	unsigned int i;

	TABLE(HTAB_ORDER);
	/* So that there is a guest whose table can be resized */
	ASSERT_EQ(0, guest_create(&self->vm));
	ASSERT_EQ(0, guest_run(&self->vm));
	START_READERS(t, NR);
	for (i = 0; race_goes_on(begin); i++) {
		unsigned int order = i % 2 ? HTAB_ORDER : MAX_ORDER;

		ASSERT_EQ(0, htab_resize(&self->vm, order));
		if (i % 3)
			continue;
		/* or not, after all */
		ASSERT_LT(0, resize_prepare(&self->vm, HTAB_ORDER));
		ASSERT_EQ(0, resize_prepare(&self->vm, 0));
	}
	STOP(t, NR);
}

TEST_F(htab, readers_against_radix)
{
	enum { NR = 3 };
	struct race race = { .vm = &self->vm };
	struct racer t[NR] = {};
	uint64_t begin = now_ms();
	unsigned int i;

	if (!htab_has_radix(&self->vm))
		SKIP(return, "no radix guests on this machine");
	TABLE(HTAB_ORDER);
	START_READERS(t, NR);
	for (i = 0; race_goes_on(begin); i++) {
		ASSERT_EQ(0, htab_configure_mmu(&self->vm, true));
		ASSERT_EQ(0, htab_configure_mmu(&self->vm, false));
		ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
		/* so that somebody is reading when it goes away */
		usleep(i % 7 * 100);
	}
	STOP(t, NR);
}

TEST_F(htab, writers_against_allocate)
{
	enum { NR = 2 };
	struct race race = { .vm = &self->vm };
	struct racer t[NR] = {};
	uint64_t begin = now_ms();
	unsigned int i;

	TABLE(HTAB_ORDER);
	START(t, NR, writer_thread, htab_writer(&self->vm));
	for (i = 0; race_goes_on(begin); i++) {
		ASSERT_EQ(0, htab_allocate(&self->vm, i % 4 < 2 ? HTAB_ORDER : MAX_ORDER));
		usleep(i % 3 * 500);
	}
	STOP(t, NR);
}

TEST_F(htab, readers_against_writers)
{
	enum { NR = 3, NR_WRITERS = 2 };
	struct race race = { .vm = &self->vm };
	struct racer t[NR] = {}, w[NR_WRITERS] = {};
	uint64_t begin = now_ms();

	TABLE(HTAB_ORDER);
	START(t, NR, faithful_thread, htab_reader(&self->vm));
	START(w, NR_WRITERS, writer_thread, htab_writer(&self->vm));
	while (race_goes_on(begin) || !all_passed(t, NR)) {
		ASSERT_GT(SOON_S * 1000, now_ms() - begin);
		usleep(10000);
	}
	STOP(w, NR_WRITERS);
	STOP(t, NR);
	READERS_ARE_RIGHT(t, NR);
}

static void *churn_thread(void *arg)
{
	struct racer *t = arg;
	struct hpte e = hpte_of(0, 0);
	uint64_t args[9] = {
		/* Real mode is mapped by the other end of the table */
		0, 300, GUEST_CONTROL, e.v, (e.r & ~HPTE_R_RPN) | 0x10000, t->number, GUEST_DATA,
	};
	int ret = guest_do(t->race->vm, GUEST_CHURN, args);

	t->count = *(uint64_t *)((char *)t->race->vm->mem + GUEST_CONTROL + 8);
	return ret ? racer_fails(t, "guest", ret) : NULL;
}

TEST_F(htab, readers_against_hypercalls)
{
	enum { NR = 3 };
	struct race race = { .vm = &self->vm };
	struct racer t[NR] = {}, guest = { .race = &race };
	uint64_t *control, begin;

	TABLE(HTAB_ORDER);
	ASSERT_EQ(0, guest_create(&self->vm));
	ASSERT_EQ(0, guest_run(&self->vm));
	DRAIN(&self->got, htab_reader(&self->vm));
	guest.number = model_vrma(&self->got, GUEST_DATA);
	ASSERT_LE(0, guest.number);
	START(t, NR, faithful_thread, htab_reader(&self->vm));
	ASSERT_EQ(0, pthread_create(&guest.thread, NULL, churn_thread, &guest));
	begin = now_ms();
	/* A round takes long on a kernel that checks itself: one there has to be */
	control = (uint64_t *)((char *)self->vm.mem + GUEST_CONTROL);
	while (race_goes_on(begin) || !all_passed(t, NR) ||
	       !__atomic_load_n(&control[1], __ATOMIC_RELAXED)) {
		ASSERT_GT(SOON_S * 1000, now_ms() - begin);
		usleep(10000);
	}
	__atomic_store_n(control, 1, __ATOMIC_RELAXED);
	STOP(&guest, 1);
	STOP(t, NR);
	READERS_ARE_RIGHT(t, NR);
}

static int shared_fd[4];

static void *shared_thread(void *arg)
{
	struct racer *t = arg;
	char buf[4096];

	while (!race_over(t)) {
		ssize_t n = xread(shared_fd[t->count++ % 4], buf, sizeof(buf));

		if (n < 0 && n != -EBADF)
			racer_fails(t, "read", n);
	}
	return NULL;
}

TEST_F(htab, readers_against_close)
{
	enum { NR = 3 };
	struct race race = { .vm = &self->vm };
	struct racer t[NR] = {};
	uint64_t begin = now_ms();
	unsigned int i;

	TABLE(HTAB_ORDER);
	FILL(0, 5000, 0);
	for (i = 0; i < 4; i++)
		shared_fd[i] = htab_reader(&self->vm);
	START(t, NR, shared_thread, 0);
	for (i = 0; race_goes_on(begin); i++) {
		int k = i % 4;

		close(shared_fd[k]);
		if (i % 3 == 0)
			FILL(i % 4000, 200, i);
		shared_fd[k] = htab_reader(&self->vm);
		ASSERT_LE(0, shared_fd[k]);
		if (i % 5 == 0)
			usleep(2000);
	}
	STOP(t, NR);
	for (i = 0; i < 4; i++)
		close(shared_fd[i]);
	TABLE_IS(&self->want);
}

/* The last that holds a VM is a reader amid a read */
TEST_F(htab, readers_against_end_of_vm)
{
	enum { NR = 3 };
	uint64_t begin = now_ms();
	unsigned int i;

	for (i = 0; race_goes_on(begin); i++) {
		struct htab_vm vm;
		struct race race = { .vm = &vm };
		struct racer t[NR] = {};
		unsigned int k;

		ASSERT_EQ(0, htab_vm_open(&vm, variant->type));
		ASSERT_EQ(0, htab_allocate(&vm, HTAB_ORDER));
		for (k = 0; k < 4; k++)
			shared_fd[k] = htab_reader(&vm);
		START(t, NR, shared_thread, 0);
		for (k = 0; k < NR; k++)
			while (!__atomic_load_n(&t[k].count, __ATOMIC_RELAXED))
				usleep(100);
		usleep(i % 10 * 300);
		htab_vm_close(&vm);
		for (k = 0; k < 4; k++)
			close(shared_fd[k]);
		STOP(t, NR);
		for (k = 0; k < NR; k++)
			model_free(&t[k].m);
	}
}

static void *debugfs_thread(void *arg)
{
	struct racer *t = arg;
	char path[64], buf[4096];
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/htab", getpid(),
		 t->race->vm->fd);
	while (!race_over(t)) {
		ssize_t n;

		fd = open(path, O_RDONLY);
		if (fd < 0)
			return racer_fails(t, "open of htab in debugfs", -errno);
		while ((n = xread(fd, buf, t->size)) > 0)
			t->passes += !!n;
		t->count++;
		close(fd);
		if (n < 0 && n != -ESTALE)
			return racer_fails(t, "read", n);
	}
	return NULL;
}

TEST_F(htab, debugfs_against_replacement)
{
	enum { NR = 2 };
	struct race race = { .vm = &self->vm };
	struct racer t[NR] = {};
	uint64_t begin = now_ms();
	unsigned int i;

	if (variant->type == KVM_VM_PPC_PR)
		SKIP(return, "PR has no htab in debugfs");
	/* If it is there already, so much the better */
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	TABLE(HTAB_ORDER);
	ASSERT_EQ(0, guest_create(&self->vm));
	ASSERT_EQ(0, guest_run(&self->vm));
	START(t, NR, debugfs_thread, 0);
	for (i = 0; race_goes_on(begin); i++) {
		unsigned int order = i % 2 ? HTAB_ORDER : MAX_ORDER;

		if (i % 8 < 4) {
			ASSERT_EQ(0, htab_allocate(&self->vm, order));
			/* there is nothing to resize until a vCPU has run */
			ASSERT_EQ(0, guest_hcall(&self->vm, H_READ, 0, 0, 0, 0));
		} else {
			ASSERT_EQ(0, htab_resize(&self->vm, order));
		}
	}
	STOP(t, NR);
	EXPECT_NE(0, t[0].passes);
}

static void *unmap_thread(void *arg)
{
	struct racer *t = arg;
	char *mem = t->race->vm->mem;
	unsigned long i;

	while (!race_over(t)) {
		if (madvise(mem, HTAB_MEM_SIZE, MADV_DONTNEED))
			return racer_fails(t, "madvise", -errno);
		for (i = 0; i < HTAB_MEM_SIZE; i += 4096)
			mem[i] = 1;
		t->count++;
	}
	return NULL;
}

/* Memory is taken from the guest while the entries that map it go away */
TEST_F(htab, memory_unmapped_against_allocate)
{
	struct race race = { .vm = &self->vm };
	struct racer t = {};
	struct hpte e = hpte_of(0, 0);
	uint64_t begin = now_ms();
	unsigned int i, k;

	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
	ASSERT_EQ(0, htab_add_memory(&self->vm));
	stream_header(&self->s, 0, HTAB_MEM_SIZE >> 16, 0);
	for (k = 0; k < HTAB_MEM_SIZE >> 16; k++)
		stream_entry(&self->s, e.v, (e.r & ~HPTE_R_RPN) | k << 16);
	START(&t, 1, unmap_thread, 0);
	for (i = 0; race_goes_on(begin); i++) {
		int fd;

		ASSERT_EQ(0, htab_allocate(&self->vm, i % 2 ? HTAB_ORDER : MAX_ORDER));
		fd = htab_writer(&self->vm);
		ASSERT_LE(0, fd);
		ASSERT_EQ(self->s.len, stream_write(&self->s, fd));
		close(fd);
	}
	STOP(&t, 1);
}

/* Entries that all map the first page of the memory, so that to follow them takes a while */
static void map_one_page(struct stream *s)
{
	struct hpte e = hpte_of(0, 0);
	unsigned int i;

	stream_header(s, 0, 1000, 0);
	for (i = 0; i < 1000; i++)
		stream_entry(s, e.v, e.r & ~HPTE_R_RPN);
}

static void *dirty_log_thread(void *arg)
{
	struct racer *t = arg;
	unsigned long bits[HTAB_MEM_SIZE / 4096 / 8 / sizeof(unsigned long)];
	struct kvm_dirty_log log = { .dirty_bitmap = bits };

	while (!race_over(t)) {
		int ret = xioctl(t->race->vm->fd, KVM_GET_DIRTY_LOG, &log);

		if (ret)
			return racer_fails(t, "KVM_GET_DIRTY_LOG", ret);
		t->count++;
	}
	return NULL;
}

static void *slot_thread(void *arg)
{
	struct racer *t = arg;
	struct htab_vm *vm = t->race->vm;

	while (!race_over(t)) {
		int ret = htab_set_slot(vm, 0, 0, 0, vm->mem, 0) ?:
			  htab_set_slot(vm, 0, 0, 0, vm->mem, HTAB_MEM_SIZE);

		if (ret)
			return racer_fails(t, "KVM_SET_USER_MEMORY_REGION", ret);
		t->count++;
	}
	return NULL;
}

static void *mapping_thread(void *arg)
{
	struct racer *t = arg;

	t->maps = true;
	return writer_thread(t);
}

__attribute__((constructor))
static void keep_settings(void)
{
	keep_ksm_settings();
}

/* Equal pages become one page, until they are written to */
static void *merge_thread(void *arg)
{
	struct racer *t = arg;
	char *mem = t->race->vm->mem;
	unsigned long i;

	if (madvise(mem, HTAB_MEM_SIZE, MADV_MERGEABLE))
		return racer_fails(t, "madvise", -errno);
	while (!race_over(t)) {
		uint64_t begin = now_ms();

		for (i = 0; i < HTAB_MEM_SIZE; i += 4096)
			mem[i] = 2;
		while (get_number(KSM "pages_sharing", "") < 8 && !race_over(t)) {
			if (now_ms() - begin > SOON_S * 1000)
				return racer_fails(t, "no pages merged", now_ms() - begin);
			usleep(1000);
		}
		t->count++;
	}
	return NULL;
}

/* The VM's memory is copied on write meanwhile, and its fds are inherited */
static void *fork_thread(void *arg)
{
	struct racer *t = arg;
	char *mem = t->race->vm->mem;
	struct stream s = {};
	unsigned long i;

	stream_run(&s, 12000, 10, 10, 1);
	while (!race_over(t)) {
		int status, fd = htab_writer(t->race->vm);
		pid_t pid = fork();

		if (pid < 0 || fd < 0)
			return racer_fails(t, "fork", -errno);
		if (!pid) {
			char buf[4096];

			/* Whoever has it may read, but the table is that of the VM's mm */
			if (xread(t->fd, buf, sizeof(buf)) < 0)
				_exit(11);
			if (xwrite(fd, s.buf, s.len) != -EIO)
				_exit(12);
			if (t->count % 2)
				_exit(0);
			close(STDOUT_FILENO);
			execl("/proc/self/exe", "exec", "-h", NULL);
			_exit(13);
		}
		for (i = 0; i < HTAB_MEM_SIZE; i += 4096)
			mem[i] = 3;
		if (waitpid(pid, &status, 0) != pid)
			return racer_fails(t, "waitpid", -errno);
		/* The harness, asked for help, ends with KSFT_SKIP */
		if (!WIFEXITED(status) || WEXITSTATUS(status) != (t->count % 2 ? 0 : KSFT_SKIP))
			return racer_fails(t, "child", status);
		close(fd);
		t->count++;
	}
	free(s.buf);
	return NULL;
}

/* Readers and writers while something is done to the memory that entries map */
#define MEMORY_CHANGES(_fn) do {					\
	enum { NR = 3 };						\
	struct race race = { .vm = &self->vm };				\
	struct racer t[NR] = {}, w = {}, other = {};			\
	uint64_t begin = now_ms();					\
									\
	ASSERT_EQ(0, htab_add_memory(&self->vm));			\
	TABLE(HTAB_ORDER);						\
	START(t, NR, faithful_thread, htab_reader(&self->vm));		\
	START(&w, 1, mapping_thread, htab_writer(&self->vm));		\
	START(&other, 1, _fn, htab_reader(&self->vm));			\
	while (race_goes_on(begin) || !all_passed(t, NR) ||		\
	       (!__atomic_load_n(&other.count, __ATOMIC_RELAXED) && !other.error)) { \
		ASSERT_GT(SOON_S * 1000, now_ms() - begin);		\
		usleep(10000);						\
	}								\
	STOP(&other, 1);						\
	STOP(&w, 1);							\
	STOP(t, NR);							\
	READERS_ARE_RIGHT(t, NR);					\
} while (0)

TEST_F(htab, readers_against_unmapping)
{
	MEMORY_CHANGES(unmap_thread);
}

TEST_F(htab, readers_against_slots)
{
	MEMORY_CHANGES(slot_thread);
}

TEST_F(htab, readers_against_fork)
{
	MEMORY_CHANGES(fork_thread);
}

TEST_F(htab, readers_against_merging)
{
	if (get_number(KSM "run", "") < 0)
		SKIP(return, "this kernel does not merge pages");
	ASSERT_EQ(0, file_put(KSM "pages_to_scan", "1000"));
	ASSERT_EQ(0, file_put(KSM "sleep_millisecs", "1"));
	ASSERT_EQ(0, file_put(KSM "run", "1"));
	MEMORY_CHANGES(merge_thread);
	ASSERT_EQ(0, file_put(KSM "run", "2"));
}

static int reset(struct htab_vm *vm, unsigned int i)
{
	return htab_allocate(vm, HTAB_ORDER);
}

static int replace(struct htab_vm *vm, unsigned int i)
{
	return htab_allocate(vm, i % 2 ? HTAB_ORDER : MAX_ORDER);
}

static int be_radix_meanwhile(struct htab_vm *vm, unsigned int i)
{
	int ret = htab_configure_mmu(vm, true);

	if (ret)
		return ret;
	/* so that somebody begins with what radix has */
	usleep(i % 7 * 100);
	return htab_configure_mmu(vm, false) ?: htab_allocate(vm, HTAB_ORDER);
}

/*
 * Who looks for the entries of a page finds them, or none, but not what has
 * been freed; nor does he put one back into a table that begins anew.
 */
#define WALK_AGAINST(_walk, _flags, _begin_anew) do {			\
	struct race race = { .vm = &self->vm };				\
	struct racer t = {};						\
	uint64_t begin = now_ms();					\
	unsigned int i;							\
									\
	ASSERT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));		\
	ASSERT_EQ(0, htab_add_memory(&self->vm));			\
	ASSERT_EQ(0, htab_set_slot(&self->vm, 0, _flags, 0, self->vm.mem, \
				   HTAB_MEM_SIZE));			\
	map_one_page(&self->s);						\
	START(&t, 1, _walk, 0);						\
	for (i = 0; race_goes_on(begin); i++) {				\
		struct model m;						\
		int fd = htab_writer(&self->vm);			\
									\
		ASSERT_LE(0, fd);					\
		ASSERT_EQ(self->s.len, stream_write(&self->s, fd));	\
		close(fd);						\
		ASSERT_EQ(0, _begin_anew(&self->vm, i));		\
		fd = htab_reader(&self->vm);				\
		ASSERT_LE(0, fd);					\
		model_init(&m, htab_npte(MAX_ORDER));			\
		DRAIN(&m, fd);						\
		ASSERT_EQ(0, m.valid);					\
		model_free(&m);						\
		close(fd);						\
	}								\
	STOP(&t, 1);							\
} while (0)

TEST_F(htab, dirty_log_against_allocate)
{
	WALK_AGAINST(dirty_log_thread, KVM_MEM_LOG_DIRTY_PAGES, replace);
}

TEST_F(htab, dirty_log_against_reset)
{
	WALK_AGAINST(dirty_log_thread, KVM_MEM_LOG_DIRTY_PAGES, reset);
}

TEST_F(htab, dirty_log_against_radix)
{
	if (!htab_has_radix(&self->vm))
		SKIP(return, "no radix guests on this machine");
	WALK_AGAINST(dirty_log_thread, KVM_MEM_LOG_DIRTY_PAGES, be_radix_meanwhile);
}

TEST_F(htab, slot_removed_against_allocate)
{
	WALK_AGAINST(slot_thread, 0, replace);
}

TEST_F(htab, slot_removed_against_reset)
{
	WALK_AGAINST(slot_thread, 0, reset);
}

/* There is no table yet, which mainline takes for one of order 0 */
TEST_F(htab, allocate_of_order_0)
{
	EXPECT_EQ(-EINVAL, htab_allocate(&self->vm, 0));
	EXPECT_EQ(0, htab_allocate(&self->vm, HTAB_ORDER));
}

struct flipper {
	struct race race;
	struct racer t;
	char *byte;
};

static void *flip_thread(void *arg)
{
	struct racer *t = arg;
	struct flipper *f = (struct flipper *)t->race;

	while (!race_over(t)) {
		__atomic_xor_fetch(f->byte, HPTE_V_VALID, __ATOMIC_RELAXED);
		t->count++;
	}
	return NULL;
}

/* A record is good or it is not, even if the writer's memory changes meanwhile */
TEST_F(htab, record_changed_while_written)
{
	enum { N = 1000 };
	struct flipper f = {};
	uint64_t begin = now_ms();
	unsigned int i, done = 0;

	TABLE(HTAB_ORDER);
	stream_run(&self->s, 0, N, 0, 1);
	f.t.race = &f.race;
	/* The last entry's first doubleword, of which this is the last byte */
	f.byte = self->s.buf + self->s.len - HTAB_ENTRY + 7;
	ASSERT_EQ(0, pthread_create(&f.t.thread, NULL, flip_thread, &f.t));
	for (i = 0; race_goes_on(begin); i++) {
		struct stream none = {};
		struct model m;
		ssize_t n = xwrite(self->writer, self->s.buf, self->s.len);
		int fd = htab_reader(&self->vm);

		ASSERT_TRUE(n == -EINVAL || n == (ssize_t)self->s.len);
		ASSERT_LE(0, fd);
		model_init(&m, self->vm.npte);
		DRAIN(&m, fd);
		ASSERT_EQ(n < 0 ? 0 : N, m.valid);
		done += n > 0;
		model_free(&m);
		close(fd);
		stream_header(&none, 0, 0, N);
		ASSERT_EQ(none.len, stream_write(&none, self->writer));
		free(none.buf);
	}
	__atomic_store_n(&f.race.stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(f.t.thread, NULL));
	/* It was met if it has gone both ways */
	EXPECT_LT(0, done);
	EXPECT_GT(i, done);
	TH_LOG("written %u of %u times", done, i);
}

TEST_HARNESS_MAIN
