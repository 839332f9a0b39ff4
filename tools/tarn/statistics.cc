// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace tarn::tool {

namespace {

constexpr unsigned kSeed = 20261121;

double MedianOfResample(const std::vector<double>& values, std::mt19937_64* random) {
  std::vector<double> resample(values.size());
  // The remainder's bias is below 2^-50 for any number of runs that anybody waits for.
  for (double& value : resample) value = values[(*random)() % values.size()];
  return Median(std::move(resample));
}

// `draw` gives the figure of one resample.
template <typename Draw>
Estimate Bootstrap(double value, double confidence, Draw draw) {
  std::mt19937_64 random(kSeed);
  std::vector<double> figures(kResamples);
  for (double& figure : figures) figure = draw(&random);
  std::sort(figures.begin(), figures.end());
  const auto outside = static_cast<std::size_t>(std::lround(kResamples * (1 - confidence) / 2));
  return {value, figures[outside], figures[kResamples - 1 - outside]};
}

}  // namespace

double Median(std::vector<double> values) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*std::max_element(values.begin(), middle) + *middle) / 2;
}

Estimate EstimateMedian(const std::vector<double>& values, double confidence) {
  const double median = Median(values);
  if (values.size() < 2) return {median, median, median};
  return Bootstrap(median, confidence, [&](std::mt19937_64* random) { return MedianOfResample(values, random); });
}

Estimate EstimateChange(const std::vector<double>& before, const std::vector<double>& after, double confidence) {
  const double change = Median(after) / Median(before);
  if (before.empty() || after.empty()) return {change, change, change};
  return Bootstrap(change, confidence, [&](std::mt19937_64* random) {
    const double old_median = MedianOfResample(before, random);
    return MedianOfResample(after, random) / old_median;
  });
}

std::string_view VerdictOf(const Estimate& ratio, std::size_t pairs) {
  if (pairs < 2) return "unsure";
  if (ratio.high < 1 && ratio.value < 1 - kEquivalenceMargin) return "win";
  if (ratio.low > 1 && ratio.value > 1 + kEquivalenceMargin) return "loss";
  return "tie";
}

bool IsEquivalent(const Estimate& ratio) {
  return ratio.low >= 1 - kEquivalenceMargin && ratio.high <= 1 + kEquivalenceMargin;
}

bool IsNoisy(const Estimate& control_ratio) {
  const double distance = std::abs(control_ratio.value - 1);
  const bool excludes_one = control_ratio.low > 1 || control_ratio.high < 1;
  return distance > kNoiseLimit || (excludes_one && distance > kEquivalenceMargin);
}

}  // namespace tarn::tool
