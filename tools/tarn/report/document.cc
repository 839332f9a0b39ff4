// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/report/document.h"

#include <algorithm>
#include <set>
#include <stdexcept>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/tarn/report/html.h"
#include "tools/tarn/statistics.h"

namespace tarn::tool::report {
namespace {

using nlohmann::json;

// A figure of bytes below one OS page counts as a page. A program that gives all of its memory back is not a thousand
// times better than one that keeps a page of it. It may even end below where it began.
constexpr double kLeastBytes = 4096;

// The functions below read values of any JSON: one that is absent, null or of another type gives the empty value.

const json& Member(const json& object, const char* key) {
  static const json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

std::string Text(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null()) return "";
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  if (value.is_array()) {
    std::string text;
    for (const json& element : value) text += (text.empty() ? "" : ", ") + Text(element);
    return text;
  }
  if (value.is_object()) {
    std::string text;
    for (const auto& [key, element] : value.items())
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", key, Text(element));
    return text;
  }
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string Text(const json& object, const char* key) { return Text(Member(object, key)); }

std::optional<double> Number(const json& value) {
  if (!value.is_number()) return std::nullopt;
  return value.get<double>();
}

int Integer(const json& object, const char* key) {
  const json& value = Member(object, key);
  return value.is_number() ? static_cast<int>(value.get<double>()) : 0;
}

bool Flag(const json& object, const char* key) {
  const json& value = Member(object, key);
  return value.is_boolean() && value.get<bool>();
}

// The elements of an array; none if it is something else.
const json& Elements(const json& object, const char* key) {
  static const json kEmpty = json::array();
  const json& value = Member(object, key);
  return value.is_array() ? value : kEmpty;
}

std::string Joined(const json& words) {
  if (words.is_string()) return words.get<std::string>();
  std::string text;
  if (!words.is_array()) return text;
  for (const json& word : words) text += (text.empty() ? "" : " ") + Text(word);
  return text;
}

void Flatten(const json& object, const std::string& prefix, std::map<std::string, double>* figures) {
  if (!object.is_object()) return;
  for (const auto& [key, value] : object.items()) {
    const std::string name = prefix.empty() ? key : fmt::format("{}.{}", prefix, key);
    if (value.is_object()) {
      Flatten(value, name, figures);
    } else if (value.is_number()) {
      (*figures)[name] = value.get<double>();
    }
  }
}

std::optional<RatioResult> ParseRatio(const json& value) {
  const auto ratio = Number(Member(value, "ratio"));
  if (!ratio) return std::nullopt;
  RatioResult result{*ratio, *ratio, *ratio, Text(value, "verdict")};
  const json& interval = Elements(value, "ci");
  if (interval.size() == 2 && interval[0].is_number() && interval[1].is_number()) {
    result.low = interval[0].get<double>();
    result.high = interval[1].get<double>();
  }
  return result;
}

BenchRun ParseRun(const json& value) {
  BenchRun run;
  run.order = Integer(value, "order");
  run.block = Integer(value, "block");
  run.allocator = Text(value, "allocator");
  run.control = Flag(value, "control");
  run.proven = Flag(value, "proven");
  Flatten(value, "", &run.figures);
  run.failed = !Text(value, "failure").empty();
  if (run.figures.count("cpu_s") == 0 && run.figures.count("user_s") != 0 && run.figures.count("system_s") != 0) {
    run.figures["cpu_s"] = run.figures["user_s"] + run.figures["system_s"];
  }
  for (const json& sample : Elements(value, "rss")) {
    if (sample.is_array() && sample.size() == 2 && sample[0].is_number() && sample[1].is_number()) {
      run.rss.emplace_back(sample[0].get<double>(), sample[1].get<double>());
    }
  }
  return run;
}

BenchResult ParseResult(const json& value) {
  BenchResult result;
  result.allocator = Text(value, "allocator");
  result.runs = Integer(value, "runs");
  result.failed = Integer(value, "failed");
  Flatten(Member(value, "median"), "", &result.medians);
  const json& ratios = Member(value, "ratio");
  if (ratios.is_object()) {
    for (const auto& [measure, ratio] : ratios.items()) {
      if (const auto parsed = ParseRatio(ratio)) result.ratios[measure] = *parsed;
    }
  }
  return result;
}

// The measure and its title for a kind of workload, if the document does not say.
std::pair<std::string, std::string> MeasureOfKind(const std::string& kind) {
  if (kind == "memory") return {"peak_rss_bytes", "peak RSS"};
  return {"wall_s", "wall time"};
}

void AddMissingFigures(BenchWorkload* workload) {
  for (BenchResult& result : workload->results) {
    const auto runs = CountedRuns(*workload, result.allocator);
    std::set<std::string> names;
    for (const BenchRun* run : runs) {
      for (const auto& [name, value] : run->figures) names.insert(name);
    }
    for (const std::string& name : names) {
      if (result.medians.count(name) != 0) continue;
      std::vector<double> values;
      for (const BenchRun* run : runs) {
        if (const auto found = run->figures.find(name); found != run->figures.end()) values.push_back(found->second);
      }
      result.medians[name] = Median(std::move(values));
    }
    if (result.allocator == workload->reference || result.ratios.count(workload->measure) != 0) continue;
    const auto ratio = PairedRatio(*workload, result.allocator, workload->reference, workload->measure);
    if (ratio) result.ratios[workload->measure] = *ratio;
  }
}

// Of figures by block.
std::optional<RatioResult> RatioWithinBlocks(const std::map<int, double>& mine, const std::map<int, double>& theirs,
                                             std::size_t fewest) {
  std::vector<double> ratios;
  for (const auto& [block, figure] : mine) {
    if (const auto other = theirs.find(block); other != theirs.end()) ratios.push_back(figure / other->second);
  }
  if (ratios.size() < fewest) return std::nullopt;
  const Estimate estimate = EstimateMedian(ratios);
  return RatioResult{estimate.value, estimate.low, estimate.high, std::string(VerdictOf(estimate, ratios.size()))};
}

void AddControl(BenchWorkload* workload) {
  std::set<std::string> measures;
  for (const BenchRun& run : workload->runs) {
    if (!run.control || run.failed) continue;
    for (const auto& [measure, value] : run.figures) measures.insert(measure);
  }
  for (const std::string& measure : measures) {
    const auto ratio = RatioWithinBlocks(FiguresByBlock(*workload, workload->reference, measure, true),
                                         FiguresByBlock(*workload, workload->reference, measure), 2);
    if (ratio) workload->control[measure] = *ratio;
  }
}

BenchWorkload ParseWorkload(const json& value) {
  BenchWorkload workload;
  workload.name = Text(value, "name");
  workload.description = Text(value, "description");
  workload.kind = Text(value, "kind");
  if (workload.kind.empty()) workload.kind = "speed";
  for (const json& word : Elements(value, "command")) workload.command.push_back(Text(word));
  workload.repeat = Joined(Member(value, "repeat"));
  const json& placement = Member(value, "placement");
  workload.placement = Text(placement, "policy");
  for (const json& cpu : Elements(placement, "cpus")) {
    if (cpu.is_number()) workload.cpus.push_back(cpu.get<int>());
  }
  workload.reference = Text(value, "reference");
  if (workload.reference.empty()) workload.reference = "glibc";
  std::tie(workload.measure, workload.measure_title) = MeasureOfKind(workload.kind);
  if (const json& about = Member(value, "result"); about.is_object()) {
    if (const std::string measure = Text(about, "measure"); !measure.empty()) {
      workload.measure = measure;
      workload.measure_title = Text(about, "title");
      if (workload.measure_title.empty()) workload.measure_title = MeasureTitle(measure);
    }
  }
  for (const json& other : Elements(value, "also")) {
    const std::string measure = Text(other, "measure");
    const std::string title = Text(other, "title");
    if (!measure.empty()) workload.also.emplace_back(measure, title.empty() ? MeasureTitle(measure) : title);
  }
  workload.operations = Text(value, "operations");
  for (const json& run : Elements(value, "runs")) workload.runs.push_back(ParseRun(run));
  std::sort(workload.runs.begin(), workload.runs.end(),
            [](const BenchRun& a, const BenchRun& b) { return a.order < b.order; });
  for (const json& error : Elements(value, "errors")) {
    BenchError parsed{Text(error, "allocator"), std::nullopt, Text(error, "what")};
    if (const auto run = Number(Member(error, "run"))) {
      parsed.run = static_cast<int>(*run);
      for (BenchRun& other : workload.runs) {
        if (other.order == *parsed.run && other.allocator == parsed.allocator) other.failed = true;
      }
    }
    workload.errors.push_back(std::move(parsed));
  }
  for (const json& result : Elements(value, "results")) workload.results.push_back(ParseResult(result));
  AddMissingFigures(&workload);
  AddControl(&workload);
  return workload;
}

// The facts about the machine, in the order in which they are shown; others come after them.
constexpr std::pair<const char*, const char*> kMachineTitles[] = {{"cpu_model", "CPU"},
                                                                  {"logical_cpus", "CPUs, logical"},
                                                                  {"physical_cores", "cores, physical"},
                                                                  {"numa_nodes", "NUMA nodes"},
                                                                  {"virtual_machine", "virtual machine"},
                                                                  {"memory_bytes", "memory"},
                                                                  {"kernel", "kernel"},
                                                                  {"libc", "libc"},
                                                                  {"thp", "huge pages"},
                                                                  {"governor", "CPU governor"},
                                                                  {"load_average", "load average"}};

std::vector<std::string> InOrder(const json& machine) {
  std::vector<std::string> keys;
  for (const auto& [key, title] : kMachineTitles) {
    if (machine.contains(key)) keys.emplace_back(key);
  }
  for (const auto& [key, fact] : machine.items()) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  }
  return keys;
}

std::string MachineTitle(const std::string& key) {
  for (const auto& [known, title] : kMachineTitles) {
    if (key == known) return title;
  }
  std::string title = key;
  std::replace(title.begin(), title.end(), '_', ' ');
  return title;
}

void AppendLines(const json& value, const std::string& indent, std::vector<std::string>* lines) {
  if (value.is_array()) {
    for (const json& element : value) AppendLines(element, indent, lines);
  } else if (value.is_object()) {
    for (const auto& [key, element] : value.items()) {
      if (element.is_structured()) {
        lines->push_back(indent + key);
        AppendLines(element, indent + "  ", lines);
      } else {
        lines->push_back(indent + key + ": " + Text(element));
      }
    }
  } else if (!value.is_null()) {
    lines->push_back(indent + Text(value));
  }
}

}  // namespace

const BenchResult* BenchWorkload::Find(const std::string& allocator) const {
  for (const BenchResult& result : results) {
    if (result.allocator == allocator) return &result;
  }
  return nullptr;
}

std::vector<const BenchRun*> CountedRuns(const BenchWorkload& workload, const std::string& allocator) {
  std::vector<const BenchRun*> runs;
  for (const BenchRun& run : workload.runs) {
    if (run.allocator == allocator && !run.control && !run.failed) runs.push_back(&run);
  }
  return runs;
}

std::map<int, double> FiguresByBlock(const BenchWorkload& workload, const std::string& allocator,
                                     const std::string& measure, bool control) {
  std::map<int, double> figures;
  const bool bytes = IsBytes(measure);
  for (const BenchRun& run : workload.runs) {
    if (run.allocator != allocator || run.control != control || run.failed) continue;
    const auto found = run.figures.find(measure);
    if (found == run.figures.end()) continue;
    const double figure = bytes ? std::max(found->second, kLeastBytes) : found->second;
    if (figure > 0) figures[run.block] = figure;
  }
  return figures;
}

std::optional<RatioResult> PairedRatio(const BenchWorkload& workload, const std::string& allocator,
                                       const std::string& against, const std::string& measure) {
  return RatioWithinBlocks(FiguresByBlock(workload, allocator, measure), FiguresByBlock(workload, against, measure), 1);
}

BenchDocument ParseDocument(const json& value) {
  const std::string schema = Text(value, "schema");
  if (schema != "tarn-bench/1") {
    throw std::runtime_error(
        schema.empty() ? "this is not a result document: it has no \"schema\"; `tarn compare --json` writes one"
                       : fmt::format("the document's schema is \"{}\"; this tarn reads \"tarn-bench/1\"", schema));
  }
  if (!Member(value, "workloads").is_array()) {
    throw std::runtime_error("the document has no list of \"workloads\"; was it cut short?");
  }
  BenchDocument document;
  document.tool_version = Text(value, "tool_version");
  document.started = Text(value, "started");
  document.finished = Text(value, "finished");
  document.command_line = Joined(Member(value, "command_line"));
  document.seed = Number(Member(value, "seed"));
  document.interrupted = Flag(value, "interrupted");
  if (const json& machine = Member(value, "machine"); machine.is_object()) {
    AppendLines(Member(machine, "topology"), "", &document.topology);
    for (const std::string& key : InOrder(machine)) {
      const json& fact = machine[key];
      if (key == "topology") continue;
      if (key == "memory_bytes" && fact.is_number()) {
        document.machine.emplace_back(MachineTitle(key),
                                      fmt::format("{:.1f} GiB", fact.get<double>() / (1024.0 * 1024 * 1024)));
      } else if (key != "placements") {
        const std::string text = Text(fact);
        document.machine.emplace_back(MachineTitle(key), text.empty() ? "unknown" : text);
      }
    }
  }
  if (const json& build = Member(value, "build"); build.is_object()) {
    for (const auto& [key, fact] : build.items()) document.build.emplace_back(key, Text(fact));
  }
  for (const json& note : Elements(value, "notes")) document.notes.push_back(Text(note));
  for (const json& allocator : Elements(value, "allocators")) {
    document.allocators.push_back({Text(allocator, "name"), Text(allocator, "path"), Text(allocator, "sha256"),
                                   Text(allocator, "build_id"), Text(allocator, "package")});
  }
  for (const json& workload : Elements(value, "workloads")) document.workloads.push_back(ParseWorkload(workload));
  return document;
}

}  // namespace tarn::tool::report
