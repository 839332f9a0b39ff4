// SPDX-License-Identifier: Apache-2.0
//
// Waits for what another thread will do.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <thread>

#include "tests/base/patience.h"

namespace tarn_test {

// Ends the program, or the child that waits, when it does not come: with the place, long before the test's time limit.
// (Clang 14 has no std::source_location.)
template <typename Condition>
void WaitFor(Condition condition, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  constexpr std::chrono::seconds kPatience(kPatienceSeconds);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) {
      std::fprintf(stderr, "%s:%d: waited in vain\n", file, line);
      _exit(1);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace tarn_test
