// SPDX-License-Identifier: Apache-2.0

#include "allocator/central/central_free_list.h"

#include <bit>

#include "allocator/central/span_objects.h"
#include "allocator/os/crash.h"
#include "allocator/pages/page_map.h"

namespace tarn {

Span* CentralFreeList::FullestSpan() {
  for (std::uint32_t listed = listed_; listed != 0; listed &= listed - 1) {
    if (Span* const span = buckets_[std::countr_zero(listed)].front()) {
      listed_ = static_cast<std::uint8_t>(listed);
      return span;
    }
  }
  listed_ = 0;
  return nullptr;
}

void CentralFreeList::Enlist(Span* span) {
  span->bucket = static_cast<std::uint8_t>(BucketOf(span));
  listed_ = static_cast<std::uint8_t>(listed_ | 1u << span->bucket);
  const bool at_end = random_ != nullptr && (random_->Next() & 1) != 0;
  at_end ? buckets_[span->bucket].PushBack(span) : buckets_[span->bucket].PushFront(span);
}

inline void* CentralFreeList::Take(Span* span) {
  if (random_ == nullptr) [[likely]]
    return TakeObject(span);
  return TakeObjectAtRandom(span, static_cast<std::uint32_t>(random_->Next()));
}

TARN_ALWAYS_INLINE void CentralFreeList::Relist(Span* span) {
  if (BucketOf(span) == span->bucket) return;
  IntrusiveList<Span>::Remove(span);
  Enlist(span);
}

void* CentralFreeList::RemoveOne() {
  lock_.Acquire();
  if (Span* const span = FullestSpan()) [[likely]] {
    void* const object = Take(span);
    live_objects_.store(live_objects_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    span->live_objects == span->object_count ? IntrusiveList<Span>::Remove(span) : Relist(span);
    lock_.Release();
    return object;
  }
  lock_.Release();
  void* object;
  return RemoveRange(&object, 1) == 0 ? nullptr : object;
}

std::size_t CentralFreeList::RemoveRange(void** objects, std::size_t count) {
  std::size_t taken = 0;
  lock_.Acquire();
  while (taken < count) {
    Span* span = FullestSpan();
    if (span == nullptr && (span = kept_.PopFront()) != nullptr) {
      kept_spans_.store(kept_spans_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
      Enlist(span);
    }
    if (span == nullptr) {
      // The span that went would have served.
      const std::size_t span_bytes = kSizeClasses[size_class_].span_pages * kPageBytes;
      const std::size_t most = kMostKeptBytes / span_bytes;
      if (gave_back_ && may_keep_ < most && KeepsSpans()) ++may_keep_;
      gave_back_ = false;
      const bool grows = spans_.load(std::memory_order_relaxed) * span_bytes >= kGrownBytes;
      // Another thread that finds the list empty now gets a span, too, which suits a class in demand.
      lock_.Release();
      span = page_heap_->AllocateSmall(size_class_, kind_, grows);
      if (span == nullptr) return taken;
      lock_.Acquire();
      spans_.store(spans_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      Enlist(span);
    }
    std::size_t here = 1;
    if (random_ == nullptr) [[likely]] {
      here = TakeObjects(span, objects + taken, count - taken);
    } else {
      objects[taken] = Take(span);
    }
    taken += here;
    live_objects_.store(live_objects_.load(std::memory_order_relaxed) + here, std::memory_order_relaxed);
    span->live_objects == span->object_count ? IntrusiveList<Span>::Remove(span) : Relist(span);
  }
  lock_.Release();
  return taken;
}

namespace {

[[noreturn]] TARN_COLD void ReportInteriorObject(const char* call, const void* address, const Span* span) {
  const std::uintptr_t start = ObjectAround(span, reinterpret_cast<std::uintptr_t>(address));
  if (start == 0) ReportMisuse(call, address, Misuse::kInteriorPointer);
  ReportMisuse({.call = call,
                .address = address,
                .kind = Misuse::kInteriorPointer,
                .start = reinterpret_cast<const void*>(start),
                .object_bytes = kSizeClasses[span->size_class].size_bytes});
}

[[noreturn]] TARN_COLD void ReportOtherClass(const char* call, const void* address, const Span* span,
                                             std::size_t given_class) {
  ReportMisuse({.call = call,
                .address = address,
                .kind = Misuse::kWrongSize,
                .object_bytes = kSizeClasses[span->size_class].size_bytes,
                .given_bytes = kSizeClasses[given_class].size_bytes});
}

}  // namespace

// The object came with the class that its page had then. If the page has another one, a second free gave it away.
Span* CentralFreeList::FindSpan(const void* object, const char* call, std::uint16_t* index) const {
  const auto address = reinterpret_cast<std::uintptr_t>(object);
  Span* const span = page_map.SpanOf(PageId::Containing(address));
  if (span == nullptr || span->kind != kind_) ReportMisuse(call, object, Misuse::kSpanAlreadyFree);
  if (span->size_class != size_class_) ReportOtherClass(call, object, span, size_class_);
  const int found = FindObject(span, address);
  if (found < 0) ReportInteriorObject(call, object, span);
  *index = static_cast<std::uint16_t>(found);
  return span;
}

void CentralFreeList::ReportSecondFree(void* object, const char* call) {
  std::uint16_t index;
  static_cast<void>(FindSpan(object, call, &index));
  ReportMisuse(call, object, Misuse::kAlreadyFree);
}

void CentralFreeList::InsertRange(void* const* objects, std::size_t count, const char* call) {
  TARN_CHECK(count <= kMaxBatchObjects);
  // Looked up before the lock is taken: an object that is out keeps its span from going away. (With a wrong pointer the
  // span may go during the lookup; the record stays readable, and the checks below catch it or the bits do.)
  Span* spans[kMaxBatchObjects];
  std::uint16_t indices[kMaxBatchObjects];
  std::size_t listed = 0;
  for (std::size_t i = 0; i < count; ++i) {
    Span* const span = FindSpan(objects[i], call, &indices[listed]);
    // Of a span that no list knows any more.
    if (page_heap_->IsAbandoned(span)) [[unlikely]]
      continue;
    spans[listed++] = span;
  }

  IntrusiveList<Span> empty;
  void* freed_twice = nullptr;
  lock_.Acquire();
  for (std::size_t i = 0; i < listed; ++i) {
    if (!Return(spans[i], indices[i], false, &empty)) {
      freed_twice =
          static_cast<char*>(spans[i]->start()) + std::size_t{indices[i]} * kSizeClasses[size_class_].size_bytes;
      break;
    }
  }
  lock_.Release();
  if (freed_twice != nullptr) ReportMisuse(call, freed_twice, Misuse::kAlreadyFree);
  while (Span* span = empty.PopFront()) page_heap_->Deallocate(span);
}

void CentralFreeList::InsertOne(void* object, const char* call) {
  std::uint16_t index;
  Span* const span = FindSpan(object, call, &index);
  if (page_heap_->IsAbandoned(span)) [[unlikely]]
    return;
  IntrusiveList<Span> empty;
  lock_.Acquire();
  const bool returned = Return(span, index, true, &empty);
  lock_.Release();
  if (!returned) ReportMisuse(call, object, Misuse::kAlreadyFree);
  if (Span* const last = empty.PopFront()) page_heap_->Deallocate(last);
}

TARN_ALWAYS_INLINE bool CentralFreeList::Return(Span* span, std::size_t index, bool keep_last,
                                                IntrusiveList<Span>* empty) {
  const bool was_full = span->live_objects == span->object_count;
  if (!ReturnObject(span, index)) return false;
  live_objects_.store(live_objects_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
  if (span->live_objects == 0) {
    if (!was_full) IntrusiveList<Span>::Remove(span);
    if (KeepsEmpty(keep_last)) {
      kept_.PushFront(span);
      kept_spans_.store(kept_spans_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      return true;
    }
    gave_back_ = true;
    spans_.store(spans_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
    // On this private list only until the lock is released; nobody else can reach an empty span.
    empty->PushFront(span);
  } else {
    was_full ? Enlist(span) : Relist(span);
  }
  return true;
}

inline bool CentralFreeList::KeepsEmpty(bool keep_last) const {
  const std::size_t kept = kept_spans_.load(std::memory_order_relaxed);
  return kept < may_keep_ || (keep_last && kept == 0 && spans_.load(std::memory_order_relaxed) == 1);
}

void CentralFreeList::ReleaseKept() {
  while (true) {
    Span* span;
    {
      LockHolder holder(lock_);
      may_keep_ = 0;
      gave_back_ = false;
      span = kept_.PopFront();
      if (span == nullptr) return;
      kept_spans_.store(kept_spans_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
      spans_.store(spans_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
    }
    page_heap_->Deallocate(span);
  }
}

void CentralFreeList::AbandonInForkedChild() TARN_NO_THREAD_SAFETY_ANALYSIS {
  lock_.ResetInForkedChild();
  for (auto& bucket : buckets_) bucket = {};
  listed_ = 0;
  kept_ = {};
  may_keep_ = 0;
  gave_back_ = false;
  spans_.store(0, std::memory_order_relaxed);
  kept_spans_.store(0, std::memory_order_relaxed);
  live_objects_.store(0, std::memory_order_relaxed);
}

CentralFreeListStats CentralFreeList::Stats() {
  LockHolder holder(lock_);
  CentralFreeListStats stats;
  stats.spans = spans_.load(std::memory_order_relaxed);
  stats.live_objects = live_objects_.load(std::memory_order_relaxed);
  stats.free_objects = stats.spans * kSizeClasses[size_class_].objects_per_span - stats.live_objects;
  return stats;
}

void CentralFreeList::CheckInvariants() {
  LockHolder holder(lock_);
  for (auto& bucket : buckets_) {
    for (Span* span = bucket.front(); span != nullptr; span = bucket.Next(span)) {
      std::size_t free_objects = 0;
      for (std::size_t i = 0; i < span->object_count; ++i) free_objects += IsFree(span, i) ? 1 : 0;
      TARN_CHECK(free_objects != 0 && free_objects + span->live_objects == span->object_count);
      TARN_CHECK(&buckets_[span->bucket] == &bucket && BucketOf(span) == span->bucket);
      TARN_CHECK((std::uint32_t{listed_} >> span->bucket & 1) != 0);
      TARN_CHECK(page_map.SpanOf(span->first_page) == span && span->size_class == size_class_);
    }
  }
  std::size_t kept = 0;
  for (Span* span = kept_.front(); span != nullptr; span = kept_.Next(span)) {
    TARN_CHECK(span->live_objects == 0 && span->size_class == size_class_);
    ++kept;
  }
  TARN_CHECK(kept == kept_spans_.load(std::memory_order_relaxed));
  TARN_CHECK(kept * kSizeClasses[size_class_].span_pages * kPageBytes <= kMostKeptBytes);
}

}  // namespace tarn
