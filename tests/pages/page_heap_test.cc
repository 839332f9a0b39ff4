// SPDX-License-Identifier: Apache-2.0
//
// The page heap, rule by rule: packing, coalescing, alignment, growing in place, what is zero, what is given back.

#include "allocator/pages/page_heap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "allocator/os/virtual_memory.h"
#include "allocator/pages/page_map.h"
#include "tests/pages/fresh_page_heap.h"

namespace tarn {
namespace {

using tarn_test::ExpectConsistent;
using tarn_test::FreshPageHeap;
using tarn_test::IndexInHugePage;
using tarn_test::IsZero;
using tarn_test::Large;
using tarn_test::ResidentBytes;

// Huge pages full of spans of one page, by their index in it.
using FullHugePage = std::vector<Span*>;
FullHugePage FillHugePage(PageHeap& heap) {
  FullHugePage spans(kPagesPerHugePage);
  HugePage* huge_page = nullptr;
  for (std::size_t i = 0; i < kPagesPerHugePage; ++i) {
    Span* span = Large(heap, 1);
    if (huge_page == nullptr) huge_page = span->huge_page;
    EXPECT_EQ(span->huge_page, huge_page) << "page " << i << " of a full huge page lies elsewhere";
    spans[IndexInHugePage(span)] = span;
  }
  for (Span* span : spans) EXPECT_NE(span, nullptr);
  return spans;
}
void Free(PageHeap& heap, FullHugePage& spans, std::size_t first, std::size_t count = 1) {
  for (std::size_t i = first; i < first + count; ++i) {
    heap.Deallocate(spans[i]);
    spans[i] = nullptr;
  }
}

TEST(PageHeap, StartsWithoutAConstructorAtRunTimeAndWithoutMemory) {
  static constinit PageHeap heap;
  ExpectConsistent(heap);
  EXPECT_EQ(heap.Stats().reserved_bytes, 0u);
  EXPECT_EQ(heap.ReleaseFree(0, true), 0u);
  EXPECT_FALSE(heap.ServesAddress(0x7f0000000000));
}

TEST(PageHeap, SmallSpansAreCompleteAndRegistered) {
  PageHeap& heap = FreshPageHeap();
  for (int c = 1; c < kSizeClassCount; ++c) {
    const auto size_class = static_cast<SizeClass>(c);
    const SizeClassInfo& info = kSizeClasses[c];
    Span* span = heap.AllocateSmall(size_class);
    ASSERT_NE(span, nullptr);
    EXPECT_EQ(span->kind, SpanKind::kSmall);
    EXPECT_EQ(span->size_class, size_class);
    EXPECT_EQ(span->pages, PageCount(info.span_pages));
    EXPECT_EQ(span->object_count, info.objects_per_span);
    EXPECT_EQ(span->live_objects, 0u);
    std::size_t free_objects = 0;
    for (std::size_t w = 0; w < span->word_count(); ++w) {
      free_objects += static_cast<std::size_t>(std::popcount(span->free_bits()[w]));
    }
    EXPECT_EQ(free_objects, info.objects_per_span);
    if (info.objects_per_span % 64 != 0) {
      EXPECT_EQ(span->free_bits()[span->word_count() - 1] >> (info.objects_per_span % 64), 0u);
    }
    for (std::size_t page = 0; page < info.span_pages; ++page) {
      EXPECT_EQ(page_map.SpanOf(span->first_page + PageCount(page)), span);
      EXPECT_EQ(page_map.ClassOf((span->first_page + PageCount(page)).address()), size_class);
    }
    // All of it is memory.
    std::memset(span->start(), 0xA5, span->bytes());
    EXPECT_EQ(heap.Stats().in_use_bytes, span->bytes());
    EXPECT_EQ(heap.Stats().large_objects, 0u);
    const PageId first_page = span->first_page;
    heap.Deallocate(span);
    for (std::size_t page = 0; page < info.span_pages; ++page) {
      EXPECT_EQ(page_map.SpanOf(first_page + PageCount(page)), nullptr);
      EXPECT_EQ(page_map.ClassOf((first_page + PageCount(page)).address()), 0);
    }
    ExpectConsistent(heap);
  }
}

TEST(PageHeap, OneReservationAndItsMetadataServeManySpans) {
  PageHeap& heap = FreshPageHeap();
  Large(heap, 1);
  const std::size_t reserved_bytes = heap.Stats().reserved_bytes;
  const std::size_t metadata_bytes = heap.Stats().metadata_block_bytes;
  for (int i = 0; i < 2000; ++i) Large(heap, 1);
  EXPECT_EQ(heap.Stats().reserved_bytes, reserved_bytes);
  EXPECT_EQ(heap.Stats().metadata_block_bytes, metadata_bytes);
  EXPECT_EQ(heap.Stats().in_use_bytes, 2001 * kPageBytes);
  ExpectConsistent(heap);
}

// --- Packing -------------------------------------------------------------------------------------------------------

// A hole without memory is left alone while there is memory elsewhere, also in a huge page that is free.
TEST(PageHeapPacking, FreedMemoryServesBeforeTheKernelBringsMore) {
  PageHeap& heap = FreshPageHeap();
  FullHugePage released = FillHugePage(heap);
  FullHugePage warm = FillHugePage(heap);
  FullHugePage whole = FillHugePage(heap);
  Free(heap, released, 7);
  EXPECT_EQ(heap.ReleaseFree(0, true), kPageBytes);
  Free(heap, warm, 20, 3);
  Free(heap, whole, 0, kPagesPerHugePage);
  const std::uint64_t fresh_bytes = heap.fresh_bytes();
  for (std::size_t i = 20; i < 23; ++i) {
    warm[i] = Large(heap, 1);
    EXPECT_EQ(warm[i]->huge_page, warm[0]->huge_page);
  }
  for (Span*& span : whole) span = Large(heap, 1);
  EXPECT_EQ(heap.fresh_bytes(), fresh_bytes);
  released[7] = Large(heap, 1);
  EXPECT_EQ(released[7]->huge_page, released[0]->huge_page);
  EXPECT_EQ(heap.fresh_bytes(), fresh_bytes + kPageBytes);
  ExpectConsistent(heap);
}

TEST(PageHeapPacking, OfEqualHolesTheFullerHugePageIsTaken) {
  for (const bool fuller_freed_first : {false, true}) {
    PageHeap& heap = FreshPageHeap();
    FullHugePage fuller = FillHugePage(heap);
    FullHugePage emptier = FillHugePage(heap);
    const Span* const stays = fuller[0];
    ASSERT_NE(fuller[0]->huge_page, emptier[0]->huge_page);
    // Holes of one page each: one in the one, three in the other.
    if (fuller_freed_first) Free(heap, fuller, 10);
    for (const std::size_t i : {20u, 30u, 40u}) Free(heap, emptier, i);
    if (!fuller_freed_first) Free(heap, fuller, 10);
    Span* span = Large(heap, 1);
    EXPECT_EQ(span->huge_page, stays->huge_page);
    EXPECT_EQ(IndexInHugePage(span), 10u);
    ExpectConsistent(heap);
  }
}

TEST(PageHeapPacking, TheTightestHoleIsTaken) {
  PageHeap& heap = FreshPageHeap();
  FullHugePage a = FillHugePage(heap);
  FullHugePage b = FillHugePage(heap);
  Free(heap, a, 50, 8);
  Free(heap, b, 60, 4);
  const Span* const in_a = a[0];
  const Span* const in_b = b[0];
  Span* four = Large(heap, 4);
  EXPECT_EQ(four->huge_page, in_b->huge_page);
  EXPECT_EQ(IndexInHugePage(four), 60u);
  Span* five = Large(heap, 5);
  EXPECT_EQ(five->huge_page, in_a->huge_page);
  EXPECT_EQ(IndexInHugePage(five), 50u);
  // Three are left there, which is not enough for four.
  Span* another = Large(heap, 4);
  EXPECT_NE(another->huge_page, in_a->huge_page);
  EXPECT_NE(another->huge_page, in_b->huge_page);
  EXPECT_EQ(Large(heap, 3)->huge_page, in_a->huge_page);
  ExpectConsistent(heap);
}

TEST(PageHeapPacking, WithinAHugePageTheShortestHoleIsTaken) {
  PageHeap& heap = FreshPageHeap();
  FullHugePage spans = FillHugePage(heap);
  Free(heap, spans, 10, 9);
  Free(heap, spans, 100, 3);
  Free(heap, spans, 200, 5);
  EXPECT_EQ(IndexInHugePage(Large(heap, 3)), 100u);
  EXPECT_EQ(IndexInHugePage(Large(heap, 4)), 200u);
  EXPECT_EQ(IndexInHugePage(Large(heap, 1)), 204u);
  EXPECT_EQ(IndexInHugePage(Large(heap, 9)), 10u);
  ExpectConsistent(heap);
}

TEST(PageHeapPacking, SparseHugePagesDrain) {
  PageHeap& heap = FreshPageHeap();
  // One huge page is nearly empty, the other nearly full: what comes goes into the latter, until it is full.
  FullHugePage sparse = FillHugePage(heap);
  FullHugePage dense = FillHugePage(heap);
  const Span* const stays = dense[0];
  // Single pages are free in both; in the sparse one every second is.
  for (std::size_t i = 1; i < kPagesPerHugePage; i += 2) Free(heap, sparse, i);
  for (std::size_t i = 1; i < 20; i += 2) Free(heap, dense, i);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Large(heap, 1)->huge_page, stays->huge_page) << i;
  const std::size_t whole_before = heap.Stats().whole_free_huge_pages;
  for (std::size_t i = 0; i < kPagesPerHugePage; i += 2) Free(heap, sparse, i);
  EXPECT_EQ(heap.Stats().whole_free_huge_pages, whole_before + 1);
  ExpectConsistent(heap);
}

// --- Coalescing ----------------------------------------------------------------------------------------------------

TEST(PageHeap, NeighboursCoalesceInAnyOrder) {
  std::mt19937_64 random(4);
  for (int round = 0; round < 5; ++round) {
    PageHeap& heap = FreshPageHeap();
    FullHugePage spans = FillHugePage(heap);
    HugePage* const huge_page = spans[0]->huge_page;
    std::ranges::shuffle(spans, random);
    for (Span* span : spans) {
      heap.Deallocate(span);
      heap.CheckInvariants();
    }
    EXPECT_EQ(heap.Stats().whole_free_huge_pages, 1u);
    EXPECT_EQ(heap.Stats().in_use_bytes, 0u);
    Span* whole = Large(heap, kPagesPerHugePage);
    EXPECT_EQ(whole->huge_page, huge_page);
    EXPECT_EQ(IndexInHugePage(whole), 0u);
    ExpectConsistent(heap);
  }
}

TEST(PageHeap, WholeHugePagesCoalesceInAnyOrder) {
  std::mt19937_64 random(5);
  PageHeap& heap = FreshPageHeap();
  std::vector<Span*> spans;
  for (int i = 0; i < 12; ++i) spans.push_back(Large(heap, kPagesPerHugePage));
  std::uintptr_t lowest = UINTPTR_MAX;
  for (const Span* span : spans) lowest = std::min(lowest, span->start_address());
  std::ranges::shuffle(spans, random);
  for (Span* span : spans) heap.Deallocate(span);
  const std::size_t reserved_bytes = heap.Stats().reserved_bytes;
  Span* all = Large(heap, 12 * kPagesPerHugePage);
  EXPECT_EQ(all->start_address(), lowest);
  EXPECT_EQ(heap.Stats().reserved_bytes, reserved_bytes);
  ExpectConsistent(heap);
}

// --- Large runs ----------------------------------------------------------------------------------------------------

TEST(PageHeap, TheTailOfALargeRunIsUsedByOthers) {
  PageHeap& heap = FreshPageHeap();
  Span* large = Large(heap, 300);
  EXPECT_EQ(IndexInHugePage(large), 0u);
  EXPECT_EQ(heap.Stats().in_use_bytes, 300 * kPageBytes);
  Span* in_tail = Large(heap, 200);
  EXPECT_EQ(in_tail->first_page, large->first_page + PageCount(300));
  Span* rest = heap.AllocateSmall(1);
  EXPECT_EQ(rest->first_page, large->first_page + PageCount(500));
  heap.Deallocate(large);
  ExpectConsistent(heap);
  EXPECT_EQ(page_map.SpanOf(in_tail->first_page), in_tail);
  // The first huge page is whole again, the second is held by the two others.
  EXPECT_EQ(heap.Stats().whole_free_huge_pages, 1u);
  heap.Deallocate(in_tail);
  heap.Deallocate(rest);
  EXPECT_EQ(heap.Stats().whole_free_huge_pages, 2u);
  ExpectConsistent(heap);
}

TEST(PageHeap, LargeObjectsAreCounted) {
  PageHeap& heap = FreshPageHeap();
  Span* a = Large(heap, 40);
  Span* b = Large(heap, 1000);
  ASSERT_NE(heap.AllocateSmall(10), nullptr);
  PageHeapStats stats = heap.Stats();
  EXPECT_EQ(stats.large_objects, 2u);
  EXPECT_EQ(stats.large_allocations_total, 2u);
  EXPECT_EQ(stats.large_bytes, 1040 * kPageBytes);
  EXPECT_EQ(stats.in_use_bytes, 1040 * kPageBytes + PageCount(kSizeClasses[10].span_pages).bytes());
  heap.Deallocate(a);
  heap.Deallocate(b);
  stats = heap.Stats();
  EXPECT_EQ(stats.large_objects, 0u);
  EXPECT_EQ(stats.large_allocations_total, 2u);
  EXPECT_EQ(stats.large_bytes, 0u);
  ExpectConsistent(heap);
}

TEST(PageHeap, EveryAlignmentIsMet) {
  PageHeap& heap = FreshPageHeap();
  std::vector<Span*> spans;
  for (std::size_t alignment = 1; alignment <= 64 * kPagesPerHugePage; alignment *= 2) {
    for (const std::size_t pages : {1u, 3u, 100u, 255u, 256u, 257u, 600u}) {
      // Something in between, so that the next free place is not aligned by chance.
      spans.push_back(Large(heap, 1));
      Span* span = Large(heap, pages, alignment);
      ASSERT_NE(span, nullptr);
      EXPECT_EQ(span->start_address() % PageCount(alignment).bytes(), 0u) << pages << " aligned to " << alignment;
      EXPECT_EQ(span->pages, PageCount(pages));
      static_cast<char*>(span->start())[0] = 1;
      static_cast<char*>(span->start())[span->bytes() - 1] = 1;
      spans.push_back(span);
    }
    ExpectConsistent(heap);
  }
  for (Span* span : spans) heap.Deallocate(span);
  EXPECT_EQ(heap.Stats().in_use_bytes, 0u);
  EXPECT_EQ(heap.Stats().mapped_bytes, 0u);
  ExpectConsistent(heap);
}

TEST(PageHeap, WhatABigReservationCannotHoldIsMappedAlone) {
  PageHeap& heap = FreshPageHeap();
  struct Case {
    std::size_t pages;
    std::size_t alignment;
  };
  const Case cases[] = {{257 * kPagesPerHugePage, 1},
                        {1000 * kPagesPerHugePage + 17, 1},
                        {3, 512 * kPagesPerHugePage},
                        {1, 16384 * kPagesPerHugePage},
                        {300 * kPagesPerHugePage, 1024}};
  std::vector<Span*> spans;
  std::size_t bytes = 0;
  for (const Case& c : cases) {
    bool zero = false;
    Span* span = Large(heap, c.pages, c.alignment, &zero);
    ASSERT_NE(span, nullptr);
    EXPECT_TRUE(zero);
    EXPECT_EQ(span->kind, SpanKind::kMapped);
    EXPECT_EQ(span->mapping_pages, span->pages.raw());
    EXPECT_EQ(span->pages, PageCount(c.pages));
    EXPECT_EQ(span->start_address() % PageCount(c.alignment).bytes(), 0u);
    EXPECT_EQ(page_map.SpanOf(span->first_page), span);
    EXPECT_EQ(page_map.ClassOf(span->start_address()), 0);
    EXPECT_FALSE(heap.ResizeLarge(span, PageCount(c.pages + 1)));
    EXPECT_EQ(span->pages, PageCount(c.pages));
    // Shrinking keeps the addresses, so that it can grow again.
    EXPECT_TRUE(heap.ResizeLarge(span, PageCount(c.pages / 2 + 1)));
    EXPECT_EQ(span->pages, PageCount(c.pages / 2 + 1));
    EXPECT_EQ(heap.Stats().mapped_bytes, bytes + span->bytes());
    EXPECT_TRUE(heap.ResizeLarge(span, PageCount(c.pages)));
    EXPECT_EQ(span->pages, PageCount(c.pages));
    static_cast<char*>(span->start())[0] = 1;
    static_cast<char*>(span->start())[span->bytes() - 1] = 1;
    spans.push_back(span);
    bytes += span->bytes();
    EXPECT_EQ(heap.Stats().mapped_bytes, bytes);
    EXPECT_EQ(heap.Stats().large_bytes, bytes);
    EXPECT_EQ(heap.Stats().in_use_bytes, 0u);
    ExpectConsistent(heap);
  }
  EXPECT_EQ(heap.Stats().large_objects, std::size(cases));
  for (Span* span : spans) {
    const PageId first_page = span->first_page;
    heap.Deallocate(span);
    EXPECT_EQ(page_map.SpanOf(first_page), nullptr);
  }
  EXPECT_EQ(heap.Stats().mapped_bytes, 0u);
  EXPECT_EQ(heap.Stats().large_objects, 0u);
  ExpectConsistent(heap);
}

TEST(PageHeap, TheLargestRunOfAReservationIsNotMappedAlone) {
  PageHeap& heap = FreshPageHeap();
  Span* span = Large(heap, 255 * kPagesPerHugePage);
  EXPECT_EQ(span->kind, SpanKind::kLarge);
  heap.Deallocate(span);
  ExpectConsistent(heap);
}

TEST(PageHeap, WhatNoAddressSpaceHoldsIsRefused) {
  PageHeap& heap = FreshPageHeap();
  Large(heap, 1);
  bool zero;
  EXPECT_EQ(heap.AllocateLarge(PageCount(std::size_t{1} << 40), PageCount(1), &zero), nullptr);
  EXPECT_EQ(heap.AllocateLarge(PageCount(1), PageCount(std::size_t{1} << 40), &zero), nullptr);
  EXPECT_EQ(heap.Stats().large_objects, 1u);
  ExpectConsistent(heap);
}

// --- Resizing ------------------------------------------------------------------------------------------------------

TEST(PageHeapResize, GrowsIntoFreePagesAndNoFurther) {
  PageHeap& heap = FreshPageHeap();
  FullHugePage spans = FillHugePage(heap);
  Free(heap, spans, 11, 5);
  Span* span = spans[10];
  static_cast<char*>(span->start())[0] = 42;
  const PageHeapStats before = heap.Stats();
  EXPECT_FALSE(heap.ResizeLarge(span, PageCount(7)));
  EXPECT_EQ(span->pages, PageCount(1));
  EXPECT_EQ(heap.Stats().in_use_bytes, before.in_use_bytes);
  EXPECT_EQ(heap.Stats().large_bytes, before.large_bytes);
  ExpectConsistent(heap);
  EXPECT_TRUE(heap.ResizeLarge(span, PageCount(6)));
  EXPECT_EQ(span->pages, PageCount(6));
  EXPECT_EQ(heap.Stats().in_use_bytes, before.in_use_bytes + 5 * kPageBytes);
  EXPECT_EQ(heap.Stats().large_bytes, before.large_bytes + 5 * kPageBytes);
  EXPECT_EQ(static_cast<char*>(span->start())[0], 42);
  EXPECT_EQ(page_map.SpanAround(span->start_address() + 6 * kPageBytes - 1), span);
  ExpectConsistent(heap);
  EXPECT_NE(Large(heap, 1)->huge_page, span->huge_page);
  heap.Deallocate(span);
  ExpectConsistent(heap);
}

TEST(PageHeapResize, ShrinkingGivesTheTailBack) {
  PageHeap& heap = FreshPageHeap();
  Span* span = Large(heap, 700);
  EXPECT_TRUE(heap.ResizeLarge(span, PageCount(300)));
  EXPECT_EQ(span->pages, PageCount(300));
  EXPECT_EQ(heap.Stats().in_use_bytes, 300 * kPageBytes);
  EXPECT_EQ(heap.Stats().large_bytes, 300 * kPageBytes);
  // The third huge page is free as a whole, the second has a tail.
  EXPECT_EQ(heap.Stats().whole_free_huge_pages, 1u);
  ExpectConsistent(heap);
  EXPECT_EQ(Large(heap, 212)->first_page, span->first_page + PageCount(300));
  EXPECT_EQ(Large(heap, 256)->first_page, span->first_page + PageCount(512));
  EXPECT_TRUE(heap.ResizeLarge(span, PageCount(256)));
  EXPECT_TRUE(heap.ResizeLarge(span, PageCount(1)));
  EXPECT_TRUE(heap.ResizeLarge(span, PageCount(1)));
  ExpectConsistent(heap);
  heap.Deallocate(span);
  ExpectConsistent(heap);
}

TEST(PageHeapResize, GrowsOverHugePagesThatWereNeverUsed) {
  PageHeap& heap = FreshPageHeap();
  Span* span = Large(heap, 10);
  ASSERT_EQ(IndexInHugePage(span), 0u);
  for (const std::size_t pages : {255u, 256u, 257u, 512u, 700u, 2952u}) {
    ASSERT_TRUE(heap.ResizeLarge(span, PageCount(pages))) << pages;
    EXPECT_EQ(span->pages, PageCount(pages));
    EXPECT_EQ(heap.Stats().in_use_bytes, pages * kPageBytes);
    // Committed, all of it.
    static_cast<char*>(span->start())[span->bytes() - 1] = 1;
    ExpectConsistent(heap);
  }
  Span* behind = Large(heap, 100);
  EXPECT_EQ(behind->first_page, span->first_page + PageCount(2952));
  EXPECT_FALSE(heap.ResizeLarge(span, PageCount(2953)));
  heap.Deallocate(behind);
  EXPECT_TRUE(heap.ResizeLarge(span, PageCount(3073)));
  heap.Deallocate(span);
  EXPECT_EQ(heap.Stats().in_use_bytes, 0u);
  ExpectConsistent(heap);
}

// A large heap is not built by one system call for each huge page.
TEST(PageHeapGrow, CommitsAShareOfWhatThereIs) {
  PageHeap& heap = FreshPageHeap();
  std::vector<Span*> spans;
  std::size_t commits = 0;
  std::size_t committed_bytes = 0;
  for (int i = 0; i < 500; ++i) {
    spans.push_back(Large(heap, kPagesPerHugePage));
    ASSERT_NE(spans.back(), nullptr);
    const std::size_t bytes = heap.published()->committed_bytes;
    if (bytes != committed_bytes) ++commits;
    committed_bytes = bytes;
    EXPECT_LE(bytes, (heap.Stats().in_use_bytes + 4 * kHugePageBytes) * 9 / 8);
  }
  EXPECT_LT(commits, 80u);
  ExpectConsistent(heap);
  for (Span* span : spans) heap.Deallocate(span);
  ExpectConsistent(heap);
}

TEST(PageHeapResize, EndsAtTheEndOfTheReservation) {
  PageHeap& heap = FreshPageHeap();
  Span* span = Large(heap, 1);
  const PageHeapStats stats = heap.Stats();
  const std::size_t rest_pages = span->huge_page->reservation->huge_page_count * kPagesPerHugePage;
  EXPECT_FALSE(heap.ResizeLarge(span, PageCount(rest_pages + 1)));
  EXPECT_FALSE(heap.ResizeLarge(span, PageCount(2 * rest_pages)));
  EXPECT_EQ(span->pages, PageCount(1));
  ExpectConsistent(heap);
  EXPECT_TRUE(heap.ResizeLarge(span, PageCount(rest_pages)));
  const std::size_t of_metadata_bytes = stats.reserved_bytes - rest_pages * kPageBytes;
  EXPECT_EQ(heap.Stats().uncommitted_bytes, of_metadata_bytes - stats.metadata_block_bytes);
  ExpectConsistent(heap);
  // The heap goes on with another reservation.
  Span* elsewhere = Large(heap, 1);
  EXPECT_EQ(heap.Stats().reserved_bytes, stats.reserved_bytes + rest_pages * kPageBytes);
  EXPECT_TRUE(heap.ResizeLarge(span, PageCount(1)));
  heap.Deallocate(span);
  heap.Deallocate(elsewhere);
  ExpectConsistent(heap);
}

// --- Zero ----------------------------------------------------------------------------------------------------------

TEST(PageHeapZero, FreshMemoryIsZeroAndToldToBe) {
  PageHeap& heap = FreshPageHeap();
  for (const std::size_t pages : {1u, 200u, 256u, 300u}) {
    bool zero = false;
    const Span* span = Large(heap, pages, 1, &zero);
    EXPECT_TRUE(zero) << pages;
    EXPECT_TRUE(IsZero(span->start(), span->bytes())) << pages;
  }
}

TEST(PageHeapZero, UsedMemoryIsNotToldToBeZero) {
  PageHeap& heap = FreshPageHeap();
  for (const std::size_t pages : {1u, 200u, 256u, 300u}) {
    Span* span = Large(heap, pages);
    const PageId first_page = span->first_page;
    std::memset(span->start(), 0xA5, span->bytes());
    heap.Deallocate(span);
    bool zero = true;
    span = Large(heap, pages, 1, &zero);
    ASSERT_EQ(span->first_page, first_page);
    EXPECT_FALSE(zero) << pages;
    heap.Deallocate(span);
  }
}

TEST(PageHeapZero, SmallSpansLeaveUsedMemoryToo) {
  PageHeap& heap = FreshPageHeap();
  Span* span = heap.AllocateSmall(2);
  const PageId first_page = span->first_page;
  std::memset(span->start(), 0xA5, span->bytes());
  heap.Deallocate(span);
  bool zero = true;
  EXPECT_EQ(Large(heap, 1, 1, &zero)->first_page, first_page);
  EXPECT_FALSE(zero);
}

TEST(PageHeapZero, OneUsedPageMakesTheWholeRunUsed) {
  PageHeap& heap = FreshPageHeap();
  FullHugePage spans = FillHugePage(heap);
  std::memset(spans[103]->start(), 0xA5, kPageBytes);
  Free(heap, spans, 100, 8);
  // All eight go back; then one of them is used again.
  EXPECT_EQ(heap.ReleaseFree(0, true), 8 * kPageBytes);
  Span* span = Large(heap, 4);
  ASSERT_EQ(IndexInHugePage(span), 100u);
  std::memset(span->start(), 0xA5, span->bytes());
  heap.Deallocate(span);
  bool zero = true;
  span = Large(heap, 8, 1, &zero);
  ASSERT_EQ(IndexInHugePage(span), 100u);
  EXPECT_FALSE(zero);
  heap.Deallocate(span);
  EXPECT_EQ(heap.ReleaseFree(0, true), 8 * kPageBytes);
  span = Large(heap, 8, 1, &zero);
  ASSERT_EQ(IndexInHugePage(span), 100u);
  EXPECT_TRUE(zero);
  EXPECT_TRUE(IsZero(span->start(), span->bytes()));
  ExpectConsistent(heap);
}

TEST(PageHeapZero, ReleasedMemoryIsZeroAndToldToBe) {
  for (const std::size_t pages : {1u, 200u, 256u, 700u}) {
    PageHeap& heap = FreshPageHeap();
    Span* neighbour = Large(heap, 1);
    Span* span = Large(heap, pages);
    const PageId first_page = span->first_page;
    std::memset(neighbour->start(), 0x5A, kPageBytes);
    std::memset(span->start(), 0xA5, span->bytes());
    heap.Deallocate(span);
    EXPECT_EQ(heap.Stats().free_warm_bytes, pages * kPageBytes);
    EXPECT_GE(heap.ReleaseFree(0, true), pages * kPageBytes);
    EXPECT_EQ(heap.Stats().free_warm_bytes, 0u);
    EXPECT_GE(heap.Stats().released_bytes_total, pages * kPageBytes);
    ExpectConsistent(heap);
    bool zero = false;
    span = Large(heap, pages, 1, &zero);
    ASSERT_EQ(span->first_page, first_page);
    EXPECT_TRUE(zero) << pages;
    EXPECT_TRUE(IsZero(span->start(), span->bytes())) << pages;
    // The object in use was left alone.
    EXPECT_EQ(std::memcmp(neighbour->start(), std::string(kPageBytes, '\x5A').data(), kPageBytes), 0);
    ExpectConsistent(heap);
  }
}

// --- Giving memory back --------------------------------------------------------------------------------------------

TEST(PageHeapRelease, HugePagesInUseAreBrokenOnlyWhenAsked) {
  PageHeap& heap = FreshPageHeap();
  FullHugePage spans = FillHugePage(heap);
  Free(heap, spans, 0, 100);
  Free(heap, spans, 150, 7);
  EXPECT_EQ(heap.ReleaseFree(0, false), 0u);
  EXPECT_EQ(heap.Stats().free_warm_bytes, 107 * kPageBytes);
  EXPECT_EQ(heap.ReleaseFree(0, true), 107 * kPageBytes);
  EXPECT_EQ(heap.Stats().free_warm_bytes, 0u);
  EXPECT_EQ(heap.Stats().free_zero_bytes, 107 * kPageBytes);
  EXPECT_EQ(heap.ReleaseFree(0, true), 0u);
  ExpectConsistent(heap);
}

TEST(PageHeapRelease, KeepsAsMuchAsItWasToldAndTheLastFreedAtThat) {
  PageHeap& heap = FreshPageHeap();
  std::vector<Span*> spans;
  for (int i = 0; i < 8; ++i) spans.push_back(Large(heap, kPagesPerHugePage));
  HugePage* const last_freed = spans.back()->huge_page;
  for (Span* span : spans) heap.Deallocate(span);
  EXPECT_EQ(heap.Stats().free_warm_bytes, 8 * kHugePageBytes);
  EXPECT_EQ(heap.ReleaseFree(9 * kHugePageBytes, false), 0u);
  EXPECT_EQ(heap.ReleaseFree(3 * kHugePageBytes, false), 5 * kHugePageBytes);
  EXPECT_EQ(heap.Stats().free_warm_bytes, 3 * kHugePageBytes);
  EXPECT_EQ(heap.ReleaseFree(1 * kHugePageBytes, false), 2 * kHugePageBytes);
  ExpectConsistent(heap);
  // The warm one is used before those that would have to be faulted in.
  bool zero = true;
  EXPECT_EQ(Large(heap, kPagesPerHugePage, 1, &zero)->huge_page, last_freed);
  EXPECT_FALSE(zero);
  EXPECT_EQ(heap.Stats().released_bytes_total, 7 * kHugePageBytes);
}

// Nobody calls ReleaseFree here: the heap bounds by itself what it keeps warm.
TEST(PageHeapRelease, MuchFreeMemoryGoesBackByItself) {
  constexpr std::size_t kFloorBytes = std::size_t{64} << 20;
  PageHeap& heap = FreshPageHeap();
  heap.SetReleaseDelay(0);  // there is no recent peak
  std::vector<Span*> spans;
  for (int i = 0; i < 60; ++i) spans.push_back(Large(heap, kPagesPerHugePage));
  for (Span* span : spans) {
    heap.Deallocate(span);
    EXPECT_LE(heap.Stats().free_warm_bytes, kFloorBytes);
  }
  EXPECT_EQ(heap.Stats().free_warm_bytes, kFloorBytes);
  ExpectConsistent(heap);
  // With much in use more is kept.
  spans.clear();
  for (int i = 0; i < 400; ++i) spans.push_back(Large(heap, kPagesPerHugePage));
  for (int i = 0; i < 40; ++i) heap.Deallocate(spans[static_cast<std::size_t>(i)]);
  EXPECT_EQ(heap.Stats().free_warm_bytes, 40 * kHugePageBytes);
  ExpectConsistent(heap);
}

TEST(PageHeapRelease, ATailThatAnObjectGivesUpIsBoundedToo) {
  constexpr std::size_t kFloorBytes = std::size_t{64} << 20;
  PageHeap& heap = FreshPageHeap();
  heap.SetReleaseDelay(0);  // there is no recent peak
  Span* span = Large(heap, 100 * kPagesPerHugePage);
  EXPECT_TRUE(heap.ResizeLarge(span, PageCount(1)));
  EXPECT_LE(heap.Stats().free_warm_bytes, kFloorBytes + kHugePageBytes);
  ExpectConsistent(heap);
}

TEST(PageHeap, GrowthTellsOfMemoryThatTheKernelHasToProvide) {
  PageHeap& heap = FreshPageHeap();
  FullHugePage spans = FillHugePage(heap);
  const std::uint64_t growth = heap.growth();
  EXPECT_GT(growth, 0u);
  Free(heap, spans, 100, 4);
  Large(heap, 4);
  EXPECT_EQ(heap.growth(), growth) << "there was room";
  Span* elsewhere = Large(heap, kPagesPerHugePage);
  EXPECT_GT(heap.growth(), growth) << "a huge page that was never used";
  const std::uint64_t later = heap.growth();
  heap.Deallocate(elsewhere);
  heap.Deallocate(Large(heap, 10));
  EXPECT_EQ(heap.growth(), later) << "memory that is there already";
  heap.ReleaseFree(0, false);
  Large(heap, 200);
  EXPECT_GT(heap.growth(), later) << "memory that went back to the kernel";
}

// Without it the caches of a program whose sizes change would not be swept while what it freed is enough for it.
TEST(PageHeap, MemoryThatComesIntoUseTimeAndAgainCountsAsGrowthToo) {
  PageHeap& heap = FreshPageHeap();
  heap.Deallocate(Large(heap, kPagesPerHugePage));
  const std::uint64_t growth = heap.growth();
  const std::uint64_t fresh_bytes = heap.fresh_bytes();
  for (int i = 0; i < 10; ++i) heap.Deallocate(Large(heap, kPagesPerHugePage));
  EXPECT_GT(heap.growth(), growth);
  EXPECT_EQ(heap.fresh_bytes(), fresh_bytes);
}

// --- The rest ------------------------------------------------------------------------------------------------------

// Small spans of fresh memory are resident, and so is what follows them, but no more than a share of the heap.
TEST(PageHeapPopulate, AGrowingHeapIsPopulatedAheadAndASmallOneIsNot) {
  PageHeap& heap = FreshPageHeap();
  const SizeClass size_class = MallocSizeClass(64);
  Span* first = heap.AllocateSmall(size_class);
  EXPECT_EQ(ResidentBytes(first->start(), first->bytes()), 0u);
  Span* probe = Large(heap, 1);
  if (!Populate(probe->start(), probe->bytes())) GTEST_SKIP() << "the kernel has no MADV_POPULATE_WRITE";

  // In use, and not touched: large objects are nobody's business.
  Span* large = Large(heap, 16 * kPagesPerHugePage);
  EXPECT_EQ(ResidentBytes(large->start(), large->bytes()), 0u);
  const Span* lone = heap.AllocateSmall(size_class, SpanKind::kSmall, false);
  EXPECT_EQ(ResidentBytes(lone->start(), lone->bytes()), 0u) << "of a class that does not grow";
  const std::uint64_t fresh_before = heap.fresh_bytes();
  std::vector<Span*> spans{heap.AllocateSmall(size_class)};
  const std::size_t warm_bytes = heap.Stats().free_warm_bytes;
  EXPECT_GT(warm_bytes, 0u);
  EXPECT_LE(warm_bytes, heap.Stats().in_use_bytes / 16);
  EXPECT_EQ(heap.fresh_bytes() - fresh_before, warm_bytes + kPageBytes);
  ExpectConsistent(heap);
  // The next spans are made of what is resident.
  const std::size_t whole = warm_bytes / kPageBytes;
  for (std::size_t i = 0; i < whole; ++i) spans.push_back(heap.AllocateSmall(size_class));
  for (const Span* span : spans) {
    EXPECT_EQ(ResidentBytes(span->start(), span->bytes()), kPageBytes);
    EXPECT_TRUE(IsZero(span->start(), span->bytes()));
  }
  EXPECT_EQ(heap.Stats().free_warm_bytes, 0u);
  EXPECT_EQ(heap.fresh_bytes() - fresh_before, warm_bytes + kPageBytes) << "each page is fresh once";
  // Objects that may have parts which nobody touches.
  for (const std::size_t bytes : {std::size_t{9000}, std::size_t{16} << 10, std::size_t{64} << 10}) {
    Span* big = heap.AllocateSmall(MallocSizeClass(bytes));
    EXPECT_EQ(ResidentBytes(big->start(), big->bytes()), 0u) << bytes;
  }
  for (Span* span : spans) heap.Deallocate(span);
  ExpectConsistent(heap);
}

TEST(PageHeap, MetadataIsZeroAlignedAndNobodyElses) {
  PageHeap& heap = FreshPageHeap();
  std::map<std::uintptr_t, std::size_t> given;
  std::size_t asked_bytes = 0;
  for (std::size_t i = 0; i < 300; ++i) {
    const std::size_t bytes = i % 50 == 49 ? 3 * kHugePageBytes + i : 8 + i * 97 % 30000;
    const std::size_t alignment = std::size_t{8} << (i % 10);
    void* memory = heap.AllocateMetadata(bytes, alignment, MetadataKind::kOther);
    ASSERT_NE(memory, nullptr);
    const auto address = reinterpret_cast<std::uintptr_t>(memory);
    ASSERT_EQ(address % alignment, 0u);
    ASSERT_TRUE(IsZero(memory, bytes / 8 * 8));
    std::memset(memory, 0xA5, bytes);
    const auto next = given.lower_bound(address);
    ASSERT_TRUE(next == given.end() || address + bytes <= next->first);
    ASSERT_TRUE(next == given.begin() || std::prev(next)->first + std::prev(next)->second <= address);
    given[address] = bytes;
    asked_bytes += bytes;
    ASSERT_FALSE(heap.ServesAddress(address));
    ASSERT_EQ(page_map.SpanAround(address), nullptr);
  }
  EXPECT_GE(heap.Stats().metadata_used_bytes, asked_bytes);
  ExpectConsistent(heap);
}

// A mapping of this process.
struct Mapping {
  std::uintptr_t start;
  std::uintptr_t end;
  std::string rights;
  bool Covers(const void* address) const {
    return reinterpret_cast<std::uintptr_t>(address) >= start && reinterpret_cast<std::uintptr_t>(address) < end;
  }
};

std::vector<Mapping> Mappings() {
  std::vector<Mapping> mappings;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    Mapping mapping;
    char dash;
    std::istringstream(line) >> std::hex >> mapping.start >> dash >> mapping.end >> mapping.rights;
    mappings.push_back(mapping);
  }
  return mappings;
}

