// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_PPC_GET_HTAB_FD: a benchmark, for kernels with and without what the tests
 * are for.
 *
 * Counted in instructions, the kernel's included, which unlike time are the
 * same on every run. The counter is that of perf or, where QEMU emulates the
 * host with -icount shift=1, the time base (-t). There the former is not exact:
 * it misses what comes before an indirect jump or one to another page. Now and
 * then an interrupt comes in between, so everything is done several times in
 * small parts, and the median of each part counts.
 *
 * A line for each measure: its name, the order of the table, units of work,
 * instructions, instructions a unit. What a benchmark reads is checked, so that
 * none is quick because it has not done its work.
 */
#include <getopt.h>
#include <stdarg.h>
#include <linux/compiler.h>

/* Of kselftest_harness.h, which the header rests on: there are no tests here */
static int __maybe_unused test_harness_run(int argc, char **argv);

#include "pr_guest.h"

#define BENCH_BUF	(64UL << 10)
/* Entries that are restored between two looks at the counter, and how often */
#define RESTORE_BLOCK	256UL
#define RESTORE_BLOCKS	128UL
/* Pairs of hypercalls, and how often */
#define PAIRS		4UL
#define PAIRS_N		255UL
/* Times that a pass is read; a smaller one is disturbed more easily, and soon done */
#define PASSES		15
/* At so many places of the table */
#define LOOKS		99UL

static unsigned int order = 24, rounds = 3;
static unsigned long type;
static int counter;
static uint64_t overhead;	/* of looking at the counter */
static char *buf;

static void __noreturn __printf(1, 2) die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "htab_fd_bench: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	exit(1);
}

/* What must succeed; returns what it returned, and says what failed */
#define OK(_call) ({							\
	long _ok = (_call);						\
									\
	if (_ok < 0)							\
		die("%s: %s", #_call, strerror(-_ok));			\
	_ok;								\
})

static void *allocate(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (!p)
		die("no memory");
	return p;
}

/*
 * Counting
 */

static uint64_t now(void)
{
	uint64_t count = count_now(counter);

	if (!count)
		die("the counter cannot be read");
	return count;
}

static uint64_t since(uint64_t begin)
{
	int64_t n = now() - begin - overhead;

	return n > 0 ? n : 0;
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static uint64_t median(uint64_t *counts, unsigned long n)
{
	qsort(counts, n, sizeof(*counts), compare);
	return counts[n / 2];
}

/* Of what an interrupt disturbs often: it can only add to it */
static uint64_t quartile(uint64_t *counts, unsigned long n)
{
	qsort(counts, n, sizeof(*counts), compare);
	return counts[n / 4];
}

static void counter_open(void)
{
	uint64_t counts[99], begin;
	unsigned long loops = 10000;
	unsigned int i;

	counter = count_open();
	if (counter < 0)
		die("no instruction counter: %s", strerror(-counter));
	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		begin = now();
		counts[i] = now() - begin;
	}
	overhead = median(counts, ARRAY_SIZE(counts));

	/* Does it count instructions? */
	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		begin = now();
		__asm__ volatile("mtctr %0; 1: bdnz 1b" : : "r" (loops) : "ctr");
		counts[i] = since(begin);
	}
	begin = median(counts, ARRAY_SIZE(counts));
	if (begin < loops || begin > loops + 20)
		die("%lu instructions are counted as %lu", loops, (unsigned long)begin);
}

static void result(const char *name, unsigned long work, unsigned long count)
{
	unsigned long milli = count * 1000 / (work ?: 1);

	printf("%s %u %lu %lu %lu.%03lu\n", name, order, work, count, milli / 1000,
	       milli % 1000);
	fflush(stdout);
}

/*
 * Tables
 */

/* One that maps memory that there is, with R and C set, as Linux has them */
static struct hpte entry_of(unsigned long index, unsigned int gen)
{
	struct hpte e = hpte_of(index, gen);

