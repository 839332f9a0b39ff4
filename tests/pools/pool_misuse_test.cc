// SPDX-License-Identifier: Apache-2.0
//
// Misuse of pools, arenas and heaps as handles: ended twice, used after their end, ended by their own objects, of
// another kind. Each is answered by a line that names it, and never by a failed check inside tarn.
#include <errno.h>
#include <gtest/gtest.h>
#include <tarn/arena.h>
#include <tarn/concurrent_arena.h>
#include <tarn/fixed_pool.h>
#include <tarn/heap.h>
#include <tarn/limits.h>
#include <tarn/object_pool.h>
#include <tarn/pool.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/os/in_child.h"
#include "tests/os/stalled_call.h"

namespace {

constexpr const char* kNoHandle = "no pool, arena or heap of this kind lives here";
constexpr const char* kAtWork = "pool is ended while it destroys an object";

tarn_object_pool* MakeObjectPool() {
  tarn_object_pool_options options = {};
  options.object_bytes = 64;
  return tarn_object_pool_create(&options);
}
tarn_fixed_pool* MakeFixedPool() {
  tarn_fixed_pool_options options = {};
  options.block_bytes = 64;
  options.block_count = 100;
  return tarn_fixed_pool_create(&options);
}
tarn_pool* MakePool() {
  tarn_pool_options options = {};
  options.drop = [](void* object, void*) { delete static_cast<int*>(object); };
  options.epoch_ms = TARN_POOL_NO_EPOCHS;
  return tarn_pool_create(&options);
}

// The line names the call and says what is wrong.
std::string FatalLine(const char* call, const char* what) {
  return std::string("tarn: fatal: ") + call + "\\(0x[0-9a-f]+\\): " + what;
}

TEST(PoolMisuseDeath, TheSecondEndIsNamed) {
  EXPECT_DEATH(
      {
        tarn_fixed_pool* pool = MakeFixedPool();
        tarn_fixed_pool_destroy(pool);
        tarn_fixed_pool_destroy(pool);
      },
      FatalLine("tarn_fixed_pool_destroy", kNoHandle));
  EXPECT_DEATH(
      {
        tarn_object_pool* pool = MakeObjectPool();
        tarn_object_pool_destroy(pool);
        tarn_object_pool_destroy(pool);
      },
      FatalLine("tarn_object_pool_destroy", kNoHandle));
  EXPECT_DEATH(
      {
        tarn_pool* pool = MakePool();
        tarn_pool_destroy(pool);
        tarn_pool_destroy(pool);
      },
      FatalLine("tarn_pool_destroy", kNoHandle));
  EXPECT_DEATH(
      {
        tarn_heap* heap = tarn_heap_create(nullptr);
        static_cast<void>(tarn_heap_allocate(heap, 100, 16));
        tarn_heap_destroy(heap);
        tarn_heap_destroy(heap);
      },
      FatalLine("tarn_heap_destroy", kNoHandle));
  EXPECT_DEATH(
      {
        tarn_concurrent_arena* arena = tarn_concurrent_arena_create(nullptr);
        static_cast<void>(tarn_concurrent_arena_allocate(arena, 100, 16));
        tarn_concurrent_arena_destroy(arena);
        tarn_concurrent_arena_destroy(arena);
      },
      FatalLine("tarn_concurrent_arena_destroy", kNoHandle));
}

TEST(PoolMisuseDeath, TheEndOfWhatIsOfAnotherKindIsNamed) {
  alignas(64) static char none[4096];
  tarn_heap* heap = tarn_heap_create(nullptr);
  tarn_fixed_pool* pool = MakeFixedPool();
  const auto as = [](auto* type, void* pointer) { return static_cast<decltype(type)>(pointer); };
  for (void* wrong : {static_cast<void*>(none), static_cast<void*>(heap), reinterpret_cast<void*>(8)}) {
    EXPECT_DEATH(tarn_fixed_pool_destroy(as(pool, wrong)), FatalLine("tarn_fixed_pool_destroy", kNoHandle));
    EXPECT_DEATH(tarn_object_pool_destroy(as(MakeObjectPool(), wrong)),
                 FatalLine("tarn_object_pool_destroy", kNoHandle));
    EXPECT_DEATH(tarn_pool_destroy(as(MakePool(), wrong)), FatalLine("tarn_pool_destroy", kNoHandle));
  }
  EXPECT_DEATH(tarn_heap_free_all(as(heap, pool)), FatalLine("tarn_heap_free_all", kNoHandle));
  EXPECT_DEATH(tarn_heap_destroy(as(heap, pool)), FatalLine("tarn_heap_destroy", kNoHandle));
  EXPECT_DEATH(tarn_heap_destroy(as(heap, tarn_fixed_pool_allocate(pool))), FatalLine("tarn_heap_destroy", kNoHandle));
  tarn_heap_destroy(heap);
  tarn_fixed_pool_destroy(pool);
}

TEST(PoolMisuseDeath, TheUseOfWhatHasEndedIsNamed) {
  tarn_fixed_pool* fixed_pool = MakeFixedPool();
  void* block = tarn_fixed_pool_allocate(fixed_pool);
  EXPECT_DEATH((tarn_fixed_pool_destroy(fixed_pool), tarn_fixed_pool_allocate(fixed_pool)),
               FatalLine("tarn_fixed_pool_allocate", kNoHandle));
  EXPECT_DEATH((tarn_fixed_pool_destroy(fixed_pool), tarn_fixed_pool_free(fixed_pool, block)),
               FatalLine("tarn_fixed_pool_free", kNoHandle));
  EXPECT_DEATH((tarn_fixed_pool_destroy(fixed_pool), tarn_fixed_pool_get_stats(fixed_pool)),
               FatalLine("tarn_fixed_pool_get_stats", kNoHandle));
  tarn_object_pool* object_pool = MakeObjectPool();
  void* object = tarn_object_pool_allocate(object_pool);
  EXPECT_DEATH((tarn_object_pool_destroy(object_pool), tarn_object_pool_allocate(object_pool)),
               FatalLine("tarn_object_pool_allocate", kNoHandle));
  EXPECT_DEATH((tarn_object_pool_destroy(object_pool), tarn_object_pool_free(object_pool, object)),
               FatalLine("tarn_object_pool_free", kNoHandle));
  EXPECT_DEATH((tarn_object_pool_destroy(object_pool), tarn_object_pool_free_all(object_pool)),
               FatalLine("tarn_object_pool_free_all", kNoHandle));
  tarn_pool* pool = MakePool();
  EXPECT_DEATH((tarn_pool_destroy(pool), tarn_pool_get(pool)), FatalLine("tarn_pool_get", kNoHandle));
  EXPECT_DEATH((tarn_pool_destroy(pool), tarn_pool_put(pool, new int)), FatalLine("tarn_pool_put", kNoHandle));
  EXPECT_DEATH((tarn_pool_destroy(pool), tarn_pool_tick(pool)), FatalLine("tarn_pool_tick", kNoHandle));
  tarn_heap* heap = tarn_heap_create(nullptr);
  void* of_heap = tarn_heap_allocate(heap, 100, 16);
  EXPECT_DEATH((tarn_heap_destroy(heap), tarn_heap_allocate(heap, 100, 16)),
               FatalLine("tarn_heap_allocate", kNoHandle));
  EXPECT_DEATH((tarn_heap_destroy(heap), tarn_heap_free(heap, of_heap)), FatalLine("tarn_heap_free", kNoHandle));
  EXPECT_DEATH((tarn_heap_destroy(heap), tarn_heap_free_all(heap)), FatalLine("tarn_heap_free_all", kNoHandle));
  tarn_concurrent_arena* arena = tarn_concurrent_arena_create(nullptr);
  static_cast<void>(tarn_concurrent_arena_allocate(arena, 100, 16));
  EXPECT_DEATH((tarn_concurrent_arena_destroy(arena), tarn_concurrent_arena_allocate(arena, 8, 8)),
               FatalLine("tarn_concurrent_arena_allocate", kNoHandle));
  EXPECT_DEATH((tarn_concurrent_arena_destroy(arena), tarn_concurrent_arena_reset(arena)),
               FatalLine("tarn_concurrent_arena_reset", kNoHandle));
  // In another thread, that has used it.
  EXPECT_DEATH(
      {
        std::atomic<bool> used = false;
        std::atomic<bool> ended = false;
        std::thread user([&] {
          static_cast<void>(tarn_concurrent_arena_allocate(arena, 8, 8));
          used = true;
          while (!ended) std::this_thread::yield();
          for (int i = 0; i < 100000; ++i) static_cast<void>(tarn_concurrent_arena_allocate(arena, 8, 8));
        });
        while (!used) std::this_thread::yield();
        tarn_concurrent_arena_destroy(arena);
        ended = true;
        user.join();
      },
      FatalLine("tarn_concurrent_arena_allocate", kNoHandle));
  tarn_fixed_pool_destroy(fixed_pool);
  tarn_object_pool_destroy(object_pool);
  tarn_pool_destroy(pool);
  tarn_heap_destroy(heap);
  tarn_concurrent_arena_destroy(arena);
}

// The first one is stopped in the middle, where it writes what it says of live objects.
TEST(PoolMisuseDeath, TheSecondEndAtTheSameTimeIsNamed) {
  tarn_object_pool_options options = {};
  options.object_bytes = 64;
  options.checked = 1;
  tarn_object_pool* pool = tarn_object_pool_create(&options);
  ASSERT_NE(tarn_object_pool_allocate(pool), nullptr);
  tarn_test::StalledCalls calls;
  std::thread first([&] {
    calls.Stall({SYS_write});
    tarn_object_pool_destroy(pool);
    calls.End();
  });
  int stops = 0;
  while (calls.Await()) {
    if (stops++ == 0) {
      EXPECT_DEATH(tarn_object_pool_destroy(pool), FatalLine("tarn_object_pool_destroy", kAtWork));
    }
    calls.LetGo();
  }
  first.join();
  if (calls.refused()) GTEST_SKIP() << "no filter of system calls with a listener here";
  EXPECT_GT(stops, 0);
}

// Runs the function when it is destroyed, which may be more than once.
struct Trap {
  explicit Trap(std::function<void()>* at_end_) : at_end(at_end_) {}
  ~Trap() { (*at_end)(); }
  std::function<void()>* at_end;
};

TEST(PoolMisuseDeath, AnObjectThatEndsItsOwnPoolIsNamed) {
  for (const int way : {0, 1, 2}) {
    EXPECT_DEATH(
        {
          auto* pool = new tarn::ObjectPool<Trap>;
          std::function<void()> at_end = [pool] { delete pool; };
          Trap* trap = pool->Create(&at_end);
          way == 0 ? pool->Destroy(trap) : way == 1 ? pool->DestroyAll() : delete pool;
        },
        FatalLine("tarn::ObjectPool::DestroyAll", kAtWork));
  }
  EXPECT_DEATH(
      {
        tarn::ObjectPool<Trap> pool;
        std::function<void()> at_end = [&pool] { pool.DestroyAll(); };
        pool.Destroy(pool.Create(&at_end));
      },
      FatalLine("tarn::ObjectPool::DestroyAll", kAtWork));
  for (const bool reset : {false, true}) {
    EXPECT_DEATH(
        {
          auto* arena = new tarn::Arena;
          std::function<void()> at_end = [arena] { delete arena; };
          static_cast<void>(arena->Create<Trap>(&at_end));
          reset ? arena->Reset() : delete arena;
        },
        FatalLine("tarn_arena_destroy", kAtWork));
    EXPECT_DEATH(
        {
          auto* arena = new tarn::ConcurrentArena;
          std::function<void()> at_end = [arena] { delete arena; };
          static_cast<void>(arena->Create<Trap>(&at_end));
          reset ? arena->Reset() : delete arena;
        },
        FatalLine("tarn_concurrent_arena_destroy", kAtWork));
  }
  for (const bool tick : {false, true}) {
    EXPECT_DEATH(
        {
          std::function<void()> at_end;
          auto* pool =
              new tarn::Pool<Trap>({.make = [&at_end] { return new Trap(&at_end); }, .epoch_ms = TARN_POOL_NO_EPOCHS});
          at_end = [pool] { delete pool; };
          pool->Put(pool->Get());
          if (tick) {
            pool->Tick();
            pool->Tick();
          } else {
            delete pool;
          }
        },
        FatalLine("tarn_pool_destroy", kAtWork));
  }
  EXPECT_DEATH(
      {
        auto* heap = new tarn::Heap;
        std::function<void()> at_end = [heap] { tarn_heap_destroy(heap->c_heap()); };
        heap->Destroy(heap->Create<Trap>(&at_end));
      },
      FatalLine("tarn_heap_free", kNoHandle));
}

TEST(PoolMisuseDeath, AMarkOfAnotherArenaIsNamed) {
  const std::string line = FatalLine("tarn_arena_rewind", "mark is of another arena");
  tarn::Arena arena;
  tarn::Arena other;
  const tarn::Arena::Mark of_empty = other.GetMark();
  static_cast<void>(other.Allocate(10));
  const tarn::Arena::Mark of_used = other.GetMark();
  for (int round = 0; round < 2; ++round) {
    // As many marks as the other one has made.
    static_cast<void>(arena.GetMark());
    EXPECT_DEATH(arena.Rewind(of_empty), line);
    EXPECT_DEATH(arena.Rewind(of_used), line);
    EXPECT_DEATH(arena.Rewind(tarn::Arena::Mark{}), line);
    static_cast<void>(arena.Allocate(10));
  }
}

TEST(PoolMisuse, AlignmentsThatAreNoneAreRefused) {
  constexpr std::size_t kHalf = std::size_t{1} << 63;
  tarn_arena arena;
  tarn_arena_init(&arena, nullptr);
  tarn::ConcurrentArena concurrent;
  tarn::Heap heap;
  // With and without a chunk that has room.
  for (int round = 0; round < 2; ++round) {
    for (const std::size_t alignment : {std::size_t{0}, std::size_t{3}, std::size_t{24}, SIZE_MAX, kHalf + 1}) {
      errno = 0;
      EXPECT_EQ(tarn_arena_allocate(&arena, 10, alignment), nullptr) << alignment;
      EXPECT_EQ(errno, EINVAL);
      if (alignment <= 16) continue;
      errno = 0;
      EXPECT_EQ(tarn_concurrent_arena_allocate(concurrent.c_arena(), 10, alignment), nullptr) << alignment;
      EXPECT_EQ(errno, EINVAL);
      errno = 0;
      EXPECT_EQ(tarn_heap_allocate(heap.c_heap(), 10, alignment), nullptr) << alignment;
      EXPECT_EQ(errno, EINVAL);
      EXPECT_THROW(static_cast<void>(concurrent.Allocate(10, alignment)), std::invalid_argument);
      EXPECT_THROW(static_cast<void>(heap.Allocate(10, alignment)), std::invalid_argument);
    }
    // Too large is refused, and not called a misuse.
    EXPECT_EQ(tarn_arena_allocate(&arena, 10, kHalf), nullptr);
    EXPECT_EQ(tarn_concurrent_arena_allocate(concurrent.c_arena(), 10, kHalf), nullptr);
    EXPECT_EQ(tarn_heap_allocate(heap.c_heap(), 10, kHalf), nullptr);
    EXPECT_NE(tarn_arena_allocate(&arena, 10, 8), nullptr);
    EXPECT_NE(concurrent.TryAllocate(10, 8), nullptr);
  }
  EXPECT_LE(tarn_arena_get_stats(&arena).used_bytes, 100u);
  tarn_arena_destroy(&arena);
  tarn::Arena cplusplus;
  EXPECT_THROW(static_cast<void>(cplusplus.Allocate(10, 0)), std::invalid_argument);
  EXPECT_EQ(cplusplus.TryAllocate(10, 0), nullptr);
}

TEST(PoolMisuse, OptionsThatAreNoneAreRefused) {
  errno = 0;
  EXPECT_EQ(tarn_fixed_pool_create(nullptr), nullptr);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(tarn_object_pool_create(nullptr), nullptr);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(tarn_pool_create(nullptr), nullptr);
  EXPECT_EQ(errno, EINVAL);
  for (const std::size_t bytes : {std::size_t{0}, SIZE_MAX, SIZE_MAX / 2 + 1}) {
    tarn_object_pool_options object_options = {};
    object_options.object_bytes = bytes;
    EXPECT_EQ(tarn_object_pool_create(&object_options), nullptr);
    tarn_fixed_pool_options fixed_options = {};
    fixed_options.block_bytes = bytes;
    fixed_options.block_count = 1;
    EXPECT_EQ(tarn_fixed_pool_create(&fixed_options), nullptr);
    fixed_options.block_bytes = 1;
    fixed_options.block_count = bytes;
    EXPECT_EQ(tarn_fixed_pool_create(&fixed_options), nullptr);
  }
}

// A destructor that throws, in each way in which one can run.
struct Throwing {
  explicit Throwing(bool throws_) : throws(throws_) { ++live; }
  ~Throwing() noexcept(false) {
    --live;
    if (throws) throw 1;
  }
  bool throws;
  static inline int live = 0;
};

TEST(PoolMisuse, ADestructorThatThrowsLeavesThePoolInOrder) {
  tarn::ObjectPool<Throwing> pool;
  Throwing* const alone = pool.Create(true);
  EXPECT_THROW(pool.Destroy(alone), int);
  EXPECT_EQ(pool.Stats().live_objects, 0u);
  for (int i = 0; i < 300; ++i) static_cast<void>(pool.Create(i % 100 == 50));
  int thrown = 0;
  const std::size_t region_bytes = pool.Stats().region_bytes;
  for (bool done = false; !done;) {
    try {
      pool.DestroyAll();
      done = true;
    } catch (int) {
      ++thrown;
      EXPECT_EQ(pool.Stats().live_objects, static_cast<std::size_t>(Throwing::live));
      // The pool goes on, with the memory of what has ended.
      pool.Destroy(pool.Create(false));
      EXPECT_EQ(pool.Stats().region_bytes, region_bytes);
    }
  }
  EXPECT_EQ(thrown, 3);
  EXPECT_EQ(Throwing::live, 0);
  EXPECT_EQ(pool.Stats().live_objects, 0u);
  tarn::Heap heap;
  EXPECT_THROW(heap.Destroy(heap.Create<Throwing>(true)), int);
  EXPECT_EQ(heap.Stats().live_objects, 0u);
}

TEST(PoolMisuseDeath, ADestructorThatThrowsWithoutACallerTerminates) {
  const auto end_with = [](auto end) {
    std::set_terminate([] {
      std::fputs("terminated\n", stderr);
      std::abort();
    });
    end();
  };
  EXPECT_DEATH(end_with([] {
                 tarn::ObjectPool<Throwing> pool;
                 static_cast<void>(pool.Create(true));
               }),
               "^terminated");
  EXPECT_DEATH(end_with([] {
                 tarn::Arena arena;
                 static_cast<void>(arena.Create<Throwing>(true));
                 arena.Reset();
               }),
               "^terminated");
  EXPECT_DEATH(end_with([] {
                 tarn::ConcurrentArena arena;
                 static_cast<void>(arena.Create<Throwing>(true));
                 arena.Reset();
               }),
               "^terminated");
  EXPECT_DEATH(
      end_with([] {
        tarn::Pool<Throwing> pool({.make = [] { return new Throwing(true); }, .epoch_ms = TARN_POOL_NO_EPOCHS});
        pool.Put(pool.Get());
        pool.Tick();
        pool.Tick();
      }),
      "^terminated");
}

// Anything may come of it, but whatever the library says is about the misuse.
TEST(PoolMisuseDeath, TheEndOfAHeapInUseIsNoFailedCheck) {
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer has words of its own for it";
  for (int round = 0; round < 30; ++round) {
    const tarn_test::ChildEnd end = tarn_test::RunInChild([round] {
      tarn_heap* heap = tarn_heap_create(nullptr);
      std::atomic<int> started = 0;
      std::vector<std::thread> threads;
      for (int t = 0; t < 2; ++t) {
        threads.emplace_back([heap, &started] {
          ++started;
          void* objects[40] = {};
          for (std::size_t i = 0; i < 20000; ++i) {
            void*& object = objects[i % 40];
            tarn_heap_free(heap, object);
            object = tarn_heap_allocate(heap, i % 5 == 0 ? 9000 : 64, 16);
          }
        });
      }
      while (started != 2) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::microseconds(20 * round));
      tarn_heap_destroy(heap);
      for (auto& thread : threads) thread.join();
    });
    EXPECT_EQ(end.output.find("check failed"), std::string::npos) << end.output;
  }
}

// Of threads that free one large object of a heap at the same time, one goes on.
TEST(PoolMisuseDeath, ARacingSecondFreeOfALargeObjectOfAHeapIsNamed) {
  for (int round = 0; round < 5; ++round) {
    EXPECT_DEATH(
        {
          tarn::Heap heap;
          void* object = heap.Allocate(100000);
          std::atomic<int> ready = 0;
          std::vector<std::thread> threads;
          for (int t = 0; t < 3; ++t) {
            threads.emplace_back([&] {
              ++ready;
              while (ready != 3) {
              }
              heap.Free(object);
            });
          }
          for (auto& thread : threads) thread.join();
        },
        "tarn: fatal: tarn_heap_free\\(0x[0-9a-f]+\\): object does not belong to this pool");
  }
}

}  // namespace
