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
    ForWords(first, count, [](std::uint64_t& word, std::uint64_t mask) { word |= mask; });
  }
  void ClearRange(std::size_t first, std::size_t count) {
    ForWords(first, count, [](std::uint64_t& word, std::uint64_t mask) { word &= ~mask; });
  }

  std::size_t CountRange(std::size_t first, std::size_t count) const {
    std::size_t set = 0;
    const_cast<Bitmap*>(this)->ForWords(
        first, count, [&set](const std::uint64_t& word, std::uint64_t mask) { set += CountBits(word & mask); });
    return set;
  }
  bool AllSet(std::size_t first, std::size_t count) const { return CountRange(first, count) == count; }
  std::size_t Count() const { return CountRange(0, kBits); }

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

 private:
  // Without the processor's instruction, which x86-64 need not have, std::popcount is a call into the compiler's
  // library. (Hacker's Delight, 5-1.)
  static constexpr std::size_t CountBits(std::uint64_t word) {
    word -= word >> 1 & 0x5555555555555555;
    word = (word & 0x3333333333333333) + (word >> 2 & 0x3333333333333333);
    word = (word + (word >> 4)) & 0x0F0F0F0F0F0F0F0F;
    return static_cast<std::size_t>(word * 0x0101010101010101 >> 56);
  }

  template <typename Apply>
  void ForWords(std::size_t first, std::size_t count, Apply apply) {
    TARN_DCHECK(first + count <= kBits);
    while (count != 0) {
      const std::size_t shift = first % 64;
      const std::size_t here = std::min(count, 64 - shift);
      const std::uint64_t mask = (here == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << here) - 1) << shift;
      apply(words_[first / 64], mask);
      first += here;
      count -= here;
    }
  }

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
