/* SPDX-License-Identifier: GPL-2.0 */
#ifndef SELFTEST_KVM_UTIL_ARCH_H
#define SELFTEST_KVM_UTIL_ARCH_H

#include <stdbool.h>
#include <stdint.h>

struct kvm_mmu_arch {};

struct kvm_vm_arch {
	bool pr;		/* of PR KVM */
	int htab_fd;		/* writer of the HPT */
	uint8_t *hptes_used;	/* a byte a group, a bit an HPTE */
	unsigned long hptes;
	uint64_t stacks;	/* of vCPUs that are yet to be added */
	unsigned int nr_stacks;
};

#endif /* SELFTEST_KVM_UTIL_ARCH_H */
