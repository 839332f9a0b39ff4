// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/report/summary.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/tarn/report/html.h"
#include "tools/tarn/report/judgement.h"
#include "tools/tarn/report/page.h"

namespace tarn::tool::report {

namespace {

// A bar would end the cell, and a line break the table, in code as well.
std::string MarkdownCell(std::string_view text) {
  std::string cell;
  for (const char c : text) {
    if (c == '|') cell += '\\';
    cell += c == '\n' ? ' ' : c;
  }
  return cell;
}

// The rows of means: one of what counts in each workload, and one of each measure that further lines are about. Where
// all workloads are about the same measure, its row says so.
std::vector<std::pair<std::string, std::string>> MeansOf(const BenchDocument& document) {
  std::vector<std::pair<std::string, std::string>> means = {{"", ""}};
  std::set<std::string> what_counts;
  for (const BenchWorkload& workload : document.workloads) {
    what_counts.insert(workload.measure_title);
    for (const auto& line : workload.also) {
      if (std::ranges::find(means, line) == means.end()) means.push_back(line);
    }
  }
  if (what_counts.size() == 1) means.front().second = *what_counts.begin();
  return means;
}

// The median of an allocator as text, or a dash.
std::string FigureOf(const BenchWorkload& workload, const std::string& allocator, const std::string& measure) {
  const BenchResult* result = workload.Find(allocator);
  if (result == nullptr) return "-";
  const auto median = result->medians.find(measure);
  return median == result->medians.end() ? "-" : Figure(measure, median->second);
}

// A line of rates for a workload that says what it counts.
std::string RatesText(const BenchDocument& document, const BenchWorkload& workload) {
  std::string rates;
  for (const std::string& allocator : AllocatorsOf(document)) {
    const double rate = workload.operations.empty() ? 0 : OperationsPerSecond(workload, allocator);
    if (rate > 0) rates += fmt::format("{}{} {}", rates.empty() ? "" : ", ", allocator, Count(rate));
  }
  return rates.empty() ? "" : fmt::format("\n{}, {} per second: {}\n", workload.name, workload.operations, rates);
}

std::string WithoutBlanksAtEnds(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '\n') result.erase(result.find_last_not_of(' ') + 1);
    result += c;
  }
  return result;
}

}  // namespace

std::string ReportText(const BenchDocument& document) {
  const std::string reference = ReferenceOf(document, "");
  const std::string head = "ratio to " + (reference.empty() ? "the reference" : reference);
  std::size_t name_width = head.size();
  std::size_t measure_width = std::string_view("what counts").size();
  for (const BenchWorkload& workload : document.workloads) {
    name_width = std::max(name_width, workload.name.size());
    for (const auto& [measure, title] : LinesOf(workload)) measure_width = std::max(measure_width, title.size());
  }
  const auto line = [&](const std::string& name, const std::string& title, const std::string& figure) {
    return fmt::format("{:<{}}  {:<{}}  {:>9}", name, name_width, title, measure_width, figure);
  };
  std::string text = line(head, "what counts", reference.empty() ? "reference" : reference);
  const std::vector<std::string> compared = ComparedAllocators(document);
  for (const std::string& name : compared) text += fmt::format("  {:>12}", name);
  text += "    tarn / best peer\n";
  const auto cell = [](const std::optional<RatioResult>& ratio, const std::string& otherwise) {
    if (!ratio) return otherwise;
    return fmt::format("{} {:<6}", Ratio(ratio->ratio), ratio->verdict);
  };
  for (const BenchWorkload& workload : document.workloads) {
    for (const auto& [measure, title] : LinesOf(workload)) {
      text += line(measure == workload.measure ? workload.name : "", title,
                   FigureOf(workload, workload.reference, measure));
      for (const std::string& allocator : compared) {
        const std::string none = allocator == workload.reference ? "reference" : WhyNone(workload, allocator);
        text += fmt::format("  {:>12}", cell(RatioOf(workload, allocator, measure), none));
      }
      const auto peer = FindBestPeer(workload, measure);
      text += fmt::format("    {}\n", peer ? fmt::format("{} {}", cell(peer->ratio, ""), peer->name) : "no peer");
    }
  }
  for (const auto& [measure, title] : MeansOf(document)) {
    if (document.workloads.size() < 2) break;
    const auto mean_cell = [](const Mean& mean) {
      return mean.count == 0 ? std::string() : fmt::format("{:<{}}", Ratio(mean.ratio), Ratio(mean.ratio).size() + 7);
    };
    text += line("geometric mean", title, "");
    for (const std::string& name : compared) {
      text += fmt::format("  {:>12}", mean_cell(GeometricMean(document, name, measure)));
    }
    text += fmt::format("    {}\n", mean_cell(GeometricMeanToPeers(document, measure)));
  }
  text = WithoutBlanksAtEnds(text);
  for (const BenchWorkload& workload : document.workloads) text += RatesText(document, workload);
  text += "\n" + Headline(document) + "\n";
  for (const BenchWorkload& workload : document.workloads) {
    for (const BenchError& error : workload.errors) {
      text += fmt::format("FAILED: {} under {}{}: {}\n", workload.name, error.allocator,
                          error.run ? fmt::format(", run {}", *error.run) : "", error.what);
    }
  }
  return text;
}

