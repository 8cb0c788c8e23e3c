// SPDX-License-Identifier: GPL-2.0
/*
 * Runs inside a host: takes one guest through a chain of QEMUs and says how
 * the guest fares. See usage() for what it does and lab/guest/run for how it
 * is called.
 *
 * One loop (pump) reads all that the QEMUs and the guest have to say: QMP,
 * parsed as JSON; the guest's console; QEMU's own messages. Whatever is out
 * of order (a QEMU that ends, an error in QMP, a damaged guest, a kernel's
 * last words, a time limit) ends the program through fail(), with the tails
 * of all consoles and logs.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TRACE	"/sys/kernel/tracing/trace"
#define DISK	"/tmp/snapshots.qcow2"
#define EVENT	"/sys/kernel/tracing/events/kvm_hpt/kvm_hpt_pass/enable"

/* Far more than it takes, also on a busy machine: these are for what hangs. */
#define BOOT_S		400	/* until a guest's first beats */
#define MIGRATE_S	240	/* until a migration has completed */
#define PATIENCE_S	30	/* until it is allowed twice the downtime */
#define ARRIVE_S	180	/* until a guest has checked itself on arrival */
#define QMP_S		60	/* until QEMU answers */
#define GROW_S		120	/* until a guest has taken in new memory */

#define HOST_S		600	/* until the other host is up and awaits the guest */
#define GONE_S		30	/* without an answer from the other host: it is dead */
#define SLOWLY		(1L << 20)	/* bytes a second, to be found in the middle of it */

#define SLEEP_S		120	/* until an idle guest has woken and gone to sleep again */
#define SETTLE_S	1	/* until all of it sleeps when it has said so */

/* What is to be seen before anything is believed: */
#define BEATS		(idle ? 2 : 3)
#define CHECKS		2	/* of all memory: one begins after arrival */

#define MAX_LINE	16384
#define TAIL		25

struct stream {			/* lines that come through a file descriptor */
	int fd;
	size_t len;
	char buf[MAX_LINE];
	char *tail[TAIL];
	unsigned int lines;
};

static struct vm {
	unsigned int nr;	/* QEMU 1, QEMU 2, ... */
	pid_t pid;
	struct stream qmp, console, log;
	json_t *reply;		/* QMP's answer to the last command ... */
	char *said;		/* ... and as it put it */
	bool ending;		/* it was told to quit */
	unsigned int beats;	/* seen from this QEMU */
	unsigned long first, beat, checks;
	unsigned long mib;	/* of memory, by its own word */
	double wakes_at;	/* or did, by its own word */
	double stopped_at;	/* by QEMU */
	char word[256];		/* the last beat as the guest put it */
} vms[2];

static unsigned int started;	/* QEMUs, ever */
static bool failing;
static char **qemu_args;
static long bandwidth_mib = 1024, downtime_ms = 300;
static bool stopped;	/* the guest stands still while it is moved */
static bool idle;	/* it is one that sleeps between beats */
static unsigned int hpt_order;	/* of its page table, once it has resized that */
static long plugged_mib;	/* memory that QEMU does not have by itself */
static int snapshots;	/* to be taken, and reverted to, before it is moved */

/*
 * The other host, while a guest is moved from there or to there: this program on
 * it. They talk line by line: "ready" when a QEMU awaits the guest, "left BEAT
 * CHECKS" when it has left, "arrived" when it has been found whole.
 */
static struct stream peer = { .fd = -1 };
static char peer_said[64];	/* last */
static bool apart;		/* from one host to the other the guest moves now */
static int deaths;		/* of the other host in the middle of it, that are to come */

/*
 * Seconds since the start. The time bases of an emulated host's processors
 * drift apart once one has run a guest that came from elsewhere; when one falls
 * behind, the kernel's arithmetic wraps and the clock leaps by 2^40 ns and back.
 * That must not look like a time-out: a leap is left out, and said.
 */
static double now(void)
{
	static double last, left_out;
	static bool said;
	struct timespec ts;
	double t;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	t = ts.tv_sec + ts.tv_nsec / 1e9;
	if (!last)
		left_out = last = t;
	if (t < last || t > last + 60) {
		left_out += t - last;
		if (!said)
			printf("      (the host's clock leapt by %.0f s)\n", t - last);
		said = true;
	}
	last = t;
	return t - left_out;
}

static void show_tail(const struct stream *s, const char *what, unsigned int nr)
{
	unsigned int n = s->lines < TAIL ? s->lines : TAIL;

	printf("  --- QEMU %u, %s, last %u lines:\n", nr, what, n);
	for (unsigned int i = s->lines - n; i < s->lines; i++)
		printf("  | %s\n", s->tail[i % TAIL]);
	if (s->len)
		printf("  | %.*s\n", (int)s->len, s->buf);
}

static void pump(int ms);

static void __attribute__((format(printf, 1, 2), noreturn)) fail(const char *fmt, ...)
{
	va_list ap;

	printf("FAILED: ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	if (!failing) {
		failing = true;
		for (double end = now() + 2; now() < end; )
			pump(200);	/* what comes after the first bad line */
	}
	for (int i = 0; i < 2; i++) {
		if (!vms[i].nr)
			continue;
		show_tail(&vms[i].console, "guest console", vms[i].nr);
		show_tail(&vms[i].log, "messages", vms[i].nr);
		if (vms[i].pid)
			kill(vms[i].pid, SIGKILL);
	}
	fflush(stdout);
	_exit(1);
}

