// SPDX-License-Identifier: GPL-2.0
/*
 * The guest of the demo: its only program, run as init.
 *
 * It keeps the guest's hashed page table changing and watches whether its
 * memory stays what it wrote. What a migration can get wrong in a page table
 * shows up here as
 *   - a translation that arrives although it was removed: an address leads to
 *     an old page, and the checksum of what is read there is wrong;
 *   - a protection that is not carried over: a write to a read-only page
 *     succeeds;
 *   - a lost bolted entry: the kernel dies, which the console tells.
 *
 * One worker on each processor does this. Once a second the first one says on
 * the console how they are, which counts what the slowest has done:
 *   guest: beat 17, 131 processes, 6 checks of 62 MiB, sum 0x88190b9a5e3c0d12, whole
 * and from the first wrong word on "DAMAGED" in the place of "whole".  And when
 * memory was added to the guest:
 *   guest: has 993 MiB
 *
 * With the argument "idle" there is little memory to check, and the workers do it
 * once in SLEEP_S seconds, all at the same time; then there is a beat, a line
 *   guest: sleeps 14.2 s
 * and for so long they do.
 *
 * A line "order 20" written to the console makes the kernel resize its page table to
 * that order, before the next beat; "kexec" makes it give way to the one in /vmlinux,
 * with the initrd in /initrd.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB		(1024UL * 1024)
#define BLOCK		(64 * 1024UL)	/* unit of filling and checking */
#define WORDS		(BLOCK / 8)
#define SHARED		(4 * MIB)	/* part of the pool children inherit */
#define PRIVATE		(2 * MIB)	/* what is mapped and unmapped again ... */
#define PART		128UL		/* ... and the words written in each block */
#define IDLE_POOL	(8 * MIB)	/* what an idle guest checks */
#define SLEEP_S		40		/* migrate.c knows it, too */
#define MAX_WORKERS	16

/* The same addresses for every child: a stale translation would be used. */
#define CHILD_BASE	((void *)0x200000000000UL)
#define WORKER_BASE	((void *)0x210000000000UL)

static uint64_t *pool;			/* nblocks blocks */
static uint64_t *sum_of;		/* checksum of each block */
static uint32_t *age_of;		/* how often each was written */
static unsigned long nblocks, nshared;
static unsigned long first;		/* block of all workers' is this one's 0 */
static unsigned long workers;
static int idle;

static struct tally {			/* what a worker has done */
	unsigned long procs, checks, damaged;
	uint64_t sum;			/* of its last check */
} *tallies, *mine;

static void say(const char *fmt, ...)
{
	char line[256] = "guest: ";
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = 7 + vsnprintf(line + 7, sizeof(line) - 8, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n] = '\n';
	if (write(1, line, n + 1) < 0)
		_exit(9);
}

static uint64_t seed_of(uint64_t what, uint64_t age)
{
	return (what * 0x9e3779b97f4a7c15ULL) ^ (age * 0xc2b2ae3d27d4eb4fULL) ^ 1;
}

static uint64_t next(uint64_t x)
{
	return x * 6364136223846793005ULL + 1442695040888963407ULL;
}

static uint64_t add(uint64_t sum, uint64_t word)
{
	return ((sum << 7) | (sum >> 57)) + word;
}

static uint64_t fill(uint64_t *p, unsigned long words, uint64_t seed)
{
	uint64_t sum = 0;

	for (unsigned long i = 0; i < words; i++) {
		seed = next(seed);
		p[i] = seed;
		sum = add(sum, seed);
	}
	return sum;
}

static uint64_t sum_up(const volatile uint64_t *p, unsigned long words)
{
	uint64_t sum = 0;

	for (unsigned long i = 0; i < words; i++)
		sum = add(sum, p[i]);
	return sum;
}

/* A wrong checksum: say which word of what it is. Returns 1 if it was wrong. */
static int check(const volatile uint64_t *p, unsigned long words, uint64_t seed,
		 uint64_t sum, const char *what, unsigned long nr)
{
	uint64_t got = sum_up(p, words);
	unsigned long bad = 0;

	if (got == sum)
		return 0;
	for (unsigned long i = 0; i < words; i++) {
		uint64_t word = p[i];

		seed = next(seed);
		if (word == seed)
			continue;
		if (!bad++)
			say("DAMAGED %s page %lu at %p expected 0x%016llx got 0x%016llx",
			    what, nr, (void *)&p[i], (unsigned long long)seed,
			    (unsigned long long)word);
	}
	say("DAMAGED %s page %lu: %lu of %lu words, checksum expected 0x%016llx got 0x%016llx",
	    what, nr, bad, words, (unsigned long long)sum, (unsigned long long)got);
	return 1;
}

static void write_block(unsigned long b)
{
	age_of[b]++;
	sum_of[b] = fill(pool + b * WORDS, WORDS, seed_of(first + b, age_of[b]));
}

static int check_block(unsigned long b, const char *who)
{
	return check(pool + b * WORDS, WORDS, seed_of(first + b, age_of[b]), sum_of[b],
		     who, b);
}

