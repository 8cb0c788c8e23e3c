# SPDX-License-Identifier: GPL-2.0
# Sourced by every script of the lab: where things are, and the few functions
# they share.  Everything may be set in the environment.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/kvm-hpt-fd}
OUT=${OUT:-$REPO/out}
CONFIG=${CONFIG:-64k-le}
HOME_BASE=7.3		# the kernel that the series is written for
BASE_VERSION=${BASE_VERSION:-$HOME_BASE}
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

is_base() {	# is_base VERSION: of a kernel that the lab has the source of
	grep -q "^keep	source-${1//./\\.}	" "$REPO/lab/packages"
}
is_base "$BASE_VERSION" ||
	die "BASE_VERSION=$BASE_VERSION: there are$(sed -nE 's/^keep	source-(\S+)	.*/ \1/p' "$REPO/lab/packages" | tr -d '\n')"

base_suffix() {		# what the names of results of another base end in
	[ "$BASE_VERSION" = "$HOME_BASE" ] || echo "-$BASE_VERSION"
}

# The kernel that hosts run.
KERNEL=${KERNEL:-$OUT/kernel/$CONFIG$(base_suffix)}

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

# A clean machine has nobody to sign off; a test may be anybody.
signed_by_anybody() {
	git -C "$REPO" -c user.useConfigOnly=true var GIT_AUTHOR_IDENT >/dev/null 2>&1 && return
	export GIT_AUTHOR_NAME=test GIT_AUTHOR_EMAIL=test@localhost.invalid
	export GIT_COMMITTER_NAME=test GIT_COMMITTER_EMAIL=test@localhost.invalid
}

# Runs a build of $name, its output into $log, with a line of progress now and then.
logged() {	# logged COMMAND...
	local pid next=$((SECONDS + 10))

	"$@" >>"$log" 2>&1 </dev/null &
	pid=$!
	trap 'kill $pid 2>/dev/null; wait $pid || true; exit 130' INT TERM
	while kill -0 $pid 2>/dev/null; do
		sleep 0.5
		if [ $SECONDS -ge $next ]; then
			say "$name: $(grep -cE '^  (CC|AS) |^\[[0-9/]+\] Compiling' "$log" || true) objects, $(tail -n 1 "$log" | cut -c 1-60)"
			next=$((SECONDS + 10))
		fi
	done
	trap - INT TERM
	wait $pid
}

# What a build of $name said, as $log has it, and the end
failed() {	# failed WHAT
	grep -nE -A 5 'error:|Error [0-9]|undefined' "$log" | head -n 40 >&2 || true
	die "$name: $1 failed, whole log: $log"
}
