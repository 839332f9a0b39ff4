#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What does it cost a program to be observed? The CPU time of redis-server and of python3, with and without.

Run by hand, after a build; nothing calls it. Measured are the samples of the heap profile, which are always
taken (against TARN_PROFILE_RATE=0), and a reader: tarn stat, top or heap once a second (against none). A
pair is the same work once in each way, directly one after the other, in random order; the figure is the
median of the pairs' ratios of user and system time of the program alone, not of the reader. The rows
"control" pair the same with the same, so they say what the figures of this machine are worth.

redis-server gets its work from redis-benchmark -P 16 -t set,get. For the samples two servers run side by
side, and new ones in each round, because a server keeps the places in memory that it happened to get.
"""

import argparse
import contextlib
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "micro"))
sys.dont_write_bytecode = True
from compare import interval_of_median  # noqa: E402
from programs import free_port, which  # noqa: E402

READ_INTERVAL_S = 1.0
SAMPLING_OFF = {"TARN_PROFILE_RATE": "0"}


def environment_of(build, more=()):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TARN_")}
    return {**environment, "LD_PRELOAD": os.path.join(build, "lib", "libtarn.so.0"), **dict(more)}


def cpu_ns(pid):
    """Of all threads; the kernel's clock for this is far finer than the ticks of /proc/PID/stat."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total


@contextlib.contextmanager
def reader_of(build, verb, pid):
    """Reads the process once a second, until the end of the `with`."""
    tool = os.path.join(build, "bin", "tarn")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if verb is None:
        yield
        return
    command = {"stat": [tool, "stat", str(pid), "--watch", str(READ_INTERVAL_S)],
               "top": [tool, "top", str(pid), "--interval", str(READ_INTERVAL_S), "--count", "1000000"],
               "heap": ["sh", "-c", f"while '{tool}' heap {pid} -q -o /dev/null; do sleep {READ_INTERVAL_S}; done"]}
    with subprocess.Popen(command[verb], start_new_session=True, **quiet) as process:
        try:
            yield
            if process.poll() is not None and os.path.exists(f"/proc/{pid}"):
                raise RuntimeError(f"tarn {verb} {pid} ended with {process.returncode}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)


class Redis:
    def __init__(self, build, more=()):
        self.build = build
        self.port = free_port()
        self.directory = tempfile.TemporaryDirectory(prefix="tarn-observed-")
        self.process = subprocess.Popen(
            [which("redis-server"), "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no",
             "--dir", self.directory.name],
            env=environment_of(build, more), stdout=subprocess.DEVNULL)

    def __enter__(self):
        try:
            while subprocess.run(["redis-cli", "-p", str(self.port), "ping"], capture_output=True, check=False).returncode:
                if self.process.poll() is not None:
                    raise RuntimeError(f"redis-server ended with {self.process.returncode}")
                time.sleep(0.05)
            # A server that is not on tarn would show that nothing costs anything.
            subprocess.run([os.path.join(self.build, "bin", "tarn"), "check", str(self.process.pid)],
                           stdout=subprocess.DEVNULL, check=True)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.directory.cleanup()

    def load(self, requests, reader=None):
        """The CPU time of the server for so many requests of each kind."""
        with reader_of(self.build, reader, self.process.pid):
            before = cpu_ns(self.process.pid)
            subprocess.run(["redis-benchmark", "-p", str(self.port), "-P", "16", "-q", "-t", "set,get", "-r", "100000",
                            "-n", str(requests)], stdout=subprocess.DEVNULL, check=True)
            return cpu_ns(self.process.pid) - before


def python_work(build, rounds, more=(), reader=None):
    """The CPU time of python3, start and end included."""
    with subprocess.Popen([which("python3"), os.path.join(HERE, "python_objects.py"), str(rounds)],
                          env=environment_of(build, {"PYTHONMALLOC": "malloc", **dict(more)}),
                          stdout=subprocess.DEVNULL) as process:
        with reader_of(build, reader, process.pid):
            # It stays as a zombie meanwhile, so that the reader meets no other process of this number.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"python3 ended with {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1e9


def ratio_of(with_it, without):
    """One pair, in random order."""
    if random.random() < 0.5:
        first = with_it()
        return first / without()
    first = without()
    return with_it() / first


def redis_with_and_without_samples(options, more):
    ratios = []
    for _ in range(options.rounds):
        with Redis(options.build) as on, Redis(options.build, more) as other:
            for server in (on, other):
                server.load(options.requests)
            ratios += [ratio_of(lambda: on.load(options.requests), lambda: other.load(options.requests))
                       for _ in range(options.pairs // options.rounds)]
    return ratios


def python_with_and_without_samples(options, more):
    return [ratio_of(lambda: python_work(options.build, options.work),
                     lambda: python_work(options.build, options.work, more)) for _ in range(options.pairs)]


def redis_with_and_without_reader(options, verb):
    with Redis(options.build) as server:
        server.load(options.requests)
        return [ratio_of(lambda: server.load(options.requests * 2, verb), lambda: server.load(options.requests * 2))
                for _ in range(options.reader_pairs)]


def python_with_and_without_reader(options, verb):
    return [ratio_of(lambda: python_work(options.build, options.work * 2, reader=verb),
                     lambda: python_work(options.build, options.work * 2)) for _ in range(options.reader_pairs)]


def rows():
    """(program, what is paired, what measures it, with what)"""
    for what, more in (("control: samples / samples", {}), ("samples / TARN_PROFILE_RATE=0", SAMPLING_OFF)):
        yield "redis-server", what, redis_with_and_without_samples, more
        yield "python3", what, python_with_and_without_samples, more
    for verb in (None, "stat", "top", "heap"):
        what = f"tarn {verb} each second / none" if verb else "control: no reader / none"
        yield "redis-server", what, redis_with_and_without_reader, verb
        yield "python3", what, python_with_and_without_reader, verb


def print_row(program, what, ratios):
    interval = interval_of_median(ratios)
    text = "[{:.3f}, {:.3f}]".format(*interval) if interval else "too few pairs"
    print(f"| {program} | {what} | {statistics.median(ratios):.3f} | {text} | {len(ratios)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", default=os.path.join(HERE, "../../build"))
    parser.add_argument("--only", metavar="REGEX", type=re.compile, default=re.compile(""), help="rows with a match")
    parser.add_argument("--pairs", type=int, default=40, help="of the samples (40)")
    parser.add_argument("--reader-pairs", type=int, default=16, help="of each reader, whose runs take longer (16)")
    parser.add_argument("--rounds", type=int, default=8, help="with new servers (8)")
    parser.add_argument("--requests", type=int, default=400000, help="of each kind, of redis-benchmark (400000)")
    parser.add_argument("--work", type=int, default=6, help="rounds of python_objects.py (6)")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    print("| program | CPU time with / without | ratio | interval | pairs |\n|---|---|---|---|---|", flush=True)
    for program, what, measure, how in rows():
        if options.only.search(f"{program}: {what}"):
            print_row(program, what, measure(options, how))


if __name__ == "__main__":
    main()
