// SPDX-License-Identifier: GPL-2.0-only
/*
 * HV KVM's side of the HPT file descriptor (book3s_hpt_fd.c).
 *
 * The guest's view of an HPTE is in two places: its first doubleword, apart
 * from two software bits of the host's, in the HPT that the hardware uses; its
 * second in rev[].guest_rpte, to which the R and C bits that the hardware has
 * set in the HPT since must be added.  Whoever changes that view holds the
 * HPTE's lock bit.  If someone reads the table (hpte_mod_interest), he then
 * sets HPTE_GR_MODIFIED in guest_rpte and the HPTE's bit in the change log,
 * hpt.changes, before he gives up the lock (note_hpte_modification()).
 *
 * A harvest clears the bit in the log first and looks at the HPTE, under its
 * lock, after that.  A change made before it got the lock is seen by it, one
 * made later finds the bit in the log cleared and sets it again.
 *
 * The hardware sets R and C without telling anyone.  Therefore the bits of
 * HPTEs to which it still may add one of them stay set in the log, and what
 * makes a change of such an HPTE is HPTE_GR_MODIFIED or a new R or C.  An
 * HPTE that has never been returned to a reader need not be in the log.
 */

#include <linux/bitops.h>
#include <linux/kvm_host.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <asm/hvcall.h>
#include <asm/kvm_book3s.h>
#include <asm/kvm_book3s_64.h>
#include <asm/kvm_ppc.h>

#include "book3s_hpt.h"

/* An HPTE that was replaced, until its successor is certain. */
struct hpt_hv_replaced {
	unsigned long index;
	unsigned long hpte[2];
};

static __be64 *hpt_hv_hpte(struct kvm *kvm, unsigned long index)
{
	return (__be64 *)(kvm->arch.hpt.virt + (index << 4));
}

static bool hpt_hv_occupied(struct kvm *kvm, unsigned long index)
{
	return hpt_hv_hpte(kvm, index)[0] &
		cpu_to_be64(HPTE_V_VALID | HPTE_V_ABSENT);
}

static int hpt_hv_hold(struct kvm *kvm, struct kvmppc_hpt_hold *hold,
		       unsigned int flags)
{
	if (flags & KVMPPC_HPT_NOINTR)
		mutex_lock(&kvm->arch.mmu_setup_lock);
	else if (mutex_lock_interruptible(&kvm->arch.mmu_setup_lock))
		return -EINTR;

	hold->nr = 0;
	if (!kvm_is_radix(kvm) && kvm->arch.hpt.virt)
		hold->nr = kvmppc_hpt_npte(&kvm->arch.hpt);

	hold->mmu_ready = kvm->arch.mmu_ready;
	if ((flags & KVMPPC_HPT_WRITE) && hold->nr && hold->mmu_ready) {
		kvm->arch.mmu_ready = 0;
		/* Pairs with the barrier in kvmppc_vcpu_run_hv(). */
		smp_mb();
		if (atomic_read(&kvm->arch.vcpus_running)) {
			kvm->arch.mmu_ready = 1;
			mutex_unlock(&kvm->arch.mmu_setup_lock);
			return -EBUSY;
		}
	}
	return 0;
}

static void hpt_hv_release(struct kvm *kvm, struct kvmppc_hpt_hold *hold,
			   unsigned int flags)
{
	if ((flags & KVMPPC_HPT_WRITE) && hold->nr) {
		/* Order the HPTEs before mmu_ready, which vCPUs look at. */
		smp_wmb();
		kvm->arch.mmu_ready = hold->mmu_ready;
	}
	mutex_unlock(&kvm->arch.mmu_setup_lock);
}

/*
 * Lock an HPTE and take in the R and C bits that the hardware has set.
 * Returns the first doubleword as it is in the table; *@changed says
 * whether the guest's view has changed by that.
 */
static u64 hpt_hv_lock(struct kvm *kvm, unsigned long index, bool *changed)
{
	struct revmap_entry *rev = &kvm->arch.hpt.rev[index];
	__be64 *hptep = hpt_hv_hpte(kvm, index);
	unsigned long rc;
	u64 v;

	preempt_disable();
	while (!try_lock_hpte(hptep, HPTE_V_HVLOCK))
		cpu_relax();
	v = be64_to_cpu(hptep[0]);

	*changed = false;
	if (v & HPTE_V_VALID) {
		rc = be64_to_cpu(hptep[1]) & (HPTE_R_R | HPTE_R_C);
		if (rc & ~rev->guest_rpte) {
			rev->guest_rpte |= rc;
			*changed = true;
		}
	}

	/* May the hardware still add to it? Once it is mapped, if not now. */
	if (v & (HPTE_V_VALID | HPTE_V_ABSENT) &&
	    (!(rev->guest_rpte & HPTE_R_R) ||
	     (!(rev->guest_rpte & HPTE_R_C) &&
	      hpte_is_writable(rev->guest_rpte))))
		set_bit(index, kvm->arch.hpt.changes);
	return v;
}

