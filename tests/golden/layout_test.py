#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Code that every process runs stands at the front of libtarn.so; small variables share a page (allocator/layout.ld).

The linker knows no error in such a script: a pattern that matches nothing any more is silent.
"""

import os
import re
import subprocess
import sys

LIBRARY = os.environ["TARN_LIB"]
PAGE = 4096
# Chosen: constants, start and the paths of malloc and free take 110 KiB with the loader's tables.
MOST_FRONT_BYTES = 128 * 1024
FRONT = [r"malloc", r"free", r"tarn::ProcessHeap::SetUp\(", r"tarn::CpuCache::AllocateSlow\(",
         r"tarn::CpuCache::Init\(", r"tarn::PageHeap::AllocateSmall\(", r"tarn::Limits::Init\(", r"tarn::kSizeClasses"]
BEHIND = [r"tarn::WriteHeapProfile\(", r"tarn::WalkStack\(", r"tarn::ReportMisuse\(", r"tarn::PageHeap::ReleaseFree\(",
          r"malloc_info"]
TOGETHER = [r"tarn::\(anonymous namespace\)::fork_state", r"completed\.0", r"tarn_snapshot"]

places = {}
listing = subprocess.run(["nm", "-C", "--defined-only", LIBRARY], capture_output=True, text=True, check=True).stdout
for address, name in re.findall(r"^(\w+) \w (.*)$", listing, re.MULTILINE):
    places.setdefault(name, int(address, 16))


def place(pattern):
    found = [address for name, address in places.items() if re.match(pattern + ("" if pattern[-1] == "(" else "$"), name)]
    if not found:
        sys.exit(f"{LIBRARY} has no symbol {pattern}: was it renamed? Then tests/golden/layout_test.py has to know.")
    return min(found)


errors = [f"{pattern} stands behind the front" for pattern in FRONT if place(pattern) >= MOST_FRONT_BYTES]
last = max(place(pattern) for pattern in FRONT)
errors += [f"{pattern} stands in front of what every process runs" for pattern in BEHIND if place(pattern) <= last]
if len({place(pattern) // PAGE for pattern in TOGETHER}) != 1:
    errors.append(f"{', '.join(TOGETHER)} are not on one page")
if errors:
    sys.exit("allocator/layout.ld: " + "; ".join(errors))
