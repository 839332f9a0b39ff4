// SPDX-License-Identifier: Apache-2.0
//
// The statistics: at rest they are exact, and those of one floor fit those of the others; the identities hold always.

#include "allocator/observe/memstats.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "allocator/observe/published.h"
#include "allocator/observe/snapshot_reader.h"
#include "allocator/os/clock.h"
#include "allocator/os/lock.h"
#include "allocator/os/stall.h"
#include "allocator/os/thread_state.h"
#include "allocator/os/virtual_memory.h"
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

tarn_memstats_t Gather(const Floors& floors) {
  tarn_snapshot_block block;
  PublishHeap({&floors.page_heap, floors.transfer_caches, nullptr, &floors.cpu_cache, nullptr}, "test", &block);
  tarn_memstats_t stats;
  ReadMemStats(block, true, &stats);
  return stats;
}

std::uint64_t SumOfClasses(const tarn_memory_classes& classes) {
  return classes.heap_live_bytes + classes.heap_cached_bytes + classes.heap_span_free_bytes + classes.heap_free_bytes +
         classes.heap_released_bytes + classes.heap_reserved_bytes + classes.metadata_spans_bytes +
         classes.metadata_page_map_bytes + classes.metadata_caches_bytes + classes.metadata_pages_bytes +
         classes.metadata_profile_bytes + classes.metadata_other_bytes + classes.metadata_free_bytes;
}

// Checks what Go promises of its fields, and that the classes are a partition.
void ExpectIdentities(const tarn_memstats_t& stats) {
  EXPECT_EQ(stats.heap_sys_bytes, stats.heap_inuse_bytes + stats.heap_idle_bytes);
  EXPECT_LE(stats.heap_released_bytes, stats.heap_idle_bytes);
  EXPECT_EQ(stats.heap_objects, stats.mallocs - stats.frees);
  EXPECT_EQ(stats.alloc_bytes, stats.heap_alloc_bytes);
  EXPECT_LE(stats.mspan_inuse_bytes, stats.mspan_sys_bytes);
  EXPECT_EQ(stats.sys_bytes, stats.heap_sys_bytes + stats.mspan_sys_bytes + stats.mcache_sys_bytes +
                                 stats.buck_hash_sys_bytes + stats.page_map_sys_bytes + stats.other_sys_bytes);
  EXPECT_EQ(SumOfClasses(stats.classes), stats.classes.mapped_bytes);
  EXPECT_EQ(stats.classes.mapped_bytes, stats.sys_bytes);
}

void ExpectExact(const tarn_memstats_t& stats, const Tally& tally) {
  ExpectIdentities(stats);
  ASSERT_EQ(stats.class_count, static_cast<std::uint64_t>(kSizeClassCount - 1));
  std::uint64_t live_bytes = 0;
  std::uint64_t cached_bytes = 0;
  std::uint64_t span_bytes = 0;
  std::uint64_t allocated_bytes = 0;
  std::uint64_t mallocs = 0;
  for (int c = 1; c < kSizeClassCount; ++c) {
    const auto i = static_cast<std::size_t>(c);
    const tarn_memstats_class& of_class = stats.by_size[c - 1];
    EXPECT_EQ(of_class.size_bytes, kSizeClasses[c].size_bytes);
    EXPECT_EQ(of_class.mallocs, tally.allocations[i]) << "class " << c;
    EXPECT_EQ(of_class.frees, tally.frees[i]) << "class " << c;
    EXPECT_EQ(of_class.live, tally.allocations[i] - tally.frees[i]) << "class " << c;
    // Every object of every span is in one of three places.
    EXPECT_EQ(of_class.spans * kSizeClasses[c].objects_per_span, of_class.live + of_class.cached + of_class.free)
        << "class " << c;
    EXPECT_EQ(of_class.span_bytes,
              of_class.waste_bytes + (of_class.live + of_class.cached + of_class.free) * of_class.size_bytes);
    live_bytes += of_class.live * of_class.size_bytes;
    cached_bytes += of_class.cached * of_class.size_bytes;
    span_bytes += of_class.span_bytes;
    allocated_bytes += of_class.mallocs * of_class.size_bytes;
    mallocs += of_class.mallocs;
  }
  EXPECT_EQ(stats.small_live_bytes, live_bytes);
  EXPECT_EQ(stats.cached_bytes, cached_bytes);
  EXPECT_EQ(stats.heap_alloc_bytes, live_bytes + stats.large_live_bytes);
  EXPECT_EQ(stats.heap_inuse_bytes, span_bytes + stats.large_live_bytes);
  EXPECT_EQ(stats.mallocs, mallocs + stats.large_mallocs);
  EXPECT_GE(stats.total_alloc_bytes, allocated_bytes);
  EXPECT_EQ(stats.total_alloc_bytes - stats.total_freed_bytes, stats.heap_alloc_bytes);
  EXPECT_EQ(stats.classes.heap_live_bytes, stats.heap_alloc_bytes);
  EXPECT_EQ(stats.classes.heap_cached_bytes, cached_bytes);
  EXPECT_EQ(stats.classes.heap_span_free_bytes, span_bytes - live_bytes - cached_bytes);
}

