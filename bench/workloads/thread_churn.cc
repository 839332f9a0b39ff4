// SPDX-License-Identifier: Apache-2.0
//
// 100000 threads, eight at a time, with a few objects each.
//
// Stands for programs that start a thread per task. This measures the work of an allocator at a thread's first
// allocation and at its end. It shows whether memory grows with the number of threads that have been.
#include <thread>

#include "bench/workloads/workload.h"

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "Very many short threads with a few objects each.");
  const std::uint64_t wanted = arguments.Scaled(100'000);
  const std::uint64_t threads = arguments.Number("threads", 8, 1, 256, "threads at one time");
  arguments.Finish();

  constexpr std::uint64_t kObjects = 10;
  const workload::Sizes sizes = workload::Sizes::Pareto(16, 4096);
  const std::uint64_t rounds = (wanted + threads - 1) / threads;
  // The last object of each thread outlives it, as a result would, and is freed by the main thread.
  std::vector<void*> results(threads);
  std::vector<std::thread> running(threads);
  std::vector<std::uint64_t> sums(threads);
  std::uint64_t checksum = 0;
  workload::Resident after_tenth{};

  const workload::Stopwatch watch;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    for (std::uint64_t t = 0; t < threads; ++t) {
      running[t] = std::thread([&, round, t] {
        const std::uint64_t first = (round * threads + t) * kObjects;
        void* objects[kObjects];
        for (std::uint64_t i = 0; i < kObjects; ++i) {
          objects[i] = workload::Allocate(sizes[first + i]);
          workload::Stamp(objects[i], sizes[first + i], first + i);
        }
        std::uint64_t sum = 0;
        for (std::uint64_t i = 0; i + 1 < kObjects; ++i) sum += workload::Release(objects[i], sizes[first + i]);
        sums[t] = sum;
        results[t] = objects[kObjects - 1];
      });
    }
    for (std::uint64_t t = 0; t < threads; ++t) {
      running[t].join();
      const std::uint64_t last = (round * threads + t) * kObjects + kObjects - 1;
      checksum += sums[t] + workload::Release(results[t], sizes[last]);
    }
    if (round == rounds / 10) after_tenth = workload::ReadResident();
  }
  const double seconds = watch.Seconds();

  workload::Metrics metrics;
  metrics.Add("operations", static_cast<double>(rounds * threads));
  metrics.Add("threads", static_cast<double>(threads));
  metrics.Add("work_s", seconds);
  metrics.Add("us_per_thread", seconds * 1e6 / static_cast<double>(rounds * threads));
  metrics.Add("rss_after_tenth_bytes", static_cast<double>(after_tenth.rss_bytes));
  metrics.Add("rss_bytes", static_cast<double>(workload::ReadResident().rss_bytes));
  return workload::Report(checksum, metrics);
}
