// SPDX-License-Identifier: Apache-2.0
//
// A workload as a definition: a JSON file that says what to prepare, what to run, and what counts.
//
// docs/benchmarks.md describes the members. A file holds one definition or a list of them. Names in braces stand in
// words: {here} is the directory of the file, {build} the directory above that of the tool. {scratch} is a directory
// that lasts as long as the comparison, {port} a free TCP port, another one in each run. The helpers of a server also
// have {pid}.
#pragma once

#include <map>
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
  int runs = 0;                                   // blocks, where the caller does not say; 0: as the tool does
  bool control = true;
  std::string operations;               // of the program's metric "operations", what they are; may be empty
  std::vector<std::string> amounts;     // the names of all that it has
  std::vector<std::string> placements;  // of the amount: policies, each of which gives one more workload
  std::vector<std::string> needs;       // programs that must be installed
};

// The definitions of a file that have this amount, with its arguments and its runs; all where `amount` is empty.
// `others` gets the name of each further definition, with the amounts that it has. Throws ToolError with the file and
// the member that is wrong.
std::vector<Definition> ReadDefinitions(const std::string& path, const std::string& amount,
                                        std::map<std::string, std::vector<std::string>>* others);

// Looks up the programs of a definition by name. Throws ToolError with the name of one that is missing.
void ResolvePrograms(Definition* definition);

// The directory above that of the tool: the build's, or a prefix.
std::string BuildDirectory();

}  // namespace tarn::tool
