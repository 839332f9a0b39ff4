// SPDX-License-Identifier: Apache-2.0
//
// The checks: what they say, and that the debug kind costs nothing where it is off.

#include "allocator/base/check.h"

#include <gtest/gtest.h>

namespace tarn {
namespace {

TEST(Check, PassesWhatHolds) {
  TARN_CHECK(1 + 1 == 2);
  TARN_DCHECK(1 + 1 == 2);
}

TEST(CheckDeathTest, NamesTheConditionAndThePlace) {
  EXPECT_DEATH(TARN_CHECK(1 + 1 == 3), "^tarn: fatal: check failed: 1 \\+ 1 == 3 \\(.*check_test.cc:[0-9]+\\)\n$");
}

TEST(CheckDeathTest, TheDebugCheckIsOnOrNotEvenEvaluated) {
  int evaluations = 0;
  [[maybe_unused]] const auto fails = [&evaluations] { return ++evaluations < 0; };
#if TARN_DCHECK_ENABLED
  EXPECT_DEATH(TARN_DCHECK(fails()), "check failed: fails\\(\\)");
#else
  TARN_DCHECK(fails());
#endif
  EXPECT_EQ(evaluations, 0);
}

}  // namespace
}  // namespace tarn
