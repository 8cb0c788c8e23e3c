# SPDX-License-Identifier: GPL-2.0
# files: Documentation/virt/kvm/api.rst
# The text of section 4.78, but for its heading and list of properties.
/^4\.78 KVM_PPC_GET_HTAB_FD$/,/^4\.79 /{
	/^:Returns:/,/^4\.79 /{
		/^:Returns:|^4\.79 /!d
	}
}
