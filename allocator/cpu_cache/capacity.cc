// SPDX-License-Identifier: Apache-2.0
//
// The capacities of the classes in a slab, and the sweep of a slab whose spans are sparse: see cpu_cache.h.
#include "allocator/cpu_cache/cpu_cache.h"

#include <algorithm>

#include "allocator/cpu_cache/slab_ops.h"
#include "allocator/cpu_cache/slab_words.h"

namespace tarn {

namespace {

// The number of classes that a miss looks at for capacity to steal. Chosen: bounds the time of a slow path.
constexpr int kStealTries = 8;
// Objects from this size on are cached by need in the CPU mode, too: a few of them are much of a small heap. Chosen:
// objects that a span holds no more than four of.
constexpr std::size_t kSlowStartBytes = 8192;

}  // namespace

void CpuCache::Grow(Slab* slab, SizeClass size_class, Miss miss) {
  const auto object_bytes = static_cast<std::int64_t>(kSizeClasses[size_class].size_bytes);
  // Nothing that the other classes could give up would be enough.
  if (object_bytes > slab->policy.budget_bytes) return;
  SlabCounters& counters = slab->counters[size_class];
  counters.recently_missed.store(true, std::memory_order_relaxed);
  std::uint16_t end = LoadEnd(slab, size_class);
  // Several threads may be here for the same slab; which of them leaves the mark is of no consequence.
  const auto last_miss = static_cast<Miss>(counters.last_miss.load(std::memory_order_relaxed));
  const std::size_t capacity = end - SlotsOf(size_class, end).begin;
  if (last_miss == miss && capacity >= kSizeClasses[size_class].batch_objects) return;
  counters.last_miss.store(static_cast<std::uint8_t>(miss), std::memory_order_relaxed);
  if (end == layout_[size_class].near.limit && layout_[size_class].far.limit != 0) {
    if (!MoveToFarSlots(slab, size_class)) return;
    end = LoadEnd(slab, size_class);
  }
  const std::size_t room = SlotsOf(size_class, end).limit - end;
  std::size_t step = kSizeClasses[size_class].batch_objects;
  if (mode_ == CacheMode::kThread || kSizeClasses[size_class].size_bytes >= kSlowStartBytes) {
    // The second miss may be the free of what the first one brought, which makes no use of it yet.
    const bool used_once = last_miss == Miss::kNone || (last_miss == Miss::kEmpty && miss == Miss::kFull);
    if (capacity == 0 && used_once) return;
    if (capacity < step) step = std::min(std::max<std::size_t>(capacity, 1), step - capacity);
  }
  const std::size_t by = std::min(step, room);
  if (by == 0) return;
  const std::int64_t wanted_bytes = static_cast<std::int64_t>(by) * object_bytes;
  // Taken first and given back if it was not available, so that threads in here at once never overdraw it.
  std::int64_t missing_bytes =
      wanted_bytes - slab->policy.spare_bytes.fetch_sub(wanted_bytes, std::memory_order_relaxed);
  if (missing_bytes > 0) missing_bytes -= Steal(slab, size_class, missing_bytes);
  // The rest is unavailable: grow by less, down to nothing.
  std::int64_t granted_bytes = wanted_bytes;
  if (missing_bytes > 0) {
    const std::int64_t covered_bytes = std::max<std::int64_t>(wanted_bytes - missing_bytes, 0);
    granted_bytes = covered_bytes / object_bytes * object_bytes;
  }
  const auto new_end = static_cast<std::uint16_t>(end + granted_bytes / object_bytes);
  const std::size_t rate_bytes = sampler_.rate_bytes();
  if (capacity == 0) DrawSample(slab, size_class);
  if (granted_bytes != 0 && !SlabSetEnd(size_class, slab, end, new_end)) granted_bytes = 0;
  if (capacity == 0) RestartIfRateChanged(slab, rate_bytes);
  if (granted_bytes != wanted_bytes) {
    slab->policy.spare_bytes.fetch_add(wanted_bytes - granted_bytes, std::memory_order_relaxed);
  }
}

std::int64_t CpuCache::Steal(Slab* slab, SizeClass for_class, std::int64_t wanted_bytes) {
  std::int64_t stolen_bytes = 0;
  for (int tries = 0; tries < kStealTries && stolen_bytes < wanted_bytes; ++tries) {
    const std::uint32_t hand = slab->policy.steal_hand.fetch_add(1, std::memory_order_relaxed);
    const auto victim = static_cast<SizeClass>(1 + hand % (kSizeClassCount - 1));
    if (victim == for_class) continue;
    const std::uint16_t end = LoadEnd(slab, victim);
    const std::size_t capacity = end - SlotsOf(victim, end).begin;
    if (capacity == 0) continue;
    // A class that missed since the hand was here last is in use; it is spared this time.
    if (slab->counters[victim].recently_missed.exchange(false, std::memory_order_relaxed)) continue;
    const SizeClassInfo& info = kSizeClasses[victim];
    const std::size_t by = std::min<std::size_t>(info.batch_objects, capacity);
    const auto new_end = static_cast<std::uint16_t>(end - by);
    if (!SlabSetEnd(victim, slab, end, new_end)) {
      FlushBatch(slab, victim, by, "free");
      if (!SlabSetEnd(victim, slab, end, new_end)) continue;
    }
    const std::int64_t bytes = static_cast<std::int64_t>(by) * info.size_bytes;
    slab->policy.spare_bytes.fetch_add(bytes, std::memory_order_relaxed);
    stolen_bytes += bytes;
  }
  return stolen_bytes;
}

void CpuCache::SweepIfGrown(Slab* slab) {
  const std::uint64_t growth = page_heap_->growth();
  if (slab->policy.growth_at_sweep.load(std::memory_order_relaxed) == growth) [[likely]]
    return;
  slab->policy.growth_at_sweep.store(growth, std::memory_order_relaxed);
  Sweep(slab);
}

void CpuCache::Sweep(Slab* slab) {
  for (int c = 1; c < kSizeClassCount; ++c) {
    const auto size_class = static_cast<SizeClass>(c);
    CentralFreeList& central = transfer_caches_[c].central();
    if (central.kept_spans() != 0) central.ReleaseKept();
    const std::uint64_t word = LoadWord(slab, size_class);
    const auto low_half = static_cast<std::uint32_t>(word);
    const bool idle = slab->words_at_sweep[c].exchange(low_half, std::memory_order_relaxed) == low_half;
    const bool sparse = central.IsSparse();
    if (idle || sparse) {
      // No more than the slab held: the thread may run on another CPU by now and flush there, while others push.
      const std::size_t cached = CachedObjects(size_class, word);
      for (std::size_t flushed = 0; flushed < cached;) {
        const std::size_t popped = FlushBatch(slab, size_class, kMaxBatchObjects, "free", true);
        if (popped == 0) break;
        flushed += popped;
      }
    }
    // Others may use the class.
    if (transfer_caches_[c].WasIdleSinceSweep() && idle) transfer_caches_[c].Drain("free");
    if (sparse) transfer_caches_[c].Drain("free");
  }
}

}  // namespace tarn