static void hpt_hv_unlock(struct kvm *kvm, unsigned long index, u64 v)
{
	unlock_hpte(hpt_hv_hpte(kvm, index), v);
	preempt_enable();
}

static void hpt_hv_harvest(struct kvm *kvm, unsigned long first,
			   unsigned long end)
{
	unsigned long *changes = kvm->arch.hpt.changes;
	unsigned long i;

	for (i = first; (i = find_next_bit(changes, end, i)) < end; i++) {
		struct revmap_entry *rev = &kvm->arch.hpt.rev[i];
		bool changed;
		u64 v;

		/* Before the lock is taken: see the top of the file. */
		clear_bit(i, changes);
		v = hpt_hv_lock(kvm, i, &changed);
		if (rev->guest_rpte & HPTE_GR_MODIFIED) {
			rev->guest_rpte &= ~HPTE_GR_MODIFIED;
			changed = true;
		}
		hpt_hv_unlock(kvm, i, v);
		if (changed) {
			kvmppc_hpt_changed(kvm, i);
			cond_resched();
		}
	}
}

static unsigned long hpt_hv_get_valid(struct kvm *kvm, unsigned long first,
				      unsigned long n, bool bolted,
				      struct kvm_hpt_entry *hptes)
{
	const u64 want = HPTE_V_VALID | HPTE_V_ABSENT;
	unsigned long i;

	for (i = 0; i < n; i++) {
		__be64 *hptep = hpt_hv_hpte(kvm, first + i);
		u64 v, hv, r;
		bool changed;

		/* If it is locked, it may be about to become valid. */
		v = be64_to_cpu(READ_ONCE(hptep[0]));
		if (!(v & (want | HPTE_V_HVLOCK)))
			break;

		hv = hpt_hv_lock(kvm, first + i, &changed);
		v = hv;
		if (cpu_has_feature(CPU_FTR_ARCH_300))
			v = hpte_new_to_old_v(v, be64_to_cpu(hptep[1]));
		r = kvm->arch.hpt.rev[first + i].guest_rpte;
		hpt_hv_unlock(kvm, first + i, hv);
		if (changed) {
			kvmppc_hpt_changed(kvm, first + i);
			cond_resched();
		}

		if (!(v & want) || (bolted && !(v & HPTE_V_BOLTED)))
			break;
		v &= ~(HPTE_V_HVLOCK | HPTE_V_ABSENT);
		v |= HPTE_V_VALID;
		r &= ~HPTE_GR_RESERVED;
		hptes[i].v = cpu_to_be64(v);
		hptes[i].r = cpu_to_be64(r);
	}
	return i;
}

/*
 * Without the HPTE's lock: an HPTE about to become valid will be in the log
 * once it is, and one that is locked is left to hpt_hv_get_valid(), unless
 * that has already found it invalid.
 */
static unsigned long hpt_hv_count_invalid(struct kvm *kvm, unsigned long first,
					  unsigned long n, bool bolted)
{
	unsigned long i;

	for (i = 0; i < n; i++) {
		u64 v = be64_to_cpu(READ_ONCE(hpt_hv_hpte(kvm, first + i)[0]));

		if (v & (HPTE_V_VALID | HPTE_V_ABSENT | HPTE_V_HVLOCK) &&
		    (!bolted || v & (HPTE_V_BOLTED | HPTE_V_HVLOCK)))
			break;
	}
	return i;
}

/* H_ENTER with H_EXACT, into an HPTE that is not valid. */
static long hpt_hv_enter(struct kvm *kvm, unsigned long index,
			 unsigned long v, unsigned long r)
{
	unsigned long at;
	long ret;

	preempt_disable();
	ret = kvmppc_do_h_enter(kvm, H_EXACT, index, v, r, kvm->mm->pgd, false,
				&at);
	preempt_enable();
	return ret;
}

/* H_REMOVE of an HPTE that is valid; *@hpte gets what it was. */
static void hpt_hv_remove(struct kvm *kvm, unsigned long index,
			  unsigned long *hpte)
{
	preempt_disable();
	kvmppc_do_h_remove(kvm, 0, index, 0, hpte);
	preempt_enable();
}

/*
 * Put back an HPTE that has been removed.  If the host could not map it now,
 * which does not keep it from being in the table, it becomes an absent one, as
 * it would be if the page were swapped out.
 */
