// SPDX-License-Identifier: Apache-2.0
//
// The parts of `tarn serve` that need no process: metrics, trends, alerts, settings, addresses.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tools/inspect/requests.h"
#include "tools/monitor/alerts.h"
#include "tools/monitor/history.h"
#include "tools/monitor/pages/heap_document.h"
#include "tools/monitor/pages/live_page.h"
#include "tools/monitor/pages/metrics.h"
#include "tools/monitor/pages/pprof.h"
#include "tools/monitor/server/http.h"
#include "tools/monitor/server/listen.h"
#include "tools/monitor/server/request_frame.h"
#include "tools/monitor/settings.h"
#include "tools/monitor/target_spec.h"
#include "tools/monitor/trend.h"

namespace tarn::tool {
namespace {

// A process with that many live MiB at a second.
Observation At(double second, double live_mb) {
  Observation now;
  now.time_s = 1'800'000'000 + second;
  now.steady_s = second;
  now.stats.alloc_bytes = static_cast<std::uint64_t>(live_mb * kMiB);
  now.stats.next_gc_bytes = now.stats.hard_limit_bytes = UINT64_MAX;
  return now;
}

tarn_registry_record Pool(const std::string& name, std::uint32_t kind, std::int64_t bytes) {
  tarn_registry_record pool{};
  pool.kind = kind;
  std::memcpy(pool.name, name.data(), std::min(name.size(), sizeof pool.name - 1));
  pool.live_bytes = bytes;
  pool.capacity_bytes = 2 * bytes;
  return pool;
}

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

std::string Complaint(const std::string& text) {
  MonitorSettings settings;
  try {
    ApplySettings(text, "file", &settings);
  } catch (const ToolError& error) {
    EXPECT_EQ(error.exit_code(), kExitConfiguration);
    return error.what();
  }
  return "";
}

TEST(Settings, AreRead) {
  MonitorSettings settings;
  ApplySettings(R"({"listen": "[::1]:1", "allow_hosts": ["a", "b"], "interval": "500ms", "leak_window": "1h",
                    "clear_below": 0.5, "clear_after": 3, "thresholds": {"heap_mb": 7, "pause_ms": "off"}})",
                "file", &settings);
  EXPECT_EQ(settings.listen, "[::1]:1");
  EXPECT_EQ(settings.allow_hosts.size(), 2u);
  EXPECT_EQ(settings.interval_s, 0.5);
  EXPECT_EQ(settings.alerts.leak_window_s, 3600);
  EXPECT_EQ(settings.alerts.clear_below, 0.5);
  EXPECT_EQ(settings.alerts.clear_after, 3);
  EXPECT_EQ(settings.alerts.thresholds.at("heap_mb"), 7);
  EXPECT_FALSE(settings.alerts.thresholds.contains("pause_ms"));
  EXPECT_EQ(settings.alerts.thresholds.at("alloc_rate_mb_sec"), 50);
}

TEST(Settings, AreCheckedStrictly) {
  EXPECT_EQ(Complaint("{}"), "");
  EXPECT_EQ(Complaint(R"({"intervall": "5s"})"), "file: unknown key intervall; did you mean interval?");
  EXPECT_EQ(Complaint(R"({"thresholds": {"heap_md": 1}})"), "file: unknown key heap_md; did you mean heap_mb?");
  EXPECT_EQ(Complaint(R"({"interval": "5s", "interval": "6s"})"), "file: interval is set twice");
  for (const char* wrong :
       {"", "[]", "{", "{\"interval\": 5}", "{\"interval\": \"5\"}", "{\"interval\": \"-5s\"}",
        "{\"interval\": \"1ms\"}", "{\"thresholds\": {\"heap_mb\": \"on\"}}", "{\"thresholds\": {\"heap_mb\": -1}}",
        "{\"thresholds\": 1}", "{\"clear_after\": 1.5}", "{\"clear_after\": 0}", "{\"clear_below\": 2}",
        "{\"allow_hosts\": \"a\"}", "{\"listen\": 9464}"})
    EXPECT_TRUE(Complaint(wrong).starts_with("file: ")) << wrong << ": " << Complaint(wrong);
}

