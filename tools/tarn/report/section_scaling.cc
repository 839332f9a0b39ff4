// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/report/sections.h"

#include <algorithm>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "tools/base/figures.h"
#include "tools/tarn/report/chart.h"
#include "tools/tarn/report/html.h"
#include "tools/tarn/report/judgement.h"
#include "tools/tarn/report/page.h"

namespace tarn::tool::report {
namespace {

// The name without the number of threads at its end: "migrate" for "migrate_16", "migrate-16-threads", "migrate@16t".
std::string Stem(const std::string& name) {
  std::string stem = name;
  for (const std::string_view word : {"threads", "thread", "t"}) {
    if (stem.size() > word.size() && stem.compare(stem.size() - word.size(), word.size(), word) == 0) {
      const char before = stem[stem.size() - word.size() - 1];
      if (before == '_' || before == '-' || (before >= '0' && before <= '9')) {
        stem.resize(stem.size() - word.size());
        break;
      }
    }
  }
  const auto is_end = [](char c) { return (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '@' || c == ':'; };
  while (!stem.empty() && is_end(stem.back())) stem.pop_back();
  return stem.empty() ? name : stem;
}

std::optional<double> ThreadsOf(const BenchWorkload& workload) {
  for (const BenchResult& result : workload.results) {
    if (const auto found = result.medians.find("metrics.threads"); found != result.medians.end()) return found->second;
  }
  return std::nullopt;
}

}  // namespace

void AppendScaling(const BenchDocument& document, std::string* out) {
  const std::vector<std::string> allocators = AllocatorsOf(document);
  std::map<std::string, std::map<double, const BenchWorkload*>> groups;
  for (const BenchWorkload& workload : document.workloads) {
    if (const auto threads = ThreadsOf(workload)) groups[Stem(workload.name)].emplace(*threads, &workload);
  }
  std::string charts;
  for (const auto& [stem, members] : groups) {
    if (members.size() < 2) continue;
    Chart chart;
    chart.title = fmt::format("Thread scaling of {}", stem);
    chart.x = {"threads", "", AxisKind::kLog, false};
    chart.y = {"operations per second", "operations", AxisKind::kLog, false};
    chart.both = true;
    const bool rates = std::all_of(members.begin(), members.end(), [](const auto& member) {
      const auto& results = member.second->results;
      return std::any_of(results.begin(), results.end(),
                         [](const BenchResult& result) { return result.medians.count("metrics.operations") != 0; });
    });
    if (!rates) chart.y = {"wall time", "wall_s", AxisKind::kLog, false};
    for (const auto& [threads, workload] : members) {
      chart.x_ticks.push_back(threads);
      chart.x_names.push_back(Count(threads));
    }
    for (std::size_t i = 0; i < allocators.size(); ++i) {
      Series series{allocators[i], SeriesStyle(allocators[i], i), {}};
      for (const auto& [threads, workload] : members) {
        const BenchResult* result = workload->Find(allocators[i]);
        if (result == nullptr || result->medians.count("wall_s") == 0) continue;
        double value = result->medians.at("wall_s");
        if (rates) {
          const auto operations = result->medians.find("metrics.operations");
          if (operations == result->medians.end() || value <= 0) continue;
          value = operations->second / value;
        }
        series.marks.push_back({threads, value,
                                fmt::format("{}, {} threads: {}", allocators[i], Count(threads),
                                            rates ? Count(value) + " operations/s" : FormatSeconds(value)),
                                false, false});
      }
      if (!series.marks.empty()) chart.series.push_back(std::move(series));
    }
    std::reverse(chart.series.begin(), chart.series.end());
    charts += Figured(RenderChart(chart), stem);
  }
  if (charts.empty()) return;
  *out += "<section><h2 id=\"scaling\">Thread scaling</h2>\n";
  *out += RenderLegend(allocators, false);
  *out += fmt::format("<div class=\"charts\">{}</div></section>\n", charts);
}

}  // namespace tarn::tool::report
