// SPDX-License-Identifier: Apache-2.0
//
// tarn machine: the facts about this machine that a measurement depends on, and where threads can be placed.
#include "tools/tarn/machine.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tools/base/figures.h"
#include "tools/tarn/console.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

std::string Plain(const nlohmann::json& value) {
  if (value.is_null()) return "unknown";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{:.4g}", value.get<double>());
  if (!value.is_structured()) return value.dump();
  std::string text;
  for (const auto& [key, element] : value.items()) {
    text += (text.empty() ? "" : ", ") + (value.is_object() ? key + " " : "") + Plain(element);
  }
  return text;
}

std::string MachineText(const nlohmann::json& machine) {
  std::string text;
  for (const auto& [key, value] : machine.items()) {
    if (key == "topology" || key == "placements") continue;
    text += fmt::format("{:<16} {}\n", key, key == "memory_bytes" ? FormatBytes(value.get<double>()) : Plain(value));
  }
  if (machine["topology"].empty()) return text + "topology         unknown: this tool was built without hwloc\n";
  text += "topology\n";
  for (const auto& line : machine["topology"]) text += "  " + line.get<std::string>() + "\n";
  text += "placements, for tarn compare --pin\n";
  for (const auto& [policy, placement] : machine["placements"].items()) {
    const bool there = placement.contains("cpus");
    text += fmt::format("  {:<16} {:<10} {}\n", policy, there ? Plain(placement["cpus"]) : "-",
                        Plain(there ? placement["meaning"] : placement["why_not"]));
  }
  return text;
}

Prepared PrepareMachine() {
  return {{}, [](const Invocation& invocation) {
            const nlohmann::json machine = CollectMachine();
            WriteResult(invocation, invocation.json ? machine.dump(1) + "\n" : MachineText(machine));
            return static_cast<int>(kExitOk);
          }};
}

}  // namespace

extern const Verb kMachineVerb;
const Verb kMachineVerb = {
    .name = "machine",
    .summary = "show what a measurement depends on: CPU, kernel, huge pages, topology",
    .examples = {{"tarn machine", "print the facts and the topology"},
                 {"tarn machine --json", "the same as it stands in result documents"}},
    .details = "",
    .prepare = PrepareMachine,
};

}  // namespace tarn::tool
