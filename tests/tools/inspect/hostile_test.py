#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tarn's verbs on processes that want to harm it, or that it cannot look into: one right line each.

Usage: hostile_test.py TARN
"""

import os
import platform
import struct
import subprocess
import sys
import tempfile
import unittest

from patience import PATIENCE_SECONDS

TARN = None
LIBRARY = os.environ["TARN_LIB"]
VERBS = (["stat"], ["check"], ["top"], ["options"], ["limit"], ["release", "--wait", "0.1"], ["heap", "-o", "/dev/null"])

NAME_AND_WAIT = r"""
import ctypes, sys
ctypes.CDLL(None).prctl(15, b"\x1b]0;x\x07\x9b2J", 0, 0, 0)
print("ready", flush=True)
sys.stdin.read()
"""


def run(*arguments):
    return subprocess.run([TARN, *map(str, arguments)], capture_output=True, timeout=PATIENCE_SECONDS, check=False)


class Program:
    """A command that prints a line when it is ready, until the end of the `with`."""

    def __init__(self, *command, preload=None, **options):
        variables = {name: value for name, value in os.environ.items() if not name.startswith("TARN_")}
        if preload:
            variables["LD_PRELOAD"] = preload
        self.process = subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
        self.pid = self.process.pid
        self.first_line = self.process.stdout.readline()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def small_elf_of_32_bits():
    """A static program of i386: writes a line, then sleeps until a signal."""
    base, head = 0x08048000, 52 + 32
    text = b"ready\n"
    code = (b"\xb8\x04\x00\x00\x00" b"\xbb\x01\x00\x00\x00" b"\xb9" + struct.pack("<I", base + head) +
            b"\xba" + struct.pack("<I", len(text)) + b"\xcd\x80"   # write(1, text, ...)
            b"\xb8\x1d\x00\x00\x00" b"\xcd\x80" b"\xeb\xf7")       # pause(), again and again
    size = head + len(text) + len(code)
    header = (b"\x7fELF\x01\x01\x01" + bytes(9) +
              struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, base + head + len(text), 52, 0, 0, 52, 32, 1, 0, 0, 0))
    segment = struct.pack("<IIIIIIII", 1, 0, base, base, size, size, 5, 0x1000)
    return header + segment + text + code


class HostileTest(unittest.TestCase):
    def test_a_name_that_a_terminal_obeys(self):
        with Program("/usr/bin/python3", "-c", NAME_AND_WAIT, preload=LIBRARY) as program:
            self.assertEqual(program.first_line, b"ready\n")
            with open("/proc/%d/comm" % program.pid, "rb") as file:
                self.assertIn(b"\x1b", file.read())
            for verb, *options in VERBS:
                result = run(verb, program.pid, *options)
                out = result.stdout + result.stderr
                self.assertFalse([byte for byte in out if byte < 0x20 and byte != 10 and byte != 9], (verb, out))
                self.assertNotIn(b"\x9b", out)
            self.assertIn(rb"\x1b]0;x\x07\x9b2J", run("stat", program.pid).stdout)

    def test_a_log_that_a_terminal_obeys(self):
        with tempfile.NamedTemporaryFile() as log:
            log.write(b"\x1b[2Jgone\r\n\xc2\x9b1m\x00\n")
            log.flush()
            self.assertEqual(run("symbolize", log.name).stdout, b"\\x1b[2Jgone\r\n\\xc2\\x9b1m\\x00\n")

    @unittest.skipUnless(platform.machine() == "x86_64", "a program of i386")
    def test_a_program_of_32_bits(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "small")
            with open(path, "wb") as file:
                file.write(small_elf_of_32_bits())
            os.chmod(path, 0o755)
            try:
                program = Program(path)
            except OSError:
                self.skipTest("no program of 32 bits runs here")
            with program:
                if program.first_line != b"ready\n":
                    self.skipTest("no program of 32 bits runs here")
                for verb, *options in VERBS:
                    result = run(verb, program.pid, *options)
                    self.assertEqual(result.returncode, 4, (verb, result))
                    self.assertRegex(result.stdout + result.stderr, b"program of 32 bits", verb)
                    self.assertEqual((result.stdout + result.stderr).count(b"\n"), 1, (verb, result))

    @unittest.skipUnless(os.geteuid() == 0, "another user")
    def test_a_process_of_another_user(self):
        with Program("/bin/sh", "-c", "echo ready; read line") as program:
            for verb, *options in VERBS:
                result = subprocess.run(
                    [TARN, verb, str(program.pid), *options], capture_output=True, timeout=PATIENCE_SECONDS, check=False,
                    preexec_fn=lambda: (os.setgid(65534), os.setuid(65534)))
                if b"denied" in result.stderr and b"tarn:" not in result.stderr:
                    self.skipTest("the tool is not in reach of another user")
                self.assertEqual(result.returncode, 1, (verb, result))
                self.assertRegex(result.stderr, b"not permitted to look into process .* belongs to another user")
                self.assertEqual(result.stderr.count(b"\n"), 1, (verb, result))

    def test_a_process_that_closes_itself(self):
        """PR_SET_DUMPABLE 0, as programs with secrets have it."""
        if os.geteuid() == 0:
            self.skipTest("root may look into it")
        script = "import ctypes,sys; ctypes.CDLL(None).prctl(4, 0); print('ready', flush=True); sys.stdin.read()"
        with Program("/usr/bin/python3", "-c", script, preload=LIBRARY) as program:
            result = run("stat", program.pid)
            self.assertEqual(result.returncode, 1)
            self.assertEqual(result.stderr.count(b"\n"), 1, result)


if __name__ == "__main__":
    TARN = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
