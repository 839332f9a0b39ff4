// SPDX-License-Identifier: Apache-2.0
//
// TARN_CHECK=on: every pool, arena and heap is in its checked mode, though none asks for it. (Run with that setting.)
#include <gtest/gtest.h>
#include <tarn/arena.h>
#include <tarn/concurrent_arena.h>
#include <tarn/fixed_pool.h>
#include <tarn/heap.h>
#include <tarn/object_pool.h>
#include <tarn/pool.h>

#include <cstdlib>

namespace {

// In a variable of its own, so that the compiler does not see where the memory comes from.
void Write(void* object) {
  auto* volatile bytes = static_cast<volatile char*>(object);
  *bytes = 1;
}

TEST(CheckSettingDeath, UseAfterResetEndsThere) {
  tarn::Arena arena;
  void* object = arena.Allocate(100);
  arena.Reset();
  EXPECT_DEATH(Write(object), "");
  tarn::ConcurrentArena concurrent;
  object = concurrent.Allocate(100);
  Write(object);
  concurrent.Reset();
  EXPECT_DEATH(Write(object), "");
  // The addresses come back late.
  EXPECT_NE(concurrent.Allocate(100), object);
  EXPECT_LT(concurrent.Stats().capacity_bytes, 20000u);
  concurrent.Release();
  concurrent.Reset();
  Write(concurrent.Allocate(100));
}

TEST(CheckSettingDeath, MisuseIsSeenAtTheCall) {
  tarn::ObjectPool<int> pool;
  tarn::ObjectPool<int> other;
  int* object = pool.Create(1);
  EXPECT_DEATH(other.Destroy(object), "object does not belong to this pool");
  EXPECT_DEATH((pool.Destroy(object), pool.Destroy(object)), "object is already free");
  tarn::Heap heap;
  void* block = heap.Allocate(100);
  EXPECT_DEATH((heap.Free(block), heap.Free(block)), "object is already free");
  tarn::Pool<int> recycled;
  int* number = recycled.Get();
  EXPECT_DEATH((recycled.Put(number), recycled.Put(number)), "tarn_pool_put.*object is already free");
  recycled.Put(number);
}

TEST(CheckSettingDeath, WhatIsLeftIsReported) {
  EXPECT_EXIT(
      {
        {
          tarn::ObjectPool<int> pool("left");
          static_cast<void>(pool.Create(1));
        }
        std::_Exit(0);
      },
      testing::ExitedWithCode(0), "tarn: object pool left destroyed with 1 live objects");
  EXPECT_EXIT(
      {
        {
          tarn::BlockResource resource(64, "nodes");
          static_cast<void>(resource.allocate(64));
        }
        std::_Exit(0);
      },
      testing::ExitedWithCode(0), "tarn: object pool nodes destroyed with 1 live objects");
  EXPECT_EXIT(
      {
        {
          tarn::FixedPool pool(64, 10, "fixed");
          static_cast<void>(pool.Allocate());
        }
        std::_Exit(0);
      },
      testing::ExitedWithCode(0), "tarn: fixed pool fixed destroyed with 1 of 10 blocks allocated");
  EXPECT_EXIT(
      {
        {
          tarn::Heap heap({.name = "tenant"});
          static_cast<void>(heap.Allocate(64));
        }
        std::_Exit(0);
      },
      testing::ExitedWithCode(0), "tarn: heap tenant destroyed with 1 live objects, 64 bytes");
}

}  // namespace
