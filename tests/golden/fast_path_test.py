#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs tools/fast_path on hand-written functions whose hit paths are known."""

import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
TOOL = os.path.join(HERE, "..", "..", "tools", "fast_path")

BAD = {
    "with_call": "it calls",
    "with_indirect_call": "it calls",
    "with_indirect_jump": "it jumps through a pointer",
    "with_push": "it makes a frame",
    "with_frame": "it makes a frame",
    "with_lock": "it locks the bus",
    "with_xchg": "it locks the bus",
    "with_loop": "it has a loop",
    "with_circle": "it runs in a circle",
    "with_trap": "it ends with",
    "without_end": "no return within",
}


class FastPathTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.golden = os.path.join(self.directory.name, "golden.txt")

    def build(self, change=lambda text: text):
        with open(os.path.join(HERE, "fast_path_sample.s"), encoding="utf-8") as file:
            text = file.read()
        changed = change(text)
        source = os.path.join(self.directory.name, "sample.s")
        library = os.path.join(self.directory.name, "sample.so")
        with open(source, "w", encoding="utf-8") as file:
            file.write(changed)
        subprocess.run(
            ["gcc", "-shared", "-nostdlib", "-Wl,-z,now", "-Wl,-Bsymbolic", source, "-o", library], check=True
        )
        return library

    def run_tool(self, *arguments):
        return subprocess.run([TOOL, "--golden", self.golden, *arguments], capture_output=True, text=True, check=False)

    def test_counts(self):
        result = self.run_tool("--update", self.build())
        self.assertEqual(result.stdout, "fast_path: malloc 9, free 29, _Znwm 10, _ZdlPvm 2\n", result.stderr)
        self.assertEqual(result.returncode, 0)
        with open(self.golden, encoding="utf-8") as file:
            text = file.read()
        self.assertIn(
            "\nmalloc: 9 instructions  # malloc(size_t)\n"
            "    cmp\n    ja\n    mov\n    test\n    je\n    jmp\n    lea\n    add\n    ret\n",
            text,
        )

    def test_same_code_agrees_with_golden(self):
        library = self.build()
        self.run_tool("--update", library)
        result = self.run_tool(library)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_other_instruction_shows_as_diff(self):
        self.run_tool("--update", self.build())
        library = self.build(lambda text: text.replace("addq\t$-8, %rax", "subq\t$8, %rax"))
        result = self.run_tool(library)
        self.assertEqual(result.returncode, 1)
        self.assertIn("-    add\n+    sub\n", result.stderr)
        self.assertEqual(self.run_tool("--limits-only", library).returncode, 0)

    def test_without_golden_file_fails(self):
        self.assertEqual(self.run_tool(self.build()).returncode, 1)

    def test_one_instruction_too_many(self):
        library = self.build(lambda text: text.replace(".rept\t28", ".rept\t29"))
        result = self.run_tool("--limits-only", library)
        self.assertEqual(result.returncode, 1)
        self.assertIn("free: 30 instructions; 29 are allowed", result.stderr)

    def test_update_refuses_what_is_not_allowed(self):
        library = self.build(lambda text: text.replace(".rept\t28", ".rept\t29"))
        self.assertEqual(self.run_tool("--update", library).returncode, 1)
        self.assertFalse(os.path.exists(self.golden))

    def test_missing_function(self):
        library = self.build(lambda text: text.replace("_Znwm", "other"))
        result = self.run_tool("--limits-only", library)
        self.assertEqual(result.returncode, 1)
        self.assertIn("_Znwm: not exported", result.stderr)

    def test_what_no_hit_path_may_do(self):
        library = self.build()
        for name, reason in BAD.items():
            with self.subTest(name):
                result = self.run_tool("--show", name, library)
                self.assertEqual(result.returncode, 1, result.stdout)
                self.assertIn(reason, result.stderr)


if __name__ == "__main__":
    sys.exit(unittest.main())
