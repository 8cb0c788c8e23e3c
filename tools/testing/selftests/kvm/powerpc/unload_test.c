// SPDX-License-Identifier: GPL-2.0
/*
 * KVM's modules are unloaded at once when nothing is open any more, and not
 * before.  Needs them as modules, and nobody else who uses them.
 */
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "htab.h"

#define ROUNDS		4
#define SLOT_SIZE	0x10000UL
/* After the grace period that an unload waits for there may be callbacks of it */
#define CALLBACKS_MS	2000

/*
 * Have an unload be done with its grace period while the usual ones, after which
 * callbacks run, wait long for CPUs that are idle.
 */
static const struct {
	const char *file, *value;
} rcu[] = {
	{ "/sys/kernel/rcu_expedited", "1" },
	{ "/sys/module/rcutree/parameters/jiffies_till_first_fqs", "1000" },
	{ "/sys/module/rcutree/parameters/jiffies_till_next_fqs", "1000" },
};

FIXTURE(unload)
{
	char *rcu_was[ARRAY_SIZE(rcu)];
};

FIXTURE_VARIANT(unload)
{
	unsigned long type;
	const char *file;
	const char *module;
	int slots;	/* how many take a while to free; with HV each takes longer */
};

FIXTURE_VARIANT_ADD(unload, hv)
{
	.type = KVM_VM_PPC_HV,
	.file = "kvm-hv",
	.module = "kvm_hv",
	.slots = 1000,
};

FIXTURE_VARIANT_ADD(unload, pr)
{
	.type = KVM_VM_PPC_PR,
	.file = "kvm-pr",
	.module = "kvm_pr",
	.slots = 20000,
};

static int load(const char *file)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		execlp("modprobe", "modprobe", "-q", file, NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

static int unload(const char *module)
{
	return syscall(SYS_delete_module, module, O_NONBLOCK) ? -errno : 0;
}

/* The flavour's module, and then the one it rests on */
static int unload_all(const char *module)
{
	return unload(module) ?: unload("kvm");
}

/* Set a number in sysfs; its value before, or NULL */
static char *set_number(const char *file, const char *value)
{
	char was[32] = "";
	int fd = open(file, O_RDWR | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return NULL;
	n = pread(fd, was, sizeof(was) - 1, 0);
	if (n > 0 && pwrite(fd, value, strlen(value), 0) < 0)
		n = -1;
	close(fd);
	return n > 0 ? strdup(was) : NULL;
}

static void set_rcu(char **was, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		was[i] = set_number(rcu[i].file, rcu[i].value);
}

FIXTURE_SETUP(unload)
{
	if (load(variant->file))
		SKIP(return, "cannot load %s", variant->file);
	if (unload_all(variant->module))
		SKIP(return, "%s is no module, or in use", variant->file);
	memset(self->rcu_was, 0, sizeof(self->rcu_was));
}

FIXTURE_TEARDOWN(unload)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(rcu); i++)
		if (self->rcu_was[i])
			free(set_number(rcu[i].file, self->rcu_was[i]));
}

static int tce_table(struct htab_vm *vm)
{
	struct kvm_create_spapr_tce_64 arg = {
		.liobn = 0x80000000,
		.page_shift = 12,
		.size = 0x10000,
	};

	return xioctl(vm->fd, KVM_CREATE_SPAPR_TCE_64, &arg);
}

/* A VM with a table, whose guest has used its memory */
#define RUN_GUEST(_vm) do {						\
	struct htab_vm *_v = (_vm);					\
	uint64_t _args[9], _addr;					\
									\
	ASSERT_EQ(0, load(variant->file));				\
	ASSERT_EQ(0, htab_vm_open(_v, variant->type));			\
	ASSERT_EQ(0, htab_allocate(_v, HTAB_ORDER));			\
	ASSERT_EQ(0, guest_create(_v));					\
	ASSERT_EQ(0, guest_run(_v));					\
	for (_addr = GUEST_DATA; _addr < HTAB_MEM_SIZE; _addr += 0x1000) {	\
		memset(_args, 0, sizeof(_args));			\
		_args[0] = _addr;					\
		ASSERT_EQ(0, guest_do(_v, GUEST_STORE, _args));		\
		ASSERT_EQ(0, (long)_args[8]);				\
	}								\
} while (0)

enum { READER, WRITER, TCE_TABLE, NR_FILES };

