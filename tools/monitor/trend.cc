// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/trend.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace tarn::tool {

namespace {

// A window is looked at in parts; of each the least counts, so that a heap that swings does not seem to grow.
constexpr std::size_t kGrowthParts = 6;
// Chosen: of each part the growth must be at least this share of the mean, or it is not steady. What a program loads at
// its start, or a step, is therefore none.
constexpr double kSteadyShare = 0.25;
// Points that are kept at most. The window is looked at in six parts, so more would say no more.
constexpr std::size_t kMaxPoints = 2000;

double Grown(std::uint64_t before, std::uint64_t after) {
  return after > before ? static_cast<double>(after - before) : 0;
}

double LongestNewStall(const tarn_memstats_t& before, const tarn_memstats_t& after) {
  if (after.stall_longest_ns > before.stall_longest_ns) return static_cast<double>(after.stall_longest_ns) / 1e6;
  for (std::size_t i = std::size(after.stalls_by_time); i-- > 1;) {
    if (after.stalls_by_time[i] <= before.stalls_by_time[i]) continue;
    // Class i holds those of 2^(i-1) to 2^i microseconds.
    return std::ldexp(1e-3, static_cast<int>(i) - 1);
  }
  return 0;
}

}  // namespace

void Trend::Add(const Observation& now) {
  const double seconds = now.steady_s - last_s_;
  if (has_last_ && seconds > 0) {
    const tarn_memstats_t& stats = now.stats;
    const auto rate = [&](std::uint64_t before, std::uint64_t after) { return Grown(before, after) / kMiB / seconds; };
    figures_.alloc_rate_mb_sec = rate(last_.total_alloc_bytes, stats.total_alloc_bytes);
    figures_.free_rate_mb_sec = rate(last_.total_freed_bytes, stats.total_freed_bytes);
    figures_.returned_mb_sec = rate(last_.released_total_bytes, stats.released_total_bytes);
    figures_.stall_ms_sec = Grown(last_.stall_total_ns, stats.stall_total_ns) / 1e6 / seconds;
    figures_.pause_ms = LongestNewStall(last_, stats);
  }
  has_last_ = true;
  last_s_ = now.steady_s;
  last_ = now.stats;
  // Where they come faster than the window needs, some are left out.
  if (points_.empty() || now.steady_s - points_.back().steady_s >= leak_window_s_ / kMaxPoints)
    points_.push_back({now.steady_s, static_cast<double>(now.stats.alloc_bytes) / kMiB});
  while (points_.size() > 1 && points_[1].steady_s <= now.steady_s - leak_window_s_) points_.pop_front();
  FindGrowth(now.steady_s);
}

void Trend::FindGrowth(double now_s) {
  figures_.leak_mb_hour = 0;
  figures_.is_window_full = points_.front().steady_s <= now_s - leak_window_s_;
  if (!figures_.is_window_full) return;
  std::array<double, kGrowthParts> least;
  least.fill(std::numeric_limits<double>::infinity());
  const double part_s = leak_window_s_ / kGrowthParts;
  for (const Point& point : points_) {
    const double from_start = std::max(0.0, point.steady_s - (now_s - leak_window_s_));
    const auto part = std::min(static_cast<std::size_t>(from_start / part_s), kGrowthParts - 1);
    least[part] = std::min(least[part], point.live_mb);
  }
  const double mean = (least.back() - least.front()) / (kGrowthParts - 1);
  // A part without a point has no least, and nothing can be said.
  if (!std::isfinite(mean) || mean <= 0) return;
  for (std::size_t i = 1; i < kGrowthParts; ++i)
    if (!(least[i] - least[i - 1] >= kSteadyShare * mean)) return;
  figures_.leak_mb_hour = mean / part_s * 3600;
}

}  // namespace tarn::tool
