// SPDX-License-Identifier: Apache-2.0
//
// The report without a page: for the terminal, for programs, and for a document in Markdown.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "tools/tarn/report/document.h"

namespace tarn::tool::report {

// A row per workload with the ratios to the reference and the verdicts, and the headline.
std::string ReportText(const BenchDocument& document);

// The same as a section of a document in Markdown, with the machine and the versions; losses are bold.
std::string ReportMarkdown(const BenchDocument& document);

// The same as JSON, schema tarn-report/1: the headline, and per workload what counts, ratios and verdicts.
nlohmann::json ReportJson(const BenchDocument& document);

}  // namespace tarn::tool::report
