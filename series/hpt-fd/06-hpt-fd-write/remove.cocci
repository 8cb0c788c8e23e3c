// files: arch/powerpc/kvm/book3s_64_mmu_hv.c
// SPDX-License-Identifier: GPL-2.0
//
// Takes out what is left of the implementation of KVM_PPC_GET_HTAB_FD that the
// tree has: writers, and the ioctl.

// The ioctl hands its file operations and its context to a new file.
@ioctl@
identifier fops, ctx, S;
@@
  kvm_vm_ioctl_get_htab_fd(...)
  {
	<+...
	struct S *ctx;
	...
	anon_inode_getfd(..., &fops, ctx, ...)
	...+>
  }

// The operations of that file.
@ops@
identifier ioctl.fops, writer, done;
@@
  struct file_operations fops = {
	.write = writer,
	.release = done,
  };

@@ identifier ops.writer; @@
- writer(...) { ... }
@@ identifier ops.done; @@
- done(...) { ... }
@@ identifier ioctl.fops; @@
- struct file_operations fops = { ... };
@@ @@
- kvm_vm_ioctl_get_htab_fd(...) { ... }
@@ identifier ioctl.S; @@
- struct S { ... };
