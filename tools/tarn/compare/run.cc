// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/compare/run.h"

#include <map>

namespace tarn::tool {

namespace {

using nlohmann::json;

std::optional<double> Metric(const json& metrics, std::string_view name) {
  const json* value = &metrics;
  while (!name.empty()) {
    const std::size_t dot = std::min(name.find('.'), name.size());
    const std::string key(name.substr(0, dot));
    if (!value->is_object() || !value->contains(key)) return std::nullopt;
    value = &(*value)[key];
    name.remove_prefix(std::min(dot + 1, name.size()));
  }
  if (!value->is_number()) return std::nullopt;
  return value->get<double>();
}

bool Counts(const Run& run, const Allocator* allocator, bool control) {
  return run.block >= 0 && run.control == control && run.allocator == allocator && run.failure.empty();
}

}  // namespace

std::optional<double> Figure(const Run& run, std::string_view measure) {
  const Outcome& outcome = run.outcome;
  const auto known = [](std::uint64_t bytes) -> std::optional<double> {
    if (bytes == 0) return std::nullopt;
    return static_cast<double>(bytes);
  };
  if (measure == "wall_s") return outcome.wall_s;
  if (measure == "user_s") return outcome.user_s;
  if (measure == "system_s") return outcome.system_s;
  if (measure == "cpu_s") return outcome.user_s + outcome.system_s;
  if (measure == "peak_rss_bytes") return known(outcome.peak_rss_bytes);
  if (measure == "end_rss_bytes") return known(outcome.end_rss_bytes);
  if (measure == "idle_rss_bytes") return known(outcome.idle_rss_bytes);
  if (measure == "minor_faults") return static_cast<double>(outcome.minor_faults);
  constexpr std::string_view kMetrics = "metrics.";
  if (measure.starts_with(kMetrics)) return Metric(run.metrics, measure.substr(kMetrics.size()));
  return std::nullopt;
}

std::vector<double> Figures(const std::vector<Run>& runs, const Allocator* allocator, bool control,
                            std::string_view measure) {
  std::vector<double> figures;
  for (const Run& run : runs) {
    if (!Counts(run, allocator, control)) continue;
    if (const auto figure = Figure(run, measure)) figures.push_back(*figure);
  }
  return figures;
}

std::vector<double> PairedRatios(const std::vector<Run>& runs, const Allocator* allocator, bool control,
                                 const Allocator* reference, std::string_view measure) {
  std::map<int, double> base;
  for (const Run& run : runs) {
    if (!Counts(run, reference, false)) continue;
    if (const auto figure = Figure(run, measure); figure && *figure > 0) base[run.block] = *figure;
  }
  std::vector<double> ratios;
  for (const Run& run : runs) {
    if (!Counts(run, allocator, control)) continue;
    const auto pair = base.find(run.block);
    const auto figure = Figure(run, measure);
    if (pair != base.end() && figure) ratios.push_back(*figure / pair->second);
  }
  return ratios;
}

}  // namespace tarn::tool
