// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/report/sections.h"

#include <utility>
#include <vector>

#include <fmt/format.h>

#include "tools/tarn/report/html.h"

namespace tarn::tool::report {
namespace {

void AppendFacts(const std::vector<std::pair<std::string, std::string>>& facts, std::string* out) {
  *out += "<dl>";
  for (const auto& [name, value] : facts) {
    if (!value.empty()) *out += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>", Escape(name), Escape(value));
  }
  *out += "</dl>\n";
}

}  // namespace

void AppendMachine(const BenchDocument& document, std::string* out) {
  *out += "<section><h2 id=\"machine\">Machine and versions</h2>\n";
  AppendFacts(document.machine, out);
  if (!document.topology.empty()) {
    *out += "<h3>Topology</h3><pre tabindex=\"0\">";
    for (const std::string& line : document.topology) *out += Escape(line) + "\n";
    *out += "</pre>\n";
  }
  *out += "<h3>tarn</h3>";
  std::vector<std::pair<std::string, std::string>> facts = document.build;
  facts.emplace_back("tool", document.tool_version);
  facts.emplace_back("started", document.started);
  facts.emplace_back("finished", document.finished);
  if (document.seed) facts.emplace_back("seed of the order", fmt::format("{:.0f}", *document.seed));
  facts.emplace_back("command", document.command_line);
  AppendFacts(facts, out);
  *out +=
      "<h3>Allocators</h3>\n<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"allocators\">"
      "<table class=\"plain hashes\"><thead><tr><th scope=\"col\">name</th><th scope=\"col\">package</th>"
      "<th scope=\"col\">file</th><th scope=\"col\">SHA-256</th><th scope=\"col\">build id</th></tr></thead><tbody>";
  for (const BenchAllocator& allocator : document.allocators) {
    *out += fmt::format(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td><code>{}</code></td><td><code>{}</code></td>"
        "<td><code>{}</code></td></tr>\n",
        Escape(allocator.name), Escape(allocator.package), Escape(allocator.path), Escape(allocator.sha256),
        Escape(allocator.build_id));
  }
  *out += "</tbody></table></div></section>\n";
}

}  // namespace tarn::tool::report
