// What the heap holds, in numbers: gathered from the counters of all floors, for mallinfo2 and its kin.
//
// Takes each floor's lock for a moment, one after the other, and none that the hit paths need. At a quiet point the
// numbers are exact and fit together; while other threads work, each is exact as of a moment of its own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/central/transfer_cache.h"
#include "allocator/cpu_cache/cpu_cache.h"
#include "allocator/pages/page_heap.h"

namespace tarn {

struct SizeClassStatistics {
  std::uint64_t allocations = 0;
  std::uint64_t frees = 0;
  std::uint64_t refills = 0;
  std::uint64_t flushes = 0;
  std::size_t live_objects = 0;      // with the program
  std::size_t slab_objects = 0;      // in CPU caches
  std::size_t transfer_objects = 0;  // in the transfer cache
  std::size_t span_objects = 0;      // free, in spans
  std::size_t spans = 0;
};

struct Statistics {
  PageHeapStats pages;
  SizeClassStatistics classes[kSizeClassCount];
  std::size_t small_live_bytes = 0;      // with the program, in objects of size classes
  std::size_t small_cached_bytes = 0;    // in slabs and transfer caches
  std::size_t small_in_spans_bytes = 0;  // free objects and tails in spans
  std::size_t live_bytes = 0;            // small_live_bytes and large objects
  std::size_t slabs = 0;
};

// `transfer_caches` has one entry per size class.
void GatherStatistics(PageHeap& page_heap, TransferCache* transfer_caches, const CpuCache& cpu_cache,
                      Statistics* statistics);

// Writes a table for people to stderr, without allocating.
void WriteStatistics(const Statistics& statistics);

}  // namespace tarn
