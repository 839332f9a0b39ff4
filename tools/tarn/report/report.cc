// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/report/report.h"

#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/tarn/report/document.h"
#include "tools/tarn/report/html.h"
#include "tools/tarn/report/judgement.h"
#include "tools/tarn/report/page.h"
#include "tools/tarn/report/sections.h"
// Made by CMake, so it has no path in the repository.
#include <report_assets.h>

namespace tarn::tool {

std::string RenderReport(const nlohmann::json& json) {
  using namespace report;
  const BenchDocument document = ParseDocument(json);
  std::string body = "<header><h1>tarn, compared</h1>\n";
  body += fmt::format("<p class=\"headline\">{}</p>\n", Escape(Headline(document)));
  std::string when;
  if (!document.started.empty()) when = "Measured " + document.started;
  for (const auto& [name, value] : document.machine) {
    if (name == "CPU" || name == "kernel") when += (when.empty() ? "" : " \xC2\xB7 ") + name + " " + value;
  }
  body += fmt::format("<p class=\"facts\">{}</p>\n", Escape(when));
  if (document.interrupted) {
    body += "<p class=\"warning\"><b>Interrupted:</b> what follows is what was measured until then.</p>\n";
  }
  std::string failures;
  for (const BenchWorkload& workload : document.workloads) {
    if (workload.errors.empty()) continue;
    std::set<std::string> names;
    for (const BenchError& error : workload.errors) names.insert(error.allocator);
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
    failures += fmt::format("<li><a href=\"#w-{}\">{}</a>: {} under {}: {}</li>", Identifier(workload.name),
                            Escape(workload.name), Counted(workload.errors.size(), "error", "errors"), Escape(list),
                            Escape(workload.errors.front().what));
  }
  if (!failures.empty()) {
    body += fmt::format("<div class=\"warning\"><b>Runs that failed, and are in no figure:</b><ul>{}</ul></div>\n",
                        failures);
  }
  body +=
      "<nav aria-label=\"sections\"><a href=\"#results\">Results</a> <a href=\"#scatter\">Speed and memory</a> "
      "<a href=\"#workloads\">Workloads</a> <a href=\"#machine\">Machine</a> <a href=\"#reading\">How to read</a>"
      "</nav></header>\n<main>\n";

  AppendMainTables(document, &body);
  AppendScatter(document, &body);
  AppendLatency(document, &body);
  AppendScaling(document, &body);
  AppendWorkloads(document, &body);
  AppendMachine(document, &body);

  if (!document.notes.empty()) {
    body += "<section><h2 id=\"notes\">Left out or cut short</h2><ul>";
    for (const std::string& note : document.notes) body += fmt::format("<li>{}</li>", Escape(note));
    body += "</ul></section>\n";
  }
  body += fmt::format("<section><h2 id=\"reading\">How to read this</h2>\n{}</section>\n</main>\n", kReportReading);
  return RenderPage("tarn, compared", body);
}

}  // namespace tarn::tool
