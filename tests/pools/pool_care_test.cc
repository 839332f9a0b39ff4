// SPDX-License-Identifier: Apache-2.0
//
// Who looks after pools of recycled objects: under memory pressure, in the child of a fork, and by hand where there is
// no thread for it (the tests of NoCaretaker run with TARN_BACKGROUND=off).
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <tarn/limits.h>
#include <tarn/pool.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/base/patience.h"
#include "tests/life/parked_thread.h"
#include "tests/os/in_child.h"
#include "tests/pools/wait_for.h"

namespace {

using tarn_test::WaitFor;

struct Counted {
  Counted() { ++live; }
  ~Counted() { --live; }
  static inline std::atomic<int> live = 0;
};

constexpr unsigned kHourMs = 3'600'000;

template <typename T>
void Fill(tarn::Pool<T>& pool, int objects) {
  std::vector<T*> some;
  for (int i = 0; i < objects; ++i) some.push_back(pool.Get());
  for (T* object : some) pool.Put(object);
}

// The process has more than the limit, and gets no smaller. That it counts as short of memory then is seen at once by a
// pool that nobody else looks after; without that, it would be in vain to wait for more.
void MakeMemoryShort() {
  struct Witness {
    explicit Witness(int* live_) : live(live_) { ++*live; }
    ~Witness() { --*live; }
    int* live;
  };
  int live = 0;
  tarn::Pool<Witness> pool({.make = [&live] { return new Witness(&live); }, .epoch_ms = TARN_POOL_NO_EPOCHS});
  Fill(pool, 100);
  tarn::SetMemoryLimit(1 << 20);
  tarn::SetMemoryLimit(tarn::kNoLimit);
  TARN_REQUIRE(live == 100);
  Fill(pool, 90);
  TARN_REQUIRE(live <= 90);
}

TEST(PoolCare, PoolsAreEmptiedWhenMemoryIsShort) {
  tarn_test::ParkAThread();
  tarn::Pool<Counted> pool({.epoch_ms = kHourMs});
  Fill(pool, 100);
  EXPECT_EQ(Counted::live, 100);
  MakeMemoryShort();
  WaitFor([] { return Counted::live == 0; });
}

bool IsAlone() {
  std::size_t threads = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) threads += task.exists() ? 1 : 0;
  return threads == 1;
}

// The caretaker ends with the last thread of the program's besides its first, though objects are left. The next call of
// a pool in a process that has threads again brings it back, and there may be no further call.
TEST(PoolCare, TheThreadComesBackWithTheProgramsThreads) {
  for (const bool same_pool : {false, true}) {
    const std::string complaint = tarn_test::ComplaintOfChild([same_pool] {
      tarn::Pool<Counted> pool({.epoch_ms = 20});
      tarn::Pool<Counted> other({.epoch_ms = 20});
      // The caretaker begins while this thread is there.
      std::thread([&] { Fill(pool, 10); }).join();
      WaitFor([] { return IsAlone(); });
      // And once where it could not stay.
      Fill(pool, 1000);
      WaitFor([] { return IsAlone(); });
      tarn_test::ParkAThread();
      Fill(same_pool ? pool : other, 1000);
      WaitFor([&] { return (same_pool ? pool : other).Stats().cached_objects == 0; });
      WaitFor([] { return Counted::live == 0; });
    });
    EXPECT_EQ(complaint, "");
  }
}

TEST(PoolCare, TheChildOfAForkLooksAfterItsPools) {
  tarn_test::ParkAThread();
  tarn::Pool<Counted> pool({.epoch_ms = 1});
  tarn::Pool<Counted> left_alone({.epoch_ms = 1});
  std::atomic<bool> stop = false;
  std::thread user([&] {
    while (!stop) {
      Fill(pool, 50);
      Fill(left_alone, 50);
    }
  });
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(tarn_test::kPatienceSeconds);
      tarn_test::ParkAThread();
      // A thread that ended an epoch of either pool at the time of the fork is no more.
      Fill(pool, 50);
      WaitFor([&] { return pool.Stats().cached_objects == 0; });
      WaitFor([&] { return left_alone.Stats().cached_objects == 0; });
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  stop = true;
  user.join();
}

