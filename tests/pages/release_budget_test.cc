// The budget for giving memory back from the program's own slow paths.
#include "allocator/pages/release_budget.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

namespace tarn {
namespace {

constexpr std::size_t kBudgetMiB = std::size_t{1} << 20;
constexpr std::uint32_t kBudgetStartMs = 1'000'000;

// A program whose use rises by `bytes` and falls again, every `period_ms`, for `all_ms`. Returns the time that was lost:
// that of each release whose memory returned, and of the page faults.
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

TEST(ReleaseBudget, AReturnIsPaidForByTime) {
  ReleaseBudget budget;
  budget.NoteRelease(100 * kBudgetMiB, 20'000'000, kBudgetStartMs);
  budget.NoteReturn(100 * kBudgetMiB, kBudgetStartMs);
  const std::uint64_t debt_ns = 20'000'000 + 100 * ReleaseBudget::kFaultNsPerMiB;
  const auto paid_ms = static_cast<std::uint32_t>(debt_ns * ReleaseBudget::kTimeDivisor / 1'000'000);
  EXPECT_FALSE(budget.Allows(kBudgetStartMs));
  EXPECT_FALSE(budget.Allows(kBudgetStartMs + paid_ms - 100));
  EXPECT_TRUE(budget.Allows(kBudgetStartMs + paid_ms));
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

}  // namespace
}  // namespace tarn
