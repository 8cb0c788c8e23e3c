// SPDX-License-Identifier: GPL-2.0-only
/*
 * HV KVM's side of the HPT file descriptor (book3s_hpt_fd.c).
 *
 * The guest's view of an HPTE is in two places: its first doubleword, apart
 * from two software bits of the host's, in the HPT that the hardware uses; its
 * second in rev[].guest_rpte, to which the R and C bits that the hardware has
 * set in the HPT since must be added.  Whoever changes that view holds the
 * HPTE's lock bit, or all HPTEs, see hpt_hv_enter().  If someone reads the
 * table (hpte_mod_interest), he then sets the HPTE's bit in the change log,
 * hpt.changes, before he gives up the lock (note_hpte_modification()).
 *
 * A harvest (hpt_reader_harvest()) takes bits from the log and waits until none
 * of their HPTEs is locked; HPTEs are looked at after that.  The barrier before
 * the bit in kvmppc_hpt_log_change() orders the lock before the bit: who finds
 * the bit set finds the HPTE locked, or as it is after the change (p03).  A bit
 * that is set later is for the next harvest.  A reader that is alone and about
 * to return every HPTE harvests, too, but ignores the bits (p16).
 *
 * The hardware sets R and C without telling anyone.  Therefore HPTEs to which
 * it still may add one of them are kept in a bitmap of their own, hpt.unsettled,
 * from when they are returned to a reader on, and before a read harvests it
 * looks at those (hpt_hv_follow()).  That one is protected by the table lock.
 *
 * Reading takes the lock of an HPTE only if it must.  hpt_hv_copy() looks at
 * the three doublewords of some HPTEs, and then hpt_reader_emit(), after a
 * barrier, at the log.  If their bits are not set there, the three of each
 * belong together.  Two HPTEs that succeed each other in one place cannot be
 * mixed up:
 *  - If the first doubleword is the new one, then so was the bit set, since
 *    it is stored last, behind the barrier in kvmppc_hpt_log_change() (p01).
 *  - If one of the others is the new one, then the old HPTE has been removed,
 *    and logged, before.  That may have been another CPU's doing, but the
 *    lwsync in kvmppc_hpt_log_change(), between the bit and the store that gave
 *    up the lock, is cumulative: it also orders what is done by a CPU that has
 *    seen that store, as whoever gets the lock next has (p02).
 * And if an HPTE is changed in place, it is good before and after, and its
 * first doubleword does not change for the guest.  The R that kvm_age_rmapp() is
 * just moving from the HPTE to guest_rpte may be found in neither: it has logged
 * that before, so that the bit is found by who looks after that (p05m, p06n).
 * kvmppc_unmap_hpte() leaves R and C in the HPTE, which is locked until it has
 * logged that they are in guest_rpte, too (p05u, p06u), and whoever else moves
 * C holds the table lock, as readers do.  All of this is about what has happened
 * since the last harvest (p12t), which no other reader can do meanwhile (p07),
 * and a change whose bit that one has taken was over before it ended (p12l).
 * kvmppc_hpt_fd_file() sees to it that changes are logged (l10).
 *
 * (p03) and the like are litmus tests in Documentation/litmus-tests/kvm-hpt/, of
 * the claim, or, at a barrier, those that fail without it.
 */

#include <linux/bitops.h>
#include <linux/irqflags.h>
#include <linux/kvm_host.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <asm/kvm_book3s.h>
#include <asm/kvm_book3s_64.h>
#include <asm/kvm_ppc.h>

#include "book3s_hpt.h"

/* HPTEs that are entered under one hold of mmu_lock, which mmu notifiers want */
#define HPT_HV_BATCH	64UL

/* Not invalid, as far as can be seen without the lock */
#define HPT_HV_THERE	(HPTE_V_VALID | HPTE_V_ABSENT | HPTE_V_HVLOCK)

static __be64 *hpt_hv_hpte(struct kvm *kvm, unsigned long index)
{
	return (__be64 *)(kvm->arch.hpt.virt + (index << 4));
}

