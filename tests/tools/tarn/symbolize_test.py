#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tarn symbolize: reports of misuse get functions and lines, and everything else stays as it is.

Usage: symbolize_test.py PROGRAM     (tests/misuse/guard_program.cc, which is ended by such a report)
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest

TARN = os.path.join(os.environ["TARN_BUILD"], "bin", "tarn")
PROGRAM = sys.argv.pop(1)
SOURCE = "guard_program.cc"


def line_of(text):
    """The number of the first line of the program's source that holds the text."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "misuse", SOURCE)
    with open(path, encoding="utf-8") as file:
        return next(number for number, line in enumerate(file, 1) if text in line)


def report(case, **settings):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TARN_")}
    environment |= {"TARN_PROFILE_RATE": "1", "TARN_GUARD_RATE": "1"} | settings
    return subprocess.run([PROGRAM, case], env=environment, capture_output=True, text=True).stderr


def symbolize(text, *arguments):
    return subprocess.run([TARN, "symbolize", *arguments], input=text, capture_output=True, text=True)


class SymbolizeTest(unittest.TestCase):
    def test_text(self):
        text = report("write-after-free")
        result = symbolize("before\n" + text + "behind")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        lines = result.stdout.splitlines()
        self.assertEqual((lines[0], lines[1], lines[-1]), ("before", text.splitlines()[0], "behind"))
        access = lines[lines.index("  This access by thread 1:") + 1]
        self.assertIn(" in guard_program::WriteHere ", access)
        self.assertIn(f"{SOURCE}:{line_of('void WriteHere')} (guard_program+0x", access)
        self.assertIn("guard_program::WriteAfterFree", lines[lines.index("  The free by thread 1:") + 2])
        self.assertNotIn("tarn symbolize", result.stdout)

    def test_a_file(self):
        with tempfile.NamedTemporaryFile("w", suffix=".log") as file:
            file.write(report("free-twice"))
            file.flush()
            self.assertIn(f"{SOURCE}:{line_of('void FreeHere')} (", symbolize("", file.name).stdout)
        result = symbolize("", "/nowhere/at/all")
        self.assertEqual(result.returncode, 1)
        self.assertIn("symbolize: cannot read /nowhere/at/all", result.stderr)

    def test_json(self):
        text = report("write-past-end", TARN_CHECK_FORMAT="json")
        result = symbolize(text)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        before, after = (json.loads(each.splitlines()[1]) for each in (text, result.stdout))
        frame = after["here"]["frames"][0]
        self.assertEqual((frame["lines"][0]["function"], frame["lines"][0]["line"]),
                         ("guard_program::WriteHere", line_of("void WriteHere")))
        for stack in ("here", "allocation"):
            for each in after[stack]["frames"]:
                each.pop("lines", None)
        self.assertEqual(before, after)

    def test_what_cannot_be_read(self):
        unknown = "    #0 0x1234 in f+0x1 (/nowhere/lib x (2).so+0x34)\n"
        others = "    #1 0x1234\n#2 0x12 (x)\n    # 0x12 (a+0x)\n    #3 0x1 (/dev/zero+0x1)\n{\"schema\":\"tarn-misuse/1\",\n"
        result = symbolize(unknown + others + "{\"schema\":\"tarn-misuse/1\"}\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout, unknown + others + "{\"schema\":\"tarn-misuse/1\"}\n")
        self.assertIn("no names for /nowhere/lib x (2).so: the file cannot be read", result.stderr)
        self.assertIn("no names for /dev/zero: the file cannot be read", result.stderr)


if __name__ == "__main__":
    unittest.main()
