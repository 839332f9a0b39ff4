// SPDX-License-Identifier: Apache-2.0
//
// The figures of the caches, for this process and for others.
#include "allocator/cpu_cache/cpu_cache.h"

#include <cstddef>

#include "allocator/cpu_cache/slab_words.h"

namespace tarn {

CacheClassStats CpuCache::ClassStats(SizeClass size_class) const {
  CacheClassStats stats;
  stats.allocations = direct_[size_class].allocations.load(std::memory_order_relaxed);
  stats.frees = direct_[size_class].frees.load(std::memory_order_relaxed);
  const std::size_t end = IndexEnd();
  for (std::size_t i = 0; i < end; ++i) {
    const Slab* slab = SlabAt(i);
    if (slab == nullptr) continue;
    const SlabCounters& counters = slab->counters[size_class];
    const std::uint64_t word = LoadWord(slab, size_class);
    const std::uint64_t pops = word >> kSlabPopsShift;
    const std::uint64_t cached = CachedObjects(size_class, word);
    stats.allocations += pops - counters.flushed.load(std::memory_order_relaxed) +
                         counters.direct_allocations.load(std::memory_order_relaxed);
    stats.frees += cached + pops - counters.refilled.load(std::memory_order_relaxed) +
                   counters.direct_frees.load(std::memory_order_relaxed);
    stats.cached_objects += cached;
    stats.refills += counters.refills.load(std::memory_order_relaxed);
    stats.flushes += counters.flushes.load(std::memory_order_relaxed);
  }
  return stats;
}

std::size_t CpuCache::PinnedBytes() const {
  std::size_t pinned_bytes = 0;
  for (int c = 1; c < kSizeClassCount; ++c) {
    const SizeClassInfo& info = kSizeClasses[c];
    std::size_t objects = transfer_caches_[c].cached_objects() + transfer_caches_[c].central().kept_spans();
    const std::size_t end = IndexEnd();
    for (std::size_t i = 0; i < end; ++i) {
      const Slab* slab = SlabAt(i);
      if (slab == nullptr) continue;
      const auto size_class = static_cast<SizeClass>(c);
      objects += CachedObjects(size_class, LoadWord(slab, size_class));
    }
    pinned_bytes += objects * PageCount(info.span_pages).bytes();
  }
  return pinned_bytes;
}

// The published structures are these, under other names.
static_assert(sizeof(SlabHeader) == sizeof(tarn_snapshot_slab_header));
static_assert(offsetof(SlabHeader, limit) == offsetof(tarn_snapshot_slab_header, limit));
static_assert(sizeof(SlabCounters) == sizeof(tarn_snapshot_slab_counters));
static_assert(offsetof(SlabCounters, direct_frees) == offsetof(tarn_snapshot_slab_counters, direct_frees));
static_assert(offsetof(SlabCounters, flushes) == offsetof(tarn_snapshot_slab_counters, flushes));

void CpuCache::Describe(tarn_snapshot_block* block) const {
  block->cache_mode = mode_ == CacheMode::kCpu ? TARN_CACHES_PER_CPU : TARN_CACHES_PER_THREAD;
  block->cache_index = mode_ == CacheMode::kThread        ? TARN_INDEX_THREAD
                       : rseq_.index == RseqIndex::kMmCid ? TARN_INDEX_MM_CID
                                                          : TARN_INDEX_CPU_ID;
  block->slab_entries_address = reinterpret_cast<std::uintptr_t>(&entries_[0].slab);
  block->slab_entry_stride = sizeof(Entry);
  block->slab_entry_count = static_cast<std::uint32_t>(index_bound_);
  block->slab_headers_offset = offsetof(Slab, headers);
  block->slab_counters_offset = offsetof(Slab, counters);
  block->cache_budget_bytes = budget_bytes_;
  static_assert(sizeof(DirectCounters) == 2 * sizeof(std::uint64_t));
  block->direct_counters_address = reinterpret_cast<std::uintptr_t>(direct_);
}

}  // namespace tarn
