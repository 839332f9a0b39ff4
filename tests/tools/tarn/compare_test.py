#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of the tool's general behaviour, of `tarn run` and of `tarn compare`, with real commands.

Started by ctest with TARN_LIB (libtarn.so) and TARN_BUILD. No test asserts a speed. Peers are not needed: a
copy of libtarn.so under another name is a second allocator.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from patience import PATIENCE_SECONDS

TARN = os.path.join(os.environ["TARN_BUILD"], "bin", "tarn")
LIBRARY = os.environ["TARN_LIB"]
with open("/proc/self/maps", encoding="utf-8") as maps:
    LIBC = next(line.split()[-1] for line in maps if "/libc.so.6" in line)
LIBM = os.path.join(os.path.dirname(LIBC), "libm.so.6")


def run(*arguments, **options):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TARN_") and k != "LD_PRELOAD"}
    environment.update(options.pop("env", {}))
    return subprocess.run([TARN, *arguments], capture_output=True, text=True, env=environment, timeout=PATIENCE_SECONDS,
                          **options)


class ToolTest(unittest.TestCase):
    def test_help_is_one_screen_and_starts_with_examples(self):
        result = run("--help")
        self.assertEqual(result.returncode, 0)
        self.assertTrue(result.stdout.startswith("Examples:\n"))
        self.assertLess(len(result.stdout.splitlines()), 48)

    def test_wrong_words(self):
        for arguments, said in (
            (["comapre"], "did you mean compare?"),
            (["compare", "--agianst", "glibc", "--", "true"], "did you mean --against?"),
            (["run", "true"], "behind --"),
            (["run"], "no command"),
            (["compare", "--runs", "0", "--", "true"], "--runs: 0 is less than 1"),
            (["compare", "--runs", "many", "--", "true"], "--runs = many"),
            (["compare", "--runs", "--", "true"], "--runs: 1 required N missing"),
            (["compare", "--kind", "size", "--", "true"], "size is none of speed, memory, latency, scaling"),
            (["report", "x.json", "--threshold", "101"], "--threshold: 101 is more than 100"),
            (["stat"], "PID is required"),
            (["stat", "1", "2"], "one argument too many: 2"),
            (["completion", "ksh"], "ksh is none of bash, zsh, fish"),
            (["compare", "--against", "glibc,mimallok", "--", "true"], "did you mean mimalloc?"),
            (["compare", "--reference", "x", "--against", "glibc", "--", "true"], "not among"),
            (["compare", "--against", "x=/nonexistent.so", "--", "true"], "no such file"),
            (["compare", "--against", "x=/etc/passwd", "--", "true"], "not a shared library"),
            (["compare", "--against", f"x={LIBC}", "--library", LIBM, "--", "true"], "defines no malloc"),
            (["compare", "--against", f"={LIBC}", "--", "true"], "a name is missing"),
            (["compare", "--against", "", "--", "true"], "nothing to compare"),
            (["compare", "--against", "glibc", "--runs", "2", "--time", "1s", "--", "true"], "exclude each other"),
            (["compare", "--against", "glibc", "true"], "behind --"),
            (["compare", "--pin", "9999", "--", "true"], "--pin"),
            (["compare", "--time", "soon", "--", "true"], "--time"),
        ):
            result = run(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertIn(said, result.stderr)
            self.assertEqual(result.stdout, "")

    def test_every_verb_has_help_a_page_and_completions(self):
        names = [line.split()[0] for line in run("--help").stdout.partition("Usage:")[2].splitlines()
                 if line.startswith("  ") and not line.startswith("  tarn")]
        self.assertIn("compare", names)
        scripts = {shell: run("completion", shell).stdout for shell in ("bash", "zsh", "fish")}
        for name in names:
            text = run(name, "--help")
            self.assertEqual(text.returncode, 0, name)
            self.assertTrue(text.stdout.startswith("Examples:\n"), name)
            self.assertIn(f'.TH "tarn-{name}" 1', run("man", name).stdout)
            for shell, script in scripts.items():
                self.assertIn(name, script, shell)
        for shell, script in scripts.items():
            self.assertRegex(script, r"[('=]speed memory latency scaling[)']", shell)
        syntax = subprocess.run(["bash", "-n"], input=scripts["bash"], text=True, capture_output=True)
        self.assertEqual(syntax.stderr, "")

    def test_options_without_a_process_are_all_settings(self):
        settings = json.loads(run("options", "--json").stdout)["settings"]
        rows = {setting["name"]: setting for setting in settings}
        self.assertEqual(len(rows), len(settings))
        limit = rows["TARN_MEMORY_LIMIT"]
        self.assertEqual((limit["kind"], limit["default"], limit["most"]), ("limit", "auto", 64 << 40))
        self.assertEqual(limit["presets"], {"production": "auto", "staging": "80%", "development": "50%"})
        text = run("options").stdout
        for setting in settings:
            self.assertIn(f"{setting['name']}={setting['default']}\n    takes ", text)

    def test_size_classes(self):
        rows = json.loads(run("size-classes", "--json").stdout)["classes"]
        self.assertGreater(len(rows), 10)
        one = json.loads(run("size-classes", "100", "--json").stdout)["classes"]
        self.assertEqual(one, [min((r for r in rows if r["size_bytes"] >= 100), key=lambda r: r["size_bytes"])])


class RunTest(unittest.TestCase):
    def test_exit_codes(self):
        self.assertEqual(run("run", "--", "sh", "-c", "exit 9").returncode, 9)
        self.assertEqual(run("run", "--", "sh", "-c", "kill -9 $$").returncode, -signal.SIGKILL)
        missing = run("run", "--", "no-such-program")
        self.assertEqual((missing.returncode, "not found" in missing.stderr), (127, True))
        self.assertEqual(run("run", "--", "/etc/passwd").returncode, 126)

    def test_the_library_is_in_use_before_other_preloads(self):
        result = run("run", "--set", "VERBOSE=on", "--", "sh", "-c", "echo $LD_PRELOAD", env={"LD_PRELOAD": "libm.so.6"})
        self.assertIn("tarn: ", result.stderr)
        self.assertRegex(result.stdout, r"libtarn\.so[^:]*:libm\.so\.6\n$")

    def test_wrong_setting(self):
        result = run("run", "--set", "TARN_MODE=cpus", "--", "true")
        self.assertEqual(result.returncode, 78)
        self.assertIn("expected auto", result.stderr)


class CompareTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="tarn-compare-test-")
        self.addCleanup(scratch.cleanup)
        self.directory = scratch.name
        self.other = os.path.join(self.directory, "other.so")
        shutil.copy(LIBRARY, self.other)
        self.against = f"glibc,other={self.other}"

    def compare(self, *command, options=("--runs", "2")):
        result = run("compare", "--against", self.against, "--seed", "1", *options, "--json", "--", *command)
        workload = json.loads(result.stdout)["workloads"][0] if result.stdout else None
        return result, workload

    def test_a_good_command(self):
        code = "x = b'x' * (60 << 20)\nprint(len(x))"
        result, workload = self.compare("/usr/bin/python3", "-S", "-c", code, options=("--runs", "3"))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(len(workload["runs"]), 3 * 4)
        self.assertEqual({(r["allocator"], r["control"]) for r in workload["runs"] if r["block"] == 1},
                         {("glibc", False), ("glibc", True), ("other", False), ("tarn", False)})
        for measured in workload["runs"]:
            self.assertTrue(measured["proven"])
            self.assertGreater(measured["wall_s"], 0)
            self.assertGreater(measured["peak_rss_bytes"], 60 << 20)
            self.assertLess(measured["peak_rss_bytes"], 120 << 20)
            self.assertTrue(measured["rss"])
        self.assertEqual([r["runs"] for r in workload["results"]], [3, 3, 3])
        low, high = workload["results"][1]["ratio"]["wall_s"]["ci"]
        self.assertLessEqual(low, workload["results"][1]["ratio"]["wall_s"]["ratio"])
        self.assertGreaterEqual(high, workload["results"][1]["ratio"]["wall_s"]["ratio"])

    def test_short_processes_are_proven_and_small(self):
        _, workload = self.compare("/bin/true")
        for measured in workload["runs"]:
            self.assertTrue(measured["proven"])
            # Not the peak of the tool, which the kernel hands on.
            self.assertLess(measured["peak_rss_bytes"], 6 << 20)

    def test_cpu_time_counts_orphans(self):
        burn = "import time\nwhile time.process_time() < 0.2: pass"
        wrapper = f"import os, subprocess, sys\nif os.fork() == 0:\n  exec({burn!r})\n  os._exit(0)\nos.wait()"
        _, workload = self.compare("/usr/bin/python3", "-S", "-c", wrapper, options=("--runs", "1"))
        for measured in workload["runs"]:
            self.assertGreaterEqual(measured["user_s"] + measured["system_s"], 0.2)

    def test_a_crash_under_one_is_a_finding_and_is_not_averaged(self):
        result, workload = self.compare("sh", "-c", 'case $LD_PRELOAD in *other*) kill -SEGV $$;; esac')
        self.assertEqual(result.returncode, 3)
        self.assertIn("under other: ended by signal 11", result.stderr)
        self.assertEqual([(r["allocator"], r["runs"]) for r in workload["results"]],
                         [("glibc", 2), ("other", 0), ("tarn", 2)])
        self.assertEqual(workload["errors"][0]["allocator"], "other")

    def test_other_output_under_one_is_a_finding(self):
        result, workload = self.compare("sh", "-c", 'case $LD_PRELOAD in *other*) echo x;; *) echo y;; esac')
        self.assertEqual(result.returncode, 3)
        self.assertIn("under other: prints something else", result.stderr)
        self.assertEqual(workload["results"][1]["runs"], 0)

    def test_output_that_varies_by_itself_is_not_compared(self):
        result, workload = self.compare("sh", "-c", "date +%N")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("varies from run to run", workload["notes"][0])

    def test_an_allocator_that_does_not_get_in_is_a_finding(self):
        result, workload = self.compare("env", "-u", "LD_PRELOAD", "sh", "-c", "true")
        self.assertEqual(result.returncode, 3)
        self.assertIn("not proven that it used tarn", result.stderr)
        self.assertEqual(workload["results"][2]["runs"], 0)

    def test_nothing_measured(self):
        result, _ = self.compare("false")
        self.assertEqual(result.returncode, 1)
        self.assertIn("nothing could be measured", result.stderr)

    def test_static_program_is_refused(self):
        source = os.path.join(self.directory, "static.c")
        program = os.path.join(self.directory, "static")
        with open(source, "w", encoding="utf-8") as file:
            file.write("int main(void) { return 0; }\n")
        subprocess.run(["cc", "-static", source, "-o", program], check=True)
        result, _ = self.compare(program)
        self.assertEqual(result.returncode, 1)
        self.assertIn("statically linked", result.stderr)

    def test_missing_command(self):
        result, _ = self.compare("no-such-program")
        self.assertEqual(result.returncode, 127)

    def test_output_that_cannot_be_written_keeps_the_table(self):
        result = run("compare", "--against", self.against, "--runs", "1", "-o", "/dev/full", "--", "true")
        self.assertEqual(result.returncode, 1)
        self.assertIn("No space left", result.stderr)
        self.assertIn("tarn ", result.stdout)

    def test_a_file_that_finds_no_room_leaves_the_one_before(self):
        path = os.path.join(self.directory, "r.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write("before")
        # SIGXFSZ is ignored, so the limit is an error of write(2), as a full disk is.
        limited = ("trap '' XFSZ; ulimit -f 1; exec " + shlex.join(
            [TARN, "compare", "--against", "glibc", "--runs", "6", "-o", path, "--", "true"]))
        result = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("cannot write all of " + path, result.stderr)
        self.assertIn("tarn ", result.stdout)
        with open(path, encoding="utf-8") as file:
            self.assertEqual(file.read(), "before")
        self.assertEqual(os.listdir(self.directory).count("r.json.new"), 0)

    def test_a_peer_that_is_not_installed(self):
        # A loader's cache that has none of the peers.
        fake = os.path.join(self.directory, "ldconfig")
        with open(fake, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\nexit 0\n")
        os.chmod(fake, 0o755)
        environment = {"PATH": self.directory + ":" + os.environ["PATH"]}
        arguments = ["compare", "--against", f"other={self.other},mimalloc", "--runs", "1", "--no-control"]
        result = run(*arguments, "--", "true", env=environment)
        self.assertEqual(result.returncode, 2)
        self.assertIn("mimalloc is not installed", result.stderr)
        self.assertIn("apt-get install libmimalloc2.0", result.stderr)
        result = run(*arguments, "--skip-missing", "--", "true", env=environment)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("left out: mimalloc is not installed", result.stderr)
        self.assertIn("other ", result.stdout)

    def test_report_and_json_files(self):
        for name, start in (("r.html", "<!doctype html>"), ("r.json", '{"allocators"')):
            path = os.path.join(self.directory, name)
            result = run("compare", "--against", self.against, "--runs", "1", "-o", path, "--", "true")
            self.assertEqual(result.returncode, 0, result.stderr)
            with open(path, encoding="utf-8") as file:
                self.assertTrue(file.read().lower().startswith(start.lower()))

    def test_idle_tail_ends_a_process_that_does_not(self):
        result, workload = self.compare("sleep", "600", options=("--runs", "1", "--idle-tail", "0.2", "--no-control"))
        self.assertEqual(result.returncode, 0, result.stderr)
        for measured in workload["runs"]:
            self.assertTrue(measured["idle_ended"])
            self.assertGreater(measured["idle_rss_bytes"], 0)

    def test_a_process_that_waits_for_a_cpu_is_not_silent(self):
        cpu = min(os.sched_getaffinity(0))
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
            try:
                os.sched_setaffinity(other.pid, {cpu})
                # Beside the other it gets the CPU for a few milliseconds in a second.
                _, workload = self.compare("nice", "-n", "19", sys.executable, "-S", "-c", "pass",
                                           options=("--runs", "1", "--idle-tail", "0.2", "--no-control", "--pin", str(cpu)))
            finally:
                other.kill()
        self.assertEqual([measured["idle_ended"] for measured in workload["runs"]], [False] * len(workload["runs"]))

    def test_processes_left_behind_are_ended(self):
        # Of this run alone: another one may be at work beside it, or have been ended before its own was.
        marker = "4713.%07d" % os.getpid()
        _, workload = self.compare("sh", "-c", f"sleep {marker} & exit 0", options=("--runs", "1"))
        self.assertIn("left up to 1 processes behind", workload["notes"][0])
        found = subprocess.run(["pgrep", "-f", f"^sleep {marker}$"], capture_output=True, text=True)
        self.assertEqual(found.stdout, "")

    def test_interrupt_keeps_the_results_so_far(self):
        # The second run under glibc tells that the warm-up is over, and then waits.
        counter = os.path.join(self.directory, "runs")
        command = f'echo x >> {counter}; [ $(wc -l < {counter}) -lt 9 ] || sleep 600'
        with subprocess.Popen([TARN, "compare", "--against", "glibc", "--json", "--seed", "1", "--", "sh", "-c", command],
                              stdout=subprocess.PIPE, text=True) as process:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while time.monotonic() < deadline:
                if os.path.exists(counter) and os.path.getsize(counter) >= 18:
                    break
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=PATIENCE_SECONDS)
        self.assertEqual(process.returncode, 130)
        document = json.loads(out)
        self.assertTrue(document["interrupted"])
        self.assertEqual(len(document["workloads"][0]["runs"]), 6)


if __name__ == "__main__":
    if not os.path.exists(TARN):
        print("the tarn command was not built")
        sys.exit(77)
    unittest.main()
