// SPDX-License-Identifier: Apache-2.0
//
// Releases of locked memory, which the kernel refuses before Linux 5.18; and what counts as released.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "allocator/os/clock.h"
#include "allocator/pages/page_heap.h"
#include "tests/os/mapping_facts.h"
#include "tests/pages/fresh_page_heap.h"
#include "tests/pages/locked_memory.h"

namespace tarn {
namespace {

using tarn_test::ExpectConsistent;
using tarn_test::FreshPageHeap;
using tarn_test::Large;
using tarn_test::PassOverIdlePages;
using tarn_test::ResidentBytes;
using tarn_test::Touch;
using tarn_test::UnlockMemory;
using tarn_test::WhereLockedMemoryIsKept;

// Less time has passed than that after which refused memory is tried again: a busy machine may have stood still.
bool IsSoonAfter(std::uint32_t start_ms) { return MillisecondsBetween(start_ms, CoarseMilliseconds()) < 9000; }

// The heap's first huge page, free after that many pages of it were used.
void UseAndFree(PageHeap& heap, std::size_t pages) {
  Span* const span = Large(heap, pages);
  Touch(span);
  heap.Deallocate(span);
}

TEST(Release, CountsWhatWasResident) {
  constexpr std::size_t kUsed = 100;
  const std::size_t bytes = PageCount(kUsed).bytes();
  {
    PageHeap& heap = FreshPageHeap();
    UseAndFree(heap, kUsed);
    EXPECT_EQ(heap.Stats().free_warm_bytes, bytes);
    EXPECT_EQ(heap.ReleaseFree(0, false), bytes);
    EXPECT_EQ(heap.Stats().released_bytes_total, bytes);
  }
  {
    PageHeap& heap = FreshPageHeap();
    UseAndFree(heap, kUsed);
    EXPECT_EQ(heap.ReleaseOldest(SIZE_MAX), bytes);
    EXPECT_EQ(heap.Stats().released_bytes_total, bytes);
  }
  {
    PageHeap& heap = FreshPageHeap();
    UseAndFree(heap, kUsed);
    EXPECT_EQ(heap.ReleaseUnwanted(CoarseMilliseconds() + 60'000, SIZE_MAX).released_bytes, bytes);
    EXPECT_EQ(heap.Stats().released_bytes_total, bytes);
  }
  {
    PageHeap& heap = FreshPageHeap();
    UseAndFree(heap, kUsed);
    std::size_t released_bytes = 0;
    EXPECT_EQ(heap.ReleaseExcess(SIZE_MAX, &released_bytes), PageHeap::Excess::kDone);
    EXPECT_EQ(released_bytes, bytes);
    EXPECT_EQ(heap.Stats().released_bytes_total, bytes);
  }
}

// A request goes on until it has what it asks for: huge pages that were hardly used do not count as whole ones.
TEST(Release, GoesOnUntilEnoughWasResident) {
  PageHeap& heap = FreshPageHeap();
  std::vector<Span*> wholes;
  for (int i = 0; i < 8; ++i) wholes.push_back(Large(heap, kPagesPerHugePage, kPagesPerHugePage));
  for (Span* whole : wholes) heap.Deallocate(whole);
  heap.ReleaseFree(0, false);
  // Nothing is resident now. Each object takes a huge page, and a half of it.
  std::vector<Span*> parts;
  for (int i = 0; i < 8; ++i) parts.push_back(Large(heap, kPagesPerHugePage / 2 + 1));
  for (Span* part : parts) Touch(part);
  for (Span* part : parts) heap.Deallocate(part);
  const std::size_t each_bytes = PageCount(kPagesPerHugePage / 2 + 1).bytes();
  EXPECT_EQ(heap.ReleaseOldest(3 * each_bytes), 3 * each_bytes);
  EXPECT_EQ(heap.Stats().free_warm_bytes, 5 * each_bytes);
  ExpectConsistent(heap);
}

// Three huge pages, free one after the other.
struct ThreeFree {
  PageHeap& heap = FreshPageHeap();
  char* starts[3];
  ThreeFree() {
    Span* spans[3];
    for (int i = 0; i < 3; ++i) {
      spans[i] = Large(heap, kPagesPerHugePage, kPagesPerHugePage);
      starts[i] = static_cast<char*>(spans[i]->start());
      Touch(spans[i]);
    }
    for (Span* span : spans) heap.Deallocate(span);
  }
};

// From Linux 5.18 on. What the kernel gives in its place is locked, too.
TEST(Release, TakesLockedMemoryWhichStaysLocked) {
  ThreeFree three;
  char* const start = three.starts[0];
  TARN_LOCK_OR_SKIP(start, 2 * kHugePageBytes);
  char* const probe = static_cast<char*>(Reserve(kPageBytes, kPageBytes));
  ASSERT_TRUE(probe != nullptr && Commit(probe, kPageBytes));
  TARN_LOCK_OR_SKIP(probe, kPageBytes);
  const bool releases = Release(probe, kPageBytes);
  Unreserve(probe, kPageBytes);
  if (!releases) GTEST_SKIP() << "the kernel keeps locked memory";
  EXPECT_TRUE(IsLocked(start, kHugePageBytes));
  EXPECT_FALSE(IsLocked(three.starts[2], kHugePageBytes));
  EXPECT_EQ(three.heap.ReleaseFree(0, false), 3 * kHugePageBytes);
  EXPECT_EQ(three.heap.Stats().free_warm_bytes, 0u);
  EXPECT_EQ(ResidentBytes(start, 2 * kHugePageBytes), 0u);
  start[0] = 1;
  if (!tarn_test::MappingFlags(start).empty()) {
    EXPECT_EQ(tarn_test::LockedBytes(start), OsPageBytes());
  }
  ExpectConsistent(three.heap);
  // Pages of a huge page in use.
  start[0] = 0;
  Span* const first = Large(three.heap, 4);
  Span* const second = Large(three.heap, 4);
  Touch(first);
  Touch(second);
  ASSERT_TRUE(IsLocked(second->start(), second->bytes()));
  three.heap.Deallocate(first);
  EXPECT_EQ(three.heap.ReleaseFree(0, true), PageCount(4).bytes());
  ExpectConsistent(three.heap);
}

// A commit brings all of it there, so none is made ahead.
TEST(Commit, IsNotAheadWhereMemoryIsLocked) {
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer has too much memory for that";
  EXPECT_EQ(
      tarn_test::ComplaintOfChild([] {
        if (mlockall(MCL_FUTURE) != 0) return;
        // RLIMIT_MEMLOCK counts addresses.
        void* const probe = Reserve(std::size_t{512} << 20, OsPageBytes());
        if (probe == nullptr) return;
        Unreserve(probe, std::size_t{512} << 20);
        PageHeap& heap = FreshPageHeap();
        for (int i = 0; i < 32; ++i) Large(heap, kPagesPerHugePage);
        const PageHeapStats stats = heap.Stats();
        TARN_REQUIRE(stats.in_use_bytes == 32 * kHugePageBytes);
        TARN_REQUIRE(stats.free_zero_bytes == 0);
        TARN_REQUIRE(stats.metadata_block_bytes + stats.in_use_bytes + stats.uncommitted_bytes == stats.reserved_bytes);
      }),
      "");
}

TEST(RefusedRelease, OfALockedPageKeepsItsHugePage) {
  WhereLockedMemoryIsKept([] {
    ThreeFree three;
    // Of the one that is tried first.
    char* const locked = three.starts[0] + kHugePageBytes / 2;
    TARN_LOCK_OR_SKIP(locked, kPageBytes);
    const std::uint32_t start_ms = CoarseMilliseconds();
    EXPECT_EQ(three.heap.ReleaseFree(0, false), 2 * kHugePageBytes);
    EXPECT_EQ(three.heap.Stats().free_warm_bytes, kHugePageBytes) << "what is locked counts as resident";
    EXPECT_EQ(three.heap.Stats().released_bytes_total, 2 * kHugePageBytes);
    EXPECT_EQ(ResidentBytes(three.starts[1], kHugePageBytes), 0u);
    EXPECT_GE(ResidentBytes(three.starts[0], kHugePageBytes), kPageBytes);
    EXPECT_EQ(locked[0], 1);
    ExpectConsistent(three.heap);
    // Not at once again: by then it could have been taken.
    UnlockMemory(locked, kPageBytes);
    std::size_t soon_bytes = three.heap.ReleaseFree(0, false) + three.heap.ReleaseOldest(SIZE_MAX);
    soon_bytes += three.heap.ReleaseUnwanted(CoarseMilliseconds() + 60'000, SIZE_MAX).released_bytes;
    if (IsSoonAfter(start_ms)) {
      EXPECT_EQ(soon_bytes, 0u);
    }
    // On request it is tried.
    EXPECT_EQ(three.heap.ReleaseFree(0, true), kHugePageBytes - soon_bytes);
    EXPECT_EQ(three.heap.Stats().free_warm_bytes, 0u);
    EXPECT_EQ(ResidentBytes(three.starts[0], kHugePageBytes), 0u);
    ExpectConsistent(three.heap);
  });
}

TEST(RefusedRelease, OfLockedHugePagesDoesNotStopAnyKindOfRelease) {
  WhereLockedMemoryIsKept([] {
    for (int kind = 0; kind < 3; ++kind) {
      ThreeFree three;
      TARN_LOCK_OR_SKIP(three.starts[0], kHugePageBytes);
      std::size_t released_bytes = 0;
      switch (kind) {
        case 0:
          released_bytes = three.heap.ReleaseOldest(SIZE_MAX);
          break;
        case 1:
          released_bytes = three.heap.ReleaseUnwanted(CoarseMilliseconds() + 60'000, SIZE_MAX).released_bytes;
          break;
        case 2:
          EXPECT_EQ(three.heap.ReleaseExcess(SIZE_MAX, &released_bytes), PageHeap::Excess::kDone);
          break;
      }
      EXPECT_EQ(released_bytes, 2 * kHugePageBytes) << kind;
      EXPECT_EQ(three.heap.Stats().free_warm_bytes, kHugePageBytes) << kind;
      UnlockMemory(three.starts[0], kHugePageBytes);
      ExpectConsistent(three.heap);
    }
  });
}

// Locked memory is resident, so it serves before other memory. It is tried again when it is free again.
TEST(RefusedRelease, IsTriedAgainOfWhatIsFreeAnew) {
  WhereLockedMemoryIsKept([] {
    ThreeFree three;
    TARN_LOCK_OR_SKIP(three.starts[1], kHugePageBytes);
    EXPECT_EQ(three.heap.ReleaseFree(0, false), 2 * kHugePageBytes);
    UnlockMemory(three.starts[1], kHugePageBytes);
    bool zero = true;
    Span* const again = Large(three.heap, kPagesPerHugePage, 1, &zero);
    EXPECT_EQ(again->start(), three.starts[1]);
    EXPECT_FALSE(zero);
    three.heap.Deallocate(again);
    EXPECT_EQ(three.heap.ReleaseFree(0, false), kHugePageBytes);
    ExpectConsistent(three.heap);
  });
}

TEST(RefusedRelease, OfAHugePageInUseLeavesTheOthers) {
  WhereLockedMemoryIsKept([] {
    PageHeap& heap = FreshPageHeap();
    std::vector<Span*> spans;
    for (std::size_t i = 0; i < 4 * kPagesPerHugePage; ++i) spans.push_back(Large(heap, 1));
    for (Span* span : spans) Touch(span);
    // Every second page of each huge page is free, and one of them is locked.
    Span* const locked = spans[kPagesPerHugePage + 7];
    void* const locked_start = locked->start();
    TARN_LOCK_OR_SKIP(locked_start, kPageBytes);
    std::size_t freed = 0;
    for (std::size_t i = 1; i < spans.size(); i += 2) {
      heap.Deallocate(spans[i]);
      ++freed;
    }
    const std::uint32_t start_ms = CoarseMilliseconds();
    EXPECT_EQ(PassOverIdlePages(heap), 0u);
    EXPECT_EQ(PassOverIdlePages(heap), PageCount(freed - 1).bytes());
    EXPECT_EQ(heap.Stats().free_warm_bytes, kPageBytes);
    EXPECT_EQ(heap.Stats().released_bytes_total, PageCount(freed - 1).bytes());
    ExpectConsistent(heap);
    UnlockMemory(locked_start, kPageBytes);
    // By age it is left alone for a while; a limit and a request take it.
    const std::size_t soon_bytes = PassOverIdlePages(heap);
    if (IsSoonAfter(start_ms)) {
      EXPECT_EQ(soon_bytes, 0u);
    }
    EXPECT_EQ(heap.ReleaseFree(0, true), kPageBytes - soon_bytes);
    ExpectConsistent(heap);
  });
}

}  // namespace
}  // namespace tarn
