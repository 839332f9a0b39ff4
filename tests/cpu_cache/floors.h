// SPDX-License-Identifier: Apache-2.0
//
// All floors up to the CPU cache, put together by hand in one of the two modes, and what a program does with them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "allocator/central/transfer_cache.h"
#include "allocator/cpu_cache/cpu_cache.h"
#include "allocator/cpu_cache/slab.h"
#include "allocator/os/thread_state.h"
#include "allocator/pages/page_heap.h"
#include "allocator/rseq/registration.h"
#include "tests/central/stamped_object.h"

namespace tarn_test {

using tarn::CacheMode;
using tarn::kSizeClassCount;
using tarn::SizeClass;

// Asked for once, for a registration of our own cannot be made twice.
inline const tarn::RseqSupport& ProcessRseq() {
  static const tarn::RseqSupport support = tarn::DetectRseq(false);
  return support;
}

// The same, with the CPU's number as the index also where there is mm_cid. A thread that stays on its CPU then keeps
// its slab; its mm_cid may change at any switch, when another thread of the process ends.
inline tarn::RseqSupport RseqByCpuNumber() {
  tarn::RseqSupport support = ProcessRseq();
  if (support.index != tarn::RseqIndex::kMmCid) return support;
  support.index = tarn::RseqIndex::kCpuId;
  support.offsets.id += static_cast<std::ptrdiff_t>(offsetof(tarn::RseqArea, cpu_id)) -
                        static_cast<std::ptrdiff_t>(offsetof(tarn::RseqArea, mm_cid));
  return support;
}

struct Floors {
  tarn::PageHeap page_heap;
  tarn::TransferCache transfer_caches[kSizeClassCount];
  tarn::CpuCache cpu_cache;
  // Classes are cold at first, as in a program. Most tests are about what caches do.
  bool classes_are_cold = false;

  // The hit paths and what they fall back to, as entry/ has it. Not inline: the linker may drop an inline function that
  // is there twice, but not the descriptors of the sequences in it.
  void* Allocate(SizeClass size_class);
  void Free(SizeClass size_class, void* object);

  // Every populated slab. Only while no drain is under way.
  std::vector<tarn::Slab*> Slabs() const {
    std::vector<tarn::Slab*> slabs;
    for (const auto& entry : tarn::slab_table.slabs) {
      tarn::Slab* slab = entry.load(std::memory_order_acquire);
      if (slab != nullptr && !tarn::IsEmptySlab(slab)) slabs.push_back(slab);
    }
    return slabs;
  }
};

constexpr std::size_t kDefaultBudgetBytes = std::size_t{1536} << 10;

// True where this machine has the mode.
inline bool HasMode(CacheMode mode) {
  return mode == CacheMode::kThread || ProcessRseq().index != tarn::RseqIndex::kNone;
}

// New floors, in place of those of the test before. No other thread may be left that uses those; and they are never
// given back, because spans and slabs stay where they are.
inline Floors& StartFloors(CacheMode mode, std::size_t budget_bytes = kDefaultBudgetBytes,
                           const tarn::RseqSupport& rseq = ProcessRseq()) {
  static std::vector<std::unique_ptr<Floors>> all;
  all.push_back(std::make_unique<Floors>());
  Floors& floors = *all.back();
  for (auto& entry : tarn::slab_table.slabs) entry.store(nullptr, std::memory_order_relaxed);
  for (int c = 1; c < kSizeClassCount; ++c) {
    floors.transfer_caches[c].Init(static_cast<SizeClass>(c), &floors.page_heap);
  }
  // The index that the main thread had in the floors before is over.
  tarn::thread_state.slab_index = -1;
  tarn::thread_state.exiting = false;
  floors.cpu_cache.Init(mode, mode == CacheMode::kThread ? tarn::DetectRseq(true) : rseq, budget_bytes,
                        floors.transfer_caches, &floors.page_heap);
  return floors;
}

// A thread's time as a user of the floors.
class AttachedThread {
 public:
  explicit AttachedThread(Floors& floors) : floors_(floors) {
    if (floors.cpu_cache.NeedsAttach()) floors.cpu_cache.AttachThread();
    floors.cpu_cache.SettleThread();
  }
  ~AttachedThread() {
    if (floors_.cpu_cache.mode() == CacheMode::kThread) floors_.cpu_cache.DetachThread();
  }
  AttachedThread(const AttachedThread&) = delete;
  AttachedThread& operator=(const AttachedThread&) = delete;

 private:
  Floors& floors_;
};

// The calls of a program, by class.
struct Tally {
  std::array<std::uint64_t, kSizeClassCount> allocations = {};
  std::array<std::uint64_t, kSizeClassCount> frees = {};

  Tally& operator+=(const Tally& other) {
    for (std::size_t c = 0; c < allocations.size(); ++c) {
      allocations[c] += other.allocations[c];
      frees[c] += other.frees[c];
    }
    return *this;
  }
};

// A program's thread that allocates and frees at random and complains when an object turns out to be another's too.
class Churn {
 public:
  Churn(Floors& floors, std::uint64_t number) : floors_(floors), random_(number), stamp_((number << 32) + 1) {}

