// SPDX-License-Identifier: Apache-2.0
//
// Small loops, one for each path of the allocator, whose instructions bench/guard counts.
//
// A loop is run once to warm up and once in RunMeasured(), which callgrind is told to look at. It is the same work each
// time and has one thread at a time, so that the count is the same each time.
#include <pthread.h>
#include <tarn/arena.h>
#include <tarn/fixed_pool.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>

namespace {

constexpr std::size_t kPairs = 2000;
constexpr std::size_t kBatch = 4000;

void* objects[kBatch];

void* Use(void* object) {
  if (object == nullptr) std::abort();
  *static_cast<volatile char*>(object) = 1;
  return object;
}

// The same numbers in each run.
class Random {
 public:
  std::uint32_t Below(std::uint32_t bound) {
    state_ = state_ * 6364136223846793005 + 1442695040888963407;
    return static_cast<std::uint32_t>((state_ >> 33) * bound >> 31);
  }

 private:
  std::uint64_t state_ = 1;
};

template <std::size_t kBytes>
std::size_t PairMalloc() {
  for (std::size_t i = 0; i < kPairs; ++i) std::free(Use(std::malloc(kBytes)));
  return kPairs;
}

std::size_t PairNewSizedDelete() {
  for (std::size_t i = 0; i < kPairs; ++i) ::operator delete (Use(::operator new(64)), std::size_t{64});
  return kPairs;
}

std::size_t PairAligned() {
  for (std::size_t i = 0; i < kPairs; ++i) std::free(Use(std::aligned_alloc(256, 1024)));
  return kPairs;
}

std::size_t PairCalloc() {
  for (std::size_t i = 0; i < kPairs; ++i) std::free(Use(std::calloc(4, 64)));
  return kPairs;
}

std::size_t GrowByRealloc() {
  constexpr std::size_t kStrings = 200;
  std::size_t steps = 0;
  for (std::size_t i = 0; i < kStrings; ++i) {
    void* text = nullptr;
    for (std::size_t bytes = 16; bytes < 8000; bytes += bytes / 2, ++steps) text = Use(std::realloc(text, bytes));
    std::free(text);
  }
  return steps;
}

// More than the caches hold: refills and flushes, transfer cache, spans.
std::size_t BatchInOrder() {
  for (std::size_t i = 0; i < kBatch; ++i) objects[i] = Use(std::malloc(128));
  for (std::size_t i = 0; i < kBatch; ++i) std::free(objects[i]);
  return kBatch;
}

std::size_t BatchReversed() {
  for (std::size_t i = 0; i < kBatch; ++i) objects[i] = Use(std::malloc(128));
  for (std::size_t i = kBatch; i-- > 0;) std::free(objects[i]);
  return kBatch;
}

// A queue of objects of many sizes. Few of a class are live at a time, so that no cache runs empty.
std::size_t QueueOfSizes() {
  constexpr std::size_t kQueued = 64;
  Random random;
  for (std::size_t i = 0; i < kQueued; ++i) objects[i] = Use(std::malloc(16 + random.Below(1009)));
  for (std::size_t i = 0; i < kPairs; ++i) {
    void*& object = objects[i % kQueued];
    std::free(object);
    object = Use(std::malloc(16 + random.Below(1009)));
  }
  for (std::size_t i = 0; i < kQueued; ++i) std::free(objects[i]);
  return kPairs + kQueued;
}

// Objects of one thread, freed by another.
std::size_t HandOver() {
  pthread_t thread;
  const auto allocate = [](void*) -> void* {
    for (std::size_t i = 0; i < kBatch; ++i) objects[i] = Use(std::malloc(64));
    return nullptr;
  };
  if (pthread_create(&thread, nullptr, allocate, nullptr) != 0) std::abort();
  pthread_join(thread, nullptr);
  for (std::size_t i = 0; i < kBatch; ++i) std::free(objects[i]);
  return kBatch;
}

std::size_t StartAndEndThreads() {
  constexpr std::size_t kThreads = 50;
  for (std::size_t i = 0; i < kThreads; ++i) {
    pthread_t thread;
    const auto allocate = [](void*) -> void* {
      std::free(Use(std::malloc(64)));
      return nullptr;
    };
    if (pthread_create(&thread, nullptr, allocate, nullptr) != 0) std::abort();
    pthread_join(thread, nullptr);
  }
  return kThreads;
}

std::size_t PairFixedPool() {
  static tarn::FixedPool pool(64, 16);
  for (std::size_t i = 0; i < kPairs; ++i) pool.Free(Use(pool.Allocate()));
  return kPairs;
}

std::size_t FillArena() {
  tarn::Arena arena;
  for (std::size_t i = 0; i < kBatch; ++i) Use(arena.Allocate(64));
  return kBatch;
}

struct Kernel {
  std::string_view name;
  std::size_t (*run)();
};

constexpr Kernel kKernels[] = {
    {"pair_malloc_16", PairMalloc<16>},
    {"pair_malloc_1024", PairMalloc<1024>},
    {"pair_malloc_4096", PairMalloc<4096>},
    {"pair_malloc_100000", PairMalloc<100'000>},
    {"pair_malloc_300000", PairMalloc<300'000>},
    {"pair_new_sized_delete_64", PairNewSizedDelete},
    {"pair_aligned_256", PairAligned},
    {"pair_calloc_256", PairCalloc},
    {"grow_by_realloc", GrowByRealloc},
    {"batch_in_order", BatchInOrder},
    {"batch_reversed", BatchReversed},
    {"queue_of_sizes", QueueOfSizes},
    {"hand_over", HandOver},
    {"start_and_end_threads", StartAndEndThreads},
    {"pair_fixed_pool_64", PairFixedPool},
    {"fill_arena", FillArena},
};

}  // namespace

extern "C" [[gnu::noinline]] std::size_t RunMeasured(std::size_t (*run)()) {
  const std::size_t operations = run();
  // Not a jump: callgrind looks from the call of this function to its return.
  asm volatile("");
  return operations;
}

// Without an argument the names, else the number of operations that were counted.
int main(int argc, char** argv) {
  for (const Kernel& kernel : kKernels) {
    if (argc < 2) {
      std::printf("%s\n", kernel.name.data());
    } else if (kernel.name == argv[1]) {
      // Twice, for what a class learns at its first overflow.
      kernel.run();
      kernel.run();
      std::printf("%zu\n", RunMeasured(kernel.run));
      return 0;
    }
  }
  return argc < 2 ? 0 : 2;
}
