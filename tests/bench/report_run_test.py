#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of bench/run with one tiny workload: results, report, interruption, a full disk, wrong arguments; and of the quick
mode's end with workloads that take too long."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ["TARN_BUILD"]
RUN = os.path.join(ROOT, "bench", "run")
TINY = ("--only", "^tiny_objects$", "--blocks", "2", "--against", "glibc", "--seed", "1")


@unittest.skipUnless(os.path.exists(os.path.join(BUILD, "bench", "tiny_objects")), "the benches are not built")
class RunTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.output = directory.name

    def start(self, *arguments):
        return subprocess.Popen([sys.executable, RUN, "--build", BUILD, *arguments], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run_bench(self, *arguments, code=0):
        with self.start(*arguments) as process:
            stdout, stderr = process.communicate(timeout=100)
        self.assertEqual(process.returncode, code, stdout + stderr)
        return stdout, stderr

    def results(self):
        with open(os.path.join(self.output, "results.json"), encoding="utf-8") as file:
            return json.load(file)

    def test_one_workload(self):
        stdout, _ = self.run_bench(*TINY, "-o", self.output)
        self.assertIn("tiny_objects", stdout)
        document = self.results()
        self.assertEqual(document["schema"], "tarn-bench/1")
        (workload,) = document["workloads"]
        self.assertEqual(workload["name"], "tiny_objects")
        self.assertEqual(workload["result"]["measure"], "cpu_s")
        self.assertTrue(all(run["proven"] for run in workload["runs"]))
        self.assertEqual({run["allocator"] for run in workload["runs"]}, {"glibc", "tarn"})
        self.assertTrue(any(run["control"] for run in workload["runs"]))
        self.assertEqual(len({run["output_sha256"] for run in workload["runs"]}), 1)
        self.assertIn("logical_cpus", document["machine"])
        with open(os.path.join(self.output, "report.html"), encoding="utf-8") as file:
            self.assertIn("tiny_objects", file.read())
        results = os.path.join(self.output, "results.json")
        compared, _ = self.run_bench("--compare", results, results, "-o", self.output)
        self.assertIn("0 regressions", compared)

    def test_interrupted(self):
        arguments = ("--full", "--only", "^(tiny_objects|idle_return)$", "--blocks", "1", "--against", "glibc")
        with self.start(*arguments, "-o", self.output) as process:
            # The first workload is done when its result is there; the second one takes a minute.
            deadline = time.monotonic() + 60
            while not os.path.exists(os.path.join(self.output, "results.json")) and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, stdout + stderr)
        document = self.results()
        self.assertTrue(document["interrupted"])
        self.assertEqual(document["workloads"][0]["name"], "tiny_objects")
        self.assertTrue(os.path.exists(os.path.join(self.output, "report.html")))

    def test_a_disk_that_was_full_for_a_while(self):
        # The new document is written beside the old one; the first attempt meets a full disk.
        os.symlink("/dev/full", os.path.join(self.output, "results.json.new"))
        _, stderr = self.run_bench(*TINY, "-o", self.output)
        self.assertIn("No space left", stderr)
        self.assertEqual(self.results()["workloads"][0]["name"], "tiny_objects")

    def test_results_that_cannot_be_written(self):
        os.mkdir(os.path.join(self.output, "results.json"))
        stdout, stderr = self.run_bench(*TINY, "-o", self.output, code=1)
        self.assertEqual(json.loads(stdout)["workloads"][0]["name"], "tiny_objects")
        self.assertIn("the results stand on stdout", stderr)

    def test_wrong_arguments(self):
        for arguments, code, said in (
            (("--only", "no_such"), 2, "no workload matches"),
            (("--only", "("), 2, "no regular expression"),
            (("--only", "idle_return"), 2, "--full"),
            (("--blocks", "0"), 2, "at least 1"),
            (("--quick", "--full"), 2, "not allowed"),
            ((*TINY[:4], "--against", "glibc,no_such"), 2, "no_such"),
            (("--build", "/nonexistent", *TINY), 1, "build it"),
            (("--compare", "/nonexistent", "/nonexistent"), 1, "/nonexistent"),
        ):
            with self.subTest(arguments=arguments):
                _, stderr = self.run_bench("-o", self.output, *arguments, code=code)
                self.assertIn(said, stderr)


# In the place of the tool: a workload whose name begins with slow is measured until it is told to stop.
FAKE_TOOL = """#!/usr/bin/env python3
import json, signal, sys
arguments = sys.argv[1:]
if arguments[0] == "machine":
    print("{}")
if arguments[0] != "compare":
    sys.exit(0)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
name = arguments[arguments.index("--name") + 1]
if name.startswith("slow"):
    signal.sigtimedwait([signal.SIGINT], 60)
with open(arguments[arguments.index("-o") + 1], "w") as file:
    json.dump({"schema": "tarn-bench/1", "interrupted": name.startswith("slow"), "workloads": [{"name": name}]}, file)
sys.exit(130 if name.startswith("slow") else 0)
"""


class QuickModeTest(unittest.TestCase):
    def test_it_ends_in_time(self):
        sys.path.insert(0, os.path.join(ROOT, "bench"))
        from harness import runner, workloads  # pylint: disable=import-outside-toplevel
        with tempfile.TemporaryDirectory() as directory:
            os.makedirs(os.path.join(directory, "bin"))
            os.makedirs(os.path.join(directory, "bench"))
            for path, text in (("bin/tarn", FAKE_TOOL), ("bench/w", "")):
                with open(os.path.join(directory, path), "w", encoding="utf-8") as file:
                    file.write(text)
                os.chmod(file.name, 0o755)
            amount = workloads.Amount("", 1)
            fake = [workloads.Workload(name, "w", "", "speed", ("wall_s", "wall time"), amount, amount)
                    for name in ("fast", "slow_1", "slow_2", "late_1", "late_2")]
            # The real mode is the same with 280 and 270 s. The first slow one is cut short after three shares of
            # the fourth that is left to each, the second at the end, and the others find no time to begin. Each has
            # to have started when it is cut short, which takes a second on a busy machine.
            with unittest.mock.patch.multiple(runner, QUICK_END_S=12.0, QUICK_LAST_START_S=11.6), \
                    unittest.mock.patch.object(workloads, "all_workloads", lambda root: fake):
                code = runner.main(["--quick", "--build", directory, "-o", directory])
            with open(os.path.join(directory, "results.json"), encoding="utf-8") as file:
                document = json.load(file)
        self.assertEqual(code, 0)
        self.assertFalse(document["interrupted"])
        self.assertEqual([workload["name"] for workload in document["workloads"]], ["fast", "slow_1", "slow_2"])
        self.assertIn("slow_1, slow_2: ended with fewer blocks than planned, as the quick mode ends within 300 s",
                      document["notes"])
        self.assertIn("late_1, late_2: left out, as the quick mode ends within 300 s", document["notes"])
        self.assertLess(runner.QUICK_LAST_START_S, runner.QUICK_END_S)
        self.assertLess(runner.QUICK_END_S + runner.INTERRUPT_GRACE_S, 300)


if __name__ == "__main__":
    unittest.main()