// The duty that asks is in hand, and on no list.
TEST(PoolCare, AnObjectPutByADestructorOfTheProgramsOwnTickIsLookedAfter) {
  tarn_test::ParkAThread();
  struct Successive {
    explicit Successive(tarn::Pool<Successive>** pool_) : pool(pool_) {}
    ~Successive() {
      if (pool != nullptr) (*pool)->Put(new Successive(nullptr));
    }
    tarn::Pool<Successive>** pool;
    Counted counted;
  };
  tarn::Pool<Successive>* self = nullptr;
  tarn::Pool<Successive> pool({.make = [&] { return new Successive(&self); }, .epoch_ms = kHourMs});
  self = &pool;
  pool.Put(pool.Get());
  const pid_t child = fork();
  if (child == 0) {
    alarm(tarn_test::kPatienceSeconds);
    tarn_test::ParkAThread();
    // There is no thread yet in the child.
    MakeMemoryShort();
    tarn::BackgroundTick();
    WaitFor([] { return MakeMemoryShort(), Counted::live == 0; });
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

// It would wait for itself.
TEST(PoolCareDeath, TheEndOfAPoolByItsOwnObjectIsNamed) {
  struct Ends {
    std::unique_ptr<tarn::Pool<Ends>>* pool = nullptr;
    ~Ends() {
      if (pool != nullptr) pool->reset();
    }
  };
  const auto end = [](unsigned epoch_ms, bool tick) {
    alarm(tarn_test::kPatienceSeconds);
    tarn_test::ParkAThread();
    auto pool = std::make_unique<tarn::Pool<Ends>>(tarn::PoolOptions<Ends>{.epoch_ms = epoch_ms});
    Ends* object = pool->Get();
    object->pool = &pool;
    pool->Put(object);
    for (int i = 0; tick && i < 2; ++i) pool->Tick();
    WaitFor([] { return false; });
  };
  const char* const line = "tarn: fatal: tarn_pool_destroy\\(0x.*\\): pool is ended while it destroys an object";
  EXPECT_DEATH(end(1, false), line);
  EXPECT_DEATH(end(TARN_POOL_NO_EPOCHS, true), line);
}

TEST(PoolCare, TheEndOfTheProcessDoesNotWaitForEpochs) {
  tarn_test::ParkAThread();
  // A pool that is never ended, with a thread that looks after it.
  EXPECT_EXIT(
      {
        alarm(tarn_test::kPatienceSeconds);
        tarn_test::ParkAThread();
        auto* pool = new tarn::Pool<Counted>({.epoch_ms = kHourMs});
        Fill(*pool, 10);
        exit(0);
      },
      testing::ExitedWithCode(0), "");
}

// Functions that run at exit may end what the program's destructors rely on, so exit waits a second for one that is
// running.
TEST(PoolCare, ExitWaitsForADestructorThatRuns) {
  static std::atomic<bool> is_running = false;
  static std::atomic<bool> is_exiting = false;
  struct Slow {
    ~Slow() {
      is_running = true;
      while (!is_exiting) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      static_cast<void>(!write(2, "destroyed\n", 10));
    }
  };
  // A machine that stands still for longer than the second may spoil a try.
  bool waited = false;
  for (int attempt = 0; attempt < 20 && !waited; ++attempt) {
    const tarn_test::ChildEnd end = tarn_test::RunInChild([] {
      tarn_test::ParkAThread();
      auto* pool = new tarn::Pool<Slow>({.epoch_ms = 1});
      pool->Put(pool->Get());
      WaitFor([] { return is_running.load(); });
      // Runs before what was registered earlier.
      static_cast<void>(atexit([] { is_exiting = true; }));
      exit(0);
    });
    EXPECT_EQ(end.exit_code, 0) << end.output;
    waited = end.output.find("destroyed") != std::string::npos;
  }
  EXPECT_TRUE(waited);
}

TEST(PoolCare, TheProcessEndsWithItsLastThread) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(tarn_test::kPatienceSeconds);
    // From now on the process counts as one with threads.
    std::thread([] {}).join();
    Fill(*new tarn::Pool<Counted>({.epoch_ms = 10}), 10);
    // This thread alone. (pthread_exit would be caught by what runs the tests.)
    syscall(SYS_exit, 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(NoCaretaker, EpochsEndByTheProgramsOwnTick) {
  int before = 0;
  // On a busy machine two epochs may end within the call, and then longer ones are tried.
  for (unsigned epoch_ms = 200; before != 100; epoch_ms *= 5) {
    ASSERT_LE(epoch_ms, 25'000u);
    tarn::Pool<Counted> pool({.epoch_ms = epoch_ms});
    Fill(pool, 100);
    before = Counted::live;
    WaitFor([] { return tarn::BackgroundTick(), Counted::live == 0; });
  }
}

TEST(NoCaretaker, EpochsEndOnTheSlowPathsOfCalls) {
  tarn::Pool<Counted> pool({.epoch_ms = 5});
  Fill(pool, 100);
  WaitFor([&] {
    // Objects beyond what a CPU keeps pass through the shared part.
    Fill(pool, 40);
    return Counted::live <= 40;
  });
}

TEST(NoCaretaker, APoolIsEmptiedByTheNextSlowPathWhenMemoryIsShort) {
  for (const unsigned epoch_ms : {kHourMs, TARN_POOL_NO_EPOCHS}) {
    tarn::Pool<Counted> pool({.epoch_ms = epoch_ms});
    Fill(pool, 100);
    MakeMemoryShort();
    EXPECT_EQ(Counted::live, 100);
    Fill(pool, 90);
    EXPECT_LE(Counted::live, 90);
  }
}

}  // namespace
