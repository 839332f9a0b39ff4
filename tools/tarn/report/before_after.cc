// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/report/before_after.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/tarn/report/html.h"
#include "tools/tarn/report/judgement.h"
#include "tools/tarn/report/page.h"

namespace tarn::tool::report {
namespace {

// Among a hundred figures that did not change, one 95 % interval in twenty would say otherwise.
constexpr double kConfidence = 0.99;
// Derived: two samples of five equal ones lie apart by chance in 2 of 252 cases, samples of four in 2 of 70.
constexpr std::size_t kFewestBlocks = 5;

// The subject's figure of each block, divided by the reference's if asked.
std::vector<double> Figures(const BenchWorkload& workload, const std::string& allocator, const std::string& measure,
                            bool against_reference) {
  const auto references = FiguresByBlock(workload, workload.reference, measure);
  std::vector<double> figures;
  for (const auto& [block, figure] : FiguresByBlock(workload, allocator, measure)) {
    if (!against_reference) {
      figures.push_back(figure);
    } else if (const auto reference = references.find(block); reference != references.end()) {
      figures.push_back(figure / reference->second);
    }
  }
  return figures;
}

const BenchWorkload* FindWorkload(const BenchDocument& document, const std::string& name) {
  for (const BenchWorkload& workload : document.workloads) {
    if (workload.name == name) return &workload;
  }
  return nullptr;
}

std::string Verdict(const Estimate& change, double threshold, std::size_t fewest, bool noisy) {
  if (noisy) return "noisy";
  // A change is one of which the whole interval lies beyond the threshold. Where the interval is wider than twice that,
  // a change could hide in it.
  const bool changed = change.low > 1 + threshold || change.high < 1 - threshold;
  const bool wide = change.low < 1 - 2 * threshold || change.high > 1 + 2 * threshold;
  if (!changed) return wide ? "unsure" : "same";
  if (fewest < kFewestBlocks) return "unsure";
  return change.low > 1 ? "regression" : "improvement";
}

void CompareWorkload(const BenchWorkload& before, const BenchWorkload& after, Comparison* comparison) {
  std::vector<std::string> measures = {after.measure, "wall_s", "peak_rss_bytes"};
  for (std::size_t i = 0; i < measures.size(); ++i) {
    const std::string& measure = measures[i];
    if (std::find(measures.begin(), measures.begin() + static_cast<std::ptrdiff_t>(i), measure) !=
        measures.begin() + static_cast<std::ptrdiff_t>(i)) {
      continue;
    }
    Change change;
    change.workload = after.name;
    change.measure = measure;
    change.title = measure == after.measure ? after.measure_title : MeasureTitle(measure);
    const auto raw_before = Figures(before, comparison->subject, measure, false);
    const auto raw_after = Figures(after, comparison->subject, measure, false);
    if (raw_before.empty() || raw_after.empty()) continue;
    change.before = Median(raw_before);
    change.after = Median(raw_after);
    auto old_figures = Figures(before, comparison->subject, measure, true);
    auto new_figures = Figures(after, comparison->subject, measure, true);
    change.against_reference = before.reference == after.reference && !old_figures.empty() && !new_figures.empty();
    if (change.against_reference) {
      change.reference_change = Median(Figures(after, after.reference, measure, false)) /
                                Median(Figures(before, before.reference, measure, false));
    } else {
      old_figures = raw_before;
      new_figures = raw_after;
    }
    change.change = EstimateChange(old_figures, new_figures, kConfidence);
    change.verdict = Verdict(change.change, comparison->threshold, std::min(old_figures.size(), new_figures.size()),
                             TooNoisy(before, measure) || TooNoisy(after, measure));
    comparison->changes.push_back(std::move(change));
  }
}

std::string Percent(double ratio) { return fmt::format("{:+.1f} %", (ratio - 1) * 100); }

std::string Summary(const Comparison& comparison) {
  std::map<std::string, int> counts;
  for (const Change& change : comparison.changes) ++counts[change.verdict];
  const auto plural = [](int count, const char* word) {
    return fmt::format("{} {}{}", count, word, count == 1 ? "" : "s");
  };
  std::string text = fmt::format("{}, {}, {} the same", plural(counts["regression"], "regression"),
                                 plural(counts["improvement"], "improvement"), counts["same"]);
  if (counts["unsure"] > 0) text += fmt::format(", {} that cannot be told from so few runs", counts["unsure"]);
  if (counts["noisy"] > 0) text += fmt::format(", {} on too noisy a machine", counts["noisy"]);
  return text;
}

}  // namespace

bool Comparison::regression() const {
  return std::any_of(changes.begin(), changes.end(),
                     [](const Change& change) { return change.verdict == "regression"; });
}

Comparison CompareDocuments(const BenchDocument& before, const BenchDocument& after, double threshold) {
  Comparison comparison;
  comparison.subject = kSubject;
  comparison.threshold = threshold;
  for (const auto& [name, value] : after.machine) {
    if (name != "CPU" && name != "kernel" && name != "libc" && name != "huge pages" && name != "CPU governor") continue;
    for (const auto& [other_name, other_value] : before.machine) {
      if (name == other_name && value != other_value) {
        comparison.notes.push_back(fmt::format("{} was {} and is {}", name, other_value, value));
      }
    }
  }
  for (const BenchAllocator& allocator : after.allocators) {
    if (allocator.name == kSubject) continue;
    for (const BenchAllocator& other : before.allocators) {
      if (allocator.name == other.name && allocator.sha256 != other.sha256) {
        comparison.notes.push_back(fmt::format("{} is another file than before, by its hash", allocator.name));
      }
    }
  }
  for (const BenchWorkload& workload : after.workloads) {
    const BenchWorkload* old = FindWorkload(before, workload.name);
    if (old == nullptr) {
      comparison.notes.push_back(fmt::format("{} was not measured before", workload.name));
    } else if (old->command != workload.command) {
      comparison.notes.push_back(fmt::format("{} ran another command before, and is not compared", workload.name));
    } else {
      CompareWorkload(*old, workload, &comparison);
    }
  }
  for (const BenchWorkload& workload : before.workloads) {
    if (FindWorkload(after, workload.name) == nullptr) {
      comparison.notes.push_back(fmt::format("{} was measured before only", workload.name));
    }
  }
  return comparison;
}

nlohmann::json ComparisonJson(const Comparison& comparison) {
  nlohmann::json rows = nlohmann::json::array();
  for (const Change& change : comparison.changes) {
    rows.push_back({{"workload", change.workload},
                    {"measure", change.measure},
                    {"before", change.before},
                    {"after", change.after},
                    {"change", {{"ratio", change.change.value}, {"ci", {change.change.low, change.change.high}}}},
                    {"against_reference", change.against_reference},
                    {"reference_change", change.reference_change},
                    {"verdict", change.verdict}});
  }
  return {{"schema", "tarn-comparison/1"},     {"allocator", comparison.subject}, {"confidence", kConfidence},
          {"threshold", comparison.threshold}, {"notes", comparison.notes},       {"changes", std::move(rows)}};
}

std::string ComparisonText(const Comparison& comparison) {
  std::size_t name_width = 8;
  std::size_t title_width = 7;
  for (const Change& change : comparison.changes) {
    name_width = std::max(name_width, change.workload.size());
    title_width = std::max(title_width, change.title.size());
  }
  std::string text = fmt::format("{:<{}}  {:<{}}  {:>9}  {:>9}  {:>8}  {:<20}\n", "workload", name_width, "measure",
                                 title_width, "before", "after", "change", "99 % interval");
  std::string last;
  for (const Change& change : comparison.changes) {
    text +=
        fmt::format("{:<{}}  {:<{}}  {:>9}  {:>9}  {:>8}  {:<20}  {}\n", change.workload == last ? "" : change.workload,
                    name_width, change.title, title_width, Figure(change.measure, change.before),
                    Figure(change.measure, change.after), Percent(change.change.value),
                    fmt::format("[{}, {}]", Percent(change.change.low), Percent(change.change.high)), change.verdict);
    last = change.workload;
  }
  text += fmt::format("\n{}: {}.\n", comparison.subject, Summary(comparison));
  text +=
      "A change is that of the ratio to the reference, which takes the machine's drift out, where both files have\n"
      "the reference; before and after are plain medians.\n";
  for (const std::string& note : comparison.notes) text += "Note: " + note + ".\n";
  return text;
}

std::string ComparisonPage(const Comparison& comparison, const std::string& before, const std::string& after) {
  std::string body = "<header><h1>tarn, before and after</h1>\n";
  body += fmt::format("<p class=\"headline\">{}: {}.</p>\n", comparison.subject, Escape(Summary(comparison)));
  body += fmt::format("<p class=\"facts\">before: {}<br>after: {}</p>", Escape(before), Escape(after));
  if (!comparison.notes.empty()) {
    body += "<div class=\"warning\"><b>The two differ in more than the change:</b><ul>";
    for (const std::string& note : comparison.notes) body += fmt::format("<li>{}</li>", Escape(note));
    body += "</ul></div>\n";
  }
  body += "</header>\n<main><section><table role=\"table\" class=\"main\">\n<caption>Below 0 % is less time or memory";
  body += fmt::format("; changes within {:.3g} % count as none</caption>\n", comparison.threshold * 100);
  body += "<thead role=\"rowgroup\"><tr role=\"row\">";
  for (const char* head : {"workload", "change", "before", "after"}) {
    body +=
        fmt::format("<th role=\"columnheader\" scope=\"col\"{}>{}</th>",
                    std::string_view(head) == "before" || std::string_view(head) == "after" ? " data-plain" : "", head);
  }
  body +=
      "<th role=\"columnheader\" scope=\"col\" data-plain>the reference itself</th></tr></thead>\n"
      "<tbody role=\"rowgroup\">\n";
  for (const Change& change : comparison.changes) {
    body += fmt::format("<tr role=\"row\"{}><th role=\"rowheader\" scope=\"row\"><b>{}</b><small>{}</small></th>",
                        change.verdict == "regression" ? " class=\"lost\"" : "", Escape(change.workload),
                        Escape(change.title));
    body += fmt::format(
        "<td role=\"cell\" data-label=\"change\" data-sort=\"{:.6g}\"><span class=\"figures\"><b>{}</b> "
        "<small>[{}, {}]</small></span>{}</td>",
        change.change.value, Percent(change.change.value), Percent(change.change.low), Percent(change.change.high),
        RenderVerdict(change.verdict));
    body += fmt::format("<td role=\"cell\" data-label=\"before\">{}</td><td role=\"cell\" data-label=\"after\">{}</td>",
                        Figure(change.measure, change.before), Figure(change.measure, change.after));
    body += fmt::format("<td role=\"cell\" data-label=\"the reference itself\">{}</td></tr>\n",
                        change.against_reference ? Percent(change.reference_change) : "not in both");
  }
  body +=
      "</tbody></table></section>\n<section><h2>How to read this</h2>\n"
      "<p>A change is that of the ratio to the reference, taken in pairs within each block, so that a machine that was "
      "slower as a whole does not count; where one of the files lacks the reference, it is that of the plain figures. "
      "The brackets are the 99 % interval by bootstrap: with some hundred rows, a 95 % one would cry wolf each time. "
      "<b>unsure</b> means that the interval is too wide, or that there are fewer than five "
      "blocks.</p></section></main>\n";
  return RenderPage("tarn, before and after", body);
}

}  // namespace tarn::tool::report
