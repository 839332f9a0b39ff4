// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/report/sections.h"

#include <algorithm>

#include <fmt/format.h>

#include "tools/tarn/report/chart.h"
#include "tools/tarn/report/html.h"
#include "tools/tarn/report/judgement.h"
#include "tools/tarn/report/page.h"

namespace tarn::tool::report {
namespace {

// Which figures the main table can show; "" is the measure that each workload is about.
struct View {
  const char* measure;
  const char* name;
};
constexpr View kViews[] = {
    {"", "what counts"}, {"wall_s", "wall time"}, {"cpu_s", "CPU time"}, {"peak_rss_bytes", "peak RSS"}};

std::string MeasureOf(const BenchWorkload& workload, const View& view) {
  return *view.measure == '\0' ? workload.measure : view.measure;
}

std::string RenderRatioCell(const std::string& label, const std::optional<RatioResult>& ratio,
                            const std::string& otherwise, const std::string& extra = "") {
  if (!ratio) {
    return fmt::format("<td role=\"cell\" data-label=\"{}\" data-sort=\"1e9\"><span class=\"none\">{}</span></td>",
                       Escape(label), Escape(otherwise));
  }
  return fmt::format(
      "<td role=\"cell\" data-label=\"{}\" data-sort=\"{:.6g}\"><span class=\"figures\"><b>{}\xC3\x97</b> "
      "<small>{}</small></span>{}{}</td>",
      Escape(label), ratio->ratio, Ratio(ratio->ratio), Interval(*ratio), RenderVerdict(ratio->verdict), extra);
}

void AppendMainTable(const BenchDocument& document, const View& view, std::size_t number, std::string* out) {
  const std::vector<std::string> compared = ComparedAllocators(document);

  // All rows share one axis, so that their strips can be compared.
  double low = 0.8;
  double high = 1.25;
  for (const BenchWorkload& workload : document.workloads) {
    for (const std::string& name : compared) {
      const auto ratio = RatioOf(workload, name, MeasureOf(workload, view));
      if (!ratio || ratio->ratio <= 0) continue;
      low = std::min(low, ratio->ratio);
      high = std::max(high, ratio->ratio);
    }
  }
  low = std::max(low / 1.1, 0.05);
  high = std::min(high * 1.1, 20.0);

  *out += fmt::format("<div class=\"view\" id=\"view-{}\"><table role=\"table\" class=\"main\">\n", number);
  *out += fmt::format("<caption>Ratio to {}, <b>{}</b>; below 1\xC3\x97 is less time or memory</caption>\n",
                      Escape(ReferenceOf(document, "the reference")), Escape(view.name));
  *out += "<thead role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\" scope=\"col\">workload</th>";
  for (const std::string& name : compared) {
    *out += fmt::format("<th role=\"columnheader\" scope=\"col\">{}</th>", Escape(name));
  }
  *out += "<th role=\"columnheader\" scope=\"col\">tarn / best peer</th>";
  *out += "<th role=\"columnheader\" scope=\"col\" data-plain>95 % intervals</th></tr></thead>\n";
  *out += "<tbody role=\"rowgroup\">\n";
  for (const BenchWorkload& workload : document.workloads) {
    const std::string measure = MeasureOf(workload, view);
    const bool lost = [&] {
      const auto ratio = RatioOf(workload, kSubject, measure);
      return ratio && ratio->verdict == "loss";
    }();
    *out += fmt::format("<tr role=\"row\"{}><th role=\"rowheader\" scope=\"row\"><a href=\"#w-{}\">{}</a>",
                        lost ? " class=\"lost\"" : "", Identifier(workload.name), Escape(workload.name));
    *out += fmt::format("<small>{}{}</small></th>", Escape(NameOf(workload, measure)),
                        TooNoisy(workload, measure)           ? "; too noisy"
                        : !workload.control.contains(measure) ? "; no control"
                                                              : "");
    std::vector<RatioMark> marks;
    std::string spoken;
    for (std::size_t i = 0; i < compared.size(); ++i) {
      const auto ratio = RatioOf(workload, compared[i], measure);
      const std::string none = compared[i] == workload.reference ? "reference" : WhyNone(workload, compared[i]);
      *out += RenderRatioCell(compared[i], ratio, none);
      if (!ratio || ratio->ratio <= 0) continue;
      marks.push_back({compared[i], SeriesStyle(compared[i], i), ratio->ratio, ratio->low, ratio->high});
      spoken += fmt::format("{}{} {} times, {}", spoken.empty() ? "" : "; ", compared[i], Ratio(ratio->ratio),
                            Interval(*ratio));
    }
    const auto peer = FindBestPeer(workload, measure);
    *out += RenderRatioCell(peer ? "tarn / " + peer->name : "tarn / best peer",
                            peer ? std::optional(peer->ratio) : std::nullopt, "no peer",
                            peer ? fmt::format(" <small class=\"peer\">{}</small>", Escape(peer->name)) : "");
    *out += "<td role=\"cell\" class=\"stripcell\">" +
            (marks.empty() ? "" : RenderRatioStrip(spoken, marks, low, high)) + "</td></tr>\n";
  }
  *out +=
      "</tbody>\n<tfoot role=\"rowgroup\"><tr role=\"row\"><th role=\"rowheader\" scope=\"row\">geometric mean</th>";
  for (const std::string& name : compared) {
    const Mean mean = GeometricMean(document, name, view.measure);
    *out += fmt::format(
        "<td role=\"cell\" data-label=\"{}\">{}</td>", Escape(name),
        mean.count == 0 ? "" : fmt::format("<b>{}\xC3\x97</b> <small>of {}</small>", Ratio(mean.ratio), mean.count));
  }
  *out += "<td role=\"cell\"></td><td role=\"cell\"></td></tr></tfoot></table></div>\n";
}

}  // namespace

void AppendMainTables(const BenchDocument& document, std::string* out) {
  *out += "<section><h2 id=\"results\">Results</h2>\n";
  *out += "<div class=\"views\" role=\"group\" aria-label=\"which figure the table shows\"></div>\n";
  *out += RenderLegend(AllocatorsOf(document), false);
  for (std::size_t i = 0; i < std::size(kViews); ++i) AppendMainTable(document, kViews[i], i, out);
  *out += "</section>\n";
}

}  // namespace tarn::tool::report
