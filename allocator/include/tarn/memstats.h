// SPDX-License-Identifier: Apache-2.0
//
// tarn/memstats.h: what the heap holds, in numbers. For C and C++.
//
// The fields are those of Go's runtime.MemStats where malloc has the same thing, and more. A read takes no lock and
// stops nobody. At a quiet point all numbers are exact and fit together:
//   heap_sys = heap_inuse + heap_idle      heap_released <= heap_idle      heap_objects = mallocs - frees
//   sys = heap_sys + mspan_sys + mcache_sys + buck_hash_sys + page_map_sys + other_sys
// While threads work, each counter is exact as of its own moment within the read (some microseconds). So a difference
// such as heap_objects may be off by what was allocated and freed during the read. The memory classes always add up
// exactly.
#ifndef TARN_MEMSTATS_H
#define TARN_MEMSTATS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Room for the size classes; tarn_memstats_t::class_count of them are used.
#define TARN_MEMSTATS_MAX_CLASSES 64

// One size class. Counts are objects.
typedef struct tarn_memstats_class {
  uint64_t size_bytes;   // of an object
  uint64_t mallocs;      // cumulative
  uint64_t frees;        // cumulative
  uint64_t live;         // with the program
  uint64_t cached;       // free, in CPU caches and transfer caches
  uint64_t free;         // free, in spans
  uint64_t spans;        // including those of sampled objects
  uint64_t span_bytes;   // of all spans
  uint64_t waste_bytes;  // tails of spans that fit no object
  uint64_t refills;      // allocations that missed the CPU caches
  uint64_t flushes;      // frees that did
} tarn_memstats_class;

// Where the mapped memory is. The parts below add up to mapped_bytes, in every read.
typedef struct tarn_memory_classes {
  uint64_t mapped_bytes;
  uint64_t heap_live_bytes;       // objects of the program, small and large, by their class's size
  uint64_t heap_cached_bytes;     // free objects in caches
  uint64_t heap_span_free_bytes;  // free objects in spans, and the tails of spans
  uint64_t heap_free_bytes;       // free pages that the kernel still holds memory for
  uint64_t heap_released_bytes;   // free pages that it does not
  uint64_t heap_reserved_bytes;   // address space that was never committed
  uint64_t metadata_spans_bytes;
  uint64_t metadata_page_map_bytes;
  uint64_t metadata_caches_bytes;
  uint64_t metadata_pages_bytes;
  uint64_t metadata_profile_bytes;
  uint64_t metadata_other_bytes;
  uint64_t metadata_free_bytes;  // given to the metadata, not handed out yet
} tarn_memory_classes;

