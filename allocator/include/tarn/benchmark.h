// SPDX-License-Identifier: Apache-2.0
//
// tarn/benchmark.h: allocations and bytes per iteration in the results of google-benchmark. For C++17 and later.
//
// Two ways, which may be used together:
//
//   void ParseLine(benchmark::State& state) {
//     tarn::ReportAllocations report(state);       // as Go's b.ReportAllocs()
//     for (auto _ : state) Parse(kLine);
//   }                                              // columns allocs/iter and bytes/iter, on the console, too
//
//   int main(int argc, char** argv) {
//     benchmark::Initialize(&argc, argv);
//     tarn::RegisterBenchmarkMemoryManager();      // fields allocs_per_iter and others of every benchmark, in JSON
//     benchmark::RunSpecifiedBenchmarks();
//   }
//
// The first is exact: it counts the very iterations that are timed. The second needs no line in the benchmarks. For it
// google-benchmark runs each of them once more, at most 16 iterations in one thread. The counts of that run include the
// benchmark's set-up and a few allocations of google-benchmark (1.7, whose console output shows neither). A benchmark
// whose threads wait for each other hangs in that run.
//
// Works in a suite that is linked with tarn and in one that runs with tarn preloaded. Without tarn there are no columns
// and no fields. What is counted, and what counting costs: <tarn/allocation_scope.h>.
#ifndef TARN_BENCHMARK_H
#define TARN_BENCHMARK_H

#include <benchmark/benchmark.h>

#include <cstdint>
#include <optional>

#include <tarn/allocation_scope.h>

namespace tarn {

// Counts from its construction to its end, so it is best made directly before the loop. In a benchmark with several
// threads each of them makes one, and the first thread's counts for all.
class ReportAllocations {
 public:
  explicit ReportAllocations(benchmark::State& state) : state_(state) {}
  ReportAllocations(const ReportAllocations&) = delete;
  ReportAllocations& operator=(const ReportAllocations&) = delete;

  ~ReportAllocations() {
    if (!AllocationScope::Available() || state_.thread_index() != 0) return;
    // Before the counters below are made, for they allocate.
    const AllocationCounts counts = scope_.Counts();
    state_.counters["allocs/iter"] = PerIteration(counts.mallocs);
    state_.counters["bytes/iter"] = PerIteration(counts.allocated_bytes);
  }

 private:
  static benchmark::Counter PerIteration(std::uint64_t count) {
    return {static_cast<double>(count), benchmark::Counter::kAvgIterations};
  }

  benchmark::State& state_;
  AllocationScope scope_;
};

// Interface of google-benchmark 1.7; later versions dropped the Stop that takes a pointer, so nothing here says
// override.
class BenchmarkMemoryManager final : public benchmark::MemoryManager {
 public:
  void Start() { scope_.emplace(); }

  void Stop(Result& result) {
    const AllocationCounts counts = scope_->Counts();
    result.num_allocs = static_cast<std::int64_t>(counts.mallocs);
    result.total_allocated_bytes = static_cast<std::int64_t>(counts.allocated_bytes);
    result.net_heap_growth = counts.live_growth_bytes();
    // tarn keeps no peak between two moments, so this is the least that it can have been: what is left at the end.
    result.max_bytes_used = result.net_heap_growth > 0 ? result.net_heap_growth : 0;
  }
  void Stop(Result* result) { Stop(*result); }

 private:
  std::optional<AllocationScope> scope_;
};

// Has google-benchmark count in all benchmarks from now on. False: the malloc of the process is not tarn's, and nothing
// is registered. To be called by one thread.
inline bool RegisterBenchmarkMemoryManager() {
  if (!AllocationScope::Available()) return false;
  static BenchmarkMemoryManager manager;
  benchmark::RegisterMemoryManager(&manager);
  return true;
}

}  // namespace tarn

#endif
