// SPDX-License-Identifier: Apache-2.0
//
// Operations on a page heap over a simulated kernel (simulated_memory.h), which refuses calls and in the middle of
// calls lets another thread act. It operates on the same heap. Or the operation never comes back, because its thread
// jumped out of it or is gone in the child of a fork. Spans may not overlap, and the invariants hold.
//
// page_heap_fuzz_test.cc chooses operations by a seed, page_heap_fuzzer.cc by the input of a fuzzer. Choices has the
// functions of Random: Next, Below and OneIn.
#pragma once

#include <setjmp.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>

#include "allocator/include/tarn/snapshot.h"
#include "allocator/pages/page_heap.h"
#include "allocator/pages/page_map.h"
#include "tests/pages/simulated_memory.h"

#define REQUIRE(condition)                                                                                   \
  do {                                                                                                       \
    if (!(condition)) {                                                                                      \
      std::fprintf(stderr, "%s:%d: not so: %s (seed %llu, operation %zu)\n", __FILE__, __LINE__, #condition, \
                   static_cast<unsigned long long>(seed), operations_done);                                  \
      std::abort();                                                                                          \
    }                                                                                                        \
  } while (false)

namespace tarn {

using tarn_test::memory;

// For messages.
inline std::uint64_t seed = 1;
inline std::size_t operations_done = 0;
inline std::size_t trace_first = SIZE_MAX;
inline std::size_t trace_last = 0;

// An operation of another thread within one of ours, and one more within that.
inline constexpr int kMostDepth = 3;

template <typename Choices>
class PageHeapOperations {
 public:
  PageHeapOperations(PageHeap& heap, Choices choices) : heap_(heap), random_(choices) {}

  void Run(std::size_t operations);
  // Gives all spans back.
  void End();
  // In the middle of a system call.
  void DuringCall(const char* call);

 private:
  struct Owned {
    Span* span;
    bool abandoned;
  };

  __attribute__((noinline)) void OperateOrJump();
  void Operate();
  void AllocateSmall();
  void AllocateLarge();
  void Deallocate();
  void Resize();
  void Move();
  void Release();
  void ReleaseByOneThread();
  void GiveBack();
  void Set();
  void BeginAgain();

  void Took(Span* span);
  // Takes one out, so that no other thread of the simulation has it.
  Owned TakeAny();
  std::size_t AnyBytes() { return (random_.OneIn(3) ? random_.Below(5) : random_.Below(200)) * kPageBytes * 16; }
  void NoteState();
  void Trace(const char* what, std::size_t a = 0, std::size_t b = 0, std::size_t c = 0) const {
    if (operations_done < trace_first || operations_done > trace_last) return;
    std::printf("%zu.%d %s %zu %zu %zu digest %016llx\n", operations_done, depth_, what, a, b, c,
                static_cast<unsigned long long>(memory.digest));
  }

