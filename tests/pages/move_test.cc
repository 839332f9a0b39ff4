// SPDX-License-Identifier: Apache-2.0
//
// Large objects that move to a mapping of their own to grow: their contents go along, the old pages are free and zero.

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cstring>
#include <vector>

#include "allocator/os/virtual_memory.h"
#include "allocator/pages/page_heap.h"
#include "allocator/pages/page_map.h"
#include "tests/os/in_child.h"
#include "tests/pages/fresh_page_heap.h"

namespace tarn {
namespace {

using tarn_test::ExpectConsistent;
using tarn_test::FreshPageHeap;
using tarn_test::Large;

using tarn_test::kMiB;
constexpr std::size_t kPagesPerMiB = kMiB / kPageBytes;

void StampPages(const Span* span, std::size_t from_page = 0) {
  for (std::size_t page = from_page; page < span->pages.raw(); ++page) {
    static_cast<std::size_t*>((span->first_page + PageCount(page)).start())[5] = page + 1;
  }
}
std::size_t WrongStamps(const Span* span, std::size_t pages) {
  std::size_t wrong = 0;
  for (std::size_t page = 0; page < pages; ++page) {
    wrong += static_cast<std::size_t*>((span->first_page + PageCount(page)).start())[5] != page + 1 ? 1 : 0;
  }
  return wrong;
}

TEST(Move, TheContentsGoAlongAndTheOldPagesAreFreeAndZero) {
  PageHeap& heap = FreshPageHeap();
  Span* span = Large(heap, 8 * kPagesPerMiB);
  Span* behind = Large(heap, 1);
  StampPages(span);
  const std::size_t old_pages = span->pages.raw();
  const PageId old_first = span->first_page;
  ASSERT_TRUE(heap.MoveLarge(span, PageCount(30 * kPagesPerMiB)));
  EXPECT_EQ(span->kind, SpanKind::kMapped);
  EXPECT_EQ(span->pages, PageCount(30 * kPagesPerMiB));
  EXPECT_NE(span->first_page, old_first);
  EXPECT_EQ(page_map.SpanOf(span->first_page), span);
  EXPECT_EQ(page_map.SpanOf(old_first), nullptr);
  EXPECT_EQ(WrongStamps(span, old_pages), 0u);
  EXPECT_EQ(static_cast<char*>(span->start())[span->bytes() - 1], 0);
  EXPECT_EQ(heap.Stats().in_use_bytes, behind->bytes());
  EXPECT_EQ(heap.Stats().mapped_bytes, span->bytes());
  ExpectConsistent(heap);
  // The old place is taken again, and its record is true.
  bool zero = false;
  Span* again = Large(heap, old_pages, 1, &zero);
  EXPECT_EQ(again->first_page, old_first);
  EXPECT_TRUE(!zero || tarn_test::IsZero(again->start(), again->bytes()));
  heap.Deallocate(again);
  heap.Deallocate(span);
  heap.Deallocate(behind);
  EXPECT_EQ(heap.Stats().mapped_bytes, 0u);
  ExpectConsistent(heap);
}

TEST(Move, AMappingGrowsInPlaceAndMovesAsAWhole) {
  PageHeap& heap = FreshPageHeap();
  Span* span = Large(heap, 5 * kPagesPerMiB);
  StampPages(span);
  std::size_t moves = 0;
  for (std::size_t mib = 6; mib < 200; mib += 1 + mib / 20) {
    const std::size_t old_pages = span->pages.raw();
    if (!heap.ResizeLarge(span, PageCount(mib * kPagesPerMiB))) {
      ++moves;
      ASSERT_TRUE(heap.MoveLarge(span, PageCount(mib * kPagesPerMiB)));
    }
    ASSERT_EQ(WrongStamps(span, old_pages), 0u) << mib << " MiB";
    StampPages(span, old_pages);
    // In its own mapping for half of the time.
    if (mib == 20) {
      ASSERT_TRUE(heap.MoveLarge(span, PageCount(21 * kPagesPerMiB)));
      StampPages(span, mib * kPagesPerMiB);
      mib = 21;
    }
  }
  EXPECT_LE(moves, 5u) << "a mapping has room for twice the size";
  ASSERT_TRUE(heap.ResizeLarge(span, PageCount(3)));
  EXPECT_EQ(WrongStamps(span, 3), 0u);
  ASSERT_TRUE(heap.ResizeLarge(span, PageCount(100)));
  EXPECT_TRUE(tarn_test::IsZero((span->first_page + PageCount(3)).start(), PageCount(97).bytes()));
  heap.Deallocate(span);
  ExpectConsistent(heap);
}

TEST(Move, SmallObjectsStay) {
  PageHeap& heap = FreshPageHeap();
  Span* span = Large(heap, kPagesPerMiB);
  EXPECT_FALSE(heap.MoveLarge(span, PageCount(2 * kPagesPerMiB)));
  EXPECT_EQ(span->kind, SpanKind::kLarge);
  heap.Deallocate(span);
}

// Where the kernel cannot move pages the object is copied, and where there are no addresses nothing happens.
TEST(Move, WhatTheKernelRefusesIsCopied) {
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer needs system calls of its own";
  for (const long refused : {long{SYS_mremap}, long{SYS_mmap}, long{SYS_mprotect}}) {
    EXPECT_EQ(tarn_test::ComplaintOfChild([=] {
                PageHeap& heap = FreshPageHeap();
                Span* span = Large(heap, 9 * kPagesPerMiB);
                StampPages(span);
                if (!tarn_test::RefuseSystemCall(refused, ENOMEM)) return;
                const std::size_t old_pages = span->pages.raw();
                const bool moved = heap.MoveLarge(span, PageCount(12 * kPagesPerMiB));
                TARN_REQUIRE(moved == (refused == SYS_mremap));
                TARN_REQUIRE(span->pages.raw() == (moved ? 12 * kPagesPerMiB : old_pages));
                TARN_REQUIRE(WrongStamps(span, old_pages) == 0);
                TARN_REQUIRE(page_map.SpanOf(span->first_page) == span);
                heap.CheckInvariants();
                heap.Deallocate(span);
              }),
              "");
  }
}

// Pages that were copied from hold old data: they are warm, and their next owner hears that they are not zero.
TEST(Move, PagesThatWereCopiedFromAreNotCalledZero) {
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer needs system calls of its own";
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              PageHeap& heap = FreshPageHeap();
              Span* span = Large(heap, 8 * kPagesPerMiB);
              Span* behind = Large(heap, 1);
              StampPages(span);
              const PageId old_first = span->first_page;
              const std::size_t old_pages = span->pages.raw();
              const std::size_t warm_before = heap.Stats().free_warm_bytes;
              if (!tarn_test::RefuseSystemCall(SYS_mremap, ENOMEM)) return;
              TARN_REQUIRE(heap.MoveLarge(span, PageCount(12 * kPagesPerMiB)));
              TARN_REQUIRE(heap.Stats().free_warm_bytes == warm_before + PageCount(old_pages).bytes());
              heap.CheckInvariants();
              bool zero = true;
              Span* again = Large(heap, old_pages, 1, &zero);
              TARN_REQUIRE(again->first_page == old_first);
              TARN_REQUIRE(!zero && !tarn_test::IsZero(again->start(), again->bytes()));
              heap.Deallocate(again);
              heap.Deallocate(span);
              heap.Deallocate(behind);
            }),
            "");
}

