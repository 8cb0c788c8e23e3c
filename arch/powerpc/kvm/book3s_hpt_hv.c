// SPDX-License-Identifier: GPL-2.0-only
/*
 * HV KVM's side of the HPT file descriptor (book3s_hpt_fd.c).
 *
 * The guest's view of an HPTE is in two places: its first doubleword, apart
 * from two software bits of the host's, in the HPT that the hardware uses; its
 * second in rev[].guest_rpte, to which the R and C bits that the hardware has
 * set in the HPT since must be added.  Whoever changes that view holds the
 * HPTE's lock bit.  If someone reads the table (hpte_mod_interest), he then
 * sets the HPTE's bit in the change log, hpt.changes, before he gives up the
 * lock (note_hpte_modification()).
 *
 * A harvest takes bits from the log, waits until none of their HPTEs is locked,
 * and looks at HPTEs after that; a sweep puts the bit of one that is locked
 * back.  The barrier before the bit in kvmppc_hpt_log_change() orders the lock
 * before the bit: who finds the bit set finds the HPTE locked, or as it is after
 * the change.  A bit that is set later is for the next harvest.
 *
 * The hardware sets R and C without telling anyone.  Therefore HPTEs to which
 * it still may add one of them are kept in a bitmap of their own, hpt.unsettled,
 * from when they are returned to a reader on, and before a read harvests it
 * looks at those (hpt_hv_follow()).  That one is protected by the table lock.
 *
 * Neither reading nor harvesting takes the lock of an HPTE without need.
 *
 * A reader looks at the three doublewords of some HPTEs, and then, after a
 * barrier, at the log.  Is a bit not set there, the three belong together.  Two
 * HPTEs that succeed each other in one place cannot be mixed up:
 *  - If the first doubleword is the new one, then so was the bit set, since
 *    it is stored last, behind the barrier in kvmppc_hpt_log_change().
 *  - If one of the others is the new one, then the old HPTE has been removed,
 *    and logged, before.  That may have been another CPU's doing, but the
 *    lwsync in kvmppc_hpt_log_change(), between the bit and the store that gave
 *    up the lock, is cumulative: it also orders what is done by a CPU that has
 *    seen that store, as whoever gets the lock next has.
 * And if an HPTE is changed in place, it is good before and after, and its
 * first doubleword does not change for the guest.  R and C that someone is just
 * moving from the HPTE to guest_rpte may be found in neither: the HPTE is in the
 * log then, or will be when he is done.  All of this is about what has happened
 * since the last harvest, which no other reader can do meanwhile, and a change
 * whose bit that harvest has taken was over before it ended.
 * hpt_reader_open() sees to it that changes are logged.
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
#include "book3s_hpt_records.h"

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
	hold->changes = kvm->arch.hpt.changes;

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

/* May the hardware add R or C to it? Once it is mapped, if not now. */
static bool hpt_hv_unsettled(unsigned long guest_rpte)
{
	return !(guest_rpte & HPTE_R_R) ||
	       (!(guest_rpte & HPTE_R_C) && hpte_is_writable(guest_rpte));
}

/* The R and C that the hardware has added to an HPTE, if it is valid */
static unsigned long hpt_hv_new_rc(u64 v, u64 hr, unsigned long guest_rpte)
{
	return v & HPTE_V_VALID ? hr & ~guest_rpte & (HPTE_R_R | HPTE_R_C) : 0;
}

/* The hardware may come to add R or C to an HPTE that someone knows of. */
static void hpt_hv_expect_rc(struct kvm *kvm, unsigned long index)
{
	struct kvm_hpt_info *hpt = &kvm->arch.hpt;

	hpt->nr_unsettled += !__test_and_set_bit(index, hpt->unsettled);
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

	/* The hardware does not care for the lock. */
	rc = hpt_hv_new_rc(v, be64_to_cpu(READ_ONCE(hptep[1])),
			   rev->guest_rpte);
	rev->guest_rpte |= rc;
	*changed = rc;

	if (v & (HPTE_V_VALID | HPTE_V_ABSENT) &&
	    hpt_hv_unsettled(rev->guest_rpte))
		hpt_hv_expect_rc(kvm, index);
	return v;
}

