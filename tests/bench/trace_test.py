#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of allocation traces: what is recorded, what is packed, what replays, what is refused.

Usage: trace_test.py RECORDER TRACE REPLAY PROGRAM

Records PROGRAM (trace_program.cc), whose calls are known.
"""

import glob
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

RECORDER, TRACE, REPLAY, PROGRAM = sys.argv[1:5]
TARN = os.environ.get("TARN_LIB", "")
PEERS = sorted(sum((glob.glob(f"/usr/lib/*-linux-gnu/lib{name}") for name in (
    "mimalloc.so.2", "jemalloc.so.2", "tcmalloc_minimal.so.4")), []))
ALLOCATORS = [""] + [path for path in (TARN, *PEERS) if os.path.exists(path)]
SHIPPED = sorted(glob.glob(os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench", "traces", "*.trace")))

HEADER = struct.Struct("<8sIIQQQQII")


def run(*command, preload="", **environment):
    variables = {"PATH": os.environ["PATH"], **environment}
    if preload:
        variables["LD_PRELOAD"] = preload
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=500)


class TraceTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="tarn-trace-test-")
        self.addCleanup(scratch.cleanup)
        self.directory = scratch.name

    def path(self, name):
        return os.path.join(self.directory, name)

    def record(self, what, allocator="", status=0):
        """The path of the one recording of a run of the program."""
        prefix = os.path.join(tempfile.mkdtemp(dir=self.directory), "rec")
        done = run(PROGRAM, what, preload=f"{RECORDER} {allocator}".strip(), ALLOC_TRACE=prefix)
        self.assertEqual((done.returncode, done.stderr), (status, ""))
        recordings = glob.glob(f"{prefix}.trace_program.*")
        self.assertEqual(len(recordings), 1, recordings)
        return recordings[0]

    def pack(self, what, allocator="", status=0, options=()):
        path = self.path("packed.trace")
        done = run(TRACE, "pack", self.record(what, allocator, status), "-o", path, *options)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return path

    def events(self, trace):
        """The events of the objects that the program makes: those above 70 000 bytes, but for what the C++
        library sets aside at its start. They are numbered in the order in which they are made."""
        shown = run(TRACE, "show", trace)
        self.assertEqual(shown.returncode, 0, shown.stderr)
        events, names = [], {}
        for line in shown.stdout.splitlines():
            made = re.fullmatch(r"  (.*) (\d+) bytes -> (\S+)", line)
            ended = re.match(r"  (?:free|realloc) (\S+)", line)
            name = names.get(ended[1], "") if ended else ""
            if made and int(made[2]) > 70000 and made[2] != "72704":
                names[made[3]] = f"object {len(names)}"
                what = made[1].replace(ended[1], name) if ended else made[1]
                events.append(f"{what}, {made[2]}")
            elif name:
                events.append(f"free {name}")
        return events

    def replay(self, trace, *options, allocator="", **environment):
        done = run(REPLAY, trace, *options, preload=allocator, **environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def refused(self, data, why):
        path = self.path("bad.trace")
        with open(path, "wb") as file:
            file.write(data)
        done = run(REPLAY, path)
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        self.assertRegex(done.stderr, f"replay: {re.escape(path)}: {why}")


class RecordTest(TraceTest):
    EXPECTED = [
        "malloc, 70001",
        "calloc, 210006",
        "aligned to 512, 70144",
        "realloc object 0, 170001",
        "free object 1",
        "aligned to 64, 70004",
        "free object 2",
        "malloc, 70005",
        "aligned to 32, 70016",
        "free object 6",
        "free object 5",
        "realloc object 3, 170010",
        "free object 4",
        "free object 7",
        "malloc, 70006",
    ]

    def test_every_call_is_recorded_once(self):
        # Allocators that define operator new themselves, and one where the C++ library's calls malloc.
        for allocator in ALLOCATORS:
            with self.subTest(allocator=allocator):
                self.assertEqual(self.events(self.pack("plain", allocator)), self.EXPECTED)

    def test_an_operator_new_that_throws(self):
        # mimalloc's ends the process instead.
        for allocator in {"", TARN}:
            with self.subTest(allocator=allocator):
                self.assertEqual(self.events(self.pack("throws", allocator)), ["malloc, 70001", "free object 0"])

    def test_a_child_of_fork_is_not_recorded(self):
        self.assertEqual(self.events(self.pack("fork")), ["malloc, 70001", "free object 0"])

    def test_a_killed_program_leaves_its_recording(self):
        self.assertEqual(self.events(self.pack("killed", status=-signal.SIGKILL)), ["malloc, 70001", "free object 0"])

    def test_without_a_path_nothing_is_recorded(self):
        done = run(PROGRAM, "plain", preload=RECORDER)
        self.assertEqual(done.returncode, 0)
        self.assertIn("ALLOC_TRACE is not set", done.stderr)
        done = run(PROGRAM, "plain", preload=RECORDER, ALLOC_TRACE="/nonexistent/rec")
        self.assertEqual(done.returncode, 0)
        self.assertIn("cannot create /nonexistent/rec.trace_program.", done.stderr)


class PackTest(TraceTest):
    def test_part_of_a_recording(self):
        trace = self.pack("threads", options=("--events", "2000", "--name", "a part"))
        shown = run(TRACE, "show", trace).stdout.splitlines()
        self.assertEqual(shown[0], "program a part")
        self.assertLessEqual(abs(sum(line.startswith("  ") for line in shown) - 2000), 1)

    def test_what_is_no_recording(self):
        path = self.path("text")
        with open(path, "w", encoding="ascii") as file:
            file.write("hello\n" * 100000)
        done = run(TRACE, "pack", path, "-o", self.path("out"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("this is no recording", done.stderr)
        self.assertFalse(os.path.exists(self.path("out")))

    def test_usage(self):
        for arguments in ([], ["pack"], ["pack", "x", "-o"], ["what"], ["pack", "x", "-o", "y", "--events", "z"]):
            self.assertEqual(run(TRACE, *arguments).returncode, 2, arguments)
        self.assertEqual(run(TRACE, "--help").returncode, 0)


class ReplayTest(TraceTest):
    def test_same_result_under_every_allocator(self):
        trace = self.pack("threads")
        expected = self.replay(trace, "--repeat", "5", "--touch", "all")
        self.assertRegex(expected, r"trace_program, 2 threads, 5 times")
        self.assertRegex(expected, r"checksum [0-9a-f]{16}")
        for allocator in ALLOCATORS:
            for touch in ("none", "first", "all"):
                with self.subTest(allocator=allocator, touch=touch):
                    self.assertEqual(
                        self.replay(trace, "--repeat", "5", "--touch", touch, allocator=allocator), expected)
        self.assertEqual(self.replay(trace, "--repeat", "5", "--null"), expected)
        self.assertNotEqual(self.replay(trace, "--repeat", "4"), expected)

    def test_objects_of_another_thread(self):
        trace = self.pack("threads")
        shown = run(TRACE, "show", trace).stdout
        main, consumer = re.split("^thread 1$", shown, flags=re.MULTILINE)
        made = re.findall(r"malloc 777 bytes -> (0\.\d+)", main)
        self.assertEqual(len(made), 5000)
        self.assertEqual([name for name in re.findall(r"free (0\.\d+)", consumer) if name in set(made)], made)

    def test_metrics(self):
        trace = self.pack("plain")
        metrics = self.path("metrics.json")
        stdout = self.replay(trace, "--repeat", "2", BENCH_METRICS=metrics)
        with open(metrics, encoding="ascii") as file:
            values = json.load(file)
        self.assertEqual(values["threads"], 1)
        self.assertEqual(values["operations"], int(re.search(r"operations (\d+)", stdout)[1]))
        self.assertEqual(values["live_peak_bytes"], int(re.search(r"live peak (\d+)", stdout)[1]))
        self.assertGreaterEqual(values["live_peak_bytes"], 170001 + 210006)

    def test_usage(self):
        for arguments in ([], ["x", "--repeat", "0"], ["x", "--touch", "some"], ["x", "y"], ["--what"]):
            done = run(REPLAY, *arguments)
            self.assertEqual((done.returncode, done.stdout), (2, ""), arguments)
        self.assertEqual(run(REPLAY, "--help").returncode, 0)
        done = run(REPLAY, "/nonexistent")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nonexistent: No such file or directory", done.stderr)


class RefusalTest(TraceTest):
    def setUp(self):
        super().setUp()
        with open(self.pack("plain"), "rb") as file:
            self.data = file.read()

    def test_truncated(self):
        self.refused(b"", "this is no trace")
        self.refused(self.data[:7], "this is no trace")
        self.refused(self.data[:20], "truncated: it ends within its header")
        self.refused(self.data[:-1], "truncated: it is shorter")
        self.refused(self.data + b"x", "corrupt: it is longer")

    def test_flipped_bits(self):
        # Every byte of the header, and a part of the others; a different bit each time.
        positions = [*range(HEADER.size), *range(HEADER.size, len(self.data), 37)]
        for position in positions:
            data = bytearray(self.data)
            data[position] ^= 1 << position % 8
            self.refused(bytes(data), "this is no trace|version|truncated|corrupt")

    def test_newer_version(self):
        self.refused(self.data[:8] + struct.pack("<I", 2) + self.data[12:],
                     "version 2 of the format, and this program reads version 1")

    def payload_refused(self, threads, events, payload, why):
        """A file that is whole, with a payload that is wrong."""
        deflated = zlib.compress(payload)
        fields = (b"tarntrc\n", 1, threads, events, 0, len(payload), len(deflated), zlib.crc32(deflated))
        header = HEADER.pack(*fields, 0)
        header = HEADER.pack(*fields, zlib.crc32(header[:-4]))
        self.refused(header + deflated, why)

    def test_contents_that_cannot_be(self):
        def thread(operations, sizes, references):
            return b"".join(bytes([len(column)]) + bytes(column) for column in (operations, sizes, references))

        malloc, free, start, foreign_free = 0, 4, 5, 0x84
        name = b"\x01x"
        one = name + thread([malloc, free], [8], [0])
        self.payload_refused(1, 3, one, "corrupt: the number of events")
        self.payload_refused(2, 2, one, "corrupt: a column ends too early")
        self.payload_refused(1, 2, one + b"x", "corrupt: the number of events")
        self.payload_refused(1, 1, name + thread([9], [], []), "corrupt: an operation")
        not_there = "corrupt: an object ends that does not live"
        self.payload_refused(1, 2, name + thread([malloc, free], [8], [1]), not_there)
        self.payload_refused(1, 2, name + thread([free, malloc], [8], [0]), not_there)
        self.payload_refused(1, 1, name + thread([malloc], [8, 8], []), "corrupt: a column is too long")
        # Two threads that would wait for each other.
        wait = [thread([start, foreign_free, malloc], [8], [1, 1, 0]), thread([foreign_free, malloc], [8], [0, 0])]
        self.payload_refused(2, 5, name + b"".join(wait), "not legal: a thread waits for ever")
        self.payload_refused(2, 2, name + thread([malloc], [8], []) * 2, "not legal: a thread (waits|is never)")
        twice = thread([malloc, free, start], [8], [0, 1]) + thread([foreign_free], [], [0, 0])
        self.payload_refused(2, 4, name + twice, "not legal: an object ends twice")


class ShippedTest(unittest.TestCase):
    def test_shipped_traces_replay(self):
        self.assertGreaterEqual(len(SHIPPED), 4)
        for trace in SHIPPED:
            with self.subTest(trace=trace):
                self.assertLessEqual(os.path.getsize(trace), 400 * 1024)
                results = {run(REPLAY, trace, preload=allocator).stdout for allocator in ("", TARN)}
                self.assertEqual(len(results), 1)
                self.assertRegex(results.pop(), "checksum")
        self.assertLessEqual(sum(map(os.path.getsize, SHIPPED)), 1536 * 1024)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
