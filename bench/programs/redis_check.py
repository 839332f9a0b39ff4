# SPDX-License-Identifier: Apache-2.0
"""Checks what the server of redis.json has served, and prints the result of the run.

Usage: `redis_check.py PORT REQUESTS TESTS`, after the load, while the server still runs. The keys of the load are
random, so the output holds what is not: the length of the list after two pushes and one pop of every request.
"""

import json
import os
import socket
import sys


class RedisConnection:
    """Just enough of a redis client: a command as words, the reply as text."""

    def __init__(self, port):
        self._stream = socket.create_connection(("127.0.0.1", port), timeout=60).makefile("rwb")

    def ask(self, *words):
        self._stream.write(b"*%d\r\n" % len(words))
        for word in words:
            data = word.encode()
            self._stream.write(b"$%d\r\n%s\r\n" % (len(data), data))
        self._stream.flush()
        line = self._stream.readline().rstrip(b"\r\n").decode()
        if line.startswith("$"):
            return self._stream.read(int(line[1:]) + 2)[:-2].decode()
        return line[1:]


def main(port, requests, tests):
    redis = RedisConnection(port)
    stats = dict(line.split(":", 1) for line in redis.ask("INFO", "stats").splitlines() if ":" in line)
    served = int(stats["total_commands_processed"])
    if int(stats["total_error_replies"]) != 0:
        return f"redis-server gave {stats['total_error_replies']} error replies"
    if served < requests * tests:
        return f"redis-server served {served} of {requests * tests} commands"
    length = redis.ask("LLEN", "mylist")
    if length != str(requests):
        return f"the list is {length} long, not {requests}"
    print(f"llen {length}")
    with open(os.environ["BENCH_METRICS"], "w", encoding="utf-8") as file:
        json.dump({"operations": requests * tests}, file)
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
