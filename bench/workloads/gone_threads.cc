// SPDX-License-Identifier: Apache-2.0
//
// Thousands of threads that live at the same time, and are gone: what do they leave behind?
//
// Stands for servers after a storm of connections with a thread each. Each thread makes a hundred objects of up to 2000
// bytes. When all threads have theirs, each frees its own and ends. Then resident memory is read, before malloc_trim
// and after it. With --mode thread, tarn's caches belong to threads (TARN_MODE=thread), as they do where the kernel has
// no rseq.
#include <malloc.h>
#include <pthread.h>
#include <unistd.h>

#include <barrier>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "bench/workloads/workload.h"

namespace {

constexpr std::size_t kObjects = 100;

struct Work {
  Work(std::uint64_t threads, const workload::Sizes& the_sizes)
      : all_have_theirs(static_cast<std::ptrdiff_t>(threads)), sizes(the_sizes) {}

  std::barrier<> all_have_theirs;
  const workload::Sizes& sizes;
};

struct Thread {
  Work* work;
  std::uint64_t checksum;
  pthread_t handle;
};

void* Serve(void* argument) {
  Thread& self = *static_cast<Thread*>(argument);
  workload::Random random(reinterpret_cast<std::uintptr_t>(argument));
  void* objects[kObjects];
  std::uint64_t bytes[kObjects];
  for (std::size_t i = 0; i < kObjects; ++i) {
    bytes[i] = self.work->sizes[random()];
    objects[i] = workload::Allocate(bytes[i]);
    workload::Stamp(objects[i], bytes[i], i);
  }
  self.work->all_have_theirs.arrive_and_wait();
  for (std::size_t i = 0; i < kObjects; ++i) self.checksum += workload::Release(objects[i], bytes[i]);
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "Threads that lived at the same time, and are gone.");
  const std::uint64_t threads = arguments.Number("threads", 2000, 1, 20000, "threads that live at the same time");
  const bool by_thread = arguments.Choice("mode", {"default", "thread"}, "the owners of tarn's caches") == 1;
  arguments.Finish();
  if (by_thread && std::getenv("TARN_MODE") == nullptr) {
    setenv("TARN_MODE", "thread", 1);
    execv("/proc/self/exe", argv);
    std::perror("cannot start again with TARN_MODE=thread");
    return 1;
  }

  const workload::Sizes sizes = workload::Sizes::Uniform(16, 2000);
  Work work(threads, sizes);
  workload::MappedArray<Thread> all(threads);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, std::size_t{64} << 10);
  std::free(workload::Allocate(64));
  const std::int64_t baseline_bytes = workload::ReadResident().rss_bytes;
  for (std::uint64_t i = 0; i < threads; ++i) {
    all[i].work = &work;
    if (pthread_create(&all[i].handle, &attributes, &Serve, &all[i]) != 0) {
      std::fprintf(stderr, "cannot start a thread; a smaller --threads may help\n");
      std::exit(1);
    }
  }
  std::uint64_t checksum = 0;
  for (std::uint64_t i = 0; i < threads; ++i) {
    pthread_join(all[i].handle, nullptr);
    checksum += all[i].checksum;
  }
  const std::int64_t gone_bytes = workload::ReadResident().rss_bytes;
  malloc_trim(0);
  const std::int64_t trimmed_bytes = workload::ReadResident().rss_bytes;

  workload::Metrics metrics;
  metrics.Add("threads", static_cast<double>(threads));
  metrics.Add("rss_above_baseline_bytes_gone", static_cast<double>(gone_bytes - baseline_bytes));
  metrics.Add("rss_above_baseline_bytes_trimmed", static_cast<double>(trimmed_bytes - baseline_bytes));
  return workload::Report(checksum, metrics);
}
