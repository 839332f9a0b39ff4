// SPDX-License-Identifier: Apache-2.0
//
// Many threads on few CPUs; every object goes through a shared table and is freed by the thread that finds it there.
//
// Stands for servers with a thread per client that share caches, sessions and queues. With more threads than CPUs, a
// thread is stopped in the midst of anything, and goes on where another one has just run.
#include <atomic>
#include <memory>

#include "bench/workloads/workload.h"

namespace {

// The size of an object is the low part of its stamp, so that the thread that finds it knows the size.
constexpr unsigned kSizeBits = 12;

std::uint64_t ReleaseFound(void* object) {
  const std::uint64_t bytes = workload::LoadWord(object, 0) % (1 << kSizeBits);
  return workload::Release(object, bytes);
}

}  // namespace

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "Many threads that free what others have left in a shared table.");
  const std::uint64_t objects = arguments.Scaled(40'000'000);
  const std::uint64_t threads = arguments.Number("threads", 16, 1, 1024, "threads, which share the work");
  arguments.Finish();

  constexpr std::uint32_t kSlots = 1 << 15;
  // The other threads get their turn in the midst of the work, as they would with requests that wait for a client.
  constexpr std::uint64_t kObjectsPerTurn = 500;
  const workload::Sizes sizes = workload::Sizes::Pareto(16, 2048);
  const std::unique_ptr<std::atomic<void*>[]> slots(new std::atomic<void*>[kSlots]());

  const workload::Stopwatch watch;
  std::uint64_t checksum = workload::RunThreads(threads, [&](std::uint64_t self) {
    workload::Random random(self);
    std::uint64_t sum = 0;
    const std::uint64_t count = workload::Part(objects, threads, self);
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t bytes = sizes[i + self];
      void* object = workload::Allocate(bytes);
      workload::Stamp(object, bytes, (self << 32 | i) << kSizeBits | bytes);
      object = slots[random.Below(kSlots)].exchange(object, std::memory_order_acq_rel);
      if (object != nullptr) sum += ReleaseFound(object);
      if (i % kObjectsPerTurn == 0) workload::Yield();
    }
    return sum;
  });
  const double seconds = watch.Seconds();
  const workload::Resident resident = workload::ReadResident();
  for (std::uint32_t i = 0; i < kSlots; ++i) {
    void* object = slots[i].load(std::memory_order_relaxed);
    if (object != nullptr) checksum += ReleaseFound(object);
  }

  workload::Metrics metrics;
  workload::AddSpeed(metrics, objects, threads, seconds);
  metrics.Add("rss_bytes", static_cast<double>(resident.rss_bytes));
  return workload::Report(checksum, metrics);
}
