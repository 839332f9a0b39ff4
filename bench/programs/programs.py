# SPDX-License-Identifier: Apache-2.0
"""The programs that are measured, and how each is prepared and run.

Called by run.py; calls measure.py for the runs and starts inputs.py for the
inputs. A program has a name, the executables that it needs, `prepare(directory)`,
which makes its input once, and `run(allocator, directory)`, which runs it once and
returns a measure.Run. README.md says what each of them stands for.

Sizes are chosen so that a run takes one to four seconds on a core of 2 GHz: long
enough that start-up does not count, short enough for five rounds in minutes.
"""

import os
import shutil
import socket
import subprocess
import sys
import time

import measure

HERE = os.path.dirname(os.path.abspath(__file__))

THREADS = 4  # More than the two cores of a small machine, as servers have.

TEXT_BYTES = 40 << 20
PERL_TEXT_BYTES = 8 << 20
PYTHON_ROUNDS = 8
SQL_CUSTOMERS, SQL_ORDERS = 20_000, 85_000
GIT_FILES, GIT_COMMITS = 500, 1_100
COMPILE_INSTANTIATIONS = 1

REDIS_TESTS = ("set", "get", "incr", "lpush", "rpush", "lpop", "sadd", "hset", "zadd")
REDIS_PIPELINE = 16
REDIS_CLIENTS = 32
# Per test. A multiple of the pipeline: redis-benchmark sends whole pipelines, and
# the number of commands served is checked.
REDIS_REQUESTS = 160_000
REDIS_KEYS = 100_000
REDIS_VALUE_BYTES = 100

# How often another port is tried where someone took the free one in between.
PORT_ATTEMPTS = 3


def which(name):
    """The path of an executable, or None; /usr/bin comes before what the user's PATH says."""
    return shutil.which(name, path="/usr/bin:/bin:" + os.environ.get("PATH", ""))


def run_tool(argv, **options):
    """Runs a command of the preparation; MeasureError if it fails."""
    done = subprocess.run(
        argv, stdin=options.pop("stdin", subprocess.DEVNULL), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, check=False, **options
    )
    if done.returncode != 0:
        text = done.stdout.decode("utf-8", errors="replace")[-2000:].strip()
        raise measure.MeasureError(f"{' '.join(argv)} failed:\n{text}")


def write_input(kind, path, *numbers):
    if not os.path.exists(path):
        script = os.path.join(HERE, "inputs.py")
        run_tool([sys.executable, "-S", "-E", script, kind, path, *map(str, numbers)])


class CommandProgram:
    """A program whose run is one command: reads, works, ends."""

    name = ""
    needs = ()

    def prepare(self, directory):
        """Makes the input; programs that need none leave this as it is."""

    def command(self, directory):
        raise NotImplementedError

    def run(self, allocator, directory):
        return measure.run_command(self.name, self.command(directory), allocator, directory)


class PythonProgram(CommandProgram):
    """python3 on python_objects.py, with its own allocator (pymalloc) above malloc or without."""

    def __init__(self, name, python_malloc):
        self.name = name
        self._environment = {"PYTHONHASHSEED": "0"}
        if python_malloc:
            self._environment["PYTHONMALLOC"] = python_malloc

    def command(self, directory):
        # No -E here: Python has to read PYTHONMALLOC.
        script = os.path.join(HERE, "python_objects.py")
        return measure.Command(
            (sys.executable, "-S", "-B", script, str(PYTHON_ROUNDS)), self._environment
        )


class PerlProgram(CommandProgram):
    name = "perl"
    needs = ("perl",)

    def prepare(self, directory):
        write_input("text", os.path.join(directory, "perl.txt"), PERL_TEXT_BYTES)

    def command(self, directory):
        return measure.Command(
            (which("perl"), os.path.join(HERE, "text_report.pl")),
            # Perl would else visit its hashes in another order in every process.
            {"PERL_HASH_SEED": "0", "PERL_PERTURB_KEYS": "0"},
            stdin=os.path.join(directory, "perl.txt"),
        )


