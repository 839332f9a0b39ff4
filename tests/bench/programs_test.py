#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of bench/programs: order of runs, figures, proof of use, table, exit codes.

Started by ctest. Tests that need a second allocator take libtarn.so (TARN_LIB) or
Debian's mimalloc or jemalloc, whichever is there first. No test asserts a speed.
"""

import contextlib
import glob
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BENCH = os.path.join(ROOT, "bench", "programs")
sys.path.insert(0, BENCH)

import in_use  # noqa: E402
import measure  # noqa: E402
import programs  # noqa: E402
import run as runner  # noqa: E402
import table  # noqa: E402

GLIBC = measure.Allocator("glibc", os.path.realpath(in_use.libc_path()))

# More than this process ever has, so that a child's peak RSS is its own.
BIG_MIB = 120
BIG = f"kept = b'x' * ({BIG_MIB} << 20)\n"


def find_second_allocator():
    candidates = [os.environ.get("TARN_LIB", "")]
    for name in ("libmimalloc.so.2", "libjemalloc.so.2"):
        candidates += sorted(glob.glob(f"/usr/lib/*-linux-gnu/{name}"))
    for path in candidates:
        if path and os.path.isfile(path):
            return measure.Allocator("second", os.path.realpath(path))
    return None


SECOND = find_second_allocator()

# A library that is preloaded without complaint and is no malloc.
LIBM = sorted(glob.glob("/usr/lib/*-linux-gnu/libm.so.6"))
needs_second = unittest.skipIf(SECOND is None, "there is no second allocator")


def python(code):
    return measure.Command((sys.executable, "-S", "-E", "-c", code), timeout_s=60)


def make_run(program, allocator, number, wall_s, **more):
    figures = {"cpu_s": wall_s, "peak_rss_kib": 1024, **more}
    return measure.Run(program, allocator, number, wall_s, **figures)


def make_results(times, **more):
    """Results of one program `p` out of {allocator: [wall time of each round]}."""
    runs = [
        make_run("p", allocator, number, wall_s, **more)
        for allocator, walls in times.items()
        for number, wall_s in enumerate(walls, 1)
    ]
    return table.Results(runs, ["p"], list(times))


class InDirectory(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="tarn-bench-test-")
        self.addCleanup(scratch.cleanup)
        self.directory = scratch.name

    def run_code(self, code, allocator=GLIBC, **options):
        return measure.run_command("code", python(code), allocator, self.directory, **options)


class ScheduleTest(unittest.TestCase):
    def blocks(self, seed):
        order = list(measure.schedule("ab", "xyz", 8, random.Random(seed)))
        return [order[start : start + 3] for start in range(0, len(order), 3)]

    def test_each_block_is_one_program_under_every_allocator(self):
        blocks = self.blocks(1)
        self.assertEqual(len(blocks), 16)
        for position, block in enumerate(blocks):
            self.assertEqual({(number, program) for number, program, _ in block},
                             {(position // 2 + 1, "ab"[position % 2])})
            self.assertEqual(sorted(allocator for _, _, allocator in block), ["x", "y", "z"])

    def test_the_order_within_blocks_varies_and_follows_the_seed(self):
        first = {block[0][2] for block in self.blocks(1)}
        self.assertEqual(first, {"x", "y", "z"})
        self.assertEqual(self.blocks(1), self.blocks(1))
        self.assertNotEqual(self.blocks(1), self.blocks(2))


class RunCommandTest(InDirectory):
    def test_a_good_run_has_figures_and_proof(self):
        run = self.run_code(BIG + "print('hello')")
        self.assertEqual(run.failure, "")
        self.assertIn(run.proof, ("slots", "mapping"))
        self.assertGreater(run.wall_s, 0)
        self.assertGreater(run.peak_rss_kib, BIG_MIB * 1024)
        self.assertLess(run.peak_rss_kib, 2 * BIG_MIB * 1024)

    def test_cpu_time_counts_the_processes_below(self):
        burn = "import time\nwhile time.process_time() < 0.5: pass"
        start = f"import subprocess, sys\nsubprocess.run([sys.executable, '-S', '-c', {burn!r}])"
        code = BIG + start
        run = self.run_code(code)
        self.assertEqual(run.failure, "")
        self.assertGreaterEqual(run.cpu_s, 0.5)

    def test_exit_code_fails_the_run(self):
        run = self.run_code(BIG + "import sys; sys.exit('this went wrong')")
        self.assertEqual(run.failure, "exit code 1")
        self.assertIn("this went wrong", run.detail)

    def test_signal_fails_the_run(self):
        run = self.run_code(BIG + "import os; os.abort()")
        self.assertEqual(run.failure, "ended by SIGABRT")

    def test_run_that_hangs_is_ended_with_its_children(self):
        code = (
            "import os, time\n"
            "if os.fork() == 0: time.sleep(600)\n"
            "time.sleep(600)"
        )
        children = []
        real_end = measure.Child.end

        def end(child):
            children.append((child, child.members()))
            real_end(child)

        # A busy machine may take longer for the fork than the first of these times.
        for timeout_s in (2, 8, 32, 128):
            command = measure.Command((sys.executable, "-S", "-E", "-c", code), timeout_s=timeout_s)
            children.clear()
            with mock.patch.object(measure.Child, "end", end):
                run = measure.run_command("code", command, GLIBC, self.directory)
            self.assertEqual(run.failure, f"still running after {timeout_s} s")
            child, members = children[0]
            if len(members) == 2:
                break
        self.assertEqual(len(members), 2)
        # The orphan is reaped by another process, which may take a moment.
        deadline = time.monotonic() + 240
        while child.members() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(child.members(), [])

    def test_program_that_is_not_there(self):
        command = measure.Command(("/nonexistent/program",))
        with self.assertRaisesRegex(measure.MeasureError, "cannot start /nonexistent/program"):
            measure.run_command("code", command, GLIBC, self.directory)

    def test_peak_rss_that_may_be_ours_is_refused(self):
        # This process is larger than the child, whose reported peak is then ours.
        ballast = b"x" * (BIG_MIB << 20)
        run = self.run_code("import time; time.sleep(0.2)")
        del ballast
        self.assertIn("peak RSS is not above", run.failure)
        self.assertEqual(run.peak_rss_kib, 0)

    def test_digest_tells_results_apart(self):
        def digest(code):
            run = self.run_code("import time; time.sleep(0.1)\n" + code)
            return run.digest

        self.assertEqual(digest("print(1)"), digest("print(1)"))
        self.assertNotEqual(digest("print(1)"), digest("print(2)"))

    def test_result_file_belongs_to_the_digest_and_is_not_an_old_one(self):
        path = os.path.join(self.directory, "result")

        def digest(code):
            command = measure.Command(
                (sys.executable, "-S", "-E", "-c", "import time; time.sleep(0.1)\n" + code),
                results=(path,),
            )
            return measure.run_command("code", command, GLIBC, self.directory).digest

        one = digest(f"open({path!r}, 'w').write('one')")
        two = digest(f"open({path!r}, 'w').write('two')")
        none = digest("pass")
        self.assertEqual(len({one, two, none}), 3)

    def test_environment_is_clean_but_for_settings(self):
        with mock.patch.dict(os.environ, {"TARN_MODE": "thread", "TARN_LIB": "x", "SECRET": "y"}):
            environment = measure.base_environment(self.directory)
        self.assertEqual(environment["TARN_MODE"], "thread")
        self.assertNotIn("TARN_LIB", environment)
        self.assertNotIn("SECRET", environment)


class ProofTest(InDirectory):
    def test_verdict(self):
        def verdict(owners, mapped=(), readable=True):
            finding = in_use.Finding(frozenset(owners), frozenset(mapped), readable)
            return finding.verdict("/a.so")

        self.assertIs(verdict(["/a.so"]), True)
        self.assertIs(verdict(["/b.so"], mapped=["/a.so", "/b.so"]), False)
        self.assertIs(verdict(["/a.so", "/b.so"]), False)
        self.assertIsNone(verdict([], mapped=["/a.so"]))
        self.assertIs(verdict([], mapped=["/a.so"], readable=False), True)
        self.assertIsNone(verdict([], mapped=["/b.so"], readable=False))

    @needs_second
    def test_preloaded_allocator_is_proven(self):
        self.assertEqual(self.run_code(BIG, SECOND).failure, "")

    @needs_second
    def test_wrong_allocator_is_noticed(self):
        command = python(BIG + "import time; time.sleep(5)")
        command = measure.Command(command.argv, {"LD_PRELOAD": SECOND.path})
        with measure.Child(
            list(command.argv), {**measure.base_environment(self.directory), **command.env},
            os.devnull, os.devnull, os.path.join(self.directory, "stderr"),
        ) as child:
            proof, failure = measure.prove(child, GLIBC)
        self.assertEqual(proof, "")
        self.assertIn("malloc leads to " + os.path.basename(SECOND.path), failure)

    @unittest.skipUnless(LIBM, "libm is not where Debian has it")
    def test_mapped_library_without_malloc_is_not_in_use(self):
        libm = measure.Allocator("libm", os.path.realpath(LIBM[0]))
        run = self.run_code(BIG + "import time; time.sleep(5)", libm)
        self.assertIn("malloc leads to libc.so.6", run.failure)
        with self.assertRaisesRegex(measure.MeasureError, "libm .*cannot be measured"):
            measure.check_allocator(libm, self.directory)

    def test_library_that_cannot_be_preloaded(self):
        path = os.path.join(self.directory, "broken.so")
        with open(path, "w", encoding="utf-8") as file:
            file.write("this is no library")
        broken = measure.Allocator("broken", path)
        with self.assertRaisesRegex(measure.MeasureError, "cannot be preloaded"):
            measure.check_allocator(broken, self.directory)

    def test_process_that_never_shows_its_allocator(self):
        run = measure.run_command(
            "code", measure.Command(("/bin/sh", "-c", "sleep 0.3"), watch="nobody"), GLIBC,
            self.directory,
        )
        self.assertIn("not proven that nobody uses glibc", run.failure)

    @needs_second
    def test_child_of_the_command_is_watched(self):
        # The shell is replaced by nothing: it waits, and the work is its child's.
        inner = os.path.basename(os.path.realpath(sys.executable))
        code = BIG + "import time; time.sleep(0.5)"
        command = measure.Command(
            ("/bin/sh", "-c", '"$0" -S -E -c "$1"; exit $?', sys.executable, code), watch=inner
        )
        run = measure.run_command("code", command, SECOND, self.directory)
        self.assertEqual((run.failure, run.proof), ("", "slots"))
        self.assertGreater(run.peak_rss_kib, BIG_MIB * 1024)


class TableTest(unittest.TestCase):
    def test_ratio_is_that_of_the_medians(self):
        results = make_results({"glibc": [1.0, 2.0, 9.0], "tarn": [0.5, 1.0, 30.0]})
        ratio = results.ratio("p", "tarn", "glibc", "wall_s")
        self.assertAlmostEqual(ratio.value, 0.5)

    def test_rounds_that_disagree_are_marked(self):
        agree = make_results({"glibc": [1.0, 2.0, 3.0], "tarn": [0.9, 1.8, 2.9]})
        self.assertTrue(agree.ratio("p", "tarn", "glibc", "wall_s").certain)
        disagree = make_results({"glibc": [1.0, 2.0, 3.0], "tarn": [1.1, 1.8, 2.9]})
        self.assertEqual(str(disagree.ratio("p", "tarn", "glibc", "wall_s")), "0.90~")

    def test_fewer_than_three_rounds_are_never_certain(self):
        results = make_results({"glibc": [1.0, 1.0], "tarn": [0.5, 0.5]})
        self.assertFalse(results.ratio("p", "tarn", "glibc", "wall_s").certain)

    def test_geometric_mean(self):
        self.assertAlmostEqual(table.geometric_mean([0.5, 2.0]), 1.0)

    def test_failed_run_takes_the_whole_row(self):
        results = make_results({"glibc": [1.0] * 3, "tarn": [0.1] * 3})
        results.runs("p", "tarn")[1].failure = "ended by SIGSEGV"
        self.assertIsNone(results.median("p", "tarn", "wall_s"))
        self.assertIsNone(results.ratio("p", "tarn", "glibc", "wall_s"))
        self.assertTrue(results.any_failure())
        text = table.render(results)
        self.assertIn("FAILED 1 of 3 runs: ended by SIGSEGV", text)
        self.assertNotIn("0.10", text)
        self.assertIn("FAILED, and left out of this: p under tarn", table.sentence(results))

    def test_failure_of_the_base_leaves_no_ratio(self):
        results = make_results({"glibc": [1.0] * 3, "tarn": [2.0] * 3})
        results.runs("p", "glibc")[0].failure = "exit code 1"
        self.assertIsNone(results.ratio("p", "tarn", "glibc", "wall_s"))
        self.assertIn("2.00", table.render(results))

    def test_table_holds_figures_units_and_both_ratios(self):
        results = make_results(
            {"glibc": [2.0] * 3, "mimalloc": [4.0] * 3, "tarn": [3.0] * 3}, peak_rss_kib=51200
        )
        lines = table.render(results).splitlines()
        row = next(line for line in lines if line.split()[:1] == ["tarn"])
        self.assertEqual(row.split(), ["tarn", "3.00", "1.50", "0.75", "3.00", "1.50", "0.75",
                                       "50.00", "1.00~", "1.00~"])
        mean = next(line for line in lines[::-1] if line.split()[:1] == ["tarn"])
        self.assertEqual(mean.split(), ["tarn", "1.50", "0.75", "1.50", "0.75", "1.00", "1.00"])

    def test_nothing_is_wider_than_the_table_may_be(self):
        allocators = ("glibc", "mimalloc", "tarn", "a_long_name_of_an_allocator")
        names = ("python-malloc", "a_long_name_of_a_program")
        runs = [
            make_run(program, allocator, number, 12345.678, peak_rss_kib=99_999 * 1024,
                     extra={"per_second": 1e7})
            for program in names for allocator in allocators for number in (1, 2, 3)
        ]
        runs[-1].failure = "a long story of what went wrong, " * 9
        results = table.Results(runs, names, allocators)
        for text in (table.render(results), table.sentence(results), table.throughput(results),
                     table.legend()):
            for line in text.splitlines():
                self.assertLessEqual(len(line), table.WIDTH, line)

    def test_sentence_counts_losses(self):
        runs = []
        for program, wall_s in (("fast", 0.5), ("slow", 1.25), ("equal", 1.005)):
            for number in (1, 2, 3):
                runs.append(make_run(program, "glibc", number, 1.0))
                runs.append(make_run(program, "tarn", number, wall_s))
        results = table.Results(runs, ("fast", "slow", "equal"), ("glibc", "tarn"))
        text = " ".join(table.sentence(results).split())
        self.assertIn("0.86 times glibc's wall time (at worst 1.25 in slow; more in 1 of 3", text)

    def test_without_glibc_the_first_one_is_the_base(self):
        results = make_results({"jemalloc": [1.0] * 3, "tarn": [2.0] * 3})
        self.assertEqual((results.base, results.peer, results.subject), ("jemalloc", None, "tarn"))
        self.assertIn("/jemall", table.render(results))


class FakeProgram(programs.CommandProgram):
    name = "fake"

    def __init__(self, code):
        self.code = code

    def command(self, directory):
        return python(BIG + self.code)


class MainTest(InDirectory):
    def main(self, *arguments, program=None):
        """(exit code, stdout, stderr) of a run of the whole within this process."""
        out, err = io.StringIO(), io.StringIO()
        handlers = {number: signal.getsignal(number)
                    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        every = (program,) if program else programs.ALL
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), \
                    mock.patch.object(programs, "ALL", every), \
                    mock.patch.object(tempfile, "tempdir", self.directory):
                try:
                    code = runner.main(list(arguments))
                except SystemExit as ended:
                    code = ended.code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        self.assertEqual(os.listdir(self.directory), [], "the work directory was left behind")
        return code, out.getvalue(), err.getvalue()

    def test_wrong_arguments(self):
        for arguments, message in (
            (["--runs", "0"], "at least 1"),
            (["--runs", "many"], "invalid int value"),
            (["--quick", "--runs", "3"], "exclude each other"),
            (["--programs", "python,nosuch"], "no program 'nosuch'"),
            (["--programs", "perl,perl"], "named twice"),
            (["--allocators", "glibc,nosuch"], "'nosuch' is neither"),
            (["--allocators", "glibc,mine="], "'mine=' is neither"),
            (["--allocators", "glibc,glibc"], "named twice"),
            (["--json", "/nonexistent/file"], "no such directory"),
            (["--frobnicate"], "unrecognized"),
        ):
            with self.subTest(arguments):
                code, out, err = self.main(*arguments)
                self.assertEqual((code, out), (2, ""))
                self.assertIn(message, err)

    def test_only_check_arguments_measures_nothing(self):
        self.assertEqual(self.main("--only-check-arguments", "--quick"), (0, "", ""))

    def test_missing_allocator(self):
        code, out, err = self.main("--allocators", "glibc,mine=/nonexistent/lib.so")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("mine: /nonexistent/lib.so is missing", err)

    def test_missing_peer_names_its_package(self):
        with mock.patch.object(runner, "LIBRARY_DIRECTORIES", ()):
            code, _, err = self.main("--allocators", "glibc,mimalloc")
        self.assertEqual(code, 1)
        self.assertIn("libmimalloc2.0", err)

    def test_missing_program(self):
        program = FakeProgram("")
        program.needs = ("no-such-program",)
        code, _, err = self.main("--allocators", "glibc", program=program)
        self.assertEqual(code, 1)
        self.assertIn("no-such-program is missing", err)

    def test_program_that_fails_on_glibc_stops_everything(self):
        program = FakeProgram("raise SystemExit(3)")
        code, out, err = self.main("--allocators", "glibc", program=program)
        self.assertEqual((code, out), (1, ""))
        self.assertIn("exit code 3", err)
        self.assertIn("already fails on libc's malloc", err)

    @needs_second
    def test_table_and_json_of_a_good_program(self):
        with tempfile.TemporaryDirectory() as elsewhere:
            path = os.path.join(elsewhere, "runs.json")
            code, out, err = self.main(
                "--allocators", f"glibc,tarn={SECOND.path}", "--runs", "2", "--json", path,
                program=FakeProgram("print('the same')"),
            )
            self.assertEqual(code, 0, err)
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
        self.assertEqual(document["schema"], runner.SCHEMA)
        self.assertEqual(len(document["runs"]), 4)
        self.assertEqual({one["failure"] for one in document["runs"]}, {""})
        self.assertEqual(len({one["digest"] for one in document["runs"]}), 1)
        self.assertIn("2 runs each", out)
        self.assertIn("times glibc's wall time", out)
        self.assertIn("[4/4] round 2/2", err)

    @needs_second
    def test_result_that_differs_fails(self):
        code, out, err = self.main(
            "--allocators", f"glibc,tarn={SECOND.path}", "--runs", "1",
            program=FakeProgram("import os; print(os.environ['LD_PRELOAD'])"),
        )
        self.assertEqual(code, 1)
        self.assertIn("FAILED 1 of 1 runs: its result differs", out)
        self.assertIn("FAILED: fake under tarn", err)

    @needs_second
    def test_crash_under_one_allocator_fails(self):
        code, out, _ = self.main(
            "--allocators", f"glibc,tarn={SECOND.path}", "--runs", "1",
            program=FakeProgram(
                "import os\nif 'libc.so' not in os.environ['LD_PRELOAD']: os.abort()"
            ),
        )
        self.assertEqual(code, 1)
        self.assertIn("FAILED 1 of 1 runs: ended by SIGABRT", out)


    def test_interrupt_before_the_with_block_is_entered(self):
        started = []

        def enter(child):
            started.append(child)
            raise KeyboardInterrupt

        with mock.patch.object(measure.Child, "__enter__", enter):
            code, _, err = self.main("--allocators", "glibc", program=FakeProgram(""))
        self.assertEqual(code, 130)
        self.assertIn("interrupted", err)
        self.assertIsNotNone(started[0].status, "the child was not ended")


class InterruptTest(InDirectory):
    def test_interrupt_leaves_nothing_behind(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number):
                self.interrupt(number)

    def interrupt(self, number):
        process = subprocess.Popen(
            [sys.executable, os.path.join(BENCH, "run.py"), "--programs", "python",
             "--allocators", "glibc"],
            env={**os.environ, "TMPDIR": self.directory}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        try:
            # The reference run has begun once this line was written.
            seen = b""
            while b"reference run" not in seen:
                line = process.stderr.readline()
                self.assertTrue(line, seen)
                seen += line
            deadline = time.monotonic() + 20
            while not self.workers() and time.monotonic() < deadline:
                time.sleep(0.02)
            workers = self.workers()
            self.assertTrue(workers)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
        self.assertEqual(process.returncode, 130)
        self.assertIn(b"interrupted", err)
        self.assertEqual(os.listdir(self.directory), [])
        self.assertEqual(self.workers(), [])

    def workers(self):
        """Processes that work for a measurement in our directory: it is their HOME."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    with open(f"/proc/{entry}/environ", "rb") as file:
                        if b"HOME=" + self.directory.encode() + b"/" in file.read():
                            found.append(int(entry))
        return found


