// SPDX-License-Identifier: GPL-2.0-only
/*
 * The HPT that PR KVM keeps for a PAPR guest, and its side of the HPT file
 * descriptor (book3s_hpt_fd.c).
 *
 * A VM gets such a table by KVM_PPC_ALLOCATE_HTAB and has one from then on; one
 * that never asks has its table in the memory of userspace, where SDR1 says.
 * What is in the table is what the guest sees: PR KVM runs the guest by shadow
 * HPTEs, in the hpte_cache of each vCPU, and sets R and C itself, in
 * kvmppc_mmu_book3s_64_xlate(), as it makes them.
 *
 * kvm->arch.hpt_mutex protects the table, kvm->arch.hpt, its change log and what
 * is prepared for a resize, kvm->arch.hpt_prepared.  It is what
 * kvmppc_hpt_ops.hold takes.  kvm->mmu_lock nests inside it, for the flush of
 * shadow HPTEs.  That a VM has a table, once seen, stays true.
 *
 * A table for a resize is made by a work, of which a VM has one, without
 * hpt_mutex: until the work has put it into hpt_prepared nobody else knows of it.
 * The work holds no reference to the VM, whose end waits for it.
 */

#include <linux/bitops.h>
#include <linux/kvm_host.h>
#include <linux/memcontrol.h>
#include <linux/mutex.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include <asm/book3s/64/mmu-hash.h>
#include <asm/kvm_book3s.h>
#include <asm/kvm_book3s_64.h>
#include <asm/kvm_ppc.h>

#include "book3s.h"
#include "book3s_hpt.h"

/* Flushes of shadow HPTEs, each in all vCPUs, after which to flush all is less */
#define HPT_PR_FLUSHES	64

/* When to ask again for a table that is being prepared, as under HV KVM */
#define HPT_PR_PREPARE_MS	100

static bool hpt_pr_order_ok(u32 order)
{
	return order >= PPC_MIN_HPT_ORDER && order <= PPC_MAX_HPT_ORDER;
}

/**
 * kvmppc_hpt_pr_hpte - the place of an HPTE in the kernel's HPT
 * @kvm:	a VM that has such a table
 * @index:	the HPTE, inside the table
 *
 * Context: hpt_mutex is held.
 * Return: its two doublewords, big-endian
 */
__be64 *kvmppc_hpt_pr_hpte(struct kvm *kvm, unsigned long index)
{
	lockdep_assert_held(&kvm->arch.hpt_mutex);
	return (__be64 *)kvm->arch.hpt.virt + 2 * index;
}

/**
 * kvmppc_hpt_pr_changed - log a change of an HPTE
 * @kvm:	a VM that has its HPT in the kernel
 * @index:	the HPTE, inside the table
 *
 * Context: hpt_mutex is held since before the change.
 */
void kvmppc_hpt_pr_changed(struct kvm *kvm, unsigned long index)
{
	lockdep_assert_held(&kvm->arch.hpt_mutex);
	if (atomic_read(&kvm->arch.hpte_mod_interest))
		__set_bit(index, kvm->arch.hpt.changes);
}

/**
 * kvmppc_hpt_pr_set - change an HPTE of the kernel's HPT
 * @kvm:	a VM that has such a table
 * @index:	the HPTE, inside the table
 * @v:		its first doubleword, acceptable together with @r if it is valid
 * @r:		its second
 *
 * Shadow HPTEs are not flushed.
 *
 * Context: hpt_mutex is held.
 */
void kvmppc_hpt_pr_set(struct kvm *kvm, unsigned long index, u64 v, u64 r)
{
	__be64 *hptep = kvmppc_hpt_pr_hpte(kvm, index);

	/* HV KVM has other uses for these bits, a guest has none. */
	hptep[0] = cpu_to_be64(v & ~(HPTE_V_HVLOCK | HPTE_V_ABSENT));
	hptep[1] = cpu_to_be64(r & ~HPTE_GR_RESERVED);
	kvmppc_hpt_pr_changed(kvm, index);
}

static void hpt_pr_flush_all(struct kvm *kvm)
{
	struct kvm_vcpu *vcpu;
	unsigned long i;

	kvmppc_mmu_outdate_walks(kvm);
	kvm_for_each_vcpu(i, vcpu, kvm) {
		kvmppc_mmu_pte_flush(vcpu, 0, 0);
		cond_resched();
	}
}

