// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/target_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "tools/base/error.h"
#include "tools/inspect/target.h"

namespace tarn::tool {

namespace {

constexpr std::size_t kMaxLabelBytes = 64;

bool IsLetterOrDigit(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

bool IsOfLabel(char c) { return IsLetterOrDigit(c) || c == '.' || c == '-' || c == '_'; }

std::string DefaultName(const TargetSpec& spec) {
  std::string name = spec.what;
  if (spec.by == Watched::By::kPid) name = ProcessName(ParsePid(spec.what));
  if (spec.by == Watched::By::kPidFile) name = std::filesystem::path(spec.what).stem().string();
  // Room for a number behind it.
  name = name.substr(0, kMaxLabelBytes - 16);
  for (char& c : name)
    if (!IsOfLabel(c)) c = '_';
  const auto start = std::ranges::find_if(name, IsLetterOrDigit);
  name.erase(name.begin(), start);
  return name.empty() ? "target" : name;
}

}  // namespace

bool IsTargetLabel(std::string_view text) {
  return !text.empty() && text.size() <= kMaxLabelBytes && IsLetterOrDigit(text[0]) &&
         std::ranges::all_of(text, IsOfLabel);
}

TargetSpec ParseTargetSpec(Watched::By by, const std::string& text) {
  TargetSpec spec{by, text, ""};
  const std::size_t equals = text.find('=');
  if (equals != std::string::npos && IsTargetLabel(text.substr(0, equals))) {
    spec.label = text.substr(0, equals);
    spec.what = text.substr(equals + 1);
  }
  if (spec.what.empty())
    throw UsageError(
        fmt::format("\"{}\" names no process; a number, a name or a file is expected, with LABEL= before it "
                    "if it is to have another label",
                    text));
  if (by == Watched::By::kPid) ParsePid(spec.what);
  return spec;
}

void GiveLabels(std::vector<TargetSpec>* specs) {
  if (specs->size() > kMaxTargets)
    throw UsageError(
        fmt::format("{} processes are too many for one server, which takes {}", specs->size(), kMaxTargets));
  std::set<std::string> labels;
  std::set<std::pair<Watched::By, std::string>> seen;
  std::map<std::string, int> uses;
  std::vector<std::string> names;
  for (const TargetSpec& spec : *specs) {
    if (!seen.emplace(spec.by, spec.what).second) throw UsageError(fmt::format("{} is named twice", spec.what));
    if (!spec.label.empty() && !labels.insert(spec.label).second)
      throw UsageError(fmt::format("two processes have the label {}", spec.label));
    names.push_back(spec.label.empty() ? DefaultName(spec) : spec.label);
    ++uses[names.back()];
  }
  for (std::size_t i = 0; i < specs->size(); ++i) {
    TargetSpec& spec = (*specs)[i];
    if (!spec.label.empty()) continue;
    const bool takes_number = spec.by == Watched::By::kPid && uses[names[i]] > 1;
    spec.label = takes_number ? fmt::format("{}-{}", names[i], spec.what) : names[i];
    for (int number = 2; !labels.insert(spec.label).second; ++number)
      spec.label = fmt::format("{}-{}", names[i], number);
  }
}

}  // namespace tarn::tool
