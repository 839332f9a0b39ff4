// SPDX-License-Identifier: Apache-2.0
//
// Time, as the policies of the allocator need it.
//
// All functions are thread-safe, allocate nothing and keep errno.
#pragma once

#include <cstdint>

namespace tarn {

// A point in time in milliseconds since some moment before the process's start. The kernel's coarse clock
// (CLOCK_MONOTONIC_COARSE) costs a few nanoseconds and moves every few milliseconds. Wraps around after 49 days, so
// only differences mean something.
std::uint32_t CoarseMilliseconds();

// How far `later` is behind `earlier`; 0 where the order is the other way round, as it may be when two threads looked.
// One of them may have stood still in between: by no more than this. Chosen. All other differences are taken for time
// that has passed, up to 49 days. State that is all zero at the start has 0 for a moment long ago. It is long ago on
// each machine, but for ten minutes in 49 days.
inline constexpr std::uint32_t kMostDisorderMs = 600'000;
inline std::uint32_t MillisecondsBetween(std::uint32_t earlier, std::uint32_t later) {
  return earlier - later <= kMostDisorderMs ? 0 : later - earlier;
}

// Nanoseconds since some moment before the process's start (CLOCK_MONOTONIC).
std::uint64_t MonotonicNanoseconds();

// Nanoseconds since 1970 (CLOCK_REALTIME).
std::uint64_t RealtimeNanoseconds();

// The process's start is over: from now on the clocks above are read without a system call, where the kernel has a
// vDSO.
void EndStartOfClock();

// CPU time of the calling thread in nanoseconds.
std::uint64_t ThreadCpuNanoseconds();

}  // namespace tarn
