// SPDX-License-Identifier: Apache-2.0
//
// Threads build a peak of 256 MiB of mixed sizes, keep little of it, and fall silent: resident memory over 30 s.
//
// Stands for a server after its busy hour. Some six per cent stay live: what each thread loaded first, and one of a
// hundred objects of the rest, which keeps its neighbourhood from being given back. The threads stay and wait. The
// time of this workload says nothing; the memory does.
#include <barrier>

#include "bench/workloads/workload.h"

namespace {

// Of each thread's objects, the first twentieth stays, and then one in a hundred.
bool Stays(std::uint64_t index, std::uint64_t count) { return index < count / 20 || index % 100 == 0; }

}  // namespace

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "A peak of several threads, then silence.");
  const std::uint64_t peak_bytes = arguments.Scaled(std::uint64_t{256} << 20);
  const std::uint64_t threads = arguments.Number("threads", 8, 1, 256, "threads, which share the peak");
  const std::uint64_t idle_s = arguments.Number("idle-seconds", 30, 0, 600, "length of the silence");
  arguments.Finish();

  constexpr std::uint32_t kLeastBytes = 64;
  const workload::Sizes sizes = workload::Sizes::Pareto(kLeastBytes, 256 << 10);
  const std::uint64_t share_bytes = peak_bytes / threads + 1;
  const std::uint64_t most_objects = share_bytes / kLeastBytes + 1;
  workload::MappedArray<void*> objects(threads * most_objects);
  std::vector<std::uint64_t> live_bytes(threads);
  // One reading per second, with room made before the silence.
  std::vector<std::pair<double, double>> series;
  series.reserve(idle_s + 1);
  double peak_rss_bytes = 0;
  std::int64_t lazily_freed_bytes = 0;
  const std::int64_t baseline_bytes = workload::ReadResident().rss_bytes;

  // The main thread and the others meet at the peak, before the silence and after it.
  std::barrier<> meeting(static_cast<std::ptrdiff_t>(threads) + 1);
  std::uint64_t checksum = workload::RunThreads(threads + 1, [&](std::uint64_t self) -> std::uint64_t {
    if (self == threads) {
      meeting.arrive_and_wait();
      peak_rss_bytes = static_cast<double>(workload::ReadResident().rss_bytes - baseline_bytes);
      meeting.arrive_and_wait();
      meeting.arrive_and_wait();
      const workload::Stopwatch silence;
      for (std::uint64_t second = 0; second <= idle_s; ++second) {
        workload::SleepSeconds(static_cast<double>(second) - silence.Seconds());
        const workload::Resident now = workload::ReadResident();
        series.emplace_back(second, now.rss_bytes - baseline_bytes);
        lazily_freed_bytes = now.lazily_freed_bytes;
      }
      meeting.arrive_and_wait();
      return 0;
    }
    void** const own = &objects[self * most_objects];
    std::uint64_t sum = 0;
    std::uint64_t count = 0;
    for (std::uint64_t bytes = 0; bytes < share_bytes; ++count) {
      own[count] = workload::Allocate(sizes[count]);
      workload::Stamp(own[count], sizes[count], self << 32 | count);
      bytes += sizes[count];
    }
    meeting.arrive_and_wait();
    meeting.arrive_and_wait();
    for (std::uint64_t i = 0; i < count; ++i) {
      if (Stays(i, count)) {
        live_bytes[self] += sizes[i];
      } else {
        sum += workload::Release(own[i], sizes[i]);
      }
    }
    meeting.arrive_and_wait();
    meeting.arrive_and_wait();
    for (std::uint64_t i = 0; i < count; ++i) {
      if (Stays(i, count)) sum += workload::Release(own[i], sizes[i]);
    }
    return sum;
  });

  double all_live_bytes = 0;
  for (const std::uint64_t bytes : live_bytes) all_live_bytes += static_cast<double>(bytes);
  workload::Metrics metrics;
  metrics.Add("threads", static_cast<double>(threads));
  metrics.Add("live_bytes", all_live_bytes);
  metrics.Add("rss_above_baseline_bytes_peak", peak_rss_bytes);
  metrics.Add("rss_above_baseline_bytes_0s", series.front().second);
  metrics.Add("rss_above_baseline_bytes_end", series.back().second);
  metrics.Add("rss_per_live_byte_end", series.back().second / all_live_bytes);
  metrics.Add("lazily_freed_bytes_end", static_cast<double>(lazily_freed_bytes));
  metrics.Add("idle_s", static_cast<double>(idle_s));
  metrics.AddSeries("rss_above_baseline", series);
  return workload::Report(checksum, metrics);
}
