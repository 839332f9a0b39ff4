// SPDX-License-Identifier: Apache-2.0
//
// The runs of a comparison as workloads of the schema tarn-bench/1.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/tarn/compare/comparison.h"
#include "tools/tarn/compare/run.h"

namespace tarn::tool {

// A list of one workload; or of one for each row, where the metrics of the runs have a list "rows". A row is an object
// with a name and figures of its own; the same names stand in all runs.
nlohmann::json WorkloadsJson(const ComparisonPlan& plan, const Allocator& reference, const std::vector<Run>& runs,
                             const std::vector<std::string>& notes);

}  // namespace tarn::tool
