// SPDX-License-Identifier: Apache-2.0
//
// The check of a request for another limit: no mixture of the halves of two requests is taken for one.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <random>

#include "allocator/include/tarn/snapshot.h"

namespace {

struct Words {
  std::uint64_t request;
  std::uint64_t bytes;
  std::uint64_t check;
};

Words Ask(std::uint64_t request, std::uint64_t bytes) {
  return {request, bytes, TARN_SNAPSHOT_LIMIT_CHECK(request, bytes)};
}

// The number of the 64 mixtures that look right and are neither of the two.
int WrongMixtures(const Words& one, const Words& other) {
  int wrong = 0;
  std::uint32_t halves[2][6];
  std::memcpy(halves[0], &one, sizeof(one));
  std::memcpy(halves[1], &other, sizeof(other));
  for (unsigned choice = 0; choice < 64; ++choice) {
    std::uint32_t mixed[6];
    for (unsigned i = 0; i < 6; ++i) mixed[i] = halves[choice >> i & 1][i];
    Words words;
    std::memcpy(&words, mixed, sizeof(words));
    if (words.check != TARN_SNAPSHOT_LIMIT_CHECK(words.request, words.bytes)) continue;
    const bool is_one = words.request == one.request && words.bytes == one.bytes;
    const bool is_other = words.request == other.request && words.bytes == other.bytes;
    if (!is_one && !is_other) ++wrong;
  }
  return wrong;
}

TEST(LimitCheck, NoMixtureOfTwoRequestsIsRight) {
  // Fixed values: what passes once passes always.
  std::mt19937_64 random(1);
  for (std::uint64_t number : {std::uint64_t{1}, std::uint64_t{1000}, std::uint64_t{0xFFFFFFFF}}) {
    for (std::uint64_t later = 0; later < 3; ++later) {
      EXPECT_EQ(WrongMixtures(Ask(number, 0x0000111111111111), Ask(number + later, 0x0000222222222222)), 0);
      EXPECT_EQ(WrongMixtures(Ask(number, UINT64_MAX), Ask(number + later, std::uint64_t{5} << 30)), 0);
      for (int i = 0; i < 1000; ++i) {
        ASSERT_EQ(WrongMixtures(Ask(number, random() >> 16), Ask(number + later, random() >> 16)), 0);
      }
    }
  }
}

TEST(LimitCheck, WordsThatNobodyWroteAreNotRight) {
  EXPECT_NE(TARN_SNAPSHOT_LIMIT_CHECK(std::uint64_t{0}, std::uint64_t{0}), 0u);
  EXPECT_NE(TARN_SNAPSHOT_LIMIT_CHECK(std::uint64_t{1}, std::uint64_t{0}), 0u);
}

}  // namespace
