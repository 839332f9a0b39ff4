// SPDX-License-Identifier: Apache-2.0
//
// Finds the one of many address ranges that an address is in.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tarn::tool {

// Ranges may overlap; the one that starts last wins, which is the inner one of two nested ones. Add all, Sort once,
// then Find.
template <typename Value>
class RangeMap {
 public:
  // Covers start <= address < end.
  void Add(std::uint64_t start, std::uint64_t end, Value value) {
    if (start < end) ranges_.push_back({start, end, 0, value});
  }

  void Sort() {
    std::stable_sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) { return a.start < b.start; });
    std::uint64_t largest = 0;
    for (Range& range : ranges_) range.largest_end = largest = std::max(largest, range.end);
  }

  // Null where no range covers the address.
  const Value* Find(std::uint64_t address) const {
    auto after = std::upper_bound(ranges_.begin(), ranges_.end(), address,
                                  [](std::uint64_t wanted, const Range& range) { return wanted < range.start; });
    while (after != ranges_.begin()) {
      --after;
      if (address < after->end) return &after->value;
      if (address >= after->largest_end) break;
    }
    return nullptr;
  }

  bool empty() const { return ranges_.empty(); }

 private:
  struct Range {
    std::uint64_t start;
    std::uint64_t end;
    std::uint64_t largest_end;  // of this range and all before it
    Value value;
  };
  std::vector<Range> ranges_;
};

}  // namespace tarn::tool
