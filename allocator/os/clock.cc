// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/clock.h"

#include <time.h>

#include <atomic>

#include "allocator/base/attributes.h"
#include "allocator/os/system_call.h"
#include "allocator/os/vdso.h"

namespace tarn {

namespace {

using ClockGettime = int (*)(clockid_t clock, struct timespec* time);

constexpr std::uintptr_t kUnknown = 1;
constinit std::atomic<std::uintptr_t> known = kUnknown;

TARN_COLD std::uintptr_t LookForClockGettime() {
  // The vDSO of x86; others have __kernel_clock_gettime.
  std::uintptr_t function = FindVdsoFunction("__vdso_clock_gettime");
  if (function == 0) function = FindVdsoFunction("__kernel_clock_gettime");
  known.store(function, std::memory_order_relaxed);
  return function;
}

// Null: there is none.
inline ClockGettime FindClockGettime() {
  // Relaxed: each thread that finds it unknown finds the same.
  std::uintptr_t function = known.load(std::memory_order_relaxed);
  if (function == kUnknown) [[unlikely]]
    function = LookForClockGettime();
  return reinterpret_cast<ClockGettime>(function);
}

struct timespec AskKernel(clockid_t clock) {
  struct timespec time = {};
  static_cast<void>(SystemCall(SYS_clock_gettime, clock, &time));
  return time;
}

TARN_IN_TOUCHED_DATA constinit std::atomic<bool> by_vdso = false;

struct timespec Read(clockid_t clock) {
  struct timespec time = {};
  if (by_vdso.load(std::memory_order_relaxed)) {
    const ClockGettime clock_gettime = FindClockGettime();
    if (clock_gettime != nullptr && clock_gettime(clock, &time) == 0) return time;
  }
  return AskKernel(clock);
}

std::uint64_t Nanoseconds(const struct timespec& time) {
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(time.tv_nsec);
}

}  // namespace

// Slow paths ask, some with a lock held. Measured: 6 ns through the vDSO, 310 by the system call.
std::uint32_t CoarseMilliseconds() {
  struct timespec time = {};
  const ClockGettime clock_gettime = FindClockGettime();
  if (clock_gettime == nullptr || clock_gettime(CLOCK_MONOTONIC_COARSE, &time) != 0) {
    time = AskKernel(CLOCK_MONOTONIC_COARSE);
  }
  return static_cast<std::uint32_t>(static_cast<std::uint64_t>(time.tv_sec) * 1000 +
                                    static_cast<std::uint64_t>(time.tv_nsec) / 1'000'000);
}

// At the start by the system call (measured: 380 ns, through the vDSO 35): every process asks a few times then, and the
// shorter way reads the clock source's page and so would cost it two page faults. Later a sandbox may forbid the call.
// The time of a thread's CPU the vDSO does not know.
void EndStartOfClock() { by_vdso.store(true, std::memory_order_relaxed); }

std::uint64_t MonotonicNanoseconds() { return Nanoseconds(Read(CLOCK_MONOTONIC)); }

std::uint64_t RealtimeNanoseconds() { return Nanoseconds(Read(CLOCK_REALTIME)); }

std::uint64_t ThreadCpuNanoseconds() { return Nanoseconds(AskKernel(CLOCK_THREAD_CPUTIME_ID)); }

}  // namespace tarn