/* path: "return.ram.transferred". NULL if there is no such value. */
static json_t *json_at(json_t *v, const char *path)
{
	while (v && *path) {
		size_t n = strcspn(path, ".");

		v = json_object_getn(v, path, n);
		path += n;
		path += *path == '.';
	}
	return v;
}

static bool json_is(json_t *v, const char *path, const char *value)
{
	v = json_at(v, path);
	return json_is_string(v) && !strcmp(json_string_value(v), value);
}

static unsigned long long json_number(json_t *v, const char *path)
{
	json_t *n = json_at(v, path);

	if (!json_is_integer(n))
		fail("QMP has no number at %s in %s", path, json_dumps(v, 0));
	return json_integer_value(n);
}

/* What a guest kernel says when it is in trouble. */
static bool kernel_trouble(const char *line)
{
	static const char *const words[] = {
		"Kernel panic", "Oops", "BUG:", "WARNING: CPU", "Call Trace",
		"Unable to handle kernel", "segfault (",
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (strstr(line, words[i]))
			return true;
	return false;
}

static void console_line(struct vm *vm, const char *line)
{
	const char *guest = strstr(line, "guest: ");
	unsigned long beat, procs, checks, mib;
	unsigned long long sum;
	char word[16];
	const char *resize = strstr(line, "HPT resize to shift ");
	unsigned int order;
	double s;

	if (kernel_trouble(line) && !failing)
		fail("the guest's kernel is in trouble on QEMU %u: %s", vm->nr, line);
	if (resize && strstr(resize, " complete") &&
	    sscanf(resize, "HPT resize to shift %u", &order) == 1)
		hpt_order = order;
	if (!guest)
		return;
	sscanf(guest, "guest: has %lu MiB", &vm->mib);
	if (strstr(guest, "DAMAGED") && !failing)
		fail("the guest's memory is damaged on QEMU %u: %s", vm->nr, guest);
	if (sscanf(guest, "guest: sleeps %lf s", &s) == 1)
		vm->wakes_at = now() + s;
	if (sscanf(guest,
		   "guest: beat %lu, %lu processes, %lu checks of %lu MiB, sum %llx, %15s",
		   &beat, &procs, &checks, &mib, &sum, word) != 6 ||
	    strcmp(word, "whole"))
		return;
	if (vm->beat && beat <= vm->beat && !failing)
		fail("the guest on QEMU %u went back from beat %lu to %lu",
		     vm->nr, vm->beat, beat);
	if (!vm->beats++)
		vm->first = beat;
	vm->beat = beat;
	vm->checks = checks;
	snprintf(vm->word, sizeof(vm->word), "%s", guest);
}

static void forget_reply(struct vm *vm)
{
	json_decref(vm->reply);
	free(vm->said);
	vm->reply = NULL;
	vm->said = NULL;
}

static void qmp_line(struct vm *vm, const char *line)
{
	json_t *v = json_loads(line, 0, NULL);

	if (!v && !failing)
		fail("QEMU %u: not JSON: %s", vm->nr, line);
	if (json_is(v, "event", "STOP"))
		vm->stopped_at = now();
	if (json_is(v, "event", "GUEST_PANICKED") && !failing)
		fail("QEMU %u reports a guest panic: %s", vm->nr, line);
	if (json_at(v, "return") || json_at(v, "error")) {
		forget_reply(vm);
		vm->reply = json_incref(v);
		vm->said = strdup(line);
	}
	json_decref(v);
}

/* Takes in what has come; vm: whose stream it is. False when there will be no more. */
static bool take(struct vm *vm, struct stream *s)
{
	ssize_t n = read(s->fd, s->buf + s->len, MAX_LINE - 1 - s->len);
	char *line = s->buf, *end;

	if (n <= 0)
		return n < 0 && (errno == EINTR || errno == EAGAIN);
	s->len += n;
	s->buf[s->len] = 0;
	while ((end = memchr(line, '\n', s->buf + s->len - line)) ||
	       (line == s->buf && s->len == MAX_LINE - 1 && (end = s->buf + s->len))) {
		char **slot = &s->tail[s->lines % TAIL];

		*end = 0;
		while (*line == '\r')
			line++;
		for (char *p = end; p > line && p[-1] == '\r'; )
			*--p = 0;
		free(*slot);
		*slot = strdup(line);
		s->lines++;
		if (s == &peer)
			snprintf(peer_said, sizeof(peer_said), "%.63s", line);
		else if (s == &vm->qmp)
			qmp_line(vm, line);
		else if (s == &vm->console)
			console_line(vm, line);
		line = end < s->buf + s->len ? end + 1 : end;
	}
	s->len -= line - s->buf;
	memmove(s->buf, line, s->len);
	return true;
}

/* Waits up to ms for something to come from anywhere, and takes it in. */
static void pump(int ms)
{
	struct pollfd fds[7];
	struct stream *from[7];
	struct vm *of[7];
	int n = 0;

	if (peer.fd >= 0) {
		fds[n] = (struct pollfd){ .fd = peer.fd, .events = POLLIN };
		from[n] = &peer;
		of[n++] = NULL;
	}
	for (int i = 0; i < 2; i++) {
		struct stream *all[] = { &vms[i].console, &vms[i].log, &vms[i].qmp };

		for (int j = 0; vms[i].nr && j < 3; j++) {
			if (all[j]->fd < 0)
				continue;
			fds[n] = (struct pollfd){ .fd = all[j]->fd, .events = POLLIN };
			from[n] = all[j];
			of[n++] = &vms[i];
		}
	}
	if (poll(fds, n, ms) < 0 && errno != EINTR)
		fail("poll: %m");
	for (int i = 0; i < n; i++) {
		if (!fds[i].revents || take(of[i], from[i]))
			continue;
		close(from[i]->fd);
		from[i]->fd = -1;
	}
	if (!n)
		usleep(ms * 1000);
	for (int i = 0; i < 2; i++) {
		struct vm *vm = &vms[i];
		int status;

		if (!vm->pid || waitpid(vm->pid, &status, WNOHANG) != vm->pid)
			continue;
		vm->pid = 0;
		if ((!vm->ending || status) && !failing)
			fail("QEMU %u ended by itself, status 0x%x", vm->nr, status);
	}
}

/* One command; returns the answer, valid until the next one. */
static json_t * __attribute__((format(printf, 2, 3)))
qmp(struct vm *vm, const char *fmt, ...)
{
	double end = now() + QMP_S;
	char cmd[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	forget_reply(vm);
	if (n >= (int)sizeof(cmd) || write(vm->qmp.fd, cmd, n) != n)
		fail("QEMU %u takes no command: %s", vm->nr, cmd);
	while (!vm->reply) {
		if (now() > end)
			fail("QEMU %u does not answer for %d s: %s", vm->nr, QMP_S, cmd);
		pump(100);
	}
	if (json_at(vm->reply, "error"))
		fail("QEMU %u refuses %s: %s", vm->nr, cmd, vm->said);
	return vm->reply;
}

static void stream_init(struct stream *s, int fd)
{
	for (int i = 0; i < TAIL; i++)
		free(s->tail[i]);
	memset(s, 0, sizeof(*s));
	s->fd = fd;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/*
 * A disk for snapshots: an empty qcow2 of 1 MiB, version 2, with clusters of 64 KiB
 * (QEMU's docs/interop/qcow2.rst). The second cluster is the table of reference
 * counts, the third has these, the fourth the map of the disk.
 */
static void create_disk(void)
{
	uint32_t header[] = {
		0x514649fb, 2, 0, 0, 0, 16, 0, 1 << 20, 0, 1, 0, 3 << 16, 0, 1 << 16, 1, 0, 0, 0,
	};
	const uint64_t counts = htobe64(2 << 16), ones = htobe64(0x0001000100010001);
	int fd = open(DISK, O_RDWR | O_CREAT | O_TRUNC, 0600);

	for (unsigned int i = 0; i < sizeof(header) / sizeof(*header); i++)
		header[i] = htobe32(header[i]);
	if (fd < 0 || pwrite(fd, header, sizeof(header), 0) != sizeof(header) ||
	    pwrite(fd, &counts, sizeof(counts), 1 << 16) != sizeof(counts) ||
	    pwrite(fd, &ones, sizeof(ones), 2 << 16) != sizeof(ones) || ftruncate(fd, 4 << 16))
		fail(DISK ": %m");
	close(fd);
}

/* A fresh QEMU; incoming: the URI the guest comes from, NULL to boot it. */
static struct vm *start(const char *incoming)
{
	struct vm *vm = &vms[started % 2];
	int q[2], con[2], log[2], argc = 0;
	char qmpdev[64], memory[80], *argv[128];

	if (vm->pid)
		fail("QEMU %u is still there", vm->nr);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, q) || pipe(con) || pipe(log))
		fail("no pipes: %m");
	vm->nr = ++started;
	vm->ending = false;
	vm->beats = 0;
	vm->first = vm->beat = vm->checks = 0;
	vm->wakes_at = 0;
	vm->word[0] = 0;
	stream_init(&vm->qmp, q[0]);
	stream_init(&vm->console, con[0]);
	stream_init(&vm->log, log[0]);

	snprintf(qmpdev, sizeof(qmpdev), "socket,id=qmp,fd=%d", q[1]);
	while (qemu_args[argc] && argc < 100) {
		argv[argc] = qemu_args[argc];
		argc++;
	}
	argv[argc++] = "-chardev";
	argv[argc++] = "stdio,id=console,signal=off";
	argv[argc++] = "-serial";
	argv[argc++] = "chardev:console";
	argv[argc++] = "-chardev";
	argv[argc++] = qmpdev;
	argv[argc++] = "-mon";
	argv[argc++] = "chardev=qmp,mode=control";
	if (plugged_mib) {
		snprintf(memory, sizeof(memory), "memory-backend-ram,id=more,size=%ldM", plugged_mib);
		argv[argc++] = "-object";
		argv[argc++] = memory;
		argv[argc++] = "-device";
		argv[argc++] = "pc-dimm,id=dimm,memdev=more";
	}
	if (incoming) {
		argv[argc++] = "-incoming";
		argv[argc++] = "defer";
	}
	if (snapshots) {
		argv[argc++] = "-drive";
		argv[argc++] = "if=none,driver=qcow2,file.driver=file,file.locking=off,"
			       "file.filename=" DISK;
	}
	argv[argc] = NULL;

	fflush(stdout);
	vm->pid = fork();
	if (vm->pid < 0)
		fail("fork: %m");
	if (!vm->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(open("/dev/null", O_RDONLY), 0);
		dup2(con[1], 1);
		dup2(log[1], 2);
		close(con[1]);
		close(log[1]);
		execvp(argv[0], argv);
		dprintf(2, "%s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	close(q[1]);
	close(con[1]);
	close(log[1]);
	qmp(vm, "{\"execute\":\"qmp_capabilities\"}");
	qmp(vm, "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":"
		"[{\"capability\":\"events\",\"state\":true}]}}");
	if (incoming)
		qmp(vm, "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"%s\"}}",
		    incoming);
	return vm;
}

static void end(struct vm *vm)
{
	double limit = now() + QMP_S;

	vm->ending = true;
	qmp(vm, "{\"execute\":\"quit\"}");
	while (vm->pid || vm->console.fd >= 0) {
		if (now() > limit)
			fail("QEMU %u does not quit", vm->nr);
		pump(100);
	}
	if (vm->qmp.fd >= 0)
		close(vm->qmp.fd);
	if (vm->log.fd >= 0)
		close(vm->log.fd);
	vm->qmp.fd = vm->log.fd = -1;
	vm->nr = 0;
}

/* Waits for the guest's own word that it runs and is whole. */
static void hear(struct vm *vm, unsigned int beats, unsigned long checks, int limit)
{
	double start = now();

	while (vm->beats < beats || vm->checks < checks) {
		if (now() > start + limit)
			fail("QEMU %u: in %d s the guest got to beat %lu, check %lu (waiting for %u beats, check %lu)",
			     vm->nr, limit, vm->beat, vm->checks, beats, checks);
		pump(200);
	}
}

/* Plugs memory into the guest, and waits until it has resized its page table. */
static void grow(struct vm *vm, long mib)
{
	unsigned long before = vm->mib;
	double limit = now() + GROW_S;

	printf("plugging %ld MiB of memory into the guest, which has %lu\n", mib, before);
	qmp(vm, "{\"execute\":\"object-add\",\"arguments\":"
		"{\"qom-type\":\"memory-backend-ram\",\"id\":\"more\",\"size\":%ld}}", mib << 20);
	qmp(vm, "{\"execute\":\"device_add\",\"arguments\":"
		"{\"driver\":\"pc-dimm\",\"id\":\"dimm\",\"memdev\":\"more\"}}");
	plugged_mib = mib;
	while (!hpt_order || vm->mib < before + mib * 9 / 10) {
		if (now() > limit)
			fail("in %d s the guest has gone from %lu to %lu MiB and %s its page table",
			     GROW_S, before, vm->mib, hpt_order ? "resized" : "not resized");
		pump(100);
	}
	printf("      it has %lu MiB, and a page table of order %u\n", vm->mib, hpt_order);
}

static void monitor(struct vm *vm, const char *command, int i)
{
	qmp(vm, "{\"execute\":\"human-monitor-command\",\"arguments\":"
		"{\"command-line\":\"%s number-%d\"}}", command, i);
	/* It may also say what it always says under PR. */
	if (strstr(vm->said, "Error"))
		fail("QEMU %u: %s: %s", vm->nr, command, vm->said);
}

/* In the same QEMU, and with the same vCPUs, the guest is what it was a while ago. */
static void revert(struct vm *vm, int i)
{
	unsigned long then, left;

	/* Each at another time of what the guest does between its beats */
	for (double until = now() + i * 7 % 10 / 10.0; now() < until; )
		pump(20);
	monitor(vm, "savevm", i);
	then = vm->beat;
	vm->beats = 0;
	hear(vm, BEATS, 0, ARRIVE_S);
	qmp(vm, "{\"execute\":\"stop\"}");
	pump(100);	/* the last it has said */
	left = vm->beat;
	monitor(vm, "loadvm", i);
	vm->beats = 0;
	vm->beat = 0;
	qmp(vm, "{\"execute\":\"cont\"}");
	hear(vm, BEATS, 0, ARRIVE_S);
	if (vm->first < then || vm->first > then + 2)
		fail("a snapshot was taken at beat %lu, and reverted to at %lu, but the guest went on at %lu",
		     then, left, vm->first);
	printf("snapshot %d: taken at beat %lu, reverted to at %lu\n      %s\n", i, then, left,
	       vm->word);
	monitor(vm, "delvm", i);
}

struct pass {
	unsigned int reader, pass;
	unsigned long long valid, invalid, bytes;
};

static void number(char *out, unsigned long long n)	/* 1234567 as 1,234,567 */
{
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%llu", n);

	for (int i = 0; i < len; i++) {
		*out++ = digits[i];
		if ((len - i) % 3 == 1 && i < len - 1)
			*out++ = ',';
	}
	*out = 0;
}

static void row(const char *name, const struct pass *p)
{
	char v[32], i[32], b[32];

	number(v, p->valid);
	number(i, p->invalid);
	number(b, p->bytes);
	printf("      %-18s %12s %12s %12s\n", name, v, i, b);
}

/*
 * How far QEMU has got with the page table, from /proc: what the kernel says of
 * the file descriptor by which it reads that.
 */
static struct progress {
	unsigned int reader, order, pass;
	unsigned long long position, pending, entries, bytes;
	double shown_at;
} progress;

static bool progress_of(pid_t pid, const char *fd, struct progress *p)
{
	char path[512], line[128], word[32];
	bool reads = false, there = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%s", pid, fd);
	f = fopen(path, "r");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "hpt-direction: %31s", word) == 1)
			reads = !strcmp(word, "read");
		if (sscanf(line, "hpt-table: %31s", word) == 1)
			there = !strcmp(word, "current");
		sscanf(line, "hpt-id: %u", &p->reader);
		sscanf(line, "hpt-order: %u", &p->order);
		sscanf(line, "hpt-pass: %u", &p->pass);
		sscanf(line, "hpt-position: %llu", &p->position);
		sscanf(line, "hpt-pending: %llu", &p->pending);
		sscanf(line, "hpt-entries: %llu", &p->entries);
		sscanf(line, "hpt-bytes: %llu", &p->bytes);
	}
	fclose(f);
	return reads && there;
}

