// SPDX-License-Identifier: Apache-2.0
//
// Figures as people read them, with the three digits that count.
#pragma once

#include <string>

namespace tarn::tool {

// Three significant digits, without an exponent; whole above a hundred.
std::string ThreeDigits(double value);

// "812 MiB", "1.50 GiB", "640 KiB", "17 B".
std::string FormatBytes(double bytes);

// "4.12 s", "345 ms", "12.5 µs", "85.0 ns".
std::string FormatSeconds(double seconds);

}  // namespace tarn::tool
