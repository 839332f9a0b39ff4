// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/compare/sha256.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <fstream>

namespace tarn::tool {

namespace {

// The first 32 bits of the fractional parts of the cube roots of the first 64 primes, and of the square roots of the
// first 8: computed in integers, as the standard defines them.
struct Constants {
  std::array<std::uint32_t, 64> rounds{};
  std::array<std::uint32_t, 8> start{};
};

constexpr std::uint32_t RootFraction(unsigned prime, int power) {
  // The largest root with root^power <= prime * 2^(32 * power); its low 32 bits are the fraction.
  unsigned __int128 low = 0;
  unsigned __int128 high = static_cast<unsigned __int128>(prime) << 32;
  while (high - low > 1) {
    const unsigned __int128 middle = (low + high) / 2;
    // middle / 2^32 to the power, compared by division where the cube would not fit into 128 bits.
    const unsigned __int128 square = middle * middle;
    bool fits;
    if (power == 2) {
      fits = square <= static_cast<unsigned __int128>(prime) << 64;
    } else {
      fits = square <= (static_cast<unsigned __int128>(prime) << 96) / middle;
    }
    (fits ? low : high) = middle;
  }
  return static_cast<std::uint32_t>(low);
}

constexpr Constants MakeConstants() {
  Constants constants;
  std::size_t count = 0;
  for (unsigned candidate = 2; count < 64; ++candidate) {
    bool prime = true;
    for (unsigned divisor = 2; divisor * divisor <= candidate; ++divisor) prime = prime && candidate % divisor != 0;
    if (!prime) continue;
    constants.rounds[count] = RootFraction(candidate, 3);
    if (count < 8) constants.start[count] = RootFraction(candidate, 2);
    ++count;
  }
  return constants;
}

const Constants kConstants = MakeConstants();

class Hash {
 public:
  void Add(const char* bytes, std::size_t size) {
    total_ += size;
    while (size > 0) {
      const std::size_t part = std::min(size, sizeof(block_) - used_);
      memcpy(block_ + used_, bytes, part);
      used_ += part;
      bytes += part;
      size -= part;
      if (used_ == sizeof(block_)) Mix();
    }
  }

  std::string Finish() {
    const std::uint64_t bits = total_ * 8;
    const char end = static_cast<char>(0x80);
    Add(&end, 1);
    while (used_ != 56) Add("\0", 1);
    char length[8];
    for (int i = 0; i < 8; ++i) length[i] = static_cast<char>(bits >> (56 - 8 * i));
    Add(length, 8);
    std::string digits;
    for (const std::uint32_t word : state_) digits += fmt::format("{:08x}", word);
    return digits;
  }

 private:
  void Mix() {
    std::uint32_t w[64];
    for (std::size_t i = 0; i < 16; ++i) {
      w[i] = 0;
      for (std::size_t j = 0; j < 4; ++j) w[i] = w[i] << 8 | static_cast<unsigned char>(block_[4 * i + j]);
    }
    for (std::size_t i = 16; i < 64; ++i) {
      const std::uint32_t a = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
      const std::uint32_t b = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
      w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (std::size_t i = 0; i < 64; ++i) {
      const std::uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      const std::uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + kConstants.rounds[i] + w[i];
      const std::uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
      const std::uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    const std::uint32_t sums[8] = {a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) state_[i] += sums[i];
    used_ = 0;
  }

  std::array<std::uint32_t, 8> state_ = kConstants.start;
  char block_[64];
  std::size_t used_ = 0;
  std::uint64_t total_ = 0;
};

bool AddFile(const std::string& path, Hash* hash) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return false;
  std::array<char, 1 << 16> part;
  while (file.read(part.data(), part.size()) || file.gcount() > 0)
    hash->Add(part.data(), static_cast<std::size_t>(file.gcount()));
  return true;
}

}  // namespace

std::string Sha256(const std::string& bytes) {
  Hash hash;
  hash.Add(bytes.data(), bytes.size());
  return hash.Finish();
}

std::string FileSha256(const std::string& path) {
  Hash hash;
  return AddFile(path, &hash) ? hash.Finish() : "";
}

std::string FilesSha256(const std::vector<std::string>& paths) {
  Hash hash;
  constexpr std::string_view kMissing = "(missing)";
  for (const std::string& path : paths) {
    if (!AddFile(path, &hash)) hash.Add(kMissing.data(), kMissing.size());
  }
  return hash.Finish();
}

}  // namespace tarn::tool
