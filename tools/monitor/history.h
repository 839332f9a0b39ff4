// SPDX-License-Identifier: Apache-2.0
//
// The figures of a process over the last hour, for the charts of the page.
//
// Memory is bounded: at first every observation is kept; whenever there are too many, the least distance between two of
// them doubles, and those in between go. Totals are kept rather than rates, so that what was between is not lost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <nlohmann/json.hpp>
#include <optional>

#include "tools/monitor/observation.h"

namespace tarn::tool {

inline constexpr double kHistorySeconds = 3600;
// More than an hour has of intervals of five seconds, so that those are never thinned.
inline constexpr std::size_t kHistoryPoints = 800;

// Of one life of a process.
class History {
 public:
  // Observations come in the order of time.
  void Add(const Observation& now);
  std::size_t size() const { return points_.size(); }

  // {"times_ms": [...], "live_bytes": [...], ...}: as many numbers in each array; no limit is null.
  nlohmann::json Json() const;

 private:
  struct Point {
    double steady_s;
    double time_s;
    std::uint64_t live_bytes;
    std::uint64_t in_use_bytes;
    std::uint64_t resident_bytes;
    std::uint64_t returned_bytes;
    std::optional<std::uint64_t> limit_bytes;
    std::uint64_t total_alloc_bytes;
    std::uint64_t total_freed_bytes;
    std::uint64_t total_returned_bytes;
    std::uint64_t total_stall_ns;
  };
  void Thin();

  // The newest one is always there; it is replaced by the next if that comes too soon after the one before.
  std::deque<Point> points_;
  double distance_s_ = 0;
};

}  // namespace tarn::tool
