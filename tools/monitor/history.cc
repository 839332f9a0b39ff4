// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/history.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace tarn::tool {

void History::Add(const Observation& now) {
  const tarn_memstats_t& stats = now.stats;
  Point point{};
  point.steady_s = now.steady_s;
  point.time_s = now.time_s;
  point.live_bytes = stats.alloc_bytes;
  point.in_use_bytes = stats.heap_inuse_bytes;
  point.resident_bytes = stats.rss_bytes;
  point.returned_bytes = stats.classes.heap_released_bytes;
  const std::uint64_t limit = std::min(stats.next_gc_bytes, stats.hard_limit_bytes);
  if (limit != UINT64_MAX) point.limit_bytes = limit;
  point.total_alloc_bytes = stats.total_alloc_bytes;
  point.total_freed_bytes = stats.total_freed_bytes;
  point.total_returned_bytes = stats.released_total_bytes;
  point.total_stall_ns = stats.stall_total_ns;

  const std::size_t count = points_.size();
  if (count >= 2 && points_[count - 1].steady_s - points_[count - 2].steady_s < distance_s_) points_.pop_back();
  points_.push_back(point);
  while (points_.front().steady_s < now.steady_s - kHistorySeconds) points_.pop_front();
  while (points_.size() > kHistoryPoints) Thin();
}

void History::Thin() {
  // The first one is the mean distance, so that the first doubling halves the points as the later ones do.
  if (distance_s_ == 0)
    distance_s_ = (points_.back().steady_s - points_.front().steady_s) / static_cast<double>(points_.size() - 1);
  distance_s_ *= 2;
  std::deque<Point> kept;
  for (const Point& point : points_)
    if (kept.empty() || point.steady_s - kept.back().steady_s >= distance_s_) kept.push_back(point);
  if (kept.back().steady_s != points_.back().steady_s) kept.push_back(points_.back());
  points_.swap(kept);
}

nlohmann::json History::Json() const {
  nlohmann::json document = nlohmann::json::object();
  const auto column = [&](const char* name, auto value) {
    nlohmann::json& numbers = document[name] = nlohmann::json::array();
    for (const Point& point : points_) numbers.push_back(value(point));
  };
  column("times_ms", [](const Point& point) { return std::llround(point.time_s * 1000); });
  column("live_bytes", [](const Point& point) { return point.live_bytes; });
  column("in_use_bytes", [](const Point& point) { return point.in_use_bytes; });
  column("resident_bytes", [](const Point& point) { return point.resident_bytes; });
  column("returned_bytes", [](const Point& point) { return point.returned_bytes; });
  column("limit_bytes", [](const Point& point) {
    return point.limit_bytes ? nlohmann::json(*point.limit_bytes) : nlohmann::json(nullptr);
  });
  column("total_alloc_bytes", [](const Point& point) { return point.total_alloc_bytes; });
  column("total_freed_bytes", [](const Point& point) { return point.total_freed_bytes; });
  column("total_returned_bytes", [](const Point& point) { return point.total_returned_bytes; });
  column("total_stall_ns", [](const Point& point) { return point.total_stall_ns; });
  return document;
}

}  // namespace tarn::tool
