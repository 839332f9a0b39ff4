// SPDX-License-Identifier: Apache-2.0
//
// Several workloads, measured one after the other, as one document of the schema tarn-bench/1.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tools/tarn/compare/comparison.h"

namespace tarn::tool {

// The workloads of definition files that are wanted.
struct Selection {
  std::vector<std::string> files;
  std::string amount;                    // empty: each as it is, without an amount
  std::string only;                      // a regular expression that the name has a match of; empty: all
  std::vector<std::string> environment;  // added to that of each workload, as NAME=VALUE
  int runs = 0;                          // blocks of each workload; 0: as the definition says
  bool skip_missing = false;             // goes on without workloads whose programs are missing
};

// A plan for each selected workload, and one more for each of its placements, on top of what all have in common.
// `left_out` gets a line for each that this machine cannot measure. Throws UsageError where nothing matches.
std::vector<ComparisonPlan> SelectWorkloads(const ComparisonPlan& common, const Selection& selection,
                                            std::vector<std::string>* left_out);

struct Suite {
  std::vector<ComparisonPlan> plans;
  std::vector<std::string> left_out;  // notes for the document
  // Not 0: all of it ends within this time. A workload that takes more than three times its share of the rest is cut
  // short, and what cannot begin in time is left out.
  double within_s = 0;
  // Called after each workload with the document so far.
  std::function<void(const nlohmann::json& document)> measured;
};

// The document. Of several workloads, a finding or a note begins with the name of its workload.
nlohmann::json CompareAll(const Suite& suite, std::vector<std::string>* findings, std::vector<std::string>* notes);

}  // namespace tarn::tool
