#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compiles and runs the C++ examples of docs/pools-and-arenas.md, each as a function of one program."""

import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGE = os.path.join(ROOT, "docs", "pools-and-arenas.md")
LIBRARY = os.environ["TARN_LIB"]


def main():
    with open(PAGE, encoding="utf-8") as file:
        blocks = re.findall(r"^```cpp\n(.*?)^```", file.read(), re.DOTALL | re.MULTILINE)
    if len(blocks) < 7:
        print("page_test: only %d examples on the page" % len(blocks), file=sys.stderr)
        return 1
    lines = ["#include <cassert>", "#include <cstring>", "#include <list>", "#include <map>", "#include <string>",
             "#include <vector>"]
    functions = []
    for number, block in enumerate(blocks):
        body = []
        for line in block.splitlines():
            (lines if line.startswith("#include") else body).append(line)
        functions += ["static void Example%d() {" % number] + body + ["}"]
    functions += ["int main() {"] + ["  Example%d();" % number for number in range(len(blocks))] + ["}"]
    with tempfile.TemporaryDirectory() as scratch:
        source = os.path.join(scratch, "page.cc")
        program = os.path.join(scratch, "page")
        with open(source, "w", encoding="utf-8") as file:
            file.write("\n".join(lines + functions) + "\n")
        subprocess.run(
            [os.environ.get("CXX", "c++"), "-std=c++20", "-Wall", "-Wextra", "-Werror",
             "-I" + os.path.join(ROOT, "allocator", "include"), source, "-o", program,
             "-Wl,--no-as-needed", LIBRARY, "-Wl,-rpath," + os.path.dirname(LIBRARY)],
            check=True,
        )
        # TARN_LIB is the test's, and would be an unknown setting to the library.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TARN_")}
        subprocess.run([program], check=True, env=environment)
    print("page_test: %d examples compiled and ran" % len(blocks))
    return 0


if __name__ == "__main__":
    sys.exit(main())
