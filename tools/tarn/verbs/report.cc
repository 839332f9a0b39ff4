// tarn report: what result documents of `tarn compare --json` and bench/run say, as a table and as a page.
#include "tools/tarn/report/report.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tools/tarn/console.h"
#include "tools/tarn/report/comparison.h"
#include "tools/tarn/report/summary.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

struct Settings {
  std::vector<std::string> files;
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
        fmt::format("{} is no JSON, or was cut short (at byte {}); `tarn compare --json -o FILE` writes such files",
                    path, problem.byte));
  }
}

// Any kind of mistake in the document comes with the name of its file.
template <typename Read>
auto OfFile(const std::string& path, Read read) {
  const nlohmann::json json = ReadJson(path);
  try {
    return read(json);
  } catch (const std::runtime_error& problem) {
    throw ToolError(fmt::format("{}: {}", path, problem.what()));
  }
}

// The table goes to stdout, and the page to the file of -o; with --json one document goes to either.
void Write(const Invocation& invocation, const nlohmann::json& json, const std::string& table,
           const std::string& page) {
  if (invocation.json) {
    WriteResult(invocation, json.dump(1) + "\n");
    return;
  }
  if (!invocation.quiet) WriteStdout(table);
  if (invocation.output != "-") WriteFile(invocation.output, page);
}

int ReportOne(const Invocation& invocation, const Settings& settings) {
  OfFile(settings.files[0], [&](const nlohmann::json& json) {
    const report::BenchDocument document = report::ParseDocument(json);
    if (settings.markdown) {
      WriteResult(invocation, report::ReportMarkdown(document));
      return 0;
    }
    const bool wants_page = invocation.output != "-" && !invocation.json;
    Write(invocation, report::ReportJson(document), report::ReportText(document), wants_page ? RenderReport(json) : "");
    return 0;
  });
  return kExitOk;
}

int ReportTwo(const Invocation& invocation, const Settings& settings) {
  const auto before = OfFile(settings.files[0], report::ParseDocument);
  const auto after = OfFile(settings.files[1], report::ParseDocument);
  const report::Comparison comparison = report::CompareDocuments(before, after, settings.threshold_percent / 100);
  if (comparison.changes.empty()) {
    throw ToolError(
        fmt::format("{} and {} have no workload in common that can be compared: the names, the commands or "
                    "the allocators differ; bench/run with the same options gives files that do",
                    settings.files[0], settings.files[1]));
  }
  Write(invocation, report::ComparisonJson(comparison), report::ComparisonText(comparison),
        report::ComparisonPage(comparison, settings.files[0], settings.files[1]));
  return comparison.regression() ? kExitFinding : kExitOk;
}

Action Declare(CLI::App& app) {
  auto settings = std::make_shared<Settings>();
  app.add_option("FILE", settings->files, "a result document, or two: before and after a change")
      ->required()
      ->expected(1, 2)
      ->type_name("FILE");
  app.add_option("--threshold", settings->threshold_percent, "per cent within which a change counts as none (3)")
      ->type_name("PERCENT")
      ->check(CLI::Range(0.0, 100.0).description(""));
  app.add_flag("--markdown", settings->markdown, "the table as Markdown, with the machine and the versions");
  return [settings](const Invocation& invocation) {
    if (settings->markdown && (invocation.json || settings->files.size() == 2))
      throw UsageError("--markdown is for one file, and excludes --json");
    return settings->files.size() == 2 ? ReportTwo(invocation, *settings) : ReportOne(invocation, *settings);
  };
}

}  // namespace

extern const Verb kReportVerb;
const Verb kReportVerb = {
    .name = "report",
    .summary = "turn results of compare and bench/run into a page, or compare two of them",
    .arguments = "FILE [FILE]",
    .examples = {{"tarn report results.json -o report.html", "print the table, write the page"},
                 {"tarn report results.json --markdown", "the table for a document"},
                 {"tarn report before.json after.json", "what a change has made better or worse"}},
    .details =
        "The page is one file that works offline. With two files, a change counts where its whole 99 % interval lies "
        "beyond the threshold; the exit code is 3 if one is a regression.",
    .declare = Declare,
};

}  // namespace tarn::tool
