# SPDX-License-Identifier: GPL-2.0
# Front door of the repository; what each goal does is in the script it calls.

CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kvm-hpt-fd
CONFIG ?= 64k-le
BASE_VERSION ?= 7.3
MACHINE ?= $(if $(filter pr,$(FLAVOUR)),pseries9,powernv9)
export CACHE CONFIG MACHINE BASE_VERSION

.DEFAULT_GOAL := help
.NOTPARALLEL:

help:
	@sed -n 's/^#: //p' $(MAKEFILE_LIST)

#: Main goals
#:   make demo          set up, build, boot, and live-migrate a guest, from nothing
#:                      MACHINE=powernv9 HOPS=3 GUEST_MEM=512M change it,
#:                      FLAVOUR=pr for PR, HOSTS=2 from one host to another,
#:                      DRIVER=libvirt the same by libvirt;
#:                      lab/demo help lists the rest
#:   make check         the tests; ALL=1 all of them, on all machines;
#:                      TESTS="kunit series" some of them
#:   make soak          seeded tests with one seed after the other; MINUTES=60,
#:                      MACHINE=pseries9, HTAB_SEED=0x... repeats one
#:   make check-base    the tests of the interface, against the unpatched kernel
#:   make check-kut DIR=FOLDER
#:                      kvm-unit-tests, built in FOLDER, under the unpatched kernel
#:                      and ours; MACHINES="powernv9 pseries9", TESTS="sprs"
#:   make bench         what it costs, ours and the unpatched kernel side by side;
#:                      MACHINES="powernv8 powernv9:4k-le" ORDERS="20 24 28"
#:   make shell         a shell in a booted host, MACHINE=powernv8, powernv9,
#:                      powernv9-hash, powernv10, pseries8, pseries9,
#:                      powernv8-pr or powernv9-hash-pr
#:
#: The series
#:   make tree          Debian's kernel source with the series, in the cache
#:   make refresh       edits made in that tree, back into this repository
#:   make series        plain patches and cover letters in out/series/;
#:                      EMBARGO=1 without those that show how to crash a host,
#:                      FORM=quilt for debian/patches, in out/quilt/
#:   make deb           packages of Debian's kernel with it, in out/deb/;
#:                      FLAVOUR=powerpc64le-64k, PR=1, MODULES=lab
#:   make check-series  checkpatch, sparse and a build of each patch
#:
#: Parts of the lab, made as needed
#:   make setup         build tools, by apt
#:   make fetch         Debian's packages, unpacked in the cache
#:   make kernel        CONFIG=64k-le, 4k-le, 4k-pr, 64k-le-debug, 64k-le-kcsan,
#:                      64k-be or debian; BASE=1 unpatched
#:   make selftests     the test programs, in out/selftests/
#:   make clean         removes out/; make distclean says how to remove the cache
#:
#: BASE_VERSION=7.2 or 6.12 takes another kernel than 7.3, for which the series is
#: written; results are in folders of the same names with -6.12 at their end.
#: CACHE=FOLDER moves the cache (downloads, kernel tree, QEMU, ccache).

setup:
	@lab/setup

fetch: setup
	@lab/fetch

# What hosts and their guests are made of.
hosts: setup
	@lab/fetch qemu rootfs jansson

tree: setup
	@lab/fetch source-$(BASE_VERSION)
	@series/compose tree

refresh series: setup
	@series/compose $@

check-series: tree
	@series/compose check

deb: setup
	@lab/deb

kernel: $(if $(filter debian,$(CONFIG)),fetch,tree)
	@lab/kernel

selftests: tree
	@lab/selftests

# A shell, a demo and the tests want our kernel unless told otherwise.
shell: hosts kernel selftests
	@lab/shell

# Of two hosts one has Debian's own kernel.
stock: hosts
	@lab/fetch debian-kernel
	@lab/debian-kernel

# Their root file system has libvirt then.
libvirt: hosts
	@lab/fetch libvirt

demo: hosts kernel $(if $(filter 2,$(HOSTS)),stock) $(if $(DRIVER),stock libvirt)
	@lab/demo

check: fetch
	@lab/run-checks check

# Under the kernel that checks itself.
soak: CONFIG = 64k-le-debug
soak: hosts kernel selftests
	@lab/soak

check-base: fetch
	@lab/check-base

# A wrong DIR is told before anything is built.
check-kut-dir:
	@lab/check-kut -n "$(DIR)"

check-kut: check-kut-dir hosts kernel
	@BASE=1 lab/kernel
	@lab/check-kut "$(DIR)"

bench: hosts tree
	@lab/bench

clean:
	rm -rf out

distclean: clean
	@echo "The cache: rm -rf $(CACHE)"

.PHONY: help setup fetch hosts stock libvirt tree refresh series check-series deb kernel selftests \
	shell demo check soak check-base check-kut check-kut-dir bench clean distclean