/* Shows it once a second at most, and only what is new. */
static void progress_show(const struct vm *vm)
{
	struct progress p = {};
	char dir[32], link[64], at[32] = "", left[32], entries[32], bytes[32];
	bool found = false;
	struct dirent *e;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", vm->pid);
	d = opendir(dir);
	while (d && !found && (e = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1);

		link[n < 0 ? 0 : n] = 0;
		found = !strcmp(link, "anon_inode:kvm-htab") &&
			progress_of(vm->pid, e->d_name, &p);
	}
	if (d)
		closedir(d);
	if (!found)
		return;
	p.shown_at = progress.shown_at;
	if (now() >= p.shown_at + 1 && (p.bytes != progress.bytes || p.pass != progress.pass)) {
		number(left, p.pending);
		number(entries, p.entries);
		number(bytes, p.bytes);
		if (p.pass == 1)
			snprintf(at, sizeof(at), " at %llu %%",
				 p.position * 100 >> (p.order - 4));
		printf("      page table: pass %u%s, %s left, %s entries in %s bytes so far\n",
		       p.pass, at, left, entries, bytes);
		p.shown_at = now();
	}
	progress = p;
}

static void add_pass(struct pass *to, const struct pass *p)
{
	to->valid += p->valid;
	to->invalid += p->invalid;
	to->bytes += p->bytes;
}

