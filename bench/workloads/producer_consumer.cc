// SPDX-License-Identifier: Apache-2.0
//
// Pairs of threads: one allocates, the other frees.
//
// Stands for pipelines and thread pools that hand objects over. Objects travel in batches of 100 through a ring
// without locks, so that the allocator is what is measured.
#include <atomic>
#include <memory>

#include "bench/workloads/workload.h"

namespace {

constexpr std::size_t kBatch = 100;
constexpr std::size_t kRing = 64;

struct Ring {
  void* batches[kRing][kBatch];
  alignas(64) std::atomic<std::uint64_t> produced = 0;
  alignas(64) std::atomic<std::uint64_t> consumed = 0;
};

void Produce(Ring& ring, std::uint64_t batches, const workload::Sizes& sizes) {
  std::uint64_t id = 0;
  for (std::uint64_t b = 0; b < batches; ++b) {
    while (b - ring.consumed.load(std::memory_order_acquire) >= kRing) workload::Yield();
    for (void*& object : ring.batches[b % kRing]) {
      object = workload::Allocate(sizes[id]);
      workload::Stamp(object, sizes[id], id);
      ++id;
    }
    ring.produced.store(b + 1, std::memory_order_release);
  }
}

std::uint64_t Consume(Ring& ring, std::uint64_t batches, const workload::Sizes& sizes) {
  std::uint64_t checksum = 0;
  std::uint64_t id = 0;
  for (std::uint64_t b = 0; b < batches; ++b) {
    while (ring.produced.load(std::memory_order_acquire) == b) workload::Yield();
    for (void* object : ring.batches[b % kRing]) checksum += workload::Release(object, sizes[id++]);
    ring.consumed.store(b + 1, std::memory_order_release);
  }
  return checksum;
}

}  // namespace

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "One thread of each pair allocates, the other one frees.");
  const std::uint64_t batches = arguments.Scaled(400'000);
  const std::uint64_t pairs = arguments.Number("pairs", 1, 1, 64, "pairs of threads, which share the work");
  const std::size_t choice =
      arguments.Choice("sizes", {"small", "64", "mixed"}, "bytes of the objects, 16 to 256, 64, or 16 to 8192");
  arguments.Finish();

  const workload::Sizes sizes = choice == 0   ? workload::Sizes::Uniform(16, 256)
                                : choice == 1 ? workload::Sizes::Fixed(64)
                                              : workload::Sizes::Pareto(16, 8192);
  const std::unique_ptr<Ring[]> rings(new Ring[pairs]);
  const workload::Stopwatch watch;
  const std::uint64_t checksum = workload::RunThreads(2 * pairs, [&](std::uint64_t i) -> std::uint64_t {
    const std::uint64_t own_batches = workload::Part(batches, pairs, i / 2);
    if (i % 2 == 1) return Consume(rings[i / 2], own_batches, sizes);
    Produce(rings[i / 2], own_batches, sizes);
    return 0;
  });

  workload::Metrics metrics;
  workload::AddSpeed(metrics, batches * kBatch, 2 * pairs, watch.Seconds());
  return workload::Report(checksum, metrics);
}
