#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of bench/run: the options of its script, the definitions that it measures, and one tiny workload.

No test asserts a speed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ["TARN_BUILD"]
TARN = os.path.join(BUILD, "bin", "tarn")
RUN = os.path.join(ROOT, "bench", "run")
FILES = [os.path.join(ROOT, "bench", name) for name in ("workloads/workloads.json", "traces/traces.json")]
# Settings of tarn in the caller's environment would reach the programs.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("TARN_", "LD_"))}
TIMEOUT_S = 700
TINY = ("--only", "^tiny_objects$", "--blocks", "2", "--against", "glibc", "--seed", "1")

# Stands in for the tool: writes its arguments, and ends with the exit code that the file beside it has.
FAKE_TOOL = """#!/bin/sh
printf '%s\\n' "$@"
exit "$(cat "$(dirname "$0")/code")"
"""


def definitions():
    found = []
    for file in FILES:
        with open(file, encoding="utf-8") as opened:
            found += json.load(opened)
    return found


class InDirectory(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="tarn-run-test-")
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def path(self, name):
        return os.path.join(self.directory, name)


class ScriptTest(InDirectory):
    def setUp(self):
        super().setUp()
        os.makedirs(self.path("bench"))
        os.makedirs(self.path("build/bin"))
        self.script = shutil.copy(RUN, self.path("bench/run"))
        with open(self.path("build/bin/tarn"), "w", encoding="utf-8") as file:
            file.write(FAKE_TOOL)
        os.chmod(file.name, 0o755)

    def call(self, *arguments, tool_ends_with=0):
        with open(self.path("build/bin/code"), "w", encoding="utf-8") as file:
            file.write(str(tool_ends_with))
        done = subprocess.run([self.script, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
                              env=ENVIRONMENT, stdin=subprocess.DEVNULL)
        lines = [os.path.normpath(line) if "/" in line else line for line in done.stdout.splitlines()]
        return done.returncode, lines, done.stderr

    def test_arguments_of_the_tool(self):
        words = ["compare", *(word for name in ("workloads/workloads", "traces/traces")
                              for word in ("--workload", self.path(f"bench/{name}.json"))), "--amount"]
        peers = ["--against", "glibc,mimalloc,jemalloc,tcmalloc", "--skip-missing", "-o", self.path("build/bench-results")]
        out = self.path("out")
        for arguments, expected in (
            ((), [*words, "quick", *peers, "--within", "280s"]),
            (("--quick",), [*words, "quick", *peers, "--within", "280s"]),
            (("--full",), [*words, "full", *peers]),
            # Some of the workloads are measured in full, however long it takes.
            (("--only", "a b|c"), [*words, "quick", *peers, "--only", "a b|c"]),
            # Who names the peers wants them all.
            (("--against", "glibc,b=c", f"--output={out}", "--full", "--blocks", "9", "--seed=7", "--library", "d"),
             [*words, "full", "--against", "glibc,b=c", "-o", out, "--runs", "9", "--seed", "7", "--library", "d"]),
            (("--list", "-o", out), [*words, "quick", *peers[:3], "-o", out, "--list", "--within", "280s"]),
            (("--compare", "a.json", "b.json", "-o", out), ["report", "a.json", "b.json", "-o", out + "/comparison.html"]),
        ):
            with self.subTest(arguments):
                self.assertEqual(self.call(*arguments), (0, expected, ""))

    def test_exit_codes_are_those_of_the_tool(self):
        for code in (0, 1, 2, 3, 130):
            self.assertEqual(self.call(tool_ends_with=code)[0], code)
            self.assertEqual(self.call("--compare", "a", "b", tool_ends_with=code)[0], code)

    def test_wrong_arguments(self):
        for arguments, code, said in (
            (("--blocks", "0"), 2, "expected a whole number from 1"),
            (("--seed", "x"), 2, "above 0"),
            (("--quick", "--full"), 2, "exclude each other"),
            (("--only",), 2, "--only needs a value"),
            (("--compare", "a"), 2, "needs two values"),
            (("--frobnicate",), 2, "unknown option --frobnicate"),
            (("live_set",), 2, "unknown option live_set"),
            (("--build", "/nonexistent"), 1, "build it"),
            (("-o", "/dev/null/x"), 1, "Not a directory"),
        ):
            with self.subTest(arguments):
                result = self.call(*arguments)
                self.assertEqual(result[:2], (code, []))
                self.assertIn(said, result[2])

    def test_help(self):
        code, out, _ = self.call("--help")
        self.assertEqual(code, 0)
        self.assertIn("Usage: bench/run [OPTION...]", out)


class DefinitionTest(unittest.TestCase):
    def test_every_program_and_every_trace_is_measured(self):
        programs = {one["command"][0].removeprefix("{build}/bench/") for one in definitions()}
        workloads = {name[:-3] for name in os.listdir(os.path.join(ROOT, "bench", "workloads")) if name.endswith(".cc")}
        self.assertEqual(programs, workloads - {"workload"} | {"replay"})
        traces = sorted(one["command"][1] for one in definitions() if one["name"].startswith("trace_"))
        self.assertEqual(traces, sorted("{here}/" + name for name in os.listdir(os.path.join(ROOT, "bench", "traces"))
                                        if name.endswith(".trace")))

    def test_each_says_what_counts_in_each_mode(self):
        for one in definitions():
            with self.subTest(one["name"]):
                self.assertTrue(one["description"].endswith("."))
                (measure,) = one["measures"]
                self.assertTrue(measure["title"])
                self.assertLessEqual({"full"}, set(one["amounts"]))
                self.assertLessEqual(set(one["amounts"]), {"quick", "full"})
                self.assertTrue(all(amount["runs"] > 1 for amount in one["amounts"].values()))

    @unittest.skipUnless(os.access(TARN, os.X_OK), "the tarn command was not built")
    def test_the_list_of_a_mode(self):
        for mode in ("quick", "full"):
            done = subprocess.run([RUN, "--build", BUILD, f"--{mode}", "--list"], capture_output=True, text=True,
                                  timeout=TIMEOUT_S, check=False, env=ENVIRONMENT)
            self.assertEqual(done.returncode, 0, done.stderr)
            listed = {line.split()[0] for line in done.stdout.splitlines()[::2]}
            # Placements that the machine does not have, and programs that need what is not installed.
            missing = {line.split(": ")[3] for line in done.stderr.splitlines() if "is not installed" not in line}
            expected = set()
            for one in definitions():
                if mode in one["amounts"]:
                    places = one["amounts"][mode].get("placements", [])
                    expected |= {one["name"], *(f"{one['name']}@{place}" for place in places)}
            self.assertEqual(listed | missing, expected)
            self.assertIn("(RSS kept 1 s later)", done.stdout)


@unittest.skipUnless(os.access(TARN, os.X_OK) and os.path.exists(os.path.join(BUILD, "bench", "tiny_objects")),
                     "the tool or the benches are not built")
class RunTest(InDirectory):
    def start(self, *arguments):
        return subprocess.Popen([RUN, "--build", BUILD, "-o", self.directory, *arguments], text=True, env=ENVIRONMENT,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run_bench(self, *arguments, code=0):
        with self.start(*arguments) as process:
            stdout, stderr = process.communicate(timeout=TIMEOUT_S)
        self.assertEqual(process.returncode, code, stdout + stderr)
        return stdout, stderr

    def results(self):
        with open(self.path("results.json"), encoding="utf-8") as file:
            return json.load(file)

    def test_one_workload(self):
        stdout, stderr = self.run_bench(*TINY)
        self.assertRegex(stdout, r"(?m)^tiny_objects +CPU time ")
        self.assertIn(self.path("results.json"), stderr)
        document = self.results()
        self.assertEqual(document["schema"], "tarn-bench/1")
        (workload,) = document["workloads"]
        self.assertEqual(workload["name"], "tiny_objects")
        self.assertEqual(workload["result"], {"measure": "cpu_s", "title": "CPU time"})
        self.assertEqual({run["block"] for run in workload["runs"]}, {0, 1})
        self.assertTrue(all(run["proven"] for run in workload["runs"]))
        self.assertEqual({run["allocator"] for run in workload["runs"]}, {"glibc", "tarn"})
        self.assertTrue(any(run["control"] for run in workload["runs"]))
        self.assertEqual(len({run["output_sha256"] for run in workload["runs"]}), 1)
        self.assertIn("logical_cpus", document["machine"])
        with open(self.path("report.html"), encoding="utf-8") as file:
            self.assertIn("tiny_objects", file.read())
        results = self.path("results.json")
        compared, _ = self.run_bench("--compare", results, results)
        self.assertIn("0 regressions", compared)
        self.assertTrue(os.path.exists(self.path("comparison.html")))

    def test_interrupted(self):
        arguments = ("--full", "--only", "^(tiny_objects|idle_return)$", "--blocks", "1", "--against", "glibc")
        with self.start(*arguments) as process:
            # The first workload is done when its result is there; the second one takes a minute.
            deadline = time.monotonic() + TIMEOUT_S / 2
            while not os.path.exists(self.path("results.json")) and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=TIMEOUT_S / 2)
        self.assertEqual(process.returncode, 130, stdout + stderr)
        document = self.results()
        self.assertTrue(document["interrupted"])
        self.assertEqual(document["workloads"][0]["name"], "tiny_objects")
        self.assertTrue(os.path.exists(self.path("report.html")))

    def test_a_workload_of_the_other_mode(self):
        _, stderr = self.run_bench("--only", "^idle_return$", code=2)
        self.assertIn("idle_return has --amount full", stderr)


if __name__ == "__main__":
    unittest.main()
