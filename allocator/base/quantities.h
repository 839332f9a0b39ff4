// SPDX-License-Identifier: Apache-2.0
//
// Quantities as text: numbers, bytes, times and shares, read strictly and printed exactly.
//
// For settings and command lines. Each Parse function takes the whole text or none of it: no sign, blank or fraction,
// nothing behind the unit. It returns false, and leaves the result alone, for a text of another form or a value above
// `most`. Parse takes everything that Exact prints. text.h and tools/base/figures.h have rounded figures, for people.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "allocator/base/attributes.h"

namespace tarn {

// A number and the unit behind it; the unit may be empty.
struct Quantity {
  std::uint64_t number;
  std::string_view unit;
};

namespace quantities {

// The name lies in the table itself: a pointer to it would have to be relocated in each process.
struct Unit {
  char name[4];
  unsigned shift;
};
// The largest first.
inline constexpr Unit kByteUnits[] = {{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"B", 0}, {"", 0}};

// Reads the digits at the start of the text; `rest` is what stands behind them.
TARN_COLD constexpr bool ParseDigits(std::string_view text, std::uint64_t most, std::uint64_t* number,
                                     std::string_view* rest) {
  std::uint64_t value = 0;
  std::size_t count = 0;
  for (; count < text.size() && text[count] >= '0' && text[count] <= '9'; ++count) {
    const auto digit = static_cast<std::uint64_t>(text[count] - '0');
    if (digit > most || value > (most - digit) / 10) return false;
    value = value * 10 + digit;
  }
  if (count == 0) return false;
  *number = value;
  *rest = {text.data() + count, text.size() - count};
  return true;
}

}  // namespace quantities

// "1024"
constexpr bool ParseNumber(std::string_view text, std::uint64_t most, std::uint64_t* number) {
  std::uint64_t value = 0;
  std::string_view rest;
  if (!quantities::ParseDigits(text, most, &value, &rest) || !rest.empty()) return false;
  *number = value;
  return true;
}

// "1536KiB": B, KiB, MiB, GiB, TiB, or no unit.
TARN_COLD constexpr bool ParseBytes(std::string_view text, std::uint64_t most, std::uint64_t* bytes) {
  std::uint64_t value = 0;
  std::string_view rest;
  if (!quantities::ParseDigits(text, most, &value, &rest)) return false;
  for (const quantities::Unit& unit : quantities::kByteUnits) {
    if (rest != std::string_view(unit.name)) continue;
    if (value > most >> unit.shift) return false;
    *bytes = value << unit.shift;
    return true;
  }
  return false;
}

// "1500ms" or "5s".
constexpr bool ParseMilliseconds(std::string_view text, std::uint64_t most, std::uint64_t* milliseconds) {
  std::uint64_t value = 0;
  std::string_view rest;
  if (!quantities::ParseDigits(text, most, &value, &rest) || (rest != "ms" && rest != "s")) return false;
  const std::uint64_t unit = rest == "s" ? 1000 : 1;
  if (value > most / unit) return false;
  *milliseconds = value * unit;
  return true;
}

// "80%": a whole number from 1 to 100.
constexpr bool ParsePercent(std::string_view text, std::uint64_t* percent) {
  std::uint64_t value = 0;
  std::string_view rest;
  if (!quantities::ParseDigits(text, 100, &value, &rest) || rest != "%" || value == 0) return false;
  *percent = value;
  return true;
}

// In the largest unit that leaves a whole number; without a unit below a KiB.
TARN_COLD constexpr Quantity ExactBytes(std::uint64_t bytes) {
  for (const quantities::Unit& unit : quantities::kByteUnits) {
    if (unit.shift != 0 && bytes != 0 && bytes % (std::uint64_t{1} << unit.shift) == 0)
      return {bytes >> unit.shift, unit.name};
  }
  return {bytes, ""};
}

constexpr Quantity ExactMilliseconds(std::uint64_t milliseconds) {
  if (milliseconds % 1000 == 0) return {milliseconds / 1000, "s"};
  return {milliseconds, "ms"};
}

}  // namespace tarn
