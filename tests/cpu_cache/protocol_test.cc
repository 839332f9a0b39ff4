// SPDX-License-Identifier: Apache-2.0
//
// The protocols by which slabs come and go, each stopped at a step: a thread is inside, because the test holds a lock
// that it needs next, and others look at what they may find. Nothing here waits for a time to pass.

#include <gtest/gtest.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>

#include <atomic>
#include <thread>
#include <vector>

#include "allocator/cpu_cache/cpu_cache.h"
#include "allocator/cpu_cache/slab_ops.h"
#include "allocator/os/cpus.h"
#include "tests/cpu_cache/floors.h"

namespace tarn {
namespace {

using tarn_test::AttachedThread;
using tarn_test::Floors;
using tarn_test::StartFloors;

constexpr SizeClass kProtocolClass = 9;
constexpr int kProtocolObjects = 20;

// Leaves objects of the class in the calling thread's slab.
void FillCache(Floors& floors) {
  void* objects[kProtocolObjects];
  for (int round = 0; round < 4; ++round) {
    for (void*& object : objects) object = floors.Allocate(kProtocolClass);
    for (void* object : objects) floors.Free(kProtocolClass, object);
  }
}

void AwaitWaiter(const Lock& lock, const std::atomic<bool>& gone_on) {
  while (!lock.HasWaiters() && !gone_on.load()) sched_yield();
}

// A thread that ends has its slab drained before another one gets it.
TEST(SlabProtocol, AnAttachingThreadDoesNotGetASlabThatIsBeingDrained) {
  Floors& floors = StartFloors(CacheMode::kThread);
  Lock& central_lock = floors.transfer_caches[kProtocolClass].central().lock();
  std::atomic<int> index = -1;
  std::atomic<bool> filled = false;
  std::atomic<bool> may_end = false;
  std::atomic<bool> ended = false;
  std::thread ends([&] {
    floors.cpu_cache.AttachThread();
    index.store(thread_state.slab_index);
    FillCache(floors);
    filled.store(true);
    while (!may_end.load()) sched_yield();
    floors.cpu_cache.DetachThread();
    ended.store(true);
  });
  while (!filled.load()) sched_yield();
  ASSERT_NE(floors.cpu_cache.ClassStats(kProtocolClass).cached_objects, 0u);
  central_lock.Acquire();
  may_end.store(true);
  AwaitWaiter(central_lock, ended);
  EXPECT_FALSE(ended.load());
  std::thread([&] {
    floors.cpu_cache.AttachThread();
    EXPECT_GE(thread_state.slab_index, 0);
    EXPECT_NE(thread_state.slab_index, index.load()) << "its owner is still at work on it";
    floors.cpu_cache.DetachThread();
  }).join();
  central_lock.Release();
  ends.join();
  // Now it serves others, empty.
  std::thread([&] {
    floors.cpu_cache.AttachThread();
    EXPECT_EQ(thread_state.slab_index, index.load());
    EXPECT_EQ(floors.cpu_cache.ClassStats(kProtocolClass).cached_objects, 0u);
    floors.cpu_cache.DetachThread();
  }).join();
}

class SlabProtocolOfCpus : public tarn_test::BothModes {};

std::size_t SlabsInTable() {
  std::size_t count = 0;
  for (std::size_t i = 0; i < CpuIdBound(); ++i) count += IsEmptySlab(slab_table.slabs[i].load()) ? 0 : 1;
  return count;
}

// A drain must not find a slab in the table that it did not take out.
TEST_P(SlabProtocolOfCpus, ANewSlabEntersTheTableUnderTheDrainLock) {
  Floors& floors = StartFloors(GetParam());
  Lock& drain_lock = floors.cpu_cache.drain_lock();
  std::atomic<bool> served = false;
  drain_lock.Acquire();
  std::thread populates([&] {
    const AttachedThread attached(floors);
    floors.Free(kProtocolClass, floors.Allocate(kProtocolClass));
    served.store(true);
  });
  AwaitWaiter(drain_lock, served);
  EXPECT_FALSE(served.load());
  EXPECT_EQ(floors.cpu_cache.populated_slabs(), 1u) << "made, ";
  EXPECT_EQ(SlabsInTable(), 0u) << "and not in the table yet";
  drain_lock.Release();
  populates.join();
  EXPECT_NE(SlabsInTable(), 0u);
}

sigjmp_buf g_back;

// The claim of the index stays behind. It is given up by the repair that follows the jump.
TEST_P(SlabProtocolOfCpus, AJumpOutOfTheMakingOfASlabDoesNotCostTheIndex) {
  Floors& floors = StartFloors(GetParam());
  Lock& drain_lock = floors.cpu_cache.drain_lock();
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = [](int) { siglongjmp(g_back, 1); };
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  std::atomic<bool> jumped = false;
  std::atomic<bool> may_go_on = false;
  drain_lock.Acquire();
  std::thread populates([&] {
    const AttachedThread attached(floors);
    if (sigsetjmp(g_back, 1) == 0) {
      floors.Free(kProtocolClass, floors.Allocate(kProtocolClass));
      FAIL() << "the lock was held";
    }
    jumped.store(true);
    while (!may_go_on.load()) sched_yield();
    floors.cpu_cache.RepairAfterJump();
    floors.Free(kProtocolClass, floors.Allocate(kProtocolClass));
  });
  AwaitWaiter(drain_lock, jumped);
  EXPECT_EQ(pthread_kill(populates.native_handle(), SIGUSR1), 0);
  while (!jumped.load()) sched_yield();
  EXPECT_EQ(SlabsInTable(), 0u);
  drain_lock.Release();
  may_go_on.store(true);
  populates.join();
  EXPECT_NE(SlabsInTable(), 0u);
  sigaction(SIGUSR1, &before, nullptr);
}

// A distance that a new slab draws at the rate before the change would hold for good.
TEST_P(SlabProtocolOfCpus, ANewSlabKnowsARateThatChangedWhileItWasMade) {
  for (const std::size_t rate_bytes : {std::size_t{1}, std::size_t{0}}) {
    Floors& floors = StartFloors(GetParam());
    Lock& drain_lock = floors.cpu_cache.drain_lock();
    floors.cpu_cache.sampler().SetRate(1 - rate_bytes);
    std::atomic<bool> served = false;
    drain_lock.Acquire();
    std::thread populates([&] {
      const AttachedThread attached(floors);
      // A thread that is moved may need more than one miss to get room.
      for (int i = 0; i < 100; ++i) floors.Free(kProtocolClass, floors.Allocate(kProtocolClass));
      served.store(true);
    });
    AwaitWaiter(drain_lock, served);
    EXPECT_EQ(floors.cpu_cache.populated_slabs(), 1u);
    EXPECT_EQ(SlabsInTable(), 0u);
    floors.cpu_cache.sampler().SetRate(rate_bytes);
    floors.cpu_cache.RestartSampling();
    drain_lock.Release();
    populates.join();
    EXPECT_NE(SlabsInTable(), 0u);
    int slabs_with_room = 0;
    for (const Slab* slab : floors.Slabs()) {
      const SlabHeader& header = slab->headers[kProtocolClass];
      if (header.end == header.begin) continue;
      ++slabs_with_room;
      EXPECT_EQ(header.sample_due >= kNeverSample, rate_bytes == 0);
    }
    EXPECT_NE(slabs_with_room, 0);
  }
}

// A claim and the change of the rate to 0 may store at the same time, and the claim last.
TEST(SlabProtocol, ASampleThatIsLeftWhenTheRateBecomesNothingIsClaimed) {
  Floors& floors = StartFloors(CacheMode::kThread);
  floors.cpu_cache.sampler().SetRate(1);
  const AttachedThread attached(floors);
  FillCache(floors);
  ASSERT_EQ(floors.Slabs().size(), 1u);
  const SlabHeader& header = floors.Slabs().front()->headers[kProtocolClass];
  ASSERT_LT(header.sample_due, kNeverSample);
  // The restart of the slab is what was stored over.
  floors.cpu_cache.sampler().SetRate(0);
  unsigned shift;
  EXPECT_FALSE(floors.cpu_cache.TakeSample(kProtocolClass, &shift));
  EXPECT_GE(header.sample_due, kNeverSample) << "each further pop misses";
}

// A drain that is stopped while it passes a batch on.
TEST_P(SlabProtocolOfCpus, ADrainOwnsWhatItEmpties) {
  Floors& floors = StartFloors(GetParam());
  if (!floors.cpu_cache.can_drain_remotely()) GTEST_SKIP() << "no membarrier here";
  const AttachedThread attached(floors);
  Lock& central_lock = floors.transfer_caches[kProtocolClass].central().lock();
  for (const bool idle_only : {false, true}) {
    FillCache(floors);
    const std::vector<Slab*> slabs = floors.Slabs();
    const std::size_t cached = floors.cpu_cache.ClassStats(kProtocolClass).cached_objects;
    ASSERT_NE(cached, 0u);
    // The look after these finds it idle.
    for (int look = 0; idle_only && look < CpuCache::kIdleLooks; ++look) {
      EXPECT_EQ(floors.cpu_cache.DrainIdle("scavenger").drained_bytes, 0u);
    }
    std::atomic<bool> drained = false;
    central_lock.Acquire();
    std::thread drains([&] {
      if (idle_only) {
        floors.cpu_cache.DrainIdle("scavenger");
      } else {
        floors.cpu_cache.DrainAll("malloc_trim");
      }
      drained.store(true);
    });
    AwaitWaiter(central_lock, drained);
    EXPECT_FALSE(drained.load());
    // The slab is out of the table, its owner is the lock's; the batch is not in it any more, lest a fork has it twice.
    EXPECT_TRUE(floors.cpu_cache.drain_lock().IsHeld());
    EXPECT_LT(floors.cpu_cache.ClassStats(kProtocolClass).cached_objects, cached);
    for (const Slab* slab : slabs) {
      if (slab->headers[kProtocolClass].end == slab->headers[kProtocolClass].begin) continue;
      for (std::size_t i = 0; i < CpuIdBound(); ++i) EXPECT_NE(slab_table.slabs[i].load(), slab);
    }
    EXPECT_EQ(SlabPop(kProtocolClass), nullptr);
    EXPECT_FALSE(SlabPush(kProtocolClass, &central_lock));
    central_lock.Release();
    drains.join();
    EXPECT_EQ(floors.Slabs(), slabs) << "and back when it is done";
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, SlabProtocolOfCpus, testing::Values(CacheMode::kCpu));

}  // namespace
}  // namespace tarn