static void hpt_hv_unlock(struct kvm *kvm, unsigned long index, u64 v)
{
	unlock_hpte(hpt_hv_hpte(kvm, index), v);
	preempt_enable();
}

/*
 * Has the hardware not added R or C to an HPTE, to which it still may do so?
 * Without the HPTE's lock, see the top of the file.
 */
static bool hpt_hv_unchanged(struct kvm *kvm, unsigned long index)
{
	const __be64 *hptep = hpt_hv_hpte(kvm, index);
	const __be64 was = READ_ONCE(hptep[0]);
	u64 v = be64_to_cpu(was);
	unsigned long r;
	u64 hr;

	if (v & HPTE_V_HVLOCK || !(v & (HPTE_V_VALID | HPTE_V_ABSENT)))
		return false;
	/* First whether it is locked, then the rest. */
	smp_rmb();
	hr = be64_to_cpu(READ_ONCE(hptep[1]));
	/* R and C move from here to there. */
	smp_rmb();
	r = READ_ONCE(kvm->arch.hpt.rev[index].guest_rpte);
	/* Has somebody made it absent meanwhile, who moves them? */
	smp_rmb();
	if (READ_ONCE(hptep[0]) != was)
		return false;
	return hpt_hv_unsettled(r) && !hpt_hv_new_rc(v, hr, r);
}

static void hpt_hv_follow(struct kvm *kvm, unsigned long first,
			  unsigned long end)
{
	struct kvm_hpt_info *hpt = &kvm->arch.hpt;
	unsigned long i = first;

	if (!hpt->nr_unsettled)
		return;
	for_each_set_bit_from(i, hpt->unsettled, end) {
		bool changed;
		u64 v;

		if (hpt_hv_unchanged(kvm, i))
			continue;
		__clear_bit(i, hpt->unsettled);
		hpt->nr_unsettled--;
		v = hpt_hv_lock(kvm, i, &changed);
		hpt_hv_unlock(kvm, i, v);
		if (changed)
			kvmppc_hpt_changed(kvm, i);
		cond_resched();
	}
}

static void hpt_hv_await(struct kvm *kvm, unsigned long word,
			 unsigned long bits)
{
	const __be64 *hptes = hpt_hv_hpte(kvm, word * BITS_PER_LONG);

	for (; bits; bits &= bits - 1)
		while (READ_ONCE(hptes[2 * __ffs(bits)]) &
		       cpu_to_be64(HPTE_V_HVLOCK))
			cpu_relax();
	/* First the locks, then whatever else there is to be seen of HPTEs. */
	smp_rmb();
}

#define HPT_HV_THERE	(HPTE_V_VALID | HPTE_V_ABSENT | HPTE_V_HVLOCK)

/*
 * An HPTE lacks R or C.  If the hardware may add them, see to it that this will
 * be noticed.  Returns false if it already has, or may have.
 */
static bool hpt_hv_lacks_rc(struct kvm *kvm, unsigned long index)
{
	unsigned long r = READ_ONCE(kvm->arch.hpt.rev[index].guest_rpte);
	const __be64 *hptep = hpt_hv_hpte(kvm, index);
	u64 v, hr;

	/* Who has moved them to guest_rpte since may still have to log that. */
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
	if (hpt_hv_unsettled(r))
		hpt_hv_expect_rc(kvm, index);
	return true;
}

/*
 * In the new format the second doubleword has the segment size, which stays in
 * its byte when it moves to the first.  That one is left big-endian: to swap its
 * bytes there and back takes as long as all the rest.
 */
