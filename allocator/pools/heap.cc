// SPDX-License-Identifier: Apache-2.0
//
// tarn/heap.h: a BlockPool per size class, made when the class is first asked for, and large objects in regions of
// their own.
//
// Which pool an object is of, the page map tells: regions of pools are registered at each of their pages, the word
// behind the region's record names the pool, and the pool its heap. A large object is a region that starts at the
// object; no pool is named there, and the heap stands where pools have bits.
//
// The table of pools: an entry is null, then a pool, until the heap's end. The maker of a pool stores it by
// compare-exchange (release; a reader's acquire pairs with it); of two makers the second one destroys its pool.
#define TARN_C_INTERFACE_ONLY
#include "allocator/include/tarn/heap.h"

#include <errno.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <new>

#include "allocator/base/attributes.h"
#include "allocator/base/text.h"
#include "allocator/base/units.h"
#include "allocator/heap/regions.h"
#include "allocator/os/crash.h"
#include "allocator/os/thread_state.h"
#include "allocator/pages/page_map.h"
#include "allocator/pools/block_pool.h"
#include "allocator/pools/checked_mode.h"
#include "allocator/pools/handle.h"
#include "allocator/pools/registry.h"
#include "size_classes/size_classes.h"

struct tarn_heap {
  std::atomic<tarn::BlockPool*> pools[tarn::kSizeClassCount];  // first, for the hit path
  tarn::BlockBudget budget;
  tarn::ForkLock lock;
  // Under the lock.
  tarn::IntrusiveList<tarn::Span> large;
  std::size_t large_objects;
  std::size_t large_bytes;
  std::uint64_t large_allocations;
  std::uint64_t large_frees;
  bool checked;
  tarn::Span* own_region;
};

