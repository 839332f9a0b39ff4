// SPDX-License-Identifier: Apache-2.0
//
// A workload as a definition: a JSON file that says what to prepare, what to run, and what counts.
//
// docs/benchmarks.md describes the members. Words may hold {here}, the directory of the file, {scratch}, a directory
// that lasts as long as the comparison, {port}, a free TCP port, another one in each run, and in the helpers of a
// server {pid}.
#pragma once

#include <string>
#include <vector>

#include "tools/tarn/compare/runner.h"

namespace tarn::tool {

// A figure of a run that is compared: "cpu_s", or "metrics.NAME" for one that the program gives itself.
struct Measure {
  std::string name;
  std::string title;  // may be empty
};

struct Definition {
  std::string name;
  std::string description;
  std::string kind;
  std::vector<Measure> measures;                  // the first is what counts
  std::vector<std::vector<std::string>> prepare;  // commands that make the inputs, once and on libc's malloc
  std::string here;                               // the directory of the file
  Launch launch;                                  // with a clean environment, and names in braces in its words
};

// Throws ToolError with the file and the member that is wrong, or with the name of a program that is missing.
Definition ReadDefinition(const std::string& path);

}  // namespace tarn::tool
