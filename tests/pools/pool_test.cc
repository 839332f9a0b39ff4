// SPDX-License-Identifier: Apache-2.0
//
// Pools of recycled objects.
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <tarn/pool.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "allocator/pools/cpu_stacks.h"
#include "tests/os/cpu_set.h"
#include "tests/os/in_child.h"
#include "tests/pools/registered.h"
#include "tests/pools/wait_for.h"

#include "tests/life/parked_thread.h"

namespace {

using tarn_test::Find;
using tarn_test::OnOneCpu;
using tarn_test::WaitFor;

struct Buffer {
  Buffer() { ++live; }
  ~Buffer() { --live; }
  std::string text;
  std::atomic<int> users = 0;
  static inline std::atomic<int> live = 0;
};

// On one CPU: what was put back on one is not found on another.
TEST(Pool, UsesObjectsAgainAndResetsThem) {
  const OnOneCpu on_one_cpu;
  // A CPU keeps its stack for long, but not for ever: at another thread's end the kernel may give it another mm_cid.
  bool has_stayed = false;
  for (int attempt = 0; attempt < 100 && !has_stayed; ++attempt) {
    const std::string name = "buffers" + std::to_string(attempt);
    tarn::Pool<Buffer> pool({.name = name.c_str(), .reset = [](Buffer& buffer) { buffer.text.clear(); }});
    const std::uint32_t stack = tarn::CurrentStackId();
    Buffer* first = pool.Get();
    first->text = "used";
    pool.Put(first);
    Buffer* again;
    {
      const auto handle = pool.Acquire();
      again = handle.get();
    }
    const int live = Buffer::live;
    const tarn_pool_stats stats = pool.Stats();
    has_stayed = tarn::CurrentStackId() == stack;
    if (!has_stayed) continue;
    EXPECT_EQ(again, first);
    EXPECT_EQ(again->text, "");
    EXPECT_EQ(live, 1);
    EXPECT_EQ(stats.misses, 1u);
    EXPECT_EQ(stats.hits + stats.steals, 1u);
    EXPECT_EQ(stats.puts, 2u);
    EXPECT_EQ(stats.cached_objects, 1u);
    EXPECT_EQ(Find(name.c_str())->misses, 1u);
    EXPECT_EQ(Find(name.c_str())->live_objects, 1);
    pool.Put(nullptr);
  }
  EXPECT_TRUE(has_stayed);
  EXPECT_EQ(Buffer::live, 0);
}

TEST(Pool, RefusesWhatHasGrownAndWhatIsTooMany) {
  tarn::Pool<Buffer> pool({.size = [](const Buffer& buffer) { return buffer.text.capacity(); },
                           .max_object_bytes = 1000,
                           .max_objects = 50});
  Buffer* grown = pool.Get();
  grown->text.resize(2000);
  pool.Put(grown);
  EXPECT_EQ(Buffer::live, 0);
  EXPECT_EQ(pool.Stats().drops, 1u);
  std::vector<Buffer*> many;
  for (int i = 0; i < 500; ++i) many.push_back(pool.Get());
  for (Buffer* buffer : many) pool.Put(buffer);
  EXPECT_LE(pool.Stats().cached_objects, 50u);
  EXPECT_EQ(static_cast<std::size_t>(Buffer::live), pool.Stats().cached_objects);
}

// Exactly, and no array is written beyond its end: each object is in one place, in the shared part as among the
// victims.
TEST(Pool, KeepsWhatItHasRoomForAndNotOneMore) {
  static std::set<void*> dropped;
  for (const bool checked : {true, false}) {
    for (const std::size_t room : {1u, 2u, 3u, 50u, 1000u}) {
      dropped.clear();
      tarn_pool_options options = {};
      options.drop = [](void* object, void*) { EXPECT_TRUE(dropped.insert(object).second); };
      options.max_objects = room;
      options.epoch_ms = TARN_POOL_NO_EPOCHS;
      options.checked = checked ? 1 : 0;
      tarn_pool* pool = tarn_pool_create(&options);
      std::deque<int> objects(4 * room + 4);
      std::size_t next = 0;
      // Without `checked` a part of the room may lie in stacks of other CPUs.
      std::size_t dropped_before = 0;
      for (int epoch = 0; epoch < 3; ++epoch) {
        const std::size_t victims = tarn_pool_get_stats(pool).cached_objects;
        EXPECT_LE(victims, room);
        for (std::size_t i = 0; i <= room; ++i) tarn_pool_put(pool, &objects[next++]);
        const std::size_t kept = tarn_pool_get_stats(pool).cached_objects - victims;
        EXPECT_LE(kept, room);
        if (checked) {
          EXPECT_EQ(kept, room);
        }
        EXPECT_EQ(dropped.size() - dropped_before + kept, room + 1);
        tarn_pool_tick(pool);
        dropped_before = dropped.size();
      }
      std::set<void*> got;
      const std::size_t left = tarn_pool_get_stats(pool).cached_objects;
      while (void* object = tarn_pool_get(pool)) {
        EXPECT_TRUE(got.insert(object).second);
        EXPECT_EQ(dropped.count(object), 0u);
      }
      EXPECT_EQ(got.size(), left);
      EXPECT_EQ(got.size() + dropped.size(), next);
      tarn_pool_destroy(pool);
    }
  }
}

TEST(Pool, WhatNobodyAsksForGoesInTwoEpochs) {
  tarn::Pool<Buffer> pool({.epoch_ms = TARN_POOL_NO_EPOCHS});
  std::vector<Buffer*> many;
  for (int i = 0; i < 100; ++i) many.push_back(pool.Get());
  for (Buffer* buffer : many) pool.Put(buffer);
  pool.Tick();
  EXPECT_EQ(Buffer::live, 100);
  // A victim that is asked for lives on.
  Buffer* saved = pool.Get();
  EXPECT_EQ(Buffer::live, 100);
  pool.Put(saved);
  pool.Tick();
  EXPECT_EQ(Buffer::live, 1);
  EXPECT_EQ(pool.Get(), saved);
  pool.Put(saved);
  pool.Tick();
  pool.Tick();
  EXPECT_EQ(Buffer::live, 0);
  EXPECT_EQ(pool.Stats().drops, 100u);
}

TEST(Pool, BadOptionsAreRefused) {
  EXPECT_THROW(tarn::Pool<Buffer>({.max_object_bytes = 100, .max_bytes = 50}), std::invalid_argument);
  EXPECT_THROW(tarn::Pool<Buffer>({.max_objects = std::size_t{1} << 30}), std::invalid_argument);
  struct NeedsMake {
    explicit NeedsMake(int) {}
  };
  EXPECT_THROW(tarn::Pool<NeedsMake>(), std::invalid_argument);
}

TEST(Pool, AnObjectHasOneUserAtATimeWhileEpochsPass) {
  std::atomic<int> wrong = 0;
  {
    tarn::Pool<Buffer> pool({.max_objects = 100, .epoch_ms = 1});
    std::atomic<bool> stop = false;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        std::vector<Buffer*> mine;
        for (int i = 0; i < 200000; ++i) {
          if ((i * 7 + t) % 13 < 7 || mine.empty()) {
            mine.push_back(pool.Get());
            if (++mine.back()->users != 1) ++wrong;
          } else {
            --mine.back()->users;
            pool.Put(mine.back());
            mine.pop_back();
          }
          if (mine.size() > 40) {
            for (Buffer* buffer : mine) {
              --buffer->users;
              pool.Put(buffer);
            }
            mine.clear();
          }
        }
        for (Buffer* buffer : mine) {
          --buffer->users;
          pool.Put(buffer);
        }
      });
    }
    std::thread ticker([&] {
      // Now and then: in between, the others are on their hit paths, which a tick has to interrupt.
      while (!stop) {
        pool.Tick();
        std::this_thread::sleep_for(std::chrono::microseconds(20));
      }
    });
    for (auto& thread : threads) thread.join();
    stop = true;
    ticker.join();
    const tarn_pool_stats stats = pool.Stats();
    EXPECT_EQ(static_cast<std::size_t>(Buffer::live), stats.cached_objects);
    EXPECT_EQ(stats.misses, stats.drops + stats.cached_objects);
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(Buffer::live, 0);
}

