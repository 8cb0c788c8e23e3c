// SPDX-License-Identifier: GPL-2.0
/*
 * First process of the guest of contrib/qemu/race, which hands over to the demo's
 * init.  A child doubles the guest's page table, and when the guest is given memory it
 * halves it.  Linux itself makes it smaller then, too, but gives up if its own
 * entries get into each other's way, as they do in a guest as small as this one.
 * Back in a table of the order that they were made in they have room.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

static unsigned long memory(void)
{
	struct sysinfo si;

	sysinfo(&si);
	return si.totalram * si.mem_unit;
}

static void resize(int by)
{
	static const char file[] = "/debug/powerpc/hpt_order";
	FILE *f = fopen(file, "r");
	int order;

	if (!f || fscanf(f, "%d", &order) != 1) {
		perror("resize: the page table's order");
		return;
	}
	fclose(f);
	f = fopen(file, "w");
	if (!f || fprintf(f, "%d", order + by) < 0 || fclose(f))
		perror("resize: the page table");
}

int main(void)
{
	unsigned long had = memory();
	int fd;

	mkdir("/dev", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mkdir("/debug", 0700);
	mount("debug", "/debug", "debugfs", 0, NULL);
	if (!fork()) {
		fd = open("/dev/console", O_RDWR | O_NOCTTY);
		dup2(fd, 2);
		resize(1);
		while (memory() == had)
			usleep(100000);
		resize(-1);
		pause();
	}
	execl("/init", "/init", NULL);
	return 1;
}
