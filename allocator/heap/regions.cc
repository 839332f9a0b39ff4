// SPDX-License-Identifier: Apache-2.0

#include "allocator/heap/regions.h"

#include <atomic>
#include <bit>

#include "allocator/heap/poison.h"
#include "allocator/heap/process_heap.h"
#include "allocator/heap/reclaim.h"
#include "allocator/heap/shard.h"
#include "allocator/os/thread_state.h"
#include "allocator/pages/page_map.h"

namespace tarn {

namespace {

// Chosen: with regions of 1 to 16 pages, at most 16 * 248 KiB are kept, and only where a CPU has used them.
constexpr std::size_t kShards = 16;
constexpr std::size_t kKeptSizes = 5;  // 1, 2, 4, 8, 16 pages

struct alignas(64) Shard {
  std::atomic<Span*> places[kKeptSizes];
};
constinit Shard kept_regions[kShards];

Shard& CurrentShard() { return kept_regions[ShardHint() % kShards]; }

// The place for regions of this many pages; kKeptSizes where they are not kept.
std::size_t KeptSize(PageCount pages) {
  if (!std::has_single_bit(pages.raw())) return kKeptSizes;
  const auto size = static_cast<std::size_t>(std::countr_zero(pages.raw()));
  return size < kKeptSizes ? size : kKeptSizes;
}

Span* NewFromPageHeap(PageCount pages, PageCount alignment, std::size_t record_objects, bool* zero) {
  // One word more: the owner.
  const std::size_t bits = record_objects + 64;
  Span* region = process_heap.page_heap.AllocateLarge(pages, alignment, zero, false, bits);
  if (region == nullptr) {
    // The caches and the page heap may keep the missing memory.
    Reclaim(ReclaimDepth::kToKernel, "tarn");
    region = process_heap.page_heap.AllocateLarge(pages, alignment, zero, false, bits);
  }
  if (region == nullptr) return nullptr;
  *RegionOwner(region) = nullptr;
  region->bucket = Span::kApiBucket;
  return region;
}

}  // namespace

Span* NewRegion(PageCount pages, PageCount alignment, std::size_t record_objects, bool* zero) {
  bool nobody_asks;
  if (zero == nullptr) zero = &nobody_asks;
  *zero = false;
  PrepareThread();
  if (record_objects == 0 && alignment <= PageCount(1)) {
    const std::size_t size = KeptSize(pages);
    if (size != kKeptSizes) {
      std::atomic<Span*>& place = CurrentShard().places[size];
      if (place.load(std::memory_order_relaxed) != nullptr) {
        if (Span* region = place.exchange(nullptr, std::memory_order_acquire)) return region;
      }
    }
  }
  SlowPathScope scope;
  if (scope.nested()) return nullptr;
  return NewFromPageHeap(pages, alignment, record_objects, zero);
}

void FreeRegion(Span* region) {
  // Whatever its user poisoned may not reach the next one.
  Unpoison(CanPoison(), region->start(), region->bytes());
  if (region->object_count == 0) {
    const std::size_t size = KeptSize(region->pages);
    if (size != kKeptSizes) {
      Span* expected = nullptr;
      if (CurrentShard().places[size].compare_exchange_strong(expected, region, std::memory_order_release,
                                                              std::memory_order_relaxed)) {
        return;
      }
    }
  }
  SlowPathScope scope;
  // A signal handler that interrupted tarn must not wait for a lock: the region is lost to it.
  if (scope.nested()) return;
  process_heap.page_heap.Deallocate(region);
}

void FreeKeptRegions() {
  for (Shard& shard : kept_regions) {
    for (std::atomic<Span*>& place : shard.places) {
      Span* region = place.exchange(nullptr, std::memory_order_acquire);
      if (region != nullptr) process_heap.page_heap.Deallocate(region);
    }
  }
}

}  // namespace tarn