	e.r = (e.r & ~HPTE_R_RPN) | (index << 12) % HTAB_MEM_SIZE;
	return e;
}

static void record(struct stream *s, unsigned long index, unsigned long n, unsigned int gen)
{
	unsigned long i;

	stream_header(s, index, n, 0);
	for (i = index; i < index + n; i++) {
		struct hpte e = entry_of(i, gen);

		stream_entry(s, e.v, e.r);
	}
}

static void vm_open(struct htab_vm *vm, bool memory)
{
	OK(htab_vm_open(vm, type));
	OK(htab_allocate(vm, order));
	if (memory)
		OK(htab_add_memory(vm));
}

/* In each group of 8 entries the first 4 are made valid */
static void fill(struct htab_vm *vm)
{
	struct stream s = {};
	int fd = OK(htab_writer(vm));
	unsigned long i;

	for (i = 0; i < vm->npte; i += 8) {
		stream_reset(&s);
		record(&s, i, 4, 0);
		if (OK(xwrite(fd, s.buf, s.len)) != (long)s.len)
			die("a record was cut short");
	}
	free(s.buf);
	close(fd);
}

/* What a read has returned: its entries are counted, and where it ends is noted */
struct told {
	unsigned long valid;
	unsigned long invalid;
	unsigned long end;
};

static void tell(struct told *told, size_t len)
{
	size_t at = 0;

	while (at < len) {
		struct kvm_get_htab_header hdr;

		memcpy(&hdr, buf + at, sizeof(hdr));
		told->valid += hdr.n_valid;
		told->invalid += hdr.n_invalid;
		told->end = hdr.index + hdr.n_valid + hdr.n_invalid;
		at += sizeof(hdr) + hdr.n_valid * HTAB_ENTRY;
	}
	if (at != len)
		die("a record that was cut short was read");
}

/*
 * Reading
 */

static void first_pass(const char *name, struct htab_vm *vm, size_t size, unsigned long valid)
{
	/* No read but the last returns less than half a buffer, or 65,536 entries */
	unsigned long max = vm->npte / 8 * 72 / (size / 2) + vm->npte / 65536 + 2;
	uint64_t *counts = allocate(max * rounds, sizeof(*counts)), sum = 0;
	unsigned long k, n = 0;
	unsigned int i;

	for (i = 0; i < rounds; i++) {
		int fd = OK(htab_reader(vm));
		struct told told = {};

		for (k = 0; told.end < vm->npte; k++) {
			uint64_t begin = now();
			ssize_t len = xread(fd, buf, size);

			if (k == max)
				die("%s: a pass without end", name);
			counts[k * rounds + i] = since(begin);
			if (OK(len) == 0)
				die("%s: ended at %lu", name, told.end);
			tell(&told, len);
		}
		if (told.valid != valid || told.invalid != vm->npte - valid)
			die("%s: %lu valid entries", name, told.valid);
		if (n && n != k)
			die("%s: one pass took %lu reads, another %lu", name, n, k);
		n = k;
		close(fd);
	}
	for (k = 0; k < n; k++)
		sum += median(counts + k * rounds, rounds);
	result(name, vm->npte, sum);
	free(counts);
}

static void first(const char *name, size_t size, bool full)
{
	struct htab_vm vm;

	vm_open(&vm, true);
	if (full)
		fill(&vm);
	first_pass(name, &vm, size, full ? vm.npte / 2 : 0);
	htab_vm_close(&vm);
}

static void first_64k(void)
{
	first("first_64k", BENCH_BUF, true);
}

static void first_2k(void)
{
	first("first_2k", HTAB_QEMU_BUF, true);
}

static void first_empty(void)
{
	first("first_empty", BENCH_BUF, false);
}

/* A reader that knows the table as it is */
static int reader_open(struct htab_vm *vm)
{
	int fd = OK(htab_reader(vm));

	while (OK(xread(fd, buf, BENCH_BUF)))
		;
	/* The first pass in which nothing has changed may tidy up */
	OK(xread(fd, buf, BENCH_BUF));
	return fd;
}

