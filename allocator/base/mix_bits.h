// SPDX-License-Identifier: Apache-2.0
//
// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): numbers that differ in any bit give results that differ in
// about half of all bits.
#pragma once

#include <cstdint>

namespace tarn {

// Its step from one state to the next: 2^64 divided by the golden ratio.
inline constexpr std::uint64_t kMixStep = 0x9E3779B97F4A7C15;

constexpr std::uint64_t MixBits(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

}  // namespace tarn
