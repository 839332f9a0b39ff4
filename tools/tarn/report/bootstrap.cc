#include "tools/tarn/report/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <random>

namespace tarn::tool::report {
namespace {

// Chosen: the ends of a 99 % interval then rest on 20 resamples each.
constexpr int kResamples = 4000;
constexpr unsigned kSeed = 20261121;

void Resample(const std::vector<double>& from, std::mt19937_64* random, std::vector<double>* to) {
  std::uniform_int_distribution<std::size_t> pick(0, from.size() - 1);
  to->clear();
  for (std::size_t i = 0; i < from.size(); ++i) to->push_back(from[pick(*random)]);
}

Estimate Percentiles(double value, std::vector<double> statistics, double confidence) {
  std::sort(statistics.begin(), statistics.end());
  const auto at = [&](double quantile) {
    const double position = quantile * static_cast<double>(statistics.size() - 1);
    return statistics[static_cast<std::size_t>(std::lround(position))];
  };
  const double tail = (1 - confidence) / 2;
  return {value, at(tail), at(1 - tail)};
}

}  // namespace

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

Estimate BootstrapMedian(const std::vector<double>& values, double confidence) {
  if (values.empty()) return {};
  std::mt19937_64 random(kSeed);
  std::vector<double> statistics;
  std::vector<double> sample;
  for (int i = 0; i < kResamples; ++i) {
    Resample(values, &random, &sample);
    statistics.push_back(Median(sample));
  }
  return Percentiles(Median(values), std::move(statistics), confidence);
}

Estimate BootstrapChange(const std::vector<double>& before, const std::vector<double>& after, double confidence) {
  if (before.empty() || after.empty()) return {};
  std::mt19937_64 random(kSeed);
  std::vector<double> statistics;
  std::vector<double> sample;
  for (int i = 0; i < kResamples; ++i) {
    Resample(before, &random, &sample);
    const double old_median = Median(sample);
    Resample(after, &random, &sample);
    statistics.push_back(Median(sample) / old_median);
  }
  return Percentiles(Median(after) / Median(before), std::move(statistics), confidence);
}

}  // namespace tarn::tool::report
