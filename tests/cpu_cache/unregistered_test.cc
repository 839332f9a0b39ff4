// SPDX-License-Identifier: Apache-2.0
//
// Threads whose ids are not true: unregistered ones, and children of vfork, which run on their parent's ids. No
// sequence of theirs may find a slab.

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include "allocator/cpu_cache/cpu_cache.h"
#include "allocator/cpu_cache/slab_ops.h"
#include "allocator/os/cpus.h"
#include "allocator/pools/cpu_stacks.h"
#include "tests/cpu_cache/floors.h"
#include "tests/os/cpu_set.h"

namespace tarn {
namespace {

using tarn_test::AttachedThread;
using tarn_test::Churn;
using tarn_test::ExpectAtRest;
using tarn_test::ExpectNothingLost;
using tarn_test::Floors;
using tarn_test::StartFloors;

constexpr SizeClass kUsedClass = 7;

// Ends the calling thread's registration, whatever size it was made with.
bool Unregister() {
  char* area = static_cast<char*>(__builtin_thread_pointer()) + slab_table.offsets.rseq_cs -
               static_cast<std::ptrdiff_t>(offsetof(RseqArea, rseq_cs));
  constexpr int kUnregister = 1;
  constexpr std::uint32_t kSignature = 0x53053053;
  for (const unsigned size : {32u, 20u, 28u, 33u, 36u, 40u, 64u}) {
    if (syscall(SYS_rseq, area, size, kUnregister, kSignature) == 0) return true;
  }
  return false;
}

class UnregisteredThread : public tarn_test::BothModes {};

TEST_P(UnregisteredThread, FindsNoSlab) {
  Floors& floors = StartFloors(GetParam());
  std::thread([&] {
    const AttachedThread attached(floors);
    Churn churn(floors, 1);
    for (int step = 0; step < 2000; ++step) churn.Step(100);
    void* object = floors.Allocate(kUsedClass);
    floors.Free(kUsedClass, object);
    const std::vector<Slab*> slabs = floors.Slabs();
    ASSERT_FALSE(slabs.empty());
    ASSERT_TRUE(Unregister());
    // Whatever stands in the words of the id now, there is a slab under that number, with objects and room in it.
    for (std::size_t i = 0; i < CpuIdBound(); ++i) slab_table.slabs[i].store(slabs.front());
    void* objects[4] = {};
    EXPECT_LT(CurrentIndex(), 0);
    for (int c = 1; c < kSizeClassCount; ++c) {
      const auto size_class = static_cast<SizeClass>(c);
      const std::uint64_t word = slabs.front()->headers[c].word;
      EXPECT_EQ(SlabPop(size_class), nullptr);
      EXPECT_FALSE(SlabPush(size_class, objects));
      EXPECT_EQ(SlabPopBatch(size_class, objects, 4), 0u);
      EXPECT_EQ(SlabPushBatch(size_class, objects, 4), 0u);
      const std::uint16_t end = slabs.front()->headers[c].end;
      EXPECT_FALSE(SlabSetEnd(size_class, slabs.front(), end, end));
      std::uint64_t due;
      slabs.front()->headers[c].sample_due = 0;
      EXPECT_FALSE(SlabClaimSample(size_class, slabs.front(), kNeverSample, &due));
      slabs.front()->headers[c].sample_due = kNeverSample;
      EXPECT_EQ(slabs.front()->headers[c].word, word);
    }
    for (std::size_t i = 0; i < CpuIdBound(); ++i) slab_table.slabs[i].store(EmptySlab());
    slab_table.slabs[0].store(slabs.front());
    // It is served all the same, past the caches.
    for (int step = 0; step < 2000; ++step) churn.Step(100);
    churn.FreeAll();
  }).join();
}

// The stacks of the pools go by the same ids.
TEST_P(UnregisteredThread, FindsNoStackOfAPool) {
  Floors& floors = StartFloors(GetParam());
  std::thread([&] {
    const AttachedThread attached(floors);
    const std::size_t count = CpuIdBound();
    constexpr std::size_t kCapacity = 4;
    std::vector<char> memory(count * CpuStacks::StrideBytes(kCapacity));
    CpuStacks stacks = {count, CpuStacks::StrideBytes(kCapacity), memory.data(), count, kCapacity};
    for (std::size_t i = 0; i < count; ++i) stacks.At(i)->capacity = kCapacity;
    ASSERT_TRUE(StackPush(&stacks, &floors));
    ASSERT_TRUE(Unregister());
    for (std::size_t i = 0; i < count; ++i) *stacks.At(i) = {1, kCapacity, {&floors}};
    void* object = nullptr;
    EXPECT_FALSE(StackPop(&stacks, &object));
    EXPECT_FALSE(StackPush(&stacks, &floors));
    EXPECT_EQ(StackPopBatch(&stacks, &object, 1), 0u);
    EXPECT_EQ(StackPushBatch(&stacks, &object, 1), 0u);
    EXPECT_GE(CurrentStackId(), count);
  }).join();
}

INSTANTIATE_TEST_SUITE_P(Cpu, UnregisteredThread, testing::Values(CacheMode::kCpu));

// --- Children of vfork ---------------------------------------------------------------------------------------------

// By the CPU's number, and on one CPU: the index stays the same then.
class VforkChild : public tarn_test::BothModes {
 protected:
  void SetUp() override {
    BothModes::SetUp();
    if (IsSkipped()) return;
    one_cpu_.emplace();
    ASSERT_TRUE(one_cpu_->is_on_one());
    floors_ = &StartFloors(GetParam(), tarn_test::kDefaultBudgetBytes, tarn_test::RseqByCpuNumber());
    if (floors_->cpu_cache.NeedsAttach()) floors_->cpu_cache.AttachThread();
    index_ = static_cast<std::size_t>(CurrentIndex());
  }
  void TearDown() override { one_cpu_.reset(); }

