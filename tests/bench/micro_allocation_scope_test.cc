// SPDX-License-Identifier: Apache-2.0
//
// Counts of <tarn/allocation_scope.h> and <tarn/benchmark.h> against code whose allocations are known.
#include <gtest/gtest.h>

#include <tarn/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace {

// A size class of its own, whatever the table holds: 16-byte steps up to 256 bytes.
constexpr std::size_t kBytes = 112;

void AllocateAndFree() {
  void* object = std::malloc(kBytes);
  benchmark::DoNotOptimize(object);
  std::free(object);
}

TEST(AllocationScope, IsAvailable) { EXPECT_TRUE(tarn::AllocationScope::Available()); }

TEST(AllocationScope, CountsExactly) {
  const tarn::AllocationScope scope;
  void* kept[3];
  for (void*& object : kept) object = std::malloc(kBytes);
  std::free(kept[0]);
  const tarn::AllocationCounts counts = scope.Counts();
  EXPECT_EQ(counts.mallocs, 3U);
  EXPECT_EQ(counts.frees, 1U);
  EXPECT_EQ(counts.allocated_bytes, 3 * kBytes);
  EXPECT_EQ(counts.freed_bytes, kBytes);
  EXPECT_EQ(counts.live_growth_bytes(), static_cast<std::int64_t>(2 * kBytes));
  std::free(kept[1]);
  std::free(kept[2]);
}

TEST(AllocationScope, GrowthIsNegativeWhenMoreIsFreed) {
  void* object = std::malloc(kBytes);
  benchmark::DoNotOptimize(object);
  const tarn::AllocationScope scope;
  std::free(object);
  EXPECT_EQ(scope.Counts().live_growth_bytes(), -static_cast<std::int64_t>(kBytes));
}

TEST(AllocationScope, ToReadAllocatesNothing) {
  const tarn::AllocationScope scope;
  for (int i = 0; i < 100; ++i) static_cast<void>(scope.Counts());
  EXPECT_EQ(scope.Counts().mallocs, 0U);
}

TEST(AllocationScope, LargeObjectsAndOtherThreadsCount) {
  const tarn::AllocationScope scope;
  std::thread([] { std::free(std::malloc(1 << 20)); }).join();
  const tarn::AllocationCounts counts = scope.Counts();
  // The thread's own state is allocated as well.
  EXPECT_GE(counts.mallocs, 2U);
  EXPECT_GE(counts.allocated_bytes, std::uint64_t{1} << 20);
}

TEST(AllocationsPerRun, LeavesTheFirstRunOut) {
  std::vector<char> buffer;
  const double allocations = tarn::AllocationsPerRun(10, [&buffer] {
    if (buffer.capacity() == 0) buffer.reserve(100);
    AllocateAndFree();
    AllocateAndFree();
  });
  EXPECT_EQ(allocations, 2);
  EXPECT_EQ(tarn::AllocationsPerRun(0, AllocateAndFree), 0);
}

struct Reported {
  std::map<std::string, double> counters;
  double allocs_per_iter = 0;
  // Of MemoryManager::Result, which only the library can make: Debian's does not export what its constructor needs.
  std::int64_t total_allocated_bytes = 0;
  std::int64_t net_heap_growth = 0;
  std::int64_t max_bytes_used = 0;
};

class Collector : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      Reported& reported = by_name[run.benchmark_name()];
      for (const auto& [name, counter] : run.counters) reported.counters[name] = counter.value;
      reported.allocs_per_iter = run.allocs_per_iter;
      // Valid during this call only.
      if (run.memory_result == nullptr) continue;
      reported.total_allocated_bytes = run.memory_result->total_allocated_bytes;
      reported.net_heap_growth = run.memory_result->net_heap_growth;
      reported.max_bytes_used = run.memory_result->max_bytes_used;
    }
  }
  std::map<std::string, Reported> by_name;
};

void Pairs(benchmark::State& state) {
  tarn::ReportAllocations report(state);
  for (auto _ : state) {
    AllocateAndFree();
    AllocateAndFree();
  }
}
BENCHMARK(Pairs)->Iterations(1000);
BENCHMARK(Pairs)->Name("PairsOfThreads")->Iterations(1000)->Threads(2);

std::vector<void*> leaked;
void Leak(benchmark::State& state) {
  leaked.reserve(2000);
  for (auto _ : state) leaked.push_back(std::malloc(kBytes));
}
BENCHMARK(Leak)->Iterations(1000);

TEST(Benchmark, ReportsPerIteration) {
  ASSERT_TRUE(tarn::RegisterBenchmarkMemoryManager());
  Collector collector;
  ASSERT_EQ(benchmark::RunSpecifiedBenchmarks(&collector), 3U);
  for (void* object : leaked) std::free(object);

  const auto& pairs = collector.by_name["Pairs/iterations:1000"];
  EXPECT_EQ(pairs.counters.at("allocs/iter"), 2);
  EXPECT_EQ(pairs.counters.at("bytes/iter"), 2 * kBytes);
  // google-benchmark's own allocations, of which there are a few in each of its runs, count with the 16 iterations.
  EXPECT_GE(pairs.allocs_per_iter, 2);
  EXPECT_LT(pairs.allocs_per_iter, 3);
  EXPECT_GE(pairs.total_allocated_bytes, static_cast<std::int64_t>(32 * kBytes));

  // The threads start before the first of them begins to count; their ends may fall into the count of neither.
  const auto& threads = collector.by_name["PairsOfThreads/iterations:1000/threads:2"];
  EXPECT_NEAR(threads.counters.at("allocs/iter"), 2, 0.1);

  const auto& leak = collector.by_name["Leak/iterations:1000"];
  EXPECT_EQ(leak.counters.count("allocs/iter"), 0U);
  EXPECT_GE(leak.net_heap_growth, static_cast<std::int64_t>(16 * kBytes));
  EXPECT_GE(leak.max_bytes_used, static_cast<std::int64_t>(16 * kBytes));
}

}  // namespace
