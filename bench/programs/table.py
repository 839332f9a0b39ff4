# SPDX-License-Identifier: Apache-2.0
"""The table of results, and the sentence below it.

Called by run.py with all runs; calls nothing of ours. Figures are medians over
the rounds; a ratio is a median divided by the median of the allocator that it is
taken against, so below 1 means less time or less memory.

What stays true:
- An allocator with a failed run of a program has no figures for it: its row says
  FAILED and why, and it takes no part in the means.
- A ratio is marked with ~ where the rounds do not agree about who is ahead,
  because then the difference may be chance.
"""

import math
import statistics
import textwrap
from dataclasses import dataclass

BASE = "glibc"
PEER = "mimalloc"
WIDTH = 100

# (name, attribute of a run, unit, how many of the attribute make one unit)
MEASURES = (
    ("wall time", "wall_s", "s", 1.0),
    ("CPU time", "cpu_s", "s", 1.0),
    ("peak RSS", "peak_rss_kib", "MiB", 1024.0),
)

# A difference below one per cent is called equal in words: the table shows two digits.
EQUAL_WITHIN = 0.01


@dataclass(frozen=True)
class Ratio:
    value: float
    certain: bool

    def __str__(self):
        return f"{self.value:.2f}" + (" " if self.certain else "~")


class Results:
    """All runs, sorted by program and allocator, in the order in which they were named."""

    def __init__(self, runs, programs, allocators):
        self.programs = list(programs)
        self.allocators = list(allocators)
        self._runs = {(p, a): [] for p in self.programs for a in self.allocators}
        for run in runs:
            self._runs[run.program, run.allocator].append(run)
        self.base = BASE if BASE in self.allocators else self.allocators[0]
        others = [name for name in self.allocators if name not in (self.base, PEER)]
        # The second column of ratios is for those who are measured against the peer, too.
        self.peer = PEER if PEER in self.allocators and PEER != self.base and others else None
        self.subject = "tarn" if "tarn" in self.allocators else (others or self.allocators)[-1]

    def runs(self, program, allocator):
        return self._runs[program, allocator]

    def failures(self, program, allocator):
        return [run for run in self.runs(program, allocator) if run.failure]

    def any_failure(self):
        return any(run.failure for runs in self._runs.values() for run in runs)

    def complete(self, program, allocator):
        """Whether there are figures for this pair: it has run, and never failed."""
        return bool(self.runs(program, allocator)) and not self.failures(program, allocator)

    def median(self, program, allocator, attribute):
        if not self.complete(program, allocator):
            return None
        return statistics.median(getattr(run, attribute) for run in self.runs(program, allocator))

    def ratio(self, program, allocator, against, attribute):
        """The ratio of the medians, or None where one of the two has no figures."""
        mine = self.median(program, allocator, attribute)
        theirs = self.median(program, against, attribute)
        if mine is None or not theirs:
            return None
        value = mine / theirs
        return Ratio(value, allocator == against or self._agree(program, allocator, against,
                                                                attribute, value))

    def _agree(self, program, allocator, against, attribute, value):
        theirs = {run.round: getattr(run, attribute) for run in self.runs(program, against)}
        signs = [
            getattr(run, attribute) - theirs[run.round]
            for run in self.runs(program, allocator)
            if run.round in theirs
        ]
        # Two rounds agree by chance half of the time, so fewer than three prove nothing.
        if len(signs) < 3:
            return False
        return all(sign > 0 for sign in signs) if value > 1 else all(sign < 0 for sign in signs)

    def ratios(self, allocator, against, attribute):
        """(program, ratio) for every program that has one."""
        pairs = ((p, self.ratio(p, allocator, against, attribute)) for p in self.programs)
        return [(program, ratio) for program, ratio in pairs if ratio is not None]


