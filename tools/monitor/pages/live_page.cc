// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/pages/live_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include "tools/base/json_text.h"
#include "tools/monitor/pages/heap_document.h"
#include "tools/monitor/server/installed.h"

namespace tarn::tool {

namespace {

constexpr std::string_view kPageFile = "tarn_page.html";

// For a build without the page. Links are relative, because the pages may lie below another one's path.
constexpr std::string_view kPlainPage = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>tarn serve</title></head><body>
<h1>tarn serve</h1>
<p>The page with charts is not there: this tarn was built without npm, or npm could not get its libraries.</p>
<ul>
<li><a href="metrics">metrics</a>: Prometheus text or OpenMetrics; <a href="metrics?format=json">as JSON</a></li>
<li><a href="health">health</a>: 200 Healthy, or 503 with what is wrong</li>
<li><a href="debug/pprof/">debug/pprof/</a>: heap profiles for go tool pprof</li>
</ul>
</body></html>
)";

// Lets the page load and run its own script and style only, by their hashes, which the build wrote into it.
std::string PolicyOf(std::string_view html) {
  constexpr std::string_view kStart = "<meta http-equiv=\"Content-Security-Policy\" content=\"";
  std::string policy = "default-src 'none'; base-uri 'none'; form-action 'none'";
  if (const std::size_t start = html.find(kStart); start != std::string_view::npos) {
    html.remove_prefix(start + kStart.size());
    policy = html.substr(0, html.find('"'));
  }
  // Of no effect in a page, so it is said here alone.
  return policy + "; frame-ancestors 'none'";
}

HttpResponse ReadPage() {
  HttpResponse page{200, "text/html; charset=utf-8", std::string(kPlainPage), {}};
  for (const std::string& path : InstalledFiles(kPageFile)) {
    std::ifstream file(path, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (text.empty()) continue;
    page.body = std::move(text);
    break;
  }
  page.headers = {{"Content-Security-Policy", PolicyOf(page.body)}, {"Referrer-Policy", "no-referrer"}};
  return page;
}

std::int64_t Milliseconds(double seconds) { return std::llround(seconds * 1000); }

// A limit that is none is null.
nlohmann::json OrNull(std::uint64_t limit) { return limit == UINT64_MAX ? nlohmann::json() : nlohmann::json(limit); }

nlohmann::json FiguresOf(const tarn_memstats_t& stats) {
  const tarn_memory_classes& classes = stats.classes;
  return {
      {"live_bytes", stats.alloc_bytes},
      {"live_objects", stats.heap_objects},
      {"requested_bytes", stats.requested_estimate_bytes},
      {"in_use_bytes", stats.heap_inuse_bytes},
      {"peak_in_use_bytes", stats.peak_inuse_bytes},
      {"large_bytes", stats.large_live_bytes},
      {"large_objects", stats.large_objects},
      {"large_mallocs", stats.large_mallocs},
      {"resident_bytes", stats.rss_bytes},
      {"peak_resident_bytes", stats.peak_rss_bytes},
      {"returned_bytes", classes.heap_released_bytes},
      {"total_returned_bytes", stats.released_total_bytes},
      {"soft_limit_bytes", OrNull(stats.next_gc_bytes)},
      {"hard_limit_bytes", OrNull(stats.hard_limit_bytes)},
      {"limit_exceeded", stats.limit_exceeded},
      {"hard_failures", stats.hard_failures},
      {"total_alloc_bytes", stats.total_alloc_bytes},
      {"total_freed_bytes", stats.total_freed_bytes},
      {"mallocs", stats.mallocs},
      {"frees", stats.frees},
      {"fragmentation_percent", static_cast<double>(stats.fragmentation_permille) / 10},
      {"huge_pages", stats.huge_pages},
      {"stalls", stats.stalls},
      {"total_stall_ns", stats.stall_total_ns},
      {"longest_stall_ns", stats.stall_longest_ns},
      // The parts of what is mapped, which add up to it.
      {"mapped_bytes", classes.mapped_bytes},
      {"parts",
       {{"live", classes.heap_live_bytes},
        {"cached", classes.heap_cached_bytes},
        {"span_free", classes.heap_span_free_bytes},
        {"free_pages", classes.heap_free_bytes},
        {"returned", classes.heap_released_bytes},
        {"reserved", classes.heap_reserved_bytes},
        {"metadata", classes.metadata_spans_bytes + classes.metadata_page_map_bytes + classes.metadata_caches_bytes +
                         classes.metadata_pages_bytes + classes.metadata_profile_bytes + classes.metadata_other_bytes +
                         classes.metadata_free_bytes}}},
  };
}

nlohmann::json ClassesOf(const tarn_memstats_t& stats) {
  nlohmann::json classes = nlohmann::json::array();
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(stats.class_count, TARN_MEMSTATS_MAX_CLASSES); ++i) {
    const tarn_memstats_class& row = stats.by_size[i];
    if (row.mallocs == 0 && row.spans == 0) continue;
    classes.push_back({{"size_bytes", row.size_bytes},
                       {"live", row.live},
                       {"cached", row.cached},
                       {"free", row.free},
                       {"spans", row.spans},
                       {"span_bytes", row.span_bytes},
                       {"tail_bytes", row.waste_bytes},
                       {"mallocs", row.mallocs},
                       {"refills", row.refills}});
  }
  return classes;
}

// The largest first, and no more than a person looks at.
nlohmann::json PoolsOf(std::vector<tarn_registry_record> pools) {
  constexpr std::size_t kMostPools = 100;
  std::ranges::stable_sort(pools, std::ranges::greater{}, &tarn_registry_record::capacity_bytes);
  nlohmann::json rows = nlohmann::json::array();
  for (std::size_t i = 0; i < std::min(pools.size(), kMostPools); ++i) {
    const tarn_registry_record& pool = pools[i];
    rows.push_back({{"name", std::string(pool.name, strnlen(pool.name, sizeof pool.name))},
                    {"kind", tarn_kind_name(pool.kind)},
                    {"instances", pool.instances},
                    {"live_objects", pool.live_objects},
                    {"live_bytes", pool.live_bytes},
                    {"capacity_bytes", pool.capacity_bytes},
                    {"allocations", pool.allocations},
                    {"failures", pool.failures}});
  }
  return rows;
}

nlohmann::json RulesOf(const Observation& now, const TrendFigures& trend, const std::vector<Alert>& alerts,
                       const AlertSettings& settings) {
  nlohmann::json rows = nlohmann::json::array();
  for (const AlertRule& rule : AlertRules()) {
    const auto threshold = settings.thresholds.find(rule.name);
    const std::optional<double> value = rule.value(now, trend);
    nlohmann::json row = {{"name", rule.name}, {"meaning", rule.meaning}};
    row["threshold"] = threshold != settings.thresholds.end() ? nlohmann::json(threshold->second) : nlohmann::json();
    row["value"] = value ? nlohmann::json(*value) : nlohmann::json();
    const auto alert = std::ranges::find(alerts, rule.name, &Alert::name);
    row["since_ms"] = alert != alerts.end() ? nlohmann::json(Milliseconds(alert->since_s)) : nlohmann::json();
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace

HttpResponse PageHtml() {
  static const HttpResponse page = ReadPage();
  return page;
}

nlohmann::json PageNow(const Observation& now, const TrendFigures& trend, const std::vector<Alert>& alerts,
                       const MonitorSettings& settings) {
  return {{"schema", kPageSchema},
          {"time_ms", Milliseconds(now.time_s)},
          {"interval_s", settings.interval_s},
          {"leak_window_s", settings.alerts.leak_window_s},
          {"process",
           {{"pid", now.pid},
            {"program", now.program},
            {"version", now.library_version},
            {"start_ms", Milliseconds(now.process.start_time_s)},
            {"cpu_s", now.process.cpu_s},
            {"threads", now.process.threads},
            {"virtual_bytes", now.process.virtual_bytes}}},
          {"figures", FiguresOf(now.stats)},
          {"rates",
           {{"alloc_mb_sec", trend.alloc_rate_mb_sec},
            {"freed_mb_sec", trend.free_rate_mb_sec},
            {"returned_mb_sec", trend.returned_mb_sec},
            {"pause_ms", trend.pause_ms},
            {"stall_ms_sec", trend.stall_ms_sec}}},
          {"rules", RulesOf(now, trend, alerts, settings.alerts)},
          {"classes", ClassesOf(now.stats)},
          {"pools", PoolsOf(now.pools)},
          {"profile",
           {{"rate_bytes", now.profile.rate_bytes},
            {"samples", now.profile.samples},
            {"dropped_samples", now.profile.dropped_samples}}}};
}

nlohmann::json PageHeap(const Profile& profile, pid_t pid) {
  nlohmann::json document = HeapDocument(profile);
  document["schema"] = kPageSchema;
  document["pid"] = pid;
  document["time_ms"] = profile.time_ns / 1'000'000;
  document["rate_bytes"] = profile.period;
  return document;
}

HttpResponse PageJson(const nlohmann::json& document, int status) {
  return {status, "application/json", JsonText(document, JsonLayout::kOneLine), {}};
}

void PageHistory::Begin() {
  const std::lock_guard lock(mutex_);
  history_ = History();
  pid_ = 0;
}

void PageHistory::Add(const Observation& now) {
  const std::lock_guard lock(mutex_);
  history_.Add(now);
  pid_ = now.pid;
}

nlohmann::json PageHistory::Json() const {
  const std::lock_guard lock(mutex_);
  nlohmann::json document = history_.Json();
  document["schema"] = kPageSchema;
  document["pid"] = pid_;
  return document;
}

}  // namespace tarn::tool
