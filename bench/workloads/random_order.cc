// SPDX-License-Identifier: Apache-2.0
//
// One thread: 1000 objects of 16 to 1024 random bytes, freed in random order, over and over.
//
// Stands for code that builds and tears down many small objects of mixed sizes, all of which fit into the caches: what
// is measured is the hit path. Only one object in eight is looked at before it is freed, unlike in the other workloads:
// a program often drops what it has not touched for a while, and then it is the allocator's matter whether free touches
// it.
#include <utility>

#include "bench/workloads/workload.h"

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "One thread: 1000 objects of 16 to 1024 bytes, freed in random order.");
  const std::uint64_t rounds = arguments.Scaled(60'000);
  arguments.Finish();

  constexpr std::size_t kObjects = 1000;
  constexpr std::size_t kOrders = 16;
  const workload::Sizes sizes = workload::Sizes::Uniform(16, 1024);
  workload::Random random(42);
  std::vector<std::vector<std::size_t>> orders(kOrders, std::vector<std::size_t>(kObjects));
  for (auto& order : orders) {
    for (std::size_t i = 0; i < kObjects; ++i) order[i] = i;
    for (std::size_t i = kObjects; i > 1; --i) {
      std::swap(order[i - 1], order[random.Below(static_cast<std::uint32_t>(i))]);
    }
  }
  std::vector<void*> objects(kObjects);
  std::uint64_t checksum = 0;

  const workload::Stopwatch watch;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < kObjects; ++i) {
      objects[i] = workload::Allocate(sizes[i]);
      // One word and not a stamp: the allocator's own share of the time is what counts here.
      workload::StoreWord(objects[i], 0, round + i);
    }
    for (const std::size_t i : orders[round % kOrders]) {
      if (i % 8 == 0) checksum += workload::LoadWord(objects[i], 0) * (i + 1);
      std::free(objects[i]);
    }
  }

  workload::Metrics metrics;
  workload::AddSpeed(metrics, rounds * kObjects, 1, watch.Seconds());
  return workload::Report(checksum, metrics);
}
