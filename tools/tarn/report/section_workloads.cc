// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/report/sections.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "tools/base/figures.h"
#include "tools/tarn/report/chart.h"
#include "tools/tarn/report/html.h"
#include "tools/tarn/report/judgement.h"
#include "tools/tarn/report/page.h"

namespace tarn::tool::report {
namespace {

// More samples than this do not show at the width of a chart.
constexpr std::size_t kMostRssSamples = 160;

std::string RenderRuns(const BenchWorkload& workload, const std::vector<std::string>& allocators,
                       const std::string& measure) {
  Chart chart;
  chart.title =
      fmt::format("{} of every run of {}, in the order of the runs", NameOf(workload, measure), workload.name);
  chart.x = {"run", "", AxisKind::kLinear, false};
  chart.y = {NameOf(workload, measure), measure, AxisKind::kLinear, false};
  for (std::size_t i = 0; i < allocators.size(); ++i) {
    Series series{allocators[i], SeriesStyle(allocators[i], i), {}};
    for (const BenchRun& run : workload.runs) {
      const auto found = run.figures.find(measure);
      if (run.allocator != allocators[i] || run.failed || found == run.figures.end()) continue;
      series.marks.push_back({static_cast<double>(run.order), found->second,
                              fmt::format("{}{}, run {}, block {}: {}", run.allocator, run.control ? " (control)" : "",
                                          run.order, run.block, Figure(measure, found->second)),
                              run.control, false});
    }
    if (!series.marks.empty()) chart.series.push_back(std::move(series));
  }
  std::reverse(chart.series.begin(), chart.series.end());
  return RenderChart(chart);
}

// The run whose wall time is nearest to the median.
const BenchRun* TypicalRun(const BenchWorkload& workload, const std::string& allocator) {
  std::vector<const BenchRun*> runs = CountedRuns(workload, allocator);
  runs.erase(std::remove_if(runs.begin(), runs.end(), [](const BenchRun* run) { return run->rss.size() < 2; }),
             runs.end());
  if (runs.empty()) return nullptr;
  const auto wall = [](const BenchRun* run) {
    const auto found = run->figures.find("wall_s");
    return found == run->figures.end() ? 0.0 : found->second;
  };
  std::sort(runs.begin(), runs.end(), [&](const BenchRun* a, const BenchRun* b) { return wall(a) < wall(b); });
  return runs[(runs.size() - 1) / 2];
}

std::string RenderRssOverTime(const BenchWorkload& workload, const std::vector<std::string>& allocators) {
  Chart chart;
  chart.title = fmt::format("RSS over time of {}: the run with the median wall time", workload.name);
  chart.x = {"time since the start", "wall_s", AxisKind::kLinear, true};
  chart.y = {"RSS", "rss_bytes", AxisKind::kLinear, true};
  chart.lines = true;
  for (std::size_t i = 0; i < allocators.size(); ++i) {
    const BenchRun* run = TypicalRun(workload, allocators[i]);
    if (run == nullptr) continue;
    Series series{allocators[i], SeriesStyle(allocators[i], i), {}};
    // Of each stretch the highest sample is drawn: the peak must not be thinned out.
    const std::size_t stretch = (run->rss.size() + kMostRssSamples - 1) / kMostRssSamples;
    for (std::size_t at = 0; at < run->rss.size(); at += stretch) {
      const auto first = run->rss.begin() + static_cast<std::ptrdiff_t>(at);
      const auto last = run->rss.begin() + static_cast<std::ptrdiff_t>(std::min(at + stretch, run->rss.size()));
      const auto highest =
          std::max_element(first, last, [](const auto& a, const auto& b) { return a.second < b.second; });
      series.marks.push_back({highest->first, highest->second, "", false, false});
    }
    // The last sample stands, since what remains at the end is the point of some workloads.
    series.marks.push_back({run->rss.back().first, run->rss.back().second,
                            fmt::format("{}: {} at the end", allocators[i], FormatBytes(run->rss.back().second)), false,
                            false});
    chart.series.push_back(std::move(series));
  }
  std::reverse(chart.series.begin(), chart.series.end());
  return RenderChart(chart);
}

void AppendMedians(const BenchWorkload& workload, const std::vector<std::string>& allocators, std::string* out) {
  static const std::vector<std::string> kFirst = {"wall_s",         "cpu_s",           "user_s",         "system_s",
                                                  "peak_rss_bytes", "end_rss_bytes",   "idle_rss_bytes", "minor_faults",
                                                  "major_faults",   "context_switches"};
  std::vector<std::string> measures = kFirst;
  std::set<std::string> metrics;
  for (const BenchResult& result : workload.results) {
    for (const auto& [name, value] : result.medians) {
      if (name.compare(0, 8, "metrics.") == 0) metrics.insert(name);
    }
  }
  measures.insert(measures.end(), metrics.begin(), metrics.end());
  if (std::find(measures.begin(), measures.end(), workload.measure) == measures.end()) {
    measures.insert(measures.begin(), workload.measure);
  }

  *out += fmt::format(
      "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"medians of {}\">"
      "<table class=\"plain\"><thead><tr><th scope=\"col\">median of</th>",
      Escape(workload.name));
  std::vector<const BenchResult*> results;
  for (const std::string& name : allocators) {
    const BenchResult* result = workload.Find(name);
    if (result == nullptr) continue;
    results.push_back(result);
    *out += fmt::format("<th scope=\"col\">{}</th>", Escape(name));
  }
  *out += "</tr></thead><tbody>\n<tr><th scope=\"row\">runs that count</th>";
  for (const BenchResult* result : results) {
    *out += fmt::format("<td>{}{}</td>", result->runs,
                        result->failed > 0 ? fmt::format(" <b class=\"failed\">({} failed)</b>", result->failed) : "");
  }
  *out += "</tr>\n";
  for (const std::string& measure : measures) {
    const bool any = std::any_of(results.begin(), results.end(),
                                 [&](const BenchResult* result) { return result->medians.count(measure) != 0; });
    if (!any) continue;
    *out += fmt::format("<tr{}><th scope=\"row\">{}</th>", measure == workload.measure ? " class=\"about\"" : "",
                        Escape(NameOf(workload, measure)));
    for (const BenchResult* result : results) {
      const auto median = result->medians.find(measure);
      if (median == result->medians.end()) {
        *out += "<td>\xE2\x80\x93</td>";
        continue;
      }
      *out += fmt::format("<td>{}", Figure(measure, median->second));
      if (const auto ratio = result->ratios.find(measure);
          ratio != result->ratios.end() && result->allocator != workload.reference) {
        *out += fmt::format(" <small>{}\xC3\x97 {}</small>", Ratio(ratio->second.ratio), Interval(ratio->second));
      }
      *out += "</td>";
    }
    *out += "</tr>\n";
  }
  *out += "</tbody></table></div>\n";
}

void AppendWorkload(const BenchWorkload& workload, const std::vector<std::string>& allocators, std::string* out) {
  const auto ratio = RatioOf(workload, kSubject, workload.measure);
  *out += fmt::format("<details id=\"w-{}\"><summary><h3>{}</h3> {}</summary>\n", Identifier(workload.name),
                      Escape(workload.name),
                      ratio ? fmt::format("<span class=\"figures\">{}\xC3\x97 {}</span> {}", Ratio(ratio->ratio),
                                          Escape(workload.measure_title), RenderVerdict(ratio->verdict))
                            : "");
  if (!workload.description.empty()) *out += fmt::format("<p>{}</p>\n", Escape(workload.description));
  std::string facts = fmt::format("kind {}; reference {}", workload.kind, workload.reference);
  if (!workload.placement.empty() && workload.placement != "none") {
    facts += fmt::format("; placed {}", workload.placement);
    std::string cpus;
    for (const int cpu : workload.cpus) cpus += fmt::format("{}{}", cpus.empty() ? "" : ", ", cpu);
    if (!cpus.empty()) facts += fmt::format(" on CPUs {}", cpus);
  }
  if (const auto control = workload.control.find(workload.measure); control != workload.control.end()) {
    facts += fmt::format("; {} against itself, {}: {}\xC3\x97 {}{}", workload.reference, workload.measure_title,
                         Ratio(control->second.ratio), Interval(control->second),
                         TooNoisy(workload, workload.measure) ? ", too noisy to tell differences" : "");
  } else {
    facts += "; no control";
  }
  *out += fmt::format("<p class=\"facts\">{}</p>\n", Escape(facts));
  if (!workload.errors.empty()) {
    *out += "<ul class=\"errors\">";
    for (const BenchError& error : workload.errors) {
      *out += fmt::format("<li><b>{}</b>{}: {}</li>", Escape(error.allocator),
                          error.run ? fmt::format(", run {}", *error.run) : "", Escape(error.what));
    }
    *out += "</ul>\n";
  }
  AppendMedians(workload, allocators, out);
  std::string charts =
      Figured(RenderRuns(workload, allocators, workload.measure), "every run in its order: " + workload.measure_title);
  if (workload.measure != "wall_s") {
    charts += Figured(RenderRuns(workload, allocators, "wall_s"), "every run in its order: wall time");
  }
  if (workload.measure != "peak_rss_bytes") {
    charts += Figured(RenderRuns(workload, allocators, "peak_rss_bytes"), "every run in its order: peak RSS");
  }
  charts += Figured(RenderRssOverTime(workload, allocators), "RSS over time, of the run with the median wall time");
  *out += RenderLegend(allocators, true);
  *out += fmt::format("<div class=\"charts\">{}</div>\n", charts);
  std::string command;
  for (const std::string& word : workload.command) command += (command.empty() ? "" : " ") + word;
  if (!command.empty()) *out += fmt::format("<p>What ran:</p><pre tabindex=\"0\">{}</pre>\n", Escape(command));
  if (!workload.repeat.empty()) {
    *out += fmt::format("<p>To measure it again:</p><pre tabindex=\"0\">{}</pre>\n", Escape(workload.repeat));
  }
  *out += "</details>\n";
}

}  // namespace

void AppendWorkloads(const BenchDocument& document, std::string* out) {
  const std::vector<std::string> allocators = AllocatorsOf(document);
  *out += "<section><h2 id=\"workloads\">Workloads, every run</h2>\n<p class=\"all\"></p>\n";
  for (const BenchWorkload& workload : document.workloads) AppendWorkload(workload, allocators, out);
  *out += "</section>\n";
}

}  // namespace tarn::tool::report
