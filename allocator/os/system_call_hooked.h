// SPDX-License-Identifier: Apache-2.0
//
// The system calls of the allocator as a fuzzer sees them: it may let one fail, or act in the middle of it, as a signal
// handler would. In the library tarn_fuzzed_malloc (allocator/CMakeLists.txt).
#pragma once

#include <unistd.h>

#include <cerrno>

// Defined by the fuzzer. Returns the negative error that the call is to fail with; 0: the call is made.
extern "C" long FuzzSystemCall(long number);

namespace tarn {

template <typename... Words>
long SystemCallByWords(long number, Words... words) {
  if (const long error = FuzzSystemCall(number); error != 0) return error;
  const int saved_errno = errno;
  long result = ::syscall(number, words...);
  if (result == -1) result = -errno;
  errno = saved_errno;
  return result;
}

}  // namespace tarn
