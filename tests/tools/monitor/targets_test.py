#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tarn serve with several processes under one server, and the pages that change something in a process.

Usage: targets_test.py TARN PROGRAM     (PROGRAM: serve_program.cc)
"""

import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import serve_test
from patience import PATIENCE_SECONDS
from serve_test import ENVIRONMENT, LIBRARY, ONLY_HEAP, Program, Serve, reserve_port, serve_fails, wait_for

CONTROL = {"X_Tarn_Control": "1"}


def series(text):
    """{name with labels: value} of Prometheus' text; no series may be there twice."""
    rows = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    result = dict(rows)
    assert len(rows) == len(result), "a series is there twice"
    return result


class SeveralTargets(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="targets_test.")
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        cls.first = Program()
        cls.addClassCleanup(cls.first.end)
        cls.second = Program()
        cls.addClassCleanup(cls.second.end)
        cls.first.do("hold 20")
        cls.second.do("hold 40")
        cls.name = "gone%d" % os.getpid()
        cls.serve = Serve(cls.first.pid, "big=%d" % cls.second.pid, "--name", cls.name)
        cls.addClassCleanup(cls.serve.__exit__)
        cls.labels = ["serve_program", "big", cls.name]

    def test_metrics_of_all(self):
        status, headers, text = self.serve.get("/metrics")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
        values = series(text)
        self.assertTrue(all('target="' in name for name in values))
        self.assertEqual([values['tarn_target_up{target="%s"}' % label] for label in self.labels], ["1", "1", "0"])
        self.assertAlmostEqual(int(values['tarn_allocated_bytes{target="serve_program"}']) >> 20, 20, delta=2)
        self.assertAlmostEqual(int(values['tarn_allocated_bytes{target="big"}']) >> 20, 40, delta=2)
        self.assertIn('tarn_size_class_live_objects{target="big",size_class="65536"}', values)
        self.assertFalse(any(self.name in name for name in values if not name.startswith("tarn_target_up")))
        for label in self.labels:
            self.assertLess(sum('target="%s"' % label in name for name in values), 300)
        # All series of a family stand together, behind its one HELP and TYPE.
        families = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
        self.assertEqual(len(families), len(set(families)))
        order = [re.sub(r"_(bucket|sum|count)$", "", re.match(r"[a-z_]+", line).group())
                 for line in text.splitlines() if not line.startswith("#")]
        groups = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
        self.assertEqual(len(groups), len(set(groups)))

    def test_metrics_please_promtool(self):
        if not shutil.which("promtool"):
            self.skipTest("no promtool here")
        result = subprocess.run(["promtool", "check", "metrics"], input=self.serve.get("/metrics")[2],
                                capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))

    def test_other_formats(self):
        text = self.serve.get("/metrics?format=openmetrics")[2]
        self.assertTrue(text.endswith("# EOF\n"))
        self.assertEqual(text.count("# EOF"), 1)
        status, document = self.serve.json()
        self.assertEqual((status, document["schema"]), (200, "tarn-metrics-of-targets/1"))
        self.assertRegex(document["timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(set(document["targets"]), set(self.labels))
        self.assertEqual(document["targets"]["big"]["pid"], self.second.pid)
        self.assertAlmostEqual(document["targets"]["big"]["metrics"]["heap_mb"], 40, delta=2)
        self.assertIn("no process called", document["targets"][self.name]["absence"])
        self.assertEqual(self.serve.get("/metrics?format=xml")[0], 400)

    def test_health_of_all(self):
        self.assertEqual(self.serve.get("/health")[::2],
                         (503, "Unhealthy: 1 of 3 targets\n%s: target gone\n" % self.name))
        status, document = self.serve.json("/health")
        self.assertEqual((status, document["targets"]["big"]["status"]), (503, "Healthy"))

    def test_the_list(self):
        status, document = self.serve.json("/targets")
        self.assertEqual((status, document["schema"]), (200, "tarn-targets/1"))
        rows = document["targets"]
        self.assertEqual([row["label"] for row in rows], self.labels)
        self.assertEqual([row["state"] for row in rows], ["running", "running", "gone"])
        self.assertEqual([row["pid"] for row in rows], [self.first.pid, self.second.pid, None])
        for link in rows[0]["links"].values():
            self.assertEqual(self.serve.get(link)[0], 200, link)
        self.assertEqual(self.serve.get("/targets")[1]["Content-Type"], "application/json")
        for path in ("/targets", "/"):
            _, headers, text = self.serve.get(path, Accept="text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
            self.assertEqual(headers["Content-Type"], "text/html; charset=utf-8")
            for link in re.findall(r'<a href="([^"]*)"', text):
                # Relative to the root, below which both are.
                self.assertIn(self.serve.get("/" + link)[0], (200, 503), link)
            self.assertIn('href="targets/big/"', text)
        groups = json.loads(self.serve.get("/targets?format=http_sd")[2])
        self.assertEqual(groups[1], {"targets": [self.serve.host],
                                     "labels": {"__metrics_path__": "/targets/big/metrics", "target": "big"}})

    def test_pages_of_one(self):
        values = series(self.serve.get("/targets/big/metrics")[2])
        self.assertAlmostEqual(int(values["tarn_allocated_bytes"]) >> 20, 40, delta=2)
        self.assertEqual(self.serve.get("/targets/big/health")[::2], (200, "Healthy\n"))
        self.assertEqual(self.serve.get("/targets/%s/metrics" % self.name)[0], 503)
        self.assertIn("HoldBlocks", self.serve.get("/targets/big/debug/pprof/heap?debug=1")[2])
        self.assertEqual(self.serve.get("/targets/big")[1]["Location"], "/targets/big/")
        self.assertEqual(self.serve.get("/targets/big/debug/pprof")[1]["Location"], "/targets/big/debug/pprof/")
        for path in ("/targets/", "/targets/nobody/metrics", "/targets/big/x", "/debug/pprof/heap", "/targets/../metrics"):
            self.assertEqual(self.serve.get(path)[0], 404, path)

    def test_profiles_that_wait_leave_room(self):
        # They share the server's slots.
        with serve_test.WaitingProfiles(self.serve, "/targets/serve_program", "/targets/big", "/targets/big"):
            self.assertEqual(self.serve.get("/targets/big/health")[0], 200)
        wait_for(lambda: self.serve.get("/targets/big/debug/pprof/heap")[0] == 200)

    def test_alerts_have_the_label(self):
        with Program() as program, Serve("web=%d" % program.pid, self.first.pid, "--interval", "0.1", "--threshold",
                                         "heap_mb=64", *ONLY_HEAP) as serve:
            program.do("hold 100")
            text = wait_for(lambda: serve.get("/health")[0] == 503 and serve.get("/health")[2])
            self.assertRegex(text, r"\AUnhealthy: 1 of 2 targets\nweb: heap_mb = \d+\.\d\d exceeds threshold 64\.00\n\Z")
            serve.wait_for_message(r"^ALERT: web: heap_mb = \d+\.\d\d exceeds threshold 64\.00$")
            serve.wait_for_message("serve: web: watching %d" % program.pid)
            self.assertIn('tarn_alert_firing{target="web",alert="heap_mb"} 1', serve.get("/metrics")[2])
            self.assertIn('tarn_alert_firing{target="serve_program",alert="heap_mb"} 0', serve.get("/metrics")[2])
            program.do("free")
            wait_for(lambda: serve.get("/health")[0] == 200)
            serve.wait_for_message(r"^ALERT over: web: heap_mb = ")

    def test_it_ends_with_the_last(self):
        with Program() as first, Program() as second, Serve(first.pid, second.pid) as serve:
            # Both have the same name, so the numbers tell them apart.
            labels = ["serve_program-%d" % program.pid for program in (first, second)]
            self.assertEqual([row["label"] for row in serve.json("/targets")[1]["targets"]], labels)
            first.end()
            wait_for(lambda: "%s: the process has ended" % labels[0] in serve.messages())
            self.assertEqual(serve.get("/health")[0], 503)
            self.assertEqual(series(serve.get("/metrics")[2])['tarn_target_up{target="%s"}' % labels[1]], "1")
            self.assertIsNone(serve.process.poll())
            second.end()
            self.assertEqual(serve.wait(), 0)

    def test_names_and_files_go_on(self):
        path = os.path.join(self.directory, "web.pid")
        with Program() as program, Serve(program.pid, "--pid-file", path) as serve:
            with open(path, "w", encoding="utf-8") as file:
                file.write("%d\n" % self.first.pid)
            wait_for(lambda: serve.get("/health")[0] == 200)
            self.assertEqual(serve.json()[1]["targets"]["web"]["pid"], self.first.pid)
            program.end()
            wait_for(lambda: "has ended" in serve.messages())
            self.assertEqual(serve.get("/targets/web/health")[0], 200)
            self.assertIsNone(serve.process.poll())
            serve.process.send_signal(signal.SIGTERM)
            self.assertEqual(serve.wait(), 0)

    def test_one_target_has_the_list_too(self):
        with Serve("web=%d" % self.first.pid) as serve:
            self.assertNotIn("target=", serve.get("/metrics")[2])
            self.assertEqual(serve.json("/targets")[1]["targets"][0]["label"], "web")
            self.assertEqual(serve.get("/targets/web/health")[::2], (200, "Healthy\n"))

    def test_targets_of_the_settings_file(self):
        config = os.path.join(self.directory, "config")
        with open(config, "w", encoding="utf-8") as file:
            json.dump({"targets": [{"pid": self.first.pid, "label": "a"}, {"pid": self.second.pid}]}, file)
        with Serve("--config", config) as serve:
            self.assertEqual([row["label"] for row in serve.json("/targets")[1]["targets"]], ["a", "serve_program"])
        # A target of the command line comes before it.
        with Serve(self.second.pid, "--config", config) as serve:
            self.assertEqual(serve.json()[1]["pid"], self.second.pid)

    def test_usage(self):
        for arguments in (["1", "1"], ["a=1", "a=2"], ["a="], ["--name", ""], ["1", "x"], ["1", "--run", "--", "true"],
                          [str(i) for i in range(1, 66)]):
            self.assertEqual(serve_fails(*arguments)[0], 2, arguments)
        # One of several that is not there.
        self.assertEqual(serve_fails(self.first.pid, 2 ** 22 + 1, "--listen", "127.0.0.1:0")[0], 1)

    def test_a_real_prometheus_and_redis(self):
        """Two redis-servers, one server, one scrape for both."""
        if not shutil.which("prometheus") or not shutil.which("redis-server"):
            self.skipTest("no prometheus or no redis-server here")

        directory = tempfile.mkdtemp(dir=self.directory)
        environment = dict(ENVIRONMENT, LD_PRELOAD=LIBRARY)
        servers = []
        for number in range(2):
            servers.append(subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", "%s/%d" % (directory, number),
                                             "--save", "", "--dir", directory], env=environment, stdout=subprocess.DEVNULL))
            self.addCleanup(lambda process=servers[-1]: (process.kill(), process.wait()))

        def runs(process):
            """True if it has allocated by tarn."""
            return subprocess.run([serve_test.TARN, "stat", str(process.pid)], capture_output=True, check=False).returncode == 0

        wait_for(lambda: all(runs(process) for process in servers))
        with Serve("left=%d" % servers[0].pid, "right=%d" % servers[1].pid) as serve:
            address = "127.0.0.1:%d" % reserve_port(self)
            config = os.path.join(directory, "prometheus.yml")
            with open(config, "w", encoding="utf-8") as file:
                json.dump({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                           "scrape_configs": [
                               {"job_name": "all", "static_configs": [{"targets": [serve.host]}]},
                               {"job_name": "each", "http_sd_configs": [
                                   {"url": serve.url + "/targets?format=http_sd", "refresh_interval": "1s"}]}]}, file)

            def query(expression):
                """{(job, target): value}, none while it does not answer."""
                connection = http.client.HTTPConnection(address, timeout=5)
                try:
                    connection.request("GET", "/api/v1/query?query=" + expression)
                    result = json.loads(connection.getresponse().read())["data"]["result"]
                except (OSError, http.client.HTTPException, ValueError, KeyError):
                    return {}
                finally:
                    connection.close()
                return {(row["metric"]["job"], row["metric"].get("target", "")): float(row["value"][1]) for row in result}

            with subprocess.Popen(["prometheus", "--config.file", config, "--web.listen-address", address,
                                   "--storage.tsdb.path", os.path.join(directory, "data")], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL) as prometheus:
                try:
                    found = wait_for(lambda: (values := query("tarn_allocated_bytes")) and len(values) == 4 and values)
                    self.assertEqual(set(found), {(job, label) for job in ("all", "each") for label in ("left", "right")})
                    # A scrape that takes longer than its second leaves a gap.
                    wait_for(lambda: query("tarn_target_up") == {("all", "left"): 1, ("all", "right"): 1})
                    wait_for(lambda: set(query("up").values()) == {1})
                    # One ends: the other is scraped on.
                    servers[0].kill()
                    servers[0].wait()
                    wait_for(lambda: query("tarn_target_up") == {("all", "left"): 0, ("all", "right"): 1})
                    wait_for(lambda: query("up").get(("all", "")) == 1)
                finally:
                    prometheus.terminate()


class Control(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = Program()
        cls.addClassCleanup(cls.program.end)
        cls.serve = Serve(cls.program.pid, "--allow-control")
        cls.addClassCleanup(cls.serve.__exit__)
        cls.slow_client = SlowClient(cls.serve.host)
        cls.slow_client.start()
        cls.addClassCleanup(cls.slow_client.join)

    def post(self, path, body=None, serve=None, **headers):
        return (serve or self.serve).get(path, method="POST", body=body, **(headers or CONTROL))

    def post_while_busy(self, path, body, program=None, serve=None):
        """The answer of a program that runs into slow paths at the same time."""
        program = program or self.program
        program.do("busy", answer=None)
        try:
            return self.post(path, body, serve)
        finally:
            program.do("free", answer="done\n")
            assert program.process.stdout.readline() == "done\n"

    def test_release(self):
        # The background thread may have been faster by itself, on a machine with much to do.
        for _ in range(10):
            self.program.do("hold 60")
            self.program.do("free")
            status, headers, text = self.post_while_busy("/control/release?wait=60", None)
            self.assertEqual((status, headers["Content-Type"]), (200, "application/json"), text)
            answer = json.loads(text)
            if answer["released_bytes"] > 0:
                break
        self.assertEqual((answer["schema"], answer["pid"]), ("tarn-release/1", self.program.pid))
        self.assertGreater(answer["released_bytes"], 0)
        self.serve.wait_for_message("serve: by request: ")

    def test_limit(self):
        for text, limit in (("256MiB", 256 << 20), ("1073741824", 1 << 30), ("off", None)):
            status, _, answer = self.post_while_busy("/control/limit", "limit=%s&wait=60" % text)
            self.assertEqual(status, 200, answer)
            self.assertEqual(json.loads(answer)["limit_bytes"], limit)
            values = series(self.serve.get("/metrics")[2])
            self.assertEqual(values.get("tarn_limit_bytes"), None if limit is None else str(limit))
        for wrong in ("", "limit=", "limit=much", "limit=1", "limit=99999TiB", "limit=1GiB&wait=x", "limit=1GiB&wait=1e9"):
            self.assertEqual(self.post("/control/limit", wrong)[0], 400, wrong)

    def test_nobody_answers(self):
        # It sleeps, and has no background thread.
        variables = dict(ENVIRONMENT, LD_PRELOAD=LIBRARY, TARN_BACKGROUND="off")
        with subprocess.Popen([serve_test.PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables) as program:
            self.addCleanup(program.kill)
            program.stdout.readline()
            with Serve(program.pid, "--allow-control") as serve:
                for path in ("/control/release?wait=0.1", "/control/limit?limit=1GiB&wait=0.1"):
                    status, _, text = self.post(path, serve=serve)
                    self.assertEqual(status, 504)
                    self.assertIn("the request stands", text)
                # One change at a time. The one that waits may itself be refused, for it may come beside one that does
                # not wait. It asks again then, as it does after its minute.
                client = None

                def is_refused():
                    nonlocal client
                    if client and select.select([client], [], [], 0)[0]:
                        client.close()
                        client = None
                    if not client:
                        client = socket.create_connection(tuple(serve.host.split(":")), timeout=PATIENCE_SECONDS)
                        client.sendall(b"POST /control/release?wait=60 HTTP/1.1\r\nHost: localhost\r\n"
                                       b"X-Tarn-Control: 1\r\n\r\n")
                    return self.post("/control/release?wait=0", serve=serve)[0] == 409

                wait_for(is_refused)
                # A client that goes away frees its place.
                client.close()
                wait_for(lambda: self.post("/control/release?wait=0", serve=serve)[0] == 504)
                program.kill()
                program.wait()
                self.assertEqual(serve.wait(), 0)

    def test_who_may_not(self):
        own = "http://" + self.serve.host
        for headers in ({"Content_Type": "text/plain"}, {"X_Tarn_Control": "0"}, {"X_Tarn_Control": "1", "Origin": "null"},
                        {"X_Tarn_Control": "1", "Origin": "http://evil.example"},
                        {"X_Tarn_Control": "1", "Origin": "http://localhost:1"},
                        {"X_Tarn_Control": "1", "Host": "evil.example"},
                        {"X_Tarn_Control": "1", "Host": "evil.example", "Origin": "http://evil.example"}):
            self.assertEqual(self.post("/control/limit", "limit=off", **headers)[0], 403, headers)
        self.assertIn(self.post("/control/limit", "limit=off&wait=0", X_Tarn_Control="1", Origin=own)[0], (200, 504))
        # Requests that a page of another site may send at all, or sends before them.
        self.assertEqual(self.post("/control/limit", "limit=off", Content_Type="application/x-www-form-urlencoded")[0], 403)
        status, headers, _ = self.serve.get("/control/limit", method="OPTIONS", Origin="http://evil.example",
                                            Access_Control_Request_Headers="x-tarn-control")
        self.assertEqual((status, [name for name in headers if name.lower().startswith("access-control")]), (405, []))

    def test_methods(self):
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            status, headers, _ = self.serve.get("/control/release", method=method)
            self.assertEqual((status, headers["Allow"]), (405, "POST"), method)
        self.assertEqual(self.post("/control/other")[0], 405)
        self.assertEqual(self.serve.get("/control/other")[0], 404)

    def test_off_unless_enabled(self):
        with Serve(self.program.pid) as serve:
            for method in ("POST", "GET", "PUT"):
                status, headers, text = serve.get("/control/release", method=method, **CONTROL)
                self.assertEqual((status, headers["Allow"]), (403, None))
                self.assertIn("--allow-control", text)
            self.assertEqual(serve.get("/control/limit", method="POST", body="limit=1GiB", **CONTROL)[0], 403)
            self.assertNotIn("tarn_limit_bytes", serve.get("/metrics")[2])

    def test_of_several(self):
        with Program() as other, Serve(self.program.pid, "b=%d" % other.pid, "--allow-control") as serve:
            self.assertEqual(self.post("/control/limit", "limit=1GiB", serve=serve)[0], 404)

            answer = self.post_while_busy("/targets/b/control/limit", "limit=1GiB&wait=60", other, serve)
            self.assertEqual(answer[0], 200, answer)
            self.assertEqual(series(serve.get("/metrics")[2])['tarn_limit_bytes{target="b"}'], str(1 << 30))
            self.assertEqual(serve.get("/targets/b/control/release")[1]["Allow"], "POST")

    def test_symbols_by_post(self):
        frames = re.findall(r"#\t(0x[0-9a-f]+)\t(\S.*?)\t", (self.program.do("hold 8"),
                                                             self.serve.get("/debug/pprof/heap?debug=1")[2])[1])
        address = next(int(address, 16) - 1 for address, name in frames if name == "main")
        status, headers, text = self.post("/debug/pprof/symbol", "%#x+0x1" % address, X="")
        self.assertEqual((status, text), (200, "num_symbols: 1\n%#x main\n" % address))
        self.assertNotEqual(headers["Connection"], "close")
        self.assertEqual(self.post("/debug/pprof/symbol", "", X="")[2], "num_symbols: 1\n")
        status, headers, _ = self.serve.get("/debug/pprof/symbol", method="PUT", body="x")
        self.assertEqual((status, headers["Allow"]), (405, "GET, HEAD, POST"))

    def test_bodies(self):
        head = b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\n"
        end = b"Connection: close\r\n\r\n"

        def status(request):
            return int(self.serve.raw(request).split(" ")[1])

        self.assertEqual(status(head + b"Content-Length: 5\r\n" + end + b"0x1+0"), 200)
        self.assertEqual(status(head + end), 200)
        self.assertEqual(status(head + b"Content-Length: 65537\r\n" + end), 413)
        self.assertEqual(status(head + b"Content-Length: 99999999999999999999999\r\n" + end), 413)
        self.assertEqual(status(head + b"Content-Length: 65536\r\n" + end + b"1" * 65536), 200)
        self.assertEqual(status(head + b"Transfer-Encoding: chunked\r\n" + end + b"0\r\n\r\n"), 411)
        self.assertEqual(status(head + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n" + end + b"1"), 411)
        for wrong in (b"Content-Length: -1\r\n", b"Content-Length: 0x1\r\n", b"Content-Length: 1, 1\r\n", b"Content-Length:\r\n",
                      b"Content-Length: 1\r\nContent-Length: 1\r\n", b"X: y\nContent-Length: 1\r\n",
                      b"X: y\r\n Content-Length: 1\r\n"):
            self.assertEqual(status(head + wrong + end + b"1"), 400, wrong)
        # A body is not taken for a request, and what follows it is.
        inner = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        two = head + b"Content-Length: %d\r\n\r\n" % len(inner) + inner + b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + end
        answer = self.serve.raw(two)
        self.assertEqual((answer.count("HTTP/1.1 200"), answer.count("Healthy\n")), (2, 1))
        # Elsewhere none is read.
        answer = self.serve.raw(b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(inner) + inner)
        self.assertEqual((answer.count("HTTP/1.1 "), answer.split(" ")[1]), (1, "405"))

    def test_z_a_slow_body(self):
        # It was begun with the class, and is given up after ten seconds, however much comes in that time.
        self.slow_client.join()
        self.assertTrue(self.slow_client.was_given_up)
        self.assertGreater(self.slow_client.seconds, 8)


class SlowClient(threading.Thread):
    """Sends a body byte by byte, until the server has had enough; measures how long that takes."""

    def __init__(self, host):
        super().__init__()
        self.host = host
        self.seconds = None
        self.was_given_up = False

    def run(self):
        start = time.monotonic()
        host, port = self.host.split(":")
        try:
            with socket.create_connection((host, int(port)), timeout=0.5) as client:
                client.sendall(b"POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
                while not self.was_given_up and time.monotonic() - start < PATIENCE_SECONDS:
                    client.sendall(b"1")
                    try:
                        self.was_given_up = not client.recv(100)
                    except socket.timeout:
                        pass
        except OSError:
            self.was_given_up = True
        self.seconds = time.monotonic() - start


if __name__ == "__main__":
    serve_test.TARN, serve_test.PROGRAM = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
