// SPDX-License-Identifier: Apache-2.0
//
// A bit set on an arena: 10 000 flags in 1256 bytes (157 words) instead of 10 000 bytes as bools.
#include <tarn/arena.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <span>

namespace {

class BitSet {
 public:
  BitSet(tarn::Arena& arena, std::size_t bits) : words_(arena.AllocateArray<std::uint64_t>((bits + 63) / 64)) {
    std::fill(words_.begin(), words_.end(), 0);
  }
  void Set(std::size_t bit) { words_[bit / 64] |= std::uint64_t{1} << (bit % 64); }
  [[nodiscard]] bool Has(std::size_t bit) const { return (words_[bit / 64] >> (bit % 64) & 1) != 0; }
  [[nodiscard]] std::size_t Count() const {
    std::size_t count = 0;
    for (const std::uint64_t word : words_) count += static_cast<std::size_t>(std::popcount(word));
    return count;
  }
  [[nodiscard]] std::size_t bytes() const { return words_.size_bytes(); }

 private:
  std::span<std::uint64_t> words_;
};

}  // namespace

int main() {
  constexpr std::size_t kFlags = 10000;
  tarn::Arena arena;
  BitSet set(arena, kFlags);
  for (std::size_t i = 0; i < kFlags; i += 3) set.Set(i);

  tarn::Arena bool_arena;
  const std::span<bool> bools = bool_arena.AllocateArray<bool>(kFlags);
  std::printf("%zu bits set; %zu bytes instead of %zu\n", set.Count(), arena.Stats().used_bytes,
              bool_arena.Stats().used_bytes);
  return set.Count() == 3334 && set.Has(9999) && !set.Has(9998) && set.bytes() == 1256 && bools.size() == kFlags ? 0
                                                                                                                 : 1;
}
