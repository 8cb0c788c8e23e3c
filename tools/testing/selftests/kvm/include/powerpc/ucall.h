/* SPDX-License-Identifier: GPL-2.0 */
#ifndef SELFTEST_KVM_UCALL_H
#define SELFTEST_KVM_UCALL_H

#include "kvm_util.h"

#define UCALL_EXIT_REASON	KVM_EXIT_PAPR_HCALL

#endif /* SELFTEST_KVM_UCALL_H */