TEST(Settings, Targets) {
  MonitorSettings settings;
  ApplySettings(R"({"allow_control": true,
                    "targets": [{"name": "nginx", "label": "web"}, {"pid_file": "/run/a.pid"}, {"pid": 4711}]})",
                "file", &settings);
  EXPECT_TRUE(settings.allow_control);
  ASSERT_EQ(settings.targets.size(), 3u);
  EXPECT_EQ(settings.targets[0].label, "web");
  EXPECT_EQ(settings.targets[0].by, Watched::By::kName);
  EXPECT_EQ(settings.targets[1].what, "/run/a.pid");
  EXPECT_EQ(settings.targets[2].what, "4711");
  EXPECT_EQ(Complaint(R"({"targets": [{"nam": "x"}]})"), "file: unknown key nam; did you mean name?");
  for (const char* wrong :
       {R"({"targets": {}})", R"({"targets": []})", R"({"targets": ["nginx"]})", R"({"targets": [{}]})",
        R"({"targets": [{"label": "x"}]})", R"({"targets": [{"name": "x", "pid": 1}]})",
        R"({"targets": [{"name": "x", "name": "y"}]})", R"({"targets": [{"name": ""}]})",
        R"({"targets": [{"name": 1}]})", R"({"targets": [{"pid": "1"}]})", R"({"targets": [{"pid": 0}]})",
        R"({"targets": [{"pid": 1.5}]})", R"({"targets": [{"pid": 1e99}]})",
        R"({"targets": [{"name": "x", "label": ""}]})", R"({"targets": [{"name": "x", "label": "a/b"}]})",
        R"({"targets": [{"name": "x"}, {"name": "x"}]})",
        R"({"targets": [{"name": "x", "label": "l"}, {"name": "y", "label": "l"}]})", R"({"allow_control": 1})"})
    EXPECT_TRUE(Complaint(wrong).starts_with("file: ")) << wrong << ": " << Complaint(wrong);
}

std::vector<std::string> LabelsOf(std::vector<TargetSpec> specs) {
  GiveLabels(&specs);
  std::vector<std::string> labels;
  for (const TargetSpec& spec : specs) labels.push_back(spec.label);
  return labels;
}

TEST(TargetSpecs, Labels) {
  using By = Watched::By;
  const auto spec = [](By by, const char* text) { return ParseTargetSpec(by, text); };
  EXPECT_EQ(spec(By::kName, "web=nginx").label, "web");
  EXPECT_EQ(spec(By::kName, "web=nginx").what, "nginx");
  EXPECT_EQ(spec(By::kName, "x=a=b").what, "a=b");
  EXPECT_EQ(spec(By::kPidFile, "/run/a=b.pid").what, "/run/a=b.pid");
  EXPECT_EQ(spec(By::kPid, "web=4711").what, "4711");
  for (const char* wrong : {"", "x", "web=", "web=x", "0", "-1"})
    EXPECT_THROW(spec(By::kPid, wrong), UsageError) << wrong;

  const std::string own = std::to_string(getpid());
  const std::string name = ProcessName(getpid());
  EXPECT_EQ(LabelsOf({{By::kPid, own, ""}}), std::vector<std::string>{name});
  EXPECT_EQ(LabelsOf({{By::kPid, own, ""}, {By::kName, name, ""}}), (std::vector<std::string>{name + "-" + own, name}));
  EXPECT_EQ(LabelsOf({{By::kName, "a b", ""}, {By::kName, "a_b", ""}, {By::kPidFile, "/run/a_b.pid", ""}}),
            (std::vector<std::string>{"a_b", "a_b-2", "a_b-3"}));
  // A target that was given a label has it.
  EXPECT_EQ(LabelsOf({{By::kName, "x", ""}, {By::kName, "y", "x"}}), (std::vector<std::string>{"x-2", "x"}));
  EXPECT_EQ(LabelsOf({{By::kName, "(sd-pam)", ""}, {By::kPidFile, "/run/.pid", ""}, {By::kName, "..", ""}}),
            (std::vector<std::string>{"sd-pam_", "pid", "target"}));
  EXPECT_THROW(LabelsOf({{By::kName, "x", "a"}, {By::kName, "y", "a"}}), UsageError);
  EXPECT_THROW(LabelsOf({{By::kName, "x", "a"}, {By::kName, "x", "b"}}), UsageError);
  EXPECT_EQ(LabelsOf({{By::kName, std::string(200, 'x'), ""}})[0].size(), 48u);
  for (const char* wrong : {"", ".", "..", "-a", "_a", "a/b", "a b", "\xC3\xA4"})
    EXPECT_FALSE(IsTargetLabel(wrong)) << wrong;
}

