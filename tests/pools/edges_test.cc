// SPDX-License-Identifier: Apache-2.0
//
// Edges of pools and arenas at which a slip would go unseen for long: the last room below a limit, what is counted,
// what is used again.
#include <gtest/gtest.h>
#include <tarn/arena.h>
#include <tarn/concurrent_arena.h>
#include <tarn/fixed_pool.h>
#include <tarn/heap.h>
#include <tarn/object_pool.h>
#include <tarn/pool.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "tests/os/in_child.h"
#include "tests/os/single_step.h"

namespace {

TEST(Edges, WhatATickTakesOutOfStacksIsNoHit) {
  tarn::Pool<int> pool({.epoch_ms = TARN_POOL_NO_EPOCHS});
  std::vector<int*> objects;
  for (int i = 0; i < 5; ++i) objects.push_back(pool.Get());
  for (int* object : objects) pool.Put(object);
  pool.Tick();
  EXPECT_EQ(pool.Stats().hits, 0u);
  EXPECT_EQ(pool.Stats().puts, 5u);
  EXPECT_EQ(pool.Stats().cached_objects, 5u);
  pool.Tick();
  EXPECT_EQ(pool.Stats().drops, 5u);
}

// As many blocks as threads, and each thread holds one at most: there is always one for it.
TEST(Edges, AFixedPoolNeverMissesAFreeBlock) {
  constexpr int kThreads = 4;
  tarn::FixedPool pool(64, kThreads);
  std::atomic<int> refused = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50000; ++i) {
        void* block = pool.Allocate();
        if (block == nullptr) {
          ++refused;
        } else {
          pool.Free(block);
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(refused, 0);
}

#if defined(TARN_TEST_CAN_STEP)
// A handler at each instruction of a slow path gets its object, or null where a lock is held.
TEST(Edges, AHandlerMayUseAHeapThatItInterrupts) {
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer's own code would be stepped through";
  // A large object of a heap, of a size whose regions are kept for the next.
  constexpr std::size_t kLarge = std::size_t{16} << 10;
  tarn_heap* const heap = tarn_heap_create(nullptr);
  tarn_heap_free(heap, tarn_heap_allocate(heap, kLarge, 16));
  int served = 0;
  int refused = 0;
  void* object = nullptr;
  const int steps = tarn_test::SingleStep::Run(
      [&] {
        object = tarn_heap_allocate(heap, kLarge, 16);
        tarn_heap_free(heap, object);
      },
      [&](int) {
        void* const of_handler = tarn_heap_allocate(heap, kLarge, 16);
        ++(of_handler == nullptr ? refused : served);
        tarn_heap_free(heap, of_handler);
        return true;
      });
  EXPECT_NE(object, nullptr);
  EXPECT_GT(steps, 100);
  EXPECT_GT(served, 0);
  EXPECT_GT(refused, 0);
  tarn_heap_destroy(heap);
}
#endif

TEST(Edges, AlignedObjectsOfAConcurrentArenaDoNotReachIntoTheNext) {
  tarn::ConcurrentArena arena;
  struct StampedPiece {
    unsigned char* start;
    std::size_t bytes;
    unsigned char stamp;
  };
  std::vector<StampedPiece> pieces;
  for (unsigned i = 0; i < 3000; ++i) {
    const std::size_t bytes = i % 2 == 0 ? 16 : 48;
    const std::size_t alignment = i % 2 == 0 ? 16 : std::size_t{32} << (i % 6);
    auto* start = static_cast<unsigned char*>(arena.Allocate(bytes, alignment));
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(start) % alignment, 0u);
    pieces.push_back({start, bytes, static_cast<unsigned char>(i)});
    std::memset(start, pieces.back().stamp, bytes);
  }
  for (const StampedPiece& piece : pieces) {
    for (std::size_t k = 0; k < piece.bytes; ++k) ASSERT_EQ(piece.start[k], piece.stamp);
  }
}

// One CPU's region is replaced each time, and used again each time.
TEST(Edges, AConcurrentArenaRefillsAndResetsWithoutEnd) {
  tarn::ConcurrentArena arena;
  for (int i = 0; i < 400; ++i) ASSERT_NE(arena.TryAllocate(200000), nullptr);
  for (int i = 0; i < 400; ++i) {
    arena.Reset();
    auto* object = static_cast<char*>(arena.Allocate(100));
    std::memset(object, i, 100);
  }
}

TEST(Edges, TheLastPageBelowALimitIsUsed) {
  tarn::ConcurrentArena concurrent(nullptr, 3 * 8192);
  while (concurrent.TryAllocate(1000) != nullptr) {
  }
  EXPECT_EQ(concurrent.Stats().capacity_bytes, 3u * 8192);
  tarn::Arena arena(tarn::ArenaOptions{nullptr, 3 * 8192, nullptr, 0, 0});
  ASSERT_NE(arena.TryAllocate(100), nullptr);
  // Less is left than that.
  EXPECT_EQ(arena.TryAllocate(20000), nullptr);
  EXPECT_NE(arena.TryAllocate(2 * 8192), nullptr);
  EXPECT_EQ(arena.TryAllocate(8192), nullptr);
  EXPECT_LE(arena.Stats().capacity_bytes, 3u * 8192);
}

TEST(Edges, ASpareChunkServesAnAlignmentOnlyWithTheRoomForIt) {
  tarn::Arena arena;
  static_cast<void>(arena.Allocate(60000));
  arena.Reset();
  constexpr std::size_t kAlignment = 32768;
  auto* object = static_cast<char*>(arena.Allocate(60000, kAlignment));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(object) % kAlignment, 0u);
  std::memset(object, 1, 60000);
  const tarn_arena* c_arena = arena.c_arena();
  EXPECT_LE(reinterpret_cast<std::uintptr_t>(object) + 60000, c_arena->end);
}

