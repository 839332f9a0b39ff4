// SPDX-License-Identifier: Apache-2.0
//
// Classes that are used seldom: nothing of them is cached, and their spans see each misuse at the call.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "allocator/cpu_cache/cpu_cache.h"
#include "allocator/cpu_cache/slab_ops.h"
#include "tests/cpu_cache/floors.h"
#include "tests/os/cpu_set.h"

namespace tarn {
namespace {

using tarn_test::AttachedThread;
using tarn_test::ExpectAtRest;
using tarn_test::ExpectNothingLost;
using tarn_test::Floors;
using tarn_test::OnOneCpu;
using tarn_test::StartFloors;
using tarn_test::Tally;

constexpr SizeClass kColdClass = 6;
constexpr std::size_t kSizeBytes = kSizeClasses[kColdClass].size_bytes;

class ColdClasses : public tarn_test::BothModes {
 protected:
  void SetUp() override {
    BothModes::SetUp();
    if (IsSkipped()) return;
    floors_ = &StartFloors(GetParam(), tarn_test::kDefaultBudgetBytes, tarn_test::RseqByCpuNumber());
    floors_->classes_are_cold = true;
  }
  void* Allocate(SizeClass size_class) {
    void* const object = floors_->Allocate(size_class);
    EXPECT_NE(object, nullptr);
    ++tally_.allocations[size_class];
    return object;
  }
  void Free(SizeClass size_class, void* object) {
    ++tally_.frees[size_class];
    floors_->Free(size_class, object);
  }
  // As often as a class may be used and stay cold.
  void Use(SizeClass size_class, int calls) {
    for (int i = 0; i < calls; i += 2) Free(size_class, Allocate(size_class));
  }
  void MakeHot(SizeClass size_class) { Use(size_class, CpuCache::kColdUses); }

