# files: arch/powerpc/kvm/book3s_hpt.h arch/powerpc/kvm/book3s_hpt_fd.c arch/powerpc/kvm/book3s_hpt_hv.c
#
# What hpt-fd-write adds.
/^\/\* What the host's page tables have/,/^const struct kvmppc_hpt_ops/{/^const/!d}
/^\/\*$/{
	N
	/ \* Apply one record\./!{P;D}
	:more
	N
	/\nstatic void hpt_free\(/!b more
	s/.*\n//
}
/\.write_iter/d
/^ \* @put:/,/^ \*\/$/{/^ \*\/$/!d}
/^\tint \(\*put\)\(/,/;$/d
/^\t\.put\t/d