TEST(Requests, Limits) {
  EXPECT_EQ(ParseLimit("256MiB"), std::uint64_t{256} << 20);
  EXPECT_EQ(ParseLimit("1048576"), std::uint64_t{1} << 20);
  EXPECT_EQ(ParseLimit("1048576B"), std::uint64_t{1} << 20);
  EXPECT_EQ(ParseLimit("64TiB"), std::uint64_t{64} << 40);
  EXPECT_EQ(ParseLimit("off"), kNoLimit);
  EXPECT_EQ(ParseLimit("auto"), kAutoLimit);
  for (const char* wrong : {"", "0", "1", "1023KiB", "65TiB", "16777216TiB", "18446744073709551616", "-1MiB", "1.5GiB",
                            "1 GiB", "1GB", "1gib", "MiB", "none", "50%"})
    EXPECT_EQ(ParseLimit(wrong), std::nullopt) << wrong;
}

TEST(Settings, ThresholdsOfTheCommandLine) {
  AlertSettings settings = DefaultAlertSettings();
  ApplyThreshold("heap_mb=2000.5", &settings);
  ApplyThreshold("pause_ms=off", &settings);
  EXPECT_EQ(settings.thresholds.at("heap_mb"), 2000.5);
  EXPECT_FALSE(settings.thresholds.contains("pause_ms"));
  for (const char* wrong :
       {"", "heap=1", "heap_mb", "heap_mb=", "heap_mb=x", "heap_mb=-1", "heap_mb=nan", "heap_mb=1x"})
    EXPECT_THROW(ApplyThreshold(wrong, &settings), UsageError) << wrong;
}

TEST(Listen, Addresses) {
  EXPECT_EQ(ParseListenAddress("127.0.0.1:80").port, 80);
  EXPECT_EQ(ParseListenAddress("9464").host, "127.0.0.1");
  EXPECT_EQ(ParseListenAddress("localhost:1").host, "127.0.0.1");
  EXPECT_EQ(ParseListenAddress("[::1]:1").host, "::1");
  EXPECT_EQ(ParseListenAddress("unix:/run/x").unix_path, "/run/x");
  EXPECT_TRUE(ParseListenAddress("127.1.2.3:0").is_loopback());
  EXPECT_TRUE(ParseListenAddress("[::1]:0").is_loopback());
  EXPECT_FALSE(ParseListenAddress("0.0.0.0:0").is_loopback());
  for (const char* wrong : {"", ":9464", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "::1:80",
                            "example.org:80", "127.0.0.1:80x", "unix:", "[::1]", "1.2.3:4"})
    EXPECT_THROW(ParseListenAddress(wrong), UsageError) << wrong;
  EXPECT_THROW(ParseListenAddress("unix:/" + std::string(200, 'x')), UsageError);
}

TEST(Listen, HostsThatAreAnswered) {
  const HostRule loopback(ParseListenAddress("127.0.0.1:80"), {"Monitor.Example", "other:80"});
  for (const char* host : {"localhost", "localhost:80", "LocalHost.:80", "127.0.0.1:9", "127.9.9.9", "[::1]:80",
                           "[::1]", "monitor.example:80", "other"})
    EXPECT_TRUE(loopback.Allows(host)) << host;
  for (const char* host : {"", "evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example",
                           "192.0.2.1", "[2001:db8::1]:80", "monitor.example.evil", "["})
    EXPECT_FALSE(loopback.Allows(host)) << host;
  const HostRule one(ParseListenAddress("192.0.2.1:80"), {});
  EXPECT_TRUE(one.Allows("192.0.2.1:80"));
  EXPECT_FALSE(one.Allows("192.0.2.2:80"));
  const HostRule any(ParseListenAddress("0.0.0.0:80"), {});
  EXPECT_TRUE(any.Allows("192.0.2.2:80"));
  EXPECT_FALSE(any.Allows("evil.example"));
}

