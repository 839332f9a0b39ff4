// SPDX-License-Identifier: Apache-2.0
//
// The distance between names, and which of some names is the nearest.

#include "allocator/base/nearest_name.h"

#include <gtest/gtest.h>

#include <string>

namespace tarn {
namespace {

TEST(EditDistance, CountsInsertionsDeletionsReplacementsAndSwaps) {
  EXPECT_EQ(EditDistance("", ""), 0u);
  EXPECT_EQ(EditDistance("abc", "abc"), 0u);
  EXPECT_EQ(EditDistance("abc", ""), 3u);
  EXPECT_EQ(EditDistance("", "abc"), 3u);
  EXPECT_EQ(EditDistance("abc", "abxc"), 1u);
  EXPECT_EQ(EditDistance("abc", "ac"), 1u);
  EXPECT_EQ(EditDistance("abc", "axc"), 1u);
  EXPECT_EQ(EditDistance("abc", "acb"), 1u);
  EXPECT_EQ(EditDistance("bac", "abc"), 1u);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3u);
  EXPECT_EQ(EditDistance("abcd", "badc"), 2u);
}

TEST(EditDistance, OfLongNamesIsTheMostThatItCanBe) {
  const std::string at_bound(40, 'a');
  EXPECT_EQ(EditDistance(at_bound, at_bound), 0u);
  EXPECT_EQ(EditDistance(at_bound, std::string(39, 'a')), 1u);
  const std::string beyond(41, 'a');
  EXPECT_EQ(EditDistance(beyond, beyond), 41u);
  EXPECT_EQ(EditDistance("a", std::string(100000, 'a')), 100000u);
}

TEST(NearestName, IsTheFirstOfTheNearestOrNone) {
  NearestName nearest(2);
  nearest.Consider("far", 3);
  EXPECT_EQ(nearest.name(), "");
  nearest.Consider("near", 2);
  EXPECT_EQ(nearest.name(), "near");
  nearest.Consider("as near", 2);
  EXPECT_EQ(nearest.name(), "near");
  nearest.Consider("nearest", 0);
  nearest.Consider("near", 2);
  EXPECT_EQ(nearest.name(), "nearest");
}

}  // namespace
}  // namespace tarn
