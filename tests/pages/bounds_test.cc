// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/bounds.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

#include "tests/pages/fresh_page_heap.h"

namespace tarn {
namespace {

using tarn_test::kMiB;

constexpr MemoryGoals kTestGoals = {.soft_bytes = 800 * kMiB, .critical_bytes = 900 * kMiB, .most_bytes = 1000 * kMiB};

PageCount PagesOfMiB(std::size_t mib) { return PageCount(mib * (kMiB / kPageBytes)); }

TEST(Bounds, HardLimitIsExactAndDoesNotOverflow) {
  Bounds bounds;
  EXPECT_FALSE(bounds.has_hard_limit());
  bounds.SetHardLimit(100);
  EXPECT_TRUE(bounds.has_hard_limit());
  EXPECT_TRUE(bounds.Permits(60, 40));
  EXPECT_FALSE(bounds.Permits(60, 41));
  EXPECT_FALSE(bounds.Permits(60, SIZE_MAX));
  EXPECT_FALSE(bounds.Permits(101, 0)) << "a limit that came later than the use";
  EXPECT_EQ(bounds.RoomBelowLimit(60), 40u);
  EXPECT_EQ(bounds.RoomBelowLimit(101), 0u);
  bounds.SetHardLimit(SIZE_MAX);
  EXPECT_FALSE(bounds.has_hard_limit());
}

TEST(Bounds, HardLimitOfNothingIsALimit) {
  Bounds bounds;
  bounds.SetHardLimit(0);
  EXPECT_TRUE(bounds.has_hard_limit());
  EXPECT_FALSE(bounds.Permits(0, kPageBytes));
}

TEST(Bounds, WarmMemoryBeyondTheSoftGoalIsExcess) {
  Bounds bounds;
  bounds.SetGoals(kTestGoals);
  Bounds::Held held = {.in_use_bytes = 700 * kMiB, .untouched_bytes = 0, .warm_bytes = 100 * kMiB};
  EXPECT_EQ(bounds.Excess(held, 0), 0u);
  EXPECT_EQ(bounds.Excess(held, 30 * kMiB), 30 * kMiB) << "the margin lowers the goal";
  held.warm_bytes = 120 * kMiB;
  EXPECT_EQ(bounds.Excess(held, 0), 20 * kMiB);
  held.in_use_bytes = 810 * kMiB;
  held.warm_bytes = 5 * kMiB;
  EXPECT_EQ(bounds.Excess(held, 0), 5 * kMiB) << "no more than is warm";
}

TEST(Bounds, MemoryThatPassesCountsForTheCriticalGoalOnly) {
  Bounds bounds;
  bounds.SetGoals(kTestGoals);
  const Bounds::Held held = {.in_use_bytes = 750 * kMiB, .untouched_bytes = 0, .warm_bytes = 50 * kMiB};
  EXPECT_EQ(bounds.CriticalExcess(held), 0u);
  bounds.BeginLeaving(PagesOfMiB(90));
  bounds.BeginComing(PagesOfMiB(30));
  EXPECT_EQ(bounds.coming().raw(), PagesOfMiB(30).raw());
  EXPECT_EQ(bounds.CriticalExcess(held), 20 * kMiB);
  EXPECT_EQ(bounds.Excess(held, 0), 20 * kMiB);
  bounds.EndLeaving(PagesOfMiB(90));
  EXPECT_EQ(bounds.CriticalExcess(held), 0u);
  bounds.BeginLeaving(PagesOfMiB(500));
  bounds.ForgetPassing();
  EXPECT_EQ(bounds.CriticalExcess(held), 0u);
  EXPECT_EQ(bounds.coming().raw(), 0u);
}

TEST(Bounds, LargeObjectsAreUntouchedWhereMoreIsInUseThanFits) {
  Usage usage;
  usage.AddMappedObject(PagesOfMiB(600));
  usage.AddLarge(PagesOfMiB(1));
  Bounds bounds;
  EXPECT_EQ(bounds.UntouchedBytes(2000 * kMiB, usage), 0u) << "no goals";
  bounds.SetGoals(kTestGoals);
  EXPECT_EQ(bounds.UntouchedBytes(kTestGoals.most_bytes, usage), 0u);
  const std::size_t untouched_bytes = bounds.UntouchedBytes(kTestGoals.most_bytes + 1, usage);
  EXPECT_EQ(untouched_bytes, 600 * kMiB);
  // 500 of 1100 MiB are touched. Half of what the soft goal leaves beside them may stay warm.
  const Bounds::Held held = {.in_use_bytes = 1100 * kMiB, .untouched_bytes = untouched_bytes, .warm_bytes = 170 * kMiB};
  EXPECT_EQ(bounds.Excess(held, 0), 20 * kMiB);
}

TEST(Bounds, NothingIsBroughtAheadNearTheSoftGoal) {
  Bounds bounds;
  const Bounds::Held held = {.in_use_bytes = 600 * kMiB, .untouched_bytes = 0, .warm_bytes = 50 * kMiB};
  EXPECT_TRUE(bounds.HasRoomAhead(held, 1000 * kMiB)) << "no goals";
  bounds.SetGoals(kTestGoals);
  EXPECT_TRUE(bounds.HasRoomAhead(held, 50 * kMiB));
  EXPECT_FALSE(bounds.HasRoomAhead(held, 50 * kMiB + 1));
  bounds.BeginComing(PagesOfMiB(10));
  EXPECT_FALSE(bounds.HasRoomAhead(held, 50 * kMiB)) << "another thread brings some";
  bounds.EndComing(PagesOfMiB(10));
  EXPECT_TRUE(bounds.HasRoomAhead(held, 50 * kMiB));
}

}  // namespace
}  // namespace tarn
