// SPDX-License-Identifier: Apache-2.0
//
// One run of a comparison, and the figures that it has.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/tarn/compare/allocators.h"
#include "tools/tarn/compare/runner.h"

namespace tarn::tool {

// NOLINTNEXTLINE(bugprone-exception-escape): moving a json does not throw, though its assertions make it look so.
struct Run {
  int order = 0;
  int block = -1;  // -1: the warm-up, which is not averaged
  const Allocator* allocator = nullptr;
  bool control = false;
  bool proven = false;
  Outcome outcome;
  nlohmann::json metrics;  // as the program wrote them, or null
  std::string failure;     // not empty: no figure of it counts
};

// A figure by the name of its measure: "wall_s", "peak_rss_bytes" and so on. The program's metrics are "metrics.NAME".
std::optional<double> Figure(const Run& run, std::string_view measure);

// The figures of the runs of an allocator that count; with `control` those of the second run of the reference.
std::vector<double> Figures(const std::vector<Run>& runs, const Allocator* allocator, bool control,
                            std::string_view measure);

// The ratios within blocks to the reference's figure.
std::vector<double> PairedRatios(const std::vector<Run>& runs, const Allocator* allocator, bool control,
                                 const Allocator* reference, std::string_view measure);

}  // namespace tarn::tool
