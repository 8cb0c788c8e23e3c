/* SPDX-License-Identifier: GPL-2.0 */
/*
 * More that the guest of htab.h can do, for pr_fixes_test and htab_fd_bench:
 * code that a vCPU is sent to by its PC, and that comes back to where the guest
 * waits.
 */
#ifndef SELFTEST_KVM_POWERPC_PR_GUEST_H
#define SELFTEST_KVM_POWERPC_PR_GUEST_H

#include "htab.h"

#define MSR_EE			0x8000ULL
#define MSR_PR			0x4000ULL
#define MSR_FP			0x2000ULL
#define MSR_RI			0x2ULL

/* Where this code is; that of htab.h is at GUEST_CODE */
#define GUEST_OWN		0x20000UL

/* Interrupts, as the guest tells of them */
#define GUEST_EXTERNAL		-0x500L
#define GUEST_DEC		-0x900L
#define GUEST_FACILITY		-0xf60L

__asm__("	.pushsection .rodata\n"
	"	.balign	8\n"
	"pr_guest_start:\n"
	"pr_guest_tlbie:\n"		/* of r4 */
	"	.long	0x7c000264 | (4 << 11)\n"
	"	b	pr_guest_done\n"
	"pr_guest_dcbz:\n"		/* at r4, as patched for lines of 32 bytes */
	"	.long	0x7c0007e4 | (4 << 11)\n"
	"	b	pr_guest_done\n"
	"pr_guest_tar:\n"		/* TAR into r4, incremented into r5 */
	"	mfspr	4, 815\n"
	"	addi	5, 4, 1\n"
	"	mtspr	815, 5\n"
	"	mfspr	5, 815\n"
	"	b	pr_guest_done\n"
	"pr_guest_slbmte:\n"		/* r5, r6, then */
	"	slbmte	5, 6\n"
	"pr_guest_slbmf:\n"		/* entry r4 of the SLB into r4, r5 */
	"	slbmfev	5, 4\n"
	"	slbmfee	4, 4\n"
	"	b	pr_guest_done\n"
	"pr_guest_sweep:\n"		/* at r4, each r5 bytes, r6 times, store r7 */
	"	std	7, 0(4)\n"
	"	add	4, 4, 5\n"
	"	addi	6, 6, -1\n"
	"	cmpdi	6, 0\n"
	"	bne	pr_guest_sweep\n"
	"	b	pr_guest_done\n"
	"pr_guest_dec:\n"		/* r4 into DEC, r5 into MSR, wait a while */
	"	mtspr	22, 4\n"
	"	mtmsrd	5\n"
	"	lis	6, 0x40\n"
	"1:	addi	6, 6, -1\n"
	"	cmpdi	6, 0\n"
	"	bne	1b\n"
	"	b	pr_guest_done\n"
	/*
	 * For remapped_while_read: enter at index r4 what r5 and r6 say, and
	 * next time with r6 XORed with r7; count in each page before, and at
	 * r8 after that; until there is something at r8 + 8. Two follow one
	 * another, not always as closely, then there is time to see what comes
	 * of it. The results of the hypercalls come to r4, their number to r5.
	 */
	"pr_guest_remap:\n"
	"	mr	14, 4\n"
	"	mr	15, 5\n"
	"	mr	16, 6\n"
	"	mr	17, 7\n"
	"	mr	18, 8\n"
	"	li	19, 0\n"
	"	li	20, 0\n"
	"1:	addi	19, 19, 1\n"
	"	li	3, 0x04\n"
	"	li	4, 0\n"
	"	mr	5, 14\n"
	"	sc	1\n"
	"	or	20, 20, 3\n"
	"	rldicr	9, 16, 0, 51\n"
	"	std	19, 0(9)\n"
	"	li	3, 0x08\n"
	"	li	4, 1\n"
	"	sldi	4, 4, 39\n"
	"	mr	5, 14\n"
	"	mr	6, 15\n"
	"	mr	7, 16\n"
	"	sc	1\n"
	"	or	20, 20, 3\n"
	"	lwsync\n"
	"	std	19, 0(18)\n"
	"	xor	16, 16, 17\n"
	"	li	9, 0x4000\n"
	"	andi.	10, 19, 1\n"
	"	beq	2f\n"
	"	rldicl	9, 19, 63, 58\n"
	"	sldi	9, 9, 8\n"
	"2:	addi	9, 9, -1\n"
	"	cmpdi	9, 0\n"
	"	bge	2b\n"
	"	ld	9, 8(18)\n"
	"	cmpdi	9, 0\n"
	"	beq	1b\n"
	"	mr	4, 20\n"
	"	mr	5, 19\n"
	"	b	pr_guest_done\n"
	/* Another vCPU: until what is at r5 is less than what has been at r4 before */
	"pr_guest_check:\n"
	"	ld	6, 0(4)\n"
	"	lwsync\n"
	"	ld	7, 0(5)\n"
	"	cmpd	7, 6\n"
	"	blt	pr_guest_done\n"
	"	ld	8, 8(4)\n"
	"	cmpdi	8, 0\n"
	"	beq	pr_guest_check\n"
	"	b	pr_guest_done\n"
	/* For queued_interrupt_is_visible: how often, in r14; and how many came, in r15 */
	"pr_guest_syscalls:\n"
	"	addi	14, 14, 1\n"
	"	sc\n"
	"	b	pr_guest_syscalls\n"
	"pr_guest_handler:\n"
	"	addi	15, 15, 1\n"
	"	rfid\n"
	"pr_guest_handler_end:\n"
	"pr_guest_retry:\n"
	"	rfid\n"
	"pr_guest_retry_end:\n"
	"pr_guest_cede:\n"
	"	li	3, 0xe0\n"
	"	sc	1\n"
	"pr_guest_stores:\n"		/* at r4, and then at r5 */
	"	std	7, 0(4)\n"
	"	std	7, 0(5)\n"
	"	b	pr_guest_spin\n"
	"pr_guest_until:\n"		/* r4 into DEC, r5 into MSR, until there is an interrupt */
	"	mtspr	22, 4\n"
	"	mtmsrd	5\n"
	"pr_guest_spin:\n"
	"	b	pr_guest_spin\n"
	/*
	 * For htab_fd_bench, under HV as well: r4 times H_ENTER of what r7 and r8
	 * say, and H_REMOVE, at index r5 and each r6 after it. What they returned
	 * comes to r4, all in one.
	 */
	"pr_guest_pairs:\n"
	"	lis	13, 0x7fff\n"	/* no decrementer for a while */
	"	mtdec	13\n"
	"	mr	14, 4\n"
	"	mr	15, 5\n"
	"	mr	16, 6\n"
	"	mr	17, 7\n"
	"	mr	18, 8\n"
	"	li	19, 0\n"
	"1:	cmpdi	14, 0\n"
	"	beq	2f\n"
	"	li	3, 0x08\n"
	"	li	4, 0\n"
	"	mr	5, 15\n"
	"	mr	6, 17\n"
	"	mr	7, 18\n"
	"	sc	1\n"
	"	or	19, 19, 3\n"
	"	li	3, 0x04\n"
	"	mr	5, 4\n"	/* where H_ENTER has put it */
	"	li	4, 0\n"
	"	li	6, 0\n"
	"	sc	1\n"
	"	or	19, 19, 3\n"
	"	add	15, 15, 16\n"
	"	addi	14, 14, -1\n"
	"	b	1b\n"
	"2:	mr	4, 19\n"
	"pr_guest_done:\n"
	"	li	12, 0\n"
	"	trap\n"		/* replaced: to GUEST_CODE */
	"pr_guest_end:\n"
	"	.popsection\n");

