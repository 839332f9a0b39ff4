#include "tools/tarn/report/report.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/tarn/report/bootstrap.h"
#include "tools/tarn/report/chart.h"
#include "tools/tarn/report/html.h"
// Made by CMake, so it has no path in the repository.
#include <report_assets.h>

namespace tarn::tool::report {
namespace {

constexpr const char* kSubject = "tarn";
// More samples than this do not show at the width of a chart.
constexpr std::size_t kMostRssSamples = 160;

// Which figures the main table can show; "" is the measure that each workload is about.
struct View {
  const char* measure;
  const char* name;
};
constexpr View kViews[] = {
    {"", "what counts"}, {"wall_s", "wall time"}, {"cpu_s", "CPU time"}, {"peak_rss_bytes", "peak RSS"}};

bool IsTime(const std::string& measure) {
  return measure == "wall_s" || measure == "cpu_s" || measure.find("_ns") != std::string::npos;
}

// Noise of the clock says nothing about bytes.
bool TooNoisy(const BenchWorkload& workload, const std::string& measure) {
  return workload.noise && workload.noise->noisy && IsTime(measure);
}

std::string MeasureOf(const BenchWorkload& workload, const View& view) {
  return *view.measure == '\0' ? workload.measure : view.measure;
}

std::string NameOf(const BenchWorkload& workload, const std::string& measure) {
  return measure == workload.measure ? workload.measure_title : MeasureTitle(measure);
}

// To the reference.
std::optional<RatioResult> RatioOf(const BenchWorkload& workload, const std::string& allocator,
                                   const std::string& measure) {
  const BenchResult* result = workload.Find(allocator);
  if (result == nullptr) return std::nullopt;
  const auto found = result->ratios.find(measure);
  std::optional<RatioResult> ratio;
  if (found != result->ratios.end()) {
    ratio = found->second;
  } else if (allocator != workload.reference) {
    ratio = PairedRatio(workload, allocator, workload.reference, measure);
  }
  if (ratio && TooNoisy(workload, measure)) ratio->verdict = "noisy";
  return ratio;
}

struct BestPeer {
  std::string name;
  RatioResult ratio;  // tarn / the peer
};

// The peer with the smallest median. It is chosen after the fact, which favours the peers.
std::optional<BestPeer> FindBestPeer(const BenchWorkload& workload, const std::string& measure) {
  const BenchResult* best = nullptr;
  for (const BenchResult& result : workload.results) {
    if (result.allocator == kSubject || result.allocator == workload.reference) continue;
    const auto median = result.medians.find(measure);
    if (median == result.medians.end() || CountedRuns(workload, result.allocator).empty()) continue;
    if (best == nullptr || median->second < best->medians.at(measure)) best = &result;
  }
  if (best == nullptr) return std::nullopt;
  const auto ratio = PairedRatio(workload, kSubject, best->allocator, measure);
  if (!ratio) return std::nullopt;
  BestPeer peer{best->allocator, *ratio};
  if (TooNoisy(workload, measure)) peer.ratio.verdict = "noisy";
  return peer;
}

// All allocators that any workload has results of, in the document's order; the subject first, the references next.
std::vector<std::string> AllocatorsOf(const BenchDocument& document) {
  std::vector<std::string> names;
  const auto add = [&](const std::string& name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  std::set<std::string> present;
  for (const BenchWorkload& workload : document.workloads) {
    for (const BenchResult& result : workload.results) present.insert(result.allocator);
  }
  if (present.count(kSubject) != 0) add(kSubject);
  for (const BenchWorkload& workload : document.workloads) {
    if (present.count(workload.reference) != 0) add(workload.reference);
  }
  for (const BenchAllocator& allocator : document.allocators) {
    if (present.count(allocator.name) != 0) add(allocator.name);
  }
  for (const std::string& name : present) add(name);
  return names;
}

struct Tally {
  int win = 0;
  int tie = 0;
  int loss = 0;
  int untold = 0;   // noisy, or too few runs to tell
  int without = 0;  // no figures: not run, or failed

  void Add(const std::optional<RatioResult>& ratio) {
    if (!ratio) {
      ++without;
    } else if (ratio->verdict == "win") {
      ++win;
    } else if (ratio->verdict == "tie") {
      ++tie;
    } else if (ratio->verdict == "loss") {
      ++loss;
    } else {
      ++untold;
    }
  }
  int told() const { return win + tie + loss; }
};

std::string Counted(int count, const char* one, const char* many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

std::string InWords(const Tally& tally) {
  return fmt::format("{}, {} and {} of {}", Counted(tally.win, "win", "wins"), Counted(tally.tie, "tie", "ties"),
                     Counted(tally.loss, "loss", "losses"), Counted(tally.told(), "workload", "workloads"));
}

// 0 where no workload has the ratio.
double GeometricMean(const BenchDocument& document, const std::string& allocator, const std::string& measure) {
  double sum = 0;
  int count = 0;
  for (const BenchWorkload& workload : document.workloads) {
    const auto ratio = RatioOf(workload, allocator, measure);
    if (!ratio || ratio->ratio <= 0) continue;
    sum += std::log(ratio->ratio);
    ++count;
  }
  return count == 0 ? 0 : std::exp(sum / count);
}

std::string Interval(const RatioResult& ratio) { return fmt::format("[{}, {}]", Ratio(ratio.low), Ratio(ratio.high)); }

// --- The main table -------------------------------------------------------------------------------------------------

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

std::string WhyNone(const BenchWorkload& workload, const std::string& allocator) {
  const BenchResult* result = workload.Find(allocator);
  if (result == nullptr) return "not run";
  if (result->failed > 0) return fmt::format("failed {} of {}", result->failed, result->runs + result->failed);
  return "no figure";
}

void AppendMainTable(const BenchDocument& document, const std::vector<std::string>& allocators, const View& view,
                     std::size_t number, std::string* out) {
  std::set<std::string> references;
  for (const BenchWorkload& workload : document.workloads) references.insert(workload.reference);
  std::vector<std::string> compared;
  for (const std::string& name : allocators) {
    if (references.count(name) == 0 || references.size() > 1) compared.push_back(name);
  }
  const std::string reference = references.size() == 1 ? *references.begin() : "the reference";

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
                      Escape(reference), Escape(view.name));
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
                        TooNoisy(workload, measure) ? "; too noisy" : "");
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
    double sum = 0;
    int count = 0;
    for (const BenchWorkload& workload : document.workloads) {
      const auto ratio = RatioOf(workload, name, MeasureOf(workload, view));
      if (!ratio || ratio->ratio <= 0) continue;
      sum += std::log(ratio->ratio);
      ++count;
    }
    *out += fmt::format(
        "<td role=\"cell\" data-label=\"{}\">{}</td>", Escape(name),
        count == 0 ? "" : fmt::format("<b>{}\xC3\x97</b> <small>of {}</small>", Ratio(std::exp(sum / count)), count));
  }
  *out += "<td role=\"cell\"></td><td role=\"cell\"></td></tr></tfoot></table></div>\n";
}

std::string RenderLegend(const std::vector<std::string>& allocators, bool control) {
  std::string html = "<p class=\"legend\">";
  for (std::size_t i = 0; i < allocators.size(); ++i) {
    html += fmt::format("<span>{}{}</span> ", RenderKey(SeriesStyle(allocators[i], i)), Escape(allocators[i]));
  }
  if (control) {
    html +=
        fmt::format("<span>{}the reference a second time (control)</span>", RenderKey(SeriesStyle("glibc", 0), true));
  }
  return html + "</p>\n";
}

std::string Figured(const std::string& chart, const std::string& caption) {
  if (chart.empty()) return "";
  return fmt::format("<figure>{}<figcaption>{}</figcaption></figure>\n", chart, Escape(caption));
}

// --- Speed against memory -------------------------------------------------------------------------------------------

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

// --- Latency --------------------------------------------------------------------------------------------------------

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

void AppendLatency(const BenchDocument& document, const std::vector<std::string>& allocators, std::string* out) {
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

// --- Thread scaling -------------------------------------------------------------------------------------------------

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

void AppendScaling(const BenchDocument& document, const std::vector<std::string>& allocators, std::string* out) {
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
                                            rates ? Count(value) + " operations/s" : Seconds(value)),
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

// --- One workload ---------------------------------------------------------------------------------------------------

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
                            fmt::format("{}: {} at the end", allocators[i], Bytes(run->rss.back().second)), false,
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
  if (workload.noise && workload.noise->wall) {
    facts += fmt::format("; {} against itself {}\xC3\x97 {}{}", workload.noise->allocator,
                         Ratio(workload.noise->wall->ratio), Interval(*workload.noise->wall),
                         workload.noise->noisy ? ": too noisy to tell differences in time" : "");
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

// --- The machine ----------------------------------------------------------------------------------------------------

void AppendFacts(const std::vector<std::pair<std::string, std::string>>& facts, std::string* out) {
  *out += "<dl>";
  for (const auto& [name, value] : facts) {
    if (!value.empty()) *out += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>", Escape(name), Escape(value));
  }
  *out += "</dl>\n";
}

void AppendMachine(const BenchDocument& document, std::string* out) {
  *out += "<section><h2 id=\"machine\">Machine and versions</h2>\n";
  AppendFacts(document.machine, out);
  if (!document.topology.empty()) {
    *out += "<h3>Topology</h3><pre tabindex=\"0\">";
    for (const std::string& line : document.topology) *out += Escape(line) + "\n";
    *out += "</pre>\n";
  }
  *out += "<h3>tarn</h3>";
  std::vector<std::pair<std::string, std::string>> facts = document.build;
  facts.emplace_back("tool", document.tool_version);
  facts.emplace_back("started", document.started);
  facts.emplace_back("finished", document.finished);
  if (document.seed) facts.emplace_back("seed of the order", fmt::format("{:.0f}", *document.seed));
  facts.emplace_back("command", document.command_line);
  AppendFacts(facts, out);
  *out +=
      "<h3>Allocators</h3>\n<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"allocators\">"
      "<table class=\"plain hashes\"><thead><tr><th scope=\"col\">name</th><th scope=\"col\">package</th>"
      "<th scope=\"col\">file</th><th scope=\"col\">SHA-256</th><th scope=\"col\">build id</th></tr></thead><tbody>";
  for (const BenchAllocator& allocator : document.allocators) {
    *out += fmt::format(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td><code>{}</code></td><td><code>{}</code></td>"
        "<td><code>{}</code></td></tr>\n",
        Escape(allocator.name), Escape(allocator.package), Escape(allocator.path), Escape(allocator.sha256),
        Escape(allocator.build_id));
  }
  *out += "</tbody></table></div></section>\n";
}

}  // namespace

std::string RenderVerdict(const std::string& verdict) {
  if (verdict.empty()) return "";
  const char* kind = "untold";
  const char* sign = "?";
  if (verdict == "win" || verdict == "improvement") {
    kind = "win";
    sign = "\xE2\x96\xBC";  // less time or memory
  } else if (verdict == "loss" || verdict == "regression") {
    kind = "loss";
    sign = "\xE2\x96\xB2";
  } else if (verdict == "tie" || verdict == "same") {
    kind = "tie";
    sign = "=";
  }
  return fmt::format("<span class=\"verdict {}\"><span aria-hidden=\"true\">{}</span> {}</span>", kind, sign,
                     Escape(verdict));
}

std::string Headline(const BenchDocument& document) {
  if (document.workloads.empty()) return "Nothing was measured.";
  Tally against_reference;
  Tally against_peers;
  std::set<std::string> references;
  std::string worst;
  double worst_ratio = 0;
  bool any_peer = false;
  for (const BenchWorkload& workload : document.workloads) {
    references.insert(workload.reference);
    const auto ratio = RatioOf(workload, kSubject, workload.measure);
    against_reference.Add(ratio);
    if (ratio && ratio->verdict == "loss" && ratio->ratio > worst_ratio) {
      worst_ratio = ratio->ratio;
      worst = fmt::format("{}, {} times the {}", workload.name, Ratio(ratio->ratio), workload.measure_title);
    }
    const auto peer = FindBestPeer(workload, workload.measure);
    any_peer = any_peer || peer.has_value();
    against_peers.Add(peer ? std::optional(peer->ratio) : std::nullopt);
  }
  const std::string reference = references.size() == 1 ? *references.begin() : "its reference";
  std::string text;
  if (against_reference.told() > 0) {
    text = fmt::format("Against {}, tarn has {}", reference, InWords(against_reference));
    if (!worst.empty()) text += fmt::format(" (the largest loss: {})", worst);
  } else {
    text = fmt::format("Against {}, nothing can be told", reference);
  }
  if (any_peer && against_peers.told() > 0) {
    text += fmt::format("; against the best peer of each workload, {}", InWords(against_peers));
  }
  const double time = GeometricMean(document, kSubject, "wall_s");
  const double memory = GeometricMean(document, kSubject, "peak_rss_bytes");
  if (time > 0 && memory > 0 && document.workloads.size() > 1) {
    text += fmt::format("; in the geometric mean it takes {} times the wall time and {} times the peak RSS of {}",
                        Ratio(time), Ratio(memory), reference);
  }
  if (against_reference.untold > 0) {
    text += fmt::format("; the machine was too noisy to tell about {}",
                        Counted(against_reference.untold, "workload", "workloads"));
  }
  if (against_reference.without > 0) {
    text += fmt::format("; {} without figures", Counted(against_reference.without, "workload is", "workloads are"));
  }
  return text + ".";
}

std::string RenderPage(const std::string& title, const std::string& body) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n"
      // Nothing is fetched, whatever stands in a document.
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
      "script-src 'unsafe-inline'\">\n"
      "<title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n{}<script>\n{}</script>\n</body>\n</html>\n",
      Escape(title), kReportStyle, body, kReportScript);
}

