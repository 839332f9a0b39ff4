#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tarn serve on a running program: its pages, and clients that are slow, broken or many.

Usage: serve_test.py TARN PROGRAM     (PROGRAM: serve_program.cc)
"""

import http.client
import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

from patience import PATIENCE_SECONDS

TARN = PROGRAM = None
LIBRARY = os.environ["TARN_LIB"]
# Names that tarn would take for settings of its own.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TARN_")}
HERE = os.path.dirname(os.path.abspath(__file__))
# Rules other than those on the heap's size depend on how busy the machine is. A test that sets no thresholds goes
# without them.
OTHER_RULES = ("alloc_rate_mb_sec", "pause_ms", "returned_mb_sec", "limit_percent", "fragmentation_percent", "stall_ms_sec")
ONLY_HEAP = [word for rule in OTHER_RULES for word in ("--threshold", rule + "=off")]


def reserve_port(test):
    """A port for a program that needs a number, until the end of the test. A socket is bound to it and does not listen,
    which keeps it from all that take any free one. A server that sets SO_REUSEADDR can listen there."""
    holder = socket.socket()
    test.addCleanup(holder.close)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder.getsockname()[1]


def wait_for(condition, seconds=PATIENCE_SECONDS):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError("it did not come to be within %d s" % seconds)


class Program:
    """serve_program.cc on tarn, until the end of the `with`."""

    def __init__(self, path=None):
        self.process = subprocess.Popen([path or PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=dict(ENVIRONMENT, LD_PRELOAD=LIBRARY))
        assert self.process.stdout.readline() == "ready\n"
        self.pid = self.process.pid

    def do(self, line, answer="done\n"):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        if answer:
            assert self.process.stdout.readline() == answer

    def end(self):
        self.process.kill()
        self.process.communicate()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


class Serve:
    """tarn serve, until the end of the `with`."""

    def __init__(self, *arguments, command=(), listen="127.0.0.1:0"):
        self.errors = tempfile.TemporaryFile("w+")
        command_line = [TARN, "serve", "--listen", listen, *map(str, arguments)]
        if "--config" not in arguments and "--threshold" not in arguments:
            command_line += ONLY_HEAP
        if command:
            command_line += ["--", *command]
        self.process = subprocess.Popen(command_line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        text=True, env=ENVIRONMENT)
        self.pid = self.process.pid

        def listens():
            if self.process.poll() is not None:
                raise AssertionError("serve has ended: " + self.messages())
            return re.search(r"serve: (http://(\S+)|unix:)", self.messages())

        match = wait_for(listens)
        self.url, self.host = match.group(1), match.group(2)

    def messages(self):
        # By another descriptor's place, so that the process's writes stay at the end.
        with open("/proc/self/fd/%d" % self.errors.fileno(), encoding="utf-8") as file:
            return file.read()

    def wait_for_message(self, pattern):
        """A change that a request sees is reported a moment later, or by the next look."""
        wait_for(lambda: re.search(pattern, self.messages(), re.M))

    def get(self, path, method="GET", body=None, **headers):
        """(status, headers, text)"""
        while True:
            start = time.monotonic()
            try:
                return self.get_once(path, method, body, **headers)
            except ConnectionError:
                # A client from which nothing has come for ten seconds is given up. A busy machine may do that to us.
                if time.monotonic() - start < 9:
                    raise

    def get_once(self, path, method, body, **headers):
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE_SECONDS)
        connection.request(method, path, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, response.headers, content.decode(errors="replace")

    def json(self, path="/metrics"):
        status, _, text = self.get(path, Accept="application/json")
        return status, json.loads(text)

    def raw(self, data, seconds=PATIENCE_SECONDS):
        """Returns the answer to these bytes until the server closes the connection."""
        host, port = self.host.split(":")
        for _ in range(5):
            start = time.monotonic()
            answer = b""
            try:
                with socket.create_connection((host, int(port)), timeout=seconds) as client:
                    client.sendall(data)
                    while part := client.recv(65536):
                        answer += part
            except ConnectionError:
                if time.monotonic() - start < 9:
                    raise
            # Given up, as in get().
            if answer or time.monotonic() - start < 9:
                break
        return answer.decode(errors="replace")

    def wait(self):
        return self.process.wait(timeout=PATIENCE_SECONDS)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def serve_fails(*arguments):
    """(exit code, stderr) of a server that does not come to serve."""
    result = subprocess.run([TARN, "serve", *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    return result.returncode, result.stderr


class WaitingProfiles:
    """Takes all three slots of the server for profiles until the end of the `with`.

    Each is taken by a request below one of the paths, which waits for five minutes. Plain requests take a slot, too, so
    a waiter that comes beside one may be refused. It asks again then.
    """

    def __init__(self, serve, *paths):
        assert len(paths) == 3
        self.serve = serve
        self.paths = paths
        self.connections = [None] * len(paths)

    def ask_where_none_waits(self):
        for i, connection in enumerate(self.connections):
            if connection and select.select([connection.sock], [], [], 0)[0]:
                connection.close()
                connection = None
            if not connection:
                self.connections[i] = connection = http.client.HTTPConnection(self.serve.host, timeout=PATIENCE_SECONDS)
                connection.request("GET", self.paths[i] + "/debug/pprof/heap?seconds=300")

    def no_slot_is_left(self):
        self.ask_where_none_waits()
        return all(self.serve.get(path + "/debug/pprof/heap")[0] == 503 for path in set(self.paths))

    def __enter__(self):
        wait_for(self.no_slot_is_left)
        return self

    def __exit__(self, *_):
        for connection in self.connections:
            connection.close()


class Pages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.started_s = time.time()
        cls.program = Program()
        cls.addClassCleanup(cls.program.end)
        cls.program.do("hold 20")
        cls.serve = Serve(cls.program.pid)
        cls.addClassCleanup(cls.serve.__exit__)

    def test_metrics(self):
        status, headers, text = self.serve.get("/metrics")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        self.assertGreater(int(values["tarn_allocated_bytes"]), 20 << 20)
        self.assertEqual(int(values["tarn_mapped_bytes"]),
                         int(values["tarn_resident_bytes"]) + int(values["tarn_retained_bytes"]))
        self.assertEqual(int(values["tarn_live_objects"]),
                         int(values["tarn_allocations_total"]) - int(values["tarn_deallocations_total"]))
        self.assertGreaterEqual(int(values['tarn_size_class_live_objects{size_class="65536"}']), 320)
        self.assertGreater(int(values["process_resident_memory_bytes"]), 20 << 20)
        # Between these two the background thread may have opened a file.
        wait_for(lambda: re.search(r"(?m)^process_open_fds (\d+)$", self.serve.get("/metrics")[2])[1] ==
                 str(len(os.listdir("/proc/%d/fd" % self.program.pid))))
        self.assertTrue(self.started_s - 60 < float(values["process_start_time_seconds"]) < time.time() + 60)
        self.assertLess(len(values), 300)

    def test_metrics_please_promtool(self):
        if not shutil.which("promtool"):
            self.skipTest("no promtool here")
        text = self.serve.get("/metrics")[2]
        result = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=PATIENCE_SECONDS,
                                check=False)
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))

    def test_formats(self):
        accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        _, headers, text = self.serve.get("/metrics", Accept=accept)
        self.assertEqual(headers["Content-Type"], "application/openmetrics-text; version=1.0.0; charset=utf-8")
        self.assertTrue(text.endswith("# EOF\n"))
        status, document = self.serve.json()
        self.assertEqual((status, document["alerts"], document["pid"]), (200, [], self.program.pid))
        self.assertRegex(document["timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertAlmostEqual(document["metrics"]["heap_mb"], 20, delta=2)
        for name in ("heap_sys_mb", "total_alloc_mb", "alloc_rate_mb_sec", "pause_ms"):
            self.assertIsInstance(document["metrics"][name], float)
        self.assertEqual(json.loads(self.serve.get("/metrics?format=json")[2])["schema"], "tarn-metrics/1")
        self.assertEqual(self.serve.get("/metrics?format=xml")[0], 400)

    def test_a_real_prometheus(self):
        if not shutil.which("prometheus"):
            self.skipTest("no prometheus here")
        examples = os.path.join(HERE, "../../../docs/examples/monitor")
        with open(os.path.join(examples, "prometheus.yml"), encoding="utf-8") as file:
            config = file.read().replace("127.0.0.1:9464", self.serve.host).replace("15s", "1s")
        address = "127.0.0.1:%d" % reserve_port(self)

        def query(expression):
            """{labels: value}, none while it does not answer."""
            connection = http.client.HTTPConnection(address, timeout=5)
            try:
                connection.request("GET", "/api/v1/query?query=" + expression)
                result = json.loads(connection.getresponse().read())["data"]["result"]
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                return {}
            finally:
                connection.close()
            return {row["metric"].get("alert", row["metric"].get("alertname", "")): float(row["value"][1]) for row in result}

        with tempfile.TemporaryDirectory() as directory:
            shutil.copy(os.path.join(examples, "tarn_rules.yml"), directory)
            # The rule of the example, but at once.
            rules = os.path.join(directory, "tarn_rules.yml")
            with open(rules, encoding="utf-8") as file:
                text = file.read()
            with open(rules, "w", encoding="utf-8") as file:
                file.write(text.replace("for: 1m", "for: 0s").replace("== 1", "== 0").replace("name: tarn",
                                                                                             "name: tarn\n    interval: 1s"))
            path = os.path.join(directory, "prometheus.yml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(config)
            with subprocess.Popen(["prometheus", "--config.file", path, "--web.listen-address", address,
                                   "--storage.tsdb.path", directory + "/data"], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL) as prometheus:
                try:
                    # A scrape that takes longer than its second leaves a gap.
                    self.assertGreater(wait_for(lambda: query("tarn_allocated_bytes"))[""], 20 << 20)
                    wait_for(lambda: query("up") == {"": 1})
                    wait_for(lambda: query("tarn_alert_firing").get("pause_ms") == 0)
                    # Turned round above, so that the rule is seen to fire.
                    self.assertIn("pause_ms", wait_for(lambda: query('ALERTS{alertname="TarnAlert"}')))
                finally:
                    prometheus.terminate()

    def test_health(self):
        self.assertEqual(self.serve.get("/health")[::2], (200, "Healthy\n"))
        self.assertEqual(self.serve.json("/health"), (200, {"status": "Healthy", "alerts": []}))

    def test_other_pages(self):
        self.assertIn('href="metrics"', self.serve.get("/")[2])
        self.assertEqual(self.serve.get("/debug/pprof")[1]["Location"], "/debug/pprof/")
        self.assertIn("allocs", self.serve.get("/debug/pprof/")[2])
        for path in ("/x", "/metrics/", "/../etc/passwd", "/%2e%2e/etc/passwd", "/metrics%00"):
            self.assertEqual(self.serve.get(path)[0], 404, path)

    def test_what_the_page_asks_for(self):
        status, headers, text = self.serve.get("/api/now")
        self.assertEqual((status, headers["Content-Type"]), (200, "application/json"))
        now = json.loads(text)
        self.assertEqual((now["schema"], now["process"]["pid"]), ("tarn-page/1", self.program.pid))
        self.assertGreater(now["figures"]["live_bytes"], 20 << 20)
        self.assertEqual(sum(now["figures"]["parts"].values()), now["figures"]["mapped_bytes"])
        self.assertGreaterEqual(next(row["live"] for row in now["classes"] if row["size_bytes"] == 65536), 320)
        history = json.loads(self.serve.get("/api/history")[2])
        self.assertEqual(history["pid"], self.program.pid)
        self.assertEqual(len(history["times_ms"]), len(history["live_bytes"]))
        heap = json.loads(self.serve.get("/api/heap")[2])
        self.assertEqual((heap["schema"], heap["rate_bytes"]), ("tarn-page/1", 512 << 10))
        self.assertIn("(anonymous namespace)::HoldBlocks", heap["strings"])
        self.assertAlmostEqual(sum(values[3] for values in heap["values"]) / (1 << 20), 20, delta=15)
        self.assertEqual(self.serve.get("/api/x")[0], 404)

    def test_head(self):
        for path in ("/metrics", "/debug/pprof/heap"):
            status, headers, text = self.serve.get(path, method="HEAD")
            self.assertEqual((status, text), (200, ""))
            self.assertGreater(int(headers["Content-Length"]), 100)

    def test_methods(self):
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            status, headers, _ = self.serve.get("/metrics", method=method, body=b"x=1")
            self.assertEqual((status, headers["Allow"], headers["Connection"]), (405, "GET, HEAD", "close"), method)

    def test_host(self):
        for host, status in (("localhost:80", 200), ("evil.example", 403), ("", 400), ("127.0.0.1.evil.example", 403)):
            self.assertEqual(self.serve.get("/health", Host=host)[0], status, host)
        self.assertIn(" 400 ", self.serve.raw(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n").split("\r\n")[0])
        self.assertIn(" 200 ", self.serve.raw(b"GET /health HTTP/1.0\r\n\r\n").split("\r\n")[0])
        two = b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        self.assertIn(" 400 ", self.serve.raw(two).split("\r\n")[0])

    def test_ranges_and_compression_are_not_done(self):
        status, headers, text = self.serve.get("/metrics", Range="bytes=" + ",".join(["0-"] * 1000),
                                               Accept_Encoding="br, gzip")
        self.assertEqual(status, 200)
        self.assertNotIn("Content-Encoding", headers)
        self.assertTrue(text.startswith("# HELP"))

    def pprof(self, source, *arguments):
        if not shutil.which("go"):
            self.skipTest("no go here")
        with tempfile.TemporaryDirectory() as directory:
            environment = dict(os.environ, HOME=directory, PPROF_TMPDIR=directory)
            # By itself pprof waits for one and a half times the seconds of the address.
            return subprocess.run(["go", "tool", "pprof", "-timeout=%d" % PATIENCE_SECONDS, *arguments, source],
                                  env=environment, check=True, text=True, capture_output=True,
                                  timeout=PATIENCE_SECONDS).stdout

    def test_heap_profile(self):
        text = self.pprof(self.serve.url + "/debug/pprof/heap", "-top", "-unit=mb")
        self.assertIn("Type: inuse_space", text)
        self.assertIn("(anonymous namespace)::HoldBlocks", text)
        with open(os.path.join(HERE, "serve_program.cc"), encoding="utf-8") as file:
            line = next(number for number, line in enumerate(file, 1) if "//@ hold" in line)
        self.assertRegex(self.pprof(self.serve.url + "/debug/pprof/heap", "-top", "-lines"), r"serve_program\.cc:%d" % line)
        self.assertIn("Type: alloc_space", self.pprof(self.serve.url + "/debug/pprof/allocs", "-top"))

    def test_heap_profile_as_text(self):
        text = self.serve.get("/debug/pprof/heap?debug=1&gc=1")[2]
        self.assertIn("HoldBlocks", text)
        # It is one that pprof understands.
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(text)
            file.flush()
            raw = self.pprof(file.name, "-raw")
        self.assertRegex(raw, r"objects/count .*space/bytes\n")
        self.assertIn("bytes:[65536]", raw)

    def test_delta(self):
        _, headers, _ = self.serve.get("/debug/pprof/heap?seconds=1")
        self.assertIn('filename="heap-delta"', headers["Content-Disposition"])
        text = self.pprof(self.serve.url + "/debug/pprof/allocs?seconds=1", "-top")
        self.assertRegex(text, "Duration: 1s, Total samples = 0")

    def test_pprof_headers_and_errors(self):
        _, headers, _ = self.serve.get("/debug/pprof/heap")
        self.assertEqual(headers["Content-Type"], "application/octet-stream")
        self.assertEqual(headers["Content-Disposition"], 'attachment; filename="heap"')
        self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
        _, headers, text = self.serve.get("/debug/pprof/heap?debug=1")
        self.assertEqual(headers["Content-Type"], "text/plain; charset=utf-8")
        self.assertIn("# HeapAlloc = ", text)
        self.assertEqual(self.serve.get("/debug/pprof/cmdline")[2], PROGRAM)
        for path, status in (("goroutine", 404), ("block", 404), ("mutex", 404), ("threadcreate", 404), ("profile", 404),
                             ("nonsense", 404), ("heap?seconds=0", 400), ("heap?seconds=x", 400),
                             ("heap?seconds=1&debug=1", 400), ("heap?seconds=100000", 400)):
            found, headers, text = self.serve.get("/debug/pprof/" + path)
            self.assertEqual((found, headers["X-Go-Pprof"]), (status, "1"), path)
            self.assertGreater(len(text), 20)

    def test_symbol(self):
        self.assertEqual(self.serve.get("/debug/pprof/symbol")[2], "num_symbols: 1\n")
        frames = re.findall(r"#\t(0x[0-9a-f]+)\t(\S.*?)\t", self.serve.get("/debug/pprof/heap?debug=1")[2])
        address = next(int(address, 16) - 1 for address, name in frames if name == "main")
        text = self.serve.get("/debug/pprof/symbol?%#x+0x1+x+99999999999999999999999" % address)[2]
        self.assertEqual(text, "num_symbols: 1\n%#x main\n" % address)

    def test_profiles_that_wait_leave_room(self):
        with WaitingProfiles(self.serve, "", "", ""):
            self.assertEqual(self.serve.get("/health")[0], 200)
        # A client that goes away frees its place.
        wait_for(lambda: self.serve.get("/debug/pprof/heap")[0] == 200)

    def test_broken_requests(self):
        for request in (b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 100 + b"\r\n\r\n",
                        b"GET / HTTP/1.1\r\nno colon\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                        b"BREW / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"):
            self.serve.raw(request)
        self.assertIn(" 431 ", self.serve.raw(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000).split("\r\n")[0])
        self.assertIn(" 431 ", self.serve.raw(b"GET /" + b"a" * 17000).split("\r\n")[0])
        self.assertIn(" 41", self.serve.raw(b"GET /" + b"a" * 10000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")[:14])
        # The body of a request is not taken for another request.
        smuggled = b"GET /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        self.assertEqual(self.serve.raw(smuggled).count("HTTP/1.1 "), 1)
        two = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        self.assertEqual(self.serve.raw(two).count("HTTP/1.1 200 "), 2)
        self.assertEqual(self.serve.get("/health")[0], 200)

    def test_slow_and_many_clients(self):
        host, port = self.serve.host.split(":")
        clients = [socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS) for _ in range(100)]
        for i, client in enumerate(clients):
            try:
                client.sendall(b"GET /metrics HTTP/1.1\r\n" if i % 2 else b"G")
            except OSError:
                pass  # one of those that were refused
        def answers():
            try:
                return self.serve.raw(b"GET /health HTTP/1.0\r\n\r\n").startswith("HTTP/1.1 200")
            except ConnectionError:  # refused before all of it had come
                return False

        # All places are taken by requests that are not whole; they are given up after ten seconds.
        wait_for(answers)
        for client in clients:
            client.close()
        wait_for(lambda: self.open_files() < 20)

    def open_files(self):
        return len(os.listdir("/proc/%d/fd" % self.serve.pid))

    def test_many_scrapes_cost_little_and_leave_nothing(self):
        def cpu_s():
            with open("/proc/%d/stat" % self.serve.pid, encoding="ascii") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        def resident():
            with open("/proc/%d/statm" % self.serve.pid, encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        def scrape(times):
            connection = http.client.HTTPConnection(self.serve.host, timeout=PATIENCE_SECONDS)
            for _ in range(times):
                connection.request("GET", "/metrics")
                connection.getresponse().read()
            connection.close()
            for _ in range(times):
                self.serve.get("/metrics")

        scrape(100)
        files, memory, cpu = self.open_files(), resident(), cpu_s()
        scrape(400)
        print("a scrape takes %.2f ms of CPU" % ((cpu_s() - cpu) / 800 * 1000))
        self.assertLess(resident() - memory, 2 << 20)
        wait_for(lambda: self.open_files() <= files + 1)


if __name__ == "__main__":
    TARN, PROGRAM = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
