// SPDX-License-Identifier: Apache-2.0
//
// 100 MiB of objects of one size are freed, then nothing happens: how much memory does the process keep?
//
// Stands for a service after a peak. The growth of resident memory is read at once and after 1, 5 and 30 s of silence,
// in which nothing is allocated or freed. It is read again after a little activity, which some allocators need. With
// --pin one object at the far end stays live, as a session or a line of a log would. This is for a heap that can only
// shrink from its end. With --locked the process has locked its memory (mlockall), as programs do that must not be
// paged out, and calls malloc_trim after the frees. The time of this workload says nothing; the memory does.
#include <malloc.h>
#include <sys/mman.h>

#include <cstdio>
#include <iterator>

#include "bench/workloads/workload.h"

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "100 MiB are freed, then nothing happens.");
  const std::uint64_t total_bytes = arguments.Scaled(std::uint64_t{100} << 20);
  const std::uint64_t bytes = arguments.Number("bytes", 4096, 8, 1 << 30, "size of the objects");
  const std::uint64_t idle_s = arguments.Number("idle-seconds", 30, 0, 600, "length of the silence");
  const bool pin = arguments.Flag("pin", "the last object stays live");
  const bool locked = arguments.Flag("locked", "memory is locked, and malloc_trim called");
  arguments.Finish();
  if (locked && mlockall(MCL_CURRENT | MCL_FUTURE) != 0) std::perror("memory is not locked");

  const std::uint64_t count = total_bytes / bytes + 1;
  workload::MappedArray<void*> objects(count);
  workload::Metrics metrics;
  // One object before the baseline starts the allocator.
  std::free(workload::Allocate(bytes));
  const std::int64_t baseline_bytes = workload::ReadResident().rss_bytes;
  // Readings are kept in plain variables up to the end of the silence: metrics allocate, and a string of theirs behind
  // the objects would keep an allocator from giving the end of its heap back.
  const auto add = [&](const std::string& name, std::int64_t rss_bytes) {
    metrics.Add(name, static_cast<double>(rss_bytes - baseline_bytes));
  };

  for (std::uint64_t i = 0; i < count; ++i) {
    objects[i] = workload::Allocate(bytes);
    workload::Stamp(objects[i], bytes, i);
  }
  const std::int64_t full_bytes = workload::ReadResident().rss_bytes;
  std::uint64_t checksum = 0;
  const std::uint64_t freed = count - (pin ? 1 : 0);
  for (std::uint64_t i = 0; i < freed; ++i) checksum += workload::Release(objects[i], bytes);
  if (locked) malloc_trim(0);

  static constexpr std::uint64_t kTimes[] = {0, 1, 5, 15, 30, 60};
  std::int64_t readings[std::size(kTimes)];
  std::size_t taken = 0;
  const workload::Stopwatch silence;
  for (const std::uint64_t second : kTimes) {
    if (second > idle_s) break;
    workload::SleepSeconds(static_cast<double>(second) - silence.Seconds());
    readings[taken++] = workload::ReadResident().rss_bytes;
  }
  workload::SleepSeconds(static_cast<double>(idle_s) - silence.Seconds());
  const workload::Resident last = workload::ReadResident();
  const workload::Sizes sizes = workload::Sizes::Pareto(16, 32 << 10);
  for (std::uint64_t i = 0; i < 10'000; ++i) {
    void* object = workload::Allocate(sizes[i]);
    workload::Stamp(object, sizes[i], i);
    checksum += workload::Release(object, sizes[i]);
  }
  const std::int64_t active_bytes = workload::ReadResident().rss_bytes;

  add("rss_above_baseline_bytes_full", full_bytes);
  metrics.Add("rss_bytes_0s", static_cast<double>(readings[0]));
  for (std::size_t i = 0; i < taken; ++i) {
    add("rss_above_baseline_bytes_" + std::to_string(kTimes[i]) + "s", readings[i]);
  }
  add("rss_above_baseline_bytes_end", last.rss_bytes);
  metrics.Add("lazily_freed_bytes_end", static_cast<double>(last.lazily_freed_bytes));
  add("rss_above_baseline_bytes_after_activity", active_bytes);
  if (pin) checksum += workload::Release(objects[freed], bytes);
  metrics.Add("idle_s", static_cast<double>(idle_s));
  return workload::Report(checksum, metrics);
}