static sigjmp_buf fault;

static void on_fault(int sig)
{
	siglongjmp(fault, sig);
}

/* Does a write (or a read) at p fault, as it must? */
static int faults(volatile uint64_t *p, int writing)
{
	if (sigsetjmp(fault, 1))
		return 1;
	if (writing)
		*p = 0;
	else
		(void)*p;
	return 0;
}

/*
 * Map, fill, check, protect, unprotect, unmap and map again at one address.
 * Returns the number of things that were wrong.
 */
static int juggle(void *where, uint64_t seed)
{
	unsigned long n = PRIVATE / BLOCK;
	uint64_t sum[PRIVATE / BLOCK];
	uint64_t *p;
	int wrong = 0;

	signal(SIGSEGV, on_fault);
	signal(SIGBUS, on_fault);
	for (int round = 0; round < 2; round++, seed = next(seed)) {
		p = mmap(where, PRIVATE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		if (p != where) {
			say("DAMAGED cannot map at %p: %s", where, strerror(errno));
			return 1;
		}
		if (p[0] || p[PRIVATE / 16] || p[PRIVATE / 8 - 1]) {
			say("DAMAGED new memory at %p is not zero", where);
			wrong++;
		}
		for (unsigned long i = 0; i < n; i++)
			sum[i] = fill(p + i * WORDS, PART, seed_of(i, seed));
		if (mprotect(p, PRIVATE / 2, PROT_READ)) {
			say("DAMAGED mprotect at %p: %s", p, strerror(errno));
			return 1;
		}
		for (unsigned long i = 0; i < n; i++)
			wrong += check(p + i * WORDS, PART, seed_of(i, seed),
				       sum[i], "private", i);
		if (!faults(p + 5, 1)) {
			say("DAMAGED a write to the read-only page at %p got through, now 0x%016llx, and again %s",
			    p, (unsigned long long)p[5], faults(p + 5, 1) ? "not" : "yes");
			wrong++;
		}
		mprotect(p, PRIVATE / 2, PROT_READ | PROT_WRITE);
		sum[0] = fill(p, PART, seed_of(n, seed));
		wrong += check(p, PART, seed_of(n, seed), sum[0], "private", 0);
		munmap(p, PRIVATE);
		if (!faults(p, 0)) {
			say("DAMAGED a read at the unmapped %p got through", p);
			wrong++;
		}
	}
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	return wrong;
}

/* A child: looks at what it inherited, spoils its own copy, becomes another. */
static void child(unsigned long nr)
{
	char arg[24];
	int wrong = 0;

	for (unsigned long b = nr % 8; b < nshared; b += 8) {
		wrong += check_block(b, "inherited");
		memset(pool + b * WORDS, 0xee, 128);
	}
	wrong += juggle(CHILD_BASE, seed_of(nr, 1));
	if (wrong)
		_exit(1);
	snprintf(arg, sizeof(arg), "%lu", nr);
	execl("/init", "guest-child", arg, NULL);
	say("DAMAGED exec: %s", strerror(errno));
	_exit(1);
}

static void spawn(void)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		child(mine->procs + 1);
	mine->procs++;
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		say("DAMAGED fork or wait: %s", strerror(errno));
		mine->damaged++;
	} else if (status) {
		say("DAMAGED child %lu ended with status 0x%x", mine->procs, status);
		mine->damaged++;
	}
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void *get(unsigned long bytes, int flags)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		say("DAMAGED no memory: %s", strerror(errno));
		reboot(RB_POWER_OFF);
	}
	return p;
}

