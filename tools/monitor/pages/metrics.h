// SPDX-License-Identifier: Apache-2.0
//
// An observation in the formats of scrapers: Prometheus' text, OpenMetrics, and the JSON of monitors written in Go.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/monitor/alerts.h"
#include "tools/monitor/observation.h"
#include "tools/monitor/trend.h"

namespace tarn::tool {

enum class MetricsFormat { kPrometheus, kOpenMetrics };

inline constexpr std::string_view kPrometheusType = "text/plain; version=0.0.4; charset=utf-8";
inline constexpr std::string_view kOpenMetricsType = "application/openmetrics-text; version=1.0.0; charset=utf-8";

// Scrapers and the disks behind them pay for each series, so there is a bound, whatever the process holds.
inline constexpr std::size_t kMaxSeries = 300;

// Prometheus' text format 0.0.4, or OpenMetrics 1.0.
std::string FormatMetrics(const Observation& now, const std::vector<Alert>& alerts, MetricsFormat format);

// One of several processes.
struct TargetMetrics {
  std::string label;
  std::optional<Observation> now;  // none: it is gone
  std::vector<Alert> alerts;
};

// The same of several: each series has the label "target", and of each there is tarn_target_up, 0 where it is gone.
std::string FormatMetrics(const std::vector<TargetMetrics>& targets, MetricsFormat format);

// {"timestamp": RFC 3339, "metrics": {"heap_mb": ...}, "alerts": [...]}; MB are MiB, as in the programs of that kind.
nlohmann::json MetricsDocument(const Observation& now, const TrendFigures& trend, const std::vector<Alert>& alerts);

nlohmann::json AlertsJson(const std::vector<Alert>& alerts);

// "2026-11-26T19:58:20.123Z"
std::string Rfc3339(double time_s);

}  // namespace tarn::tool
