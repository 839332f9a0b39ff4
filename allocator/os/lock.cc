// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/lock.h"

#include <linux/futex.h>

#include "allocator/os/crash.h"
#include "allocator/os/fork_mark.h"
#include "allocator/os/stall.h"
#include "allocator/os/system_call.h"

namespace tarn {

namespace {

// A holder is done within a few hundred nanoseconds unless it was preempted. Chosen: about 2 us of waiting, less than
// the two switches that a sleep costs.
constexpr int kSpins = 100;

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

void Lock::AcquireSlow() {
  const std::uint32_t self = ThreadId();
  // Nobody else would release it: a slow path that held it was left by a jump out of a signal handler.
  if (HeldByThisThread()) [[unlikely]]
    ReportAbandonedLock();
  for (int i = 0; i < kSpins; ++i) {
    std::uint32_t word = word_.load(std::memory_order_relaxed);
    if (word == 0 && word_.compare_exchange_weak(word, self, std::memory_order_acquire, std::memory_order_relaxed)) {
      return;
    }
    Pause();
  }
  while (true) {
    std::uint32_t word = word_.load(std::memory_order_relaxed);
    if (word == 0) {
      // This thread slept, and others may sleep that it does not know of. So it keeps the mark: at worst one wake is
      // useless.
      if (word_.compare_exchange_weak(word, self | kHasWaiters, std::memory_order_acquire, std::memory_order_relaxed)) {
        return;
      }
      continue;
    }
    if ((word & kHasWaiters) == 0 &&
        !word_.compare_exchange_weak(word, word | kHasWaiters, std::memory_order_relaxed)) {
      continue;
    }
    if (fork_mark.IsWiped()) [[unlikely]] {
      // The child of a fork without handlers, in a slow path that a signal handler interrupted for the fork. The owner
      // is not this thread, so it is in the parent.
      ResetInForkedChild();
      continue;
    }
    NoteStall();
    // The kernel compares the word again, so a release between the load and the sleep is not missed.
    SystemCall(SYS_futex, &word_, FUTEX_WAIT_PRIVATE, word | kHasWaiters, nullptr, nullptr, 0);
  }
}

void Lock::WakeOne() { SystemCall(SYS_futex, &word_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0); }

}  // namespace tarn
