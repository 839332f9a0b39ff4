// SPDX-License-Identifier: Apache-2.0
//
// The pool of blocks that object pools and heaps are made of: where blocks lie, what goes back when, what is charged,
// and the order in which blocks with destructors are ended. With stacks in front of the regions, and without (checked).

#include "allocator/pools/block_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <set>
#include <vector>

namespace tarn {
namespace {

constexpr const char* kCall = "block_pool_test";

struct Ends {
  void operator()(BlockPool* pool) const {
    pool->BeginDestroy(kCall);
    pool->Destroy(kCall);
  }
};
using OwnedPool = std::unique_ptr<BlockPool, Ends>;

OwnedPool MakePool(std::size_t block_bytes, std::size_t alignment, bool checked, BlockBudget* budget = nullptr) {
  OwnedPool pool(BlockPool::Create(block_bytes, alignment, budget, checked, nullptr));
  EXPECT_NE(pool, nullptr);
  return pool;
}

std::set<void*> Visited(BlockPool* pool) {
  std::set<void*> visited;
  pool->ForEach([&visited](void* block) { EXPECT_TRUE(visited.insert(block).second); });
  return visited;
}

class BlockPoolTest : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Stacks, BlockPoolTest, testing::Values(false), [](const auto&) { return "With"; });
INSTANTIATE_TEST_SUITE_P(Checked, BlockPoolTest, testing::Values(true), [](const auto&) { return "Without"; });

TEST_P(BlockPoolTest, BlocksOfAllSizesAreAlignedAndApart) {
  struct Shape {
    std::size_t bytes, alignment;
  };
  for (const Shape& shape : {Shape{1, 1}, Shape{8, 8}, Shape{24, 8}, Shape{100, 4}, Shape{2047, 1}, Shape{2048, 16},
                             Shape{5000, 1024}, Shape{9000, 8}, Shape{100000, 4096}}) {
    const OwnedPool pool = MakePool(shape.bytes, shape.alignment, GetParam());
    EXPECT_EQ(pool->stride_bytes() % shape.alignment, 0u);
    EXPECT_GE(pool->stride_bytes(), shape.bytes);
    std::vector<char*> blocks;
    for (int i = 0; i < 300; ++i) {
      auto* block = static_cast<char*>(pool->Allocate());
      ASSERT_NE(block, nullptr);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % shape.alignment, 0u);
      std::memset(block, i, shape.bytes);
      blocks.push_back(block);
    }
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      EXPECT_TRUE(std::all_of(blocks[i], blocks[i] + shape.bytes, [i](char c) { return c == static_cast<char>(i); }));
    }
    // Each is found by its address, or this would end with a line.
    for (char* block : blocks) pool->Free(block, kCall);
    EXPECT_EQ(pool->Stats().live_objects, 0u);
    EXPECT_EQ(pool->Stats().allocations, 300u);
    EXPECT_EQ(pool->Stats().frees, 300u);
  }
}

TEST_P(BlockPoolTest, AVisitSeesWhatIsOutAndNothingElse) {
  const OwnedPool pool = MakePool(48, 16, GetParam());
  std::set<void*> live;
  for (int i = 0; i < 1000; ++i) live.insert(pool->Allocate());
  for (int i = 0; i < 400; ++i) {
    void* block = *live.begin();
    live.erase(block);
    pool->Free(block, kCall);
  }
  EXPECT_EQ(Visited(pool.get()), live);
  EXPECT_EQ(pool->Stats().live_objects, live.size());
  pool->FreeAll(kCall);
  EXPECT_TRUE(Visited(pool.get()).empty());
  EXPECT_EQ(pool->Stats().region_bytes, 0u);
  EXPECT_NE(pool->Allocate(), nullptr);
}