static __be64 hpt_hv_old_v(__be64 v, __be64 hr)
{
	return v | ((__force __be64)((__force u64)hr << 4) &
		    cpu_to_be64(3UL << HPTE_V_SSIZE_SHIFT));
}

static __always_inline void hpt_hv_convert(struct kvm_hpt_entry *hpte, __be64 v,
					   __be64 hr, unsigned long r)
{
	v &= ~cpu_to_be64(HPTE_V_HVLOCK | HPTE_V_ABSENT);
	v |= cpu_to_be64(HPTE_V_VALID);
	if (cpu_has_feature(CPU_FTR_ARCH_300))
		v = hpt_hv_old_v(v, hr);
	hpte->v = v;
	hpte->r = cpu_to_be64(r);
}

/*
 * See kvmppc_hpt_sweep().  If it is locked, it may be about to become valid.
 * The order of what is looked at is that of hpt_hv_await() and hpt_hv_emit().
 */
static __always_inline int hpt_hv_peek(struct kvm *kvm, unsigned long index,
				       struct kvm_hpt_entry *hpte)
{
	const __be64 *hptep = hpt_hv_hpte(kvm, index);
	__be64 v = READ_ONCE(hptep[0]), hr;
	unsigned long r;

	if (!(v & cpu_to_be64(HPT_HV_THERE)))
		return 0;
	/* First whether it is locked, then the rest, ... */
	smp_rmb();
	hr = READ_ONCE(hptep[1]);
	r = READ_ONCE(kvm->arch.hpt.rev[index].guest_rpte);
	/* ... and then the log. */
	smp_rmb();
	if (v & cpu_to_be64(HPTE_V_HVLOCK) ||
	    test_bit(index, kvm->arch.hpt.changes) ||
	    (~r & (HPTE_R_R | HPTE_R_C) && !hpt_hv_lacks_rc(kvm, index)))
		return -EAGAIN;
	hpt_hv_convert(hpte, v, hr, r);
	return 1;
}

static unsigned long hpt_hv_sweep(struct kvm *kvm,
				  struct kvmppc_hpt_records *out,
				  unsigned long first, unsigned long end)
{
	return kvmppc_hpt_sweep(kvm, kvm->arch.hpt.changes, out, first, end,
				hpt_hv_peek);
}

static bool hpt_hv_look(struct kvm *kvm, unsigned long index, bool bolted,
			struct kvm_hpt_entry *hpte)
{
	int valid = hpt_hv_peek(kvm, index, hpte);

	if (valid < 0) {
		bool changed;
		u64 v = hpt_hv_lock(kvm, index, &changed);

		valid = !!(v & (HPTE_V_VALID | HPTE_V_ABSENT));
		hpt_hv_convert(hpte, cpu_to_be64(v),
			       READ_ONCE(hpt_hv_hpte(kvm, index)[1]),
			       kvm->arch.hpt.rev[index].guest_rpte);
		hpt_hv_unlock(kvm, index, v);
		if (changed)
			kvmppc_hpt_changed(kvm, index);
		cond_resched();
	}
	return valid && (!bolted || hpte->v & cpu_to_be64(HPTE_V_BOLTED));
}

static __always_inline void
hpt_hv_copy(struct kvmppc_hpt_view *view, const __be64 *hptep, __be64 v,
	    __be64 flip, __be64 *to, bool new_format)
{
	const struct revmap_entry *rev = (const void *)hptep + view->rev;
	unsigned long r = READ_ONCE(rev->guest_rpte);

	v ^= flip;
	if (new_format)
		v = hpt_hv_old_v(v, READ_ONCE(hptep[1]));
	to[-1] = v;
	to[0] = cpu_to_be64(r);
	view->all_r &= r;
}

static __always_inline void
hpt_hv_copy_old(struct kvmppc_hpt_view *view, const __be64 *hptep, __be64 v,
		__be64 flip, __be64 *to)
{
	hpt_hv_copy(view, hptep, v, flip, to, false);
}

