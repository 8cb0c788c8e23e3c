// SPDX-License-Identifier: GPL-2.0
/*
 * ucall support. A ucall is a "hypercall to userspace".
 */
#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"

/* Of the guest: which instruction is a hypercall */
static bool fake_sc_1;

void ucall_arch_init(struct kvm_vm *vm, vm_paddr_t mmio_gpa)
{
	write_guest_global(vm, fake_sc_1, vm->arch.pr);
}

void ucall_arch_do_ucall(vm_vaddr_t uc)
{
	register uint64_t nr asm("r3") = H_UCALL;
	register uint64_t arg asm("r4") = uc;

	asm volatile("	cmpdi	%2, 0\n"
		     "	beq	1f\n"
		     "	.long	%c3\n"
		     "	b	2f\n"
		     "1:	sc	1\n"
		     "2:\n"
		     : "+r" (nr), "+r" (arg)
		     : "r" ((uint64_t)fake_sc_1), "i" (INST_FAKE_SC_1)
		     : "r0", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "ctr", "xer",
		       "cr0", "cr1", "cr5", "cr6", "cr7", "memory");
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
