// SPDX-License-Identifier: GPL-2.0
/*
 * Guests with a hashed page table (HPT), on Book3S 64: HV and PR KVM.
 *
 * The HPT is in the kernel, so that mapping a page means to write an entry
 * (HPTE) to a file descriptor of KVM_PPC_GET_HTAB_FD, and looking for one to
 * read from another. See Documentation/virt/kvm/ppc-hpt-fd.rst.
 *
 * Guests have one segment, of 1 TB, with pages of the size that the mode says.
 * They run as a kernel would, with interrupts disabled. Other exceptions end
 * in a hypercall to userspace, see handlers.S.
 */
#include <endian.h>

#include "kvm_util.h"
#include "processor.h"

#define HPT_ORDER		24
#define HPTES_PER_GROUP		8
#define HPT_GROUPS		((1UL << (HPT_ORDER - 4)) / HPTES_PER_GROUP)

/* HV KVM maps memory for real mode by the last HPTE of a group */
#define HPTES_USABLE		0x7f

#define HPTE_V_1TB_SEG		0x4000000000000000ULL
#define HPTE_V_LARGE		0x0000000000000004ULL
#define HPTE_V_SECONDARY	0x0000000000000002ULL
#define HPTE_V_VALID		0x0000000000000001ULL
/* Those that tell which page it is for */
#define HPTE_V_PAGE		0xc00fffffffffff87ULL
#define HPTE_R_RPN		0x0ffffffffffff000ULL
#define HPTE_R_64K		0x0000000000001000ULL
#define HPTE_R_M		0x0000000000000010ULL

#define SEGMENT_SHIFT		40
#define SEGMENT_VSID		0x5e1fULL

#define SLB_E_VALID		0x0000000008000000ULL
#define SLB_V_1TB_SEG		0x4000000000000000ULL
#define SLB_V_VSID_SHIFT	24
#define SLB_V_64K		0x0000000000000110ULL

#define MSR_SF			0x8000000000000000ULL
#define MSR_VEC			0x0000000002000000ULL
#define MSR_VSX			0x0000000000800000ULL
#define MSR_FP			0x0000000000002000ULL
#define MSR_ME			0x0000000000001000ULL
#define MSR_IR			0x0000000000000020ULL
#define MSR_DR			0x0000000000000010ULL
#define MSR_LE			0x0000000000000001ULL
#define LPCR_ILE		0x0000000002000000ULL

#define GUEST_MSR		(MSR_SF | MSR_VEC | MSR_VSX | MSR_FP | MSR_ME | MSR_IR | MSR_DR)

/* More than the ABI wants at the top of a stack: a caller's frame */
#define STACK_FRAME		128

/*
 * The page table
 */

/* An HPTE as the hypervisor takes it, big-endian on every host */
struct hpte {
	__be64 v;
	__be64 r;
};

/* What is written for one entry, and the least that can be read */
struct record {
	struct kvm_get_htab_header header;
	struct hpte entry;
};

static int htab_open(struct kvm_vm *vm, uint64_t flags, uint64_t start_index)
{
	struct kvm_get_htab_fd arg = { .flags = flags, .start_index = start_index };
	int fd = __vm_ioctl(vm, KVM_PPC_GET_HTAB_FD, &arg);

	TEST_ASSERT(fd >= 0, KVM_IOCTL_ERROR(KVM_PPC_GET_HTAB_FD, fd));
	return fd;
}

/* Of entries that are not valid, more than one record may fit: they are passed over */
static bool htab_read(int fd, struct record *rec)
{
	ssize_t n = read(fd, rec, sizeof(*rec));

	TEST_ASSERT(n >= 0 && n % sizeof(rec->header) == 0,
		    "read() of one HPTE returned %zd (errno %d)", n, errno);
	return n;
}

/**
 * hpt_group() - Where the hardware looks for a page's entry
 * @vm: the VM
 * @gva: an address in the page
 * @secondary: in the second of two places
 *
 * Return: the index of the first HPTE of the group
 */
