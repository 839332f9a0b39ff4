// SPDX-License-Identifier: Apache-2.0
//
// Fixed pools: the maximum, exact misuse, threads, and what is said of a pool that dies full.
#include <gtest/gtest.h>
#include <tarn/fixed_pool.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <list>
#include <set>
#include <thread>
#include <vector>

#include "tests/os/cpu_set.h"
#include "tests/os/in_child.h"
#include "tests/os/single_step.h"

namespace {

TEST(FixedPool, TheGoArticlesProgram) {
  tarn::FixedPool pool(64, 1000);
  std::vector<void*> blocks;
  int refused = 0;
  for (int i = 0; i < 10000; ++i) {
    void* block = pool.Allocate();
    if (block == nullptr) {
      ++refused;
    } else {
      blocks.push_back(block);
    }
  }
  EXPECT_EQ(refused, 9000);
  EXPECT_EQ(std::set<void*>(blocks.begin(), blocks.end()).size(), 1000u);
  for (std::size_t i = 0; i < 500; ++i) pool.Free(blocks[i]);
  const tarn_fixed_pool_stats stats = pool.Stats();
  EXPECT_EQ(stats.allocated, 500u);
  EXPECT_EQ(stats.free, 500u);
  EXPECT_EQ(stats.total, 1000u);
}

TEST(FixedPool, BlocksAreAlignedAndApart) {
  for (const std::size_t bytes : {1u, 7u, 8u, 24u, 100u, 4096u, 5000u}) {
    for (const std::size_t alignment : {0u, 8u, 64u, 8192u, 65536u}) {
      tarn::FixedPool pool(tarn::FixedPoolOptions{bytes, 70, alignment, nullptr, 0});
      std::set<std::uintptr_t> starts;
      while (void* block = pool.Allocate()) {
        std::memset(block, 1, bytes);
        starts.insert(reinterpret_cast<std::uintptr_t>(block));
      }
      ASSERT_EQ(starts.size(), 70u);
      std::uintptr_t end = 0;
      for (const std::uintptr_t start : starts) {
        ASSERT_GE(start, end);
        ASSERT_EQ(start % (alignment != 0 ? alignment : 8), 0u);
        end = start + bytes;
      }
      for (const std::uintptr_t start : starts) pool.Free(reinterpret_cast<void*>(start));
      ASSERT_EQ(pool.Stats().free, 70u);
    }
  }
}

TEST(FixedPool, SizesOutOfRangeAreRefused) {
  EXPECT_THROW(tarn::FixedPool(0, 10), std::invalid_argument);
  EXPECT_THROW(tarn::FixedPool(10, 0), std::invalid_argument);
  EXPECT_THROW(tarn::FixedPool(SIZE_MAX, 10), std::invalid_argument);
  EXPECT_THROW(tarn::FixedPool(std::size_t{1} << 30, std::size_t{1} << 32), std::invalid_argument);
  EXPECT_THROW(tarn::FixedPool(tarn::FixedPoolOptions{8, 8, 24, nullptr, 0}), std::invalid_argument);
}

TEST(FixedPool, ManyBlocksAreAllFound) {
  constexpr std::size_t kBlocks = 100000;
  tarn::FixedPool pool(8, kBlocks);
  std::vector<void*> blocks;
  while (void* block = pool.Allocate()) blocks.push_back(block);
  ASSERT_EQ(blocks.size(), kBlocks);
  // Free ones far apart are found again.
  for (std::size_t i = 0; i < kBlocks; i += 9973) pool.Free(blocks[i]);
  std::size_t again = 0;
  while (pool.Allocate() != nullptr) ++again;
  EXPECT_EQ(again, (kBlocks + 9972) / 9973);
}

#if defined(TARN_TEST_CAN_STEP)
// A pool without a free block, whose searches have found that. Words of 64 blocks.
class EmptiedPool {
 public:
  explicit EmptiedPool(std::size_t words) : pool_(8, words * 64), blocks_(words * 64) {
    for (void*& block : blocks_) block = pool_.Allocate();
    EXPECT_EQ(pool_.Allocate(), nullptr);
    std::sort(blocks_.begin(), blocks_.end());
  }

  void* Block(std::size_t word, std::size_t bit) const { return blocks_[word * 64 + bit]; }
  tarn::FixedPool* operator->() { return &pool_; }
  // The CPU goes on at this word, which has no block left, and of which the summary still says that it may have.
  void GoTo(std::size_t word) {
    pool_.Free(Block(word, 0));
    EXPECT_EQ(pool_.Allocate(), Block(word, 0));
  }