class MemStatsTest : public tarn_test::BothModes {};

TEST_P(MemStatsTest, OfAnEmptyHeapAreZero) {
  Floors& floors = StartFloors(GetParam());
  const tarn_memstats_t stats = Gather(floors);
  ExpectExact(stats, {});
  EXPECT_EQ(stats.heap_alloc_bytes, 0u);
  EXPECT_EQ(stats.cpus, 0u);
}

TEST_P(MemStatsTest, AreExactAtRest) {
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
  const tarn_memstats_t before = Gather(floors);
  ExpectExact(before, tally);
  EXPECT_EQ(before.cpus, floors.Slabs().size());
  EXPECT_EQ(before.large_live_bytes, 0u);

  // Large objects, with and without a mapping of their own.
  Span* large = tarn_test::Large(floors.page_heap, 77);
  Span* mapped = tarn_test::Large(floors.page_heap, 300 * kPagesPerHugePage);
  const tarn_memstats_t with_large = Gather(floors);
  ExpectExact(with_large, tally);
  EXPECT_EQ(with_large.large_live_bytes, large->bytes() + mapped->bytes());
  EXPECT_EQ(with_large.large_objects, 2u);
  EXPECT_EQ(with_large.heap_alloc_bytes, before.heap_alloc_bytes + large->bytes() + mapped->bytes());
  floors.page_heap.Deallocate(large);
  floors.page_heap.Deallocate(mapped);

  // Giving memory back changes where it is, not how much of it is live.
  floors.cpu_cache.DrainAll("malloc_trim");
  floors.page_heap.ReleaseFree(0, true);
  const tarn_memstats_t after = Gather(floors);
  ExpectExact(after, tally);
  EXPECT_EQ(after.heap_alloc_bytes, before.heap_alloc_bytes);
  EXPECT_EQ(after.classes.heap_free_bytes, 0u);
}

// Little is live and much is flushed, so that frees are easily counted which came after the allocations were.
TEST_P(MemStatsTest, NeverWrapRoundWhileThreadsWork) {
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
    const tarn_memstats_t stats = Gather(floors);
    ExpectIdentities(stats);
    EXPECT_LT(stats.heap_alloc_bytes, kPlausibleBytes);
    EXPECT_LT(stats.cached_bytes, kPlausibleBytes);
    EXPECT_LT(stats.total_alloc_bytes, kPlausibleBytes);
    for (std::uint64_t c = 0; c < stats.class_count; ++c) {
      EXPECT_LT(stats.by_size[c].free, kPlausibleBytes) << "class " << c + 1;
      EXPECT_LT(stats.by_size[c].live, kPlausibleBytes) << "class " << c + 1;
    }
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
}

