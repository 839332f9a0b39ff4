#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of workload definitions (`tarn compare --workload`) and of the proof that a process uses an allocator.

Started by ctest with TARN_LIB (libtarn.so) and TARN_BUILD. The definitions are small ones made here; no test asserts a
speed.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from patience import PATIENCE_SECONDS

TARN = os.path.join(os.environ["TARN_BUILD"], "bin", "tarn")
LIBRARY = os.environ["TARN_LIB"]
PYTHON = ["/usr/bin/python3", "-S", "-E", "-c"]

# Answers each connection with its process id, and "stop" with its end.
SERVER = """
import os, socket, sys
kept = b"x" * (40 << 20)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    if connection.recv(4) == b"stop":
        os.abort()
    connection.sendall(str(os.getpid()).encode())
    connection.close()
"""
ASK = """
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=100)
connection.sendall(sys.argv[2].encode())
sys.exit(0 if connection.recv(100).decode() == sys.argv[3] else "no answer")
"""
# Ends once the engine, which started its parent, has had many turns: it looks at the processes every few of them.
UNTIL_SEEN = """
import os, time
def turns(pid, name):
    with open(f"/proc/{pid}/status") as file:
        return int(next(line.split()[1] for line in file if line.startswith(name)))
engine = turns(os.getppid(), "PPid:")
end = turns(engine, "voluntary_ctxt_switches:") + 60
while turns(engine, "voluntary_ctxt_switches:") < end:
    time.sleep(0.01)
"""


class WorkloadTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="tarn-workload-test-")
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.other = self.path("other.so")
        shutil.copy(LIBRARY, self.other)

    def path(self, name):
        return os.path.join(self.directory, name)

    def compare(self, definition, *options, against="glibc", environment=None):
        with open(self.path("work.json"), "w", encoding="utf-8") as file:
            json.dump(definition, file)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TARN_") and k != "LD_PRELOAD"}
        result = subprocess.run(
            [TARN, "compare", "--workload", self.path("work.json"), "--against", against, "--runs", "2", "--json",
             *options],
            capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False, env={**clean, **(environment or {})})
        return result, json.loads(result.stdout)["workloads"] if result.stdout else None

    def run_good(self, definition, *options, **more):
        result, workloads = self.compare(definition, *options, **more)
        self.assertEqual(result.returncode, 0, result.stderr)
        return workloads

    def failures(self, definition, **more):
        """Why the runs under tarn failed."""
        result, workloads = self.compare(definition, "--no-control", **more)
        # 1: under glibc, too, so that nothing was measured.
        self.assertIn(result.returncode, (1, 3), result.stderr)
        return {error["what"] for error in workloads[0]["errors"] if error["allocator"] == "tarn"}


