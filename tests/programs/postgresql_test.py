#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""postgresql: a database of pgbench, the same load on both mallocs, and afterwards the same content of every table.

pgbench's seed is fixed, and what its transactions add up does not depend on their order. The server listens on a socket
in the test's directory only. It does not run as root, so root runs it as the package's user.
"""

import glob
import os
import pwd
import re
import shutil
import signal

import programs

CONTENT = """
select count(*), sum(abalance), md5(string_agg(aid || ':' || abalance, ',' order by aid)) from pgbench_accounts;
select md5(string_agg(tid || ':' || tbalance, ',' order by tid)) from pgbench_tellers;
select md5(string_agg(bid || ':' || bbalance, ',' order by bid)) from pgbench_branches;
select count(*), md5(string_agg(row, ',' order by row)) from
  (select tid || ':' || bid || ':' || aid || ':' || delta as row from pgbench_history) as rows;
"""

# Sorts, hashes, joins, strings, JSON, and functions, in parallel workers where the server likes.
QUERIES = """
set max_parallel_workers_per_gather = 2;
set parallel_setup_cost = 0;
set parallel_tuple_cost = 0;
set work_mem = '4MB';
create table words as select n, md5(n::text) as word, repeat(md5((n % 100)::text), n % 60) as body
  from generate_series(1, 60000) as n;
create index on words (word);
analyze words;
select left(word, 2) as prefix, count(*), sum(length(body)) from words group by prefix order by prefix limit 20;
select count(*) from words a join words b on a.word = md5(b.n::text) where a.n % 3 = 0;
select md5(string_agg(word, '' order by word desc)) from words;
select md5(jsonb_object_agg(word, n)::text) from words where n < 5000;
select count(distinct regexp_replace(body, '[a-f]+', 'x', 'g')) from words where n < 4000;
update words set body = body || word where n % 5 = 0;
delete from words where n % 7 = 0;
vacuum full words;
select count(*), sum(length(body)), md5(string_agg(body, '' order by n)) from words;
do $$ declare t text := ''; begin for i in 1 .. 5000 loop t := t || chr(65 + i % 26); end loop;
  raise notice '%', md5(t); end $$;
"""


def find_tools():
    """The directory of the newest server that is installed: its programs are in no PATH."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(re.findall(r"\d+", path)[-1]))
    if not found and shutil.which("postgres"):
        found = [os.path.dirname(shutil.which("postgres"))]
    for directory in reversed(found):
        if all(os.path.exists(f"{directory}/{name}") for name in ("initdb", "postgres", "psql", "pgbench")):
            return directory
    raise programs.Skip("postgresql is not installed")


def user_for_server(stage):
    """Options for processes that must not be root's, and the directory that is theirs."""
    directory = stage.path("cluster")
    os.mkdir(directory, 0o700)
    if os.getuid() != 0:
        return {}, directory
    try:
        user = pwd.getpwnam("postgres")
    except KeyError as error:
        raise programs.Skip("root cannot run it, and there is no user postgres") from error
    os.chmod(stage.directory, 0o755)
    os.chown(directory, user.pw_uid, user.pw_gid)
    # Every process notes its malloc.
    with open(stage.notes, "a", encoding="utf-8"):
        os.chmod(stage.notes, 0o666)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}, directory


def use(stage, tools, data, sockets, options, load, tarn):
    """Makes a database in `data`, works with it, and returns all that it says."""
    said = []

    def run(name, *arguments, **more):
        return stage.run([f"{tools}/{name}", *arguments], tarn=tarn, cwd=sockets, **options, **more)

    clients, transactions = load
    connection = ["-h", sockets, "-p", "5432", "-U", "postgres"]
    run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
    command = [f"{tools}/postgres", "-D", data, "-k", sockets, "-c", "listen_addresses=", "-c", "fsync=off",
               "-c", "max_connections=50", "-c", "shared_buffers=32MB", "-c", "autovacuum_naptime=1s"]
    # SIGINT: clients are sent away.
    with stage.server(command, stop=signal.SIGINT, tarn=tarn, **options) as process:
        ready = [f"{tools}/psql", *connection, "-d", "postgres", "-c", "select 1"]
        programs.wait_until(lambda: stage.run(ready, tarn=False, check=False).returncode == 0, "the start of postgresql")
        if tarn:
            stage.check_maps(process.pid)
        run("pgbench", *connection, "-i", "-s", "1", "-q", "postgres")
        for protocol in ("simple", "prepared"):
            done = run("pgbench", *connection, "-n", "-M", protocol, "-c", clients, "-j", "2", "-t", transactions,
                       "--random-seed=4711", "postgres")
            if f"processed: {int(clients) * int(transactions)}/" not in done.stdout.decode():
                raise programs.fail_on(tarn, f"pgbench says {programs.short(done.stdout)}")
        for text in (CONTENT, QUERIES, CONTENT):
            done = run("psql", *connection, "-d", "postgres", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", input=text.encode())
            said.append(done.stdout + done.stderr)
    return said


def test(stage, clients="6", transactions="60"):
    tools = find_tools()
    options, sockets = user_for_server(stage)
    said = [use(stage, tools, f"{sockets}/{'tarn' if tarn else 'glibc'}", sockets, options, (clients, transactions), tarn)
            for tarn in (False, True)]
    if said[0] != said[1]:
        expected, actual = (b"".join(each) for each in said)
        raise programs.Difference(
            f"the tables hold\n{programs.short(actual, 60)}\ninstead of\n{programs.short(expected, 60)}"
        )
    stage.require_witnessed("postgres", "initdb", "pgbench")


if __name__ == "__main__":
    programs.main(test)
