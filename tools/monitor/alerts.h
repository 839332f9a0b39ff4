// SPDX-License-Identifier: Apache-2.0
//
// Alerts: figures that exceed their thresholds, and have done so clearly enough.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/monitor/trend.h"

namespace tarn::tool {

struct AlertRule {
  std::string_view name;
  double threshold;  // that it has if nobody sets another
  std::string_view meaning;
  // The figure to compare; none where there is none.
  std::optional<double> (*value)(const Observation& now, const TrendFigures& trend);
};

const std::vector<AlertRule>& AlertRules();

struct AlertSettings {
  std::map<std::string, double, std::less<>> thresholds;  // of rules that are on, by name
  double leak_window_s = 600;
  // An alert ends when its figure was below this share of the threshold this many times in succession. So a figure that
  // hovers at its threshold does not begin and end an alert all the time.
  double clear_below = 0.9;
  int clear_after = 2;
};

// All rules with their own thresholds.
AlertSettings DefaultAlertSettings();

struct Alert {
  std::string name;
  double value = 0;  // the latest
  double threshold = 0;
  double since_s = 0;  // since 1970
};

// "heap_mb = 612.00 exceeds threshold 500.00"
std::string AlertText(const Alert& alert);

// Of one life of a process.
class Alerts {
 public:
  explicit Alerts(AlertSettings settings) : settings_(std::move(settings)) {}
  // Returns what is to be logged: a line for each alert that begins or ends.
  std::vector<std::string> Add(const Observation& now, const TrendFigures& trend);
  std::vector<Alert> firing() const;  // in the order of the rules

 private:
  struct State {
    std::optional<Alert> alert;
    int calm = 0;  // observations in succession below what ends it
  };
  AlertSettings settings_;
  std::map<std::string, State, std::less<>> states_;
};

}  // namespace tarn::tool
