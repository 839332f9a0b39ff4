#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The files in docs/examples/monitor, against a server that watches a program: each must ask for what is there.

Usage: monitor_examples_test.py TARN PROGRAM     (PROGRAM: serve_program.cc)
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from patience import PATIENCE_SECONDS
import urllib.request

TARN = PROGRAM = None
LIBRARY = os.environ["TARN_LIB"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TARN_")}
EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../docs/examples/monitor")


def text_of(name):
    with open(os.path.join(EXAMPLES, name)) as file:
        return file.read()


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = subprocess.Popen([PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                       env=dict(ENVIRONMENT, LD_PRELOAD=LIBRARY))
        assert cls.program.stdout.readline() == "ready\n"
        cls.serve = subprocess.Popen([TARN, "serve", "--listen", "127.0.0.1:0", str(cls.program.pid)],
                                     stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        cls.url = None
        while cls.url is None:
            line = cls.serve.stderr.readline()
            assert line, "serve has ended"
            found = re.search(r"http://\S+", line)
            cls.url = found and found.group()
        with urllib.request.urlopen(cls.url + "/metrics", timeout=PATIENCE_SECONDS) as answer:
            cls.metrics = set(re.findall(r"^([a-z_]+)(?:\{| )", answer.read().decode(), re.MULTILINE))

    @classmethod
    def tearDownClass(cls):
        for process in cls.serve, cls.program:
            process.kill()
            process.communicate()

    def check_names(self, expression):
        """Every metric of tarn in it is one that the server has, or has with a limit, a pool or several processes."""
        names = set(re.findall(r"\b((?:tarn|process)_\w+)\b", expression))
        self.assertTrue(names, expression)
        others = {"tarn_limit_bytes", "tarn_hard_limit_bytes", "tarn_pool_capacity_bytes", "tarn_target_up"}
        self.assertEqual(names - self.metrics - others, set(), expression)

    def test_prometheus(self):
        for expression in re.findall(r"expr: (.+)", text_of("tarn_rules.yml")):
            if expression not in (">", 'up{job="tarn"} == 0'):
                self.check_names(expression)
        if not shutil.which("promtool"):
            self.skipTest("no promtool here")
        result = run("promtool", "check", "config", os.path.join(EXAMPLES, "prometheus.yml"))
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_grafana(self):
        dashboard = json.loads(text_of("grafana_dashboard.json"))
        panels = dashboard["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        expressions = [target["expr"] for panel in panels for target in panel["targets"]]
        variables = {variable["name"] for variable in dashboard["templating"]["list"]} | {"__rate_interval"}
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels)))
        self.assertLessEqual(used, variables)
        # No two panels lie upon each other.
        cells = [(x, y) for panel in panels for at in [panel["gridPos"]] for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])]
        self.assertEqual(len(set(cells)), len(cells))
        self.assertLess(max(x for x, _ in cells), 24)
        for expression in expressions:
            self.check_names(expression)
        if not shutil.which("promtool"):
            self.skipTest("no promtool here")
        # promtool knows whether an expression is one, in a file of rules.
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as rules:
            rules.write("groups:\n- name: dashboard\n  rules:\n")
            for number, expression in enumerate(expressions):
                expression = expression.replace("$__rate_interval", "1m").replace("'", "''")
                rules.write("  - record: panel_%d\n    expr: '%s'\n" % (number, expression))
            rules.flush()
            result = run("promtool", "check", "rules", rules.name)
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_continuous_profilers(self):
        for name in "parca.yaml", "pyroscope.alloy":
            text = text_of(name)
            self.assertIn('"127.0.0.1:9464"', text)
            paths = re.findall(r"path\s*[:=]\s*\"?(/[^\s\"]+)", text)
            self.assertEqual(len(paths), 1, name)
            with urllib.request.urlopen(self.url + paths[0], timeout=PATIENCE_SECONDS) as answer:
                self.assertIn(b"inuse_space", gzip.decompress(answer.read()))
            # Kinds that would be requested by default and are unavailable.
            for kind in "block", "goroutine", "mutex", "process_cpu":
                self.assertRegex(text, r"%s\b[^}]*?enabled\s*[:=] false" % kind)

    def test_systemd(self):
        unit = text_of("tarn-serve@.service")
        if not shutil.which("systemd-analyze"):
            self.skipTest("no systemd-analyze here")
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "tarn-serve@redis-server.service")
            with open(path, "w") as file:
                # The program has to be there.
                file.write(unit.replace("/usr/local/bin/tarn", os.path.abspath(TARN)))
            result = run("systemd-analyze", "verify", "--man=no", path)
            self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))


if __name__ == "__main__":
    TARN, PROGRAM = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
