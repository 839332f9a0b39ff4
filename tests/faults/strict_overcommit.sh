#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the memory limit cases and a stress run under vm.overcommit_memory=2. By hand only.
#
# The setting is the whole system's: the kernel then refuses to promise more memory than it has, and
# any program on the machine may meet that. So ctest does not run this; run it as root on a machine of your
# own. The old setting is put back at the end, also after an interrupt.
set -euo pipefail

usage() {
  cat <<'HELP'
Usage: tests/faults/strict_overcommit.sh --change-the-system [BUILD_DIR]

Sets vm.overcommit_memory=2, runs tests of BUILD_DIR (build) with libtarn.so preloaded in both cache
modes, and restores the setting. TARN_LIB names another library to preload.
HELP
}

if [[ ${1:-} != --change-the-system ]]; then
  usage
  exit 2
fi
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "${2:-$root/build}" && pwd)
export TARN_LIB=${TARN_LIB:-$build/lib/libtarn.so}

setting=/proc/sys/vm/overcommit_memory
if [[ ! -w $setting ]]; then
  echo "strict_overcommit: $setting is not writable; this needs root" >&2
  exit 1
fi
before=$(<"$setting")
trap 'echo "$before" >"$setting"; echo "strict_overcommit: back to vm.overcommit_memory=$before"' EXIT
echo 2 >"$setting"
grep -E '^(CommitLimit|Committed_AS)' /proc/meminfo

failures=0
attempt() {
  echo "== TARN_MODE=$TARN_MODE $*"
  "$@" || {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
  }
}
for TARN_MODE in cpu thread; do
  export TARN_MODE
  attempt "$build/tests/memory_limits" threads
  attempt "$build/tests/memory_limits" exhaust
  attempt env -u TARN_LIB LD_PRELOAD="$TARN_LIB" "$build/tests/fault_workload"
  attempt env -u TARN_LIB LD_PRELOAD="$TARN_LIB" "$build/tests/stress_any" --seconds 10 --chaos
done
echo "strict_overcommit: $failures of 8 runs failed"
[[ $failures -eq 0 ]]
