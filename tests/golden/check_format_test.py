#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/check_format, against trees in which something is wrong."""

import os
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LICENSE = "SPDX-License-Identifier: Apache-2.0"
TREE = {
    "a.cc": "// %s\n\nint a;\n" % LICENSE,
    "b.py": "#!/usr/bin/env python3\n# %s\n" % LICENSE,
    "tools/run": "#!/bin/sh\n# %s\n" % LICENSE,
    "CMakeLists.txt": "# %s\n" % LICENSE,
    "page.html": "<!DOCTYPE html>\n<!-- %s -->\n" % LICENSE,
    "data.json": "{}\n",
    "NOTES": "no source\n",
    "build/generated.cc": "int a ;\n",
}


class CheckFormat(unittest.TestCase):
    def run_with(self, files):
        with tempfile.TemporaryDirectory() as root:
            for path, text in {**TREE, **files}.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            os.makedirs(os.path.join(root, "tools"), exist_ok=True)
            for path in ("tools/check_format", "tools/check_prose", ".clang-format"):
                shutil.copy(os.path.join(ROOT, path), os.path.join(root, path))
            return subprocess.run([os.path.join(root, "tools/check_format")], capture_output=True, text=True)

    def test_accepts_what_is_right(self):
        done = self.run_with({})
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, "^check_format: 1 files of C and C\\+\\+, 7 sources with a license\n"
                                      "check_prose: [1-9] files, 0 complaints\n$")

    def test_finds_sources_without_a_license(self):
        for path, text in {
            "a.cc": "int a;\n",
            "b.py": "import os\n",
            "tools/run": "#!/bin/sh\ntrue\n",
            "sub/CMakeLists.txt": "\n",
            "page.css": "a {}\n/* 2 */\n/* %s */\n" % LICENSE,
        }.items():
            with self.subTest(path):
                done = self.run_with({path: text})
                self.assertEqual(done.returncode, 1)
                self.assertEqual(done.stderr, "./%s: the line '%s' is missing at its head\n" % (path, LICENSE))

    def test_finds_comments_against_the_rule(self):
        done = self.run_with({"allocator/c.h": "// %s\n//\n// What it is.\n" % LICENSE})
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, 'allocator/c.h:3: start: the comment starts with "What"\n')

    def test_finds_another_layout(self):
        done = self.run_with({"c.h": "// %s\nint a ;\n" % LICENSE})
        self.assertEqual(done.returncode, 1)
        self.assertIn("./c.h: 1 places are laid out differently", done.stderr)


if __name__ == "__main__":
    unittest.main()
