// SPDX-License-Identifier: Apache-2.0
//
// A live set of constant count whose objects are replaced in random order, with sizes that are the rarer the larger
// they are.
//
// Stands for programs that hold data structures and change them in no particular order: interpreters, in-memory
// indexes, simulations. The set is larger than the caches of the allocator and of the processor.
#include "bench/workloads/workload.h"

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "One thread: mixed sizes, a random object of the live set replaced.");
  const std::uint64_t replacements = arguments.Scaled(10'000'000);
  const bool large = arguments.Choice("sizes", {"1KiB", "32KiB"}, "the largest object; 16 bytes is the smallest") == 1;
  arguments.Finish();

  struct Object {
    void* address;
    std::uint64_t bytes;
  };
  const std::uint32_t live = large ? 50'000 : 100'000;
  const workload::Sizes sizes = workload::Sizes::Pareto(16, large ? 32 << 10 : 1 << 10);
  workload::MappedArray<Object> objects(live);
  workload::Random random(1);
  std::uint64_t checksum = 0;
  std::uint64_t live_bytes = 0;

  const workload::Stopwatch watch;
  for (std::uint64_t i = 0; i < live + replacements; ++i) {
    Object& object = objects[i < live ? i : random.Below(live)];
    if (object.address != nullptr) {
      live_bytes -= object.bytes;
      checksum += workload::Release(object.address, object.bytes);
    }
    object.bytes = sizes[random()];
    object.address = workload::Allocate(object.bytes);
    workload::Stamp(object.address, object.bytes, i);
    live_bytes += object.bytes;
  }
  const double seconds = watch.Seconds();
  const workload::Resident resident = workload::ReadResident();
  for (std::uint64_t i = 0; i < live; ++i) checksum += workload::Release(objects[i].address, objects[i].bytes);

  workload::Metrics metrics;
  workload::AddSpeed(metrics, live + replacements, 1, seconds);
  metrics.Add("live_bytes", static_cast<double>(live_bytes));
  metrics.Add("rss_bytes", static_cast<double>(resident.rss_bytes));
  return workload::Report(checksum, metrics);
}
