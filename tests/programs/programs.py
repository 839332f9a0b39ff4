# SPDX-License-Identifier: Apache-2.0
"""Shared by the tests of this directory: running a program on glibc's malloc and on tarn.

A test is a function that takes a Stage and is run by `main`. It fails by raising Failure, is
skipped by raising Skip (exit code 77), and passes by returning.

A program that fails on glibc's malloc already says nothing about tarn: a processor that gdb does not
know, a package with other names, a machine too busy for a server's own time limits. So a run on glibc that
fails skips the test with the reason. What fails on tarn is repeated with every program on glibc: the test
fails only if that passes.

The environment says what is tested: TARN_LIB is the library to preload, TARN_MODE its cache mode.
The first argument of each script is the malloc witness (malloc_witness.cc): preloaded behind the
library, it notes for every process which file its malloc is in. `main` fails a test of which any
process ran on another malloc, so no test passes because nothing was preloaded.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

# No single program of these tests takes longer, even on a busy machine; a longer one hangs.
PATIENCE_SECONDS = 900


class Failure(Exception):
    """The program did not do what it must."""


class Difference(Failure):
    """It did on tarn what it did not on glibc a moment before: no further run on glibc is needed."""


class Skip(Exception):
    """Something that the test needs is not on this machine."""


def find_program(*names):
    """The path of the first of these programs that is there; skips the test if none is."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    raise Skip(f"{' or '.join(names)} is not installed")


def short(output, lines=25):
    text = output.decode(errors="replace") if isinstance(output, bytes) else output
    return "\n".join(text.splitlines()[-lines:])


def fail_on(tarn, message):
    """The exception for a program that failed: without its reference there is nothing to compare with."""
    return Failure(f"on tarn: {message}") if tarn else Skip(f"fails on glibc already: {message}")


