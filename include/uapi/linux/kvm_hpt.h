/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The format in which the hashed page table (HPT) of a Book3S 64 guest goes
 * through the file descriptor of KVM_PPC_GET_HTAB_FD, and so into migration
 * streams, which may be looked at on any architecture.
 *
 * See Documentation/virt/kvm/ppc-hpt-fd.rst.
 */
#ifndef _UAPI_LINUX_KVM_HPT_H
#define _UAPI_LINUX_KVM_HPT_H

#include <linux/types.h>

/*
 * A stream is a series of records.  Each has this header, in the byte order
 * of the host that reads or writes it, followed by @n_valid entries.  It
 * tells of @n_valid + @n_invalid HPTEs from @index on: the first @n_valid
 * are valid, with the contents given, the others are invalid.
 */
#ifdef __powerpc__
#include <asm/kvm.h>	/* has always had it */
#else
struct kvm_get_htab_header {
	__u32	index;
	__u16	n_valid;
	__u16	n_invalid;
};
#endif

/*
 * An HPTE, in the format of architecture version 2.07 whatever the processor,
 * its doublewords in big-endian order whatever the host.
 */
struct kvm_hpt_entry {
	__be64	v;
	__be64	r;
};

#endif /* _UAPI_LINUX_KVM_HPT_H */
