#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""faketime, which interposes the clocks and the waits of libc, in front of tarn and behind it, with perl and Python.

Both allocate and free much, wait, and have threads: what tarn does beside the program must not go through the functions
that faketime has interposed.
"""

import glob

import programs

PERL = r"""
use strict; use warnings;
use POSIX qw(strftime);
use Time::HiRes qw(usleep);
use Config;
print strftime("%Y-%m-%d %H", gmtime), "\n";
for my $round (1 .. 3) {
  my @blocks = map { chr(65 + $_ % 26) x (200_000 + $_) } 1 .. 200;
  my %table = map { $_ => "value $_" x 8 } 1 .. 60_000;
  print $round, " ", length(join '', @blocks), " ", scalar(keys %table), "\n";
  @blocks = ();
  %table = ();
  usleep(100_000);
}
my $pid = open(my $pipe, '-|') // die "fork: $!";
if (!$pid) { my @words = map { "word $_" } 1 .. 50_000; print scalar(@words), strftime(" %Y", gmtime), "\n"; exit 0; }
print "child: ", <$pipe>;
close $pipe or die "child: $?";
if ($Config{useithreads}) {
  require threads;
  my @threads = map { my $n = $_; threads->create(sub { my @all = map { "$n $_" } 1 .. 30_000; scalar(@all) }) } 1 .. 3;
  print "thread: ", $_->join, "\n" for @threads;
}
print strftime("%Y-%m-%d %H", gmtime), "\n";
"""

PYTHON = r"""
import datetime, threading, time
print(datetime.datetime.utcnow().strftime("%Y-%m-%d %H"))
for round in range(3):
    blocks = [bytes([n % 251]) * (200_000 + n) for n in range(200)]
    table = {n: "value %d" % n * 8 for n in range(60_000)}
    print(round, sum(map(len, blocks)), len(table))
    del blocks, table
    time.sleep(0.1)
results = {}
def work(number):
    time.sleep(0.05)
    results[number] = len({n: str(n) * number for n in range(30_000)})
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(results.items()), datetime.datetime.utcnow().year)
"""


def test(stage):
    libraries = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not libraries:
        raise programs.Skip("libfaketime is not installed")
    faketime = libraries[0]
    commands = (
        [programs.find_program("perl"), stage.write("work.pl", PERL)],
        [programs.find_program("/usr/bin/python3", "python3"), "-W", "ignore", stage.write("work.py", PYTHON)],
    )
    settings = {"FAKETIME": "@2020-02-02 02:02:02", "PYTHONMALLOC": "malloc", "PERL_HASH_SEED": "0"}
    ours = stage.on_tarn.get("LD_PRELOAD")
    for command in commands:
        expected = stage.run(command, tarn=False, env=dict(settings, LD_PRELOAD=faketime)).stdout
        if b"2020-02-02 02" not in expected:
            raise programs.Skip(f"faketime does nothing on glibc: {programs.short(expected)}")
        if ours is None:
            continue
        for preload in (f"{ours}:{faketime}", f"{faketime}:{ours}"):
            actual = stage.run(command, env=dict(settings, LD_PRELOAD=preload)).stdout
            if actual != expected:
                raise programs.Difference(
                    f"with {preload}:\n{programs.short(actual)}\ninstead of\n{programs.short(expected)}"
                )


if __name__ == "__main__":
    programs.main(test)