class Stage:
    """A temporary directory, and the two environments in which programs run. A reference stage runs everything on
    glibc, and asks nothing that is asked of tarn only."""

    def __init__(self, directory, witness, reference=False):
        self.directory = directory
        self.reference = reference
        # Set by a test whose program defines malloc itself: no process is seen on tarn's then.
        self.has_own_malloc = False
        self.preload = os.path.realpath(os.environ["TARN_LIB"])
        self.witness = os.path.realpath(witness)
        self.notes = os.path.join(directory, "witness.txt")
        common = {
            name: value
            for name, value in os.environ.items()
            # TARN_LIB and TARN_BUILD are the tests' own; the library would call them unknown.
            if name not in ("LD_PRELOAD", "TARN_LIB", "TARN_BUILD")
        }
        common.update(LC_ALL="C", TZ="UTC", HOME=directory)
        self.on_glibc = common
        self.on_tarn = dict(
            common, LD_PRELOAD=f"{self.preload}:{self.witness}", MALLOC_WITNESS=self.notes
        )
        if reference:
            self.on_tarn = common

    def path(self, *parts):
        return os.path.join(self.directory, *parts)

    def write(self, name, content):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        return path

    def run(self, command, tarn=True, env=None, check=True, **options):
        """Runs a program to its end and returns it; fails, or skips on glibc, if it fails or hangs."""
        environment = dict(self.on_tarn if tarn else self.on_glibc, **(env or {}))
        options.setdefault("cwd", self.directory)
        options.setdefault("timeout", PATIENCE_SECONDS)
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        try:
            done = subprocess.run(command, env=environment, capture_output=True, **options)
        except subprocess.TimeoutExpired as error:
            raise fail_on(tarn, f"hangs: {' '.join(command)}") from error
        if tarn:
            self.check_messages(done.stderr)
        if check and done.returncode != 0:
            said = f"{short(done.stdout)}\n{short(done.stderr)}"
            raise fail_on(tarn, f"exit {done.returncode}: {' '.join(command)}\n{said}")
        return done

    @staticmethod
    def check_messages(stderr):
        """A valid program never makes tarn say anything, unless it is asked to."""
        if "TARN_VERBOSE" in os.environ or "TARN_STATS" in os.environ:
            return
        for line in stderr.decode(errors="replace").splitlines():
            if line.startswith("tarn: "):
                raise Failure(f"the library complains: {line}")

    def compare(self, command, normalise=lambda output: output, **options):
        """Runs a program on both; fails unless exit code and output are the same."""
        expected = self.run(command, tarn=False, **options)
        actual = self.run(command, tarn=True, **options)
        if expected.returncode != actual.returncode:
            raise Difference(
                f"exit {actual.returncode} instead of {expected.returncode}: {' '.join(command)}\n"
                f"{short(actual.stderr)}"
            )
        if normalise(expected.stdout) != normalise(actual.stdout):
            raise Difference(
                f"another output than on glibc: {' '.join(command)}\n"
                f"--- glibc\n{short(normalise(expected.stdout))}\n"
                f"--- tarn\n{short(normalise(actual.stdout))}"
            )
        return actual

    @contextlib.contextmanager
    def server(self, command, stop=signal.SIGTERM, env=None, tarn=True, **options):
        """Runs a server while the block runs, and stops it with a signal afterwards."""
        log_path = self.path("server.log")
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                command,
                env=dict(self.on_tarn if tarn else self.on_glibc, **(env or {})),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **options,
            )
        failed = True
        try:
            yield process
            failed = False
        finally:
            with open(log_path, "rb") as log:
                text = log.read()
            died = process.poll()
            if died is None:
                process.send_signal(stop)
                try:
                    ended = process.wait(PATIENCE_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    ended = "a hang"
            if failed or died is not None:
                print(f"the server's last words:\n{short(text)}", file=sys.stderr)
        if died is not None:
            raise fail_on(tarn, f"{command[0]} died with {died}")
        if ended not in (0, -stop):
            raise fail_on(tarn, f"{command[0]} ended with {ended} when it was stopped")
        self.check_messages(text)

    def check_maps(self, pid):
        """Fails unless the running process has the library mapped."""
        if self.reference:
            return
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
            if self.preload not in maps.read():
                raise Failure(f"process {pid} does not have {self.preload} mapped")

    def witnessed(self):
        """Executable name -> number of processes; fails if one had another malloc."""
        counts = {}
        if not os.path.exists(self.notes):
            return counts
        with open(self.notes, encoding="utf-8", errors="replace") as notes:
            for line in notes:
                _, executable, library = line.rstrip("\n").split("\t")
                if os.path.realpath(library) != self.preload:
                    raise Failure(f"{executable} has its malloc from {library}")
                name = os.path.basename(executable)
                counts[name] = counts.get(name, 0) + 1
        return counts

    def require_witnessed(self, *names):
        """Fails unless each of these programs ran on tarn."""
        if self.reference:
            return
        counts = self.witnessed()
        for name in names:
            if name not in counts:
                raise Failure(f"no process of {name} was seen on tarn, only {sorted(counts)}")


def wait_until(condition, what, seconds=PATIENCE_SECONDS):
    """Waits for something that a server does a moment after its start."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"{what} did not happen within {seconds} s")
        time.sleep(0.02)


def hide_numbers(output):
    """Addresses and process ids differ from run to run."""
    text = re.sub(rb"0x[0-9a-f]+", b"0x...", output)
    return re.sub(rb"(LWP|process|Thread|Inferior) \d+", rb"\1 ...", text)


def run_on(test, arguments, witness, reference):
    """Runs the test in a directory of its own, and returns the processes that were seen on tarn."""
    with tempfile.TemporaryDirectory(prefix="tarn-programs-") as directory:
        stage = Stage(directory, witness, reference)
        test(stage, *arguments)
        counts = stage.witnessed()
        if not counts and not reference and not stage.has_own_malloc:
            raise Failure("no process was seen to run on tarn")
        return counts


def judge(test, arguments, witness):
    """Runs the test on tarn, and on glibc where it fails; returns the exit code after saying why."""
    started = time.monotonic()
    try:
        counts = run_on(test, arguments, witness, reference=False)
    except Skip as reason:
        print(f"skipped: {reason}")
        return 77
    except Failure as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        if isinstance(failure, Difference):
            return 1
        try:
            run_on(test, arguments, witness, reference=True)
        except (Failure, Skip) as reason:
            print(f"skipped: without tarn it fails, too: {reason}")
            return 77
        print("without tarn all of it passes", file=sys.stderr)
        return 1
    seen = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    mode = os.environ.get("TARN_MODE", "auto")
    print(f"ok: {time.monotonic() - started:.1f} s in {mode} mode; processes on tarn: {seen}")
    return 0


def main(test):
    if len(sys.argv) < 2 or "TARN_LIB" not in os.environ:
        print(f"usage: TARN_LIB=... {sys.argv[0]} WITNESS [argument...]", file=sys.stderr)
        sys.exit(2)
    witness, *arguments = sys.argv[1:]
    sys.exit(judge(test, arguments, witness))