/* Instructions for one read that finds nothing */
static uint64_t unchanged_read(int fd)
{
	uint64_t counts[PASSES], begin;
	unsigned int i;

	for (i = 0; i < PASSES; i++) {
		begin = now();
		if (OK(xread(fd, buf, BENCH_BUF)))
			die("a change where there was none");
		counts[i] = since(begin);
	}
	return median(counts, PASSES);
}

static void unchanged(void)
{
	struct htab_vm vm;
	int fd;

	vm_open(&vm, true);
	fill(&vm);
	fd = reader_open(&vm);
	result("unchanged", vm.npte, unchanged_read(fd));
	close(fd);
	htab_vm_close(&vm);
}

/* The two for which the size of the table matters, and the table filled once */
static void growth(void)
{
	struct htab_vm vm;
	int fd;

	vm_open(&vm, true);
	fill(&vm);
	first_pass("first_64k", &vm, BENCH_BUF, vm.npte / 2);
	fd = reader_open(&vm);
	result("unchanged", vm.npte, unchanged_read(fd));
	close(fd);
	htab_vm_close(&vm);
}

/* Always the same numbers */
static uint32_t random_below(uint32_t n)
{
	static uint64_t x = 0x9e3779b97f4a7c15;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (x >> 32) * n >> 32;
}

/*
 * Instructions for the reads that return changes of @n of the valid entries, all
 * over the table. Each is replaced by another one.
 */
static uint64_t changed_reads(struct htab_vm *vm, int fd, unsigned long n, unsigned int times)
{
	static unsigned int gen;
	unsigned long nr = vm->npte / 2, i;
	uint32_t *valid = allocate(nr, sizeof(*valid));
	int writer = OK(htab_writer(vm));
	struct stream s = {};
	uint64_t counts[PASSES], begin;
	unsigned int k;

	for (i = 0; i < nr; i++)
		valid[i] = i / 4 * 8 + i % 4;
	for (k = 0; k < times; k++) {
		struct told told = {};

		counts[k] = 0;
		gen++;
		for (i = 0; i < n; i++) {
			uint32_t with = i + random_below(nr - i), index = valid[with];

			valid[with] = valid[i];
			valid[i] = index;
			stream_reset(&s);
			record(&s, index, 1, gen);
			OK(xwrite(writer, s.buf, s.len));
		}
		while (told.valid < n) {
			begin = now();
			i = OK(xread(fd, buf, BENCH_BUF));
			counts[k] += since(begin);
			if (!i)
				die("%lu of %lu changes were returned", told.valid, n);
			tell(&told, i);
		}
		if (told.valid != n || told.invalid)
			die("%lu changes were returned, not %lu", told.valid + told.invalid, n);
	}
	close(writer);
	free(valid);
	free(s.buf);
	return median(counts, times);
}

static void changed(void)
{
	struct htab_vm vm;
	uint64_t none, some;
	unsigned long n;
	int fd;

	vm_open(&vm, true);
	n = vm.npte / 1000;
	fill(&vm);
	fd = reader_open(&vm);
	none = unchanged_read(fd);
	some = changed_reads(&vm, fd, n, PASSES);
	if (n * HTAB_ONE > BENCH_BUF)
		none *= (n * HTAB_ONE + BENCH_BUF - 1) / BENCH_BUF;
	result("changed", n, some - none);
	close(fd);
	htab_vm_close(&vm);
}

/*
 * Instructions to open a reader, read a group of 8 entries, and close it: what QEMU
 * does for each address that a debugger looks at.
 */
static uint64_t looks(struct htab_vm *vm)
{
	uint64_t counts[LOOKS], begin;
	unsigned int i;

	for (i = 0; i < LOOKS; i++) {
		unsigned long index = vm->npte / LOOKS * i / 8 * 8;
		struct kvm_get_htab_header hdr;
		ssize_t len;
		int fd;

		begin = now();
		fd = htab_open(vm, 0, index);
		len = xread(fd, buf, sizeof(hdr) + 8 * HTAB_ENTRY);
		close(fd);
		counts[i] = since(begin);
		OK(fd);
		memcpy(&hdr, buf, sizeof(hdr));
		if (OK(len) < HTAB_ONE || hdr.index != index || hdr.n_valid != 4)
			die("the entries at %lu were not returned", index);
	}
	return median(counts, LOOKS);
}

