// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin for QEMU's TCG, see lab/bench profile: how often a host executes
 * each instruction while htab_fd_bench -t counts, which is from one look of it
 * at the time base to the next.  The argument is out=FILE; a line there has an
 * address and a number.
 *
 * Debian packages no header for plugins, hence the declarations.
 */
#define _GNU_SOURCE
#include <byteswap.h>
#include <inttypes.h>
#include <search.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define NO_REGISTERS 0	/* what a callback may access */

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id,
		void (*cb)(plugin_id id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
		void (*cb)(unsigned int cpu, void *data), int flags, void *data);
void qemu_plugin_register_atexit_cb(plugin_id id, void (*cb)(plugin_id id, void *data),
				    void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t len);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

EXPORT int qemu_plugin_version = 4;

struct place {
	uint64_t address;
	uint64_t count;
};

static void *places;	/* a tree, since an address is translated more than once */
static bool counting;
static FILE *out;

static int compare(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

static struct place *place_of(uint64_t address)
{
	struct place *place = calloc(1, sizeof(*place)), **found;

	if (!place)
		abort();
	place->address = address;
	found = tsearch(place, &places, compare);
	if (!found)
		abort();
	if (*found != place)
		free(place);
	return *found;
}

static void executed(unsigned int cpu, void *place)
{
	if (counting)
		((struct place *)place)->count++;
}

static void looks_at_the_time(unsigned int cpu, void *data)
{
	counting = !counting;
}

static bool is_mftb(uint32_t insn)
{
	return (insn & 0xfc1fffff) == 0x7c0c42a6;
}

/* Where static programs are; the kernel and libraries are not. */
static bool is_program(uint64_t address)
{
	return address >> 28 == 1;
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
	size_t i, n = qemu_plugin_tb_n_insns(tb);

	for (i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint64_t address = qemu_plugin_insn_vaddr(insn);
		uint32_t word = 0;

		qemu_plugin_insn_data(insn, &word, sizeof(word));
		if (is_program(address) && (is_mftb(word) || is_mftb(bswap_32(word))))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, looks_at_the_time,
							       NO_REGISTERS, NULL);
		else
			qemu_plugin_register_vcpu_insn_exec_cb(insn, executed, NO_REGISTERS,
							       place_of(address));
	}
}

static void print(const void *node, VISIT visit, int depth)
{
	const struct place *place = *(const struct place **)node;

	if ((visit == postorder || visit == leaf) && place->count)
		fprintf(out, "%" PRIx64 " %" PRIu64 "\n", place->address, place->count);
}

static void ended(plugin_id id, void *data)
{
	twalk(places, print);
	fclose(out);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
	if (argc != 1 || strncmp(argv[0], "out=", 4))
		return -1;
	out = fopen(argv[0] + 4, "w");
	if (!out)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, ended, NULL);
	return 0;
}
