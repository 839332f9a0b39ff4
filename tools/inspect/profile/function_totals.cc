// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/profile/function_totals.h"

#include <algorithm>
#include <vector>

#include "tools/inspect/profile/visible_stacks.h"

namespace tarn::tool {

std::unordered_map<std::string, FunctionTotal> FunctionTotals(const Profile& profile, std::size_t sample_type) {
  // The total of each call, so that a name is looked up once.
  std::unordered_map<std::string, FunctionTotal> totals;
  std::vector<std::vector<FunctionTotal*>> by_call(profile.locations.size());
  for (std::size_t i = 0; i < by_call.size(); ++i) {
    const Profile::Location& location = profile.locations[i];
    for (const Profile::Line& line : location.lines) {
      const Profile::Function& function = profile.functions[line.function];
      FunctionTotal& total = totals[profile.Text(function.name)];
      if (total.place.empty() && function.file != 0) {
        total.place = profile.Text(function.file);
        if (function.start_line > 0) total.place += ":" + std::to_string(function.start_line);
      }
      by_call[i].push_back(&total);
    }
    if (location.lines.empty()) by_call[i].push_back(&totals[UnnamedPlace(profile, location)]);
  }

  const VisibleStacks stacks(profile);
  std::vector<StackCall> calls;
  std::vector<FunctionTotal*> stack;
  for (const Profile::Sample& sample : profile.samples) {
    stacks.Read(sample, &calls);
    stack.clear();
    for (const StackCall& call : calls) stack.push_back(by_call[call.location][call.line]);
    if (stack.empty()) continue;
    const std::int64_t value = sample.values[sample_type];
    stack.front()->self = SaturatingAdd(stack.front()->self, value);
    std::sort(stack.begin(), stack.end());
    stack.erase(std::unique(stack.begin(), stack.end()), stack.end());
    for (FunctionTotal* total : stack) total->with_callees = SaturatingAdd(total->with_callees, value);
  }
  return totals;
}

std::int64_t Total(const Profile& profile, std::size_t sample_type) {
  std::int64_t total = 0;
  for (const Profile::Sample& sample : profile.samples) total = SaturatingAdd(total, sample.values[sample_type]);
  return total;
}

}  // namespace tarn::tool
