// SPDX-License-Identifier: GPL-2.0
/*
 * Runs test programs in a host one after the other, whether or not they
 * succeed, and says which begins, and which has ended with what exit status:
 *   # program NAME
 *   # end NAME STATUS
 * Each of its arguments is a command, a program's file and arguments, separated
 * by blanks, or the setting NAME=VALUE of a variable of the environment, for the
 * commands after it. With -k there is a VM of KVM all the time.
 *
 * It is no shell script because big-endian hosts have no shell.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/kvm.h>

#define MAX_ARGS	256

static int run_one(char *command)
{
	char *argv[MAX_ARGS + 1];
	int status, n = 0;
	const char *name;
	pid_t pid;

	for (char *p = strtok(command, " "); p && n < MAX_ARGS; p = strtok(NULL, " "))
		argv[n++] = p;
	argv[n] = NULL;
	if (!n || n == MAX_ARGS) {
		fprintf(stderr, "run-each: a command of no or too many words\n");
		return 1;
	}
	name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	printf("# program %s\n", name);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		execv(argv[0], argv);
		fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		perror("run-each");
		return 1;
	}
	printf("# end %s %d\n", name,
	       WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
	fflush(stdout);
	return 0;
}

int main(int argc, char **argv)
{
	int i = 1, failed = 0;

	if (argc > 1 && !strcmp(argv[1], "-k")) {
		int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

		if (fd < 0 || fcntl(ioctl(fd, KVM_CREATE_VM, 0), F_SETFD, FD_CLOEXEC)) {
			perror("run-each: no VM");
			return 1;
		}
		i++;
	}
	for (; i < argc; i++) {
		if (argv[i][strcspn(argv[i], "= /")] == '=')
			putenv(argv[i]);
		else
			failed |= run_one(argv[i]);
	}
	return failed;
}