def geometric_mean(values):
    """The mean of ratios: a half and a double cancel each other out."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def _number(value):
    return f"{value:.2f}" if value < 100 else f"{value:.1f}"


def _cells(results, row):
    """The cells of a row as text; row(attribute) gives figure, ratio and ratio to the peer."""
    line = ""
    for _, attribute, _, _ in MEASURES:
        figure, base, peer = row(attribute)
        line += f"{figure:>9}{base:>8}"
        if results.peer:
            line += f"{peer:>8}"
    return line


def render(results):
    """The table, at most WIDTH columns wide, as text."""
    left = f"{'program':<15}{'malloc':<10}"
    head = " " * len(left)
    names = left
    for name, _, unit, _ in MEASURES:
        width = 25 if results.peer else 17
        title = f" {name} "
        head += " " + title.center(width - 1, "-")
        names += f"{unit:>9}{'/' + results.base[:6] + ' ':>8}"
        if results.peer:
            names += f"{'/mimal. ':>8}"
    lines = [head.rstrip(), names.rstrip()]
    for program in results.programs:
        for position, allocator in enumerate(results.allocators):
            label = program if position == 0 else ""
            line = f"{label:<15.14}{allocator:<10.9}"
            lines.append((line + _row(results, program, allocator)).rstrip())
        lines.append("")
    lines.extend(_mean_rows(results))
    return "\n".join(lines)


def _row(results, program, allocator):
    failed = results.failures(program, allocator)
    if failed:
        text = f"FAILED {len(failed)} of {len(results.runs(program, allocator))} runs: "
        return textwrap.shorten(text + failed[0].failure, WIDTH - 25, placeholder=" ...")
    if not results.runs(program, allocator):
        return "not run"

    def row(attribute):
        scale = next(scale for _, name, _, scale in MEASURES if name == attribute)
        figure = _number(results.median(program, allocator, attribute) / scale)
        base = results.ratio(program, allocator, results.base, attribute)
        peer = None
        if results.peer and allocator not in (results.base, results.peer):
            peer = results.ratio(program, allocator, results.peer, attribute)
        return figure, "- " if base is None else str(base), "" if peer is None else str(peer)

    return _cells(results, row)


def _mean_rows(results):
    lines = []
    for allocator in results.allocators:
        if allocator == results.base:
            continue

        def row(attribute):
            texts = []
            for against in (results.base, results.peer):
                wanted = against and not (against == results.peer and allocator == results.peer)
                ratios = results.ratios(allocator, against, attribute) if wanted else []
                mean = geometric_mean([ratio.value for _, ratio in ratios]) if ratios else None
                texts.append("" if mean is None else f"{mean:.2f} ")
            return "", *texts

        label = "geo. mean" if not lines else ""
        lines.append(f"{label:<15}{allocator:<10.9}{_cells(results, row)}".rstrip())
    return lines


LEGEND = (
    "Medians; the columns with a stroke are ratios against that malloc, below 1 is less time or "
    "memory. ~ marks a ratio about whose direction the rounds do not agree (or there are fewer "
    "than three)."
)


def legend():
    return textwrap.fill(LEGEND, WIDTH)


def _in_words(results, against):
    """`0.93 times glibc's wall time (at worst 1.04 in git; more in 1 of 8 programs), ...`"""
    parts = []
    for name, attribute, _, _ in MEASURES:
        ratios = results.ratios(results.subject, against, attribute)
        if not ratios:
            continue
        mean = geometric_mean([ratio.value for _, ratio in ratios])
        worst_program, worst = max(ratios, key=lambda pair: pair[1].value)
        more = sum(1 for _, ratio in ratios if ratio.value > 1 + EQUAL_WITHIN)
        owner = "its" if parts else f"{against}'s"
        parts.append(
            f"{mean:.2f} times {owner} {name} (at worst {worst.value:.2f} in {worst_program}; "
            f"more in {more} of {len(ratios)} programs)"
        )
    return ", ".join(parts)


def sentence(results):
    """One sentence that says how the subject came off, losses included."""
    clauses = []
    for against in (results.base, results.peer):
        if against and against != results.subject:
            words = _in_words(results, against)
            if words:
                clauses.append(words)
    failed = [
        f"{program} under {allocator}"
        for program in results.programs
        for allocator in results.allocators
        if results.failures(program, allocator)
    ]
    if clauses:
        text = f"In the mean {results.subject} takes " + "; and ".join(clauses)
    else:
        text = f"There is nothing to compare {results.subject} with"
    if failed:
        text += f"; FAILED, and left out of this: {', '.join(failed)}"
    return textwrap.fill(text + ".", WIDTH)


def throughput(results):
    """A line for each program that counts its own work, or an empty text."""
    lines = []
    for program in results.programs:
        parts = []
        for allocator in results.allocators:
            rates = [
                run.extra["per_second"]
                for run in results.runs(program, allocator)
                if not run.failure and "per_second" in run.extra
            ]
            if rates and results.complete(program, allocator):
                parts.append(f"{allocator} {statistics.median(rates):,.0f}")
        if parts:
            text = f"{program}, requests per second: " + ", ".join(parts)
            lines.append(textwrap.fill(text, WIDTH))
    return "\n".join(lines)