uint64_t hpt_group(struct kvm_vm *vm, uint64_t gva, bool secondary)
{
	uint64_t hash = SEGMENT_VSID ^ SEGMENT_VSID << 25 ^ gva >> vm->page_shift;

	return ((secondary ? ~hash : hash) & (HPT_GROUPS - 1)) * HPTES_PER_GROUP;
}

/**
 * hpte_v() - The first doubleword of a page's entry
 * @vm: the VM
 * @gva: an address in the page
 * @secondary: of the entry in the second of the two groups
 *
 * Return: the doubleword, in this program's byte order
 */
uint64_t hpte_v(struct kvm_vm *vm, uint64_t gva, bool secondary)
{
	return HPTE_V_1TB_SEG | SEGMENT_VSID << (SEGMENT_SHIFT - 16) | gva >> 23 << 7 |
	       (vm->page_shift == 16 ? HPTE_V_LARGE : 0) |
	       (secondary ? HPTE_V_SECONDARY : 0) | HPTE_V_VALID;
}

/**
 * hpte_r() - The second doubleword of an entry
 * @vm: the VM
 * @gpa: address of the memory that it is to map
 *
 * Return: the doubleword for a page of supervisor mode that may be read,
 * written and executed; R and C are for the hardware to set
 */
uint64_t hpte_r(struct kvm_vm *vm, uint64_t gpa)
{
	return gpa | HPTE_R_M | (vm->page_shift == 16 ? HPTE_R_64K : 0);
}

/* Look for the entry of a page where the hardware does; its index or -1 */
static int64_t hpt_find(struct kvm_vm *vm, uint64_t gva, struct hpte *e)
{
	unsigned int secondary;

	for (secondary = 0; secondary < 2; secondary++) {
		uint64_t v = hpte_v(vm, gva, secondary);
		uint64_t begin = hpt_group(vm, gva, secondary);
		int fd = htab_open(vm, 0, begin);
		int64_t found = -1;
		struct record rec;

		while (htab_read(fd, &rec) && rec.header.index < begin + HPTES_PER_GROUP) {
			if (!rec.header.n_valid || (be64toh(rec.entry.v) & HPTE_V_PAGE) != v)
				continue;
			found = rec.header.index;
			*e = rec.entry;
			break;
		}
		close(fd);
		if (found >= 0)
			return found;
	}
	return -1;
}

/* An HPTE that nothing is mapped by, for this page; its index */
static uint64_t hpt_place(struct kvm_vm *vm, uint64_t gva, bool *secondary)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		uint64_t group = hpt_group(vm, gva, i);
		uint8_t *used = &vm->arch.hptes_used[group / HPTES_PER_GROUP];
		unsigned int slot = __builtin_ctz(~*used);

		if (!(HPTES_USABLE & 1U << slot))
			continue;
		*used |= 1U << slot;
		*secondary = i;
		return group + slot;
	}
	TEST_FAIL("No HPTE left for vm virtual address 0x%lx", gva);
	return -1;
}

void virt_arch_pgd_alloc(struct kvm_vm *vm)
{
	uint32_t order = HPT_ORDER;

	if (vm->mmu.pgd_created)
		return;

	vm->arch.pr = vm_check_cap(vm, KVM_CAP_PPC_GET_PVINFO);
	__TEST_REQUIRE(vm_check_cap(vm, KVM_CAP_PPC_ALLOC_HTAB) &&
		       vm_check_cap(vm, KVM_CAP_PPC_HTAB_FD),
		       "Guests need an HPT in the kernel, and a file descriptor to it");
	__TEST_REQUIRE(!vm_check_cap(vm, KVM_CAP_PPC_MMU_RADIX) ||
		       vm_check_cap(vm, KVM_CAP_PPC_MMU_HASH_V3),
		       "Guests need an HPT, which this host does not offer");
	vm_ioctl(vm, KVM_PPC_ALLOCATE_HTAB, &order);
	vm->arch.htab_fd = htab_open(vm, KVM_GET_HTAB_WRITE, 0);
	vm->arch.hptes = HPT_GROUPS * HPTES_PER_GROUP;
	vm->arch.hptes_used = calloc(HPT_GROUPS, 1);
	TEST_ASSERT(vm->arch.hptes_used, "Insufficient Memory");
	vm->mmu.pgd_created = true;
}

