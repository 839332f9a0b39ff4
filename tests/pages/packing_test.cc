// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/packing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "tests/pages/page_parts.h"

namespace tarn {
namespace {

using tarn_test::FakeReservation;

TEST(Packing, TakesTheTightestFit) {
  FakeReservation pages(4);
  Packing packing;
  EXPECT_EQ(packing.TryTake(1), nullptr);
  pages[0]->MarkUsed(10, 246);   // a run of 10
  pages[1]->MarkUsed(20, 236);   // of 20
  pages[2]->MarkUsed(100, 156);  // of 100
  for (std::size_t i = 0; i < 3; ++i) packing.List(pages[i]);
  EXPECT_EQ(packing.TryTake(11), pages[1]);
  EXPECT_EQ(packing.TryTake(11), pages[2]);
  EXPECT_EQ(packing.TryTake(11), nullptr);
  EXPECT_EQ(packing.TryTake(10), pages[0]);
  EXPECT_EQ(packing.TryTake(1), nullptr);
}

TEST(Packing, TakesTheFullestOfEqualRuns) {
  FakeReservation pages(3);
  Packing packing;
  for (std::size_t i = 0; i < 3; ++i) pages[i]->MarkUsed(50, 1);
  pages[1]->MarkUsed(0, 50);
  for (std::size_t i = 0; i < 3; ++i) packing.List(pages[i]);
  EXPECT_EQ(packing.TryTake(205), pages[1]);
}

TEST(Packing, TakesARunWithMemoryAlthoughItIsLonger) {
  FakeReservation pages(4);
  Packing packing;
  EXPECT_EQ(packing.TryTakeWarm(1), nullptr);
  for (std::size_t i = 0; i < 4; ++i) pages[i]->MarkUsed(0, kPagesPerHugePage);
  pages[0]->MarkFree(10, 5, true);    // fits best, and has no memory
  pages[1]->MarkFree(10, 20, false);  // of equal runs, this is in the fuller huge page
  pages[2]->MarkFree(100, 20, false);
  pages[2]->MarkFree(200, 2, false);
  pages[3]->MarkFree(10, 30, false);
  for (std::size_t i = 0; i < 4; ++i) packing.List(pages[i]);
  EXPECT_EQ(packing.TryTakeWarm(5), pages[1]);
  EXPECT_EQ(packing.TryTakeWarm(5), pages[2]);
  EXPECT_EQ(packing.TryTakeWarm(5), pages[3]);
  EXPECT_EQ(packing.TryTakeWarm(5), nullptr);
  EXPECT_EQ(packing.TryTake(5), pages[0]);
}

// Against a search through all huge pages, which are fewer than those that it looks at.
TEST(Packing, FindsARunWithMemoryIfThereIsOne) {
  FakeReservation pages(12);
  Packing packing;
  std::mt19937_64 random(7);
  for (int round = 0; round < 2'000; ++round) {
    for (std::size_t i = 0; i < 12; ++i) {
      packing.Unlist(pages[i]);
      if (pages[i]->free_pages != 0) {
        for (auto run = pages[i]->free.NextRun(0); run.count != 0;
             run = pages[i]->free.NextRun(run.first + run.count)) {
          pages[i]->MarkUsed(run.first, run.count);
        }
      }
      for (int run = 0; run < 4; ++run) {
        pages[i]->MarkFree(static_cast<std::size_t>(run) * 60 + random() % 20, 1 + random() % 30, random() % 4 != 0);
      }
      packing.List(pages[i]);
    }
    const std::size_t wanted = 1 + random() % 32;
    bool any = false;
    for (std::size_t i = 0; i < 12; ++i) any |= pages[i]->HasWarmRun(wanted);
    HugePage* const taken = packing.TryTakeWarm(wanted);
    ASSERT_EQ(taken != nullptr, any);
    if (taken == nullptr) continue;
    const std::size_t first = taken->FindFree(wanted, 1);
    ASSERT_EQ(taken->zero.CountRange(first, wanted), 0u);
    packing.List(taken);
  }
}

TEST(Packing, AFullHugePageIsOnNoList) {
  FakeReservation pages(1);
  Packing packing;
  pages[0]->MarkUsed(0, kPagesPerHugePage);
  packing.List(pages[0]);
  EXPECT_FALSE(pages[0]->linked());
  EXPECT_EQ(packing.TryTake(1), nullptr);
  packing.Unlist(pages[0]);
  pages[0]->MarkFree(7, 1, false);
  packing.List(pages[0]);
  EXPECT_TRUE(packing.has_run_of(1));
  packing.Unlist(pages[0]);
  EXPECT_FALSE(packing.has_run_of(1));
}

// Against a search through all huge pages: what is taken fits, and no other one's longest run fits more tightly.
TEST(Packing, MatchesASearchThroughAll) {
  FakeReservation pages(24);
  Packing packing;
  std::vector<HugePage*> listed;
  std::mt19937_64 random(5);
  for (std::size_t i = 0; i < 24; ++i) {
    pages[i]->MarkUsed(random() % kPagesPerHugePage, 1);
    packing.List(pages[i]);
    listed.push_back(pages[i]);
  }
  for (int step = 0; step < 20'000; ++step) {
    const std::size_t wanted = 1 + random() % (step % 3 == 0 ? 200 : 20);
    std::size_t tightest = SIZE_MAX;
    for (const HugePage* huge_page : listed) {
      const std::size_t longest = huge_page->free.LongestRun();
      if (longest >= wanted) tightest = std::min(tightest, longest);
    }
    HugePage* const taken = packing.TryTake(wanted);
    ASSERT_EQ(taken != nullptr, tightest != SIZE_MAX);
    if (taken != nullptr) {
      ASSERT_EQ(taken->free.LongestRun(), tightest);
      const std::size_t first = taken->FindFree(wanted, 1);
      // Before the call, which clears them.
      const std::size_t zero = taken->zero.CountRange(first, wanted);
      ASSERT_EQ(taken->MarkUsed(first, wanted), zero);
      packing.List(taken);
    }
    // And something becomes free elsewhere.
    HugePage* const other = listed[random() % listed.size()];
    const std::size_t used = other->free.FindClear(random() % kPagesPerHugePage);
    if (used >= kPagesPerHugePage || other->free_pages > 200) continue;
    packing.Unlist(other);
    const std::size_t end = std::min(other->free.FindSet(used), kPagesPerHugePage);
    other->MarkFree(used, end - used, true);
    packing.List(other);
  }
}

TEST(HugePage, FindsTheShortestFreeRunWithAnAlignedPlace) {
  FakeReservation pages(1);
  HugePage* const page = pages[0];
  page->MarkUsed(0, kPagesPerHugePage);
  page->MarkFree(3, 4, false);    // 3..6
  page->MarkFree(17, 6, false);   // 17..22
  page->MarkFree(64, 40, false);  // 64..103
  EXPECT_EQ(page->FindFree(4, 1), 3u);
  EXPECT_EQ(page->FindFree(5, 1), 17u);
  EXPECT_EQ(page->FindFree(3, 4), 4u);
  EXPECT_EQ(page->FindFree(4, 8), 64u);
  EXPECT_EQ(page->MarkUsed(17, 6), 0u);
  EXPECT_EQ(page->MarkUsed(64, 2), 0u);
  EXPECT_EQ(page->warm_pages(), 42u);
}

TEST(HugePage, FindsARunWithMemoryBeforeAShorterOneWithout) {
  FakeReservation pages(1);
  HugePage* const page = pages[0];
  page->MarkUsed(0, kPagesPerHugePage);
  page->MarkFree(10, 4, true);  // 10..17: half of it has memory
  page->MarkFree(14, 4, false);
  page->MarkFree(30, 3, true);    // 30..32
  page->MarkFree(70, 20, false);  // 70..89
  EXPECT_TRUE(page->HasWarmRun(20));
  EXPECT_FALSE(page->HasWarmRun(21));
  EXPECT_EQ(page->FindFree(3, 1), 14u);
  EXPECT_EQ(page->FindFree(5, 1), 70u);
  EXPECT_EQ(page->FindFree(3, 8), 72u);
  EXPECT_EQ(page->MarkUsed(70, 20), 0u);
  EXPECT_EQ(page->FindFree(5, 1), 10u) << "where no run has memory, the shortest";
  EXPECT_EQ(page->MarkUsed(10, 5), 4u);
}

}  // namespace
}  // namespace tarn
