// SPDX-License-Identifier: Apache-2.0
//
// The environment that the process was started with, also when libc has not set `environ` yet.

#include "allocator/os/environment.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "tests/os/in_child.h"

namespace tarn {
namespace {

bool Has(const char* const* environment, std::string_view entry) {
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    if (*environment == entry) return true;
  }
  return false;
}

TEST(Environment, IsTheOneOfLibc) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              TARN_REQUIRE(setenv("TARN_TEST_ENTRY", "a value", 1) == 0);
              TARN_REQUIRE(Has(Environment(), "TARN_TEST_ENTRY=a value"));
              TARN_REQUIRE(unsetenv("TARN_TEST_ENTRY") == 0);
              TARN_REQUIRE(!Has(Environment(), "TARN_TEST_ENTRY=a value"));
            }),
            "");
}

TEST(Environment, IsFoundOnTheStackBeforeLibcHasSetItsOwn) {
  if (environ == nullptr || environ[0] == nullptr) GTEST_SKIP() << "the environment is empty";
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              const std::string first = environ[0];
              environ = nullptr;
              const char* const* environment = Environment();
              TARN_REQUIRE(environment != nullptr);
              TARN_REQUIRE(Has(environment, first));
            }),
            "");
}

TEST(Environment, ThisTestIsNotPrivileged) { EXPECT_FALSE(SecureExecution()); }

TEST(Environment, TheProgramIsNamedWithoutItsDirectory) { EXPECT_STREQ(ProgramName(), program_invocation_short_name); }

}  // namespace
}  // namespace tarn
