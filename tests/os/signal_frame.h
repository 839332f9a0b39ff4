// SPDX-License-Identifier: Apache-2.0
//
// How much of a stack the kernel takes to call a signal's handler.

#ifndef TARN_TESTS_OS_SIGNAL_FRAME_H_
#define TARN_TESTS_OS_SIGNAL_FRAME_H_

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>

namespace tarn_test {

// The frame holds the registers, so it differs from processor to processor. A kernel before 5.14 does not say.
inline std::size_t SignalFrameBytes() {
  const long bytes = sysconf(_SC_MINSIGSTKSZ);
  return static_cast<std::size_t>(std::max<long>(bytes, 2048));
}

}  // namespace tarn_test

#endif  // TARN_TESTS_OS_SIGNAL_FRAME_H_
