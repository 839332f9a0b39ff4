// The statistics: at rest they are exact, and those of one floor fit those of the others.

#include "allocator/observe/statistics.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/cpu_cache/floors.h"
#include "tests/os/in_child.h"
#include "tests/pages/fresh_page_heap.h"

namespace tarn {
namespace {

using tarn_test::AttachedThread;
using tarn_test::Churn;
using tarn_test::Floors;
using tarn_test::StartFloors;
using tarn_test::Tally;

std::unique_ptr<Statistics> Gather(Floors& floors) {
  auto statistics = std::make_unique<Statistics>();
  GatherStatistics(floors.page_heap, floors.transfer_caches, floors.cpu_cache, statistics.get());
  return statistics;
}

void ExpectExact(const Statistics& statistics, const Tally& tally) {
  std::size_t live_bytes = 0;
  std::size_t cached_bytes = 0;
  std::size_t span_bytes = 0;
  for (int c = 1; c < kSizeClassCount; ++c) {
    const auto i = static_cast<std::size_t>(c);
    const SizeClassStatistics& of_class = statistics.classes[c];
    EXPECT_EQ(of_class.allocations, tally.allocations[i]) << "class " << c;
    EXPECT_EQ(of_class.frees, tally.frees[i]) << "class " << c;
    EXPECT_EQ(of_class.live_objects, tally.allocations[i] - tally.frees[i]) << "class " << c;
    // Every object of every span is in one of four places.
    EXPECT_EQ(of_class.spans * kSizeClasses[c].objects_per_span,
              of_class.live_objects + of_class.slab_objects + of_class.transfer_objects + of_class.span_objects)
        << "class " << c;
    live_bytes += of_class.live_objects * kSizeClasses[c].size_bytes;
    cached_bytes += (of_class.slab_objects + of_class.transfer_objects) * kSizeClasses[c].size_bytes;
    span_bytes += of_class.spans * PageCount(kSizeClasses[c].span_pages).bytes();
  }
  const PageHeapStats& pages = statistics.pages;
  EXPECT_EQ(statistics.small_live_bytes, live_bytes);
  EXPECT_EQ(statistics.small_cached_bytes, cached_bytes);
  EXPECT_EQ(statistics.small_in_spans_bytes, span_bytes - live_bytes - cached_bytes);
  EXPECT_EQ(statistics.live_bytes, live_bytes + pages.large_bytes);
  EXPECT_EQ(pages.in_use_bytes + pages.mapped_bytes, span_bytes + pages.large_bytes);
  EXPECT_EQ(pages.reserved_bytes, pages.metadata_block_bytes + pages.in_use_bytes + pages.free_warm_bytes +
                                      pages.free_zero_bytes + pages.uncommitted_bytes);
}

class StatisticsTest : public tarn_test::BothModes {};

TEST_P(StatisticsTest, OfAnEmptyHeapAreZero) {
  Floors& floors = StartFloors(GetParam());
  const auto statistics = Gather(floors);
  ExpectExact(*statistics, {});
  EXPECT_EQ(statistics->live_bytes, 0u);
  EXPECT_EQ(statistics->slabs, 0u);
}

TEST_P(StatisticsTest, AreExactAtRest) {
  Floors& floors = StartFloors(GetParam());
  constexpr std::size_t kThreads = 8;
  std::vector<Tally> tallies(kThreads);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const AttachedThread attached(floors);
      Churn churn(floors, t + 1);
      for (int step = 0; step < 6000; ++step) ASSERT_NO_FATAL_FAILURE(churn.Step(500));
      tallies[t] = churn.tally();
    });
  }
  for (std::thread& thread : threads) thread.join();
  Tally tally;
  for (const Tally& of_thread : tallies) tally += of_thread;
  const auto before = Gather(floors);
  ExpectExact(*before, tally);
  EXPECT_EQ(before->slabs, floors.Slabs().size());
  EXPECT_EQ(before->pages.large_bytes, 0u);

  // Large objects, with and without a mapping of their own.
  Span* large = tarn_test::Large(floors.page_heap, 77);
  Span* mapped = tarn_test::Large(floors.page_heap, 300 * kPagesPerHugePage);
  const auto with_large = Gather(floors);
  ExpectExact(*with_large, tally);
  EXPECT_EQ(with_large->pages.large_bytes, large->bytes() + mapped->bytes());
  EXPECT_EQ(with_large->pages.large_objects, 2u);
  EXPECT_EQ(with_large->live_bytes, before->live_bytes + large->bytes() + mapped->bytes());
  floors.page_heap.Deallocate(large);
  floors.page_heap.Deallocate(mapped);

  // Giving memory back changes where it is, not how much of it is live.
  floors.cpu_cache.DrainAll("malloc_trim");
  floors.page_heap.ReleaseFree(0, true);
  const auto after = Gather(floors);
  ExpectExact(*after, tally);
  EXPECT_EQ(after->live_bytes, before->live_bytes);
  EXPECT_EQ(after->pages.free_warm_bytes, 0u);
}