  void Step(std::size_t most_objects) {
    if (objects_.size() < most_objects && random_() % 2 == 0) {
      AllocateOne();
    } else if (!objects_.empty()) {
      std::swap(objects_[random_() % objects_.size()], objects_.back());
      FreeLast();
    }
  }
  void AllocateOne() {
    // Mostly small, and all of them at times.
    const auto c = static_cast<SizeClass>(1 + random_() % (random_() % 8 == 0 ? kSizeClassCount - 1 : 30));
    void* object = floors_.Allocate(c);
    ASSERT_NE(object, nullptr);
    ++tally_.allocations[c];
    ++stamp_;
    StampObject(object, c, stamp_);
    objects_.push_back({object, stamp_, c});
  }
  void FreeLast() {
    const Owned owned = objects_.back();
    objects_.pop_back();
    ASSERT_TRUE(HasStamp(owned.object, owned.size_class, owned.stamp)) << "another thread has the object too";
    StampObject(owned.object, owned.size_class, 0);
    ++tally_.frees[owned.size_class];
    floors_.Free(owned.size_class, owned.object);
  }
  void FreeAll() {
    while (!objects_.empty()) ASSERT_NO_FATAL_FAILURE(FreeLast());
  }

  std::mt19937_64& random() { return random_; }
  const Tally& tally() const { return tally_; }
  std::size_t live_objects() const { return objects_.size(); }

 private:
  struct Owned {
    void* object;
    std::uint64_t stamp;
    SizeClass size_class;
  };

  Floors& floors_;
  std::mt19937_64 random_;
  std::uint64_t stamp_;
  std::vector<Owned> objects_;
  Tally tally_;
};

// Checks what holds when no thread is at work: of every slab, of every class, and of all floors together.
inline void ExpectAtRest(Floors& floors, const Tally& tally) {
  const auto budget_bytes = static_cast<std::int64_t>(floors.cpu_cache.budget_bytes());
  const std::vector<tarn::Slab*> slabs = floors.Slabs();
  EXPECT_EQ(floors.cpu_cache.populated_slabs(), slabs.size());
  std::array<std::uint64_t, kSizeClassCount> cached = {};
  for (const tarn::Slab* slab : slabs) {
    std::int64_t capacity_bytes = 0;
    // Near slots or far ones; those of two classes never overlap.
    std::vector<std::pair<std::size_t, std::size_t>> slots;
    for (int c = 1; c < kSizeClassCount; ++c) {
      const tarn::SlabHeader& header = slab->headers[c];
      const std::uint64_t top = header.word & tarn::kSlabTopMask;
      EXPECT_LE(header.begin, top) << "class " << c;
      EXPECT_LE(top, header.end) << "class " << c;
      EXPECT_LE(header.end, header.limit) << "class " << c;
      slots.emplace_back(header.begin, header.limit);
      capacity_bytes += std::int64_t{header.end - header.begin} * tarn::kSizeClasses[c].size_bytes;
      cached[static_cast<std::size_t>(c)] += top - header.begin;
    }
    std::ranges::sort(slots);
    EXPECT_GE(slots.front().first, tarn::kFirstSlot);
    for (std::size_t i = 1; i < slots.size(); ++i) EXPECT_GE(slots[i].first, slots[i - 1].second);
    EXPECT_LE(slots.back().second * sizeof(void*), floors.cpu_cache.slab_bytes());
    const std::int64_t spare_bytes = slab->policy.spare_bytes.load();
    EXPECT_GE(spare_bytes, 0);
    EXPECT_EQ(capacity_bytes + spare_bytes, budget_bytes);
  }
  for (int c = 1; c < kSizeClassCount; ++c) {
    const auto size_class = static_cast<SizeClass>(c);
    const tarn::CacheClassStats stats = floors.cpu_cache.ClassStats(size_class);
    EXPECT_EQ(stats.allocations, tally.allocations[size_class]) << "class " << c;
    EXPECT_EQ(stats.frees, tally.frees[size_class]) << "class " << c;
    EXPECT_EQ(stats.cached_objects, cached[size_class]) << "class " << c;
    tarn::TransferCache& transfer = floors.transfer_caches[c];
    EXPECT_EQ(transfer.central().Stats().live_objects,
              stats.allocations - stats.frees + stats.cached_objects + transfer.cached_objects())
        << "class " << c;
    transfer.central().CheckInvariants();
  }
  floors.page_heap.CheckInvariants();
}

// Nothing is with the program and nothing in a cache: so nothing is in a span, unless it got lost.
inline void ExpectNothingLost(Floors& floors, const Tally& tally) {
  ExpectAtRest(floors, tally);
  for (int c = 1; c < kSizeClassCount; ++c) {
    const tarn::CentralFreeListStats stats = floors.transfer_caches[c].central().Stats();
    EXPECT_EQ(stats.live_objects, 0u) << "class " << c;
    EXPECT_EQ(stats.spans, 0u) << "class " << c;
  }
  EXPECT_EQ(floors.page_heap.Stats().in_use_bytes, 0u);
}

// Tests of both modes are suites named Cpu/... and Thread/...
class BothModes : public testing::TestWithParam<CacheMode> {
 protected:
  void SetUp() override {
    if (!HasMode(GetParam())) GTEST_SKIP() << "no such mode here: " << ProcessRseq().reason;
  }
};
#define TARN_IN_BOTH_MODES(suite)                                                    \
  INSTANTIATE_TEST_SUITE_P(Cpu, suite, testing::Values(tarn_test::CacheMode::kCpu)); \
  INSTANTIATE_TEST_SUITE_P(Thread, suite, testing::Values(tarn_test::CacheMode::kThread))

}  // namespace tarn_test
