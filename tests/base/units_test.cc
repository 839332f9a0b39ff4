// SPDX-License-Identifier: Apache-2.0
//
// Pages and bytes: the conversions at their edges, and that the types do not mix.

#include "allocator/base/units.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace tarn {
namespace {

template <typename A, typename B>
concept Addable = requires(A a, B b) {
  a + b;
};
template <typename A, typename B>
concept Comparable = requires(A a, B b) {
  a < b;
};

static_assert(!std::is_convertible_v<std::size_t, PageCount> && !std::is_convertible_v<PageCount, std::size_t>);
static_assert(!std::is_convertible_v<std::uintptr_t, PageId> && !std::is_convertible_v<PageId, PageCount>);
static_assert(Addable<PageId, PageCount> && Addable<PageCount, PageCount>);
static_assert(!Addable<PageId, PageId> && !Addable<PageCount, std::size_t> && !Addable<PageId, std::size_t>);
static_assert(!Comparable<PageId, PageCount> && !Comparable<PageCount, std::size_t>);

TEST(PageCount, RoundsBytesUp) {
  EXPECT_EQ(PageCount::FromBytesCeil(0).raw(), 0u);
  EXPECT_EQ(PageCount::FromBytesCeil(1).raw(), 1u);
  EXPECT_EQ(PageCount::FromBytesCeil(kPageBytes).raw(), 1u);
  EXPECT_EQ(PageCount::FromBytesCeil(kPageBytes + 1).raw(), 2u);
  EXPECT_EQ(PageCount::FromBytesCeil(std::size_t{1} << 63).bytes(), std::size_t{1} << 63);
  EXPECT_EQ(PageCount::FromBytesCeil((std::size_t{1} << 63) - 1).bytes(), std::size_t{1} << 63);
}

TEST(PageCount, CountsHugePages) {
  EXPECT_EQ(PageCount(0).huge_pages_ceil(), 0u);
  EXPECT_EQ(PageCount(1).huge_pages_ceil(), 1u);
  EXPECT_EQ(PageCount(256).huge_pages_ceil(), 1u);
  EXPECT_EQ(PageCount(257).huge_pages_ceil(), 2u);
  EXPECT_EQ(PageCount::FromHugePages(3).bytes(), 3 * kHugePageBytes);
}

TEST(PageCount, AddsAndSubtracts) {
  PageCount pages(5);
  pages += PageCount(3);
  EXPECT_EQ(pages, PageCount(8));
  pages -= PageCount(6);
  EXPECT_EQ(pages, PageCount(2));
  EXPECT_EQ(PageCount(7) - PageCount(2) + PageCount(1), PageCount(6));
  EXPECT_LT(PageCount(2), PageCount(10));
}

TEST(PageId, IsThePlaceOfAnAddress) {
  const PageId page = PageId::Containing(std::uintptr_t{5 * kPageBytes + 17});
  EXPECT_EQ(page.raw(), 5u);
  EXPECT_EQ(page.address(), 5 * kPageBytes);
  EXPECT_EQ(page.start(), reinterpret_cast<void*>(5 * kPageBytes));
  EXPECT_EQ(page + PageCount(2) - page, PageCount(2));
  EXPECT_EQ((page - PageCount(5)).raw(), 0u);
  EXPECT_EQ(PageId::Containing(UINTPTR_MAX).raw(), UINTPTR_MAX / kPageBytes);
  int object = 0;
  EXPECT_EQ(PageId::Containing(&object), PageId::Containing(reinterpret_cast<std::uintptr_t>(&object)));
}

TEST(RoundUp, GoesToTheNextMultiple) {
  EXPECT_EQ(RoundUp(0, 8), 0u);
  EXPECT_EQ(RoundUp(1, 8), 8u);
  EXPECT_EQ(RoundUp(8, 8), 8u);
  EXPECT_EQ(RoundUp(9, 1), 9u);
  EXPECT_EQ(RoundUp((std::size_t{1} << 62) + 1, std::size_t{1} << 62), std::size_t{1} << 63);
}

}  // namespace
}  // namespace tarn
