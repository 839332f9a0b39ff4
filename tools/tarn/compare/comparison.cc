// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/compare/comparison.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <set>

#include "tools/base/figures.h"
#include "tools/tarn/compare/build.h"
#include "tools/tarn/compare/sha256.h"
#include "tools/tarn/console.h"
#include "tools/tarn/machine.h"
#include "tools/tarn/program.h"
#include "tools/tarn/statistics.h"

namespace tarn::tool {

namespace {

using nlohmann::json;

std::string Time() { return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))); }

// A directory for outputs and metrics, gone with this object.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    const char* parent = getenv("TMPDIR");
    path_ = fmt::format("{}/tarn-compare-XXXXXX", parent != nullptr && *parent != '\0' ? parent : "/tmp");
    if (mkdtemp(path_.data()) == nullptr)
      throw ToolError(fmt::format("no directory for the outputs can be made in {}; set TMPDIR to another one",
                                  std::filesystem::path(path_).parent_path().string()));
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  ~ScratchDirectory() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  const std::string& path() const { return path_; }
  bool IsFull() const {
    std::error_code error;
    return std::filesystem::space(path_, error).available == 0 && !error;
  }

 private:
  std::string path_;
};

struct Entry {
  const Allocator* allocator;
  bool control;
};

struct Run {
  int order = 0;
  int block = -1;  // -1: the warm-up, which is not averaged
  const Allocator* allocator = nullptr;
  bool control = false;
  Outcome outcome;
  json metrics;
  std::string failure;
};

std::optional<double> Figure(const Run& run, std::string_view measure) {
  const Outcome& outcome = run.outcome;
  const auto known = [](std::uint64_t bytes) -> std::optional<double> {
    if (bytes == 0) return std::nullopt;
    return static_cast<double>(bytes);
  };
  if (measure == "wall_s") return outcome.wall_s;
  if (measure == "user_s") return outcome.user_s;
  if (measure == "system_s") return outcome.system_s;
  if (measure == "cpu_s") return outcome.user_s + outcome.system_s;
  if (measure == "peak_rss_bytes") return known(outcome.peak_rss_bytes);
  if (measure == "end_rss_bytes") return known(outcome.end_rss_bytes);
  if (measure == "idle_rss_bytes") return known(outcome.idle_rss_bytes);
  if (measure == "minor_faults") return static_cast<double>(outcome.minor_faults);
  return std::nullopt;
}

constexpr std::string_view kMedians[] = {"wall_s",         "user_s",        "system_s",       "cpu_s",
                                         "peak_rss_bytes", "end_rss_bytes", "idle_rss_bytes", "minor_faults"};
constexpr std::string_view kRatios[] = {"wall_s", "cpu_s", "peak_rss_bytes", "end_rss_bytes", "idle_rss_bytes"};

json OrNull(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }
json OrNull(std::uint64_t bytes) { return bytes != 0 ? json(bytes) : json(nullptr); }

// Ratios of `measure` within blocks: of the runs of this allocator (or of the control) to the reference's.
std::vector<double> PairedRatios(const std::vector<Run>& runs, const Allocator* allocator, bool control,
                                 const Allocator* reference, std::string_view measure) {
  std::map<int, double> base;
  for (const Run& run : runs) {
    if (run.block < 0 || run.control || run.allocator != reference || !run.failure.empty()) continue;
    if (const auto figure = Figure(run, measure); figure && *figure > 0) base[run.block] = *figure;
  }
  std::vector<double> ratios;
  for (const Run& run : runs) {
    if (run.block < 0 || run.control != control || run.allocator != allocator || !run.failure.empty()) continue;
    const auto pair = base.find(run.block);
    const auto figure = Figure(run, measure);
    if (pair != base.end() && figure) ratios.push_back(*figure / pair->second);
  }
  return ratios;
}

class Engine {
 public:
  Engine(const ComparisonPlan& plan, std::vector<std::string>* findings, std::vector<std::string>* notes)
      : plan_(plan), findings_(*findings), notes_(*notes) {
    reference_ = &*std::ranges::find(plan.allocators, plan.reference, &Allocator::name);
  }

  json Compare() {
    const std::string started = Time();
    // Before the runs: the load is then that of others.
    const json machine = CollectMachine();
    PrepareToRun();
    MeasureAll();
    JudgeOutputs();
    CollectFindings();
    json document = {{"schema", "tarn-bench/1"},
                     {"tool_version", TARN_VERSION},
                     {"started", started},
                     {"finished", Time()},
                     {"seed", plan_.seed},
                     {"command_line", plan_.command_line},
                     {"interrupted", WasInterrupted()},
                     {"machine", machine},
                     {"build", Build()},
                     {"allocators", Allocators()},
                     {"workloads", json::array({Workload()})}};
    return document;
  }

 private:
  using Clock = std::chrono::steady_clock;