static bool tracing;

static void trace_begin(void)
{
	int fd = open(EVENT, O_WRONLY);

	progress = (struct progress){};
	tracing = fd >= 0 && write(fd, "1", 1) == 1;
	if (fd >= 0)
		close(fd);
	if (!tracing)
		return;
	fd = open(TRACE, O_WRONLY | O_TRUNC);	/* forgets older events */
	if (fd < 0)
		fail(TRACE ": %m");
	close(fd);
}

/*
 * The passes over the page table since trace_begin(), from the kernel's trace.
 * A pass that finds nothing is how QEMU learns that it is done for now, so the
 * final pass, read while the guest stands still, is the one before the last if
 * that found something.
 */
static void trace_show(void)
{
	static const char mark[] = "kvm_hpt_pass: ";
	static struct pass p[10000];
	struct pass later = {}, all = {};
	unsigned int n = 0, final, shown = 0;
	char line[512], name[64], *s;
	FILE *f;

	if (!tracing) {
		printf("      passes over the page table: not reported by this kernel\n");
		return;
	}
	f = fopen(TRACE, "r");
	if (!f)
		fail(TRACE ": %m");
	while (fgets(line, sizeof(line), f)) {
		if (strstr(line, "LOST"))
			fail("the kernel's trace is not complete: %s", line);
		s = strstr(line, mark);
		if (!s)
			continue;
		if (n == sizeof(p) / sizeof(*p))
			fail("more than %u passes over the page table", n);
		if (sscanf(s + sizeof(mark) - 1,
			   "reader=%u pass=%u valid=%llu invalid=%llu bytes=%llu",
			   &p[n].reader, &p[n].pass, &p[n].valid, &p[n].invalid,
			   &p[n].bytes) != 5)
			fail("what the kernel traced cannot be read: %s", line);
		add_pass(&all, &p[n++]);
	}
	fclose(f);
	if (n < 2 || !p[0].bytes)
		fail("the kernel has traced %u passes over the page table, the first of %llu bytes",
		     n, n ? p[0].bytes : 0);
	if (progress.reader && (progress.reader != p[0].reader || progress.bytes > all.bytes))
		fail("/proc has seen reader %u return %llu bytes, the trace reader %u %llu",
		     progress.reader, progress.bytes, p[0].reader, all.bytes);
	if (hpt_order && p[0].valid + p[0].invalid != 1ULL << (hpt_order - 4))
		fail("the first pass is of %llu entries, the guest's page table of order %u",
		     p[0].valid + p[0].invalid, hpt_order);

	final = n - 1;
	if (!p[final].bytes && final > 1 && p[final - 1].bytes)
		final--;
	for (unsigned int i = 1; i < final; i++) {
		add_pass(&later, &p[i]);
		shown += p[i].bytes > 0;
	}
	printf("      %-18s %12s %12s %12s\n", "page table (HPT)", "entries", "invalid", "bytes");
	row("first pass", &p[0]);
	snprintf(name, sizeof(name), "%u later passes", final - 1);
	row(name, &later);
	row("final pass", &p[final]);
	row("all", &all);
	if (!shown)
		return;
	printf("      each later pass that found changes, as entries+invalid: bytes");
	for (unsigned int i = 1, column = 0; i < final; i++) {
		char bytes[32];

		if (!p[i].bytes)
			continue;
		number(bytes, p[i].bytes);
		snprintf(line, sizeof(line), "%llu+%llu: %s", p[i].valid, p[i].invalid, bytes);
		printf("%s%-19s", column++ % 4 ? "" : "\n        ", line);
	}
	printf("\n");
}