 private:
  tarn::FixedPool pool_;
  std::vector<void*> blocks_;
};

// Free sets a block's bit before the summary says so. In between, on another CPU or in a signal handler, the block is
// free and a search by the summary does not find it.
TEST(FixedPool, ABlockIsFoundAtEachInstructionOfItsFree) {
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer's own code would be stepped through";
  EmptiedPool pool(4);
  pool.GoTo(3);
  bool was_free = false;
  bool was_missed = false;
  int steps = 0;
  // One more instruction of the call each time, until it is over.
  for (int stop = 1; steps == stop - 1; ++stop) {
    void* found = nullptr;
    steps = tarn_test::SingleStep::Run([&] { pool->Free(pool.Block(0, 5)); },
                                       [&](int step) {
                                         if (step != stop) return true;
                                         const bool is_free = pool->Stats().free != 0;
                                         found = pool->Allocate();
                                         was_free = was_free || (is_free && found != nullptr);
                                         was_missed = was_missed || (is_free && found == nullptr);
                                         return false;
                                       });
    if (found == nullptr) found = pool->Allocate();
    ASSERT_EQ(found, pool.Block(0, 5));
    // A search that finds nothing clears the summary.
    ASSERT_EQ(pool->Allocate(), nullptr);
    pool.GoTo(3);
  }
  EXPECT_TRUE(was_free);
  EXPECT_FALSE(was_missed);
}

// A search that finds a word empty takes it out of the summary. Where blocks came in between, it puts the word back:
// else each later search would have to go through all words. That is seen by the number of its instructions.
TEST(FixedPool, AWordThatGetsBlocksAsItIsForgottenStaysInTheSummary) {
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer's own code would be stepped through";
  constexpr std::size_t kWords = 1400;
  constexpr std::size_t kWord = 640;
  EmptiedPool pool(kWords);
  // Where searches begin depends on the CPU. On another one they are interrupted elsewhere, and none fails for it.
  const tarn_test::OnOneCpu on_one_cpu;
  const auto search = [&](void** found) {
    pool.GoTo(kWord - 200);
    return tarn_test::SingleStep::Run([&] { *found = pool->Allocate(); }, [](int) { return true; });
  };
  // The instructions of a search that goes by the summary, and of one that goes through all words.
  void* found = nullptr;
  const int long_search = search(&found);
  ASSERT_EQ(found, nullptr);
  pool->Free(pool.Block(kWord, 0));
  const int short_search = search(&found);
  ASSERT_EQ(found, pool.Block(kWord, 0));
  ASSERT_EQ(pool->Allocate(), nullptr);
  ASSERT_GT(long_search, 8 * short_search);
  // The word is found empty, and forgotten, some instructions before a search would have returned.
  for (int stop = short_search - 120; stop <= short_search + 20; ++stop) {
    pool.GoTo(kWord);
    pool.GoTo(kWord + 1);
    void* taken[2] = {};
    tarn_test::SingleStep::Run([&] { taken[0] = pool->Allocate(); },
                               [&](int step) {
                                 if (step != stop) return true;
                                 pool->Free(pool.Block(kWord, 1));
                                 pool->Free(pool.Block(kWord, 2));
                                 return false;
                               });
    EXPECT_LT(search(&taken[1]), long_search / 4) << "interrupted at instruction " << stop << " of " << short_search;
    for (void*& block : taken) {
      if (block == nullptr) block = pool->Allocate();
      ASSERT_NE(block, nullptr);
    }
    ASSERT_EQ(pool->Allocate(), nullptr);
  }
}
#endif

TEST(FixedPoolDeath, MisuseIsSeenAtTheCall) {
  tarn::FixedPool pool(24, 100);
  tarn::FixedPool other(24, 100);
  auto* block = static_cast<char*>(pool.Allocate());
  int local = 0;
  EXPECT_DEATH(pool.Free(&local), "tarn: fatal: tarn_fixed_pool_free\\(0x.*\\): object does not belong to this pool");
  EXPECT_DEATH(other.Free(block), "object does not belong to this pool");
  EXPECT_DEATH(pool.Free(block + 8),
               "pointer is inside an object, not at its start: the object of .* bytes starts at 0x");
  pool.Free(block);
  EXPECT_DEATH(pool.Free(block), "object is already free");
  EXPECT_DEATH(pool.Free(block + 32), "object is already free");
  pool.Free(nullptr);
}

TEST(FixedPoolDeath, ACheckedPoolTellsOfBlocksThatAreLeft) {
  EXPECT_EXIT(
      {
        {
          tarn::FixedPool pool(tarn::FixedPoolOptions{24, 100, 0, "left over", 1});
          static_cast<void>(pool.Allocate());
        }
        std::_Exit(0);
      },
      testing::ExitedWithCode(0), "tarn: fixed pool left over destroyed with 1 of 100 blocks allocated");
}

TEST(FixedPool, ThreadsNeverShareABlock) {
  constexpr std::size_t kBlocks = 200;
  tarn::FixedPool pool(16, kBlocks);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (std::uintptr_t t = 1; t <= 4; ++t) {
    threads.emplace_back([&, t] {
      std::vector<std::uintptr_t*> mine;
      std::uintptr_t random = t;
      for (int i = 0; i < 200000; ++i) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        if ((random >> 60) < 9) {
          auto* block = static_cast<std::uintptr_t*>(pool.Allocate());
          if (block == nullptr) continue;
          *block = t;
          mine.push_back(block);
        } else if (!mine.empty()) {
          if (*mine.back() != t) ++wrong;
          pool.Free(mine.back());
          mine.pop_back();
        }
      }
      for (auto* block : mine) {
        if (*block != t) ++wrong;
        pool.Free(block);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(pool.Stats().free, kBlocks);
  for (std::size_t i = 0; i < kBlocks; ++i) ASSERT_NE(pool.Allocate(), nullptr);
  EXPECT_EQ(pool.Allocate(), nullptr);
}

#if TARN_POISON_MEMORY
TEST(FixedPoolDeath, TheSanitizerSeesUseAfterFree) {
  tarn::FixedPool pool(64, 10);
  auto* block = static_cast<volatile char*>(pool.Allocate());
  *block = 1;
  pool.Free(const_cast<char*>(block));
  EXPECT_DEATH(*block = 2, "use-after-poison");
}
#endif

TEST(FixedPool, ServesAPmrList) {
  tarn::FixedPool pool(64, 10);
  std::pmr::list<int> list(&pool);
  for (int i = 0; i < 10; ++i) list.push_back(i);
  EXPECT_THROW(list.push_back(11), std::bad_alloc);
  list.pop_front();
  list.push_back(12);
  EXPECT_EQ(list.back(), 12);
}

}  // namespace
