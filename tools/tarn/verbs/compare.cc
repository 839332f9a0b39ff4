// SPDX-License-Identifier: Apache-2.0
//
// tarn compare: a command under several allocators, measured and compared.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "tools/base/json_text.h"
#include "tools/tarn/compare/comparison.h"
#include "tools/tarn/compare/suite.h"
#include "tools/tarn/console.h"
#include "tools/tarn/program.h"
#include "tools/tarn/report/document.h"
#include "tools/tarn/report/report.h"
#include "tools/tarn/report/summary.h"
#include "tools/tarn/usable_cpus.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

struct CompareOptions {
  std::string against = "glibc,mimalloc";
  std::string reference;
  std::string library;
  int runs = 0;
  std::string time;
  std::uint64_t seed = 0;
  std::string pin;
  std::vector<std::string> environment;
  double rss_interval_s = 0.01;
  double idle_tail_s = 0;
  bool no_control = false;
  bool no_trace = false;
  bool skip_missing = false;
  std::string name;
  std::string description;
  std::string kind;
  std::vector<std::string> workloads;
  std::string amount;
  std::string only;
  std::string within;
  bool list = false;
};

// "90", "90s", "5min"
double ParseSeconds(const char* option, const std::string& text) {
  std::size_t used = 0;
  double seconds = 0;
  try {
    seconds = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  const std::string unit = text.substr(used);
  const double factor = unit.empty() || unit == "s" ? 1 : unit == "min" ? 60 : unit == "h" ? 3600 : 0;
  if (used == 0 || factor == 0 || !(seconds > 0) || seconds > 1e6)
    throw UsageError(fmt::format("{} {}: expected a time such as 90s or 5min", option, text));
  return seconds * factor;
}

// "0,2-3"
std::vector<int> ParseCpus(const std::string& text) {
  const UsableCpus allowed;
  std::vector<int> cpus;
  std::size_t at = 0;
  const auto number = [&] {
    const std::size_t end = std::min(text.find_first_not_of("0123456789", at), text.size());
    if (end == at || end - at > 4) throw UsageError(fmt::format("--pin {}: expected CPUs such as 0,2-3", text));
    const int value = std::stoi(text.substr(at, end - at));
    at = end;
    return value;
  };
  while (true) {
    const int first = number();
    int last = first;
    if (at < text.size() && text[at] == '-') {
      ++at;
      last = number();
    }
    for (int cpu = first; cpu <= last; ++cpu) {
      if (!allowed.Has(cpu))
        throw UsageError(fmt::format("--pin {}: CPU {} is not there, or not this process's to use", text, cpu));
      cpus.push_back(cpu);
    }
    if (at == text.size()) break;
    if (text[at++] != ',') throw UsageError(fmt::format("--pin {}: expected CPUs such as 0,2-3", text));
  }
  return cpus;
}

std::vector<std::string> Environment(const std::vector<std::string>& additions, const Invocation& invocation) {
  std::vector<std::string> environment;
  const auto name_of = [](const std::string& entry) { return entry.substr(0, entry.find('=')); };
  for (const std::string& addition : additions) {
    if (addition.find('=') == std::string::npos || addition.starts_with("="))
      throw UsageError(fmt::format("--env {}: expected NAME=VALUE", addition));
    if (name_of(addition) == "LD_PRELOAD")
      throw UsageError(
          "--env LD_PRELOAD cannot be, as this is how allocators are exchanged; use --against NAME=PATH.so");
  }
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string name = name_of(*entry);
    if (name == "LD_PRELOAD") {
      Note(invocation, "compare: LD_PRELOAD of the environment is left out");
      continue;
    }
    const bool replaced = std::ranges::any_of(additions, [&](const std::string& a) { return name_of(a) == name; });
    if (name != "BENCH_METRICS" && !replaced) environment.push_back(*entry);
  }
  environment.insert(environment.end(), additions.begin(), additions.end());
  return environment;
}

// The files in the directory that -o names.
constexpr std::string_view kResultsFile = "results.json";
constexpr std::string_view kReportFile = "report.html";

std::string InDirectory(const std::string& directory, std::string_view file) {
  return (std::filesystem::path(directory) / file).string();
}

// Before minutes of measuring: a place where nothing can be written.
void CheckOutput(const std::string& output) {
  if (output == "-") return;
  const std::filesystem::path directory = std::filesystem::absolute(output).parent_path();
  if (!std::filesystem::is_directory(directory))
    throw ToolError(fmt::format("-o {}: there is no directory {}", output, directory.string()));
}