/* Until the guest has just gone to sleep, or has been stopped. */
static void wait_for_sleep(struct vm *vm)
{
	double limit = now() + SLEEP_S, settled = 0;

	for (double before = vm->wakes_at; !settled || now() < settled; pump(100)) {
		if (vm->stopped_at)
			return;
		if (now() > limit)
			fail("QEMU %u: the guest has not gone to sleep in %d s", vm->nr, SLEEP_S);
		if (!settled && vm->wakes_at != before)
			settled = now() + SETTLE_S;
	}
}

static void limit_migration(struct vm *vm, long downtime)
{
	qmp(vm, "{\"execute\":\"migrate-set-parameters\",\"arguments\":"
		"{\"max-bandwidth\":%ld,\"downtime-limit\":%ld}}",
	    deaths ? SLOWLY : bandwidth_mib << 20, downtime);
}

/*
 * Moves the guest out of vm, to uri; returns when QEMU says it is complete, and
 * whether it was as it was to be: an idle guest asleep; or when the other host is
 * gone in the middle of it, with false.
 */
static bool migrate(struct vm *vm, const char *uri)
{
	double limit, patience;
	bool held = false, told = false, slept;
	long allowed = downtime_ms;
	json_t *r;

	vm->stopped_at = 0;
	/* Most of its sleep is then before it, in which all may be done. */
	if (idle)
		wait_for_sleep(vm);
	limit = now() + MIGRATE_S;
	patience = now() + PATIENCE_S;
	if (stopped)
		qmp(vm, "{\"execute\":\"stop\"}");
	limit_migration(vm, idle ? 0 : downtime_ms);
	qmp(vm, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"%s\"}}", uri);
	for (;;) {
		r = qmp(vm, "{\"execute\":\"query-migrate\"}");
		if (json_is(r, "return.status", "completed"))
			break;
		if (apart && peer.fd < 0)
			return false;
		progress_show(vm);
		if (apart && !told && json_is(r, "return.status", "active") &&
		    json_number(r, "return.ram.transferred") > 4 * SLOWLY) {
			printf("      on its way: %.1f MiB sent\n",
			       json_number(r, "return.ram.transferred") / 1048576.0);
			told = true;
		}
		if (json_is(r, "return.status", "failed") ||
		    json_is(r, "return.status", "cancelled"))
			fail("the migration out of QEMU %u failed: %s", vm->nr, vm->said);
		if (now() > limit)
			fail("the migration out of QEMU %u has not completed after %d s: %s",
			     vm->nr, MIGRATE_S, vm->said);
		/* An idle guest is stopped only when the bulk is over, and it sleeps. */
		if (idle && !held && json_is(r, "return.status", "active") &&
		    json_number(r, "return.ram.dirty-sync-count") > 1) {
			held = true;
			wait_for_sleep(vm);
			limit_migration(vm, allowed);
		}
		/*
		 * A busy guest may change its memory as quickly as it is sent,
		 * which depends on how fast the machine is.
		 */
		if (!idle && now() > patience) {
			patience = now() + PATIENCE_S;
			allowed *= 2;
			limit_migration(vm, allowed);
			printf("      not done yet: a downtime of %ld ms is allowed now\n", allowed);
		}
		pump(100);
	}
	trace_show();
	slept = vm->stopped_at && vm->stopped_at < vm->wakes_at;
	if (idle && slept)
		printf("      the guest slept when it was stopped, %.1f s before it was to wake\n",
		       vm->wakes_at - vm->stopped_at);
	printf("      QEMU: total time %llu ms, downtime %llu ms, %.1f MiB sent in %llu rounds over the RAM\n",
	       json_number(r, "return.total-time"), json_number(r, "return.downtime"),
	       json_number(r, "return.ram.transferred") / 1048576.0,
	       json_number(r, "return.ram.dirty-sync-count"));
	return !idle || slept;
}

