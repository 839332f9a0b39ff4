// SPDX-License-Identifier: Apache-2.0
//
// The central free list of one size class: the owner of all spans of that class.
//
// Serves the transfer cache, in batches. Gets spans from the page heap, with no lock held.
//
// A batch is taken out of the fullest span that has a free object. So the others drain and go back to the page heap as
// a whole. Spans are kept on bucket lists by the share of their objects that are out.
//
// A span whose last object came back goes to the page heap at once, unless the class may keep it. Each time that a
// class needs a span after it gave one back, it may keep one more, up to kMostKeptBytes. Kept spans go when the class
// is idle for a while, when the heap grows, and when memory is short (ReleaseKept). Sampled objects are few; their
// spans are not kept, but for the hardened mode, where all objects are among them. The last span of a class without
// caches stays, too: else a program that allocates and frees one object time and again would get and give back a span
// each time.
//
// With PlaceAtRandom, each object is any of the free ones of its span. A span that changes its bucket becomes the first
// or the last of its new one, as chance has it.
//
// This is where misuse of a small object is seen exactly: an address that no object of the class starts at, an object
// that is free already, a span that went back.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "allocator/base/intrusive_list.h"
#include "allocator/base/random_stream.h"
#include "allocator/os/lock.h"
#include "allocator/pages/page_heap.h"

namespace tarn {

struct CentralFreeListStats {
  std::size_t spans = 0;
  std::size_t live_objects = 0;  // out of their spans: with the user, in CPU caches or in the transfer cache
  std::size_t free_objects = 0;  // in spans
};

class alignas(64) CentralFreeList {
 public:
  constexpr CentralFreeList() = default;

  // `kind` is that of its spans: kSmall; kSampled for the objects of which the heap profile keeps a sample; kChecked in
  // the checked mode.
  void Init(SizeClass size_class, PageHeap* page_heap, SpanKind kind = SpanKind::kSmall) {
    size_class_ = size_class;
    page_heap_ = page_heap;
    kind_ = kind;
  }
  // From now on objects are placed at random, by numbers of the stream, which the list's lock guards. Before the first
  // object is taken.
  void PlaceAtRandom(RandomStream* random) { random_ = random; }
  // In the child of a fork, which shall not know what its parent draws.
  void RestartRandom() TARN_NO_THREAD_SAFETY_ANALYSIS {
    if (random_ != nullptr) random_->Restart();
  }

  // Takes up to `count` objects; fewer only when there is no memory for more. `count` is at most kMaxBatchObjects.
  [[nodiscard]] std::size_t RemoveRange(void** objects, std::size_t count) TARN_EXCLUDES(lock_);

  // The same for one object; null: no memory.
  [[nodiscard]] void* RemoveOne() TARN_EXCLUDES(lock_);

  // Takes objects back, at most kMaxBatchObjects; aborts on misuse. `call` names the caller in the message.
  void InsertRange(void* const* objects, std::size_t count, const char* call) TARN_EXCLUDES(lock_);
  // The same for one object of a class that no cache holds objects of: its last span stays when it is empty.
  void InsertOne(void* object, const char* call) TARN_EXCLUDES(lock_);

  // Reports the second free of an object that a cache holds, or what else is wrong with the pointer.
  [[noreturn]] TARN_COLD void ReportSecondFree(void* object, const char* call);

  // Gives the empty spans that are kept back to the page heap; the class has to learn anew that it needs them.
  void ReleaseKept() TARN_EXCLUDES(lock_);
  // The number of kept spans. A hint, without lock.
  std::size_t kept_spans() const { return kept_spans_.load(std::memory_order_relaxed); }

  // In the child of a fork, after PageHeap::AbandonInForkedChild: knows no span any more.
  void AbandonInForkedChild();

  CentralFreeListStats Stats() TARN_EXCLUDES(lock_);
  // Where readers of the snapshot find what Stats() tells.
  const std::atomic<std::size_t>* spans() const { return &spans_; }
  const std::atomic<std::size_t>* live_objects() const { return &live_objects_; }
  void CheckInvariants() TARN_EXCLUDES(lock_);
  Lock& lock() TARN_THREAD_ANNOTATION(lock_returned(lock_)) { return lock_; }

