#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Proves that the stress test sees faults.

Usage: checker_test.py STRESS SHIM

Runs the stress program STRESS on the deliberately broken allocator SHIM
(broken_allocator.cc), once per fault. It must fail with a message that names the
fault, and pass when the shim breaks nothing.
"""

import os
import signal
import subprocess
import sys

# The words that the message must contain, per fault. Options beyond the common ones.
FAULTS = {
    "twice": ("wrong byte at offset", []),
    "dirty": ("calloc gave a byte that is not zero", []),
    "misaligned": ("misaligned", []),
    "short": ("malloc_usable_size is too small", []),
    "lossy": ("after its realloc: wrong byte at offset", []),
    "late": ("wrong byte at offset", []),
    "child": ("forked child", ["--forks"]),
    "errno": ("free changed errno", []),
    "null": ("returned null or threw", []),
}

# A fault comes after some thousand calls at the latest; the run ends with the first one, so only a
# checker that sees nothing takes this long. Busy machines need more than 20 s for these calls.
FAULTY_SECONDS = 150


def run(program, shim, fault, seconds, options):
    environment = dict(os.environ, LD_PRELOAD=shim, BROKEN=fault)
    command = [program, "--seconds", str(seconds), "--threads", "8", "--budget-mib", "64", *options]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, errors="replace", timeout=2 * FAULTY_SECONDS
    )


def main():
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    program, shim = sys.argv[1:]
    problems = []

    done = run(program, shim, "nothing", 2, ["--forks"])
    if done.returncode != 0 or os.path.basename(shim) not in done.stdout:
        problems.append(f"nothing: exit {done.returncode}: {done.stderr}{done.stdout}")
    else:
        print("nothing broken: passes, as it must")

    for fault, (expected, options) in FAULTS.items():
        done = run(program, shim, fault, FAULTY_SECONDS, options)
        message = next((l for l in done.stderr.splitlines() if l.startswith("stress: FAILED")), "")
        if done.returncode != -signal.SIGABRT or expected not in done.stderr or not message:
            problems.append(
                f"{fault}: not detected as it must be (exit {done.returncode}): {done.stderr.strip()}"
            )
        else:
            print(f"{fault}: detected: {message}")

    for problem in problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
