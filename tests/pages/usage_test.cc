// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/usage.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <random>
#include <vector>

namespace tarn {
namespace {

TEST(Usage, CountsObjectsOfEitherKind) {
  Usage usage;
  usage.Use(PageCount(100));
  usage.AddLarge(PageCount(100));
  usage.AddMappedObject(PageCount(1000));
  EXPECT_EQ(usage.large_objects(), 2u);
  EXPECT_EQ(usage.UpdatePeak(), 1100 * kPageBytes);
  // The mapping grows, and the other object moves to one of its own.
  usage.BeginGrowth(10 * kPageBytes);
  usage.ResizeMapped(PageCount(1000), PageCount(1010));
  usage.BeginGrowth(50 * kPageBytes);
  usage.Free(PageCount(100));
  usage.MakeMapped(PageCount(100));
  usage.ResizeMapped(PageCount(100), PageCount(150));
  EXPECT_EQ(usage.in_use().raw(), 0u);
  EXPECT_EQ(usage.large_in_use().raw(), 0u);
  EXPECT_EQ(usage.mapped_bytes(), 1160 * kPageBytes);
  EXPECT_EQ(usage.mapped_objects(), 2u);
  EXPECT_EQ(usage.LargeBytesFrom(0), usage.mapped_bytes());
  EXPECT_EQ(usage.large_allocated_bytes_total(), 1160 * kPageBytes);
  usage.RemoveMappedObject(PageCount(150));
  usage.RemoveMappedObject(PageCount(1010));
  EXPECT_EQ(usage.mapped_bytes(), 0u);
  EXPECT_EQ(usage.large_objects(), 0u);
  EXPECT_EQ(usage.large_allocations_total(), 2u);
  EXPECT_EQ(usage.large_freed_bytes_total(), 1160 * kPageBytes);
  EXPECT_EQ(usage.peak_bytes(), 1100 * kPageBytes) << "as of the last update";
}

TEST(Usage, KnowsHowMuchIsInLargeObjectsOfASize) {
  constexpr std::size_t kOneMiB = std::size_t{1} << 20;
  Usage usage;
  usage.AddLarge(PageCount(1));
  usage.AddLarge(PageCount(5 * (kOneMiB / kPageBytes)));
  usage.AddMappedObject(PageCount(600 * (kOneMiB / kPageBytes)));
  EXPECT_EQ(usage.LargeBytesFrom(0), 605 * kOneMiB + kPageBytes);
  EXPECT_EQ(usage.LargeBytesFrom(2 * kOneMiB), 605 * kOneMiB);
  EXPECT_EQ(usage.LargeBytesFrom(8 * kOneMiB), 600 * kOneMiB);
  EXPECT_EQ(usage.LargeBytesFrom(1024 * kOneMiB), 0u);
}

TEST(Usage, NothingIsLeftWhenAllObjectsAreGone) {
  Usage usage;
  std::vector<std::size_t> sizes;
  std::mt19937_64 random(1);
  for (int step = 0; step < 5000; ++step) {
    const std::size_t pages = 1 + random() % 4000;
    if (sizes.empty() || random() % 3 == 0) {
      usage.AddLarge(PageCount(pages));
      sizes.push_back(pages);
    } else if (random() % 2 == 0) {
      usage.ResizeLarge(PageCount(sizes.back()), PageCount(pages));
      sizes.back() = pages;
    } else {
      usage.RemoveLarge(PageCount(sizes.back()));
      sizes.pop_back();
    }
    ASSERT_EQ(usage.LargeBytesFrom(0), usage.large_in_use().bytes());
    ASSERT_EQ(usage.large_objects(), sizes.size());
  }
  for (const std::size_t pages : sizes) usage.RemoveLarge(PageCount(pages));
  EXPECT_EQ(usage.LargeBytesFrom(0), 0u);
  EXPECT_EQ(usage.large_allocated_bytes_total(), usage.large_freed_bytes_total());
}

}  // namespace
}  // namespace tarn
