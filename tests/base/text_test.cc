// SPDX-License-Identifier: Apache-2.0
//
// Text: the formats against the C library's, and the cut at the capacity.

#include "allocator/base/text.h"

#include <gtest/gtest.h>

#include <cinttypes>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <type_traits>

namespace tarn {
namespace {

template <typename... Args>
std::string Printf(const char* format, Args... args) {
  char text[128];
  std::snprintf(text, sizeof(text), format, args...);
  return text;
}

constexpr std::uint64_t kNumbers[] = {0,         1,     9,       10,      11,       99,         100,          4095,
                                      4096,      65535, 1000000, 1048575, 1048576u, 0xFFFFFFFF, 0x100000000u, INT64_MAX,
                                      UINT64_MAX};

TEST(Text, NumbersAreAsPrintfWritesThem) {
  for (const std::uint64_t number : kNumbers) {
    Text<64> text;
    text << number << " ";
    text.Hex(number) << " ";
    text.Padded(number, 12);
    EXPECT_EQ(text.view(), Printf("%" PRIu64 " 0x%" PRIx64 " %12" PRIu64, number, number, number));
  }
  for (const int number : {0, 1, -1, 42, -42, INT_MAX, INT_MIN}) {
    Text<64> text;
    text << number;
    EXPECT_EQ(text.view(), std::to_string(number));
  }
  Text<64> text;
  text << std::uint32_t{UINT32_MAX};
  EXPECT_EQ(text.view(), "4294967295");
}

TEST(Text, MebibytesHaveOneDecimalRoundedDown) {
  const auto mebibytes = [](std::uint64_t bytes) {
    Text<64> text;
    text.Mebibytes(bytes);
    return std::string(text.view());
  };
  EXPECT_EQ(mebibytes(0), "0.0 MiB");
  EXPECT_EQ(mebibytes(104857), "0.0 MiB");
  EXPECT_EQ(mebibytes(104858), "0.1 MiB");
  EXPECT_EQ(mebibytes((1u << 20) - 1), "0.9 MiB");
  EXPECT_EQ(mebibytes(1u << 20), "1.0 MiB");
  EXPECT_EQ(mebibytes((5u << 20) + (1u << 19)), "5.5 MiB");
  EXPECT_EQ(mebibytes(UINT64_MAX), "17592186044415.9 MiB");
}

TEST(Text, EverythingIsCutAtTheCapacity) {
  // The object ends in the array, and behind the object a guard tells whether anything was written beyond it.
  struct {
    Text<8> text;
    unsigned char guard[64];
  } guarded;
  std::memset(guarded.guard, 0xA5, sizeof(guarded.guard));
  guarded.text << "12345" << std::string_view("6789abc");
  EXPECT_EQ(guarded.text.view(), "12345678");
  guarded.text << "more" << std::uint64_t{UINT64_MAX} << -7;
  guarded.text.Hex(UINT64_MAX).Padded(1, 40).Mebibytes(UINT64_MAX);
  EXPECT_EQ(guarded.text.view(), "12345678");
  for (const unsigned char byte : guarded.guard) EXPECT_EQ(byte, 0xA5);
  guarded.text.Clear();
  EXPECT_EQ(guarded.text.view(), "");
  guarded.text << std::uint64_t{1234567890};
  EXPECT_EQ(guarded.text.view(), "12345678");
}

TEST(Text, KeepsBytesAsTheyAre) {
  Text<16> text;
  text << std::string_view("a\0b", 3) << "\xFF";
  EXPECT_EQ(text.view(), std::string_view("a\0b\xFF", 4));
}

}  // namespace
}  // namespace tarn
