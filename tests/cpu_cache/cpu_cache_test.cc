// SPDX-License-Identifier: Apache-2.0
//
// The policy over the slabs: when they come to be, what they may hold, and that the counters are exact.

#include "allocator/cpu_cache/cpu_cache.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "allocator/cpu_cache/slab_ops.h"
#include "allocator/pages/page_map.h"
#include "tests/cpu_cache/floors.h"
#include "tests/os/cpu_set.h"
#include "tests/os/in_child.h"
#include "tests/pages/fresh_page_heap.h"

namespace tarn {
namespace {

using tarn_test::AttachedThread;
using tarn_test::Churn;
using tarn_test::ExpectAtRest;
using tarn_test::ExpectNothingLost;
using tarn_test::Floors;
using tarn_test::StartFloors;
using tarn_test::Tally;

class CpuCacheTest : public tarn_test::BothModes {
 protected:
  // Runs the body in that many threads of the program and adds up what they did.
  template <typename Body>
  Tally RunThreads(Floors& floors, int count, Body body) {
    std::vector<Tally> tallies(static_cast<std::size_t>(count));
    std::vector<std::thread> threads;
    for (int t = 0; t < count; ++t) {
      threads.emplace_back([&, t] {
        const AttachedThread attached(floors);
        Churn churn(floors, static_cast<std::uint64_t>(t) + 1);
        body(churn);
        tallies[static_cast<std::size_t>(t)] = churn.tally();
      });
    }
    for (std::thread& thread : threads) thread.join();
    Tally sum;
    for (const Tally& tally : tallies) sum += tally;
    return sum;
  }
};

TEST_P(CpuCacheTest, NoSlabIsThereBeforeItIsNeeded) {
  // A thread that moves while it makes a slab needs another one.
  const tarn_test::OnOneCpu one_cpu;
  ASSERT_TRUE(one_cpu.is_on_one());
  Floors& floors = StartFloors(GetParam(), tarn_test::kDefaultBudgetBytes, tarn_test::RseqByCpuNumber());
  EXPECT_EQ(floors.cpu_cache.mode(), GetParam());
  EXPECT_EQ(floors.cpu_cache.populated_slabs(), 0u);
  ExpectAtRest(floors, {});
  Tally tally = RunThreads(floors, 1, [&](Churn& churn) {
    churn.AllocateOne();
    EXPECT_EQ(floors.cpu_cache.populated_slabs(), 1u);
    churn.FreeAll();
  });
  ExpectAtRest(floors, tally);
}

TEST_P(CpuCacheTest, ThereAreNoMoreSlabsThanOwners) {
  Floors& floors = StartFloors(GetParam());
  // One thread after the other: one slab goes from hand to hand in the thread mode.
  Tally tally;
  for (int i = 0; i < 10; ++i) {
    tally += RunThreads(floors, 1, [](Churn& churn) {
      for (int step = 0; step < 100; ++step) ASSERT_NO_FATAL_FAILURE(churn.Step(50));
      churn.FreeAll();
    });
  }
  const auto cpus = static_cast<std::size_t>(sysconf(_SC_NPROCESSORS_CONF));
  EXPECT_LE(floors.cpu_cache.populated_slabs(), GetParam() == CacheMode::kThread ? 1 : cpus);
  ExpectAtRest(floors, tally);
}

TEST_P(CpuCacheTest, ARefillBringsTheObjectsOfABatchInRisingOrder) {
  Floors& floors = StartFloors(GetParam());
  const AttachedThread attached(floors);
  constexpr SizeClass kClass = 6;
  std::vector<std::uintptr_t> addresses;
  Tally tally;
  for (std::size_t i = 0; i < kSizeClasses[kClass].batch_objects; ++i) {
    void* object = floors.Allocate(kClass);
    ASSERT_NE(object, nullptr);
    addresses.push_back(reinterpret_cast<std::uintptr_t>(object));
    ++tally.allocations[kClass];
  }
  if (floors.cpu_cache.populated_slabs() != 1) GTEST_SKIP() << "the thread was moved to another slab";
  EXPECT_TRUE(std::ranges::is_sorted(addresses));
  ExpectAtRest(floors, tally);
}

TEST_P(CpuCacheTest, EveryClassServesAndTakesBack) {
  Floors& floors = StartFloors(GetParam());
  Tally tally;
  std::thread([&] {
    const AttachedThread attached(floors);
    for (int c = 1; c < kSizeClassCount; ++c) {
      const auto size_class = static_cast<SizeClass>(c);
      const std::size_t count = 3 * kSizeClasses[c].max_cached_objects;
      std::set<void*> objects;
      for (std::size_t i = 0; i < count; ++i) {
        void* object = floors.Allocate(size_class);
        ASSERT_NE(object, nullptr);
        ASSERT_EQ(page_map.ClassOf(reinterpret_cast<std::uintptr_t>(object)), c);
        ASSERT_TRUE(objects.insert(object).second) << "an object was handed out twice";
      }
      for (void* object : objects) floors.Free(size_class, object);
      tally.allocations[size_class] += count;
      tally.frees[size_class] += count;
      ASSERT_NO_FATAL_FAILURE(ExpectAtRest(floors, tally)) << "class " << c;
    }
    floors.cpu_cache.DrainAll("malloc_trim");
  }).join();
  ExpectNothingLost(floors, tally);
}

TEST_P(CpuCacheTest, ABudgetOfNothingTurnsTheCachesOff) {
  Floors& floors = StartFloors(GetParam(), 0);
  const Tally tally = RunThreads(floors, 4, [](Churn& churn) {
    for (int step = 0; step < 2000; ++step) ASSERT_NO_FATAL_FAILURE(churn.Step(100));
    churn.FreeAll();
  });
  EXPECT_EQ(floors.cpu_cache.populated_slabs(), 0u);
  ExpectAtRest(floors, tally);
  floors.cpu_cache.DrainAll("malloc_trim");
  ExpectNothingLost(floors, tally);
}

// Small budgets make classes steal from each other all the time. The numbers are no multiples of anything.
TEST_P(CpuCacheTest, CapacitiesStayWithinTheBudget) {
  for (const std::size_t budget_bytes : {std::size_t{1}, std::size_t{1000}, std::size_t{70001}, std::size_t{400007}}) {
    Floors& floors = StartFloors(GetParam(), budget_bytes);
    const Tally tally = RunThreads(floors, 8, [](Churn& churn) {
      for (int step = 0; step < 6000; ++step) ASSERT_NO_FATAL_FAILURE(churn.Step(300));
      ASSERT_NO_FATAL_FAILURE(churn.FreeAll());
    });
    ASSERT_NO_FATAL_FAILURE(ExpectAtRest(floors, tally)) << budget_bytes;
    for (const Slab* slab : floors.Slabs()) {
      std::size_t cached_bytes = 0;
      for (int c = 1; c < kSizeClassCount; ++c) {
        const SlabHeader& header = slab->headers[c];
        cached_bytes += ((header.word & kSlabTopMask) - header.begin) * kSizeClasses[c].size_bytes;
      }
      EXPECT_LE(cached_bytes, budget_bytes);
    }
  }
}

// A class of which not one object is within the budget takes nothing from the others, which would lose all for nothing.
TEST_P(CpuCacheTest, WhatIsLargerThanTheBudgetTakesNothing) {
  constexpr SizeClass kSmall = 8;
  constexpr SizeClass kLarge = kSizeClassCount - 1;
  Floors& floors = StartFloors(GetParam(), std::size_t{200} << 10);
  ASSERT_GT(kSizeClasses[kLarge].size_bytes, floors.cpu_cache.budget_bytes());
  Tally tally;
  std::thread([&] {
    const AttachedThread attached(floors);
    const auto churn = [&](SizeClass size_class, std::size_t count, int times) {
      std::vector<void*> objects(count);
      for (int i = 0; i < times; ++i) {
        for (void*& object : objects) ASSERT_NE(object = floors.Allocate(size_class), nullptr);
        for (void* object : objects) floors.Free(size_class, object);
      }
      tally.allocations[size_class] += count * static_cast<std::size_t>(times);
      tally.frees[size_class] += count * static_cast<std::size_t>(times);
    };
    const auto capacity = [&] {
      std::size_t objects = 0;
      for (const Slab* slab : floors.Slabs()) objects += slab->headers[kSmall].end - slab->headers[kSmall].begin;
      return objects;
    };
    ASSERT_NO_FATAL_FAILURE(churn(kSmall, 200, 20));
    const std::size_t before = capacity();
    ASSERT_GE(before, kSizeClasses[kSmall].batch_objects);
    ASSERT_NO_FATAL_FAILURE(churn(kLarge, 2, 1000));
    EXPECT_EQ(capacity(), before);
    floors.cpu_cache.DrainAll("malloc_trim");
  }).join();
  ExpectNothingLost(floors, tally);
}

// Uses one object of each class, or 300 of one class time and again, on a thread that keeps its slab.
class SlotsTest : public tarn_test::BothModes {
 protected:
  Floors& Start() { return StartFloors(GetParam(), tarn_test::kDefaultBudgetBytes, tarn_test::RseqByCpuNumber()); }
  static void UseMany(Floors& floors, SizeClass size_class, Tally* tally) {
    std::vector<void*> objects(300);
    for (int round = 0; round < 20; ++round) {
      for (void*& object : objects) {
        ASSERT_NE(object = floors.Allocate(size_class), nullptr);
        tarn_test::StampObject(object, size_class, reinterpret_cast<std::uintptr_t>(object));
      }
      for (void* object : objects) {
        ASSERT_TRUE(tarn_test::HasStamp(object, size_class, reinterpret_cast<std::uintptr_t>(object)));
        floors.Free(size_class, object);
      }
      tally->allocations[size_class] += objects.size();
      tally->frees[size_class] += objects.size();
    }
  }

