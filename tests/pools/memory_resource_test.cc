// SPDX-License-Identifier: Apache-2.0
//
// Every pool, arena and heap as a std::pmr::memory_resource: contents, alignment, sizes that do not fit, exhaustion.
#include <gtest/gtest.h>
#include <tarn/arena.h>
#include <tarn/concurrent_arena.h>
#include <tarn/fixed_pool.h>
#include <tarn/heap.h>
#include <tarn/memory_resource.h>
#include <tarn/object_pool.h>
#include <tarn/pool.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <list>
#include <map>
#include <new>
#include <string>
#include <thread>
#include <vector>

namespace {

// Counts what is out, and refuses everything when told to.
class Upstream final : public std::pmr::memory_resource {
 public:
  std::atomic<std::int64_t> live_bytes = 0;
  std::atomic<bool> refuses = false;

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    if (refuses) throw std::bad_alloc();
    live_bytes += static_cast<std::int64_t>(bytes);
    return std::pmr::new_delete_resource()->allocate(bytes, alignment);
  }
  void do_deallocate(void* object, std::size_t bytes, std::size_t alignment) override {
    live_bytes -= static_cast<std::int64_t>(bytes);
    std::pmr::new_delete_resource()->deallocate(object, bytes, alignment);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }
};

struct alignas(64) Line {
  explicit Line(int number_) : number(number_) {}
  int number;
};

template <typename Resource>
void ServesContainers(Resource& resource) {
  {
    const tarn::ScopedDefaultResource scope(&resource);
    std::pmr::map<int, std::pmr::string> map;
    for (int i = 0; i < 500; ++i) map[i] = std::pmr::string(static_cast<std::size_t>(i), 'x');
    std::pmr::list<Line> lines;
    for (int i = 0; i < 500; ++i) {
      lines.emplace_back(i);
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(&lines.back()) % alignof(Line), 0u);
    }
    std::pmr::vector<int> numbers;
    for (int i = 0; i < 10000; ++i) numbers.push_back(i);
    std::list<int, tarn::Allocator<int, Resource>> direct(resource);
    for (int i = 0; i < 500; ++i) direct.push_back(i);
    for (int i = 0; i < 500; i += 2) map.erase(i);
    const auto line = tarn::MakeUnique<Line>(&resource, 7);

    int expected = 0;
    for (const Line& each : lines) ASSERT_EQ(each.number, expected++);
    expected = 0;
    for (const int number : direct) ASSERT_EQ(number, expected++);
    for (int i = 0; i < 10000; ++i) ASSERT_EQ(numbers[static_cast<std::size_t>(i)], i);
    for (int i = 1; i < 500; i += 2) ASSERT_EQ(map[i], std::string(static_cast<std::size_t>(i), 'x').c_str());
    EXPECT_EQ(line->number, 7);
  }
  for (const std::size_t alignment : {1u, 16u, 64u, 4096u}) {
    for (const std::size_t bytes : {0u, 1u, 63u, 64u, 65u, 5000u, 1000000u}) {
      void* object = resource.allocate(bytes, alignment);
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(object) % alignment, 0u);
      std::memset(object, 1, bytes);
      resource.deallocate(object, bytes, alignment);
    }
  }
  EXPECT_TRUE(resource.is_equal(resource));
  EXPECT_FALSE(resource.is_equal(*std::pmr::new_delete_resource()));
}

TEST(MemoryResource, AnArenaServesContainers) {
  tarn::Arena arena;
  ServesContainers(arena);
  tarn::ConcurrentArena concurrent;
  ServesContainers(concurrent);
}

TEST(MemoryResource, AHeapServesContainersAndGetsAllBack) {
  tarn::Heap heap;
  ServesContainers(heap);
  struct Throws {
    Throws() { throw 1; }
  };
  EXPECT_THROW(static_cast<void>(tarn::MakeUnique<Throws>(&heap)), int);
  EXPECT_EQ(heap.Stats().live_objects, 0u);
}

TEST(MemoryResource, ABlockResourceServesWhatFitsAndLeavesTheRestToUpstream) {
  Upstream upstream;
  tarn::BlockResource nodes({.block_bytes = 80, .alignment = 64, .upstream = &upstream});
  ServesContainers(nodes);
  EXPECT_EQ(nodes.Stats().live_objects, 0u);
  EXPECT_EQ(upstream.live_bytes, 0);
  void* block = nodes.allocate(80, 64);
  EXPECT_EQ(upstream.live_bytes, 0);
  void* larger = nodes.allocate(81, 64);
  void* stricter = nodes.allocate(8, 128);
  EXPECT_EQ(upstream.live_bytes, 89);
  EXPECT_EQ(nodes.Stats().live_objects, 1u);
  nodes.deallocate(stricter, 8, 128);
  nodes.deallocate(larger, 81, 64);
  nodes.deallocate(block, 80, 64);
  EXPECT_EQ(upstream.live_bytes, 0);
  EXPECT_THROW(tarn::BlockResource({.block_bytes = 80, .alignment = 24}), std::invalid_argument);
  EXPECT_THROW(tarn::BlockResource(0), std::invalid_argument);
}