TEST(PoolCare, AnIdlePoolIsEmptiedThoughNobodyCallsIt) {
  tarn_test::ParkAThread();
  tarn::Pool<Buffer> pool({.name = "idle", .epoch_ms = 20});
  // Few objects would fit into the CPU's stack, without a slow path, if the pool had not been left alone since.
  std::uint64_t drops = 0;
  for (const std::uint64_t objects : {100u, 5u, 5u}) {
    drops += objects;
    // By a thread that ends, so that no other one finds them by its own stack.
    std::thread([&] {
      std::vector<Buffer*> many;
      for (std::uint64_t i = 0; i < objects; ++i) many.push_back(pool.Get());
      for (Buffer* buffer : many) pool.Put(buffer);
    }).join();
    WaitFor([] { return Buffer::live == 0; });
    WaitFor([&] { return __atomic_load_n(&Find("idle")->drops, __ATOMIC_RELAXED) == drops; });
    WaitFor([] { return __atomic_load_n(&Find("idle")->live_objects, __ATOMIC_RELAXED) == 0; });
  }
}

TEST(PoolCare, ThereIsAThreadOnlyWhileAPoolHasObjects) {
  tarn_test::ParkAThread();
  const auto has_thread = [] {
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
      std::string name;
      std::getline(std::ifstream(task.path() / "comm"), name);
      if (name == "tarn-caretaker") return true;
    }
    return false;
  };
  WaitFor([&] { return !has_thread(); });
  tarn::Pool<Buffer> pool({.epoch_ms = 30});
  tarn::Pool<Buffer> by_hand({.epoch_ms = TARN_POOL_NO_EPOCHS});
  by_hand.Put(by_hand.Get());
  EXPECT_FALSE(has_thread());
  // Again each time, for on a busy machine the thread may come and go between two looks.
  WaitFor([&] {
    pool.Put(pool.Get());
    return has_thread();
  });
  WaitFor([&] { return !has_thread(); });
  EXPECT_EQ(Buffer::live, 1);
}

