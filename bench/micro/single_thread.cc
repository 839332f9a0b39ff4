// SPDX-License-Identifier: Apache-2.0
//
// One thread: the paths of an allocator one by one.
//
// pair_*       one object, freed at once: the hit path at its best, by size
// batch_*      1000 objects, freed in three orders: caches that run full and empty, by size
// live_heap    one object of many replaced at random: what the memory's layout costs in cache and TLB misses
// calloc, realloc_*, aligned_*: the rest of the family
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>
#include <vector>

#include "bench/micro/micro.h"

namespace {

using benchmark::State;
using micro::Argument;
using micro::CountItems;
using micro::Use;

constexpr std::size_t kKiB = 1024;
constexpr std::size_t kMiB = 1024 * kKiB;

// --- pairs ---------------------------------------------------------------------------------------------------------

void PairMalloc(State& state) {
  const std::size_t bytes = Argument(state);
  for (auto _ : state) {
    void* object = Use(std::malloc(bytes));
    benchmark::DoNotOptimize(object);
    std::free(object);
  }
  CountItems(state, 1);
}
// The steps lie on both sides of where allocators change their ways: above 1 KiB, 32 KiB, 256 KiB, 1 MiB, 32 MiB.
BENCHMARK(PairMalloc)->Name("pair_malloc")->ArgName("bytes")->Arg(8)->Arg(16)->Arg(64)->Arg(256)->Arg(1024)->Arg(2048);
BENCHMARK(PairMalloc)->Name("pair_malloc")->ArgName("bytes")->Arg(8 * kKiB)->Arg(32 * kKiB)->Arg(128 * kKiB);
BENCHMARK(PairMalloc)->Name("pair_malloc")->ArgName("bytes")->Arg(512 * kKiB)->Arg(2 * kMiB)->Arg(64 * kMiB);

void PairNew(State& state) {
  const std::size_t bytes = Argument(state);
  for (auto _ : state) {
    void* object = Use(::operator new(bytes));
    benchmark::DoNotOptimize(object);
    ::operator delete(object);
  }
  CountItems(state, 1);
}
BENCHMARK(PairNew)->Name("pair_new")->ArgName("bytes")->Arg(8)->Arg(64)->Arg(1024);

// The form that compilers call for a type that is complete.
void PairNewSizedDelete(State& state) {
  const std::size_t bytes = Argument(state);
  for (auto _ : state) {
    void* object = Use(::operator new(bytes));
    benchmark::DoNotOptimize(object);
    ::operator delete(object, bytes);
  }
  CountItems(state, 1);
}
BENCHMARK(PairNewSizedDelete)->Name("pair_new_sized")->ArgName("bytes")->Arg(8)->Arg(64)->Arg(1024)->Arg(8 * kKiB);

// --- batches -------------------------------------------------------------------------------------------------------

constexpr std::size_t kBatchObjects = 1000;

enum class Order { kLifo, kFifo, kRandom };

// Several orders, so that the branch predictor and the prefetcher cannot learn one by heart.
constexpr std::size_t kOrders = 16;

std::vector<std::vector<std::uint32_t>> MakeOrders(Order order) {
  std::mt19937 random(42);
  std::vector<std::vector<std::uint32_t>> orders(kOrders, std::vector<std::uint32_t>(kBatchObjects));
  for (auto& one : orders) {
    for (std::uint32_t i = 0; i < kBatchObjects; ++i) one[i] = i;
    if (order == Order::kLifo) std::reverse(one.begin(), one.end());
    if (order == Order::kRandom) std::shuffle(one.begin(), one.end(), random);
  }
  return orders;
}

void FillAndFree(State& state, const std::vector<std::size_t>& sizes, Order order) {
  const auto orders = MakeOrders(order);
  std::vector<void*> objects(kBatchObjects);
  std::size_t round = 0;
  for (auto _ : state) {
    for (std::size_t i = 0; i < kBatchObjects; ++i) objects[i] = Use(std::malloc(sizes[i]));
    for (std::uint32_t i : orders[round % kOrders]) std::free(objects[i]);
    ++round;
  }
  CountItems(state, kBatchObjects);
}

void Batch(State& state, Order order) {
  FillAndFree(state, std::vector<std::size_t>(kBatchObjects, Argument(state)), order);
}
BENCHMARK_CAPTURE(Batch, lifo, Order::kLifo)->Name("batch_lifo")->ArgName("bytes")->Arg(16)->Arg(256)->Arg(4 * kKiB);
BENCHMARK_CAPTURE(Batch, fifo, Order::kFifo)->Name("batch_fifo")->ArgName("bytes")->Arg(16)->Arg(256)->Arg(4 * kKiB);
BENCHMARK_CAPTURE(Batch, random, Order::kRandom)
    ->Name("batch_random")
    ->ArgName("bytes")
    ->Arg(16)
    ->Arg(256)
    ->Arg(4 * kKiB)
    ->Arg(32 * kKiB);

void BatchMixed(State& state) {
  std::mt19937 random(42);
  std::uniform_int_distribution<std::size_t> size(16, Argument(state));
  std::vector<std::size_t> sizes(kBatchObjects);
  for (auto& bytes : sizes) bytes = size(random);
  FillAndFree(state, sizes, Order::kRandom);
}
BENCHMARK(BatchMixed)->Name("batch_mixed")->ArgName("max_bytes")->Arg(256)->Arg(1024)->Arg(16 * kKiB);

// --- a heap with much alive ----------------------------------------------------------------------------------------

// Sizes as programs have them: most are small. (A geometric spread of 16 to 2048 bytes, mean about 420.)
std::size_t SpreadSize(std::mt19937& random) {
  const auto bits = static_cast<std::uint32_t>(random());
  const std::size_t doubling = std::size_t{16} << (bits % 7);
  return doubling + (bits >> 8) % doubling;
}

void LiveHeap(State& state) {
  std::mt19937 random(42);
  std::vector<void*> objects(Argument(state));
  for (auto& object : objects) object = Use(std::malloc(SpreadSize(random)));
  // The random numbers are drawn before, that their cost is not measured.
  constexpr std::size_t kSteps = 1 << 16;
  struct Step {
    std::uint32_t index;
    std::uint32_t bytes;
  };
  std::vector<Step> steps(kSteps);
  for (auto& step : steps) {
    step.index = static_cast<std::uint32_t>(random() % objects.size());
    step.bytes = static_cast<std::uint32_t>(SpreadSize(random));
  }
  std::size_t at = 0;
  for (auto _ : state) {
    const Step& step = steps[at++ % kSteps];
    std::free(objects[step.index]);
    objects[step.index] = Use(std::malloc(step.bytes));
  }
  for (void* object : objects) std::free(object);
  CountItems(state, 1);
}
BENCHMARK(LiveHeap)->Name("live_heap")->ArgName("objects")->Arg(1000)->Arg(200000);

// --- calloc, realloc, alignment ------------------------------------------------------------------------------------

// Only one byte is touched: an allocator that knows memory to be zero writes nothing.
void Calloc(State& state) {
  const std::size_t bytes = Argument(state);
  for (auto _ : state) {
    void* object = Use(std::calloc(1, bytes));
    benchmark::DoNotOptimize(object);
    std::free(object);
  }
  CountItems(state, 1);
}
BENCHMARK(Calloc)->Name("calloc")->ArgName("bytes")->Arg(64)->Arg(1024)->Arg(32 * kKiB)->Arg(kMiB)->Arg(64 * kMiB);

// The same, and the program writes all of it. An allocator that got zeroes from the kernel for nothing above pays its
// page faults here. One that filled warm memory with zeroes has none.
void CallocWritten(State& state) {
  const std::size_t bytes = Argument(state);
  for (auto _ : state) {
    void* object = Use(std::calloc(1, bytes));
    std::memset(object, 1, bytes);
    benchmark::DoNotOptimize(object);
    std::free(object);
  }
  CountItems(state, 1);
}
BENCHMARK(CallocWritten)->Name("calloc_written")->ArgName("bytes")->Arg(kMiB)->Arg(64 * kMiB);

// A buffer that doubles, as a vector or a string does.
void ReallocDouble(State& state) {
  const std::size_t max_bytes = Argument(state);
  std::size_t steps = 0;
  for (std::size_t bytes = 16; bytes <= max_bytes; bytes *= 2) ++steps;
  for (auto _ : state) {
    void* object = nullptr;
    for (std::size_t bytes = 16; bytes <= max_bytes; bytes *= 2) object = Use(std::realloc(object, bytes));
    std::free(object);
  }
  CountItems(state, steps);
}
BENCHMARK(ReallocDouble)->Name("realloc_double")->ArgName("max_bytes")->Arg(4 * kKiB)->Arg(kMiB);

// A buffer that grows by a little each time: what counts is whether it stays where it is.
void ReallocAppend(State& state) {
  constexpr std::size_t kStepBytes = 16;
  const std::size_t max_bytes = Argument(state);
  for (auto _ : state) {
    void* object = nullptr;
    for (std::size_t bytes = kStepBytes; bytes <= max_bytes; bytes += kStepBytes) {
      object = Use(std::realloc(object, bytes));
    }
    std::free(object);
  }
  CountItems(state, max_bytes / kStepBytes);
}
BENCHMARK(ReallocAppend)->Name("realloc_append")->ArgName("max_bytes")->Arg(kKiB)->Arg(32 * kKiB);

// A large buffer that grows by steps of 1 MiB and is written each time: copying, or moving of pages.
void ReallocLarge(State& state) {
  const std::size_t max_bytes = Argument(state);
  for (auto _ : state) {
    char* object = nullptr;
    for (std::size_t bytes = kMiB; bytes <= max_bytes; bytes += kMiB) {
      object = static_cast<char*>(Use(std::realloc(object, bytes)));
      std::memset(object + bytes - kMiB, 1, kMiB);
    }
    std::free(object);
  }
  CountItems(state, max_bytes / kMiB);
}
BENCHMARK(ReallocLarge)->Name("realloc_large")->ArgName("max_bytes")->Arg(32 * kMiB);

void AlignedAlloc(State& state) {
  const std::size_t alignment = Argument(state);
  const std::size_t bytes = Argument(state, 1);
  for (auto _ : state) {
    void* object = Use(std::aligned_alloc(alignment, bytes));
    benchmark::DoNotOptimize(object);
    std::free(object);
  }
  CountItems(state, 1);
}
BENCHMARK(AlignedAlloc)
    ->Name("aligned_alloc")
    ->ArgNames({"alignment", "bytes"})
    ->Args({64, 64})
    ->Args({64, 1024})
    ->Args({4096, 4096})
    ->Args({64 * kKiB, 64 * kKiB});

void AlignedNew(State& state) {
  const std::size_t bytes = Argument(state);
  constexpr std::align_val_t kAlignment{64};
  for (auto _ : state) {
    void* object = Use(::operator new(bytes, kAlignment));
    benchmark::DoNotOptimize(object);
    ::operator delete(object, bytes, kAlignment);
  }
  CountItems(state, 1);
}
BENCHMARK(AlignedNew)->Name("aligned_new_64")->ArgName("bytes")->Arg(64)->Arg(1024);

}  // namespace
