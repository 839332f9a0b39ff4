// SPDX-License-Identifier: Apache-2.0
//
// The statistics of two allocators after some blocks of runs: estimates, intervals, verdicts.
//
// A block runs every allocator once, so figures of one block share the disturbances of the machine at that time. The
// estimate is therefore the median of the ratios within blocks, not the ratio of medians. Drift cancels, and one block
// that was hit by a neighbour does not move it.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace tarn::tool {

struct Estimate {
  double value = 0;
  double low = 0;  // of the confidence interval
  double high = 0;
};

// Chosen: each end of a 99 % interval then rests on 50 resamples.
inline constexpr int kResamples = 10000;
// Below this a difference is of no use to anybody, however certain it is.
inline constexpr double kEquivalenceMargin = 0.01;
// The same allocator may differ from itself by no more than this.
inline constexpr double kNoiseLimit = 0.03;
// The interval of a median by bootstrap reaches from the smallest to the largest value at most. These hold the true
// median with a probability of 1 - 2^(1-n): 94 % of five blocks, 97 % of six.
inline constexpr std::size_t kBlocksForAnInterval = 6;

// The middle value, or the mean of the two in the middle; NaN of none.
double Median(std::vector<double> values);

// The median and its interval by percentile bootstrap. The resamples are drawn from a fixed seed, so the same values
// give the same interval each time. Of one value the interval is that value.
Estimate EstimateMedian(const std::vector<double>& values, double confidence = 0.95);

// median(after) / median(before), the two samples drawn anew independently of each other.
Estimate EstimateChange(const std::vector<double>& before, const std::vector<double>& after, double confidence);

// Less is better. "win" and "loss": the interval excludes 1 and the ratio is further from 1 than the margin. "tie": all
// else. "unsure": there is one pair or none, and so no interval.
std::string_view VerdictOf(const Estimate& ratio, std::size_t pairs);

// The whole interval lies within the margin: not just no difference seen, but none there.
bool IsEquivalent(const Estimate& ratio);

// True where the same allocator differs from itself: by more than the limit, or certainly and by more than the margin.
bool IsNoisy(const Estimate& control_ratio);

}  // namespace tarn::tool