TEST(PoolCare, TheEndOfAPoolWaitsForWhoeverEmptiesIt) {
  tarn_test::ParkAThread();
  struct Slow {
    explicit Slow(std::atomic<int>* ended_) : ended(ended_) {}
    ~Slow() {
      std::this_thread::yield();
      ++*ended;
    }
    std::atomic<int>* ended;
  };
  for (int round = 0; round < 200; ++round) {
    std::atomic<int> ended = 0;
    {
      tarn::Pool<Slow> pool({.make = [&ended] { return new Slow(&ended); }, .epoch_ms = 1});
      std::vector<Slow*> some;
      for (int i = 0; i < 20; ++i) some.push_back(pool.Get());
      for (Slow* object : some) pool.Put(object);
      // At some point of the two epochs, another one each time.
      std::this_thread::sleep_for(std::chrono::microseconds(round * 50 % 6000));
    }
    // Nobody destroys anything behind the pool's end.
    ASSERT_EQ(ended, 20);
  }
}

TEST(PoolCare, DestructorsMayUsePools) {
  tarn_test::ParkAThread();
  static tarn::Pool<Buffer>* inner_pool;
  struct Outer {
    Buffer* inner = inner_pool->Get();
    ~Outer() {
      inner_pool->Put(inner);
      const tarn::Pool<Buffer> another;
    }
  };
  tarn::Pool<Buffer> inner({.name = "inner", .epoch_ms = 10});
  inner_pool = &inner;
  {
    tarn::Pool<Outer> outer({.epoch_ms = 10});
    for (int i = 0; i < 10; ++i) outer.Put(outer.Get());
    WaitFor([] { return Buffer::live == 0; });
  }
  EXPECT_EQ(Buffer::live, 0);
}

TEST(PoolCare, WhatIsPutBackAtThePoolsEndIsDestroyedToo) {
  struct Successive {
    Successive(tarn::Pool<Successive>** pool_, int left_) : pool(pool_), left(left_) {}
    ~Successive() {
      if (left != 0) (*pool)->Put(new Successive(pool, left - 1));
    }
    tarn::Pool<Successive>** pool;
    int left;
    Buffer counted;
  };
  for (const bool checked : {false, true}) {
    tarn::Pool<Successive>* self = nullptr;
    tarn::Pool<Successive> pool({.make = [&] { return new Successive(&self, 3); }, .checked = checked});
    self = &pool;
    for (int i = 0; i < 2; ++i) pool.Put(pool.Get());
    EXPECT_EQ(Buffer::live, 1);
  }
  EXPECT_EQ(Buffer::live, 0);
}

