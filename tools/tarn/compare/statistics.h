// What can be said of two allocators after some blocks of runs.
//
// A block runs every allocator once, so figures of one block share whatever disturbed the machine at that time. The
// estimate is therefore the median of the ratios within blocks, not the ratio of medians: drift cancels, and one block
// that was hit by a neighbour does not move it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace tarn::tool {

struct Estimate95 {
  double value = 0;
  double low = 0;  // of the 95 % confidence interval
  double high = 0;
};

inline constexpr int kResamples = 10000;
// Below this a difference is of no use to anybody, however certain it is.
inline constexpr double kEquivalenceMargin = 0.01;
// The same allocator may differ from itself by no more than this.
inline constexpr double kNoiseLimit = 0.03;
// The interval of a median by bootstrap reaches from the smallest to the largest value at most, which hold the true
// median with a probability of 1 - 2^(1-n): 94 % of five blocks, 97 % of six.
inline constexpr std::size_t kBlocksForAnInterval = 6;

// NaN of no values.
double MedianOf(std::vector<double> values);

// The median and its interval by percentile bootstrap; the same seed gives the same interval.
Estimate95 EstimateMedian(const std::vector<double>& values, std::uint64_t seed);

// Less is better. win and loss: the interval excludes 1 and the ratio is further from 1 than the margin. tie: all else.
std::string_view VerdictOf(const Estimate95& ratio);

// The whole interval lies within the margin: not just no difference seen, but none there.
bool IsEquivalent(const Estimate95& ratio);

// Whether the same allocator differs from itself: by more than the limit, or certainly and by more than the margin.
bool IsNoisy(const Estimate95& control_ratio);

}  // namespace tarn::tool
