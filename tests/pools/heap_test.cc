// SPDX-License-Identifier: Apache-2.0
//
// Heaps of a program's own: sizes, alignments, limits, containers, misuse.
#include <gtest/gtest.h>
#include <tarn/arena.h>
#include <tarn/heap.h>
#include <tarn/memory_resource.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory_resource>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "allocator/pages/page_map.h"
#include "tests/pools/registered.h"

namespace {

using tarn_test::Find;

TEST(Heap, ObjectsOfAllSizesKeepTheirContents) {
  tarn::Heap heap({.name = "a heap"});
  std::vector<std::pair<unsigned char*, std::size_t>> objects;
  std::uint64_t random = 1;
  for (int i = 0; i < 20000; ++i) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    if ((random >> 62) != 0 || objects.empty()) {
      const std::size_t bytes = (random >> 33) % (i % 100 == 0 ? 300000 : 1000);
      const std::size_t alignment = i % 50 == 1 ? 4096 : i % 50 == 2 ? 64 : 16;
      auto* object = static_cast<unsigned char*>(heap.Allocate(bytes, alignment));
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(object) % alignment, 0u);
      ASSERT_GE(heap.UsableBytes(object), bytes);
      if (bytes != 0) std::memset(object, static_cast<int>(bytes), bytes);
      objects.emplace_back(object, bytes);
    } else {
      const std::size_t index = (random >> 33) % objects.size();
      const auto [object, bytes] = objects[index];
      for (std::size_t k = 0; k < bytes; ++k) ASSERT_EQ(object[k], static_cast<unsigned char>(bytes));
      heap.Free(object);
      objects[index] = objects.back();
      objects.pop_back();
    }
  }
  EXPECT_EQ(heap.Stats().live_objects, objects.size());
  EXPECT_GT(Find("a heap")->capacity_bytes, 1000000);
  heap.FreeAll();
  EXPECT_EQ(heap.Stats().live_objects, 0u);
  EXPECT_EQ(heap.Stats().span_bytes, 0u);
  EXPECT_EQ(Find("a heap")->live_bytes, 0);
  EXPECT_EQ(Find("a heap")->capacity_bytes, 0);
  EXPECT_NE(heap.Allocate(0), heap.Allocate(0));
}

TEST(Heap, OverAlignedObjectsAreNoLargerThanTheyMustBe) {
  tarn::Heap heap;
  for (const std::size_t alignment : {1u, 32u, 64u, 256u, 4096u, 8192u, 65536u}) {
    void* object = heap.Allocate(alignment / 2 + 10, alignment);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(object) % alignment, 0u);
    EXPECT_LE(heap.UsableBytes(object), std::max<std::size_t>(alignment, 16));
    heap.Free(object);
  }
  EXPECT_EQ(heap.Stats().live_objects, 0u);
}

TEST(Heap, ReallocateKeepsTheContents) {
  tarn::Heap heap;
  auto* object = static_cast<char*>(heap.TryReallocate(nullptr, 10));
  std::memcpy(object, "012345678", 10);
  for (const std::size_t bytes : {20u, 1000u, 9000u, 100000u, 50u, 10u}) {
    object = static_cast<char*>(heap.TryReallocate(object, bytes));
    ASSERT_STREQ(object, "012345678");
  }
  EXPECT_EQ(heap.Stats().live_objects, 1u);
}

TEST(Heap, TheLimitHoldsAndHugeSizesAreRefused) {
  tarn::Heap heap({.limit_bytes = 1 << 20});
  EXPECT_EQ(heap.TryAllocate(2 << 20), nullptr);
  EXPECT_EQ(heap.TryAllocate(SIZE_MAX), nullptr);
  EXPECT_THROW(static_cast<void>(heap.Allocate(std::size_t{1} << 62)), std::bad_alloc);
  std::size_t got = 0;
  while (heap.TryAllocate(100) != nullptr) ++got;
  EXPECT_GT(got, 8000u);
  EXPECT_LE(heap.Stats().span_bytes, 1u << 20);
}

TEST(Heap, ServesContainersDeletersAndThreads) {
  tarn::Heap heap;
  {
    std::pmr::map<int, std::pmr::string> map(&heap);
    for (int i = 0; i < 1000; ++i) map[i] = std::string(50, 'x');
    EXPECT_GE(heap.Stats().live_objects, 2000u);
    const auto pointer = heap.CreateUnique<std::string>(std::size_t{100}, 'y');
    EXPECT_EQ(pointer->size(), 100u);
    std::vector<int, tarn::Allocator<int, tarn::Heap>> vector(1000, 1, heap);
  }
  EXPECT_EQ(heap.Stats().live_objects, 0u);
  std::vector<std::thread> threads;
  std::vector<std::vector<void*>> made(4);
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < 20000; ++i) {
        void* object = heap.Allocate(i % 500);
        if (i % 3 == 0) {
          made[t].push_back(object);
        } else {
          heap.Free(object);
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  // Freed by another thread than the one that made them.
  for (auto& objects : made) {
    for (void* object : objects) heap.Free(object);
  }
  EXPECT_EQ(heap.Stats().live_objects, 0u);
  EXPECT_EQ(heap.Stats().allocations, heap.Stats().frees);
}

TEST(HeapDeath, MisuseIsNamed) {
  tarn::Heap heap({.name = "misused", .checked = true});
  tarn::Heap other;
  auto* object = static_cast<char*>(heap.Allocate(100));
  auto* large = static_cast<char*>(heap.Allocate(100000));
  int local = 0;
  EXPECT_DEATH(other.Free(object), "tarn: fatal: tarn_heap_free\\(0x.*\\): object does not belong to this pool");
  EXPECT_DEATH(heap.Free(&local), "object does not belong to this pool");
  EXPECT_DEATH(heap.Free(object + 16), "no object of the pool starts here");
  EXPECT_DEATH(heap.Free(large + 16), "tarn: fatal: tarn_heap_free\\(0x.*\\): pointer is inside an object");
  EXPECT_DEATH(heap.Free(large + 50000), "pointer is inside an object");
  EXPECT_DEATH(other.Free(large), "object does not belong to this pool");
  tarn::Arena arena;
  EXPECT_DEATH(heap.Free(arena.Allocate(10)), "object does not belong to this pool");
  void* ended[] = {other.Allocate(8000), other.Allocate(8000)};
  other.FreeAll();
  for (void* gone : ended) {
    EXPECT_EQ(tarn::page_map.SpanOf(tarn::PageId::Containing(gone)), nullptr);
    EXPECT_DEATH(other.Free(gone), "object does not belong to this pool");
  }
  EXPECT_DEATH(static_cast<void>(heap.UsableBytes(&local)), "tarn_heap_usable_bytes.*does not belong to this pool");
  EXPECT_DEATH((heap.Free(object), heap.Free(object)), "object is already free");
  EXPECT_DEATH((heap.Free(large), heap.Free(large)), "tarn: fatal: tarn_heap_free");
  EXPECT_EXIT((tarn_heap_destroy(heap.c_heap()), std::_Exit(0)), testing::ExitedWithCode(0),
              "tarn: heap misused destroyed with 2 live objects");
}

}  // namespace