static void look(void)
{
	struct htab_vm vm;
	int fd;

	vm_open(&vm, true);
	fill(&vm);
	result("look", 1, looks(&vm));
	fd = reader_open(&vm);
	result("look_beside", 1, looks(&vm));
	close(fd);
	htab_vm_close(&vm);
}

/* Whole passes, by how much has changed: none, one, ten, ... half of the entries */
static void shares(void)
{
	struct htab_vm vm;
	unsigned long n;
	int fd;

	vm_open(&vm, true);
	fill(&vm);
	fd = reader_open(&vm);
	result("share", 0, unchanged_read(fd));
	for (n = 1; n < vm.npte / 2; n *= 10)
		result("share", n, changed_reads(&vm, fd, n, n > 10000 ? rounds : PASSES));
	result("share", vm.npte / 2, changed_reads(&vm, fd, vm.npte / 2, 1));
	close(fd);
	htab_vm_close(&vm);
}

/*
 * Writing
 */

static void restore(const char *name, unsigned long n, bool memory)
{
	uint64_t counts[RESTORE_BLOCKS], begin;
	unsigned long i, k, index = 0;
	struct stream s = {};
	struct htab_vm vm;
	size_t len = HTAB_HEADER + n * HTAB_ENTRY;
	int fd;

	vm_open(&vm, memory);
	fd = OK(htab_writer(&vm));
	for (i = 0; i < RESTORE_BLOCKS; i++) {
		stream_reset(&s);
		for (k = 0; k < RESTORE_BLOCK / n; k++) {
			record(&s, index, n, 0);
			/* The first half of a group, or groups */
			index += n < 8 ? 8 : n;
		}
		if (index > vm.npte)
			die("order %u is too small for %s", order, name);
		begin = now();
		for (k = 0; k < s.len; k += len)
			if (write(fd, s.buf + k, len) != (ssize_t)len)
				die("%s: %s", name, strerror(errno));
		counts[i] = since(begin);
	}
	result(name, RESTORE_BLOCK, median(counts, RESTORE_BLOCKS));
	free(s.buf);
	close(fd);
	htab_vm_close(&vm);
}

static void restore_4(void)
{
	restore("restore_4", 4, true);
}

static void restore_64(void)
{
	restore("restore_64", 64, true);
}

/* The host need not look for what the guest maps, which makes the rest stand out */
static void restore_4_bare(void)
{
	restore("restore_4_bare", 4, false);
}

static void restore_64_bare(void)
{
	restore("restore_64_bare", 64, false);
}

/*
 * The guest
 */

static uint64_t pairs_once(struct htab_vm *vm, unsigned long index, unsigned long n)
{
	struct hpte e = entry_of(0, 0);
	uint64_t args[9] = { n, index, 8, e.v, e.r }, count;

	OK(set_label(vm, pr_guest_pairs, 0));
	count = now();
	OK(guest_do(vm, 0, args));
	count = since(count);
	if (args[0] || args[8])
		die("a hypercall failed in the guest: %ld", (long)args[0]);
	return count;
}

/* From where the guest waits to where it does so again, less the same for no pairs */
static uint64_t pairs(struct htab_vm *vm, unsigned long index)
{
	uint64_t some[PAIRS_N], none[PAIRS_N];
	unsigned int i;

	for (i = 0; i < PAIRS_N; i++) {
		none[i] = pairs_once(vm, index, 0);
		some[i] = pairs_once(vm, index, PAIRS);
		index += PAIRS * 8;
	}
	return quartile(some, PAIRS_N) - quartile(none, PAIRS_N);
}

