// SPDX-License-Identifier: Apache-2.0
//
// The thread mode: slabs go from thread to thread by attaching and detaching, and a fork leaves those of the others.

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <set>
#include <thread>
#include <vector>

#include "allocator/cpu_cache/cpu_cache.h"
#include "allocator/cpu_cache/slab_ops.h"
#include "allocator/os/virtual_memory.h"
#include "tests/cpu_cache/floors.h"
#include "tests/os/in_child.h"

namespace tarn {
namespace {

using tarn_test::AttachedThread;
using tarn_test::Churn;
using tarn_test::ExpectAtRest;
using tarn_test::ExpectNothingLost;
using tarn_test::Floors;
using tarn_test::StartFloors;
using tarn_test::Tally;

TEST(ThreadCache, AThreadHasToAttachOnce) {
  Floors& floors = StartFloors(CacheMode::kThread);
  std::thread([&] {
    EXPECT_TRUE(floors.cpu_cache.NeedsAttach());
    floors.cpu_cache.AttachThread();
    EXPECT_FALSE(floors.cpu_cache.NeedsAttach());
    EXPECT_EQ(thread_state.slab_index, 0);
    floors.cpu_cache.DetachThread();
    // It does not come back, though what it still frees is taken.
    EXPECT_FALSE(floors.cpu_cache.NeedsAttach());
    EXPECT_EQ(thread_state.slab_index, -1);
    floors.cpu_cache.DetachThread();
  }).join();
  EXPECT_EQ(floors.cpu_cache.populated_slabs(), 1u);
}

TEST(ThreadCache, AnExitingThreadGoesPastTheCaches) {
  Floors& floors = StartFloors(CacheMode::kThread);
  Tally tally;
  std::thread([&] {
    floors.cpu_cache.AttachThread();
    Churn churn(floors, 1);
    for (int step = 0; step < 2000; ++step) ASSERT_NO_FATAL_FAILURE(churn.Step(200));
    floors.cpu_cache.DetachThread();
    for (int step = 0; step < 2000; ++step) ASSERT_NO_FATAL_FAILURE(churn.Step(200));
    churn.FreeAll();
    tally = churn.tally();
  }).join();
  for (int c = 1; c < kSizeClassCount; ++c) {
    EXPECT_EQ(floors.cpu_cache.ClassStats(static_cast<SizeClass>(c)).cached_objects, 0u);
  }
  ExpectAtRest(floors, tally);
  floors.cpu_cache.DrainAll("malloc_trim");
  ExpectNothingLost(floors, tally);
}

TEST(ThreadCache, AFilledSlabServesTheNextAllocationAndCountsNone) {
  Floors& floors = StartFloors(CacheMode::kThread);
  constexpr SizeClass kClass = 3;
  std::thread([&] {
    const AttachedThread attached(floors);
    ASSERT_TRUE(floors.cpu_cache.FillSlab(kClass));
    CacheClassStats stats = floors.cpu_cache.ClassStats(kClass);
    EXPECT_EQ(stats.allocations, stats.frees);
    EXPECT_GE(stats.cached_objects, 1u);
    void* object = SlabPop(kClass);
    EXPECT_NE(object, nullptr);
    EXPECT_TRUE(SlabPush(kClass, object));
  }).join();
}

void* volatile g_popped_by_handler;
std::atomic<bool> g_handler_is_done;
constexpr SizeClass kLaterClass = 9;

// A thread that empties its own slab stands still in the midst of it, because another one has the lock of a class. A
// signal handler then may not pop: the drain would hand on the same object.
TEST(ThreadCache, AHandlerFindsNothingInASlabThatItsThreadDrains) {
  if (tarn_test::kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer runs handlers later";
  Floors& floors = StartFloors(CacheMode::kThread);
  constexpr SizeClass kClass = 3;
  std::atomic<bool> filled = false;
  Lock& lock = floors.transfer_caches[kClass].central().lock();
  std::atomic<bool> locked = false;
  signal(SIGUSR1, [](int) {
    g_popped_by_handler = SlabPop(kLaterClass);
    g_handler_is_done = true;
  });
  std::thread drainer([&] {
    const AttachedThread attached(floors);
    ASSERT_TRUE(floors.cpu_cache.FillSlab(kClass));
    ASSERT_TRUE(floors.cpu_cache.FillSlab(kLaterClass));
    // A handler would find this one otherwise.
    void* object = SlabPop(kLaterClass);
    ASSERT_NE(object, nullptr);
    ASSERT_TRUE(SlabPush(kLaterClass, object));
    filled = true;
    while (!locked) sched_yield();
    floors.cpu_cache.DrainAll("malloc_trim");
  });
  while (!filled) sched_yield();
  {
    LockHolder holder(lock);
    locked = true;
    while (!lock.HasWaiters()) sched_yield();
    g_popped_by_handler = &floors;
    pthread_kill(drainer.native_handle(), SIGUSR1);
    while (!g_handler_is_done) sched_yield();
  }
  drainer.join();
  signal(SIGUSR1, SIG_DFL);
  EXPECT_EQ(g_popped_by_handler, nullptr);
}

Floors* g_floors;
bool g_was_put_back;

// Where nobody restarts sequences, a thread empties its own slab. A handler that allocates in the midst of it goes past
// the slab: one that it put back would be its thread's again, while the drain works on it.
TEST(ThreadCache, AHandlerThatAllocatesDoesNotPutASlabBackThatItsThreadDrains) {
  if (tarn_test::kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer runs handlers later";
  Floors& floors = StartFloors(CacheMode::kThread);
  RseqSupport rseq = DetectRseq(true);
  rseq.remote_abort = false;
  floors.cpu_cache.Init(CacheMode::kThread, rseq, tarn_test::kDefaultBudgetBytes, floors.transfer_caches,
                        &floors.page_heap);
  g_floors = &floors;
  constexpr SizeClass kClass = 3;
  std::atomic<bool> filled = false;
  Lock& lock = floors.transfer_caches[kClass].central().lock();
  std::atomic<bool> locked = false;
  g_handler_is_done = false;
  signal(SIGUSR1, [](int) {
    void* const object = g_floors->Allocate(kLaterClass);
    g_was_put_back = !IsEmptySlab(slab_table.slabs[thread_state.slab_index].load());
    g_floors->Free(kLaterClass, object);
    g_handler_is_done = true;
  });
  std::thread drainer([&] {
    const AttachedThread attached(floors);
    ASSERT_TRUE(floors.cpu_cache.FillSlab(kClass));
    filled = true;
    while (!locked) sched_yield();
    floors.cpu_cache.DrainAll("malloc_trim");
  });
  while (!filled) sched_yield();
  {
    LockHolder holder(lock);
    locked = true;
    while (!lock.HasWaiters()) sched_yield();
    pthread_kill(drainer.native_handle(), SIGUSR1);
    while (!g_handler_is_done) sched_yield();
  }
  drainer.join();
  signal(SIGUSR1, SIG_DFL);
  EXPECT_FALSE(g_was_put_back);
}

// One of hundreds of idle threads must not hold an object of each size that it ever used.
TEST(ThreadCache, ASizeThatAThreadUsesOnceStaysOutOfItsSlab) {
  Floors& floors = StartFloors(CacheMode::kThread);
  constexpr SizeClass kClass = 3;
  std::thread([&] {
    const AttachedThread attached(floors);
    std::vector<std::uint64_t> cached;
    for (int use = 0; use < 40; ++use) {
      // All of a batch, so that it takes misses to keep them.
      std::vector<void*> objects(use == 0 ? 1 : kSizeClasses[kClass].batch_objects);
      for (void*& object : objects) {
        object = SlabPop(kClass);
        if (object == nullptr) object = floors.cpu_cache.AllocateSlow(kClass);
        ASSERT_NE(object, nullptr);
      }
      for (void* object : objects) {
        if (!SlabPush(kClass, object)) floors.cpu_cache.DeallocateSlow(kClass, object, "free");
      }
      cached.push_back(floors.cpu_cache.ClassStats(kClass).cached_objects);
    }
    EXPECT_EQ(cached[0], 0u);
    EXPECT_GE(cached[1], 1u);
    EXPECT_GE(cached.back(), kSizeClasses[kClass].batch_objects) << "what is used again and again has room for a batch";
    floors.cpu_cache.DrainAll("malloc_trim");
  }).join();
}

TEST(ThreadCache, AThreadThatOnlyFreesHasRoomToo) {
  Floors& floors = StartFloors(CacheMode::kThread);
  constexpr SizeClass kClass = 3;
  std::vector<void*> objects(4 * kSizeClasses[kClass].batch_objects);
  std::thread([&] {
    const AttachedThread attached(floors);
    for (void*& object : objects) {
      object = SlabPop(kClass);
      if (object == nullptr) object = floors.cpu_cache.AllocateSlow(kClass);
      ASSERT_NE(object, nullptr);
    }
  }).join();
  std::thread([&] {
    const AttachedThread attached(floors);
    std::size_t misses = 0;
    for (void* object : objects) {
      if (SlabPush(kClass, object)) continue;
      floors.cpu_cache.DeallocateSlow(kClass, object, "free");
      ++misses;
    }
    EXPECT_LE(misses, 20u) << "of " << objects.size();
  }).join();
}

TEST(ThreadCache, SlabsOfThreadsThatAreGoneServeNewOnes) {
  Floors& floors = StartFloors(CacheMode::kThread);
  constexpr int kThreads = 6;
  Tally tally;
  for (int wave = 0; wave < 20; ++wave) {
    std::vector<Tally> tallies(kThreads);
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        const AttachedThread attached(floors);
        EXPECT_LT(thread_state.slab_index, kThreads);
        Churn churn(floors, t + 1);
        for (int step = 0; step < 300; ++step) ASSERT_NO_FATAL_FAILURE(churn.Step(100));
        churn.FreeAll();
        tallies[t] = churn.tally();
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const Tally& of_thread : tallies) tally += of_thread;
  }
  EXPECT_LE(floors.cpu_cache.populated_slabs(), static_cast<std::size_t>(kThreads));
  ExpectAtRest(floors, tally);
  floors.cpu_cache.DrainAll("malloc_trim");
  ExpectNothingLost(floors, tally);
}

// All of the threads have their slabs at the same time. Adds to the tally, and the slabs.
void RunWave(Floors& floors, std::size_t count, Tally* tally, std::set<Slab*>* slabs) {
  std::vector<Tally> tallies(count);
  std::vector<Slab*> slab_of(count);
  std::barrier all_are_attached(static_cast<std::ptrdiff_t>(count));
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < count; ++t) {
    threads.emplace_back([&, t] {
      const AttachedThread attached(floors);
      slab_of[t] = slab_table.slabs[thread_state.slab_index].load();
      Churn churn(floors, t + 1);
      for (int step = 0; step < 300; ++step) churn.Step(100);
      all_are_attached.arrive_and_wait();
      churn.FreeAll();
      tallies[t] = churn.tally();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Tally& of_thread : tallies) *tally += of_thread;
  slabs->insert(slab_of.begin(), slab_of.end());
}

std::size_t CountResident(const Floors& floors, const std::set<Slab*>& slabs) {
  std::size_t count = 0;
  for (Slab* slab : slabs) {
    const auto start = reinterpret_cast<std::uintptr_t>(slab);
    const std::uintptr_t end = RoundUp(start + floors.cpu_cache.slab_bytes(), OsPageBytes());
    std::vector<unsigned char> resident((end - start) / OsPageBytes());
    EXPECT_EQ(mincore(slab, end - start, resident.data()), 0);
    count += std::any_of(resident.begin(), resident.end(), [](unsigned char page) { return (page & 1) != 0; }) ? 1 : 0;
  }
  return count;
}

void ExpectSums(Floors& floors, const Tally& tally) {
  for (int c = 1; c < kSizeClassCount; ++c) {
    const CacheClassStats stats = floors.cpu_cache.ClassStats(static_cast<SizeClass>(c));
    EXPECT_EQ(stats.allocations, tally.allocations[static_cast<std::size_t>(c)]) << "class " << c;
    EXPECT_EQ(stats.frees, tally.frees[static_cast<std::size_t>(c)]) << "class " << c;
    EXPECT_EQ(stats.cached_objects, 0u) << "class " << c;
  }
}

TEST(ThreadCache, OfManyThreadsThatAreGoneAFewSlabsKeepTheirMemory) {
  if (OsPageBytes() != 4096) GTEST_SKIP() << "slabs share pages of the kernel";
  Floors& floors = StartFloors(CacheMode::kThread);
  constexpr std::size_t kThreads = 60;
  constexpr std::size_t kKept = 17;
  Tally tally;
  std::set<Slab*> slabs;
  // Released slabs serve again, and are released again.
  for (int wave = 0; wave < 3; ++wave) {
    RunWave(floors, kThreads, &tally, &slabs);
    EXPECT_EQ(slabs.size(), kThreads);
    EXPECT_LE(floors.cpu_cache.populated_slabs(), kKept);
    EXPECT_LE(CountResident(floors, slabs), kKept);
    ExpectSums(floors, tally);
  }
  // Threads one after the other need no other ones.
  for (int i = 0; i < 10; ++i) RunWave(floors, 1, &tally, &slabs);
  EXPECT_LE(floors.cpu_cache.populated_slabs(), kKept);
  ExpectSums(floors, tally);
  // On request all go but the first, which has the sums.
  floors.cpu_cache.DrainAll("malloc_trim");
  EXPECT_EQ(floors.cpu_cache.populated_slabs(), 1u);
  EXPECT_EQ(CountResident(floors, slabs), 1u);
  ExpectSums(floors, tally);
  RunWave(floors, 2, &tally, &slabs);
  EXPECT_EQ(slabs.size(), kThreads);
  floors.cpu_cache.DrainAll("malloc_trim");
  ExpectSums(floors, tally);
  EXPECT_EQ(floors.page_heap.Stats().in_use_bytes, 0u);
}

// The rate changes while slabs come back: none keeps a sample that was drawn at the rate before.
TEST(ThreadCache, ASlabThatComesBackHasSamplesOfTheRateThatIsInForce) {
  if (tarn_test::kThreadSanitizer) GTEST_SKIP() << "readers of figures race with owners, by intention";
  Floors& floors = StartFloors(CacheMode::kThread);
  constexpr std::size_t kThreads = 30;
  Tally tally;
  std::set<Slab*> slabs;
  const auto change_rate = [&](std::size_t rate_bytes) {
    floors.cpu_cache.sampler().SetRate(rate_bytes);
    floors.cpu_cache.RestartSampling();
  };
  for (int wave = 0; wave < 10; ++wave) {
    change_rate(std::size_t{1} << 40);
    std::thread changer([&] {
      for (int look = 0; look < 100 * wave; ++look) static_cast<void>(floors.cpu_cache.PinnedBytes());
      change_rate(0);
    });
    // Its slab stays in use while the rate changes, and those of the wave come and go.
    std::atomic<bool> changed = false;
    Tally of_thread;
    std::thread user([&] {
      const AttachedThread attached(floors);
      Churn churn(floors, 1000);
      do {
        for (int step = 0; step < 100; ++step) churn.Step(100);
      } while (!changed.load());
      for (int step = 0; step < 100; ++step) churn.Step(100);
      const Slab* const slab = slab_table.slabs[thread_state.slab_index].load();
      int classes_with_room = 0;
      for (int c = 1; c < kSizeClassCount; ++c) {
        const SlabHeader& header = slab->headers[c];
        if (header.end == header.begin) continue;
        ++classes_with_room;
        EXPECT_GE(header.sample_due, kNeverSample) << c;
      }
      EXPECT_NE(classes_with_room, 0);
      churn.FreeAll();
      of_thread = churn.tally();
    });
    RunWave(floors, kThreads, &tally, &slabs);
    changer.join();
    changed = true;
    user.join();
    tally += of_thread;
  }
  ExpectSums(floors, tally);
}

// --- What other threads may empty, where the kernel restarts sequences ---------------------------------------------

std::uint64_t CachedObjects(const Floors& floors) {
  std::uint64_t cached = 0;
  for (int c = 1; c < kSizeClassCount; ++c) {
    cached += floors.cpu_cache.ClassStats(static_cast<SizeClass>(c)).cached_objects;
  }
  return cached;
}

TEST(ThreadCache, WhatIdleThreadsHaveCachedGoesOnRequestAndByAge) {
  Floors& floors = StartFloors(CacheMode::kThread);
  if (!floors.cpu_cache.can_drain_remotely()) GTEST_SKIP() << "the kernel restarts no sequences here";
  // More than one look goes over.
  constexpr std::size_t kThreads = 80;
  constexpr int kRounds = 2;
  std::vector<Tally> tallies(kThreads);
  std::barrier meeting(std::ptrdiff_t{kThreads + 1});
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const AttachedThread attached(floors);
      Churn churn(floors, t + 1);
      for (int round = 0; round < kRounds; ++round) {
        for (int step = 0; step < 500; ++step) churn.Step(100);
        churn.FreeAll();
        meeting.arrive_and_wait();
        meeting.arrive_and_wait();
      }
      tallies[t] = churn.tally();
    });
  }
  for (int round = 0; round < kRounds; ++round) {
    meeting.arrive_and_wait();
    EXPECT_NE(CachedObjects(floors), 0u);
    if (round == 0) {
      floors.cpu_cache.DrainAll("malloc_trim");
    } else {
      for (int look = 0; look < 2 * (CpuCache::kIdleLooks + 2); ++look) floors.cpu_cache.DrainIdle("scavenger");
    }
    EXPECT_EQ(CachedObjects(floors), 0u);
    meeting.arrive_and_wait();
  }
  for (std::thread& thread : threads) thread.join();
  Tally tally;
  for (const Tally& of_thread : tallies) tally += of_thread;
  ExpectSums(floors, tally);
  floors.cpu_cache.DrainAll("malloc_trim");
  EXPECT_EQ(floors.page_heap.Stats().in_use_bytes, 0u);
}

TEST(ThreadCache, OthersLeaveASlabAloneUntilItsThreadHasSettled) {
  Floors& floors = StartFloors(CacheMode::kThread);
  if (!floors.cpu_cache.can_drain_remotely()) GTEST_SKIP() << "the kernel restarts no sequences here";
  std::barrier meeting(2);
  std::thread thread([&] {
    floors.cpu_cache.AttachThread();
    EXPECT_TRUE(floors.cpu_cache.FillSlab(3));
    meeting.arrive_and_wait();
    meeting.arrive_and_wait();
    // As libc's record of the exit needs it.
    void* const object = SlabPop(3);
    EXPECT_NE(object, nullptr);
    EXPECT_TRUE(SlabPush(3, object));
    floors.cpu_cache.SettleThread();
    meeting.arrive_and_wait();
    meeting.arrive_and_wait();
    floors.cpu_cache.DetachThread();
  });
  for (const bool settled : {false, true}) {
    meeting.arrive_and_wait();
    floors.cpu_cache.DrainAll("malloc_trim");
    EXPECT_EQ(CachedObjects(floors) == 0, settled);
    meeting.arrive_and_wait();
  }
  thread.join();
}

// Nobody restarts the sequences of a child of vfork, so it may use no slab that another thread drains.
TEST(ThreadCache, AVforkChildFindsNoSlabWhereOthersDrain) {
  Floors& floors = StartFloors(CacheMode::kThread);
  if (!floors.cpu_cache.can_drain_remotely()) GTEST_SKIP() << "the kernel restarts no sequences here";
  std::thread([&] {
    CpuCache& cache = floors.cpu_cache;
    CpuCache::BeginVfork();
    cache.BeginVforkChild();
    cache.AttachThread();
    EXPECT_EQ(thread_state.slab_index, -1);
    floors.Free(3, floors.Allocate(3));
    cache.EndVfork();
    const AttachedThread attached(floors);
    ASSERT_TRUE(cache.FillSlab(3));
    std::atomic<Slab*>& entry = slab_table.slabs[thread_state.slab_index];
    Slab* const slab = entry.load();
    CpuCache::BeginVfork();
    cache.BeginVforkChild();
    EXPECT_EQ(entry.load(), EmptySlab(1));
    EXPECT_EQ(SlabPop(3), nullptr);
    floors.Free(3, floors.Allocate(3));
    std::thread([&] { cache.DrainAll("malloc_trim"); }).join();
    EXPECT_EQ(CachedObjects(floors), 0u);
    EXPECT_EQ(entry.load(), EmptySlab(1));
    cache.EndVfork();
    EXPECT_EQ(entry.load(), slab);
  }).join();
}

// Hundreds of threads must not hold a full budget each; a few may.
TEST(ThreadCache, ThreadsBeyondTheFirstOnesHaveAPartOfTheBudget) {
  Floors& floors = StartFloors(CacheMode::kThread);
  constexpr std::size_t kThreads = 20;
  std::vector<std::int64_t> spare_bytes(kThreads);
  std::barrier all_have_looked(kThreads);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      const AttachedThread attached(floors);
      const auto index = static_cast<std::size_t>(thread_state.slab_index);
      const Slab* slab = slab_table.slabs[index].load();
      spare_bytes.at(index) = slab->policy.spare_bytes.load();
      all_have_looked.arrive_and_wait();
    });
  }
  for (std::thread& thread : threads) thread.join();
  const auto budget_bytes = static_cast<std::int64_t>(floors.cpu_cache.budget_bytes());
  for (std::size_t i = 0; i < kThreads; ++i) EXPECT_EQ(spare_bytes[i], i < 16 ? budget_bytes : budget_bytes / 4) << i;
}

