# SPDX-License-Identifier: Apache-2.0
"""Runs one program once and says what it cost; decides in which order runs come.

Called by run.py (the order) and programs.py (the runs). Calls in_use.py for the
proof that the allocator in question served the process.

What stays true:
- A run that ends with another exit status than zero, gives another result than
  the reference run, or was not proven to use its allocator has `failure` set,
  and nobody takes a figure from it.
- Time, CPU time and peak RSS come from the kernel's account of the process
  (wait4), which holds its waited-for children too: CPU summed up, RSS as the
  largest single process. A server's figures are taken from /proc by the caller.
- Only processes that this module started are ever ended, by their ids.
"""

import contextlib
import hashlib
import os
import select
import signal
import sys
import time
from dataclasses import asdict, dataclass, field

import in_use

# Pause between two looks at a process whose allocator is not proven yet. Short
# against the shortest run (half a second), long against one look (below 1 ms
# once the ELF files are known).
LOOK_PAUSE_S = 0.005

# How long a process may take to end by itself after SIGTERM.
END_GRACE_S = 10.0

# A run that takes so long hangs: the slowest takes some seconds.
RUN_TIMEOUT_S = 300.0

# Settings of allocators that a user may want to compare; all else that the
# environment says is kept away from the programs.
PASSED_ON_PREFIXES = ("TARN_", "MIMALLOC_", "MALLOC_", "GLIBC_TUNABLES")
NOT_SETTINGS = ("TARN_LIB", "TARN_BUILD")  # Where the tests find what was built.


class MeasureError(Exception):
    """Something that stops the whole measurement; the text is for the user."""


@dataclass(frozen=True)
class Allocator:
    """A malloc to measure: its name in the table and the library that is preloaded.

    glibc's malloc is preloaded like the others, as libc.so.6 itself. For most
    programs that changes nothing, but some bring another malloc along (Debian's
    redis-server is linked to libjemalloc), and without this their figures would
    stand under the wrong name.
    """

    name: str
    path: str


@dataclass
class Run:
    """One run of one program; `failure` says in words why its figures do not count."""

    program: str
    allocator: str
    round: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_rss_kib: int = 0
    minor_faults: int = 0
    digest: str = ""
    proof: str = ""
    failure: str = ""
    detail: str = ""
    extra: dict = field(default_factory=dict)

    def to_json(self):
        return asdict(self)


@dataclass(frozen=True)
class Command:
    """A program that reads its input, works and ends.

    watch: the name of the executable that has to run on the allocator, where it
    is a child of argv[0] (cc1plus under g++) and not argv[0] itself.
    results: files that the program writes and that belong to its result, besides
    its standard output.
    """

    argv: tuple
    env: dict = field(default_factory=dict)
    stdin: str = os.devnull
    watch: str = ""
    results: tuple = ()
    timeout_s: float = RUN_TIMEOUT_S


def settings():
    """The settings of allocators that stand in our own environment."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(PASSED_ON_PREFIXES) and name not in NOT_SETTINGS
    }


def base_environment(directory):
    """The environment of every program: the same for all, and nothing of the user's."""
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": directory,
        "TMPDIR": directory,
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }
    environment.update(settings())
    return environment


INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def uninterrupted():
    """Holds signals back, for steps of which half would leave something behind."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_running = set()


def end_all():
    """Ends every child that is still there, whichever moment an interrupt has hit."""
    for child in list(_running):
        child.end()


class Child:
    """A process in a process group of its own; leaving the `with` block ends it.

    The group is there so that the compiler proper ends together with its driver.
    """

    def __init__(self, argv, env, stdin, stdout, stderr):
        self.status = None
        self.usage = None
        self.wall_s = None
        with uninterrupted():
            self._start(argv, env, stdin, stdout, stderr)
            _running.add(self)

    def _start(self, argv, env, stdin, stdout, stderr):
        self.started_at = time.monotonic()
        writable = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        try:
            # posix_spawn, because it stops this process until the new program is
            # loaded or has failed: nobody looks at a copy of this process by mistake.
            self.pid = os.posix_spawn(
                argv[0],
                argv,
                env,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, stdout, writable, 0o600),
                    (os.POSIX_SPAWN_OPEN, 2, stderr, writable, 0o600),
                ],
                setpgroup=0,
                setsigmask=[],
                setsigdef=[*INTERRUPTS, signal.SIGPIPE],
            )
        except OSError as error:
            raise MeasureError(f"cannot start {argv[0]}: {error.strerror}") from error
        self.pidfd = os.pidfd_open(self.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def wait(self, timeout_s):
        """True once the process has ended; its status, usage and wall_s are set then."""
        if self.status is None:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            if not poll.poll(max(0.0, timeout_s) * 1000):
                return False
            self.wall_s = time.monotonic() - self.started_at
            with uninterrupted():
                _, self.status, self.usage = os.wait4(self.pid, 0)
                os.close(self.pidfd)
                _running.discard(self)
        return True

    def end(self):
        """Ends the process and what is left of its group, and waits for it."""
        if self.status is not None:
            return
        try:
            self._signal(signal.SIGTERM)
            self.wait(END_GRACE_S)
        finally:
            if self.status is None:
                self._signal(signal.SIGKILL)
                self.wait(END_GRACE_S)

    def _signal(self, number):
        try:
            # The leader was not waited for, so this group id is still ours.
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    def members(self):
        """(pid, name of the executable) of every process of the group."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stat:
                    # The name in brackets may hold blanks; the group is the third field after it.
                    group = int(stat.read().rpartition(")")[2].split()[2])
                if group == self.pid:
                    executable = os.readlink(f"/proc/{entry}/exe")
                    found.append((int(entry), os.path.basename(executable)))
            except (OSError, ValueError, IndexError):
                continue
        return found


