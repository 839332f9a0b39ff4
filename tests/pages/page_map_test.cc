// SPDX-License-Identifier: Apache-2.0
//
// The page map: what was registered is found, and any bit pattern may be asked for.

#include "allocator/pages/page_map.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "allocator/pages/span.h"
#include "tests/pages/fresh_page_heap.h"

namespace tarn {
namespace {

constexpr std::uintptr_t kGiB = std::uintptr_t{1} << kLeafShift;

// A map of its own with leaves in some places. Nothing is at the addresses; the map does not look there.
class PageMapTest : public testing::Test {
 protected:
  void AddLeaf(std::size_t root_index) {
    leaves_.push_back(std::make_unique<PageMapLeaf>());
    map_->InstallLeaf(root_index, leaves_.back().get());
  }
  static Span MakeSpan(SpanKind kind, std::uintptr_t address, std::size_t pages, SizeClass size_class) {
    Span span;
    span.first_page = PageId::Containing(address);
    span.pages = PageCount(pages);
    span.kind = kind;
    span.size_class = size_class;
    return span;
  }

  std::unique_ptr<PageMap> map_ = std::make_unique<PageMap>();

 private:
  std::vector<std::unique_ptr<PageMapLeaf>> leaves_;
};

TEST_F(PageMapTest, KnowsNothingWithoutLeaves) {
  for (int bit = 0; bit < 64; ++bit) {
    for (const std::uintptr_t address :
         {std::uintptr_t{1} << bit, (std::uintptr_t{1} << bit) - 1, ~std::uintptr_t{0} << bit}) {
      EXPECT_EQ(map_->ClassOf(address), 0);
      EXPECT_EQ(map_->SpanOf(PageId::Containing(address)), nullptr);
      EXPECT_EQ(map_->SpanAround(address), nullptr);
    }
  }
}

TEST_F(PageMapTest, ASmallSpanIsFoundFromAllOfItsBytes) {
  for (const std::size_t leaf : {std::size_t{0}, std::size_t{5}, kRootEntries - 1}) {
    AddLeaf(leaf);
    EXPECT_TRUE(map_->HasLeaf(leaf));
    // At the first pages of the leaf, in the middle, and at the last ones.
    for (const std::uintptr_t offset : {std::uintptr_t{0}, kGiB / 2, kGiB - 3 * kPageBytes}) {
      const std::uintptr_t start = leaf * kGiB + offset;
      Span span = MakeSpan(SpanKind::kSmall, start, 3, 42);
      map_->Register(&span);
      for (const std::uintptr_t at :
           {std::uintptr_t{0}, kPageBytes - 1, kPageBytes, 2 * kPageBytes, 3 * kPageBytes - 1}) {
        EXPECT_EQ(map_->ClassOf(start + at), 42);
        EXPECT_EQ(map_->SpanOf(PageId::Containing(start + at)), &span);
        EXPECT_EQ(map_->SpanAround(start + at), &span);
      }
      for (const std::uintptr_t beside : {start - 1, start + 3 * kPageBytes}) {
        EXPECT_EQ(map_->ClassOf(beside), 0);
        EXPECT_EQ(map_->SpanOf(PageId::Containing(beside)), nullptr);
        EXPECT_EQ(map_->SpanAround(beside), nullptr);
      }
      map_->Unregister(&span);
      for (std::uintptr_t page = 0; page < 3; ++page) {
        EXPECT_EQ(map_->ClassOf(start + page * kPageBytes), 0);
        EXPECT_EQ(map_->SpanOf(PageId::Containing(start + page * kPageBytes)), nullptr);
      }
    }
  }
}

TEST_F(PageMapTest, ALargeSpanIsFoundAtItsStartAndLookedForFromWithin) {
  AddLeaf(7);
  AddLeaf(8);
  // It crosses from one leaf into the next.
  const std::uintptr_t start = 8 * kGiB - 5 * kPageBytes;
  Span span = MakeSpan(SpanKind::kLarge, start, 300, 0);
  Span behind = MakeSpan(SpanKind::kSmall, start + 300 * kPageBytes, 1, 9);
  map_->Register(&span);
  map_->Register(&behind);
  EXPECT_EQ(map_->ClassOf(start), 0);
  EXPECT_EQ(map_->SpanOf(PageId::Containing(start)), &span);
  EXPECT_EQ(map_->SpanOf(PageId::Containing(start + kPageBytes)), nullptr);
  for (const std::size_t page : {0u, 1u, 4u, 5u, 6u, 150u, 299u}) {
    EXPECT_EQ(map_->SpanAround(start + page * kPageBytes + 13), &span) << page;
  }
  EXPECT_EQ(map_->SpanAround(start - 1), nullptr);
  EXPECT_EQ(map_->SpanAround(start + 300 * kPageBytes), &behind);
  EXPECT_EQ(map_->SpanAround(start + 301 * kPageBytes), nullptr);
  map_->Unregister(&span);
  EXPECT_EQ(map_->SpanOf(PageId::Containing(start)), nullptr);
  EXPECT_EQ(map_->SpanAround(start + 6 * kPageBytes), nullptr);
  EXPECT_EQ(map_->SpanOf(behind.first_page), &behind);
}

// A span with a mapping of its own has a leaf for its first page only.
TEST_F(PageMapTest, ALargeSpanIsFoundFromAGiBWithoutALeaf) {
  AddLeaf(20);
  Span span = MakeSpan(SpanKind::kMapped, 21 * kGiB - kPageBytes, kGiB / kPageBytes / 2, 0);
  map_->Register(&span);
  EXPECT_EQ(map_->SpanAround(21 * kGiB + 100), &span);
  EXPECT_EQ(map_->SpanAround(21 * kGiB + kGiB / 4), &span);
  EXPECT_EQ(map_->SpanAround(21 * kGiB + kGiB / 2), nullptr);
  EXPECT_EQ(map_->SpanAround(22 * kGiB), nullptr);
}

TEST_F(PageMapTest, TheLowestAddressesAreNoSpecialCase) {
  AddLeaf(0);
  EXPECT_EQ(map_->SpanAround(0), nullptr);
  EXPECT_EQ(map_->SpanAround(3 * kPageBytes), nullptr);
  Span span = MakeSpan(SpanKind::kLarge, 0, 2, 0);
  map_->Register(&span);
  EXPECT_EQ(map_->SpanAround(2 * kPageBytes - 1), &span);
  EXPECT_EQ(map_->SpanAround(2 * kPageBytes), nullptr);
}

// The map of the process, with a real heap in it, asked for whatever a program may pass to free.
TEST(ProcessPageMap, AnyBitPatternIsAValidQuestion) {
  PageHeap& heap = tarn_test::FreshPageHeap();
  Span* small = heap.AllocateSmall(5);
  Span* large = tarn_test::Large(heap, 700);
  ASSERT_TRUE(small != nullptr && large != nullptr);
  std::mt19937_64 random(3);
  for (int i = 0; i < 200000; ++i) {
    // From a few bits to all of them, so that user space, the hole and the kernel's half all occur.
    const std::uintptr_t address = random() >> (random() % 64);
    static_cast<void>(page_map.ClassOf(address));
    static_cast<void>(page_map.SpanOf(PageId::Containing(address)));
    static_cast<void>(heap.ServesAddress(address));
    if (i % 64 == 0) static_cast<void>(page_map.SpanAround(address));
    if (address >> kAddressBits != 0) {
      ASSERT_EQ(page_map.ClassOf(address), 0);
      ASSERT_EQ(page_map.SpanOf(PageId::Containing(address)), nullptr);
      ASSERT_EQ(page_map.SpanAround(address), nullptr);
      ASSERT_FALSE(heap.ServesAddress(address));
    }
  }
  for (int i = 0; i < 20000; ++i) {
    const std::uintptr_t offset = random();
    ASSERT_EQ(page_map.ClassOf(small->start_address() + offset % small->bytes()), 5);
    const std::uintptr_t within = large->start_address() + offset % large->bytes();
    ASSERT_EQ(page_map.ClassOf(within), 0);
    ASSERT_EQ(page_map.SpanAround(within), large);
    // The same place, but in the half of the address space that is not ours.
    ASSERT_EQ(page_map.ClassOf(within | std::uintptr_t{1} << 63), 0);
    ASSERT_EQ(page_map.ClassOf(small->start_address() | std::uintptr_t{1} << 47), 0);
  }
  heap.Deallocate(small);
  heap.Deallocate(large);
}

}  // namespace
}  // namespace tarn