  tarn_test::OnOneCpu one_cpu_;
};

TEST_P(SlotsTest, AFewObjectsOfEachClassTouchAFewPages) {
  Floors& floors = Start();
  const AttachedThread attached(floors);
  std::vector<void*> objects(kSizeClassCount);
  for (int round = 0; round < 2; ++round) {
    for (int c = 1; c < kSizeClassCount; ++c) {
      ASSERT_NE(objects[static_cast<std::size_t>(c)] = floors.Allocate(static_cast<SizeClass>(c)), nullptr);
    }
    for (int c = 1; c < kSizeClassCount; ++c) {
      floors.Free(static_cast<SizeClass>(c), objects[static_cast<std::size_t>(c)]);
    }
  }
  ASSERT_EQ(floors.Slabs().size(), 1u);
  const auto start = reinterpret_cast<std::uintptr_t>(floors.Slabs()[0]) & ~std::uintptr_t{4095};
  const std::size_t bytes = (floors.cpu_cache.slab_bytes() + 2 * 4096) & ~std::size_t{4095};
  // Headers and counters are two, the near slots five; and both may begin within a page. Metadata of others lies
  // beside them.
  EXPECT_LE(tarn_test::ResidentBytes(reinterpret_cast<const void*>(start), bytes), 10u * 4096);
}

TEST_P(SlotsTest, AClassThatIsUsedMuchMovesToItsFarSlots) {
  constexpr SizeClass kMany = 8;
  Floors& floors = Start();
  if (GetParam() == CacheMode::kCpu && !floors.cpu_cache.can_drain_remotely()) {
    GTEST_SKIP() << "no class moves where sequences cannot be restarted";
  }
  Tally tally;
  {
    const AttachedThread attached(floors);
    ASSERT_NO_FATAL_FAILURE(UseMany(floors, kMany, &tally));
    ASSERT_EQ(floors.Slabs().size(), 1u);
    Slab* const slab = floors.Slabs()[0];
    SlabHeader& header = slab->headers[kMany];
    EXPECT_GT(header.limit - header.begin, 300);
    EXPECT_GT(header.begin, slab->headers[kSizeClassCount - 1].limit) << "behind the near slots of all";
    for (int c = 1; c < kSizeClassCount; ++c) {
      if (c == kMany) continue;
      EXPECT_LE(slab->headers[c].limit - slab->headers[c].begin, 64) << c;
    }
    // Another thread may be in the middle of a move when the process forks. The child completes it.
    if (GetParam() == CacheMode::kCpu) {
      const SlabHeader moved = header;
      const auto by = static_cast<std::uint16_t>(header.begin - (slab->headers[kMany - 1].limit));
      for (const bool word_too : {false, true}) {
        header = moved;
        header.end = static_cast<std::uint16_t>(header.end - by);
        header.limit = static_cast<std::uint16_t>(slab->headers[kMany - 1].limit + 64);
        if (!word_too) header.word -= by;
        floors.cpu_cache.RepairInForkedChild(true, false);
        EXPECT_EQ(header.word, moved.word);
        EXPECT_EQ(header.end, moved.end);
        EXPECT_EQ(header.limit, moved.limit);
      }
    }
    ASSERT_NO_FATAL_FAILURE(UseMany(floors, kMany, &tally));
    floors.cpu_cache.DrainAll("malloc_trim");
  }
  ExpectNothingLost(floors, tally);
}

TARN_IN_BOTH_MODES(SlotsTest);

// Memory that one class has in caches, and no use for, serves the growth of others.
TEST_P(CpuCacheTest, WhatAClassHasNoUseForGoesBackAsTheHeapGrows) {
  constexpr SizeClass kIdle = 21;
  constexpr SizeClass kGrowing = 9;
  Floors& floors = StartFloors(GetParam(), tarn_test::kDefaultBudgetBytes, tarn_test::RseqByCpuNumber());
  const tarn_test::OnOneCpu one_cpu;
  const AttachedThread attached(floors);
  std::vector<void*> objects(256);
  for (void*& object : objects) ASSERT_NE(object = floors.Allocate(kIdle), nullptr);
  for (void* object : objects) floors.Free(kIdle, object);
  TransferCache& transfer = floors.transfer_caches[kIdle];
  EXPECT_GT(floors.cpu_cache.ClassStats(kIdle).cached_objects + transfer.cached_objects(), 64u);
  objects.assign((std::size_t{8} << 20) / kSizeClasses[kGrowing].size_bytes, nullptr);
  for (void*& object : objects) ASSERT_NE(object = floors.Allocate(kGrowing), nullptr);
  EXPECT_EQ(floors.cpu_cache.ClassStats(kIdle).cached_objects, 0u);
  EXPECT_EQ(transfer.cached_objects(), 0u);
  EXPECT_EQ(transfer.central().Stats().spans, 0u);
  for (void* object : objects) floors.Free(kGrowing, object);
}

// Objects of a size that a program has left behind are freed in random order, while the heap grows in another. Sweeps
// take them out of the caches, where each keeps a span.
TEST_P(CpuCacheTest, AClassThatIsLeftBehindIsSweptOutOfTheCaches) {
  constexpr SizeClass kLeft = 10;
  constexpr SizeClass kOther = 20;
  Floors& floors = StartFloors(GetParam(), tarn_test::kDefaultBudgetBytes, tarn_test::RseqByCpuNumber());
  const tarn_test::OnOneCpu one_cpu;
  const AttachedThread attached(floors);
  const std::size_t batch = kSizeClasses[kLeft].batch_objects;
  // The class gets room for several batches.
  std::vector<void*> objects(2048);
  for (int round = 0; round < 8; ++round) {
    for (void*& object : objects) ASSERT_NE(object = floors.Allocate(kLeft), nullptr);
    for (void* object : objects) floors.Free(kLeft, object);
  }
  TransferCache& transfer = floors.transfer_caches[kLeft];
  ASSERT_GT(floors.cpu_cache.ClassStats(kLeft).cached_objects + transfer.cached_objects(), 4 * batch);
  objects.resize(20'000);
  for (void*& object : objects) ASSERT_NE(object = floors.Allocate(kLeft), nullptr);
  std::shuffle(objects.begin(), objects.end(), std::mt19937(1));
  // The heap grows in another class, step by step. Between two steps the caches fill again.
  std::size_t least_cached = SIZE_MAX;
  for (std::size_t i = 0; i < objects.size(); ++i) {
    floors.Free(kLeft, objects[i]);
    ASSERT_NE(floors.Allocate(kOther), nullptr);
    if (i < objects.size() / 2 || i % 8 != 0) continue;
    least_cached =
        std::min(least_cached, floors.cpu_cache.ClassStats(kLeft).cached_objects + transfer.cached_objects());
  }
  EXPECT_LE(least_cached, 2 * batch);
}

// Batches of all lengths, of which the last object is freed first: between two flushes of a long one nothing is
// allocated, but what is freed is wanted again.
TEST_P(CpuCacheTest, BatchesOfAllLengthsKeepTheirCache) {
  constexpr SizeClass kBatched = 3;
  Floors& floors = StartFloors(GetParam(), tarn_test::kDefaultBudgetBytes, tarn_test::RseqByCpuNumber());
  const tarn_test::OnOneCpu one_cpu;
  const AttachedThread attached(floors);
  std::mt19937 random(1);
  std::vector<void*> objects;
  std::size_t allocated = 0;
  for (int round = 0; round < 600; ++round) {
    objects.resize(1 + random() % 10'000);
    allocated += objects.size();
    for (void*& object : objects) ASSERT_NE(object = floors.Allocate(kBatched), nullptr);
    while (!objects.empty()) {
      floors.Free(kBatched, objects.back());
      objects.pop_back();
    }
  }
  const std::size_t by_batches = allocated / kSizeClasses[kBatched].batch_objects;
  // A slab of a thread has room for 512 objects, that of a CPU for 4096.
  const std::size_t most_percent = GetParam() == CacheMode::kThread ? 95 : 50;
  EXPECT_LT(floors.cpu_cache.ClassStats(kBatched).refills, by_batches * most_percent / 100);
}

// Of large classes one object that comes and goes leaves nothing in a cache.
TEST_P(CpuCacheTest, ALargeObjectThatIsUsedOnceIsNotKept) {
  Floors& floors = StartFloors(GetParam(), tarn_test::kDefaultBudgetBytes, tarn_test::RseqByCpuNumber());
  const tarn_test::OnOneCpu one_cpu;
  const AttachedThread attached(floors);
  for (const std::size_t bytes : {std::size_t{40} << 10, std::size_t{100} << 10, std::size_t{256} << 10}) {
    const SizeClass size_class = MallocSizeClass(bytes);
    void* object = floors.Allocate(size_class);
    ASSERT_NE(object, nullptr);
    floors.Free(size_class, object);
    EXPECT_EQ(floors.transfer_caches[size_class].central().Stats().spans, 0u) << bytes;
    // Used time and again it is.
    for (int i = 0; i < 8; ++i) floors.Free(size_class, floors.Allocate(size_class));
    EXPECT_GE(floors.cpu_cache.ClassStats(size_class).cached_objects, 1u) << bytes;
  }
}

TEST_P(CpuCacheTest, CapacityGoesWhereTheMissesAre) {
  // Room for some 200 objects of the one class or of the other.
  constexpr SizeClass kFirst = 25;
  constexpr SizeClass kSecond = 24;
  Floors& floors = StartFloors(GetParam(), std::size_t{200} << 10);
  std::thread([&] {
    const AttachedThread attached(floors);
    const auto capacity_bytes = [&](SizeClass size_class) {
      std::size_t bytes = 0;
      for (const Slab* slab : floors.Slabs()) {
        const SlabHeader& header = slab->headers[size_class];
        bytes += std::size_t{header.end} - header.begin;
      }
      return bytes * kSizeClasses[size_class].size_bytes;
    };
    const auto use = [&](SizeClass size_class) {
      std::vector<void*> objects;
      for (int round = 0; round < 60; ++round) {
        for (int i = 0; i < 120; ++i) objects.push_back(floors.Allocate(size_class));
        for (void* object : objects) floors.Free(size_class, object);
        objects.clear();
      }
    };
    use(kFirst);
    const std::size_t first_bytes = capacity_bytes(kFirst);
    EXPECT_GT(first_bytes, 0u);
    EXPECT_EQ(capacity_bytes(kSecond), 0u);
    use(kSecond);
    EXPECT_GT(capacity_bytes(kSecond), 0u);
    EXPECT_LE(capacity_bytes(kFirst), first_bytes);
  }).join();
}

TEST_P(CpuCacheTest, CountersAreExactAfterManyThreads) {
  Floors& floors = StartFloors(GetParam());
  Tally tally;
  for (int round = 0; round < 2; ++round) {
    // Objects that stay, so that allocations and frees differ.
    tally += RunThreads(floors, 16, [](Churn& churn) {
      for (int step = 0; step < 8000; ++step) ASSERT_NO_FATAL_FAILURE(churn.Step(500));
    });
    ExpectAtRest(floors, tally);
  }
}

// One thread allocates, another frees: objects wander through the transfer caches and are never lost on the way.
TEST_P(CpuCacheTest, AnotherThreadMayFree) {
  Floors& floors = StartFloors(GetParam());
  constexpr SizeClass kClass = 7;
  constexpr std::size_t kObjects = 100000;
  constexpr std::size_t kWindow = 1024;
  std::vector<std::atomic<void*>> window(kWindow);
  std::thread producer([&] {
    const AttachedThread attached(floors);
    for (std::size_t i = 0; i < kObjects; ++i) {
      void* object = floors.Allocate(kClass);
      tarn_test::StampObject(object, kClass, i);
      while (window[i % kWindow].load(std::memory_order_acquire) != nullptr) sched_yield();
      window[i % kWindow].store(object, std::memory_order_release);
    }
  });
  std::thread consumer([&] {
    const AttachedThread attached(floors);
    for (std::size_t i = 0; i < kObjects; ++i) {
      void* object;
      while ((object = window[i % kWindow].exchange(nullptr, std::memory_order_acq_rel)) == nullptr) sched_yield();
      ASSERT_TRUE(tarn_test::HasStamp(object, kClass, i));
      floors.Free(kClass, object);
    }
  });
  producer.join();
  consumer.join();
  Tally tally;
  tally.allocations[kClass] = tally.frees[kClass] = kObjects;
  ExpectAtRest(floors, tally);
  floors.cpu_cache.DrainAll("malloc_trim");
  ExpectNothingLost(floors, tally);
}

TEST_P(CpuCacheTest, WithoutMemoryTheAnswerIsNullAndNothingIsLost) {
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer needs address space of its own";
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              Floors& floors = StartFloors(GetParam());
              const AttachedThread attached(floors);
              std::vector<void*> objects;
              objects.reserve(1000000);
              tarn_test::LimitFurtherAddressSpace(std::size_t{32} << 20);
              for (const SizeClass size_class : {SizeClass{58}, SizeClass{33}, SizeClass{2}}) {
                while (void* object = floors.Allocate(size_class)) objects.push_back(object);
                TARN_REQUIRE(floors.cpu_cache.AllocateSlow(size_class) == nullptr);
              }
              for (void* object : objects) {
                floors.Free(page_map.ClassOf(reinterpret_cast<std::uintptr_t>(object)), object);
              }
              floors.cpu_cache.DrainAll("malloc_trim");
              for (int c = 1; c < kSizeClassCount; ++c) {
                TARN_REQUIRE(floors.transfer_caches[c].central().Stats().live_objects == 0);
              }
              TARN_REQUIRE(floors.page_heap.Stats().in_use_bytes == 0);
              floors.page_heap.CheckInvariants();
            }),
            "");
}

TARN_IN_BOTH_MODES(CpuCacheTest);

// --- A forked child ------------------------------------------------------------------------------------------------

// Of other threads in the thread mode: thread_cache_test.cc.
class CpuCacheForkTest : public tarn_test::BothModes {};

TEST_P(CpuCacheForkTest, ADrainThatTheForkInterruptedIsRepaired) {
  Floors& floors = StartFloors(GetParam());
  const AttachedThread attached(floors);
  Churn churn(floors, 1);
  for (int step = 0; step < 1000; ++step) churn.Step(200);
  EXPECT_EQ(tarn_test::ComplaintOfChild([&] {
              const std::vector<Slab*> slabs = floors.Slabs();
              // As a drain of another thread leaves it.
              for (auto& entry : slab_table.slabs) {
                if (entry.load() != nullptr) entry.store(EmptySlab());
              }
              TARN_REQUIRE(floors.Slabs().empty());
              floors.cpu_cache.RepairInForkedChild(true, false);
              TARN_REQUIRE(floors.Slabs() == slabs);
              TARN_REQUIRE(!floors.cpu_cache.can_drain_remotely() || floors.cpu_cache.DrainAll("malloc_trim") != 0);
            }),
            "");
  churn.FreeAll();
  ExpectAtRest(floors, churn.tally());
}

TARN_IN_BOTH_MODES(CpuCacheForkTest);

}  // namespace
}  // namespace tarn
