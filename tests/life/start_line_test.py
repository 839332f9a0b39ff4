#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The line of TARN_VERBOSE: it says which caches serve malloc, or that tarn does not serve malloc at all."""

import os
import re
import subprocess
import sys
import unittest

TARN = os.environ["TARN_LIB"]
MODE = os.environ.get("TARN_MODE", "auto")
OTHER, OWN, BY_ADDRESS = sys.argv.pop(1), sys.argv.pop(1), sys.argv.pop(1)
SERVES = re.compile(r"tarn: [0-9.]+ in \S+ \(\d+\): per-(CPU|thread) caches \(.*\), \d+ KiB each\n")


class StartLineTest(unittest.TestCase):
    def said(self, program, *preloaded):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TARN_")}
        environment |= {"TARN_VERBOSE": "1", "TARN_MODE": MODE, "LD_PRELOAD": ":".join(preloaded)}
        result = subprocess.run([program], env=environment, capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stderr

    def expect_other(self, said, owner):
        self.assertRegex(
            said, rf"^tarn: [0-9.]+ in \S+ \(\d+\): does not serve malloc, which comes from {re.escape(owner)}\n$"
        )

    def test_names_the_caches_where_tarn_serves(self):
        self.assertRegex(self.said("/bin/true", TARN), SERVES)
        self.assertRegex(self.said("/bin/true", TARN, OTHER), SERVES)

    def test_also_where_the_address_of_malloc_lies_in_the_program(self):
        self.assertRegex(self.said(BY_ADDRESS, TARN), SERVES)

    def test_claims_nothing_behind_another_library(self):
        self.expect_other(self.said("/bin/true", OTHER, TARN), OTHER)

    def test_claims_nothing_in_a_program_with_a_malloc_of_its_own(self):
        self.expect_other(self.said(OWN, TARN), "the program itself")


if __name__ == "__main__":
    unittest.main()
