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

namespace {

// The length of "\033[1m" or "\033[32m" at the start, or 0.
std::size_t StyleLength(std::string_view text) {
  if (!text.starts_with("\033[")) return 0;
  std::size_t at = 2;
  while (at < text.size() && at < 4 && text[at] >= '0' && text[at] <= '9') ++at;
  return at > 2 && at < text.size() && text[at] == 'm' ? at + 1 : 0;
}

bool IsObeyed(std::string_view character) {
  const auto lead = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return (lead < 0x20 && lead != '\n' && lead != '\t') || lead == 0x7F;
  // U+0080 to U+009F.
  return lead == 0xC2 && static_cast<unsigned char>(character[1]) < 0xA0;
}

}  // namespace

std::string PrintableText(std::string_view text, bool keeps_styles) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const std::size_t style = keeps_styles ? StyleLength(text) : 0;
    const std::size_t line_end = text.starts_with("\r\n") ? 2 : 0;
    const std::size_t known = Utf8Length(text);
    const std::size_t length = style != 0 ? style : line_end != 0 ? line_end : std::max<std::size_t>(known, 1);
    const std::string_view part = text.substr(0, length);
    if (style != 0 || line_end != 0 || (known != 0 && !IsObeyed(part))) {
      result += part;
    } else {
      for (const char c : part) {
        const auto byte = static_cast<unsigned char>(c);
        result += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
      }
    }
    text.remove_prefix(length);
  }
  return result;
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
