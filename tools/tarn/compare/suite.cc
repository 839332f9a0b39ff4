// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/compare/suite.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string_view>
#include <utility>

#include "tools/tarn/compare/definition.h"
#include "tools/tarn/compare/process_figures.h"
#include "tools/tarn/compare/runner.h"
#include "tools/tarn/topology.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

using nlohmann::json;

// Chosen: a workload that is a little slower than others is measured in full, one that hangs leaves time for the rest.
constexpr double kShares = 3;
// Chosen: the part of the time after which no workload begins, as its warm-up would take the rest.
constexpr double kLastStart = 0.96;

std::regex Pattern(const std::string& only) {
  try {
    return std::regex(only);
  } catch (const std::regex_error&) {
    throw UsageError(fmt::format("--only {}: not a regular expression", only));
  }
}

// A regular expression that this name alone matches.
std::string Exactly(const std::string& name) {
  std::string pattern = "^";
  for (const char c : name) {
    if (std::string_view("+.*?()[]{}|^$\\").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern + "$";
}

ComparisonPlan PlanOf(const ComparisonPlan& common, const Selection& selection, const Definition& definition) {
  ComparisonPlan plan = common;
  plan.launch = definition.launch;
  plan.launch.cpus = common.launch.cpus;
  plan.launch.rss_interval_s = common.launch.rss_interval_s;
  plan.launch.idle_tail_s = common.launch.idle_tail_s;
  plan.launch.trace = common.launch.trace;
  plan.launch.environment.insert(plan.launch.environment.end(), selection.environment.begin(),
                                 selection.environment.end());
  plan.here = definition.here;
  plan.prepare = definition.prepare;
  plan.measures = definition.measures;
  plan.name = definition.name;
  plan.description = definition.description;
  plan.kind = definition.kind;
  plan.operations = definition.operations;
  plan.control = common.control && definition.control;
  if (selection.runs == 0 && definition.runs != 0) plan.blocks = definition.runs;
  return plan;
}

// The name with the policy behind it, on the CPUs that the policy means here. Throws ToolError where there are none.
ComparisonPlan Placed(const ComparisonPlan& plan, const std::string& policy) {
  static const Topology topology = ReadTopology();
  ComparisonPlan placed = plan;
  placed.name += "@" + policy;
  placed.placement = policy;
  const auto found = std::ranges::find(topology.placements, policy, &Placement::policy);
  if (found == topology.placements.end())
    throw ToolError(fmt::format("{}: the placement is unknown on this machine", placed.name));
  if (!found->why_not.empty()) throw ToolError(fmt::format("{}: {}", placed.name, found->why_not));
  placed.launch.cpus = found->cpus;
  return placed;
}

// Why no workload is selected: those that have another amount, or else all that there are.
std::string WhyNone(const Selection& selection, const std::regex& pattern, const std::set<std::string>& names,
                    const std::map<std::string, std::vector<std::string>>& others) {
  std::string text = fmt::format("no workload matches{}{}; ", selection.only.empty() ? "" : " --only " + selection.only,
                                 selection.amount.empty() ? "" : " --amount " + selection.amount);
  std::vector<std::string> with_another;
  for (const auto& [name, amounts] : others) {
    if (std::regex_search(name, pattern) && !amounts.empty())
      with_another.push_back(fmt::format("{} has --amount {}", name, fmt::join(amounts, ", ")));
  }
  if (!with_another.empty()) return text + fmt::format("{}", fmt::join(with_another, "; "));
  return text + "there are " + (names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")));
}

// Adds what another document has measured.
void Merge(json measured, json* document) {
  for (json& allocator : measured["allocators"]) {
    const auto same = [&](const json& other) { return other["name"] == allocator["name"]; };
    if (std::ranges::none_of((*document)["allocators"], same)) (*document)["allocators"].push_back(allocator);
  }
  for (json& workload : measured["workloads"]) (*document)["workloads"].push_back(std::move(workload));
  (*document)["finished"] = measured["finished"];
  (*document)["interrupted"] = (*document)["interrupted"].get<bool>() || measured["interrupted"].get<bool>();
}

void AddNote(const std::vector<std::string>& names, const std::string& what, json* document,
             std::vector<std::string>* notes) {
  if (names.empty()) return;
  notes->push_back(fmt::format("{}: {}, as the time was over", fmt::join(names, ", "), what));
  (*document)["notes"].push_back(notes->back());
}

}  // namespace

std::vector<ComparisonPlan> SelectWorkloads(const ComparisonPlan& common, const Selection& selection,
                                            std::vector<std::string>* left_out) {
  const std::regex pattern = Pattern(selection.only);
  std::vector<ComparisonPlan> plans;
  std::set<std::string> names;
  std::map<std::string, std::vector<std::string>> others;
  bool any = false;
  for (const std::string& file : selection.files) {
    for (Definition& definition : ReadDefinitions(file, selection.amount, &others)) {
      std::vector<std::string> policies = {""};
      policies.insert(policies.end(), definition.placements.begin(), definition.placements.end());
      for (const std::string& policy : policies) {
        const std::string name = policy.empty() ? definition.name : definition.name + "@" + policy;
        if (!names.insert(name).second) throw UsageError(fmt::format("--workload: two are named {}", name));
        if (!std::regex_search(name, pattern)) continue;
        any = true;
        try {
          ResolvePrograms(&definition);
          const ComparisonPlan plan = PlanOf(common, selection, definition);
          plans.push_back(policy.empty() ? plan : Placed(plan, policy));
        } catch (const ToolError& problem) {
          if (!selection.skip_missing && policy.empty()) throw;
          left_out->push_back(problem.what());
        }
      }
    }
  }
  if (!any) throw UsageError(WhyNone(selection, pattern, names, others));
  return plans;
}

json CompareAll(const Suite& suite, std::vector<std::string>* findings, std::vector<std::string>* notes) {
  const double start = Now();
  const std::size_t count = suite.plans.size();
  json document;
  std::vector<std::string> cut_short;
  std::vector<std::string> too_late;
  for (std::size_t i = 0; i < count; ++i) {
    ComparisonPlan plan = suite.plans[i];
    if (count > 1) {
      // The command line that repeats this workload alone.
      plan.command_line.insert(plan.command_line.end(), {"--only", Exactly(plan.name)});
      if (plan.progress) {
        plan.progress = [&, i](const std::string& text) {
          suite.plans[i].progress(fmt::format("{}/{} {}: {}", i + 1, count, suite.plans[i].name, text));
        };
      }
    }
    if (suite.within_s > 0) {
      const double left_s = start + suite.within_s - Now();
      if (left_s < suite.within_s * (1 - kLastStart)) {
        too_late.push_back(plan.name);
        continue;
      }
      plan.end_s = Now() + std::min(left_s, kShares * left_s / static_cast<double>(count - i));
    }
    std::vector<std::string> found;
    std::vector<std::string> noted;
    bool short_of_time = false;
    json measured = Compare(plan, &found, &noted, &short_of_time);
    if (short_of_time) cut_short.push_back(plan.name);
    const std::string prefix = count > 1 ? plan.name + ": " : "";
    for (const std::string& text : found) findings->push_back(prefix + text);
    for (const std::string& text : noted) notes->push_back(prefix + text);
    if (document.is_null()) {
      document = std::move(measured);
      document["command_line"] = suite.plans[i].command_line;
      document["notes"] = suite.left_out;
    } else {
      Merge(std::move(measured), &document);
    }
    if (document["interrupted"].get<bool>()) break;
    if (suite.measured) suite.measured(document);
  }
  AddNote(cut_short, "ended with fewer blocks than planned", &document, notes);
  AddNote(too_late, "left out", &document, notes);
  return document;
}

}  // namespace tarn::tool
