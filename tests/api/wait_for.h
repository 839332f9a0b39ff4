// Waits for what another thread will do.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <source_location>
#include <thread>

#include "tests/base/patience.h"

namespace tarn_test {

// Ends the program, or the child that waits, when it does not come: with the place, long before the test's time limit.
template <typename Condition>
void WaitFor(Condition condition, std::source_location place = std::source_location::current()) {
  constexpr std::chrono::seconds kPatience(kPatienceSeconds);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) {
      std::fprintf(stderr, "%s:%u: waited in vain\n", place.file_name(), place.line());
      _exit(1);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace tarn_test
