#include "tools/tarn/compare/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace tarn::tool {

double MedianOf(std::vector<double> values) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*std::max_element(values.begin(), middle) + *middle) / 2;
}

Estimate95 EstimateMedian(const std::vector<double>& values, std::uint64_t seed) {
  Estimate95 estimate;
  estimate.value = estimate.low = estimate.high = MedianOf(values);
  if (values.size() < 2) return estimate;
  std::mt19937_64 random(seed);
  std::vector<double> medians;
  std::vector<double> resample(values.size());
  for (int i = 0; i < kResamples; ++i) {
    // The remainder's bias is below 2^-50 for any number of runs that anybody waits for.
    for (double& value : resample) value = values[random() % values.size()];
    medians.push_back(MedianOf(resample));
  }
  std::sort(medians.begin(), medians.end());
  estimate.low = medians[kResamples / 40];
  estimate.high = medians[kResamples - 1 - kResamples / 40];
  return estimate;
}

std::string_view VerdictOf(const Estimate95& ratio) {
  if (ratio.high < 1 && ratio.value < 1 - kEquivalenceMargin) return "win";
  if (ratio.low > 1 && ratio.value > 1 + kEquivalenceMargin) return "loss";
  return "tie";
}

bool IsEquivalent(const Estimate95& ratio) {
  return ratio.low >= 1 - kEquivalenceMargin && ratio.high <= 1 + kEquivalenceMargin;
}

bool IsNoisy(const Estimate95& control_ratio) {
  const double distance = std::abs(control_ratio.value - 1);
  const bool excludes_one = control_ratio.low > 1 || control_ratio.high < 1;
  return distance > kNoiseLimit || (excludes_one && distance > kEquivalenceMargin);
}

}  // namespace tarn::tool