static int hpt_pr_alloc(struct kvm_hpt_info *hpt, u32 order)
{
	const gfp_t gfp = KVMPPC_HPT_GFP | __GFP_ZERO;
	void *table, *changes;

	table = __vmalloc(BIT(order), gfp);
	if (!table)
		return -ENOMEM;
	changes = __vmalloc(BITS_TO_LONGS(BIT(order - 4)) * sizeof(long), gfp);
	if (!changes) {
		vfree(table);
		return -ENOMEM;
	}
	hpt->virt = (unsigned long)table;
	hpt->changes = changes;
	hpt->order = order;
	return 0;
}

static void hpt_pr_release(struct kvm_hpt_info *hpt)
{
	vfree((void *)hpt->virt);
	vfree(hpt->changes);
	*hpt = (struct kvm_hpt_info){};
}

static int hpt_pr_clear(struct kvm_hpt_info *hpt)
{
	unsigned long at;

	for (at = 0; at < BIT(hpt->order) && !fatal_signal_pending(current); at += SZ_64K) {
		memset((void *)hpt->virt + at, 0, SZ_64K);
		cond_resched();
	}
	return at < BIT(hpt->order) ? -EINTR : 0;
}

/*
 * Exchange the table there is for another.
 *
 * Context: hpt_mutex is held.
 */
static void hpt_pr_install(struct kvm *kvm, struct kvm_hpt_info *hpt)
{
	swap(kvm->arch.hpt, *hpt);
	hpt_pr_flush_all(kvm);
	kvmppc_hpt_replaced(kvm, kvm->arch.hpt.order);
}

/*
 * A guest that has its HPT in the kernel has no magic page, also if it did
 * before: see kvmppc_offers_magic_page().  The page itself stays with the vCPU.
 *
 * Context: hpt_mutex is held, as it is when a guest maps one.
 */
static void hpt_pr_drop_magic_pages(struct kvm *kvm)
{
	struct kvm_vcpu *vcpu;
	unsigned long i;

	kvm_for_each_vcpu(i, vcpu, kvm) {
		vcpu->arch.magic_page_pa = 0;
		vcpu->arch.magic_page_ea = 0;
	}
}

static bool hpt_pr_vcpu_runs(struct kvm *kvm)
{
	struct kvm_vcpu *vcpu;
	unsigned long i;

	kvm_for_each_vcpu(i, vcpu, kvm)
		if (READ_ONCE(vcpu->wants_to_run))
			return true;
	return false;
}

/*
 * Give up what is prepared, or is to be.  If the work is at it, it will find out.
 *
 * Context: hpt_mutex is held.
 * Return: the table, if there is one, to be released without hpt_mutex
 */
static struct kvm_hpt_info hpt_pr_take_prepared(struct kvm *kvm)
{
	struct kvm_hpt_prepared *prepared = &kvm->arch.hpt_prepared;
	struct kvm_hpt_info hpt = prepared->hpt;

	lockdep_assert_held(&kvm->arch.hpt_mutex);
	mem_cgroup_put(prepared->memcg);
	prepared->memcg = NULL;
	prepared->hpt = (struct kvm_hpt_info){};
	prepared->state = KVM_HPT_NOT_WANTED;
	return hpt;
}

/**
 * kvmppc_hpt_pr_allocate - KVM_PPC_ALLOCATE_HTAB
 * @kvm:	the VM
 * @order:	log2 of the size in bytes of the table that it is to have
 *
 * If the guest had its table in userspace's memory, and a magic page, it loses
 * that, too.
 *
 * Return: 0, and the table is empty; or -EINVAL for an impossible order, -EBUSY
 * if a vCPU runs, -ENOMEM or -EINTR, and nothing has changed, but for what was
 * there if the process was killed while that was cleared.
 */
int kvmppc_hpt_pr_allocate(struct kvm *kvm, u32 order)
{
	struct kvm_hpt_info hpt = {}, prepared = {};
	int err = 0;

	if (!hpt_pr_order_ok(order))
		return -EINVAL;
	/*
	 * To take the guest's translations away while it runs is a mistake.
	 * The host has nothing to fear from it: a vCPU that begins to run after
	 * this looks at the table under hpt_mutex.
	 */
	if (hpt_pr_vcpu_runs(kvm))
		return -EBUSY;

	/* Memory comes and goes without hpt_mutex, others wait for that. */
	if (READ_ONCE(kvm->arch.hpt.order) != order) {
		err = hpt_pr_alloc(&hpt, order);
		if (err)
			return err;
	}

	if (mutex_lock_killable(&kvm->arch.hpt_mutex)) {
		hpt_pr_release(&hpt);
		return -EINTR;
	}
	if (hpt.virt) {
		/* Before their shadow HPTEs are flushed. */
		hpt_pr_drop_magic_pages(kvm);
		hpt_pr_install(kvm, &hpt);
	} else if (kvm->arch.hpt.order == order) {
		err = hpt_pr_clear(&kvm->arch.hpt);
		hpt_pr_flush_all(kvm);
		kvmppc_hpt_replaced(kvm, order);
	} else {
		/* Another call or a resize has changed it meanwhile. */
		err = -EBUSY;
	}
	if (!err)
		prepared = hpt_pr_take_prepared(kvm);
	mutex_unlock(&kvm->arch.hpt_mutex);
	hpt_pr_release(&hpt);
	hpt_pr_release(&prepared);
	return err;
}