  // Much of the spans' memory is free: flushing the caches of the class would let whole spans go. A hint, without lock.
  bool IsSparse() const {
    const std::size_t spans = spans_.load(std::memory_order_relaxed);
    // Those that are kept do not count: no cache holds them. (They may have come since.)
    const std::size_t used_spans = spans - std::min(kept_spans(), spans);
    const std::size_t objects = used_spans * kSizeClasses[size_class_].objects_per_span;
    const std::size_t live = live_objects_.load(std::memory_order_relaxed);
    const std::size_t free_bytes = live > objects ? 0 : (objects - live) * kSizeClasses[size_class_].size_bytes;
    return free_bytes >= kSparseFloorBytes && free_bytes >= objects * kSizeClasses[size_class_].size_bytes / 4;
  }

 private:
  static constexpr std::size_t kBuckets = 8;

  // Bucket 0 holds the fullest spans. A span with free objects has live below count, so the result is in range.
  static std::size_t BucketOf(const Span* span) {
    return kBuckets - 1 - span->live_objects * kBuckets / (span->object_count + std::size_t{1});
  }
  // The span of an object that comes back, and which of its objects it is. Aborts where none of the class starts there.
  Span* FindSpan(const void* object, const char* call, std::uint16_t* index) const;
  // Puts the object back. False: it is free already, and nothing has changed. A span that is empty then, and that the
  // class has no use for, gets onto the list.
  [[nodiscard]] bool Return(Span* span, std::size_t index, bool keep_last, IntrusiveList<Span>* empty)
      TARN_REQUIRES(lock_);
  // Behind a change of its live objects, of which it had others.
  void Relist(Span* span) TARN_REQUIRES(lock_);
  bool KeepsEmpty(bool keep_last) const TARN_REQUIRES(lock_);
  Span* FullestSpan() TARN_REQUIRES(lock_);
  bool KeepsSpans() const { return kind_ != SpanKind::kSampled || random_ != nullptr; }
  void* Take(Span* span) TARN_REQUIRES(lock_);
  void Enlist(Span* span) TARN_REQUIRES(lock_);

  // Chosen: eight batches, as a transfer cache holds.
  static constexpr std::size_t kMostKeptBytes = std::size_t{256} << 10;

  Lock lock_ = Lock(LockRank::kCentralFreeList);
  SizeClass size_class_ = 0;
  SpanKind kind_ = SpanKind::kFree;  // set by Init
  PageHeap* page_heap_ = nullptr;
  RandomStream* random_ = nullptr;  // null: lowest address first
  IntrusiveList<Span> buckets_[kBuckets] TARN_GUARDED_BY(lock_);
  // Spans with no object out, on no bucket list.
  IntrusiveList<Span> kept_ TARN_GUARDED_BY(lock_);
  std::uint32_t may_keep_ TARN_GUARDED_BY(lock_) = 0;
  // The last span that came or went, went.
  bool gave_back_ TARN_GUARDED_BY(lock_) = false;
  // Bit i is set when bucket i has a span, and may be set when it had one.
  std::uint8_t listed_ TARN_GUARDED_BY(lock_) = 0;
  static_assert(kBuckets == 8);
  // Spans are populated for a class that has this much in spans. Chosen: a small process has dozens of classes in use,
  // most with a few objects, and 500 KiB of spans.
  static constexpr std::size_t kGrownBytes = std::size_t{64} << 10;
  // Chosen: less than this, four pages, is not worth a flush.
  static constexpr std::size_t kSparseFloorBytes = std::size_t{32} << 10;

  // Written under the lock, read without it by IsSparse().
  std::atomic<std::size_t> spans_ = 0;
  std::atomic<std::size_t> kept_spans_ = 0;
  std::atomic<std::size_t> live_objects_ = 0;
};

}  // namespace tarn
