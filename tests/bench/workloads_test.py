#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of bench/workloads: checksums, figures, wrong arguments. No test asserts a speed.

Started by ctest. Every workload runs at a tiny scale, on libc's malloc and on tarn (TARN_LIB).
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WORKLOADS = os.path.join(ROOT, "bench", "workloads")
BUILT = os.path.join(os.environ["TARN_BUILD"], "bench")
LIBRARY = os.environ["TARN_LIB"]

# Each way a workload can go, at a size that takes a few milliseconds.
RUNS = [
    ("tiny_objects", "--scale 0.0005"),
    ("random_order", "--scale 0.001"),
    ("live_set", "--scale 0.001"),
    ("live_set", "--scale 0.001 --sizes 32KiB"),
    ("batches", "--scale 0.001"),
    ("batches", "--scale 0.001 --order fifo"),
    ("producer_consumer", "--scale 0.001"),
    ("producer_consumer", "--scale 0.001 --sizes 64 --pairs 2"),
    ("producer_consumer", "--scale 0.001 --sizes mixed"),
    ("mutual_free", "--scale 0.001"),
    ("mutual_free", "--scale 0.001 --sizes mixed --threads 5"),
    ("migration", "--scale 0.005"),
    ("migration", "--scale 0.005 --threads 128"),
    ("dying_threads", "--scale 0.005 --threads 3"),
    ("thread_churn", "--scale 0.001"),
    ("false_sharing", "--scale 0.01"),
    ("false_sharing", "--scale 0.01 --mode passive"),
    ("realloc_growth", "--scale 0.05 --most-mib 8"),
    ("realloc_growth", "--growth doubling --most-mib 16"),
    ("realloc_growth", "--growth doubling --most-mib 4 --arrays 3"),
    ("realloc_growth", "--growth small --scale 0.001"),
    ("large_blocks", "--scale 0.01 --live 3"),
    ("calloc_zeroed", "--scale 0.001"),
    ("calloc_zeroed", "--scale 0.05 --size large"),
    ("server_latency", "--scale 0.002"),
    ("start_up", "--scale 0.005"),
    ("start_up", "--scale 0.005 --program self"),
    ("fragmentation", "--scale 0.01 --idle-seconds 0"),
    ("fragmentation", "--scale 0.01 --phase-ms 1"),
    ("growing_sizes", "--scale 0.01"),
    ("memory_return", "--scale 0.05 --idle-seconds 0"),
    ("memory_return", "--scale 0.05 --idle-seconds 0 --bytes 64 --pin"),
    ("idle_return", "--scale 0.05 --idle-seconds 0"),
    ("peaks", "--scale 0.05 --peaks 2 --period-ms 1"),
    ("memory_return", "--scale 0.01 --idle-seconds 0 --locked"),
    ("idle_threads", "--threads 8"),
    ("starting_threads", "--threads 20"),
    ("growth", "--scale 0.005"),
    ("growth", "--scale 0.005 --timed"),
    ("sparse_blocks", "--blocks 5 --mib 9"),
    ("gone_threads", "--threads 20"),
    ("gone_threads", "--threads 20 --mode thread"),
    ("container", "--scale 0.1 --runs 2 --busy 1"),
    ("container", "--scale 0.1 --runs 1 --busy 0 --sizes large --limit-mib 32"),
    ("container", "--scale 0.1 --runs 1 --busy 0 --sizes mixed --threads 3 --live-percent 20"),
    ("container", "--runs 1 --busy 0 --work keep --threads 20 --live-percent 20"),
]
NAMES = sorted({name for name, _ in RUNS})


def run(name, arguments, preload=None, metrics=None):
    environment = {"PATH": os.environ["PATH"]}
    if preload:
        environment.update(LD_PRELOAD=preload, TARN_STRICT="1")
    if metrics:
        environment["BENCH_METRICS"] = metrics
    return subprocess.run(
        [os.path.join(BUILT, name), *arguments.split()],
        env=environment, capture_output=True, text=True, timeout=500, check=False,
    )


