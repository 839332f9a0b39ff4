#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tarn run --check: the command is checked, its reports have functions and lines, its exit code is kept."""

import os
import subprocess
import sys
import unittest

TARN = os.path.join(os.environ["TARN_BUILD"], "bin", "tarn")
LIBRARY = os.environ["TARN_LIB"]
PROGRAM = sys.argv.pop()


def run(*command, options=(), settings=None):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TARN_")}
    environment.update(settings or {})
    words = [TARN, "run", "--library", LIBRARY, "--check", *options, "--", *command]
    return subprocess.run(words, env=environment, capture_output=True, text=True)


class RunCheckTest(unittest.TestCase):
    def expect_report(self, result):
        self.assertIn("tarn: fatal: free(0x", result.stderr)
        self.assertIn("object is already free", result.stderr)
        self.assertIn("The allocation", result.stderr)
        # The library knows no names of static functions; the tool adds them.
        self.assertIn("FreeTwice", result.stderr)
        self.assertIn("checked_parts_test.cc:", result.stderr)

    def test_a_report_is_symbolized(self):
        result = run(PROGRAM, "--run=free_twice")
        self.assertEqual(result.returncode, 128 + 6, result.stderr)
        self.expect_report(result)

    def test_reports_of_children_are_shown(self):
        result = run("sh", "-c", f"{PROGRAM} --run=free_twice; exit 3")
        self.assertEqual(result.returncode, 3, result.stderr)
        self.expect_report(result)

    def test_a_command_without_faults_is_left_alone(self):
        result = run("sh", "-c", "echo out; echo err >&2; exit 7")
        self.assertEqual((result.returncode, result.stdout, result.stderr), (7, "out\n", "err\n"))

    def test_a_program_that_is_not_there(self):
        self.assertEqual(run("/no/such/program").returncode, 127)

    def test_parts_can_be_chosen(self):
        result = run(PROGRAM, "--run=malloc_delete", options=["--set", "TARN_CHECK=mismatch"])
        self.assertEqual(result.returncode, 128 + 6, result.stderr)
        self.assertIn("object was made by another family of functions", result.stderr)


if __name__ == "__main__":
    unittest.main()
