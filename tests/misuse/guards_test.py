#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Guarded objects: each fault is reported with its facts and stacks, and all else goes on as without them.

The cases are in guard_program.cc. Each runs in a process of its own, with every sample guarded.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)
SIGNAL_LIBRARY = sys.argv.pop(1)
MODE = os.environ.get("TARN_MODE", "auto")
ALL = {"TARN_PROFILE_RATE": "1", "TARN_GUARD_RATE": "1", "TARN_GUARD_OBJECTS": "256"}
LATER = ALL | {"TARN_PROFILE_RATE": "0"}


def run(case, settings=None):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TARN_")}
    environment |= {"TARN_MODE": MODE} | (ALL if settings is None else settings)
    return subprocess.run([PROGRAM, case], env=environment, capture_output=True, text=True)


class GuardsTest(unittest.TestCase):
    def ends_well(self, case, settings=None):
        result = run(case, settings)
        self.assertEqual((result.returncode, result.stderr), (0, ""), case)

    def report(self, case, settings=None):
        """The report of a case as JSON, after a look at its first line."""
        result = run(case, (ALL if settings is None else settings) | {"TARN_CHECK_FORMAT": "json"})
        self.assertEqual(result.returncode, -signal.SIGABRT, f"{case}: {result.stderr}")
        line, _, rest = result.stderr.partition("\n")
        report = json.loads(rest)
        self.assertEqual(line, "tarn: fatal: " + report["message"])
        address = result.stdout.split()[1]
        self.assertEqual(int(report["address"], 16), int(address, 16), case)
        return report

    def functions(self, report, stack):
        return [frame.get("function", "") for frame in report[stack]["frames"]]

    def expect(self, case, kind, call, place, distance, state, stacks, settings=None):
        report = self.report(case, settings)
        self.assertEqual(report["schema"], "tarn-misuse/1")
        self.assertEqual((report["kind"], report["call"]), (kind, call), case)
        of_object = report["object"]
        self.assertEqual((of_object["place"], of_object["distance"], of_object["state"]), (place, distance, state), case)
        self.assertEqual({name for name in ("here", "free", "allocation") if name in report}, set(stacks), case)
        # Names come from the dynamic symbols, which the program is linked with for that.
        for name in stacks:
            functions = self.functions(report, name)
            self.assertTrue(any(wanted in function for wanted in stacks[name] for function in functions[:3]),
                            f"{case}: {name}: {functions}")
            self.assertTrue(all("module" in frame for frame in report[name]["frames"][:3]), case)
        return report

    def test_accesses(self):
        allocation, free = ["AllocateHere"], ["FreeHere"]
        self.expect("read-after-free", "use-after-free", "read", "inside", 8, "freed",
                    {"here": ["ReadHere"], "free": free, "allocation": allocation})
        self.expect("write-after-free", "use-after-free", "write", "inside", 99, "freed",
                    {"here": ["WriteHere"], "free": free, "allocation": allocation})
        self.expect("read-past-end", "overflow", "read", "behind", 4, "live",
                    {"here": ["ReadHere"], "allocation": allocation})
        self.expect("write-past-end", "overflow", "write", "behind", 0, "live",
                    {"here": ["WriteHere"], "allocation": allocation})
        self.expect("write-before-start", "underflow", "write", "in front", 1, "live",
                    {"here": ["WriteHere"], "allocation": allocation})

    def test_what_the_free_sees(self):
        stacks = {"here": ["FreeHere"], "allocation": ["AllocateHere"]}
        self.expect("overwrite-end", "overflow", "free", "behind", 3, "live", stacks)
        self.expect("overwrite-start", "underflow", "free", "in front", 2, "live", stacks)
        self.expect("overwrite-slack", "overflow", "free", "behind", 0, "live", stacks)

    def test_calls(self):
        freed = {"free": ["FreeHere"], "allocation": ["AllocateHere"]}
        self.expect("free-twice", "double-free", "free", "inside", 0, "freed", {"here": ["FreeHere"]} | freed)
        self.expect("realloc-after-free", "double-free", "realloc", "inside", 0, "freed",
                    {"here": ["ReallocAfterFree"]} | freed)
        self.expect("usable-size-after-free", "double-free", "malloc_usable_size", "inside", 0, "freed",
                    {"here": ["UsableSizeAfterFree"]} | freed)
        self.expect("free-inside", "interior-pointer", "free", "inside", 16, "live",
                    {"here": ["FreeHere"], "allocation": ["AllocateHere"]})
        report = self.report("delete-twice")
        self.assertEqual((report["kind"], report["call"]), ("double-free", "operator delete"))

    def test_threads(self):
        report = self.expect("three-threads", "use-after-free", "read", "inside", 0, "freed",
                             {"here": ["ReadHere"], "free": ["FreeHere"], "allocation": ["AllocateHere"]})
        self.assertEqual(len({report[stack]["thread"] for stack in ("here", "free", "allocation")}), 3)
        self.ends_well("many-threads")
        self.ends_well("many-threads", ALL | {"TARN_GUARD_OBJECTS": "16"})

    def test_a_forked_child_has_its_parents_objects(self):
        result = run("forked-child")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stderr, r"^tarn: fatal: read\(0x[0-9a-f]+\): object was freed before: the object of 100")

    def test_the_text(self):
        result = run("write-after-free")
        self.assertEqual(result.returncode, -signal.SIGABRT)
        self.assertRegex(
            result.stderr,
            r"^tarn: fatal: write\(0x[0-9a-f]+\): object was freed before: the object of 100 bytes starts at 0x[0-9a-f]+\n"
            r"  object: 0x[0-9a-f]+, 100 bytes, freed, guarded\n"
            r"  address: byte 99 of the object\n"
            r"  This access by thread \d+:\n    #0 0x[0-9a-f]+ in \S*WriteHere\S* \(\S+guard_program\+0x[0-9a-f]+\)\n"
            r"(    .*\n)+"
            r"  The free by thread \d+:\n(    .*\n)+"
            r"  The allocation by thread \d+:\n(    .*\n)+"
            r"  What to do: .*\n",
        )
        self.assertLess(result.stderr.count("\n"), 55)

    def test_the_log(self):
        with tempfile.TemporaryDirectory() as directory:
            log = os.path.join(directory, "log.%p")
            results = [run("free-twice", ALL | {"TARN_CHECK_LOG": log}) for _ in range(2)]
            self.assertEqual(len(os.listdir(directory)), 2)
            for result in results:
                self.assertEqual(result.stderr.count("\n"), 1)
            same = os.path.join(directory, "same")
            first, second = (run("free-twice", ALL | {"TARN_CHECK_LOG": same, "TARN_CHECK_FORMAT": form})
                             for form in ("text", "json"))
            with open(same, encoding="utf-8") as file:
                text = file.read()
            self.assertTrue(text.startswith(first.stderr), text)
            self.assertEqual("tarn: fatal: " + json.loads(text.splitlines()[-1])["message"] + "\n", second.stderr)
        result = run("free-twice", ALL | {"TARN_CHECK_LOG": "/nowhere/at/all"})
        self.assertIn("tarn: cannot write the report to /nowhere/at/all: there is no such directory\n", result.stderr)
        self.assertIn("The allocation", result.stderr)

    def test_goes_on(self):
        result = run("go-on", ALL | {"TARN_CHECK_CONTINUE": "on", "TARN_CHECK_FORMAT": "json"})
        self.assertEqual(result.returncode, 0, result.stderr)
        reports = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
        self.assertEqual([report["kind"] for report in reports], ["use-after-free", "overflow", "overflow"])
        self.assertFalse(any(report["fatal"] for report in reports))
        self.assertNotIn("fatal: ", result.stderr)
        self.assertEqual(run("go-on").returncode, -signal.SIGABRT)

    def test_valid_use(self):
        self.ends_well("valid-use")

    def test_places(self):
        for objects in ("64", "256"):
            self.ends_well("places-come-round", ALL | {"TARN_GUARD_OBJECTS": objects})
        self.ends_well("places-run-out", ALL | {"TARN_GUARD_OBJECTS": "64"})
        self.ends_well("figures")

    def test_a_server_is_caught(self):
        result = run("server", ALL | {"TARN_PROFILE_RATE": "4096", "TARN_CHECK_FORMAT": "json"})
        self.assertEqual(result.returncode, -signal.SIGABRT, result.stderr)
        report = json.loads(result.stderr.splitlines()[1])
        self.assertEqual((report["kind"], report["object"]["bytes"]), ("use-after-free", 2000))

    def test_handlers(self):
        for case, code in (("null-access", -signal.SIGSEGV), ("trap", -signal.SIGSEGV), ("signal-sent", -signal.SIGSEGV),
                           ("ignored-fault", -signal.SIGSEGV), ("one-shot-before", -signal.SIGSEGV),
                           ("one-shot-after", -signal.SIGSEGV), ("sent-and-ignored", 0), ("details-before", 0),
                           ("own-pages", 0), ("own-guarded-pages", 0), ("stack-overflow", 0), ("actions-as-set", 0),
                           ("inherits-ignored", 0), ("vforked-child", 0)):
            result = run(case, LATER)
            self.assertEqual((result.returncode, result.stderr), (code, ""), case)
        self.ends_well("library-between", LATER | {"LD_PRELOAD": os.environ["TARN_LIB"] + ":" + SIGNAL_LIBRARY})
        for case in ("handler-before", "handler-after", "handler-past-us-passes-on", "fault-on-alternate-stack"):
            self.assertEqual(self.report(case, LATER)["kind"], "use-after-free", case)

    def test_can_be_switched_off(self):
        result = run("no-handler", ALL | {"TARN_GUARD_SIGNAL": "off"})
        self.assertEqual((result.returncode, result.stderr), (-signal.SIGSEGV, ""))
        self.ends_well("no-samples", {"TARN_PROFILE_RATE": "0"})
        self.ends_well("no-samples", {"TARN_PROFILE_RATE": "1", "TARN_GUARD_RATE": "off"})


if __name__ == "__main__":
    unittest.main()