// An object with a mapping of its own counts against the hard limit like any other, in each way of growing.
TEST(Move, MappedObjectsCountAgainstTheHardLimit) {
  constexpr std::size_t kLimitMiB = 64;
  PageHeap& heap = FreshPageHeap();
  Span* span = Large(heap, 4 * kPagesPerMiB);
  ASSERT_TRUE(heap.MoveLarge(span, PageCount(6 * kPagesPerMiB)));
  heap.SetHardLimit(kLimitMiB * kMiB);
  bool grown = true;
  std::size_t mib = 6;
  while (grown && mib < 2 * kLimitMiB) {
    mib += 2;
    const PageCount pages(mib * kPagesPerMiB);
    grown = heap.ResizeLarge(span, pages) || heap.MoveLarge(span, pages);
    const PageHeapStats stats = heap.Stats();
    ASSERT_LE(stats.in_use_bytes + stats.mapped_bytes + stats.metadata_used_bytes, kLimitMiB * kMiB);
  }
  EXPECT_LE(mib, kLimitMiB);
  // Metadata counts too: leaves of the page map are 1.1 MiB each.
  EXPECT_GE(mib, kLimitMiB - 10);
  // Beside it, there is no room for another one, in a reservation or not.
  bool zero;
  EXPECT_EQ(heap.AllocateLarge(PageCount(4 * kPagesPerMiB), PageCount(1), &zero), nullptr);
  EXPECT_EQ(heap.AllocateLarge(PageCount(4 * kPagesPerMiB), PageCount::FromHugePages(256), &zero), nullptr);
  heap.Deallocate(span);
  Span* another = Large(heap, 4 * kPagesPerMiB);
  heap.Deallocate(another);
  ExpectConsistent(heap);
}

}  // namespace
}  // namespace tarn
