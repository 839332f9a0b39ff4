// SPDX-License-Identifier: Apache-2.0

#include "tools/base/figures.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstddef>

namespace tarn::tool {

std::string ThreeDigits(double value) {
  const double size = std::fabs(value);
  if (size >= 99.95) return fmt::format("{:.0f}", value);
  if (size >= 9.995) return fmt::format("{:.1f}", value);
  return fmt::format("{:.2f}", value);
}

std::string FormatBytes(double bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (std::fabs(bytes) >= 1023.5 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  if (unit == 0) return fmt::format("{:.0f} B", bytes);
  return ThreeDigits(bytes) + " " + kUnits[unit];
}

std::string FormatSeconds(double seconds) {
  const double size = std::fabs(seconds);
  if (size == 0) return "0 s";
  if (size < 0.9995e-6) return ThreeDigits(seconds * 1e9) + " ns";
  if (size < 0.9995e-3) return ThreeDigits(seconds * 1e6) + " \xC2\xB5s";
  if (size < 0.9995) return ThreeDigits(seconds * 1e3) + " ms";
  return ThreeDigits(seconds) + " s";
}

}  // namespace tarn::tool
