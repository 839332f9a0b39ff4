// SPDX-License-Identifier: Apache-2.0
//
// The cost of bringing memory, and the pauses that follow from it.
#include "allocator/pages/bring_cost.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace tarn {
namespace {

constexpr std::size_t kSmallBytes = 4096;
constexpr std::uint64_t kCheapHugeNs = 180'000;
constexpr std::uint64_t kDearHugeNs = 6'000'000;
constexpr std::size_t kCallBytes = std::size_t{256} << 10;

void NoteSmall(BringCost* cost, std::uint64_t page_ns, std::uint32_t now_ms) {
  cost->NoteSmall(kCallBytes, kCallBytes / kSmallBytes * page_ns, now_ms);
}

// The pause that a huge page leads to.
std::uint32_t PauseAfter(BringCost* cost, std::uint64_t ns, std::uint32_t* now_ms) {
  cost->NoteHuge(true, ns, *now_ms);
  std::uint32_t pause_ms = 0;
  for (; !cost->HugePagesPay(*now_ms); *now_ms += 100) pause_ms += 100;
  return pause_ms;
}

TEST(BringCost, HugePagesPauseForTwiceAsLongEachTimeThatOneIsDear) {
  BringCost cost;
  std::uint32_t now_ms = 1;
  EXPECT_TRUE(cost.HugePagesPay(now_ms));
  EXPECT_EQ(PauseAfter(&cost, kCheapHugeNs, &now_ms), 0u);
  std::uint32_t expected_ms = BringCost::kFirstPauseMs;
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(PauseAfter(&cost, kDearHugeNs, &now_ms), expected_ms);
    expected_ms = std::min(2 * expected_ms, BringCost::kLastPauseMs);
  }
  // Many cheap ones in a row make it short again.
  for (int i = 0; i < 50; ++i) EXPECT_EQ(PauseAfter(&cost, kCheapHugeNs, &now_ms), 0u);
  EXPECT_EQ(PauseAfter(&cost, kDearHugeNs, &now_ms), BringCost::kFirstPauseMs);
}

TEST(BringCost, AHugePageThatTheKernelDidNotHaveIsDear) {
  BringCost cost;
  cost.NoteHuge(false, 1000, 1);
  EXPECT_FALSE(cost.HugePagesPay(2));
}

TEST(BringCost, AHugePageIsDearThatTakesLongerThanItsMemoryInSmallPages) {
  BringCost cost;
  NoteSmall(&cost, 100, 1);
  cost.NoteHuge(true, kCheapHugeNs, 1);
  EXPECT_FALSE(cost.HugePagesPay(2));
  BringCost other;
  NoteSmall(&other, 1000, 1);
  other.NoteHuge(true, kCheapHugeNs, 1);
  EXPECT_TRUE(other.HugePagesPay(2));
}

TEST(BringCost, SmallPagesThatAreDearSayThatHugeOnesAre) {
  BringCost cost;
  NoteSmall(&cost, 1300, 1);
  EXPECT_TRUE(cost.HugePagesPay(2));
  // A call for few pages takes its time for itself.
  cost.NoteSmall(2 * kSmallBytes, 2 * 9000, 1);
  EXPECT_TRUE(cost.HugePagesPay(2));
  // The thread had no CPU for a while.
  NoteSmall(&cost, 100'000, 1);
  EXPECT_TRUE(cost.HugePagesPay(2));
  NoteSmall(&cost, 9000, 1);
  EXPECT_FALSE(cost.HugePagesPay(2));
  EXPECT_TRUE(cost.HugePagesPay(1 + BringCost::kFirstPauseMs));
}

TEST(BringCost, OneCallTakesABoundedTime) {
  BringCost cost;
  EXPECT_EQ(cost.MostSmallBytes(), SIZE_MAX);
  for (const std::uint64_t page_ns : {300u, 1300u, 9000u, 50'000u}) {
    NoteSmall(&cost, page_ns, 1);
    EXPECT_LE(cost.MostSmallBytes() / kSmallBytes * page_ns, BringCost::kMostSmallNs * 16 / 15);
  }
  // Populating is tried again after it was dear once.
  NoteSmall(&cost, BringCost::kMostSmallNs * 10, 1);
  EXPECT_EQ(cost.MostSmallBytes(), 0u);
  int questions = 0;
  while (cost.MostSmallBytes() < kCallBytes && questions < 1000) ++questions;
  EXPECT_LT(questions, 1000);
}

TEST(BringCost, LargeObjectsAreSampledNowAndThen) {
  BringCost cost;
  EXPECT_TRUE(cost.IsTimeToSample(1));
  cost.NoteHuge(true, kCheapHugeNs, 1);
  EXPECT_FALSE(cost.IsTimeToSample(2));
  EXPECT_TRUE(cost.IsTimeToSample(1 + BringCost::kSampleMs));
}

}  // namespace
}  // namespace tarn
