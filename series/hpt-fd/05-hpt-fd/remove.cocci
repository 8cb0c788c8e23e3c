// files: arch/powerpc/kvm/book3s_64_mmu_hv.c
// SPDX-License-Identifier: GPL-2.0
//
// Takes out the readers of KVM_PPC_GET_HTAB_FD that the tree has.  Only the
// ioctl's own function is known by name; what hangs on it is found by how it is
// used, so that this holds on other kernel versions too.

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
identifier ioctl.fops, reader;
@@
  struct file_operations fops = {
	.read = reader,
  };

// The reader looks at an entry by way of helpers, which take its reverse map.
@helper@
identifier ops.reader, look;
struct revmap_entry *rev;
@@
  reader(...)
  {
	<+...
	look(..., rev, ...)
	...+>
  }

@@ identifier helper.look; @@
- look(...) { ... }
@@ identifier ops.reader; @@
- reader(...) { ... }
@@ identifier ioctl.fops, ops.reader; @@
  struct file_operations fops = {
-	.read = reader,
  };