/* The guest has left from and must be whole in to. */
static void arrive(struct vm *to, unsigned long beat, unsigned long checks)
{
	double limit = now() + ARRIVE_S;

	while (!json_is(qmp(to, "{\"execute\":\"query-status\"}"), "return.status",
			stopped ? "paused" : "running")) {
		if (now() > limit)
			fail("QEMU %u does not have the guest: %s", to->nr, to->said);
		pump(200);
	}
	if (stopped)
		qmp(to, "{\"execute\":\"cont\"}");
	hear(to, BEATS, checks + CHECKS, ARRIVE_S);
	if (to->first <= beat)
		fail("the guest on QEMU %u began at beat %lu, which it had passed before (%lu)",
		     to->nr, to->first, beat);
	printf("      %s\n", to->word);
}

/* uri: tcp:ADDRESS:PORT, for this program; QEMU takes the next port. */
static struct sockaddr_in address_of(const char *uri, char *qemus, size_t n)
{
	struct sockaddr_in sa = { .sin_family = AF_INET };
	unsigned int port;
	char address[16];

	if (sscanf(uri, "tcp:%15[0-9.]:%u", address, &port) != 2 ||
	    inet_pton(AF_INET, address, &sa.sin_addr) != 1)
		fail("%s is not tcp:ADDRESS:PORT", uri);
	sa.sin_port = htons(port);
	snprintf(qemus, n, "tcp:%s:%u", address, port + 1);
	return sa;
}

/* A host that dies does not say so: it does not answer any more. */
static void peer_open(int fd)
{
	static const int on = 1, every = GONE_S / 6, tries = 5;

	if (setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &every, sizeof(every)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof(every)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof(tries)))
		fail("setsockopt: %m");
	stream_init(&peer, fd);
	peer_said[0] = 0;
	apart = true;
}

static void peer_end(void)
{
	if (peer.fd >= 0)
		close(peer.fd);
	peer.fd = -1;
	apart = false;
}