  CpuCache& cache() { return floors_->cpu_cache; }
  std::atomic<Slab*>& entry() { return slab_table.slabs[index_]; }
  // A slab with objects in it.
  Slab* FilledSlab() {
    void* objects[20];
    for (void*& object : objects) object = floors_->Allocate(kUsedClass);
    for (void* object : objects) floors_->Free(kUsedClass, object);
    Slab* slab = entry().load();
    EXPECT_FALSE(IsEmptySlab(slab));
    return slab;
  }

  Floors* floors_ = nullptr;
  std::size_t index_ = 0;

 private:
  std::optional<tarn_test::OnOneCpu> one_cpu_;
};

TEST_P(VforkChild, FindsNoSlabUntilItsParentGoesOn) {
  Slab* const slab = FilledSlab();
  CpuCache::BeginVfork();
  EXPECT_EQ(entry().load(), slab);
  cache().BeginVforkChild();
  EXPECT_EQ(entry().load(), EmptySlab(1));
  EXPECT_EQ(SlabPop(kUsedClass), nullptr);
  // Misses do not bring it back.
  void* object = floors_->Allocate(kUsedClass);
  ASSERT_NE(object, nullptr);
  floors_->Free(kUsedClass, object);
  EXPECT_EQ(entry().load(), EmptySlab(1));
  cache().EndVfork();
  EXPECT_EQ(entry().load(), slab);
  EXPECT_NE(object = SlabPop(kUsedClass), nullptr);
  EXPECT_TRUE(SlabPush(kUsedClass, object));
}

TEST_P(VforkChild, ThatNeverRanHasWithdrawnNothing) {
  Slab* const slab = FilledSlab();
  for (int i = 0; i < 3; ++i) {
    CpuCache::BeginVfork();
    cache().EndVfork();
    EXPECT_EQ(entry().load(), slab);
  }
  // A child of a child, which did not come to be.
  CpuCache::BeginVfork();
  cache().BeginVforkChild();
  CpuCache::BeginVfork();
  cache().EndVfork();
  EXPECT_EQ(entry().load(), EmptySlab(1));
  cache().EndVfork();
  EXPECT_EQ(entry().load(), slab);
}

TEST_P(VforkChild, OfAChildKeepsTheIndexEmptyToo) {
  Slab* const slab = FilledSlab();
  CpuCache::BeginVfork();
  cache().BeginVforkChild();
  CpuCache::BeginVfork();
  cache().BeginVforkChild();
  EXPECT_EQ(entry().load(), EmptySlab(2));
  cache().EndVfork();
  EXPECT_EQ(entry().load(), EmptySlab(1));
  cache().EndVfork();
  EXPECT_EQ(entry().load(), slab);
}

// The second parent got the index of the first, which waits for its child.
TEST_P(VforkChild, OfAnotherThreadWithTheSameIndexMayEndFirstOrLast) {
  Slab* const slab = FilledSlab();
  for (const bool first : {true, false}) {
    CpuCache::BeginVfork();
    cache().BeginVforkChild();
    std::thread([&] {
      const AttachedThread attached(*floors_);
      CpuCache::BeginVfork();
      cache().BeginVforkChild();
      EXPECT_EQ(entry().load(), EmptySlab(2));
      if (first) cache().EndVfork();
      EXPECT_TRUE(IsEmptySlab(entry().load()));
      // As if the thread before went on now.
      if (!first) {
        entry().store(EmptySlab(1));
        cache().EndVfork();
      }
    }).join();
    if (first) {
      EXPECT_EQ(entry().load(), EmptySlab(1));
      cache().EndVfork();
    } else {
      // Its part was done above.
      cache().EndVfork();
    }
    EXPECT_EQ(entry().load(), slab);
  }
}

TEST_P(VforkChild, KeepsItsIndexEmptyThroughDrains) {
  Slab* const slab = FilledSlab();
  const bool remote = cache().can_drain_remotely();
  CpuCache::BeginVfork();
  cache().BeginVforkChild();
  const std::size_t cached_objects = cache().ClassStats(kUsedClass).cached_objects;
  EXPECT_NE(cached_objects, 0u);
  EXPECT_GE(cache().DrainAll("malloc_trim"), remote ? cached_objects * kSizeClasses[kUsedClass].size_bytes : 0);
  EXPECT_EQ(entry().load(), EmptySlab(1));
  for (int look = 0; look < 5; ++look) cache().DrainIdle("scavenger");
  EXPECT_EQ(entry().load(), EmptySlab(1));
  cache().EndVfork();
  EXPECT_EQ(entry().load(), slab);
}

TEST_P(VforkChild, KeepsAnIndexEmptyThatGetsItsSlabMeanwhile) {
  CpuCache::BeginVfork();
  cache().BeginVforkChild();
  EXPECT_EQ(entry().load(), EmptySlab(1));
  std::thread([&] {
    const AttachedThread attached(*floors_);
    floors_->Free(kUsedClass, floors_->Allocate(kUsedClass));
  }).join();
  EXPECT_EQ(cache().populated_slabs(), 1u);
  EXPECT_EQ(entry().load(), EmptySlab(1));
  cache().EndVfork();
  EXPECT_FALSE(IsEmptySlab(entry().load()));
}

// The parent goes on while a drain is under way, which does not come by this index again.
TEST_P(VforkChild, EndsDuringADrain) {
  Slab* const slab = FilledSlab();
  CpuCache::BeginVfork();
  cache().BeginVforkChild();
  {
    LockHolder holder(cache().drain_lock());
    cache().EndVfork();
    EXPECT_EQ(entry().load(), EmptySlab());
    // Nor does a miss wait for the drain.
    std::thread([&] {
      const AttachedThread attached(*floors_);
      floors_->Free(kUsedClass, floors_->Allocate(kUsedClass));
    }).join();
    EXPECT_EQ(entry().load(), EmptySlab());
  }
  floors_->Free(kUsedClass, floors_->Allocate(kUsedClass));
  EXPECT_EQ(entry().load(), slab);
}

TEST_P(VforkChild, MoreThanCanBeCountedLeaveTheIndexEmpty) {
  FilledSlab();
  for (std::size_t i = 0; i < kMaxVforkChildren + 5; ++i) {
    CpuCache::BeginVfork();
    cache().BeginVforkChild();
  }
  EXPECT_EQ(entry().load(), EmptySlab(kMaxVforkChildren));
  for (std::size_t i = 0; i < kMaxVforkChildren + 5; ++i) cache().EndVfork();
  EXPECT_EQ(entry().load(), EmptySlab(kMaxVforkChildren));
  void* object = floors_->Allocate(kUsedClass);
  EXPECT_NE(object, nullptr);
  floors_->Free(kUsedClass, object);
}

// Where libc registers nobody. A registration of the child's would leave the ids of its CPU in the parent's memory.
TEST_P(VforkChild, DoesNotRegisterTheMemoryOfItsParent) {
  if (!cache().rseq().register_threads) GTEST_SKIP() << "libc registers threads";
  std::thread([&] {
    ASSERT_TRUE(cache().NeedsAttach());
    CpuCache::BeginVfork();
    const pid_t child = vfork();
    if (child == 0) {
      cache().BeginVforkChild();
      if (cache().NeedsAttach()) cache().AttachThread();
      floors_->Free(kUsedClass, floors_->Allocate(kUsedClass));
      _exit(0);
    }
    ASSERT_GT(child, 0);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    cache().EndVfork();
    EXPECT_LT(CurrentIndex(), 0);
    const AttachedThread attached(*floors_);
    EXPECT_GE(CurrentIndex(), 0);
    EXPECT_TRUE(Unregister()) << "the kernel does not know of the registration";
  }).join();
}

INSTANTIATE_TEST_SUITE_P(Cpu, VforkChild, testing::Values(CacheMode::kCpu));

}  // namespace
}  // namespace tarn
