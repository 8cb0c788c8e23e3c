// SPDX-License-Identifier: GPL-2.0
/*
 * First process of a big-endian host, for which Debian has no userland: does
 * what the shell script "init" beside this does, but for the terminal, and
 * lab.kvm=NAME loads modules without modprobe. Programs it runs are static.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECKOUT	"/repo"
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

static char run[PATH_MAX], modules[PATH_MAX], kvm[64] = "none";

static _Noreturn void off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

/* The kernel panics if there is no console to say it on, which is seen, too */
static _Noreturn void stop(const char *fmt, ...)
{
	int fd = open("/dev/console", O_WRONLY | O_NOCTTY);
	va_list ap;

	if (fd < 0)
		exit(1);
	dprintf(fd, "lab: ");
	va_start(ap, fmt);
	vdprintf(fd, fmt, ap);
	va_end(ap);
	dprintf(fd, "\n");
	off();
}

static void mount_all(void)
{
	static const struct {
		const char *source, *where, *type, *data;
	} m[] = {
		{ "devtmpfs", "/dev", "devtmpfs", NULL },
		{ "proc", "/proc", "proc", NULL },
		{ "sysfs", "/sys", "sysfs", NULL },
		{ "devpts", "/dev/pts", "devpts", NULL },
		{ "tmpfs", "/dev/shm", "tmpfs", NULL },
		{ "tmpfs", "/tmp", "tmpfs", NULL },
		{ "debugfs", "/sys/kernel/debug", "debugfs", NULL },
		{ "tracefs", "/sys/kernel/tracing", "tracefs", NULL },
		{ "cgroup2", "/sys/fs/cgroup", "cgroup2", NULL },
		{ "repo", CHECKOUT, "9p",
		  "trans=virtio,version=9p2000.L,msize=262144,cache=mmap" },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(m); i++) {
		mkdir(m[i].where, 0755);
		if (mount(m[i].source, m[i].where, m[i].type, 0, m[i].data))
			stop("cannot mount %s: %s", m[i].where, strerror(errno));
	}
}

/* Of what lab/host puts on the kernel's command line, the last of each counts */
static void read_cmdline(void)
{
	static char line[8192];
	FILE *f = fopen("/proc/cmdline", "r");

	if (!f || !fgets(line, sizeof(line), f))
		stop("cannot read /proc/cmdline");
	fclose(f);
	for (char *word = strtok(line, "\n "); word; word = strtok(NULL, "\n ")) {
		if (!strncmp(word, "lab.run=", 8))
			snprintf(run, sizeof(run), CHECKOUT "/%s", word + 8);
		else if (!strncmp(word, "lab.modules=", 12))
			snprintf(modules, sizeof(modules), CHECKOUT "/%s", word + 12);
		else if (!strncmp(word, "lab.kvm=", 8))
			snprintf(kvm, sizeof(kvm), "%s", word + 8);
		else if (!strncmp(word, "lab.tty=", 8))
			stop("a big-endian host has no terminal and no shell");
	}
	if (!*run)
		stop("no lab.run=");
}

static void insmod(const char *dir, const char *file)
{
	char path[2 * PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
		stop("cannot load %s: %s", file, strerror(errno));
	close(fd);
}

/*
 * A module and what it needs. In modules.dep a line has the file of a module,
 * a colon, and those that it needs, which are to be loaded from the last on.
 */
static void load_kvm(void)
{
	char path[2 * PATH_MAX], line[4096], *file[64];
	unsigned int n = 0;
	glob_t g;
	FILE *f;

	snprintf(path, sizeof(path), "%s/*/modules.dep", modules);
	if (glob(path, 0, NULL, &g) || g.gl_pathc != 1)
		stop("not one %s", path);
	f = fopen(g.gl_pathv[0], "r");
	if (!f)
		stop("no %s", g.gl_pathv[0]);
	*strrchr(g.gl_pathv[0], '/') = 0;
	snprintf(path, sizeof(path), "/%s.ko:", kvm);
	while (!n && fgets(line, sizeof(line), f)) {
		if (!strstr(line, path))
			continue;
		for (char *p = strtok(line, "\n :"); p && n < 64; p = strtok(NULL, "\n :"))
			file[n++] = p;
	}
	fclose(f);
	if (!n)
		stop("no module %s", kvm);
	while (n)
		insmod(g.gl_pathv[0], file[--n]);
	globfree(&g);
}

/* The command's arguments, each with a NUL at its end */
static char **read_command(void)
{
	static char text[1 << 16], *argv[1024];
	char path[PATH_MAX + 16];
	ssize_t len;
	int n = 0, fd;

	snprintf(path, sizeof(path), "%s/command", run);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = read(fd, text, sizeof(text));
	if (len <= 0 || len == sizeof(text) || text[len - 1])
		stop("cannot read %s", path);
	close(fd);
	for (char *p = text; p < text + len && n < 1023; p += strlen(p) + 1)
		argv[n++] = p;
	return argv;
}

/* The port by which the command's output leaves this host */
static int open_port(void)
{
	char name[16] = "", path[PATH_MAX];
	int fd = -1;
	glob_t g;

	if (glob("/sys/class/virtio-ports/*/name", 0, NULL, &g))
		stop("no port");
	for (size_t i = 0; i < g.gl_pathc && fd < 0; i++) {
		FILE *f = fopen(g.gl_pathv[i], "r");

		if (f && fgets(name, sizeof(name), f) && !strcmp(name, "lab.out\n")) {
			*strrchr(g.gl_pathv[i], '/') = 0;
			snprintf(path, sizeof(path), "/dev%s", strrchr(g.gl_pathv[i], '/'));
			fd = open(path, O_WRONLY | O_CLOEXEC);
		}
		if (f)
			fclose(f);
	}
	globfree(&g);
	if (fd < 0)
		stop("no port lab.out");
	return fd;
}

/* Returns its exit status, as a shell would */
static int run_command(char **argv, int port)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		setsid();
		dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
		dup2(port, 1);
		dup2(port, 2);
		execv(argv[0], argv);
		dprintf(2, "%s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	/* Others come to be this process's children when their parents die */
	while (waitpid(-1, &status, 0) != pid)
		;
	kill(-1, SIGKILL);
	while (wait(NULL) > 0)
		;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void tell(int status)
{
	char path[PATH_MAX + 16], path_new[PATH_MAX + 16];
	FILE *f;

	snprintf(path, sizeof(path), "%s/status", run);
	snprintf(path_new, sizeof(path_new), "%s/status.new", run);
	f = fopen(path_new, "w");
	if (!f || fprintf(f, "%d\n", status) < 0 || fclose(f) || rename(path_new, path))
		stop("cannot write %s: %s", path, strerror(errno));
}

int main(void)
{
	int fd;

	if (getpid() != 1) {
		fprintf(stderr, "This is for process 1 of a host.\n");
		return 2;
	}
	mount_all();
	read_cmdline();
	setenv("HOME", "/root", 1);
	setenv("PATH", "/bin", 1);
	sethostname("lab", 3);
	if (strcmp(kvm, "none"))
		load_kvm();
	if (chdir(CHECKOUT))
		stop("no checkout");
	fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	dprintf(fd, "lab: running the command\n");
	close(fd);
	tell(run_command(read_command(), open_port()));
	off();
}
