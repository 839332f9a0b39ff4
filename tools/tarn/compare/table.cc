// SPDX-License-Identifier: Apache-2.0
//
// The result of one workload as a table for a terminal.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tools/base/figures.h"
#include "tools/tarn/compare/comparison.h"
#include "tools/tarn/console.h"
#include "tools/tarn/statistics.h"

namespace tarn::tool {

namespace {

using nlohmann::json;

std::string RatioText(const json& result, const char* measure, bool colour) {
  const json& ratio = result["ratio"].value(measure, json());
  if (ratio.is_null()) return "";
  const std::string verdict = ratio["verdict"];
  // A tie that the runs could not narrow down to the margin is an open question, not a result.
  const std::string word = verdict == "tie" && !ratio["equivalent"].get<bool>() ? "tie?" : verdict;
  const Style style = verdict == "win" ? Style::kGood : verdict == "loss" ? Style::kBad : Style::kFaint;
  return fmt::format("{:5.2f}x [{:.2f}, {:.2f}] {}", ratio["ratio"].get<double>(), ratio["ci"][0].get<double>(),
                     ratio["ci"][1].get<double>(), Styled(style, fmt::format("{:<4}", word), colour));
}

// The control's line about the verdicts of a column.
std::string ControlLine(const json& control, const std::string& reference, const char* what, bool colour) {
  const double low = control["ci"][0], high = control["ci"][1];
  const double blur = std::max(1 - low, high - 1);
  std::string text = fmt::format("control: {} against itself, {}: {:.3f}x [{:.3f}, {:.3f}]", reference, what,
                                 control["ratio"].get<double>(), low, high);
  if (control["noisy"].get<bool>())
    return text + "\n" +
           Styled(Style::kBad, fmt::format("too noisy to tell: do not trust the verdicts on {}.", what), colour) +
           " Quieten the machine, or take more --runs.\n";
  if (blur > kNoiseLimit) return text + fmt::format(": differences below {:.0f} % cannot be seen\n", 100 * blur);
  return text + ": quiet enough\n";
}

}  // namespace

std::string ComparisonTable(const json& document, const std::vector<std::string>& findings,
                            const std::vector<std::string>& notes, bool colour) {
  const json& workload = document["workloads"][0];
  const std::string reference = workload["reference"];
  std::size_t width = 10;
  for (const json& result : workload["results"]) width = std::max(width, result["allocator"].get<std::string>().size());
  const bool idle = workload["idle_tail_s"].get<double>() > 0;
  std::string text = fmt::format("{:{}} {:>8}  {:^20} {:>8}  {:>8}  {:<25}  {}\n", "", width, "median", "95% CI", "CPU",
                                 idle ? "idle RSS" : "peak RSS", fmt::format("time vs {}", reference),
                                 fmt::format("memory vs {}", reference));
  const char* memory = idle ? "idle_rss_bytes" : "peak_rss_bytes";
  std::size_t least_runs = SIZE_MAX;
  for (const json& result : workload["results"]) {
    const std::string name = result["allocator"];
    const json& median = result["median"];
    if (result["runs"] == 0 || median["wall_s"].is_null()) {
      text += fmt::format("{:{}} {:>8}\n", name, width, result["failed"] == 0 ? "not run" : "failed");
      continue;
    }
    least_runs = std::min(least_runs, result["runs"].get<std::size_t>());
    std::string interval;
    if (result["ci"].contains("wall_s")) {
      interval =
          fmt::format("[{}, {}]", FormatSeconds(result["ci"]["wall_s"][0]), FormatSeconds(result["ci"]["wall_s"][1]));
    }
    const std::string time = name == reference ? fmt::format("{:<25}", " 1.00x") : RatioText(result, "wall_s", colour);
    const std::string space = name == reference ? " 1.00x" : RatioText(result, memory, colour);
    text += fmt::format("{:{}} {:>8}  {:^20} {:>8}  {:>8}  {}  {}\n", name, width, FormatSeconds(median["wall_s"]),
                        interval, FormatSeconds(median["cpu_s"]),
                        median[memory].is_null() ? "?" : FormatBytes(median[memory]), time, space);
  }
  text += "\n";
  for (const auto& [measure, what] : {std::pair("wall_s", "time"), std::pair(memory, "memory")}) {
    if (workload["noise"].contains(measure)) text += ControlLine(workload["noise"][measure], reference, what, colour);
  }
  if (least_runs < kBlocksForAnInterval)
    text += fmt::format("{} runs each are few: intervals from fewer than {} are too narrow\n", least_runs,
                        kBlocksForAnInterval);
  if (document["interrupted"].get<bool>()) text += "interrupted: these are the results so far\n";
  for (const std::string& note : notes) text += fmt::format("note: {}\n", note);
  for (const std::string& finding : findings) text += Styled(Style::kBad, "finding: ", colour) + finding + "\n";
  return text;
}

}  // namespace tarn::tool