class DefinitionTest(WorkloadTest):
    def test_input_output_and_environment(self):
        work = ("import json, os, sys\n"
                "assert os.getcwd() == os.environ['HOME'] == os.environ['TMPDIR'], os.getcwd()\n"
                "assert 'SECRET' not in os.environ and os.environ['MALLOC_ARENA_MAX'] == '3'\n"
                "open('result', 'w').write(sys.stdin.read() + os.environ['MORE'])\n"
                "json.dump({'steps': 5}, open(os.environ['BENCH_METRICS'], 'w'))\n")
        (workload,) = self.run_good(
            {"name": "one", "description": "two", "kind": "memory",
             "measures": [{"measure": "metrics.steps", "title": "steps"}, {"measure": "minor_faults"}],
             "prepare": [["cp", "{here}/work.json", "{scratch}/first"], ["mv", "first", "input"]],
             "environment": ["MORE=braces {stay}"], "command": PYTHON + [work], "input": "{scratch}/input",
             "outputs": ["{scratch}/result"]},
            environment={"SECRET": "1", "MALLOC_ARENA_MAX": "3"})
        self.assertEqual([workload[key] for key in ("name", "description", "kind")], ["one", "two", "memory"])
        self.assertEqual(workload["result"], {"measure": "metrics.steps", "title": "steps"})
        self.assertEqual(workload["also"], [{"measure": "minor_faults", "title": ""}])
        ratio = workload["results"][1]["ratio"]
        self.assertEqual((ratio["metrics.steps"]["ratio"], ratio["metrics.steps"]["verdict"]), (1, "tie"))
        self.assertIn("minor_faults", ratio)
        self.assertIn("metrics.steps", workload["noise"])
        self.assertTrue(all(run["proven"] for run in workload["runs"]))

    def test_output_files_are_compared(self):
        work = "import os\nopen('result', 'w').write(os.environ['LD_PRELOAD'])"
        self.assertEqual(self.failures({"command": PYTHON + [work], "outputs": ["{scratch}/result"]}),
                         {"prints something else than under glibc"})

    def test_rows_are_workloads(self):
        rows = [{"name": "b", "ns": 2}, {"name": "a", "ns": 3}]
        work = f"import json, os\njson.dump({{'rows': {rows!r}}}, open(os.environ['BENCH_METRICS'], 'w'))"
        measures = [{"measure": "metrics.ns", "title": "time"}]
        workloads = self.run_good({"measures": measures, "command": PYTHON + [work]})
        self.assertEqual([workload["name"] for workload in workloads], ["work/b", "work/a"])
        for workload, row in zip(workloads, rows):
            self.assertEqual([run["metrics"] for run in workload["runs"]], [row] * 6)
            self.assertEqual(workload["results"][1]["median"], {"metrics.ns": row["ns"]})
            self.assertEqual(list(workload["results"][1]["ratio"]), ["metrics.ns"])

    def test_a_run_that_hangs(self):
        found = self.failures({"command": ["sh", "-c", 'case $LD_PRELOAD in *tarn*) sleep 600;; esac'], "timeout_s": 2})
        self.assertEqual(found, {"still running after 2 s"})

    def test_wrong_definitions(self):
        for definition, said in (
            ([], "expected at least one definition"),
            ([1], "expected an object"),
            ({}, "command: expected the command"),
            ({"command": "true"}, "command: expected a list of strings"),
            ({"comand": ["true"]}, "command: expected"),
            ({"command": ["true"], "watc": "true"}, "unknown member watc; did you mean watch?"),
            ({"command": ["true"], "measures": [{"title": "x"}]}, "measures: measure: expected the name"),
            ({"command": ["true"], "service": {"load": ["true"]}}, "service: ready: expected a command"),
            ({"command": ["true"], "environment": ["X"]}, "expected a list of NAME=VALUE"),
            ({"command": ["true"], "timeout_s": -1}, "expected a number above 0"),
            ({"command": ["true"], "prepare": [["false"]]}, "preparing work failed"),
            ({"command": ["true"], "needs": ["no-such-program"]}, "no-such-program is missing"),
        ):
            with self.subTest(said):
                result, workloads = self.compare(definition)
                self.assertEqual((result.returncode, workloads), (1, None))
                self.assertIn(said, result.stderr)
        result, _ = self.compare({"command": ["true"]}, "--", "true")
        self.assertEqual(result.returncode, 2)
        self.assertIn("exclude each other", result.stderr)