void kvm_arch_vm_release(struct kvm_vm *vm)
{
	if (!vm->mmu.pgd_created)
		return;

	/* It would keep the VM */
	close(vm->arch.htab_fd);
	free(vm->arch.hptes_used);
	vm->mmu.pgd_created = false;
}

void vm_populate_gva_bitmap(struct kvm_vm *vm)
{
	sparsebit_set_num(vm->vpages_valid, 0, (1ULL << SEGMENT_SHIFT) >> vm->page_shift);
}

void virt_arch_pg_map(struct kvm_vm *vm, uint64_t gva, uint64_t gpa)
{
	struct record rec = { .header.n_valid = 1 };
	int64_t index = -1;
	bool secondary;
	ssize_t n;

	TEST_ASSERT((gva % vm->page_size) == 0,
		    "Virtual address not on page boundary,\n"
		    "  vaddr: 0x%lx vm->page_size: 0x%x", gva, vm->page_size);
	TEST_ASSERT(sparsebit_is_set(vm->vpages_valid, gva >> vm->page_shift),
		    "Invalid virtual address, vaddr: 0x%lx", gva);
	TEST_ASSERT((gpa % vm->page_size) == 0,
		    "Physical address not on page boundary,\n"
		    "  paddr: 0x%lx vm->page_size: 0x%x", gpa, vm->page_size);
	TEST_ASSERT((gpa >> vm->page_shift) <= vm->max_gfn,
		    "Physical address beyond maximum supported,\n"
		    "  paddr: 0x%lx vm->max_gfn: 0x%lx vm->page_size: 0x%x",
		    gpa, vm->max_gfn, vm->page_size);

	if (sparsebit_is_set(vm->vpages_mapped, gva >> vm->page_shift)) {
		index = hpt_find(vm, gva, &rec.entry);
		secondary = be64toh(rec.entry.v) & HPTE_V_SECONDARY;
	}
	if (index < 0)
		index = hpt_place(vm, gva, &secondary);

	rec.header.index = index;
	rec.entry.v = htobe64(hpte_v(vm, gva, secondary));
	rec.entry.r = htobe64(hpte_r(vm, gpa));
	n = write(vm->arch.htab_fd, &rec, sizeof(rec));
	TEST_ASSERT(n == sizeof(rec), "write() of an HPTE returned %zd, errno %d (%s)\n"
		    "  index: 0x%x v: 0x%llx r: 0x%llx",
		    n, errno, strerror(errno), rec.header.index,
		    (unsigned long long)be64toh(rec.entry.v),
		    (unsigned long long)be64toh(rec.entry.r));
}

gpa_t addr_arch_gva2gpa(struct kvm_vm *vm, gva_t gva)
{
	struct hpte e;

	TEST_ASSERT(vm->mmu.pgd_created && hpt_find(vm, gva, &e) >= 0,
		    "No mapping for vm virtual address, gva: 0x%lx", gva);

	return (be64toh(e.r) & HPTE_R_RPN & ~(vm->page_size - 1ULL)) | (gva & (vm->page_size - 1));
}

void virt_arch_dump(FILE *stream, struct kvm_vm *vm, uint8_t indent)
{
	struct record rec;
	int fd;

	if (!vm->mmu.pgd_created)
		return;

	fd = htab_open(vm, 0, 0);
	while (htab_read(fd, &rec))
		if (rec.header.n_valid)
			fprintf(stream, "%*shpte 0x%x: 0x%016llx 0x%016llx\n",
				indent, "", rec.header.index,
				(unsigned long long)be64toh(rec.entry.v),
				(unsigned long long)be64toh(rec.entry.r));
	close(fd);
}

/*
 * Exceptions
 */

/* The vectors are in the two pages that vm_phy_pages_alloc() leaves alone */
static void write_code(struct kvm_vm *vm, gpa_t gpa, const char *begin, const char *end)
{
	uint32_t *inst = addr_gpa2hva(vm, gpa);
	unsigned int i;

	memcpy(inst, begin, end - begin);
	for (i = 0; i < (end - begin) / sizeof(*inst); i++)
		if (vm->arch.pr && inst[i] == INST_SC_1)
			inst[i] = INST_FAKE_SC_1;
	__builtin___clear_cache((char *)inst, (char *)inst + (end - begin));
}

