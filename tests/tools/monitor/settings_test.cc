// SPDX-License-Identifier: Apache-2.0
//
// The settings of `tarn serve`: its file, targets, thresholds and limits.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/base/error.h"
#include "tools/inspect/requests.h"
#include "tools/monitor/alerts.h"
#include "tools/monitor/settings.h"
#include "tools/monitor/target_spec.h"
#include "tools/monitor/watched.h"

namespace tarn::tool {
namespace {

std::string Complaint(const std::string& text) {
  MonitorSettings settings;
  try {
    ApplySettings(text, "file", &settings);
  } catch (const ToolError& error) {
    EXPECT_EQ(error.exit_code(), kExitConfiguration);
    return error.what();
  }
  return "";
}

TEST(Settings, AreRead) {
  MonitorSettings settings;
  ApplySettings(R"({"listen": "[::1]:1", "allow_hosts": ["a", "b"], "interval": "500ms", "leak_window": "1h",
                    "clear_below": 0.5, "clear_after": 3, "thresholds": {"heap_mb": 7, "pause_ms": "off"}})",
                "file", &settings);
  EXPECT_EQ(settings.listen, "[::1]:1");
  EXPECT_EQ(settings.allow_hosts.size(), 2u);
  EXPECT_EQ(settings.interval_s, 0.5);
  EXPECT_EQ(settings.alerts.leak_window_s, 3600);
  EXPECT_EQ(settings.alerts.clear_below, 0.5);
  EXPECT_EQ(settings.alerts.clear_after, 3);
  EXPECT_EQ(settings.alerts.thresholds.at("heap_mb"), 7);
  EXPECT_FALSE(settings.alerts.thresholds.contains("pause_ms"));
  EXPECT_EQ(settings.alerts.thresholds.at("alloc_rate_mb_sec"), 50);
}

TEST(Settings, AreCheckedStrictly) {
  EXPECT_EQ(Complaint("{}"), "");
  EXPECT_EQ(Complaint(R"({"intervall": "5s"})"), "file: unknown key intervall; did you mean interval?");
  EXPECT_EQ(Complaint(R"({"thresholds": {"heap_md": 1}})"), "file: unknown key heap_md; did you mean heap_mb?");
  EXPECT_EQ(Complaint(R"({"interval": "5s", "interval": "6s"})"), "file: interval is set twice");
  for (const char* wrong :
       {"", "[]", "{", "{\"interval\": 5}", "{\"interval\": \"5\"}", "{\"interval\": \"-5s\"}",
        "{\"interval\": \"1ms\"}", "{\"thresholds\": {\"heap_mb\": \"on\"}}", "{\"thresholds\": {\"heap_mb\": -1}}",
        "{\"thresholds\": 1}", "{\"clear_after\": 1.5}", "{\"clear_after\": 0}", "{\"clear_below\": 2}",
        "{\"allow_hosts\": \"a\"}", "{\"listen\": 9464}"})
    EXPECT_TRUE(Complaint(wrong).starts_with("file: ")) << wrong << ": " << Complaint(wrong);
}

TEST(Settings, Targets) {
  MonitorSettings settings;
  ApplySettings(R"({"allow_control": true,
                    "targets": [{"name": "nginx", "label": "web"}, {"pid_file": "/run/a.pid"}, {"pid": 4711}]})",
                "file", &settings);
  EXPECT_TRUE(settings.allow_control);
  ASSERT_EQ(settings.targets.size(), 3u);
  EXPECT_EQ(settings.targets[0].label, "web");
  EXPECT_EQ(settings.targets[0].by, Watched::By::kName);
  EXPECT_EQ(settings.targets[1].what, "/run/a.pid");
  EXPECT_EQ(settings.targets[2].what, "4711");
  EXPECT_EQ(Complaint(R"({"targets": [{"nam": "x"}]})"), "file: unknown key nam; did you mean name?");
  for (const char* wrong :
       {R"({"targets": {}})", R"({"targets": []})", R"({"targets": ["nginx"]})", R"({"targets": [{}]})",
        R"({"targets": [{"label": "x"}]})", R"({"targets": [{"name": "x", "pid": 1}]})",
        R"({"targets": [{"name": "x", "name": "y"}]})", R"({"targets": [{"name": ""}]})",
        R"({"targets": [{"name": 1}]})", R"({"targets": [{"pid": "1"}]})", R"({"targets": [{"pid": 0}]})",
        R"({"targets": [{"pid": 1.5}]})", R"({"targets": [{"pid": 1e99}]})",
        R"({"targets": [{"name": "x", "label": ""}]})", R"({"targets": [{"name": "x", "label": "a/b"}]})",
        R"({"targets": [{"name": "x"}, {"name": "x"}]})",
        R"({"targets": [{"name": "x", "label": "l"}, {"name": "y", "label": "l"}]})", R"({"allow_control": 1})"})
    EXPECT_TRUE(Complaint(wrong).starts_with("file: ")) << wrong << ": " << Complaint(wrong);
}

