#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tarn serve from its start to its end: programs that end and come again, addresses, usage, alerts.

Usage: serve_lives_test.py TARN PROGRAM     (PROGRAM: serve_program.cc)
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import serve_test
from patience import PATIENCE_SECONDS
from serve_test import ONLY_HEAP, OTHER_RULES, Program, Serve, serve_fails, wait_for


class Lives(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="serve_lives_test.")
        self.addCleanup(shutil.rmtree, self.directory)

    def path(self, name):
        return os.path.join(self.directory, name)

    def test_it_ends_with_the_process(self):
        with Program() as program, Serve(program.pid) as serve:
            self.assertEqual(serve.get("/health")[0], 200)
            program.end()
            self.assertEqual(serve.wait(), 0)
            self.assertIn("has ended", serve.messages())

    def test_another_program_in_the_same_process(self):
        with Program() as program, Serve(program.pid, "--interval", "0.2") as serve:
            def metrics():
                """None for the moment in which there is nothing to read."""
                status, _, text = serve.get("/metrics?format=json")
                return json.loads(text) if status == 200 else None

            program.do("hold 30")
            wait_for(lambda: serve.json()[1]["metrics"]["heap_mb"] > 30)
            program.do("exec", answer="ready\n")
            wait_for(lambda: (document := metrics()) and document["metrics"]["heap_mb"] < 30)
            # tarn is preloaded there, too.
            program.do("exec other", answer=None)
            wait_for(lambda: (document := metrics()) and document["program"] == "sleep")

    def test_a_client_that_takes_nothing_does_not_delay_the_end(self):
        # A delay would be 20 s, each time. On a busy machine anything may take as long now and then.
        for _ in range(10):
            with Program() as program, Serve(program.pid) as serve:
                host, port = serve.host.split(":")
                with socket.socket() as client:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                    client.connect((host, int(port)))
                    client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 300)
                    time.sleep(0.5)
                    start = time.monotonic()
                    serve.process.send_signal(signal.SIGTERM)
                    self.assertEqual(serve.wait(), 0)
                    seconds = time.monotonic() - start
                    if seconds < 10:
                        break
        self.assertLess(seconds, 10)

    def test_it_ends_by_a_signal(self):
        with Program() as program, Serve(program.pid) as serve:
            serve.process.send_signal(signal.SIGTERM)
            self.assertEqual(serve.wait(), 0)
            self.assertIsNone(program.process.poll())

    def test_processes_that_cannot_be_served(self):
        self.assertEqual(serve_fails(2 ** 22 + 1)[0], 1)
        with subprocess.Popen(["sleep", str(PATIENCE_SECONDS)]) as other:
            code, error = serve_fails(other.pid, "--listen", "127.0.0.1:0")
            other.kill()
        self.assertEqual(code, 4)
        self.assertIn("does not use tarn", error)

    def test_usage(self):
        for arguments in ([], ["1", "--run", "--", "true"], ["--run"], ["x"], ["1", "--set", "a=b"], ["1", "--interval", "0"],
                          ["1", "--listen", "everywhere"], ["1", "--threshold", "heap=1"]):
            self.assertEqual(serve_fails(*arguments)[0], 2, arguments)
        with open(self.path("config"), "w", encoding="utf-8") as file:
            file.write('{"thresholds": {"heap_md": 1}}')
        code, error = serve_fails("1", "--config", self.path("config"))
        self.assertEqual(code, 78)
        self.assertIn("did you mean heap_mb?", error)
        self.assertEqual(serve_fails("1", "--config", self.path("nothing"))[0], 78)

    def test_a_port_that_is_taken(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            code, error = serve_fails("--listen", "127.0.0.1:%d" % other.getsockname()[1], "--run", "--", "true")
        self.assertEqual(code, 1)
        self.assertIn("another program listens there", error)

    def test_a_socket_in_the_file_system(self):
        path = self.path("socket")
        with Program() as program:
            for _ in range(2):  # the second time over what the first left behind
                with Serve(program.pid, listen="unix:" + path) as serve:
                    self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
                    self.assertEqual(serve_fails(program.pid, "--listen", "unix:" + path)[0], 1)
                    with socket.socket(socket.AF_UNIX) as client:
                        client.connect(path)
                        client.sendall(b"GET /health HTTP/1.1\r\nHost: anything\r\n\r\n")
                        self.assertTrue(client.recv(1000).startswith(b"HTTP/1.1 200"))
            with Serve(program.pid, listen="unix:" + path) as serve:
                serve.process.send_signal(signal.SIGTERM)
                self.assertEqual(serve.wait(), 0)
            self.assertFalse(os.path.exists(path))
        with open(path, "w", encoding="utf-8"):
            pass
        self.assertEqual(serve_fails("--name", "x", "--listen", "unix:" + path)[0], 1)
        self.assertTrue(os.path.exists(path))

    def test_run(self):
        with Serve("--run", command=[serve_test.PROGRAM]) as serve:
            self.assertEqual(serve.process.stdout.readline(), "ready\n")
            wait_for(lambda: serve.get("/health")[0] == 200)
            serve.process.communicate("end\n", timeout=PATIENCE_SECONDS)
            self.assertEqual(serve.process.returncode, 0)
        for command, code in ((["sh", "-c", "exit 7"], 7), (["sh", "-c", "kill -TERM $$"], 143), (["/etc/passwd"], 126),
                              (["no-such-program"], 127)):
            self.assertEqual(serve_fails("--listen", "127.0.0.1:0", "--run", "--", *command)[0], code, command)
        # The command decides what a signal does.
        with Serve("--run", command=["sh", "-c", "trap 'exit 9' TERM; echo; while :; do sleep 0.1; done"]) as serve:
            serve.process.stdout.readline()
            serve.process.send_signal(signal.SIGTERM)
            self.assertEqual(serve.wait(), 9)

    def test_the_next_life_by_name(self):
        name = "served%d" % os.getpid()
        shutil.copy(serve_test.PROGRAM, self.path(name))
        with Serve("--name", name) as serve:
            self.assertEqual(serve.get("/health")[::2], (503, "Unhealthy: target gone\n"))
            status, _, text = serve.get("/metrics")
            self.assertEqual(status, 503)
            self.assertIn("there is no process called " + name, text)
            self.assertEqual(serve.get("/debug/pprof/heap")[0], 503)
            for page in ("/api/now", "/api/heap"):
                self.assertEqual(serve.json(page), (503, {"schema": "tarn-page/1", "gone": "there is no process called " + name}))
            for _ in range(2):
                with Program(self.path(name)) as program:
                    wait_for(lambda: serve.get("/health")[0] == 200)
                    self.assertEqual(serve.json()[1]["pid"], program.pid)
                    serve.wait_for_message(re.escape("watching %d (%s)" % (program.pid, name[:15])))
                # At once, not at the next look.
                self.assertEqual(serve.get("/health")[0], 503)

    def test_the_next_life_by_a_file(self):
        path = self.path("pid")
        with Serve("--pid-file", path) as serve:
            self.assertEqual(serve.get("/metrics")[0], 503)
            for _ in range(2):
                with Program() as program:
                    with open(path, "w", encoding="utf-8") as file:
                        file.write("%d\n" % program.pid)
                    wait_for(lambda: serve.get("/health")[0] == 200)
                    self.assertEqual(serve.json()[1]["pid"], program.pid)
            with open(path, "w", encoding="utf-8") as file:
                file.write("nonsense\n")
            wait_for(lambda: "nonsense" in serve.get("/metrics")[2])

    def test_alerts(self):
        with Program() as program, Serve(program.pid, "--interval", "0.1", "--threshold", "heap_mb=64", *ONLY_HEAP) as serve:
            self.assertEqual(serve.get("/health")[0], 200)
            program.do("hold 100")
            status, _, text = wait_for(lambda: serve.get("/health")[0] == 503 and serve.get("/health"))
            self.assertRegex(text, r"\AUnhealthy: 1 alerts\nheap_mb = \d+\.\d\d exceeds threshold 64\.00\n\Z")
            serve.wait_for_message(r"^ALERT: heap_mb = \d+\.\d\d exceeds threshold 64\.00$")
            self.assertEqual(serve.json()[1]["alerts"][0]["name"], "heap_mb")
            self.assertIn('tarn_alert_firing{alert="heap_mb"} 1', serve.get("/metrics")[2])
            program.do("free")
            wait_for(lambda: serve.get("/health")[0] == 200)
            serve.wait_for_message(r"^ALERT over: heap_mb")
            self.assertEqual(serve.messages().count("ALERT"), 2)

    def test_a_leak(self):
        with open(self.path("config"), "w", encoding="utf-8") as file:
            json.dump({"interval": "100ms", "leak_window": "2s", "thresholds": dict.fromkeys(OTHER_RULES, "off")}, file)
        with Program() as program, Serve(program.pid, "--config", self.path("config")) as serve:
            # One that only holds does not fire. Where that itself takes seconds, it is growth as any other.
            for _ in range(10):
                wait_for(lambda: serve.get("/health")[0] == 200)
                alerts = serve.messages().count("ALERT: ")
                program.do("hold 5")
                time.sleep(2.5)
                if serve.messages().count("ALERT: ") == alerts:
                    break
            else:
                self.fail("one that only holds fires: " + serve.messages())
            # Where the server cannot look often enough, the growth is seen later.
            for _ in range(PATIENCE_SECONDS):
                program.do("leak 1")
                status, _, text = serve.get("/health")
                if status == 503:
                    break
            self.assertEqual(status, 503)
            self.assertIn("leak_mb_hour", text)
            wait_for(lambda: serve.get("/health")[0] == 200)


if __name__ == "__main__":
    serve_test.TARN, serve_test.PROGRAM = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
