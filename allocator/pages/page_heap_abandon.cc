// SPDX-License-Identifier: Apache-2.0
//
// A new beginning for the child of a fork that ran no handlers (life/fork.cc), where another thread held a lock of the
// heap: what the lock guarded is half changed, and that thread is not there to finish it.
//
// Everything that the page heap knew is left alone for good. Memory in use stays as it is and keeps its entries in
// the page map. So objects can be read, written, resized by a copy and freed, but freed memory is not used again. New
// spans come from new reservations. A span is told to be of before by its record, which lies in an old reservation of
// metadata. The list of these can be read in any state (metadata_source.h).
#include <cstring>
#include <new>

#include "allocator/os/virtual_memory.h"
#include "allocator/pages/page_heap.h"
#include "allocator/pages/page_map.h"

namespace tarn {

void PageHeap::AbandonInForkedChild() TARN_NO_THREAD_SAFETY_ANALYSIS {
  MetadataReservation* old = metadata_source_.first();
  MetadataReservation* const older = abandoned_;
  if (old != nullptr && older != nullptr) {
    MetadataReservation* last = old;
    while (last->next != nullptr) last = last->next;
    last->next = older;
  }
  const Demand demand = demand_;
  const std::uint64_t check_at_bytes = check_at_bytes_;
  const std::uint64_t fresh_bytes = fresh_bytes_.load(std::memory_order_relaxed);
  const std::uint64_t growth = growth_.load(std::memory_order_relaxed);
  const HugePages huge_pages = huge_pages_;
  const Bounds bounds = bounds_;
  // As at the start (heap/process_heap.h). The constructor would take 700 bytes of code.
  std::memset(static_cast<void*>(this), 0, sizeof(*this));
  ::new (&lock_) Lock(LockRank::kPageHeap);
  abandoned_ = old != nullptr ? old : older;
  demand_ = demand;
  check_at_bytes_ = check_at_bytes;
  fresh_bytes_.store(fresh_bytes, std::memory_order_relaxed);
  growth_.store(growth, std::memory_order_relaxed);
  huge_pages_ = huge_pages;
  bounds_ = bounds;
  bounds_.ForgetPassing();
}

bool PageHeap::LiesInAbandoned(const Span* span) const {
  const auto address = reinterpret_cast<std::uintptr_t>(span);
  for (const MetadataReservation* old = abandoned_; old != nullptr; old = old->next) {
    if (address >= old->start && address < old->end) return true;
  }
  return false;
}

void PageHeap::DeallocateAbandoned(Span* span) {
  page_map.Unregister(span);
  if (span->kind == SpanKind::kMapped) {
    Unreserve(span->start(), PageCount(span->mapping_pages).bytes());
  } else {
    static_cast<void>(Release(span->start(), span->bytes()));
  }
}

}  // namespace tarn