std::string ReportText(const BenchDocument& document) {
  const std::vector<std::string> allocators = AllocatorsOf(document);
  std::set<std::string> references;
  for (const BenchWorkload& workload : document.workloads) references.insert(workload.reference);
  const std::string head = "ratio to " + (references.size() == 1 ? *references.begin() : "the reference");
  std::size_t name_width = head.size();
  std::size_t measure_width = std::string_view("what counts").size();
  for (const BenchWorkload& workload : document.workloads) {
    name_width = std::max(name_width, workload.name.size());
    measure_width = std::max(measure_width, workload.measure_title.size());
  }
  std::string text = fmt::format("{:<{}}  {:<{}}", head, name_width, "what counts", measure_width);
  std::vector<std::string> compared;
  for (const std::string& name : allocators) {
    if (references.count(name) != 0 && references.size() == 1) continue;
    compared.push_back(name);
    text += fmt::format("  {:>12}", name);
  }
  text += "    tarn / best peer\n";
  const auto cell = [](const std::optional<RatioResult>& ratio, const std::string& otherwise) {
    if (!ratio) return otherwise;
    return fmt::format("{} {:<5}", Ratio(ratio->ratio), ratio->verdict);
  };
  for (const BenchWorkload& workload : document.workloads) {
    text += fmt::format("{:<{}}  {:<{}}", workload.name, name_width, workload.measure_title, measure_width);
    for (const std::string& name : compared) {
      const std::string none = name == workload.reference ? "reference" : WhyNone(workload, name);
      text += fmt::format("  {:>12}", cell(RatioOf(workload, name, workload.measure), none));
    }
    const auto peer = FindBestPeer(workload, workload.measure);
    text += fmt::format("    {}\n", peer ? fmt::format("{} {}", cell(peer->ratio, ""), peer->name) : "no peer");
  }
  text += "\n" + Headline(document) + "\n";
  for (const BenchWorkload& workload : document.workloads) {
    for (const BenchError& error : workload.errors) {
      text += fmt::format("FAILED: {} under {}{}: {}\n", workload.name, error.allocator,
                          error.run ? fmt::format(", run {}", *error.run) : "", error.what);
    }
  }
  return text;
}