static void hpt_pr_prepare_work(struct work_struct *work)
{
	struct kvm *kvm = container_of(work, struct kvm, arch.hpt_prepared.work);
	struct kvm_hpt_prepared *prepared = &kvm->arch.hpt_prepared;
	struct mem_cgroup *memcg, *old_memcg;
	struct kvm_hpt_info hpt = {};
	u32 order;
	int err;

	mutex_lock(&kvm->arch.hpt_mutex);
	if (prepared->state != KVM_HPT_WANTED) {
		mutex_unlock(&kvm->arch.hpt_mutex);
		return;
	}
	prepared->state = KVM_HPT_BEGUN;
	order = prepared->order;
	memcg = prepared->memcg;
	prepared->memcg = NULL;
	mutex_unlock(&kvm->arch.hpt_mutex);

	old_memcg = set_active_memcg(memcg);
	err = hpt_pr_alloc(&hpt, order);
	set_active_memcg(old_memcg);
	mem_cgroup_put(memcg);

	/*
	 * Nobody else sets that state, so it is this table's, unless that was
	 * given up.  For one that was asked for since then the work is queued
	 * again.
	 */
	mutex_lock(&kvm->arch.hpt_mutex);
	if (prepared->state == KVM_HPT_BEGUN) {
		swap(prepared->hpt, hpt);
		prepared->err = err;
		prepared->state = KVM_HPT_DONE;
	}
	mutex_unlock(&kvm->arch.hpt_mutex);
	hpt_pr_release(&hpt);
}

/**
 * kvmppc_hpt_pr_init - what a VM needs to have HPTs
 * @kvm:	the VM, of which nobody else knows yet
 */
void kvmppc_hpt_pr_init(struct kvm *kvm)
{
	INIT_WORK(&kvm->arch.hpt_prepared.work, hpt_pr_prepare_work);
}

/**
 * kvmppc_hpt_pr_destroy - free what a VM has of HPTs
 * @kvm:	the VM, of which nobody else knows any more but the work
 *
 * Context: waits until the work is done with the table that it is at.
 */
void kvmppc_hpt_pr_destroy(struct kvm *kvm)
{
	struct kvm_hpt_info prepared;

	cancel_work_sync(&kvm->arch.hpt_prepared.work);
	mutex_lock(&kvm->arch.hpt_mutex);
	prepared = hpt_pr_take_prepared(kvm);
	mutex_unlock(&kvm->arch.hpt_mutex);
	hpt_pr_release(&prepared);
	hpt_pr_release(&kvm->arch.hpt);
}

/**
 * kvmppc_hpt_pr_resize_prepare - KVM_PPC_RESIZE_HPT_PREPARE
 * @kvm:	the VM
 * @rhpt:	the order wanted, 0 to give up what was prepared
 *
 * The table is made in the background; its memory is charged to the memory
 * cgroup that the VM's process is in now.  A failure is told once, and who asks
 * again after that has it tried again.
 *
 * This is what the hypercall H_RESIZE_HPT_PREPARE asks for, a PAPR extension.
 *
 * Return: 0 when the table is ready, in how many milliseconds it may be, or
 * -EINVAL, -ENOMEM or -EINTR
 */
