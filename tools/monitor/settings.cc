// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "tools/base/error.h"
#include "tools/base/suggestion.h"

namespace tarn::tool {

namespace {

constexpr double kMinIntervalSeconds = 0.1;
constexpr double kMaxIntervalSeconds = 3600;
constexpr double kMinWindowSeconds = 1;
constexpr double kMaxWindowSeconds = 7 * 86400;

std::vector<std::string_view> RuleNames() {
  std::vector<std::string_view> names;
  for (const AlertRule& rule : AlertRules()) names.push_back(rule.name);
  return names;
}

std::optional<double> ParseNumber(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(number)) return std::nullopt;
  return number;
}

// Reads one file; knows where it is for the messages.
class SettingsReader {
 public:
  SettingsReader(const std::string& name, MonitorSettings* settings) : name_(name), settings_(settings) {}

  void Read(std::string_view text) {
    nlohmann::json document;
    try {
      // Of two equal keys the library would keep the last without a word.
      std::vector<std::set<std::string>> keys;
      document =
          nlohmann::json::parse(text, [&](int, nlohmann::json::parse_event_t event, const nlohmann::json& parsed) {
            using Event = nlohmann::json::parse_event_t;
            if (event == Event::object_start) keys.emplace_back();
            if (event == Event::object_end) keys.pop_back();
            if (event == Event::key && !keys.back().insert(parsed.get<std::string>()).second)
              Fail(fmt::format("{} is set twice", parsed.get<std::string>()));
            return true;
          });
    } catch (const nlohmann::json::parse_error& error) {
      // The library's text begins with its own number of the error.
      const std::string what = error.what();
      const std::size_t start = what.find("] ");
      Fail(start == std::string::npos ? what : what.substr(start + 2));
    }
    if (!document.is_object()) Fail("an object {\"...\": ...} is expected");
    for (const auto& [key, value] : document.items()) Apply(key, value);
  }

 private:
  [[noreturn]] void Fail(const std::string& complaint) const {
    throw ToolError(fmt::format("{}: {}", name_, complaint), kExitConfiguration);
  }
  [[noreturn]] void FailUnknown(const std::string& key, const std::vector<std::string_view>& known) const {
    Fail(fmt::format("unknown key {}{}", key, Suggestion(key, known)));
  }

  void Apply(const std::string& key, const nlohmann::json& value) {
    AlertSettings& alerts = settings_->alerts;
    if (key == "listen") {
      settings_->listen = Text(key, value);
    } else if (key == "allow_hosts") {
      if (!value.is_array()) Fail("allow_hosts: a list of names is expected");
      for (const nlohmann::json& host : value) settings_->allow_hosts.push_back(Text(key, host));
    } else if (key == "interval") {
      settings_->interval_s = Duration(key, value, kMinIntervalSeconds, kMaxIntervalSeconds);
    } else if (key == "leak_window") {
      alerts.leak_window_s = Duration(key, value, kMinWindowSeconds, kMaxWindowSeconds);
    } else if (key == "clear_below") {
      alerts.clear_below = Number(key, value, 0, 1);
    } else if (key == "clear_after") {
      if (!value.is_number_integer()) Fail("clear_after: a whole number is expected");
      alerts.clear_after = static_cast<int>(Number(key, value, 1, 1000));
    } else if (key == "thresholds") {
      if (!value.is_object()) Fail("thresholds: an object is expected");
      for (const auto& [rule, threshold] : value.items()) ApplyRule(rule, threshold);
    } else if (key == "allow_control") {
      if (!value.is_boolean()) Fail("allow_control: true or false is expected");
      settings_->allow_control = value.get<bool>();
    } else if (key == "targets") {
      ApplyTargets(value);
    } else {
      FailUnknown(key, {"listen", "allow_hosts", "interval", "leak_window", "clear_below", "clear_after", "thresholds",
                        "targets", "allow_control"});
    }
  }

  void ApplyTargets(const nlohmann::json& list) {
    if (!list.is_array() || list.empty()) Fail("targets: a list of objects is expected");
    std::vector<TargetSpec>& targets = settings_->targets;
    for (const nlohmann::json& value : list) targets.push_back(ReadTarget(value));
    try {
      std::vector<TargetSpec> labelled = targets;
      GiveLabels(&labelled);
    } catch (const UsageError& error) {
      Fail(fmt::format("targets: {}", error.what()));
    }
  }

