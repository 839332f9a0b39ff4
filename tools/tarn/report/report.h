// The report: one HTML file that tells what a result document says. It works offline and asks for nothing from outside.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "tools/tarn/report/document.h"

namespace tarn::tool {

// `document` is of the schema tarn-bench/1; std::runtime_error with a text for the user where it is not.
std::string RenderReport(const nlohmann::json& document);

}  // namespace tarn::tool

namespace tarn::tool::report {

// What stands at the top of the report, as plain text: wins, ties and losses of tarn against the reference and the best
// peer, the means, the largest loss, and what does not count.
std::string Headline(const BenchDocument& document);

// The main table, as text for the terminal: a row per workload with the ratios to the reference and the verdicts.
std::string ReportText(const BenchDocument& document);

// The same as JSON, schema tarn-report/1: the headline, and per workload what counts, ratios and verdicts.
nlohmann::json ReportJson(const BenchDocument& document);

// The frame of every page of ours: head, style, script; `body` goes into it as it is.
std::string RenderPage(const std::string& title, const std::string& body);

// The chip with the word, by the kind of verdict.
std::string RenderVerdict(const std::string& verdict);

}  // namespace tarn::tool::report
