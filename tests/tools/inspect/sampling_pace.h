// SPDX-License-Identifier: Apache-2.0
//
// For programs that allocate so much that the sampler would widen its rate if it came at once.
#pragma once

#include <time.h>

namespace tarn_test {

// Two thirds of what the sampler takes in any time are 128 samples each 24 ms: sleeps for so long. By the clock that
// the sampler goes by, for that stands still now and then where a virtual machine is held up.
inline void SleepBetween128Samples() {
  const auto now_ms = [] {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
  };
  const long end_ms = now_ms() + 24;
  while (now_ms() < end_ms) {
    const timespec millisecond = {0, 1'000'000};
    nanosleep(&millisecond, nullptr);
  }
}

}  // namespace tarn_test
