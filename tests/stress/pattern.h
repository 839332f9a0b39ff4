// SPDX-License-Identifier: Apache-2.0
//
// The pattern that the stress and fault tests write into objects, and how they
// find out that somebody else wrote there.
//
// It calls nothing but memcpy and snprintf, so that it can run in a forked child
// and in a process that has no memory left.
//
// Every object has an id that no other object of the run has. The word at
// index i of an object is Encode(id, i), an invertible mix of both. Two objects
// that overlap therefore disagree about every shared word, and a wrong word can
// be decoded again: it often tells which object it really belongs to.

#ifndef TARN_TESTS_STRESS_PATTERN_H_
#define TARN_TESTS_STRESS_PATTERN_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace tarn_test {

// A multiplication by an odd number is invertible modulo 2^64; the number is
// the one that splitmix64 adds (2^64 divided by the golden ratio).
inline constexpr std::uint64_t kMultiplier = 0x9E3779B97F4A7C15U;

// Newton's iteration doubles the number of correct low bits in every step. An
// odd number is its own inverse modulo 8, so five steps reach 96 > 64 bits.
constexpr std::uint64_t InverseOf(std::uint64_t odd) {
  std::uint64_t inverse = odd;
  for (int step = 0; step < 5; ++step) {
    inverse *= 2 - odd * inverse;
  }
  return inverse;
}

inline constexpr std::uint64_t kInverse = InverseOf(kMultiplier);
static_assert(kMultiplier * kInverse == 1);

// The id takes the upper 48 bits of a word before mixing, the index of the word
// (modulo 2^16) the lower 16.
inline constexpr int kIndexBits = 16;
inline constexpr std::uint64_t kIndexMask = (1U << kIndexBits) - 1;
inline constexpr std::size_t kWordBytes = sizeof(std::uint64_t);

// Objects beyond this size are written at their head, at their tail and at one
// word per stride: filling megabytes would leave no time for the allocator.
inline constexpr std::size_t kFullyWrittenBytes = 32 * 1024;
inline constexpr std::size_t kEdgeBytes = 512;
// One word in every stride. It is below 1 KiB, so that no overlap of 1 KiB or
// more falls between two words. It does not divide a page, so that the words do
// not stand at the same place of each page.
inline constexpr std::size_t kStrideBytes = 1016;
static_assert(kStrideBytes % kWordBytes == 0);

// Everything that is needed to write a pattern and to check it later.
struct Pattern {
  std::uint64_t id = 0;
  std::size_t size_bytes = 0;
  bool whole = true;  // Every byte, or head, tail and stride only.
};

// The first difference that a check met.
struct Mismatch {
  bool found = false;
  std::size_t offset_bytes = 0;
  unsigned char expected = 0;
  unsigned char actual = 0;
  std::uint64_t actual_word = 0;  // The whole word around it, zero-extended.
};

inline std::uint64_t Encode(std::uint64_t key, std::uint64_t id, std::size_t word_index) {
  const std::uint64_t plain = (id << kIndexBits) | (static_cast<std::uint64_t>(word_index) & kIndexMask);
  return (plain * kMultiplier) ^ key;
}

inline std::uint64_t DecodeId(std::uint64_t key, std::uint64_t word) { return ((word ^ key) * kInverse) >> kIndexBits; }

inline std::uint64_t DecodeIndex(std::uint64_t key, std::uint64_t word) {
  return ((word ^ key) * kInverse) & kIndexMask;
}

// Calls visit(offset, bytes) for each word that belongs to the pattern; the
// last one may have fewer than eight bytes. Stops when visit returns false.
template <typename Visit>
void ForEachWord(const Pattern& pattern, Visit visit) {
  const std::size_t size = pattern.size_bytes;
  const auto range = [&](std::size_t begin, std::size_t end, std::size_t step) {
    for (std::size_t at = begin; at < end; at += step) {
      const std::size_t left = size - at;
      if (!visit(at, left < kWordBytes ? left : kWordBytes)) {
        return false;
      }
    }
    return true;
  };
  if (pattern.whole || size <= 2 * kEdgeBytes + kStrideBytes) {
    range(0, size, kWordBytes);
    return;
  }
  const std::size_t tail = (size - kEdgeBytes) / kWordBytes * kWordBytes;
  if (range(0, kEdgeBytes, kWordBytes) && range(kEdgeBytes, tail, kStrideBytes)) {
    range(tail, size, kWordBytes);
  }
}

