// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/last_thread.h"

#include "allocator/os/clock.h"
#include "allocator/os/process.h"
#include "allocator/os/system_call.h"

namespace tarn {

namespace {

constexpr std::uint64_t kLongestNs = 1'000'000'000;

}  // namespace

void LastThread::Begin() { id_.store(KernelThreadId(), std::memory_order_relaxed); }

void LastThread::End() { ended_at_ns_.store(MonotonicNanoseconds(), std::memory_order_relaxed); }

void LastThread::AwaitEnd() const {
  const std::uint32_t id = id_.load(std::memory_order_relaxed);
  if (id == 0 || id == KernelThreadId()) return;
  const std::uint64_t ended_at_ns = ended_at_ns_.load(std::memory_order_relaxed);
  const long process_id = SystemCall(SYS_getpid);
  // Signal 0 asks whether the thread exists (tgkill(2)). A sandbox that refuses the call gives no answer to wait for.
  while (SystemCall(SYS_tgkill, process_id, id, 0) == 0 && MonotonicNanoseconds() - ended_at_ns < kLongestNs) {
    SleepBriefly();
  }
}

}  // namespace tarn
