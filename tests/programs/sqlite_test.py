#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sqlite3: a database of its own making; every answer and the dump as on glibc."""

import programs

SQL = """
PRAGMA journal_mode = WAL;
PRAGMA cache_size = -16000;
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, value REAL, data BLOB);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
INSERT INTO item SELECT i, printf('%08x-%s', (i * 2654435761) & 4294967295,
  substr('abcdefghijklmnopqrstuvwxyz', 1 + i % 20)), (i * 7919 % 10007) / 3.0,
  zeroblob(i % 300) FROM n;
CREATE INDEX item_name ON item (name);
CREATE INDEX item_value ON item (value, id);
CREATE TABLE link (a INTEGER, b INTEGER, weight INTEGER);
INSERT INTO link SELECT id, (id * 31) % 60000 + 1, id % 17 FROM item;
BEGIN;
UPDATE item SET name = name || '-' || id, data = zeroblob(id % 2000) WHERE id % 7 = 0;
DELETE FROM item WHERE id % 11 = 0;
COMMIT;
SELECT count(*), sum(length(data)), avg(value) FROM item;
SELECT substr(name, 1, 2) AS prefix, count(*), group_concat(id % 10, '') FROM item
  GROUP BY prefix ORDER BY prefix LIMIT 40;
SELECT a.id, b.name, weight FROM item a JOIN link ON link.a = a.id JOIN item b ON link.b = b.id
  WHERE weight = 3 ORDER BY b.name DESC LIMIT 50;
SELECT id, value, rank() OVER (PARTITION BY id % 5 ORDER BY value) AS place FROM item
  ORDER BY place DESC, id LIMIT 50;
SELECT count(DISTINCT name), max(length(name)) FROM item WHERE name LIKE '%abc%';
CREATE VIRTUAL TABLE text_of USING fts5(body);
INSERT INTO text_of SELECT name || ' word' || (id % 500) FROM item WHERE id < 20000;
SELECT count(*) FROM text_of WHERE text_of MATCH 'word77';
SELECT json_group_array(json_object('id', id, 'name', name)) FROM item WHERE id < 100;
VACUUM;
PRAGMA integrity_check;
"""


def test(stage):
    sqlite = programs.find_program("sqlite3")
    answers = []
    dumps = []
    for tarn in (False, True):
        database = stage.path("on-tarn.db" if tarn else "on-glibc.db")
        done = stage.run([sqlite, "-bail", database], tarn=tarn, input=SQL.encode())
        if not done.stdout.rstrip().endswith(b"ok"):
            raise programs.Failure(f"integrity_check: {programs.short(done.stdout, 3)}")
        answers.append(done.stdout)
        dumps.append(stage.run([sqlite, database, ".dump"], tarn=tarn).stdout)
    if answers[0] != answers[1]:
        raise programs.Difference("the answers differ")
    if dumps[0] != dumps[1]:
        raise programs.Difference("the dumps differ")
    stage.require_witnessed("sqlite3")


if __name__ == "__main__":
    programs.main(test)
