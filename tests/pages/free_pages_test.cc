// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/free_pages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/pages/page_parts.h"

namespace tarn {
namespace {

using tarn_test::FakeReservation;

class FreePagesTest : public testing::Test {
 protected:
  static constexpr std::size_t kHugePages = 6;

  FreePagesTest() {
    for (std::size_t i = 0; i < kHugePages; ++i) {
      free_.AddCommitted(pages_[i]);
      free_.PutWhole(pages_[i]);
    }
  }
  HugePage* TakeWhole(std::size_t i) {
    free_.RemoveWhole(pages_[i]);
    pages_[i]->state = HugePageState::kPacked;
    return pages_[i];
  }
  // The sums, anew.
  void Check() {
    std::size_t free = 0;
    std::size_t zero = 0;
    std::size_t whole = 0;
    std::size_t warm_bytes = 0;
    std::size_t ahead = 0;
    for (std::size_t i = 0; i < kHugePages; ++i) {
      const HugePage& page = *pages_[i];
      ASSERT_EQ(page.free_pages, page.free.Count());
      free += page.free_pages;
      zero += page.zero.Count();
      ahead += page.ahead_pages;
      const bool is_whole = page.free_pages == kPagesPerHugePage;
      whole += is_whole ? 1 : 0;
      ASSERT_EQ(page.state == HugePageState::kWholeFree, is_whole);
      ASSERT_EQ(pages_.record()->whole_free.Test(i), is_whole);
      ASSERT_EQ(page.linked(), is_whole ? page.warm_pages() != 0 : page.free_pages != 0);
      if (is_whole) warm_bytes += PageCount(page.warm_pages()).bytes();
    }
    ASSERT_EQ(free_.free().raw(), free);
    ASSERT_EQ(free_.zero().raw(), zero);
    ASSERT_EQ(free_.ahead().raw(), ahead);
    ASSERT_EQ(free_.whole_free_huge_pages(), whole);
    ASSERT_EQ(free_.warm_pages().bytes() + free_.warm_pages().refused_bytes(), warm_bytes);
  }

  FakeReservation pages_{kHugePages};
  FreePages free_;
};

TEST_F(FreePagesTest, WhatIsFreedIsWarmAndGoesToTheFrontAsAWhole) {
  EXPECT_EQ(free_.warm().raw(), 0u);
  HugePage* const page = TakeWhole(2);
  EXPECT_EQ(free_.Use(page, 0, 100), 100u);
  EXPECT_EQ(free_.TryTakeForRun(156), page);
  EXPECT_EQ(free_.Use(page, 100, 10), 10u);
  EXPECT_EQ(free_.Free(page, 0, 50, false, 7).raw(), 0u);
  Check();
  EXPECT_EQ(free_.warm().raw(), 50u);
  page->refused_at_ms = 1;
  EXPECT_EQ(free_.Free(page, 50, 60, false, 8).raw(), 50u) << "those that were warm before";
  EXPECT_EQ(page->freed_at_ms, 8u);
  EXPECT_EQ(free_.warm_pages().oldest(), page) << "it is worth another try";
  Check();
  free_.ForgetWhole(page);
  EXPECT_EQ(free_.warm().raw(), 0u);
  EXPECT_EQ(free_.free().raw(), (kHugePages - 1) * kPagesPerHugePage);
}

TEST_F(FreePagesTest, PagesThatWereBroughtAheadAreUsedUp) {
  HugePage* const page = TakeWhole(0);
  EXPECT_EQ(free_.Use(page, 0, 1), 1u);
  HugePage::PageBits bits;
  bits.SetRange(1, 20);
  free_.TakeOut(page, bits);
  free_.BringBack(page, bits, {});
  free_.SetAhead(page, 20);
  EXPECT_EQ(free_.Use(page, 1, 8), 0u);
  EXPECT_EQ(free_.ahead().raw(), 12u);
  EXPECT_EQ(free_.Use(page, 100, 8), 8u) << "others";
  EXPECT_EQ(free_.ahead().raw(), 12u);
  Check();
}

TEST_F(FreePagesTest, CountsTheBackingOfHugePages) {
  free_.SetBacking(pages_[0], Backing::kHuge);
  free_.SetBacking(pages_[1], Backing::kAsked);
  free_.SetBacking(pages_[2], Backing::kAsked);
  free_.SetBacking(pages_[1], Backing::kHuge);
  EXPECT_EQ(free_.huge_backed(), 2u);
  EXPECT_EQ(free_.asked(), 1u);
  free_.ForgetWhole(pages_[0]);
  EXPECT_EQ(free_.huge_backed(), 1u);
}

TEST_F(FreePagesTest, SumsStayTrueInAnyOrder) {
  std::mt19937_64 random(3);
  for (int step = 0; step < 20'000; ++step) {
    HugePage* const page = pages_[random() % kHugePages];
    const std::size_t from = random() % kPagesPerHugePage;
    if (page->state == HugePageState::kWholeFree) {
      TakeWhole(static_cast<std::size_t>(page - pages_[0]));
      const std::size_t zero = page->zero.CountRange(0, from + 1);
      ASSERT_EQ(free_.Use(page, 0, from + 1), zero);
    } else if (random() % 3 == 0) {
      const auto run = page->free.NextRun(from);
      if (run.count == 0) continue;
      HugePage::PageBits bits;
      bits.SetRange(run.first, 1 + random() % run.count);
      free_.TakeOut(page, bits);
      ASSERT_EQ(page->free.And(bits).Count(), 0u);
      free_.BringBack(page, bits, random() % 2 == 0 ? bits : HugePage::PageBits());
    } else if (random() % 2 == 0) {
      const std::size_t wanted = 1 + random() % 30;
      HugePage* const taken = free_.TryTakeForRun(wanted);
      if (taken != nullptr) free_.Use(taken, taken->FindFree(wanted, 1), wanted);
    } else {
      const std::size_t used = page->free.FindClear(from);
      if (used >= kPagesPerHugePage) continue;
      const std::size_t end = std::min(page->free.FindSet(used), kPagesPerHugePage);
      free_.Free(page, used, 1 + random() % (end - used), random() % 4 == 0, 1);
    }
    ASSERT_NO_FATAL_FAILURE(Check()) << step;
  }
}

}  // namespace
}  // namespace tarn
