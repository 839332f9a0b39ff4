// SPDX-License-Identifier: Apache-2.0
//
// Random numbers that nobody can guess from those seen before: the key stream of ChaCha with eight rounds (Bernstein
// 2008, "ChaCha, a variant of Salsa20").
//
// A stream is its key, its number, and the count of its blocks. Not thread-safe: its owner has a lock. All zero before
// Init.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tarn {

struct RandomKey {
  std::uint32_t words[8];
};

class RandomStream {
 public:
  constexpr RandomStream() = default;

  // The key stays where it is. Different numbers give streams that have nothing to do with each other.
  void Init(const RandomKey* key, std::uint32_t number) {
    key_ = key;
    number_ = number;
    left_ = 0;
  }
  // Drops what was computed and not drawn: the next number comes from the key as it is then.
  void Restart() {
    std::memset(block_, 0, sizeof block_);
    left_ = 0;
  }

  std::uint64_t Next() {
    if (left_ == 0) MakeBlock();
    std::uint32_t* const next = &block_[kWords - left_];
    std::uint64_t result;
    std::memcpy(&result, next, sizeof result);
    // A later leak of this memory must not tell what was drawn.
    next[0] = next[1] = 0;
    left_ -= 2;
    return result;
  }

 private:
  static constexpr std::uint32_t kWords = 16;
  static constexpr int kDoubleRounds = 4;

  static void QuarterRound(std::uint32_t* x, std::size_t a, std::size_t b, std::size_t c, std::size_t d) {
    x[a] += x[b], x[d] = std::rotl(x[d] ^ x[a], 16);
    x[c] += x[d], x[b] = std::rotl(x[b] ^ x[c], 12);
    x[a] += x[b], x[d] = std::rotl(x[d] ^ x[a], 8);
    x[c] += x[d], x[b] = std::rotl(x[b] ^ x[c], 7);
  }

  __attribute__((noinline)) void MakeBlock() {
    // "expand 32-byte k"
    std::uint32_t input[kWords] = {0x61707865, 0x3320646E, 0x79622D32, 0x6B206574};
    std::memcpy(input + 4, key_->words, sizeof key_->words);
    input[12] = static_cast<std::uint32_t>(count_);
    input[13] = static_cast<std::uint32_t>(count_ >> 32);
    input[14] = number_;
    input[15] = 0;
    std::memcpy(block_, input, sizeof block_);
    for (int round = 0; round < 2 * kDoubleRounds; ++round) {
      // The columns, then the diagonals.
      const std::size_t turn = round % 2 == 0 ? 0 : 1;
      for (std::size_t i = 0; i < 4; ++i) {
        QuarterRound(block_, i, 4 + (i + turn) % 4, 8 + (i + 2 * turn) % 4, 12 + (i + 3 * turn) % 4);
      }
    }
    for (std::size_t i = 0; i < kWords; ++i) block_[i] += input[i];
    ++count_;
    left_ = kWords;
  }

  const RandomKey* key_ = nullptr;
  std::uint64_t count_ = 0;
  std::uint32_t number_ = 0;
  std::uint32_t left_ = 0;  // words of the block that were not drawn
  std::uint32_t block_[kWords] = {};
};

}  // namespace tarn