static void guest_pairs(void)
{
	/* Each is at a place of its own, of which no reader has been told */
	unsigned long step = PAIRS_N * PAIRS * 8;
	struct htab_vm vm;
	uint64_t count;
	int fd;

	vm_open(&vm, true);
	if (vm.npte < 3 * step)
		die("order %u is too small for hcalls", order);
	OK(guest_create(&vm));
	OK(guest_run(&vm));
	load_code(&vm, GUEST_OWN, pr_guest_start, pr_guest_end);
	/* The first ones find nothing in the host's caches */
	pairs(&vm, 0);
	count = pairs(&vm, step);
	if (count < 100 * PAIRS) {
		/* On POWER8 perf stops while the host does them in real mode */
		fprintf(stderr, "htab_fd_bench: this counter does not count hcalls\n");
	} else {
		result("hcalls", PAIRS, count);
		fd = reader_open(&vm);
		result("hcalls_reader", PAIRS, pairs(&vm, 2 * step));
		close(fd);
	}
	htab_vm_close(&vm);
}

static const struct row {
	const char *name;
	void (*run)(void);
	bool asked;		/* not done unless its name is given */
} rows[] = {
	{ "first_64k", first_64k, false },
	{ "first_2k", first_2k, false },
	{ "first_empty", first_empty, false },
	{ "unchanged", unchanged, false },
	{ "changed", changed, false },
	{ "look", look, false },
	{ "restore_4", restore_4, false },
	{ "restore_64", restore_64, false },
	{ "restore_4_bare", restore_4_bare, false },
	{ "restore_64_bare", restore_64_bare, false },
	{ "hcalls", guest_pairs, false },
	{ "growth", growth, true },
	{ "shares", shares, true },
};

static void __noreturn usage(int status)
{
	unsigned int i;

	fprintf(status ? stderr : stdout,
		"htab_fd_bench [-o ORDER] [-r ROUNDS] [-t] [NAME...]\n"
		"  -o  order of the table (%u)\n"
		"  -r  how often the first pass is read (%u)\n"
		"  -t  count by the time base\n"
		"  without a name all but growth and shares; there are:", order, rounds);
	for (i = 0; i < ARRAY_SIZE(rows); i++)
		fprintf(status ? stderr : stdout, " %s", rows[i].name);
	fprintf(status ? stderr : stdout, "\n");
	exit(status);
}

static const struct row *row_of(const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		if (!strcmp(rows[i].name, name))
			return &rows[i];
	fprintf(stderr, "htab_fd_bench: no %s\n", name);
	usage(2);
}

int main(int argc, char **argv)
{
	struct htab_vm vm;
	unsigned int i;
	int opt;

	while ((opt = getopt(argc, argv, "ho:r:t")) != -1) {
		if (opt == 'o')
			order = atoi(optarg);
		else if (opt == 'r')
			rounds = atoi(optarg);
		else if (opt == 't')
			setenv("HTAB_BY_TIME", "1", 1);
		else
			usage(opt == 'h' ? 0 : 2);
	}
	if (order < 20 || order > 46 || !rounds || rounds > PASSES) {
		fprintf(stderr, "htab_fd_bench: an order from 20 on, rounds up to %u\n", PASSES);
		usage(2);
	}
	for (i = optind; i < (unsigned int)argc; i++)
		row_of(argv[i]);

	/* HV or PR, whichever this host has */
	type = htab_vm_open(&vm, KVM_VM_PPC_HV) ? KVM_VM_PPC_PR : KVM_VM_PPC_HV;
	close(vm.kvm);
	close(vm.fd);
	buf = mmap(NULL, BENCH_BUF, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (buf == MAP_FAILED)
		die("no memory");
	counter_open();

	for (i = optind; i < (unsigned int)argc; i++)
		row_of(argv[i])->run();
	for (i = 0; optind == argc && i < ARRAY_SIZE(rows); i++)
		if (!rows[i].asked)
			rows[i].run();
	return 0;
}
