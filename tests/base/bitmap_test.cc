// SPDX-License-Identifier: Apache-2.0
//
// Bitmap against an array of bools that does everything bit by bit.

#include "allocator/base/bitmap.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <random>
#include <vector>

namespace tarn {
namespace {

constexpr std::size_t kBits = 256;
using Bits = Bitmap<kBits>;

class Oracle {
 public:
  void Fill(std::size_t first, std::size_t count, bool value) {
    for (std::size_t i = first; i < first + count; ++i) bits_[i] = value;
  }
  bool Test(std::size_t bit) const { return bits_[bit]; }
  std::size_t Count(std::size_t first, std::size_t count) const {
    std::size_t set = 0;
    for (std::size_t i = first; i < first + count; ++i) set += bits_[i] ? 1 : 0;
    return set;
  }
  std::size_t Find(std::size_t from, bool value) const {
    while (from < kBits && bits_[from] != value) ++from;
    return from < kBits ? from : kBits;
  }
  std::size_t LongestRun() const {
    std::size_t longest = 0;
    std::size_t length = 0;
    for (const bool bit : bits_) {
      length = bit ? length + 1 : 0;
      longest = std::max(longest, length);
    }
    return longest;
  }

 private:
  std::vector<bool> bits_ = std::vector<bool>(kBits);
};

void ExpectEqual(const Bits& bits, const Oracle& oracle) {
  for (std::size_t i = 0; i < kBits; ++i) {
    ASSERT_EQ(bits.Test(i), oracle.Test(i)) << "bit " << i;
    ASSERT_EQ(bits.FindSet(i), oracle.Find(i, true)) << "from " << i;
    ASSERT_EQ(bits.FindClear(i), oracle.Find(i, false)) << "from " << i;
    const Bits::Run run = bits.NextRun(i);
    const std::size_t first = oracle.Find(i, true);
    if (first == kBits) {
      ASSERT_EQ(run.count, 0u) << "from " << i;
    } else {
      ASSERT_EQ(run.first, first) << "from " << i;
      ASSERT_EQ(run.count, oracle.Find(first, false) - first) << "from " << i;
      // From whatever bit of it.
      const Bits::Run around = bits.RunAround(run.first + run.count - 1);
      ASSERT_EQ(around.first + around.count, run.first + run.count) << "from " << i;
      ASSERT_TRUE(around.first == 0 || !oracle.Test(around.first - 1)) << "from " << i;
      ASSERT_EQ(oracle.Count(around.first, around.count), around.count) << "from " << i;
    }
  }
  ASSERT_EQ(bits.Count(), oracle.Count(0, kBits));
  ASSERT_EQ(bits.LongestRun(), oracle.LongestRun());
}

TEST(Bitmap, StartsEmpty) {
  constexpr Bits bits;
  EXPECT_EQ(bits.Count(), 0u);
  EXPECT_EQ(bits.FindSet(0), Bits::kNotFound);
  EXPECT_EQ(bits.FindClear(0), 0u);
  EXPECT_EQ(bits.NextRun(0).count, 0u);
  EXPECT_EQ(bits.LongestRun(), 0u);
}

TEST(Bitmap, SearchesBeyondTheEndFindNothing) {
  Bits bits;
  bits.SetRange(0, kBits);
  for (const std::size_t from : {kBits, kBits + 1, kBits + 64, ~std::size_t{0}}) {
    EXPECT_EQ(bits.FindSet(from), Bits::kNotFound);
    EXPECT_EQ(bits.FindClear(from), Bits::kNotFound);
    EXPECT_EQ(bits.NextRun(from).count, 0u);
  }
  EXPECT_EQ(bits.FindClear(0), Bits::kNotFound);
  EXPECT_EQ(bits.NextRun(0).count, kBits);
}

// Every range there is: the words at both of its ends are where masks go wrong.
TEST(Bitmap, EveryRangeIsSetAndClearedExactly) {
  Bits all;
  all.SetRange(0, kBits);
  for (std::size_t first = 0; first <= kBits; ++first) {
    for (std::size_t count = 0; first + count <= kBits; ++count) {
      Bits bits;
      bits.SetRange(first, count);
      ASSERT_EQ(bits.Count(), count) << first;
      ASSERT_EQ(bits.CountRange(first, count), count) << first;
      ASSERT_TRUE(bits.AllSet(first, count)) << first;
      ASSERT_EQ(bits.LongestRun(), count) << first;
      if (count != 0) {
        ASSERT_EQ(bits.FindSet(0), first);
        ASSERT_EQ(bits.NextRun(0).count, count);
      }
      Bits rest = all;
      rest.ClearRange(first, count);
      ASSERT_EQ(rest.Count(), kBits - count) << first;
      ASSERT_EQ(rest.CountRange(first, count), 0u) << first;
      rest.SetRange(first, count);
      ASSERT_EQ(rest, all);
    }
  }
}

TEST(Bitmap, RandomOperationsMatchTheOracle) {
  std::mt19937_64 random(1);
  Bits bits;
  Oracle oracle;
  for (int step = 0; step < 3000; ++step) {
    const std::size_t first = random() % (kBits + 1);
    const std::size_t count = random() % (std::min<std::size_t>(kBits - first, step % 2 == 0 ? 8 : kBits) + 1);
    const bool value = random() % 2 == 0;
    value ? bits.SetRange(first, count) : bits.ClearRange(first, count);
    oracle.Fill(first, count, value);
    const std::size_t probe = random() % (kBits + 1);
    const std::size_t length = random() % (kBits - probe + 1);
    ASSERT_EQ(bits.CountRange(probe, length), oracle.Count(probe, length));
    ASSERT_EQ(bits.AllSet(probe, length), oracle.Count(probe, length) == length);
    ASSERT_NO_FATAL_FAILURE(ExpectEqual(bits, oracle)) << "step " << step;
  }
}

TEST(Bitmap, EqualityComparesEveryBit) {
  for (std::size_t i = 0; i < kBits; ++i) {
    Bits a;
    Bits b;
    a.SetRange(i, 1);
    EXPECT_NE(a, b);
    b.SetRange(i, 1);
    EXPECT_EQ(a, b);
  }
}

}  // namespace
}  // namespace tarn