/* The VM's own file may be closed, and the vCPU's: it is there as long as one is open */
TEST_F(unload, not_while_a_file_is_open)
{
	static const char *const names[] = { "reader", "writer", "TCE table" };
	struct htab_vm vm;
	char buf[4096];
	int fd, i;

	for (i = 0; i < NR_FILES; i++) {
		RUN_GUEST(&vm);
		fd = i == READER ? htab_reader(&vm) : i == WRITER ? htab_writer(&vm) :
			tce_table(&vm);
		ASSERT_LE(0, fd) {
			TH_LOG("%s: %s", names[i], strerror(-fd));
		}
		EXPECT_EQ(-EAGAIN, unload(variant->module));
		htab_vm_close(&vm);
		EXPECT_EQ(-EAGAIN, unload(variant->module)) {
			TH_LOG("%s", names[i]);
		}
		EXPECT_EQ(-EAGAIN, unload("kvm")) {
			TH_LOG("%s", names[i]);
		}
		if (i == READER)
			EXPECT_LT(0, xread(fd, buf, sizeof(buf)));
		close(fd);
		EXPECT_EQ(0, unload_all(variant->module)) {
			TH_LOG("%s", names[i]);
		}
	}
}

/* What has been left to RCU must have been done before there is no one to do it */
TEST_F(unload, right_after_the_last_close)
{
	struct htab_vm vm;
	int reader, tce, i;

	set_rcu(self->rcu_was, ARRAY_SIZE(rcu));
	/* All on one, so that there is another that is idle */
	stay_on_cpu(0);
	for (i = 0; i < ROUNDS; i++) {
		RUN_GUEST(&vm);
		reader = htab_reader(&vm);
		ASSERT_LE(0, reader);
		tce = tce_table(&vm);
		ASSERT_LE(0, tce);
		close(reader);
		htab_vm_close(&vm);
		close(tce);
		ASSERT_EQ(0, unload_all(variant->module));
		usleep(CALLBACKS_MS * 1000);
	}
}

struct unloader {
	const char *module;
	int ret;
	bool done;
};

static void *keep_unloading(void *arg)
{
	struct unloader *u = arg;
	uint64_t begin = now_ms();

	stay_on_cpu(1);
	do {
		u->ret = unload(u->module);
	} while (u->ret == -EAGAIN && now_ms() - begin < SOON_S * 1000);
	while (!u->ret || u->ret == -EAGAIN) {
		u->ret = unload("kvm");
		if (!u->ret || now_ms() - begin >= SOON_S * 1000)
			break;
	}
	__atomic_store_n(&u->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* Leaves little of a CPU to whoever is nicer */
static void *keep_busy(void *arg)
{
	struct unloader *u = arg;

	stay_on_cpu(0);
	while (!__atomic_load_n(&u->done, __ATOMIC_ACQUIRE))
		;
	return NULL;
}

/*
 * A VM's last file may be its own or another one.  The modules that are about to
 * go have a hand in its end; that of the flavour frees the memory slots.  So close
 * slowly, and unload as soon as that is possible.
 */
TEST_F(unload, during_the_last_close)
{
	pthread_t unloading, busy;
	struct htab_vm vm;
	int slots, tce, i, j;
	void *page;

	page = mmap(NULL, SLOT_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ASSERT_NE(MAP_FAILED, page);
	set_rcu(self->rcu_was, 1);
	stay_on_cpu(0);
	for (i = 0; i < ROUNDS; i++) {
		struct unloader u = { .module = variant->module };
		uint64_t begin, closed;

		ASSERT_EQ(0, load(variant->file));
		ASSERT_EQ(0, htab_vm_open(&vm, variant->type));
		slots = ioctl(vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);
		ASSERT_LT(0, slots);
		if (slots > variant->slots)
			slots = variant->slots;
		for (j = 0; j < slots; j++)
			ASSERT_EQ(0, htab_set_slot(&vm, j, 0, j * SLOT_SIZE, page, SLOT_SIZE));
		tce = i % 2 ? tce_table(&vm) : -1;
		if (i % 2)
			ASSERT_LE(0, tce);
		ASSERT_EQ(0, pthread_create(&busy, NULL, keep_busy, &u));
		ASSERT_EQ(0, pthread_create(&unloading, NULL, keep_unloading, &u));
		setpriority(PRIO_PROCESS, 0, 19);
		begin = now_ms();
		htab_vm_close(&vm);
		close(tce);
		closed = now_ms();
		setpriority(PRIO_PROCESS, 0, 0);
		pthread_join(unloading, NULL);
		pthread_join(busy, NULL);
		TH_LOG("%d slots, closed in %u ms, unloaded after %u ms", slots,
		       (unsigned int)(closed - begin), (unsigned int)(now_ms() - begin));
		ASSERT_EQ(0, u.ret);
	}
}

TEST_HARNESS_MAIN