// Little is live and much is flushed, so that frees are easily counted which came after the allocations were.
TEST_P(StatisticsTest, NeverWrapRoundWhileThreadsWork) {
  Floors& floors = StartFloors(GetParam(), 20000);
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const AttachedThread attached(floors);
      Churn churn(floors, t + 1);
      while (!stop.load(std::memory_order_relaxed) && !HasFatalFailure()) {
        for (int i = 0; i < 60; ++i) churn.AllocateOne();
        churn.FreeAll();
      }
    });
  }
  constexpr std::size_t kPlausibleBytes = std::size_t{1} << 40;
  for (int i = 0; i < 3000 && !HasFailure(); ++i) {
    const auto statistics = Gather(floors);
    EXPECT_LT(statistics->live_bytes, kPlausibleBytes);
    EXPECT_LT(statistics->small_cached_bytes, kPlausibleBytes);
    EXPECT_LT(statistics->small_in_spans_bytes, kPlausibleBytes);
    for (int c = 1; c < kSizeClassCount; ++c) {
      EXPECT_LT(statistics->classes[c].span_objects, kPlausibleBytes) << "class " << c;
      EXPECT_LT(statistics->classes[c].live_objects, kPlausibleBytes) << "class " << c;
    }
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
}

TEST_P(StatisticsTest, TheTableForPeopleHasTheNumbers) {
  const tarn_test::ChildEnd end = tarn_test::RunInChild([] {
    Floors& floors = StartFloors(GetParam());
    const AttachedThread attached(floors);
    constexpr SizeClass kClass = 9;
    for (int i = 0; i < 1234; ++i) TARN_REQUIRE(floors.Allocate(kClass) != nullptr);
    tarn_test::Large(floors.page_heap, 640);
    WriteStatistics(*Gather(floors));
  });
  ASSERT_EQ(end.exit_code, 0) << end.output;
  ASSERT_FALSE(end.output.empty());
  EXPECT_EQ(end.output.back(), '\n');
  std::istringstream lines(end.output);
  bool has_class = false;
  bool has_large = false;
  for (std::string line; std::getline(lines, line);) {
    EXPECT_EQ(line.rfind("tarn: ", 0), 0u) << line;
    EXPECT_LT(line.size(), 200u) << line;
    std::istringstream words(line);
    std::string tarn, size, allocations, frees;
    words >> tarn >> size >> allocations >> frees;
    has_class |= size == "128" && allocations == "1234" && frees == "0";
    has_large |= size == "large" && allocations == "1" && frees == "0";
    // One line per class that was used, and no others.
    EXPECT_NE(size, "112") << line;
  }
  EXPECT_TRUE(has_class) << end.output;
  EXPECT_TRUE(has_large) << end.output;
  EXPECT_NE(end.output.find("large 5.0 MiB in 1"), std::string::npos) << end.output;
}

TEST(StatisticsLimits, TheLongestLinesAreNotCut) {
  const tarn_test::ChildEnd end = tarn_test::RunInChild([] {
    auto statistics = std::make_unique<Statistics>();
    for (SizeClassStatistics& of_class : statistics->classes) {
      of_class.allocations = of_class.frees = of_class.live_objects = of_class.slab_objects = of_class.span_objects =
          of_class.spans = of_class.refills = of_class.flushes = SIZE_MAX;
    }
    statistics->live_bytes = statistics->small_live_bytes = statistics->small_cached_bytes = SIZE_MAX;
    statistics->pages.in_use_bytes = statistics->pages.free_warm_bytes = SIZE_MAX;
    statistics->pages.free_zero_bytes = statistics->pages.metadata_used_bytes = SIZE_MAX;
    statistics->pages.large_bytes = statistics->pages.large_objects = SIZE_MAX;
    statistics->slabs = SIZE_MAX;
    WriteStatistics(*statistics);
  });
  ASSERT_EQ(end.exit_code, 0) << end.output;
  std::istringstream lines(end.output);
  std::size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) EXPECT_EQ(line.rfind("tarn: ", 0), 0u) << line;
  // Every class has its line, and a cut one would have swallowed the line end.
  EXPECT_GE(count, static_cast<std::size_t>(kSizeClassCount - 1) + 4);
}

TARN_IN_BOTH_MODES(StatisticsTest);

}  // namespace
}  // namespace tarn
