// SPDX-License-Identifier: Apache-2.0

#include "tools/base/suggestion.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "allocator/base/nearest_name.h"

namespace tarn::tool {

std::string_view Nearest(std::string_view name, const std::vector<std::string_view>& names) {
  // Further away than a third of its length (and two letters) it is another word.
  NearestName nearest(std::max<std::size_t>(2, name.size() / 3));
  for (const std::string_view candidate : names) {
    // The beginning of a word counts as a near miss.
    const bool begins = name.size() > 1 && candidate.starts_with(name);
    nearest.Consider(candidate, begins ? 1 : EditDistance(name, candidate));
  }
  return nearest.name();
}

std::string Suggestion(std::string_view name, const std::vector<std::string_view>& names) {
  const std::string_view nearest = Nearest(name, names);
  return nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest);
}

}  // namespace tarn::tool
