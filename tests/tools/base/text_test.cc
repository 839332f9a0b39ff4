// SPDX-License-Identifier: Apache-2.0
//
// Texts from outside: which bytes are a UTF-8 character, and what becomes of the others in HTML.

#include "tools/base/text.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace tarn::tool {
namespace {

// As RFC 3629 has it, without a look at what is allowed.
std::string Encode(char32_t code, std::size_t length) {
  if (length == 1) return {static_cast<char>(code)};
  std::string text;
  for (std::size_t i = length - 1; i > 0; --i) {
    text.insert(text.begin(), static_cast<char>(0x80 | (code & 0x3F)));
    code >>= 6;
  }
  constexpr std::array<unsigned, 5> kLeads = {0, 0, 0xC0, 0xE0, 0xF0};
  text.insert(text.begin(), static_cast<char>(kLeads[length] | code));
  return text;
}

std::size_t LengthOf(char32_t code) { return code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4; }

TEST(Utf8Length, KnowsEveryCharacter) {
  for (char32_t code = 0; code <= 0x10FFFF; ++code) {
    const bool is_surrogate = code >= 0xD800 && code <= 0xDFFF;
    const std::size_t length = LengthOf(code);
    const std::string text = Encode(code, length);
    ASSERT_EQ(Utf8Length(text + "x"), is_surrogate ? 0 : length) << static_cast<unsigned>(code);
    if (length > 1) {
      ASSERT_EQ(Utf8Length(text.substr(0, length - 1)), 0u) << static_cast<unsigned>(code);
    }
  }
}

TEST(Utf8Length, RefusesWhatIsTooLongOrTooLarge) {
  for (char32_t code = 0; code < 0x10000; ++code)
    for (std::size_t length = LengthOf(code) + 1; length <= 4; ++length)
      ASSERT_EQ(Utf8Length(Encode(code, length)), 0u) << static_cast<unsigned>(code) << " in " << length;
  for (char32_t code = 0x110000; code < 0x200000; ++code)
    ASSERT_EQ(Utf8Length(Encode(code, 4)), 0u) << static_cast<unsigned>(code);
  EXPECT_EQ(Utf8Length("\x80"), 0u);
  EXPECT_EQ(Utf8Length("\xFF\xBF\xBF\xBF"), 0u);
}

TEST(EscapeHtml, LeavesNothingThatMarksUp) {
  EXPECT_EQ(EscapeHtml("a<b> & \"c\" 'd'"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;");
  EXPECT_EQ(EscapeHtml("\xC3\xA4\n\t"), "\xC3\xA4\n\t");
}

TEST(EscapeHtml, ReplacesWhatAPageMayNotHold) {
  EXPECT_EQ(EscapeHtml("a\x1B[1m\x7F"), "a\xEF\xBF\xBD[1m\xEF\xBF\xBD");
  EXPECT_EQ(EscapeHtml("\xC3<"), "\xEF\xBF\xBD&lt;");
}

TEST(PrintableText, LeavesNothingThatATerminalObeys) {
  EXPECT_EQ(PrintableText("a\n\tb\r\n \xC3\xA4\xE2\x82\xAC"), "a\n\tb\r\n \xC3\xA4\xE2\x82\xAC");
  EXPECT_EQ(PrintableText("\x1B]0;title\x07"), "\\x1b]0;title\\x07");
  // CSI as one character of Unicode, as a byte of another encoding, a carriage return over a line, and a zero byte.
  EXPECT_EQ(PrintableText("\xC2\x9B\x9B\rx\x7F"), "\\xc2\\x9b\\x9b\\x0dx\\x7f");
  EXPECT_EQ(PrintableText(std::string_view("\0", 1)), "\\x00");
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text(3, static_cast<char>(byte));
    for (const char c : PrintableText(text)) EXPECT_TRUE((c >= 0x20 && c < 0x7F) || c == '\n' || c == '\t') << byte;
  }
}

TEST(PrintableText, KeepsTheStylesOfTheTool) {
  EXPECT_EQ(PrintableText("\x1B[1mbold\x1B[0m \x1B[32mgood\x1B[0m", true), "\x1B[1mbold\x1B[0m \x1B[32mgood\x1B[0m");
  EXPECT_EQ(PrintableText("\x1B[1m"), "\\x1b[1m");
  for (const char* other : {"\x1B[2J", "\x1B[m", "\x1B[1;31m", "\x1B[123m", "\x1B[", "\x1B"})
    EXPECT_EQ(PrintableText(other, true), "\\x1b" + std::string(other + 1));
}

TEST(HexDigits, AreLowerCase) {
  const std::array<unsigned char, 3> bytes = {0x00, 0x7A, 0xFF};
  EXPECT_EQ(HexDigits(bytes), "007aff");
  EXPECT_EQ(HexDigits({}), "");
}

}  // namespace
}  // namespace tarn::tool
