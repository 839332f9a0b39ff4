#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Profiles of a C++ program as Go's own pprof shows them.

The program, profile_target.cc, is built in every way in which names are found or lost. It is optimised with debug
information, at fixed and at random addresses, by gcc and by clang. The debug information lies in a file of its own
(found by link and by build-id), or there is a table of symbols alone, or nothing. One program is deleted while it runs.
Functions, files, lines and inlined frames must be the right ones each time, or honestly missing.

Usage: profile_pprof_test.py PROFILE_MAKE COMPILER
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from patience import PATIENCE_SECONDS

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.join(HERE, "profile_target.cc")
MAKE = COMPILER = None


def marked_lines():
    """The numbers of the lines that profile_target.cc marks."""
    with open(SOURCE, encoding="utf-8") as file:
        found = [(re.search(r"//@ (\S+)", line), number) for number, line in enumerate(file, 1)]
    return {match.group(1): number for match, number in found if match}


LINE = marked_lines()


def run(*command, **options):
    result = subprocess.run(command, text=True, capture_output=True, timeout=PATIENCE_SECONDS, check=False, **options)
    if result.returncode != 0:
        raise AssertionError("%s: exit code %d\n%s" % (" ".join(command), result.returncode, result.stderr))
    return result


def pprof(*arguments):
    """Returns the output of `go tool pprof`. A complaint of it on the way is a failure, too."""
    environment = dict(os.environ, HOME=tempfile.gettempdir(), PPROF_TMPDIR=tempfile.gettempdir())
    result = run("go", "tool", "pprof", *arguments, env=environment)
    complaints = [line for line in result.stderr.splitlines() if re.search("fail|error|warn|could not", line, re.I)]
    if complaints:
        raise AssertionError("go tool pprof %s: %s" % (" ".join(arguments), complaints))
    return result.stdout


def stacks(path):
    """{object size: [(function, line or None), ...], the innermost first}, from pprof -raw."""
    text = pprof("-raw", path)
    samples, rest = text.split("\nLocations\n")
    locations_text = rest.split("\nMappings\n")[0]
    locations, current = {}, None
    for line in locations_text.splitlines():
        match = re.match(r"\s+(\d+): 0x[0-9a-f]+ (?:M=\d+ )?(.*)", line)
        if match:
            current = locations.setdefault(match.group(1), [])
            line = match.group(2)
        name, file, number = re.match(r"\s*(.+?) (\S*):(\d+)", line).groups()
        current.append((name, int(number) if file == SOURCE else None))
    result = {}
    for line in samples.splitlines():
        match = re.match(r"\s+1\s+(\d+)\s+1\s+\d+: ([\d ]+)", line)
        if match:
            result[int(match.group(1))] = [frame for key in match.group(2).split() for frame in locations[key]]
    return result