static int hpt_hv_hold(struct kvm *kvm, struct kvmppc_hpt_hold *hold,
		       unsigned int flags)
{
	if (flags & KVMPPC_HPT_NOKILL)
		mutex_lock(&kvm->arch.mmu_setup_lock);
	else if (mutex_lock_killable(&kvm->arch.mmu_setup_lock))
		return -EINTR;

	hold->nr = 0;
	if (!kvm_is_radix(kvm) && kvm->arch.hpt.virt)
		hold->nr = kvmppc_hpt_npte(&kvm->arch.hpt);
	hold->hptes = (const struct kvm_hpt_entry *)kvm->arch.hpt.virt;
	hold->there = cpu_to_be64(HPT_HV_THERE);
	hold->locked = cpu_to_be64(HPTE_V_HVLOCK);
	/* In the new format that is in the second doubleword, in the same byte. */
	hold->segment = cpu_has_feature(CPU_FTR_ARCH_300) ?
			cpu_to_be64(3UL << HPTE_V_SSIZE_SHIFT) : 0;
	hold->changes = kvm->arch.hpt.changes;

	hold->mmu_ready = kvm->arch.mmu_ready;
	if ((flags & KVMPPC_HPT_WRITE) && hold->nr && hold->mmu_ready) {
		kvm->arch.mmu_ready = 0;
		/* Pairs with the barrier in kvmppc_vcpu_run_hv() (p09). */
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
		/* Order the HPTEs before mmu_ready, which vCPUs look at (p09v). */
		smp_wmb();
		kvm->arch.mmu_ready = hold->mmu_ready;
	}
	mutex_unlock(&kvm->arch.mmu_setup_lock);
}

/* The R and C that the hardware has added to an HPTE, if it is valid */
static unsigned long hpt_hv_new_rc(u64 v, u64 hr, unsigned long guest_rpte)
{
	return v & HPTE_V_VALID ? hr & ~guest_rpte & (HPTE_R_R | HPTE_R_C) : 0;
}

/* If the hardware may add R or C to it, or once it is mapped, see that we notice. */
static void hpt_hv_expect_rc(struct kvm *kvm, unsigned long index,
			     unsigned long guest_rpte)
{
	struct kvm_hpt_info *hpt = &kvm->arch.hpt;

	if (!(guest_rpte & HPTE_R_R) ||
	    (!(guest_rpte & HPTE_R_C) && hpte_is_writable(guest_rpte)))
		hpt->nr_unsettled += !__test_and_set_bit(index, hpt->unsettled);
}

static __be64 hpt_hv_guest_v(__be64 v, __be64 hr, __be64 segment)
{
	return v | ((__force __be64)((__force u64)hr << 4) & segment);
}

/* Takes in the R and C bits that the hardware has set. */
static bool hpt_hv_look(struct kvm *kvm, const struct kvmppc_hpt_hold *hold,
			unsigned long index, struct kvm_hpt_entry *hpte, bool *news)
{
	struct revmap_entry *rev = &kvm->arch.hpt.rev[index];
	__be64 *hptep = hpt_hv_hpte(kvm, index), hr;
	unsigned long rc;
	u64 v;

	if (!(READ_ONCE(hptep[0]) & cpu_to_be64(HPT_HV_THERE)))
		return false;

	preempt_disable();
	/* An acquire: who had the lock before may have logged this (p05l). */
	while (!try_lock_hpte(hptep, HPTE_V_HVLOCK))
		cpu_relax();
	v = be64_to_cpu(hptep[0]);
	/* The hardware does not care for the lock. */
	hr = READ_ONCE(hptep[1]);
	rc = hpt_hv_new_rc(v, be64_to_cpu(hr), rev->guest_rpte);
	rev->guest_rpte |= rc;
	*news = rc;
	if (v & (HPTE_V_VALID | HPTE_V_ABSENT))
		hpt_hv_expect_rc(kvm, index, rev->guest_rpte);
	hpte->v = hpt_hv_guest_v(cpu_to_be64((v & ~HPT_HV_THERE) | HPTE_V_VALID),
				 hr, hold->segment);
	hpte->r = cpu_to_be64(rev->guest_rpte);
	unlock_hpte(hptep, v);
	preempt_enable();

	cond_resched();
	return v & (HPTE_V_VALID | HPTE_V_ABSENT);
}

/*
 * Is guest_rpte all that is to be said of R and C of an HPTE?  If the hardware may
 * come to add one of them, see to it that this will be noticed.  Without the
 * HPTE's lock, see the top of the file.
 */
