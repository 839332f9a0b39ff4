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
    # Differences in memory need no control of the clock.
    control: bool = True
    # Placements besides "wherever the kernel likes", by the names that `tarn machine` gives; full mode.
    placements: tuple = ()
    # Other names of this workload with a placement.
    placement: str = "none"
    files: tuple = field(default=(), compare=False)  # what must be there besides the program

    def placed(self, policy):
        return replace(self, name=f"{self.name}@{policy}", placement=policy, placements=(), quick=None)


QUICK_BLOCKS = 5
FULL_BLOCKS = 10


def speed(name, program, description, result, arguments="", quick=0.25, full=1.0, kind="speed", **more):
    """A workload whose amount is set by --scale."""
    arguments = (arguments + " ") if arguments else ""
    return Workload(
        name,
        program,
        description,
        kind,
        result,
        None if quick is None else Amount(f"{arguments}--scale {quick}", QUICK_BLOCKS),
        Amount(f"{arguments}--scale {full}", FULL_BLOCKS),
        **more,
    )


PLACED = ("one-cpu", "same-core", "same-cache", "different-cache", "different-node")

PROGRAMS = [
    # One thread.
    speed("tiny_objects", "tiny_objects",
          "One thread; C++ temporaries of 8 to 64 bytes, freed 32 allocations later.", CPU),
    speed("random_order", "random_order",
          "One thread; 1000 objects of 16 to 1024 bytes, freed in random order: the hit path.", CPU),
    speed("live_set_1k", "live_set",
          "One thread; a live set whose objects are replaced at random, Pareto sizes up to 1 KiB.", CPU,
          "--sizes 1KiB"),
    speed("live_set_32k", "live_set",
          "One thread; a live set whose objects are replaced at random, Pareto sizes up to 32 KiB.", CPU,
          "--sizes 32KiB"),
    speed("batches_lifo", "batches",
          "One thread; batches of 1 to 10000 objects, the last one freed first.", CPU, "--order lifo"),
    speed("batches_fifo", "batches",
          "One thread; batches of 1 to 10000 objects, the first one freed first.", CPU, "--order fifo"),
    speed("realloc_steps", "realloc_growth",
          "Arrays that grow by realloc from 1 to 32 MiB in steps of 1 MiB, every page written.", WALL,
          "--growth steps"),
    speed("realloc_doubling", "realloc_growth",
          "An array that doubles by realloc from 1 MiB to 1 GiB, every page written.", WALL,
          "--growth doubling", quick=None),
    speed("realloc_small", "realloc_growth", "Strings that grow by realloc up to 64 KiB.", WALL,
          "--growth small"),
    speed("large_blocks", "large_blocks",
          "Images and matrices: 20 live blocks of 5 to 25 MiB, replaced in turn, every page written.", WALL),
    speed("calloc_small", "calloc_zeroed", "Small zeroed structures.", CPU, "--size small"),
    speed("calloc_large", "calloc_zeroed",
          "Sparse tables of 64 MiB by calloc, after as much was written and freed.", CPU, "--size large"),
    # Several threads.
    speed("producer_consumer", "producer_consumer",
          "One thread allocates, another one frees: a pipeline.", WALL, kind="scaling", placements=PLACED),
    speed("producer_consumer_mixed", "producer_consumer",
          "One thread allocates objects of mixed sizes, another one frees them.", WALL, "--sizes mixed",
          kind="scaling", quick=None),
    speed("mutual_free_64", "mutual_free",
          "Each thread frees what the one before it has allocated, 64 bytes each.", WALL, "--sizes 64",
          kind="scaling"),
    speed("mutual_free_mixed", "mutual_free",
          "Each thread frees what the one before it has allocated, mixed sizes.", WALL, "--sizes mixed",
          kind="scaling", placements=PLACED),
    speed("migration-16", "migration",
          "16 threads that free what others left in a shared table.", WALL, "--threads 16", kind="scaling"),
    speed("migration-128", "migration",
          "128 threads that free what others left in a shared table.", WALL, "--threads 128", kind="scaling"),
    speed("dying_threads", "dying_threads",
          "A thread per job, whose objects outlive it (after Larson and Krishnan).", WALL, kind="scaling"),
    speed("thread_churn", "thread_churn",
          "100000 threads at --scale 1, eight at a time, with ten objects each.", WALL, kind="scaling"),
    speed("false_sharing_active", "false_sharing",
          "Threads that write to small objects which they allocated at the same time.", WALL,
          "--mode active", kind="scaling"),
    speed("false_sharing_passive", "false_sharing",
          "Threads that write to small objects which one thread allocated for all.", WALL,
          "--mode passive", kind="scaling"),
    speed("server_latency", "server_latency",
          "A service with a working set per request; every malloc and free is timed.",
          metric("latency_ns.malloc.p999", "p99.9 of malloc"), kind="latency"),
    # Processes, and memory over time.
    speed("start_up", "start_up", "Build systems: 1000 short processes at --scale 1.", WALL,
          "--program true"),
    speed("fragmentation", "fragmentation",
          "A cache of 64 MiB whose objects change their sizes over time, and which then shrinks to a tenth.",
          metric("rss_per_live_byte_shrunk", "RSS per live byte after shrinking"), "--idle-seconds 1",
          kind="memory", control=False),
    Workload("idle_threads", "idle_threads",
             "A thread per connection: 128 idle threads, each of which has touched 20 sizes.", "memory",
             metric("bytes_per_thread_after_20_sizes", "bytes per thread"), Amount("", 2), Amount("", 5),
             control=False),
    Workload("memory_return_64", "memory_return", "100 MiB of objects of 64 bytes freed, then silence.",
             "memory", metric("rss_above_baseline_bytes_5s", "RSS kept 5 s later"), None,
             Amount("--bytes 64 --idle-seconds 6", 3), control=False),
    Workload("memory_return_4k", "memory_return", "100 MiB of objects of 4 KiB freed, then silence.",
             "memory", metric("rss_above_baseline_bytes_1s", "RSS kept 1 s later"),
             Amount("--bytes 4096 --idle-seconds 1", 2), Amount("--bytes 4096 --idle-seconds 1", 3),
             control=False),
    Workload("memory_return_4k_30s", "memory_return", "100 MiB of objects of 4 KiB freed, then 30 s of silence.",
             "memory", metric("rss_above_baseline_bytes_30s", "RSS kept 30 s later"), None,
             Amount("--bytes 4096 --idle-seconds 30", 2), control=False),
    Workload("memory_return_200k", "memory_return", "100 MiB of objects of 200000 bytes freed, then silence.",
             "memory", metric("rss_above_baseline_bytes_5s", "RSS kept 5 s later"), None,
             Amount("--bytes 200000 --idle-seconds 6", 3), control=False),
    Workload("idle_return", "idle_return",
             "A server after its busy hour: 256 MiB of mixed sizes, six per cent stay live, then silence.",
             "memory", metric("rss_per_live_byte_end", "RSS per live byte at the end"), None,
             Amount("--idle-seconds 30", 2), control=False),
    Workload("peaks", "peaks", "A peak of 100 MiB every second: the time that giving back costs.", "speed",
             metric("busy_s", "time at work"), None, Amount("--peaks 5", 5)),
]

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
                     f"Replays the allocation calls of a real program, recorded in {path}.", "speed", CPU,
                     Amount(path, QUICK_BLOCKS), Amount(f"{path} --repeat 4", FULL_BLOCKS),
                     files=(os.path.join(root, path),))
        )
    return found


TRACE_EXTENSION = ".trace"


def all_workloads(root):
    """Every workload, those with a placement after the one without."""
    workloads = []
    for workload in PROGRAMS + traces(root):
        workloads.append(workload)
        workloads.extend(workload.placed(policy) for policy in workload.placements)
    return workloads
