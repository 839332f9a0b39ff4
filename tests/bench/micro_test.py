#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of bench/micro: what run does with results and failures, what compare.py makes of them,
and the real program for a moment. No test asserts a speed."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MICRO = os.path.join(ROOT, "bench", "micro")
sys.path.insert(0, MICRO)

import compare  # noqa: E402

BUILD = os.environ.get("TARN_BUILD", os.path.join(ROOT, "build"))
LIBRARY = os.path.realpath(os.environ.get("TARN_LIB", os.path.join(BUILD, "lib", "libtarn.so")))

# Where the library and the build are is no setting of tarn's, which would complain about it.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TARN_")}

# Stands in for build/bench/micro: writes a result that claims what its environment says.
FAKE = """#!{python}
import json, os, sys
options = dict(a.lstrip("-").split("=", 1) for a in sys.argv[1:])
library = os.environ.get("LD_PRELOAD")
with open({log!r}, "a") as log:
    log.write(library + " " + options["benchmark_filter"] + "\\n")
if os.path.basename(library).startswith("bad"):
    sys.exit("out of luck")
if os.path.basename(library).startswith("other"):
    library = "/usr/lib/other.so"
names = ["malloc", "free", "realloc", "aligned_alloc", "_Znwm"]
entry = {{"name": "pair", "run_type": "iteration", "repetition_index": 0, "items_per_second": 1e9}}
with open(options["benchmark_out"], "w") as out:
    json.dump({{"context": dict.fromkeys(names, library), "benchmarks": [entry]}}, out)
"""


def result(**times):
    return {"benchmarks": [
        {"name": name, "run_type": "iteration", "repetition_index": i, "items_per_second": 1e9 / ns}
        for name, values in times.items() for i, ns in enumerate(values)
    ]}


class InDirectory(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, document):
        with open(self.path(name), "w", encoding="utf-8") as file:
            json.dump(document, file)
        return self.path(name)

    def call(self, script, *arguments):
        return subprocess.run([os.path.join(MICRO, script), *arguments], capture_output=True, text=True, check=False,
                              timeout=100)


class CompareTest(InDirectory):
    def compare(self, *arguments):
        return self.call("compare.py", *arguments)

    def test_interval_of_median(self):
        self.assertIsNone(compare.interval_of_median([1, 2, 3, 4, 5]))
        # Six values: the median is outside of their range with probability 2 / 64.
        self.assertEqual(compare.interval_of_median([6, 5, 4, 3, 2, 1]), (1, 6))
        # Nine: (2nd, 8th) has 1 - 2 * (1 + 9) / 512 = 0.961; (3rd, 7th) would have 0.82.
        self.assertEqual(compare.interval_of_median(list(range(1, 10))), (2, 8))

    def test_table(self):
        mine = self.write("tarn.json", result(fast=[1] * 6, slow=[30] * 6, same=[10, 11, 9, 10, 11, 9]))
        others = [
            self.write("glibc.json", result(fast=[4] * 6, slow=[20] * 6, same=[10, 9, 11, 9, 10, 11])),
            self.write("peer.json", result(fast=[2] * 6, slow=[40] * 6)),
        ]
        printed = self.compare(*others, mine)
        self.assertEqual(printed.returncode, 0, printed.stderr)
        rows = {line.split()[0]: line.split() for line in printed.stdout.splitlines() if line}
        self.assertEqual(rows["benchmark"][:4], ["benchmark", "tarn", "glibc", "peer"])
        self.assertEqual(rows["fast"], ["fast", "1.0", "4.0", "2.0", "0.50", "0.50..0.50", "peer", "win"])
        self.assertEqual(rows["slow"], ["slow", "30.0", "20.0", "40.0", "1.50", "1.50..1.50", "glibc", "loss"])
        self.assertEqual(rows["same"][-1], "tie")
        self.assertIn("1 wins, 1 ties, 1 losses", printed.stdout)

    def test_ratios_are_of_the_same_round(self):
        # Round by round the same, although the machine was three times slower in some.
        times = [10, 30, 10, 30, 10, 30]
        subject = [value * 1.5 for value in times]
        comparison = compare.Comparison(subject, {"peer": times})
        self.assertEqual((comparison.interval, comparison.verdict()), ((1.5, 1.5), "loss"))

    def test_too_few_rounds_give_no_verdict(self):
        files = [self.write("tarn.json", result(one=[1] * 5)), self.write("peer.json", result(one=[2] * 5))]
        printed = self.compare(*files).stdout
        self.assertIn("Too few rounds", printed)
        self.assertNotIn("win", printed)

    def test_wrong_input(self):
        good = self.write("tarn.json", result(one=[1]))
        for arguments, code, text in (
            ([self.path("none.json")], 1, "No such file"),
            ([self.write("list.json", [])], 1, "is no result of build/bench/micro"),
            ([good, "--subject", "x"], 2, "there are tarn"),
            ([good, good], 2, "two files are named tarn"),
            ([], 2, "required"),
        ):
            printed = self.compare(*arguments)
            self.assertEqual((printed.returncode, text in printed.stderr), (code, True), printed.stderr)
            self.assertNotIn("Traceback", printed.stderr)


