// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/report/html.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <map>

#include <fmt/format.h>

#include "tools/base/figures.h"

namespace tarn::tool::report {
namespace {

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// True if a measure has this unit: at its end, or at the end of what comes before a dot.
bool HasUnit(std::string_view measure, std::string_view unit) {
  return EndsWith(measure, unit) || measure.find(std::string(unit) + ".") != std::string_view::npos;
}

}  // namespace

std::string Identifier(std::string_view text) {
  std::string identifier;
  for (const char c : text) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
    identifier += plain ? std::string(1, c) : fmt::format("-{:02x}", static_cast<unsigned char>(c));
  }
  return identifier;
}

std::string Count(double count) {
  constexpr std::array<const char*, 4> kUnits = {"", " k", " M", " G"};
  std::size_t unit = 0;
  while (std::fabs(count) >= 999.5 && unit + 1 < kUnits.size()) {
    count /= 1000;
    ++unit;
  }
  if (unit == 0 && count == std::floor(count)) return fmt::format("{:.0f}", count);
  return ThreeDigits(count) + kUnits[unit];
}

std::string Ratio(double ratio) {
  if (ratio > 0 && ratio < 0.0995) return fmt::format("{:.3f}", ratio);
  return ratio < 9.995 ? fmt::format("{:.2f}", ratio) : ratio < 99.95 ? fmt::format("{:.1f}", ratio) : Count(ratio);
}

std::string Figure(std::string_view measure, double value) {
  if (IsBytes(measure)) return FormatBytes(value);
  if (HasUnit(measure, "_ns")) return FormatSeconds(value * 1e-9);
  if (HasUnit(measure, "_us")) return FormatSeconds(value * 1e-6);
  if (HasUnit(measure, "_ms")) return FormatSeconds(value * 1e-3);
  if (HasUnit(measure, "_s")) return FormatSeconds(value);
  return Count(value);
}

bool IsBytes(std::string_view measure) {
  constexpr std::string_view kUnit = "bytes";
  const auto is_end = [](char c) { return c == '_' || c == '.'; };
  for (std::size_t at = measure.find(kUnit); at != std::string_view::npos; at = measure.find(kUnit, at + 1)) {
    const std::size_t end = at + kUnit.size();
    if ((at == 0 || is_end(measure[at - 1])) && (end == measure.size() || is_end(measure[end]))) return true;
  }
  return false;
}

std::string MeasureTitle(std::string_view measure) {
  static const std::map<std::string, std::string, std::less<>> kTitles = {
      {"wall_s", "wall time"},          {"cpu_s", "CPU time"},
      {"user_s", "user time"},          {"system_s", "system time"},
      {"peak_rss_bytes", "peak RSS"},   {"end_rss_bytes", "RSS at the end"},
      {"idle_rss_bytes", "RSS, idle"},  {"minor_faults", "minor faults"},
      {"major_faults", "major faults"}, {"context_switches", "context switches"},
  };
  if (const auto found = kTitles.find(measure); found != kTitles.end()) return found->second;
  constexpr std::string_view kMetrics = "metrics.";
  if (measure.substr(0, kMetrics.size()) == kMetrics) measure.remove_prefix(kMetrics.size());
  constexpr std::string_view kLatency = "latency_ns.";
  if (measure.substr(0, kLatency.size()) == kLatency) {
    measure.remove_prefix(kLatency.size());
    const std::size_t dot = measure.rfind('.');
    std::string quantile(measure.substr(dot == std::string_view::npos ? 0 : dot + 1));
    if (quantile == "p999") quantile = "p99.9";
    return dot == std::string_view::npos ? quantile : quantile + " of " + std::string(measure.substr(0, dot));
  }
  std::string title(measure);
  for (const std::string_view unit : {"_bytes", "_ns", "_us", "_ms", "_s"}) {
    if (EndsWith(title, unit)) {
      title.resize(title.size() - unit.size());
      break;
    }
  }
  std::replace(title.begin(), title.end(), '_', ' ');
  std::replace(title.begin(), title.end(), '.', ' ');
  return title;
}

}  // namespace tarn::tool::report
