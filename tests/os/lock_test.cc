// SPDX-License-Identifier: Apache-2.0
//
// The lock: only one thread inside, everybody gets in, and it knows whose it is.
//
// A lost wake-up shows as a hang, which the time limit of the test ends.

#include "allocator/os/lock.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/os/in_child.h"

namespace tarn {
namespace {

void SleepMicroseconds(long microseconds) {
  const struct timespec time = {0, microseconds * 1000};
  nanosleep(&time, nullptr);
}

TEST(Lock, IsFreeWithoutAConstructorAtRunTime) {
  static constinit Lock lock(LockRank::kPool);
  EXPECT_FALSE(lock.HeldByThisThread());
  lock.Acquire();
  EXPECT_TRUE(lock.HeldByThisThread());
  lock.Release();
  EXPECT_FALSE(lock.HeldByThisThread());
}

TEST(Lock, IsNotTakenForAnotherThreads) {
  Lock lock(LockRank::kPool);
  {
    LockHolder holder(lock);
    std::thread([&lock] { EXPECT_FALSE(lock.HeldByThisThread()); }).join();
    EXPECT_TRUE(lock.HeldByThisThread());
  }
  EXPECT_FALSE(lock.HeldByThisThread());
}

// While the lock is given up, another thread acquires it and changes what it guards.
TEST(Lock, IsGivenUpForAScope) {
  Lock lock(LockRank::kPool);
  int guarded = 1;
  lock.Acquire();
  {
    Unlocked unlocked(lock);
    EXPECT_FALSE(lock.HeldByThisThread());
    std::thread([&] {
      LockHolder holder(lock);
      guarded = 2;
    }).join();
  }
  EXPECT_TRUE(lock.HeldByThisThread());
  EXPECT_EQ(guarded, 2);
  lock.Release();
  EXPECT_FALSE(lock.IsHeld());
}

// The owner is known also while others wait, which marks the word.
TEST(Lock, KnowsItsOwnerWhileOthersWait) {
  Lock lock(LockRank::kPool);
  lock.Acquire();
  std::atomic<int> entered = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      LockHolder holder(lock);
      EXPECT_TRUE(lock.HeldByThisThread());
      entered.fetch_add(1);
    });
  }
  // Long enough for them to fall asleep; if they do not, the test only tests less.
  SleepMicroseconds(20000);
  EXPECT_EQ(entered.load(), 0);
  EXPECT_TRUE(lock.HeldByThisThread());
  lock.Release();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(entered.load(), 3);
  EXPECT_FALSE(lock.HeldByThisThread());
}

// The counter is a plain one, so that ThreadSanitizer sees whether the lock orders what it guards.
TEST(Lock, LetsOneThreadInAtATime) {
  constexpr int kThreads = 16;
  constexpr int kRounds = 4000;
  Lock lock(LockRank::kPool);
  long counter = 0;
  std::atomic<int> inside = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRounds; ++i) {
        LockHolder holder(lock);
        // Relaxed, so that this count orders nothing for the plain one.
        EXPECT_EQ(inside.fetch_add(1, std::memory_order_relaxed), 0);
        const long seen = counter;
        // A holder that yields or sleeps makes the others wait in the kernel.
        if (i % 64 == t) sched_yield();
        if (i % 1024 == t) SleepMicroseconds(50);
        counter = seen + 1;
        inside.fetch_sub(1, std::memory_order_relaxed);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter, long{kThreads} * kRounds);
}

// True where the thread sleeps in the kernel.
bool Sleeps(pid_t tid) {
  const std::string path = "/proc/self/task/" + std::to_string(tid) + "/stat";
  FILE* file = fopen(path.c_str(), "r");
  if (file == nullptr) return false;
  char text[512] = {};
  const std::size_t length = fread(text, 1, sizeof(text) - 1, file);
  fclose(file);
  const char* end_of_name = strrchr(text, ')');
  return length != 0 && end_of_name != nullptr && end_of_name[2] == 'S';
}

// A release wakes one of two sleepers. While that one holds the lock, the word has to say that there is another; a
// release without the mark would leave it asleep for ever. In a child, which ends with the sleeper if the mark is lost.
TEST(Lock, KeepsTheMarkOfTheOthersThatSleep) {
  if (tarn_test::kThreadSanitizer) GTEST_SKIP() << "no threads in a forked child of it";
  EXPECT_EQ(tarn_test::ComplaintOfChild([]() TARN_NO_THREAD_SAFETY_ANALYSIS {
              Lock lock(LockRank::kPool);
              lock.Acquire();
              std::atomic<pid_t> tids[2] = {};
              std::atomic<bool> first = true;
              std::vector<std::thread> sleepers;
              for (std::atomic<pid_t>& tid : tids) {
                sleepers.emplace_back([&]() TARN_NO_THREAD_SAFETY_ANALYSIS {
                  tid.store(gettid());
                  lock.Acquire();
                  if (first.exchange(false)) TARN_REQUIRE(lock.HasWaiters());
                  lock.Release();
                });
              }
              // With the mark and both asleep, they sleep for the lock: there is nothing else in their way.
              for (const std::atomic<pid_t>& tid : tids) {
                while (tid.load() == 0 || !lock.HasWaiters() || !Sleeps(tid.load())) sched_yield();
              }
              lock.Release();
              for (std::thread& sleeper : sleepers) sleeper.join();
            }),
            "");
}

// Waves of threads that fall asleep on a held lock, with newcomers that take it past them: every sleeper wakes.
TEST(Lock, LosesNoWakeUp) {
  constexpr int kThreads = 12;
  constexpr int kRounds = 60;
  Lock lock(LockRank::kPool);
  std::atomic<bool> stop = false;
  // The newcomer, which never sleeps: it takes the lock between a release and the moment the woken one runs.
  std::thread newcomer([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      LockHolder holder(lock);
    }
  });
  for (int round = 0; round < kRounds; ++round) {
    lock.Acquire();
    std::atomic<int> entered = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        LockHolder holder(lock);
        entered.fetch_add(1, std::memory_order_relaxed);
      });
    }
    if (round % 3 == 0) SleepMicroseconds(500);
    lock.Release();
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(entered.load(), kThreads);
  }
  stop.store(true);
  newcomer.join();
}

TEST(Lock, AForkedChildCanResetALockOfAThreadThatIsNoMore) {
  Lock lock(LockRank::kPool);
  std::atomic<bool> held = false;
  std::atomic<bool> done = false;
  std::thread holder([&] {
    lock.Acquire();
    held.store(true);
    while (!done.load()) SleepMicroseconds(200);
    lock.Release();
  });
  while (!held.load()) SleepMicroseconds(200);
  EXPECT_EQ(tarn_test::ComplaintOfChild([&lock] {
              lock.ResetInForkedChild();
              TARN_REQUIRE(!lock.HeldByThisThread());
              lock.Acquire();
              TARN_REQUIRE(lock.HeldByThisThread());
              lock.Release();
            }),
            "");
  done.store(true);
  holder.join();
}

TEST(Lock, AForkedChildCanAdoptALockThatItsThreadHolds) {
  Lock lock(LockRank::kPool);
  LockHolder holder(lock);
  EXPECT_EQ(tarn_test::ComplaintOfChild([&lock]() TARN_NO_THREAD_SAFETY_ANALYSIS {
              TARN_REQUIRE(lock.HeldByThisThread());
              lock.AdoptInForkedChild();
              TARN_REQUIRE(lock.HeldByThisThread());
              lock.Release();
              TARN_REQUIRE(!lock.HeldByThisThread());
            }),
            "");
}

}  // namespace
}  // namespace tarn
