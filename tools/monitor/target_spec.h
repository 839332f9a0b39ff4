// SPDX-License-Identifier: Apache-2.0
//
// A process to be watched, as the user names it, and its label.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "tools/monitor/watched.h"

namespace tarn::tool {

// Chosen: far more than share a machine, and a look at all of them takes a tenth of a second.
inline constexpr std::size_t kMaxTargets = 64;

struct TargetSpec {
  Watched::By by = Watched::By::kPid;
  std::string what;   // as Watched takes it
  std::string label;  // empty: GiveLabels finds one
};

// Letters, digits, dots, dashes and underscores, a letter or digit first, at most 64: a label is a part of paths.
bool IsTargetLabel(std::string_view text);

// "4711", "web=4711", "web=nginx", "/run/nginx.pid". The part before the first "=" is the label where it can be one. So
// a path with "=" needs none, as a rule. Throws UsageError.
TargetSpec ParseTargetSpec(Watched::By by, const std::string& text);

// Gives a label to each that has none: the name of the program, of a file that of the file; with the number of the
// process, or a number, where several would be called the same. Throws UsageError where two have the same label, two
// are the same, or there are too many.
void GiveLabels(std::vector<TargetSpec>* specs);

}  // namespace tarn::tool
