# SPDX-License-Identifier: GPL-2.0
# files: arch/powerpc/include/uapi/asm/kvm.h
# The record's header, with the comment before it and the line after it, is in
# a header of its own now.
/^\/\*$/{
	N
	/Data read on the file descriptor/!b
	:more
	N
	/\n};\n$/!b more
	d
}
