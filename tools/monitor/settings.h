// SPDX-License-Identifier: Apache-2.0
//
// The settings of the monitor: a file of JSON, and thresholds of the command line.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/monitor/alerts.h"
#include "tools/monitor/target_spec.h"

namespace tarn::tool {

struct MonitorSettings {
  std::string listen;               // empty: nothing was said
  std::vector<TargetSpec> targets;  // as they were named, so with or without labels
  std::vector<std::string> allow_hosts;
  double interval_s = 5;  // of the observations that alerts rest on
  AlertSettings alerts = DefaultAlertSettings();
  bool allow_control = false;  // the pages that change something
  // For this process: has the allocator look for requests from outside.
  std::function<void()> nudge = [] {};
};

// Sets what the text of a file sets. Checked as strictly as the environment is: throws ToolError with exit code 78 for
// an unknown or repeated key, or a value that cannot be used. `name` stands for the file in the message.
void ApplySettings(std::string_view text, const std::string& name, MonitorSettings* settings);

// Throws ToolError also when the file cannot be read.
void ApplySettingsFile(const std::string& path, MonitorSettings* settings);

// Of settings that come from elsewhere: throws UsageError where a time is out of its range.
void CheckSettings(const MonitorSettings& settings);

// "heap_mb=2000", "pause_ms=off". Throws UsageError.
void ApplyThreshold(const std::string& text, AlertSettings* settings);

// "5s", "1.5s", "500ms", "10m", "2h"; none where it is not a duration.
std::optional<double> ParseSeconds(std::string_view text);

}  // namespace tarn::tool
