// SPDX-License-Identifier: Apache-2.0
//
// A cache of constant size in bytes, whose objects change their sizes over time: how much memory does it hold at the
// end for each live byte?
//
// Stands for key-value stores and proxies that run for months. In each phase the sizes are others. New objects push out
// the oldest of five that are picked at random. So some stay for long, scattered over the memory of phases that are
// past (redis evicts like that, see maxmemory-samples in its documentation). At the end nine of ten objects are
// dropped, at random.
#include <algorithm>
#include <iterator>

#include "bench/workloads/workload.h"

namespace {

struct Entry {
  void* address;
  std::uint32_t bytes;
  std::uint32_t age;  // The number of entries before it.
};

}  // namespace

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "A cache whose objects change their sizes over time.");
  const std::uint64_t budget_bytes = arguments.Scaled(std::uint64_t{64} << 20);
  const std::uint64_t idle_s =
      arguments.Number("idle-seconds", 0, 0, 600, "silence when it is full, and when it has shrunk");
  const std::uint64_t phase_ms = arguments.Number(
      "phase-ms", 0, 0, 60'000, "the time that a phase takes at least, for its work is spread over it");
  arguments.Finish();

  // The smallest size of each phase; the largest is four times that.
  static constexpr std::uint32_t kPhases[] = {32, 64, 128, 256, 512, 1024, 2048, 96};
  // A phase replaces the cache twice, in bytes.
  constexpr std::uint64_t kTurnover = 2;
  // The number of times in a phase that resident memory is read.
  constexpr std::uint64_t kReadings = 32;
  workload::MappedArray<Entry> entries(budget_bytes / kPhases[0] + 1);
  workload::Random random(1);
  std::size_t count = 0;
  std::uint32_t made = 0;
  std::uint64_t live_bytes = 0;
  std::uint64_t checksum = 0;
  const workload::Resident before = workload::ReadResident();

  const auto drop = [&](std::size_t index) {
    Entry& entry = entries[index];
    live_bytes -= entry.bytes;
    checksum += workload::Release(entry.address, entry.bytes);
    entry = entries[--count];
  };

  workload::Metrics metrics;
  // The room for all readings is there before the work, as it may come from the measured malloc.
  std::vector<std::pair<double, double>> series;
  series.reserve(std::size(kPhases) * (kReadings + 1) + 2 * (idle_s * 10 + 1));
  std::int64_t peak_bytes = 0;
  const workload::Stopwatch watch;
  const auto read_memory = [&] {
    const std::int64_t rss_bytes = workload::ReadResident().rss_bytes - before.rss_bytes;
    series.emplace_back(watch.Seconds(), rss_bytes);
    return rss_bytes;
  };
  double waited_s = 0;
  double phase_end_s = 0;
  for (const std::uint32_t least : kPhases) {
    const workload::Sizes sizes = workload::Sizes::Uniform(least, 4 * least);
    const double phase_s = static_cast<double>(phase_ms) / 1000;
    const double phase_begin_s = std::max(watch.Seconds(), phase_end_s);
    phase_end_s = phase_begin_s + phase_s;
    std::uint64_t reading = 0;
    for (std::uint64_t added = 0; added < kTurnover * budget_bytes;) {
      if (added * kReadings >= reading * kTurnover * budget_bytes) {
        peak_bytes = std::max(peak_bytes, read_memory());
        const double wait_s =
            phase_begin_s + phase_s * static_cast<double>(reading++) / static_cast<double>(kReadings) - watch.Seconds();
        if (wait_s > 0) {
          workload::SleepSeconds(wait_s);
          waited_s += wait_s;
        }
      }
      const std::uint32_t bytes = sizes[random()];
      while (count != 0 && live_bytes + bytes > budget_bytes) {
        std::size_t oldest = random.Below(static_cast<std::uint32_t>(count));
        for (int pick = 1; pick < 5; ++pick) {
          const std::size_t other = random.Below(static_cast<std::uint32_t>(count));
          if (entries[other].age < entries[oldest].age) oldest = other;
        }
        drop(oldest);
      }
      Entry& entry = entries[count++];
      entry = {workload::Allocate(bytes), bytes, made++};
      workload::Stamp(entry.address, bytes, entry.age);
      live_bytes += bytes;
      added += bytes;
    }
  }
  const double seconds = watch.Seconds() - waited_s;
  const auto add_memory = [&](const char* when_name) {
    const auto rss_bytes = static_cast<double>(read_memory());
    const std::string when = when_name;
    metrics.Add("live_bytes_" + when, static_cast<double>(live_bytes));
    metrics.Add("rss_above_baseline_bytes_" + when, rss_bytes);
    metrics.Add("rss_per_live_byte_" + when, rss_bytes / static_cast<double>(live_bytes));
  };

  workload::AddSpeed(metrics, made, 1, seconds);
  add_memory("full");
  metrics.Add("rss_per_live_byte_peak", static_cast<double>(peak_bytes) / static_cast<double>(budget_bytes));
  const auto stay_silent = [&] {
    for (std::uint64_t tenth = 0; tenth < idle_s * 10; ++tenth) {
      workload::SleepSeconds(0.1);
      if (tenth + 1 < idle_s * 10) read_memory();
    }
  };
  if (idle_s != 0) {
    stay_silent();
    add_memory("full_and_idle");
  }
  const std::size_t left = count / 10 + 1;
  while (count > left) drop(random.Below(static_cast<std::uint32_t>(count)));
  add_memory("shrunk");
  if (idle_s != 0) {
    stay_silent();
    add_memory("shrunk_and_idle");
  }
  metrics.AddSeries("rss_above_baseline", series);
  while (count != 0) drop(count - 1);
  return workload::Report(checksum, metrics);
}
