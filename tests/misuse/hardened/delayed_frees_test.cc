// SPDX-License-Identifier: Apache-2.0
//
// The quarantine of the hardened mode: bounded, in no order that anybody knows, and each object leaves once.
#include "allocator/misuse/delayed_frees.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <set>
#include <thread>
#include <vector>

namespace tarn {
namespace {

void* Freed(std::uintptr_t number) { return reinterpret_cast<void*>(number * 16); }

class DelayedFreesTest : public ::testing::Test {
 protected:
  static constexpr std::size_t kCount = 16;
  std::unique_ptr<std::atomic<void*>[]> places_ = std::make_unique<std::atomic<void*>[]>(2 * kCount);
  DelayedFrees freed_;

  std::vector<void*> PushMany(std::uintptr_t count) {
    std::vector<void*> out;
    for (std::uintptr_t i = 1; i <= count; ++i) {
      if (void* const left = freed_.Push(Freed(i))) out.push_back(left);
    }
    return out;
  }
};

TEST_F(DelayedFreesTest, WithoutPlacesAnObjectLeavesAtOnce) {
  EXPECT_EQ(freed_.Push(Freed(1)), Freed(1));
  std::size_t from = 0;
  EXPECT_EQ(freed_.Pop(&from), nullptr);
}

TEST_F(DelayedFreesTest, IsBoundedAndLosesNothing) {
  freed_.Init(places_.get(), kCount);
  freed_.Seed(1);
  std::vector<void*> out = PushMany(1000);
  EXPECT_GE(out.size(), 1000 - 2 * kCount);
  std::size_t from = 0;
  while (void* const left = freed_.Pop(&from)) out.push_back(left);
  EXPECT_EQ(out.size(), 1000u);
  EXPECT_EQ(std::set<void*>(out.begin(), out.end()).size(), 1000u);
}

// The ring alone holds that many.
TEST_F(DelayedFreesTest, NothingLeavesBeforeTheRingIsFull) {
  freed_.Init(places_.get(), kCount);
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    freed_.Seed(seed);
    EXPECT_TRUE(PushMany(kCount).empty());
    std::size_t from = 0;
    while (freed_.Pop(&from) != nullptr) {
    }
  }
}

TEST_F(DelayedFreesTest, TheOrderFollowsTheSeed) {
  freed_.Init(places_.get(), kCount);
  std::set<std::vector<void*>> orders;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    freed_.Seed(seed);
    orders.insert(PushMany(200));
    std::size_t from = 0;
    while (freed_.Pop(&from) != nullptr) {
    }
  }
  EXPECT_EQ(orders.size(), 20u);
}

TEST_F(DelayedFreesTest, GivesEachObjectToOneThread) {
  freed_.Init(places_.get(), kCount);
  constexpr std::uintptr_t kThreads = 4;
  constexpr std::uintptr_t kEach = 5000;
  std::vector<void*> out[kThreads];
  std::vector<std::thread> threads;
  for (std::uintptr_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (std::uintptr_t i = 1; i <= kEach; ++i) {
        if (void* const left = freed_.Push(Freed(t * kEach + i))) out[t].push_back(left);
        std::size_t from = 0;
        if (i % 100 == 0) {
          if (void* const left = freed_.Pop(&from)) out[t].push_back(left);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<void*> all;
  std::size_t count = 0;
  for (const auto& one : out) {
    all.insert(one.begin(), one.end());
    count += one.size();
  }
  std::size_t from = 0;
  while (void* const left = freed_.Pop(&from)) {
    all.insert(left);
    ++count;
  }
  EXPECT_EQ(count, kThreads * kEach);
  EXPECT_EQ(all.size(), kThreads * kEach);
}

}  // namespace
}  // namespace tarn