static __always_inline void
hpt_hv_copy_new(struct kvmppc_hpt_view *view, const __be64 *hptep, __be64 v,
		__be64 flip, __be64 *to)
{
	hpt_hv_copy(view, hptep, v, flip, to, true);
}

/* Some HPTEs lack R or C. */
static noinline bool hpt_hv_all_lack_rc(struct kvm *kvm, unsigned long first,
					unsigned long n)
{
	unsigned long i;

	for (i = first; i < first + n; i++)
		if (!hpt_hv_lacks_rc(kvm, i))
			return false;
	return true;
}

/* Are HPTEs as they have been seen, without the lock of any? */
static bool hpt_hv_settle(struct kvm *kvm, const struct kvmppc_hpt_view *view,
			  unsigned long first, unsigned long n)
{
	/* First the HPTEs, then the log: see the top of the file. */
	smp_rmb();
	/* Others set bits meanwhile, and may do so after this, too. */
	if (data_race(find_next_bit(kvm->arch.hpt.changes, first + n, first)) <
	    first + n)
		return false;
	if (view->any_v & cpu_to_be64(HPTE_V_HVLOCK))
		return false;
	return !(~view->all_r & (HPTE_R_R | HPTE_R_C)) ||
	       hpt_hv_all_lack_rc(kvm, first, n);
}

static unsigned long hpt_hv_emit(struct kvm *kvm, struct kvmppc_hpt_records *out,
				 unsigned long first, unsigned long n)
{
	const struct kvmppc_hpt_records before = *out;
	struct kvm_get_htab_header last;
	struct kvmppc_hpt_view view = {
		.hptes = (void *)kvm->arch.hpt.virt,
		.there = cpu_to_be64(HPT_HV_THERE),
		.all_r = ~0UL,
		.rev = (unsigned long)kvm->arch.hpt.rev - kvm->arch.hpt.virt,
	};

	BUILD_BUG_ON(sizeof(struct revmap_entry) != sizeof(struct kvm_hpt_entry));
	if (out->last)
		last = *out->last;
	if (cpu_has_feature(CPU_FTR_ARCH_300))
		n = kvmppc_hpt_emit(&view, out, first, n, hpt_hv_copy_new);
	else
		n = kvmppc_hpt_emit(&view, out, first, n, hpt_hv_copy_old);
	if (hpt_hv_settle(kvm, &view, first, n))
		return n;

	*out = before;
	if (out->last)
		*out->last = last;
	return 0;
}

/*
 * Without locks: an HPTE about to become valid will be in the log once it is,
 * and one that is locked may be valid.
 */
static unsigned long hpt_hv_skip(struct kvm *kvm, unsigned long first,
				 unsigned long n)
{
	const __be64 *p = hpt_hv_hpte(kvm, first);
	unsigned long i;

	/* Eight at a time */
	for (i = 0; i + 8 <= n; i += 8, p += 16)
		if ((READ_ONCE(p[0]) | READ_ONCE(p[2]) | READ_ONCE(p[4]) |
		     READ_ONCE(p[6]) | READ_ONCE(p[8]) | READ_ONCE(p[10]) |
		     READ_ONCE(p[12]) | READ_ONCE(p[14])) &
		    cpu_to_be64(HPT_HV_THERE))
			break;
	for (; i < n && !(READ_ONCE(p[0]) & cpu_to_be64(HPT_HV_THERE)); i++)
		p += 2;
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
	note_hpte_modification(kvm, index);
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
	.follow		= hpt_hv_follow,
	.await		= hpt_hv_await,
	.sweep		= hpt_hv_sweep,
	.look		= hpt_hv_look,
	.skip		= hpt_hv_skip,
	.emit		= hpt_hv_emit,
	.put_valid	= hpt_hv_put_valid,
	.put_invalid	= hpt_hv_put_invalid,
};
