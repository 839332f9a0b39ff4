# SPDX-License-Identifier: Apache-2.0
"""Makes the inputs of the programs, the same ones in every run of the benchmark.

Usage: `inputs.py text|sql|git PATH NUMBER...`. Each function writes into the path that it is given. Random numbers
come from fixed seeds. The texts are the C and C++ headers of the machine: real text that is there wherever a compiler
is. Two machines may so have different texts, but the allocators that are compared always get the same one.
"""

import os
import random
import sys

# The order matters: the headers of the C++ library are much the same on every
# Debian 12, what else lies in /usr/include depends on the packages installed.
TEXT_ROOTS = ("/usr/include/c++", "/usr/include/linux", "/usr/include")

# No single file may make up much of a text.
LARGEST_DOCUMENT_BYTES = 256 * 1024


def write_text(path, size_bytes):
    """A text of a given size; its documents are parted by form feeds.

    Where there are too few headers, they come again.
    """
    files = _text_files()
    if not files:
        raise FileNotFoundError("no headers in /usr/include; libc6-dev brings some")
    written = 0
    with open(path, "wb") as out:
        while written < size_bytes:
            for name in files:
                with open(name, "rb") as file:
                    data = file.read(LARGEST_DOCUMENT_BYTES).replace(b"\f", b"\n")
                data = data[: size_bytes - written]
                written += out.write(data + b"\f")
                if written >= size_bytes:
                    break


def _text_files():
    files = []
    seen = set()
    for root in TEXT_ROOTS:
        for directory, names, entries in os.walk(root):
            names.sort()
            for entry in sorted(entries):
                path = os.path.join(directory, entry)
                if path not in seen and os.path.isfile(path) and os.path.getsize(path):
                    seen.add(path)
                    files.append(path)
    return files


def write_sql(path, customers, orders):
    """A script for the sqlite3 shell: a shop's database in memory, filled and questioned."""
    source = random.Random(3)
    cities = [f"city-{number}" for number in range(200)]
    with open(path, "w", encoding="utf-8") as out:
        out.write(
            "PRAGMA temp_store = MEMORY;\n"
            "CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT, city TEXT, profile TEXT);\n"
            "CREATE TABLE item (orders INTEGER, product INTEGER, count INTEGER, price REAL);\n"
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, day TEXT, note TEXT);\n"
            "BEGIN;\n"
        )
        for number in range(customers):
            profile = (
                f'{{"tags":["t{source.randrange(40)}","t{source.randrange(40)}"],'
                f'"score":{source.randrange(1000)},"mail":{{"to":"c{number}@example.org"}}}}'
            )
            out.write(
                f"INSERT INTO customer VALUES ({number}, 'customer {number}', "
                f"'{source.choice(cities)}', '{profile}');\n"
            )
        for number in range(orders):
            year, month = source.randrange(2010, 2025), source.randrange(1, 13)
            day = f"{year}-{month:02}-{source.randrange(1, 29):02}"
            note = " ".join(f"w{source.randrange(3000)}" for _ in range(source.randrange(1, 12)))
            out.write(
                f"INSERT INTO orders VALUES ({number}, {source.randrange(customers)}, "
                f"'{day}', '{note}');\n"
            )
            rows = ", ".join(
                f"({number}, {source.randrange(500)}, {source.randrange(1, 9)}, "
                f"{source.randrange(100, 99999) / 100})"
                for _ in range(source.randrange(1, 5))
            )
            out.write(f"INSERT INTO item VALUES {rows};\n")
        out.write(
            "COMMIT;\n"
            "CREATE INDEX orders_customer ON orders (customer, day);\n"
            "CREATE INDEX item_orders ON item (orders);\n"
            "CREATE INDEX item_product ON item (product, price);\n"
            "CREATE INDEX customer_city ON customer (city);\n"
            "CREATE INDEX customer_score ON customer (json_extract(profile, '$.score'));\n"
            "ANALYZE;\n"
            # A join over all tables, grouped and sorted.
            "SELECT city, count(*), round(sum(count * price), 2) AS total FROM customer\n"
            "  JOIN orders ON orders.customer = customer.id\n"
            "  JOIN item ON item.orders = orders.id\n"
            "  GROUP BY city ORDER BY total DESC LIMIT 20;\n"
            # Sorting by an expression, which needs a sorter with copied rows.
            "SELECT id, upper(note) FROM orders ORDER BY length(note) DESC, note LIMIT 10;\n"
            "SELECT count(*), max(n) FROM (SELECT substr(note, 1, 6) AS head, count(*) AS n\n"
            "  FROM orders GROUP BY head);\n"
            # JSON: taken apart row by row, and put together again.
            "SELECT tag.value, count(*), avg(json_extract(profile, '$.score'))\n"
            "  FROM customer, json_each(customer.profile, '$.tags') AS tag\n"
            "  GROUP BY tag.value ORDER BY 2 DESC, 1 LIMIT 10;\n"
            "SELECT length(json_group_array(json_object('id', id, 'day', day, 'note', note)))\n"
            "  FROM orders;\n"
            # A window over an index, a recursive query, text search without an index.
            "SELECT sum(gap) FROM (SELECT julianday(day) - julianday(lag(day) OVER\n"
            "  (PARTITION BY customer ORDER BY day)) AS gap FROM orders);\n"
            "WITH RECURSIVE walk(id, path, steps) AS (SELECT 0, '0', 0 UNION ALL\n"
            "  SELECT (id * 7 + 13) % 5003, path || ',' || id, steps + 1 FROM walk\n"
            "  WHERE steps < 1500) SELECT sum(length(path)) FROM walk;\n"
            "SELECT count(*) FROM orders WHERE note LIKE '%w17%' OR note LIKE '%w2_0%';\n"
            "UPDATE customer SET profile = json_set(profile, '$.seen', (SELECT count(*)\n"
            "  FROM orders WHERE customer = customer.id));\n"
            "DELETE FROM item WHERE price < 300;\n"
            "SELECT count(*), round(sum(price), 2) FROM item;\n"
            "SELECT sum(json_extract(profile, '$.seen')) FROM customer;\n"
        )


