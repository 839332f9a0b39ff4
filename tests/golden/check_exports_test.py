#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs tools/check_exports on small libraries, each of which breaks one rule."""

import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
TOOL = os.path.join(HERE, "..", "..", "tools", "check_exports")

SOURCE = """
#include <stdlib.h>
__thread char small[64];
int data = 1;
void* Wanted(void) { small[1]++; return getenv("HOME"); }
"""
FLAGS = ["-shared", "-fPIC", "-ftls-model=initial-exec", "-fno-stack-protector", "-nodefaultlibs", "-Wl,--no-as-needed"]
LINK = ["-Wl,-z,nodelete", "-Wl,-z,now", "-Wl,-soname,libtarn.so.0"]


class CheckExportsTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.golden = os.path.join(self.directory.name, "golden.txt")

    def build(self, source=SOURCE, flags=(), link=LINK, libraries=("-lc",)):
        path = os.path.join(self.directory.name, "library.c")
        library = os.path.join(self.directory.name, "library.so")
        with open(path, "w", encoding="utf-8") as file:
            file.write(source)
        subprocess.run(["gcc", *FLAGS, *flags, path, "-o", library, *link, *libraries], check=True)
        return library

    def run_tool(self, *arguments):
        return subprocess.run([TOOL, "--golden", self.golden, *arguments], capture_output=True, text=True, check=False)

    def assert_finds(self, library, *complaints):
        """The tool says exactly this about a library whose exports are the golden ones."""
        result = self.run_tool("--update", library)
        found = result.stderr.splitlines()
        self.assertEqual(len(found), len(complaints), result.stderr)
        for line, complaint in zip(found, complaints):
            self.assertIn(complaint, line)
        self.assertEqual(result.returncode, 1 if complaints else 0)

    def test_good_library(self):
        library = self.build()
        self.assert_finds(library)
        with open(self.golden, encoding="utf-8") as file:
            lines = [line.strip() for line in file if not line.startswith("#")]
        self.assertEqual(lines, ["data data", "data small", "function Wanted"])
        self.assertEqual(self.run_tool(library).returncode, 0)

    def test_symbol_is_new(self):
        self.run_tool("--update", self.build())
        result = self.run_tool(self.build(SOURCE + "void Added(void) {}"))
        self.assertEqual(result.returncode, 1)
        self.assertIn("exports: function Added is new", result.stderr)

    def test_symbol_is_gone(self):
        self.run_tool("--update", self.build(SOURCE + "void Added(void) {}"))
        result = self.run_tool(self.build())
        self.assertEqual(result.returncode, 1)
        self.assertIn("exports: function Added is gone", result.stderr)

    def test_function_became_data(self):
        self.run_tool("--update", self.build(SOURCE + "void Added(void) {}"))
        result = self.run_tool(self.build(SOURCE + "int Added;"))
        self.assertIn("exports: data Added is new", result.stderr)
        self.assertIn("exports: function Added is gone", result.stderr)

    def test_without_golden_file_fails(self):
        self.assertEqual(self.run_tool(self.build()).returncode, 1)

    def test_other_library_needed(self):
        self.assert_finds(self.build(libraries=["-lc", "-lgcc_s"]), "needed: libc.so.6, libgcc_s.so.1")

    def test_libc_not_needed(self):
        source = "int data;"
        self.assert_finds(self.build(source, libraries=[]), "needed: nothing")

    def test_too_much_thread_local_storage(self):
        self.assert_finds(self.build(SOURCE.replace("small[64]", "small[256]")))
        self.assert_finds(self.build(SOURCE.replace("small[64]", "small[257]")), "tls: 257 bytes")

    def test_newer_glibc(self):
        newer = SOURCE + "unsigned arc4random(void); unsigned Newer(void) { return arc4random(); }"
        self.assert_finds(self.build(newer), "versions: it asks for GLIBC_2.36")
        # A weak reference does not help: the linker still records that the version must be there.
        weak = newer.replace("unsigned arc4random(void);", "__attribute__((weak)) unsigned arc4random(void);")
        self.assert_finds(self.build(weak), "versions: it asks for GLIBC_2.36")
        # The loader's own symbols are outside of libc.so.6, so a weak reference to one has no version.
        loader = SOURCE + "extern const long __rseq_offset __attribute__((weak)); long Offset(void) { return __rseq_offset; }"
        self.assert_finds(self.build(loader))

    def test_text_relocation(self):
        source = SOURCE + 'extern char** environ; __asm__(".text\\n.quad environ\\n");'
        self.assert_finds(self.build(source, flags=["-Wl,-z,notext", "-w"]), "text: it has text relocations")

    def test_executable_stack(self):
        self.assert_finds(self.build(flags=["-Wl,-z,execstack"]), "text: the stack is executable")

    def test_link_options(self):
        self.assert_finds(self.build(link=LINK[1:]), "link: -z nodelete")
        self.assert_finds(self.build(link=LINK[::2] + ["-Wl,-z,lazy"]), "link: -z now")
        self.assert_finds(self.build(link=LINK[:2]), "link: the soname")


if __name__ == "__main__":
    sys.exit(unittest.main())
