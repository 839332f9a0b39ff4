// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/alerts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

namespace tarn::tool {

namespace {

// Below this a heap's fragmentation is of no use to anybody: a few spans, one object in each.
constexpr std::uint64_t kFragmentationMinBytes = std::uint64_t{64} << 20;

std::optional<double> ShareOfLimit(const Observation& now, const TrendFigures&) {
  const std::uint64_t limit = std::min(now.stats.next_gc_bytes, now.stats.hard_limit_bytes);
  if (limit == UINT64_MAX || limit == 0) return std::nullopt;
  return 100 * static_cast<double>(now.stats.rss_bytes) / static_cast<double>(limit);
}

std::optional<double> Fragmentation(const Observation& now, const TrendFigures&) {
  if (now.stats.heap_inuse_bytes < kFragmentationMinBytes) return 0;
  return static_cast<double>(now.stats.fragmentation_permille) / 10;
}

std::optional<double> Growth(const Observation&, const TrendFigures& trend) {
  if (!trend.is_window_full) return std::nullopt;
  return trend.leak_mb_hour;
}

}  // namespace

// The first three are those of the monitors in Go. The others are chosen: no healthy program that was tried comes near.
const std::vector<AlertRule>& AlertRules() {
  static const std::vector<AlertRule> rules = {
      {"heap_mb", 500, "live objects, in MiB",
       [](const Observation& now, const TrendFigures&) {
         return std::optional(static_cast<double>(now.stats.alloc_bytes) / kMiB);
       }},
      {"alloc_rate_mb_sec", 50, "allocated within the last interval, in MiB per second",
       [](const Observation&, const TrendFigures& trend) { return std::optional(trend.alloc_rate_mb_sec); }},
      {"pause_ms", 100, "the longest stall of a slow path within the last interval, in ms",
       [](const Observation&, const TrendFigures& trend) { return std::optional(trend.pause_ms); }},
      {"leak_mb_hour", 60, "steady growth of the live objects over the window, in MiB per hour", Growth},
      {"returned_mb_sec", 200, "memory given back to the kernel, in MiB per second: it is wanted again at once",
       [](const Observation&, const TrendFigures& trend) { return std::optional(trend.returned_mb_sec); }},
      {"limit_percent", 90, "resident memory as a share of the limit", ShareOfLimit},
      {"fragmentation_percent", 50, "memory in spans without live objects, of heaps from 64 MiB on", Fragmentation},
      {"stall_ms_sec", 500, "stalls of all threads, in ms per second",
       [](const Observation&, const TrendFigures& trend) { return std::optional(trend.stall_ms_sec); }},
  };
  return rules;
}

AlertSettings DefaultAlertSettings() {
  AlertSettings settings;
  for (const AlertRule& rule : AlertRules()) settings.thresholds[std::string(rule.name)] = rule.threshold;
  return settings;
}

std::string AlertText(const Alert& alert) {
  return fmt::format("{} = {:.2f} exceeds threshold {:.2f}", alert.name, alert.value, alert.threshold);
}

std::vector<std::string> Alerts::Add(const Observation& now, const TrendFigures& trend) {
  std::vector<std::string> lines;
  for (const AlertRule& rule : AlertRules()) {
    const auto threshold = settings_.thresholds.find(rule.name);
    if (threshold == settings_.thresholds.end()) continue;
    const std::optional<double> value = rule.value(now, trend);
    State& state = states_[std::string(rule.name)];
    if (!state.alert) {
      if (!value || !(*value > threshold->second)) continue;
      state.alert = Alert{std::string(rule.name), *value, threshold->second, now.time_s};
      state.calm = 0;
      lines.push_back("ALERT: " + AlertText(*state.alert));
      continue;
    }
    // A limit that was lifted leaves nothing to compare; that is calm, too.
    if (value) state.alert->value = *value;
    state.calm = !value || *value <= threshold->second * settings_.clear_below ? state.calm + 1 : 0;
    if (state.calm < settings_.clear_after) continue;
    lines.push_back(
        fmt::format("ALERT over: {} = {:.2f}, threshold {:.2f}", rule.name, state.alert->value, threshold->second));
    state.alert.reset();
  }
  return lines;
}

std::vector<Alert> Alerts::firing() const {
  std::vector<Alert> firing;
  for (const AlertRule& rule : AlertRules()) {
    const auto state = states_.find(rule.name);
    if (state != states_.end() && state->second.alert) firing.push_back(*state->second.alert);
  }
  return firing;
}

}  // namespace tarn::tool