extern const char pr_guest_start[], pr_guest_end[];
extern const char pr_guest_tlbie[], pr_guest_tar[], pr_guest_slbmte[], pr_guest_slbmf[];
extern const char pr_guest_dcbz[], pr_guest_sweep[], pr_guest_dec[], pr_guest_until[];
extern const char pr_guest_remap[], pr_guest_check[], pr_guest_cede[], pr_guest_spin[];
extern const char pr_guest_stores[], pr_guest_pairs[];
extern const char pr_guest_retry[], pr_guest_retry_end[];
extern const char pr_guest_syscalls[], pr_guest_handler[], pr_guest_handler_end[];

#define INST_TRAP	0x7fe00008
#define INST_TO_GUEST	(0x48000002 | GUEST_CODE)	/* ba GUEST_CODE */

static inline void load_code(struct htab_vm *vm, uint64_t addr, const char *start, const char *end)
{
	uint32_t *inst = guest_mem(vm, addr);
	unsigned long i;

	memcpy(inst, start, end - start);
	for (i = 0; i < (end - start) / sizeof(*inst); i++) {
		if (vm->type == KVM_VM_PPC_PR && inst[i] == INST_SC_1)
			inst[i] = INST_SC_1_PR;
		if (inst[i] == INST_TRAP)
			inst[i] = INST_TO_GUEST;
	}
	__builtin___clear_cache((char *)inst, (char *)inst + (end - start));
}

/* This beside the guest of htab.h, and more interrupts of which it tells */
static inline void load_guest(struct htab_vm *vm)
{
	static const int16_t vectors[] = { GUEST_EXTERNAL, GUEST_DEC, GUEST_FACILITY };
	unsigned int i;

	load_code(vm, GUEST_OWN, pr_guest_start, pr_guest_end);
	for (i = 0; i < ARRAY_SIZE(vectors); i++) {
		/* li 12, -vector */
		uint32_t inst[] = { 0x39800000 | (vectors[i] & 0xffff), INST_TO_GUEST };

		load_code(vm, -vectors[i], (char *)inst, (char *)(inst + 2));
	}
}

/*
 * Where a vCPU goes on, and bits of its MSR. With none of these it is as if it had
 * been reset: PR KVM tells by SRR1, too.
 */
static inline int set_pc(struct htab_vm *vcpu, uint64_t pc, uint64_t msr)
{
	struct kvm_regs regs;
	int ret = xioctl(vcpu->vcpu, KVM_GET_REGS, &regs);

	if (ret)
		return ret;
	regs.pc = pc;
	regs.msr = MSR_OURS | msr;
	regs.srr1 = 0;
	/* Interrupts are held off while r1 is what the magic page has: here, 0 */
	regs.gpr[1] = GUEST_CONTROL;
	return xioctl(vcpu->vcpu, KVM_SET_REGS, &regs);
}

#define set_label(_vcpu, _label, _msr) \
	set_pc(_vcpu, GUEST_OWN + ((_label) - pr_guest_start), _msr)

/* Have a vCPU that waits do this instead of a command */
static inline int run_label(struct htab_vm *vcpu, const char *label, uint64_t args[9])
{
	int ret = set_label(vcpu, label, 0);

	return ret ? ret : guest_do(vcpu, 0, args);
}

#endif
