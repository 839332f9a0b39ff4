// SPDX-License-Identifier: Apache-2.0
//
// The five operations on the current slab, one thread, against a stack.

#include "allocator/cpu_cache/slab_ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "tests/cpu_cache/floors.h"
#include "tests/os/cpu_set.h"

namespace tarn {
namespace {

using tarn_test::AttachedThread;
using tarn_test::Floors;
using tarn_test::OnOneCpu;
using tarn_test::StartFloors;

constexpr SizeClass kClass = 5;

class SlabOps : public tarn_test::BothModes {
 protected:
  // A populated slab whose class has so much capacity, and nothing in it.
  Slab* SlabWithCapacity(std::size_t capacity) {
    void* object = floors_->cpu_cache.AllocateSlow(kClass);
    EXPECT_NE(object, nullptr);
    const std::vector<Slab*> slabs = floors_->Slabs();
    EXPECT_EQ(slabs.size(), 1u);
    Slab* slab = slabs.front();
    void* batch[kMaxBatchObjects];
    while (SlabPopBatch(kClass, batch, kMaxBatchObjects) != 0) {
    }
    SlabHeader& header = slab->headers[kClass];
    EXPECT_LE(header.begin + capacity, header.limit);
    EXPECT_TRUE(SlabSetEnd(kClass, slab, header.end, static_cast<std::uint16_t>(header.begin + capacity)));
    return slab;
  }
  static void* Fake(std::size_t number) { return reinterpret_cast<void*>(0x1000 + number * 16); }
  static std::size_t Pops(const Slab* slab) { return slab->headers[kClass].word >> kSlabPopsShift; }

  void SetUp() override {
    BothModes::SetUp();
    if (IsSkipped()) return;
    floors_ = &StartFloors(GetParam(), tarn_test::kDefaultBudgetBytes, tarn_test::RseqByCpuNumber());
    if (floors_->cpu_cache.NeedsAttach()) floors_->cpu_cache.AttachThread();
  }