// The workloads of definitions, and rows, have lines in the table of the report, each by the measures that count.
std::string Table(const nlohmann::json& document, const std::vector<std::string>& findings,
                  const std::vector<std::string>& notes, bool colour) {
  const nlohmann::json& workloads = document["workloads"];
  if (workloads.size() == 1 && !workloads[0].contains("result"))
    return ComparisonTable(document, findings, notes, colour);
  std::string text = report::ReportText(report::ParseDocument(document));
  for (const std::string& note : notes) text += fmt::format("note: {}\n", note);
  for (const std::string& finding : findings) text += Styled(Style::kBad, "finding: ", colour) + finding + "\n";
  return text;
}

// The plan of the command behind --.
ComparisonPlan PlanOfCommand(ComparisonPlan plan, const CompareOptions& options, const Invocation& invocation) {
  if (!options.only.empty() || !options.amount.empty() || !options.within.empty() || options.list)
    throw UsageError("--only, --amount, --within and --list go with --workload");
  plan.launch.program = FindProgram(invocation.command.front());
  if (const std::string reason = WhyNoPreload(plan.launch.program); !reason.empty()) throw ToolError(reason);
  plan.launch.command = invocation.command;
  plan.launch.environment = Environment(options.environment, invocation);
  plan.name = std::filesystem::path(invocation.command.front()).filename().string();
  plan.kind = "speed";
  return plan;
}

// The plans of the definitions that --workload, --amount and --only select.
std::vector<ComparisonPlan> PlansOfWorkloads(const ComparisonPlan& common, const CompareOptions& options,
                                             const Invocation& invocation, std::vector<std::string>* left_out) {
  if (!invocation.command.empty()) throw UsageError("--workload and a command behind -- exclude each other");
  Selection selection = {options.workloads,   options.amount, options.only,
                         options.environment, options.runs,   options.skip_missing};
  std::vector<ComparisonPlan> plans = SelectWorkloads(common, selection, left_out);
  for (const std::string& what : *left_out) Note(invocation, "compare: left out: " + what);
  if (plans.empty()) throw ToolError("compare: all workloads were left out");
  if (plans.size() > 1 && !options.name.empty()) throw UsageError("--name is for one workload");
  return plans;
}

void PrintList(const std::vector<ComparisonPlan>& plans) {
  std::size_t width = 0;
  for (const ComparisonPlan& plan : plans) width = std::max(width, plan.name.size());
  std::string text;
  for (const ComparisonPlan& plan : plans) {
    text += fmt::format("{:<{}}  {:>2} x {}\n", plan.name, width, plan.blocks, fmt::join(plan.launch.command, " "));
    std::string titles;
    for (const Measure& measure : plan.measures)
      titles += (titles.empty() ? "" : ", ") + (measure.title.empty() ? measure.name : measure.title);
    text += fmt::format("{:<{}}  {}{}\n", "", width, plan.description, titles.empty() ? "" : " (" + titles + ")");
  }
  WriteStdout(text);
}

ComparisonPlan CommonPlan(const CompareOptions& options, const Invocation& invocation) {
  if (options.runs > 0 && !options.time.empty()) throw UsageError("--runs and --time exclude each other");
  ComparisonPlan plan;
  std::vector<std::string> missing;
  plan.allocators = FindAllocators(options.against, options.library, options.skip_missing ? &missing : nullptr);
  for (const std::string& what : missing) Note(invocation, "compare: left out: " + what);
  plan.reference = options.reference.empty() ? plan.allocators.front().name : options.reference;
  if (std::ranges::find(plan.allocators, plan.reference, &Allocator::name) == plan.allocators.end())
    throw UsageError(fmt::format("--reference {}: it is not among those that are compared", plan.reference));
  if (options.runs > 0) plan.blocks = options.runs;
  if (!options.time.empty()) plan.budget_s = ParseSeconds("--time", options.time);
  plan.seed = options.seed != 0 ? options.seed : std::random_device()();
  plan.control = !options.no_control;
  if (!options.pin.empty()) plan.launch.cpus = ParseCpus(options.pin);
  plan.launch.rss_interval_s = options.rss_interval_s;
  plan.launch.idle_tail_s = options.idle_tail_s;
  plan.launch.trace = !options.no_trace;
  plan.command_line = invocation.command_line;
  if (StderrIsTerminal() && !invocation.quiet) {
    plan.progress = [](const std::string& text) { fmt::print(stderr, "\r\033[K{}", text); };
  }
  return plan;
}

