# SPDX-License-Identifier: Apache-2.0
"""The list of workloads that bench/run measures: what each is about, and how much of it in each mode.

Called by runner.py; calls nothing of ours. The programs are described in bench/workloads/README.md
and bench/traces/README.md.

What stays true:
- The names are unique, and `PROGRAM-THREADS` where one program runs with several numbers of threads:
  the report draws thread scaling from names with one stem.
- Less is better in every measure.
"""

import os
from dataclasses import dataclass, field, replace

WALL = ("wall_s", "wall time")
CPU = ("cpu_s", "CPU time")
PEAK = ("peak_rss_bytes", "peak RSS")


def metric(name, title):
    """A figure that the workload gives itself."""
    return "metrics." + name, title


@dataclass(frozen=True)
class Amount:
    """How much of a workload one mode measures: the arguments, and how many blocks."""

    arguments: str
    blocks: int


@dataclass(frozen=True)
class Workload:
    name: str
    program: str  # in the build's bench directory
    description: str
    kind: str  # speed, memory, latency or scaling
    result: tuple  # (measure, title): what the workload is about
    quick: Amount | None  # None: not in the quick mode
    full: Amount
    # Without it the row of the report says so: some would sleep for minutes once more.
    control: bool = True
    # Placements besides "wherever the kernel likes", by the names that `tarn machine` gives; full mode.
    placements: tuple = ()
    # Other names of this workload with a placement.
    placement: str = "none"
    files: tuple = field(default=(), compare=False)  # what must be there besides the program

    def placed(self, policy):
        return replace(self, name=f"{self.name}@{policy}", placement=policy, placements=(), quick=None)


# Six blocks are the fewest whose bootstrap interval can hold the median with 95 % (docs/benchmarks.md).
QUICK_BLOCKS = 6
FULL_BLOCKS = 7


def speed(name, command, result, quick, full, description, **more):
    """A workload whose amount is set by --scale; `quick` and `full` are the scales of the two modes.

    The scales give about 0.2 s and 0.5 s under glibc on a slow core, so that slow and fast programs
    get the same share of the time, and less where a peer takes many times as long as glibc (page faults
    of large blocks, short processes). None leaves a workload out of the quick mode.
    """
    program, _, arguments = command.partition(" ")

    def amount(scale, blocks):
        return None if scale is None else Amount(f"{arguments} --scale {scale}".strip(), blocks)

    return Workload(
        name, program, description, more.pop("kind", "speed"), result,
        amount(quick, QUICK_BLOCKS), amount(full, FULL_BLOCKS), **more
    )


PLACED = ("one-cpu", "same-core", "same-cache", "different-cache", "different-node")