  OnOneCpu one_cpu_;
  Floors* floors_ = nullptr;
  Tally tally_;
};

TEST_P(ColdClasses, NothingIsCachedUntilAClassIsUsedMore) {
  const AttachedThread attached(*floors_);
  CentralFreeList& central = floors_->transfer_caches[kColdClass].central();
  std::size_t live = 0;
  for (int use = 0; use < CpuCache::kColdUses; use += 2) {
    EXPECT_TRUE(floors_->cpu_cache.IsCold(kColdClass));
    void* const object = Allocate(kColdClass);
    EXPECT_EQ(central.Stats().live_objects, ++live);
    if (use % 4 == 0) continue;
    Free(kColdClass, object);
    EXPECT_EQ(central.Stats().live_objects, --live);
  }
  if (GetParam() == CacheMode::kCpu) {
    EXPECT_EQ(floors_->cpu_cache.populated_slabs(), 0u);
  }
  ExpectAtRest(*floors_, tally_);
  for (int use = 0; floors_->cpu_cache.IsCold(kColdClass); ++use) {
    ASSERT_LT(use, CpuCache::kColdUses);
    Allocate(kColdClass);
  }
  std::vector<void*> objects(kSizeClasses[kColdClass].batch_objects);
  for (int round = 0; round < 4; ++round) {
    for (void*& object : objects) object = Allocate(kColdClass);
    for (void* object : objects) Free(kColdClass, object);
  }
  EXPECT_NE(floors_->cpu_cache.ClassStats(kColdClass).cached_objects, 0u);
  EXPECT_TRUE(floors_->cpu_cache.IsCold(kColdClass + 1));
  ExpectAtRest(*floors_, tally_);
}

// A program that allocates and frees one object time and again needs one span.
TEST_P(ColdClasses, TheLastSpanStays) {
  const AttachedThread attached(*floors_);
  CentralFreeList& central = floors_->transfer_caches[kColdClass].central();
  void* const first = Allocate(kColdClass);
  Free(kColdClass, first);
  EXPECT_EQ(central.Stats().spans, 1u);
  EXPECT_EQ(central.kept_spans(), 1u);
  EXPECT_EQ(Allocate(kColdClass), first);
  Free(kColdClass, first);
  ExpectAtRest(*floors_, tally_);
  floors_->cpu_cache.DrainAll("malloc_trim");
  ExpectNothingLost(*floors_, tally_);
}

TEST_P(ColdClasses, MisuseIsSeenAtTheCall) {
  const AttachedThread attached(*floors_);
  Allocate(kColdClass);
  char* const object = static_cast<char*>(Allocate(kColdClass));
  Free(kColdClass, Allocate(kColdClass));
  const auto free = [&](SizeClass size_class, void* pointer) {
    floors_->cpu_cache.DeallocateCold(size_class, pointer, "free");
  };
  EXPECT_DEATH(free(kColdClass, object + 8), "free\\(0x[0-9a-f]+\\): pointer is inside an object, not at its start: ");
  EXPECT_DEATH(free(kColdClass, object + kSizeBytes / 2), "pointer is inside an object, not at its start: ");
  EXPECT_DEATH(free(kColdClass + 1, object), "size does not match the object: ");
  Free(kColdClass, object);
  Free(kColdClass, Allocate(kColdClass));
  EXPECT_DEATH(free(kColdClass, object), "fatal: free\\(0x[0-9a-f]+\\): object is already free\n");
}

// Where the slab of the thread has an object of a cold class, the push of the same object misses.
TEST_P(ColdClasses, AnObjectOnTopOfTheSlabIsReported) {
  const AttachedThread attached(*floors_);
  void* objects[2] = {Allocate(kColdClass), Allocate(kColdClass)};
  for (int miss = 0; miss < 3; ++miss) {
    void* const object = floors_->cpu_cache.AllocateSlow(kColdClass);
    floors_->cpu_cache.DeallocateSlow(kColdClass, object, "free");
  }
  ASSERT_TRUE(floors_->cpu_cache.IsCold(kColdClass));
  void* batch[kMaxBatchObjects];
  while (SlabPopBatch(kColdClass, batch, kMaxBatchObjects) != 0) {
  }
  ASSERT_TRUE(SlabPush(kColdClass, objects[0]));
  ASSERT_FALSE(SlabPush(kColdClass, objects[0]));
  EXPECT_DEATH(floors_->cpu_cache.DeallocateCold(kColdClass, objects[0], "free"), "object is already free");
}

TEST_P(ColdClasses, ADrainMakesThemCold) {
  const AttachedThread attached(*floors_);
  MakeHot(kColdClass);
  ASSERT_FALSE(floors_->cpu_cache.IsCold(kColdClass));
  floors_->cpu_cache.DrainAll("malloc_trim");
  EXPECT_EQ(floors_->cpu_cache.IsCold(kColdClass), floors_->cpu_cache.can_drain_remotely());
  ExpectNothingLost(*floors_, tally_);
}

TEST_P(ColdClasses, WhatIsUsedSeldomCools) {
  if (!floors_->cpu_cache.can_drain_remotely()) GTEST_SKIP() << "only its owner may empty a slab";
  const AttachedThread attached(*floors_);
  constexpr SizeClass kMuch = 9;
  for (const SizeClass size_class : {kColdClass, kMuch}) {
    MakeHot(size_class);
    Use(size_class, 100);
  }
  const auto capacity = [&](SizeClass size_class) {
    const Slab* const slab = floors_->Slabs().at(0);
    return slab->headers[size_class].end - slab->headers[size_class].begin;
  };
  EXPECT_NE(capacity(kColdClass), 0);
  for (int look = 0; look < CpuCache::kIdleLooks + 1; ++look) {
    Use(kColdClass, CpuCache::kColdUses - 2);
    Use(kMuch, CpuCache::kColdUses + 2);
    floors_->cpu_cache.DrainIdle("scavenger");
  }
  EXPECT_TRUE(floors_->cpu_cache.IsCold(kColdClass));
  EXPECT_EQ(capacity(kColdClass), 0);
  EXPECT_FALSE(floors_->cpu_cache.IsCold(kMuch));
  EXPECT_NE(capacity(kMuch), 0);
  // As often between two looks, it stays so.
  for (int look = 0; look < 4; ++look) {
    Use(kColdClass, CpuCache::kColdUses - 2);
    EXPECT_TRUE(floors_->cpu_cache.IsCold(kColdClass));
    floors_->cpu_cache.DrainIdle("scavenger");
  }
  ExpectAtRest(*floors_, tally_);
}

TEST_P(ColdClasses, WhatAThreadNeededOnceGoes) {
  if (GetParam() != CacheMode::kThread) GTEST_SKIP() << "slabs of CPUs need none";
  const AttachedThread attached(*floors_);
  ASSERT_TRUE(floors_->cpu_cache.FillSlab(kColdClass));
  void* const object = SlabPop(kColdClass);
  ASSERT_NE(object, nullptr);
  floors_->cpu_cache.UnfillSlab(kColdClass);
  EXPECT_FALSE(SlabPush(kColdClass, object));
  EXPECT_EQ(floors_->cpu_cache.ClassStats(kColdClass).cached_objects, 0u);
  EXPECT_EQ(floors_->Slabs().at(0)->policy.spare_bytes.load(),
            static_cast<std::int64_t>(floors_->cpu_cache.budget_bytes()));
}

TARN_IN_BOTH_MODES(ColdClasses);

}  // namespace
}  // namespace tarn
