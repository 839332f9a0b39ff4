// SPDX-License-Identifier: Apache-2.0
//
// A part of every googletest program here: refuses to run the tests on another allocator.

#include <gtest/gtest.h>

#include "tests/entry/on_tarn.h"

namespace tarn_test {
namespace {

class OnTarnEnvironment : public ::testing::Environment {
 public:
  void SetUp() override {
    if (any_allocator_allowed()) return;
    const std::string why = WhyNotOnTarn();
    if (!why.empty()) FAIL() << "this program does not run on tarn: " << why;
  }
};

// googletest owns the environment.
const ::testing::Environment* const kOnTarn = ::testing::AddGlobalTestEnvironment(new OnTarnEnvironment);

}  // namespace
}  // namespace tarn_test
