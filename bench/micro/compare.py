#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares results of build/bench/micro: one JSON file of google-benchmark per allocator.

For `run`, and by hand for files that are there already. The table goes to stdout. Figures are
nanoseconds per item (an allocation with its free, or what the benchmark's source says), medians
over the rounds. Ratios are paired: round 3 of one file is divided by round 3 of the other, for run
interleaves the allocators within a round; so they are meaningful only for files of one call of run.

The interval of a ratio is that of the median by order statistics, with a coverage of at least 95 %
whatever the distribution is. It takes six rounds; with fewer there is no verdict.
"""

import argparse
import json
import math
import os
import statistics
import sys

MIN_COVERAGE = 0.95
# A difference below one per cent is called a tie however sure it is: where code happens to be placed moves as much.
EQUAL_WITHIN = 0.01


class CompareError(Exception):
    """Something that stops the comparison; the text is for the user."""


def read_results(path):
    """{benchmark: [nanoseconds per item, by round]} of one file."""
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        results = {}
        for entry in document["benchmarks"]:
            # Aggregates (means and the like) of google-benchmark's own repetitions say nothing new.
            if entry.get("run_type", "iteration") == "iteration" and not entry.get("error_occurred"):
                results.setdefault(entry["name"], []).append(1e9 / entry["items_per_second"])
    except OSError as error:
        raise CompareError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise CompareError(
            f"{path} is no result of build/bench/micro --benchmark_out=FILE ({error!r})"
        ) from error
    return results


def interval_of_median(values):
    """(low, high) that hold the median with MIN_COVERAGE at least, or None with too few values."""
    ordered = sorted(values)
    count = len(ordered)
    # The median lies outside of [x_k, x_(n+1-k)] if fewer than k values fall on one side of it.
    best = None
    below = 0.0
    for k in range(1, count // 2 + 1):
        below += math.comb(count, k - 1) / 2**count
        if 1 - 2 * below >= MIN_COVERAGE:
            best = (ordered[k - 1], ordered[count - k])
    return best


class Comparison:
    """One benchmark: the subject against its best peer. Ratios below 1 are less time."""

    def __init__(self, subject, peers):
        self.medians = {name: statistics.median(times) for name, times in peers.items()}
        self.best = min(self.medians, key=self.medians.get)
        ratios = [mine / theirs for mine, theirs in zip(subject, peers[self.best])]
        self.ratio = statistics.median(ratios)
        self.interval = interval_of_median(ratios)

    def verdict(self):
        if self.interval is None:
            return "?"
        low, high = self.interval
        if low > 1 and self.ratio > 1 + EQUAL_WITHIN:
            return "loss"
        if high < 1 and self.ratio < 1 - EQUAL_WITHIN:
            return "win"
        return "tie"


def format_ns(value):
    return f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def make_table(results, subject):
    """The text of the table; results: {allocator: {benchmark: times}}."""
    names = [subject] + [name for name in results if name != subject]
    rows = [["benchmark", *names, "ratio", "95 %", "against", ""]]
    verdicts = []
    for benchmark, times in results[subject].items():
        peers = {n: results[n][benchmark] for n in names[1:] if results[n].get(benchmark)}
        row = [benchmark]
        row += [
            format_ns(statistics.median(results[name][benchmark])) if results[name].get(benchmark) else "-"
            for name in names
        ]
        if peers:
            comparison = Comparison(times, peers)
            interval = comparison.interval
            row += [
                f"{comparison.ratio:.2f}",
                f"{interval[0]:.2f}..{interval[1]:.2f}" if interval else "-",
                comparison.best,
                comparison.verdict(),
            ]
            verdicts.append(comparison.verdict())
        else:
            row += ["-", "-", "-", ""]
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:-2], widths[1:-2])]
        cells += [row[-2].ljust(widths[-2]), row[-1]]
        lines.append("  ".join(cells).rstrip())
    rounds = max((len(times) for times in results[subject].values()), default=0)
    lines.append("")
    lines.append(
        f"Nanoseconds per item, medians of {rounds} rounds; ratio: {subject} / the fastest other, below 1 is faster."
    )
    if "?" in verdicts:
        lines.append("Too few rounds for an interval: six are needed.")
    elif verdicts:
        lines.append(
            f"Against the fastest other of each row, {subject} has "
            f"{verdicts.count('win')} wins, {verdicts.count('tie')} ties, {verdicts.count('loss')} losses."
        )
    return "\n".join(lines) + "\n"


def main(arguments):
    parser = argparse.ArgumentParser(
        prog="bench/micro/compare.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="FILE.json", help="results; the name of the file names the row")
    parser.add_argument("--subject", metavar="NAME", help="who is compared with the others (tarn, or the first)")
    options = parser.parse_args(arguments)
    results = {}
    for path in options.files:
        name = os.path.basename(path).removesuffix(".json")
        if name in results:
            parser.error(f"two files are named {name}")
        results[name] = read_results(path)
    subject = options.subject or ("tarn" if "tarn" in results else next(iter(results)))
    if subject not in results:
        parser.error(f"--subject {subject}: there are {', '.join(results)}")
    sys.stdout.write(make_table(results, subject))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except CompareError as failure:
        print(f"compare: {failure}", file=sys.stderr)
        sys.exit(1)