@unittest.skipUnless(programs.which("redis-server") and programs.which("redis-benchmark"),
                     "redis is not installed")
class RedisTest(InDirectory):
    def run_redis(self, allocator=GLIBC):
        with mock.patch.object(programs, "REDIS_REQUESTS", 1600):
            return programs.RedisProgram().run(allocator, self.directory)

    def test_figures_are_those_of_the_server_on_the_preloaded_malloc(self):
        run = self.run_redis()
        self.assertEqual(run.failure, "")
        self.assertEqual(run.digest, "llen 1600")
        self.assertGreater(run.wall_s, 0)
        self.assertGreater(run.peak_rss_kib, 1024)
        self.assertGreater(run.extra["per_second"], 0)

    @unittest.skipUnless(LIBM, "libm is not where Debian has it")
    def test_server_on_another_malloc_fails_the_run(self):
        # Debian's redis-server is linked to libjemalloc, others are not.
        run = self.run_redis(measure.Allocator("libm", os.path.realpath(LIBM[0])))
        self.assertRegex(run.failure, "malloc leads to lib(jemalloc|c)[.]so")

    def test_server_that_ends_under_load_fails_the_run(self):
        real = measure.read_cpu_s

        def shoot(pid):
            cpu_s = real(pid)
            os.kill(pid, signal.SIGKILL)
            return cpu_s

        with mock.patch.object(measure, "read_cpu_s", shoot):
            run = self.run_redis()
        self.assertIn("redis-server ended under load: ended by SIGKILL", run.failure)

    @unittest.skipUnless(os.access(os.path.join(os.environ.get("TARN_BUILD", ""), "bin", "tarn"), os.X_OK),
                         "the tarn command was not built")
    def test_a_program_that_is_observed(self):
        done = subprocess.run(
            [sys.executable, os.path.join(BENCH, "observed.py"), "--build", os.environ["TARN_BUILD"], "--only",
             "redis-server: (samples|tarn heap)", "--pairs", "1", "--rounds", "1", "--reader-pairs", "1",
             "--requests", "1000"], capture_output=True, text=True, timeout=200, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        row = re.compile(r"^[|] redis-server [|] (.*?) [|] [0-9.]+ [|] too few pairs [|] 1 [|]$", re.MULTILINE)
        self.assertEqual(row.findall(done.stdout), ["samples / TARN_PROFILE_RATE=0", "tarn heap each second / none"])


if __name__ == "__main__":
    unittest.main()