// Objects cross from thread to thread under load, and ThreadSanitizer looks whether they do so in order.
TEST(ThreadCache, ObjectsThatWanderBetweenThreads) {
  Floors& floors = StartFloors(CacheMode::kThread);
  constexpr int kThreads = 8;
  constexpr std::size_t kPlaces = 256;
  struct Place {
    std::atomic<void*> object = nullptr;
  };
  std::vector<Place> places(kPlaces);
  constexpr SizeClass kClass = 8;
  std::vector<Tally> tallies(kThreads);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const AttachedThread attached(floors);
      std::mt19937_64 random(t);
      for (int step = 0; step < 20000; ++step) {
        void* mine = nullptr;
        if (random() % 2 == 0) {
          mine = floors.Allocate(kClass);
          ASSERT_NE(mine, nullptr);
          tarn_test::StampObject(mine, kClass, t);
          ++tallies[t].allocations[kClass];
        }
        void* other = places[random() % kPlaces].object.exchange(mine, std::memory_order_acq_rel);
        if (other == nullptr) continue;
        std::uint64_t stamp;
        std::memcpy(&stamp, other, sizeof(stamp));
        ASSERT_LT(stamp, static_cast<std::uint64_t>(kThreads));
        tarn_test::StampObject(other, kClass, ~std::uint64_t{0});
        floors.Free(kClass, other);
        ++tallies[t].frees[kClass];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  Tally tally;
  for (const Tally& of_thread : tallies) tally += of_thread;
  for (Place& place : places) {
    if (place.object == nullptr) continue;
    floors.Free(kClass, place.object);
    ++tally.frees[kClass];
  }
  ExpectAtRest(floors, tally);
  floors.cpu_cache.DrainAll("malloc_trim");
  ExpectNothingLost(floors, tally);
}

// Objects that the other threads had cached go back to the spans in the child, where those threads are no more.
TEST(ThreadCache, AForkedChildTakesWhatTheOthersHadCached) {
  Floors& floors = StartFloors(CacheMode::kThread);
  constexpr int kThreads = 24;
  constexpr std::size_t kFewSlabs = 16;
  std::atomic<int> ready = 0;
  std::atomic<bool> done = false;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const AttachedThread attached(floors);
      Churn churn(floors, t + 1);
      for (int step = 0; step < 3000; ++step) ASSERT_NO_FATAL_FAILURE(churn.Step(200));
      ASSERT_NO_FATAL_FAILURE(churn.FreeAll());
      ready.fetch_add(1);
      while (!done.load()) sched_yield();
    });
  }
  while (ready.load() != kThreads) sched_yield();
  EXPECT_EQ(tarn_test::ComplaintOfChild([&] {
              floors.cpu_cache.RepairInForkedChild(true, false);
              for (int c = 1; c < kSizeClassCount; ++c) {
                TARN_REQUIRE(floors.cpu_cache.ClassStats(static_cast<SizeClass>(c)).cached_objects == 0);
              }
              // The slabs wait for new owners.
              floors.cpu_cache.AttachThread();
              TARN_REQUIRE(floors.cpu_cache.populated_slabs() == kFewSlabs);
              TARN_REQUIRE(floors.Allocate(3) != nullptr);
              floors.cpu_cache.DetachThread();
              floors.cpu_cache.DrainAll("malloc_trim");
              for (int c = 1; c < kSizeClassCount; ++c) {
                const std::size_t live_objects = floors.transfer_caches[c].central().Stats().live_objects;
                TARN_REQUIRE(live_objects == (c == 3 ? 1 : 0));
              }
            }),
            "");
  // Many threads that are gone leave a few slabs with memory in the child, too.
  EXPECT_EQ(tarn_test::ComplaintOfChild([&] {
              floors.cpu_cache.RepairInForkedChild(true, false);
              TARN_REQUIRE(floors.cpu_cache.populated_slabs() == kFewSlabs);
              std::set<std::int32_t> indices;
              for (int i = 0; i < kThreads; ++i) {
                thread_state.slab_index = -1;
                thread_state.exiting = false;
                floors.cpu_cache.AttachThread();
                TARN_REQUIRE(indices.insert(thread_state.slab_index).second && thread_state.slab_index < kThreads);
                void* object = floors.Allocate(3);
                TARN_REQUIRE(object != nullptr);
                floors.Free(3, object);
              }
              TARN_REQUIRE(floors.cpu_cache.populated_slabs() == kThreads);
            }),
            "");
  // A child that forked out of a slow path may not, but works all the same.
  EXPECT_EQ(tarn_test::ComplaintOfChild([&] {
              floors.cpu_cache.RepairInForkedChild(false, false);
              floors.cpu_cache.AttachThread();
              void* object = floors.Allocate(3);
              TARN_REQUIRE(object != nullptr);
              floors.Free(3, object);
            }),
            "");
  done.store(true);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace tarn
