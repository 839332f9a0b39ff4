// SPDX-License-Identifier: Apache-2.0
//
// tarn report: what result documents of `tarn compare --json` and bench/run say, as a table and as a page.
#include "tools/tarn/report/report.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tools/tarn/console.h"
#include "tools/tarn/report/before_after.h"
#include "tools/tarn/report/summary.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

struct ReportOptions {
  std::string file;
  std::string after;  // the second, where two are compared
  double threshold_percent = 3;
  bool markdown = false;
};

nlohmann::json ReadJson(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw ToolError(fmt::format("cannot read {}: {}", path, strerror(errno)));
  std::ostringstream content;
  content << file.rdbuf();
  try {
    return nlohmann::json::parse(content.str());
  } catch (const nlohmann::json::parse_error& problem) {
    throw ToolError(
        fmt::format("{} is not JSON, or was cut short (at byte {}); `tarn compare --json -o FILE` writes such files",
                    path, problem.byte));
  }
}

// Any kind of mistake in the document comes with the name of its file.
template <typename Read>
auto OfFile(const std::string& path, Read read) {
  const nlohmann::json content = ReadJson(path);
  try {
    return read(content);
  } catch (const std::runtime_error& problem) {
    throw ToolError(fmt::format("{}: {}", path, problem.what()));
  }
}

// The table goes to stdout, and the page to the file of -o; with --json one document goes to either.
void Write(const Invocation& invocation, const nlohmann::json& summary, const std::string& table,
           const std::string& page) {
  if (invocation.json) {
    WriteResult(invocation, summary.dump(1) + "\n");
    return;
  }
  if (!invocation.quiet) WriteStdout(table);
  if (invocation.output != "-") WriteFile(invocation.output, page);
}

int ReportOne(const Invocation& invocation, const ReportOptions& options) {
  OfFile(options.file, [&](const nlohmann::json& content) {
    const report::BenchDocument document = report::ParseDocument(content);
    if (options.markdown) {
      WriteResult(invocation, report::ReportMarkdown(document));
      return 0;
    }
    const bool wants_page = invocation.output != "-" && !invocation.json;
    Write(invocation, report::ReportJson(document), report::ReportText(document),
          wants_page ? RenderReport(content) : "");
    return 0;
  });
  return kExitOk;
}

int ReportTwo(const Invocation& invocation, const ReportOptions& options) {
  const auto before = OfFile(options.file, report::ParseDocument);
  const auto after = OfFile(options.after, report::ParseDocument);
  const report::Comparison comparison = report::CompareDocuments(before, after, options.threshold_percent / 100);
  if (comparison.changes.empty()) {
    throw ToolError(
        fmt::format("{} and {} have no workload in common that can be compared: the names, the commands or "
                    "the allocators differ; bench/run with the same options gives files that do",
                    options.file, options.after));
  }
  Write(invocation, report::ComparisonJson(comparison), report::ComparisonText(comparison),
        report::ComparisonPage(comparison, options.file, options.after));
  return comparison.regression() ? kExitFinding : kExitOk;
}

int RunReport(const ReportOptions& options, const Invocation& invocation) {
  if (options.markdown && (invocation.json || !options.after.empty()))
    throw UsageError("--markdown is for one file, and excludes --json");
  return options.after.empty() ? ReportOne(invocation, options) : ReportTwo(invocation, options);
}

Prepared PrepareReport() {
  auto o = std::make_shared<ReportOptions>();
  return {
      {{"FILE", "FILE", "a result document", &o->file},
       {"[AFTER]", "FILE", "the one after a change, to compare the two", &o->after},
       {"--threshold", "PERCENT", "per cent within which a change counts as none (3)", &o->threshold_percent, 0, 100},
       {"--markdown", "", "the table as Markdown, with the machine and the versions", &o->markdown}},
      [o](const Invocation& invocation) { return RunReport(*o, invocation); }};
}

}  // namespace

extern const Verb kReportVerb;
const Verb kReportVerb = {
    .name = "report",
    .summary = "turn results of compare and bench/run into a page, or compare two of them",
    .examples = {{"tarn report results.json -o report.html", "print the table, write the page"},
                 {"tarn report results.json --markdown", "the table for a document"},
                 {"tarn report before.json after.json", "what a change has made better or worse"}},
    .details =
        "The page is one file that works offline. With two files, a change counts where its whole 99 % interval lies "
        "beyond the threshold; the exit code is 3 if one is a regression.",
    .prepare = PrepareReport,
};

}  // namespace tarn::tool
