/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The interface between the HPT file descriptor (book3s_hpt_fd.c) and the
 * flavour of KVM that keeps the guest's hashed page table.
 */
#ifndef __POWERPC_KVM_BOOK3S_HPT_H__
#define __POWERPC_KVM_BOOK3S_HPT_H__

#include <linux/bits.h>
#include <linux/kvm_host.h>
#include <linux/kvm_hpt.h>

/* Values for the flags of kvmppc_hpt_ops.hold */
#define KVMPPC_HPT_WRITE	BIT(0)	/* entries are going to be changed */
#define KVMPPC_HPT_NOKILL	BIT(1)	/* wait for the lock, whatever comes */

/**
 * struct kvmppc_hpt_hold - a guest's HPT, held against replacement
 * @nr:		number of HPTEs, 0 if the guest has no HPT now: it uses radix
 *		translation, or none has been allocated yet
 * @changes:	the change log: the bit of an HPTE is set atomically, or under
 *		the table lock, wherever the guest's view of it changes
 * @mmu_ready:	the flavour's own, from hold to release
 */
struct kvmppc_hpt_hold {
	unsigned long nr;
	unsigned long *changes;
	int mmu_ready;
};

/**
 * struct kvmppc_hpt_records - a buffer with records of HPTEs
 * @buf:	the buffer
 * @size:	its size in bytes
 * @len:	bytes of records in it
 * @last:	the last record, to which the next HPTE may belong, or NULL
 * @nr:		records in it
 * @nr_hptes:	HPTEs in them, valid and invalid
 */
struct kvmppc_hpt_records {
	void *buf;
	size_t size;
	size_t len;
	struct kvm_get_htab_header *last;
	unsigned long nr;
	unsigned long nr_hptes;
};

/**
 * struct kvmppc_hpt_ops - what a flavour does with its guest's HPT
 *
 * HPTEs go in and out in the architecture 2.07 format, big-endian, as the
 * guest sees them.  Everything but @hold is called between @hold and
 * @release, with @first and @n inside the table that @hold found, from
 * process context.
 *
 * @name:	The flavour, as it is shown to users.
 * @hold:	Keep the table from being replaced or reset until @release, and,
 *		for KVMPPC_HPT_WRITE, vCPUs from running if the flavour cannot
 *		change the table under them.  Returns 0, -EINTR if it was killed
 *		while it waited (not with KVMPPC_HPT_NOKILL), or -EBUSY if vCPUs
 *		run that cannot be stopped.
 * @release:	The end of @hold.
 * @follow:	Look for changes of HPTEs @first to @end - 1 that are not logged,
 *		which the hardware makes, and call kvmppc_hpt_changed() for each.
 *		Such a change that is about to be logged by someone is so on
 *		return.  NULL if the hardware makes none.
 * @await:	Wait until those who have set bits in word @word of the log, of
 *		which @bits have been taken, are done with their changes.  NULL
 *		if they are, as the table is held.
 * @sweep:	Take changes of HPTEs @first to @end - 1 from the log and append
 *		these HPTEs to the records, as quickly as possible: by
 *		kvmppc_hpt_sweep().  Returns the first that it has not dealt
 *		with: there is no room for it, or it takes more than a look.
 * @look:	Copy an HPTE to @hpte and return true if it is valid (and
 *		bolted, if @bolted).
 * @skip:	Returns how many HPTEs, at most @n, from @first on, are invalid.
 * @emit:	Append up to @n HPTEs, from @first on, to the records, as quickly
 *		as possible: by kvmppc_hpt_emit().  Returns how many; if one of
 *		them cannot be had that way, none is appended.
 * @put_valid:	Make @n HPTEs from @first on valid with the contents of @hptes,
 *		all of them or, with an error, none: -EINVAL for an entry that
 *		the guest could not have entered, -EIO for one that the host
 *		cannot map, -ENOMEM.
 * @put_invalid: Make @n HPTEs from @first on invalid.
 */
struct kvmppc_hpt_ops {
	const char *name;
	int (*hold)(struct kvm *kvm, struct kvmppc_hpt_hold *hold,
		    unsigned int flags);
	void (*release)(struct kvm *kvm, struct kvmppc_hpt_hold *hold,
			unsigned int flags);
	void (*follow)(struct kvm *kvm, unsigned long first,
		       unsigned long end);
	void (*await)(struct kvm *kvm, unsigned long word, unsigned long bits);
	unsigned long (*sweep)(struct kvm *kvm, struct kvmppc_hpt_records *out,
			       unsigned long first, unsigned long end);
	bool (*look)(struct kvm *kvm, unsigned long index, bool bolted,
		     struct kvm_hpt_entry *hpte);
	unsigned long (*skip)(struct kvm *kvm, unsigned long first,
			      unsigned long n);
	unsigned long (*emit)(struct kvm *kvm, struct kvmppc_hpt_records *out,
			      unsigned long first, unsigned long n);
	int (*put_valid)(struct kvm *kvm, struct kvmppc_hpt_hold *hold,
			 unsigned long first, unsigned long n,
			 const struct kvm_hpt_entry *hptes);
	void (*put_invalid)(struct kvm *kvm, unsigned long first,
			    unsigned long n);
};

/* book3s_hpt_fd.c */
void kvmppc_hpt_init_vm(struct kvm *kvm);
void kvmppc_hpt_replaced(struct kvm *kvm, u32 order);
void kvmppc_hpt_changed(struct kvm *kvm, unsigned long index);
int kvmppc_hpt_fd_open(struct kvm *kvm, const struct kvm_get_htab_fd *args);
#if IS_ENABLED(CONFIG_KUNIT)
struct file *kvmppc_hpt_fd_file(struct kvm *kvm,
				const struct kvmppc_hpt_ops *ops,
				const struct kvm_get_htab_fd *args);
#endif

/* book3s_hpt_hv.c */
extern const struct kvmppc_hpt_ops kvmppc_hpt_hv_ops;

#endif /* __POWERPC_KVM_BOOK3S_HPT_H__ */