static bool hpt_hv_rc_known(struct kvm *kvm, unsigned long index)
{
	unsigned long r = READ_ONCE(kvm->arch.hpt.rev[index].guest_rpte);
	const __be64 *hptep = hpt_hv_hpte(kvm, index);
	u64 v, hr;

	/* Who has copied them to guest_rpte may still have to log that (p06u). */
	smp_rmb();
	v = be64_to_cpu(READ_ONCE(hptep[0]));
	hr = be64_to_cpu(READ_ONCE(hptep[1]));
	if (v & HPTE_V_HVLOCK)
		return false;
	if (!(v & (HPTE_V_VALID | HPTE_V_ABSENT)))
		return true;
	/* C may be there though the guest has taken write access away. */
	if (hpt_hv_new_rc(v, hr, r))
		return false;
	hpt_hv_expect_rc(kvm, index, r);
	return true;
}

static void hpt_hv_follow(struct kvm *kvm, const struct kvmppc_hpt_hold *hold,
			  unsigned long first, unsigned long end)
{
	struct kvm_hpt_info *hpt = &kvm->arch.hpt;
	unsigned long i = first;

	if (!hpt->nr_unsettled)
		return;
	for_each_set_bit_from(i, hpt->unsettled, end) {
		struct kvm_hpt_entry hpte;
		bool changed = false;

		/* It is set again as long as there may be more to come. */
		__clear_bit(i, hpt->unsettled);
		hpt->nr_unsettled--;
		if (!hpt_hv_rc_known(kvm, i))
			hpt_hv_look(kvm, hold, i, &hpte, &changed);
		if (changed)
			set_bit(i % BITS_PER_LONG, &hold->changes[BIT_WORD(i)]);
	}
	/* What somebody has made of them is found in the log after this (p05m). */
	smp_rmb();
}

/*
 * Some of @n HPTEs lack R or C, as they have been copied.  Returns @n if that is all
 * there is to be said, or 0.  What guest_rpte is by now does not matter (p06s).
 */
static noinline unsigned long hpt_hv_all_rc_known(struct kvm *kvm,
						  unsigned long first,
						  unsigned long n,
						  const struct kvm_hpt_entry *hptes)
{
	const __be64 rc = cpu_to_be64(HPTE_R_R | HPTE_R_C);
	unsigned long i;

	for (i = 0; i < n; i++)
		if (~hptes[i].r & rc && !hpt_hv_rc_known(kvm, first + i))
			return 0;
	return n;
}

/* Without locks: see the top of the file. */
static unsigned long hpt_hv_copy(struct kvm *kvm, const struct kvmppc_hpt_hold *hold,
				 unsigned long first, unsigned long n,
				 struct kvm_hpt_entry *to)
{
	const struct revmap_entry *rev = &kvm->arch.hpt.rev[first];
	const struct kvm_hpt_entry *hpte = &hold->hptes[first];
	const __be64 segment = hold->segment, there = hold->there;
	/* As many as are in the same state, valid or absent */
	__be64 v = READ_ONCE(hpte->v), state = v & there;
	const __be64 flip = state ^ cpu_to_be64(HPTE_V_VALID);
	unsigned long all_r = ~0UL, i = 0;

	/*
	 * It may not be there any more, and nothing logged of that, since it never
	 * was, but had only been locked (p17).
	 */
	if (!state || state & hold->locked)
		return 0;
	do {
		unsigned long r = READ_ONCE(rev[i].guest_rpte);

		to[i].v = hpt_hv_guest_v(v ^ flip, READ_ONCE(hpte[i].r), segment);
		to[i].r = cpu_to_be64(r);
		all_r &= r;
		if (++i == n)
			break;
		v = READ_ONCE(hpte[i].v);
	} while ((v & there) == state);
	if (~all_r & (HPTE_R_R | HPTE_R_C))
		return hpt_hv_all_rc_known(kvm, first, i, to);
	return i;
}

/* What the host's page tables have for the last address that was asked for */
struct hpt_hv_walk {
	unsigned long hva;
	pte_t *ptep;
	unsigned int shift;	/* 0 if it is no huge page */
};

/*
 * find_kvm_host_pte(), but without a walk if the last address was in the same
 * huge page or table.  What maps memory of the guest stays as it is as long as
 * mmu_lock is held, since an mmu notifier, which needs it, comes before any
 * change.  A table that no longer does is not freed as long as interrupts are
 * off, see find_linux_pte().
 *
 * Context: mmu_lock is held, and interrupts are off, since @walk was cleared.
 */