class SqliteProgram(CommandProgram):
    name = "sqlite3"
    needs = ("sqlite3",)

    def prepare(self, directory):
        write_input("sql", os.path.join(directory, "shop.sql"), SQL_CUSTOMERS, SQL_ORDERS)

    def command(self, directory):
        return measure.Command(
            (which("sqlite3"), "-batch", "-bail", ":memory:"),
            stdin=os.path.join(directory, "shop.sql"),
        )


class CompilerProgram(CommandProgram):
    name = "g++"
    needs = ("g++",)

    def command(self, directory):
        # g++ is a driver that waits; LD_PRELOAD reaches cc1plus, the compiler
        # proper, because the driver hands its environment on. The peak RSS is
        # that of the largest process, which is cc1plus.
        result = os.path.join(directory, "compiled.o")
        return measure.Command(
            (which("g++"), "-std=c++20", "-O1", f"-DINSTANTIATIONS={COMPILE_INSTANTIATIONS}",
             "-c", os.path.join(HERE, "compile_input.cc"), "-o", result),
            watch="cc1plus",
            results=(result,),
        )


class WordIndexProgram(CommandProgram):
    name = "word_index"
    needs = ("g++",)

    def prepare(self, directory):
        write_input("text", os.path.join(directory, "text.txt"), TEXT_BYTES)
        program = os.path.join(directory, "word_index")
        if not os.path.exists(program):
            source = os.path.join(HERE, "word_index.cc")
            run_tool([which("g++"), "-std=c++20", "-O2", "-pthread", source, "-o", program])

    def command(self, directory):
        text = os.path.join(directory, "text.txt")
        return measure.Command((os.path.join(directory, "word_index"), str(THREADS), text))


class GitProgram(CommandProgram):
    name = "git"
    needs = ("git",)

    # The shell only strings the steps together; what has to use the allocator is git.
    SCRIPT = (
        'git -C "$0" log -p --stat -M main && '
        'git -C "$0" repack -a -d -f -q --threads=2 && '
        'git -C "$0" fsck --full --no-progress'
    )
    ENVIRONMENT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}

    def prepare(self, directory):
        repository = os.path.join(directory, "repository")
        if os.path.exists(repository):
            return
        history = os.path.join(directory, "history")
        write_input("git", history, GIT_FILES, GIT_COMMITS)
        environment = {**measure.base_environment(directory), **self.ENVIRONMENT}
        git = [which("git"), "-C", repository]
        run_tool([which("git"), "init", "-q", "--bare", repository], env=environment)
        # Nothing may start in the background and go on into the next run.
        run_tool([*git, "config", "gc.auto", "0"], env=environment)
        with open(history, "rb") as stream:
            run_tool([*git, "fast-import", "--quiet"], env=environment, stdin=stream)
        os.unlink(history)

    def command(self, directory):
        repository = os.path.join(directory, "repository")
        return measure.Command(
            ("/bin/sh", "-c", self.SCRIPT, repository), self.ENVIRONMENT, watch="git"
        )


