// SPDX-License-Identifier: Apache-2.0
//
// The page heap where the kernel refuses: an address space limit, and system calls that fail. Each in a forked child.

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cstddef>
#include <cstring>
#include <vector>

#include "allocator/pages/page_heap.h"
#include "tests/os/in_child.h"
#include "tests/pages/fresh_page_heap.h"

namespace tarn {
namespace {

using tarn_test::kMiB;

void RequireConsistent(PageHeap& heap) {
  heap.CheckInvariants();
  const PageHeapStats stats = heap.Stats();
  TARN_REQUIRE(stats.reserved_bytes == stats.metadata_block_bytes + stats.in_use_bytes + stats.free_warm_bytes +
                                           stats.free_zero_bytes + stats.uncommitted_bytes);
}

Span* TryLarge(PageHeap& heap, std::size_t pages, bool* zero) {
  return heap.AllocateLarge(PageCount(pages), PageCount(1), zero);
}

// Takes objects of that many pages until there are no more, and gives them back.
std::size_t Exhaust(PageHeap& heap, std::size_t pages) {
  // Its memory must not be what is missing.
  std::vector<Span*> spans;
  spans.reserve(100000);
  bool zero;
  while (Span* span = TryLarge(heap, pages, &zero)) {
    static_cast<char*>(span->start())[0] = 1;
    static_cast<char*>(span->start())[span->bytes() - 1] = 1;
    spans.push_back(span);
  }
  RequireConsistent(heap);
  for (Span* span : spans) heap.Deallocate(span);
  RequireConsistent(heap);
  TARN_REQUIRE(heap.Stats().in_use_bytes == 0);
  TARN_REQUIRE(heap.Stats().mapped_bytes == 0);
  return spans.size();
}

class PageHeapLimits : public testing::Test {
 protected:
  void SetUp() override {
    if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer needs address space and system calls of its own";
  }
};

TEST_F(PageHeapLimits, UnderAnAddressSpaceLimitAllOfItIsServedAgainAndAgain) {
  for (const std::size_t pages : {1u, 13u, 256u, 700u}) {
    EXPECT_EQ(tarn_test::ComplaintOfChild([pages] {
                PageHeap& heap = tarn_test::FreshPageHeap();
                tarn_test::LimitFurtherAddressSpace(128 * kMiB);
                const std::size_t objects = Exhaust(heap, pages);
                // Most of the limit is served; the rest is metadata, and what does not add up to an object.
                TARN_REQUIRE(objects * pages * kPageBytes >= 64 * kMiB);
                TARN_REQUIRE(objects * pages * kPageBytes <= 128 * kMiB);
                for (int i = 0; i < 2; ++i) TARN_REQUIRE(Exhaust(heap, pages) >= objects);
              }),
              "")
        << pages << " pages";
  }
}

// Free reservations, which are small under a limit, make room for an object that none of them holds.
TEST_F(PageHeapLimits, UnderAnAddressSpaceLimitSmallObjectsLeaveRoomForLargeOnes) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              PageHeap& heap = tarn_test::FreshPageHeap();
              tarn_test::LimitFurtherAddressSpace(128 * kMiB);
              for (int i = 0; i < 2; ++i) {
                TARN_REQUIRE(Exhaust(heap, 3) != 0);
                bool zero;
                Span* span = TryLarge(heap, 64 * kMiB / kPageBytes, &zero);
                TARN_REQUIRE(span != nullptr);
                TARN_REQUIRE(!zero || tarn_test::IsZero(span->start(), span->bytes()));
                std::memset(span->start(), 0xA5, span->bytes());
                RequireConsistent(heap);
                heap.Deallocate(span);
                RequireConsistent(heap);
              }
            }),
            "");
}

// A limit of what is charged (RLIMIT_DATA; strict overcommit is alike): what is free is not in the way of other sizes.
TEST_F(PageHeapLimits, UnderALimitOfTheChargeAllOfItIsServedInOneSizeAfterTheOther) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              PageHeap& heap = tarn_test::FreshPageHeap();
              tarn_test::LimitFurtherData(128 * kMiB);
              for (int i = 0; i < 2; ++i) {
                // In reservations, in whole huge pages of them, and with a mapping of its own.
                for (const std::size_t pages : {3u, 256u, 700u, 10u * 256u}) {
                  TARN_REQUIRE(Exhaust(heap, pages) * pages * kPageBytes >= 64 * kMiB);
                }
                bool zero;
                Span* span = heap.AllocateLarge(PageCount::FromHugePages(40), PageCount::FromHugePages(256), &zero);
                TARN_REQUIRE(span != nullptr && span->kind == SpanKind::kMapped);
                TARN_REQUIRE(zero && tarn_test::IsZero(span->start(), span->bytes()));
                heap.Deallocate(span);
              }
            }),
            "");
}

