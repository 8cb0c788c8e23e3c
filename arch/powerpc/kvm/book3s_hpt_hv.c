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
 * A harvest takes bits from the log, waits until none of their HPTEs is locked,
 * and looks at HPTEs after that; a sweep puts the bit of one that is locked
 * back (p04).  The barrier before the bit in kvmppc_hpt_log_change() orders the
 * lock before the bit: who finds the bit set finds the HPTE locked, or as it is
 * after the change (p03).  A bit that is set later is for the next harvest.
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
 * kvmppc_unmap_hpte() leaves R and C in the HPTE (p05u), and whoever else moves
 * C holds the table lock, as readers do.  All of this is about what has happened
 * since the last harvest, which no other reader can do meanwhile (p07), and a
 * change whose bit that harvest has taken was over before it ended (p12l).
 * hpt_reader_open() sees to it that changes are logged (l10).
 *
 * (p03) and the like are litmus tests in Documentation/litmus-tests/kvm-hpt/, of
 * the claim, or, at a barrier, those that fail without it.
 */

#include <linux/bitops.h>
#include <linux/err.h>
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
#include <asm/pte-walk.h>

#include "book3s_hpt.h"
#include "book3s_hpt_records.h"

/* HPTEs that are entered under one hold of mmu_lock, which mmu notifiers want */
#define HPT_HV_BATCH	64UL

/* An HPTE that was replaced, until its successor is certain. */
struct hpt_hv_replaced {
	unsigned long index;
	struct kvm_hpt_entry hpte;
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
	if (flags & KVMPPC_HPT_NOKILL)
		mutex_lock(&kvm->arch.mmu_setup_lock);
	else if (mutex_lock_killable(&kvm->arch.mmu_setup_lock))
		return -EINTR;

