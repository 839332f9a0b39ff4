// SPDX-License-Identifier: Apache-2.0
//
// Threads that write to small objects of their own: do two of these lie in one cache line?
//
// `active`: every thread allocates its objects itself, so an allocator that hands parts of one line to two threads
// makes them share. `passive`: a main thread allocates neighbours and gives one to each thread, which frees it and then
// allocates: an allocator that gives the freed part of the line to the thread that freed it keeps the sharing up. After
// the benchmarks cache-thrash and cache-scratch of Berger, McKinley, Blumofe, Wilson, "Hoard: A Scalable Memory
// Allocator for Multithreaded Applications" (ASPLOS 2000), written anew. A line that is shared shows as a multiple of
// the time where the threads run on different cores at the same time; how many of the objects shared theirs is counted,
// too.
#include <atomic>
#include <memory>

#include "bench/workloads/workload.h"

namespace {

constexpr std::uintptr_t kLineBytes = 64;

// The cache line that a thread writes to at present; in a line of its own.
struct alignas(kLineBytes) Place {
  std::atomic<std::uintptr_t> line = 0;
};

}  // namespace

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "Threads that write to small objects of their own.");
  const bool passive = arguments.Choice("mode", {"active", "passive"}, "who made the first objects") == 1;
  const std::uint64_t rounds = arguments.Scaled(400);
  const std::uint64_t threads = arguments.Number("threads", 2, 1, 256, "threads, each with all of the work");
  const std::uint64_t bytes = arguments.Number("bytes", 8, 8, 4096, "size of the objects");
  arguments.Finish();

  constexpr std::uint64_t kObjectsPerRound = 100;
  constexpr std::uint64_t kWritesPerObject = 20'000;
  std::vector<void*> given(threads);
  const std::unique_ptr<Place[]> places(new Place[threads]);
  std::atomic<std::uint64_t> shared = 0;
  std::uint64_t checksum = 0;

  const workload::Stopwatch watch;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    if (passive) {
      for (void*& object : given) {
        object = workload::Allocate(bytes);
        workload::Stamp(object, bytes, round);
      }
    }
    checksum += workload::RunThreads(threads, [&](std::uint64_t self) {
      std::uint64_t sum = 0;
      std::uint64_t own_shared = 0;
      if (passive) sum += workload::Release(given[self], bytes);
      for (std::uint64_t i = 0; i < kObjectsPerRound; ++i) {
        auto* counter = static_cast<volatile std::uint64_t*>(workload::Allocate(bytes));
        const std::uintptr_t line = reinterpret_cast<std::uintptr_t>(counter) / kLineBytes;
        places[self].line.store(line, std::memory_order_relaxed);
        *counter = self;
        for (std::uint64_t w = 0; w < kWritesPerObject; ++w) *counter = *counter + 1;
        sum += *counter;
        bool is_shared = false;
        for (std::uint64_t t = 0; t < threads; ++t) {
          is_shared |= t != self && places[t].line.load(std::memory_order_relaxed) == line;
        }
        own_shared += is_shared;
        places[self].line.store(0, std::memory_order_relaxed);
        std::free(const_cast<std::uint64_t*>(counter));
      }
      shared.fetch_add(own_shared, std::memory_order_relaxed);
      return sum;
    });
  }
  const double seconds = watch.Seconds();

  workload::Metrics metrics;
  const std::uint64_t objects = rounds * kObjectsPerRound * threads;
  metrics.Add("operations", static_cast<double>(objects));
  metrics.Add("threads", static_cast<double>(threads));
  metrics.Add("work_s", seconds);
  // The threads write at the same time.
  metrics.Add("ns_per_write", seconds * 1e9 / static_cast<double>(rounds * kObjectsPerRound * kWritesPerObject));
  metrics.Add("share_of_objects_in_a_shared_line", static_cast<double>(shared.load()) / static_cast<double>(objects));
  return workload::Report(checksum, metrics);
}
