// SPDX-License-Identifier: Apache-2.0
//
// The metrics of a process as text for Prometheus and as JSON.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/tools/monitor/made_observations.h"
#include "tools/monitor/alerts.h"
#include "tools/monitor/pages/metrics.h"
#include "tools/monitor/trend.h"

namespace tarn::tool {
namespace {

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// Lines that are no comments; each must be a sample, and none there twice.
std::vector<std::string> SeriesOf(const std::string& text) {
  static const std::regex sample(
      R"(([a-z_]+(\{[a-z_]+="([^"\\\n]|\\.)*"(,[a-z_]+="([^"\\\n]|\\.)*")*\})?) [-+.e0-9]+)");
  std::vector<std::string> series;
  std::set<std::string> seen;
  for (const std::string& line : Lines(text)) {
    if (line.starts_with('#')) continue;
    std::smatch match;
    EXPECT_TRUE(std::regex_match(line, match, sample)) << line;
    EXPECT_TRUE(seen.insert(match[1]).second) << line;
    series.push_back(match[1]);
  }
  return series;
}

bool Has(const std::string& text, const std::string& line) {
  const auto lines = Lines(text);
  return std::ranges::find(lines, line) != lines.end();
}

TEST(Metrics, Prometheus) {
  Observation now = At(1, 2);
  now.library_version = "0.1.0";
  now.stats.mallocs = 7;
  now.stats.stalls_by_time[0] = 3;
  now.stats.stalls_by_time[23] = 2;
  const std::string text = FormatMetrics(now, {{"heap_mb", 2, 1, 0}}, MetricsFormat::kPrometheus);
  SeriesOf(text);
  EXPECT_TRUE(Has(text, "# TYPE tarn_build_info gauge"));
  EXPECT_TRUE(Has(text, "tarn_build_info{version=\"0.1.0\"} 1"));
  EXPECT_TRUE(Has(text, "# TYPE tarn_allocations_total counter"));
  EXPECT_TRUE(Has(text, "tarn_allocations_total 7"));
  EXPECT_TRUE(Has(text, "tarn_allocated_bytes 2097152"));
  EXPECT_TRUE(Has(text, "tarn_stall_seconds_bucket{le=\"1e-06\"} 3"));
  EXPECT_TRUE(Has(text, "tarn_stall_seconds_bucket{le=\"+Inf\"} 5"));
  EXPECT_TRUE(Has(text, "tarn_stall_seconds_count 5"));
  EXPECT_TRUE(Has(text, "tarn_alert_firing{alert=\"heap_mb\"} 1"));
  EXPECT_TRUE(Has(text, "tarn_alert_firing{alert=\"pause_ms\"} 0"));
  EXPECT_EQ(text.find("tarn_limit_bytes"), std::string::npos);
  EXPECT_EQ(text.find("# EOF"), std::string::npos);
}

TEST(Metrics, OpenMetrics) {
  Observation now = At(1, 2);
  now.stats.mallocs = 7;
  now.stats.next_gc_bytes = 4096;
  const std::string text = FormatMetrics(now, {}, MetricsFormat::kOpenMetrics);
  EXPECT_TRUE(Has(text, "# TYPE tarn_build info"));
  EXPECT_TRUE(Has(text, "# TYPE tarn_allocations counter"));
  EXPECT_TRUE(Has(text, "tarn_allocations_total 7"));
  EXPECT_TRUE(Has(text, "tarn_limit_bytes 4096"));
  EXPECT_TRUE(text.ends_with("\n# EOF\n"));
}

TEST(Metrics, SeveralProcesses) {
  Observation limited = At(1, 2);
  limited.stats.next_gc_bytes = 4096;
  limited.pools = {Pool("p", TARN_KIND_POOL, 1)};
  const std::vector<TargetMetrics> targets = {
      {"a", At(1, 2), {}}, {"b", limited, {{"heap_mb", 2, 1, 0}}}, {"c", std::nullopt, {}}};
  for (const auto format : {MetricsFormat::kPrometheus, MetricsFormat::kOpenMetrics}) {
    const std::string text = FormatMetrics(targets, format);
    SeriesOf(text);
    EXPECT_TRUE(Has(text, "tarn_target_up{target=\"b\"} 1"));
    EXPECT_TRUE(Has(text, "tarn_target_up{target=\"c\"} 0"));
    EXPECT_TRUE(Has(text, "tarn_allocated_bytes{target=\"a\"} 2097152"));
    EXPECT_TRUE(Has(text, "tarn_limit_bytes{target=\"b\"} 4096"));
    EXPECT_TRUE(Has(text, "tarn_pool_live_bytes{target=\"b\",pool=\"p\",kind=\"pool\"} 1"));
    EXPECT_TRUE(Has(text, "tarn_stall_seconds_bucket{target=\"a\",le=\"+Inf\"} 0"));
    EXPECT_TRUE(Has(text, "tarn_alert_firing{target=\"b\",alert=\"heap_mb\"} 1"));
    EXPECT_TRUE(Has(text, "tarn_alert_firing{target=\"a\",alert=\"heap_mb\"} 0"));
    // Each family once, with the samples of all targets behind it.
    std::set<std::string> families;
    std::string family;
    for (const std::string& line : Lines(text)) {
      if (line.starts_with("# HELP ")) {
        family = line.substr(7, line.find(' ', 7) - 7);
        EXPECT_TRUE(families.insert(family).second) << line;
      } else if (!line.starts_with('#')) {
        EXPECT_TRUE(line.starts_with(family)) << line << " in " << family;
      }
    }
    EXPECT_TRUE(families.contains("tarn_limit_bytes"));
  }
}

TEST(Metrics, EveryFamilyHasHelpAndType) {
  for (const auto format : {MetricsFormat::kPrometheus, MetricsFormat::kOpenMetrics}) {
    std::set<std::string> helped;
    std::set<std::string> typed;
    for (const std::string& line : Lines(FormatMetrics(At(1, 2), {}, format))) {
      std::istringstream words(line);
      std::string sign, what, name;
      words >> sign >> what >> name;
      if (what != "HELP" && what != "TYPE") continue;
      EXPECT_TRUE((what == "HELP" ? helped : typed).insert(name).second) << line;
    }
    EXPECT_EQ(helped, typed);
    EXPECT_GT(typed.size(), 35u);
  }
}

TEST(Metrics, NamesOfPoolsAreEscapedAndUnique) {
  Observation now = At(1, 2);
  now.pools = {Pool("a\"b\\c\nd", TARN_KIND_ARENA, 1), Pool("\xFF\xC0", TARN_KIND_POOL, 1),
               Pool("\xFE\xC1", TARN_KIND_POOL, 2), Pool("gr\xC3\xB6\xC3\x9F", TARN_KIND_HEAP, 4),
               Pool("\xE2\x82", TARN_KIND_HEAP, 8)};
  const std::string text = FormatMetrics(now, {}, MetricsFormat::kPrometheus);
  SeriesOf(text);
  EXPECT_TRUE(Has(text, R"(tarn_pool_live_bytes{pool="a\"b\\c\nd",kind="arena"} 1)"));
  EXPECT_TRUE(Has(text, R"(tarn_pool_live_bytes{pool="??",kind="pool"} 3)"));
  EXPECT_TRUE(Has(text, "tarn_pool_capacity_bytes{pool=\"gr\xC3\xB6\xC3\x9F\",kind=\"heap\"} 8"));
}

TEST(Metrics, SeriesAreBounded) {
  Observation now = At(1, 2);
  now.stats.next_gc_bytes = now.stats.hard_limit_bytes = 1;
  now.stats.class_count = TARN_MEMSTATS_MAX_CLASSES;
  for (std::uint64_t i = 0; i < TARN_MEMSTATS_MAX_CLASSES; ++i) {
    now.stats.by_size[i].size_bytes = 16 * (i + 1);
    now.stats.by_size[i].mallocs = 1;
  }
  std::int64_t all = 0;
  for (int i = 0; i < TARN_REGISTRY_RECORDS; ++i) {
    now.pools.push_back(Pool("pool" + std::to_string(i), TARN_KIND_POOL, i));
    all += i;
  }
  const std::string text = FormatMetrics(now, {}, MetricsFormat::kPrometheus);
  const auto series = SeriesOf(text);
  EXPECT_LT(series.size(), kMaxSeries);
  EXPECT_GT(series.size(), 200u);
  // Nothing is lost.
  std::int64_t sum = 0;
  for (const std::string& line : Lines(text))
    if (line.starts_with("tarn_pool_live_bytes{")) sum += std::stoll(line.substr(line.rfind(' ')));
  EXPECT_EQ(sum, all);
}

TEST(Metrics, Json) {
  Observation now = At(0.25, 3);
  now.stats.total_alloc_bytes = 10 << 20;
  TrendFigures trend;
  trend.alloc_rate_mb_sec = 1.23456;
  const nlohmann::json document = MetricsDocument(now, trend, {{"heap_mb", 3, 2, now.time_s}});
  EXPECT_EQ(document["timestamp"], "2027-01-15T08:00:00.250Z");
  EXPECT_EQ(document["metrics"]["heap_mb"], 3);
  EXPECT_EQ(document["metrics"]["total_alloc_mb"], 10);
  EXPECT_EQ(document["metrics"]["alloc_rate_mb_sec"], 1.235);
  EXPECT_FALSE(document["metrics"].contains("limit_mb"));
  EXPECT_EQ(document["alerts"][0]["message"], "heap_mb = 3.00 exceeds threshold 2.00");
}

}  // namespace
}  // namespace tarn::tool
