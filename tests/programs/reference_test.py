#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The rule of programs.py: what fails on glibc already is skipped with its reason, what fails on tarn only fails.

Usage: reference_test.py WITNESS
"""

import os
import subprocess
import sys
import tempfile
import unittest

import programs

WITNESS = None
HERE = os.path.dirname(os.path.abspath(__file__))

# Fails wherever it runs, or only where something is preloaded.
FAILS = ["/bin/sh", "-c", "echo out of luck >&2; exit 3"]
FAILS_PRELOADED = ["/bin/sh", "-c", 'test -z "$LD_PRELOAD"']
PASSES = ["/bin/sh", "-c", "echo fine"]
# A server that ends by itself, which it may not.
ENDS_PRELOADED = ["/bin/sh", "-c", 'test -n "$LD_PRELOAD" || exec sleep 1000']

# The words of gdb 13 on a processor with AMX, whose registers it cannot write back; it ends with 0 all the same.
GDB = r"""#!/bin/sh
echo "Breakpoint 1, everybody_is_here () at debugged.c:52"
echo "Couldn't write extended state status: Bad address." >&2
echo "An error occurred while in a function called from GDB." >&2
"""


class Reference(unittest.TestCase):
    def judge(self, test):
        """The exit code, without what is printed."""
        output, sys.stdout, sys.stderr = (sys.stdout, sys.stderr), open(os.devnull, "w"), open(os.devnull, "w")
        try:
            return programs.judge(test, [], WITNESS)
        finally:
            sys.stdout.close()
            sys.stderr.close()
            sys.stdout, sys.stderr = output

    def test_passes(self):
        self.assertEqual(self.judge(lambda stage: stage.compare(PASSES)), 0)

    def test_a_failing_reference_is_a_skip(self):
        self.assertEqual(self.judge(lambda stage: stage.run(FAILS, tarn=False)), 77)
        self.assertEqual(self.judge(lambda stage: stage.compare(FAILS)), 77)

    def test_a_hanging_reference_is_a_skip(self):
        command = ["/bin/sh", "-c", "exec sleep 1000"]
        self.assertEqual(self.judge(lambda stage: stage.run(command, tarn=False, timeout=0.2)), 77)
        self.assertEqual(self.judge(lambda stage: stage.run(command, timeout=0.2)), 77)

    def test_what_fails_on_tarn_only_fails(self):
        self.assertEqual(self.judge(lambda stage: stage.run(FAILS_PRELOADED)), 1)
        self.assertEqual(self.judge(lambda stage: stage.compare(FAILS_PRELOADED)), 1)

    def test_what_fails_without_a_reference_is_repeated_on_glibc(self):
        self.assertEqual(self.judge(lambda stage: stage.run(FAILS)), 77)

        def expects_too_much(stage):
            if b"better" not in stage.compare(PASSES).stdout:
                raise programs.Failure("it does not say better")

        self.assertEqual(self.judge(expects_too_much), 77)

    def test_another_output_fails(self):
        self.assertEqual(self.judge(lambda stage: stage.compare(["/bin/sh", "-c", 'echo "$LD_PRELOAD"'])), 1)

    def test_a_server_that_dies(self):
        def serve(command):
            def test(stage):
                with stage.server(command) as process:
                    if not stage.reference or command == FAILS:
                        process.wait()

            return test

        self.assertEqual(self.judge(serve(FAILS)), 77)
        self.assertEqual(self.judge(serve(ENDS_PRELOADED)), 1)

    def test_nothing_on_tarn_fails(self):
        self.assertEqual(self.judge(lambda stage: stage.run(PASSES, tarn=False)), 1)
        self.assertEqual(self.judge(lambda stage: [stage.run(PASSES), stage.require_witnessed("other")]), 1)

    def test_a_gdb_that_cannot_call_functions_is_a_skip(self):
        with tempfile.TemporaryDirectory() as directory:
            with open(directory + "/gdb", "w", encoding="utf-8") as file:
                file.write(GDB)
            os.chmod(directory + "/gdb", 0o755)
            environment = dict(os.environ, PATH=directory + ":" + os.environ["PATH"])
            done = subprocess.run([sys.executable, HERE + "/gdb_test.py", WITNESS], env=environment, text=True,
                                  capture_output=True, check=False)
            self.assertEqual(done.returncode, 77, done.stdout + done.stderr)
            self.assertIn("Couldn't write extended state status", done.stdout)


if __name__ == "__main__":
    WITNESS = sys.argv[1]
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
