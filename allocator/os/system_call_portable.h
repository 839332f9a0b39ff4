// SPDX-License-Identifier: Apache-2.0
//
// By libc's syscall(2), for architectures whose instruction is not written down yet.
#pragma once

#include <errno.h>
#include <unistd.h>

namespace tarn {

template <typename... Words>
long SystemCallByWords(long number, Words... words) {
  const int saved_errno = errno;
  long result = ::syscall(number, words...);
  if (result == -1) result = -errno;
  errno = saved_errno;
  return result;
}

}  // namespace tarn
