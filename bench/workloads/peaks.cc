// SPDX-License-Identifier: Apache-2.0
//
// A peak of 100 MiB every second: what does it cost that memory was given back in between?
//
// Stands for jobs by the clock and for frames: memory is built up, dropped, and needed again a moment later. An
// allocator that gives memory back too eagerly pays for the faults of every peak. The time that counts is that of the
// peaks (`busy_s`); what the process holds between them counts against it.
#include "bench/workloads/workload.h"

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "A peak of 100 MiB every second.");
  const std::uint64_t peak_bytes = arguments.Scaled(std::uint64_t{100} << 20);
  const std::uint64_t peaks = arguments.Number("peaks", 6, 1, 1000, "peaks");
  const std::uint64_t period_ms = arguments.Number("period-ms", 1000, 0, 60'000, "from one peak to the next");
  arguments.Finish();

  // 64 bytes to 1 MiB, as many bytes in small objects as in large ones.
  const workload::Sizes sizes = workload::Sizes::Pareto(64, 1 << 20);
  workload::MappedArray<void*> objects(peak_bytes / 64 + 1);
  std::uint64_t checksum = 0;
  double first_s = 0;
  double later_s = 0;
  double between_bytes = 0;
  const std::int64_t baseline_bytes = workload::ReadResident().rss_bytes;

  const workload::Stopwatch watch;
  for (std::uint64_t peak = 0; peak < peaks; ++peak) {
    workload::SleepSeconds(static_cast<double>(peak * period_ms) / 1000 - watch.Seconds());
    if (peak != 0) between_bytes += static_cast<double>(workload::ReadResident().rss_bytes - baseline_bytes);
    const workload::Stopwatch busy;
    std::uint64_t count = 0;
    for (std::uint64_t bytes = 0; bytes < peak_bytes; ++count) {
      const std::uint64_t size = sizes[count];
      objects[count] = workload::Allocate(size);
      workload::Stamp(objects[count], size, peak << 32 | count);
      bytes += size;
    }
    for (std::uint64_t i = 0; i < count; ++i) checksum += workload::Release(objects[i], sizes[i]);
    (peak == 0 ? first_s : later_s) += busy.Seconds();
  }

  workload::Metrics metrics;
  const auto later = static_cast<double>(peaks - 1);
  metrics.Add("busy_s", first_s + later_s);
  metrics.Add("first_peak_ms", first_s * 1e3);
  if (peaks > 1) {
    metrics.Add("later_peak_ms", later_s * 1e3 / later);
    metrics.Add("rss_above_baseline_bytes_between", between_bytes / later);
  }
  return workload::Report(checksum, metrics);
}
