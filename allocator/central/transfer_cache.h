// SPDX-License-Identifier: Apache-2.0
//
// The transfer cache of one size class: objects on their way from one CPU cache to another, without the spans.
//
// Between the CPU cache and the central free list, which takes what this cannot serve or hold. An array of pointers
// under a lock that is held for one memcpy of a batch; last in, first out, so that what comes out is warm.
//
// Objects in here count as live for their spans, so it is bounded in bytes and drained when memory is asked for.
#pragma once

#include <atomic>
#include <cstddef>

#include "allocator/central/central_free_list.h"
#include "allocator/os/lock.h"

namespace tarn {

class alignas(64) TransferCache {
 public:
  constexpr TransferCache() = default;

  // Before every use, by any thread; the first call counts. At the start of a process most classes are never used, and
  // setting them up would cost a page fault for each twelve of them.
  void Init(SizeClass size_class, PageHeap* page_heap) TARN_EXCLUDES(lock_) {
    // Acquire pairs with the release in InitSlow: a thread that sees the page heap sees the rest.
    if (page_heap_.load(std::memory_order_acquire) == nullptr) [[unlikely]]
      InitSlow(size_class, page_heap);
  }

  // As CentralFreeList's: up to `count` objects, fewer only when there is no memory.
  [[nodiscard]] std::size_t RemoveRange(void** objects, std::size_t count) TARN_EXCLUDES(lock_);
  void InsertRange(void* const* objects, std::size_t count, const char* call) TARN_EXCLUDES(lock_);

  // Moves everything to the central free list, and the empty spans that it keeps to the page heap. Returns the bytes of
  // the former.
  std::size_t Drain(const char* call) TARN_EXCLUDES(lock_);

  // Bytes that Drain would move, of objects and of empty spans. A hint, without lock.
  std::size_t drainable_bytes() const {
    return cached_objects() * kSizeClasses[size_class_].size_bytes +
           central_.kept_spans() * kSizeClasses[size_class_].span_pages * kPageBytes;
  }
  // True if it holds as many objects as at the last call, and some: nobody has used it, as far as this tells.
  bool WasIdleSinceSweep() {
    const std::size_t size = cached_objects();
    return size_at_sweep_.exchange(size, std::memory_order_relaxed) == size && size != 0;
  }
  std::size_t cached_objects() const { return size_.load(std::memory_order_relaxed); }
  // Where readers of the snapshot find it.
  const std::atomic<std::size_t>* cached_objects_address() const { return &size_; }
  CentralFreeList& central() { return central_; }
  const CentralFreeList& central() const { return central_; }
  Lock& lock() TARN_THREAD_ANNOTATION(lock_returned(lock_)) { return lock_; }

 private:
  // Chosen: what two CPUs pass to and fro within a time slice, bounded so that all classes together stay below 2.5 MiB.
  // Classes of which a batch is more than that have no transfer cache: their objects are spans by themselves.
  static constexpr std::size_t kMaxBatches = 8;
  static constexpr std::size_t kMaxBytes = std::size_t{64} << 10;

  static std::size_t Capacity(SizeClass size_class);
  TARN_COLD void InitSlow(SizeClass size_class, PageHeap* page_heap) TARN_EXCLUDES(lock_);
  PageHeap& page_heap() const { return *page_heap_.load(std::memory_order_relaxed); }
  // The array is made at the first insertion, for most classes are never used. Null when there is no memory.
  void** EnsureObjects() TARN_EXCLUDES(lock_);

  Lock lock_ = Lock(LockRank::kTransferCache);
  SizeClass size_class_ = 0;
  std::size_t capacity_ = 0;
  // Null: not set up. Constant afterwards, like the two above.
  std::atomic<PageHeap*> page_heap_ = nullptr;
  std::atomic<void**> objects_ = nullptr;
  // Written under the lock; read without it to pass an empty cache by and for statistics.
  std::atomic<std::size_t> size_ = 0;
  std::atomic<std::size_t> size_at_sweep_ = 0;
  CentralFreeList central_;
};

}  // namespace tarn
