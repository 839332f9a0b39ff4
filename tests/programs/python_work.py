# SPDX-License-Identifier: Apache-2.0
"""Python doing a bit of everything; prints digests that depend on every result.

Run by python_test.py on glibc and on tarn, with the same hash seed; the outputs must be equal.
"""

import collections
import concurrent.futures
import gc
import hashlib
import json
import multiprocessing
import random
import re
import sqlite3
import subprocess
import sys
import threading
import zlib


def digest(value):
    return hashlib.sha256(repr(value).encode()).hexdigest()[:20]


def collections_of_all_sizes(seed):
    chance = random.Random(seed)
    table = {}
    for number in range(40000):
        table[f"key{chance.randrange(15000)}"] = [number] * chance.randrange(12)
        if number % 3 == 0:
            table.pop(f"key{chance.randrange(15000)}", None)
    counted = collections.Counter(len(value) for value in table.values())
    nested = json.loads(json.dumps({key: table[key] for key in sorted(table)[:2000]}))
    return digest((sorted(table.items()), sorted(counted.items()), nested))


def text(seed):
    chance = random.Random(seed)
    words = ["".join(chance.choices("abcdeé☃", k=chance.randrange(1, 15))) for _ in range(20000)]
    joined = " ".join(words)
    replaced = re.sub(r"([ab]+)c(\w?)", r"<\2\1>", joined)
    packed = zlib.compress(replaced.encode(), 9)
    return digest((zlib.decompress(packed).decode() == replaced, replaced.upper(), len(packed)))


def cycles():
    class Node:
        def __init__(self, other):
            self.other = other
            self.data = bytearray(200)

    for _ in range(20):
        first = last = Node(None)
        for _ in range(2000):
            last = Node(last)
        first.other = last
        del first, last
        gc.collect()
    return gc.collect()


def large():
    numbers = [pow(3, n * 400) for n in range(1, 120)]
    buffer = bytearray()
    for number in range(200):
        buffer += bytes([number]) * (number * 300)
    return digest((sum(numbers) % 10**40, zlib.crc32(buffer), len(buffer)))


def database():
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (a integer primary key, b text)")
    rows = ((n, f"text {n * 7919 % 10007}") for n in range(20000))
    connection.executemany("insert into t values (?, ?)", rows)
    return digest(connection.execute("select b, count(*) from t group by b order by b").fetchall())


def main():
    print(collections_of_all_sizes(1), text(2), cycles(), large(), database())
    results = {}

    def work(number):
        results[number] = (collections_of_all_sizes(number), text(number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    # Children of a process whose threads are at work.
    outputs = [
        subprocess.run([sys.executable, "-c", "print('child', 6 * 7)"], capture_output=True).stdout
        for _ in range(5)
    ]
    for thread in threads:
        thread.join()
    print(sorted(results.items()), outputs)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        print(pool.map(collections_of_all_sizes, range(6)))
    with concurrent.futures.ThreadPoolExecutor(20) as executor:
        print(digest(list(executor.map(lambda n: hashlib.md5(b"x" * n).hexdigest(), range(3000)))))


if __name__ == "__main__":
    main()
