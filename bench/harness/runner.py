# SPDX-License-Identifier: Apache-2.0
"""Measures the workloads one after the other with `tarn compare` and puts the results together.

Started by bench/run. Calls workloads.py for the list, document.py for the result, and the tool in the
build directory for everything that is measured, counted and drawn. The table goes to stdout, everything
else to stderr. Exit codes: 0 ok; 1 an error; 2 wrong arguments; 3 a finding (a run failed or printed
something else, or --compare found a regression); 130 interrupted.
"""

import argparse
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from harness import document, workloads

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEFAULT_AGAINST = "glibc,mimalloc,jemalloc,tcmalloc"
# The quick mode is promised to end within 300 s, on a loaded machine, too. A workload that takes more than
# three times its share of what is left ends with the blocks that it has, what has not begun in time is left
# out, and the document says both.
QUICK_SHARES = 3
QUICK_LAST_START_S = 270
QUICK_END_S = 280
# How long an interrupted `tarn compare` gets to write down what it has.
INTERRUPT_GRACE_S = 15

OK, ERROR, USAGE, FINDING, INTERRUPTED = 0, 1, 2, 3, 130


class UsageError(Exception):
    """Wrong arguments; the text says what would be right."""


class RunError(Exception):
    """Nothing can be measured; the text says what to do."""


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        prog="bench/run",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "examples:\n"
            "  bench/run --quick                        everything, in less than five minutes\n"
            "  bench/run --full                         everything, with more work and more runs: about 30 minutes\n"
            "  bench/run --only 'live_set|batches'      some workloads\n"
            "  bench/run --against glibc,mine=./libmine.so -o /tmp/mine\n"
            "  bench/run --compare before/results.json after/results.json\n\n"
            "Measures the workloads in bench/ under tarn and other allocators, and writes results.json and\n"
            "report.html. Build tarn first: cmake --preset release && ninja -C build"
        ),
        epilog="exit codes: 0 ok, 1 an error, 2 wrong arguments, 3 a finding (failed runs, a regression), 130 interrupted",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--quick", action="store_true", help="small workloads, few runs (the default)")
    mode.add_argument("--full", action="store_true", help="for results to publish")
    parser.add_argument("--against", metavar="A,B",
                        help=f"the others, by name or NAME=PATH; a missing one is an error (those of {DEFAULT_AGAINST} "
                             "that are installed)")
    parser.add_argument("--only", metavar="REGEX", help="workloads whose name has a match")
    parser.add_argument("--list", action="store_true", help="print the workloads of the mode, measure nothing")
    parser.add_argument("--blocks", type=int, metavar="N", help="blocks of every workload, in place of the mode's number")
    parser.add_argument("-o", "--output", metavar="DIR", help="where the results go (BUILD/bench-results)")
    parser.add_argument("--seed", type=int, help="seed of the random order (another each time)")
    parser.add_argument("--build", metavar="DIR", default=os.path.join(ROOT, "build"), help="the build to measure (build)")
    parser.add_argument("--compare", nargs=2, metavar=("OLD", "NEW"),
                        help="compare two results.json, measure nothing; exit code 3 on a regression")
    options = parser.parse_args(arguments)
    if options.blocks is not None and options.blocks < 1:
        raise UsageError(f"--blocks {options.blocks}: at least 1 is needed")
    try:
        options.pattern = re.compile(options.only or "")
    except re.error as problem:
        raise UsageError(f"--only {options.only}: no regular expression ({problem})") from None
    options.build = os.path.abspath(options.build)
    options.output = os.path.abspath(options.output or os.path.join(options.build, "bench-results"))
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1, 1 << 31)
    return options


def select(options):
    """[(workload, amount)] of the mode and --only, and why others of the mode are left out."""
    everything = workloads.all_workloads(ROOT)
    of_mode = [(w, w.full if options.full else w.quick) for w in everything]
    of_mode = [(w, amount) for w, amount in of_mode if amount is not None]
    chosen = [(w, amount) for w, amount in of_mode if options.pattern.search(w.name)]
    if not chosen:
        elsewhere = [w.name for w in everything if options.pattern.search(w.name)]
        if elsewhere:
            raise UsageError(f"--only {options.only}: {', '.join(elsewhere)} is in the full mode alone; add --full")
        names = ", ".join(w.name for w, _ in of_mode)
        raise UsageError(f"--only {options.only}: no workload matches; there are {names}")
    return chosen


