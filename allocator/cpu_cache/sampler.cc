// SPDX-License-Identifier: Apache-2.0

#include "allocator/cpu_cache/sampler.h"

#include <algorithm>
#include <bit>

#include "allocator/base/mix_bits.h"
#include "allocator/cpu_cache/slab.h"
#include "allocator/os/clock.h"
#include "allocator/os/thread_state.h"

namespace tarn {

namespace {

// The library links with libc alone, so the two functions of libm that are needed stand here; good to nine digits.

// ln of a number in (0, 1].
double Log(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double mantissa = std::bit_cast<double>((bits & ((std::uint64_t{1} << 52) - 1)) | std::bit_cast<std::uint64_t>(1.0));
  // Into [1/sqrt 2, sqrt 2), where the series of atanh converges fast: ln m = 2 atanh((m - 1) / (m + 1)).
  if (mantissa > 1.4142135623730951) {
    mantissa /= 2;
    ++exponent;
  }
  const double z = (mantissa - 1) / (mantissa + 1);
  const double square = z * z;
  double sum = 0;
  for (int k = 13; k >= 1; k -= 2) sum = sum * square + 1.0 / k;
  return 2 * z * sum + exponent * 0.6931471805599453;
}

// 1 - exp(-x) for x >= 0.
double OneMinusExp(double x) {
  if (x > 40) return 1;
  // exp(-x) = exp(-x / 2^n)^(2^n); in terms of 1 - exp, (1 - a)^2 = 1 - (2a - a^2), so nothing small is lost.
  int halvings = 0;
  while (x > 0.01) {
    x /= 2;
    ++halvings;
  }
  double result = x * (1 - x / 2 * (1 - x / 3 * (1 - x / 4 * (1 - x / 5))));
  for (; halvings != 0; --halvings) result = result * (2 - result);
  return result;
}

// SplitMix64 with a state per thread, seeded at its first use by what differs between threads
// and runs.
std::uint64_t Random() {
  std::uint64_t& state = thread_state.random;
  if (state == 0) state = RealtimeNanoseconds() ^ (std::uint64_t{ThreadId()} << 40);
  return MixBits(state += kMixStep);
}

// Uniform in (0, 1], in units of 2^-53.
std::uint64_t RandomUnits() { return (Random() >> 11) + 1; }
double FromUnits(std::uint64_t units) { return static_cast<double>(units) * 0x1.0p-53; }
double RandomUnit() { return FromUnits(RandomUnits()); }

constexpr std::uint32_t kWindowMs = 64;
constexpr std::uint32_t kMaxSamplesPerWindow = Sampler::kMaxSamplesPerSecond * kWindowMs / 1000;

}  // namespace

static_assert(Sampler::kMaxShift < kFirstSlot, "the shift in sample_due's low bits stays below every top");

void Sampler::SetRate(std::size_t rate_bytes) {
  rate_bytes_.store(rate_bytes, std::memory_order_relaxed);
  shift_.store(0, std::memory_order_relaxed);
}

std::uint64_t Sampler::DrawDistance(SizeClass size_class) {
  if (rate_bytes() == 0) return kNeverSample;
  const unsigned shift = this->shift();
  // The number of allocations up to the next sampled one is floor(ln u / ln(1 - p)) + 1, and ln(1 - p) is -s/R.
  const double skipped = -Log(RandomUnit()) * EffectiveRate(shift) / kSizeClasses[size_class].size_bytes;
  constexpr double kMostSkipped = 1ull << 46;
  return static_cast<std::uint64_t>(std::min(skipped, kMostSkipped)) << kSlabPopsShift | shift;
}

bool Sampler::DrawBytes(std::size_t bytes, unsigned* shift) {
  const std::size_t rate = rate_bytes();
  if (rate == 0) return false;
  *shift = this->shift();
  // p is at most x = bytes / rate, which spares most calls the exponential.
  using Wide = unsigned __int128;
  const std::uint64_t units = RandomUnits();
  if (Wide{units} * (std::uint64_t{rate} << *shift) > Wide{bytes} << 53) [[likely]]
    return false;
  return FromUnits(units) <= OneMinusExp(static_cast<double>(bytes) / EffectiveRate(*shift));
}

std::uint64_t Sampler::Weight(std::size_t bytes, unsigned shift) const {
  const double rate = EffectiveRate(shift);
  // Switched off since the sample was due: it then stands for itself.
  if (rate == 0) return std::uint64_t{1} << kSampleWeightShift;
  return static_cast<std::uint64_t>((1 << kSampleWeightShift) / OneMinusExp(static_cast<double>(bytes) / rate) + 0.5);
}

void Sampler::CountSample(std::uint32_t now_ms) {
  const unsigned shift = this->shift();
  if (MillisecondsBetween(window_start_ms_, now_ms) >= kWindowMs) {
    // Narrower only when there is room for twice as many.
    if (window_samples_ < kMaxSamplesPerWindow / 4 && shift != 0) shift_.store(shift - 1, std::memory_order_relaxed);
    window_start_ms_ = now_ms;
    window_samples_ = 0;
  } else if (window_samples_ >= kMaxSamplesPerWindow) {
    if (shift < kMaxShift) shift_.store(shift + 1, std::memory_order_relaxed);
    window_start_ms_ = now_ms;
    window_samples_ = 0;
  }
  ++window_samples_;
}

}  // namespace tarn