/* Until the next multiple of SLEEP_S. */
static void sleep_on(int say_so)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += SLEEP_S - ts.tv_sec % SLEEP_S;
	ts.tv_nsec = 0;
	if (say_so)
		say("sleeps %.1f s", ts.tv_sec - now());
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static void set_order(int order)
{
	int fd;

	mkdir("/debug", 0700);
	mount("debug", "/debug", "debugfs", 0, NULL);
	fd = open("/debug/powerpc/hpt_order", O_WRONLY);
	if (fd < 0 || dprintf(fd, "%d", order) < 0)
		say("cannot resize its page table: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void kexec(void)
{
	int kernel = open("/vmlinux", O_RDONLY);
	int initrd = open("/initrd", O_RDONLY);
	char args[512] = "";
	FILE *f;

	mkdir("/proc", 0555);
	mount("proc", "/proc", "proc", 0, NULL);
	f = fopen("/proc/cmdline", "r");
	if (f && fgets(args, sizeof(args), f))
		args[strcspn(args, "\n")] = 0;
	if (!syscall(SYS_kexec_file_load, kernel, initrd, strlen(args) + 1, args, 0))
		reboot(RB_KEXEC);
	say("cannot kexec: %s", strerror(errno));
}

/* What was written to the console, if anything */
static void obey(void)
{
	struct pollfd in = { .fd = 0, .events = POLLIN };
	char line[64];
	int order;
	ssize_t n;

	if (poll(&in, 1, 0) != 1)
		return;
	n = read(0, line, sizeof(line) - 1);
	line[n < 0 ? 0 : n] = 0;
	if (sscanf(line, "order %d", &order) == 1)
		set_order(order);
	else if (!strcmp(line, "kexec\n"))
		kexec();
}

static void report(unsigned long beat)
{
	static unsigned long had;
	struct tally all = tallies[0];
	struct sysinfo si;
	unsigned long has;

	obey();
	sysinfo(&si);
	has = si.totalram * si.mem_unit / MIB;
	if (has != had)
		say("has %lu MiB", has);
	had = has;
	for (unsigned long i = 1; i < workers; i++) {
		all.procs += tallies[i].procs;
		all.damaged += tallies[i].damaged;
		all.sum += tallies[i].sum;
		if (tallies[i].checks < all.checks)
			all.checks = tallies[i].checks;
	}
	say("beat %lu, %lu processes, %lu checks of %lu MiB, sum 0x%016llx, %s",
	    beat, all.procs, all.checks, workers * nblocks * BLOCK / MIB,
	    (unsigned long long)all.sum, all.damaged ? "DAMAGED" : "whole");
}

/* Checks and churns for ever, and says so. */
static void work(void)
{
	unsigned long beat = 0, b = 0;
	uint64_t sum = 0;
	double due;

	nshared = SHARED / BLOCK;
	pool = get(nblocks * BLOCK, MAP_PRIVATE);
	sum_of = get(nblocks * sizeof(*sum_of), MAP_PRIVATE);
	age_of = get(nblocks * sizeof(*age_of), MAP_PRIVATE);
	madvise(pool + nshared * WORDS, (nblocks - nshared) * BLOCK, MADV_DONTFORK);
	for (unsigned long i = 0; i < nblocks; i++)
		write_block(i);

	due = now();
	for (;;) {
		/* A stretch of the pool: check all of it, renew every 16th block. */
		for (unsigned long n = 0; n < (idle ? nblocks : 4 * MIB / BLOCK); n++) {
			mine->damaged += check_block(b, "pool");
			sum = add(sum, sum_of[b]);
			if ((b + mine->checks) % 16 == 0)
				write_block(b);
			if (++b < nblocks)
				continue;
			b = 0;
			mine->sum = sum;
			mine->checks++;
			sum = 0;
		}
		spawn();
		mine->damaged += juggle(WORKER_BASE, seed_of(mine->procs, 3));
		if (idle) {
			if (mine == tallies)
				report(++beat);
			sleep_on(mine == tallies);
			continue;
		}
		/* Also when the clock leapt, as it may in an emulated host. */
		if (mine != tallies || (now() < due && now() > due - 2))
			continue;
		report(++beat);
		due += 1;
		if (due < now() || due > now() + 1)	/* held up: no burst */
			due = now() + 1;
	}
}

/* Never returns in a worker. */
static void start_workers(void)
{
	struct sysinfo si;

	workers = sysconf(_SC_NPROCESSORS_ONLN);
	if (workers < 1 || workers > MAX_WORKERS)
		workers = 1;
	tallies = get(workers * sizeof(*tallies), MAP_SHARED);

	/* An eighth of the memory, most of it not copied to children. */
	sysinfo(&si);
	nblocks = idle ? IDLE_POOL / BLOCK :
			 si.totalram * si.mem_unit / 8 / MIB * (MIB / BLOCK);
	nblocks /= workers;
	if (nblocks < SHARED / BLOCK)
		nblocks = SHARED / BLOCK;
	say("fills %lu MiB, with %lu workers%s", workers * nblocks * BLOCK / MIB, workers,
	    idle ? " that mostly sleep" : "");

	for (unsigned long i = 0; i < workers; i++) {
		cpu_set_t cpu;

		if (fork())
			continue;
		CPU_ZERO(&cpu);
		CPU_SET(i, &cpu);
		if (sched_setaffinity(0, sizeof(cpu), &cpu))
			say("DAMAGED no processor %lu: %s", i, strerror(errno));
		mine = &tallies[i];
		first = i * nblocks;
		work();
	}
}

int main(int argc, char **argv)
{
	int fd, status = 0;

	if (argc > 1 && !strcmp(argv[0], "guest-child"))
		return !!juggle(CHILD_BASE, seed_of(strtoul(argv[1], NULL, 0), 2));
	if (getpid() != 1) {
		fprintf(stderr, "This is the demo guest's init: it runs as process 1 only.\n");
		return 2;
	}
	mkdir("/dev", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	fd = open("/dev/console", O_RDWR | O_NOCTTY);
	if (fd < 0)
		return 1;	/* the kernel then panics, which is seen */
	dup2(fd, 0);
	dup2(fd, 1);
	dup2(fd, 2);

	/* Not as process 1: the kernel reports each of its faults as fatal. */
	idle = argc > 1 && !strcmp(argv[1], "idle");
	start_workers();
	wait(&status);
	say("DAMAGED a worker ended with status 0x%x", status);
	reboot(RB_POWER_OFF);
	return 1;
}