namespace tarn {

namespace {

// Beyond, a region of a pool would be larger than what is registered at each page.
constexpr std::size_t kMaxPooledBytes = BlockPool::kUsualRegionBytes / 8;

// The heap's pool that the object is of, or null: a large object, or one that does not belong to the heap. Any bit
// pattern is a valid address.
TARN_ALWAYS_INLINE BlockPool* PoolOf(const tarn_heap* heap, const void* object) {
  Span* span = page_map.SpanOf(PageId::Containing(object));
  // The test of the bucket is enough of is_region().
  if (span == nullptr || span->bucket != Span::kApiBucket) [[unlikely]]
    return nullptr;
  auto* pool = static_cast<BlockPool*>(*RegionOwner(span));
  if (pool == nullptr || pool->owner() != heap) [[unlikely]]
    return nullptr;
  return pool;
}

bool IsLargeOf(const tarn_heap* heap, Span* region) {
  return region != nullptr && region->is_region() && *RegionOwner(region) == nullptr && region->object_count == 1 &&
         *RegionBits(region) == reinterpret_cast<std::uint64_t>(heap);
}

// Aborts where no large object of the heap's starts.
Span* LargeAt(const tarn_heap* heap, const void* object, const char* call) {
  const auto address = reinterpret_cast<std::uintptr_t>(object);
  Span* region = page_map.SpanAround(address);
  if (!IsLargeOf(heap, region)) ReportMisuse(call, object, Misuse::kWrongPool);
  if (region->start_address() != address) {
    ReportMisuse({.call = call,
                  .address = object,
                  .kind = Misuse::kInteriorPointer,
                  .start = region->start(),
                  .object_bytes = region->bytes()});
  }
  return region;
}

TARN_NOINLINE BlockPool* MakePool(tarn_heap* heap, SizeClass size_class) {
  BlockPool* pool = BlockPool::Create(kSizeClasses[size_class].size_bytes, 16, &heap->budget, heap->checked, heap);
  if (pool == nullptr) return nullptr;
  BlockPool* expected = nullptr;
  if (heap->pools[size_class].compare_exchange_strong(expected, pool, std::memory_order_release,
                                                      std::memory_order_acquire)) {
    return pool;
  }
  pool->BeginDestroy("tarn_heap_allocate");
  pool->Destroy("tarn_heap_allocate");
  return expected;
}

void CountLarge(tarn_heap* heap, std::int64_t objects, std::int64_t bytes) {
  if (heap->budget.record == nullptr) return;
  CountSigned(&heap->budget.record->live_objects, objects);
  CountSigned(&heap->budget.record->live_bytes, bytes);
}

TARN_NOINLINE void* AllocateLarge(tarn_heap* heap, std::size_t bytes, std::size_t alignment) {
  constexpr std::size_t kAddressableBytes = std::size_t{1} << kAddressBits;
  if (bytes >= kAddressableBytes || alignment >= kAddressableBytes) return nullptr;
  {
    // A region may be had without a lock, and is of no use without the heap's.
    SlowPathScope scope;
    if (scope.nested()) return nullptr;
  }
  const PageCount pages = std::max(PageCount::FromBytesCeil(bytes), PageCount(1));
  if (!heap->budget.Charge(pages.bytes())) {
    if (heap->budget.record != nullptr) CountUp(&heap->budget.record->failures);
    return nullptr;
  }
  Span* region = NewRegion(pages, std::max(PageCount::FromBytesCeil(alignment), PageCount(1)), 1);
  if (region == nullptr) {
    heap->budget.Discharge(pages.bytes());
    return nullptr;
  }
  // The excess of a mapping of its own is not counted, as at its start.
  region->object_count = 1;
  region->live_objects = 1;
  *RegionBits(region) = reinterpret_cast<std::uint64_t>(heap);
  CountLarge(heap, 1, static_cast<std::int64_t>(region->bytes()));
  SlowPathScope scope;
  LockHolder holder(heap->lock.lock);
  heap->large.PushFront(region);
  ++heap->large_objects;
  heap->large_bytes += region->bytes();
  ++heap->large_allocations;
  return region->start();
}

// The charge was for the requested pages; a mapping is at most rounded up to OS pages. So the span's pages are given
// back where the two are the same, as on x86-64.
void ReleaseLarge(tarn_heap* heap, Span* region) {
  CountLarge(heap, -1, -static_cast<std::int64_t>(region->bytes()));
  heap->budget.Discharge(region->bytes());
  FreeRegion(region);
}

TARN_NOINLINE void FreeLarge(tarn_heap* heap, void* object) {
  if (object == nullptr) return;
  RequireHandle(heap, HandleKind::kHeap, "tarn_heap_free");
  Span* region;
  {
    SlowPathScope scope;
    if (scope.nested()) return;
    LockHolder holder(heap->lock.lock);
    // Under the lock: of two frees of one object at the same time, the second one finds none there.
    region = LargeAt(heap, object, "tarn_heap_free");
    *RegionBits(region) = 0;
    IntrusiveList<Span>::Remove(region);
    --heap->large_objects;
    heap->large_bytes -= region->bytes();
    ++heap->large_frees;
  }
  ReleaseLarge(heap, region);
}

std::size_t UsableBytes(const tarn_heap* heap, const void* object, const char* call) {
  const BlockPool* pool = PoolOf(heap, object);
  return pool != nullptr ? pool->stride_bytes() : LargeAt(heap, object, call)->bytes();
}

// All that misses. Regions are aligned to pages at least, so that the objects of a class whose size is a multiple of
// the alignment are aligned, too.
TARN_NOINLINE void* AllocateSlow(tarn_heap* heap, std::size_t bytes, std::size_t alignment) {
  RequireHandle(heap, HandleKind::kHeap, "tarn_heap_allocate");
  if (alignment != 0 && !std::has_single_bit(alignment)) {
    errno = EINVAL;
    return nullptr;
  }
  if (bytes > PTRDIFF_MAX) return nullptr;
  const SizeClass size_class = alignment <= 16 ? MallocSizeClass(bytes) : AlignedSizeClass(bytes, alignment);
  if (size_class == 0 || kSizeClasses[size_class].size_bytes > kMaxPooledBytes) {
    return AllocateLarge(heap, bytes, alignment);
  }
  BlockPool* pool = heap->pools[size_class].load(std::memory_order_acquire);
  if (pool == nullptr) pool = MakePool(heap, size_class);
  return pool != nullptr ? pool->Allocate() : nullptr;
}

}  // namespace

extern "C" {

TARN_EXPORT tarn_heap* tarn_heap_create(const tarn_heap_options* options) {
  Span* own_region = NewRegion(PageCount::FromBytesCeil(sizeof(tarn_heap)), PageCount(1));
  if (own_region == nullptr) {
    errno = ENOMEM;
    return nullptr;
  }
  auto* heap = ::new (own_region->start()) tarn_heap{};
  heap->own_region = own_region;
  if (options != nullptr) {
    heap->budget.limit_bytes = options->limit_bytes;
    heap->budget.record = JoinRegistry(options->name, TARN_KIND_HEAP);
  }
  heap->checked = IsChecked(options != nullptr ? options->checked : 0);
  AddForkLock(&heap->lock);
  OpenHandle(own_region, HandleKind::kHeap);
  return heap;
}

TARN_EXPORT void tarn_heap_destroy(tarn_heap* heap) {
  if (heap == nullptr) return;
  BeginEnd(heap, HandleKind::kHeap, "tarn_heap_destroy");
  tarn_registry_record* record = heap->budget.record;
  if (heap->checked) {
    const tarn_heap_stats stats = tarn_heap_get_stats(heap);
    if (stats.live_objects != 0) {
      Text<256> line;
      line << "tarn: heap " << (record != nullptr ? record->name : "without a name") << " destroyed with "
           << std::uint64_t{stats.live_objects} << " live objects, " << std::uint64_t{stats.live_bytes} << " bytes\n";
      WriteToStderr(line.view());
    }
  }
  tarn_heap_free_all(heap);
  for (std::atomic<BlockPool*>& entry : heap->pools) {
    // Null, so that what still uses the heap takes the slow path, where it is named.
    BlockPool* pool = entry.exchange(nullptr, std::memory_order_acquire);
    if (pool == nullptr) continue;
    pool->BeginDestroy("tarn_heap_destroy");
    pool->Destroy("tarn_heap_destroy");
  }
  LeaveRegistry(record);
  RemoveForkLock(&heap->lock);
  FreeHandle(heap->own_region);
}

TARN_EXPORT void* tarn_heap_allocate(tarn_heap* heap, std::size_t bytes, std::size_t alignment) {
  if (bytes <= kSmallLookupMaxBytes && alignment <= 16) [[likely]] {
    const SizeClass size_class = kSmallSizeClasses[SmallLookupIndex(bytes)];
    BlockPool* pool = heap->pools[size_class].load(std::memory_order_acquire);
    void* object;
    if (pool != nullptr && pool->TryAllocate(&object)) [[likely]]
      return object;
  }
  return AllocateSlow(heap, bytes, alignment);
}

TARN_EXPORT void tarn_heap_free(tarn_heap* heap, void* object) {
  // Null lies in no region, and so needs no test on the hit path.
  BlockPool* pool = PoolOf(heap, object);
  if (pool != nullptr) [[likely]] {
    pool->Free(object, "tarn_heap_free");
  } else {
    FreeLarge(heap, object);
  }
}

TARN_EXPORT void* tarn_heap_reallocate(tarn_heap* heap, void* object, std::size_t bytes) {
  if (object == nullptr) return tarn_heap_allocate(heap, bytes, 16);
  const std::size_t old_bytes = UsableBytes(heap, object, "tarn_heap_reallocate");
  if (bytes <= old_bytes && bytes >= old_bytes / 2) return object;
  void* moved = tarn_heap_allocate(heap, bytes, 16);
  if (moved == nullptr) return nullptr;
  std::memcpy(moved, object, std::min(bytes, old_bytes));
  tarn_heap_free(heap, object);
  return moved;
}

TARN_EXPORT void tarn_heap_free_all(tarn_heap* heap) {
  RequireHandle(heap, HandleKind::kHeap, "tarn_heap_free_all");
  for (std::atomic<BlockPool*>& entry : heap->pools) {
    BlockPool* pool = entry.load(std::memory_order_acquire);
    if (pool != nullptr) pool->FreeAll("tarn_heap_free_all");
  }
  IntrusiveList<Span> regions;
  {
    // Who frees at the same time is in the wrong, but no region goes back twice for it.
    SlowPathScope scope;
    LockHolder holder(heap->lock.lock);
    heap->large_frees += heap->large_objects;
    heap->large_objects = 0;
    heap->large_bytes = 0;
    while (Span* region = heap->large.PopFront()) {
      *RegionBits(region) = 0;
      regions.PushFront(region);
    }
  }
  while (Span* region = regions.PopFront()) ReleaseLarge(heap, region);
}

TARN_EXPORT std::size_t tarn_heap_usable_bytes(tarn_heap* heap, const void* object) {
  return object == nullptr ? 0 : UsableBytes(heap, object, "tarn_heap_usable_bytes");
}

TARN_EXPORT tarn_heap_stats tarn_heap_get_stats(tarn_heap* heap) {
  RequireHandle(heap, HandleKind::kHeap, "tarn_heap_get_stats");
  tarn_heap_stats stats = {};
  for (std::atomic<BlockPool*>& entry : heap->pools) {
    BlockPool* pool = entry.load(std::memory_order_acquire);
    if (pool == nullptr) continue;
    const BlockPoolStats part = pool->Stats();
    stats.live_objects += part.live_objects;
    stats.live_bytes += part.live_objects * pool->stride_bytes();
    stats.allocations += part.allocations;
    stats.frees += part.frees;
  }
  stats.span_bytes = __atomic_load_n(&heap->budget.used_bytes, __ATOMIC_RELAXED);
  SlowPathScope scope;
  LockHolder holder(heap->lock.lock);
  stats.live_objects += heap->large_objects;
  stats.live_bytes += heap->large_bytes;
  stats.allocations += heap->large_allocations;
  stats.frees += heap->large_frees;
  return stats;
}

}  // extern "C"

}  // namespace tarn
