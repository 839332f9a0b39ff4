// SPDX-License-Identifier: Apache-2.0
//
// The page heap near its goals, those of a process in a container (PageHeap::SetGoals).

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "allocator/pages/page_heap.h"
#include "size_classes/size_classes.h"
#include "tests/pages/fresh_page_heap.h"

namespace tarn {
namespace {

using tarn_test::ExpectConsistent;
using tarn_test::FreshPageHeap;
using tarn_test::kMiB;
using tarn_test::Large;
using tarn_test::Touch;

// MakeRoom's step.
constexpr std::size_t kStepBytes = kMiB;

std::size_t ChargedBytes(PageHeap& heap) {
  const PageHeapStats stats = heap.Stats();
  return stats.in_use_bytes + stats.free_warm_bytes + stats.mapped_bytes + stats.metadata_used_bytes;
}

PageHeap& HeapWithGoals(std::size_t soft_bytes, std::size_t critical_bytes, std::size_t most_bytes) {
  PageHeap& heap = FreshPageHeap();
  heap.SetGoals({soft_bytes, critical_bytes, most_bytes});
  return heap;
}

// Large objects of random sizes that replace each other, `live_bytes` at most.
struct Churn {
  PageHeap& heap;
  std::size_t live_bytes;
  std::minstd_rand random{1};
  std::vector<Span*> spans = {};
  std::size_t in_use_bytes = 0;

