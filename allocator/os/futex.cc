// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/futex.h"

#include <limits.h>
#include <linux/futex.h>
#include <time.h>

#include "allocator/os/system_call.h"

namespace tarn {

void WaitOnWord(std::atomic<std::uint32_t>& word, std::uint32_t value, std::uint32_t milliseconds) {
  const timespec timeout = {static_cast<time_t>(milliseconds / 1000),
                            static_cast<long>(milliseconds % 1000) * 1'000'000};
  SystemCall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, milliseconds == kForever ? nullptr : &timeout, nullptr, 0);
}

void WakeWaiters(std::atomic<std::uint32_t>& word) {
  SystemCall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace tarn