  PageHeap& heap_;
  Choices random_;
  std::map<std::uintptr_t, Owned> owned_;
  std::size_t owned_pages_ = 0;
  std::size_t most_pages_ = 0;
  int depth_ = 0;
  bool one_thread_is_in_ = false;  // ReleaseIdlePages is for one thread at a time
  bool jumped_ = false;
  jmp_buf start_;
  static inline PageHeapOperations* running_ = nullptr;
};

template <typename Choices>
void PageHeapOperations<Choices>::DuringCall(const char* call) {
  Trace(call);
  if (depth_ == 0 || depth_ == kMostDepth || heap_.lock().HeldByThisThread()) return;
  if (random_.OneIn(400)) {
    jumped_ = true;
    longjmp(start_, 1);
  }
  if (random_.OneIn(3)) memory.now_ms += static_cast<std::uint32_t>(random_.Below(300));
  if (!random_.OneIn(4)) return;
  Operate();
}

template <typename Choices>
void PageHeapOperations<Choices>::Run(std::size_t operations) {
  running_ = this;
  memory.during_call = [](const char* call) { running_->DuringCall(call); };
  for (std::size_t i = 0; i < operations; ++i) {
    if (i % 512 == 0) most_pages_ = random_.OneIn(2) ? random_.Below(100'000) : random_.Below(3'000);
    OperateOrJump();
    ++operations_done;
    NoteState();
    if (jumped_ && random_.OneIn(8)) {
      jumped_ = false;
      one_thread_is_in_ = false;
      heap_.RepairInForkedChild();
    }
    if (!jumped_ && operations_done % 128 == 0) heap_.CheckInvariants();
  }
  memory.during_call = nullptr;
}

template <typename Choices>
void PageHeapOperations<Choices>::End() {
  while (!owned_.empty()) {
    heap_.Deallocate(owned_.begin()->second.span);
    owned_.erase(owned_.begin());
  }
  owned_pages_ = 0;
  heap_.RepairInForkedChild();
  heap_.CheckInvariants();
}

// A jump from an operation loses what it had on its way. The heap goes on, and what is in flight comes back when the
// heap is repaired.
template <typename Choices>
void PageHeapOperations<Choices>::OperateOrJump() {
  if (setjmp(start_) == 0) Operate();
  depth_ = 0;
}

template <typename Choices>
void PageHeapOperations<Choices>::Operate() {
  ++depth_;
  const std::size_t pick = random_.Below(1000);
  if (pick < 25) {
    Release();
  } else if (pick < 45) {
    if (!one_thread_is_in_) ReleaseByOneThread();
  } else if (pick < 60) {
    if (!one_thread_is_in_) GiveBack();
  } else if (pick < 75) {
    Set();
  } else if (pick < 150) {
    Resize();
  } else if (pick < 180) {
    Move();
  } else if (pick < 181) {
    BeginAgain();
  } else if (pick < 190) {
    memory.now_ms += static_cast<std::uint32_t>(random_.Below(random_.OneIn(4) ? 40'000 : 800));
  } else if (owned_pages_ < most_pages_ && pick < 700) {
    random_.OneIn(2) ? AllocateSmall() : AllocateLarge();
  } else {
    Deallocate();
  }
  --depth_;
}

template <typename Choices>
void PageHeapOperations<Choices>::AllocateSmall() {
  const auto size_class = static_cast<SizeClass>(1 + random_.Below(kSizeClassCount - 1));
  Trace("small", size_class);
  Span* span = heap_.AllocateSmall(size_class, random_.OneIn(8) ? SpanKind::kSampled : SpanKind::kSmall);
  if (span != nullptr) Took(span);
}

template <typename Choices>
void PageHeapOperations<Choices>::AllocateLarge() {
  const std::size_t kind = random_.Below(200);
  std::size_t pages = 1 + random_.Below(kind < 100 ? 40 : kind < 170 ? 300 : 6000);
  if (kind == 199) pages = (200 + random_.Below(200)) * kPagesPerHugePage;
  const std::size_t alignment = random_.OneIn(6) ? std::size_t{1} << random_.Below(11) : 1;
  const bool prefer_zero = random_.OneIn(3);
  bool zero = false;
  Trace("large", pages, alignment, prefer_zero ? 1 : 0);
  Span* span = heap_.AllocateLarge(PageCount(pages), PageCount(alignment), &zero, prefer_zero, random_.Below(3) * 100);
  memory.Note(zero ? 1 : 0);
  if (span == nullptr) return;
  REQUIRE(span->pages.raw() == pages && span->first_page.raw() % alignment == 0);
  Took(span);
}

template <typename Choices>
void PageHeapOperations<Choices>::Took(Span* span) {
  memory.Note(span->start_address() - memory.base);
  memory.Note(span->pages.raw());
  REQUIRE(page_map.SpanOf(span->first_page) == span);
  const auto next = owned_.upper_bound(span->start_address());
  REQUIRE(next == owned_.end() || span->start_address() + span->bytes() <= next->first);
  if (next != owned_.begin()) {
    const Span* before = std::prev(next)->second.span;
    REQUIRE(before->start_address() + before->bytes() <= span->start_address());
  }
  owned_.emplace(span->start_address(), Owned{span, heap_.IsAbandoned(span)});
  owned_pages_ += span->pages.raw();
}

template <typename Choices>
typename PageHeapOperations<Choices>::Owned PageHeapOperations<Choices>::TakeAny() {
  if (owned_.empty()) return {nullptr, false};
  const std::uintptr_t extent = owned_.rbegin()->first - owned_.begin()->first + 1;
  const auto at = owned_.lower_bound(owned_.begin()->first + random_.Next() % extent);
  const Owned owned = at->second;
  owned_pages_ -= owned.span->pages.raw();
  owned_.erase(at);
  return owned;
}

template <typename Choices>
void PageHeapOperations<Choices>::Deallocate() {
  const Owned owned = TakeAny();
  if (owned.span == nullptr) return;
  Trace("free", owned.span->start_address() - memory.base, owned.span->pages.raw());
  REQUIRE(heap_.IsAbandoned(owned.span) == owned.abandoned);
  heap_.Deallocate(owned.span);
}

template <typename Choices>
void PageHeapOperations<Choices>::Resize() {
  const Owned owned = TakeAny();
  if (owned.span == nullptr) return;
  const std::size_t old_pages = owned.span->pages.raw();
  if (owned.span->kind == SpanKind::kLarge || owned.span->kind == SpanKind::kMapped) {
    const std::size_t pages = 1 + random_.Below(random_.OneIn(3) ? 3 * old_pages + 1000 : 2 * old_pages);
    Trace("resize", owned.span->start_address() - memory.base, old_pages, pages);
    const bool resized = heap_.ResizeLarge(owned.span, PageCount(pages));
    memory.Note(resized ? 1 : 0);
    REQUIRE(owned.span->pages.raw() == (resized ? pages : old_pages));
  }
  Took(owned.span);
}

template <typename Choices>
void PageHeapOperations<Choices>::Move() {
  const Owned owned = TakeAny();
  if (owned.span == nullptr) return;
  const std::size_t old_pages = owned.span->pages.raw();
  if (owned.span->kind == SpanKind::kLarge || owned.span->kind == SpanKind::kMapped) {
    const std::size_t pages = old_pages + random_.Below(old_pages);
    Trace("move", owned.span->start_address() - memory.base, old_pages, pages);
    const bool moved = heap_.MoveLarge(owned.span, PageCount(pages));
    memory.Note(moved ? 1 : 0);
    REQUIRE(owned.span->pages.raw() == (moved ? pages : old_pages));
  }
  Took(owned.span);
}

template <typename Choices>
void PageHeapOperations<Choices>::Release() {
  const std::size_t bytes = AnyBytes();
  const std::size_t pick = random_.Below(6);
  Trace("release", pick, bytes);
  if (pick < 2) {
    memory.Note(heap_.ReleaseFree(bytes, pick == 0));
  } else if (pick < 3) {
    memory.Note(heap_.ReleaseOldest(bytes));
  } else if (pick < 5) {
    const ScavengeResult result = heap_.ReleaseUnwanted(memory.now_ms, bytes);
    memory.Note(result.released_bytes);
    memory.Note(result.warm_huge_bytes);
    memory.Note(result.next_ms);
  } else {
    void* const piece = heap_.AllocateMetadata(random_.Below(20'000), 64, MetadataKind::kOther);
    memory.Note(piece == nullptr ? 0 : reinterpret_cast<std::uintptr_t>(piece) - memory.base);
    const std::uintptr_t address = memory.base + random_.Below(std::size_t{8} << 30);
    memory.Note(heap_.ServesAddress(address) ? 1 : 0);
  }
}

template <typename Choices>
void PageHeapOperations<Choices>::ReleaseByOneThread() {
  one_thread_is_in_ = true;
  Trace("scavenge");
  if (random_.OneIn(2)) heap_.BeginScavenging();
  const auto which = static_cast<PageHeap::Idle>(random_.Below(3));
  for (std::size_t rounds = 1 + random_.Below(20); rounds != 0; --rounds) {
    std::size_t released_bytes = 0;
    const bool end = heap_.ReleaseIdlePages(random_.OneIn(2) ? SIZE_MAX : AnyBytes(), &released_bytes, which);
    memory.Note(released_bytes);
    if (end && random_.OneIn(2)) break;
  }
  if (!random_.OneIn(4)) heap_.EndScavenging(random_.OneIn(2));
  one_thread_is_in_ = false;
}

template <typename Choices>
void PageHeapOperations<Choices>::GiveBack() {
  one_thread_is_in_ = true;
  Trace("give back");
  const PageHeap::Fall fall = heap_.BeginGivingBack();
  memory.Note(fall.freed_bytes);
  memory.Note(fall.in_use_bytes);
  std::size_t sum_bytes = 0;
  PageHeap::Excess excess = PageHeap::Excess::kMore;
  for (std::size_t rounds = 1 + random_.Below(30); rounds != 0 && excess == PageHeap::Excess::kMore; --rounds) {
    std::size_t released_bytes = 0;
    excess = heap_.ReleaseExcess(AnyBytes(), &released_bytes);
    sum_bytes += released_bytes;
  }
  memory.Note(sum_bytes);
  heap_.EndGivingBack(sum_bytes, random_.Below(20'000'000), excess);
  one_thread_is_in_ = false;
}

template <typename Choices>
void PageHeapOperations<Choices>::Set() {
  const std::size_t pick = random_.Below(9);
  Trace("set", pick);
  switch (pick) {
    case 0:
      return heap_.SetNextCheck(random_.Below(1 << 24));
    case 1:
      return heap_.SetNextPeak(random_.OneIn(2) ? 0 : random_.Below(1 << 24));
    case 2:
      return heap_.SetHardLimit(random_.OneIn(4) ? PageCount(owned_pages_).bytes() + random_.Below(1 << 26) : SIZE_MAX);
    case 3: {
      PageHeap::Goals goals;
      if (random_.OneIn(2)) {
        goals.soft_bytes = PageCount(most_pages_).bytes() / 2 + random_.Below(1 << 26);
        goals.critical_bytes = goals.soft_bytes + random_.Below(1 << 26);
        goals.most_bytes = goals.critical_bytes + random_.Below(1 << 26);
      }
      return heap_.SetGoals(goals);
    }
    case 4:
      return heap_.SetReleaseDelay(random_.OneIn(2) ? 1500 : static_cast<std::uint32_t>(random_.Below(3000)));
    case 5:
      return heap_.AllowHugePages(!random_.OneIn(4));
    case 6:
      memory.refusals = random_.OneIn(2) ? 0 : 2 + random_.Below(60);
      return;
    case 7:
      return heap_.SetFalling(random_.OneIn(2));
    default:
      memory.has_huge_pages = !random_.OneIn(4);
  }
}

// In the child of a fork. Nothing is in the middle of an operation there.
template <typename Choices>
void PageHeapOperations<Choices>::BeginAgain() {
  if (depth_ != 1) return;
  Trace("begin again");
  jumped_ = false;
  if (random_.OneIn(2)) return heap_.RepairInForkedChild();
  heap_.AbandonInForkedChild();
  for (auto& [address, owned] : owned_) owned.abandoned = true;
}

template <typename Choices>
void PageHeapOperations<Choices>::NoteState() {
  const PageHeapStats stats = heap_.Stats();
  std::uint64_t words[sizeof(stats) / sizeof(std::uint64_t)];
  std::memcpy(words, &stats, sizeof(words));
  for (const std::uint64_t word : words) memory.Note(word);
  const tarn_snapshot_pages* published = heap_.published();
  std::uint64_t fields[sizeof(*published) / sizeof(std::uint64_t)];
  std::memcpy(fields, published, sizeof(fields));
  for (const std::uint64_t field : fields) memory.Note(field);
  memory.Note(heap_.attention());
  memory.Note(heap_.growth());
  memory.Note(heap_.fresh_bytes());
  Trace("state");
}

}  // namespace tarn

#undef REQUIRE