static __always_inline pte_t *hpt_hv_host_pte(struct kvm *kvm,
					      struct hpt_hv_walk *walk,
					      unsigned long hva)
{
	unsigned long unit = walk->shift ?: PMD_SHIFT;

	if (!walk->ptep || (walk->hva ^ hva) >> unit)
		walk->ptep = find_kvm_host_pte(kvm, kvm->mmu_invalidate_seq, hva,
					       &walk->shift);
	else if (!walk->shift)
		walk->ptep += (long)(hva - walk->hva) >> PAGE_SHIFT;
	walk->hva = hva;
	return walk->ptep;
}

/*
 * What H_ENTER does with H_EXACT, to an HPTE that is not occupied, at a fraction
 * of the cost.  As the table is held for writing, no vCPU runs, and nobody else
 * who takes the table lock has to do with HPTEs and rmap chains; mmu notifiers,
 * which do not, hold mmu_lock.  So does the caller, which gives him every HPTE:
 * what kvmppc_do_h_enter() does besides, for a place in the HPTEG, the HPTE's lock
 * and a notifier that comes in between, is not needed.  When he is done, the
 * hardware wants a ptesync.
 *
 * Returns false if the host cannot map what the guest wants; but if @anyway, it
 * then becomes absent, as it would be if the page were swapped out.
 */
static __always_inline bool
hpt_hv_enter(struct kvm *kvm, struct kvm_memslots *slots, struct hpt_hv_walk *walk,
	     unsigned long index, unsigned long v, unsigned long r,
	     bool anyway, bool new_format)
{
	struct revmap_entry *rev = &kvm->arch.hpt.rev[index];
	__be64 *hptep = hpt_hv_hpte(kvm, index);
	unsigned long psize = kvmppc_actual_pgsz(v, r);
	unsigned long hr = r & ~HPTE_GR_RESERVED;
	unsigned long gfn = (r & HPTE_R_RPN & ~(psize - 1)) >> PAGE_SHIFT;
	struct kvm_memory_slot *slot = __gfn_to_memslot(slots, gfn);
	unsigned long hva, *rmap;
	int present = 0;
	pte_t *ptep;

	if (!slot || slot->flags & KVM_MEMSLOT_INVALID) {
		/* MMIO, which is what all bits of the key say */
		hr |= HPTE_R_KEY_HI | HPTE_R_KEY_LO;
	} else if (!slot_is_aligned(slot, psize)) {
		present = -EIO;
	} else {
		hva = __gfn_to_hva_memslot(slot, gfn);
		/* None while an mmu notifier is at work */
		ptep = hpt_hv_host_pte(kvm, walk, hva);
		present = kvmppc_map_guest_page(ptep, walk->shift, hva, psize, &hr);
	}
	if (present < 0) {
		if (!anyway)
			return false;
		/* It is no MMIO. */
		hr &= ~HPTE_R_KEY_LO;
	}
	rev->guest_rpte = r & ~HPTE_GR_RESERVED;
	note_hpte_modification(kvm, index);

	v &= ~(HPTE_V_HVLOCK | HPTE_V_ABSENT | HPTE_V_VALID);
	if (present > 0) {
		v |= HPTE_V_VALID;
		rmap = &slot->arch.rmap[gfn - slot->base_gfn];
		lock_rmap(rmap);
		/* What is not known of the page yet, the hardware has to set. */
		hr &= *rmap >> KVMPPC_RMAP_RC_SHIFT | ~(HPTE_R_R | HPTE_R_C);
		kvmppc_add_revmap_chain(kvm, rev, rmap, index, false);
	} else {
		v |= HPTE_V_ABSENT;
	}
	if (new_format) {
		hr = hpte_old_to_new_r(v, hr);
		v = hpte_old_to_new_v(v);
	}
	hptep[1] = cpu_to_be64(hr);
	hptep[0] = cpu_to_be64(v);
	return true;
}

/*
 * Enter HPTEs at @first and behind it, where none of the @n is occupied: see
 * hpt_hv_enter().  Returns how many are entered, up to one that cannot be.
 */
