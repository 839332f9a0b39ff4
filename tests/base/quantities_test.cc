// SPDX-License-Identifier: Apache-2.0
//
// Quantities as text: what is taken, what is refused, and that what is printed is taken again.

#include "allocator/base/quantities.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace tarn {
namespace {

constexpr std::uint64_t kAny = UINT64_MAX;

TEST(Quantities, NumbersAreDigitsOnly) {
  std::uint64_t number = 77;
  EXPECT_TRUE(ParseNumber("007", 7, &number));
  EXPECT_EQ(number, 7u);
  EXPECT_TRUE(ParseNumber("18446744073709551615", kAny, &number));
  EXPECT_EQ(number, kAny);
  number = 77;
  for (const char* text :
       {"", "-1", "+1", " 1", "1 ", "1B", "0x1", "1.0", "18446744073709551616", "99999999999999999999999999"}) {
    EXPECT_FALSE(ParseNumber(text, kAny, &number)) << text;
  }
  EXPECT_FALSE(ParseNumber("8", 7, &number));
  EXPECT_FALSE(ParseNumber("10", 9, &number));
  EXPECT_FALSE(ParseNumber("1", 0, &number));
  EXPECT_EQ(number, 77u);
  EXPECT_TRUE(ParseNumber("0", 0, &number));
  EXPECT_EQ(number, 0u);
}

TEST(Quantities, BytesHaveUnits) {
  std::uint64_t bytes = 77;
  // The last ones would be small numbers if the arithmetic wrapped round.
  for (const char* text : {"", "KiB", "1kib", "1K", "1MB", "1MiBs", "1 MiB", "1.5MiB", "16777216TiB",
                           "18446744073709551615KiB", "36028797018963969KiB"}) {
    EXPECT_FALSE(ParseBytes(text, kAny, &bytes)) << text;
  }
  EXPECT_FALSE(ParseBytes("1025KiB", std::uint64_t{1} << 20, &bytes));
  EXPECT_EQ(bytes, 77u);
  struct {
    const char* text;
    std::uint64_t bytes;
  } const good[] = {{"0", 0},
                    {"1", 1},
                    {"4096B", 4096},
                    {"1536KiB", std::uint64_t{1536} << 10},
                    {"3MiB", std::uint64_t{3} << 20},
                    {"2GiB", std::uint64_t{2} << 30},
                    {"16777215TiB", std::uint64_t{16777215} << 40}};
  for (const auto& each : good) {
    EXPECT_TRUE(ParseBytes(each.text, kAny, &bytes)) << each.text;
    EXPECT_EQ(bytes, each.bytes) << each.text;
    EXPECT_TRUE(ParseBytes(each.text, each.bytes, &bytes)) << each.text;
    EXPECT_EQ(ParseBytes(each.text, each.bytes == 0 ? 0 : each.bytes - 1, &bytes), each.bytes == 0) << each.text;
  }
}

TEST(Quantities, TimesNeedAUnit) {
  std::uint64_t milliseconds = 77;
  for (const char* text : {"", "s", "ms", "5", "5m", "5sec", "-5s", "5 s", "1KiBs", "18446744073709551615s"}) {
    EXPECT_FALSE(ParseMilliseconds(text, kAny, &milliseconds)) << text;
  }
  EXPECT_FALSE(ParseMilliseconds("6s", 5999, &milliseconds));
  EXPECT_EQ(milliseconds, 77u);
  EXPECT_TRUE(ParseMilliseconds("6s", 6000, &milliseconds));
  EXPECT_EQ(milliseconds, 6000u);
  EXPECT_TRUE(ParseMilliseconds("1500ms", 1500, &milliseconds));
  EXPECT_EQ(milliseconds, 1500u);
}

TEST(Quantities, SharesAreOneToAHundred) {
  std::uint64_t percent = 77;
  for (const char* text : {"", "%", "0%", "101%", "80", "80 %", "8MiB%", "80%%", "-80%"}) {
    EXPECT_FALSE(ParsePercent(text, &percent)) << text;
  }
  EXPECT_EQ(percent, 77u);
  EXPECT_TRUE(ParsePercent("1%", &percent));
  EXPECT_EQ(percent, 1u);
  EXPECT_TRUE(ParsePercent("100%", &percent));
  EXPECT_EQ(percent, 100u);
}

std::string TextOf(const Quantity& quantity) { return std::to_string(quantity.number) + std::string(quantity.unit); }

TEST(Quantities, WhatIsPrintedIsTakenAgain) {
  for (const std::uint64_t number :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{999}, std::uint64_t{1000}, std::uint64_t{1023},
        std::uint64_t{1024}, std::uint64_t{1536} << 10, (std::uint64_t{1} << 40) + 1, std::uint64_t{5} << 40, kAny}) {
    std::uint64_t read = ~number;
    EXPECT_TRUE(ParseBytes(TextOf(ExactBytes(number)), kAny, &read)) << number;
    EXPECT_EQ(read, number);
    read = ~number;
    EXPECT_TRUE(ParseMilliseconds(TextOf(ExactMilliseconds(number)), kAny, &read)) << number;
    EXPECT_EQ(read, number);
  }
  EXPECT_EQ(TextOf(ExactBytes(std::uint64_t{1536} << 10)), "1536KiB");
  EXPECT_EQ(TextOf(ExactBytes(std::uint64_t{1} << 40)), "1TiB");
  EXPECT_EQ(TextOf(ExactBytes(1000)), "1000");
  EXPECT_EQ(TextOf(ExactMilliseconds(1500)), "1500ms");
  EXPECT_EQ(TextOf(ExactMilliseconds(5000)), "5s");
}

}  // namespace
}  // namespace tarn