static void __attribute__((format(printf, 1, 2))) peer_tell(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vdprintf(peer.fd, fmt, ap);	/* what does not get there is missed there */
	va_end(ap);
}

/* Waits until the other host says so; false if it is gone before that. */
static bool peer_says(const char *what, int seconds)
{
	double limit = now() + seconds;

	while (strncmp(peer_said, what, strlen(what))) {
		if (peer.fd < 0)
			return false;
		if (now() > limit)
			fail("the other host has not said '%s' in %d s", what, seconds);
		pump(100);
	}
	return true;
}

/* The guest comes live from another host, to uri on this one. */
static struct vm *receive(const char *uri)
{
	const int on = 1;
	unsigned long beat, checks;
	char qemus[64];
	struct sockaddr_in sa = address_of(uri, qemus, sizeof(qemus));
	int from = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), fd;
	struct vm *vm;

	if (from < 0 || setsockopt(from, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(from, (struct sockaddr *)&sa, sizeof(sa)) || listen(from, 1))
		fail("%s: %m", uri);
	for (;; deaths--) {
		vm = start(qemus);
		printf("QEMU %u awaits the guest\n", vm->nr);
		while ((fd = accept(from, NULL, NULL)) < 0) {
			if (errno != EAGAIN)
				fail("%s: %m", uri);
			pump(200);
		}
		peer_open(fd);
		peer_tell("ready\n");
		if (peer_says("left", MIGRATE_S + QMP_S))
			break;
		if (!json_is(qmp(vm, "{\"execute\":\"query-status\"}"), "return.status", "inmigrate"))
			fail("the other host is gone, and the guest has not all come: %s", vm->said);
		if (!deaths)
			fail("the other host is gone in the middle of it");
		printf("the other host is gone in the middle of it: no guest runs in QEMU %u\n", vm->nr);
		peer_end();
		end(vm);
	}
	if (deaths)
		fail("the other host was to be gone in the middle of it");
	if (sscanf(peer_said, "left %lu %lu", &beat, &checks) != 2)
		fail("the other host says '%s'", peer_said);
	arrive(vm, beat, checks);
	peer_tell("arrived\n");
	peer_end();
	close(from);
	return vm;
}

/* A connection to what receives the guest there, as soon as that can be had. */
static void peer_find(const struct sockaddr_in *sa)
{
	static const struct timeval patience = { .tv_sec = 5 };
	double limit = now() + HOST_S;

	for (;;) {
		int why = 0, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)))
			fail("socket: %m");
		if (!connect(fd, (const struct sockaddr *)sa, sizeof(*sa))) {
			peer_open(fd);
			if (peer_says("ready", HOST_S))
				return;
			peer_end();
		} else {
			why = errno;
			close(fd);
		}
		if (now() > limit)
			fail("the other host does not await the guest: %s", strerror(why));
		pump(200);
	}
}

/* The guest leaves live for uri on another host. */
static void leave(struct vm *vm, const char *uri)
{
	char qemus[64];
	struct sockaddr_in sa = address_of(uri, qemus, sizeof(qemus));
	double limit;

	for (;; deaths--) {
		peer_find(&sa);
		printf("the guest leaves for %s\n", uri);
		trace_begin();
		if (migrate(vm, qemus))
			break;
		if (!deaths)
			fail("the other host is gone in the middle of it");
		peer_end();
		qmp(vm, "{\"execute\":\"migrate_cancel\"}");
		limit = now() + QMP_S;
		while (!json_is(qmp(vm, "{\"execute\":\"query-migrate\"}"), "return.status", "cancelled")) {
			if (now() > limit)
				fail("QEMU %u does not cancel the migration: %s", vm->nr, vm->said);
			pump(100);
		}
		vm->beats = 0;
		hear(vm, BEATS, vm->checks + CHECKS, ARRIVE_S);
		printf("the other host is gone in the middle of it: the guest goes on here\n      %s\n",
		       vm->word);
	}
	if (deaths)
		fail("the other host was to be gone in the middle of it");
	pump(100);	/* the last it has said */
	vm->beats = 0;
	peer_tell("left %lu %lu\n", vm->beat, vm->checks);
	if (!peer_says("arrived", ARRIVE_S + QMP_S))
		fail("the guest has left, but the other host is gone");
	if (vm->beats || !json_is(qmp(vm, "{\"execute\":\"query-status\"}"), "return.status",
				  "postmigrate"))
		fail("the guest has arrived, and still runs in QEMU %u: %s", vm->nr, vm->said);
	printf("the guest has arrived, and does not run here any more\n");
	peer_end();
}

static void size_of(const char *file, char *out, size_t n)
{
	struct stat st;

	if (stat(file, &st) || !st.st_size)
		fail("%s: no stream was written", file);
	snprintf(out, n, "%.1f MiB", st.st_size / 1048576.0);
}

