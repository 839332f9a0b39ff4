// SPDX-License-Identifier: Apache-2.0
//
// The name that was probably meant by one that does not exist: "did you mean TARN_VERBOSE?".
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "allocator/base/attributes.h"

namespace tarn {

// Damerau's distance: insertions, deletions, replacements, swaps of neighbours. For names of more than 40 letters the
// length of the longer one, which is the most that it can be.
TARN_COLD constexpr std::size_t EditDistance(std::string_view a, std::string_view b) {
  constexpr std::size_t kLongest = 40;
  if (a.size() > kLongest || b.size() > kLongest) return std::max(a.size(), b.size());
  std::size_t rows[3][kLongest + 1] = {};
  for (std::size_t j = 0; j <= b.size(); ++j) rows[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t* row = rows[i % 3];
    const std::size_t* above = rows[(i + 2) % 3];
    const std::size_t* two_above = rows[(i + 1) % 3];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] == b[j - 1] ? 0u : 1u)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], two_above[j - 2] + 1);
    }
  }
  return rows[a.size() % 3][b.size()];
}

// Keeps the nearest of the names that it is shown; of two at the same distance, the first.
class NearestName {
 public:
  // A name at a distance of more than `most` is another word, not a misspelling.
  explicit constexpr NearestName(std::size_t most) : distance_(most + 1) {}

  constexpr void Consider(std::string_view name, std::size_t distance) {
    if (distance >= distance_) return;
    distance_ = distance;
    name_ = name;
  }
  // Empty: none is near.
  constexpr std::string_view name() const { return name_; }

 private:
  std::size_t distance_;
  std::string_view name_;
};

}  // namespace tarn