TEST(BlockPool, EmptyRegionsGoBackButOne) {
  BlockBudget budget;
  const OwnedPool pool = MakePool(512, 16, true, &budget);
  std::vector<void*> blocks = {pool->Allocate()};
  const std::size_t region_bytes = pool->Stats().region_bytes;
  while (pool->Stats().region_bytes < 4 * region_bytes) blocks.push_back(pool->Allocate());
  EXPECT_EQ(budget.used_bytes, 4 * region_bytes);
  for (void* block : blocks) pool->Free(block, kCall);
  EXPECT_EQ(pool->Stats().region_bytes, region_bytes);
  EXPECT_EQ(budget.used_bytes, region_bytes);
  // The one that was kept serves.
  static_cast<void>(pool->Allocate());
  EXPECT_EQ(pool->Stats().region_bytes, region_bytes);
}

TEST(BlockPool, ABudgetBoundsAllPoolsThatShareIt) {
  BlockBudget budget;
  const OwnedPool first = MakePool(512, 16, true, &budget);
  const OwnedPool second = MakePool(64, 16, true, &budget);
  void* block = first->Allocate();
  ASSERT_NE(block, nullptr);
  budget.limit_bytes = budget.used_bytes;
  EXPECT_EQ(second->Allocate(), nullptr);
  EXPECT_EQ(budget.used_bytes, budget.limit_bytes) << "what was refused is not charged";
  first->FreeAll(kCall);
  EXPECT_EQ(budget.used_bytes, 0u);
  EXPECT_NE(second->Allocate(), nullptr);
}

TEST_P(BlockPoolTest, EachBlockIsEndedOnce) {
  const OwnedPool pool = MakePool(64, 16, GetParam());
  std::vector<void*> blocks;
  for (int i = 0; i < 3000; ++i) blocks.push_back(pool->Allocate());
  pool->Free(blocks.back(), kCall);
  blocks.pop_back();
  const std::set<void*> live(blocks.begin(), blocks.end());
  std::set<void*> ended;
  std::set<void*> later;
  pool->BeginEndOfObjects(kCall);
  while (void* block = pool->NextToEnd()) {
    EXPECT_TRUE(ended.insert(block).second) << "twice";
    EXPECT_EQ(pool->ClaimToEnd(block, kCall), BlockPool::ToEnd::kEnded);
    // As a destructor that ends another object, and one that makes one and ends it.
    void* other = blocks[ended.size() % blocks.size()];
    const BlockPool::ToEnd claim = pool->ClaimToEnd(other, kCall);
    EXPECT_EQ(claim, ended.contains(other) ? BlockPool::ToEnd::kEnded : BlockPool::ToEnd::kClaimed);
    ended.insert(other);
    if (later.size() == 100) continue;
    void* made = pool->Allocate();
    EXPECT_FALSE(live.contains(made)) << "blocks that are ended are not handed out";
    EXPECT_EQ(pool->ClaimToEnd(made, kCall), BlockPool::ToEnd::kOrdinary);
    later.insert(made);
  }
  // Those that were made in between were ended last, as they were not freed.
  std::set<void*> all = live;
  all.insert(later.begin(), later.end());
  EXPECT_EQ(ended, all);
  pool->FinishEndOfObjects();
  EXPECT_EQ(pool->Stats().live_objects, 0u);
  EXPECT_TRUE(Visited(pool.get()).empty());
}

TEST_P(BlockPoolTest, AnEndThatIsBrokenOffLeavesTheRestLive) {
  const OwnedPool pool = MakePool(64, 16, GetParam());
  std::set<void*> live;
  for (int i = 0; i < 500; ++i) live.insert(pool->Allocate());
  pool->BeginEndOfObjects(kCall);
  for (int i = 0; i < 100; ++i) live.erase(pool->NextToEnd());
  pool->FinishEndOfObjects();
  EXPECT_EQ(live.size(), 400u);
  EXPECT_EQ(Visited(pool.get()), live);
  for (void* block : live) pool->Free(block, kCall);
  EXPECT_EQ(pool->Stats().live_objects, 0u);
}

}  // namespace
}  // namespace tarn
