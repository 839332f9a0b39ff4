// SPDX-License-Identifier: Apache-2.0
//
// Rates, pauses and steady growth, from several observations of one process.
#pragma once

#include <cstdint>
#include <deque>

#include "tools/monitor/observation.h"

namespace tarn::tool {

inline constexpr double kMiB = 1 << 20;

struct TrendFigures {
  double alloc_rate_mb_sec = 0;
  double free_rate_mb_sec = 0;
  // The longest stall of a slow path since the observation before. Exact when it is the longest of the process's life;
  // otherwise the lower end of its class in the histogram, which is more than half of it.
  double pause_ms = 0;
  double stall_ms_sec = 0;      // stalls of all threads, per second
  double returned_mb_sec = 0;   // given back to the kernel
  double leak_mb_hour = 0;      // 0: no steady growth over the whole window
  bool is_window_full = false;  // leak_mb_hour means something
};

// Observations come in the order of time. All figures are of the last interval, but that of steady growth.
class Trend {
 public:
  explicit Trend(double leak_window_s) : leak_window_s_(leak_window_s) {}
  void Add(const Observation& now);
  const TrendFigures& figures() const { return figures_; }

 private:
  struct Point {
    double steady_s;
    double live_mb;
  };
  void FindGrowth(double now_s);

  double leak_window_s_;
  bool has_last_ = false;
  double last_s_ = 0;
  tarn_memstats_t last_{};
  std::deque<Point> points_;
  TrendFigures figures_;
};

}  // namespace tarn::tool
