/* SPDX-License-Identifier: GPL-2.0-only */
#if !defined(_TRACE_KVM_HPT_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_KVM_HPT_H

#include <linux/tracepoint.h>

#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm_hpt

/* An HPT has been reset or replaced, or is no more; an order of 0 means none. */
TRACE_EVENT(kvm_hpt_replaced,
	TP_PROTO(int vm, u32 was, u32 order),
	TP_ARGS(vm, was, order),

	TP_STRUCT__entry(
		__field(int,		vm)
		__field(u32,		was)
		__field(u32,		order)
	),

	TP_fast_assign(
		__entry->vm		= vm;
		__entry->was		= was;
		__entry->order		= order;
	),

	TP_printk("vm=%d was=%u order=%u",
		  __entry->vm, __entry->was, __entry->order)
);

/* A file descriptor has been opened to an HPT, of this order or 0 for none. */
TRACE_EVENT(kvm_hpt_open,
	TP_PROTO(unsigned int id, int vm, u64 flags, u64 start, u32 order),
	TP_ARGS(id, vm, flags, start, order),

	TP_STRUCT__entry(
		__field(unsigned int,	id)
		__field(int,		vm)
		__field(u64,		flags)
		__field(u64,		start)
		__field(u32,		order)
	),

	TP_fast_assign(
		__entry->id		= id;
		__entry->vm		= vm;
		__entry->flags		= flags;
		__entry->start		= start;
		__entry->order		= order;
	),

	TP_printk("id=%u vm=%d flags=0x%llx start=%llu order=%u",
		  __entry->id, __entry->vm, __entry->flags, __entry->start,
		  __entry->order)
);

/* A read from an HPT has ended: with so much returned, and where it got to. */
TRACE_EVENT(kvm_hpt_read,
	TP_PROTO(unsigned int reader, unsigned int pass, unsigned long position,
		 u64 valid, u64 invalid, ssize_t ret),
	TP_ARGS(reader, pass, position, valid, invalid, ret),

	TP_STRUCT__entry(
		__field(unsigned int,	reader)
		__field(unsigned int,	pass)
		__field(unsigned long,	position)
		__field(u64,		valid)
		__field(u64,		invalid)
		__field(ssize_t,	ret)
	),

	TP_fast_assign(
		__entry->reader		= reader;
		__entry->pass		= pass;
		__entry->position	= position;
		__entry->valid		= valid;
		__entry->invalid	= invalid;
		__entry->ret		= ret;
	),

	TP_printk("reader=%u pass=%u position=%lu valid=%llu invalid=%llu ret=%zd",
		  __entry->reader, __entry->pass, __entry->position,
		  __entry->valid, __entry->invalid, __entry->ret)
);

/* A write to an HPT has ended: with so much applied. */
TRACE_EVENT(kvm_hpt_write,
	TP_PROTO(unsigned int writer, u64 valid, u64 invalid, ssize_t ret),
	TP_ARGS(writer, valid, invalid, ret),

	TP_STRUCT__entry(
		__field(unsigned int,	writer)
		__field(u64,		valid)
		__field(u64,		invalid)
		__field(ssize_t,	ret)
	),

	TP_fast_assign(
		__entry->writer		= writer;
		__entry->valid		= valid;
		__entry->invalid	= invalid;
		__entry->ret		= ret;
	),

	TP_printk("writer=%u valid=%llu invalid=%llu ret=%zd",
		  __entry->writer, __entry->valid, __entry->invalid,
		  __entry->ret)
);

/* A reader of an HPT has come to the end of the table. */
TRACE_EVENT(kvm_hpt_pass,
	TP_PROTO(unsigned int reader, unsigned int pass, u64 valid,
		 u64 invalid, u64 bytes),
	TP_ARGS(reader, pass, valid, invalid, bytes),

	TP_STRUCT__entry(
		__field(unsigned int,	reader)
		__field(unsigned int,	pass)
		__field(u64,		valid)
		__field(u64,		invalid)
		__field(u64,		bytes)
	),

	TP_fast_assign(
		__entry->reader		= reader;
		__entry->pass		= pass;
		__entry->valid		= valid;
		__entry->invalid	= invalid;
		__entry->bytes		= bytes;
	),

	TP_printk("reader=%u pass=%u valid=%llu invalid=%llu bytes=%llu",
		  __entry->reader, __entry->pass, __entry->valid,
		  __entry->invalid, __entry->bytes)
);

#endif /* _TRACE_KVM_HPT_H */

/* This part must be outside protection */
#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE

#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE trace_hpt

#include <trace/define_trace.h>
