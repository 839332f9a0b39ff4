// SPDX-License-Identifier: Apache-2.0
//
// A result document (schema tarn-bench/1) as plain structures.
//
// `tarn compare --json` and bench/run write such documents; the report and the comparison of two of them read them
// through ParseDocument. A value that is missing or null in the document is missing here, too: an empty optional, or no
// entry in a map. docs/benchmarks.md describes the schema.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace tarn::tool::report {

struct RatioResult {
  double ratio = 1;
  double low = 1;  // the 95 % interval
  double high = 1;
  std::string verdict;  // "win", "tie" or "loss", or another word where the machine was too noisy to tell
};

struct BenchRun {
  int order = 0;  // among all runs of the workload, in the order in which they were made
  int block = 0;
  std::string allocator;
  bool control = false;  // the second run of the reference in a block, which only tells how noisy the machine is
  bool proven = false;
  bool failed = false;  // a run that failed takes no part in any figure
  // All numbers of the run by name: "wall_s", "peak_rss_bytes", ..., and those that the workload gave itself as
  // "metrics.operations" or "metrics.latency_ns.malloc.p50".
  std::map<std::string, double> figures;
  std::vector<std::pair<double, double>> rss;  // seconds since the start, bytes
};

struct BenchResult {
  std::string allocator;
  int runs = 0;
  int failed = 0;
  std::map<std::string, double> medians;
  std::map<std::string, RatioResult> ratios;  // to the reference, by measure
};

struct BenchError {
  std::string allocator;
  std::optional<int> run;
  std::string what;
};

struct BenchWorkload {
  std::string name;
  std::string description;
  std::string kind;
  std::vector<std::string> command;
  std::string repeat;  // the command line that measures this workload again
  std::string placement;
  std::vector<int> cpus;
  std::string reference;
  // The measure that the workload is about, and what a reader calls it; from the document's "result", or by kind.
  std::string measure;
  std::string measure_title;
  // Further lines of the table: pairs of a measure and its title.
  std::vector<std::pair<std::string, std::string>> also;
  std::string operations;  // the unit of the figure "metrics.operations", such as requests; may be empty
  std::vector<BenchRun> runs;
  std::vector<BenchResult> results;
  // The reference's second run / its first, paired by block, of each measure that both have in two blocks at least: how
  // much it differs where nothing does.
  std::map<std::string, RatioResult> control;
  std::vector<BenchError> errors;

  const BenchResult* Find(const std::string& allocator) const;
};

struct BenchAllocator {
  std::string name;
  std::string path;
  std::string sha256;
  std::string build_id;
  std::string package;
};

struct BenchDocument {
  std::string tool_version;
  std::string started;
  std::string finished;
  std::string command_line;
  std::optional<double> seed;
  bool interrupted = false;
  std::vector<std::pair<std::string, std::string>> machine;  // a name, its value as text
  std::vector<std::string> topology;                         // lines of text
  std::vector<std::pair<std::string, std::string>> build;
  std::vector<std::string> notes;  // parts that were left out, and why
  std::vector<BenchAllocator> allocators;
  std::vector<BenchWorkload> workloads;
};

// Throws std::runtime_error with a text for the user where `json` is another document. Ratios of the measure that a
// workload is about are computed from its runs where the document has none.
BenchDocument ParseDocument(const nlohmann::json& json);

// The runs of one allocator that count: not failed, not the control.
std::vector<const BenchRun*> CountedRuns(const BenchWorkload& workload, const std::string& allocator);

// The figure of each block in which the allocator has one that can stand in a ratio: it is positive, and bytes are at
// least a page. With `control` those of the second run of the reference.
std::map<int, double> FiguresByBlock(const BenchWorkload& workload, const std::string& allocator,
                                     const std::string& measure, bool control = false);

// `allocator` / `against`, paired by block, of the measure that the workload is about. Nothing where one of the two has
// no figures in a common block.
std::optional<RatioResult> PairedRatio(const BenchWorkload& workload, const std::string& allocator,
                                       const std::string& against, const std::string& measure);

}  // namespace tarn::tool::report
