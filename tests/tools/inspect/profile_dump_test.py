#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Heap profiles that settings ask for: at the end, on a signal, by growth, near a limit; each opened by pprof.

Usage: profile_dump_test.py TARN PROGRAM     (PROGRAM: profile_dump_program.cc)
"""

import glob
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

from patience import PATIENCE_SECONDS

TARN = PROGRAM = None
LIBRARY = os.environ["TARN_LIB"]


class Program:
    """PROGRAM on tarn, with its files in a directory."""

    def __init__(self, directory, before=None, **settings):
        variables = {name: value for name, value in os.environ.items() if not name.startswith("TARN_")}
        variables.update(LD_PRELOAD=LIBRARY, TARN_PROFILE_PREFIX=directory + "/p", TARN_PROFILE_RATE="32KiB")
        variables.update(("TARN_" + name, value) for name, value in settings.items())
        self.directory = directory
        self.process = subprocess.Popen([PROGRAM], env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, preexec_fn=before)
        self.pid = self.process.pid
        self.told = []
        self.wait()

    def wait(self):
        while "ready" not in (line := self.process.stdout.readline()):
            if not line:
                raise AssertionError("the program has ended: " + self.process.stderr.read())
            self.told.append(line.strip())

    def do(self, letters):
        for letter in letters:
            self.process.stdin.write(letter)
            self.process.stdin.flush()
            self.wait()

    def end(self, letter=""):
        """The exit code, and what was said on stderr."""
        _, error = self.process.communicate(letter, timeout=PATIENCE_SECONDS)
        return self.process.returncode, error

    def files(self):
        """The names of the files without the part that all have."""
        return sorted(os.path.basename(path)[2:] for path in glob.glob(self.directory + "/p.*"))

    def names(self, reason, count):
        return ["%d.%d.%s.pb" % (self.pid, number, reason) for number in range(1, count + 1)]


def pprof_total(path, *arguments):
    """The MiB in use, and the table."""
    environment = dict(os.environ, HOME=tempfile.gettempdir(), PPROF_TMPDIR=tempfile.gettempdir())
    table = subprocess.run(["go", "tool", "pprof", "-top", "-unit=mb", *arguments, path], env=environment, check=True,
                           text=True, capture_output=True, timeout=PATIENCE_SECONDS).stdout
    return float(re.search(r"of (\S+)MB total", table).group(1)), table


class Dumps(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="profile_dump_test.")
        self.addCleanup(shutil.rmtree, self.directory)

    def path(self, name):
        return self.directory + "/p." + name

    def check(self, name, held_mib):
        """Requires that a file holds this, give or take the chance of samples at a rate of 32 KiB: six standard
        errors of the 4 KiB objects' bytes, and half a MiB for other objects."""
        total, _ = pprof_total(self.path(name))
        self.assertAlmostEqual(total, held_mib, delta=6 * (held_mib / 32) ** 0.5 + 0.5)
        self.assertEqual(os.stat(self.path(name)).st_mode & 0o777, 0o600)

    def test_at_the_end(self):
        program = Program(self.directory, PROFILE_AT_EXIT="on")
        program.do("kf")
        child = int(program.told[-1].split()[1])
        self.assertEqual(program.end(), (0, ""))
        self.assertEqual(program.files(), sorted(program.names("exit", 1) + ["%d.1.exit.pb" % child]))
        # The memory of global objects is gone by then: 8 MiB of pointers. The child's file is of its own heap.
        for name in program.files():
            self.check(name, 32)
        named = self.path("named.pb.gz")
        subprocess.run([TARN, "heap", self.path(program.names("exit", 1)[0]), "-o", named], check=True, timeout=PATIENCE_SECONDS)
        # All of it, where the libraries' own few objects were not drawn.
        self.assertRegex(pprof_total(named)[1], r"(9\d\.\d+|100)% +\(anonymous namespace\)::Keep\n")

    def test_not_at_other_ends(self):
        for letter, code in ("x", 0), ("a", -signal.SIGABRT):
            program = Program(self.directory, PROFILE_AT_EXIT="on",
                              before=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
            self.assertEqual(program.end(letter), (code, ""))
            self.assertEqual(program.files(), [])

    def test_on_a_signal(self):
        program = Program(self.directory, PROFILE_SIGNAL="USR1")
        program.do("pkp")
        # While it waits in a system call, and in a child.
        os.kill(program.pid, signal.SIGUSR1)
        program.do("k")
        self.assertEqual(program.end(), (0, ""))
        self.assertEqual(program.files(), program.names("signal", 3))
        for number, held_mib in (1, 8), (2, 40), (3, 40):
            self.check(program.names("signal", number)[-1], held_mib)

    def test_signals_in_the_midst_of_everything(self):
        program = Program(self.directory, PROFILE_SIGNAL="SIGUSR1", PROFILE_RATE="16KiB")
        program.do("c" + "p" * 20)
        for _ in range(200):
            os.kill(program.pid, signal.SIGUSR1)
        program.do("p")
        self.assertEqual(program.end("x"), (0, ""))
        files = program.files()
        self.assertGreater(len(files), 20)
        # Whole ones, all of them: the tool refuses others.
        for name in files[:: max(1, len(files) // 10)]:
            subprocess.run([TARN, "heap", "--no-names", self.path(name), "-o", "/dev/null"], check=True, timeout=PATIENCE_SECONDS)

    def test_other_handlers_stay(self):
        program = Program(self.directory, PROFILE_SIGNAL="USR1")
        program.do("hp")
        self.assertEqual(program.end(), (0, ""))
        self.assertEqual(program.told, ["mine"])
        self.assertEqual(program.files(), [])
        program = Program(self.directory, PROFILE_SIGNAL="USR1",
                          before=lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN))
        program.do("p")
        code, error = program.end()
        self.assertEqual(code, 0)
        self.assertIn("TARN_PROFILE_SIGNAL does nothing", error)
        self.assertEqual(program.files(), [])

    def test_by_growth(self):
        program = Program(self.directory, PROFILE_GROWTH="16MiB")
        program.do("kkkk")
        self.assertEqual(program.end(), (0, ""))
        # 136 MiB; the step begins anew where the one before was noticed.
        self.assertIn(len(program.files()), (7, 8))
        self.assertEqual(program.files(), program.names("growth", len(program.files())))
        for number in 2, 6:
            self.check(program.names("growth", number)[-1], 16 * number)

    def test_near_a_limit(self):
        for limit in "MEMORY_LIMIT", "HARD_LIMIT":
            # A soft limit counts what is resident: the program's 8 MiB of pointers are not.
            program = Program(self.directory, PROFILE_AT_LIMIT="45%", **{limit: "128MiB"})
            program.do("k")
            self.assertEqual(program.files(), [])
            program.do("k")
            self.assertEqual(program.end(), (0, ""))
            self.assertEqual(program.files(), program.names("limit", 1))
            os.remove(self.path(program.files()[0]))

    def test_files_of_others_stay(self):
        def take_names():
            with open("%s/p.%d.1.exit.pb" % (self.directory, os.getpid()), "w", encoding="utf-8") as file:
                file.write("theirs")
            os.symlink(self.directory + "/elsewhere", "%s/p.%d.2.exit.pb" % (self.directory, os.getpid()))

        program = Program(self.directory, PROFILE_AT_EXIT="on", before=take_names)
        program.do("k")
        self.assertEqual(program.end(), (0, ""))
        self.assertEqual(program.files(), program.names("exit", 3))
        with open(self.path(program.names("exit", 1)[0]), encoding="utf-8") as file:
            self.assertEqual(file.read(), "theirs")
        self.assertFalse(os.path.exists(self.directory + "/elsewhere"))
        self.check(program.names("exit", 3)[-1], 32)

    def test_failures_are_told_once(self):
        program = Program(self.directory, PROFILE_PREFIX="/nonexistent/p", PROFILE_SIGNAL="USR1", PROFILE_AT_EXIT="on")
        program.do("pp")
        self.assertEqual(program.end(), (0, "tarn: the heap profile /nonexistent/p.%d.1.signal.pb cannot be written: "
                                            "there is no such directory\n" % program.pid))

    def test_half_a_profile_is_none(self):
        def allow_little():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

        program = Program(self.directory, PROFILE_AT_EXIT="on", PROFILE_RATE="1", before=allow_little)
        code, error = program.end()
        self.assertEqual(code, 0)
        self.assertRegex(error, r"p\.\d+\.1\.exit\.pb cannot be written: ")
        self.assertEqual(program.files(), [])


if __name__ == "__main__":
    TARN, PROGRAM = sys.argv[1:3]
    if not shutil.which("go"):
        print("no go here; tools/install_packages test gets it")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