static void usage(FILE *to)
{
	fprintf(to,
"migrate [-n HOPS] [-f FILE] [-r FROM] [-s TO] [-a DEATHS] [-qi] [-g MIB]\n"
"        [-v SNAPSHOTS] [-p SECONDS] [-b MIB] [-d MS] -- QEMU...\n"
"Takes a guest through HOPS migrations, each to a newly started QEMU, and checks\n"
"after each that the guest goes on and finds its memory whole.\n"
"  -n  hops (0)\n"
"  -f  each hop goes through FILE, the old QEMU ends before the new one starts;\n"
"      without it hops are live, over a unix socket\n"
"  -r  the guest comes from a file, saved earlier, or live from another host: FROM is\n"
"      tcp:ADDRESS:PORT, at which this program there finds this one; QEMU has the\n"
"      next port; without it, the guest boots\n"
"  -s  in the end the guest is saved to a file, or moved live to TO on another host,\n"
"      where this program waits for it with -r TO\n"
"  -a  so often the other host dies in the middle of it (0), for which there is time,\n"
"      since the guest is sent slowly then; and it is tried once more\n"
"  -q  the guest is stopped before it is moved, not by QEMU at the end of that\n"
"  -i  the guest is an idle one: it is moved while it sleeps\n"
"  -g  before the first hop so many MiB of memory are plugged into the guest (0)\n"
"  -v  before the first hop so many snapshots are taken of the running guest, and\n"
"      it is reverted to each in the same QEMU (0)\n"
"  -p  pause between hops (0)\n"
"  -b  bandwidth limit in MiB/s (%ld)\n"
"  -d  downtime limit in ms (%ld)\n", bandwidth_mib, downtime_ms);
}

int main(int argc, char **argv)
{
	const char *via = NULL, *from = NULL, *into = NULL;
	unsigned long beat = 0, checks = 0;
	char uri[512], note[512], size[32];
	int hops = 0, awake = 0, pause_s = 0, opt;
	bool counts;
	long more_mib = 0;
	struct vm *vm, *next;
	FILE *f;

	if (argc == 2 && !strcmp(argv[1], "help")) {
		usage(stdout);
		return 0;
	}
	while ((opt = getopt(argc, argv, "n:f:r:s:a:qig:v:p:b:d:")) != -1) {
		switch (opt) {
		case 'n': hops = atoi(optarg); break;
		case 'f': via = optarg; break;
		case 'r': from = optarg; break;
		case 's': into = optarg; break;
		case 'a': deaths = atoi(optarg); break;
		case 'q': stopped = true; break;
		case 'i': idle = true; break;
		case 'g': more_mib = atol(optarg); break;
		case 'v': snapshots = atoi(optarg); break;
		case 'p': pause_s = atoi(optarg); break;
		case 'b': bandwidth_mib = atol(optarg); break;
		case 'd': downtime_ms = atol(optarg); break;
		default: usage(stderr); return 2;
		}
	}
	qemu_args = argv + optind;
	if (!*qemu_args || hops < 0 || snapshots < 0) {
		usage(stderr);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);

	if (snapshots)
		create_disk();
	if (from && !strncmp(from, "tcp:", 4)) {
		vm = receive(from);
	} else if (from) {
		/* Where the guest was when it was saved stands beside the stream. */
		snprintf(note, sizeof(note), "%s.beat", from);
		f = fopen(note, "r");
		if (!f || fscanf(f, "%lu %lu", &beat, &checks) != 2)
			fail("%s: cannot be read", note);
		fclose(f);
		size_of(from, size, sizeof(size));
		printf("restoring the guest from %s (%s), saved at beat %lu\n", from, size, beat);
		snprintf(uri, sizeof(uri), "file:%s", from);
		vm = start(uri);
		arrive(vm, beat, checks);
	} else {
		printf("booting the guest in QEMU 1\n");
		vm = start(NULL);
		hear(vm, BEATS, 1, BOOT_S);
		printf("the guest runs\n      %s\n", vm->word);
	}

	if (more_mib)
		grow(vm, more_mib);
	for (int i = 1; i <= snapshots; i++)
		revert(vm, i);

	for (int hop = 1; hop <= hops; hop += counts) {
		if (pause_s)
			for (double until = now() + pause_s; now() < until; )
				pump(100);
		trace_begin();
		if (via) {
			printf("hop %d of %d: QEMU %u saves the guest to a file and ends, QEMU %u restores it\n",
			       hop, hops, vm->nr, vm->nr + 1);
			snprintf(uri, sizeof(uri), "file:%s", via);
			counts = migrate(vm, uri);
			size_of(via, size, sizeof(size));
			end(vm);
			next = start(uri);
		} else {
			printf("hop %d of %d: live migration from QEMU %u to QEMU %u\n",
			       hop, hops, vm->nr, vm->nr + 1);
			snprintf(uri, sizeof(uri), "unix:/tmp/hop%d", vm->nr);
			next = start(uri);
			counts = migrate(vm, uri);
			end(vm);
		}
		arrive(next, vm->beat, vm->checks);
		vm = next;
		/*
		 * QEMU completes a migration whenever nothing is left to send,
		 * which may be before the guest has gone to sleep.
		 */
		if (!counts) {
			printf("the guest was awake when it was stopped: this hop does not count\n");
			if (++awake > hops)
				fail("it was never asleep when it was to be");
		}
	}

	if (into && !strncmp(into, "tcp:", 4)) {
		leave(vm, into);
	} else if (into) {
		printf("saving the guest to %s\n", into);
		trace_begin();
		snprintf(uri, sizeof(uri), "file:%s", into);
		migrate(vm, uri);
		size_of(into, size, sizeof(size));
		snprintf(note, sizeof(note), "%s.beat", into);
		f = fopen(note, "w");
		if (!f || fprintf(f, "%lu %lu\n", vm->beat, vm->checks) < 0 || fclose(f))
			fail("%s: %m", note);
		printf("saved %s at beat %lu\n", size, vm->beat);
	}
	end(vm);
	printf("migrate: done, %d hops\n", hops);
	return 0;
}