std::vector<std::string> LabelsOf(std::vector<TargetSpec> specs) {
  GiveLabels(&specs);
  std::vector<std::string> labels;
  for (const TargetSpec& spec : specs) labels.push_back(spec.label);
  return labels;
}

TEST(TargetSpecs, Labels) {
  using By = Watched::By;
  const auto spec = [](By by, const char* text) { return ParseTargetSpec(by, text); };
  EXPECT_EQ(spec(By::kName, "web=nginx").label, "web");
  EXPECT_EQ(spec(By::kName, "web=nginx").what, "nginx");
  EXPECT_EQ(spec(By::kName, "x=a=b").what, "a=b");
  EXPECT_EQ(spec(By::kPidFile, "/run/a=b.pid").what, "/run/a=b.pid");
  EXPECT_EQ(spec(By::kPid, "web=4711").what, "4711");
  for (const char* wrong : {"", "x", "web=", "web=x", "0", "-1"})
    EXPECT_THROW(spec(By::kPid, wrong), UsageError) << wrong;

  const std::string own = std::to_string(getpid());
  const std::string name = ProcessName(getpid());
  EXPECT_EQ(LabelsOf({{By::kPid, own, ""}}), std::vector<std::string>{name});
  EXPECT_EQ(LabelsOf({{By::kPid, own, ""}, {By::kName, name, ""}}), (std::vector<std::string>{name + "-" + own, name}));
  EXPECT_EQ(LabelsOf({{By::kName, "a b", ""}, {By::kName, "a_b", ""}, {By::kPidFile, "/run/a_b.pid", ""}}),
            (std::vector<std::string>{"a_b", "a_b-2", "a_b-3"}));
  // A target that was given a label has it.
  EXPECT_EQ(LabelsOf({{By::kName, "x", ""}, {By::kName, "y", "x"}}), (std::vector<std::string>{"x-2", "x"}));
  EXPECT_EQ(LabelsOf({{By::kName, "(sd-pam)", ""}, {By::kPidFile, "/run/.pid", ""}, {By::kName, "..", ""}}),
            (std::vector<std::string>{"sd-pam_", "pid", "target"}));
  EXPECT_THROW(LabelsOf({{By::kName, "x", "a"}, {By::kName, "y", "a"}}), UsageError);
  EXPECT_THROW(LabelsOf({{By::kName, "x", "a"}, {By::kName, "x", "b"}}), UsageError);
  EXPECT_EQ(LabelsOf({{By::kName, std::string(200, 'x'), ""}})[0].size(), 48u);
  for (const char* wrong : {"", ".", "..", "-a", "_a", "a/b", "a b", "\xC3\xA4"})
    EXPECT_FALSE(IsTargetLabel(wrong)) << wrong;
}

TEST(Requests, Limits) {
  EXPECT_EQ(ParseLimit("256MiB"), std::uint64_t{256} << 20);
  EXPECT_EQ(ParseLimit("1048576"), std::uint64_t{1} << 20);
  EXPECT_EQ(ParseLimit("1048576B"), std::uint64_t{1} << 20);
  EXPECT_EQ(ParseLimit("64TiB"), std::uint64_t{64} << 40);
  EXPECT_EQ(ParseLimit("off"), kNoLimit);
  EXPECT_EQ(ParseLimit("auto"), kAutoLimit);
  for (const char* wrong : {"", "0", "1", "1023KiB", "65TiB", "16777216TiB", "18446744073709551616", "-1MiB", "1.5GiB",
                            "1 GiB", "1GB", "1gib", "MiB", "none", "50%"})
    EXPECT_EQ(ParseLimit(wrong), std::nullopt) << wrong;
}

TEST(Settings, ThresholdsOfTheCommandLine) {
  AlertSettings settings = DefaultAlertSettings();
  ApplyThreshold("heap_mb=2000.5", &settings);
  ApplyThreshold("pause_ms=off", &settings);
  EXPECT_EQ(settings.thresholds.at("heap_mb"), 2000.5);
  EXPECT_FALSE(settings.thresholds.contains("pause_ms"));
  for (const char* wrong :
       {"", "heap=1", "heap_mb", "heap_mb=", "heap_mb=x", "heap_mb=-1", "heap_mb=nan", "heap_mb=1x"})
    EXPECT_THROW(ApplyThreshold(wrong, &settings), UsageError) << wrong;
}

}  // namespace
}  // namespace tarn::tool
