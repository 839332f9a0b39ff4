// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/report/sections.h"

#include <algorithm>
#include <functional>

#include <fmt/format.h>

#include "tools/tarn/report/chart.h"
#include "tools/tarn/report/html.h"
#include "tools/tarn/report/judgement.h"
#include "tools/tarn/report/page.h"

namespace tarn::tool::report {
namespace {

struct Quantile {
  const char* key;
  const char* name;
};
constexpr Quantile kQuantiles[] = {{"p50", "p50"}, {"p99", "p99"}, {"p999", "p99.9"}, {"max", "max"}};

// The operations of which a workload tells latencies: malloc, free, ...
std::vector<std::string> LatencyOperations(const BenchWorkload& workload) {
  constexpr std::string_view kPrefix = "metrics.latency_ns.";
  std::vector<std::string> operations;
  for (const BenchResult& result : workload.results) {
    for (const auto& [name, value] : result.medians) {
      if (name.compare(0, kPrefix.size(), kPrefix) != 0) continue;
      const std::string operation = name.substr(kPrefix.size(), name.rfind('.') - kPrefix.size());
      if (name.rfind('.') < kPrefix.size()) continue;
      if (std::find(operations.begin(), operations.end(), operation) == operations.end()) {
        operations.push_back(operation);
      }
    }
  }
  // malloc comes before free, as in life.
  std::sort(operations.begin(), operations.end(), std::greater<>());
  return operations;
}

}  // namespace

void AppendLatency(const BenchDocument& document, std::string* out) {
  const std::vector<std::string> allocators = AllocatorsOf(document);
  std::string tables;
  std::string charts;
  for (const BenchWorkload& workload : document.workloads) {
    for (const std::string& operation : LatencyOperations(workload)) {
      Chart chart;
      chart.title = fmt::format("Latency of {} in {}: percentiles by allocator", operation, workload.name);
      chart.x = {"percentile", "", AxisKind::kLinear, false};
      chart.y = {"latency", "latency_ns", AxisKind::kLog, false};
      chart.both = true;
      chart.x_ticks = {0, 1, 2, 3};
      for (const Quantile& quantile : kQuantiles) chart.x_names.emplace_back(quantile.name);
      std::string rows;
      for (std::size_t i = 0; i < allocators.size(); ++i) {
        const BenchResult* result = workload.Find(allocators[i]);
        if (result == nullptr) continue;
        Series series{allocators[i], SeriesStyle(allocators[i], i), {}};
        std::string cells;
        bool any = false;
        double x = 0;
        for (const Quantile& quantile : kQuantiles) {
          const std::string measure = fmt::format("metrics.latency_ns.{}.{}", operation, quantile.key);
          const auto found = result->medians.find(measure);
          if (found == result->medians.end()) {
            cells += "<td>\xE2\x80\x93</td>";
          } else {
            any = true;
            const std::string text = Figure(measure, found->second);
            cells += fmt::format("<td>{}</td>", text);
            series.marks.push_back(
                {x, found->second, fmt::format("{}, {}: {}", allocators[i], quantile.name, text), false, false});
          }
          ++x;
        }
        if (!any) continue;
        rows += fmt::format("<tr><th scope=\"row\">{}</th>{}</tr>\n", Escape(allocators[i]), cells);
        chart.series.push_back(std::move(series));
      }
      if (rows.empty()) continue;
      std::reverse(chart.series.begin(), chart.series.end());
      tables += fmt::format(
          "<div class=\"block\"><h3><a href=\"#w-{}\">{}</a>: {}</h3><div class=\"wide\" tabindex=\"0\" "
          "role=\"region\" "
          "aria-label=\"latency of {} in {}\"><table class=\"plain\"><thead><tr><th scope=\"col\"></th>",
          Identifier(workload.name), Escape(workload.name), Escape(operation), Escape(operation),
          Escape(workload.name));
      for (const Quantile& quantile : kQuantiles) tables += fmt::format("<th scope=\"col\">{}</th>", quantile.name);
      tables += fmt::format("</tr></thead><tbody>{}</tbody></table></div></div>\n", rows);
      charts += Figured(RenderChart(chart), fmt::format("{}: {}", workload.name, operation));
    }
  }
  if (tables.empty()) return;
  *out += "<section><h2 id=\"latency\">Latency of malloc and free</h2>\n";
  *out += "<p>Medians over the runs of each run\xE2\x80\x99s percentile; the scale of the charts is logarithmic.</p>\n";
  *out += RenderLegend(allocators, false);
  *out += fmt::format("<div class=\"charts\">{}</div><div class=\"charts\">{}</div></section>\n", charts, tables);
}

}  // namespace tarn::tool::report