static gva_t stacks_alloc(struct kvm_vm *vm, unsigned int n)
{
	return __vm_alloc(vm, n * DEFAULT_STACK_PGS * vm->page_size,
			  DEFAULT_GUEST_STACK_VADDR_MIN, MEM_REGION_DATA);
}

void kvm_arch_vm_post_create(struct kvm_vm *vm, unsigned int nr_vcpus)
{
	uint32_t code[EXCEPTION_STEP / 4];
	size_t size = exception_vector_end - exception_vector;
	unsigned int vector;

	for (vector = EXCEPTION_FIRST; vector < EXCEPTION_END; vector += EXCEPTION_STEP) {
		memcpy(code, exception_vector, size);
		code[1] |= vector;
		write_code(vm, vector, (char *)code, (char *)code + size);
	}
	write_code(vm, EXCEPTION_COMMON, exception_common, exception_common_end);

	/* Now, since HV KVM lets no page be mapped while a vCPU is running */
	vm->arch.nr_stacks = nr_vcpus;
	vm->arch.stacks = stacks_alloc(vm, vm->arch.nr_stacks);
}

/**
 * vcpu_get_exception() - Has a vCPU come back because of an exception?
 * @vcpu: a vCPU that has been run by __vcpu_run()
 * @ex: set to what the exception was
 *
 * Return: true if it has; it cannot go on then unless its registers are set.
 * The guest's r3 to r6 are in SPRG0 to SPRG3.
 */
bool vcpu_get_exception(struct kvm_vcpu *vcpu, struct guest_exception *ex)
{
	struct kvm_run *run = vcpu->run;

	if (run->exit_reason != KVM_EXIT_PAPR_HCALL || run->papr_hcall.nr != H_EXCEPTION)
		return false;

	ex->vector = run->papr_hcall.args[0];
	ex->nip = run->papr_hcall.args[1];
	ex->msr = run->papr_hcall.args[2];
	ex->dar = vcpu_get_reg(vcpu, KVM_REG_PPC_DAR);
	/* Of 32 bits: vcpu_get_reg() would have it in the wrong half on big-endian. */
	TEST_ASSERT(!__vcpu_get_reg(vcpu, KVM_REG_PPC_DSISR, &ex->dsisr),
		    "No DSISR, errno %d", errno);
	return true;
}

/**
 * vcpu_skip_instruction() - Have a vCPU go on behind the one that an exception is due to
 * @vcpu: a vCPU that vcpu_get_exception() has been asked of
 * @ex: what that said: an exception that leaves the MSR in SRR1, as those of data storage do
 */
void vcpu_skip_instruction(struct kvm_vcpu *vcpu, const struct guest_exception *ex)
{
	struct kvm_run *run = vcpu->run;
	struct kvm_regs regs;

	vcpu_regs_get(vcpu, &regs);
	regs.pc = ex->nip + 4;
	regs.msr = ex->msr;
	vcpu_regs_set(vcpu, &regs);
	/* It comes back from a hypercall, whose results go to r3 to r12 */
	run->papr_hcall.ret = regs.sprg0;
	run->papr_hcall.args[0] = regs.sprg1;
	run->papr_hcall.args[1] = regs.sprg2;
	run->papr_hcall.args[2] = regs.sprg3;
}

void assert_on_unhandled_exception(struct kvm_vcpu *vcpu)
{
	struct guest_exception ex;

	if (!vcpu_get_exception(vcpu, &ex))
		return;
	vcpu_dump(stderr, vcpu, 2);
	TEST_FAIL("Unexpected exception in guest, vector: 0x%lx\n"
		  "  nip: 0x%lx msr: 0x%lx dar: 0x%lx dsisr: 0x%x",
		  ex.vector, ex.nip, ex.msr, ex.dar, ex.dsisr);
}

/*
 * vCPUs
 */