  // A thread on one CPU keeps its slab, if slabs are indexed by the CPU's number.
  OnOneCpu one_cpu_;
  Floors* floors_ = nullptr;
};

TEST_P(SlabOps, WithoutASlabAllOfThemMiss) {
  // In the thread mode an attached thread has one, so it gets the empty slab as at the thread's exit.
  const std::int32_t id = thread_state.slab_index;
  if (GetParam() == CacheMode::kThread) thread_state.slab_index = -1;
  for (int c = 0; c < kSizeClassCount; ++c) {
    const auto size_class = static_cast<SizeClass>(c);
    void* objects[4] = {Fake(0), Fake(1), Fake(2), Fake(3)};
    EXPECT_EQ(SlabPop(size_class), nullptr);
    EXPECT_FALSE(SlabPush(size_class, Fake(1)));
    EXPECT_EQ(SlabPopBatch(size_class, objects, 4), 0u);
    EXPECT_EQ(SlabPushBatch(size_class, objects, 4), 0u);
    EXPECT_FALSE(SlabSetEnd(size_class, reinterpret_cast<Slab*>(0x1000), 0, 0));
  }
  if (GetParam() == CacheMode::kThread) {
    // An area whose registration failed, too.
    thread_state.slab_index = -2;
    EXPECT_EQ(SlabPop(kClass), nullptr);
    EXPECT_FALSE(SlabPush(kClass, Fake(1)));
    thread_state.slab_index = id;
  }
}

TEST_P(SlabOps, ClassZeroHasNoRoomInAnySlab) {
  SlabWithCapacity(4);
  EXPECT_EQ(SlabPop(0), nullptr);
  EXPECT_FALSE(SlabPush(0, Fake(1)));
}

TEST_P(SlabOps, APushedObjectIsPoppedUntilTheSlabIsEmpty) {
  Slab* slab = SlabWithCapacity(3);
  const std::size_t pops = Pops(slab);
  EXPECT_EQ(SlabPop(kClass), nullptr);
  EXPECT_TRUE(SlabPush(kClass, Fake(1)));
  EXPECT_TRUE(SlabPush(kClass, Fake(2)));
  EXPECT_TRUE(SlabPush(kClass, Fake(3)));
  EXPECT_FALSE(SlabPush(kClass, Fake(4)));
  EXPECT_EQ(SlabPop(kClass), Fake(3));
  EXPECT_EQ(SlabPop(kClass), Fake(2));
  EXPECT_TRUE(SlabPush(kClass, Fake(5)));
  EXPECT_EQ(SlabPop(kClass), Fake(5));
  EXPECT_EQ(SlabPop(kClass), Fake(1));
  EXPECT_EQ(SlabPop(kClass), nullptr);
  // A miss counts nothing.
  EXPECT_EQ(Pops(slab), pops + 4);
}

TEST_P(SlabOps, WhatIsOnTopIsNotPushedAgain) {
  Slab* slab = SlabWithCapacity(8);
  const std::uint64_t word = slab->headers[kClass].word;
  EXPECT_TRUE(SlabPush(kClass, Fake(1)));
  EXPECT_FALSE(SlabPush(kClass, Fake(1)));
  EXPECT_TRUE(SlabPush(kClass, Fake(2)));
  EXPECT_FALSE(SlabPush(kClass, Fake(2)));
  EXPECT_EQ(slab->headers[kClass].word, word + 2) << "a miss changes nothing";
  // An object that was popped may come back, also where its slot still has it.
  EXPECT_EQ(SlabPop(kClass), Fake(2));
  EXPECT_TRUE(SlabPush(kClass, Fake(2)));
  EXPECT_EQ(SlabPop(kClass), Fake(2));
  EXPECT_EQ(SlabPop(kClass), Fake(1));
  EXPECT_TRUE(SlabPush(kClass, Fake(1)));
}

// The slot below an empty stack is another class's, with the address that the object's page had objects of then.
TEST_P(SlabOps, AMatchBelowAnEmptyStackIsNoSecondFree) {
  void* const object = floors_->cpu_cache.AllocateSlow(kClass);
  Slab* slab = SlabWithCapacity(8);
  slab->slots()[slab->headers[kClass].begin - 1] = object;
  EXPECT_FALSE(SlabPush(kClass, object));
  floors_->cpu_cache.DeallocateSlow(kClass, object, "free");
  EXPECT_EQ(SlabPop(kClass), nullptr);
}

TEST_P(SlabOps, ASecondFreeAtOnceIsReported) {
  SlabWithCapacity(8);
  void* const object = floors_->cpu_cache.AllocateSlow(kClass);
  void* const other = floors_->cpu_cache.AllocateSlow(kClass);
  floors_->cpu_cache.DeallocateSlow(kClass, other, "free");
  floors_->cpu_cache.DeallocateSlow(kClass, object, "free");
  ASSERT_FALSE(SlabPush(kClass, object));
  EXPECT_DEATH(floors_->cpu_cache.DeallocateSlow(kClass, object, "operator delete"),
               "fatal: operator delete\\(0x[0-9a-f]+\\): object is already free");
}

TEST_P(SlabOps, ADueSampleMakesThePopMiss) {
  Slab* slab = SlabWithCapacity(8);
  SlabHeader& header = slab->headers[kClass];
  for (std::size_t i = 0; i < 5; ++i) ASSERT_TRUE(SlabPush(kClass, Fake(i)));
  // Two pops from now.
  header.sample_due = (Pops(slab) + 2) << kSlabPopsShift;
  EXPECT_EQ(SlabPop(kClass), Fake(4));
  EXPECT_EQ(SlabPop(kClass), Fake(3));
  EXPECT_EQ(SlabPop(kClass), nullptr);
  EXPECT_TRUE(SlabPush(kClass, Fake(9)));
  EXPECT_EQ(SlabPop(kClass), nullptr);
  header.sample_due = kNeverSample;
  EXPECT_EQ(SlabPop(kClass), Fake(9));
}

TEST_P(SlabOps, TheEndIsChangedOnlyAsExpected) {
  Slab* slab = SlabWithCapacity(4);
  SlabHeader& header = slab->headers[kClass];
  const std::uint16_t end = header.end;
  const auto end_plus = [end](int by) { return static_cast<std::uint16_t>(end + by); };
  for (std::size_t i = 0; i < 3; ++i) ASSERT_TRUE(SlabPush(kClass, Fake(i)));
  EXPECT_FALSE(SlabSetEnd(kClass, EmptySlab(), end, end_plus(1))) << "another slab";
  EXPECT_FALSE(SlabSetEnd(kClass, slab, end_plus(1), end_plus(2))) << "another end than that";
  EXPECT_FALSE(SlabSetEnd(kClass, slab, end, end_plus(-2))) << "an object lies above the new end";
  EXPECT_EQ(header.end, end);
  EXPECT_TRUE(SlabSetEnd(kClass, slab, end, end_plus(-1)));
  EXPECT_FALSE(SlabPush(kClass, Fake(3)));
  EXPECT_TRUE(SlabSetEnd(kClass, slab, end_plus(-1), end_plus(2)));
  EXPECT_EQ(header.end, end + 2);
  for (std::size_t i = 3; i < 6; ++i) EXPECT_TRUE(SlabPush(kClass, Fake(i)));
  EXPECT_FALSE(SlabPush(kClass, Fake(6)));
  for (std::size_t i = 6; i-- > 0;) EXPECT_EQ(SlabPop(kClass), Fake(i));
}

TEST_P(SlabOps, RandomOperationsMatchAStack) {
  std::mt19937_64 random(11);
  constexpr std::size_t kCapacity = 60;
  Slab* slab = SlabWithCapacity(kCapacity);
  SlabHeader& header = slab->headers[kClass];
  std::size_t capacity = kCapacity;
  std::vector<void*> stack;
  std::size_t pops = Pops(slab);
  std::size_t next = 0;
  for (int step = 0; step < 100000; ++step) {
    void* batch[kMaxBatchObjects];
    const std::size_t count = 1 + random() % kMaxBatchObjects;
    switch (random() % 5) {
      case 0: {
        void* object = SlabPop(kClass);
        ASSERT_EQ(object, stack.empty() ? nullptr : stack.back());
        if (object == nullptr) break;
        stack.pop_back();
        ++pops;
        break;
      }
      case 1:
        ASSERT_EQ(SlabPush(kClass, Fake(++next)), stack.size() < capacity);
        if (stack.size() < capacity) stack.push_back(Fake(next));
        break;
      case 2: {
        // Those of the batch come in the order in which they lie, the top last.
        const std::size_t taken = SlabPopBatch(kClass, batch, count);
        ASSERT_EQ(taken, std::min(count, stack.size()));
        ASSERT_TRUE(std::equal(batch, batch + taken, stack.end() - static_cast<std::ptrdiff_t>(taken)));
        stack.resize(stack.size() - taken);
        pops += taken;
        break;
      }
      case 3: {
        for (std::size_t i = 0; i < count; ++i) batch[i] = Fake(++next);
        const std::size_t pushed = SlabPushBatch(kClass, batch, count);
        ASSERT_EQ(pushed, std::min(count, capacity - stack.size()));
        stack.insert(stack.end(), batch, batch + pushed);
        break;
      }
      default: {
        const std::size_t new_capacity = random() % (kCapacity + 1);
        const bool fits = stack.size() <= new_capacity;
        ASSERT_EQ(SlabSetEnd(kClass, slab, header.end, static_cast<std::uint16_t>(header.begin + new_capacity)), fits);
        if (fits) capacity = new_capacity;
      }
    }
    ASSERT_EQ(header.word & kSlabTopMask, header.begin + stack.size());
    ASSERT_EQ(Pops(slab), pops);
  }
  // The neighbours in the table of headers were not touched.
  for (const int c : {kClass - 1, kClass + 1}) EXPECT_EQ(slab->headers[c].word, slab->headers[c].begin);
}

TARN_IN_BOTH_MODES(SlabOps);

}  // namespace
}  // namespace tarn
