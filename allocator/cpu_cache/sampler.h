// SPDX-License-Identifier: Apache-2.0
//
// Which allocations are sampled for the heap profile.
//
// Tells the CPU cache when the next sample of a class is due, and entry/ whether an allocation that no slab served is
// one. Knows nothing of stacks; observe/profile.h keeps what is sampled.
//
// With a rate of R bytes an allocation of s bytes is sampled with the probability p = 1 - exp(-s/R), each independently
// of all others: as if a point lay on every byte with a mean distance of R, and an object were sampled when one lies on
// it. The distance between two samples of a class is then geometric. Since that has no memory, it may be drawn anew at
// any time that does not depend on it. A sample stands for 1/p objects, which makes every sum unbiased.
//
// A program that allocates 60 GB/s would be sampled a hundred thousand times a second. So the rate is widened by powers
// of two, `shift`, while samples come faster than kMaxSamplesPerSecond, and narrowed again when they are few. What was
// drawn at one shift is weighted at that shift: it travels in the low bits of the slab's sample_due, where the top of
// the stack, with which it is compared, is always larger. So widening costs precision and never truth.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "allocator/base/units.h"

namespace tarn {

// A sample's weight: how many objects it stands for, in 1/65536.
inline constexpr int kSampleWeightShift = 16;

class Sampler {
 public:
  // 0: nothing is sampled. Otherwise bytes, of 1 (everything is sampled) to 2^40. Slabs have to be told
  // (CpuCache::RestartSampling).
  void SetRate(std::size_t rate_bytes);
  std::size_t rate_bytes() const { return rate_bytes_.load(std::memory_order_relaxed); }
  unsigned shift() const { return shift_.load(std::memory_order_relaxed); }

  // How far away the next sample of a class is: what to add to a slab's count of pops (in the unit of SlabHeader::word,
  // top taken out) to get sample_due.
  std::uint64_t DrawDistance(SizeClass size_class);

  // For an allocation that no slab counted. True: it is sampled, at `*shift`.
  bool Draw(SizeClass size_class, unsigned* shift) { return DrawBytes(kSizeClasses[size_class].size_bytes, shift); }
  bool DrawBytes(std::size_t bytes, unsigned* shift);

  // 1/p of an object of `bytes` that was drawn at `shift`.
  std::uint64_t Weight(std::size_t bytes, unsigned shift) const;

  // A sample was taken: keeps their frequency within bounds. Not thread-safe.
  void CountSample(std::uint32_t now_ms);

  // The most that the rate is widened: to 4096 times. Below every slab's first slot.
  static constexpr unsigned kMaxShift = 12;
  // Chosen: with one to two microseconds each, about one percent of one CPU.
  static constexpr std::uint32_t kMaxSamplesPerSecond = 8192;

 private:
  double EffectiveRate(unsigned shift) const {
    return static_cast<double>(rate_bytes()) * static_cast<double>(std::uint64_t{1} << shift);
  }

  std::atomic<std::size_t> rate_bytes_ = 0;
  std::atomic<unsigned> shift_ = 0;
  std::uint32_t window_start_ms_ = 0;
  std::uint32_t window_samples_ = 0;
};

}  // namespace tarn
