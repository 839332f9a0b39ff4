// SPDX-License-Identifier: Apache-2.0
//
// RSS over time in a bounded number of points, however long the process runs.
#pragma once

#include <cstdint>
#include <vector>

namespace tarn::tool {

class RssSeries {
 public:
  struct Point {
    double seconds;
    std::uint64_t bytes;
  };
  static constexpr std::size_t kMaxPoints = 512;

  // When there are too many, of each two neighbours the larger one stays, so that no peak is lost. From then on points
  // come half as often. Calls come in the order of time.
  void Add(double seconds, std::uint64_t bytes) {
    if (skipped_ > 0 && bytes > points_.back().bytes) points_.back() = {seconds, bytes};
    if (skipped_ > 0) {
      --skipped_;
      return;
    }
    points_.push_back({seconds, bytes});
    skipped_ = stride_ - 1;
    if (points_.size() < kMaxPoints) return;
    for (std::size_t i = 0; i < kMaxPoints / 2; ++i) {
      const Point& a = points_[2 * i];
      const Point& b = points_[2 * i + 1];
      points_[i] = a.bytes > b.bytes ? a : b;
    }
    points_.resize(kMaxPoints / 2);
    stride_ *= 2;
    skipped_ = 0;
  }

  const std::vector<Point>& points() const { return points_; }

 private:
  std::vector<Point> points_;
  std::uint64_t stride_ = 1;   // calls for each point
  std::uint64_t skipped_ = 0;  // calls that still belong to the last point
};

}  // namespace tarn::tool
