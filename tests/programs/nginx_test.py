#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""nginx under load: two workers, files and a proxy, compression, reloads; every body verified."""

import gzip
import http.client
import os
import random
import signal
import socket
import subprocess
import threading

import programs

CONFIGURATION = """
{user}
daemon off;
worker_processes 2;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  default_type text/plain;
  gzip on;
  gzip_min_length 100;
  gzip_types text/plain;
  keepalive_requests 10000000;
  server {{
    listen 127.0.0.1:{port};
    root {directory}/files;
    location /proxy/ {{ proxy_pass http://127.0.0.1:{port}/; }}
  }}
}}
"""

FILES = 60
CLIENTS = 8
REQUESTS_PER_CLIENT = 250


def reserve_port():
    """A port for nginx, and the socket that keeps it for as long as it lives: it is bound and does not listen, so
    nobody gets the port who takes any free one, and nginx, which sets SO_REUSEADDR, can listen there."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder, holder.getsockname()[1]


def make_files(stage):
    chance = random.Random(3)
    files = {}
    for number in range(FILES):
        size = int(2 ** chance.uniform(0, 19))
        body = b"".join(b"%d %d\n" % (number, chance.randrange(10**9)) for _ in range(size // 10 + 1))
        files[f"file{number}.txt"] = body[:size]
        stage.write(f"files/file{number}.txt", body[:size])
    os.chmod(stage.directory, 0o755)
    return files


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False


def request_files(port, files, seed, problems):
    """One client: keeps its connection, and checks every byte that it gets."""
    chance = random.Random(seed)
    names = sorted(files)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=programs.PATIENCE_SECONDS)
    for _ in range(REQUESTS_PER_CLIENT):
        name = chance.choice(names)
        body = files[name]
        headers = {}
        start = 0
        if chance.randrange(3) == 0:
            headers["Accept-Encoding"] = "gzip"
        elif chance.randrange(3) == 0 and len(body) > 10:
            start = chance.randrange(len(body))
            headers["Range"] = f"bytes={start}-"
        path = f"/proxy/{name}" if chance.randrange(3) == 0 else f"/{name}"
        for attempt in range(10):
            try:
                connection.request("GET", path, headers=headers)
                response = connection.getresponse()
                seen = response.read()
                break
            except (http.client.HTTPException, OSError) as error:
                # A worker that a reload has replaced closes idle connections. There are fewer reloads than attempts.
                connection.close()
                if attempt == 9:
                    problems.append(f"{path}: {error!r}")
                    return
        if response.getheader("Content-Encoding") == "gzip":
            seen = gzip.decompress(seen)
        if response.status != (206 if "Range" in headers else 200):
            problems.append(f"{path}: status {response.status}")
        elif seen != body[start:]:
            problems.append(f"{path}: {len(seen)} bytes that differ from the {len(body)} of the file")
    connection.close()


def workers_of(master):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(master)], capture_output=True)
    return [int(pid) for pid in found.stdout.split()]


def reload(process):
    """New workers take over, and the old ones end when they are done with what they have."""
    before = set(workers_of(process.pid))
    process.send_signal(signal.SIGHUP)

    def replaced():
        now = workers_of(process.pid)
        return len(now) == 2 and before.isdisjoint(now)

    programs.wait_until(replaced, "the change of workers")


def verify_under_load(process, port, files):
    problems = []
    clients = [
        threading.Thread(target=request_files, args=(port, files, seed, problems))
        for seed in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    for _ in range(3):
        reload(process)
    for client in clients:
        client.join()
    if problems:
        raise programs.Failure(f"{len(problems)} wrong responses: " + "; ".join(problems[:5]))


def load_with_wrk(stage, port):
    try:
        wrk = programs.find_program("wrk")
    except programs.Skip:
        return
    for path in ("file7.txt", "proxy/file8.txt"):
        done = stage.run(
            # An answer after more than two seconds would be an error to wrk, and on a busy machine it may take that.
            [wrk, "-t2", "-c40", "-d2s", "--timeout", "60s", f"http://127.0.0.1:{port}/{path}"],
            # wrk has LuaJIT inside, which asks for memory at low addresses by itself.
            tarn=False,
        )
        output = done.stdout.decode()
        if "Non-2xx" in output or "Socket errors" in output or "Requests/sec" not in output:
            raise programs.Failure(f"wrk says\n{output}")


def test(stage):
    nginx = programs.find_program("nginx")
    files = make_files(stage)
    holder, port = reserve_port()
    configuration = stage.write(
        "nginx.conf",
        CONFIGURATION.format(
            directory=stage.directory,
            port=port,
            # Workers of a root's nginx would be another user's, who cannot read our directory.
            user="user root;" if os.getuid() == 0 else "",
        ),
    )
    command = [nginx, "-p", stage.directory, "-c", configuration, "-e", "stderr"]
    with stage.server(command, stop=signal.SIGQUIT) as process:
        programs.wait_until(lambda: answers(port), "the start of nginx")
        programs.wait_until(lambda: len(workers_of(process.pid)) >= 2, "the start of the workers")
        for pid in [process.pid, *workers_of(process.pid)]:
            stage.check_maps(pid)
        load_with_wrk(stage, port)
        verify_under_load(process, port, files)
        load_with_wrk(stage, port)
    holder.close()
    stage.require_witnessed("nginx")


if __name__ == "__main__":
    programs.main(test)
