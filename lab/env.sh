# SPDX-License-Identifier: GPL-2.0
# Sourced by every script of the lab: where things are, and the few functions
# they share.  Everything may be set in the environment.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/kvm-hpt-fd}
OUT=${OUT:-$REPO/out}
CONFIG=${CONFIG:-64k-le}
MACHINE=${MACHINE:-powernv9}
JOBS=${JOBS:-$(nproc)}
CROSS_COMPILE=${CROSS_COMPILE:-powerpc64le-linux-gnu-}
CROSS_COMPILE_BE=${CROSS_COMPILE_BE:-powerpc64-linux-gnu-}	# for programs only
# ccache goes by the files that a compilation reads.  To go by what the
# preprocessor makes of them it would run that first: a fifth of a first build.
export CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache} CCACHE_DEPEND=1

say() {		# a line of progress, with the seconds since the script began
	printf '%-8s %4ds  %s\n' "${0##*/}" "$SECONDS" "$*"
}

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# The head comment of a script is its help text.
help_if_asked() {
	case "${1-}" in
	help|-h|--help)
		sed -n '3,/^[^#]/s/^# \{0,1\}//p' "$0"
		exit 0
		;;
	esac
}

need() {	# need COMMAND...: what is missing is said in one line
	local c missing=()
	for c in "$@"; do
		command -v "$c" >/dev/null || missing+=("$c")
	done
	[ ${#missing[@]} = 0 ] || die "missing: ${missing[*]} (make setup)"
}