PROGRAMS = [
    # One thread.
    speed("tiny_objects", "tiny_objects", CPU, 0.1, 0.24,
          "One thread; C++ temporaries of 8 to 64 bytes, freed 32 allocations later."),
    speed("random_order", "random_order", CPU, 0.08, 0.16,
          "One thread; 1000 objects of 16 to 1024 bytes, freed in random order: the hit path."),
    speed("live_set_1k", "live_set --sizes 1KiB", CPU, 0.08, 0.2,
          "One thread; a live set whose objects are replaced at random, Pareto sizes up to 1 KiB."),
    speed("live_set_32k", "live_set --sizes 32KiB", CPU, 0.15, 0.4,
          "One thread; a live set whose objects are replaced at random, Pareto sizes up to 32 KiB."),
    speed("batches_lifo", "batches --order lifo", CPU, 0.12, 0.32,
          "One thread; batches of 1 to 10000 objects, the last one freed first."),
    speed("batches_fifo", "batches --order fifo", CPU, 0.12, 0.28,
          "One thread; batches of 1 to 10000 objects, the first one freed first."),
    speed("realloc_steps", "realloc_growth --growth steps", WALL, 0.02, 0.04,
          "Arrays that grow by realloc from 1 to 32 MiB in steps of 1 MiB, every page written."),
    speed("realloc_doubling", "realloc_growth --growth doubling", WALL, None, 0.4,
          "An array that doubles by realloc from 1 MiB to 1 GiB, every page written."),
    speed("realloc_small", "realloc_growth --growth small", WALL, 0.15, 0.4,
          "Strings that grow by realloc up to 64 KiB."),
    speed("large_blocks", "large_blocks --live 10", WALL, 0.02, 0.16,
          "Images and matrices: 10 live blocks of 5 to 25 MiB, replaced in turn, every page written."),
    speed("calloc_small", "calloc_zeroed --size small", CPU, 0.08, 0.2,
          "Small zeroed structures."),
    speed("calloc_large", "calloc_zeroed --size large", CPU, 0.02, 0.08,
          "Sparse tables of 64 MiB by calloc, after as much was written and freed."),
    # Several threads.
    speed("producer_consumer", "producer_consumer", WALL, 0.06, 0.24,
          "A pipeline: one thread allocates, another one frees.", kind="scaling", placements=PLACED),
    speed("producer_consumer_mixed", "producer_consumer --sizes mixed", WALL, None, 0.04,
          "A pipeline with objects of mixed sizes.", kind="scaling"),
    speed("mutual_free_64", "mutual_free --sizes 64", WALL, 0.08, 0.32,
          "Each thread frees what the one before it has allocated, 64 bytes each.", kind="scaling"),
    speed("mutual_free_mixed", "mutual_free --sizes mixed", WALL, 0.05, 0.2,
          "Each thread frees what the one before it has allocated, mixed sizes.", kind="scaling",
          placements=PLACED),
    speed("migration-16", "migration --threads 16", WALL, 0.05, 0.2,
          "16 threads that free what others left in a shared table.", kind="scaling"),
    speed("migration-128", "migration --threads 128", WALL, 0.05, 0.16,
          "128 threads that free what others left in a shared table.", kind="scaling"),
    speed("dying_threads", "dying_threads", WALL, 0.12, 0.32,
          "A thread per job, whose objects outlive it (after Larson and Krishnan).", kind="scaling"),
    speed("thread_churn", "thread_churn", WALL, 0.015, 0.048,
          "100000 threads at --scale 1, eight at a time, with ten objects each.", kind="scaling"),
    speed("false_sharing_active", "false_sharing --mode active", WALL, 0.2, 0.4,
          "Threads that write to small objects which they allocated at the same time.", kind="scaling"),
    speed("false_sharing_passive", "false_sharing --mode passive", WALL, 0.2, 0.4,
          "Threads that write to small objects which one thread allocated for all.", kind="scaling"),
    speed("server_latency", "server_latency", metric("latency_ns.malloc.p999", "p99.9 of malloc"), 0.2, 0.4,
          "A service with a working set per request; every malloc and free is timed.", kind="latency"),
    # Processes, and memory over time.
    speed("start_up", "start_up --program true", WALL, 0.06, 0.16,
          "Build systems: 1000 short processes at --scale 1."),
    Workload("fragmentation", "fragmentation",
             "A cache of 64 MiB whose objects change their sizes over time, then silence.", "memory",
             metric("rss_per_live_byte_full_and_idle", "RSS per live byte when full and silent"), None,
             Amount("--idle-seconds 5", 2), control=False),
    Workload("idle_threads", "idle_threads",
             "A thread per connection: 128 idle threads, each of which has touched 20 sizes.", "memory",
             metric("bytes_per_thread_after_20_sizes", "bytes per thread"), Amount("", 2), Amount("", 5),
             control=False),
    Workload("memory_return_64", "memory_return", "100 MiB of objects of 64 bytes freed, then silence.",
             "memory", metric("rss_above_baseline_bytes_5s", "RSS kept 5 s later"), None,
             Amount("--bytes 64 --idle-seconds 6", 2), control=False),
    Workload("memory_return_4k", "memory_return", "100 MiB of objects of 4 KiB freed, then silence.",
             "memory", metric("rss_above_baseline_bytes_5s", "RSS kept 5 s later"), None,
             Amount("--bytes 4096 --idle-seconds 6", 2), control=False),
    Workload("memory_return_4k_1s", "memory_return",
             "The same, soon after: who keeps nothing pays for it at the next peak (peaks).",
             "memory", metric("rss_above_baseline_bytes_1s", "RSS kept 1 s later"),
             Amount("--bytes 4096 --idle-seconds 1", 2), Amount("--bytes 4096 --idle-seconds 1", 3),
             control=False),
    Workload("memory_return_200k", "memory_return",
             "100 MiB of objects of 200000 bytes freed, then silence.",
             "memory", metric("rss_above_baseline_bytes_5s", "RSS kept 5 s later"), None,
             Amount("--bytes 200000 --idle-seconds 6", 2), control=False),
    Workload("idle_return", "idle_return",
             "A server after its busy hour: 256 MiB of mixed sizes, six per cent stay live, then silence.",
             "memory", metric("rss_per_live_byte_end", "RSS per live byte at the end"), None,
             Amount("--idle-seconds 20", 2), control=False),
    Workload("peaks", "peaks", "A peak of 100 MiB every second: the time that giving back costs.", "speed",
             metric("busy_s", "time at work"), None, Amount("--peaks 3", 5)),
]


TRACE_EXTENSION = ".trace"


def traces(root):
    """A workload for each recorded trace that is there, named after its file."""
    directory = os.path.join(root, "bench", "traces")
    found = []
    if not os.path.isdir(directory):
        return found
    for file in sorted(os.listdir(directory)):
        stem, extension = os.path.splitext(file)
        if extension != TRACE_EXTENSION:
            continue
        path = os.path.join("bench", "traces", file)
        found.append(
            Workload(f"trace_{stem}", "replay",
                     f"Replays the allocation calls of a real program, recorded in {path}.", "speed",
                     # The trace is unpacked before the clock of the replay starts.
                     metric("replay_s", "time of the replay"),
                     Amount(f"{path} --repeat 3", QUICK_BLOCKS), Amount(f"{path} --repeat 15", FULL_BLOCKS),
                     files=(os.path.join(root, path),))
        )
    return found


def all_workloads(root):
    """Every workload, those with a placement after the one without."""
    workloads = []
    for workload in PROGRAMS + traces(root):
        workloads.append(workload)
        workloads.extend(workload.placed(policy) for policy in workload.placements)
    return workloads
