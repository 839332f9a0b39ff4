#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of bench/guard: no path of this build executes more or fewer instructions than the table says, and the guard
sees when one does."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GUARD = os.path.join(ROOT, "bench", "guard")
TABLE = os.path.join(ROOT, "bench", "kernels", "instructions.json")
TIMEOUT_S = 1400


def guard(*arguments):
    return subprocess.run([GUARD, "--build", os.environ["TARN_BUILD"], *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S, check=False)


class GuardTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="tarn-guard-test-")
        self.addCleanup(directory.cleanup)
        self.table = os.path.join(directory.name, "table.json")
        with open(TABLE, encoding="utf-8") as file:
            self.counts = json.load(file)

    def put_table(self, counts):
        with open(self.table, "w", encoding="utf-8") as file:
            json.dump(counts, file)

    def test_the_build_is_as_the_table_says(self):
        done = guard()
        self.assertEqual(done.returncode, 0, done.stdout)
        for name in self.counts:
            self.assertIn(name, done.stdout)

    def test_one_instruction_more_or_less_is_a_finding(self):
        name = "pair_malloc_16"
        for difference in (1, -1):
            self.put_table({**self.counts, name: self.counts[name] + difference})
            done = guard("--table", self.table, name)
            self.assertEqual(done.returncode, 3, done.stdout)
            self.assertIn("1 of 1 differ", done.stdout)

    def test_what_is_new_or_gone_is_a_finding(self):
        self.put_table({"of_another_time": 1})
        done = guard("--table", self.table, "fill_arena")
        self.assertEqual(done.returncode, 3, done.stdout)
        self.assertIn("new", done.stdout)
        self.assertIn("no longer there: of_another_time", done.stdout)

    def test_write_enters_what_differs_and_leaves_the_rest(self):
        self.put_table({"fill_arena": 7, "pair_malloc_16": 5, "of_another_time": 1})
        self.assertEqual(guard("--table", self.table, "--write", "fill_arena").returncode, 0)
        with open(self.table, encoding="utf-8") as file:
            self.assertEqual(json.load(file), {"pair_malloc_16": 5, "fill_arena": self.counts["fill_arena"]})

    def test_refuses_an_unknown_kernel(self):
        done = guard("no_such_kernel")
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn("fill_arena", done.stdout)


if __name__ == "__main__":
    if shutil.which("valgrind") is None:
        print("skipped: valgrind is missing")
        sys.exit(77)
    unittest.main()
