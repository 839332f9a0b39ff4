// SPDX-License-Identifier: Apache-2.0
//
// Compares two result documents of the same workloads, before and after a change: the better, the worse, the same.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "tools/tarn/report/document.h"
#include "tools/tarn/statistics.h"

namespace tarn::tool::report {

struct Change {
  std::string workload;
  std::string measure;
  std::string title;
  double before = 0;  // medians, in the measure's unit
  double after = 0;
  Estimate change;                 // after / before, with its 99 % interval
  bool against_reference = false;  // the figures were divided by the reference's of the same block before
  double reference_change = 1;     // of the reference itself: how far the machine drifted
  std::string verdict;             // "improvement", "regression", "same", "noisy" or "unsure"
};

struct Comparison {
  std::string subject;
  double threshold = 0;
  std::vector<Change> changes;
  std::vector<std::string> notes;  // reasons besides the change why the two documents may differ
  bool regression() const;
};

// A change smaller than `threshold` (0.03 is three per cent) is none, however sure it is.
Comparison CompareDocuments(const BenchDocument& before, const BenchDocument& after, double threshold);

// Schema tarn-comparison/1.
nlohmann::json ComparisonJson(const Comparison& comparison);

// A table for the terminal.
std::string ComparisonText(const Comparison& comparison);

// The same as a page. The names are those of the files.
std::string ComparisonPage(const Comparison& comparison, const std::string& before, const std::string& after);

}  // namespace tarn::tool::report
