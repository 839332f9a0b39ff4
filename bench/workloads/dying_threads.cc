// SPDX-License-Identifier: Apache-2.0
//
// A server whose threads die and hand their objects on.
//
// Each thread replaces random objects of a table, most of which a thread before it has allocated. Then it starts
// a successor, leaves it the table, and ends. Stands for servers with a short-lived thread per connection or job;
// after Larson and Krishnan, "Memory Allocation for Long-Running Server Applications" (ISMM 1998), written anew.
// What a thread leaves behind must not be lost with it.
#include <pthread.h>

#include <cstdio>
#include <memory>
#include <semaphore>

#include "bench/workloads/workload.h"

namespace {

constexpr std::uint32_t kObjects = 2000;
constexpr std::uint64_t kReplacementsPerThread = 20'000;

struct Object {
  void* address;
  std::uint64_t bytes;
};

// The state that threads of one line of succession hand on.
struct Line {
  Line(std::uint64_t seed, std::uint64_t generations, const workload::Sizes& the_sizes)
      : random(seed), sizes(the_sizes), table(kObjects), generations_left(generations) {}

  workload::Random random;
  const workload::Sizes& sizes;
  workload::MappedArray<Object> table;
  std::uint64_t generations_left;
  std::uint64_t replacements = 0;
  std::uint64_t checksum = 0;
  pthread_t last{};
  bool has_last = false;
  std::binary_semaphore end{0};
};

void StartThread(Line& line);

void* Serve(void* argument) {
  Line& line = *static_cast<Line*>(argument);
  // Joining the thread before this one makes its end a part of the work.
  if (line.has_last) pthread_join(line.last, nullptr);
  for (std::uint64_t i = 0; i < kReplacementsPerThread; ++i) {
    Object& object = line.table[line.random.Below(kObjects)];
    if (object.address != nullptr) line.checksum += workload::Release(object.address, object.bytes);
    object.bytes = line.sizes[line.random()];
    object.address = workload::Allocate(object.bytes);
    workload::Stamp(object.address, object.bytes, ++line.replacements);
  }
  line.last = pthread_self();
  line.has_last = true;
  if (--line.generations_left != 0) {
    StartThread(line);
  } else {
    line.end.release();
  }
  return nullptr;
}

void StartThread(Line& line) {
  pthread_t thread;
  if (pthread_create(&thread, nullptr, &Serve, &line) == 0) return;
  std::fprintf(stderr, "cannot start a thread; a smaller --threads may help\n");
  std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "Threads that hand their objects to a successor and end.");
  const std::uint64_t generations = arguments.Scaled(3200);
  const std::uint64_t threads = arguments.Number("threads", 2, 1, 256, "threads at one time, which share the work");
  arguments.Finish();

  const workload::Sizes sizes = workload::Sizes::Pareto(16, 4096);
  const std::uint64_t generations_per_line = (generations + threads - 1) / threads;
  std::vector<std::unique_ptr<Line>> lines;
  const workload::Stopwatch watch;
  for (std::uint64_t i = 0; i < threads; ++i) {
    lines.push_back(std::make_unique<Line>(i, generations_per_line, sizes));
    StartThread(*lines.back());
  }
  std::uint64_t checksum = 0;
  for (const auto& line : lines) {
    line->end.acquire();
    pthread_join(line->last, nullptr);
    checksum += line->checksum;
  }
  const double seconds = watch.Seconds();
  const workload::Resident resident = workload::ReadResident();
  std::uint64_t live_bytes = 0;
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < kObjects; ++i) {
      const Object& object = line->table[i];
      if (object.address == nullptr) continue;
      live_bytes += object.bytes;
      checksum += workload::Release(object.address, object.bytes);
    }
  }

  workload::Metrics metrics;
  workload::AddSpeed(metrics, generations_per_line * threads * kReplacementsPerThread, threads, seconds);
  metrics.Add("live_bytes", static_cast<double>(live_bytes));
  metrics.Add("rss_bytes", static_cast<double>(resident.rss_bytes));
  return workload::Report(checksum, metrics);
}
