/* SPDX-License-Identifier: GPL-2.0-only */
#if !defined(_TRACE_KVM_HPT_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_KVM_HPT_H

#include <linux/tracepoint.h>

#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm_hpt

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
