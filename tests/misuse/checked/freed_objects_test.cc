// SPDX-License-Identifier: Apache-2.0
//
// The quarantine as a queue.
#include "allocator/misuse/freed_objects.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace tarn {
namespace {

void* Object(std::uintptr_t number) { return reinterpret_cast<void*>(number * 16); }

class FreedObjectsTest : public ::testing::Test {
 protected:
  static constexpr std::size_t kPlaces = 16;
  std::unique_ptr<std::atomic<void*>[]> places_ = std::make_unique<std::atomic<void*>[]>(1024);
  FreedObjects freed_;
};

TEST_F(FreedObjectsTest, KeepsNothingWithoutRoom) { EXPECT_FALSE(freed_.Takes(1)); }

TEST_F(FreedObjectsTest, LetsTheOldestGoFirst) {
  freed_.Init(places_.get(), kPlaces, 100);
  EXPECT_TRUE(freed_.Takes(25));
  EXPECT_FALSE(freed_.Takes(26));
  for (std::uintptr_t i = 1; i <= 6; ++i) EXPECT_EQ(freed_.Push(Object(i), 20), nullptr);
  EXPECT_EQ(freed_.PopExcess(), Object(1));
  freed_.Leave(20);
  EXPECT_EQ(freed_.PopExcess(), nullptr);
  EXPECT_EQ(freed_.bytes(), 100u);
  for (std::uintptr_t i = 2; i <= 6; ++i) {
    EXPECT_EQ(freed_.Pop(0), Object(i));
    freed_.Leave(20);
  }
  EXPECT_EQ(freed_.Pop(0), nullptr);
  EXPECT_EQ(freed_.bytes(), 0u);
}

TEST_F(FreedObjectsTest, IsBoundedInNumber) {
  freed_.Init(places_.get(), kPlaces, 1 << 20);
  for (std::uintptr_t i = 1; i <= kPlaces; ++i) EXPECT_EQ(freed_.Push(Object(i), 1), nullptr);
  for (std::uintptr_t i = 1; i <= 40; ++i) {
    EXPECT_EQ(freed_.Push(Object(kPlaces + i), 1), Object(i));
    freed_.Leave(1);
  }
  EXPECT_EQ(freed_.bytes(), kPlaces);
  // Each of the rest comes out once, the oldest first.
  for (std::uintptr_t i = 1; i <= kPlaces; ++i) {
    EXPECT_EQ(freed_.Pop(0), Object(40 + i));
    freed_.Leave(1);
  }
  EXPECT_EQ(freed_.Pop(0), nullptr);
}

TEST_F(FreedObjectsTest, GivesEachObjectToOneThread) {
  freed_.Init(places_.get(), 1024, 500);
  constexpr std::size_t kThreads = 4;
  constexpr std::uintptr_t kEach = 5000;
  std::vector<std::atomic<int>> left(kThreads * kEach + 1);
  const auto leave = [&](void* object) {
    freed_.Leave(1);
    ++left[reinterpret_cast<std::uintptr_t>(object) / 16];
  };
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (std::uintptr_t i = 1; i <= kEach; ++i) {
        if (void* out = freed_.Push(Object(t * kEach + i), 1)) leave(out);
        while (void* out = freed_.PopExcess()) leave(out);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::size_t gone = 0;
  for (const std::atomic<int>& times : left) {
    ASSERT_LE(times, 1);
    gone += static_cast<std::size_t>(times);
  }
  EXPECT_EQ(gone + freed_.bytes(), kThreads * kEach);
}

}  // namespace
}  // namespace tarn
