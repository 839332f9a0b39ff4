// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/warm_pages.h"

#include <gtest/gtest.h>

#include "tests/pages/page_parts.h"

namespace tarn {
namespace {

using tarn_test::FakeReservation;

HugePage* Warm(HugePage* huge_page, std::size_t pages, std::uint32_t refused_at_ms = 0) {
  huge_page->zero.ClearRange(0, pages);
  huge_page->refused_at_ms = refused_at_ms;
  return huge_page;
}

TEST(WarmPages, ComeBackLastFirstAndGoOldestFirst) {
  FakeReservation pages(3);
  WarmPages warm;
  EXPECT_EQ(warm.newest(), nullptr);
  EXPECT_EQ(warm.oldest(), nullptr);
  for (std::size_t i = 0; i < 3; ++i) warm.Add(Warm(pages[i], i + 1));
  EXPECT_EQ(warm.newest(), pages[2]);
  EXPECT_EQ(warm.oldest(), pages[0]);
  EXPECT_EQ(warm.bytes(), 6 * kPageBytes);
  warm.Remove(pages[0]);
  EXPECT_EQ(warm.oldest(), pages[1]);
  EXPECT_EQ(warm.bytes(), 5 * kPageBytes);
}

TEST(WarmPages, RefusedOnesAreNotReleasedUntilTheirTimeCame) {
  FakeReservation pages(3);
  WarmPages warm;
  warm.Add(Warm(pages[0], 1, 1000));
  warm.Add(Warm(pages[1], 2, 5000));
  EXPECT_EQ(warm.oldest(), nullptr);
  EXPECT_EQ(warm.newest(), pages[1]) << "it can be used all the same";
  EXPECT_EQ(warm.bytes(), 0u);
  EXPECT_EQ(warm.refused_bytes(), 3 * kPageBytes);
  warm.Add(Warm(pages[2], 4));

  warm.TryRefusedAgain(1000 + HugePage::kTryRefusedAgainMs, false);
  EXPECT_EQ(warm.oldest(), pages[0]);
  EXPECT_EQ(warm.newest(), pages[2]);
  EXPECT_EQ(warm.bytes(), 5 * kPageBytes);
  EXPECT_EQ(warm.refused_bytes(), 2 * kPageBytes);
  EXPECT_TRUE(warm.has_refused());

  warm.TryRefusedAgain(5001, true);
  EXPECT_FALSE(warm.has_refused());
  EXPECT_EQ(warm.bytes(), 7 * kPageBytes);
}

TEST(WarmPages, TheReservationKnowsWhichItHas) {
  FakeReservation pages(3);
  WarmPages warm;
  warm.Add(Warm(pages[0], 1));
  warm.Add(Warm(pages[1], 0));
  warm.Add(Warm(pages[2], 4, 1000));
  EXPECT_TRUE(pages.record()->warm.Test(0));
  EXPECT_FALSE(pages.record()->warm.Test(1));
  EXPECT_TRUE(pages.record()->warm.Test(2));
  warm.TryRefusedAgain(0, true);
  warm.Remove(pages[2]);
  EXPECT_EQ(pages.record()->warm.Count(), 1u);
}

TEST(WarmPages, OneWithoutMemoryStaysOnNoList) {
  FakeReservation pages(1);
  WarmPages warm;
  warm.Add(Warm(pages[0], 0));
  EXPECT_FALSE(pages[0]->linked());
  EXPECT_EQ(warm.newest(), nullptr);
  EXPECT_EQ(warm.bytes(), 0u);
}

}  // namespace
}  // namespace tarn