int kvmppc_hpt_pr_resize_prepare(struct kvm *kvm,
				 const struct kvm_ppc_resize_hpt *rhpt)
{
	struct kvm_hpt_prepared *prepared = &kvm->arch.hpt_prepared;
	struct kvm_hpt_info hpt = {};
	bool wanted = false;
	int ret = 0;

	if (rhpt->flags || (rhpt->shift && !hpt_pr_order_ok(rhpt->shift)))
		return -EINVAL;
	if (!READ_ONCE(kvm->arch.hpt.virt))
		return -EINVAL;
	if (mutex_lock_killable(&kvm->arch.hpt_mutex))
		return -EINTR;

	if (prepared->state == KVM_HPT_NOT_WANTED || prepared->order != rhpt->shift) {
		hpt = hpt_pr_take_prepared(kvm);
		wanted = rhpt->shift;
		if (wanted) {
			prepared->state = KVM_HPT_WANTED;
			prepared->order = rhpt->shift;
			prepared->memcg = get_mem_cgroup_from_mm(current->mm);
			ret = HPT_PR_PREPARE_MS;
		}
	} else if (prepared->state == KVM_HPT_DONE) {
		ret = prepared->err;
		if (ret)
			hpt = hpt_pr_take_prepared(kvm);
	} else {
		ret = HPT_PR_PREPARE_MS;
	}
	mutex_unlock(&kvm->arch.hpt_mutex);

	/* What was prepared before goes first, that may make room. */
	hpt_pr_release(&hpt);
	if (wanted)
		queue_work(system_dfl_wq, &prepared->work);
	return ret;
}

/*
 * The hash of what a valid HPTE maps, to as many bits as matter for any table.
 *
 * An HPTE does not have the bits of the virtual address below 2^23, but, for
 * pages smaller than that, its place in the present table, of at least 2^11
 * HPTEGs, does: they are XORed into the low bits of the hash.
 */
static unsigned long hpt_pr_hash(u64 v, u64 r, unsigned long index)
{
	unsigned long vpn = HPTE_V_AVPN_VAL(v) << (23 - VPN_SHIFT);
	int shift = kvmppc_hpte_base_page_shift(v, r);
	unsigned long hpteg = index / HPTES_PER_GROUP;
	unsigned long hash, low;

	if (v & HPTE_V_SECONDARY)
		hpteg = ~hpteg;
	hash = hpt_hash(vpn, shift, v >> HPTE_V_SSIZE_SHIFT);
	if (shift < 23) {
		low = BIT(23 - shift) - 1;
		hash = (hash & ~low) | (hpteg & low);
	}
	return hash;
}

/*
 * Copy a valid HPTE into another table, to the HPTEG where it belongs there.
 * In the HPTEG it keeps its place if it can, since guests may remember that:
 * Linux does, for CONFIG_DEBUG_PAGEALLOC.
 */
static int hpt_pr_rehash(struct kvm_hpt_info *to, u64 v, u64 r,
			 unsigned long index)
{
	unsigned long hpteg = hpt_pr_hash(v, r, index);
	unsigned long i;

	if (v & HPTE_V_SECONDARY)
		hpteg = ~hpteg;
	hpteg &= kvmppc_hpt_mask(to);
	for (i = index; i < index + HPTES_PER_GROUP; i++) {
		__be64 *hptep = (__be64 *)to->virt +
			2 * (hpteg * HPTES_PER_GROUP + i % HPTES_PER_GROUP);

		if (hptep[0] & cpu_to_be64(HPTE_V_VALID))
			continue;
		hptep[0] = cpu_to_be64(v);
		hptep[1] = cpu_to_be64(r);
		return 0;
	}
	return -ENOSPC;
}

/* Bolted HPTEs stay, the guest is to be ready for the loss of all others. */
static int hpt_pr_rehash_all(struct kvm *kvm, struct kvm_hpt_info *to)
{
	const u64 want = HPTE_V_VALID | HPTE_V_BOLTED;
	unsigned long i;
	int err;

	for (i = 0; i < kvmppc_hpt_npte(&kvm->arch.hpt); i++) {
		__be64 *hptep = kvmppc_hpt_pr_hpte(kvm, i);
		u64 v = be64_to_cpu(hptep[0]);

		if ((v & want) == want) {
			err = hpt_pr_rehash(to, v, be64_to_cpu(hptep[1]), i);
			if (err)
				return err;
		}
		if (!(i % 1024)) {
			if (fatal_signal_pending(current))
				return -EINTR;
			cond_resched();
		}
	}
	return 0;
}

/**
 * kvmppc_hpt_pr_resize_commit - KVM_PPC_RESIZE_HPT_COMMIT
 * @kvm:	the VM
 * @rhpt:	the order of the table that has been prepared
 *
 * vCPUs that run are kept waiting only if they need the table meanwhile.
 * What was prepared, or is to be, is used up, unless the result is -EINVAL, or
 * -EINTR before it was begun (later it means that the process is being killed).
 *
 * This is what the hypercall H_RESIZE_HPT_COMMIT asks for, a PAPR extension.
 *
 * Return: 0, -EINVAL, -EINTR, -ENXIO if no table of that order was asked for,
 * -EBUSY if it is not ready, -ENOMEM if it could not be prepared, or -ENOSPC if
 * the bolted HPTEs have no place in it
 */
