# files: arch/powerpc/kvm/book3s_hpt.h arch/powerpc/kvm/book3s_hpt_fd.c arch/powerpc/kvm/book3s_hpt_hv.c
#
# What hpt-fd-info adds: fdinfo, trace events, and what is there only for them.
/^ \*$/{N;/fdinfo takes none of them/{N;N;d};P;D}
/^#include <linux\/seq_file.h>$/d
/^#define CREATE_TRACE_POINTS$/{N;N;d}
/^\ttrace_kvm_hpt_/{
	:more
	/;$/!{N;b more}
	d
}
/^\/\* What a reader has to say/d
/^static void hpt_(reader_show|show_fdinfo)\(/,/^}$/{/^}$/N;d}
/\.show_fdinfo/d
/^static atomic_t hpt_ids/{N;d}
/hpt_ids/d
/^\tunsigned int id;$/d
/^\tconst char \*name;$/d
/^ \* @name:/d
/^\t\.name\t/d
/^static ssize_t hpt_(read|write)_iter\(/,/^}$/{
	/\tstruct hpt_count was;$/d
	/\twas = .->count;$/d
	/^\tunsigned int pass;$/d
	/\tpass = r->pass;$/d
}