typedef struct tarn_memstats_s {
  // Go's. Bytes of live objects, the same twice; cumulative bytes; everything that is mapped.
  uint64_t alloc_bytes;
  uint64_t total_alloc_bytes;
  uint64_t sys_bytes;
  uint64_t mallocs;
  uint64_t frees;
  uint64_t heap_alloc_bytes;
  uint64_t heap_sys_bytes;
  uint64_t heap_idle_bytes;
  uint64_t heap_inuse_bytes;
  uint64_t heap_released_bytes;
  uint64_t heap_objects;
  uint64_t mspan_inuse_bytes;
  uint64_t mspan_sys_bytes;
  uint64_t mcache_inuse_bytes;
  uint64_t mcache_sys_bytes;
  uint64_t buck_hash_sys_bytes;  // the profile's
  uint64_t page_map_sys_bytes;
  uint64_t other_sys_bytes;
  // The soft limit in force, Go's goal of the next cycle; UINT64_MAX: none.
  uint64_t next_gc_bytes;

  // tarn's.
  uint64_t total_freed_bytes;  // cumulative; total_alloc - total_freed = alloc
  uint64_t cached_bytes;       // free objects in caches
  uint64_t small_live_bytes;   // of alloc_bytes, in objects of size classes
  uint64_t large_live_bytes;   // and in large objects
  uint64_t mapped_live_bytes;  // of these, with a mapping of their own
  uint64_t large_objects;
  uint64_t large_mallocs;         // cumulative
  uint64_t large_frees;           // cumulative
  uint64_t peak_inuse_bytes;      // of heap_inuse
  uint64_t released_total_bytes;  // cumulative: given back to the kernel
  uint64_t huge_pages;            // of 2 MiB, committed for objects
  uint64_t huge_pages_free;       // of these, wholly free
  uint64_t huge_pages_backed;     // for which the kernel was asked for huge pages of its own; it may not have had them
  // Bytes that the program asked for in what is live: an estimate from the samples of the heap profile; 0: no samples.
  uint64_t requested_estimate_bytes;
  // Of the whole process, from the kernel; 0 where it does not say.
  uint64_t rss_bytes;
  uint64_t peak_rss_bytes;
  // 1 - live / in use, in 1/1000: what part of the memory in spans holds no live object.
  uint64_t fragmentation_permille;
  // Arenas, pools and heaps that have a name (tarn/registry.h): how many names there are, the bytes that they hold,
  // which are large objects among the others, and the bytes of these that are live.
  uint64_t named_pools;
  uint64_t named_pool_bytes;
  uint64_t named_pool_live_bytes;
  // The hard limit; UINT64_MAX: none. Then for the soft limit: how often it was found exceeded, the bytes given back to
  // keep it, and the time for that. Last the allocations that failed while a hard limit was set (tarn/limits.h has
  // more).
  uint64_t hard_limit_bytes;
  uint64_t limit_exceeded;
  uint64_t limit_released_bytes;
  uint64_t limit_release_ns;
  uint64_t hard_failures;
  // The scavenger's work: cycles, CPU time, and what it gave back and took out of caches.
  uint64_t scavenger_cycles;
  uint64_t scavenger_cpu_ns;
  uint64_t scavenger_released_bytes;
  uint64_t scavenger_drained_bytes;
  // Slow paths that had to ask the kernel for memory or to wait for a lock: how many, how long all together, and the
  // longest; by time, entry 0 below a microsecond and entry i below 2^i. Page faults are not among them.
  uint64_t stalls;
  uint64_t stall_total_ns;
  uint64_t stall_longest_ns;
  uint64_t stalls_by_time[24];
  uint64_t cpus;         // CPUs (or threads) that have a cache
  uint64_t class_count;  // entries of by_size, beginning with class 1

  tarn_memory_classes classes;
  tarn_memstats_class by_size[TARN_MEMSTATS_MAX_CLASSES];

  // Guarded objects, which are in no size class. The places that there are; the live objects and the bytes of their
  // pages; the freed ones that are held inaccessible; all that ever were. Last the misuse of them that was reported.
  uint64_t guard_places;
  uint64_t guarded_objects;
  uint64_t guarded_bytes;
  uint64_t guarded_held;
  uint64_t guarded_allocations;
  uint64_t guard_reports;
} tarn_memstats_t;

// The cache of one CPU, or of one thread where there is no rseq.
typedef struct tarn_memstats_cpu {
  uint64_t index;
  uint64_t hits;     // allocations served by the cache
  uint64_t refills;  // allocations that were not
  uint64_t flushes;  // frees that found no room
  uint64_t cached_objects;
  uint64_t cached_bytes;
  uint64_t capacity_bytes;  // of the classes, out of the budget
  uint64_t budget_bytes;    // the most; caches of threads beyond the sixteenth have a quarter of it
} tarn_memstats_cpu;

// Fills `*stats`, of which the caller says how many bytes it knows: sizeof(tarn_memstats_t). Programs that were
// compiled against an older header get what they know; a program that knows more gets zeroes for the rest. Returns 0,
// or -1 with errno EINVAL when `stats` is null. Any thread, at any time, also in a signal handler.
int tarn_memstats(tarn_memstats_t* stats, size_t stats_bytes);

// Fills up to `count` entries, one per CPU that has a cache; returns how many there are. `cpus` may be null if `count`
// is 0.
size_t tarn_memstats_cpus(tarn_memstats_cpu* cpus, size_t count);

#ifdef __cplusplus
}

namespace tarn {

using MemStats = tarn_memstats_t;
using MemoryClasses = tarn_memory_classes;

// The heap's statistics as of now.
inline MemStats ReadMemStats() {
  MemStats stats = {};
  static_cast<void>(tarn_memstats(&stats, sizeof stats));
  return stats;
}

}  // namespace tarn
#endif

#endif
