/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * HPTEs into records: loops that each flavour of KVM has inlined, with its own
 * way to look at an HPTE in the middle.
 */
#ifndef __POWERPC_KVM_BOOK3S_HPT_RECORDS_H__
#define __POWERPC_KVM_BOOK3S_HPT_RECORDS_H__

#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/bits.h>
#include <linux/kvm_host.h>
#include <linux/kvm_hpt.h>
#include <asm/book3s/64/mmu-hash.h>

#include "book3s_hpt.h"

/**
 * struct kvmppc_hpt_view - what it takes to look at HPTEs
 * @hptes:	the table
 * @there:	bits of the first doubleword; if none is set, an HPTE is invalid
 * @any_v:	which of them are set in any of the HPTEs, besides the valid bit
 * @all_r:	for the flavour: bits that are set in all second doublewords
 * @rev:	for the flavour: bytes from an HPTE to its entry in the rev map
 *
 * This is for the compiler to keep in registers.
 */
struct kvmppc_hpt_view {
	const void *hptes;
	__be64 there;
	__be64 any_v;
	u64 all_r;
	unsigned long rev;
};

/* HPTE @p as far as it tells whether it is valid: 0 if not. */
static __always_inline __be64
kvmppc_hpt_there(const struct kvmppc_hpt_view *view, const void *p)
{
	return READ_ONCE(*(const __be64 *)p) & view->there;
}

/*
 * The first HPTE from @p on, before @end, that is not invalid.  By fours, each
 * looked at by itself: runs of invalid HPTEs between others are short.
 */
static __always_inline const void *
kvmppc_hpt_next_there(const struct kvmppc_hpt_view *view, const void *p,
		      const void *end)
{
	const size_t size = sizeof(struct kvm_hpt_entry);

	for (; p + 3 * size < end; p += 4 * size) {
		if (kvmppc_hpt_there(view, p))
			return p;
		if (kvmppc_hpt_there(view, p + size))
			return p + size;
		if (kvmppc_hpt_there(view, p + 2 * size))
			return p + 2 * size;
		if (kvmppc_hpt_there(view, p + 3 * size))
			return p + 3 * size;
	}
	while (p < end && !kvmppc_hpt_there(view, p))
		p += size;
	return p;
}

/**
 * kvmppc_hpt_emit - the body of kvmppc_hpt_ops.emit
 * @view:	how to look at HPTEs
 * @out:	the records, with room for a valid HPTE
 * @first:	the first HPTE
 * @n:		how many, at most
 * @copy:	Copy the HPTE at @hptep, whose first doubleword has been read: it
 *		is @v.  @flip are bits to invert to make it a valid one.  @to is
 *		the place of the second one, behind the first.
 *
 * There may be but a few HPTEs to a record, and few instructions more for each
 * make a pass slow.  Therefore this is inline, @copy is to be, the loops go
 * through HPTEs in the same state, and what is left to be done between them is
 * little: @to moves along with @hptep, and the next record follows at once.
 *
 * Return: how many HPTEs found room
 */
static __always_inline unsigned long
kvmppc_hpt_emit(struct kvmppc_hpt_view *view, struct kvmppc_hpt_records *out,
		unsigned long first, unsigned long n,
		void (*copy)(struct kvmppc_hpt_view *view, const __be64 *hptep,
			     __be64 v, __be64 flip, __be64 *to))
{
	const size_t size = sizeof(struct kvm_hpt_entry);
	struct kvm_get_htab_header *rec = out->last;
	const void *start = view->hptes + first * size;
	const void *p = start, *end = p + n * size;
	/* Of the record: its first HPTE, and the one after its last valid one */
	const void *begin = p, *invalid = p;
	__be64 state = cpu_to_be64(HPTE_V_VALID), flip = 0;
	/* PR: valid HPTEs are the only ones there, and in no other state. */
	const bool only_one = view->there == state;
	/* From a valid HPTE to where its second doubleword goes, if it fits */
	unsigned long offset = out->buf + out->len - p + sizeof(__be64);
	const void *limit = out->buf + out->size - sizeof(__be64) + 1;
	unsigned long nr = out->nr;

	OPTIMIZER_HIDE_VAR(view->there);
	if (!rec) {
		rec = out->buf + out->len;
		offset += sizeof(*rec);
		nr++;
	} else {
		begin = view->hptes + rec->index * size;
		if (rec->n_invalid) {
			invalid = begin + rec->n_valid * size;
			offset += p - invalid;
			goto skip;
		}
	}

	for (;;) {
		const void *stop = min(end, limit - offset);
		void *to;

		for (; p < stop; p += size) {
			__be64 v = READ_ONCE(*(const __be64 *)p);

			if (only_one ? !(v & view->there) : (v & view->there) != state)
				break;
			copy(view, p, v, flip, (void *)p + offset);
		}
		invalid = p;
skip:
		p = kvmppc_hpt_next_there(view, p, end);
		if (p == end)
			break;

		if (p == invalid) {
			__be64 other = kvmppc_hpt_there(view, p);

			if (p >= limit - offset)
				break;
			if (other) {
				state = other;
				flip = other ^ cpu_to_be64(HPTE_V_VALID);
				view->any_v |= flip;
			}
			continue;
		}
		to = (void *)invalid + offset - sizeof(__be64);
		if (to + sizeof(*rec) + sizeof(__be64) >= limit)
			break;
		rec->index = (begin - view->hptes) / size;
		rec->n_valid = (invalid - begin) / size;
		rec->n_invalid = (p - invalid) / size;
		rec = to;
		offset = (void *)(rec + 1) - p + sizeof(__be64);
		begin = p;
		nr++;
	}
	rec->index = (begin - view->hptes) / size;
	rec->n_valid = (invalid - begin) / size;
	rec->n_invalid = (p - invalid) / size;

	out->last = rec;
	out->len = invalid - out->buf + offset - sizeof(__be64);
	out->nr = nr;
	out->nr_hptes += (p - start) / size;
	return (p - start) / size;
}