class WorkloadsTest(unittest.TestCase):
    def test_every_built_workload_is_tested_and_described(self):
        sources = {file[:-3] for file in os.listdir(WORKLOADS) if file.endswith(".cc")}
        self.assertEqual(sources - {"workload"}, set(NAMES))
        with open(os.path.join(WORKLOADS, "README.md"), encoding="utf-8") as file:
            described = set(re.findall(r"^\| `(\w+)", file.read(), re.MULTILINE))
        self.assertEqual(described, set(NAMES))

    def test_checksum_is_the_same_again_and_under_tarn(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "metrics.json")
            for name, arguments in RUNS:
                with self.subTest(workload=name, arguments=arguments):
                    libc = run(name, arguments, metrics=path)
                    self.assertEqual((libc.returncode, libc.stderr), (0, ""))
                    self.assertRegex(libc.stdout, r"\Achecksum (?!0{16})[0-9a-f]{16}\n\Z")
                    with open(path, encoding="utf-8") as file:
                        figures = json.load(file)
                    os.remove(path)
                    self.assertTrue(figures)
                    tarn = run(name, arguments, preload=LIBRARY)
                    self.assertEqual((tarn.returncode, tarn.stdout), (0, libc.stdout), tarn.stderr)
                    # Without BENCH_METRICS the same figures are for the reader.
                    self.assertEqual(set(json.loads(tarn.stderr)), set(figures))

    def test_checksum_depends_on_the_work(self):
        for name, more in (("live_set", "--scale 0.002"), ("batches", "--scale 0.002")):
            first = run(name, "--scale 0.001").stdout
            self.assertNotEqual(first, run(name, more).stdout)

    def test_latencies_are_in_order(self):
        figures = json.loads(run("server_latency", "--scale 0.002").stderr)
        self.assertGreater(figures["clock_overhead_ns"], 0)
        for call in ("malloc", "free", "request"):
            latency = figures["latency_ns"][call]
            values = [latency[part] for part in ("p50", "p99", "p999", "max")]
            self.assertEqual(values, sorted(values))
            self.assertGreater(values[-1], 0)

    def test_help(self):
        for name in NAMES:
            answer = run(name, "--help")
            self.assertEqual((answer.returncode, answer.stderr), (0, ""))
            self.assertIn("Usage: " + name, answer.stdout)

    def test_wrong_arguments_are_told_and_exit_with_2(self):
        wrong = [(name, "--no-such-option", "is not understood") for name in NAMES] + [
            ("tiny_objects", "--scale", "--scale needs a value"),
            ("tiny_objects", "--scale 0", "expected a number from 0.0001 to 1000"),
            ("tiny_objects", "--scale 1x", "expected a number from 0.0001 to 1000"),
            ("tiny_objects", "--scale nan", "expected a number from 0.0001 to 1000"),
            ("migration", "--threads -1", "expected a whole number from 1 to 1024"),
            ("migration", "--threads 2.5", "expected a whole number from 1 to 1024"),
            ("migration", "--threads 99999999999999999999999", "expected a whole number"),
            ("batches", "--order random", "expected one of lifo, fifo"),
            ("batches", "7", "\"7\" is not understood"),
        ]
        for name, arguments, complaint in wrong:
            with self.subTest(workload=name, arguments=arguments):
                answer = run(name, arguments)
                self.assertEqual((answer.returncode, answer.stdout), (2, ""))
                self.assertTrue(answer.stderr.startswith(name + ": "), answer.stderr)
                self.assertIn(complaint, answer.stderr)
                self.assertIn("--help", answer.stderr)

    def test_figures_that_cannot_be_written_are_an_error(self):
        answer = run("tiny_objects", "--scale 0.0001", metrics="/nonexistent/metrics.json")
        self.assertEqual(answer.returncode, 1)
        self.assertIn("cannot write BENCH_METRICS=/nonexistent/metrics.json", answer.stderr)
        answer = run("tiny_objects", "--scale 0.0001", metrics="/dev/full")
        self.assertEqual(answer.returncode, 1)


if __name__ == "__main__":
    unittest.main()
