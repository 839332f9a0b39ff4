// SPDX-License-Identifier: Apache-2.0
//
// Which memory of the page heap core dumps have: what is or was in use, and what the program does not leave out.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstddef>

#include "allocator/os/virtual_memory.h"
#include "allocator/pages/page_heap.h"
#include "size_classes/size_classes.h"
#include "tests/os/in_child.h"
#include "tests/os/mapping_facts.h"
#include "tests/pages/fresh_page_heap.h"

namespace tarn::core_dump_test {
namespace {

using tarn_test::ExpectConsistent;
using tarn_test::FreshPageHeap;
using tarn_test::HasMappingFlag;
using tarn_test::kMiB;
using tarn_test::Large;
using tarn_test::MappingFlags;

constexpr std::size_t kPagesPerMiB = kMiB / kPageBytes;

bool IsDumped(const void* address) { return !HasMappingFlag(address, "dd"); }

const char* LastByteOf(const Span* span) { return static_cast<const char*>(span->start()) + span->bytes() - 1; }

class CoreDump : public testing::Test {
 protected:
  void SetUp() override {
    if (MappingFlags(this).empty()) GTEST_SKIP() << "the kernel does not say what core dumps have";
  }
};

TEST_F(CoreDump, OfMemoryThatIsLeftOutAndTakenInAgain) {
  char* const start = static_cast<char*>(Reserve(kMiB, OsPageBytes()));
  ASSERT_TRUE(start != nullptr && Commit(start, kMiB / 2));
  LeaveOutOfDumps(start, kMiB);
  EXPECT_FALSE(IsDumped(start));
  EXPECT_FALSE(IsDumped(start + kMiB - 1));
  Dump(start, kMiB / 4);
  EXPECT_TRUE(IsDumped(start));
  EXPECT_FALSE(IsDumped(start + kMiB / 4));
  Unreserve(start, kMiB);
}

TEST_F(CoreDump, HasWhatASmallHeapUses) {
  PageHeap& heap = FreshPageHeap();
  Span* const small = heap.AllocateSmall(MallocSizeClass(64));
  const char* const first = static_cast<const char*>(small->huge_page->first_page.start());
  EXPECT_TRUE(IsDumped(small->start()));
  EXPECT_TRUE(IsDumped(small)) << "a span's record";
  EXPECT_FALSE(IsDumped(first + kHugePageBytes - 1));
  EXPECT_FALSE(IsDumped(first + kHugePageBytes));
  // Step by step, up to the last page, and behind it.
  for (std::size_t i = 0; i < kPagesPerHugePage; ++i) {
    Span* const span = Large(heap, 1);
    ASSERT_TRUE(IsDumped(span->start())) << i;
  }
  EXPECT_TRUE(IsDumped(first + kHugePageBytes - 1));
  Span* const large = Large(heap, 9 * kPagesPerHugePage);
  EXPECT_TRUE(IsDumped(large->start()));
  EXPECT_TRUE(IsDumped(LastByteOf(large)));
  const Reservation& reservation = *large->huge_page->reservation;
  const PageId end = reservation.first_page + PageCount::FromHugePages(reservation.huge_page_count);
  EXPECT_FALSE(IsDumped((end - PageCount(1)).start()));
  ExpectConsistent(heap);
}

TEST_F(CoreDump, HasAnObjectAndNotWhatItHasRoomFor) {
  PageHeap& heap = FreshPageHeap();
  Span* const span = Large(heap, 8 * kPagesPerMiB);
  Large(heap, 1);
  ASSERT_TRUE(heap.MoveLarge(span, PageCount(20 * kPagesPerMiB)));
  if (span->mapping_pages == span->pages.raw()) GTEST_SKIP() << "addresses are limited";
  EXPECT_TRUE(IsDumped(span->start()));
  EXPECT_TRUE(IsDumped(LastByteOf(span)));
  EXPECT_FALSE(IsDumped(LastByteOf(span) + 1));
  ASSERT_TRUE(heap.ResizeLarge(span, PageCount(30 * kPagesPerMiB)));
  EXPECT_TRUE(IsDumped(LastByteOf(span)));
  EXPECT_FALSE(IsDumped(LastByteOf(span) + 1));
  ASSERT_TRUE(heap.ResizeLarge(span, PageCount(10 * kPagesPerMiB)));
  EXPECT_TRUE(IsDumped(LastByteOf(span)));
  EXPECT_FALSE(IsDumped(LastByteOf(span) + 1));
  heap.Deallocate(span);
}

TEST_F(CoreDump, DoesNotHaveWhatTheProgramLeavesOut) {
  PageHeap& heap = FreshPageHeap();
  Span* const secret = Large(heap, 3 * kPagesPerHugePage);
  ASSERT_EQ(madvise(secret->start(), secret->bytes(), MADV_DONTDUMP), 0);
  Span* const part = Large(heap, 10);
  char* const page = static_cast<char*>(part->start()) + kPageBytes;
  ASSERT_EQ(madvise(page, kPageBytes, MADV_DONTDUMP), 0);
  // The heap grows around them.
  for (int i = 0; i < 64; ++i) Large(heap, kPagesPerHugePage);
  for (std::size_t i = 0; i < 2 * kPagesPerHugePage; ++i) Large(heap, 1);
  heap.ReleaseFree(0, true);
  EXPECT_FALSE(IsDumped(secret->start()));
  EXPECT_FALSE(IsDumped(LastByteOf(secret)));
  EXPECT_FALSE(IsDumped(page));
  EXPECT_TRUE(IsDumped(part->start()));
}

// When memory runs out, free huge pages are mapped anew.
TEST_F(CoreDump, DoesNotHaveWhatGaveUpItsCharge) {
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer has more than any limit";
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              PageHeap& heap = FreshPageHeap();
              const void* const freed = tarn_test::FreeHugePageBetweenOthers(heap);
              bool zero;
              tarn_test::LimitFurtherData(3 * kHugePageBytes);
              TARN_REQUIRE(heap.AllocateLarge(PageCount(6 * kPagesPerHugePage), PageCount(1), &zero) != nullptr);
              TARN_REQUIRE(!HasMappingFlag(freed, "wr") && !IsDumped(freed));
              heap.CheckInvariants();
            }),
            "");
}

}  // namespace
}  // namespace tarn::core_dump_test