int kvmppc_hpt_pr_resize_commit(struct kvm *kvm,
				const struct kvm_ppc_resize_hpt *rhpt)
{
	struct kvm_hpt_prepared *prepared = &kvm->arch.hpt_prepared;
	struct kvm_hpt_info hpt;
	int err;

	if (rhpt->flags || (rhpt->shift && !hpt_pr_order_ok(rhpt->shift)))
		return -EINVAL;
	if (mutex_lock_killable(&kvm->arch.hpt_mutex))
		return -EINTR;

	if (prepared->state == KVM_HPT_NOT_WANTED || prepared->order != rhpt->shift)
		err = -ENXIO;
	else if (prepared->state != KVM_HPT_DONE)
		err = -EBUSY;
	else
		err = prepared->err;
	hpt = hpt_pr_take_prepared(kvm);
	if (!err)
		err = hpt_pr_rehash_all(kvm, &hpt);
	if (!err)
		hpt_pr_install(kvm, &hpt);
	mutex_unlock(&kvm->arch.hpt_mutex);
	hpt_pr_release(&hpt);
	return err;
}

static int hpt_pr_hold(struct kvm *kvm, struct kvmppc_hpt_hold *hold,
		       unsigned int flags)
{
	if (flags & KVMPPC_HPT_NOKILL)
		mutex_lock(&kvm->arch.hpt_mutex);
	else if (mutex_lock_killable(&kvm->arch.hpt_mutex))
		return -EINTR;
	hold->nr = kvm->arch.hpt.virt ? kvmppc_hpt_npte(&kvm->arch.hpt) : 0;
	hold->hptes = (const struct kvm_hpt_entry *)kvm->arch.hpt.virt;
	hold->there = cpu_to_be64(HPTE_V_VALID);
	hold->locked = 0;
	hold->changes = kvm->arch.hpt.changes;
	return 0;
}

static void hpt_pr_unhold(struct kvm *kvm, struct kvmppc_hpt_hold *hold,
			  unsigned int flags)
{
	mutex_unlock(&kvm->arch.hpt_mutex);
}

static unsigned long hpt_pr_copy(struct kvm *kvm,
				 const struct kvmppc_hpt_hold *hold,
				 unsigned long first, unsigned long n,
				 struct kvm_hpt_entry *hptes)
{
	const __be64 *hptep = kvmppc_hpt_pr_hpte(kvm, first);
	long i;

	for (i = 0; i < n && hptep[0] & cpu_to_be64(HPTE_V_VALID); i++, hptep += 2) {
		hptes[i].v = hptep[0];
		hptes[i].r = hptep[1];
	}
	return i;
}

static bool hpt_pr_look(struct kvm *kvm, const struct kvmppc_hpt_hold *hold,
			unsigned long index, struct kvm_hpt_entry *hpte, bool *news)
{
	return hpt_pr_copy(kvm, hold, index, 1, hpte);
}

static int hpt_pr_put(struct kvm *kvm, struct kvmppc_hpt_hold *hold,
		      unsigned long first, unsigned int n_valid,
		      unsigned int n_invalid, const struct kvm_hpt_entry *hptes)
{
	unsigned long i, flushes = 0;

	for (i = 0; i < n_valid + n_invalid; i++) {
		const __be64 *hptep = kvmppc_hpt_pr_hpte(kvm, first + i);
		u64 v = be64_to_cpu(hptep[0]), r = be64_to_cpu(hptep[1]);

		/* The shadow HPTEs that it has brought forth go: soon, all of them. */
		if (v & HPTE_V_VALID && flushes++ < HPT_PR_FLUSHES)
			kvmppc_mmu_book3s_64_flush(kvm, compute_tlbie_rb(v, r, first + i));
		if (i < n_valid)
			kvmppc_hpt_pr_set(kvm, first + i, be64_to_cpu(hptes[i].v),
					  be64_to_cpu(hptes[i].r));
		else if (v & HPTE_V_VALID)
			kvmppc_hpt_pr_set(kvm, first + i, 0, 0);
		cond_resched();
	}
	if (flushes > HPT_PR_FLUSHES)
		hpt_pr_flush_all(kvm);
	return 0;
}

const struct kvmppc_hpt_ops kvmppc_hpt_pr_ops = {
	.name		= "pr",
	.hold		= hpt_pr_hold,
	.release	= hpt_pr_unhold,
	.copy		= hpt_pr_copy,
	.look		= hpt_pr_look,
	.put		= hpt_pr_put,
};