def status_in_words(status):
    """What wait4's status says, or an empty text for exit code zero."""
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return ""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"exit code {code}"


def digest_of(paths):
    """A digest of the contents of some files, in order."""
    total = hashlib.sha256()
    for path in paths:
        try:
            with open(path, "rb") as file:
                while part := file.read(1 << 16):
                    total.update(part)
        except FileNotFoundError:
            total.update(b"(missing)")
    return total.hexdigest()[:16]


def tail_of(path, characters=2000):
    """The end of a file as text, for messages."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - characters))
            return file.read().decode("utf-8", errors="replace").strip()
    except OSError:
        return ""


def own_peak_rss_kib():
    return read_status_kib("self", "VmHWM")


def read_status_kib(pid, name):
    """A figure of /proc/PID/status in KiB, 0 where the process has ended."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as status:
            for line in status:
                if line.startswith(name + ":"):
                    return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


def read_cpu_s(pid):
    """User and system time of a process so far, from /proc/PID/stat."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def prove(child, allocator, watch="", deadline=None):
    """Looks at the process until it is known which allocator it uses.

    Returns (proof, failure); one of them is empty. Ends early when the process does.
    """
    what = watch or "the process"
    while not child.wait(LOOK_PAUSE_S):
        for pid, name in child.members() if watch else [(child.pid, "")]:
            if watch and name != watch:
                continue
            finding = in_use.look(pid)
            verdict = finding.verdict(allocator.path) if finding else None
            if verdict is True:
                return ("slots" if finding.slots_readable else "mapping"), ""
            if verdict is False:
                seen = ", ".join(sorted(os.path.basename(path) for path in finding.owners))
                return "", f"{what} does not use {allocator.name}: malloc leads to {seen}"
        if deadline is not None and time.monotonic() > deadline:
            break
    return "", f"not proven that {what} uses {allocator.name}"


def run_command(program, command, allocator, directory):
    """Runs a command once under an allocator. Everything that it writes stays in `directory`."""
    run = Run(program, allocator.name)
    stdout, stderr = os.path.join(directory, "stdout"), os.path.join(directory, "stderr")
    for path in command.results:
        if os.path.exists(path):
            os.unlink(path)
    environment = {**base_environment(directory), **command.env, "LD_PRELOAD": allocator.path}
    with Child(list(command.argv), environment, command.stdin, stdout, stderr) as child:
        deadline = child.started_at + command.timeout_s
        run.proof, unproven = prove(child, allocator, command.watch, deadline)
        if not child.wait(deadline - time.monotonic()):
            run.failure = f"still running after {command.timeout_s:.0f} s"
            child.end()
    if child.usage is None:
        run.failure = run.failure or "could not be ended"
        return run
    run.wall_s = child.wall_s
    run.cpu_s = child.usage.ru_utime + child.usage.ru_stime
    run.minor_faults = child.usage.ru_minflt
    run.digest = digest_of((stdout, *command.results))
    run.failure = run.failure or status_in_words(child.status) or unproven
    set_peak_rss(run, child.usage.ru_maxrss)
    if run.failure:
        run.detail = tail_of(stderr)
    return run


def set_peak_rss(run, peak_rss_kib):
    """Takes over a peak RSS if it is the program's own.

    Linux hands the peak of the process that called posix_spawn on to the program
    that it starts (exec_mmap keeps the larger of both), so a figure that is not
    above our own peak says nothing. The programs are chosen to be far above it.
    """
    if peak_rss_kib > own_peak_rss_kib():
        run.peak_rss_kib = peak_rss_kib
    elif not run.failure:
        run.failure = "its peak RSS is not above that of the measuring process"


def check_allocator(allocator, directory):
    """Raises MeasureError unless a process with this library preloaded gets its malloc."""
    stderr = os.path.join(directory, "stderr")
    environment = {**base_environment(directory), "LD_PRELOAD": allocator.path}
    argv = [sys.executable, "-S", "-E", "-c", "import time; time.sleep(20)"]
    with Child(argv, environment, os.devnull, os.devnull, stderr) as child:
        _, failure = prove(child, allocator, deadline=time.monotonic() + 10)
    if failure:
        message = tail_of(stderr, 300)
        raise MeasureError(
            f"{allocator.name} ({allocator.path}) cannot be measured: {failure}"
            + (f"; {message}" if message else "")
        )


def schedule(programs, allocators, rounds, random_source):
    """The order of all runs as (round, program, allocator).

    Every round visits each program, and each program's block in it runs every
    allocator once, in a random order: whatever drifts while the whole takes
    minutes (heat, neighbours, the page cache) meets all allocators alike, and
    none of them always comes first.
    """
    for number in range(1, rounds + 1):
        for program in programs:
            block = list(allocators)
            random_source.shuffle(block)
            for allocator in block:
                yield number, program, allocator
