// SPDX-License-Identifier: Apache-2.0
//
// Arenas that several threads use at the same time.
#include <gtest/gtest.h>
#include <tarn/concurrent_arena.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "tests/pools/registered.h"

namespace {

using tarn_test::Find;

struct InArena {
  InArena() { ++live; }
  ~InArena() { --live; }
  static inline std::atomic<int> live = 0;
};

TEST(ConcurrentArena, ThreadsGetMemoryOfTheirOwn) {
  tarn::ConcurrentArena arena("concurrent");
  for (int round = 0; round < 3; ++round) {
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    for (std::uint64_t t = 1; t <= 4; ++t) {
      threads.emplace_back([&, t] {
        std::vector<std::pair<std::uint64_t*, std::size_t>> mine;
        for (std::size_t i = 0; i < 20000; ++i) {
          const std::size_t words = 1 + i % 20 + (i % 5000 == 0 ? 60000 : 0);
          const std::size_t alignment = i % 100 == 3 ? 256 : 8;
          auto* object = static_cast<std::uint64_t*>(arena.Allocate(words * 8, alignment));
          if (reinterpret_cast<std::uintptr_t>(object) % alignment != 0) ++wrong;
          for (std::size_t k = 0; k < words; ++k) object[k] = t;
          mine.emplace_back(object, words);
        }
        for (const auto& [object, words] : mine) {
          for (std::size_t k = 0; k < words; ++k) {
            if (object[k] != t) ++wrong;
          }
        }
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0);
    EXPECT_GT(arena.Stats().used_bytes, 8000000u);
    arena.Reset();
    EXPECT_EQ(arena.Stats().used_bytes, 0u);
  }
  EXPECT_EQ(Find("concurrent")->resets, 3u);
  EXPECT_EQ(Find("concurrent")->capacity_bytes, static_cast<std::int64_t>(arena.Stats().capacity_bytes));
  arena.Release();
  EXPECT_EQ(arena.Stats().capacity_bytes, 0u);
}

#if TARN_POISON_MEMORY
TEST(ConcurrentArenaDeath, TheSanitizerSeesUseAfterReset) {
  tarn::ConcurrentArena arena;
  auto* object = static_cast<char*>(arena.Allocate(100));
  std::memset(object, 1, 100);
  EXPECT_DEATH(object[112] = 1, "use-after-poison");
  arena.Reset();
  EXPECT_DEATH(object[0] = 1, "use-after-poison");
  auto* again = static_cast<char*>(arena.Allocate(100));
  std::memset(again, 1, 100);
}
#endif

TEST(ConcurrentArena, DestructorsLimitsAndHugeSizes) {
  {
    tarn::ConcurrentArena arena;
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 1000; ++i) static_cast<void>(arena.Create<InArena>());
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(InArena::live, 3000);
    arena.Reset();
    EXPECT_EQ(InArena::live, 0);
    static_cast<void>(arena.Create<InArena>());
  }
  EXPECT_EQ(InArena::live, 0);
  tarn::ConcurrentArena arena(nullptr, 100000);
  EXPECT_EQ(arena.TryAllocate(200000), nullptr);
  EXPECT_EQ(arena.TryAllocate(SIZE_MAX), nullptr);
  EXPECT_THROW(static_cast<void>(arena.Allocate(SIZE_MAX / 2)), std::bad_alloc);
  std::size_t got = 0;
  while (arena.TryAllocate(1000) != nullptr) ++got;
  EXPECT_GT(got, 50u);
  EXPECT_LE(arena.Stats().capacity_bytes, 100000u);
}

}  // namespace
