// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/compare/comparison.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "tools/tarn/compare/build.h"
#include "tools/tarn/compare/process_figures.h"
#include "tools/tarn/compare/result.h"
#include "tools/tarn/compare/run.h"
#include "tools/tarn/compare/service_run.h"
#include "tools/tarn/compare/sha256.h"
#include "tools/tarn/compare/words.h"
#include "tools/tarn/machine.h"
#include "tools/tarn/program.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

using nlohmann::json;

constexpr int kServerAttempts = 3;

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

// Sets variables of an environment, in place of those of the same name.
void SetVariables(const std::vector<std::string>& variables, std::vector<std::string>* environment) {
  for (const std::string& variable : variables) {
    const std::string start = variable.substr(0, variable.find('=') + 1);
    std::erase_if(*environment, [&](const std::string& entry) { return entry.starts_with(start); });
    environment->push_back(variable);
  }
}

struct Entry {
  const Allocator* allocator;
  bool control;
};

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
    if (MakeInputs()) MeasureAll();
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
                     {"workloads", WorkloadsJson(plan_, *reference_, runs_, notes_)}};
    return document;
  }

  bool cut_short() const { return cut_short_; }

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

  // The launch with the present values for the words in braces of its definition.
  Launch Expanded() const {
    Launch launch = plan_.launch;
    launch.directory = scratch_.path();
    launch.end_s = plan_.end_s;
    if (plan_.here.empty()) return launch;
    const std::map<std::string, std::string> values = {{"here", plan_.here},
                                                       {"build", BuildDirectory()},
                                                       {"scratch", scratch_.path()},
                                                       {"port", std::to_string(FreePort())}};
    for (std::vector<std::string>* words : {&launch.command, &launch.environment, &launch.outputs,
                                            &launch.service.ready, &launch.service.load, &launch.service.check})
      *words = Replaced(*words, values);
    launch.input = Replaced(launch.input, values);
    launch.working_directory = Replaced(launch.working_directory, values);
    launch.program = launch.command.front();
    return launch;
  }

  // Runs what makes the inputs, on libc's malloc. False when the user wants to stop.
  bool MakeInputs() {
    for (const std::vector<std::string>& command : plan_.prepare) {
      if (plan_.progress) plan_.progress("preparing: " + command.front());
      Launch launch;
      Launch expanded = Expanded();
      launch.environment = expanded.environment;
      launch.directory = expanded.directory;
      launch.working_directory = expanded.working_directory;
      launch.command =
          Replaced(command, {{"here", plan_.here}, {"build", BuildDirectory()}, {"scratch", scratch_.path()}});
      launch.program = launch.command.front();
      launch.trace = false;
      const Outcome outcome = RunOnce(launch);
      if (outcome.interrupted) return false;
      if (!outcome.start_error.empty()) throw ToolError(outcome.start_error);
      if (outcome.exit_code != 0)
        throw ToolError(fmt::format("preparing {} failed: {} ended with {}: {}", plan_.name, launch.program,
                                    outcome.exit_code, outcome.stderr_tail));
    }
    return true;
  }

  // False when the user wants to stop, or when the time is over; that run does not count.
  bool RunEntry(const Entry& entry, int block, const std::string& what) {
    if (WasInterrupted()) return false;
    if (plan_.end_s > 0 && Now() > plan_.end_s) {
      cut_short_ = true;
      return false;
    }
    if (plan_.progress) plan_.progress(what);
    const std::string metrics = scratch_.path() + "/metrics";
    std::error_code error;
    std::filesystem::remove(metrics, error);
    Run run;
    run.order = static_cast<int>(runs_.size());
    run.block = block;
    run.allocator = entry.allocator;
    run.control = entry.control;
    for (int attempt = 0; attempt < kServerAttempts; ++attempt) {
      Launch launch = Expanded();
      launch.environment.push_back("BENCH_METRICS=" + metrics);
      launch.environment.push_back("LD_PRELOAD=" + entry.allocator->path);
      SetVariables(entry.allocator->environment, &launch.environment);
      run.outcome = RunOnce(launch);
      // Another process may have taken the port.
      if (!run.outcome.not_ready || run.outcome.interrupted) break;
    }
    if (run.outcome.interrupted) return false;
    if (run.outcome.cut_off) {
      cut_short_ = true;
      return false;
    }
    std::ifstream file(metrics);
    if (file) run.metrics = json::parse(file, nullptr, false);
    if (run.metrics.is_discarded()) run.metrics = nullptr;
    run.proven = WhyNotProven(*run.allocator, plan_.launch, run.outcome).empty();
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
    if (!outcome.failure.empty()) {
      if (outcome.signal == 0 || outcome.signal == SIGTERM || outcome.signal == SIGKILL) return outcome.failure;
      return fmt::format("{}; ended by signal {} ({})", outcome.failure, outcome.signal, sigdescr_np(outcome.signal));
    }
    if (!outcome.idle_ended && !(outcome.ended_by_us && outcome.signal == SIGTERM)) {
      if (outcome.signal != 0)
        return fmt::format("ended by signal {} ({})", outcome.signal, sigdescr_np(outcome.signal));
      if (outcome.exit_code != 0) return fmt::format("exit code {}", outcome.exit_code);
    }
    if (run.proven) return "";
    // A short process that is not traced may end unseen; its warm-up was the same command.
    if (outcome.use.mapped.empty() && plan_.launch.watch.empty() && run.block >= 0) return "";
    return fmt::format("not proven that it used {}: {}", run.allocator->name,
                       WhyNotProven(*run.allocator, plan_.launch, outcome));
  }

  // Runs that print something else than the reference failed, if the reference always prints the same.
  void JudgeOutputs() {
    std::set<std::string> expected;
    for (const Run& run : runs_) {
      if (run.allocator == reference_ && run.failure.empty()) expected.insert(run.outcome.output_sha256);
    }
    if (expected.size() > 1)
      notes_.push_back(
          fmt::format("the output varies from run to run under {} itself, so it was not compared", reference_->name));
    if (expected.size() != 1) return;
    for (Run& run : runs_) {
      if (run.failure.empty() && run.outcome.output_sha256 != *expected.begin())
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
                      {"environment", allocator.environment},
                      {"path", allocator.path},
                      {"sha256", FileSha256(allocator.path)},
                      {"build_id", build_id.empty() ? json(nullptr) : json(build_id)},
                      {"package", allocator.package.empty() ? json(nullptr) : json(allocator.package)}});
    }
    return list;
  }

  const ComparisonPlan& plan_;
  std::vector<std::string>& findings_;
  std::vector<std::string>& notes_;
  const Allocator* reference_;
  ScratchDirectory scratch_;
  std::vector<Run> runs_;
  bool cut_short_ = false;
};

}  // namespace

json Compare(const ComparisonPlan& plan, std::vector<std::string>* findings, std::vector<std::string>* notes,
             bool* cut_short) {
  Engine engine(plan, findings, notes);
  json document = engine.Compare();
  if (cut_short != nullptr) *cut_short = engine.cut_short();
  return document;
}

}  // namespace tarn::tool
