// Medians and their intervals by bootstrap, for figures that `tarn compare` did not compute itself: ratios to the best
// peer, ratios of a workload's own metrics, and changes between two documents.
#pragma once

#include <functional>
#include <vector>

namespace tarn::tool::report {

struct Estimate {
  double value = 0;
  double low = 0;
  double high = 0;
};

// The middle value, or the mean of the two in the middle; 0 of none.
double Median(std::vector<double> values);

// The median of `values` and the interval that holds it with this confidence (0.95). The same values give the same
// interval each time: the resamples are drawn from a fixed seed.
Estimate BootstrapMedian(const std::vector<double>& values, double confidence);

// Two samples drawn anew independently of each other: the estimate of median(after) / median(before).
Estimate BootstrapChange(const std::vector<double>& before, const std::vector<double>& after, double confidence);

}  // namespace tarn::tool::report
