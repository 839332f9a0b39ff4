// SPDX-License-Identifier: Apache-2.0
//
// Text for pages: escaping, and figures as people read them.
#pragma once

#include <string>
#include <string_view>

#include "tools/base/text.h"

namespace tarn::tool::report {

inline std::string Escape(std::string_view text) { return EscapeHtml(text); }

// For an id or the part of an address after '#': what is not a letter, digit, '_', '-' or '.' becomes "-xx".
std::string Identifier(std::string_view text);

// "12.3 M" and the like; whole below a thousand.
std::string Count(double count);
// "0.83", "12.4": a ratio with as many digits as mean something.
std::string Ratio(double ratio);
// By the unit in a measure's name: _s, _ns and the like at its end, bytes anywhere, or a plain count.
std::string Figure(std::string_view measure, double value);
// True if that unit is bytes.
bool IsBytes(std::string_view measure);
// "p99 of malloc" for "metrics.latency_ns.malloc.p99", "peak RSS" for "peak_rss_bytes", and so on.
std::string MeasureTitle(std::string_view measure);

}  // namespace tarn::tool::report
