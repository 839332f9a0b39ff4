#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs that are built with a sanitizer, and have tarn in every way: README.md, "Sanitizers", has the table.

  sanitizers_test.py gcc|clang

Each program has to run to its end, and has to be caught where it has a bug: the malloc of such a program is the
sanitizer's. Without tarn it must do so, too; where it does not, the cell is skipped and named. All skipped: exit code
77.
"""

import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARY = os.environ["TARN_LIB"]
ARCHIVE = os.path.join(os.path.dirname(LIBRARY), "libtarn.a")
COMPILERS = {"gcc": ["g++-12", "g++"], "clang": ["clang++-14", "clang++"]}
# The bug that each finds, and a piece of its report.
SANITIZERS = {
    "address": ("use after free", "heap-use-after-free"),
    "leak": ("leak", "detected memory leaks"),
    "memory": ("uninitialised", "use-of-uninitialized-value"),
    "thread": ("race", "data race"),
    "undefined": ("overflow", "signed integer overflow"),
}
TARN = {
    "no tarn": [],
    "shared": ["-Wl,--push-state,--no-as-needed", LIBRARY, "-Wl,--pop-state", "-Wl,-rpath," + os.path.dirname(LIBRARY)],
    "static": ["-Wl,--whole-archive", ARCHIVE, "-Wl,--no-whole-archive"],
    "preloaded": [],
}
MODES = ("cpu", "thread")


def environment(how, **more):
    """The environment of the programs. The test's own variables would be taken for settings of tarn."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("TARN_") and not k.endswith("SAN_OPTIONS")}
    if how == "preloaded":
        variables["LD_PRELOAD"] = LIBRARY
    return {**variables, **more}


def run(program, how, bug=None, **more):
    command = [program] if bug is None else [program, bug]
    done = subprocess.run(
        command, env=environment(how, **more), capture_output=True, text=True, check=False, timeout=500
    )
    return done.returncode, done.stdout, done.stderr


class Matrix:
    def __init__(self, compiler, directory):
        self.compiler = compiler
        self.directory = directory
        self.passed = self.skipped = self.failed = 0

    def fail(self, cell, complaint):
        print(f"FAILED: {cell}: {complaint}")
        self.failed += 1

    def skip(self, cell, reason):
        print(f"skipped: {cell}: {reason}")
        self.skipped += 1

    def compile(self, *arguments):
        done = subprocess.run([self.compiler, *arguments], capture_output=True, text=True, check=False)
        return None if done.returncode == 0 else done.stdout + done.stderr

    def check_row(self, sanitizer):
        flag = "-fsanitize=" + sanitizer
        code = os.path.join(self.directory, sanitizer + ".o")
        flags = [flag, "-fno-sanitize-recover=undefined", "-fno-builtin", "-O1", "-g", "-fPIE"]
        complaint = self.compile("-c", *flags, os.path.join(HERE, "program.cc"), "-o", code)
        programs = {}
        for how, link in TARN.items():
            if complaint is None and how != "preloaded":
                programs[how] = os.path.join(self.directory, f"{sanitizer}_{how.replace(' ', '_')}")
                complaint = self.compile(flag, code, *link, "-pthread", "-pie", "-o", programs[how])
                if complaint is not None and how != "no tarn":
                    self.fail(f"{sanitizer}, {how}", complaint)
                    complaint = None
                    del programs[how]
        if complaint is not None:
            return self.skip(sanitizer, "the compiler's runtime is not installed: " + complaint.strip()[-300:])
        programs["preloaded"] = programs["no tarn"]
        reference = self.complaint(programs["no tarn"], sanitizer, "no tarn", {})
        if reference is not None:
            return self.skip(sanitizer, "fails without tarn, too: " + reference)
        for how in ("shared", "static", "preloaded"):
            if how not in programs:
                continue
            for mode in MODES:
                complaint = self.complaint(programs[how], sanitizer, how, {"TARN_MODE": mode})
                if complaint is None:
                    self.passed += 1
                else:
                    self.fail(f"{sanitizer}, {how}, TARN_MODE={mode}", complaint)
        return None

    def complaint(self, program, sanitizer, how, settings):
        """None, or what is wrong."""
        bug, report = SANITIZERS[sanitizer]
        if how == "preloaded" and sanitizer == "address":
            # The runtime of gcc's is a shared library that wants to be the first, and says so.
            status, output, errors = run(program, how, **settings)
            if "ASan runtime does not come first" in errors:
                settings = {**settings, "ASAN_OPTIONS": "verify_asan_link_order=0"}
        if how != "no tarn":
            settings = {**settings, "TARN_VERBOSE": "1"}
        status, output, errors = run(program, how, **settings)
        if status != 0 or output != "end\n":
            return f"exit code {status}: {output} {errors[-1500:]}"
        if how != "no tarn":
            serves = sanitizer == "undefined"
            line = " caches (" if serves else "does not serve malloc, which comes from a sanitizer"
            if line not in errors:
                return f'the start line does not say "{line}": {errors}'
        status, output, errors = run(program, how, bug, **settings)
        if status == 0 or report not in errors:
            return f"with the bug: exit code {status}: {output} {errors[-1500:]}"
        return None


def main():
    names = COMPILERS[sys.argv[1]]
    compiler = next(filter(None, map(shutil.which, names)), None)
    if compiler is None:
        print(f"skipped: no {names[0]} here")
        return 77
    with tempfile.TemporaryDirectory() as directory:
        matrix = Matrix(compiler, directory)
        for sanitizer in SANITIZERS:
            if sanitizer != "memory" or sys.argv[1] == "clang":
                matrix.check_row(sanitizer)
    print(f"{compiler}: {matrix.passed} cells passed, {matrix.failed} failed, {matrix.skipped} sanitizers skipped")
    if matrix.failed != 0:
        return 1
    return 77 if matrix.passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