  void MeasureAll() {
    std::vector<Entry> entries;
    for (const Allocator& allocator : plan_.allocators) entries.push_back({&allocator, false});
    for (const Entry& entry : entries) {
      if (!RunEntry(entry, -1, fmt::format("warm-up: {}", entry.allocator->name))) return;
    }
    // An allocator under which the command fails at once, or which is not in use, is not worth the time.
    std::set<const Allocator*> broken;
    for (const Run& run : runs_) {
      if (!run.failure.empty()) broken.insert(run.allocator);
    }
    std::erase_if(entries, [&](const Entry& entry) { return broken.contains(entry.allocator); });
    if (entries.empty()) return;
    if (plan_.control && !broken.contains(reference_)) entries.push_back({reference_, true});
    std::mt19937_64 random(plan_.seed);
    const Clock::time_point start = Clock::now();
    for (int block = 0;; ++block) {
      const double elapsed_s = std::chrono::duration<double>(Clock::now() - start).count();
      if (plan_.budget_s > 0 ? block > 0 && elapsed_s * (block + 1) / block > plan_.budget_s : block >= plan_.blocks)
        return;
      for (std::size_t i = entries.size(); i > 1; --i) std::swap(entries[i - 1], entries[random() % i]);
      const std::string of = plan_.budget_s > 0 ? "" : fmt::format("/{}", plan_.blocks);
      for (const Entry& entry : entries) {
        if (!RunEntry(entry, block, fmt::format("block {}{}: {}", block + 1, of, entry.allocator->name))) return;
      }
    }
  }

  // False when the user wants to stop; that run does not count.
  bool RunEntry(const Entry& entry, int block, const std::string& what) {
    if (WasInterrupted()) return false;
    if (plan_.progress) plan_.progress(what);
    Launch launch = plan_.launch;
    launch.directory = scratch_.path();
    const std::string metrics = scratch_.path() + "/metrics";
    std::error_code error;
    std::filesystem::remove(metrics, error);
    launch.environment.push_back("BENCH_METRICS=" + metrics);
    if (entry.allocator->preloaded) launch.environment.push_back("LD_PRELOAD=" + entry.allocator->path);
    Run run;
    run.order = static_cast<int>(runs_.size());
    run.block = block;
    run.allocator = entry.allocator;
    run.control = entry.control;
    run.outcome = RunOnce(launch);
    if (run.outcome.interrupted) return false;
    std::ifstream file(metrics);
    if (file) run.metrics = json::parse(file, nullptr, false);
    if (run.metrics.is_discarded()) run.metrics = nullptr;
    run.failure = FailureOf(run);
    if (!run.failure.empty() && scratch_.IsFull())
      run.failure += fmt::format("; {} is full, where its output is kept (TMPDIR names another place)",
                                 std::filesystem::path(scratch_.path()).parent_path().string());
    runs_.push_back(std::move(run));
    return true;
  }

  std::string FailureOf(const Run& run) {
    const Outcome& outcome = run.outcome;
    if (!outcome.start_error.empty()) return outcome.start_error;
    if (!outcome.idle_ended) {
      if (outcome.signal != 0)
        return fmt::format("ended by signal {} ({})", outcome.signal, sigdescr_np(outcome.signal));
      if (outcome.exit_code != 0) return fmt::format("exit code {}", outcome.exit_code);
    }
    const std::string unproven = WhyNotProven(*run.allocator, outcome);
    if (unproven.empty()) return "";
    // A short process that is not traced may end unseen; its warm-up was the same command.
    if (outcome.mapped.empty() && run.block >= 0) return "";
    return fmt::format("not proven that it used {}: {}", run.allocator->name, unproven);
  }

  // Runs that print something else than the reference failed, if the reference always prints the same.
  void JudgeOutputs() {
    std::set<std::string> expected;
    for (const Run& run : runs_) {
      if (run.allocator == reference_ && run.failure.empty()) expected.insert(run.outcome.stdout_sha256);
    }
    if (expected.size() > 1)
      notes_.push_back(
          fmt::format("the output varies from run to run under {} itself, so it was not compared", reference_->name));
    if (expected.size() != 1) return;
    for (Run& run : runs_) {
      if (run.failure.empty() && run.outcome.stdout_sha256 != *expected.begin())
        run.failure = fmt::format("prints something else than under {}", reference_->name);
    }
  }

  void CollectFindings() {
    std::map<std::pair<std::string, std::string>, int> counts;
    std::map<std::pair<std::string, std::string>, std::string> details;
    for (const Run& run : runs_) {
      if (run.failure.empty()) continue;
      const auto key = std::make_pair(run.allocator->name, run.failure);
      ++counts[key];
      details[key] = run.outcome.stderr_tail;
    }
    for (const auto& [key, count] : counts) {
      std::string finding = fmt::format("under {}: {}", key.first, key.second);
      if (count > 1) finding += fmt::format(" ({} runs)", count);
      if (const std::string& detail = details[key]; !detail.empty())
        finding += fmt::format("; it said: {}", detail.substr(detail.rfind('\n') + 1));
      findings_.push_back(finding);
    }
    int left_behind = 0;
    bool traced = true;
    for (const Run& run : runs_) {
      left_behind = std::max(left_behind, run.outcome.left_behind);
      traced = traced && run.outcome.traced;
    }
    if (left_behind > 0)
      notes_.push_back(fmt::format("the command left up to {} processes behind; they were ended", left_behind));
    if (!traced && plan_.launch.trace)
      notes_.push_back("ptrace is not permitted here, so peak RSS and proofs are from samples alone");
    if (plan_.launch.idle_tail_s > 0 &&
        std::ranges::none_of(runs_, [](const Run& run) { return run.outcome.idle_ended; }))
      notes_.push_back("the command always ended before it was silent for the idle tail");
  }

