#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""libtarn.so does not say where it was built: neither in messages nor in its debug information."""

import os
import pathlib
import sys

root = pathlib.Path(__file__).resolve().parents[2]
library = pathlib.Path(os.environ["TARN_LIB"]).read_bytes()
failures = []
for path in (f"{root}/", os.environ["TARN_BUILD"]):
    place = library.find(path.encode())
    if place >= 0:
        failures.append(library[max(place - 20, 0) : place + 120])
# A failed check would name this file: the search above is not in vain.
if b"allocator/pages/page_heap.cc\0" not in library:
    failures.append(b"no message names a file of the page heap by its path from the root")
for failure in failures:
    print(failure, file=sys.stderr)
sys.exit(1 if failures else 0)
