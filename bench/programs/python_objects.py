# SPDX-License-Identifier: Apache-2.0
"""The work of the two python programs: dicts, objects, strings, JSON and sorting.

Takes the number of rounds as its argument, and prints a checksum of the results, which is the same under every
allocator. It stands for services and scripts that read records, build an index and write a report: very many small
objects of mixed lifetimes, of which a part stays for long.
"""

import json
import sys
import zlib


class Lcg:
    """A tiny random generator, so that no version of Python gives another sequence."""

    def __init__(self, seed):
        self.state = seed

    def below(self, limit):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self.state >> 33) % limit


class Account:
    def __init__(self, name, city):
        self.name = name
        self.city = city
        self.orders = []

    def total(self):
        return sum(order["price"] * order["count"] for order in self.orders)


class Node:
    __slots__ = ("key", "left", "right")

    def __init__(self, key):
        self.key = key
        self.left = None
        self.right = None


def insert(root, key):
    node = root
    while True:
        side = "left" if key < node.key else "right"
        child = getattr(node, side)
        if child is None:
            setattr(node, side, Node(key))
            return
        node = child


def depth(root):
    deepest, waiting = 0, [(root, 1)]
    while waiting:
        node, level = waiting.pop()
        deepest = max(deepest, level)
        waiting.extend((child, level + 1) for child in (node.left, node.right) if child)
    return deepest


def make_records(random, count):
    return [
        {
            "id": number,
            "customer": f"customer-{random.below(count // 8)}",
            "city": f"city {random.below(300)}",
            "price": random.below(100_000) / 100,
            "count": 1 + random.below(9),
            "tags": [f"tag{random.below(50)}" for _ in range(random.below(5))],
            "note": "lorem ipsum dolor " * random.below(12),
        }
        for number in range(count)
    ]


def build_accounts(records):
    accounts = {}
    for record in records:
        name = record["customer"]
        account = accounts.get(name)
        if account is None:
            account = accounts[name] = Account(name, record["city"])
        account.orders.append(record)
    return accounts


def invert(records):
    words = {}
    for record in records:
        for word in set(record["note"].split()) | set(record["tags"]):
            words.setdefault(word, set()).add(record["id"])
    return words


def report(accounts):
    lines = []
    for account in sorted(accounts.values(), key=lambda one: (-one.total(), one.name)):
        lines.append(f"{account.name:<20}{account.city:>12}{account.total():>14.2f}")
    return "\n".join(lines)


def main():
    rounds = int(sys.argv[1])
    random = Lcg(20240229)
    checksum = 0
    kept = []
    for number in range(rounds):
        records = make_records(random, 12_000)
        text = json.dumps(records)
        records = json.loads(text)
        accounts = build_accounts(records)
        words = invert(records)
        lines = report(accounts)
        root = Node(random.below(1 << 30))
        for _ in range(6_000):
            insert(root, random.below(1 << 30))
        checksum = zlib.crc32(text.encode(), checksum)
        checksum = zlib.crc32(lines.encode(), checksum)
        checksum = zlib.crc32(repr(sorted((w, len(ids)) for w, ids in words.items())).encode(),
                              checksum)
        checksum = zlib.crc32(str(depth(root)).encode(), checksum)
        # Every third round's objects stay until the end, between those that go.
        if number % 3 == 0:
            kept.append((accounts, words, root))
    print(f"{rounds} rounds, {len(kept)} kept, checksum {checksum:08x}")


main()
