// SPDX-License-Identifier: Apache-2.0
//
// Observations over time: trends, alerts, and the history that the page draws.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "tests/tools/monitor/made_observations.h"
#include "tools/monitor/alerts.h"
#include "tools/monitor/history.h"
#include "tools/monitor/trend.h"

namespace tarn::tool {
namespace {

TEST(Trend, RatesAreOfTheLastInterval) {
  Trend trend(60);
  Observation now = At(10, 1);
  now.stats.total_alloc_bytes = 100 << 20;
  now.stats.stall_longest_ns = 5'000'000;
  trend.Add(now);
  EXPECT_EQ(trend.figures().alloc_rate_mb_sec, 0);
  EXPECT_EQ(trend.figures().pause_ms, 0);
  now.steady_s = 12;
  now.stats.total_alloc_bytes += 8 << 20;
  now.stats.stalls_by_time[11] += 1;  // 1024 to 2048 us
  trend.Add(now);
  EXPECT_DOUBLE_EQ(trend.figures().alloc_rate_mb_sec, 4);
  EXPECT_DOUBLE_EQ(trend.figures().pause_ms, 1.024);
  now.steady_s = 13;
  now.stats.stall_longest_ns = 7'000'000;
  trend.Add(now);
  EXPECT_DOUBLE_EQ(trend.figures().pause_ms, 7);
  EXPECT_EQ(trend.figures().alloc_rate_mb_sec, 0);
}

double GrowthOf(double (*live_mb)(double second)) {
  Trend trend(600);
  for (double second = 0; second <= 900; second += 5) trend.Add(At(second, live_mb(second)));
  EXPECT_TRUE(trend.figures().is_window_full);
  return trend.figures().leak_mb_hour;
}

TEST(Trend, SteadyGrowthIsALeak) {
  EXPECT_NEAR(GrowthOf([](double second) { return 100 + second / 60; }), 60, 3);
  // Also below a heap that swings by far more.
  EXPECT_NEAR(GrowthOf([](double second) { return 100 + second / 60 + 50 * (static_cast<int>(second) % 50 < 25); }), 60,
              10);
}

TEST(Trend, OtherHeapsAreNone) {
  EXPECT_EQ(GrowthOf([](double) { return 100.0; }), 0);
  EXPECT_EQ(GrowthOf([](double second) { return 100 + 50.0 * (static_cast<int>(second) % 50 < 25); }), 0);
  // Steps, of a start or a change of load.
  EXPECT_EQ(GrowthOf([](double second) { return second < 600 ? 100.0 : 500.0; }), 0);
  EXPECT_EQ(GrowthOf([](double second) { return std::min(second, 500.0); }), 0);
  EXPECT_EQ(GrowthOf([](double second) { return 1000 - second; }), 0);
  // Nothing is said before the window is full.
  Trend trend(600);
  for (double second = 0; second < 600; second += 5) trend.Add(At(second, second));
  EXPECT_EQ(trend.figures().leak_mb_hour, 0);
  EXPECT_FALSE(trend.figures().is_window_full);
}

TEST(Alerts, BeginAndEnd) {
  Alerts alerts(DefaultAlertSettings());
  const auto lines = [&](double live_mb) { return alerts.Add(At(0, live_mb), {}); };
  EXPECT_TRUE(lines(500).empty());
  EXPECT_EQ(lines(512), std::vector<std::string>{"ALERT: heap_mb = 512.00 exceeds threshold 500.00"});
  ASSERT_EQ(alerts.firing().size(), 1u);
  // Not again, not over yet, and not over by one look.
  EXPECT_TRUE(lines(600).empty());
  EXPECT_EQ(alerts.firing()[0].value, 600);
  EXPECT_TRUE(lines(480).empty());
  EXPECT_TRUE(lines(440).empty());
  EXPECT_TRUE(lines(480).empty());
  EXPECT_TRUE(lines(440).empty());
  EXPECT_EQ(lines(440), std::vector<std::string>{"ALERT over: heap_mb = 440.00, threshold 500.00"});
  EXPECT_TRUE(alerts.firing().empty());
}

TEST(Alerts, Rules) {
  Observation now = At(0, 40);
  now.stats.rss_bytes = 95 << 20;
  now.stats.heap_inuse_bytes = 100 << 20;
  now.stats.fragmentation_permille = 600;
  TrendFigures trend;
  trend.alloc_rate_mb_sec = 51;
  trend.pause_ms = 101;
  trend.returned_mb_sec = 201;
  trend.stall_ms_sec = 501;
  trend.leak_mb_hour = 61;
  const auto names = [&] {
    Alerts alerts(DefaultAlertSettings());
    alerts.Add(now, trend);
    std::set<std::string> found;
    for (const Alert& alert : alerts.firing()) found.insert(alert.name);
    return found;
  };
  EXPECT_EQ(names(), (std::set<std::string>{"alloc_rate_mb_sec", "pause_ms", "returned_mb_sec", "stall_ms_sec",
                                            "fragmentation_percent"}));
  now.stats.next_gc_bytes = 100 << 20;
  trend.is_window_full = true;
  now.stats.heap_inuse_bytes = 60 << 20;
  EXPECT_EQ(names(), (std::set<std::string>{"alloc_rate_mb_sec", "pause_ms", "returned_mb_sec", "stall_ms_sec",
                                            "limit_percent", "leak_mb_hour"}));
}

TEST(History, KeepsAnHourOfTheUsualIntervalWhole) {
  History history;
  for (int i = 0; i <= 2000; ++i) history.Add(At(5.0 * i, i));
  const nlohmann::json columns = history.Json();
  EXPECT_EQ(columns["times_ms"].size(), 721u);
  EXPECT_EQ(columns["times_ms"][0], 1'800'000'000'000 + (2000 - 720) * 5000);
  for (const auto& [name, column] : columns.items()) EXPECT_EQ(column.size(), 721u) << name;
  EXPECT_EQ(columns["live_bytes"][720], 2000 << 20);
  EXPECT_TRUE(columns["limit_bytes"][0].is_null());
}

TEST(History, IsThinnedEvenly) {
  History history;
  for (int i = 0; i < 72'000; ++i) {
    history.Add(At(0.1 * i, i));
    ASSERT_LE(history.size(), kHistoryPoints);
    // The newest is always there.
    if (i % 1000 != 0) continue;
    EXPECT_EQ(history.Json()["live_bytes"].back(), static_cast<std::uint64_t>(i) << 20);
  }
  const nlohmann::json times = history.Json()["times_ms"];
  EXPECT_GT(times.size(), kHistoryPoints / 4);
  const auto at = [&](std::size_t i) { return times[i].get<std::int64_t>(); };
  EXPECT_NEAR(static_cast<double>(at(times.size() - 1) - at(0)), 3'600'000, 15'000);
  for (std::size_t i = 1; i < times.size(); ++i) EXPECT_LE(at(i) - at(i - 1), 15'000);
}

TEST(History, TheLowerLimit) {
  History history;
  Observation now = At(0, 1);
  now.stats.next_gc_bytes = 7;
  now.stats.hard_limit_bytes = 5;
  history.Add(now);
  EXPECT_EQ(history.Json()["limit_bytes"][0], 5);
}

}  // namespace
}  // namespace tarn::tool
