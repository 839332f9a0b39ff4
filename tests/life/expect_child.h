// SPDX-License-Identifier: Apache-2.0
//
// InChild of process.h as an expectation of googletest.

#ifndef TARN_TESTS_LIFE_EXPECT_CHILD_H_
#define TARN_TESTS_LIFE_EXPECT_CHILD_H_

#include <gtest/gtest.h>

#include <string>

#include "tests/life/process.h"

namespace tarn_test {

// Runs the body in a child and expects that it ends well in time. A function, so that a failure
// shows what happened and not the source of the body.
template <typename Body>
void ExpectGoodEnd(double seconds, const Body& body) {
  const std::string what_happened = InChild(seconds, body);
  EXPECT_EQ(what_happened, "");
}

}  // namespace tarn_test

#endif  // TARN_TESTS_LIFE_EXPECT_CHILD_H_
