#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of `tarn report` and `tarn machine`: the page, the table, the comparison of two documents.

Started by ctest. The documents are made here, small and with figures that are known.
"""

import copy
import html.parser
import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
TOOL = os.path.join(os.environ["TARN_BUILD"], "bin", "tarn")

VOID = {"meta", "br", "link", "img", "input", "hr"}
# The name and the command of a workload are the user's; this one tries to get out of its place.
HOSTILE = "a</script><img src=//evil.example/x>&\"'\u00e4"
ALLOCATORS = ("glibc", "tarn", "mimalloc")


def make_run(order, block, allocator, control=False, **figures):
    run = {"order": order, "block": block, "allocator": allocator, "control": control, "proven": True,
           "exit_code": 0, "signal": 0, "output_sha256": "00", "wall_s": 1.0, "user_s": 0.9, "system_s": 0.05,
           "peak_rss_bytes": 8 << 20, "end_rss_bytes": None, "idle_rss_bytes": None, "minor_faults": 100,
           "major_faults": 0, "context_switches": 3, "rss": [[0.0, 1 << 20], [0.5, 8 << 20], [1.0, 4 << 20]],
           "metrics": {"operations": 1e6, "threads": 2,
                       "latency_ns": {"malloc": {"p50": 20, "p99": 100, "p999": 900, "max": 50000}}}}
    run.update(figures)
    return run


def make_workload(name, tarn_wall_s, kind="speed", blocks=6, noisy=False, **more):
    """Under tarn a run takes `tarn_wall_s`, under glibc 1 s, under mimalloc 0.8 s, with a little jitter."""
    runs = []
    for block in range(blocks):
        jitter = 1 + 0.002 * (block % 3)
        walls = {"glibc": 1.0, "tarn": tarn_wall_s, "mimalloc": 0.8}
        runs.append(make_run(len(runs), block, "glibc", True, wall_s=jitter * (1.05 if noisy else 1)))
        for allocator in ALLOCATORS:
            runs.append(make_run(len(runs), block, allocator, wall_s=walls[allocator] * jitter))
    results = [{"allocator": allocator, "runs": blocks, "failed": 0,
                "median": {"wall_s": walls[allocator], "peak_rss_bytes": 8 << 20}, "ratio": {}}
               for allocator in ALLOCATORS]
    workload = {"name": name, "description": "what " + name + " is", "kind": kind, "command": ["prog", name],
                "repeat": "tarn compare -- prog " + name, "placement": {"policy": "none", "cpus": []},
                "reference": "glibc",
                "runs": runs, "results": results, "errors": []}
    workload.update(more)
    return workload


def make_document(*workloads):
    return {"schema": "tarn-bench/1", "tool_version": "0.1.0", "started": "2026-11-21T08:00:00Z",
            "finished": "2026-11-21T08:01:00Z", "seed": 1, "command_line": ["bench/run"], "interrupted": False,
            "machine": {"cpu_model": "A CPU", "kernel": "Linux 6", "topology": ["Machine", "  Core 0"],
                        "thp": {"enabled": "madvise"}, "governor": None},
            "build": {"compiler": "gcc", "flags": "-O2"},
            "allocators": [{"name": name, "path": "/lib/" + name + ".so", "sha256": name.encode().hex(),
                            "build_id": None, "package": None} for name in ALLOCATORS],
            "workloads": list(workloads)}


class Page(html.parser.HTMLParser):
    """Holds every element against its end, and collects what the tests look for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.rows, self.text, self.addresses, self.charts = [], [], 0, [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.handle(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle(tag, dict(attributes))

    def handle(self, tag, attributes):
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "svg" and attributes.get("role") == "img":
            self.charts.append(attributes.get("aria-label", ""))
        self.addresses += [attributes[name] for name in ("src", "href", "action") if name in attributes]

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> ends {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open and "script" not in self.open:
            self.text.append(data)


class ReportTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def write(self, name, document):
        with open(self.path(name), "w", encoding="utf-8") as file:
            json.dump(document, file)
        return self.path(name)

    def tarn(self, *arguments, code=0, environment=None):
        done = subprocess.run([TOOL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                              env={**os.environ, **(environment or {})})
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def page(self, document):
        done = self.tarn("report", self.write("d.json", document), "-o", self.path("d.html"))
        with open(self.path("d.html"), encoding="utf-8") as file:
            text = file.read()
        return done.stdout, text, Page(text)

    def test_page_has_every_workload_and_asks_for_nothing(self):
        document = make_document(make_workload("fast", 0.5), make_workload("slow", 1.5),
                                 make_workload("shaky", 0.5, noisy=True),
                                 make_workload("migrate-2", 0.9), make_workload("migrate-16", 0.9))
        for run in document["workloads"][4]["runs"]:
            run["metrics"]["threads"] = 16
        _, text, page = self.page(document)
        for name in ("fast", "slow", "shaky", "migrate-2", "migrate-16"):
            self.assertIn("w-" + name, page.ids)
            self.assertIn("tarn compare -- prog " + name, page.text)
        self.assertEqual([a for a in page.addresses if not a.startswith("#")], [])
        for target in page.addresses:
            self.assertIn(target[1:], page.ids)
        self.assertEqual(len(page.ids), len(set(page.ids)))
        self.assertNotIn("http", text.replace("http-equiv", ""))
        self.assertTrue(all(page.charts), "a chart has no name")
        for chart in ("Scatter plot", "Latency of malloc", "Thread scaling of migrate", "RSS over time of fast",
                      "wall time of every run of slow"):
            self.assertTrue(any(label.startswith(chart) for label in page.charts), chart)
        visible = " ".join(page.text)
        for fact in ("A CPU", "Linux 6", "madvise", "/lib/mimalloc.so", b"tarn".hex(), "-O2", "Core 0"):
            self.assertIn(fact, visible)

    def test_headline_and_verdicts(self):
        table, _, page = self.page(make_document(make_workload("fast", 0.5), make_workload("slow", 1.5),
                                                 make_workload("same", 1.001),
                                                 make_workload("shaky", 0.5, noisy=True)))
        headline = ("Against glibc, tarn has 1 win, 1 tie and 1 loss of 3 workloads (the largest loss: slow, 1.50 times "
                    "the wall time); against the best peer of each workload, 1 win, 0 ties and 2 losses of 3 workloads")
        self.assertIn(headline, "".join(page.text))
        self.assertIn(headline, table)
        self.assertIn("too noisy to tell about 1 workload", table)
        rows = {line.split()[0]: line for line in table.splitlines() if line}
        self.assertIn("0.50 win", rows["fast"])
        self.assertIn("1.50 loss", rows["slow"])
        self.assertIn("1.00 tie", rows["same"])
        self.assertIn("0.50 noisy", rows["shaky"])

    def test_noise_and_few_runs_tell_nothing_of_time(self):
        replay = make_workload("replay", 0.5, noisy=True, result={"measure": "metrics.replay_s", "title": "replay"})
        for run in replay["runs"]:
            run["metrics"]["replay_s"] = run["wall_s"]
        kept = make_workload("kept", 0.5, noisy=True,
                             result={"measure": "metrics.rss_bytes_5s", "title": "RSS kept"})
        for run in kept["runs"]:
            run["metrics"]["rss_bytes_5s"] = (1 + (run["allocator"] == "glibc")) << 20
        # Its control differs from the reference in what counts, and not in the time.
        drifting = make_workload("drifting", 0.5, result={"measure": "peak_rss_bytes", "title": "peak RSS"})
        for run in drifting["runs"]:
            run["peak_rss_bytes"] = (8 if run["allocator"] == "tarn" else 17 if run["control"] else 16) << 20
        table, _, page = self.page(make_document(replay, kept, drifting, make_workload("once", 0.5, blocks=1)))
        rows = {line.split()[0]: line for line in table.splitlines() if line}
        self.assertIn("0.50 noisy", rows["replay"])
        self.assertIn("0.50 win", rows["kept"])
        self.assertIn("0.50 noisy", rows["drifting"])
        self.assertIn("0.50 unsure", rows["once"])
        self.assertIn("too noisy to tell about 2 workloads; there are too few runs to tell about 1 workload", table)
        self.assertIn("1.00 MiB", " ".join(page.text))
        self.assertIn("wall time; no control", " ".join(page.text))
        self.assertIn("glibc against itself, peak RSS: 1.06", " ".join(page.text))

    def test_runs_that_failed_are_in_no_chart(self):
        workload = make_workload("w", 0.5)
        workload["runs"][1].update(failure="prints something else than under glibc", wall_s=777.0)
        # Ended by the tool after its idle tail, which does not count as a failure.
        workload["runs"][2].update(failure=None, idle_ended=True, signal=15, wall_s=888.0)
        _, text, _ = self.page(make_document(workload))
        self.assertNotIn("777 s", text)
        self.assertIn("888 s", text)

    def test_markdown(self):
        document = make_document(make_workload("fast", 0.5), make_workload("slow", 1.5))
        document["allocators"][2]["package"] = "libmimalloc 1"
        document["notes"] = ["other: it is not there"]
        text = self.tarn("report", self.write("d.json", document), "--markdown").stdout
        self.assertIn("Against glibc, tarn has 1 win, 0 ties and 1 loss of 2 workloads", text)
        self.assertIn("Measured 2026-11-21 on A CPU", text)
        self.assertIn("mimalloc (libmimalloc 1)", text)
        rows = [line for line in text.splitlines() if line.startswith("|")]
        self.assertEqual(len({line.count("|") for line in rows}), 1, rows)
        self.assertEqual(rows[2], "| `fast` | wall time | 0.50 [0.50, 0.50] | 0.80 [0.80, 0.80] | "
                                  "0.62 [0.62, 0.62] mimalloc |")
        self.assertIn("| **1.50** [1.50, 1.50] |", rows[3])
        piped = self.tarn("report", self.write("p.json", make_document(make_workload("a|b", 0.5))), "--markdown").stdout
        self.assertIn("| `a\\|b` | wall time |", piped)
        self.assertIn("Not in the table: other: it is not there.", text)
        self.tarn("report", self.path("d.json"), self.path("d.json"), "--markdown", code=2)

    def test_a_workload_with_several_lines(self):
        more = {"result": {"measure": "wall_s", "title": "time"},
                "also": [{"measure": "peak_rss_bytes", "title": ""}, {"measure": "minor_faults", "title": "faults"}]}
        document = make_document(make_workload("one", 0.5, **more), make_workload("two", 0.5, **more))
        path = self.write("d.json", document)
        rows = [line for line in self.tarn("report", path, "--markdown").stdout.splitlines() if line.startswith("|")]
        self.assertEqual(len({line.count("|") for line in rows}), 1, rows)
        self.assertEqual([[cell.strip() for cell in row.split("|")[1:4]] for row in rows[2:]], [
            ["`one`", "time", "0.50 [0.50, 0.50]"], ["", "peak RSS", "1.00 [1.00, 1.00] tie"],
            ["", "faults", "1.00 [1.00, 1.00] tie"],
            ["`two`", "time", "0.50 [0.50, 0.50]"], ["", "peak RSS", "1.00 [1.00, 1.00] tie"],
            ["", "faults", "1.00 [1.00, 1.00] tie"],
            ["geometric mean", "time", "0.50 of 2"], ["geometric mean", "peak RSS", "1.00 of 2"],
            ["geometric mean", "faults", "1.00 of 2"]])
        lines = [line.split() for line in self.tarn("report", path).stdout.splitlines()]
        figures = [cells[-7:] for cells in lines if cells[:2] == ["one", "time"] or cells[:2] == ["peak", "RSS"]]
        self.assertIn(["0.50", "win", "0.80", "win", "0.62", "win", "mimalloc"], figures)
        self.assertIn(["1.00", "tie", "1.00", "tie", "1.00", "tie", "mimalloc"], figures)
        self.assertIn(["geometric", "mean", "time", "0.50", "0.80", "0.62"], lines)
        # A second measure has a line, but is in no count of wins and losses.
        self.assertIn("2 wins, 0 ties and 0 losses of 2 workloads", self.tarn("report", path).stdout)

    def test_users_text_stays_text(self):
        workload = make_workload(HOSTILE, 0.5)
        workload["command"] = ["prog", HOSTILE]
        workload["errors"] = [{"allocator": HOSTILE, "run": 3, "what": HOSTILE}]
        document = make_document(workload)
        document["machine"]["cpu_model"] = HOSTILE
        document["notes"] = [HOSTILE]
        _, text, page = self.page(document)
        self.assertNotIn("<img", text)
        self.assertEqual(text.count("</script>"), 1)
        self.assertGreaterEqual("\x00".join(page.text).count(HOSTILE), 5)

    def test_what_is_missing_is_missing(self):
        workload = make_workload("broken", 0.5)
        for run in workload["runs"]:
            run["rss"] = None
            run["metrics"] = None
            if run["allocator"] == "mimalloc":
                run.update(exit_code=139, signal=11, failure="ended by signal 11", wall_s=None)
        workload["results"] = workload["results"][:2] + [
            {"allocator": "mimalloc", "runs": 0, "failed": 6, "median": {"wall_s": None}, "ratio": None}]
        workload["errors"] = [{"allocator": "mimalloc", "run": 3, "what": "exit code 139 (signal 11)"}]
        document = make_document(workload)
        document["interrupted"] = True
        del document["machine"]["topology"]
        table, _, page = self.page(document)
        visible = " ".join(page.text)
        self.assertIn("failed 6 of 6", visible)
        self.assertIn("exit code 139 (signal 11)", visible)
        self.assertIn("Interrupted:", visible)
        self.assertIn("FAILED: broken under mimalloc", table)
        self.page(make_document())  # No workload at all is a page, too.

    def test_a_measure_of_the_workload_s_own(self):
        workload = make_workload("keeps", 1.0, kind="memory",
                                 result={"measure": "metrics.kept_bytes", "title": "memory kept"})
        for run in workload["runs"]:
            run["metrics"]["kept_bytes"] = {"glibc": 100 << 20, "tarn": -5, "mimalloc": 50 << 20}[run["allocator"]]
        table, _, _ = self.page(make_document(workload))
        self.assertRegex(table, r"keeps +memory kept +100 MiB +0\.000 win +0\.50 win")

    def test_comparison(self):
        before = make_document(make_workload("a", 0.5), make_workload("b", 0.5), make_workload("c", 0.5),
                               make_workload("d", 0.5, blocks=3), make_workload("gone", 1))
        after = make_document(make_workload("a", 0.6), make_workload("b", 0.4), make_workload("c", 0.502),
                              make_workload("d", 0.8, blocks=3), make_workload("new", 1))
        # The whole machine is slower: the ratio to the reference does not see it.
        for workload in after["workloads"]:
            for run in workload["runs"]:
                run["wall_s"] *= 1.3
        old, new = self.write("old.json", before), self.write("new.json", after)
        done = self.tarn("report", old, new, "--json", code=3)
        verdicts = {(c["workload"], c["measure"]): c["verdict"] for c in json.loads(done.stdout)["changes"]}
        self.assertEqual({name: verdicts[name, "wall_s"] for name in "abcd"},
                         {"a": "regression", "b": "improvement", "c": "same", "d": "unsure"})
        self.assertEqual(verdicts["a", "peak_rss_bytes"], "same")
        table = self.tarn("report", old, new, "-o", self.path("c.html"), code=3).stdout
        self.assertIn("new was not measured before", table)
        with open(self.path("c.html"), encoding="utf-8") as file:
            self.assertIn("regression", " ".join(Page(file.read()).text))
        self.tarn("report", old, old)
        self.tarn("report", old, new, "--threshold", "40")

    def test_wrong_input(self):
        good = self.write("good.json", make_document(make_workload("a", 1)))
        with open(self.path("cut.json"), "w", encoding="utf-8") as file:
            file.write(json.dumps(make_document())[:40])
        other = copy.deepcopy(make_document())
        other["schema"] = "tarn-bench/9"
        for arguments, code, said in (
            ([self.path("none.json")], 1, "none.json"),
            ([self.path("cut.json")], 1, "cut short"),
            ([self.write("other.json", other)], 1, "tarn-bench/9"),
            ([self.write("list.json", [1])], 1, "schema"),
            ([good, self.write("b.json", make_document(make_workload("b", 1)))], 1, "in common"),
            ([good, "-o", "/dev/full"], 1, "/dev/full"),
            ([good, "--threshold", "many"], 2, "threshold"),
            ([], 2, "FILE"),
        ):
            with self.subTest(arguments=arguments):
                self.assertIn(said, self.tarn("report", *arguments, code=code).stderr)

    def test_machine(self):
        machine = json.loads(self.tarn("machine", "--json").stdout)
        self.assertGreaterEqual(machine["logical_cpus"], 1)
        self.assertGreater(machine["memory_bytes"], 1 << 20)
        self.assertIn(os.uname().release, machine["kernel"])
        allowed = os.sched_getaffinity(0)
        for placement in machine["placements"].values():
            self.assertNotEqual("cpus" in placement, "why_not" in placement)
            self.assertLessEqual(set(placement.get("cpus", [])), allowed)
        self.assertIn(machine["kernel"], self.tarn("machine").stdout)

    def test_placements_lie_within_the_affinity(self):
        allowed = os.sched_getaffinity(0)
        self.addCleanup(os.sched_setaffinity, 0, allowed)
        for cpu in min(allowed), max(allowed):
            os.sched_setaffinity(0, {cpu})
            machine = json.loads(self.tarn("machine", "--json").stdout)
            if not machine["topology"]:
                self.skipTest("the tool was built without hwloc")
            self.assertEqual(machine["placements"]["one-cpu"]["cpus"], [cpu])

    def test_placements_follow_the_topology(self):
        # Machines as hwloc makes them up, with and without the kinds of neighbours that a placement wants.
        for machine, placements in (
            ("numa:2 l3:2 core:2 pu:1", {"one-cpu": [0], "same-core": None, "same-cache": [0, 1],
                                         "different-cache": [0, 2], "different-node": [0, 4]}),
            ("l3:1 core:4 pu:2", {"one-cpu": [0], "same-core": [0, 1], "same-cache": [0, 2],
                                  "different-cache": None, "different-node": None}),
            ("numa:2 core:4 pu:2", {"one-cpu": [0], "same-core": [0, 1], "same-cache": None,
                                    "different-cache": None, "different-node": [0, 8]}),
            ("core:1 pu:1", {"one-cpu": [0], "same-core": None, "same-cache": None, "different-cache": None,
                             "different-node": None}),
        ):
            with self.subTest(machine=machine):
                answer = json.loads(self.tarn("machine", "--json", environment={"HWLOC_SYNTHETIC": machine}).stdout)
                if not answer["topology"]:
                    self.skipTest("the tool was built without hwloc")
                found = {name: placement.get("cpus") for name, placement in answer["placements"].items()}
                self.assertEqual(found, placements)
                for placement in answer["placements"].values():
                    self.assertNotEqual("cpus" in placement, bool(placement.get("why_not")))


if __name__ == "__main__":
    unittest.main()
