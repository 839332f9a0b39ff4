// SPDX-License-Identifier: Apache-2.0
//
// The budget for giving memory back from the program's own slow paths.
#include "allocator/pages/release_budget.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace tarn {
namespace {

constexpr std::size_t kBudgetMiB = std::size_t{1} << 20;
constexpr std::uint32_t kBudgetStartMs = 1'000'000;

// A program whose use rises by `bytes` and falls again, every `period_ms`, for `all_ms`. Returns the time that was
// lost: that of each release whose memory returned, and of the page faults.
std::uint64_t LostNs(ReleaseBudget* budget, std::size_t bytes, std::uint64_t release_ns, std::uint32_t period_ms,
                     std::uint32_t all_ms) {
  std::uint64_t lost_ns = 0;
  bool released = false;
  for (std::uint32_t passed_ms = 0; passed_ms < all_ms; passed_ms += period_ms) {
    const std::uint32_t now_ms = kBudgetStartMs + passed_ms;
    if (released) {
      budget->NoteReturn(bytes, now_ms);
      lost_ns += release_ns + bytes / kBudgetMiB * ReleaseBudget::kFaultNsPerMiB;
    }
    released = budget->Allows(now_ms);
    if (released) budget->NoteRelease(bytes, release_ns, now_ms);
  }
  return lost_ns;
}

TEST(ReleaseBudget, WhatGrowthDisplacesIsPaidForAtOnce) {
  ReleaseBudget budget;
  EXPECT_TRUE(budget.AllowsDisplacing(kBudgetStartMs));
  budget.NoteDisplaced(10 * kBudgetMiB, 600'000);
  constexpr std::uint64_t kCostNs = 600'000 + 10 * ReleaseBudget::kFaultNsPerMiB;
  constexpr std::uint32_t kPaysMs = kCostNs * ReleaseBudget::kDisplacingTimeDivisor / 1'000'000;
  for (std::uint32_t passed_ms = 0; passed_ms <= kPaysMs; passed_ms += 7) {
    ASSERT_FALSE(budget.AllowsDisplacing(kBudgetStartMs + passed_ms));
  }
  EXPECT_TRUE(budget.AllowsDisplacing(kBudgetStartMs + kPaysMs + 1));
  EXPECT_TRUE(budget.Allows(kBudgetStartMs + kPaysMs + 1)) << "falls have an account of their own";
  // However long the time before, it pays for one second.
  const std::uint32_t later_ms = kBudgetStartMs + 1'000'000;
  EXPECT_TRUE(budget.AllowsDisplacing(later_ms));
  budget.NoteDisplaced(39 * kBudgetMiB, 0);
  EXPECT_TRUE(budget.AllowsDisplacing(later_ms));
  budget.NoteDisplaced(kBudgetMiB, 0);
  EXPECT_FALSE(budget.AllowsDisplacing(later_ms));
  // A release that was preempted counts as one that was slow; one that found nothing counts, too.
  EXPECT_TRUE(budget.AllowsDisplacing(later_ms + 1'000));
  budget.NoteDisplaced(0, 1'000'000'000);
  EXPECT_TRUE(budget.AllowsDisplacing(later_ms + 1'000));
  for (int i = 0; i < 100; ++i) budget.NoteDisplaced(0, 1'000'000);
  EXPECT_FALSE(budget.AllowsDisplacing(later_ms + 1'000));
}

TEST(ReleaseBudget, AllowsTheFirstFallHoweverLarge) {
  ReleaseBudget budget;
  EXPECT_TRUE(budget.Allows(kBudgetStartMs));
  budget.NoteRelease(4096 * kBudgetMiB, 1'000'000'000, kBudgetStartMs);
  EXPECT_TRUE(budget.Allows(kBudgetStartMs));
}

TEST(ReleaseBudget, FallsThatAreNotFollowedByAReturnCostNothing) {
  ReleaseBudget budget;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    ASSERT_TRUE(budget.Allows(kBudgetStartMs + i));
    budget.NoteRelease(100 * kBudgetMiB, 20'000'000, kBudgetStartMs + i);
  }
}

// The debt, in milliseconds until it is paid: what 100 MiB cost by which each return is charged.
constexpr std::uint64_t kHundredMiBNs = 20'000'000 + 100 * ReleaseBudget::kFaultNsPerMiB;
constexpr std::uint32_t kPaysOneMs = kHundredMiBNs * ReleaseBudget::kTimeDivisor / 1'000'000;

// Releases 100 MiB, which return all at once `away_ms` later. Returns the time of the return.
std::uint32_t FallAndReturn(ReleaseBudget* budget, std::uint32_t now_ms, std::uint32_t away_ms) {
  budget->NoteRelease(100 * kBudgetMiB, 20'000'000, now_ms);
  budget->NoteReturn(100 * kBudgetMiB, now_ms + away_ms);
  return now_ms + away_ms;
}

// How long nothing is released after `now_ms`, to a hundredth of a second.
std::uint32_t RefusedMs(ReleaseBudget budget, std::uint32_t now_ms) {
  std::uint32_t passed_ms = 0;
  while (!budget.Allows(now_ms + passed_ms)) passed_ms += 10;
  return passed_ms;
}

TEST(ReleaseBudget, AReturnIsPaidForByTime) {
  ReleaseBudget budget;
  const std::uint32_t now_ms = FallAndReturn(&budget, kBudgetStartMs, ReleaseBudget::kShortGapMs);
  EXPECT_NEAR(RefusedMs(budget, now_ms), kPaysOneMs - ReleaseBudget::kShortGapMs, 50);
}

// The fall that comes right after a return is answered, too, if memory was away for long enough before.
TEST(ReleaseBudget, TimeBetweenAReleaseAndItsReturnPays) {
  ReleaseBudget budget;
  const std::uint32_t now_ms = FallAndReturn(&budget, kBudgetStartMs, 5000);
  EXPECT_TRUE(budget.Allows(now_ms));
  EXPECT_TRUE(budget.Allows(FallAndReturn(&budget, now_ms, 5000)));
}

TEST(ReleaseBudget, AReturnAfterAShortGapIsChargedEightfold) {
  ReleaseBudget budget;
  const std::uint32_t now_ms = FallAndReturn(&budget, kBudgetStartMs, ReleaseBudget::kShortGapMs - 1);
  EXPECT_NEAR(RefusedMs(budget, now_ms), 8 * kPaysOneMs - ReleaseBudget::kShortGapMs, 50);
}

TEST(ReleaseBudget, EachReturnDoublesTheNextChargeAndAFallWithoutOneHalvesIt) {
  ReleaseBudget budget;
  std::uint32_t now_ms = kBudgetStartMs;
  for (const unsigned times : {1u, 2u, 4u, 8u, 16u, 16u}) {
    now_ms = FallAndReturn(&budget, now_ms, ReleaseBudget::kLongestGapMs - 1);
    const std::uint32_t refused_ms = RefusedMs(budget, now_ms);
    const std::uint32_t charged_ms = times * kPaysOneMs;
    EXPECT_NEAR(refused_ms, charged_ms - std::min(charged_ms, ReleaseBudget::kMostCreditMs), 50);
    now_ms += refused_ms;
  }
  budget.NoteRelease(100 * kBudgetMiB, 20'000'000, now_ms);
  budget.NoteReturn(8192, now_ms + ReleaseBudget::kLongestGapMs);
  now_ms = FallAndReturn(&budget, now_ms + ReleaseBudget::kLongestGapMs, ReleaseBudget::kLongestGapMs - 1);
  EXPECT_NEAR(RefusedMs(budget, now_ms), 8 * kPaysOneMs - ReleaseBudget::kMostCreditMs, 50);
}

TEST(ReleaseBudget, ABurstIsRefusedForAMinuteAtMostUnlessItCostsMore) {
  for (const std::size_t mib : {1000u, 4000u, 40'000u}) {
    ReleaseBudget budget;
    budget.NoteRelease(mib * kBudgetMiB, mib * 100'000, kBudgetStartMs);
    budget.NoteReturn(mib * kBudgetMiB, kBudgetStartMs + 10);
    const auto pays_ms = static_cast<std::uint32_t>(mib * (100'000 + ReleaseBudget::kFaultNsPerMiB) *
                                                    std::uint64_t{ReleaseBudget::kTimeDivisor} / 1'000'000);
    EXPECT_NEAR(RefusedMs(budget, kBudgetStartMs + 10), std::max(pays_ms, 60'000u), 50) << mib;
  }
}

// Allocations while much more is freed do not count as a burst.
TEST(ReleaseBudget, AFallWithAFewAllocationsInItGoesOn) {
  ReleaseBudget budget;
  std::uint32_t now_ms = kBudgetStartMs;
  for (int i = 0; i < 50; ++i, now_ms += 1) {
    ASSERT_TRUE(budget.Allows(now_ms)) << i;
    budget.NoteRelease(2 * kBudgetMiB, 200'000, now_ms);
    budget.NoteReturn(16384, now_ms);
  }
}

TEST(ReleaseBudget, AGrowingProgramThatTakesReleasedPagesBackIsNotHindered) {
  ReleaseBudget budget;
  budget.NoteRelease(100 * kBudgetMiB, 20'000'000, kBudgetStartMs);
  // 2.5 MiB a second.
  for (std::uint32_t i = 0; i < 1000; ++i) {
    budget.NoteReturn(8192, kBudgetStartMs + 3 * i);
    ASSERT_TRUE(budget.Allows(kBudgetStartMs + 3 * i));
  }
}

TEST(ReleaseBudget, BurstsLoseAtMostThreePercent) {
  for (const std::size_t mib : {5u, 100u, 2000u}) {
    for (const std::uint32_t period_ms : {2u, 50u, 1000u, 10'000u}) {
      ReleaseBudget budget;
      constexpr std::uint32_t kAllMs = 600'000;
      const std::uint64_t lost_ns = LostNs(&budget, mib * kBudgetMiB, mib * 200'000, period_ms, kAllMs);
      EXPECT_LE(lost_ns, std::uint64_t{kAllMs} * 1'000'000 / ReleaseBudget::kTimeDivisor) << mib << " " << period_ms;
    }
  }
}

TEST(ReleaseBudget, BurstsOfASecondLoseLittleInTheLongRun) {
  ReleaseBudget budget;
  constexpr std::uint32_t kAllMs = 600'000;
  LostNs(&budget, 100 * kBudgetMiB, 20'000'000, 1000, kAllMs);
  const std::uint64_t later_ns = LostNs(&budget, 100 * kBudgetMiB, 20'000'000, 1000, kAllMs);
  EXPECT_LE(later_ns, std::uint64_t{kAllMs} * 1'000'000 / 300);
}

// In its first seconds, too, a program loses the first fall and no more.
TEST(ReleaseBudget, BurstsOfAShortProgramCostOneFall) {
  for (const std::size_t mib : {8u, 100u, 1000u}) {
    for (const std::uint32_t period_ms : {1u, 10u, 50u, 300u}) {
      ReleaseBudget budget;
      const std::uint64_t release_ns = mib * 100'000;
      const std::uint64_t fall_ns = release_ns + mib * ReleaseBudget::kFaultNsPerMiB;
      const auto all_ms = static_cast<std::uint32_t>(std::min<std::size_t>(mib * 50, 5000));
      EXPECT_EQ(LostNs(&budget, mib * kBudgetMiB, release_ns, period_ms, all_ms), fall_ns) << mib << " " << period_ms;
    }
  }
}

}  // namespace
}  // namespace tarn
