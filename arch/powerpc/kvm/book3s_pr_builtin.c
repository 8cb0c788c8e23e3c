// SPDX-License-Identifier: GPL-2.0-only
/*
 * What kvmppc_entry_trampoline() calls to go from the host's context to the guest's and
 * back.  Between the two neither RCU nor lockdep nor tracing may be used, nor may there be
 * an interrupt of the host's, a fault on the text of a module included: so this is a part of
 * the kernel itself.
 */
#include <linux/kvm_host.h>

#include <asm/kvm_ppc.h>
#include <asm/kvm_book3s.h>

/**
 * kvmppc_pr_guest_state_enter - tell context tracking and lockdep that a guest is entered
 *
 * Called with interrupts hard-disabled, which they are until the guest has been left.
 */
noinstr void kvmppc_pr_guest_state_enter(void)
{
	guest_state_enter_irqoff();
}

/**
 * kvmppc_pr_guest_state_exit - tell them that it has been left
 *
 * Called with interrupts hard-disabled, on the stack that was there before.
 */
noinstr void kvmppc_pr_guest_state_exit(void)
{
	guest_state_exit_irqoff();
}
