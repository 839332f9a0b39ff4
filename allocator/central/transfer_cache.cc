// SPDX-License-Identifier: Apache-2.0

#include "allocator/central/transfer_cache.h"

#include <algorithm>

namespace tarn {

std::size_t TransferCache::Capacity(SizeClass size_class) {
  const SizeClassInfo& info = kSizeClasses[size_class];
  const std::size_t batch = info.batch_objects;
  return std::min(kMaxBytes / info.size_bytes / batch, kMaxBatches) * batch;
}

void TransferCache::InitSlow(SizeClass size_class, PageHeap* page_heap) {
  LockHolder holder(lock_);
  if (page_heap_.load(std::memory_order_relaxed) != nullptr) return;
  size_class_ = size_class;
  capacity_ = Capacity(size_class);
  central_.Init(size_class, page_heap);
  page_heap_.store(page_heap, std::memory_order_release);
}

void** TransferCache::EnsureObjects() {
  void** objects = objects_.load(std::memory_order_acquire);
  if (objects != nullptr) return objects;
  auto* fresh = static_cast<void**>(
      page_heap().AllocateMetadata(capacity_ * sizeof(void*), alignof(void*), MetadataKind::kCaches));
  if (fresh == nullptr) return nullptr;
  // Two threads may come here at once; the loser's array is lost, which is at most one per class and process.
  if (objects_.compare_exchange_strong(objects, fresh, std::memory_order_acq_rel)) return fresh;
  return objects;
}

std::size_t TransferCache::RemoveRange(void** objects, std::size_t count) {
  // A hint only: an insert of this moment is missed, and the central free list serves.
  if (size_.load(std::memory_order_relaxed) != 0) {
    LockHolder holder(lock_);
    const std::size_t size = size_.load(std::memory_order_relaxed);
    const std::size_t taken = std::min(count, size);
    void** const from = objects_.load(std::memory_order_relaxed) + (size - taken);
    std::copy(from, from + taken, objects);
    size_.store(size - taken, std::memory_order_relaxed);
    // A part of a batch is enough: the caller needs one object now, and the rest is on its way anyhow.
    if (taken != 0) return taken;
  }
  if (page_heap().falling()) [[unlikely]]
    page_heap().SetFalling(false);
  return central_.RemoveRange(objects, count);
}

void TransferCache::InsertRange(void* const* objects, std::size_t count, const char* call) {
  if (size_.load(std::memory_order_relaxed) + count <= capacity_ && !page_heap().falling()) {
    if (void** const slots = EnsureObjects()) {
      LockHolder holder(lock_);
      const std::size_t size = size_.load(std::memory_order_relaxed);
      if (size + count <= capacity_) {
        std::copy(objects, objects + count, slots + size);
        // Release: the child of a fork without handlers (life/fork.cc) finds no size without its objects.
        size_.store(size + count, std::memory_order_release);
        return;
      }
    }
  }
  central_.InsertRange(objects, count, call);
}

std::size_t TransferCache::Drain(const char* call) {
  std::size_t drained_objects = 0;
  while (true) {
    void* batch[kMaxBatchObjects];
    std::size_t count;
    {
      LockHolder holder(lock_);
      const std::size_t size = size_.load(std::memory_order_relaxed);
      count = std::min(size, kMaxBatchObjects);
      void** const from = objects_.load(std::memory_order_relaxed) + (size - count);
      std::copy(from, from + count, batch);
      size_.store(size - count, std::memory_order_relaxed);
    }
    if (count == 0) {
      central_.ReleaseKept();
      return drained_objects * kSizeClasses[size_class_].size_bytes;
    }
    central_.InsertRange(batch, count, call);
    drained_objects += count;
  }
}

}  // namespace tarn
