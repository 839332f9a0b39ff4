// SPDX-License-Identifier: Apache-2.0
//
// Forks of a process whose threads are inside of pools.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <tarn/object_pool.h>
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

}  // namespace
