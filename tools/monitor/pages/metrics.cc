// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/pages/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <map>
#include <utility>

#include "tools/base/text.h"

namespace tarn::tool {

namespace {

// The number of named pools with series of their own, the largest ones; the others are added up. Two families of pools,
// two of up to 64 size classes, and about 70 further series stay below kMaxSeries.
constexpr std::size_t kPoolsWithSeries = 40;
constexpr std::string_view kOtherPools = "(others)";

// A label's value. It comes from the process, so it may hold any bytes; those that are not UTF-8 become question marks.
std::string Escaped(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t length = Utf8Length(text);
    if (length == 0) {
      result += '?';
    } else if (text[0] == '\\' || text[0] == '"') {
      result += '\\';
      result += text[0];
    } else if (text[0] == '\n') {
      result += "\\n";
    } else {
      result += text.substr(0, length);
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return result;
}

// Families are written once, whatever the number of processes: what a family of this name has already is added to.
class Exposition {
 public:
  explicit Exposition(MetricsFormat format) : format_(format) {}

  // Whose samples follow, where there are several processes.
  void SetTarget(std::string_view label) { target_ = fmt::format("target=\"{}\"", Escaped(label)); }

  // `name` without "_total", which every sample of a counter gets.
  void Counter(std::string_view name, std::string_view help) { Begin(name, "counter", help, "_total"); }
  void Gauge(std::string_view name, std::string_view help) { Begin(name, "gauge", help, ""); }
  void Histogram(std::string_view name, std::string_view help) { Begin(name, "histogram", help, ""); }
  // OpenMetrics has a type for it; to Prometheus it is a gauge of 1.
  void Info(std::string_view name, std::string_view help) {
    if (is_open()) {
      Begin(name, "info", help, "_info");
    } else {
      Begin(fmt::format("{}_info", name), "gauge", help, "");
    }
  }

  template <typename Number>
  void Sample(Number value, std::string_view labels = {}) {
    Line(suffix_, labels, value);
  }
  template <typename Number>
  void Line(std::string_view suffix, std::string_view labels, Number value) {
    const std::string all = fmt::format("{}{}{}", target_, target_.empty() || labels.empty() ? "" : ",", labels);
    families_[current_].text += fmt::format("{}{}{}{}{} {}\n", families_[current_].name, suffix, all.empty() ? "" : "{",
                                            all, all.empty() ? "" : "}", value);
  }

  std::string Take() const {
    std::string text;
    for (const Family& family : families_) text += family.text;
    if (is_open()) text += "# EOF\n";
    return text;
  }

 private:
  struct Family {
    std::string name;
    std::string text;
  };

  bool is_open() const { return format_ == MetricsFormat::kOpenMetrics; }
  // OpenMetrics names the family, Prometheus what its samples are called. Our helps hold nothing to escape.
  void Begin(std::string_view name, std::string_view type, std::string_view help, std::string_view suffix) {
    suffix_ = suffix;
    const auto [found, is_new] = by_name_.try_emplace(std::string(name), families_.size());
    current_ = found->second;
    if (!is_new) return;
    const std::string_view shown_suffix = is_open() ? "" : suffix;
    families_.push_back(
        {std::string(name), fmt::format("# HELP {0}{1} {2}\n# TYPE {0}{1} {3}\n", name, shown_suffix, help, type)});
  }

  MetricsFormat format_;
  std::string target_;
  std::vector<Family> families_;
  std::map<std::string, std::size_t> by_name_;
  std::size_t current_ = 0;
  std::string suffix_;
};

void AddHeap(const tarn_memstats_t& stats, Exposition* out) {
  const tarn_memory_classes& classes = stats.classes;
  const std::uint64_t retained = classes.heap_released_bytes + classes.heap_reserved_bytes;
  const auto gauge = [&](std::string_view name, std::string_view help, std::uint64_t value) {
    out->Gauge(name, help);
    out->Sample(value);
  };
  const auto counter = [&](std::string_view name, std::string_view help, std::uint64_t value) {
    out->Counter(name, help);
    out->Sample(value);
  };
  gauge("tarn_allocated_bytes", "Bytes of live objects, by their size classes.", stats.alloc_bytes);
  gauge("tarn_active_bytes", "Bytes of pages that hold objects, live or free.", stats.heap_inuse_bytes);
  gauge("tarn_resident_bytes", "Bytes that the allocator holds memory for: mapped without retained.",
        classes.mapped_bytes - std::min(retained, classes.mapped_bytes));
  gauge("tarn_mapped_bytes", "Bytes of address space that the allocator has mapped.", classes.mapped_bytes);
  gauge("tarn_retained_bytes", "Mapped bytes without memory: returned to the kernel, or never touched.", retained);
  gauge("tarn_metadata_bytes", "Bytes of the allocator's records.", stats.sys_bytes - stats.heap_sys_bytes);
  gauge("tarn_cached_bytes", "Bytes of free objects in caches.", stats.cached_bytes);
  gauge("tarn_free_bytes", "Bytes of free pages that still have memory.", classes.heap_free_bytes);
  gauge("tarn_live_objects", "Live objects.", stats.heap_objects);
  gauge("tarn_large_bytes", "Bytes of live objects beyond the size classes.", stats.large_live_bytes);
  gauge("tarn_large_objects", "Live objects beyond the size classes.", stats.large_objects);
  gauge("tarn_peak_active_bytes", "The most that tarn_active_bytes has been.", stats.peak_inuse_bytes);
  gauge("tarn_requested_bytes", "Bytes that the program asked for in what is live, estimated from samples; 0 without.",
        stats.requested_estimate_bytes);
  gauge("tarn_huge_pages", "Huge pages of 2 MiB committed for objects.", stats.huge_pages);
  counter("tarn_allocations", "Objects allocated.", stats.mallocs);
  counter("tarn_deallocations", "Objects freed.", stats.frees);
  counter("tarn_alloc_bytes", "Bytes allocated.", stats.total_alloc_bytes);
  counter("tarn_freed_bytes", "Bytes freed.", stats.total_freed_bytes);
  counter("tarn_returned_bytes", "Bytes returned to the kernel.", stats.released_total_bytes);
  counter("tarn_scavenger_cycles", "Times that free memory was looked for and returned.", stats.scavenger_cycles);
  out->Counter("tarn_scavenger_cpu_seconds", "CPU time of that.");
  out->Sample(static_cast<double>(stats.scavenger_cpu_ns) / 1e9);
  // A limit that is none has no series, so that no rule compares with it.
  if (stats.next_gc_bytes != UINT64_MAX)
    gauge("tarn_limit_bytes", "The soft limit of resident memory.", stats.next_gc_bytes);
  if (stats.hard_limit_bytes != UINT64_MAX)
    gauge("tarn_hard_limit_bytes", "The limit beyond which allocations fail.", stats.hard_limit_bytes);
  counter("tarn_limit_exceeded", "Times that the soft limit was found exceeded.", stats.limit_exceeded);
  counter("tarn_guarded_allocations", "Objects that were guarded by inaccessible pages.", stats.guarded_allocations);
  counter("tarn_guard_reports", "Misuse of guarded objects that was reported.", stats.guard_reports);
  counter("tarn_hard_limit_failures", "Allocations that failed while a hard limit was set.", stats.hard_failures);
}

void AddStalls(const tarn_memstats_t& stats, Exposition* out) {
  out->Histogram("tarn_stall_seconds", "Stalls of slow paths in the kernel or at a lock.");
  std::uint64_t count = 0;
  constexpr std::size_t kClasses = std::size(decltype(stats.stalls_by_time){});
  for (std::size_t i = 0; i < kClasses; ++i) {
    count += stats.stalls_by_time[i];
    // The last class has no upper end.
    const bool is_last = i == kClasses - 1;
    out->Line("_bucket",
              fmt::format("le=\"{}\"", is_last ? "+Inf" : fmt::format("{:g}", std::ldexp(1e-6, static_cast<int>(i)))),
              count);
  }
  out->Line("_sum", {}, static_cast<double>(stats.stall_total_ns) / 1e9);
  // By the classes and not by the counter of its own, so that both always agree.
  out->Line("_count", {}, count);
}

void AddSizeClassMetrics(const tarn_memstats_t& stats, Exposition* out) {
  const auto each = [&](auto figure) {
    for (std::uint64_t i = 0; i < std::min<std::uint64_t>(stats.class_count, TARN_MEMSTATS_MAX_CLASSES); ++i) {
      const tarn_memstats_class& row = stats.by_size[i];
      if (row.mallocs != 0 || row.spans != 0)
        out->Sample(figure(row), fmt::format("size_class=\"{}\"", row.size_bytes));
    }
  };
  out->Gauge("tarn_size_class_live_objects", "Live objects of a size class.");
  each([](const tarn_memstats_class& row) { return row.live; });
  out->Gauge("tarn_size_class_span_bytes", "Bytes of pages that a size class holds.");
  each([](const tarn_memstats_class& row) { return row.span_bytes; });
}

void AddPoolMetrics(const std::vector<tarn_registry_record>& pools, Exposition* out) {
  if (pools.empty()) return;
  struct Bytes {
    std::uint64_t live = 0;
    std::uint64_t capacity = 0;
  };
  const auto at_least_0 = [](std::int64_t figure) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(figure, 0));
  };
  // By what they are called after escaping, because two series of one name would spoil the whole scrape.
  std::map<std::string, Bytes> by_labels;
  for (const tarn_registry_record& pool : pools) {
    const std::string_view name(pool.name, strnlen(pool.name, sizeof pool.name));
    Bytes& bytes = by_labels[fmt::format("pool=\"{}\",kind=\"{}\"", Escaped(name), tarn_kind_name(pool.kind))];
    bytes.live += at_least_0(pool.live_bytes);
    bytes.capacity += at_least_0(pool.capacity_bytes);
  }
  std::vector<std::pair<std::string, Bytes>> rows(by_labels.begin(), by_labels.end());
  std::ranges::stable_sort(rows, std::ranges::greater{}, [](const auto& row) { return row.second.capacity; });
  if (rows.size() > kPoolsWithSeries) {
    Bytes others;
    for (std::size_t i = kPoolsWithSeries - 1; i < rows.size(); ++i) {
      others.live += rows[i].second.live;
      others.capacity += rows[i].second.capacity;
    }
    rows.resize(kPoolsWithSeries - 1);
    rows.emplace_back(fmt::format("pool=\"{}\",kind=\"all\"", kOtherPools), others);
  }
  out->Gauge("tarn_pool_live_bytes", "Bytes of live objects in the arenas, pools and heaps of a name.");
  for (const auto& [labels, bytes] : rows) out->Sample(bytes.live, labels);
  out->Gauge("tarn_pool_capacity_bytes", "Bytes that the arenas, pools and heaps of a name hold.");
  for (const auto& [labels, bytes] : rows) out->Sample(bytes.capacity, labels);
}

void AddProfileAndAlerts(const Observation& now, const std::vector<Alert>& alerts, Exposition* out) {
  out->Gauge("tarn_profile_rate_bytes", "Mean distance of the heap profile's samples; 0 is off.");
  out->Sample(now.profile.rate_bytes);
  out->Counter("tarn_profile_samples", "Samples of the heap profile.");
  out->Sample(now.profile.samples);
  out->Counter("tarn_profile_dropped_samples", "Samples that were lost for want of memory.");
  out->Sample(now.profile.dropped_samples);
  out->Gauge("tarn_alert_firing", "Whether an alert of tarn serve is on.");
  for (const AlertRule& rule : AlertRules()) {
    const bool fires = std::ranges::find(alerts, rule.name, &Alert::name) != alerts.end();
    out->Sample(fires ? 1 : 0, fmt::format("alert=\"{}\"", rule.name));
  }
}

// The names that Prometheus' own client libraries give to these.
void AddProcess(const Observation& now, Exposition* out) {
  const ProcessFigures& process = now.process;
  out->Counter("process_cpu_seconds", "Total user and system CPU time spent in seconds.");
  out->Sample(process.cpu_s);
  out->Gauge("process_resident_memory_bytes", "Resident memory size in bytes.");
  out->Sample(now.stats.rss_bytes);
  out->Gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.");
  out->Sample(process.virtual_bytes);
  out->Gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.");
  out->Sample(process.start_time_s);
  out->Gauge("process_open_fds", "Number of open file descriptors.");
  out->Sample(process.open_files);
  out->Gauge("process_max_fds", "Maximum number of open file descriptors.");
  out->Sample(process.max_files);
  out->Gauge("process_threads", "Number of OS threads in the process.");
  out->Sample(process.threads);
}

void AddAll(const Observation& now, const std::vector<Alert>& alerts, Exposition* out) {
  out->Info("tarn_build", "The version of the library in the process.");
  out->Sample(1, fmt::format("version=\"{}\"", Escaped(now.library_version)));
  AddHeap(now.stats, out);
  AddStalls(now.stats, out);
  AddSizeClassMetrics(now.stats, out);
  AddPoolMetrics(now.pools, out);
  AddProfileAndAlerts(now, alerts, out);
  AddProcess(now, out);
}

// As many digits as people read; the metrics for machines are in bytes.
double Rounded(double value) { return std::round(value * 1000) / 1000; }

}  // namespace

