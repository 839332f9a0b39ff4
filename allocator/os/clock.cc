#include "allocator/os/clock.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace tarn {

namespace {

struct timespec Read(clockid_t clock) {
  struct timespec time = {};
  static_cast<void>(::clock_gettime(clock, &time));
  return time;
}

std::uint64_t Nanoseconds(const struct timespec& time) {
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(time.tv_nsec);
}

}  // namespace

std::uint32_t CoarseMilliseconds() {
  const struct timespec time = Read(CLOCK_MONOTONIC_COARSE);
  return static_cast<std::uint32_t>(static_cast<std::uint64_t>(time.tv_sec) * 1000 +
                                    static_cast<std::uint64_t>(time.tv_nsec) / 1'000'000);
}

std::uint64_t MonotonicNanoseconds() { return Nanoseconds(Read(CLOCK_MONOTONIC)); }

// By the system call: every process asks once, at its start, and the shorter way through the vDSO would cost it two page
// faults.
std::uint64_t RealtimeNanoseconds() {
  struct timespec time = {};
  ::syscall(SYS_clock_gettime, CLOCK_REALTIME, &time);
  return Nanoseconds(time);
}

std::uint64_t ThreadCpuNanoseconds() { return Nanoseconds(Read(CLOCK_THREAD_CPUTIME_ID)); }

}  // namespace tarn