TEST(PoolDeath, APutOfWhatThePoolHasAlreadyIsNamed) {
  tarn::Pool<Buffer> pool({.epoch_ms = TARN_POOL_NO_EPOCHS, .checked = true});
  Buffer* buffer = pool.Get();
  Buffer* other = pool.Get();
  pool.Put(buffer);
  pool.Put(other);
  EXPECT_DEATH(pool.Put(buffer), "tarn: fatal: tarn_pool_put\\(0x.*\\): object is already free");
  pool.Tick();
  EXPECT_DEATH(pool.Put(other), "tarn: fatal: tarn_pool_put\\(0x.*\\): object is already free");
}

// A tick is kept apart from a thread that is getting and putting at that very moment by the barrier that restarts the
// thread's sequence: without it a tick may not touch the stacks.
TEST(Pool, ATickThatCannotStopTheOthersTakesNothingOfTheirs) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              tarn::Pool<Buffer> pool({.epoch_ms = TARN_POOL_NO_EPOCHS});
              std::vector<Buffer*> many;
              for (int i = 0; i < 10; ++i) many.push_back(pool.Get());
              for (Buffer* buffer : many) pool.Put(buffer);
              pool.Put(pool.Get());
              const bool has_stacks = pool.Stats().hits != 0;
              if (!has_stacks || !tarn_test::RefuseSystemCall(SYS_membarrier, EINVAL)) _exit(0);
              pool.Tick();
              pool.Tick();
              TARN_REQUIRE(Buffer::live == 10);
              // At its end a pool is alone.
              tarn_pool_destroy(pool.c_pool());
              TARN_REQUIRE(Buffer::live == 0);
              _exit(0);
            }),
            "");
}

// And that the barrier is in time: ticks while other threads get and put without a slow path. Objects are marked, not
// destroyed, when the pool gives them up, so that one which is with a thread as well is always seen.
TEST(Pool, ATickStopsThreadsThatAreGettingAndPutting) {
  struct Marked {
    std::atomic<bool> in_use = false;
    std::atomic<bool> given_up = false;
  };
  static std::atomic<int> wrong = 0;
  tarn_pool_options options = {};
  options.drop = [](void* object, void*) {
    auto* marked = static_cast<Marked*>(object);
    if (marked->in_use || marked->given_up.exchange(true)) ++wrong;
  };
  options.epoch_ms = TARN_POOL_NO_EPOCHS;
  tarn_pool* pool = tarn_pool_create(&options);
  std::deque<Marked> made[3];
  std::atomic<std::uint64_t> rounds = 0;
  std::atomic<bool> stop = false;
  std::vector<std::thread> users;
  for (auto& mine : made) {
    users.emplace_back([&] {
      while (!stop) {
        Marked* some[3];
        for (Marked*& object : some) {
          object = static_cast<Marked*>(tarn_pool_get(pool));
          if (object == nullptr) object = &mine.emplace_back();
          if (object->in_use.exchange(true) || object->given_up) ++wrong;
        }
        for (Marked* object : some) {
          object->in_use = false;
          tarn_pool_put(pool, object);
        }
        rounds.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  // Rarely does one tick hit the moment; a machine with other work gets fewer of them.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  for (int tick = 0; tick < 5000 && wrong == 0 && std::chrono::steady_clock::now() < end; ++tick) {
    // Until a user is past the slow paths that follow a tick.
    const std::uint64_t before = rounds;
    while (rounds - before < 20) std::this_thread::yield();
    tarn_pool_tick(pool);
  }
  stop = true;
  for (auto& user : users) user.join();
  tarn_pool_destroy(pool);
  EXPECT_EQ(wrong, 0);
  for (const auto& mine : made) {
    for (const Marked& object : mine) EXPECT_TRUE(object.given_up);
  }
}

}  // namespace
