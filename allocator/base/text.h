// SPDX-License-Identifier: Apache-2.0
//
// Formatting into caller's memory, for code that may neither allocate nor use stdio.
//
// A Text is a bounded buffer on the stack: what does not fit is cut, never written beyond the end.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tarn {

// The two in place of members of string_view that are made of a check which throws: where the compiler does not see
// through it, the library would need libstdc++.
constexpr bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() && std::string_view(text.data(), prefix.size()) == prefix;
}
// Copies at most `most` characters, without a zero at the end. Returns their number.
constexpr std::size_t CopyText(std::string_view text, char* to, std::size_t most) {
  const std::size_t length = std::min(text.size(), most);
  std::copy_n(text.data(), length, to);
  return length;
}

template <std::size_t kCapacity>
class Text {
 public:
  Text& operator<<(std::string_view text) {
    for (char c : text) Append(c);
    return *this;
  }
  Text& operator<<(const char* text) { return *this << std::string_view(text); }
  Text& operator<<(std::uint64_t number) { return Number(number, 10); }
  Text& operator<<(std::uint32_t number) { return Number(number, 10); }
  Text& operator<<(int number) {
    if (number < 0) Append('-');
    return Number(number < 0 ? 0 - static_cast<std::uint64_t>(number) : static_cast<std::uint64_t>(number), 10);
  }
  // 0x and lower-case digits, as debuggers print addresses.
  Text& Hex(std::uint64_t number) {
    *this << "0x";
    return Number(number, 16);
  }
  // Right-aligned in `width` columns.
  Text& Padded(std::uint64_t number, std::size_t width) {
    std::size_t digits = 1;
    for (std::uint64_t rest = number; rest >= 10; rest /= 10) ++digits;
    for (; digits < width; ++digits) Append(' ');
    return *this << number;
  }
  // Mebibytes with one decimal, rounded down.
  Text& Mebibytes(std::uint64_t bytes) {
    return *this << (bytes >> 20) << "." << (((bytes & ((1u << 20) - 1)) * 10) >> 20) << " MiB";
  }

  std::string_view view() const { return {text_, size_}; }
  void Clear() { size_ = 0; }

 private:
  void Append(char c) {
    if (size_ < kCapacity) text_[size_++] = c;
  }
  Text& Number(std::uint64_t number, std::uint64_t base) {
    char digits[20];
    std::size_t count = 0;
    do {
      digits[count++] = "0123456789abcdef"[number % base];
      number /= base;
    } while (number != 0);
    while (count != 0) Append(digits[--count]);
    return *this;
  }

  std::size_t size_ = 0;
  char text_[kCapacity];
};

}  // namespace tarn
