/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is copied to a guest's exception vectors: tell userspace, in real mode
 * and without touching memory, so that it works whatever is wrong.
 */

#ifndef __ASSEMBLY__
#define __ASSEMBLY__
#endif

#include "processor.h"

	.section .rodata
	.balign	8

/* Once for each vector, which replaces the 0; r3 to r6 are kept in SPRG0 to 3 */
	.globl	exception_vector
	.globl	exception_vector_end
exception_vector:
	mtspr	272, 3
	li	3, 0
	ba	EXCEPTION_COMMON
exception_vector_end:

	.globl	exception_common
	.globl	exception_common_end
exception_common:
	mtspr	273, 4
	mtspr	274, 5
	mtspr	275, 6
	mr	4, 3
	mfspr	5, 26			/* SRR0, which the hypercall changes */
	mfspr	6, 27			/* SRR1 */
	li	3, 0
	ori	3, 3, H_EXCEPTION
	sc	1
	b	.
exception_common_end:

	.section .note.GNU-stack, "", @progbits