  void Step(std::size_t most_pages) {
    const std::size_t pages = 1 + random() % most_pages;
    while (in_use_bytes + PageCount(pages).bytes() > live_bytes) {
      std::swap(spans[random() % spans.size()], spans.back());
      in_use_bytes -= spans.back()->bytes();
      heap.Deallocate(spans.back());
      spans.pop_back();
    }
    spans.push_back(Large(heap, pages));
    in_use_bytes += spans.back()->bytes();
  }
};

TEST(Room, WhatIsTakenDisplacesWhatIsFreeAndWarm) {
  constexpr std::size_t kSoft = 24 * kMiB;
  PageHeap& heap = HeapWithGoals(kSoft, 28 * kMiB, 32 * kMiB);
  Churn churn{heap, 12 * kMiB};
  for (int i = 0; i < 3000; ++i) {
    churn.Step(500);
    Touch(churn.spans.back());
    ASSERT_LE(ChargedBytes(heap), kSoft + kStepBytes) << i;
  }
  EXPECT_GT(heap.Stats().released_bytes_total, 0u);
  ExpectConsistent(heap);
}

TEST(Room, WithoutGoalsTheSameTakesMore) {
  PageHeap& heap = FreshPageHeap();
  Churn churn{heap, 12 * kMiB};
  std::size_t peak_bytes = 0;
  for (int i = 0; i < 3000; ++i) {
    churn.Step(500);
    peak_bytes = std::max(peak_bytes, ChargedBytes(heap));
  }
  EXPECT_GT(peak_bytes, 25 * kMiB);
  EXPECT_EQ(heap.Stats().released_bytes_total, 0u);
}

// Between the soft and the critical goal, single free pages stay; beyond, they go.
TEST(Room, ScatteredPagesGoWhereItIsCritical) {
  PageHeap& heap = FreshPageHeap();
  std::vector<Span*> pages;
  for (std::size_t i = 0; i < 4 * kPagesPerHugePage; ++i) pages.push_back(Large(heap, 1));
  for (std::size_t i = 0; i < pages.size(); i += 2) heap.Deallocate(pages[i]);
  ASSERT_EQ(heap.Stats().free_warm_bytes, 4 * kMiB);
  const std::size_t now_bytes = ChargedBytes(heap);
  heap.SetGoals({now_bytes, now_bytes + 4 * kMiB, now_bytes + 64 * kMiB});
  Large(heap, kMiB / kPageBytes);
  Large(heap, kMiB / kPageBytes);
  EXPECT_EQ(heap.Stats().free_warm_bytes, 4 * kMiB);
  for (int i = 0; i < 6; ++i) Large(heap, kMiB / kPageBytes);
  EXPECT_LE(heap.Stats().free_warm_bytes, kMiB);
  EXPECT_LE(ChargedBytes(heap), now_bytes + 5 * kMiB);
  ExpectConsistent(heap);
}

// More is in use than can be resident, for most of a large object was never touched. Free memory stays, but in
// proportion to the other objects.
TEST(Room, BesideAnObjectThatIsHardlyTouchedFreeMemoryIsKeptInProportion) {
  constexpr std::size_t kSoft = 48 * kMiB;
  PageHeap& heap = HeapWithGoals(kSoft, 52 * kMiB, 56 * kMiB);
  Large(heap, 64 * kMiB / kPageBytes);
  EXPECT_GE(heap.Stats().untouched_bytes, 64 * kMiB);
  Churn churn{heap, 16 * kMiB};
  std::size_t most_warm_bytes = 0;
  for (int i = 0; i < 3000; ++i) {
    churn.Step(500);
    const PageHeapStats stats = heap.Stats();
    most_warm_bytes = std::max(most_warm_bytes, stats.free_warm_bytes);
    ASSERT_LE(ChargedBytes(heap) - stats.untouched_bytes, kSoft) << i;
  }
  EXPECT_GE(most_warm_bytes, 4 * kMiB);
  EXPECT_EQ(heap.Stats().untouched_bytes, 64 * kMiB);
  ExpectConsistent(heap);
}

TEST(Room, ObjectsCountAsUntouchedOnlyWhereMoreIsInUseThanCanBeResident) {
  PageHeap& heap = HeapWithGoals(48 * kMiB, 52 * kMiB, 56 * kMiB);
  Span* const first = Large(heap, 30 * kMiB / kPageBytes);
  EXPECT_EQ(heap.Stats().untouched_bytes, 0u);
  Span* const second = Large(heap, 30 * kMiB / kPageBytes);
  Span* const small = Large(heap, 2 * kMiB / kPageBytes);
  EXPECT_EQ(heap.Stats().untouched_bytes, 60 * kMiB);
  EXPECT_TRUE(heap.ResizeLarge(second, PageCount(20 * kMiB / kPageBytes)));
  EXPECT_EQ(heap.Stats().untouched_bytes, 0u) << "52 MiB can be resident";
  heap.Deallocate(small);
  heap.Deallocate(second);
  heap.Deallocate(first);
  // In a mapping of its own.
  bool zero;
  Span* const mapped = heap.AllocateLarge(PageCount::FromHugePages(600), PageCount(1), &zero);
  ASSERT_NE(mapped, nullptr);
  EXPECT_EQ(heap.Stats().untouched_bytes, 600 * kHugePageBytes);
  heap.Deallocate(mapped);
  EXPECT_EQ(heap.Stats().untouched_bytes, 0u);
  ExpectConsistent(heap);
}

TEST(Room, NothingIsBroughtAheadNearAGoal) {
  const auto warm_after_growth = [](PageHeap& heap) {
    for (int i = 0; i < 1600; ++i) EXPECT_NE(heap.AllocateSmall(MallocSizeClass(64)), nullptr);
    return heap.Stats().free_warm_bytes;
  };
  PageHeap& free_to = FreshPageHeap();
  std::size_t ahead_bytes = 0;
  // Somewhere in the growth, something lies ready.
  for (int i = 0; i < 8; ++i) ahead_bytes = std::max(ahead_bytes, warm_after_growth(free_to));
  if (ahead_bytes == 0) GTEST_SKIP() << "this kernel populates nothing";
  PageHeap& near = HeapWithGoals(kMiB, 2 * kMiB, 512 * kMiB);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(warm_after_growth(near), 0u);
}

// All of them together keep the goals, whichever of them the machine leaves without a CPU: at worst each has taken what
// it has not made room for yet.
TEST(Room, ThreadsKeepTheGoalsTogether) {
  constexpr std::size_t kThreads = 4;
  constexpr std::size_t kMostPages = 100;
  constexpr std::size_t kCritical = 22 * kMiB;
  constexpr std::size_t kMostBytes = kCritical + kThreads * (PageCount(kMostPages).bytes() + kStepBytes);
  PageHeap& heap = HeapWithGoals(20 * kMiB, kCritical, 24 * kMiB);
  std::atomic<std::size_t> most_bytes = 0;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&heap, &most_bytes, t] {
      Churn churn{heap, 4 * kMiB};
      churn.random.seed(static_cast<unsigned>(t + 1));
      for (int i = 0; i < 1000; ++i) {
        churn.Step(kMostPages);
        std::memset(churn.spans.back()->start(), 1, 1);
        const std::size_t charged_bytes = ChargedBytes(heap);
        std::size_t before = most_bytes.load();
        while (before < charged_bytes && !most_bytes.compare_exchange_weak(before, charged_bytes)) {
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(most_bytes.load(), kMostBytes);
  ExpectConsistent(heap);
}

}  // namespace
}  // namespace tarn
