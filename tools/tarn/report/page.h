// SPDX-License-Identifier: Apache-2.0
//
// Shared by all pages and sections: the frame, legends, chips.
#pragma once

#include <string>
#include <vector>

#include "tools/tarn/report/document.h"

namespace tarn::tool::report {

// The frame of every page of ours: head, style, script; `body` goes into it as it is.
std::string RenderPage(const std::string& title, const std::string& body);

// The chip with the word, by the kind of verdict.
std::string RenderVerdict(const std::string& verdict);

// "[0.98, 1.02]"
std::string Interval(const RatioResult& ratio);

std::string RenderLegend(const std::vector<std::string>& allocators, bool control);

// A chart with its caption; nothing of an empty chart.
std::string Figured(const std::string& chart, const std::string& caption);

}  // namespace tarn::tool::report
