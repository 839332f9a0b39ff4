// SPDX-License-Identifier: Apache-2.0
//
// Several threads: what they cost each other.
//
// threads_own      each thread with objects of its own: nothing is shared, so time per item should fall with the CPUs
// threads_swap     each free is of an object that some thread allocated, in random order
// threads_pipe     one thread allocates, the next one frees: producers and consumers
// thread_life      a thread that starts, allocates a little and ends
//
// Rated by wall time over all threads.
#include <sched.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "bench/micro/micro.h"

namespace {

using benchmark::State;
using micro::Argument;
using micro::CountItems;
using micro::Use;

// Up to four times the CPUs of a small machine; google-benchmark has no end that follows the machine's size, and the
// names of the benchmarks should be the same everywhere, that results can be compared.
constexpr int kMaxThreads = 8;

constexpr std::size_t kSlots = 1024;
constexpr std::size_t kStepsPerIteration = 256;

std::size_t SmallSize(std::minstd_rand& random) { return 16 + random() % 512; }

void ThreadsOwn(State& state) {
  std::minstd_rand random(static_cast<std::uint32_t>(state.thread_index()) + 1);
  std::vector<void*> objects(kSlots, nullptr);
  for (auto _ : state) {
    for (std::size_t i = 0; i < kStepsPerIteration; ++i) {
      void*& object = objects[random() % kSlots];
      std::free(object);
      object = Use(std::malloc(SmallSize(random)));
    }
  }
  for (void* object : objects) std::free(object);
  CountItems(state, kStepsPerIteration);
}
BENCHMARK(ThreadsOwn)->Name("threads_own")->ThreadRange(1, kMaxThreads)->UseRealTime();

std::atomic<void*> shared_objects[kSlots];

void ThreadsSwap(State& state) {
  std::minstd_rand random(static_cast<std::uint32_t>(state.thread_index()) + 1);
  for (auto _ : state) {
    for (std::size_t i = 0; i < kStepsPerIteration; ++i) {
      void* object = Use(std::malloc(SmallSize(random)));
      // Acquire-release: the thread that takes an object out frees what another one has written to.
      std::free(shared_objects[random() % kSlots].exchange(object, std::memory_order_acq_rel));
    }
  }
  // The end of the loop is a barrier of all threads, so thread 0 is alone with the slots.
  if (state.thread_index() == 0) {
    for (auto& object : shared_objects) std::free(object.exchange(nullptr, std::memory_order_acq_rel));
  }
  CountItems(state, kStepsPerIteration);
}
BENCHMARK(ThreadsSwap)->Name("threads_swap")->ThreadRange(1, kMaxThreads)->UseRealTime();

// A ring with one producer and one consumer, who hand over 256 objects at a time. An iteration is one such batch. All
// threads of a run do the same number of iterations, so the ring is empty at the end.
struct Ring {
  static constexpr std::size_t kBatches = 16;
  void* objects[kBatches][kStepsPerIteration];
  alignas(64) std::atomic<std::size_t> produced;
  alignas(64) std::atomic<std::size_t> consumed;
};
Ring rings[kMaxThreads / 2];

void ThreadsPipe(State& state) {
  const auto thread = static_cast<std::size_t>(state.thread_index());
  Ring& ring = rings[thread / 2];
  const bool produces = thread % 2 == 0;
  std::minstd_rand random(static_cast<std::uint32_t>(thread) + 1);
  std::size_t batch = (produces ? ring.produced : ring.consumed).load(std::memory_order_relaxed);
  for (auto _ : state) {
    auto& objects = ring.objects[batch % Ring::kBatches];
    // Each acquire is of the other side's release below.
    if (produces) {
      while (batch - ring.consumed.load(std::memory_order_acquire) >= Ring::kBatches) sched_yield();
      for (void*& object : objects) object = Use(std::malloc(SmallSize(random)));
      ring.produced.store(++batch, std::memory_order_release);
    } else {
      while (ring.produced.load(std::memory_order_acquire) == batch) sched_yield();
      for (void* object : objects) std::free(object);
      ring.consumed.store(++batch, std::memory_order_release);
    }
  }
  // An item has two ends, and each of the pair counts its iterations.
  CountItems(state, kStepsPerIteration / 2);
}
BENCHMARK(ThreadsPipe)->Name("threads_pipe")->Threads(2)->Threads(kMaxThreads)->UseRealTime();

void ThreadLife(State& state) {
  const std::size_t count = Argument(state);
  for (auto _ : state) {
    std::thread([count] {
      std::vector<void*> objects(count);
      for (std::size_t i = 0; i < count; ++i) objects[i] = Use(std::malloc(16 + i % 32 * 16));
      for (void* object : objects) std::free(object);
    }).join();
  }
  // An item is a thread.
  CountItems(state, 1);
}
BENCHMARK(ThreadLife)->Name("thread_life")->ArgName("objects")->Arg(1)->Arg(1000)->UseRealTime();

}  // namespace
