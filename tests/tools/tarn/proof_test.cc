// SPDX-License-Identifier: Apache-2.0
//
// The look at the slots through which a process calls malloc, at moments when there is little to see.
#include "tools/tarn/compare/proof.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace tarn::tool {
namespace {

TEST(LookAtMalloc, FindsTheFileThatServesThisProcess) {
  const MallocUse use = LookAtMalloc(getpid());
  EXPECT_FALSE(use.mapped.empty());
  EXPECT_FALSE(use.executable.empty());
  EXPECT_FALSE(use.owners.empty());
}

// A run is looked at again and again, so each one is met at its end some day.
TEST(LookAtMalloc, SeesNothingOfAProcessThatHasEnded) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) _exit(0);
  siginfo_t info = {};
  // It has ended, and stays a zombie.
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE(LookAtMalloc(child).mapped.empty());
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(LookAtMalloc(child).mapped.empty());
}

}  // namespace
}  // namespace tarn::tool
