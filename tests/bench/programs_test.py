#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of bench/programs: the options of its script, the definitions, and redis-server with little to do.

No test asserts a speed.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAMS = os.path.join(ROOT, "bench", "programs")
TARN = os.path.join(os.environ["TARN_BUILD"], "bin", "tarn")
# Settings of tarn in the caller's environment would reach the programs.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("TARN_", "LD_"))}
TIMEOUT_S = 700
NAMES = ["python-malloc", "python", "redis", "g++", "sqlite3", "word_index", "perl", "git"]

# Stands in for the tool: writes its arguments, and ends with the exit code that the file beside it has.
FAKE_TOOL = """#!/bin/sh
printf '%s\\n' "$@"
exit "$(cat "$(dirname "$0")/code")"
"""


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=ENVIRONMENT,
                          stdin=subprocess.DEVNULL, **options)


class InDirectory(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="tarn-programs-test-")
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def path(self, name):
        return os.path.join(self.directory, name)


class ScriptTest(InDirectory):
    def setUp(self):
        super().setUp()
        os.makedirs(self.path("bench/programs"))
        os.makedirs(self.path("build/bin"))
        self.script = shutil.copy(os.path.join(PROGRAMS, "run"), self.path("bench/programs/run"))
        self.tool = self.path("build/bin/tarn")
        with open(self.tool, "w", encoding="utf-8") as file:
            file.write(FAKE_TOOL)
        os.chmod(self.tool, 0o755)

    def call(self, *arguments, tool_ends_with=0):
        with open(self.path("build/bin/code"), "w", encoding="utf-8") as file:
            file.write(str(tool_ends_with))
        done = run([self.script, *arguments])
        return done.returncode, done.stdout.splitlines(), done.stderr

    def test_arguments_of_the_tool(self):
        def words(*programs):
            return [word for name in programs
                    for word in ("--workload", self.path(f"bench/programs/../../bench/programs/{name}.json"))]

        def normal(lines):
            return [os.path.normpath(line) if "/" in line else line for line in lines]

        for arguments, expected in (
            ((), ["--runs", "5", "--no-control", *words(*NAMES)]),
            (("--quick", "--programs", "g++,redis"), ["--runs", "2", "--no-control", *words("g++", "redis")]),
            (("--control", "--runs", "9", "--programs", "perl", "--seed", "7", "--against", "a,b=c"),
             ["--runs", "9", "--seed", "7", "--against", "a,b=c", *words("perl")]),
            (("-o", self.path("x.json"), "--programs", "git"),
             ["--runs", "5", "--no-control", "-o", self.path("x.json"), *words("git")]),
        ):
            with self.subTest(arguments):
                self.assertEqual(self.call(*arguments), (0, unittest.mock.ANY, ""))
                self.assertEqual(normal(self.call(*arguments)[1]), normal(["compare", *expected]))

    def test_exit_codes(self):
        for code, expected in ((0, 0), (1, 1), (2, 2), (3, 1), (130, 130)):
            self.assertEqual(self.call(tool_ends_with=code)[0], expected)

    def test_wrong_arguments(self):
        for arguments, said in (
            (["--runs", "0"], "expected a whole number from 1"),
            (["--runs", "many"], "expected a whole number"),
            (["--runs"], "--runs needs a value"),
            (["--quick", "--runs", "3"], "exclude each other"),
            (["--programs", "python,nosuch"], 'no program "nosuch"'),
            (["--programs", "perl,perl"], "named twice"),
            (["--programs", ""], "names none"),
            (["--seed", "0"], "above 0"),
            (["-o", "/nonexistent/file"], "no such directory"),
            (["--frobnicate"], "unknown option --frobnicate"),
        ):
            with self.subTest(arguments):
                code, out, err = self.call(*arguments)
                self.assertEqual((code, out), (2, []))
                self.assertIn(said, err)

    def test_nothing_is_measured_for_a_check_or_for_help(self):
        os.unlink(self.tool)
        self.assertEqual(self.call("--only-check-arguments", "--quick"), (0, [], ""))
        code, out, _ = self.call("--help")
        self.assertEqual((code, out[0][:24]), (0, "Usage: tools/quickstart "))
        code, out, err = self.call()
        self.assertEqual((code, out), (1, []))
        self.assertIn("tools/quickstart builds it", err)


@unittest.skipUnless(os.access(TARN, os.X_OK), "the tarn command was not built")
class DefinitionTest(InDirectory):
    def test_every_definition_can_be_read(self):
        files = sorted(name[:-5] for name in os.listdir(PROGRAMS) if name.endswith(".json"))
        self.assertEqual(files, sorted([*NAMES, "observed"]))
        workloads = [word for name in files for word in ("--workload", os.path.join(PROGRAMS, name + ".json"))]
        done = run([TARN, "compare", "--list", "--skip-missing", *workloads])
        self.assertEqual(done.returncode, 0, done.stderr)
        listed = [line.split()[0] for line in done.stdout.splitlines()[::2]]
        missing = [line.split()[4].rstrip(":") for line in done.stderr.splitlines() if "is missing" in line]
        self.assertEqual(sorted(listed + missing), files)

    @unittest.skipUnless(shutil.which("redis-server") and shutil.which("redis-benchmark"), "redis is not installed")
    def test_redis(self):
        with open(os.path.join(PROGRAMS, "redis.json"), encoding="utf-8") as file:
            text = file.read()
        self.assertIn('"160000"', text)
        with open(self.path("redis.json"), "w", encoding="utf-8") as file:
            file.write(text.replace('"160000"', '"1600"').replace("{here}", PROGRAMS))
        done = run([TARN, "compare", "--workload", self.path("redis.json"), "--against", "glibc", "--runs", "1",
                    "--no-control", "--json"])
        self.assertEqual(done.returncode, 0, done.stderr)
        (workload,) = json.loads(done.stdout)["workloads"]
        self.assertEqual(workload["operations"], "requests")
        self.assertEqual(len({run["output_sha256"] for run in workload["runs"]}), 1)
        for one in workload["runs"]:
            self.assertTrue(one["proven"])
            self.assertEqual(one["metrics"], {"operations": 9 * 1600})

    @unittest.skipUnless(shutil.which("redis-server") and shutil.which("redis-benchmark"), "redis is not installed")
    def test_a_program_that_is_observed(self):
        done = run([TARN, "compare", "--workload", os.path.join(PROGRAMS, "observed.json"), "--env", "REQUESTS=1000",
                    "--against", "heap=tarn:READER=heap,stat=tarn:READER=stat,off=tarn:TARN_PROFILE_RATE=0",
                    "--reference", "tarn", "--runs", "1", "--no-control", "--json"])
        self.assertEqual(done.returncode, 0, done.stderr)
        document = json.loads(done.stdout)
        self.assertEqual({one["name"]: one["environment"] for one in document["allocators"]},
                         {"heap": ["READER=heap"], "stat": ["READER=stat"], "off": ["TARN_PROFILE_RATE=0"], "tarn": []})
        self.assertEqual(document["workloads"][0]["errors"], [])
        done = run([TARN, "compare", "--workload", os.path.join(PROGRAMS, "observed.json"), "--env", "READER=nobody",
                    "--against", "glibc", "--runs", "1"])
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("expected stat, top or heap", done.stdout)


if __name__ == "__main__":
    unittest.main()