class RedisProgram:
    """redis-server under redis-benchmark; the figures are those of the server.

    Wall time is that of the load. The load generator runs on libc's malloc as the
    system has it, always the same.
    """

    name = "redis"
    needs = ("redis-server", "redis-benchmark")

    def prepare(self, directory):
        pass

    def run(self, allocator, directory):
        for _ in range(PORT_ATTEMPTS):
            run, port_taken = self._run_once(allocator, directory, free_port())
            if not port_taken:
                break
        return run

    def _run_once(self, allocator, directory, port):
        run = measure.Run(self.name, allocator.name)
        log = os.path.join(directory, "redis.log")
        environment = {**measure.base_environment(directory), "LD_PRELOAD": allocator.path}
        argv = [
            which("redis-server"), "--bind", "127.0.0.1", "--port", str(port), "--save", "",
            "--appendonly", "no", "--daemonize", "no", "--dir", directory,
        ]
        with measure.Child(argv, environment, os.devnull, log, log + ".err") as server:
            if not wait_for_redis(server, port):
                run.failure = "redis-server did not start"
                run.detail = measure.tail_of(log)
                return run, "Address already in use" in run.detail
            deadline = time.monotonic() + measure.RUN_TIMEOUT_S
            run.proof, run.failure = measure.prove(server, allocator, deadline=deadline)
            if not run.failure:
                self._load(run, server, port, directory, deadline)
            server.end()
            if server.usage is None:
                run.failure = run.failure or "redis-server could not be ended"
            elif not run.failure:
                run.failure = measure.status_in_words(server.status)
            if run.failure:
                run.detail = run.detail or measure.tail_of(log)
        return run, False

    def _load(self, run, server, port, directory, deadline):
        stdout = os.path.join(directory, "stdout")
        stderr = os.path.join(directory, "stderr")
        argv = [
            which("redis-benchmark"), "-h", "127.0.0.1", "-p", str(port), "--csv",
            "-c", str(REDIS_CLIENTS), "-P", str(REDIS_PIPELINE), "-n", str(REDIS_REQUESTS),
            "-r", str(REDIS_KEYS), "-d", str(REDIS_VALUE_BYTES), "-t", ",".join(REDIS_TESTS),
        ]
        cpu_before_s = measure.read_cpu_s(server.pid)
        environment = measure.base_environment(directory)
        with measure.Child(argv, environment, os.devnull, stdout, stderr) as load:
            # A redis-benchmark whose server has gone tries again for ever, so both are watched.
            while not load.wait(0.2):
                if server.wait(0):
                    run.failure = "redis-server ended under load: " + (
                        measure.status_in_words(server.status) or "exit code 0"
                    )
                    return
                if time.monotonic() > deadline:
                    run.failure = "redis-benchmark did not end"
                    return
            run.wall_s = load.wall_s
            run.failure = measure.status_in_words(load.status)
        if run.failure:
            run.detail = measure.tail_of(stderr)
            return
        run.cpu_s = measure.read_cpu_s(server.pid) - cpu_before_s
        run.peak_rss_kib = measure.read_status_kib(server.pid, "VmHWM")
        self._check(run, port)

    def _check(self, run, port):
        """Compares what the server has counted with what was asked of it."""
        commands = len(REDIS_TESTS) * REDIS_REQUESTS
        with RedisConnection(port) as redis:
            lines = redis.ask("INFO", "stats").splitlines()
            stats = dict(line.split(":", 1) for line in lines if ":" in line)
            length = redis.ask("LLEN", "mylist")
        run.extra["per_second"] = commands / run.wall_s
        if int(stats["total_error_replies"]) != 0:
            run.failure = f"redis-server gave {stats['total_error_replies']} error replies"
        elif int(stats["total_commands_processed"]) < commands:
            run.failure = f"redis-server served {stats['total_commands_processed']} of {commands}"
        # The keys are random, so the digest holds what is not: two pushes and one pop
        # of every request are left in the list.
        run.digest = f"llen {length}"
        if length != str(REDIS_REQUESTS):
            run.failure = run.failure or f"the list is {length} long, not {REDIS_REQUESTS}"


class RedisConnection:
    """Just enough of a redis client: a command as words, the reply as text."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._stream = self._socket.makefile("rwb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stream.close()
        self._socket.close()

    def ask(self, *words):
        self._stream.write(b"*%d\r\n" % len(words))
        for word in words:
            data = word.encode()
            self._stream.write(b"$%d\r\n%s\r\n" % (len(data), data))
        self._stream.flush()
        line = self._stream.readline().rstrip(b"\r\n").decode()
        if line.startswith("$"):
            return self._stream.read(int(line[1:]) + 2)[:-2].decode()
        return line[1:]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_redis(server, port):
    """True once this server answers, False if it ends or stays mute."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not server.wait(0.02):
        try:
            with RedisConnection(port) as redis:
                # Somebody else's server may have got the port in between.
                return f"process_id:{server.pid}" in redis.ask("INFO", "server").split()
        except OSError:
            continue
    return False


ALL = (
    PythonProgram("python-malloc", "malloc"),
    PythonProgram("python", ""),
    RedisProgram(),
    CompilerProgram(),
    SqliteProgram(),
    WordIndexProgram(),
    PerlProgram(),
    GitProgram(),
)
