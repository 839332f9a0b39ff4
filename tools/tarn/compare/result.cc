// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/compare/result.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>

#include "tools/tarn/statistics.h"

namespace tarn::tool {

namespace {

using nlohmann::json;

constexpr std::string_view kMedians[] = {"wall_s",         "user_s",        "system_s",       "cpu_s",
                                         "peak_rss_bytes", "end_rss_bytes", "idle_rss_bytes", "minor_faults"};
constexpr std::string_view kRatios[] = {"wall_s", "cpu_s", "peak_rss_bytes", "end_rss_bytes", "idle_rss_bytes"};

json OrNull(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }
json OrNull(std::uint64_t bytes) { return bytes != 0 ? json(bytes) : json(nullptr); }

// The least of all options that gives the same again.
std::string Repeat(const std::vector<std::string>& command_line) {
  const auto quoted = [](const std::string& word) {
    constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%";
    if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
    std::string result = "'";
    for (const char c : word) result += c == '\'' ? "'\\''" : std::string(1, c);
    return result + "'";
  };
  std::string text;
  bool skip = false;
  bool command = false;
  for (const std::string& word : command_line) {
    command = command || word == "--";
    if (skip) {
      skip = false;
      continue;
    }
    if (!command && (word == "--json" || word == "-q" || word == "-v")) continue;
    if (!command &&
        (word == "-o" || word == "--output" || word == "--name" || word == "--description" || word == "--kind")) {
      skip = true;
      continue;
    }
    text += (text.empty() ? "" : " ") + quoted(word);
  }
  return text;
}

json RunJson(const Run& run) {
  const Outcome& outcome = run.outcome;
  json rss = json::array();
  for (const RssSeries::Point& point : outcome.rss) rss.push_back({std::round(point.seconds * 1e4) / 1e4, point.bytes});
  return {{"order", run.order},
          {"block", run.block},
          {"allocator", run.allocator->name},
          {"control", run.control},
          {"proven", run.proven},
          {"exit_code", outcome.exit_code},
          {"signal", outcome.signal},
          {"idle_ended", outcome.idle_ended},
          {"failure", run.failure.empty() ? json(nullptr) : json(run.failure)},
          {"output_sha256", outcome.output_sha256},
          {"wall_s", outcome.wall_s},
          {"user_s", outcome.user_s},
          {"system_s", outcome.system_s},
          {"peak_rss_bytes", OrNull(outcome.peak_rss_bytes)},
          {"end_rss_bytes", OrNull(outcome.end_rss_bytes)},
          {"idle_rss_bytes", OrNull(outcome.idle_rss_bytes)},
          {"minor_faults", outcome.minor_faults},
          {"major_faults", outcome.major_faults},
          {"context_switches", outcome.context_switches},
          {"rss", rss},
          {"metrics", run.metrics}};
}

// A row's share of a run: what concerns the process as a whole stands in no row.
json RowRunJson(const Run& run) {
  return {{"order", run.order},
          {"block", run.block},
          {"allocator", run.allocator->name},
          {"control", run.control},
          {"proven", run.proven},
          {"failure", run.failure.empty() ? json(nullptr) : json(run.failure)},
          {"metrics", run.metrics}};
}

// One workload of the document.
class WorkloadResult {
 public:
  WorkloadResult(const ComparisonPlan& plan, const Allocator& reference, const std::vector<Run>& runs,
                 std::vector<std::string_view> medians, std::vector<std::string_view> ratios)
      : plan_(plan), reference_(&reference), runs_(runs), medians_(std::move(medians)), ratios_(std::move(ratios)) {}

  json Noise() const {
    json noise = json::object();
    for (const std::string_view measure : ratios_) {
      const std::vector<double> ratios = PairedRatios(runs_, reference_, true, reference_, measure);
      if (ratios.size() < 2) continue;
      const Estimate estimate = EstimateMedian(ratios);
      noise[std::string(measure)] = {
          {"ratio", estimate.value}, {"ci", {estimate.low, estimate.high}}, {"noisy", IsNoisy(estimate)}};
    }
    return noise;
  }

  json Results() const {
    json results = json::array();
    for (const Allocator& allocator : plan_.allocators) results.push_back(Result(allocator));
    return results;
  }

  json Errors() const {
    json errors = json::array();
    for (const Run& run : runs_) {
      if (!run.failure.empty())
        errors.push_back({{"allocator", run.allocator->name}, {"run", run.order}, {"what", run.failure}});
    }
    return errors;
  }

 private:
  json Result(const Allocator& allocator) const {
    json median = json::object();
    json interval = json::object();
    int counted = 0;
    int failed = 0;
    for (const Run& run : runs_) {
      if (run.allocator != &allocator || run.control) continue;
      if (!run.failure.empty()) ++failed;
      if (run.failure.empty() && run.block >= 0) ++counted;
    }
    for (const std::string_view measure : medians_) {
      const std::vector<double> values = Figures(runs_, &allocator, false, measure);
      const Estimate estimate = EstimateMedian(values);
      median[std::string(measure)] = OrNull(estimate.value);
      if (values.size() > 1) interval[std::string(measure)] = {estimate.low, estimate.high};
    }
    json ratio = json::object();
    if (&allocator != reference_) {
      for (const std::string_view measure : ratios_) {
        const std::vector<double> ratios = PairedRatios(runs_, &allocator, false, reference_, measure);
        // One pair has no interval, and so no verdict.
        if (ratios.size() < 2) continue;
        const Estimate estimate = EstimateMedian(ratios);
        ratio[std::string(measure)] = {{"ratio", estimate.value},
                                       {"ci", {estimate.low, estimate.high}},
                                       {"verdict", VerdictOf(estimate, ratios.size())},
                                       {"equivalent", IsEquivalent(estimate)}};
      }
    }
    return {{"allocator", allocator.name},
            {"runs", counted},
            {"failed", failed},
            {"median", median},
            {"ci", interval},
            {"ratio", ratio}};
  }