inline void WritePattern(std::uint64_t key, const Pattern& pattern, void* object) {
  auto* const bytes = static_cast<unsigned char*>(object);
  ForEachWord(pattern, [&](std::size_t at, std::size_t count) {
    const std::uint64_t word = Encode(key, pattern.id, at / kWordBytes);
    std::memcpy(bytes + at, &word, count);
    return true;
  });
}

// Checks the part of the pattern that lies below limit_bytes (the whole object,
// or what a realloc had to keep). Adds the bytes that it read to verified_bytes.
inline Mismatch CheckPattern(std::uint64_t key, const Pattern& pattern, const void* object, std::size_t limit_bytes,
                             std::uint64_t& verified_bytes) {
  const auto* const bytes = static_cast<const unsigned char*>(object);
  Mismatch mismatch;
  ForEachWord(pattern, [&](std::size_t at, std::size_t count) {
    if (at >= limit_bytes) {
      // Offsets only grow, so nothing further lies below the limit.
      return false;
    }
    const std::size_t length = limit_bytes - at < count ? limit_bytes - at : count;
    const std::uint64_t expected = Encode(key, pattern.id, at / kWordBytes);
    std::uint64_t actual = 0;
    std::memcpy(&actual, bytes + at, length);
    verified_bytes += length;
    if (std::memcmp(&actual, &expected, length) == 0) {
      return true;
    }
    unsigned char wanted[kWordBytes];
    unsigned char seen[kWordBytes];
    std::memcpy(wanted, &expected, kWordBytes);
    std::memcpy(seen, &actual, kWordBytes);
    for (std::size_t i = 0; i < length; ++i) {
      if (wanted[i] != seen[i]) {
        mismatch = {true, at + i, wanted[i], seen[i], actual};
        return false;
      }
    }
    return true;
  });
  return mismatch;
}

// Says what was found where, and whose bytes they are if they look like
// another object's. ids_in_use is one more than the highest id ever given out.
inline void DescribeMismatch(std::uint64_t key, const Pattern& pattern, const Mismatch& mismatch,
                             std::uint64_t ids_in_use, char* text, std::size_t text_bytes) {
  const std::uint64_t other = DecodeId(key, mismatch.actual_word);
  char origin[160];
  if (other != pattern.id && other != 0 && other < ids_in_use) {
    std::snprintf(origin, sizeof origin, "the word there was written for word %llu of object %llu",
                  static_cast<unsigned long long>(DecodeIndex(key, mismatch.actual_word)),
                  static_cast<unsigned long long>(other));
  } else if (other == pattern.id) {
    std::snprintf(origin, sizeof origin, "the word there belongs to word %llu of this very object",
                  static_cast<unsigned long long>(DecodeIndex(key, mismatch.actual_word)));
  } else {
    std::snprintf(origin, sizeof origin, "the word there is 0x%016llx, no object's pattern",
                  static_cast<unsigned long long>(mismatch.actual_word));
  }
  std::snprintf(text, text_bytes, "wrong byte at offset %zu: 0x%02x instead of 0x%02x; %s", mismatch.offset_bytes,
                mismatch.actual, mismatch.expected, origin);
}

// The first byte of [begin, begin + size_bytes) that is not zero, or size_bytes.
inline std::size_t FirstNonZero(const void* begin, std::size_t size_bytes) {
  const auto* const bytes = static_cast<const unsigned char*>(begin);
  std::size_t at = 0;
  for (; at + kWordBytes <= size_bytes; at += kWordBytes) {
    std::uint64_t word;
    std::memcpy(&word, bytes + at, kWordBytes);
    if (word != 0) {
      break;
    }
  }
  while (at < size_bytes && bytes[at] == 0) {
    ++at;
  }
  return at;
}

// A small generator of random numbers (xorshift64*): fast, no state outside.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_((seed + 1) * kMultiplier | 1) {
    for (int i = 0; i < 4; ++i) {
      Next();
    }
  }

  std::uint64_t Next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1DU;
  }

  // Uniform in [0, bound); 0 for a bound of 0.
  std::uint64_t Below(std::uint64_t bound) { return bound == 0 ? 0 : (Next() >> 16) % bound; }

  bool OneIn(std::uint64_t n) { return Below(n) == 0; }

 private:
  std::uint64_t state_;
};

}  // namespace tarn_test

#endif  // TARN_TESTS_STRESS_PATTERN_H_