nlohmann::json ReportJson(const BenchDocument& document) {
  const auto to_json = [](const RatioResult& ratio) {
    return nlohmann::json{{"ratio", ratio.ratio}, {"ci", {ratio.low, ratio.high}}, {"verdict", ratio.verdict}};
  };
  nlohmann::json rows = nlohmann::json::array();
  for (const BenchWorkload& workload : document.workloads) {
    nlohmann::json row = {{"name", workload.name},
                          {"measure", workload.measure},
                          {"title", workload.measure_title},
                          {"reference", workload.reference},
                          {"errors", workload.errors.size()},
                          {"ratios", nlohmann::json::object()},
                          {"best_peer", nullptr}};
    for (const BenchResult& result : workload.results) {
      if (const auto ratio = RatioOf(workload, result.allocator, workload.measure)) {
        row["ratios"][result.allocator] = to_json(*ratio);
      }
    }
    if (const auto peer = FindBestPeer(workload, workload.measure)) {
      row["best_peer"] = to_json(peer->ratio);
      row["best_peer"]["name"] = peer->name;
    }
    rows.push_back(std::move(row));
  }
  return {{"schema", "tarn-report/1"}, {"headline", Headline(document)}, {"workloads", std::move(rows)}};
}

}  // namespace tarn::tool::report