// Each try leaves neither addresses nor mappings behind.
TEST_F(PageHeapLimits, MetadataThatIsRefusedTakesNoAddresses) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              PageHeap& heap = tarn_test::FreshPageHeap();
              const auto take = [&heap] { return heap.AllocateMetadata(500'000, 64, MetadataKind::kOther); };
              TARN_REQUIRE(take() != nullptr);
              tarn_test::LimitFurtherData(10 * kMiB);
              while (take() != nullptr) continue;
              const std::size_t reserved_bytes = heap.Stats().reserved_bytes;
              const std::size_t address_space_bytes = tarn_test::AddressSpaceBytes();
              for (int i = 0; i < 100; ++i) TARN_REQUIRE(take() == nullptr);
              TARN_REQUIRE(heap.Stats().reserved_bytes == reserved_bytes);
              TARN_REQUIRE(tarn_test::AddressSpaceBytes() <= address_space_bytes + kMiB);
              RequireConsistent(heap);
            }),
            "");
}

TEST_F(PageHeapLimits, WhatWasDecommittedComesBackZero) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              PageHeap& heap = tarn_test::FreshPageHeap();
              bool zero;
              // In a row: those before, which end where a reservation ends, stay.
              Span* spans[40];
              for (std::size_t in_a_row = 0; in_a_row < 40; ++in_a_row) {
                Span* const span = TryLarge(heap, kPagesPerHugePage, &zero);
                TARN_REQUIRE(span != nullptr);
                std::memset(span->start(), 0xA5, span->bytes());
                if (in_a_row != 0 && span->first_page != spans[in_a_row - 1]->first_page + span->pages) in_a_row = 0;
                spans[in_a_row] = span;
              }
              // 60 MiB of free huge pages are in front of the ones in use, and there is room for 20 MiB more.
              for (int i = 0; i < 30; ++i) heap.Deallocate(spans[i]);
              tarn_test::LimitFurtherData(20 * kMiB);
              Span* large = TryLarge(heap, 35 * kPagesPerHugePage, &zero);
              TARN_REQUIRE(large != nullptr);
              TARN_REQUIRE(!zero || tarn_test::IsZero(large->start(), large->bytes()));
              RequireConsistent(heap);
              // These come out of the huge pages that were decommitted, which is the shortest run.
              Span* in_gap[2];
              for (Span*& span : in_gap) {
                span = TryLarge(heap, 2 * kPagesPerHugePage, &zero);
                TARN_REQUIRE(span != nullptr && zero);
                TARN_REQUIRE(span->first_page < spans[30]->first_page);
                TARN_REQUIRE(tarn_test::IsZero(span->start(), span->bytes()));
              }
              for (Span* span : in_gap) heap.Deallocate(span);
              heap.Deallocate(large);
              for (int i = 0; i < 30; ++i) {
                spans[i] = TryLarge(heap, kPagesPerHugePage, &zero);
                TARN_REQUIRE(spans[i] != nullptr);
                TARN_REQUIRE(!zero || tarn_test::IsZero(spans[i]->start(), spans[i]->bytes()));
                std::memset(spans[i]->start(), 0x5A, spans[i]->bytes());
                RequireConsistent(heap);
              }
              for (int i = 30; i < 40; ++i) {
                const auto* bytes = static_cast<const unsigned char*>(spans[i]->start());
                TARN_REQUIRE(bytes[0] == 0xA5 && bytes[kHugePageBytes - 1] == 0xA5);
              }
            }),
            "");
}

TEST_F(PageHeapLimits, WithoutAnyAddressSpaceThereIsNull) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              PageHeap& heap = tarn_test::FreshPageHeap();
              tarn_test::LimitFurtherAddressSpace(0);
              bool zero;
              TARN_REQUIRE(heap.AllocateSmall(1) == nullptr);
              TARN_REQUIRE(TryLarge(heap, 1, &zero) == nullptr);
              TARN_REQUIRE(TryLarge(heap, 1000 * kPagesPerHugePage, &zero) == nullptr);
              TARN_REQUIRE(heap.AllocateMetadata(64, 64, MetadataKind::kOther) == nullptr);
              RequireConsistent(heap);
            }),
            "");
}