TEST(Edges, ARewindGivesNothingBackThatWasTakenBackBefore) {
  tarn::Arena arena;
  static_cast<void>(arena.Allocate(16));
  void* object = arena.Allocate(96);
  const tarn::Arena::Mark mark = arena.GetMark();
  static_cast<std::pmr::memory_resource&>(arena).deallocate(object, 96);
  arena.Rewind(mark);
  EXPECT_EQ(arena.Allocate(96), object);
}

TEST(Edges, AShrunkObjectOfAHeapGivesItsMemoryBack) {
  tarn::Heap heap;
  void* object = heap.TryReallocate(heap.Allocate(100000), 10);
  EXPECT_LT(heap.UsableBytes(object), 1000u);
  object = heap.TryReallocate(heap.TryReallocate(object, 5000), 10);
  EXPECT_LT(heap.UsableBytes(object), 1000u);
  EXPECT_EQ(heap.Stats().live_objects, 1u);
}

TEST(Edges, QuarantineLetsTheOldestGo) {
  tarn::Arena arena(tarn::ArenaOptions{nullptr, 0, nullptr, 0, 1});
  constexpr std::size_t kBytes = std::size_t{2} << 20;
  std::set<void*> addresses;
  std::size_t again = 0;
  // 64 MiB are kept away.
  for (int i = 0; i < 200; ++i) {
    again += addresses.insert(arena.Allocate(kBytes)).second ? 0 : 1;
    arena.Reset();
  }
  EXPECT_GT(addresses.size(), 30u);
  EXPECT_GT(again, 0u);
}

TEST(Edges, AnObjectPoolKeepsOneEmptyRegionEachTime) {
  struct Object {
    std::array<char, 100> bytes;
  };
  // `checked`: nothing lies in stacks.
  tarn::ObjectPool<Object> pool(tarn::ObjectPoolOptions{nullptr, 0, true});
  Object* object = pool.Create();
  const std::size_t one_region = pool.Stats().region_bytes;
  EXPECT_GT(one_region, 0u);
  for (int i = 0; i < 3; ++i) {
    pool.Destroy(object);
    EXPECT_EQ(pool.Stats().region_bytes, one_region);
    object = pool.Create();
    EXPECT_EQ(pool.Stats().region_bytes, one_region);
  }
  pool.Destroy(object);
}

}  // namespace