class RunTest(InDirectory):
    def setUp(self):
        super().setUp()
        for name in ("a.so", "b.so", "bad.so", "other.so"):
            self.write(name, "")
        with open(self.path("fake"), "w", encoding="utf-8") as file:
            file.write(FAKE.format(python=sys.executable, log=self.path("log")))
        os.chmod(self.path("fake"), 0o755)

    def run_fake(self, names, *arguments):
        allocators = ",".join(f"{name}={self.path(name)}.so" for name in names)
        return self.call("run", "--program", self.path("fake"), "--allocators", allocators, "-o", self.path("out"),
                         *arguments)

    def log(self):
        with open(self.path("log"), encoding="utf-8") as file:
            return file.read().splitlines()

    def test_rounds_are_interleaved_and_kept(self):
        printed = self.run_fake("ab", "--rounds", "6", "--filter", "pair")
        self.assertEqual(printed.returncode, 0, printed.stderr)
        lines = self.log()
        self.assertEqual(len(lines), 12)
        for first, second in zip(lines[::2], lines[1::2]):
            self.assertEqual({first, second}, {f"{self.path('a.so')} pair", f"{self.path('b.so')} pair"})
        with open(self.path("out/b.json"), encoding="utf-8") as file:
            kept = json.load(file)["benchmarks"]
        self.assertEqual([entry["repetition_index"] for entry in kept], list(range(6)))
        self.assertIn("0 wins, 1 ties, 0 losses", printed.stdout)

    def test_a_crash_leaves_the_others(self):
        printed = self.run_fake(["bad", "a", "b"], "--rounds", "2", "--subject", "a")
        self.assertEqual(printed.returncode, 1)
        self.assertIn("bad: exit code 1: out of luck", printed.stderr)
        self.assertEqual(sum("bad" in line for line in self.log()), 1)
        self.assertEqual(sorted(os.listdir(self.path("out"))), ["a.json", "b.json"])
        self.assertIn("pair", printed.stdout)

    def test_who_served_is_proven(self):
        printed = self.run_fake(["other", "a"], "--rounds", "1")
        self.assertEqual(printed.returncode, 1)
        self.assertIn("malloc is that of /usr/lib/other.so", printed.stderr)

    def test_wrong_arguments(self):
        for arguments, code, text in (
            (["--rounds", "0"], 2, "at least 1"),
            (["--min-time", "0"], 2, "above 0"),
            (["--allocators", "nobody"], 2, "neither NAME=PATH nor one of"),
            (["--allocators", "../x=/tmp/x.so"], 2, "characters"),
            (["--allocators", "x=/nowhere.so"], 1, "/nowhere.so is missing"),
            (["--program", "/nowhere", "--allocators", "glibc"], 1, "there is no /nowhere"),
        ):
            printed = self.call("run", *arguments[:2], *(arguments[2:] or ["--program", self.path("fake")]))
            self.assertEqual((printed.returncode, text in printed.stderr), (code, True), printed.stderr)
            self.assertNotIn("Traceback", printed.stderr)


class RealProgramTest(InDirectory):
    def test_runs_and_proves_its_allocator(self):
        printed = self.call("run", "--program", os.path.join(BUILD, "bench", "micro"), "--allocators",
                            f"glibc,tarn={LIBRARY}", "--filter", "^(pair_malloc/bytes:64|threads_pipe/.*threads:2)$",
                            "--rounds", "1", "--min-time", "0.001", "-o", self.path("out"))
        self.assertEqual(printed.returncode, 0, printed.stderr)
        self.assertEqual(len([line for line in printed.stdout.splitlines() if "glibc" in line and "?" in line]), 2,
                         printed.stdout)
        with open(self.path("out/tarn.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["context"]["_Znwm"], LIBRARY)

    def test_every_benchmark_runs(self):
        # Once each, so that none is broken; live_heap is the only one whose set-up takes long.
        program = os.path.join(BUILD, "bench", "micro")
        out = self.path("all.json")
        printed = subprocess.run(
            [program, "--benchmark_min_time=1e-9", "--benchmark_filter=-live_heap/objects:200000", f"--benchmark_out={out}"],
            env={**ENVIRONMENT, "LD_PRELOAD": LIBRARY}, capture_output=True, text=True, check=False, timeout=100)
        self.assertEqual(printed.returncode, 0, printed.stderr)
        self.assertGreater(len(compare.read_results(out)), 50)

    def test_no_such_benchmark(self):
        printed = subprocess.run([os.path.join(BUILD, "bench", "micro"), "--benchmark_filter=nothing"],
                                 capture_output=True, text=True, check=False, timeout=100)
        self.assertNotEqual(printed.returncode, 0)
        self.assertIn("--benchmark_list_tests", printed.stderr)

    def example(self, **environment):
        out = self.path("example.json")
        printed = subprocess.run(
            [os.path.join(BUILD, "bench", "count_allocations"), "--benchmark_min_time=0.001", f"--benchmark_out={out}"],
            env={**ENVIRONMENT, **environment}, capture_output=True, text=True, check=False, timeout=100)
        self.assertEqual(printed.returncode, 0, printed.stderr)
        with open(out, encoding="utf-8") as file:
            entries = json.load(file)["benchmarks"]
        return {entry["name"]: entry for entry in entries}, printed.stdout

    def test_example_counts_under_tarn(self):
        entries, console = self.example(LD_PRELOAD=LIBRARY)
        reserved = entries["JoinReserved"]
        self.assertEqual((reserved["allocs/iter"], reserved["bytes/iter"]), (1, 80))  # reserve(64) and the zero
        self.assertGreater(entries["JoinByStream"]["allocs/iter"], 1)
        self.assertGreaterEqual(reserved["allocs_per_iter"], 1)
        self.assertGreaterEqual(reserved["total_allocated_bytes"], 16 * 80)
        self.assertIn("allocs/iter=1", console)

    def test_example_runs_without_tarn(self):
        entries, console = self.example()
        self.assertNotIn("allocs/iter", entries["JoinReserved"])
        self.assertNotIn("allocs_per_iter", entries["JoinReserved"])
        self.assertNotIn("allocs", console)


if __name__ == "__main__":
    unittest.main()
