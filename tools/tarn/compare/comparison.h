// SPDX-License-Identifier: Apache-2.0
//
// A comparison from beginning to end: warm-up, blocks of runs in random order, and what comes out as a document of the
// schema tarn-bench/1 and as a table.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tools/tarn/compare/allocators.h"
#include "tools/tarn/compare/definition.h"
#include "tools/tarn/compare/runner.h"

namespace tarn::tool {

struct ComparisonPlan {
  std::vector<Allocator> allocators;
  std::string reference;
  int blocks = 10;
  double budget_s = 0;  // not 0: as many blocks as start within this time, instead of `blocks`
  double end_s = 0;     // not 0: on the clock of Now(), when a run is cut off and the others are left out
  std::uint64_t seed = 1;
  bool control = true;
  Launch launch;                                  // its environment without LD_PRELOAD
  std::string here;                               // not empty: the words of `launch` may have names in braces
  std::vector<std::vector<std::string>> prepare;  // commands that make the inputs
  std::vector<Measure> measures;                  // compared besides time and memory; the first counts
  std::string name;
  std::string description;
  std::string kind;
  std::string operations;  // the unit of the metric "operations"; may be empty
  std::string placement;   // the policy by which launch.cpus were chosen; may be empty
  std::vector<std::string> command_line;
  // Called before each run: what comes, and how far it is.
  std::function<void(const std::string& text)> progress;
};

// The document; `findings` gets what failed or differed, `notes` what else is to be known. With `cut_short` the caller
// learns that the comparison has fewer blocks than planned, because its time was over.
nlohmann::json Compare(const ComparisonPlan& plan, std::vector<std::string>* findings, std::vector<std::string>* notes,
                       bool* cut_short = nullptr);

// The table for a terminal.
std::string ComparisonTable(const nlohmann::json& document, const std::vector<std::string>& findings,
                            const std::vector<std::string>& notes, bool colour);

}  // namespace tarn::tool