  TargetSpec ReadTarget(const nlohmann::json& value) const {
    if (!value.is_object()) Fail("targets: each is an object, as {\"name\": \"nginx\"}");
    TargetSpec target;
    int ways = 0;
    for (const auto& [key, what] : value.items()) {
      if (key == "label") {
        target.label = Text(key, what);
        if (!IsTargetLabel(target.label))
          Fail(fmt::format(
              "label: \"{}\" cannot be one; it has letters, digits, dots, dashes and underscores, at most 64",
              target.label));
        continue;
      }
      ++ways;
      if (key == "pid") {
        if (!what.is_number_integer()) Fail("pid: a whole number is expected");
        target.by = Watched::By::kPid;
        target.what = std::to_string(static_cast<pid_t>(Number(key, what, 1, std::numeric_limits<pid_t>::max())));
      } else if (key == "name" || key == "pid_file") {
        target.by = key == "name" ? Watched::By::kName : Watched::By::kPidFile;
        target.what = Text(key, what);
        if (target.what.empty()) Fail(fmt::format("{}: it is empty", key));
      } else {
        FailUnknown(key, {"pid", "name", "pid_file", "label"});
      }
    }
    if (ways != 1) Fail("targets: each has one of pid, name and pid_file");
    return target;
  }

  void ApplyRule(const std::string& rule, const nlohmann::json& threshold) {
    const auto names = RuleNames();
    if (std::ranges::find(names, rule) == names.end()) FailUnknown(rule, names);
    if (threshold == "off") {
      settings_->alerts.thresholds.erase(rule);
    } else {
      settings_->alerts.thresholds[rule] = Number(rule, threshold, 0, 1e15);
    }
  }

  std::string Text(const std::string& key, const nlohmann::json& value) const {
    if (!value.is_string()) Fail(fmt::format("{}: a text is expected", key));
    return value.get<std::string>();
  }
  double Number(const std::string& key, const nlohmann::json& value, double least, double most) const {
    if (!value.is_number()) Fail(fmt::format("{}: a number is expected, not {}", key, value.dump()));
    const auto number = value.get<double>();
    if (!(number >= least && number <= most))
      Fail(fmt::format("{}: a number from {:g} to {:g} is expected, not {}", key, least, most, value.dump()));
    return number;
  }
  double Duration(const std::string& key, const nlohmann::json& value, double least, double most) const {
    const auto seconds = value.is_string() ? ParseSeconds(value.get<std::string>()) : std::nullopt;
    if (!seconds || *seconds < least || *seconds > most)
      Fail(fmt::format("{}: a time from {:g}s to {:g}s is expected, as \"10s\" or \"5m\", not {}", key, least, most,
                       value.dump()));
    return *seconds;
  }

  const std::string& name_;
  MonitorSettings* settings_;
};

}  // namespace

void ApplySettings(std::string_view text, const std::string& name, MonitorSettings* settings) {
  SettingsReader(name, settings).Read(text);
}

void ApplySettingsFile(const std::string& path, MonitorSettings* settings) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file.is_open() || file.bad())
    throw ToolError(fmt::format("the settings file {} cannot be read", path), kExitConfiguration);
  ApplySettings(text, path, settings);
}

void CheckSettings(const MonitorSettings& settings) {
  const auto check = [](std::string_view what, double seconds, double least, double most) {
    if (!(seconds >= least && seconds <= most))
      throw UsageError(
          fmt::format("{}: a time from {:g}s to {:g}s is expected, not {:g}s", what, least, most, seconds));
  };
  check("interval", settings.interval_s, kMinIntervalSeconds, kMaxIntervalSeconds);
  check("leak_window", settings.alerts.leak_window_s, kMinWindowSeconds, kMaxWindowSeconds);
}

void ApplyThreshold(const std::string& text, AlertSettings* settings) {
  const std::size_t equals = text.find('=');
  const std::string rule = text.substr(0, equals);
  const auto names = RuleNames();
  if (std::ranges::find(names, rule) == names.end())
    throw UsageError(fmt::format("--threshold {}: unknown name {}{}; the names are {}", text, rule,
                                 Suggestion(rule, names), fmt::join(names, ", ")));
  const std::string value = equals == std::string::npos ? "" : text.substr(equals + 1);
  if (value == "off") {
    settings->thresholds.erase(rule);
    return;
  }
  const auto number = ParseNumber(value);
  if (!number || *number < 0)
    throw UsageError(fmt::format("--threshold {}: expected NAME=NUMBER or NAME=off, as in heap_mb=2000", text));
  settings->thresholds[rule] = *number;
}

std::optional<double> ParseSeconds(std::string_view text) {
  constexpr std::pair<std::string_view, double> kUnits[] = {{"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}};
  for (const auto& [unit, seconds] : kUnits) {
    if (!text.ends_with(unit)) continue;
    const auto number = ParseNumber(text.substr(0, text.size() - unit.size()));
    if (!number || *number < 0) return std::nullopt;
    return *number * seconds;
  }
  return std::nullopt;
}

}  // namespace tarn::tool