TEST_P(MemStatsTest, TheTableForPeopleHasTheNumbers) {
  const tarn_test::ChildEnd end = tarn_test::RunInChild([] {
    Floors& floors = StartFloors(GetParam());
    const AttachedThread attached(floors);
    constexpr SizeClass kClass = 9;
    for (int i = 0; i < 1234; ++i) TARN_REQUIRE(floors.Allocate(kClass) != nullptr);
    tarn_test::Large(floors.page_heap, 640);
    WriteStatistics(Gather(floors));
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

TEST(MemStatsLimits, TheLongestLinesAreNotCut) {
  const tarn_test::ChildEnd end = tarn_test::RunInChild([] {
    tarn_memstats_t stats;
    std::memset(&stats, 0xFF, sizeof stats);
    stats.class_count = kSizeClassCount - 1;
    WriteStatistics(stats);
  });
  ASSERT_EQ(end.exit_code, 0) << end.output;
  std::istringstream lines(end.output);
  std::size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) EXPECT_EQ(line.rfind("tarn: ", 0), 0u) << line;
  // Every class has its line, and a cut one would have swallowed the line end.
  EXPECT_GE(count, static_cast<std::size_t>(kSizeClassCount - 1) + 4);
}

std::uint64_t SumByTime() {
  std::uint64_t sum = 0;
  for (const std::uint64_t& count : stalls.by_time) sum += __atomic_load_n(&count, __ATOMIC_RELAXED);
  return sum;
}

std::uint64_t StallCount() { return __atomic_load_n(&stalls.count, __ATOMIC_RELAXED); }

TEST(Stalls, AreTheSlowPathsThatAskTheKernel) {
  const std::uint64_t before = StallCount();
  void* memory = Reserve(std::size_t{1} << 20, 4096);
  ASSERT_NE(memory, nullptr);
  EXPECT_EQ(StallCount(), before) << "outside of slow paths";
  { SlowPathScope scope; }
  EXPECT_EQ(StallCount(), before) << "without a system call";
  {
    SlowPathScope scope;
    ASSERT_TRUE(Commit(memory, std::size_t{1} << 20));
    ASSERT_TRUE(Release(memory, std::size_t{1} << 20));
    {
      // As a signal handler's.
      SlowPathScope inner;
      ASSERT_TRUE(Release(memory, std::size_t{1} << 20));
    }
    EXPECT_EQ(StallCount(), before) << "before the end";
  }
  EXPECT_EQ(StallCount(), before + 1) << "one for all";
  {
    SlowPathScope scope;
    {
      SlowPathScope inner;
      ASSERT_TRUE(Release(memory, std::size_t{1} << 20));
    }
    EXPECT_EQ(thread_state.stall_start_ns, 0u) << "a handler's would be taken for the thread's";
  }
  {
    SlowPathScope scope;
    Unreserve(memory, std::size_t{1} << 20);
    ForgetStall();
  }
  EXPECT_EQ(StallCount(), before + 1);
  EXPECT_EQ(SumByTime(), StallCount());
}

TEST(Stalls, AreCountedByTheirTime) {
  const std::uint64_t total_ns = stalls.total_ns;
  const std::uint64_t longest_ones = stalls.by_time[TARN_STALL_TIMES - 1];
  {
    SlowPathScope scope;
    thread_state.stall_start_ns = MonotonicNanoseconds() - 5'000'000'000;
  }
  EXPECT_EQ(thread_state.stall_start_ns, 0u);
  EXPECT_GE(stalls.total_ns, total_ns + 5'000'000'000);
  EXPECT_GE(stalls.longest_ns, 5'000'000'000u);
  EXPECT_EQ(stalls.by_time[TARN_STALL_TIMES - 1], longest_ones + 1);
  EXPECT_EQ(SumByTime(), StallCount());
}

TEST(Stalls, AreWaitsForLocks) {
  const std::uint64_t before = StallCount();
  // A holder that lets go before the other has gone to sleep has kept nobody; then once more.
  for (unsigned round = 0; round < 100 && StallCount() == before; ++round) {
    Lock lock(LockRank::kPool);
    std::atomic<bool> comes = false;
    lock.Acquire();
    std::thread waiter([&lock, &comes] {
      SlowPathScope scope;
      comes.store(true);
      lock.Acquire();
      lock.Release();
    });
    while (!comes.load()) std::this_thread::yield();
    ::usleep(1000 * (round + 1));
    lock.Release();
    waiter.join();
  }
  EXPECT_EQ(StallCount(), before + 1);
}

TARN_IN_BOTH_MODES(MemStatsTest);

}  // namespace
}  // namespace tarn
