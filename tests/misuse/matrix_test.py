#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the misuse matrix (matrix_cells.cc) and compares it with matrix.txt and matrix_hardened.txt, and docs/misuse.md
with these.

Usage: matrix_test.py CELLS              compares; CELLS is the path of matrix_cells, TARN_LIB that of libtarn.so
       matrix_test.py CELLS --write      writes both files, and the table in docs/misuse.md
       matrix_test.py CELLS --glibc      prints the cells that glibc sees earlier than tarn
       matrix_test.py CELLS --other LIB  prints the cells as the allocator LIB sees them, preloaded

A line of these files has the kind, the size, the state of the class, and when the misuse is seen. The words are those
of matrix_cells.cc, and `reuse` where chance decides between `before`, `whole` and `crash`. Where the cache modes differ
it has two words: that of the CPU mode, and that of the thread mode.
"""

import argparse
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = {"ordinary": os.path.join(HERE, "matrix.txt"), "hardened": os.path.join(HERE, "matrix_hardened.txt")}
SETTINGS = {"ordinary": {}, "hardened": {"TARN_HARDEN": "on"}}
PAGE = os.path.join(HERE, "..", "..", "docs", "misuse.md")
HEADER = "# When misuse is seen in the %s mode. Written by matrix_test.py --write.\n"
MODES = ("cpu", "thread")

# The first line on stderr, by the kind, where something is seen.
MESSAGES = {
    "second_free": r"object is already free|span is already free|was not allocated by tarn",
    "interior": r"pointer is inside an object, not at its start",
    "foreign": r"pointer was not allocated by tarn",
    "free_of_gone_span": r"object is already free|span is already free|was not allocated by tarn",
    "realloc_of_freed": r"object is already free|span is already free|was not allocated by tarn",
    "write_": r"freed memory was overwritten",
    "usable_size_of_freed": r"object is already free|span is already free|was not allocated by tarn",
}
# From early to late.
ORDER = ["call", "before", "reuse", "whole", "later", "never", "crash"]
IN_WORDS = {
    "call": "at the call",
    "before": "before the memory is handed out again",
    "reuse": "when a freed neighbour is handed out again, else not seen",
    "later": "when the caches are emptied",
    "never": "not seen",
    "whole": "not seen, no harm",
}
KINDS = {
    "second_free_at_once": "second free, at once",
    "second_free_after_1": "second free, after 1 other",
    "second_free_after_10": "second free, after 10 others",
    "second_free_after_1000": "second free, after 1000 others",
    "second_free_in_thread": "second free, in another thread",
    "interior_at_8": "free of an address 8 bytes inside",
    "interior_at_16": "free of an address 16 bytes inside",
    "interior_at_half": "free of the object's middle",
    "foreign_stack": "free of an address on the stack",
    "foreign_static": "free of a static object",
    "foreign_mmap": "free of an address that mmap returned",
    "wrong_size": "sized delete with half the size",
    "free_of_gone_span": "free of an object whose pages went back",
    "realloc_of_freed": "realloc of a freed object",
    "usable_size_of_freed": "malloc_usable_size of a freed object",
    "write_over": "64 bytes written behind an object",
    "write_under": "64 bytes written before an object",
}
TABLE_BEGIN = "<!-- The table is written by tests/misuse/matrix_test.py --write. -->\n"
TABLE_END = "<!-- The end of the table. -->\n"


def run_cells(cells, mode, kind="ordinary", library=None):
    """The outcome and the message of each cell, with this cache mode; None: of glibc, or of the library."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TARN_")}
    if mode is not None:
        # A sampled object has a span of its own, where all misuse is seen.
        environment.update(LD_PRELOAD=os.environ["TARN_LIB"], TARN_MODE=mode, TARN_PROFILE_RATE="0", **SETTINGS[kind])
    elif library is not None:
        environment["LD_PRELOAD"] = library
    output = subprocess.run([cells], env=environment, stdout=subprocess.PIPE, check=True, text=True, errors="replace")
    found = {}
    for line in output.stdout.splitlines():
        words, _, message = line.partition("\t")
        kind, size, state, outcome = words.split(" ")
        found[kind, int(size), state] = (outcome, message)
    return found


def complaints_about_messages(found, mode):
    for (kind, size, state), (outcome, message) in found.items():
        pattern = next((text for name, text in MESSAGES.items() if kind.startswith(name)), None)
        if outcome in ("call", "before", "later") and (
            pattern is None or not re.match(r"tarn: fatal: .*(%s)" % pattern, message)
        ):
            yield "%s %d %s (%s): seen %s, with the line: %s" % (kind, size, state, mode, outcome, message)


def without_chance(found, kind):
    """A write outside of an object is seen in the hardened mode where chance has a freed object there. It faults where
    chance has the object at the start of all memory that can be accessed."""
    for (what, size, state), (outcome, message) in found.items():
        if kind == "hardened" and what.startswith("write_") and size < 1 << 18 and outcome in ("before", "whole", "crash"):
            found[what, size, state] = ("reuse", message)