TEST(Http, PreferredType) {
  const std::vector<std::string_view> types = {"text/plain", "application/openmetrics-text", "application/json"};
  const auto preferred = [&](std::string_view accept) { return PreferredType(accept, types); };
  EXPECT_EQ(preferred(""), 0);
  EXPECT_EQ(preferred("*/*"), 0);
  EXPECT_EQ(preferred("application/json"), 2);
  EXPECT_EQ(preferred("Application/JSON"), 2);
  EXPECT_EQ(preferred("application/*"), 1);
  EXPECT_EQ(preferred("text/html"), -1);
  // Prometheus 2.42's own, and that of browsers.
  EXPECT_EQ(preferred("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
                      "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"),
            1);
  EXPECT_EQ(preferred("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), 0);
  EXPECT_EQ(preferred("text/plain;q=0.2, application/json;q=0.9"), 2);
  EXPECT_EQ(preferred("text/plain;q=0, */*"), 1);
  EXPECT_EQ(preferred("text/plain;q=x"), -1);
  EXPECT_EQ(preferred(",;,q=,/"), -1);
}

TEST(Http, FormParameters) {
  using Parameters = std::map<std::string, std::string>;
  EXPECT_EQ(FormParameters(""), Parameters());
  EXPECT_EQ(FormParameters("a=1&b=%32+x&a=3&c&=d"), (Parameters{{"a", "1"}, {"b", "2 x"}, {"c", ""}, {"", "d"}}));
  EXPECT_EQ(FormParameters("a=%"), (Parameters{{"a", "%"}}));
  EXPECT_EQ(FormParameters("a=%4"), (Parameters{{"a", "%4"}}));
  EXPECT_EQ(FormParameters("a=%4g%41"), (Parameters{{"a", "%4gA"}}));
}

TEST(Http, Frames) {
  const auto frame = [](const std::string& headers) {
    return ReadFrame("POST /a?b HTTP/1.1\r\n" + headers + "\r\n", 100);
  };
  const std::string head = "POST /a?b HTTP/1.1\r\nHost: x\r\ncontent-LENGTH:\t 7 \r\n\r\n";
  EXPECT_EQ(ReadFrame(head, 100).method, "POST");
  EXPECT_EQ(ReadFrame(head, 100).path, "/a");
  EXPECT_EQ(ReadFrame(head, 100).body_bytes, 7u);
  EXPECT_EQ(ReadFrame(head, 100).refusal, 0);
  EXPECT_EQ(frame("").body_bytes, 0u);
  EXPECT_EQ(frame("Content-Length: 100\r\n").body_bytes, 100u);
  EXPECT_EQ(frame("Content-Length: 101\r\n").refusal, 413);
  EXPECT_EQ(frame("Content-Length: 99999999999999999999999999\r\n").refusal, 413);
  EXPECT_EQ(frame("Transfer-Encoding: identity\r\nContent-Length: 1\r\n").refusal, 411);
  for (const char* wrong : {"Content-Length: \r\n", "Content-Length: +1\r\n", "Content-Length: 1 1\r\n",
                            "Content-Length: 1\r\nContent-Length: 2\r\n", "a: b\n\r\n", "a: b\rc\r\n", " a: b\r\n"})
    EXPECT_EQ(frame(wrong).refusal, 400) << wrong;
  // Anything may come.
  for (const char* text : {"", "\r\n\r\n", "POST\r\n\r\n", "POST \r\n\r\n", " / \r\n\r\n", "POST /"})
    EXPECT_EQ(ReadFrame(text, 100).body_bytes, 0u) << text;
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

// A function without a place in a file, called at an address.
std::uint32_t AddCall(Profile* profile, const std::string& name) {
  const StringId id = profile->strings.Intern(name);
  profile->functions.push_back({id, id, 0, 0});
  const auto function = static_cast<std::uint32_t>(profile->functions.size() - 1);
  profile->locations.push_back({Profile::kNone, 0x1000 + function, {{function, 3}}, false});
  return static_cast<std::uint32_t>(profile->locations.size() - 1);
}

TEST(HeapDocument, StacksBeginAtMainAndAreAddedUp) {
  Profile profile = NewHeapProfile(524288);
  const std::uint32_t main = AddCall(&profile, "main");
  const std::uint32_t f = AddCall(&profile, "f");
  const std::uint32_t hidden = AddCall(&profile, "malloc");
  profile.samples.push_back({{hidden, f, main}, {1, 10, 1, 10}, {}});
  profile.samples.push_back({{f, main}, {2, 40, 1, 20}, {}});
  profile.samples.push_back({{main}, {9, 90, 0, 0}, {}});
  // Another address in f.
  profile.locations.push_back(profile.locations[f]);
  profile.locations.back().address += 16;
  profile.samples.push_back({{static_cast<std::uint32_t>(profile.locations.size() - 1), main}, {1, 8, 1, 8}, {}});
  const nlohmann::json document = HeapDocument(profile);
  ASSERT_EQ(document["stacks"].size(), 2u);
  const auto names = [&](const nlohmann::json& stack) {
    std::string text;
    for (const nlohmann::json& call : stack)
      text += document["strings"][document["calls"][call.get<std::size_t>()][0].get<std::size_t>()].get<std::string>() +
              ";";
    return text;
  };
  EXPECT_EQ(names(document["stacks"][0]), "main;f;");
  EXPECT_EQ(document["values"][0], nlohmann::json({4, 58, 3, 38}));
  EXPECT_EQ(names(document["stacks"][1]), "main;");
  EXPECT_EQ(document["calls"][0][2], 3);
  EXPECT_EQ(document["other_stacks"], 0);
}

TEST(HeapDocument, IsBoundedAndLosesNothing) {
  Profile profile = NewHeapProfile(524288);
  std::int64_t sum = 0;
  for (int i = 1; i <= 100; ++i) {
    profile.samples.push_back({{AddCall(&profile, std::to_string(i) + std::string(5000, 'x'))}, {1, i, 1, i}, {}});
    sum += i;
  }
  for (const HeapDocumentLimits limits :
       {HeapDocumentLimits{10, 4 << 20, 1 << 10}, HeapDocumentLimits{2000, 8 << 10, 700}}) {
    const nlohmann::json document = HeapDocument(profile, limits);
    EXPECT_LE(document["stacks"].size(), 12u);
    EXPECT_GE(document["stacks"].size(), 10u);
    EXPECT_EQ(document["stacks"].size() + document["other_stacks"].get<std::size_t>(), 100u);
    EXPECT_EQ(document["values"][0][3], 100);
    std::int64_t found = document["other_values"][3];
    for (const nlohmann::json& values : document["values"]) found += values[3].get<std::int64_t>();
    EXPECT_EQ(found, sum);
    EXPECT_LT(document.dump().size(), 16u << 10);
  }
}

TEST(Page, NamesMayHoldAnything) {
  Observation now = At(1, 2);
  now.program = "</script>\xFF";
  now.pools = {Pool("a\xC0z", TARN_KIND_POOL, 4)};
  const HttpResponse answer = PageJson(PageNow(now, {}, {{"heap_mb", 3, 2, now.time_s}}, {}));
  EXPECT_EQ(answer.content_type, "application/json");
  const nlohmann::json document = nlohmann::json::parse(answer.body);
  EXPECT_EQ(document["process"]["program"], "</script>\xEF\xBF\xBD");
  EXPECT_EQ(document["pools"][0]["name"], "a\xEF\xBF\xBDz");
  EXPECT_TRUE(document["figures"]["soft_limit_bytes"].is_null());
  EXPECT_EQ(document["rules"][0]["name"], "heap_mb");
  EXPECT_EQ(document["rules"][0]["threshold"], 500);
  EXPECT_EQ(document["rules"][0]["since_ms"], 1'800'000'001'000);
  EXPECT_TRUE(document["rules"][1]["since_ms"].is_null());
}

TEST(Pprof, TextOfAProfile) {
  Profile profile = NewHeapProfile(524288);
  const StringId name = profile.strings.Intern("f");
  profile.functions.push_back({name, name, profile.strings.Intern("f.cc"), 1});
  profile.locations.push_back({Profile::kNone, 0x1234, {{0, 7}}, false});
  profile.samples.push_back({{0}, {4, 400, 3, 300}, {}});
  EXPECT_EQ(LegacyHeapText(profile),
            "heap profile: 3: 300 [4: 400] @ heapprofile\n"
            "3: 300 [4: 400] @ 0x1235\n#\t0x1235\tf\tf.cc:7\n\n");
}

}  // namespace
}  // namespace tarn::tool
