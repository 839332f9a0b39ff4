// SPDX-License-Identifier: Apache-2.0
//
// Forks of a process whose threads are inside of pools.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <tarn/object_pool.h>
#include <tarn/pool.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "tests/base/patience.h"

namespace {

struct Filled {
  explicit Filled(unsigned char stamp) { bytes.fill(stamp); }
  std::array<unsigned char, 40> bytes;
};

TEST(ObjectPool, AForkWhileThreadsWorkLeavesAPoolThatWorks) {
  tarn::ObjectPool<Filled> pool;
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      std::vector<Filled*> objects;
      while (!stop) {
        for (int i = 0; i < 500; ++i) objects.push_back(pool.Create(static_cast<unsigned char>(i)));
        for (auto* object : objects) pool.Destroy(object);
        objects.clear();
      }
    });
  }
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(tarn_test::kPatienceSeconds);
      for (int k = 0; k < 1000; ++k) static_cast<void>(pool.Create(static_cast<unsigned char>(k)));
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  stop = true;
  for (auto& thread : threads) thread.join();
}

constexpr std::size_t kDying = 5;
constexpr std::size_t kVictims = 4;

// A pool whose first drop forks, and whose child ends an epoch before its drop returns.
struct ForksInDrop {
  tarn_pool* pool = nullptr;
  std::array<int, kDying + kVictims> drops = {};
  bool forked = false;
  pid_t child = -1;

  static void Drop(void* object, void* context) {
    auto* self = static_cast<ForksInDrop*>(context);
    ++*static_cast<int*>(object);
    if (self->forked) return;
    self->forked = true;
    self->child = fork();
    if (self->child != 0) return;
    alarm(tarn_test::kPatienceSeconds);
    tarn_pool_tick(self->pool);
  }
};

TEST(Pool, AForkInADropLeavesEachObjectOneDrop) {
  ForksInDrop state;
  tarn_pool_options options = {};
  options.drop = &ForksInDrop::Drop;
  options.context = &state;
  options.max_objects = 64;
  options.epoch_ms = TARN_POOL_NO_EPOCHS;
  state.pool = tarn_pool_create(&options);
  ASSERT_NE(state.pool, nullptr);
  for (std::size_t i = 0; i < kDying; ++i) tarn_pool_put(state.pool, &state.drops[i]);
  tarn_pool_tick(state.pool);
  for (std::size_t i = kDying; i < kDying + kVictims; ++i) tarn_pool_put(state.pool, &state.drops[i]);
  tarn_pool_tick(state.pool);
  const bool is_child = state.child == 0;
  tarn_pool_destroy(state.pool);
  bool each_once = true;
  for (const int drops : state.drops) each_once = each_once && drops == 1;
  if (is_child) _exit(each_once ? 0 : 1);
  EXPECT_TRUE(each_once);
  int status = 0;
  waitpid(state.child, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
