// SPDX-License-Identifier: Apache-2.0
//
// Checks: TARN_DCHECK for what our own code guarantees (debug builds only), TARN_CHECK where a cheap test in the
// release build keeps a broken invariant from corrupting a user's data. Misuse by the program is not a check: it is
// reported through os/crash.h with a message of its own.
#pragma once

#include "allocator/base/attributes.h"

namespace tarn {

// Prints one line and aborts. Defined in os/crash.cc, the lowest room that can speak.
[[noreturn]] TARN_COLD void CheckFailed(const char* condition, const char* file, int line);

}  // namespace tarn

#define TARN_CHECK(condition)                              \
  do {                                                     \
    if (!(condition)) [[unlikely]]                         \
      ::tarn::CheckFailed(#condition, __FILE__, __LINE__); \
  } while (false)

#if TARN_DCHECK_ENABLED
#define TARN_DCHECK(condition) TARN_CHECK(condition)
#else
#define TARN_DCHECK(condition)               \
  do {                                       \
    if (false) static_cast<void>(condition); \
  } while (false)
#endif
