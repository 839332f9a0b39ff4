// SPDX-License-Identifier: Apache-2.0
//
// The bytes that the checked mode writes into memory that the program must not rely on.
//
// As pointers all three are no addresses (not canonical), so who follows one faults.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tarn {

inline constexpr unsigned char kJunkByte = 0xA5;    // allocated, not written yet
inline constexpr unsigned char kFreedByte = 0x5A;   // freed
inline constexpr unsigned char kCanaryByte = 0xC3;  // not the object's

// Of large objects, so much of the beginning and of the end is filled: the rest need not become resident. Chosen.
inline constexpr std::size_t kFilledEndBytes = 1024;

// The offset of the first byte in [0, bytes) that is another; `bytes` if there is none. Words may be read beyond
// alignment, by memcpy.
inline std::size_t FindOther(const unsigned char* start, std::size_t bytes, unsigned char byte) {
  const std::uint64_t pattern = byte * 0x0101010101010101u;
  std::size_t i = 0;
  for (; i + sizeof pattern <= bytes; i += sizeof pattern) {
    std::uint64_t word;
    std::memcpy(&word, start + i, sizeof word);
    if (word != pattern) break;
  }
  while (i < bytes && start[i] == byte) ++i;
  return i;
}

// The beginning and the end of an object, which may be all of it.
struct FilledParts {
  std::size_t first_bytes;
  std::size_t last_offset;  // where the end begins
  std::size_t last_bytes;
};
inline FilledParts FilledPartsOf(std::size_t bytes) {
  const std::size_t first_bytes = bytes <= 2 * kFilledEndBytes ? bytes : kFilledEndBytes;
  const std::size_t last_bytes = std::min(bytes - first_bytes, kFilledEndBytes);
  return {first_bytes, bytes - last_bytes, last_bytes};
}

inline void FillEnds(void* start, std::size_t bytes, unsigned char byte) {
  const FilledParts parts = FilledPartsOf(bytes);
  std::memset(start, byte, parts.first_bytes);
  if (parts.last_bytes != 0) std::memset(static_cast<char*>(start) + parts.last_offset, byte, parts.last_bytes);
}

// As FindOther, over what FillEnds has filled.
inline std::size_t FindOtherInEnds(const void* start, std::size_t bytes, unsigned char byte) {
  const auto* at = static_cast<const unsigned char*>(start);
  const FilledParts parts = FilledPartsOf(bytes);
  const std::size_t first = FindOther(at, parts.first_bytes, byte);
  if (first != parts.first_bytes) return first;
  return parts.last_bytes == 0 ? bytes : parts.last_offset + FindOther(at + parts.last_offset, parts.last_bytes, byte);
}

}  // namespace tarn
