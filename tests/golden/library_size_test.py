#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The stripped libtarn.so of the release build stays within its size.

The file grows by pages of 4 KiB, so a few bytes more may show as one page.
"""

import os
import subprocess
import sys
import tempfile

# Chosen: every process maps the file, and its code shares the caches with that of the program. 250 KiB are for malloc,
# its statistics, pools and arenas. 62 KiB more are for what sees misuse: guards, the checked mode, reports.
MOST_BYTES = 320_000

with tempfile.TemporaryDirectory() as directory:
    stripped = os.path.join(directory, "libtarn.so")
    subprocess.run(["strip", "-o", stripped, os.environ["TARN_LIB"]], check=True)
    size = os.path.getsize(stripped)
if size > MOST_BYTES:
    sys.exit(f"the stripped libtarn.so has {size} bytes, {size - MOST_BYTES} more than it may have: "
             "compile what runs seldom for size (allocator/CMakeLists.txt), or drop what nothing calls")
print(f"{size} of {MOST_BYTES} bytes")
