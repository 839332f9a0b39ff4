// SPDX-License-Identifier: Apache-2.0
//
// tarn options: what can be set, or the settings in force in a running process, and where each comes from.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "allocator/settings/table.h"
#include "tools/base/json_text.h"
#include "tools/inspect/target.h"
#include "tools/tarn/console.h"
#include "tools/tarn/help.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

std::string_view SourceName(std::uint32_t source) {
  switch (source) {
    case TARN_SOURCE_DEFAULT:
      return "default";
    case TARN_SOURCE_PRESET:
      return "preset";
    case TARN_SOURCE_ENVIRONMENT:
      return "environment";
    case TARN_SOURCE_API:
      return "run time";
    default:
      return "unknown";
  }
}

// A text from the target, which need not end.
template <std::size_t kSize>
std::string FieldText(const char (&text)[kSize]) {
  return std::string(text, strnlen(text, kSize));
}

std::string_view KindName(SettingKind kind) {
  switch (kind) {
    case SettingKind::kSwitch:
      return "switch";
    case SettingKind::kChoice:
      return "choice";
    case SettingKind::kParts:
      return "parts";
    case SettingKind::kCount:
      return "count";
    case SettingKind::kBytes:
      return "bytes";
    case SettingKind::kTime:
      return "time";
    case SettingKind::kPercent:
      return "percent";
    case SettingKind::kLimit:
      return "limit";
    case SettingKind::kSignal:
      return "signal";
    case SettingKind::kPath:
      return "path";
  }
  return "unknown";
}

nlohmann::json SettingJson(const Setting& setting) {
  std::string text = setting.text;
  std::erase(text, '`');
  nlohmann::json row = {{"name", setting.name},
                        {"kind", KindName(setting.kind)},
                        {"values", setting.expected},
                        {"default", setting.default_value},
                        {"text", text}};
  // In bytes, milliseconds or the number itself; of a path, the bytes of its length.
  if (setting.most != 0) row.update({{"least", setting.least}, {"most", setting.most}});
  for (std::size_t preset = 0; preset < kPresetCount; ++preset) {
    if (setting.presets[preset][0] != '\0') row["presets"][kPresetNames[preset + 1]] = setting.presets[preset];
  }
  return row;
}

// Shows the settings there are, without a process.
int ShowSettings(const Invocation& invocation) {
  if (invocation.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const Setting& setting : kSettings) list.push_back(SettingJson(setting));
    WriteResult(invocation, JsonText({{"schema", "tarn-settings/1"}, {"settings", list}}));
    return kExitOk;
  }
  std::string text;
  for (const Setting& setting : kSettings) {
    std::string meaning = setting.text;
    std::erase(meaning, '`');
    text += fmt::format("{}={}\n    {}\n    {}\n", setting.name, setting.default_value,
                        Wrapped("takes " + std::string(setting.expected), 4), Wrapped(meaning, 4));
  }
  WriteResult(invocation, text);
  return kExitOk;
}

int ShowOptions(const std::string& pid, const Invocation& invocation) {
  if (pid.empty()) return ShowSettings(invocation);
  const Target target(ParsePid(pid));
  const std::vector<tarn_snapshot_option> options = target.Options();
  if (invocation.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const tarn_snapshot_option& option : options)
      list.push_back({{"name", FieldText(option.name)},
                      {"value", FieldText(option.value)},
                      {"source", SourceName(option.source)},
                      {"default", FieldText(option.default_value)}});
    const nlohmann::json document = {
        {"schema", "tarn-options/1"}, {"pid", target.pid()}, {"program", target.name()}, {"options", list}};
    WriteResult(invocation, JsonText(document));
    return kExitOk;
  }
  if (options.empty()) Note(invocation, "options: the library in that process does not tell its settings");
  std::size_t name_width = std::string_view("setting").size();
  std::size_t value_width = std::string_view("value").size();
  for (const tarn_snapshot_option& option : options) {
    name_width = std::max(name_width, FieldText(option.name).size());
    value_width = std::max(value_width, FieldText(option.value).size());
  }
  std::string text;
  auto add = [&](std::string_view name, std::string_view value, std::string_view source, std::string_view other) {
    text += fmt::format("{:{}}  {:{}}  {:11}  {}\n", name, name_width, value, value_width, source, other);
  };
  add("setting", "value", "from", "default");
  for (const tarn_snapshot_option& option : options)
    add(FieldText(option.name), FieldText(option.value), SourceName(option.source), FieldText(option.default_value));
  WriteResult(invocation, text);
  return kExitOk;
}

Prepared PrepareOptions() {
  auto pid = std::make_shared<std::string>();
  return {{{"[PID]", "PID", "a process that uses tarn; without it, what can be set", pid.get()}},
          [pid](const Invocation& invocation) { return ShowOptions(*pid, invocation); }};
}

}  // namespace

extern const Verb kOptionsVerb;
const Verb kOptionsVerb = {
    .name = "options",
    .summary = "show what can be set, or the settings in force in a process",
    .examples = {{"tarn options 4711", "each setting, its value, where it comes from, and its default"},
                 {"tarn options", "each setting with its default, what it takes and what it does"}},
    .details =
        "Settings come from a preset (TARN_PRESET), from the environment at the start of the program, or from what was "
        "set since (run time), by the program or by tarn limit. tarn run --set gives them to a command.",
    .prepare = PrepareOptions,
};

}  // namespace tarn::tool
