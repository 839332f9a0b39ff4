// SPDX-License-Identifier: Apache-2.0
//
// Releases by the page heap: whole huge pages by age and demand, pages of huge pages in use by second looks.

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <map>
#include <vector>

#include "allocator/os/clock.h"
#include "allocator/pages/page_heap.h"
#include "size_classes/size_classes.h"
#include "tests/os/in_child.h"
#include "tests/pages/fresh_page_heap.h"
#include "tests/pages/locked_memory.h"

namespace tarn {
namespace {

using tarn_test::ExpectConsistent;
using tarn_test::FreshPageHeap;
using tarn_test::kMiB;
using tarn_test::Large;
using tarn_test::PassOverIdlePages;
using tarn_test::Touch;

// Releases until there is nothing left at that time.
std::size_t ReleaseUnwanted(PageHeap& heap, std::uint32_t now_ms) {
  std::size_t bytes = 0;
  ScavengeResult result;
  do {
    result = heap.ReleaseUnwanted(now_ms, kHugePageBytes);
    bytes += result.released_bytes;
  } while (result.next_ms == 0);
  return bytes;
}

TEST(Scavenge, FreeHugePagesStayForTheShortWindowAndNoLonger) {
  PageHeap& heap = FreshPageHeap();
  char* memory;
  std::uint32_t before_ms;
  std::uint32_t now_ms;
  // Again where a busy machine takes long between the free and the look at the clock.
  do {
    Span* span = Large(heap, 4 * kPagesPerHugePage);
    Touch(span);
    memory = static_cast<char*>(span->start());
    before_ms = CoarseMilliseconds();
    heap.Deallocate(span);
    now_ms = CoarseMilliseconds();
  } while (MillisecondsBetween(before_ms, now_ms) > 100);
  EXPECT_EQ(heap.ReleaseUnwanted(now_ms, SIZE_MAX).released_bytes, 0u);
  const ScavengeResult early = heap.ReleaseUnwanted(now_ms + Demand::kDefaultWindowMs - 200, SIZE_MAX);
  EXPECT_EQ(early.released_bytes, 0u);
  EXPECT_GT(early.next_ms, 0u);
  EXPECT_LE(early.next_ms, Demand::kDefaultWindowMs);
  EXPECT_EQ(memory[0], 1);
  EXPECT_EQ(ReleaseUnwanted(heap, now_ms + Demand::kDefaultWindowMs), 4 * kHugePageBytes);
  EXPECT_EQ(memory[0], 0);
  EXPECT_EQ(heap.ReleaseUnwanted(now_ms + Demand::kDefaultWindowMs, SIZE_MAX).next_ms, ScavengeResult::kNever);
  EXPECT_EQ(heap.Stats().free_warm_bytes, 0u);
  ExpectConsistent(heap);
}

TEST(Scavenge, StopsWhenEnoughIsReleasedAndSaysSo) {
  PageHeap& heap = FreshPageHeap();
  Span* span = Large(heap, 4 * kPagesPerHugePage);
  Touch(span);
  heap.Deallocate(span);
  const ScavengeResult result = heap.ReleaseUnwanted(CoarseMilliseconds() + 60'000, kHugePageBytes);
  EXPECT_EQ(result.released_bytes, kHugePageBytes);
  EXPECT_EQ(result.warm_huge_bytes, 3 * kHugePageBytes);
  EXPECT_EQ(result.next_ms, 0u);
}

TEST(Scavenge, PagesOfHugePagesInUseGoAtTheSecondLook) {
  PageHeap& heap = FreshPageHeap();
  std::vector<Span*> spans;
  for (std::size_t i = 0; i < kPagesPerHugePage; ++i) {
    spans.push_back(Large(heap, 1));
    Touch(spans.back());
  }
  for (std::size_t i = 0; i < 100; ++i) heap.Deallocate(spans[i]);
  EXPECT_EQ(PassOverIdlePages(heap), 0u);
  // Used again in between, so not idle.
  Span* again = Large(heap, 3);
  heap.Deallocate(again);
  EXPECT_EQ(PassOverIdlePages(heap), PageCount(97).bytes());
  EXPECT_EQ(PassOverIdlePages(heap), PageCount(3).bytes());
  EXPECT_EQ(PassOverIdlePages(heap), 0u);
  EXPECT_EQ(heap.Stats().free_warm_bytes, 0u);
  for (std::size_t i = 100; i < spans.size(); ++i) {
    EXPECT_EQ(static_cast<char*>(spans[i]->start())[0], 1);
    heap.Deallocate(spans[i]);
  }
  ExpectConsistent(heap);
}

// More huge pages, and more runs in them, than go to the kernel by one call.
TEST(Scavenge, ScatteredPagesOfManyHugePagesGoAndTheOthersStay) {
  PageHeap& heap = FreshPageHeap();
  constexpr std::size_t kSpans = 20 * kPagesPerHugePage;
  std::vector<Span*> spans;
  for (std::size_t i = 0; i < kSpans; ++i) {
    spans.push_back(Large(heap, 1));
    std::memset(spans.back()->start(), static_cast<int>(1 + i % 100), kPageBytes);
  }
  std::size_t freed_bytes = 0;
  for (std::size_t i = 0; i < kSpans; ++i) {
    // Every second page, and of every fourth huge page one page only.
    if (i / kPagesPerHugePage % 4 == 0 ? i % kPagesPerHugePage != 77 : i % 2 == 0) continue;
    freed_bytes += kPageBytes;
    heap.Deallocate(spans[i]);
    spans[i] = nullptr;
  }
  EXPECT_EQ(PassOverIdlePages(heap), 0u);
  EXPECT_EQ(PassOverIdlePages(heap), freed_bytes);
  EXPECT_EQ(heap.Stats().free_warm_bytes, 0u);
  ExpectConsistent(heap);
  for (std::size_t i = 0; i < kSpans; ++i) {
    if (spans[i] == nullptr) continue;
    const auto* const bytes = static_cast<const char*>(spans[i]->start());
    ASSERT_EQ(bytes[0], static_cast<char>(1 + i % 100));
    ASSERT_EQ(bytes[kPageBytes - 1], static_cast<char>(1 + i % 100));
    heap.Deallocate(spans[i]);
  }
  ExpectConsistent(heap);
}

TEST(Scavenge, APassOfAnEmptyHeapEnds) { EXPECT_EQ(PassOverIdlePages(FreshPageHeap()), 0u); }

TEST(Scavenge, IsAskedForWhenThereIsSomethingToGain) {
  PageHeap& heap = FreshPageHeap();
  const auto take_and_free = [&heap](std::size_t huge_pages) {
    Span* span = Large(heap, huge_pages * kPagesPerHugePage);
    Touch(span);
    heap.Deallocate(span);
  };
  constexpr std::uint32_t kBoth = PageHeap::kScavengerWanted | PageHeap::kFallen;
  take_and_free(1);
  EXPECT_EQ(heap.attention(), 0u) << "2 MiB are not worth it";
  take_and_free(8);
  EXPECT_EQ(heap.attention(), kBoth);
  heap.BeginScavenging();
  EXPECT_EQ(heap.attention(), 0u);
  take_and_free(8);
  EXPECT_EQ(heap.attention(), 0u) << "it is at work";
  heap.EndScavenging();
  take_and_free(1);
  EXPECT_EQ(heap.attention(), 0u) << "what it left is taken as what cannot be released";
  take_and_free(16);
  EXPECT_EQ(heap.attention(), kBoth);
}

TEST(Scavenge, TheRecentPeakStaysWarm) {
  constexpr std::size_t kHugePages = 100;
  PageHeap& heap = FreshPageHeap();
  Span* span = Large(heap, kHugePages * kPagesPerHugePage);
  Touch(span);
  heap.Deallocate(span);
  EXPECT_EQ(heap.Stats().free_warm_bytes, kHugePages * kHugePageBytes);
  heap.ReleaseFree(0, false);
  ExpectConsistent(heap);
}

// --- A fall of the use (ReleaseExcess) -----------------------------------------------------------------------------

// Answers kFallen without a bound; returns the bytes.
std::size_t GiveBack(PageHeap& heap, std::uint64_t ns = 1000) {
  heap.BeginGivingBack();
  std::size_t all_bytes = 0;
  PageHeap::Excess excess;
  do {
    std::size_t released_bytes = 0;
    excess = heap.ReleaseExcess(kHugePageBytes, &released_bytes);
    all_bytes += released_bytes;
  } while (excess == PageHeap::Excess::kMore);
  heap.EndGivingBack(all_bytes, ns, excess);
  return all_bytes;
}

TEST(Fall, GivesBackAllButAnEighthOfWhatIsInUse) {
  PageHeap& heap = FreshPageHeap();
  Span* kept = Large(heap, 16 * kPagesPerHugePage);
  Span* span = Large(heap, 32 * kPagesPerHugePage);
  Touch(kept);
  Touch(span);
  heap.Deallocate(span);
  EXPECT_NE(heap.attention() & PageHeap::kFallen, 0u);
  EXPECT_EQ(GiveBack(heap), 30 * kHugePageBytes);
  EXPECT_EQ(heap.attention() & PageHeap::kFallen, 0u);
  EXPECT_EQ(heap.Stats().free_warm_bytes, 2 * kHugePageBytes);
  ExpectConsistent(heap);
  heap.Deallocate(kept);
}

TEST(Fall, IsNoneWhereAQuarterOfTheUseIsFree) {
  PageHeap& heap = FreshPageHeap();
  Span* kept = Large(heap, 32 * kPagesPerHugePage);
  Span* span = Large(heap, 8 * kPagesPerHugePage);
  Touch(span);
  heap.Deallocate(span);
  EXPECT_EQ(heap.attention() & PageHeap::kFallen, 0u);
  heap.Deallocate(kept);
}

// Spans of one page that fill whole huge pages, by huge page.
using SpansByHugePage = std::map<HugePage*, std::vector<Span*>>;

SpansByHugePage FillHugePages(PageHeap& heap, std::size_t huge_pages) {
  const SizeClass size_class = MallocSizeClass(64);
  SpansByHugePage spans;
  for (std::size_t i = 0; i < huge_pages * kPagesPerHugePage; ++i) {
    Span* const span = heap.AllocateSmall(size_class);
    Touch(span);
    spans[span->huge_page].push_back(span);
  }
  return spans;
}

void FreeSome(PageHeap& heap, std::vector<Span*>* spans, std::size_t count) {
  for (; count != 0 && !spans->empty(); --count) {
    heap.Deallocate(spans->back());
    spans->pop_back();
  }
}

// A huge page of which a part went before brings the rest only. Slow paths go on until they have released as much as
// came free, so they would end too early otherwise.
TEST(Fall, CountsWhatWasResidentOfHugePages) {
  PageHeap& heap = FreshPageHeap();
  SpansByHugePage spans = FillHugePages(heap, 8);
  for (auto& [huge_page, here] : spans) FreeSome(heap, &here, kPagesPerHugePage / 2);
  GiveBack(heap);
  for (auto& [huge_page, here] : spans) FreeSome(heap, &here, kPagesPerHugePage);
  const std::size_t warm_bytes = heap.Stats().free_warm_bytes;
  const std::size_t released_bytes = GiveBack(heap);
  EXPECT_GE(released_bytes, 4 * kHugePageBytes / 2);
  EXPECT_EQ(released_bytes, warm_bytes - heap.Stats().free_warm_bytes);
  ExpectConsistent(heap);
}

// A pass stops after a while, and goes on in the next slow path. Pages that came free behind it in that time are
// not taken for pages that cannot be released.
TEST(Fall, OfPagesBehindAPassIsSeenAfterIt) {
  constexpr std::size_t kBehindPages = kPagesPerHugePage * 3 / 8;
  PageHeap& heap = FreshPageHeap();
  SpansByHugePage spans = FillHugePages(heap, 16);
  for (auto& [huge_page, here] : spans) FreeSome(heap, &here, kPagesPerHugePage / 2);
  heap.BeginGivingBack();
  std::size_t released_bytes = 0;
  ASSERT_EQ(heap.ReleaseExcess(kHugePageBytes, &released_bytes), PageHeap::Excess::kMore);
  heap.EndGivingBack(released_bytes, 1000, PageHeap::Excess::kMore);
  // The huge pages that the pass is through with: nothing free of them is resident.
  std::size_t behind = 0;
  for (auto& [huge_page, here] : spans) {
    if (here.size() < kPagesPerHugePage / 2 || huge_page->warm_pages() != 0 || ++behind > 7) continue;
    FreeSome(heap, &here, kBehindPages);
  }
  ASSERT_GE(behind, 7u);
  GiveBack(heap);
  const std::size_t left_bytes = heap.Stats().free_warm_bytes;
  EXPECT_GE(left_bytes, PageCount(7 * kBehindPages).bytes());
  EXPECT_EQ(heap.attention() & PageHeap::kFallen, 0u);
  FreeSome(heap, &spans.begin()->second, 1);
  EXPECT_NE(heap.attention() & PageHeap::kFallen, 0u);
  GiveBack(heap);
  EXPECT_LT(heap.Stats().free_warm_bytes, left_bytes / 2);
  ExpectConsistent(heap);
}

// Pages that could not be released in a huge page in use can be when all of it is free.
TEST(Fall, OfHugePagesThatBecameFreeCountsWhatWasLeftOfThem) {
  tarn_test::WhereLockedMemoryIsKept([] {
    PageHeap& heap = FreshPageHeap();
    SpansByHugePage spans = FillHugePages(heap, 16);
    for (const auto& [huge_page, here] : spans) TARN_LOCK_OR_SKIP(huge_page->first_page.start(), kHugePageBytes);
    for (auto& [huge_page, here] : spans) FreeSome(heap, &here, kPagesPerHugePage / 2);
    EXPECT_EQ(GiveBack(heap), 0u);
    const std::size_t left_bytes = heap.Stats().free_warm_bytes;
    for (const auto& [huge_page, here] : spans) {
      tarn_test::UnlockMemory(huge_page->first_page.start(), kHugePageBytes);
    }
    // Less than would be a fall by itself.
    std::size_t whole = 0;
    for (auto& [huge_page, here] : spans) {
      if (whole == 2 || here.size() != kPagesPerHugePage / 2) continue;
      EXPECT_EQ(heap.attention() & PageHeap::kFallen, 0u) << whole;
      FreeSome(heap, &here, kPagesPerHugePage);
      if (huge_page->state == HugePageState::kWholeFree) ++whole;
    }
    EXPECT_EQ(whole, 2u);
    EXPECT_NE(heap.attention() & PageHeap::kFallen, 0u);
    EXPECT_GT(GiveBack(heap), left_bytes / 2);
    ExpectConsistent(heap);
  });
}

TEST(Fall, GivesBackFreePagesOfHugePagesInUse) {
  PageHeap& heap = FreshPageHeap();
  std::vector<Span*> spans;
  // Of each four in a row, one stays.
  for (std::size_t i = 0; i < 16 * kPagesPerHugePage / 8; ++i) {
    spans.push_back(Large(heap, 8));
    Touch(spans.back());
  }
  for (std::size_t i = 0; i < spans.size(); ++i) {
    if (i % 4 != 0) heap.Deallocate(spans[i]);
  }
  EXPECT_NE(heap.attention() & PageHeap::kFallen, 0u);
  const std::size_t in_use_bytes = heap.Stats().in_use_bytes;
  EXPECT_GE(GiveBack(heap), 2 * in_use_bytes);
  EXPECT_LE(heap.Stats().free_warm_bytes, in_use_bytes / 8);
  ExpectConsistent(heap);
  for (std::size_t i = 0; i < spans.size(); i += 4) heap.Deallocate(spans[i]);
}

TEST(Fall, OfMemoryThatJustReturnedIsLeftAlone) {
  PageHeap& heap = FreshPageHeap();
  const auto rise_and_fall = [&heap] {
    Span* span = Large(heap, 64 * kPagesPerHugePage);
    Touch(span);
    heap.Deallocate(span);
    return (heap.attention() & PageHeap::kFallen) != 0;
  };
  EXPECT_TRUE(rise_and_fall());
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(GiveBack(heap, 20'000'000), 64 * kHugePageBytes);
  // The released memory comes back: a second of debt or more. A machine that takes as long to touch it has earned it
  // again.
  const bool fallen = rise_and_fall();
  EXPECT_TRUE(!fallen || std::chrono::steady_clock::now() - start >= std::chrono::seconds(1));
  ExpectConsistent(heap);
}

// Growth that free pages are too short for displaces them, also where falls are left alone.
TEST(Growth, DisplacesFreePagesThatItDoesNotFitInto) {
  PageHeap& heap = FreshPageHeap();
  std::vector<Span*> spans(16 * kMiB / kPageBytes);
  for (Span*& span : spans) {
    span = Large(heap, 1);
    Touch(span);
  }
  // A fall that is answered and followed by a return is a debt; with it, the next fall is left alone.
  bool left_alone = false;
  for (int round = 0; round < 100 && !left_alone; ++round) {
    for (std::size_t i = 0; i < spans.size(); i += 2) heap.Deallocate(spans[i]);
    left_alone = (heap.attention() & PageHeap::kFallen) == 0;
    if (left_alone) break;
    GiveBack(heap, 1'000'000);
    for (std::size_t i = 0; i < spans.size(); i += 2) {
      spans[i] = Large(heap, 1);
      Touch(spans[i]);
    }
  }
  ASSERT_TRUE(left_alone);
  EXPECT_EQ(heap.Stats().free_warm_bytes, 8 * kMiB);
  // Here the free pages serve.
  for (std::size_t i = 0; i < 64; i += 2) spans[i] = Large(heap, 1);
  EXPECT_EQ(heap.attention() & PageHeap::kFallen, 0u);
  std::vector<Span*> longer(2 * kMiB / (2 * kPageBytes));
  for (Span*& span : longer) {
    span = Large(heap, 2);
    Touch(span);
  }
  EXPECT_NE(heap.attention() & PageHeap::kFallen, 0u);
  EXPECT_EQ(heap.BeginGivingBack().freed_bytes, 0u) << "it may take no longer than others";
  EXPECT_GT(GiveBack(heap), 6 * kMiB);
  EXPECT_EQ(heap.attention() & PageHeap::kFallen, 0u);
  EXPECT_LE(heap.Stats().free_warm_bytes, heap.Stats().in_use_bytes / 8);
  ExpectConsistent(heap);
  for (Span* span : longer) heap.Deallocate(span);
}

// Taking pages out for their release is no use of them.
TEST(Fall, OfAHugePageThatWasReleasedInPartCostsNothing) {
  PageHeap& heap = FreshPageHeap();
  Span* span = Large(heap, 64 * kPagesPerHugePage);
  Touch(span);
  heap.Deallocate(span);
  EXPECT_EQ(GiveBack(heap, 20'000'000), 64 * kHugePageBytes);
  // All zero now: released once more, nothing happens, and nothing is charged.
  EXPECT_EQ(heap.ReleaseFree(0, true), 0u);
  EXPECT_EQ(GiveBack(heap), 0u);
  ExpectConsistent(heap);
}

TEST(Scavenge, AReleaseThatTheKernelRefusesChangesNothing) {
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer needs system calls of its own";
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              PageHeap& heap = FreshPageHeap();
              Span* span = Large(heap, 4 * kPagesPerHugePage);
              Span* kept = Large(heap, 10);
              Touch(span);
              heap.Deallocate(span);
              if (!tarn_test::RefuseSystemCall(SYS_madvise, ENOMEM)) return;
              const ScavengeResult result = heap.ReleaseUnwanted(CoarseMilliseconds() + 60'000, SIZE_MAX);
              TARN_REQUIRE(result.released_bytes == 0);
              TARN_REQUIRE(result.next_ms != 0);
              TARN_REQUIRE(PassOverIdlePages(heap) == 0);
              TARN_REQUIRE(PassOverIdlePages(heap) == 0);
              TARN_REQUIRE(heap.Stats().free_warm_bytes == 4 * kHugePageBytes);
              heap.CheckInvariants();
              heap.Deallocate(kept);
            }),
            "");
}

}  // namespace
}  // namespace tarn