	hold->nr = 0;
	if (!kvm_is_radix(kvm) && kvm->arch.hpt.virt)
		hold->nr = kvmppc_hpt_npte(&kvm->arch.hpt);
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
	/* An acquire: who had the lock before may have logged this (p05l). */
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
	hr = be64_to_cpu(READ_ONCE(hptep[1]));
	r = READ_ONCE(kvm->arch.hpt.rev[index].guest_rpte);
	/*
	 * If either is as somebody has made it meanwhile, the HPTE is found to be
	 * locked or absent now, or its bit in the log after this (p05m).  In what
	 * order they have been looked at does not matter.
	 */
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

/* That is not long, for who has locked an HPTE is not preempted. */
static void hpt_hv_await(struct kvm *kvm, unsigned long word,
			 unsigned long bits)
{
	const __be64 *hptes = hpt_hv_hpte(kvm, word * BITS_PER_LONG);

	for (; bits; bits &= bits - 1)
		while (READ_ONCE(hptes[2 * __ffs(bits)]) &
		       cpu_to_be64(HPTE_V_HVLOCK))
			cpu_relax();
	/* First the locks, then whatever else there is to be seen of HPTEs (p03). */
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

/* As kvmppc_read_update_linux_pte(), which is slow, if there is nothing to set */
static __always_inline pte_t hpt_hv_read_pte(pte_t *ptep, bool writing)
{
	pte_t pte = READ_ONCE(*ptep);

	if (pte_present(pte) && pte_young(pte) && !(pte_val(pte) & H_PAGE_BUSY) &&
	    (!writing || !pte_write(pte) || pte_dirty(pte)))
		return pte;
	return kvmppc_read_update_linux_pte(ptep, writing);
}

/* An absent HPTE: the host brings in what it maps when the guest needs it. */
static unsigned long hpt_hv_absent_r(unsigned long r, unsigned long psize)
{
	return r & (HPTE_R_PP0 | (psize - 1)) & ~HPTE_R_KEY_LO;
}

/*
 * Find what an HPTE maps: *@r is the second doubleword as the guest sees it, and
 * becomes that for the hardware, in the old format, R and C apart.
 *
 * Returns the head of the rmap chain that the HPTE is to be in, NULL if it is to
 * be absent, or -EIO if the host cannot map what the guest wants.
 *
 * Context: kvm->srcu and mmu_lock are held.
 */
static __always_inline unsigned long *
hpt_hv_map(struct kvm *kvm, struct kvm_memslots *slots, struct hpt_hv_walk *walk,
	   unsigned long psize, unsigned long *r)
{
	unsigned long gpa = *r & HPTE_R_RPN & ~(psize - 1);
	unsigned long gfn = gpa >> PAGE_SHIFT, hva, hr, size;
	struct kvm_memory_slot *slot = __gfn_to_memslot(slots, gfn);
	pte_t *ptep, pte;

	if (!slot || slot->flags & KVM_MEMSLOT_INVALID) {
		/* MMIO, which is what all bits of the key say */
		*r |= HPTE_R_KEY_HI | HPTE_R_KEY_LO;
		return NULL;
	}
	if (!slot_is_aligned(slot, psize))
		return ERR_PTR(-EIO);

	hva = __gfn_to_hva_memslot(slot, gfn);
	/* None while an mmu notifier is at work */
	ptep = hpt_hv_host_pte(kvm, walk, hva);
	/* A large page is a part of the host's if it begins where one begins */
	size = ptep && walk->shift && !(hva & (psize - 1)) ? 1UL << walk->shift : PAGE_SIZE;
	if (ptep && size < psize)
		return ERR_PTR(-EIO);
	pte = ptep ? hpt_hv_read_pte(ptep, hpte_is_writable(*r)) : __pte(0);
	if (!pte_present(pte) || pte_protnone(pte)) {
		*r = hpt_hv_absent_r(*r, psize);
		return NULL;
	}

	hr = *r & (HPTE_R_KEY | HPTE_R_PP0 | (psize - 1));
	if (hpte_is_writable(hr) && !pte_write(pte))
		hr = hpte_make_readonly(hr);
	if (!hpte_cache_flags_ok(hr, pte_ci(pte))) {
		if (pte_ci(pte))
			return ERR_PTR(-EIO);
		/* The guest takes it for a device, but it is memory. */
		hr &= ~(HPTE_R_W | HPTE_R_I | HPTE_R_G);
		hr |= HPTE_R_M;
	}
	*r = hr | pte_pfn(pte) << PAGE_SHIFT | (hva & (size - 1)) | (gpa & ~PAGE_MASK);
	return &slot->arch.rmap[gfn - slot->base_gfn];
}

/*
 * What H_ENTER does with H_EXACT, to an HPTE that is not occupied, at a fraction
 * of the cost.  As the table is held for writing, no vCPU runs, and nobody else
 * who takes the table lock has to do with HPTEs and rmap chains; mmu notifiers,
 * which do not, hold mmu_lock.  So does the caller, which gives him every HPTE.
 * When he is done, the hardware wants a ptesync.
 *
 * Returns -EIO if the host cannot map what the guest wants; but if @anyway, it
 * then becomes absent, as it would be if the page were swapped out.
 */
static __always_inline int
hpt_hv_enter(struct kvm *kvm, struct kvm_memslots *slots, struct hpt_hv_walk *walk,
	     unsigned long index, unsigned long v, unsigned long r,
	     bool anyway, bool new_format)
{
	struct revmap_entry *rev = &kvm->arch.hpt.rev[index];
	__be64 *hptep = hpt_hv_hpte(kvm, index);
	unsigned long psize = kvmppc_actual_pgsz(v, r);
	unsigned long hr = r & ~HPTE_GR_RESERVED;
	unsigned long *rmap;

	rmap = hpt_hv_map(kvm, slots, walk, psize, &hr);
	if (IS_ERR(rmap)) {
		if (!anyway)
			return PTR_ERR(rmap);
		hr = hpt_hv_absent_r(hr, psize);
		rmap = NULL;
	}
	rev->guest_rpte = r & ~HPTE_GR_RESERVED;
	note_hpte_modification(kvm, index);

	v &= ~(HPTE_V_HVLOCK | HPTE_V_ABSENT | HPTE_V_VALID);
	if (rmap) {
		v |= HPTE_V_VALID;
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
	return 0;
}

/*
 * Enter HPTEs at @first and behind it, where none of the @n is occupied: see
 * hpt_hv_enter().  Returns 0, or the error of the first that is not entered;
 * *@done is how many are.  *@vrma is set to the first one of the VRMA, if it is
 * not set yet.
 */
static int hpt_hv_enter_all(struct kvm *kvm, unsigned long first, unsigned long n,
			    const struct kvm_hpt_entry *hptes, bool anyway,
			    unsigned long *done,
			    const struct kvm_hpt_entry **vrma)
{
	const bool new_format = cpu_has_feature(CPU_FTR_ARCH_300);
	struct kvm_memslots *slots = kvm_memslots(kvm);
	unsigned long i = 0;
	int err = 0;

	for (;;) {
		unsigned long stop = min(i + HPT_HV_BATCH, n);
		struct hpt_hv_walk walk = {};

		/* In this order: who has mmu_lock may wait for an interrupt here. */
		spin_lock(&kvm->mmu_lock);
		local_irq_disable();
		for (; i < stop; i++) {
			u64 v = be64_to_cpu(hptes[i].v);
			u64 r = be64_to_cpu(hptes[i].r);

			/* The load swaps the bytes, if nobody wants them as they are. */
			OPTIMIZER_HIDE_VAR(v);
			OPTIMIZER_HIDE_VAR(r);
			err = hpt_hv_enter(kvm, slots, &walk, first + i, v, r,
					   anyway, new_format);
			if (err)
				break;
			if (is_vrma_hpte(v) && !*vrma)
				*vrma = &hptes[i];
		}
		asm volatile("ptesync" : : : "memory");
		local_irq_enable();
		spin_unlock(&kvm->mmu_lock);
		if (i == n || err)
			break;
		cond_resched();
	}
	*done = i;
	return err;
}

/* H_REMOVE of an HPTE that is valid; *@hpte gets what it was. */
static void hpt_hv_remove(struct kvm *kvm, unsigned long index,
			  struct kvm_hpt_entry *hpte)
{
	unsigned long was[2];

	preempt_disable();
	kvmppc_do_h_remove(kvm, 0, index, 0, was);
	preempt_enable();
	hpte->v = cpu_to_be64(was[0]);
	hpte->r = cpu_to_be64(was[1]);
}

static void hpt_hv_put_invalid(struct kvm *kvm, unsigned long first,
			       unsigned long n)
{
	struct kvm_hpt_entry was;
	unsigned long i;
	int idx;

	idx = srcu_read_lock(&kvm->srcu);
	for (i = first; i < first + n; i++) {
		if (hpt_hv_occupied(kvm, i))
			hpt_hv_remove(kvm, i, &was);
		cond_resched();
	}
	srcu_read_unlock(&kvm->srcu, idx);
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

static bool hpt_hv_acceptable(const struct kvm_hpt_entry *hptes, unsigned long n)
{
	/* Nothing is to be said against a page of 4K in a segment that there is. */
	const __be64 doubt = cpu_to_be64(2UL << HPTE_V_SSIZE_SHIFT | HPTE_V_LARGE);
	unsigned long i;

	for (i = 0; i < n; i++)
		if (hptes[i].v & doubt &&
		    !kvmppc_hpte_acceptable(be64_to_cpu(hptes[i].v),
					    be64_to_cpu(hptes[i].r)))
			return false;
	return true;
}

static int hpt_hv_put_valid(struct kvm *kvm, struct kvmppc_hpt_hold *hold,
			    unsigned long first, unsigned long n,
			    const struct kvm_hpt_entry *hptes)
{
	const struct kvm_hpt_entry *vrma = NULL;
	struct hpt_hv_replaced *replaced = NULL;
	unsigned long i, done, nr_replaced = 0;
	int err = -ENOMEM;
	int idx;

	if (!hpt_hv_acceptable(hptes, n))
		return -EINVAL;

	idx = srcu_read_lock(&kvm->srcu);
	for (i = hpt_hv_skip(kvm, first, n); i < n; i++) {
		if (!hpt_hv_occupied(kvm, first + i))
			continue;
		if (!replaced)
			replaced = kvmalloc_array(n - i, sizeof(*replaced),
						  GFP_KERNEL_ACCOUNT | __GFP_NOWARN |
						  __GFP_RETRY_MAYFAIL);
		if (!replaced)
			goto out;
		hpt_hv_remove(kvm, first + i, &replaced[nr_replaced].hpte);
		replaced[nr_replaced++].index = first + i;
		cond_resched();
	}

	err = hpt_hv_enter_all(kvm, first, n, hptes, false, &done, &vrma);
	if (err) {
		/* The record changes nothing: put back what was there. */
		hpt_hv_put_invalid(kvm, first, done);
		for (i = 0; i < nr_replaced; i++) {
			/* No matter what becomes of vrma now */
			hpt_hv_enter_all(kvm, replaced[i].index, 1,
					 &replaced[i].hpte, true, &done, &vrma);
			cond_resched();
		}
	} else if (vrma && !hold->mmu_ready) {
		hpt_hv_set_vrma(kvm, be64_to_cpu(vrma->v), be64_to_cpu(vrma->r));
		hold->mmu_ready = 1;
	}
out:
	srcu_read_unlock(&kvm->srcu, idx);
	if (nr_replaced)
		kvfree(replaced);
	return err;
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
