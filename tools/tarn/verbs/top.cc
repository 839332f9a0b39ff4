// SPDX-License-Identifier: Apache-2.0
//
// tarn top: the allocation sites and size classes of a running process that hold the most, live.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tools/base/figures.h"
#include "tools/base/json_text.h"
#include "tools/inspect/heap_profile.h"
#include "tools/inspect/profile/function_totals.h"
#include "tools/inspect/symbolizer.h"
#include "tools/inspect/target.h"
#include "tools/tarn/console.h"
#include "tools/tarn/verb.h"
#include "tools/tarn/watch.h"

namespace tarn::tool {

namespace {

struct TopOptions {
  std::string pid;
  WatchOptions watch{2, 0};
  std::string sort = "live";
  std::size_t rows = 0;  // of each table; 0: what the terminal holds
};

struct Site {
  std::string function;
  std::string place;
  double live_bytes = 0;
  double live_with_callees = 0;
  double allocated_bytes = 0;  // since the start
  double rate = 0;             // bytes allocated per second, since the time before
};

struct SizeClass {
  tarn_memstats_class now;
  double live_bytes = 0;
  double rate = 0;  // objects allocated per second
};

// Observes the process: its figures, with the changes since the last look.
class Observer {
 public:
  explicit Observer(const Target& target) : target_(target), symbolizer_(target.pid()) {}

  void Look() {
    const auto now = std::chrono::steady_clock::now();
    stats_ = target_.Stats();
    Profile profile = ReadHeapProfile(target_);
    has_profile_ = profile.period != 0;
    symbolizer_.Symbolize(&profile);
    const double seconds = has_looked_ ? std::chrono::duration<double>(now - last_look_).count() : 0;
    CountSites(profile, seconds);
    CountClasses(seconds);
    has_rates_ = has_looked_;
    has_looked_ = true;
    last_look_ = now;
  }

  const tarn_memstats_t& stats() const { return stats_; }
  std::vector<Site>& sites() { return sites_; }
  std::vector<SizeClass>& classes() { return classes_; }
  bool has_profile() const { return has_profile_; }
  bool has_rates() const { return has_rates_; }
  double allocated_rate() const { return allocated_rate_; }

 private:
  static double PerSecond(double change, double seconds) { return seconds > 0 ? std::max(0.0, change) / seconds : 0; }

  void CountSites(const Profile& profile, double seconds) {
    const auto live = FunctionTotals(profile, FindSampleType(profile, "inuse_space"));
    const auto allocated = FunctionTotals(profile, FindSampleType(profile, "alloc_space"));
    sites_.clear();
    for (const auto& [name, total] : allocated) {
      Site site{name, total.place, 0, 0, static_cast<double>(total.self), 0};
      if (const auto found = live.find(name); found != live.end()) {
        site.live_bytes = static_cast<double>(found->second.self);
        site.live_with_callees = static_cast<double>(found->second.with_callees);
      }
      double& before = allocated_before_[name];
      site.rate = PerSecond(site.allocated_bytes - before, seconds);
      before = site.allocated_bytes;
      sites_.push_back(std::move(site));
    }
  }

  void CountClasses(double seconds) {
    const std::size_t count = std::min<std::size_t>(stats_.class_count, TARN_MEMSTATS_MAX_CLASSES);
    mallocs_before_.resize(count);
    classes_.clear();
    for (std::size_t i = 0; i < count; ++i) {
      const tarn_memstats_class& now = stats_.by_size[i];
      SizeClass row{now, static_cast<double>(now.live * now.size_bytes), 0};
      row.rate = PerSecond(static_cast<double>(now.mallocs) - static_cast<double>(mallocs_before_[i]), seconds);
      mallocs_before_[i] = now.mallocs;
      if (now.mallocs != 0) classes_.push_back(row);
    }
    const auto total = static_cast<double>(stats_.total_alloc_bytes);
    allocated_rate_ = PerSecond(total - total_before_, seconds);
    total_before_ = total;
  }

