// SPDX-License-Identifier: Apache-2.0
//
// One thread, C++ objects of 8 to 64 bytes, each freed 32 allocations later.
//
// Stands for programs that make a temporary for every step: strings, iterators, nodes of small trees, as in compilers
// and interpreters. The live set fits into the first lines of the cache. So this measures the hit path of operator
// new and of the sized operator delete.
#include <new>

#include "bench/workloads/workload.h"

int main(int argc, char** argv) {
  workload::Arguments arguments(argc, argv, "Tiny short-lived objects in one thread.");
  const std::uint64_t objects = arguments.Scaled(80'000'000);
  arguments.Finish();

  struct Object {
    void* address;
    std::size_t bytes;
  };
  constexpr std::size_t kWindow = 32;
  Object window[kWindow];
  const workload::Sizes sizes = workload::Sizes::Uniform(8, 64);
  std::uint64_t checksum = 0;
  const auto drop = [&](const Object& object) {
    checksum += workload::ReadStamp(object.address, object.bytes);
    ::operator delete(object.address, object.bytes);
  };

  const workload::Stopwatch watch;
  for (std::uint64_t i = 0; i < objects; ++i) {
    Object& next = window[i % kWindow];
    if (i >= kWindow) drop(next);
    next = {::operator new(sizes[i]), sizes[i]};
    workload::Stamp(next.address, next.bytes, i);
  }
  for (std::uint64_t i = objects < kWindow ? 0 : objects - kWindow; i < objects; ++i) drop(window[i % kWindow]);

  workload::Metrics metrics;
  workload::AddSpeed(metrics, objects, 1, watch.Seconds());
  return workload::Report(checksum, metrics);
}
