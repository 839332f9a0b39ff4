// SPDX-License-Identifier: Apache-2.0
//
// A heap that grows to 800 MB in objects of 1000 bytes: CPU time and, with --timed, the slowest allocations.
//
// Stands for programs that load their data. All memory is new to the process, so what counts is how it comes: by page
// faults, in larger pieces, in huge pages. An allocation is timed together with the writing of its object: the faults
// of one allocator come in malloc, and of another in the program. The clock is that of the thread's CPU time, which
// does not see other processes.
#include <time.h>

#include "bench/workloads/workload.h"

namespace {

std::uint64_t CpuNs() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(time.tv_nsec);
}

}  // namespace

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "A heap that grows to 800 MB in objects of 1000 bytes.");
  const std::uint64_t count = arguments.Scaled(800'000);
  const bool timed = arguments.Flag("timed", "take the CPU time of each allocation, which costs more than most");
  arguments.Finish();

  constexpr std::uint64_t kBytes = 1000;
  constexpr std::uint64_t kStandstillNs = 1'000'000;
  workload::MappedArray<void*> objects(count);
  workload::Histogram latency;
  std::uint64_t standstills = 0;
  const workload::Stopwatch watch;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t before_ns = timed ? CpuNs() : 0;
    objects[i] = workload::Allocate(kBytes);
    workload::Stamp(objects[i], kBytes, i);
    if (!timed) continue;
    const std::uint64_t ns = CpuNs() - before_ns;
    latency.Add(ns);
    standstills += ns > kStandstillNs ? 1 : 0;
  }
  const double seconds = watch.Seconds();
  const workload::Resident resident = workload::ReadResident();
  std::uint64_t checksum = 0;
  for (std::uint64_t i = 0; i < count; ++i) checksum += workload::ReadStamp(objects[i], kBytes);

  workload::Metrics metrics;
  workload::AddSpeed(metrics, count, 1, seconds);
  metrics.Add("rss_bytes", static_cast<double>(resident.rss_bytes));
  if (timed) {
    metrics.Add("slowest_ms", static_cast<double>(latency.most()) / 1e6);
    metrics.Add("over_1_ms", static_cast<double>(standstills));
    metrics.AddLatency("malloc_and_touch", latency, 1, 0);
  }
  return workload::Report(checksum, metrics);
}