// From each byte that may be written around an object, and up and down from it, an access fails before it reaches
// metadata.
TEST(PageHeap, MetadataLiesApartFromObjects) {
  PageHeap& heap = FreshPageHeap();
  std::vector<const void*> objects;
  std::vector<const void*> metadata;
  for (int i = 0; i < 40; ++i) {
    for (const std::size_t pages : {std::size_t{1}, std::size_t{7}, std::size_t{100}, 3 * kPagesPerHugePage}) {
      Span* const span = Large(heap, pages);
      objects.push_back(span->start());
      metadata.push_back(span);
      metadata.push_back(span->huge_page);
    }
    for (const std::size_t bytes : {100u, 60'000u, 900'000u}) {
      metadata.push_back(heap.AllocateMetadata(bytes, 64, MetadataKind::kOther));
      ASSERT_NE(metadata.back(), nullptr);
    }
    metadata.push_back(heap.AllocateMetadata(100'000, 4096, MetadataKind::kCaches));
  }
  const std::vector<Mapping> mappings = Mappings();
  const auto holds = [](const Mapping& mapping, const std::vector<const void*>& addresses) {
    return std::any_of(addresses.begin(), addresses.end(),
                       [&](const void* address) { return mapping.Covers(address); });
  };
  std::size_t with_metadata = 0;
  for (std::size_t i = 0; i < mappings.size(); ++i) {
    if (!holds(mappings[i], metadata)) continue;
    ++with_metadata;
    EXPECT_FALSE(holds(mappings[i], objects));
    // Behind and before, in a row, lies more metadata and then memory without access.
    std::size_t last = i;
    while (mappings[last].rights[1] == 'w' && mappings[last].end == mappings[last + 1].start) ++last;
    std::size_t first = i;
    while (mappings[first].rights[1] == 'w' && mappings[first].start == mappings[first - 1].end) --first;
    EXPECT_EQ(mappings[last].rights.substr(0, 3), "---");
    EXPECT_EQ(mappings[first].rights.substr(0, 3), "---");
    for (std::size_t k = first; k <= last; ++k) EXPECT_FALSE(holds(mappings[k], objects));
  }
  EXPECT_NE(with_metadata, 0u);
  ExpectConsistent(heap);
}

TEST(PageHeap, KnowsWhichAddressesItServes) {
  PageHeap& heap = FreshPageHeap();
  PageHeap& other = FreshPageHeap();
  Span* span = Large(heap, 10);
  Span* of_other = Large(other, 10);
  const std::uintptr_t address = span->start_address() + 12345;
  EXPECT_TRUE(heap.ServesAddress(address));
  EXPECT_FALSE(heap.ServesAddress(of_other->start_address()));
  EXPECT_FALSE(heap.ServesAddress(reinterpret_cast<std::uintptr_t>(&heap)));
  EXPECT_FALSE(heap.ServesAddress(0));
  heap.Deallocate(span);
  EXPECT_TRUE(heap.ServesAddress(address));
  // Reserved but never committed: no span ever was there.
  EXPECT_FALSE(heap.ServesAddress(address + 100 * kHugePageBytes));
}

}  // namespace
}  // namespace tarn
