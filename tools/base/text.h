// SPDX-License-Identifier: Apache-2.0
//
// Text from outside, which may hold any bytes, made fit for what it is written into.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace tarn::tool {

// The length of the UTF-8 character that `text`, which is not empty, begins with; 0 where it begins with none.
std::size_t Utf8Length(std::string_view text);

// For element content and quoted attributes of HTML. Control characters, which HTML forbids, become U+FFFD, and so does
// each byte that belongs to no UTF-8 character.
std::string EscapeHtml(std::string_view text);

// For people, also at a terminal: what a terminal would obey is shown in its place, as "\x1b". That is each control
// character, those of Unicode's second range too, and each byte that belongs to no UTF-8 character. Line ends and tabs
// stay. With `keeps_styles`, so do the sequences of SGR that the tool itself writes: "\033[", one or two digits, "m".
std::string PrintableText(std::string_view text, bool keeps_styles = false);

// Two lower-case digits for each byte.
std::string HexDigits(std::span<const unsigned char> bytes);

}  // namespace tarn::tool