namespace tarn::tool {

std::string RenderReport(const nlohmann::json& json) {
  using namespace report;
  const BenchDocument document = ParseDocument(json);
  const std::vector<std::string> allocators = AllocatorsOf(document);
  std::string body = "<header><h1>tarn, compared</h1>\n";
  body += fmt::format("<p class=\"headline\">{}</p>\n", Escape(Headline(document)));
  std::string when;
  if (!document.started.empty()) when = "Measured " + document.started;
  for (const auto& [name, value] : document.machine) {
    if (name == "CPU" || name == "kernel") when += (when.empty() ? "" : " \xC2\xB7 ") + name + " " + value;
  }
  body += fmt::format("<p class=\"facts\">{}</p>\n", Escape(when));
  if (document.interrupted) {
    body += "<p class=\"warning\"><b>Interrupted:</b> what follows is what was measured until then.</p>\n";
  }
  std::string failures;
  for (const BenchWorkload& workload : document.workloads) {
    if (workload.errors.empty()) continue;
    std::set<std::string> names;
    for (const BenchError& error : workload.errors) names.insert(error.allocator);
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
    failures += fmt::format("<li><a href=\"#w-{}\">{}</a>: {} under {}: {}</li>", Identifier(workload.name),
                            Escape(workload.name), Counted(static_cast<int>(workload.errors.size()), "error", "errors"),
                            Escape(list), Escape(workload.errors.front().what));
  }
  if (!failures.empty()) {
    body += fmt::format("<div class=\"warning\"><b>Runs that failed, and are in no figure:</b><ul>{}</ul></div>\n",
                        failures);
  }
  body +=
      "<nav aria-label=\"sections\"><a href=\"#results\">Results</a> <a href=\"#scatter\">Speed and memory</a> "
      "<a href=\"#workloads\">Workloads</a> <a href=\"#machine\">Machine</a> <a href=\"#reading\">How to read</a>"
      "</nav></header>\n<main>\n";

  body += "<section><h2 id=\"results\">Results</h2>\n";
  body += "<div class=\"views\" role=\"group\" aria-label=\"which figure the table shows\"></div>\n";
  body += RenderLegend(allocators, false);
  for (std::size_t i = 0; i < std::size(kViews); ++i) AppendMainTable(document, allocators, kViews[i], i, &body);
  body += "</section>\n";

  const std::string charts = Figured(RenderScatter(document, allocators, "wall_s"), "wall time against peak RSS") +
                             Figured(RenderScatter(document, allocators, "cpu_s"), "CPU time against peak RSS");
  if (!charts.empty()) {
    body += "<section><h2 id=\"scatter\">Speed against memory</h2>\n";
    body +=
        "<p>One mark per workload and allocator, the large ones are geometric means. Left and below is better.</p>\n";
    body += RenderLegend(allocators, false);
    body += fmt::format("<div class=\"charts two\">{}</div></section>\n", charts);
  }
  AppendLatency(document, allocators, &body);
  AppendScaling(document, allocators, &body);

  body += "<section><h2 id=\"workloads\">Workloads, every run</h2>\n<p class=\"all\"></p>\n";
  for (const BenchWorkload& workload : document.workloads) AppendWorkload(workload, allocators, &body);
  body += "</section>\n";
  AppendMachine(document, &body);

  if (!document.notes.empty()) {
    body += "<section><h2 id=\"notes\">Left out</h2><ul>";
    for (const std::string& note : document.notes) body += fmt::format("<li>{}</li>", Escape(note));
    body += "</ul></section>\n";
  }
  body += fmt::format("<section><h2 id=\"reading\">How to read this</h2>\n{}</section>\n</main>\n", kReportReading);
  return RenderPage("tarn, compared", body);
}

}  // namespace tarn::tool
