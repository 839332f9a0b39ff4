#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of bench/micro: each benchmark for a moment, the rows for `tarn compare`, and the example.

No test asserts a speed.
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("TARN_BUILD", os.path.join(ROOT, "build"))
LIBRARY = os.path.realpath(os.environ.get("TARN_LIB", os.path.join(BUILD, "lib", "libtarn.so")))
PROGRAM = os.path.join(BUILD, "bench", "micro")
TARN = os.path.join(BUILD, "bin", "tarn")
DEFINITIONS = os.path.join(ROOT, "bench", "micro", "micro.json")
# Settings of tarn in the caller's environment would reach the programs.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TARN_")}


class MicroTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def path(self, name):
        return os.path.join(self.directory, name)

    def run_micro(self, *options, **environment):
        return subprocess.run([PROGRAM, *options], env={**ENVIRONMENT, **environment}, capture_output=True, text=True,
                              check=False, timeout=500)

    def test_every_benchmark_has_a_row_and_a_definition(self):
        # Once each, so that none is broken; live_heap is the only one that takes long to set up.
        listed = self.run_micro("--benchmark_list_tests=true").stdout.split()
        rows = self.path("rows")
        printed = self.run_micro("--benchmark_min_time=1e-9", "--benchmark_filter=-live_heap/objects:200000",
                                 LD_PRELOAD=LIBRARY, BENCH_METRICS=rows)
        self.assertEqual((printed.returncode, printed.stderr.count("cannot")), (0, 0), printed.stderr)
        with open(rows, encoding="utf-8") as file:
            written = json.load(file)["rows"]
        names = [row["name"] for row in written]
        self.assertEqual(names, [name for name in listed if name != "live_heap/objects:200000"])
        self.assertTrue(all(row["item_ns"] > 0 for row in written))
        # No figure is on stdout, which is compared between allocators.
        self.assertEqual(printed.stdout.split(), names)
        with open(DEFINITIONS, encoding="utf-8") as file:
            filters = [word.removeprefix("--benchmark_filter=^") for definition in json.load(file)
                       for word in definition["command"] if word.startswith("--benchmark_filter=")]
        self.assertEqual([sum(name.startswith(start) for start in filters) for name in listed], [1] * len(listed))

    def test_rows_that_cannot_be_written(self):
        for path, said in (("/nonexistent/rows", "cannot write /nonexistent/rows"), ("/dev/full", "cannot write all")):
            printed = self.run_micro("--benchmark_min_time=1e-9", "--benchmark_filter=aligned_new", BENCH_METRICS=path)
            self.assertEqual(printed.returncode, 1)
            self.assertIn(said, printed.stderr)

    @unittest.skipUnless(os.access(TARN, os.X_OK), "the tarn command was not built")
    def test_the_tool_compares_rows(self):
        printed = subprocess.run(
            [TARN, "compare", "--workload", DEFINITIONS, "--only", "^aligned$", "--against", "glibc", "--library", LIBRARY,
             "--runs", "1", "--no-control", "--json"],
            env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=500)
        self.assertEqual(printed.returncode, 0, printed.stderr)
        workloads = json.loads(printed.stdout)["workloads"]
        self.assertIn("aligned/aligned_new_64/bytes:64", [workload["name"] for workload in workloads])
        for workload in workloads:
            self.assertEqual(workload["result"]["measure"], "metrics.item_ns")
            self.assertEqual(workload["errors"], [])
            self.assertTrue(all(run["proven"] for run in workload["runs"]))

    def test_no_such_benchmark(self):
        printed = subprocess.run([PROGRAM, "--benchmark_filter=nothing"],
                                 capture_output=True, text=True, check=False, timeout=500)
        self.assertNotEqual(printed.returncode, 0)
        self.assertIn("--benchmark_list_tests", printed.stderr)

    def example(self, **environment):
        out = self.path("example.json")
        printed = subprocess.run(
            [os.path.join(BUILD, "bench", "count_allocations"), "--benchmark_min_time=0.001", f"--benchmark_out={out}"],
            env={**ENVIRONMENT, **environment}, capture_output=True, text=True, check=False, timeout=500)
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
