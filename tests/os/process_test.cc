// SPDX-License-Identifier: Apache-2.0
//
// The process, as the start of the heap sees it.

#include "allocator/os/process.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/os/in_child.h"

namespace tarn {
namespace {

TEST(Process, HasTheKernelsId) { EXPECT_EQ(ProcessId(), static_cast<std::uint64_t>(getpid())); }

TEST(Process, ABriefSleepComesBack) { SleepBriefly(); }

TEST(Process, ExitAtOnceRunsNoDestructors) {
  const tarn_test::ChildEnd end = tarn_test::RunInChild([] {
    atexit([] { static_cast<void>(!write(2, "destructor", 10)); });
    ExitAtOnce(78);
  });
  EXPECT_EQ(end.exit_code, 78);
  EXPECT_EQ(end.output, "");
}

}  // namespace
}  // namespace tarn
