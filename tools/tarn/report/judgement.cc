// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/report/judgement.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include <fmt/format.h>

#include "tools/tarn/report/html.h"
#include "tools/tarn/statistics.h"

namespace tarn::tool::report {
namespace {

struct Tally {
  std::size_t win = 0;
  std::size_t tie = 0;
  std::size_t loss = 0;
  std::size_t noisy = 0;
  std::size_t unsure = 0;   // too few runs to tell
  std::size_t without = 0;  // no figures: not run, or failed

  void Add(const std::optional<RatioResult>& ratio) {
    if (!ratio) {
      ++without;
    } else if (ratio->verdict == "win") {
      ++win;
    } else if (ratio->verdict == "tie") {
      ++tie;
    } else if (ratio->verdict == "loss") {
      ++loss;
    } else if (ratio->verdict == "noisy") {
      ++noisy;
    } else {
      ++unsure;
    }
  }
  std::size_t told() const { return win + tie + loss; }
};

std::string InWords(const Tally& tally) {
  return fmt::format("{}, {} and {} of {}", Counted(tally.win, "win", "wins"), Counted(tally.tie, "tie", "ties"),
                     Counted(tally.loss, "loss", "losses"), Counted(tally.told(), "workload", "workloads"));
}

// `ratio_of` gives the ratio of a workload, or none.
template <typename RatioOfWorkload>
Mean MeanOf(const BenchDocument& document, RatioOfWorkload ratio_of) {
  double sum = 0;
  Mean mean;
  for (const BenchWorkload& workload : document.workloads) {
    const std::optional<RatioResult> ratio = ratio_of(workload);
    if (!ratio || ratio->ratio <= 0) continue;
    sum += std::log(ratio->ratio);
    ++mean.count;
  }
  if (mean.count > 0) mean.ratio = std::exp(sum / static_cast<double>(mean.count));
  return mean;
}

}  // namespace

bool TooNoisy(const BenchWorkload& workload, const std::string& measure) {
  const auto control = workload.control.find(measure);
  return control != workload.control.end() &&
         IsNoisy({control->second.ratio, control->second.low, control->second.high});
}

std::string NameOf(const BenchWorkload& workload, const std::string& measure) {
  for (const auto& [name, title] : LinesOf(workload)) {
    if (measure == name) return title;
  }
  return MeasureTitle(measure);
}

std::vector<std::pair<std::string, std::string>> LinesOf(const BenchWorkload& workload) {
  std::vector<std::pair<std::string, std::string>> lines = {{workload.measure, workload.measure_title}};
  lines.insert(lines.end(), workload.also.begin(), workload.also.end());
  return lines;
}

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

std::string WhyNone(const BenchWorkload& workload, const std::string& allocator) {
  const BenchResult* result = workload.Find(allocator);
  if (result == nullptr) return "not run";
  if (result->failed > 0) return fmt::format("failed {} of {}", result->failed, result->runs + result->failed);
  return "no figure";
}

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

std::vector<std::string> ComparedAllocators(const BenchDocument& document) {
  std::vector<std::string> names = AllocatorsOf(document);
  if (const std::string reference = ReferenceOf(document, ""); !reference.empty()) std::erase(names, reference);
  return names;
}

std::string ReferenceOf(const BenchDocument& document, const std::string& otherwise) {
  std::set<std::string> references;
  for (const BenchWorkload& workload : document.workloads) references.insert(workload.reference);
  return references.size() == 1 ? *references.begin() : otherwise;
}

Mean GeometricMean(const BenchDocument& document, const std::string& allocator, const std::string& measure) {
  return MeanOf(document, [&](const BenchWorkload& workload) {
    return RatioOf(workload, allocator, measure.empty() ? workload.measure : measure);
  });
}

Mean GeometricMeanToPeers(const BenchDocument& document, const std::string& measure) {
  return MeanOf(document, [&](const BenchWorkload& workload) {
    const auto peer = FindBestPeer(workload, measure.empty() ? workload.measure : measure);
    return peer ? std::optional(peer->ratio) : std::nullopt;
  });
}

double OperationsPerSecond(const BenchWorkload& workload, const std::string& allocator) {
  const std::map<int, double> times = FiguresByBlock(workload, allocator, "wall_s");
  std::vector<double> rates;
  for (const auto& [block, operations] : FiguresByBlock(workload, allocator, "metrics.operations")) {
    if (const auto time = times.find(block); time != times.end()) rates.push_back(operations / time->second);
  }
  return rates.empty() ? 0 : Median(std::move(rates));
}

std::string Counted(std::size_t count, const char* one, const char* many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

std::string Headline(const BenchDocument& document) {
  if (document.workloads.empty()) return "Nothing was measured.";
  Tally against_reference;
  Tally against_peers;
  std::string worst;
  double worst_ratio = 0;
  bool any_peer = false;
  for (const BenchWorkload& workload : document.workloads) {
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
  const std::string reference = ReferenceOf(document, "its reference");
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
  const double time = GeometricMean(document, kSubject, "wall_s").ratio;
  const double memory = GeometricMean(document, kSubject, "peak_rss_bytes").ratio;
  if (time > 0 && memory > 0 && document.workloads.size() > 1) {
    text += fmt::format("; in the geometric mean tarn takes {} times the wall time and {} times the peak RSS of {}",
                        Ratio(time), Ratio(memory), reference);
  }
  if (against_reference.noisy > 0) {
    text += fmt::format("; the machine was too noisy to tell about {}",
                        Counted(against_reference.noisy, "workload", "workloads"));
  }
  if (against_reference.unsure > 0) {
    text += fmt::format("; there are too few runs to tell about {}",
                        Counted(against_reference.unsure, "workload", "workloads"));
  }
  if (against_reference.without > 0) {
    text += fmt::format("; {} without figures", Counted(against_reference.without, "workload is", "workloads are"));
  }
  return text + ".";
}

}  // namespace tarn::tool::report