class SuiteTest(WorkloadTest):
    """Several definitions in one run."""

    def measure(self, definitions, *options, code=0, against="glibc"):
        for name, content in definitions.items():
            with open(self.path(name), "w", encoding="utf-8") as file:
                json.dump(content, file)
        files = [word for name in definitions for word in ("--workload", self.path(name))]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TARN_") and k != "LD_PRELOAD"}
        result = subprocess.run([TARN, "compare", "--against", against, *files, *options], capture_output=True, text=True,
                                timeout=PATIENCE_SECONDS, check=False, env=clean)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        return result

    def names(self, definitions, *options):
        document = json.loads(self.measure(definitions, "--runs", "1", "--no-control", "--json", *options).stdout)
        return {workload["name"]: workload for workload in document["workloads"]}, document

    WORK = {"one.json": {"command": ["true"]},
            "list.json": [{"name": "a+b", "command": ["true"], "runs": 3}, {"name": "three", "command": ["true"]}]}

    def test_lists_and_files_are_one_document(self):
        workloads, document = self.names(self.WORK)
        self.assertEqual(list(workloads), ["one", "a+b", "three"])
        self.assertEqual([one["name"] for one in document["allocators"]], ["glibc", "tarn"])
        # The command that repeats a workload selects it alone.
        self.assertIn("--only '^a\\+b$'", workloads["a+b"]["repeat"])
        self.assertEqual(list(self.names(self.WORK, "--only", "^a\\+b$")[0]), ["a+b"])

    def test_the_table_has_means_and_rates(self):
        work = ("import json, os\njson.dump({'operations': 2000}, open(os.environ['BENCH_METRICS'], 'w'))")
        table = self.measure({"two.json": [{"name": name, "command": PYTHON + [work], "operations": "jobs"}
                                           for name in ("a", "b")]}, "--runs", "1", "--no-control").stdout
        self.assertRegex(table, r"(?m)^geometric mean +wall time +[0-9.]+$")
        self.assertRegex(table, r"(?m)^b, jobs per second: tarn \S.*, glibc \S")

    def test_runs_of_the_definition_and_of_the_caller(self):
        listed = self.measure(self.WORK, "--list").stdout
        self.assertRegex(listed, r"(?m)^one +10 x .*true\na?.*\na\+b +3 x ")
        work = {"l.json": {"command": ["true"], "description": "Nothing.",
                           "measures": [{"measure": "cpu_s", "title": "CPU time"}, {"measure": "minor_faults"}]}}
        self.assertIn("  Nothing. (CPU time, minor_faults)\n", self.measure(work, "--list").stdout)
        self.assertRegex(self.measure(self.WORK, "--list", "--runs", "4").stdout, r"(?m)^a\+b +4 x ")

    def test_amounts(self):
        amounts = {"small": {"arguments": ["1"], "runs": 2}, "large": {"arguments": ["2", "3"], "placements": ["one-cpu"]}}
        work = {"l.json": [{"name": "x", "command": ["echo", "0"], "amounts": amounts},
                           {"name": "y", "command": ["echo"], "amounts": {"large": {}}}, {"name": "z", "command": ["echo"]}]}
        lines = [line for line in self.measure(work, "--list", "--amount", "small").stdout.splitlines() if " x " in line]
        self.assertEqual([line.split()[0:3] + line.split()[4:] for line in lines], [["x", "2", "x", "0", "1"]])
        workloads, document = self.names(work, "--amount", "large", "--skip-missing")
        # hwloc finds the CPU, or the document has the reason.
        self.assertEqual(set(workloads) | {note.split(":")[0] for note in document["notes"]}, {"x", "x@one-cpu", "y"})
        if "x@one-cpu" in workloads:
            self.assertEqual(workloads["x@one-cpu"]["placement"]["policy"], "one-cpu")
            self.assertEqual(len(workloads["x@one-cpu"]["placement"]["cpus"]), 1)

    def test_a_missing_program(self):
        work = {"l.json": [{"name": "x", "command": ["true"]}, {"name": "y", "command": ["true"], "needs": ["no-such"]},
                           {"name": "z", "command": ["{build}/bench/no-such"]}]}
        self.assertIn("no-such is missing", self.measure(work, "--runs", "1", code=1).stderr)
        workloads, document = self.names(work, "--skip-missing")
        self.assertEqual(list(workloads), ["x"])
        self.assertEqual([note.split(":")[0] for note in document["notes"]], ["y", "z"])

    def test_the_time_for_all(self):
        # The first one takes all of it, and the second one finds none left. A busy machine may be late for the first.
        work = {"l.json": [{"name": "hangs", "command": ["sleep", "600"]}, {"name": "late", "command": ["true"]}]}
        for time_for_all in ("3s", "20s", "120s"):
            result = self.measure(work, "--runs", "1", "--json", "--within", time_for_all, code=1)
            document = json.loads(result.stdout)
            if document["workloads"]:
                break
        self.assertEqual([workload["name"] for workload in document["workloads"]], ["hangs"])
        self.assertEqual(document["notes"], ["hangs: ended with fewer blocks than planned, as the time was over",
                                             "late: left out, as the time was over"])
        self.assertIn("nothing could be measured", result.stderr)

    def test_results_are_kept_after_each_workload(self):
        out = self.path("out.json")
        kept = self.path("kept.json")
        # The second workload keeps what is there of the first.
        work = {"l.json": [{"name": "a", "command": ["true"]}, {"name": "b", "prepare": [["cp", out, kept]],
                                                                "command": ["true"]}]}
        self.measure(work, "--runs", "1", "--no-control", "-o", out)
        with open(kept, encoding="utf-8") as file:
            self.assertEqual([workload["name"] for workload in json.load(file)["workloads"]], ["a"])
        with open(out, encoding="utf-8") as file:
            self.assertEqual([workload["name"] for workload in json.load(file)["workloads"]], ["a", "b"])

    def test_a_disk_that_is_full(self):
        result = self.measure(self.WORK, "--runs", "1", "--no-control", "-o", "/dev/full", code=1)
        self.assertIn("going on, and trying again", result.stderr)
        self.assertIn("geometric mean", result.stdout)

    def test_a_directory_gets_the_document_and_the_report(self):
        out = self.path("out")
        os.mkdir(out)
        result = self.measure(self.WORK, "--runs", "1", "--no-control", "-o", out)
        self.assertIn("geometric mean", result.stdout)
        with open(os.path.join(out, "results.json"), encoding="utf-8") as file:
            self.assertEqual(len(json.load(file)["workloads"]), 3)
        with open(os.path.join(out, "report.html"), encoding="utf-8") as file:
            self.assertIn("<!doctype html>", file.read().lower())
        for name in ("results.json", "report.html"):
            self.assertIn(os.path.join(out, name), result.stderr)
        # One workload is the same.
        os.unlink(os.path.join(out, "results.json"))
        self.measure(self.WORK, "--runs", "1", "--no-control", "--only", "one", "-o", out)
        with open(os.path.join(out, "results.json"), encoding="utf-8") as file:
            self.assertEqual(len(json.load(file)["workloads"]), 1)

    def test_a_disk_that_was_full_for_a_while(self):
        out = self.path("out")
        os.mkdir(out)
        path = os.path.join(out, "results.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write("before")
        # A new document is written beside the old one; the first attempt meets a full disk.
        os.symlink("/dev/full", path + ".new")
        result = self.measure(self.WORK, "--runs", "1", "--no-control", "-o", out)
        self.assertEqual(result.stderr.count("No space left"), 1)
        with open(path, encoding="utf-8") as file:
            self.assertEqual(len(json.load(file)["workloads"]), 3)

    def test_results_that_cannot_be_written_stand_on_stdout(self):
        out = self.path("out")
        os.makedirs(os.path.join(out, "results.json"))
        result = self.measure(self.WORK, "--runs", "1", "--no-control", "-o", out, code=1)
        self.assertEqual(len(json.loads(result.stdout)["workloads"]), 3)
        self.assertIn("the results stand on stdout", result.stderr)

    def test_findings_have_the_name_of_the_workload(self):
        work = {"l.json": [{"name": "good", "command": ["true"]},
                           {"name": "bad", "command": ["sh", "-c", 'case $LD_PRELOAD in *tarn*) exit 5;; esac']}]}
        result = self.measure(work, "--runs", "1", "--no-control", code=3)
        self.assertIn("finding: bad: under tarn: exit code 5", result.stdout)

    def test_wrong_selections(self):
        for work, options, code, said in (
            (self.WORK, ("--only", "nobody"), 2, "no workload matches --only nobody; there are a+b, one, three"),
            (self.WORK, ("--only", "("), 2, "not a regular expression"),
            (self.WORK, ("--amount", "huge"), 2, "no workload matches --amount huge; there are none"),
            ({"l.json": [{"name": "x", "command": ["true"], "amounts": {"s": {}, "l": {}}},
                         {"name": "y", "command": ["true"], "amounts": {"m": {}}}]}, ("--amount", "m", "--only", "x"), 2,
             "no workload matches --only x --amount m; x has --amount l, s"),
            (self.WORK, ("--name", "x"), 2, "--name is for one workload"),
            (self.WORK, ("--within", "soon"), 2, "--within soon: expected a time"),
            ({"l.json": [{"name": "x", "command": ["true"]}] * 2}, (), 1, "two workloads are named x"),
            ({"l.json": {"command": ["true"], "runs": 0}}, (), 1, "runs: expected a whole number above 0"),
            ({"l.json": {"command": ["true"], "control": 1}}, (), 1, "control: expected true or false"),
            ({"l.json": {"command": ["true"], "amounts": {"s": {"run": 1}}}}, (), 1, "amounts: s: unknown member run"),
            ({}, ("--only", "x", "--", "true"), 2, "go with --workload"),
        ):
            with self.subTest(said):
                self.assertIn(said, self.measure(work, *options, code=code).stderr)

    def test_settings_of_one_row(self):
        work = {"w.json": {"command": PYTHON + ["import os\nprint(os.environ['A'])"]}}
        options = ("--runs", "1", "--env", "A=1")
        document = json.loads(self.measure(work, *options, "--json", against="x=glibc:A=1,y=tarn:A=1:B=2").stdout)
        self.assertEqual([(one["name"], one["environment"]) for one in document["allocators"]],
                         [("x", ["A=1"]), ("y", ["A=1", "B=2"]), ("tarn", [])])
        self.assertEqual(document["workloads"][0]["errors"], [])
        result = self.measure(work, *options, "--reference", "glibc", against="x=glibc:A=2,glibc", code=3)
        self.assertIn("under x: prints something else than under glibc", result.stdout)
        for wrong in ("x=tarn:A", "x=tarn:=1", "x=:A=1"):
            self.measure(work, *options, against=wrong, code=2)


class ServiceTest(WorkloadTest):
    def server(self, **more):
        return {"command": PYTHON + [SERVER, "{port}"],
                "service": {"ready": PYTHON + [ASK, "{port}", "ping", "{pid}"],
                            "load": PYTHON + [ASK, "{port}", "work", "{pid}"], **more}}

    def test_figures_are_those_of_the_server(self):
        check = "import os\nassert 'LD_PRELOAD' not in os.environ\nprint('served')"
        (workload,) = self.run_good(self.server(check=PYTHON + [check]))
        self.assertEqual(len({run["output_sha256"] for run in workload["runs"]}), 1)
        for run in workload["runs"]:
            self.assertTrue(run["proven"])
            self.assertGreater(run["wall_s"], 0)
            self.assertGreater(run["peak_rss_bytes"], 40 << 20)
            self.assertGreaterEqual(run["user_s"], 0)

    def test_a_server_that_ends_under_load(self):
        # Either the server or the load, which gets no answer, is seen to end first.
        for failure in self.failures(self.server(load=PYTHON + [ASK, "{port}", "stop", "{pid}"])):
            self.assertRegex(failure, "it ended under load|the load ended with exit code 1")

    def test_a_server_that_never_serves(self):
        definition = self.server()
        definition["command"] = ["true"]
        self.assertEqual(self.failures(definition), {"it ended before it served"})

    def test_a_load_and_a_check_that_fail(self):
        self.assertEqual(self.failures(self.server(load=["sh", "-c", "echo why >&2; exit 7"])),
                         {"the load ended with exit code 7: why"})
        self.assertEqual(self.failures(self.server(check=["sh", "-c", "kill -9 $$"])),
                         {"the check was ended by signal 9"})


class ProofTest(WorkloadTest):
    def test_a_library_that_is_mapped_and_not_in_use(self):
        # Both are mapped, and the first one is everybody's malloc.
        work = f"LD_PRELOAD={self.other}:$LD_PRELOAD exec /usr/bin/python3 -S -c pass"
        self.assertEqual(self.failures({"command": ["sh", "-c", work]}),
                         {"not proven that it used tarn: malloc leads to other.so"})

    def test_the_child_that_is_watched(self):
        name = os.path.basename(os.path.realpath("/usr/bin/python3"))
        command = ["sh", "-c", '"$@"; exit 0', "sh", *PYTHON, UNTIL_SEEN]
        (workload,) = self.run_good({"command": command, "watch": name}, "--no-control")
        self.assertTrue(all(run["proven"] for run in workload["runs"]))
        result, _ = self.compare({"command": ["sh", "-c", "true"], "watch": "nobody"})
        self.assertEqual(result.returncode, 1)
        self.assertIn("no process of nobody was seen", result.stderr)

    def test_a_program_with_a_malloc_of_its_own(self):
        source, program = self.path("own.c"), self.path("own")
        with open(source, "w", encoding="utf-8") as file:
            file.write("#include <stddef.h>\nstatic char pool[1 << 20], *next = pool;\n"
                       "void* malloc(size_t n) { char* p = next; next += (n + 15) & ~15ul; return p; }\n"
                       "void free(void* p) { (void)p; }\n"
                       "void* calloc(size_t n, size_t m) { return malloc(n * m); }\n"
                       "void* realloc(void* p, size_t n) { (void)p; return malloc(n); }\n"
                       "int main(void) { return 0; }\n")
        subprocess.run(["cc", "-rdynamic", source, "-o", program], check=True)
        result, _ = self.compare({"command": [program]})
        self.assertIn("own has a malloc of its own", result.stderr)

    def test_glibc_is_preloaded(self):
        # A program that is linked with another malloc runs on glibc's all the same.
        source, program = self.path("linked.c"), self.path("linked")
        with open(source, "w", encoding="utf-8") as file:
            file.write("#include <stdlib.h>\nint main(void) { free(malloc(1)); return 0; }\n")
        subprocess.run(["cc", "-fno-builtin", source, "-o", program, "-Wl,--no-as-needed", self.other],
                       check=True)
        os.rename(self.other, self.path("libtarn.so.0"))
        (workload,) = self.run_good({"command": [program], "environment": ["LD_LIBRARY_PATH={here}"]})
        self.assertTrue(all(run["proven"] for run in workload["runs"]))


if __name__ == "__main__":
    if not os.path.exists(TARN):
        print("the tarn command was not built")
        sys.exit(77)
    unittest.main()