def write_git_history(path, files, commits):
    """A stream for `git fast-import`: a tree of source files that grows and changes."""
    source = random.Random(5)
    vocabulary = [f"word_{number:x}" for number in range(2500)]

    def line():
        return "    " + " ".join(source.choice(vocabulary) for _ in range(source.randrange(2, 10)))

    contents = {
        f"room{number % 17}/part{number % 5}/file{number}.cc": [
            line() for _ in range(source.randrange(20, 220))
        ]
        for number in range(files)
    }
    paths = sorted(contents)
    with open(path, "wb") as out:
        for number in range(commits):
            touched = paths if number == 0 else source.sample(paths, source.randrange(1, 9))
            message = f"Change {number}: {line().strip()}\n".encode()
            when = 1_600_000_000 + number * 3600
            who = f"Author {number % 23} <author{number % 23}@example.org>"
            out.write(f"commit refs/heads/main\nmark :{number + 1}\n".encode())
            out.write(f"author {who} {when} +0000\ncommitter {who} {when} +0000\n".encode())
            out.write(b"data %d\n%s" % (len(message), message))
            if number:
                out.write(f"from :{number}\n".encode())
            for name in touched:
                lines = contents[name]
                if number:
                    for _ in range(source.randrange(1, 6)):
                        position = source.randrange(len(lines))
                        lines[position : position + source.randrange(3)] = [
                            line() for _ in range(source.randrange(1, 4))
                        ]
                data = ("\n".join(lines) + "\n").encode()
                out.write(f"M 100644 inline {name}\n".encode())
                out.write(b"data %d\n%s\n" % (len(data), data))
            out.write(b"\n")


WRITERS = {"text": write_text, "sql": write_sql, "git": write_git_history}

if __name__ == "__main__":
    WRITERS[sys.argv[1]](sys.argv[2], *(int(argument) for argument in sys.argv[3:]))
