// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/report/sections.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "tools/tarn/report/chart.h"
#include "tools/tarn/report/html.h"
#include "tools/tarn/report/judgement.h"
#include "tools/tarn/report/page.h"

namespace tarn::tool::report {
namespace {

std::string RenderScatter(const BenchDocument& document, const std::vector<std::string>& allocators,
                          const std::string& measure) {
  Chart chart;
  chart.x = {MeasureTitle(measure) + ", ratio to the reference", "", AxisKind::kRatio, false};
  chart.y = {"peak RSS, ratio", "", AxisKind::kRatio, false};
  for (std::size_t i = 0; i < allocators.size(); ++i) {
    Series series{allocators[i], SeriesStyle(allocators[i], i), {}};
    double x_sum = 0;
    double y_sum = 0;
    for (const BenchWorkload& workload : document.workloads) {
      const auto time = RatioOf(workload, allocators[i], measure);
      const auto memory = RatioOf(workload, allocators[i], "peak_rss_bytes");
      if (!time || !memory || time->ratio <= 0 || memory->ratio <= 0) continue;
      series.marks.push_back({time->ratio, memory->ratio,
                              fmt::format("{}, {}: {}\xC3\x97 {}, {}\xC3\x97 peak RSS", allocators[i], workload.name,
                                          Ratio(time->ratio), MeasureTitle(measure), Ratio(memory->ratio)),
                              true, false});
      x_sum += std::log(time->ratio);
      y_sum += std::log(memory->ratio);
    }
    if (series.marks.empty()) continue;
    const auto count = static_cast<double>(series.marks.size());
    if (series.marks.size() > 1) {
      const double x = std::exp(x_sum / count);
      const double y = std::exp(y_sum / count);
      series.marks.push_back({x, y,
                              fmt::format("{}, geometric mean: {}\xC3\x97 {}, {}\xC3\x97 peak RSS", allocators[i],
                                          Ratio(x), MeasureTitle(measure), Ratio(y)),
                              false, true});
    }
    chart.series.push_back(std::move(series));
  }
  // The subject is drawn last, on top of the others.
  std::reverse(chart.series.begin(), chart.series.end());
  chart.title = "Scatter plot: " + MeasureTitle(measure) + " against peak RSS, ratios to the reference";
  return RenderChart(chart);
}

}  // namespace

void AppendScatter(const BenchDocument& document, std::string* out) {
  const std::vector<std::string> allocators = AllocatorsOf(document);
  const std::string charts = Figured(RenderScatter(document, allocators, "wall_s"), "wall time against peak RSS") +
                             Figured(RenderScatter(document, allocators, "cpu_s"), "CPU time against peak RSS");
  if (charts.empty()) return;
  *out += "<section><h2 id=\"scatter\">Speed against memory</h2>\n";
  *out += "<p>One mark per workload and allocator, the large ones are geometric means. Left and below is better.</p>\n";
  *out += RenderLegend(allocators, false);
  *out += fmt::format("<div class=\"charts two\">{}</div></section>\n", charts);
}

}  // namespace tarn::tool::report