static unsigned long hpt_hv_enter_all(struct kvm *kvm, unsigned long first,
				      unsigned long n, bool anyway,
				      const struct kvm_hpt_entry *hptes)
{
	const bool new_format = cpu_has_feature(CPU_FTR_ARCH_300);
	struct kvm_memslots *slots = kvm_memslots(kvm);
	unsigned long i = 0, stop;

	do {
		struct hpt_hv_walk walk = {};

		stop = min(i + HPT_HV_BATCH, n);
		/* In this order: who has mmu_lock may wait for an interrupt here. */
		spin_lock(&kvm->mmu_lock);
		local_irq_disable();
		while (i < stop &&
		       hpt_hv_enter(kvm, slots, &walk, first + i, be64_to_cpu(hptes[i].v),
				    be64_to_cpu(hptes[i].r), anyway, new_format))
			i++;
		asm volatile("ptesync" : : : "memory");
		local_irq_enable();
		spin_unlock(&kvm->mmu_lock);
		cond_resched();
	} while (i == stop && i < n);
	return i;
}

/* H_REMOVE of an HPTE that is valid; *@hpte gets what it was. */
static void hpt_hv_remove(struct kvm *kvm, unsigned long index,
			  struct kvm_hpt_entry *hpte)
{
	unsigned long was[2] = {};

	preempt_disable();
	kvmppc_do_h_remove(kvm, 0, index, 0, was);
	preempt_enable();
	hpte->v = cpu_to_be64(was[0]);
	hpte->r = cpu_to_be64(was[1]);
}

/* Context: kvm->srcu is held. */
static void hpt_hv_put_invalid(struct kvm *kvm, unsigned long first,
			       unsigned long n)
{
	struct kvm_hpt_entry was;
	unsigned long i;

	for (i = first; i < first + n; i++) {
		if (hpt_hv_hpte(kvm, i)[0] & cpu_to_be64(HPTE_V_VALID | HPTE_V_ABSENT))
			hpt_hv_remove(kvm, i, &was);
		cond_resched();
	}
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
	const struct kvm_hpt_entry *old = hold->hptes + first;
	struct kvm_hpt_entry *replaced = NULL;	/* v is 0 where nothing was */
	const struct kvm_hpt_entry *vrma = NULL;
	__be64 all_old = 0;
	unsigned long i, done;

	for (i = 0; i < n; i++) {
		all_old |= old[i].v;
		if (is_vrma_hpte(be64_to_cpu(hptes[i].v)))
			vrma = &hptes[i];
	}

	if (all_old & hold->there) {
		replaced = kvcalloc(n, sizeof(*replaced), KVMPPC_HPT_GFP);
		if (!replaced)
			return -ENOMEM;
		for (i = 0; i < n; i++) {
			if (old[i].v & hold->there)
				hpt_hv_remove(kvm, first + i, &replaced[i]);
			cond_resched();
		}
	}

	done = hpt_hv_enter_all(kvm, first, n, false, hptes);
	if (done < n) {
		/* The record changes nothing: put back what was there. */
		hpt_hv_put_invalid(kvm, first, done);
		for (i = 0; i < n && replaced; i++)
			if (replaced[i].v)
				hpt_hv_enter_all(kvm, first + i, 1, true, &replaced[i]);
	}
	kvfree(replaced);
	if (done < n)
		return -EIO;
	if (vrma && !hold->mmu_ready) {
		hpt_hv_set_vrma(kvm, be64_to_cpu(vrma->v), be64_to_cpu(vrma->r));
		hold->mmu_ready = 1;
	}
	return 0;
}

static int hpt_hv_put(struct kvm *kvm, struct kvmppc_hpt_hold *hold,
		      unsigned long first, unsigned int n_valid,
		      unsigned int n_invalid, const struct kvm_hpt_entry *hptes)
{
	int idx = srcu_read_lock(&kvm->srcu);
	int err;

	/* What is written here is not to be given up for want of memory. */
	kvm->arch.hpt_used = true;
	err = n_valid ? hpt_hv_put_valid(kvm, hold, first, n_valid, hptes) : 0;
	if (!err)
		hpt_hv_put_invalid(kvm, first + n_valid, n_invalid);
	srcu_read_unlock(&kvm->srcu, idx);
	return err;
}

const struct kvmppc_hpt_ops kvmppc_hpt_hv_ops = {
	.name		= "hv",
	.hold		= hpt_hv_hold,
	.release	= hpt_hv_release,
	.follow		= hpt_hv_follow,
	.copy		= hpt_hv_copy,
	.look		= hpt_hv_look,
	.put		= hpt_hv_put,
};