TEST_F(PageHeapLimits, WhereCommittingFailsThereIsNullAndNothingIsLost) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              PageHeap& heap = tarn_test::FreshPageHeap();
              bool zero;
              Span* span = TryLarge(heap, 200, &zero);
              TARN_REQUIRE(span != nullptr);
              if (!tarn_test::RefuseSystemCall(SYS_mprotect, ENOMEM)) return;
              const PageHeapStats before = heap.Stats();
              for (int i = 0; i < 3; ++i) {
                TARN_REQUIRE(TryLarge(heap, 100, &zero) == nullptr);
                TARN_REQUIRE(TryLarge(heap, 600, &zero) == nullptr);
                TARN_REQUIRE(TryLarge(heap, 257 * kPagesPerHugePage, &zero) == nullptr);
                TARN_REQUIRE(!heap.ResizeLarge(span, PageCount(300)));
                TARN_REQUIRE(span->pages == PageCount(200));
                RequireConsistent(heap);
              }
              const PageHeapStats after = heap.Stats();
              TARN_REQUIRE(after.in_use_bytes == before.in_use_bytes && after.mapped_bytes == 0);
              TARN_REQUIRE(after.large_objects == 1 && after.reserved_bytes <= before.reserved_bytes);
              // Memory that is committed already serves on.
              TARN_REQUIRE(heap.AllocateSmall(3) != nullptr);
              TARN_REQUIRE(TryLarge(heap, 50, &zero) != nullptr);
              TARN_REQUIRE(heap.ResizeLarge(span, PageCount(100)));
              TARN_REQUIRE(TryLarge(heap, 100, &zero) != nullptr);
              RequireConsistent(heap);
            }),
            "");
}

TEST_F(PageHeapLimits, WhereCommittingFailsHalfWayAGrowthIsUndone) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              PageHeap& heap = tarn_test::FreshPageHeap();
              bool zero;
              Span* span = TryLarge(heap, 200, &zero);
              TARN_REQUIRE(span != nullptr);
              // For two huge pages more, but not for three, which are asked for at once.
              tarn_test::LimitFurtherData(5 * kMiB);
              TARN_REQUIRE(!heap.ResizeLarge(span, PageCount(4 * kPagesPerHugePage)));
              TARN_REQUIRE(span->pages == PageCount(200));
              TARN_REQUIRE(heap.Stats().in_use_bytes == span->bytes());
              TARN_REQUIRE(heap.Stats().whole_free_huge_pages == 0);
              RequireConsistent(heap);
              TARN_REQUIRE(heap.ResizeLarge(span, PageCount(3 * kPagesPerHugePage)));
              RequireConsistent(heap);
              TARN_REQUIRE(TryLarge(heap, 100, &zero) == nullptr);
            }),
            "");
}

TEST_F(PageHeapLimits, WhereReleasingFailsTheMemoryStaysWarmAndIsNotCalledZero) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              PageHeap& heap = tarn_test::FreshPageHeap();
              if (!tarn_test::RefuseSystemCall(SYS_madvise, EINVAL)) return;
              bool zero;
              Span* whole = TryLarge(heap, 700, &zero);
              Span* part = TryLarge(heap, 20, &zero);
              Span* stays = TryLarge(heap, 1, &zero);
              std::memset(whole->start(), 0xA5, whole->bytes());
              std::memset(part->start(), 0xA5, part->bytes());
              heap.Deallocate(whole);
              heap.Deallocate(part);
              const PageHeapStats before = heap.Stats();
              TARN_REQUIRE(heap.ReleaseFree(0, true) == 0);
              const PageHeapStats after = heap.Stats();
              TARN_REQUIRE(after.released_bytes_total == 0);
              TARN_REQUIRE(after.free_warm_bytes >= before.free_warm_bytes);
              RequireConsistent(heap);
              // The two huge pages that became free as a whole are the shortest run for these.
              TARN_REQUIRE(TryLarge(heap, 2 * kPagesPerHugePage, &zero) != nullptr && !zero);
              // Metadata must be zero even so.
              for (int i = 0; i < 4; ++i) {
                void* memory = heap.AllocateMetadata(kHugePageBytes - 8192, 64, MetadataKind::kOther);
                TARN_REQUIRE(memory != nullptr && tarn_test::IsZero(memory, kHugePageBytes - 8192));
              }
              heap.Deallocate(stays);
              RequireConsistent(heap);
            }),
            "");
}

TEST_F(PageHeapLimits, WhereUnmappingFailsAddressesAreLostAndNothingElse) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              PageHeap& heap = tarn_test::FreshPageHeap();
              if (!tarn_test::RefuseSystemCall(SYS_munmap, ENOMEM)) return;
              for (int i = 0; i < 5; ++i) {
                bool zero;
                Span* span = heap.AllocateLarge(PageCount(300 * kPagesPerHugePage), PageCount(4096), &zero);
                TARN_REQUIRE(span != nullptr && zero);
                TARN_REQUIRE(span->first_page.raw() % 4096 == 0);
                static_cast<char*>(span->start())[0] = 1;
                heap.Deallocate(span);
                TARN_REQUIRE(heap.Stats().mapped_bytes == 0);
                RequireConsistent(heap);
              }
            }),
            "");
}

}  // namespace
}  // namespace tarn
