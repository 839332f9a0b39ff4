// SPDX-License-Identifier: Apache-2.0
//
// A user's suite for google-benchmark, with the columns of <tarn/benchmark.h>.
#include <benchmark/benchmark.h>

#include <memory>

#include <tarn/benchmark.h>

namespace {

void Reported(benchmark::State& state) {
  const tarn::ReportAllocations report(state);
  for (auto _ : state) {
    for (int i = 0; i < 3; ++i) benchmark::DoNotOptimize(std::make_unique<char[]>(100));
  }
}
BENCHMARK(Reported);

void Managed(benchmark::State& state) {
  for (auto _ : state) {
    for (int i = 0; i < 5; ++i) benchmark::DoNotOptimize(std::make_unique<char[]>(100));
  }
}
BENCHMARK(Managed);

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  tarn::RegisterBenchmarkMemoryManager();
  benchmark::RunSpecifiedBenchmarks();
}