  const ComparisonPlan& plan_;
  const Allocator* reference_;
  const std::vector<Run>& runs_;
  std::vector<std::string_view> medians_;
  std::vector<std::string_view> ratios_;
};

json MeasureJson(const Measure& measure) { return {{"measure", measure.name}, {"title", measure.title}}; }

std::string Policy(const ComparisonPlan& plan) {
  if (!plan.placement.empty()) return plan.placement;
  return plan.launch.cpus.empty() ? "none" : "pinned";
}

// The members that all workloads of a comparison have in common.
json Common(const ComparisonPlan& plan, const Allocator& reference, const std::vector<std::string>& notes) {
  json workload = {{"name", plan.name},
                   {"description", plan.description},
                   {"kind", plan.kind},
                   {"command", plan.launch.command},
                   {"repeat", Repeat(plan.command_line)},
                   {"placement", {{"policy", Policy(plan)}, {"cpus", plan.launch.cpus}}},
                   {"reference", reference.name},
                   {"rss_interval_s", plan.launch.rss_interval_s},
                   {"idle_tail_s", plan.launch.idle_tail_s},
                   {"notes", notes}};
  if (!plan.operations.empty()) workload["operations"] = plan.operations;
  if (!plan.measures.empty()) workload["result"] = MeasureJson(plan.measures.front());
  for (std::size_t i = 1; i < plan.measures.size(); ++i) workload["also"].push_back(MeasureJson(plan.measures[i]));
  return workload;
}

void AddResult(const WorkloadResult& result, json* workload) {
  (*workload)["noise"] = result.Noise();
  (*workload)["results"] = result.Results();
  (*workload)["errors"] = result.Errors();
}

json WholeWorkload(const ComparisonPlan& plan, const Allocator& reference, const std::vector<Run>& runs,
                   json workload) {
  std::vector<std::string_view> medians(std::begin(kMedians), std::end(kMedians));
  std::vector<std::string_view> ratios(std::begin(kRatios), std::end(kRatios));
  for (const Measure& measure : plan.measures) {
    if (std::ranges::find(medians, measure.name) == medians.end()) medians.push_back(measure.name);
    if (std::ranges::find(ratios, measure.name) == ratios.end()) ratios.push_back(measure.name);
  }
  workload["runs"] = json::array();
  for (const Run& run : runs) {
    if (run.block >= 0) workload["runs"].push_back(RunJson(run));
  }
  AddResult(WorkloadResult(plan, reference, runs, medians, ratios), &workload);
  return workload;
}

const json* RowsOf(const Run& run) {
  if (!run.metrics.is_object()) return nullptr;
  const auto rows = run.metrics.find("rows");
  return rows == run.metrics.end() || !rows->is_array() ? nullptr : &*rows;
}

std::string NameOf(const json& row) {
  if (!row.is_object()) return "";
  const auto name = row.find("name");
  return name == row.end() || !name->is_string() ? "" : name->get<std::string>();
}

// The names of all rows, in the order in which they were first seen.
std::vector<std::string> RowNames(const std::vector<Run>& runs) {
  std::vector<std::string> names;
  for (const Run& run : runs) {
    const json* rows = RowsOf(run);
    if (rows == nullptr) continue;
    for (const json& row : *rows) {
      const std::string name = NameOf(row);
      if (!name.empty() && std::ranges::find(names, name) == names.end()) names.push_back(name);
    }
  }
  return names;
}

// The runs with nothing but this row's metrics.
std::vector<Run> RunsOfRow(const std::vector<Run>& runs, const std::string& name) {
  std::vector<Run> result;
  for (const Run& run : runs) {
    Run of_row;
    of_row.order = run.order;
    of_row.block = run.block;
    of_row.allocator = run.allocator;
    of_row.control = run.control;
    of_row.proven = run.proven;
    of_row.failure = run.failure;
    if (const json* rows = RowsOf(run)) {
      const auto row = std::ranges::find_if(*rows, [&](const json& one) { return NameOf(one) == name; });
      if (row != rows->end()) of_row.metrics = *row;
    }
    result.push_back(std::move(of_row));
  }
  return result;
}

json RowWorkload(const ComparisonPlan& plan, const Allocator& reference, const std::vector<Run>& runs, json workload,
                 const std::string& name) {
  std::vector<std::string_view> measures;
  for (const Measure& measure : plan.measures) measures.push_back(measure.name);
  const std::vector<Run> of_row = RunsOfRow(runs, name);
  workload["name"] = fmt::format("{}/{}", plan.name, name);
  workload["runs"] = json::array();
  for (const Run& run : of_row) {
    if (run.block >= 0) workload["runs"].push_back(RowRunJson(run));
  }
  AddResult(WorkloadResult(plan, reference, of_row, measures, measures), &workload);
  return workload;
}

}  // namespace

json WorkloadsJson(const ComparisonPlan& plan, const Allocator& reference, const std::vector<Run>& runs,
                   const std::vector<std::string>& notes) {
  const json common = Common(plan, reference, notes);
  json workloads = json::array();
  for (const std::string& name : RowNames(runs)) workloads.push_back(RowWorkload(plan, reference, runs, common, name));
  if (workloads.empty()) workloads.push_back(WholeWorkload(plan, reference, runs, common));
  return workloads;
}

}  // namespace tarn::tool
