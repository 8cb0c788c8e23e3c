/* SPDX-License-Identifier: GPL-2.0 */
/*
 * 64-bit Book3S guests with a hashed page table (HPT), of HV and of PR KVM.
 */
#ifndef SELFTEST_KVM_PROCESSOR_H
#define SELFTEST_KVM_PROCESSOR_H

/*
 * Hypercalls of these guests.  PAPR leaves the numbers from 0xf000 on to the
 * platform.  KVM knows none of them (QEMU has 0xf000 to 0xf003), and what KVM
 * does not know goes to userspace, without having to be enabled.
 */
#define H_UCALL			0xf00c
#define H_EXCEPTION		0xf010

/*
 * Under PR KVM, a guest is a process of the host, whose hypercalls may go to
 * the hypervisor below.  KVM takes this illegal instruction for one.
 */
#define INST_SC_1		0x44000022
#define INST_FAKE_SC_1		0x7c000268

/* Where exceptions go, in the first of the pages that tests are not given */
#define EXCEPTION_COMMON	0x80
#define EXCEPTION_FIRST		0x100
#define EXCEPTION_END		0x1000
#define EXCEPTION_STEP		0x20

#define EXCEPTION_DATA_STORAGE	0x300
#define EXCEPTION_DATA_SEGMENT	0x380
#define EXCEPTION_INST_STORAGE	0x400
#define EXCEPTION_PROGRAM	0x700

#ifndef __ASSEMBLY__

#include <stdbool.h>
#include <stdint.h>

#include <linux/compiler.h>

#include "ucall_common.h"

/* handlers.S */
extern const char exception_vector[], exception_vector_end[];
extern const char exception_common[], exception_common_end[];

/**
 * struct guest_exception - an exception of a guest
 * @vector: its address, for instance EXCEPTION_DATA_STORAGE
 * @nip: address of the instruction (SRR0)
 * @msr: MSR and what the exception adds to it (SRR1)
 * @dar: address that was accessed (DAR), if it is one of data
 * @dsisr: reason (DSISR), likewise
 */
struct guest_exception {
	uint64_t vector;
	uint64_t nip;
	uint64_t msr;
	uint64_t dar;
	uint32_t dsisr;
};

bool vcpu_get_exception(struct kvm_vcpu *vcpu, struct guest_exception *ex);
void vcpu_skip_instruction(struct kvm_vcpu *vcpu, const struct guest_exception *ex);

uint64_t hpt_group(struct kvm_vm *vm, uint64_t gva, bool secondary);
uint64_t hpte_v(struct kvm_vm *vm, uint64_t gva, bool secondary);
uint64_t hpte_r(struct kvm_vm *vm, uint64_t gpa);

/* Hypercalls take and return that many arguments */
#define HCALL_ARGS		9

long papr_hcall(uint64_t nr, uint64_t args[HCALL_ARGS]);

static inline void cpu_relax(void)
{
	barrier();
}

#endif /* !__ASSEMBLY__ */

#endif /* SELFTEST_KVM_PROCESSOR_H */
