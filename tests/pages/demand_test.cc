// SPDX-License-Identifier: Apache-2.0
//
// The page heap's measure of the memory that is wanted, fed by hand.

#include "allocator/pages/demand.h"

#include <gtest/gtest.h>

namespace tarn {
namespace {

constexpr std::uint32_t kStartMs = 1'000'000;

void Surge(Demand& demand, int huge_pages, std::uint32_t freed_at_ms, std::uint32_t now_ms) {
  for (int i = 0; i < huge_pages; ++i) demand.NoteReturn(freed_at_ms, now_ms);
}

TEST(Demand, PeaksAreRememberedForTheShortWindow) {
  Demand demand;
  EXPECT_EQ(demand.RecentPeakBytes(kStartMs), 0u);
  demand.NoteFree(500, kStartMs);
  demand.NoteFree(100, kStartMs + 10);
  EXPECT_EQ(demand.RecentPeakBytes(kStartMs + 20), 500u);
  EXPECT_EQ(demand.RecentPeakBytes(kStartMs + Demand::kDefaultWindowMs - 1), 500u);
  EXPECT_EQ(demand.RecentPeakBytes(kStartMs + 2 * Demand::kDefaultWindowMs - 1), 500u);
  EXPECT_EQ(demand.RecentPeakBytes(kStartMs + 4 * Demand::kDefaultWindowMs), 0u);
  demand.NoteFree(70, kStartMs + 4 * Demand::kDefaultWindowMs + 1);
  EXPECT_EQ(demand.RecentPeakBytes(kStartMs + 4 * Demand::kDefaultWindowMs + 2), 70u);
}

TEST(Demand, ASingleBurstLeavesNoTrace) {
  Demand demand;
  EXPECT_EQ(demand.KeptHugePages(kStartMs), 0u);
  demand.NoteFree(std::size_t{1} << 30, kStartMs);
  EXPECT_EQ(demand.KeptHugePages(kStartMs + 1), 0u);
}

TEST(Demand, WhatComesBackIsKeptForThreeGaps) {
  Demand demand;
  Surge(demand, 50, kStartMs, kStartMs + 4000);
  EXPECT_EQ(demand.KeptHugePages(kStartMs + 4000), 50u);
  EXPECT_EQ(demand.KeptHugePages(kStartMs + 4000 + 3 * 4000 - 1), 50u);
  EXPECT_EQ(demand.KeptHugePages(kStartMs + 4000 + 3 * 4000), 0u);
}

TEST(Demand, ASmallerSurgeDoesNotHideTheOneBefore) {
  Demand demand;
  Surge(demand, 50, kStartMs, kStartMs + 4000);
  Surge(demand, 10, kStartMs + 4500, kStartMs + 8000);
  EXPECT_EQ(demand.KeptHugePages(kStartMs + 8001), 50u);
  // Not added up, either.
  Surge(demand, 50, kStartMs + 8500, kStartMs + 12000);
  EXPECT_EQ(demand.KeptHugePages(kStartMs + 12001), 50u);
}

TEST(Demand, QuickAndVerySlowReturnsTellNothing) {
  Demand demand;
  Surge(demand, 5, kStartMs, kStartMs + 100);
  EXPECT_EQ(demand.KeptHugePages(kStartMs + 101), 0u);
  Surge(demand, 5, kStartMs, kStartMs + Demand::kLongestGapMs + 1);
  EXPECT_EQ(demand.KeptHugePages(kStartMs + Demand::kLongestGapMs + 2), 0u);
}

TEST(Demand, NoGapKeepsForLongerThanAMinute) {
  Demand demand;
  const std::uint32_t back_ms = kStartMs + Demand::kLongestGapMs;
  Surge(demand, 5, kStartMs, back_ms);
  EXPECT_EQ(demand.KeptHugePages(back_ms + Demand::kLongestKeptMs - 1), 5u);
  EXPECT_EQ(demand.KeptHugePages(back_ms + Demand::kLongestKeptMs), 0u);
}

TEST(Demand, TheClockMayWrap) {
  Demand demand;
  const std::uint32_t before_wrap_ms = 0u - 1000u;
  demand.NoteFree(500, before_wrap_ms);
  EXPECT_EQ(demand.RecentPeakBytes(200), 500u);
  Surge(demand, 3, before_wrap_ms, 1000);
  EXPECT_EQ(demand.KeptHugePages(1500), 3u);
}

// The clock counts from the start of the machine, which may be weeks ago.
TEST(Demand, PeaksAreForgottenWheneverTheProcessBegan) {
  for (const std::uint32_t start_ms : {1u, 0x7FFF'FFFFu, 0x8000'0000u, 0xC000'0000u, 0xFFFF'FFFFu - kMostDisorderMs}) {
    Demand demand;
    demand.NoteFree(500, start_ms);
    EXPECT_EQ(demand.RecentPeakBytes(start_ms + 1), 500u);
    EXPECT_EQ(demand.RecentPeakBytes(start_ms + 4 * Demand::kDefaultWindowMs), 0u) << start_ms;
  }
}

}  // namespace
}  // namespace tarn
