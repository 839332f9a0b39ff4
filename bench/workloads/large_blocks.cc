// SPDX-License-Identifier: Apache-2.0
//
// Twenty blocks of 5 to 25 MiB, one after the other replaced by a new one, every page written.
//
// Stands for programs that hold images, matrices or decoded files. A block that comes from fresh memory costs a fault
// for each of its pages, which is far more than the allocation; one that is kept warm costs memory. Both count.
#include "bench/workloads/workload.h"

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "Blocks of 5 to 25 MiB, 20 of them live, every page written.");
  const std::uint64_t replacements = arguments.Scaled(400);
  const std::uint64_t live = arguments.Number("live", 20, 1, 1000, "blocks at one time");
  arguments.Finish();

  const workload::Sizes sizes = workload::Sizes::Uniform(5 << 20, 25 << 20);
  std::vector<void*> blocks(live);
  std::vector<std::uint64_t> bytes(live);
  std::uint64_t checksum = 0;
  double in_calls_s = 0;

  const workload::Stopwatch watch;
  for (std::uint64_t i = 0; i < live + replacements; ++i) {
    const std::uint64_t place = i % live;
    if (blocks[place] != nullptr) checksum += workload::ReadStamp(blocks[place], bytes[place]);
    const workload::Stopwatch call;
    std::free(blocks[place]);
    bytes[place] = sizes[i];
    blocks[place] = workload::Allocate(bytes[place]);
    in_calls_s += call.Seconds();
    // Never 0: what holds nothing but zeroes looks like what was never written.
    workload::Stamp(blocks[place], bytes[place], i + 1, workload::kPageBytes);
  }
  const double seconds = watch.Seconds();
  const workload::Resident resident = workload::ReadResident();
  std::uint64_t live_bytes = 0;
  for (std::uint64_t place = 0; place < live; ++place) {
    live_bytes += bytes[place];
    checksum += workload::Release(blocks[place], bytes[place]);
  }

  workload::Metrics metrics;
  workload::AddSpeed(metrics, live + replacements, 1, seconds);
  // The rest is the writing, with its faults.
  metrics.Add("in_malloc_and_free_s", in_calls_s);
  metrics.Add("live_bytes", static_cast<double>(live_bytes));
  metrics.Add("rss_bytes", static_cast<double>(resident.rss_bytes));
  return workload::Report(checksum, metrics);
}