static void hpt_hv_put_back(struct kvm *kvm, unsigned long index,
			    unsigned long v, unsigned long r)
{
	struct revmap_entry *rev = &kvm->arch.hpt.rev[index];
	__be64 *hptep = hpt_hv_hpte(kvm, index);
	unsigned long hr;
	bool changed;

	if (hpt_hv_enter(kvm, index, v, r) == H_SUCCESS)
		return;

	hpt_hv_lock(kvm, index, &changed);
	rev->guest_rpte = r;
	note_hpte_modification(kvm, rev, index);
	hr = r & (HPTE_R_PP0 | (kvmppc_actual_pgsz(v, r) - 1));
	hr &= ~HPTE_R_KEY_LO;
	v = (v & ~HPTE_V_VALID) | HPTE_V_ABSENT;
	if (cpu_has_feature(CPU_FTR_ARCH_300)) {
		hr = hpte_old_to_new_r(v, hr);
		v = hpte_old_to_new_v(v);
	}
	hptep[1] = cpu_to_be64(hr);
	hpt_hv_unlock(kvm, index, v);
}

/* The base page size of the VRMA, by which vCPUs run in real mode, is known. */
static void hpt_hv_set_vrma(struct kvm *kvm, u64 v, u64 r)
{
	unsigned long senc;

	senc = slb_pgsize_encoding(1UL << kvmppc_hpte_base_page_shift(v, r));
	kvm->arch.vrma_slb_v = senc | SLB_VSID_B_1T |
			       (VRMA_VSID << SLB_VSID_SHIFT_1T);
	if (cpu_has_feature(CPU_FTR_ARCH_300))
		kvmppc_setup_partition_table(kvm);
	else
		kvmppc_update_lpcr(kvm, senc << (LPCR_VRMASD_SH - 4),
				   LPCR_VRMASD);
}

static int hpt_hv_put_valid(struct kvm *kvm, struct kvmppc_hpt_hold *hold,
			    unsigned long first, unsigned long n,
			    const struct kvm_hpt_entry *hptes)
{
	struct hpt_hv_replaced *replaced = NULL;
	unsigned long i, nr_replaced = 0;
	unsigned long hpte[2];
	int err = 0;
	int idx;

	for (i = 0; i < n; i++)
		if (!kvmppc_hpte_acceptable(be64_to_cpu(hptes[i].v),
					    be64_to_cpu(hptes[i].r)))
			return -EINVAL;

	idx = srcu_read_lock(&kvm->srcu);
	for (i = 0; i < n; i++) {
		unsigned long v = be64_to_cpu(hptes[i].v);
		unsigned long r = be64_to_cpu(hptes[i].r);

		if (hpt_hv_occupied(kvm, first + i)) {
			if (!replaced)
				replaced = kvmalloc_array(n - i, sizeof(*replaced),
							  GFP_KERNEL_ACCOUNT |
							  __GFP_NOWARN);
			if (!replaced) {
				err = -ENOMEM;
				break;
			}
			hpt_hv_remove(kvm, first + i, replaced[nr_replaced].hpte);
			replaced[nr_replaced++].index = first + i;
		}
		if (hpt_hv_enter(kvm, first + i, v, r) != H_SUCCESS) {
			err = -EIO;
			break;
		}
		cond_resched();
	}

	if (err) {
		/* The record changes nothing: put back what was there. */
		while (i--) {
			hpt_hv_remove(kvm, first + i, hpte);
			cond_resched();
		}
		for (i = 0; i < nr_replaced; i++) {
			hpt_hv_put_back(kvm, replaced[i].index,
					replaced[i].hpte[0],
					replaced[i].hpte[1]);
			cond_resched();
		}
	} else {
		for (i = 0; i < n && !hold->mmu_ready; i++) {
			u64 v = be64_to_cpu(hptes[i].v);

			if (is_vrma_hpte(v)) {
				hpt_hv_set_vrma(kvm, v, be64_to_cpu(hptes[i].r));
				hold->mmu_ready = 1;
			}
		}
	}
	srcu_read_unlock(&kvm->srcu, idx);
	kvfree(replaced);
	return err;
}

static void hpt_hv_put_invalid(struct kvm *kvm, unsigned long first,
			       unsigned long n)
{
	unsigned long i, hpte[2];
	int idx;

	idx = srcu_read_lock(&kvm->srcu);
	for (i = first; i < first + n; i++) {
		if (hpt_hv_occupied(kvm, i))
			hpt_hv_remove(kvm, i, hpte);
		cond_resched();
	}
	srcu_read_unlock(&kvm->srcu, idx);
}

const struct kvmppc_hpt_ops kvmppc_hpt_hv_ops = {
	.name		= "hv",
	.hold		= hpt_hv_hold,
	.release	= hpt_hv_release,
	.harvest	= hpt_hv_harvest,
	.get_valid	= hpt_hv_get_valid,
	.count_invalid	= hpt_hv_count_invalid,
	.put_valid	= hpt_hv_put_valid,
	.put_invalid	= hpt_hv_put_invalid,
};