// Writes the document to the file of -o, as its extension says; into a directory, the document and the report.
void WriteDocument(const Invocation& invocation, const nlohmann::json& document,
                   const std::vector<std::string>& findings, const std::vector<std::string>& notes) {
  if (std::filesystem::is_directory(invocation.output)) {
    WriteFile(InDirectory(invocation.output, kResultsFile), JsonText(document, JsonLayout::kOneLine));
    return WriteFile(InDirectory(invocation.output, kReportFile), RenderReport(document));
  }
  const std::string extension = std::filesystem::path(invocation.output).extension();
  if (extension == ".html" && !invocation.json) return WriteFile(invocation.output, RenderReport(document));
  if (invocation.json || extension == ".json")
    return WriteFile(invocation.output, JsonText(document, JsonLayout::kOneLine));
  WriteFile(invocation.output, Table(document, findings, notes, false));
}

// Keeps the results of the workloads so far in the file of -o. A disk that is full now may have room later.
void Keep(const Invocation& invocation, const nlohmann::json& document) {
  try {
    WriteDocument(invocation, document, {}, {});
  } catch (const ToolError& problem) {
    Note(invocation, fmt::format("compare: {}; going on, and trying again", problem.what()));
  }
}

// Writes the results into the directory of -o, and the table to stdout. What the disk has no room for goes to stdout,
// where a pipe or a terminal may take it.
void WriteIntoDirectory(const Invocation& invocation, const nlohmann::json& document,
                        const std::vector<std::string>& findings, const std::vector<std::string>& notes) {
  try {
    WriteDocument(invocation, document, findings, notes);
  } catch (const ToolError& problem) {
    WriteStdout(JsonText(document, JsonLayout::kOneLine));
    throw ToolError(fmt::format("{}; the results stand on stdout", problem.what()));
  }
  WriteStdout(Table(document, findings, notes, StdoutHasColour()));
  Note(invocation, fmt::format("results: {}", InDirectory(invocation.output, kResultsFile)));
  Note(invocation, fmt::format("report:  {}", InDirectory(invocation.output, kReportFile)));
}

// Results are always printed, whatever becomes of the file.
void WriteResults(const Invocation& invocation, const nlohmann::json& document,
                  const std::vector<std::string>& findings, const std::vector<std::string>& notes) {
  const bool to_file = invocation.output != "-";
  if (to_file && std::filesystem::is_directory(invocation.output))
    return WriteIntoDirectory(invocation, document, findings, notes);
  if (invocation.json && !to_file) {
    WriteStdout(JsonText(document, JsonLayout::kOneLine));
    for (const std::string& finding : findings) Message("compare: " + finding);
  } else {
    WriteStdout(Table(document, findings, notes, StdoutHasColour()));
  }
  if (to_file) WriteDocument(invocation, document, findings, notes);
}

int RunCompare(const CompareOptions& options, const Invocation& invocation) {
  CheckOutput(invocation.output);
  Suite suite;
  const ComparisonPlan common = CommonPlan(options, invocation);
  if (options.workloads.empty()) {
    suite.plans = {PlanOfCommand(common, options, invocation)};
  } else {
    suite.plans = PlansOfWorkloads(common, options, invocation, &suite.left_out);
  }
  for (ComparisonPlan& plan : suite.plans) {
    if (!options.name.empty()) plan.name = options.name;
    if (!options.description.empty()) plan.description = options.description;
    if (!options.kind.empty()) plan.kind = options.kind;
  }
  if (options.list) {
    PrintList(suite.plans);
    return kExitOk;
  }
  if (!options.within.empty()) suite.within_s = ParseSeconds("--within", options.within);
  if (invocation.output != "-" && suite.plans.size() > 1) {
    suite.measured = [&](const nlohmann::json& document) { Keep(invocation, document); };
  }

  std::vector<std::string> findings;
  std::vector<std::string> notes;
  const nlohmann::json document = CompareAll(suite, &findings, &notes);
  if (common.progress) fmt::print(stderr, "\r\033[K");

  WriteResults(invocation, document, findings, notes);
  if (document["interrupted"].get<bool>()) return kExitInterrupted;
  const bool measured = std::ranges::any_of(document["workloads"], [](const auto& workload) {
    return std::ranges::any_of(workload["results"], [](const auto& result) { return result["runs"] > 0; });
  });
  if (!measured) {
    Message("compare: nothing could be measured; the command ran under none of the allocators");
    return kExitError;
  }
  return findings.empty() ? kExitOk : kExitFinding;
}