  json Build() const {
    return {{"compiler", kBuildCompiler}, {"flags", kBuildFlags}, {"commit", kBuildCommit}, {"version", TARN_VERSION}};
  }

  json Allocators() const {
    json list = json::array();
    for (const Allocator& allocator : plan_.allocators) {
      const std::string build_id = ReadElf(allocator.path).build_id;
      list.push_back({{"name", allocator.name},
                      {"path", allocator.path},
                      {"sha256", FileSha256(allocator.path)},
                      {"build_id", build_id.empty() ? json(nullptr) : json(build_id)},
                      {"package", allocator.package.empty() ? json(nullptr) : json(allocator.package)}});
    }
    return list;
  }

  // The least of all options that gives the same again.
  std::string Repeat() const {
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
    for (const std::string& word : plan_.command_line) {
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

  json RunJson(const Run& run) const {
    const Outcome& outcome = run.outcome;
    json rss = json::array();
    for (const RssSeries::Point& point : outcome.rss)
      rss.push_back({std::round(point.seconds * 1e4) / 1e4, point.bytes});
    return {{"order", run.order},
            {"block", run.block},
            {"allocator", run.allocator->name},
            {"control", run.control},
            {"proven", WhyNotProven(*run.allocator, outcome).empty()},
            {"exit_code", outcome.exit_code},
            {"signal", outcome.signal},
            {"idle_ended", outcome.idle_ended},
            {"failure", run.failure.empty() ? json(nullptr) : json(run.failure)},
            {"output_sha256", outcome.stdout_sha256},
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
    for (const std::string_view measure : kMedians) {
      std::vector<double> values;
      for (const Run& run : runs_) {
        if (run.allocator != &allocator || run.control || run.block < 0 || !run.failure.empty()) continue;
        if (const auto figure = Figure(run, measure)) values.push_back(*figure);
      }
      const Estimate estimate = EstimateMedian(values);
      median[std::string(measure)] = OrNull(estimate.value);
      if (values.size() > 1) interval[std::string(measure)] = {estimate.low, estimate.high};
    }
    json ratio = json::object();
    if (&allocator != reference_) {
      for (const std::string_view measure : kRatios) {
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

  // What the control says of each measure that has a verdict.
  json Noise() const {
    json noise = json::object();
    for (const std::string_view measure : kRatios) {
      const std::vector<double> ratios = PairedRatios(runs_, reference_, true, reference_, measure);
      if (ratios.size() < 2) continue;
      const Estimate estimate = EstimateMedian(ratios);
      noise[std::string(measure)] = {
          {"ratio", estimate.value}, {"ci", {estimate.low, estimate.high}}, {"noisy", IsNoisy(estimate)}};
    }
    return noise;
  }

  json Workload() const {
    json runs = json::array();
    json errors = json::array();
    for (const Run& run : runs_) {
      if (run.block >= 0) runs.push_back(RunJson(run));
      if (!run.failure.empty())
        errors.push_back({{"allocator", run.allocator->name}, {"run", run.order}, {"what", run.failure}});
    }
    json results = json::array();
    for (const Allocator& allocator : plan_.allocators) results.push_back(Result(allocator));
    return {{"name", plan_.name},
            {"description", plan_.description},
            {"kind", plan_.kind},
            {"command", plan_.launch.command},
            {"repeat", Repeat()},
            {"placement", {{"policy", plan_.launch.cpus.empty() ? "none" : "pinned"}, {"cpus", plan_.launch.cpus}}},
            {"reference", reference_->name},
            {"rss_interval_s", plan_.launch.rss_interval_s},
            {"idle_tail_s", plan_.launch.idle_tail_s},
            {"noise", Noise()},
            {"runs", runs},
            {"results", results},
            {"errors", errors},
            {"notes", notes_}};
  }

  const ComparisonPlan& plan_;
  std::vector<std::string>& findings_;
  std::vector<std::string>& notes_;
  const Allocator* reference_;
  ScratchDirectory scratch_;
  std::vector<Run> runs_;
};

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

// What the control says of the verdicts of a column.
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

json Compare(const ComparisonPlan& plan, std::vector<std::string>* findings, std::vector<std::string>* notes) {
  return Engine(plan, findings, notes).Compare();
}

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
