// SPDX-License-Identifier: Apache-2.0
//
// Text for manual pages.
#pragma once

#include <string>
#include <string_view>

namespace tarn {

// Escapes what roff(7) takes for a command: backslashes and dashes, and a dot or a quote at the start of a line. What
// stands between backquotes becomes bold.
inline std::string Roff(std::string_view text) {
  std::string escaped;
  bool code = false;
  for (const char c : text) {
    if (c == '`') {
      code = !code;
      escaped += code ? "\\fB" : "\\fR";
    } else if (c == '\\') {
      escaped += "\\e";
    } else if (c == '-') {
      escaped += "\\-";
    } else {
      if ((c == '.' || c == '\'') && (escaped.empty() || escaped.back() == '\n')) escaped += "\\&";
      escaped += c;
    }
  }
  return escaped;
}

}  // namespace tarn
