// SPDX-License-Identifier: Apache-2.0
//
// The process and the scheduler, as far as the heap needs them.
#pragma once

#include <cstddef>
#include <cstdint>

// glibc 2.32 and later: true while the process never had a second thread, or has one again for certain.
extern "C" __attribute__((weak)) char __libc_single_threaded;

namespace tarn {

std::uint64_t ProcessId();
// The calling thread's id as the kernel counts.
std::uint32_t KernelThreadId();

// libc knows for certain that the process has one thread, those of tarn's that libc does not know aside (glibc 2.32; an
// older one does not say, and the answer is no).
inline bool HasOneThread() { return &__libc_single_threaded != nullptr && __libc_single_threaded != 0; }

// The number of threads that the kernel counts; 0: /proc does not say.
std::size_t CountThreads();

// Lets other threads run, for a millisecond. By futex(2), which sandboxes allow, where they may forbid sched_yield(2).
void SleepBriefly();

// Where the program's own code begins to run, the loader's aside.
std::uintptr_t ProgramEntry();

// Writes the path of the program's file, not zero-terminated. Returns its length; 0: the kernel does not say.
std::size_t ReadProgramPath(char* to, std::size_t most_bytes);

// Resident memory of the process; 0 where the kernel does not say.
struct ResidentSize {
  std::uint64_t now_bytes = 0;
  std::uint64_t peak_bytes = 0;
};
ResidentSize ReadResidentSize();

// Ends the process without running its destructors.
[[noreturn]] void ExitAtOnce(int status);

}  // namespace tarn
