// SPDX-License-Identifier: Apache-2.0
//
// Thousands of threads that start together and keep a few objects each: resident bytes per live byte.
//
// Stands for servers that get their connections all at once. Nothing is freed before the memory is read: what an
// allocator brings for each thread before its use, and does not need, shows.
#include <pthread.h>

#include <barrier>
#include <cstdio>
#include <cstdlib>

#include "bench/workloads/workload.h"

namespace {

constexpr std::size_t kObjects = 50;

struct Work {
  Work(std::uint64_t threads, const workload::Sizes& the_sizes)
      : meeting(static_cast<std::ptrdiff_t>(threads) + 1), sizes(the_sizes) {}

  std::barrier<> meeting;
  const workload::Sizes& sizes;
};

struct Thread {
  Work* work;
  std::uint64_t number;
  std::uint64_t live_bytes;
  std::uint64_t checksum;
  pthread_t handle;
};

void* Serve(void* argument) {
  Thread& self = *static_cast<Thread*>(argument);
  Work& work = *self.work;
  void* objects[kObjects];
  // The thread's stack is touched before the first reading.
  volatile char stack[8192];
  for (std::size_t i = 0; i < sizeof(stack); i += 512) stack[i] = 1;
  work.meeting.arrive_and_wait();
  work.meeting.arrive_and_wait();
  for (std::size_t i = 0; i < kObjects; ++i) {
    const std::uint64_t bytes = work.sizes[self.number * kObjects + i];
    objects[i] = workload::Allocate(bytes);
    workload::Stamp(objects[i], bytes, self.number * kObjects + i);
    self.live_bytes += bytes;
  }
  work.meeting.arrive_and_wait();
  work.meeting.arrive_and_wait();
  for (std::size_t i = 0; i < kObjects; ++i) {
    self.checksum += workload::Release(objects[i], work.sizes[self.number * kObjects + i]);
  }
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "Threads that start together and keep 50 objects of 1 KB each.");
  const std::uint64_t threads = arguments.Number("threads", 4000, 1, 20000, "threads");
  arguments.Finish();

  const workload::Sizes sizes = workload::Sizes::Uniform(1000, 1500);
  Work work(threads, sizes);
  workload::MappedArray<Thread> all(threads);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 << 10);
  for (std::uint64_t i = 0; i < threads; ++i) {
    all[i].work = &work;
    all[i].number = i;
    if (pthread_create(&all[i].handle, &attributes, &Serve, &all[i]) == 0) continue;
    std::fprintf(stderr, "cannot start a thread; a smaller --threads may help\n");
    return 1;
  }
  work.meeting.arrive_and_wait();
  const auto before = static_cast<double>(workload::ReadResident().rss_bytes);
  work.meeting.arrive_and_wait();
  work.meeting.arrive_and_wait();
  const auto after = static_cast<double>(workload::ReadResident().rss_bytes);
  work.meeting.arrive_and_wait();
  std::uint64_t checksum = 0;
  std::uint64_t live_bytes = 0;
  for (std::uint64_t i = 0; i < threads; ++i) {
    pthread_join(all[i].handle, nullptr);
    checksum += all[i].checksum;
    live_bytes += all[i].live_bytes;
  }

  workload::Metrics metrics;
  metrics.Add("threads", static_cast<double>(threads));
  metrics.Add("live_bytes", static_cast<double>(live_bytes));
  metrics.Add("rss_per_live_byte", (after - before) / static_cast<double>(live_bytes));
  return workload::Report(checksum, metrics);
}