def text_of(found, kind):
    lines = [HEADER % kind]
    for cell in found[MODES[0]]:
        outcomes = [found[mode][cell][0] for mode in MODES]
        lines.append("%s %d %s %s\n" % (*cell, " ".join(dict.fromkeys(outcomes))))
    return "".join(lines)


def read_golden(kind="ordinary"):
    with open(GOLDEN[kind], encoding="utf-8") as file:
        rows = [line.split() for line in file if not line.startswith("#")]
    return {(row[0], int(row[1]), row[2]): row[3:] for row in rows}


def size_range(sizes, all_sizes):
    if list(sizes) == list(all_sizes):
        return ""
    names = ["%d" % size if size < 1 << 20 else "1 MiB" for size in sizes]
    return " (%s)" % ", ".join(names)


# Of the table: the mode, the states of which the latest moment counts, and whether it is about small objects.
COLUMNS = (("ordinary", ("cold",), True), ("ordinary", ("hot",), True), ("ordinary", ("hot",), False),
           ("hardened", ("cold", "hot"), True), ("hardened", ("cold", "hot"), False))


def table():
    """The table of the page: of each kind and state, when it is seen at the latest, with the sizes that differ."""
    rows = ["| what the program does | small, class used seldom | small, class used much | above 256 KiB "
            "| hardened, small | hardened, above 256 KiB |\n", "|---|---|---|---|---|---|\n"]
    for kind, name in KINDS.items():
        columns = []
        for of_mode, states, small in COLUMNS:
            golden = read_golden(of_mode)
            sizes = [size for (of, size, at) in golden
                     if of == kind and at == states[0] and (size < 1 << 18) == small]
            by_outcome = {}
            for size in sizes:
                latest = max((word for state in states for word in golden[kind, size, state]), key=ORDER.index)
                by_outcome.setdefault(latest, []).append(size)
            columns.append("; ".join(
                IN_WORDS[outcome] + size_range(by_outcome[outcome], sizes) for outcome in ORDER if outcome in by_outcome))
        rows.append("| %s | %s |\n" % (name, " | ".join(columns)))
    return "".join(rows)


def page_with_table():
    with open(PAGE, encoding="utf-8") as file:
        page = file.read()
    before, rest = page.split(TABLE_BEGIN)
    return page, before + TABLE_BEGIN + "\n" + table() + "\n" + TABLE_END + rest.split(TABLE_END)[1]


def compare_with_glibc(cells):
    glibc = run_cells(cells, None)
    golden = read_golden()
    for cell, outcomes in golden.items():
        ours = max(outcomes, key=ORDER.index)
        theirs = glibc[cell][0]
        if ORDER.index(theirs) < ORDER.index(ours):
            print("%s %d %s: tarn %s, glibc %s" % (*cell, ours, theirs))


def compare(cells, kind, modes, write):
    """Complaints about what the cells say in a kind of mode, with each of the cache modes."""
    found = {mode: run_cells(cells, mode, kind) for mode in modes}
    complaints = [text for mode in modes for text in complaints_about_messages(found[mode], "%s, %s" % (kind, mode))]
    for mode in modes:
        without_chance(found[mode], kind)
    if write:
        with open(GOLDEN[kind], "w", encoding="utf-8") as file:
            file.write(text_of(found, kind))
    golden = read_golden(kind)
    for mode in modes:
        if found[mode].keys() != golden.keys():
            complaints.append("%s has other cells than the program; see --write" % GOLDEN[kind])
            break
        for cell, (outcome, message) in found[mode].items():
            expected = golden[cell][-1 if mode == MODES[1] else 0]
            # Two threads of one CPU have one slab or two, as the kernel numbers them.
            if outcome != expected and not (cell[0] == "second_free_in_thread" and outcome in golden[cell]):
                complaints.append("%s %d %s (%s, %s): seen %s, not %s: %s"
                                  % (*cell, kind, mode, outcome, expected, message))
    return complaints


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("cells")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--glibc", action="store_true")
    parser.add_argument("--other", metavar="LIB")
    arguments = parser.parse_args()
    if arguments.glibc:
        compare_with_glibc(arguments.cells)
        return 0
    if arguments.other:
        for cell, (outcome, message) in run_cells(arguments.cells, None, library=arguments.other).items():
            print("%s %d %s: %s\t%s" % (*cell, outcome, message))
        return 0
    # ctest runs the script once for each mode, and both modes are in one file: each run looks at its own.
    one = os.environ.get("TARN_MODE")
    modes = MODES if one is None else (one,)
    complaints = []
    for kind in GOLDEN:
        complaints += compare(arguments.cells, kind, modes, arguments.write and one is None)
    if arguments.write and one is None:
        with open(PAGE, "r+", encoding="utf-8") as file:
            page = page_with_table()[1]
            file.truncate(0)
            file.write(page)
    old, new = page_with_table()
    if old != new:
        complaints.append("docs/misuse.md has another table than these files; see --write")
    for text in complaints:
        print(text, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
