// SPDX-License-Identifier: Apache-2.0
//
// Starts of static programs. libc allocates while it initialises itself, so a sample for the heap profile may fall due
// before a stack can be walked; with TARN_PROFILE_RATE=1 each allocation is due.

#include <gtest/gtest.h>
#include <spawn.h>
#include <stdlib.h>

#include <string>

#include "tests/life/process.h"

namespace tarn_test {
namespace {

// One start in some thousands failed with the default rate: longer runs set this.
int Starts() {
  const char* const starts = getenv("TARN_TEST_STARTS");
  return starts == nullptr ? 60 : atoi(starts);
}

int StatusOf(const char* program, bool all_sampled, const char* mode) {
  std::string settings[] = {std::string("TARN_MODE=") + mode, "TARN_PROFILE_RATE=1"};
  char* environment[] = {settings[0].data(), all_sampled ? settings[1].data() : nullptr, nullptr};
  std::string name = program;
  std::string sampled = "sampled";
  char* arguments[] = {name.data(), all_sampled ? sampled.data() : nullptr, nullptr};
  pid_t child = 0;
  if (posix_spawn(&child, program, nullptr, nullptr, arguments, environment) != 0) return -1;
  int status = -1;
  return WaitFor(child, kPatienceSeconds, &status) ? status : -1;
}

class StaticStart : public testing::TestWithParam<const char*> {};

TEST_P(StaticStart, NeverFails) {
  for (const char* const mode : {"cpu", "thread"}) {
    for (const bool all_sampled : {false, true}) {
      for (int i = 0; i < Starts(); ++i) {
        ASSERT_EQ(StatusOf(GetParam(), all_sampled, mode), 0) << "start " << i << ", mode " << mode;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Programs, StaticStart, testing::Values(TARN_LIFE_STATIC_START, TARN_LIFE_STATIC_PIE_START),
                         [](const auto& program) { return program.index == 0 ? "Fixed" : "PositionIndependent"; });

}  // namespace
}  // namespace tarn_test
