// SPDX-License-Identifier: Apache-2.0
//
// Shared by the tests of the malloc surface: declarations that glibc's headers lack, a way to hide
// values from the compiler, patterns for the contents of objects, and the resident size.
//
// It includes std and libc only.

#ifndef TARN_TESTS_ENTRY_SURFACE_H_
#define TARN_TESTS_ENTRY_SURFACE_H_

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

// The declarations below are strong, so that linking a test proves that the library exports them.
// TARN_TEST_STAND_IN is defined by hand to try the tests on an allocator that lacks some of them.
#ifdef TARN_TEST_STAND_IN
#define TARN_TEST_MAY_LACK __attribute__((weak))
#else
#define TARN_TEST_MAY_LACK
#endif

extern "C" {
// C23, not yet in glibc's headers.
TARN_TEST_MAY_LACK void free_sized(void* object, size_t size) noexcept;
TARN_TEST_MAY_LACK void free_aligned_sized(void* object, size_t alignment, size_t size) noexcept;
// In no header since glibc 2.26, but old programs still call it.
TARN_TEST_MAY_LACK void cfree(void* object) noexcept;
}

namespace tarn_test {

constexpr size_t kKiB = 1024;
constexpr size_t kMiB = 1024 * kKiB;
constexpr size_t kGiB = 1024 * kMiB;

// Hides `value` from the compiler, which then neither warns about what a test does on purpose nor
// draws conclusions from it.
template <typename T>
inline T Opaque(T value) {
  asm volatile("" : "+r"(value) : : "memory");
  return value;
}

inline uintptr_t AddressOf(const void* object) { return reinterpret_cast<uintptr_t>(object); }

inline bool IsAligned(const void* object, size_t alignment) { return (AddressOf(object) & (alignment - 1)) == 0; }

// The eight bytes that stand at `8 * word` of an object that was filled with `seed`, of which only
// the low byte counts: it is the object's first byte. No two words near each other are equal, so
// that contents that moved, by a byte or by pages, are noticed.
inline uint64_t PatternWord(uint64_t seed, size_t word) {
  return (seed & 0xFF) * 0x0101010101010101u + word * 0x9E3779B97F4A7C15u;
}

inline unsigned char PatternByte(uint64_t seed, size_t index) {
  return static_cast<unsigned char>(PatternWord(seed, index / 8) >> (index % 8 * 8));
}

// Fills the bytes [from, to) of an object.
inline void Fill(void* object, uint64_t seed, size_t from, size_t to) {
  unsigned char* bytes = static_cast<unsigned char*>(object);
  size_t i = from;
  for (; i < to && i % 8 != 0; ++i) bytes[i] = PatternByte(seed, i);
  for (; i + 8 <= to; i += 8) {
    const uint64_t word = PatternWord(seed, i / 8);
    std::memcpy(bytes + i, &word, 8);
  }
  for (; i < to; ++i) bytes[i] = PatternByte(seed, i);
}

// True when the bytes [from, to) hold what Fill wrote.
[[nodiscard]] inline bool Holds(const void* object, uint64_t seed, size_t from, size_t to) {
  const unsigned char* bytes = static_cast<const unsigned char*>(object);
  size_t i = from;
  for (; i < to && i % 8 != 0; ++i) {
    if (bytes[i] != PatternByte(seed, i)) return false;
  }
  for (; i + 8 <= to; i += 8) {
    uint64_t word;
    std::memcpy(&word, bytes + i, 8);
    if (word != PatternWord(seed, i / 8)) return false;
  }
  for (; i < to; ++i) {
    if (bytes[i] != PatternByte(seed, i)) return false;
  }
  return true;
}

[[nodiscard]] inline bool IsZero(const void* object, size_t size) {
  const unsigned char* bytes = static_cast<const unsigned char*>(object);
  size_t i = 0;
  for (; i + 8 <= size; i += 8) {
    uint64_t word;
    std::memcpy(&word, bytes + i, 8);
    if (word != 0) return false;
  }
  for (; i < size; ++i) {
    if (bytes[i] != 0) return false;
  }
  return true;
}

// A small generator of numbers that are the same in every run (Marsaglia's xorshift64).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}

  uint64_t Next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }

  size_t Below(size_t limit) { return static_cast<size_t>(Next() % limit); }

  // Sizes as programs ask for them: mostly small, now and then up to `most`.
  size_t Size(size_t most) {
    const uint64_t dice = Next() % 100;
    size_t limit = 256;
    if (dice >= 70) limit = 2 * kKiB;
    if (dice >= 90) limit = 32 * kKiB;
    if (dice >= 98) limit = 512 * kKiB;
    return Below(limit < most ? limit : most) + 1;
  }

 private:
  uint64_t state_;
};

// The resident bytes of this process. Allocates nothing, so that it may be called anywhere.
inline size_t ResidentBytes() {
  const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  char text[128] = {};
  const ssize_t length = read(file, text, sizeof(text) - 1);
  close(file);
  if (length <= 0) return 0;
  // The second number is the resident size in pages of the OS.
  const char* at = text;
  while (*at != ' ' && *at != '\0') ++at;
  size_t pages = 0;
  for (++at; *at >= '0' && *at <= '9'; ++at) pages = pages * 10 + static_cast<size_t>(*at - '0');
  return pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace tarn_test

#endif  // TARN_TESTS_ENTRY_SURFACE_H_
