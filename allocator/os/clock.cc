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

// By the system call: every process asks a few times at its start, and the shorter way through the vDSO would cost it two
// page faults. Who asks later is about to make longer system calls.
std::uint64_t AskKernel(clockid_t clock) {
  struct timespec time = {};
  ::syscall(SYS_clock_gettime, clock, &time);
  return Nanoseconds(time);
}

}  // namespace

std::uint32_t CoarseMilliseconds() {
  const struct timespec time = Read(CLOCK_MONOTONIC_COARSE);
  return static_cast<std::uint32_t>(static_cast<std::uint64_t>(time.tv_sec) * 1000 +
                                    static_cast<std::uint64_t>(time.tv_nsec) / 1'000'000);
}

std::uint64_t MonotonicNanoseconds() { return AskKernel(CLOCK_MONOTONIC); }

std::uint64_t RealtimeNanoseconds() { return AskKernel(CLOCK_REALTIME); }

std::uint64_t ThreadCpuNanoseconds() { return Nanoseconds(Read(CLOCK_THREAD_CPUTIME_ID)); }

}  // namespace tarn
