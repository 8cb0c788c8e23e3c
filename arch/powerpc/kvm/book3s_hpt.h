/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The interface between the HPT file descriptor (book3s_hpt_fd.c) and the
 * flavour of KVM that keeps the guest's hashed page table.
 */
#ifndef __POWERPC_KVM_BOOK3S_HPT_H__
#define __POWERPC_KVM_BOOK3S_HPT_H__

#include <linux/bits.h>
#include <linux/gfp.h>
#include <linux/kvm_host.h>
#include <linux/kvm_hpt.h>

/*
 * A process that is at the limit of its memory cgroup is to be told so, not to
 * be killed: without __GFP_RETRY_MAYFAIL a charge that is refused calls the OOM
 * killer.  vmalloc() charges page by page, with these flags; what it allocates
 * besides, the array of pages and page tables, is charged to nobody.
 */
#define KVMPPC_HPT_GFP	(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

/* Values for the flags of kvmppc_hpt_ops.hold */
#define KVMPPC_HPT_WRITE	BIT(0)	/* entries are going to be changed */
#define KVMPPC_HPT_NOKILL	BIT(1)	/* wait for the lock, whatever comes */

/**
 * struct kvmppc_hpt_hold - a guest's HPT, held against replacement
 * @nr:		number of HPTEs, a multiple of BITS_PER_LONG; 0 if the guest has
 *		no HPT now: it uses radix translation, or none has been allocated
 *		yet
 * @hptes:	the table, as the flavour has it
 * @there:	an HPTE is invalid if none of these bits of its first doubleword is set
 * @locked:	if this one is, somebody is at it, and will soon be done; 0 if the
 *		table lock keeps all others away
 * @changes:	the change log: the bit of an HPTE is set atomically, or under
 *		the table lock, wherever the guest's view of it changes
 * @mmu_ready:	the flavour's own, from hold to release, ...
 * @segment:	... and so is this
 */
struct kvmppc_hpt_hold {
	unsigned long nr;
	const struct kvm_hpt_entry *hptes;
	__be64 there;
	__be64 locked;
	unsigned long *changes;
	int mmu_ready;
	__be64 segment;
};

/**
 * struct kvmppc_hpt_ops - what a flavour does with its guest's HPT
 *
 * HPTEs go in and out in the architecture 2.07 format, big-endian, as the
 * guest sees them.  Everything but @hold is called between @hold and
 * @release, with HPTEs inside the table that @hold found, from process context.
 * A word is BITS_PER_LONG HPTEs, from a multiple of that on, as a word of the
 * change log has them.
 *
 * @name:	The flavour, as it is shown to users.
 * @hold:	Keep the table from being replaced or reset until @release, and,
 *		for KVMPPC_HPT_WRITE, vCPUs from running if the flavour cannot
 *		change the table under them.  Returns 0, -EINTR if it was killed
 *		while it waited (not with KVMPPC_HPT_NOKILL), or -EBUSY if vCPUs
 *		run that cannot be stopped.
 * @release:	The end of @hold.
 * @follow:	Look for changes of HPTEs @first to @end - 1 that are not logged,
 *		which the hardware makes, and set their bits in the log.  Such a
 *		change that is about to be logged by someone is so on return.  NULL
 *		if the hardware makes none.
 * @copy:	Copy HPTEs from @first on, which has just been there, to @to: up to
 *		the first that is invalid, at most @n, all of one word.  Returns how
 *		many, or 0 if each has to be looked at (@look).  No lock is needed: if
 *		one of them changes meanwhile, that is in the log once it is seen,
 *		and the caller looks there afterwards.
 * @look:	Copy an HPTE, whatever goes on, to @hpte and return true if it is
 *		valid.  If a change that is not logged was found by that, *@news is
 *		set to true.
 * @put:	Make @n_valid HPTEs from @first on valid with the contents of
 *		@hptes, and the @n_invalid behind them invalid: all of it or, with
 *		an error, nothing: -EIO for one that the host cannot map, -ENOMEM.
 *		All are such as kvmppc_hpte_acceptable() takes.
 */
struct kvmppc_hpt_ops {
	const char *name;
	int (*hold)(struct kvm *kvm, struct kvmppc_hpt_hold *hold,
		    unsigned int flags);
	void (*release)(struct kvm *kvm, struct kvmppc_hpt_hold *hold,
			unsigned int flags);
	void (*follow)(struct kvm *kvm, const struct kvmppc_hpt_hold *hold,
		       unsigned long first, unsigned long end);
	unsigned long (*copy)(struct kvm *kvm, const struct kvmppc_hpt_hold *hold,
			      unsigned long first, unsigned long n,
			      struct kvm_hpt_entry *to);
	bool (*look)(struct kvm *kvm, const struct kvmppc_hpt_hold *hold,
		     unsigned long index, struct kvm_hpt_entry *hpte, bool *news);
	int (*put)(struct kvm *kvm, struct kvmppc_hpt_hold *hold,
		   unsigned long first, unsigned int n_valid,
		   unsigned int n_invalid, const struct kvm_hpt_entry *hptes);
};

/* book3s_hpt_fd.c */
void kvmppc_hpt_init_vm(struct kvm *kvm);
void kvmppc_hpt_replaced(struct kvm *kvm, u32 order);
int kvmppc_hpt_fd_open(struct kvm *kvm, const struct kvm_get_htab_fd *args);
#if IS_ENABLED(CONFIG_KUNIT)
struct file *kvmppc_hpt_fd_file(struct kvm *kvm,
				const struct kvmppc_hpt_ops *ops,
				const struct kvm_get_htab_fd *args);
unsigned long *kvmppc_hpt_alloc_pending(unsigned long nr);
#endif

/* book3s_hpt_hv.c */
extern const struct kvmppc_hpt_ops kvmppc_hpt_hv_ops;

#endif /* __POWERPC_KVM_BOOK3S_HPT_H__ */
