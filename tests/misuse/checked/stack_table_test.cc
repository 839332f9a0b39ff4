// SPDX-License-Identifier: Apache-2.0
//
// The table of stacks, and the memo of walks.
#include "allocator/misuse/stack_table.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <set>
#include <thread>
#include <vector>

#include "allocator/misuse/stack_memo.h"

namespace tarn {
namespace {

class Zeroes {
 public:
  explicit Zeroes(std::size_t bytes) : memory_(calloc(1, bytes)) {}
  ~Zeroes() { free(memory_); }
  void* get() const { return memory_; }

 private:
  void* memory_;
};

TEST(StackTable, KeepsEachStackOnce) {
  Zeroes memory(StackTable::kBytes);
  StackTable table;
  const std::uintptr_t frames[] = {1, 2, 3, 4};
  EXPECT_EQ(table.Keep(frames, 4), 0u) << "without memory";
  table.Init(memory.get(), StackTable::kBytes);
  EXPECT_EQ(table.Keep(frames, 0), 0u);
  const std::uint32_t a = table.Keep(frames, 4);
  const std::uint32_t b = table.Keep(frames, 3);
  ASSERT_NE(a, 0u);
  ASSERT_NE(b, 0u);
  EXPECT_NE(a, b);
  EXPECT_EQ(table.Keep(frames, 4), a);
  EXPECT_EQ(table.Keep(frames, 3), b);
  const StackTable::Stack found = table.Find(a);
  ASSERT_EQ(found.count, 4u);
  EXPECT_EQ(std::vector<std::uintptr_t>(found.frames, found.frames + 4), std::vector<std::uintptr_t>({1, 2, 3, 4}));
  EXPECT_EQ(table.Find(0).count, 0u);
}

TEST(StackTable, CutsLongStacks) {
  Zeroes memory(StackTable::kBytes);
  StackTable table;
  table.Init(memory.get(), StackTable::kBytes);
  std::uintptr_t frames[StackTable::kMaxFrames + 5] = {1, 2, 3};
  EXPECT_EQ(table.Find(table.Keep(frames, StackTable::kMaxFrames + 5)).count, StackTable::kMaxFrames);
}

TEST(StackTable, SaysWhatFoundNoRoom) {
  constexpr std::size_t kBytes = StackTable::kHeadBytes + 4096;
  Zeroes memory(kBytes);
  StackTable table;
  table.Init(memory.get(), kBytes);
  std::vector<std::uint32_t> numbers;
  std::uintptr_t i = 1;
  for (; table.dropped() == 0; ++i) {
    numbers.push_back(table.Keep(&i, 1));
    ASSERT_LT(i, 4096u);
  }
  EXPECT_EQ(numbers.back(), 0u);
  numbers.pop_back();
  // Kept ones are found, and nothing else is kept.
  for (std::uintptr_t frame = 1; frame <= numbers.size(); ++frame) EXPECT_EQ(table.Keep(&frame, 1), numbers[frame - 1]);
  EXPECT_EQ(table.Keep(&i, 1), 0u);
  EXPECT_EQ(std::set<std::uint32_t>(numbers.begin(), numbers.end()).size(), numbers.size());
}

TEST(StackTable, ServesThreads) {
  Zeroes memory(StackTable::kBytes);
  StackTable table;
  table.Init(memory.get(), StackTable::kBytes);
  constexpr std::uintptr_t kStacks = 2000;
  constexpr std::size_t kThreads = 4;
  std::vector<std::thread> threads;
  std::vector<std::vector<std::uint32_t>> numbers(kThreads);
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (std::uintptr_t i = 1; i <= kStacks; ++i) {
        const std::uintptr_t frames[] = {i, i * 7, i * 31};
        numbers[t].push_back(table.Keep(frames, 3));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& of_thread : numbers) {
    for (std::uintptr_t i = 1; i <= kStacks; ++i) {
      const StackTable::Stack stack = table.Find(of_thread[i - 1]);
      ASSERT_EQ(stack.count, 3u);
      ASSERT_EQ(stack.frames[0], i);
      ASSERT_EQ(stack.frames[2], i * 31);
    }
  }
  EXPECT_EQ(table.dropped(), 0u);
}

class StackMemoTest : public ::testing::Test {
 protected:
  StackMemoTest() {
    table_.Init(table_memory_.get(), StackTable::kBytes);
    memo_.Init(memo_memory_.get(), &table_, 12);
  }

  // At a depth of its own each.
  __attribute__((noinline)) std::uint32_t Below(int depth) {
    volatile int here = depth;
    const std::uint32_t stack = depth == 0 ? memo_.Capture() : Below(depth - 1);
    return here == depth ? stack : 0;
  }
  __attribute__((noinline)) std::uint32_t One() {
    const std::uint32_t stack = Below(3);
    asm volatile("");
    return stack;
  }
  __attribute__((noinline)) std::uint32_t Other() {
    const std::uint32_t stack = Below(3);
    asm volatile("nop");
    return stack;
  }

  Zeroes table_memory_ = Zeroes(StackTable::kBytes);
  Zeroes memo_memory_ = Zeroes(StackMemo::kBytes);
  StackTable table_;
  StackMemo memo_;
};

TEST_F(StackMemoTest, FindsTheSameStackAgain) {
  std::set<std::uint32_t> stacks;
  for (int i = 0; i < 100; ++i) stacks.insert(One());
  EXPECT_EQ(stacks.size(), 1u);
  EXPECT_EQ(stacks.count(0), 0u);
}

TEST_F(StackMemoTest, TellsStacksApart) {
  // The same depth and the same innermost frames, from two callers in turn.
  std::set<std::uint32_t> ones;
  std::set<std::uint32_t> others;
  for (int i = 0; i < 100; ++i) {
    ones.insert(One());
    others.insert(Other());
  }
  ASSERT_EQ(ones.size(), 1u);
  ASSERT_EQ(others.size(), 1u);
  EXPECT_NE(*ones.begin(), *others.begin());
}

TEST_F(StackMemoTest, KeepsWhatAWalkFinds) {
  for (int round = 0; round < 3; ++round) {
    for (int depth = 0; depth < 8; ++depth) {
      const StackTable::Stack stack = table_.Find(Below(depth));
      ASSERT_GE(stack.count, static_cast<std::size_t>(depth) + 1);
      ASSERT_LE(stack.count, 12u);
      // The call within the recursion stands there once for each level.
      std::ptrdiff_t most = 0;
      for (std::size_t i = 0; i < stack.count; ++i) {
        most = std::max(most, std::count(stack.frames, stack.frames + stack.count, stack.frames[i]));
      }
      EXPECT_EQ(most, std::max(1, depth)) << depth;
    }
  }
}

TEST_F(StackMemoTest, ServesThreads) {
  std::vector<std::thread> threads;
  std::vector<std::set<std::uint32_t>> stacks(4);
  for (auto& of_thread : stacks) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) of_thread.insert(One());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& of_thread : stacks) EXPECT_EQ(of_thread.size(), 1u);
}

}  // namespace
}  // namespace tarn
