// SPDX-License-Identifier: Apache-2.0
//
// An example of <tarn/benchmark.h>: how often do three ways to join words allocate?
//
//   LD_PRELOAD=build/lib/libtarn.so build/bench/count_allocations
//
// Columns allocs/iter and bytes/iter stand beside the times. A suite that is linked with tarn needs no preload, and one
// that runs without tarn has the times alone.
#include <benchmark/benchmark.h>

#include <tarn/benchmark.h>

#include <array>
#include <sstream>
#include <string>

namespace {

const std::array<std::string, 3> kWords = {"the quick brown fox", "jumps over", "the lazy dog and runs away"};

void JoinByPlus(benchmark::State& state) {
  tarn::ReportAllocations report(state);
  for (auto _ : state) {
    std::string text;
    for (const auto& word : kWords) text = text + word + " ";
    benchmark::DoNotOptimize(text);
  }
}
BENCHMARK(JoinByPlus);

void JoinByStream(benchmark::State& state) {
  tarn::ReportAllocations report(state);
  for (auto _ : state) {
    std::ostringstream stream;
    for (const auto& word : kWords) stream << word << ' ';
    std::string text = stream.str();
    benchmark::DoNotOptimize(text);
  }
}
BENCHMARK(JoinByStream);

void JoinReserved(benchmark::State& state) {
  tarn::ReportAllocations report(state);
  for (auto _ : state) {
    std::string text;
    text.reserve(64);
    for (const auto& word : kWords) (text += word) += ' ';
    benchmark::DoNotOptimize(text);
  }
}
BENCHMARK(JoinReserved);

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  tarn::RegisterBenchmarkMemoryManager();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
