#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""libtarn(7): it has every setting with its default, and roff that groff reads without a warning."""

import os
import pathlib
import re
import shutil
import subprocess
import unittest

GENERATOR = pathlib.Path(os.environ["TARN_BUILD"]) / "bin/tarn_generate_settings"


def generate(*arguments):
    return subprocess.run([GENERATOR, *arguments], check=True, capture_output=True, text=True).stdout


class Manual(unittest.TestCase):
    def test_every_setting_is_in_it(self):
        page = generate("man")
        rows = re.findall(r"^\| `(TARN_\w+)` \| .* \| (\S+) \| ", generate("rows", "README.md"), re.MULTILINE)
        self.assertGreaterEqual(len(rows), 20)
        for name, default in rows:
            self.assertRegex(page, rf"\.TP\n\\fB{name}\\fR\n.+\.\n\.br\nTakes .+\. Default: {re.escape(default)}\.\n")

    def test_groff_has_no_complaint(self):
        if shutil.which("groff") is None:
            self.skipTest("there is no groff")
        result = subprocess.run(["groff", "-ww", "-man", "-Tutf8"], input=generate("man"), capture_output=True, text=True,
                                check=True)
        self.assertEqual(result.stderr, "")
        # Bold is written as overstrikes or as escapes.
        self.assertIn("TARN_MEMORY_LIMIT", re.sub(r".\x08|\x1b\[[0-9;]*m", "", result.stdout))

    def test_wrong_usage_is_refused(self):
        for arguments in (), ("rows",), ("pages",), ("man", "x"):
            result = subprocess.run([GENERATOR, *arguments], check=False, capture_output=True, text=True)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertIn("usage", result.stderr)


if __name__ == "__main__":
    unittest.main()
