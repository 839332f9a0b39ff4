// SPDX-License-Identifier: Apache-2.0
//
// One thread: batches of 1 to 10000 objects, allocated one after the other and freed in the reverse or the same order.
//
// Stands for the two orders in which programs tear down what they have built: recursion and scopes free the last
// object first, queues and passes over a list free the first one first. The larger batches do not fit into the
// allocator's caches, so that the floors below them are measured, too.
#include "bench/workloads/workload.h"

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "One thread: batches of objects, freed last in first out or in order.");
  const std::uint64_t objects = arguments.Scaled(40'000'000);
  const bool in_order = arguments.Choice("order", {"lifo", "fifo"}, "which object of a batch is freed first") == 1;
  arguments.Finish();

  constexpr std::uint32_t kLargestBatch = 10'000;
  workload::MappedArray<void*> batch(kLargestBatch);
  const workload::Sizes sizes = workload::Sizes::Pareto(16, 512);
  workload::Random random(1);
  std::uint64_t checksum = 0;

  const workload::Stopwatch watch;
  for (std::uint64_t done = 0; done < objects;) {
    // As many small batches as large ones: 1 to 10, 1 to 100, 1 to 1000, 1 to 10000.
    static constexpr std::uint32_t kLimits[4] = {10, 100, 1000, kLargestBatch};
    std::uint64_t count = 1 + random.Below(kLimits[random.Below(4)]);
    if (count > objects - done) count = objects - done;
    for (std::uint64_t i = 0; i < count; ++i) {
      batch[i] = workload::Allocate(sizes[done + i]);
      workload::Stamp(batch[i], sizes[done + i], done + i);
    }
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t next = in_order ? i : count - 1 - i;
      checksum += workload::Release(batch[next], sizes[done + next]);
    }
    done += count;
  }

  workload::Metrics metrics;
  workload::AddSpeed(metrics, objects, 1, watch.Seconds());
  return workload::Report(checksum, metrics);
}