TEST(MemoryResource, ARecyclingResourceUsesBuffersAgain) {
  Upstream upstream;
  {
    tarn::RecyclingResource buffers(
        {.buffer_bytes = 4096, .alignment = 64, .epoch_ms = TARN_POOL_NO_EPOCHS, .upstream = &upstream});
    ServesContainers(buffers);
    buffers.Tick();
    buffers.Tick();
    EXPECT_EQ(upstream.live_bytes, 0);
    const std::uint64_t misses = buffers.Stats().misses;
    for (int i = 0; i < 100; ++i) std::pmr::vector<char>(3000, 'x', &buffers);
    // On another CPU there may be another buffer.
    EXPECT_LT(buffers.Stats().misses - misses, 50u);
    EXPECT_EQ(upstream.live_bytes, static_cast<std::int64_t>(buffers.Stats().cached_objects * 4096));
    upstream.refuses = true;
    EXPECT_THROW(static_cast<void>(buffers.allocate(5000, 8)), std::bad_alloc);
    // Blocks that the pool still has are served.
    std::vector<void*> taken;
    EXPECT_THROW(while (true) taken.push_back(buffers.allocate(4096, 8)), std::bad_alloc);
    for (void* buffer : taken) buffers.deallocate(buffer, 4096, 8);
    EXPECT_GE(taken.size(), 1u);
  }
  EXPECT_EQ(upstream.live_bytes, 0);
  EXPECT_THROW(tarn::RecyclingResource(0), std::invalid_argument);
  EXPECT_THROW(tarn::RecyclingResource({.buffer_bytes = 64, .alignment = 3}), std::invalid_argument);
  EXPECT_THROW(tarn::RecyclingResource({.buffer_bytes = 64, .max_buffers = 2000000}), std::invalid_argument);
}

template <typename Resource>
std::size_t AllocateUntilRefused(Resource& resource) {
  std::size_t objects = 0;
  try {
    while (true) {
      static_cast<void>(resource.allocate(64, 16));
      ++objects;
    }
  } catch (const std::bad_alloc&) {
  }
  return objects;
}

TEST(MemoryResource, WhatIsExhaustedThrows) {
  constexpr std::size_t kLimit = std::size_t{1} << 20;
  tarn::Arena arena(tarn::ArenaOptions{nullptr, kLimit, nullptr, 0, 0});
  tarn::ConcurrentArena concurrent(nullptr, kLimit);
  tarn::Heap heap({.limit_bytes = kLimit});
  tarn::BlockResource nodes({.block_bytes = 64, .limit_bytes = kLimit});
  tarn::FixedPool fixed(64, 1000);
  for (const std::size_t objects : {AllocateUntilRefused(arena), AllocateUntilRefused(concurrent),
                                    AllocateUntilRefused(heap), AllocateUntilRefused(nodes)}) {
    EXPECT_LE(objects, kLimit / 64);
    EXPECT_GT(objects, kLimit / 64 / 2);
  }
  EXPECT_EQ(AllocateUntilRefused(fixed), 1000u);
  // Not for the compiler, which would warn.
  const volatile std::size_t impossible = SIZE_MAX - 100;
  for (std::pmr::memory_resource* resource :
       {static_cast<std::pmr::memory_resource*>(&arena), static_cast<std::pmr::memory_resource*>(&concurrent),
        static_cast<std::pmr::memory_resource*>(&heap)}) {
    EXPECT_THROW(static_cast<void>(resource->allocate(impossible, 8)), std::bad_alloc);
    EXPECT_THROW(static_cast<void>(resource->allocate(std::size_t{1} << 40, 1 << 20)), std::bad_alloc);
  }
}

TEST(MemoryResource, AFixedPoolRefusesWhatDoesNotFit) {
  tarn::FixedPool lines(tarn::FixedPoolOptions{64, 10, 64, nullptr, 0});
  void* line = lines.allocate(64, 64);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(line) % 64, 0u);
  EXPECT_THROW(static_cast<void>(lines.allocate(65, 8)), std::bad_alloc);
  EXPECT_THROW(static_cast<void>(lines.allocate(8, 128)), std::bad_alloc);
  lines.deallocate(line, 64, 64);
  tarn::FixedPool small(8, 10);
  EXPECT_THROW(static_cast<void>(small.allocate(8, 16)), std::bad_alloc);
  const auto number = tarn::MakeUnique<std::int64_t>(&small, 5);
  EXPECT_EQ(*number, 5);
  EXPECT_EQ(small.Stats().allocated, 1u);
  EXPECT_EQ(lines.Stats().allocated, 0u);
}

TEST(MemoryResource, ThreadsShareThem) {
  tarn::ConcurrentArena concurrent;
  tarn::Heap heap;
  tarn::BlockResource nodes(64);
  tarn::FixedPool fixed(64, 8000);
  tarn::RecyclingResource buffers(64);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::pmr::memory_resource* resource :
           {static_cast<std::pmr::memory_resource*>(&concurrent), static_cast<std::pmr::memory_resource*>(&heap),
            static_cast<std::pmr::memory_resource*>(&nodes), static_cast<std::pmr::memory_resource*>(&fixed),
            static_cast<std::pmr::memory_resource*>(&buffers)}) {
        for (int round = 0; round < 20; ++round) {
          std::pmr::map<int, int> map(resource);
          for (int i = 0; i < 500; ++i) map[i] = i + t;
          for (int i = 0; i < 500; ++i) wrong += map[i] != i + t;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(heap.Stats().live_objects, 0u);
  EXPECT_EQ(nodes.Stats().live_objects, 0u);
  EXPECT_EQ(fixed.Stats().allocated, 0u);
}

}  // namespace