std::string ReportMarkdown(const BenchDocument& document) {
  const auto fact = [](const std::vector<std::pair<std::string, std::string>>& facts, std::string_view wanted) {
    for (const auto& [name, value] : facts) {
      if (name == wanted) return value;
    }
    return std::string("unknown");
  };
  std::string versions;
  for (const BenchAllocator& allocator : document.allocators) {
    versions += fmt::format("{}{} ({})", versions.empty() ? "" : ", ", allocator.name,
                            allocator.package.empty() ? fact(document.build, "commit") : allocator.package);
  }
  std::string text = fmt::format("{}\n\nMeasured {} on {} with {} CPUs, {}, {}: {}.\n\n", Headline(document),
                                 document.started.substr(0, document.started.find('T')), fact(document.machine, "CPU"),
                                 fact(document.machine, "CPUs, logical"), fact(document.machine, "kernel"),
                                 fact(document.machine, "libc"), versions);
  const std::vector<std::string> compared = ComparedAllocators(document);
  text += "| workload | what counts |";
  std::string rule = "|---|---|";
  for (const std::string& name : compared) {
    text += fmt::format(" {} |", MarkdownCell(name));
    rule += "---|";
  }
  text += " tarn / best peer |\n" + rule + "---|\n";
  const auto cell = [](const std::optional<RatioResult>& ratio, const std::string& otherwise) {
    if (!ratio) return otherwise;
    const std::string figure =
        ratio->verdict == "loss" ? fmt::format("**{}**", Ratio(ratio->ratio)) : Ratio(ratio->ratio);
    const bool told = ratio->verdict == "win" || ratio->verdict == "loss";
    return fmt::format("{} {}{}", figure, Interval(*ratio), told ? "" : " " + ratio->verdict);
  };
  for (const BenchWorkload& workload : document.workloads) {
    for (const auto& [measure, title] : LinesOf(workload)) {
      text += measure == workload.measure ? fmt::format("| `{}` |", MarkdownCell(workload.name)) : "| |";
      text += fmt::format(" {} |", MarkdownCell(title));
      for (const std::string& name : compared) {
        const std::string none = name == workload.reference ? "reference" : WhyNone(workload, name);
        text += fmt::format(" {} |", cell(RatioOf(workload, name, measure), none));
      }
      const auto peer = FindBestPeer(workload, measure);
      text += fmt::format(" {} |\n",
                          peer ? fmt::format("{} {}", cell(peer->ratio, ""), MarkdownCell(peer->name)) : "no peer");
    }
  }
  for (const auto& [measure, title] : MeansOf(document)) {
    text += fmt::format("| geometric mean | {} |", MarkdownCell(title));
    for (const std::string& name : compared) {
      const Mean mean = GeometricMean(document, name, measure);
      text += mean.count == 0 ? " |" : fmt::format(" {} of {} |", Ratio(mean.ratio), mean.count);
    }
    const Mean mean = GeometricMeanToPeers(document, measure);
    text += mean.count == 0 ? " |\n" : fmt::format(" {} of {} |\n", Ratio(mean.ratio), mean.count);
  }
  for (const std::string& note : document.notes) text += fmt::format("\nNot in the table: {}.\n", note);
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
