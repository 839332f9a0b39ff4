# SPDX-License-Identifier: Apache-2.0
"""Measures real programs under several allocators and prints a table of ratios.

Started by tools/quickstart after the build, or by hand. Calls programs.py for the
programs, measure.py for order and figures, table.py for the result. The table goes
to stdout, everything else to stderr. Exit codes: 0 ok, 1 an error or a failed run,
2 wrong arguments, 130 interrupted.
"""

import argparse
import glob
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # The repository stays as it is.

import in_use
import measure
import programs
import table

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEFAULT_ROUNDS = 5
QUICK_ROUNDS = 2
DEFAULT_ALLOCATORS = "glibc,mimalloc,tarn"
SCHEMA = "tarn-programs/1"

# Where the peers' libraries lie, by Debian's package; the first that exists is taken.
LIBRARY_PATTERNS = {
    "mimalloc": ("libmimalloc.so.2", "libmimalloc2.0"),
    "jemalloc": ("libjemalloc.so.2", "libjemalloc2"),
    "tcmalloc": ("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
}
LIBRARY_DIRECTORIES = ("/usr/lib/*-linux-gnu", "/usr/local/lib", "/usr/lib64", "/usr/lib")


class UsageError(Exception):
    """Wrong arguments; the text says what would be right."""


def parse_arguments(arguments):
    names = ", ".join(program.name for program in programs.ALL)
    parser = argparse.ArgumentParser(
        prog="tools/quickstart",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "examples:\n"
            "  tools/quickstart                     everything, 3 to 6 minutes on two slow cores\n"
            "  tools/quickstart --quick             the same with two runs each\n"
            "  tools/quickstart --programs redis,sqlite3 --runs 9\n"
            "  tools/quickstart --allocators glibc,tarn,mine=./libmine.so --json runs.json\n\n"
            "Installs what is missing, builds tarn, and runs real programs under several mallocs."
        ),
        epilog=(
            f"programs: {names}\n"
            f"allocators: glibc, tarn, {', '.join(LIBRARY_PATTERNS)}, or NAME=PATH of a library\n"
            "exit codes: 0 ok, 1 an error or a failed run, 2 wrong arguments, 130 interrupted"
        ),
    )
    parser.add_argument("--runs", type=int, metavar="N",
                        help=f"runs of each program under each allocator ({DEFAULT_ROUNDS})")
    parser.add_argument("--quick", action="store_true", help=f"the same as --runs {QUICK_ROUNDS}")
    parser.add_argument("--programs", metavar="A,B", help="only these programs (all)")
    parser.add_argument("--allocators", metavar="A,B", default=DEFAULT_ALLOCATORS,
                        help=f"these allocators ({DEFAULT_ALLOCATORS})")
    parser.add_argument("--json", metavar="FILE", help="write every single run to FILE, too")
    parser.add_argument("--seed", type=int, help="seed of the random order (another each time)")
    # For tools/quickstart, which wants to know before it builds for minutes.
    parser.add_argument("--only-check-arguments", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.quick and options.runs is not None:
        raise UsageError("--quick and --runs exclude each other")
    if options.runs is not None and options.runs < 1:
        raise UsageError(f"--runs {options.runs}: at least 1 is needed")
    options.rounds = QUICK_ROUNDS if options.quick else options.runs or DEFAULT_ROUNDS
    options.selected_programs = select_programs(options.programs)
    options.selected_allocators = split_allocators(options.allocators)
    if options.json and not os.path.isdir(os.path.dirname(os.path.abspath(options.json))):
        raise UsageError(f"--json {options.json}: there is no such directory")
    return options


def select_programs(text):
    if text is None:
        return list(programs.ALL)
    known = {program.name: program for program in programs.ALL}
    selected = []
    for name in text.split(","):
        if name not in known:
            raise UsageError(f"--programs: no program {name!r}; there are {', '.join(known)}")
        if known[name] in selected:
            raise UsageError(f"--programs: {name} is named twice")
        selected.append(known[name])
    return selected


def split_allocators(text):
    """[(name, path or None)], with the names checked and the paths not looked at yet."""
    known = ("glibc", "tarn", *LIBRARY_PATTERNS)
    pairs = []
    for part in text.split(","):
        name, given, path = part.partition("=")
        if not name or (given and not path) or (not given and name not in known):
            raise UsageError(
                f"--allocators: {part!r} is neither NAME=PATH nor one of {', '.join(known)}"
            )
        if name in (other for other, _ in pairs):
            raise UsageError(f"--allocators: {name} is named twice")
        pairs.append((name, path or None))
    return pairs


def find_allocators(pairs):
    """The allocators with the paths of their libraries; MeasureError for one that is missing."""
    allocators = []
    for name, path in pairs:
        if path is None:
            path, advice = find_library(name)
        else:
            advice = "the path was given by --allocators"
        if not path or not os.path.isfile(path):
            shown = path or "its library"
            raise measure.MeasureError(
                f"{name}: {shown} is missing ({advice}); or leave it out with --allocators"
            )
        if any(mark in path for mark in " :"):
            raise measure.MeasureError(f"{path}: LD_PRELOAD cannot hold blanks or colons")
        # As /proc/PID/maps will name it.
        allocators.append(measure.Allocator(name, os.path.realpath(path)))
    return allocators


def find_library(name):
    """(path or None, what to do if it is not there)"""
    if name == "glibc":
        return in_use.libc_path(), "this Python does not run on glibc"
    if name == "tarn":
        return os.path.join(ROOT, "build", "lib", "libtarn.so"), "tools/quickstart builds it"
    file_name, package = LIBRARY_PATTERNS[name]
    for directory in LIBRARY_DIRECTORIES:
        for path in sorted(glob.glob(os.path.join(directory, file_name))):
            return path, ""
    return None, f"Debian's package {package}; tools/install_packages programs installs it"


def check_needs(selected):
    for program in selected:
        for need in program.needs:
            if programs.which(need) is None:
                raise measure.MeasureError(
                    f"{program.name}: {need} is missing; tools/install_packages programs "
                    "installs it, or leave the program out with --programs"
                )


class Progress:
    """Says what is being done: one line that changes on a terminal, lines elsewhere."""

    def __init__(self):
        self._terminal = sys.stderr.isatty()

    def step(self, text):
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write("\r\x1b[K" + text[:width])
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def message(self, text):
        """A line that stays."""
        self.clear()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def clear(self):
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def read_line(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().strip()
    except OSError:
        return ""


def describe_machine():
    model = ""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as cpus:
            for line in cpus:
                if line.startswith("model name"):
                    model = line.partition(":")[2].strip()
                    break
    except OSError:
        pass
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    huge_pages = read_line("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "processor": model or platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mib": memory_bytes >> 20,
        "huge_pages": huge_pages[huge_pages.find("[") + 1 : huge_pages.find("]")],
        "load_average": round(os.getloadavg()[0], 2),
    }


def machine_line(machine):
    return (
        f"{machine['cpus']} CPUs ({machine['processor']}),\n"
        f"Linux {machine['kernel']}, {machine['libc']}, {machine['memory_mib']} MiB, "
        f"huge pages: {machine['huge_pages'] or 'none'}, load {machine['load_average']}"
    )


def report_failure(progress, run):
    progress.message(f"FAILED: {run.program} under {run.allocator}: {run.failure}")
    for line in run.detail.splitlines()[-8:]:
        progress.message("    " + line)


def prepare(selected, baseline, directory, progress):
    """Makes the inputs and runs each program once on libc's malloc.

    That run is not counted. Its result is what all others have to give, too, and it
    brings the program and its input into the page cache. Returns {program: digest}.
    """
    digests = {}
    for number, program in enumerate(selected, 1):
        progress.step(f"preparing {number}/{len(selected)}: {program.name} (input, reference run)")
        program.prepare(directory)
        run = program.run(baseline, directory)
        if run.failure:
            report_failure(progress, run)
            raise measure.MeasureError(
                f"{program.name} already fails on libc's malloc; the comparison would mean nothing"
            )
        digests[program.name] = run.digest
    return digests


def measure_all(selected, allocators, rounds, digests, directory, progress, random_source):
    runs = []
    total = rounds * len(selected) * len(allocators)
    started = time.monotonic()
    order = measure.schedule(selected, allocators, rounds, random_source)
    for done, (number, program, allocator) in enumerate(order):
        left = ""
        if done:
            left_s = (time.monotonic() - started) / done * (total - done)
            left = f", about {left_s // 60:.0f}:{left_s % 60:02.0f} left"
        progress.step(
            f"[{done + 1}/{total}] round {number}/{rounds}: {program.name} under "
            f"{allocator.name}{left}"
        )
        run = program.run(allocator, directory)
        run.round = number
        if not run.failure and run.digest != digests[program.name]:
            run.failure = "its result differs from that on libc's malloc"
        if run.failure:
            report_failure(progress, run)
        runs.append(run)
    return runs


def measure_in(options, allocators, directory, progress):
    machine = describe_machine()
    progress.message(
        "comparing " + ", ".join(f"{one.name} ({one.path})" for one in allocators)
    )
    for allocator in allocators:
        progress.step(f"checking that {allocator.name} serves a process that it is preloaded into")
        measure.check_allocator(allocator, directory)
    baseline = find_allocators([("glibc", None)])[0]
    digests = prepare(options.selected_programs, baseline, directory, progress)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    started = time.monotonic()
    runs = measure_all(
        options.selected_programs, allocators, options.rounds, digests, directory, progress,
        random.Random(seed),
    )
    progress.message(f"{len(runs)} runs in {time.monotonic() - started:.0f} s")
    results = table.Results(
        runs, [program.name for program in options.selected_programs],
        [allocator.name for allocator in allocators],
    )
    if options.json:
        write_json(options.json, machine, allocators, seed, options.rounds, runs)
    many = "1 run" if options.rounds == 1 else f"{options.rounds} runs"
    print(f"{many} each, interleaved, on {machine_line(machine)}\n")
    print(table.render(results))
    for text in (table.throughput(results), table.legend(), table.sentence(results)):
        if text:
            print("\n" + text)
    return 1 if results.any_failure() else 0


def write_json(path, machine, allocators, seed, rounds, runs):
    document = {
        "schema": SCHEMA,
        "machine": machine,
        "allocators": {allocator.name: allocator.path for allocator in allocators},
        "settings": measure.settings(),
        "rounds": rounds,
        "seed": seed,
        "runs": [run.to_json() for run in runs],
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")


def interrupt(_number, _frame):
    # A second signal must not break off the cleaning up.
    for number in measure.INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(arguments):
    try:
        options = parse_arguments(arguments)
    except UsageError as error:
        print(f"tools/quickstart: {error}", file=sys.stderr)
        return 2
    if options.only_check_arguments:
        return 0
    # An end from outside takes the same way out as Ctrl-C: children and files go with us.
    for number in measure.INTERRUPTS:
        signal.signal(number, interrupt)
    progress = Progress()
    directory = None
    try:
        allocators = find_allocators(options.selected_allocators)
        check_needs(options.selected_programs)
        with measure.uninterrupted():
            directory = tempfile.mkdtemp(prefix="tarn-programs-")
        return measure_in(options, allocators, directory, progress)
    except (measure.MeasureError, OSError) as error:
        progress.message(f"tools/quickstart: {error}")
        return 1
    except KeyboardInterrupt:
        progress.message("tools/quickstart: interrupted; nothing is left behind")
        return 130
    finally:
        measure.end_all()
        if directory:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
