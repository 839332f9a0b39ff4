#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tarn release and tarn limit on processes that answer, that cannot, and that do not use tarn.

Usage: release_test.py TARN PROGRAM     (PROGRAM: release_program.cc)
"""

import errno
import json
import os
import platform
import signal
import subprocess
import sys
import time
import unittest

from patience import PATIENCE_SECONDS
from system_calls import refuse_system_call, without_memory_file

TARN = PROGRAM = None
LIBRARY = os.environ["TARN_LIB"]
MIB = 1 << 20


def start(*arguments, verb="release", within=(), **options):
    return subprocess.Popen([*within, TARN, verb, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, **options)


def limit(*arguments, **options):
    return release(*arguments, verb="limit", **options)


def release(*arguments, code=0, **options):
    """Returns the verb's stdout and stderr; its exit code must be this one."""
    process = start(*arguments, **options)
    out, error = process.communicate(timeout=PATIENCE_SECONDS)
    if process.returncode != code:
        raise AssertionError("exit code %d, not %d\n%s%s" % (process.returncode, code, out, error))
    return out, error


class Program:
    """release_program, or another command, until the end of the `with`."""

    def __init__(self, *command, preload=LIBRARY, background="on"):
        variables = {name: value for name, value in os.environ.items() if not name.startswith("TARN_")}
        # Free memory has to be there still when the request comes.
        variables.update(TARN_BACKGROUND=background, TARN_RELEASE_DELAY="60s")
        if preload:
            variables["LD_PRELOAD"] = preload
        self.process = subprocess.Popen(command or [PROGRAM], env=variables, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.pid = self.process.pid
        if not command:
            self.wait_ready()

    def wait_ready(self):
        if self.process.stdout.readline() != b"ready\n":
            raise AssertionError("the program has ended")

    def send(self, word):
        self.process.stdin.write(word.encode() + b"\n")
        self.process.stdin.flush()

    def do(self, word):
        self.send(word)
        self.wait_ready()

    def resident_bytes(self):
        with open("/proc/%d/statm" % self.pid, encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def await_scavenger(self):
        """A thread that has just been started has not given itself its name yet."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            if self.has_scavenger():
                return
            time.sleep(0.01)
        raise AssertionError("there is no scavenger")

    def has_scavenger(self):
        for task in os.listdir("/proc/%d/task" % self.pid):
            try:
                with open("/proc/%d/task/%s/comm" % (self.pid, task), encoding="ascii") as file:
                    if file.read() == "tarn-scavenger\n":
                        return True
            except FileNotFoundError:
                pass
        return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


class ReleaseTest(unittest.TestCase):
    def test_the_scavenger_answers(self):
        with Program() as program:
            # The scavenger may have been faster by itself, on a machine with much to do.
            for _ in range(10):
                program.do("burst")
                program.await_scavenger()
                answer = json.loads(release(program.pid, "--json", "--wait", PATIENCE_SECONDS)[0])
                if answer["released_bytes"] > 24 * MIB:
                    break
            self.assertEqual(answer["schema"], "tarn-release/1")
            self.assertEqual(answer["pid"], program.pid)
            self.assertEqual(answer["program"], "release_program")
            self.assertGreater(answer["released_bytes"], 24 * MIB)
            self.assertGreater(answer["rss_before_bytes"] - answer["rss_after_bytes"], 24 * MIB)
            # Once more: there is nothing left, and it is answered all the same.
            text, _ = release(program.pid, "-v", "--wait", PATIENCE_SECONDS)
            self.assertRegex(text, r"^process    %d \(release_program\)\nreleased   \S+ \S+\nresident   \S+ \S+ before, "
                                   r"\S+ \S+ after\nanswered   after \d+\.\d{3} s\n$" % program.pid)

    def test_a_slow_path_answers(self):
        with Program(background="off") as program:
            program.do("burst")
            program.do("busy")
            self.assertFalse(program.has_scavenger())
            answer = json.loads(release(program.pid, "--json", "--wait", PATIENCE_SECONDS)[0])
            self.assertGreater(answer["released_bytes"], 24 * MIB)
            self.assertGreater(answer["rss_before_bytes"] - answer["rss_after_bytes"], 24 * MIB)

    def test_nobody_answers_and_the_request_stands(self):
        with Program(background="off") as program:
            program.do("burst")
            before = program.resident_bytes()
            out, error = release(program.pid, "--wait", "0.3", code=1)
            self.assertEqual(out, "")
            self.assertRegex(error, r"^tarn: release: process %d \(release_program\) has not answered within 0\.3 s: nothing "
                                    r"in it runs tarn's code at the moment, .*the request stands.*\. 4\d\.\d MiB of free "
                                    r"pages are resident" % program.pid)
            self.assertGreater(program.resident_bytes(), before - 8 * MIB)
            program.do("one")
            self.assertLess(program.resident_bytes(), before - 24 * MIB)
            # Served once: what comes free now stays.
            program.do("burst")
            program.do("one")
            self.assertGreater(program.resident_bytes(), before - 8 * MIB)

    def test_two_at_once(self):
        # A request that came late, on a busy machine, has an answer of its own.
        for _ in range(10):
            if self.two_have_the_same_answer():
                return
        self.fail("no two requests had the same answer")

    def two_have_the_same_answer(self):
        with Program(background="off") as program:
            program.do("burst")
            requests = [start(program.pid, "--json", "--wait", PATIENCE_SECONDS) for _ in range(2)]
            time.sleep(0.5)
            program.send("busy")
            released = [json.loads(request.communicate(timeout=PATIENCE_SECONDS)[0])["released_bytes"] for request in requests]
            self.assertGreater(max(released), 24 * MIB)
            return released[0] == released[1]

    def test_a_request_that_is_overwritten_is_repeated(self):
        with Program(background="off") as program:
            program.do("burst")
            program.send("forget")
            request = start(program.pid, "--json", "--wait", PATIENCE_SECONDS)
            program.wait_ready()
            program.send("busy")
            out, error = request.communicate(timeout=PATIENCE_SECONDS)
            self.assertEqual(request.returncode, 0, error)
            self.assertGreater(json.loads(out)["released_bytes"], 24 * MIB)

    def test_a_long_service_is_waited_for(self):
        with Program(background="off") as program:
            # It has begun before the wait can be over.
            program.do("begin")
            program.send("await")
            request = start(program.pid, "--wait", "0.5")
            program.wait_ready()
            time.sleep(1.5)
            self.assertIsNone(request.poll())
            program.do("one")
            self.assertEqual(request.wait(timeout=PATIENCE_SECONDS), 0, request.communicate())

    def test_a_stopped_process(self):
        with Program() as program:
            program.process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, program.pid, os.WSTOPPED)
            self.assertRegex(release(program.pid, "--wait", "0.1", code=1)[1], r"for it is stopped; the request stands")
            program.process.send_signal(signal.SIGCONT)

    def test_the_end_of_the_process(self):
        for end, said in (lambda program: program.send("exec"), "can no longer be read: it is ending, or runs another"), (
                lambda program: (program.process.kill(), program.process.wait()), "has ended|can no longer be read"):
            with Program(background="off") as program:
                program.send("await")
                request = start(program.pid, "--wait", PATIENCE_SECONDS)
                program.wait_ready()
                end(program)
                error = request.communicate(timeout=PATIENCE_SECONDS)[1]
                self.assertEqual(request.returncode, 1, error)
                self.assertRegex(error, said)

    def test_who_cannot_be_asked(self):
        gone = subprocess.Popen(["/bin/true"])
        gone.wait()
        self.assertRegex(release(gone.pid, code=1)[1], "there is no process %d" % gone.pid)
        release("redis", code=2)
        release(code=2)
        release("1", "--wait", "-1", code=2)
        with Program("/bin/cat", preload=None) as program:
            # Behind the first line it has its own name.
            program.send("x")
            self.assertEqual(program.process.stdout.readline(), b"x\n")
            self.assertRegex(release(program.pid, code=4)[1], r"process \d+ \(cat\) does not use tarn")
        for word, said in (("old", r"uses tarn \S+, which cannot be asked to release memory"),
                           ("other", r"uses tarn \S+, whose snapshot this tarn \S+ does not know"),
                           ("unwritable", r"cannot be asked: 0x[0-9a-f]+, where the request belongs, cannot be written")):
            with Program() as program:
                program.do(word)
                self.assertRegex(release(program.pid, code=1)[1], said)

    def test_who_may_not_ask(self):
        if os.geteuid() != 0:
            self.skipTest("nobody else to become")
        with Program() as program:
            result = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", TARN, "release", str(program.pid)],
                                    capture_output=True, text=True, check=False)
            if "Permission denied" not in result.stderr:  # that of the tool's directory
                self.assertEqual(result.returncode, 1)
                self.assertRegex(result.stderr, "not permitted to look into process .*another user")

    @unittest.skipUnless(platform.machine() == "x86_64", "the number of the system call is x86-64's")
    def test_a_sandbox_without_process_vm_writev(self):
        with Program() as program:
            program.send("busy")
            for error in errno.EPERM, errno.ENOSYS:
                # /proc/PID/mem serves as well.
                release(program.pid, "--wait", PATIENCE_SECONDS,
                        preexec_fn=lambda error=error: refuse_system_call(311, error))
            readable = without_memory_file(program.pid, None, readable=True)
            if readable is None:
                self.skipTest("no namespaces here")
            release(program.pid, "--wait", PATIENCE_SECONDS, within=readable)
            for error in errno.EPERM, errno.ENOSYS:
                said = release(program.pid, code=1, within=readable,
                               preexec_fn=lambda error=error: refuse_system_call(311, error))[1]
                self.assertRegex(said, "can be read but not written to, for its /proc/PID/mem and process_vm_writev are "
                                       "refused")


class LimitTest(unittest.TestCase):
    def test_shown_and_set(self):
        with Program(background="off") as program:
            self.assertRegex(limit(program.pid)[0], r"^process    %d \(release_program\)\nlimit      (none|\S+ \S+)\n"
                                                    r"hard limit none\nresident   \S+ \S+\n$" % program.pid)
            program.send("busy")
            for size, limit_bytes in (("256MiB", 256 * MIB), ("1073741824", 1024 * MIB), ("off", None)):
                answer = json.loads(limit(program.pid, size, "--json", "--wait", PATIENCE_SECONDS)[0])
                self.assertEqual((answer["schema"], answer["limit_bytes"]), ("tarn-limit/1", limit_bytes))
                self.assertEqual(json.loads(limit(program.pid, "--json")[0])["limit_bytes"], limit_bytes)
                # It counts as one that the program has set.
                options = subprocess.run([TARN, "options", str(program.pid)], capture_output=True, text=True, check=True)
                self.assertRegex(options.stdout, r"(?m)^TARN_MEMORY_LIMIT +(%s|1GiB) +run time" % size)
            self.assertRegex(limit(program.pid, "1GiB", "-v", "--wait", PATIENCE_SECONDS)[0],
                             r"limit      1\.00 GiB \(before: none\)\n(.*\n)*answered   after \d+\.\d{3} s\n")

    def test_the_thread_sets_it(self):
        with Program() as program:
            program.do("burst")
            program.await_scavenger()
            self.assertIn("limit      2.00 GiB", limit(program.pid, "2GiB", "--wait", PATIENCE_SECONDS)[0])

    def test_nobody_answers_and_the_request_stands(self):
        with Program(background="off") as program:
            self.assertRegex(limit(program.pid, "1GiB", "--wait", "0.3", code=1)[1], "the request stands")
            program.do("one")
            self.assertEqual(json.loads(limit(program.pid, "--json")[0])["limit_bytes"], 1024 * MIB)

    def test_somebody_else_at_the_same_time(self):
        with Program(background="off") as program:
            program.send("overrule")
            request = start(program.pid, "1GiB", "--wait", PATIENCE_SECONDS, verb="limit")
            program.wait_ready()
            # Who asked may have written again before it was taken.
            program.send("busy")
            error = request.communicate(timeout=PATIENCE_SECONDS)[1]
            shown = json.loads(limit(program.pid, "--json")[0])["limit_bytes"]
            if request.returncode == 0:
                self.assertEqual(shown, 1024 * MIB)
            else:
                self.assertEqual((request.returncode, shown), (1, 7 * 1024 * MIB))
                self.assertRegex(error, r"somebody else set the limit of process .* to 7\.00 GiB at the same time")

    def test_words_that_do_not_belong_together_are_written_again(self):
        with Program(background="off") as program:
            program.send("tear")
            request = start(program.pid, "1GiB", "--json", "--wait", PATIENCE_SECONDS, verb="limit")
            program.wait_ready()
            program.send("busy")
            self.assertEqual(json.loads(request.communicate(timeout=PATIENCE_SECONDS)[0])["limit_bytes"], 1024 * MIB)

    def test_who_cannot_be_asked(self):
        for wrong in ("much", "1", "-1", "50%", "65TiB", "0"):
            limit("1", wrong, code=2)
        for word, said in (("old", r"uses tarn \S+, which cannot be asked for another limit"),
                           ("unwritable", r"cannot be asked: 0x[0-9a-f]+, where the request belongs, cannot be written")):
            with Program() as program:
                program.do(word)
                self.assertRegex(limit(program.pid, "1GiB", code=1)[1], said)
                limit(program.pid)


if __name__ == "__main__":
    TARN, PROGRAM = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
