#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""redis: its benchmark with pipelining, and a check of every value that we stored.

Values are a function of their key, of 0 bytes to 60 KB. They are written, overwritten with other
lengths, appended to and deleted, also from redis's background threads (UNLINK, FLUSHALL ASYNC); a
child that saves them is forked, and all are read back before and after a reload from that save.
"""

import random
import re
import socket

import programs

KEYS = 15000


class Client:
    """Just enough of the redis protocol: pipelined commands, replies as Python values."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(programs.PATIENCE_SECONDS)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()

    def call(self, *arguments):
        return self.pipeline([arguments])[0]

    def pipeline(self, commands):
        replies = []
        for start in range(0, len(commands), 64):
            batch = commands[start : start + 64]
            self.socket.sendall(b"".join(self.encode(command) for command in batch))
            replies += [self.reply() for _ in batch]
        return replies

    @staticmethod
    def encode(command):
        parts = [p if isinstance(p, bytes) else str(p).encode() for p in command]
        head = b"*%d\r\n" % len(parts)
        return head + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)

    def reply(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            length = int(rest)
            return None if length < 0 else self.file.read(length + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        raise programs.Failure(f"redis replies {line!r}")


def value_of(key, version):
    chance = random.Random(f"{key}/{version}")
    size = int(2 ** chance.uniform(0, 12)) - 1
    if chance.randrange(200) == 0:
        size += 60000
    piece = b"%d.%d." % (key, version)
    return (piece * (size // len(piece) + 1))[:size]


def fill(client):
    """Stores, changes and deletes; returns what must be there."""
    expected = {key: value_of(key, 0) for key in range(KEYS)}
    client.pipeline([("SET", f"k{key}", value) for key, value in expected.items()])
    commands = []
    for key in range(KEYS):
        if key % 3 == 0:
            expected[key] = value_of(key, 1)
            commands.append(("SET", f"k{key}", expected[key]))
        elif key % 7 == 0:
            commands.append(("UNLINK", f"k{key}"))
            del expected[key]
        elif key % 5 == 0:
            expected[key] += value_of(key, 2)
            commands.append(("APPEND", f"k{key}", value_of(key, 2)))
    client.pipeline(commands)
    client.pipeline([("HSET", f"h{key % 40}", f"f{key}", value) for key, value in expected.items()])
    client.pipeline([("ZADD", "scores", key * 17 % 1009, f"member{key}") for key in expected])
    client.pipeline([("RPUSH", f"list{key % 10}", f"element {key}") for key in expected])
    return expected


def verify(client, expected, when):
    keys = list(range(KEYS))
    for key, seen in zip(keys, client.pipeline([("GET", f"k{key}") for key in keys])):
        if seen != expected.get(key):
            raise programs.Failure(f"{when}: k{key} has another value than was stored")
    present = list(expected)
    fields = client.pipeline([("HGET", f"h{key % 40}", f"f{key}") for key in present])
    for key, seen in zip(present, fields):
        if seen != expected[key]:
            raise programs.Failure(f"{when}: field f{key} has another value than was stored")
    members = client.call("ZRANGE", "scores", 0, -1)
    wanted = sorted(present, key=lambda key: (key * 17 % 1009, f"member{key}"))
    if members != [f"member{key}".encode() for key in wanted]:
        raise programs.Failure(f"{when}: the sorted set is wrong")
    for number in range(10):
        elements = client.call("LRANGE", f"list{number}", 0, -1)
        if elements != [f"element {key}".encode() for key in present if key % 10 == number]:
            raise programs.Failure(f"{when}: list{number} is wrong")


def save_in_child(client):
    client.call("BGSAVE")
    programs.wait_until(
        lambda: b"rdb_bgsave_in_progress:0" in client.call("INFO", "persistence"), "BGSAVE"
    )
    if b"rdb_last_bgsave_status:ok" not in client.call("INFO", "persistence"):
        raise programs.Failure("BGSAVE failed")


def test(stage):
    server = programs.find_program("redis-server")
    benchmark = programs.find_program("redis-benchmark")
    path = stage.path("redis.sock")
    command = [server, "--port", "0", "--unixsocket", path, "--dir", stage.directory]
    command += ["--save", "", "--appendonly", "no", "--daemonize", "no"]
    command += ["--enable-debug-command", "yes", "--io-threads", "2"]
    with stage.server(command) as process:

        def answers():
            try:
                client = Client(path)
            except OSError:
                return False
            client.close()
            return True

        programs.wait_until(answers, "the start of redis-server")
        stage.check_maps(process.pid)
        load = [benchmark, "-s", path, "-P", "16", "-c", "50", "-q", "-d", "120"]
        load += ["-n", "40000", "-r", "20000"]
        load += ["-t", "set,get,incr,lpush,rpop,sadd,hset,spop,zadd,lrange_100,mset"]
        done = stage.run(load)
        if len(re.findall(rb"requests per second", done.stdout)) < 10:
            raise programs.Failure(f"redis-benchmark says {programs.short(done.stdout)}")
        client = Client(path)
        client.call("FLUSHALL", "ASYNC")
        expected = fill(client)
        verify(client, expected, "after the changes")
        save_in_child(client)
        client.call("DEBUG", "RELOAD")
        verify(client, expected, "after a reload")
        client.call("FLUSHALL", "ASYNC")
        expected = fill(client)
        verify(client, expected, "after being filled again")
        client.close()
    # Debian's redis-server is a link to another name; its maps were looked at instead.
    stage.require_witnessed("redis-benchmark")


if __name__ == "__main__":
    programs.main(test)