std::string FormatMetrics(const Observation& now, const std::vector<Alert>& alerts, MetricsFormat format) {
  Exposition out(format);
  AddAll(now, alerts, &out);
  return out.Take();
}

std::string FormatMetrics(const std::vector<TargetMetrics>& targets, MetricsFormat format) {
  Exposition out(format);
  for (const TargetMetrics& target : targets) {
    out.SetTarget(target.label);
    out.Gauge("tarn_target_up", "Whether the process of a label is there.");
    out.Sample(target.now ? 1 : 0);
    if (target.now) AddAll(*target.now, target.alerts, &out);
  }
  return out.Take();
}

nlohmann::json MetricsDocument(const Observation& now, const TrendFigures& trend, const std::vector<Alert>& alerts) {
  const tarn_memstats_t& stats = now.stats;
  const auto mb = [](std::uint64_t bytes) { return Rounded(static_cast<double>(bytes) / kMiB); };
  nlohmann::json metrics = {
      {"heap_mb", mb(stats.alloc_bytes)},
      {"heap_sys_mb", mb(stats.heap_sys_bytes)},
      {"heap_inuse_mb", mb(stats.heap_inuse_bytes)},
      {"heap_idle_mb", mb(stats.heap_idle_bytes)},
      {"heap_released_mb", mb(stats.heap_released_bytes)},
      {"heap_objects", stats.heap_objects},
      {"sys_mb", mb(stats.sys_bytes)},
      {"rss_mb", mb(stats.rss_bytes)},
      {"total_alloc_mb", mb(stats.total_alloc_bytes)},
      {"mallocs", stats.mallocs},
      {"frees", stats.frees},
      {"alloc_rate_mb_sec", Rounded(trend.alloc_rate_mb_sec)},
      {"free_rate_mb_sec", Rounded(trend.free_rate_mb_sec)},
      {"returned_mb_sec", Rounded(trend.returned_mb_sec)},
      {"pause_ms", Rounded(trend.pause_ms)},
      {"stall_ms_sec", Rounded(trend.stall_ms_sec)},
      {"leak_mb_hour", Rounded(trend.leak_mb_hour)},
      {"fragmentation_percent", static_cast<double>(stats.fragmentation_permille) / 10},
      {"scavenger_cycles", stats.scavenger_cycles},
      {"threads", now.process.threads},
  };
  if (stats.next_gc_bytes != UINT64_MAX) metrics["limit_mb"] = mb(stats.next_gc_bytes);
  return {{"schema", "tarn-metrics/1"}, {"timestamp", Rfc3339(now.time_s)}, {"pid", now.pid}, {"program", now.program},
          {"metrics", metrics},         {"alerts", AlertsJson(alerts)}};
}

nlohmann::json AlertsJson(const std::vector<Alert>& alerts) {
  nlohmann::json result = nlohmann::json::array();
  for (const Alert& alert : alerts) {
    result.push_back({{"name", alert.name},
                      {"value", Rounded(alert.value)},
                      {"threshold", alert.threshold},
                      {"since", Rfc3339(alert.since_s)},
                      {"message", AlertText(alert)}});
  }
  return result;
}

std::string Rfc3339(double time_s) {
  const auto seconds = static_cast<std::time_t>(std::floor(time_s));
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  const std::size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  const auto milliseconds = static_cast<int>((time_s - std::floor(time_s)) * 1000);
  return fmt::format("{}.{:03}Z", std::string_view(text, length), milliseconds);
}

}  // namespace tarn::tool