void vcpu_arch_set_entry_point(struct kvm_vcpu *vcpu, void *guest_code)
{
	struct kvm_regs regs;

	vcpu_regs_get(vcpu, &regs);
#if _CALL_ELF == 2
	regs.pc = (uintptr_t)guest_code;
	regs.gpr[12] = regs.pc;
#else
	/* A function's descriptor: its address, and that of its TOC */
	regs.pc = ((uint64_t *)guest_code)[0];
	regs.gpr[2] = ((uint64_t *)guest_code)[1];
#endif
	vcpu_regs_set(vcpu, &regs);
}

struct kvm_vcpu *vm_arch_vcpu_add(struct kvm_vm *vm, uint32_t vcpu_id)
{
	bool le = __BYTE_ORDER == __LITTLE_ENDIAN;
	size_t stack_size = DEFAULT_STACK_PGS * vm->page_size;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct kvm_vcpu *vcpu;
	gva_t stack;

	if (vm->arch.nr_stacks)
		stack = vm->arch.stacks + --vm->arch.nr_stacks * stack_size;
	else
		stack = stacks_alloc(vm, 1);

	vcpu = __vm_vcpu_add(vm, vcpu_id);
	vcpu_enable_cap(vcpu, KVM_CAP_PPC_PAPR, 0);
	/* Exceptions: where in memory, and in which byte order they are taken */
	vcpu_set_reg(vcpu, KVM_REG_PPC_HIOR, 0);
	vcpu_set_reg(vcpu, KVM_REG_PPC_LPCR_64, le ? LPCR_ILE : 0);

	vcpu_sregs_get(vcpu, &sregs);
	sregs.u.s.ppc64.slb[0].slbe = SLB_E_VALID;
	sregs.u.s.ppc64.slb[0].slbv = SLB_V_1TB_SEG | SEGMENT_VSID << SLB_V_VSID_SHIFT |
				      (vm->page_shift == 16 ? SLB_V_64K : 0);
	vcpu_sregs_set(vcpu, &sregs);

	vcpu_regs_get(vcpu, &regs);
	regs.msr = GUEST_MSR | (le ? MSR_LE : 0);
	regs.gpr[1] = stack + stack_size - STACK_FRAME;
	regs.gpr[13] = vcpu_id;
	vcpu_regs_set(vcpu, &regs);

	return vcpu;
}

void vcpu_args_set(struct kvm_vcpu *vcpu, unsigned int num, ...)
{
	struct kvm_regs regs;
	unsigned int i;
	va_list ap;

	TEST_ASSERT(num >= 1 && num <= 8, "Unsupported number of args,\n"
		    "  num: %u", num);

	va_start(ap, num);
	vcpu_regs_get(vcpu, &regs);
	for (i = 0; i < num; i++)
		regs.gpr[3 + i] = va_arg(ap, uint64_t);
	vcpu_regs_set(vcpu, &regs);
	va_end(ap);
}

void vcpu_arch_dump(FILE *stream, struct kvm_vcpu *vcpu, uint8_t indent)
{
	struct kvm_regs regs;
	unsigned int i;

	vcpu_regs_get(vcpu, &regs);
	fprintf(stream, "%*spc: 0x%016llx msr: 0x%016llx\n", indent, "", regs.pc, regs.msr);
	fprintf(stream, "%*slr: 0x%016llx ctr: 0x%016llx cr: 0x%08llx xer: 0x%08llx\n",
		indent, "", regs.lr, regs.ctr, regs.cr, regs.xer);
	fprintf(stream, "%*ssprg0-3: 0x%016llx 0x%016llx 0x%016llx 0x%016llx\n", indent, "",
		regs.sprg0, regs.sprg1, regs.sprg2, regs.sprg3);
	for (i = 0; i < 32; i += 4)
		fprintf(stream, "%*sr%02u: 0x%016llx 0x%016llx 0x%016llx 0x%016llx\n", indent, "",
			i, regs.gpr[i], regs.gpr[i + 1], regs.gpr[i + 2], regs.gpr[i + 3]);
}

/* The ABI reserves r13, and nothing here has the thread-local data it is for */
uint32_t guest_get_vcpuid(void)
{
	register uint64_t r13 asm("r13");

	return r13;
}
