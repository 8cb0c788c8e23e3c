// SPDX-License-Identifier: GPL-2.0
/*
 * ucall support. A ucall is a "hypercall to userspace".
 */
#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"

/* Of the guest: which instruction is a hypercall */
static bool fake_sc_1;

void ucall_arch_init(struct kvm_vm *vm, gpa_t mmio_gpa)
{
	write_guest_global(vm, fake_sc_1, vm->arch.pr);
}

/**
 * papr_hcall() - Make a hypercall, in the guest
 * @nr: its number (r3)
 * @args: its arguments (r4 to r12), replaced by its results
 *
 * Return: what it returned in r3
 */
long papr_hcall(uint64_t nr, uint64_t args[HCALL_ARGS])
{
	register uint64_t r3 asm("r3") = nr;
	register uint64_t r4 asm("r4") = args[0];
	register uint64_t r5 asm("r5") = args[1];
	register uint64_t r6 asm("r6") = args[2];
	register uint64_t r7 asm("r7") = args[3];
	register uint64_t r8 asm("r8") = args[4];
	register uint64_t r9 asm("r9") = args[5];
	register uint64_t r10 asm("r10") = args[6];
	register uint64_t r11 asm("r11") = args[7];
	register uint64_t r12 asm("r12") = args[8];

	asm volatile("	cmpdi	%10, 0\n"
		     "	beq	1f\n"
		     "	.long	%c11\n"
		     "	b	2f\n"
		     "1:	sc	1\n"
		     "2:\n"
		     : "+r" (r3), "+r" (r4), "+r" (r5), "+r" (r6), "+r" (r7), "+r" (r8),
		       "+r" (r9), "+r" (r10), "+r" (r11), "+r" (r12)
		     : "r" ((uint64_t)fake_sc_1), "i" (INST_FAKE_SC_1)
		     : "r0", "ctr", "xer", "cr0", "cr1", "cr5", "cr6", "cr7", "memory");
	args[0] = r4;
	args[1] = r5;
	args[2] = r6;
	args[3] = r7;
	args[4] = r8;
	args[5] = r9;
	args[6] = r10;
	args[7] = r11;
	args[8] = r12;
	return r3;
}

void ucall_arch_do_ucall(gva_t uc)
{
	uint64_t args[HCALL_ARGS] = { uc };

	papr_hcall(H_UCALL, args);
}

void *ucall_arch_get_ucall(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	/* Not every test runs its vCPUs by vcpu_run(), which does this */
	assert_on_unhandled_exception(vcpu);

	if (run->exit_reason == KVM_EXIT_PAPR_HCALL && run->papr_hcall.nr == H_UCALL)
		return (void *)run->papr_hcall.args[0];
	return NULL;
}