Prepared PrepareCompare() {
  auto o = std::make_shared<CompareOptions>();
  return {
      {{"--against", "LIST",
        "what tarn is compared with: glibc, mimalloc, jemalloc, tcmalloc, NAME=PATH.so, NAME=PATH:VARIABLE=VALUE; "
        "glibc,mimalloc if not given",
        &o->against},
       {"--reference", "NAME", "ratios are to this one; the first of --against if not given", &o->reference},
       {"--runs", "N", "blocks, each of one run per allocator; 10 if not given", &o->runs, 1, 100000},
       {"--time", "BUDGET", "instead: as many blocks as fit, such as 90s or 5min", &o->time},
       {"--seed", "N", "of the order and the resamples; another one each time if not given", &o->seed},
       {"--pin", "CPUS", "run the command on these CPUs only, such as 0,2-3", &o->pin},
       {"--env", "NAME=VALUE", "a variable for the command; may be repeated", &o->environment},
       {"--rss-interval", "S", "seconds between samples of RSS; 0.01 if not given", &o->rss_interval_s, 0.001, 3600},
       {"--idle-tail", "S", "take RSS when the process has used no CPU for S seconds, and end it then", &o->idle_tail_s,
        0.1, 3600},
       {"--no-control", "", "without the second run of the reference", &o->no_control},
       {"--no-trace", "", "without ptrace, for commands that trace themselves", &o->no_trace},
       {"--skip-missing", "", "go on without allocators that are not installed", &o->skip_missing},
       {"--library", "PATH", "another libtarn.so than the tool's own", &o->library},
       {"--name", "NAME", "what the result calls the command", &o->name},
       {"--description", "TEXT", "a sentence about it, for the report", &o->description},
       {"--workload", "FILE", "measure what these definitions say, not a command (docs/benchmarks.md); may be repeated",
        &o->workloads},
       {"--amount", "NAME", "the amount of work of the definitions, such as quick; others than those are left out",
        &o->amount},
       {"--only", "REGEX", "those of the definitions whose name has a match", &o->only},
       {"--within", "TIME", "for all workloads: what takes three times its share is cut short", &o->within},
       {"--list", "", "print what would be measured", &o->list},
       {"--kind", "speed|memory|latency|scaling", "what counts in the report", &o->kind}},
      [o](const Invocation& invocation) { return RunCompare(*o, invocation); }};
}

}  // namespace

extern const Verb kCompareVerb;
const Verb kCompareVerb = {
    .name = "compare",
    .summary = "measure a command under tarn and other allocators",
    .examples = {{"tarn compare -- ./job input", "is it faster and smaller on tarn? (against glibc, mimalloc)"},
                 {"tarn compare --against glibc,jemalloc --time 5min -o report.html -- ./job", "the same as a report"},
                 {"tarn compare --workload server.json", "a server under load, as a definition says"},
                 {"tarn compare --against thread=tarn:TARN_MODE=thread -- ./job", "tarn against itself, set otherwise"},
                 {"tarn compare --idle-tail 5 -- ./server", "a process that does not end: memory when it is silent"}},
    .details =
        "Each block runs every allocator once, in random order, and the reference a second time (the control). Ratios "
        "are medians of the ratios within blocks; intervals are 95 % by bootstrap. win, loss: the interval excludes 1 "
        "and the difference is above 1 %; tie: the same within 1 %; tie?: too few runs to tell.\n"
        "The first run of each is not counted. Every run has to prove which allocator it calls. A run that "
        "fails, or prints something else than under the reference, is a finding and is not averaged.\n"
        "CPU time is that of the command with all its children, peak RSS that of the largest of them. -o FILE.html "
        "writes the report, -o FILE.json or --json the schema tarn-bench/1; -o DIRECTORY writes both, as results.json "
        "and report.html.\n"
        "Exit codes: 0; 3 if a run failed or differed; 1 if nothing could be measured; 130 if interrupted, with the "
        "results so far.",
    .takes_command = true,
    .instead_of_command = "--workload",
    .prepare = PrepareCompare,
};

}  // namespace tarn::tool