/**
 * kvmppc_hpt_next_word - find a word of a bitmap that is not 0
 * @map:	the bitmap, in which others may be setting bits
 * @at:		the word to start with
 * @end:	the word to stop before
 *
 * There is mostly nothing in a change log, and to see that is all that a pass
 * over an unchanged table costs: look at eight words at a time.
 *
 * Return: the word, @end if there is none
 */
static inline unsigned long
kvmppc_hpt_next_word(const unsigned long *map, unsigned long at,
		     unsigned long end)
{
	for (; at + 8 <= end; at += 8) {
		const unsigned long *p = map + at;
		unsigned long low = READ_ONCE(p[0]) | READ_ONCE(p[1]) |
				    READ_ONCE(p[2]) | READ_ONCE(p[3]);
		unsigned long high = READ_ONCE(p[4]) | READ_ONCE(p[5]) |
				     READ_ONCE(p[6]) | READ_ONCE(p[7]);

		if (low | high) {
			if (!low)
				at += 4;
			break;
		}
	}
	while (at < end && !READ_ONCE(map[at]))
		at++;
	return at;
}

/**
 * kvmppc_hpt_append - append an HPTE to records
 * @out:	the records, of which the last may be the HPTE's, if it is of those
 *		just before
 * @index:	the HPTE
 * @hpte:	its contents, NULL if it is invalid
 *
 * Return: false if there is no room for it
 */
static __always_inline bool
kvmppc_hpt_append(struct kvmppc_hpt_records *out, unsigned long index,
		  const struct kvm_hpt_entry *hpte)
{
	struct kvm_get_htab_header *rec = out->last;
	struct kvm_hpt_entry *to = out->buf + out->len;
	size_t size = hpte ? sizeof(*hpte) : 0;

	if (rec && (hpte ? rec->n_invalid || rec->n_valid == U16_MAX :
			   rec->n_invalid == U16_MAX))
		rec = NULL;
	if (out->size - out->len < size + (rec ? 0 : sizeof(*rec)))
		return false;
	if (!rec) {
		rec = (void *)to;
		to = (void *)(rec + 1);
		*rec = (struct kvm_get_htab_header) {
			.index = index,
			.n_valid = !!hpte,
			.n_invalid = !hpte,
		};
		out->last = rec;
		out->nr++;
	} else if (hpte) {
		rec->n_valid++;
	} else {
		rec->n_invalid++;
	}
	if (hpte)
		*to++ = *hpte;
	out->len = (void *)to - out->buf;
	out->nr_hptes++;
	return true;
}

/**
 * kvmppc_hpt_end_record - end the last record if an HPTE cannot belong to it
 * @out:	the records
 * @index:	the next HPTE to be appended
 */
static inline void kvmppc_hpt_end_record(struct kvmppc_hpt_records *out,
					 unsigned long index)
{
	const struct kvm_get_htab_header *rec = out->last;

	if (rec && (u64)rec->index + rec->n_valid + rec->n_invalid != index)
		out->last = NULL;
}

/**
 * kvmppc_hpt_sweep - the body of kvmppc_hpt_ops.sweep
 * @kvm:	the VM
 * @changes:	its change log
 * @out:	the records
 * @first:	the first HPTE
 * @end:	the HPTE to stop before: the end of the table or of a word of the
 *		log
 * @peek:	Copy an HPTE whose bit has been taken from the log to @hpte.
 *		Returns 1 if it is valid, 0 if it is invalid, or -EAGAIN if it is
 *		not to be had without a lock, or has changed again.
 *
 * A change of one HPTE here and there costs little more than to copy it, because
 * all of this, and @peek, is inline.
 *
 * Return: the first HPTE that has not been dealt with, @end if there is none
 */
static __always_inline unsigned long
kvmppc_hpt_sweep(struct kvm *kvm, unsigned long *changes,
		 struct kvmppc_hpt_records *out,
		 unsigned long first, unsigned long end,
		 int (*peek)(struct kvm *kvm, unsigned long index,
			     struct kvm_hpt_entry *hpte))
{
	unsigned long words = BITS_TO_LONGS(end), i = BIT_WORD(first);
	unsigned long not_here = ~BITMAP_FIRST_WORD_MASK(first);

	for (; (i = kvmppc_hpt_next_word(changes, i, words)) < words; i++) {
		unsigned long bits = xchg_acquire(&changes[i], 0), back = 0;

		if (i == BIT_WORD(first)) {
			back = bits & not_here;
			bits &= ~not_here;
		}
		for (; bits; bits &= bits - 1) {
			unsigned long at = i * BITS_PER_LONG + __ffs(bits);
			struct kvm_hpt_entry hpte;
			int valid = peek(kvm, at, &hpte);

			if (valid < 0)
				break;
			kvmppc_hpt_end_record(out, at);
			if (!kvmppc_hpt_append(out, at, valid ? &hpte : NULL))
				break;
		}
		back |= bits;
		if (back)
			atomic_long_or(back, (atomic_long_t *)&changes[i]);
		if (bits)
			return i * BITS_PER_LONG + __ffs(bits);
	}
	return end;
}

#endif /* __POWERPC_KVM_BOOK3S_HPT_RECORDS_H__ */
