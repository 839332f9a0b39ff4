// SPDX-License-Identifier: Apache-2.0
//
// A bitmap of a fixed number of bits: single bits, ranges, and the search for runs.
//
// Used for the pages of a huge page and the huge pages of a reservation. Not thread-safe; the owner's lock guards it.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "allocator/base/check.h"

namespace tarn {

template <std::size_t kBits>
class Bitmap {
 public:
  static_assert(kBits % 64 == 0);
  static constexpr std::size_t kNotFound = kBits;

  bool Test(std::size_t bit) const {
    TARN_DCHECK(bit < kBits);
    return (words_[bit / 64] >> (bit % 64) & 1) != 0;
  }

  void SetRange(std::size_t first, std::size_t count) {
    ForWords(first, count, [&](std::size_t index, std::uint64_t mask) { words_[index] |= mask; });
  }
  void ClearRange(std::size_t first, std::size_t count) {
    ForWords(first, count, [&](std::size_t index, std::uint64_t mask) { words_[index] &= ~mask; });
  }

  std::size_t CountRange(std::size_t first, std::size_t count) const {
    std::size_t set = 0;
    ForWords(first, count, [&](std::size_t index, std::uint64_t mask) { set += CountBits(words_[index] & mask); });
    return set;
  }
  bool AllSet(std::size_t first, std::size_t count) const { return CountRange(first, count) == count; }
  std::size_t Count() const {
    std::size_t set = 0;
    for (const std::uint64_t word : words_) set += CountBits(word);
    return set;
  }

  // The bits that are set in either, in both, and here but not there.
  Bitmap Or(const Bitmap& other) const {
    Bitmap result = *this;
    for (std::size_t i = 0; i < kBits / 64; ++i) result.words_[i] |= other.words_[i];
    return result;
  }
  Bitmap And(const Bitmap& other) const {
    Bitmap result = *this;
    for (std::size_t i = 0; i < kBits / 64; ++i) result.words_[i] &= other.words_[i];
    return result;
  }
  Bitmap AndNot(const Bitmap& other) const {
    Bitmap result = *this;
    for (std::size_t i = 0; i < kBits / 64; ++i) result.words_[i] &= ~other.words_[i];
    return result;
  }

  // The first set (clear) bit at or after `from`, or kNotFound.
  std::size_t FindSet(std::size_t from) const {
    return Find(from, [](std::uint64_t word) { return word; });
  }
  std::size_t FindClear(std::size_t from) const {
    return Find(from, [](std::uint64_t word) { return ~word; });
  }

  // The next run of set bits at or after `from`; count is 0 when there is none.
  struct Run {
    std::size_t first = 0;
    std::size_t count = 0;
  };
  Run NextRun(std::size_t from) const {
    const std::size_t first = FindSet(from);
    if (first == kNotFound) return {};
    return {first, FindClear(first) - first};
  }

  // The run that this bit, which is set, belongs to.
  Run RunAround(std::size_t bit) const {
    TARN_DCHECK(Test(bit));
    std::size_t index = bit / 64;
    std::uint64_t clear_below = ~words_[index] & ((std::uint64_t{1} << (bit % 64)) - 1);
    while (clear_below == 0 && index != 0) clear_below = ~words_[--index];
    const std::size_t first =
        clear_below == 0 ? 0 : index * 64 + 64 - static_cast<std::size_t>(std::countl_zero(clear_below));
    return {first, FindClear(bit) - first};
  }

  std::size_t LongestRun() const {
    std::size_t longest = 0;
    for (Run run = NextRun(0); run.count != 0; run = NextRun(run.first + run.count)) {
      longest = std::max(longest, run.count);
    }
    return longest;
  }

  friend bool operator==(const Bitmap&, const Bitmap&) = default;

  // Calls visit(index, mask) for each word of the range: for what goes over several bitmaps at once.
  template <typename Visit>
  static void ForWords(std::size_t first, std::size_t count, Visit visit) {
    TARN_DCHECK(first + count <= kBits);
    if (count == 0) return;
    const std::size_t last = first + count - 1;
    std::uint64_t mask = ~std::uint64_t{0} << (first % 64);
    std::size_t index = first / 64;
    for (; index != last / 64; ++index) {
      visit(index, mask);
      mask = ~std::uint64_t{0};
    }
    visit(index, mask & ~std::uint64_t{0} >> (63 - last % 64));
  }
  std::uint64_t& word(std::size_t index) { return words_[index]; }

  // Without the processor's instruction, which x86-64 need not have, std::popcount is a call into the compiler's
  // library. (Hacker's Delight, 5-1.)
  static constexpr std::size_t CountBits(std::uint64_t word) {
    if (word == 0) return 0;
    word -= word >> 1 & 0x5555555555555555;
    word = (word & 0x3333333333333333) + (word >> 2 & 0x3333333333333333);
    word = (word + (word >> 4)) & 0x0F0F0F0F0F0F0F0F;
    return static_cast<std::size_t>(word * 0x0101010101010101 >> 56);
  }

 private:
  template <typename Select>
  std::size_t Find(std::size_t from, Select select) const {
    if (from >= kBits) return kNotFound;
    std::size_t index = from / 64;
    std::uint64_t word = select(words_[index]) & (~std::uint64_t{0} << (from % 64));
    while (word == 0) {
      if (++index == kBits / 64) return kNotFound;
      word = select(words_[index]);
    }
    return index * 64 + static_cast<std::size_t>(std::countr_zero(word));
  }

  std::uint64_t words_[kBits / 64] = {};
};

}  // namespace tarn
