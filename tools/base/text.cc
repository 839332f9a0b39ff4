// SPDX-License-Identifier: Apache-2.0

#include "tools/base/text.h"

#include <algorithm>

namespace tarn::tool {

std::size_t Utf8Length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  const std::size_t length = lead < 0x80   ? 1
                             : lead < 0xC2 ? 0
                             : lead < 0xE0 ? 2
                             : lead < 0xF0 ? 3
                             : lead < 0xF5 ? 4
                                           : 0;
  if (length == 0 || length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xC0) != 0x80) return 0;
  // Overlong forms, surrogates, and what lies beyond U+10FFFF.
  if (length == 3 && ((lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xED && byte(1) > 0x9F))) return 0;
  if (length == 4 && ((lead == 0xF0 && byte(1) < 0x90) || (lead == 0xF4 && byte(1) > 0x8F))) return 0;
  return length;
}

std::string EscapeHtml(std::string_view text) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  std::string escaped;
  escaped.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = Utf8Length(text);
    const auto lead = static_cast<unsigned char>(text.front());
    if (length > 1) {
      escaped += text.substr(0, length);
    } else if (lead == '&') {
      escaped += "&amp;";
    } else if (lead == '<') {
      escaped += "&lt;";
    } else if (lead == '>') {
      escaped += "&gt;";
    } else if (lead == '"') {
      escaped += "&quot;";
    } else if (lead == '\'') {
      escaped += "&#39;";
    } else if (length == 0 || (lead < 0x20 && lead != '\n' && lead != '\t') || lead == 0x7F) {
      escaped += kReplacement;
    } else {
      escaped += text.front();
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return escaped;
}

std::string HexDigits(std::span<const unsigned char> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string digits;
  for (const unsigned char byte : bytes) {
    digits += kDigits[byte >> 4];
    digits += kDigits[byte & 15];
  }
  return digits;
}

}  // namespace tarn::tool