class Pprof(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="profile_pprof_test.")
        cls.pie = cls.build("pie", "-fPIE", "-pie")
        cls.debug = cls.path("pie.debug")
        run("objcopy", "--only-keep-debug", cls.pie, cls.debug)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.directory)

    @classmethod
    def path(cls, name):
        return os.path.join(cls.directory, name)

    @classmethod
    def build(cls, name, *flags, compiler=None):
        program = cls.path(name)
        run(compiler or COMPILER, "-std=c++20", "-O2", "-g", "-Wl,--build-id", *flags, SOURCE, "-o", program)
        return program

    def profile(self, program, *arguments, while_it_runs=lambda: None, notes=""):
        """The path of a profile of the program. `notes` is a pattern of what profile_make has to say."""
        output = self.path("profile.pb.gz")
        with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            lines = []
            while (line := process.stdout.readline()) != "end\n":
                self.assertTrue(line, "the program ended too early")
                lines.append(line)
            while_it_runs()
            made = run(MAKE, str(process.pid), output, *arguments, input="".join(lines))
            process.stdin.close()
        self.assertRegex(made.stderr, "^(%s)$" % notes)
        return output

    def expect_everything(self, path):
        """All functions and lines; the sizes are those that profile_target.cc gives to its stacks."""
        found = stacks(path)
        build = "(anonymous namespace)::Build"
        grow = [("Store<int>::Insert", LINE["insert"]), ("Store<int>::Grow", LINE["grow"])]
        helper = [("Store<int>::Insert", LINE["insert"]), ("(anonymous namespace)::Helper", LINE["helper"])]
        self.assertEqual(found[64][:3], grow + [(build, LINE["build-grow"])])
        self.assertEqual(found[64][3][0], "main")
        self.assertEqual(found[100][:3], helper + [(build, LINE["build-helper"])])
        self.assertEqual(found[200][:3], grow + [("plain_c_function", LINE["c"])])
        self.assertEqual(found[300], [("[anon]", None), (build, found[300][1][1])])
        self.assertEqual(found[800][:2], grow)
        self.assertEqual(found[800][2][1], LINE["function"])
        # The lambda is called differently by each compiler, but it is main's, and inlined there.
        insert, (name, line), main = found[500][:3]
        self.assertEqual((insert, line, main), (grow[0], LINE["lambda"], ("main", LINE["main-lambda"])))
        self.assertRegex(name, r"^main::.*operator\(\)$")

    def expect_functions(self, path):
        """The names of the functions that were not inlined."""
        names = {size: [name for name, _ in stack] for size, stack in stacks(path).items()}
        build = "(anonymous namespace)::Build"
        self.assertEqual(names[64][:3], ["Store<int>::Grow", build, "main"])
        self.assertEqual(names[100][:2], [build, "main"])
        self.assertEqual(names[200][:3], ["Store<int>::Grow", "plain_c_function", "main"])

    def test_random_addresses(self):
        path = self.profile(self.pie)
        self.expect_everything(path)
        top = pprof("-top", path)
        self.assertIn("Type: inuse_space", top)
        self.assertRegex(top, r"(?m)^ +1664B .* Store<int>::Insert \(inline\)$")
        self.assertRegex(top, r"(?m)^ +0 .* 1664B 84.73%  main$")
        self.assertRegex(pprof("-top", "-sample_index=alloc_objects", path), r"(?m)^ +5 .* Store<int>::Insert")
        source = pprof("-source_path=" + HERE, "-list", "Grow", path)
        self.assertRegex(source, r"(?m)1.*\b%d:.*Insert\(value\);" % LINE["grow"])
        same = pprof("-top", "-diff_base", path, path)
        self.assertRegex(same, "Showing nodes accounting for 0,")

    def test_fixed_addresses(self):
        self.expect_everything(self.profile(self.build("fixed", "-fno-pie", "-no-pie")))

    def test_clang(self):
        clang = shutil.which("clang++-14") or self.skipTest("no clang++-14 here")
        self.expect_everything(self.profile(self.build("clang", compiler=clang)))

    def test_debug_information_beside_it(self):
        program = self.path("linked")
        run("objcopy", "--strip-all", "--add-gnu-debuglink=" + self.debug, self.pie, program)
        self.expect_everything(self.profile(program))

    def test_debug_information_by_build_id(self):
        program = self.path("bare")
        run("objcopy", "--strip-all", self.pie, program)
        notes = run("readelf", "--notes", program).stdout
        build_id = re.search("Build ID: ([0-9a-f]+)", notes).group(1)
        where = self.path("debug/.build-id/" + build_id[:2])
        os.makedirs(where)
        shutil.copy(self.debug, os.path.join(where, build_id[2:] + ".debug"))
        self.expect_everything(self.profile(program, self.path("debug")))
        # Without it the program is all that can be said, and pprof does not go looking.
        stripped = stacks(self.profile(program))
        self.assertEqual(stripped[64][:3], [("[bare]", None)] * 3)

    def test_symbols_alone(self):
        program = self.path("symbols")
        run("objcopy", "--strip-debug", self.pie, program)
        self.expect_functions(self.profile(program))

    def test_deleted_while_it_runs(self):
        program = self.path("deleted")
        shutil.copy(self.pie, program)
        self.expect_everything(self.profile(program, while_it_runs=lambda: os.unlink(program)))

    def test_replaced_while_it_runs(self):
        program = self.path("replaced")
        shutil.copy(self.pie, program)

        def replace():
            os.unlink(program)
            shutil.copy("/bin/true", program)

        # The program is found behind /proc/PID/exe all the same, and not mistaken for what stands in its place.
        self.expect_everything(self.profile(program, while_it_runs=replace))


if __name__ == "__main__":
    MAKE, COMPILER = sys.argv[1:3]
    if not shutil.which("go"):
        print("no go here; tools/install_packages test gets it")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1])