  const Target& target_;
  Symbolizer symbolizer_;
  tarn_memstats_t stats_{};
  std::vector<Site> sites_;
  std::vector<SizeClass> classes_;
  bool has_profile_ = false;
  bool has_looked_ = false;
  bool has_rates_ = false;
  double allocated_rate_ = 0;
  std::chrono::steady_clock::time_point last_look_;
  std::unordered_map<std::string, double> allocated_before_;
  std::vector<std::uint64_t> mallocs_before_;
  double total_before_ = 0;
};

// The figure to sort by, and the one to sort equals by. A row that has neither is left out.
using Order = std::pair<double, double>;

template <typename Rows, typename Key>
void Sort(Rows* rows, Key key) {
  std::erase_if(*rows, [&](const auto& row) { return key(row) == Order(0, 0); });
  std::stable_sort(rows->begin(), rows->end(), [&](const auto& a, const auto& b) { return key(a) > key(b); });
}

void SortAll(const std::string& by, Observer* observer) {
  const bool by_rate = by == "rate";
  Sort(&observer->sites(), [&](const Site& row) {
    if (by == "callees") return Order(row.live_with_callees, row.live_bytes);
    return by_rate ? Order(row.rate, row.live_bytes) : Order(row.live_bytes, row.rate);
  });
  Sort(&observer->classes(), [&](const SizeClass& row) {
    return by_rate ? Order(row.rate, row.live_bytes) : Order(row.live_bytes, row.rate);
  });
}

std::string Rate(const Observer& observer, const std::string& text) { return observer.has_rates() ? text : "-"; }

std::string Table(const Target& target, Observer& observer, std::size_t class_rows, std::size_t site_rows,
                  const View& view) {
  const tarn_memstats_t& stats = observer.stats();
  std::string text = fmt::format("{} ({})  live {} in {} objects  allocating {}/s  resident {}\n", target.pid(),
                                 target.name(), FormatBytes(static_cast<double>(stats.alloc_bytes)), stats.heap_objects,
                                 Rate(observer, FormatBytes(observer.allocated_rate())),
                                 FormatBytes(static_cast<double>(stats.rss_bytes)));
  text += fmt::format("\n{:>8} {:>10} {:>12} {:>12} {:>10} {:>8}\n", "size", "live", "objects", "mallocs/s", "cached",
                      "spans");
  for (std::size_t i = 0; i < std::min(class_rows, observer.classes().size()); ++i) {
    const SizeClass& row = observer.classes()[i];
    text += fmt::format("{:>8} {:>10} {:>12} {:>12} {:>10} {:>8}\n", row.now.size_bytes, FormatBytes(row.live_bytes),
                        row.now.live, Rate(observer, fmt::format("{:.0f}", row.rate)), row.now.cached, row.now.spans);
  }
  text += fmt::format("\n{:>10} {:>13} {:>12}  {}\n", "live", "with callees", "allocating",
                      "function that allocates (estimates from samples)");
  if (!observer.has_profile()) return text + "sampling is off in this process\n";
  for (std::size_t i = 0; i < std::min(site_rows, observer.sites().size()); ++i) {
    const Site& row = observer.sites()[i];
    std::string line =
        fmt::format("{:>10} {:>13} {:>12}  {}  {}", FormatBytes(row.live_bytes), FormatBytes(row.live_with_callees),
                    Rate(observer, FormatBytes(row.rate) + "/s"), row.function, row.place);
    // A line that wraps would push the others off the screen.
    if (view.is_screen && line.size() > view.columns) line.resize(view.columns);
    text += line + "\n";
  }
  return text;
}

nlohmann::json TopDocument(const Target& target, Observer& observer, std::size_t class_rows, std::size_t site_rows) {
  nlohmann::json sites = nlohmann::json::array();
  for (std::size_t i = 0; i < std::min(site_rows, observer.sites().size()); ++i) {
    const Site& row = observer.sites()[i];
    sites.push_back({{"function", row.function},
                     {"place", row.place},
                     {"live_bytes", row.live_bytes},
                     {"live_bytes_with_callees", row.live_with_callees},
                     {"allocated_bytes", row.allocated_bytes},
                     {"bytes_per_s", observer.has_rates() ? nlohmann::json(row.rate) : nlohmann::json()}});
  }
  nlohmann::json classes = nlohmann::json::array();
  for (std::size_t i = 0; i < std::min(class_rows, observer.classes().size()); ++i) {
    const SizeClass& row = observer.classes()[i];
    classes.push_back({{"size_bytes", row.now.size_bytes},
                       {"live_bytes", row.live_bytes},
                       {"live", row.now.live},
                       {"cached", row.now.cached},
                       {"spans", row.now.spans},
                       {"mallocs", row.now.mallocs},
                       {"mallocs_per_s", observer.has_rates() ? nlohmann::json(row.rate) : nlohmann::json()}});
  }
  return {{"schema", "tarn-top/1"},
          {"pid", target.pid()},
          {"program", target.name()},
          {"alloc_bytes", observer.stats().alloc_bytes},
          {"heap_objects", observer.stats().heap_objects},
          {"rss_bytes", observer.stats().rss_bytes},
          {"size_classes", classes},
          {"sites", sites}};
}

int RunTop(const TopOptions& options, const Invocation& invocation) {
  const Target target(ParsePid(options.pid));
  Observer observer(target);
  WatchOptions watch = options.watch;
  // Into a pipe or a file goes one look, unless more are asked for.
  const bool is_terminal = isatty(STDOUT_FILENO) == 1 && invocation.output == "-" && !invocation.json;
  if (!is_terminal && watch.count == 0) watch.count = 1;
  Watch(invocation, watch, [&](const View& view) {
    observer.Look();
    SortAll(options.sort, &observer);
    std::size_t class_rows = options.rows == 0 ? 10 : options.rows;
    std::size_t site_rows = options.rows == 0 ? 20 : options.rows;
    if (view.is_screen && options.rows == 0) {
      // Six lines are headings and gaps; the sites get twice the room of the classes.
      const std::size_t room = std::max<std::size_t>(view.lines, 9) - 6;
      class_rows = room / 3;
      site_rows = room - class_rows;
    }
    if (invocation.json)
      return JsonText(TopDocument(target, observer, class_rows, site_rows),
                      watch.count == 1 ? JsonLayout::kIndented : JsonLayout::kOneLine);
    return Table(target, observer, class_rows, site_rows, view);
  });
  return kExitOk;
}

Prepared PrepareTop() {
  auto o = std::make_shared<TopOptions>();
  return {{{"PID", "PID", "a process that uses tarn", &o->pid},
           {"--interval", "SECONDS", "seconds between two looks (2)", &o->watch.interval_s, 0.01, 86400},
           {"--count", "N", "how many looks (no end on a terminal, else 1)", &o->watch.count, 1},
           {"--sort", "live|callees|rate",
            "by live bytes, by those with what a function called, or by the rate of allocation", &o->sort},
           {"--rows", "N", "rows of each table, as many as fit if not given", &o->rows, 1}},
          [o](const Invocation& invocation) { return RunTop(*o, invocation); }};
}

}  // namespace

extern const Verb kTopVerb;
const Verb kTopVerb = {
    .name = "top",
    .summary = "show live who holds the memory of a process",
    .examples = {{"tarn top 4711", "live; q ends it, the space bar looks at once"},
                 {"tarn top 4711 --sort rate", "who allocates most, rather than who holds most"},
                 {"tarn top 4711 --sort callees", "where a function such as xmalloc hides who called it"},
                 {"tarn top 4711 --count 2 --json", "two looks for a script; the second tells rates"}},
    .details =
        "Above the size classes, with exact counts; below the functions that called the allocator, estimated from "
        "samples. The names are looked up by this tool: nothing runs in the process.",
    .prepare = PrepareTop,
};

}  // namespace tarn::tool