class Progress:
    """What is being done: one line that changes on a terminal, nothing elsewhere; messages stay."""

    def __init__(self):
        self._terminal = sys.stderr.isatty()

    def step(self, text):
        if self._terminal:
            sys.stderr.write("\r\x1b[K" + text[: shutil.get_terminal_size().columns - 1])
            sys.stderr.flush()

    def message(self, text):
        self.clear()
        sys.stderr.write(text.rstrip("\n") + "\n")
        sys.stderr.flush()

    def clear(self):
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def tool_of(options):
    tool = os.path.join(options.build, "bin", "tarn")
    if not os.access(tool, os.X_OK):
        raise RunError(
            f"{tool} is missing; build it: cmake --preset release && ninja -C build "
            "(tools/install_packages build installs what it needs)"
        )
    return tool


def read_placements(tool):
    """{policy: {"cpus": [...]} or {"why_not": text}}"""
    answer = subprocess.run([tool, "machine", "--json"], stdout=subprocess.PIPE, text=True, check=False)
    try:
        return json.loads(answer.stdout).get("placements", {})
    except ValueError:
        raise RunError(f"{tool} machine --json ended with {answer.returncode} and printed no JSON") from None


class Interrupted(Exception):
    pass


class Runner:
    def __init__(self, options, progress):
        self.options = options
        self.progress = progress
        self.tool = tool_of(options)
        self.placements = read_placements(self.tool)
        self.document = document.Document(["bench/run"] + sys.argv[1:], options.seed)
        self.path = os.path.join(options.output, "results.json")
        self.finding = False
        self.written = False
        self.write_problem = None
        self.directory = None
        self.cut_short = []  # workloads that ended with fewer blocks than planned

    # What measures a workload: the arguments after `tarn`, without where the result goes.
    def command(self, workload, amount):
        options = self.options
        blocks = options.blocks or amount.blocks
        against = options.against or DEFAULT_AGAINST
        arguments = ["compare", "--against", against, "--runs", str(blocks), "--seed", str(options.seed),
                     "--name", workload.name, "--description", workload.description, "--kind", workload.kind]
        if not options.against:
            arguments.append("--skip-missing")
        if not workload.control:
            arguments.append("--no-control")
        if workload.placement != "none":
            cpus = self.placements[workload.placement]["cpus"]
            arguments += ["--pin", ",".join(map(str, cpus))]
        program = os.path.join(self.options.build, "bench", workload.program)
        return arguments + ["--", os.path.relpath(program, ROOT)] + shlex.split(amount.arguments)

    def why_not(self, workload):
        """Why a workload cannot be measured here, or an empty text."""
        if workload.placement != "none":
            placement = self.placements.get(workload.placement, {"why_not": "the tool was built without hwloc"})
            if "cpus" not in placement:
                return placement.get("why_not", "unknown on this machine")
        program = os.path.join(self.options.build, "bench", workload.program)
        if not os.access(program, os.X_OK):
            return f"{os.path.relpath(program, ROOT)} is missing; ninja -C {os.path.relpath(self.options.build)}"
        for file in workload.files:
            if not os.path.exists(file):
                return f"{file} is missing"
        return ""

    def run_all(self, chosen):
        os.makedirs(self.options.output, exist_ok=True)
        start = time.monotonic()
        skipped = []
        too_late = []
        in_a_hurry = not self.options.full and not self.options.only
        with tempfile.TemporaryDirectory(prefix="tarn-bench-") as self.directory:
            for number, (workload, amount) in enumerate(chosen, 1):
                elapsed = time.monotonic() - start
                reason = self.why_not(workload)
                if not reason and in_a_hurry and elapsed > QUICK_LAST_START_S:
                    too_late.append(workload.name)
                    continue
                if reason:
                    skipped.append(workload.name)
                    self.document.note(f"{workload.name}: {reason}")
                    self.progress.message(f"left out: {workload.name}: {reason}")
                    continue
                self.progress.step(f"{number}/{len(chosen)} {workload.name}, {elapsed:.0f} s so far")
                share_s = (QUICK_END_S - elapsed) / (len(chosen) - number + 1)
                most_s = min(QUICK_SHARES * share_s, QUICK_END_S - elapsed)
                self.measure(workload, amount, most_s if in_a_hurry else None)
                self.write()
        for names, what in ((self.cut_short, "ended with fewer blocks than planned"), (too_late, "left out")):
            if names:
                reason = f"{what}, as the quick mode ends within 300 s"
                self.document.note(f"{', '.join(names)}: {reason}")
                self.progress.message(f"{', '.join(names)}: {reason}")
        if len(skipped) == len(chosen):
            raise RunError("every workload was left out")

    def measure(self, workload, amount, most_s=None):
        """One workload; after `most_s` it ends with the blocks that it has."""
        output = os.path.join(self.directory, "one.json")
        arguments = self.command(workload, amount)
        split = arguments.index("--")
        arguments = [self.tool] + arguments[:split] + ["--json", "-o", output] + arguments[split:]
        interrupted = cut_short = False
        with subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, errors="replace") as process:
            try:
                _, messages = process.communicate(timeout=most_s)
            except (KeyboardInterrupt, subprocess.TimeoutExpired) as reason:
                # The tool has got the terminal's signal as well; one that came to this process alone is
                # handed on. It writes down what it has.
                cut_short = isinstance(reason, subprocess.TimeoutExpired)
                interrupted = not cut_short
                process.send_signal(signal.SIGINT)
                try:
                    _, messages = process.communicate(timeout=INTERRUPT_GRACE_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    _, messages = process.communicate()
        code = process.returncode
        if code == USAGE:
            # The same arguments would be wrong for all other workloads, too: a missing peer, a wrong path.
            raise UsageError(messages.strip() or "tarn compare refused its arguments")
        if cut_short and code == INTERRUPTED:
            self.cut_short.append(workload.name)
            code = OK
        if code != OK and not interrupted:
            self.finding = True
            self.progress.message(f"{workload.name}: tarn compare ended with {code}")
            for line in messages.splitlines()[-8:]:
                self.progress.message("    " + line)
        try:
            with open(output, encoding="utf-8") as file:
                measured = json.load(file)
            measured["interrupted"] = interrupted
            self.document.add(measured, workload)
            os.unlink(output)
        except (OSError, ValueError) as problem:
            if not interrupted:
                self.finding = True
                self.document.note(f"{workload.name}: no result; tarn compare ended with {code}")
                self.progress.message(f"{workload.name}: no result ({problem})")
        if interrupted:
            self.document.json["interrupted"] = True
            raise Interrupted

    def write(self):
        """Keeps what there is so far. A disk that is full now may have room later."""
        try:
            self.document.write(self.path)
            self.written = True
            self.write_problem = None
        except OSError as problem:
            if self.write_problem is None:
                self.progress.message(f"{self.path} cannot be written: {problem.strerror}; going on, and trying again")
            self.write_problem = problem

    def finish(self):
        """Writes the report and prints the table; the exit code."""
        self.progress.clear()
        self.write()
        if not self.document.json["workloads"]:
            raise RunError("nothing was measured")
        report = os.path.join(self.options.output, "report.html")
        if self.write_problem is not None:
            # What the disk has no room for goes where a pipe or a terminal may take it.
            json.dump(self.document.json, sys.stdout)
            raise RunError(f"{self.path}: {self.write_problem.strerror}; the results stand on stdout")
        code = subprocess.run([self.tool, "report", self.path, "-o", report], check=False).returncode
        if code != OK:
            raise RunError(f"tarn report ended with {code}; the results are in {self.path}")
        self.progress.message(f"\nresults: {self.path}\nreport:  {report}")
        return FINDING if self.finding else OK


def compare(options):
    old, new = options.compare
    report = ["-o", os.path.join(options.output, "comparison.html")]
    os.makedirs(options.output, exist_ok=True)
    return subprocess.run([tool_of(options), "report", old, new] + report, check=False).returncode


def print_list(chosen):
    width = max(len(workload.name) for workload, _ in chosen)
    for workload, amount in chosen:
        print(f"{workload.name:<{width}}  {amount.blocks:>2} x {workload.program} {amount.arguments}")
        print(f"{'':<{width}}  {workload.description} ({workload.result[1]})")


def main(arguments):
    progress = Progress()
    try:
        options = parse_arguments(arguments)
        if options.compare:
            return compare(options)
        chosen = select(options)
        if options.list:
            print_list(chosen)
            return OK
        runner = Runner(options, progress)
        try:
            runner.run_all(chosen)
        except (Interrupted, KeyboardInterrupt):
            progress.message("interrupted; keeping what was measured")
            runner.document.json["interrupted"] = True
            runner.finish()
            return INTERRUPTED
        return runner.finish()
    except UsageError as problem:
        progress.message(f"bench/run: {problem}")
        return USAGE
    except (RunError, OSError) as problem:
        progress.message(f"bench/run: {problem}")
        return ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
