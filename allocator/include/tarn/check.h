// SPDX-License-Identifier: Apache-2.0
//
// tarn/check.h: looks for damage in the heap, where malloc's checked mode is on (TARN_CHECK).
//
// For C, with the same in C++ in namespace tarn. Any thread may call, while others allocate and free.
#ifndef TARN_CHECK_H
#define TARN_CHECK_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// Looks at the bytes around all live objects, and at the memory of freed ones that is not in use again. Reports each
// that was overwritten, and returns their number; the first report ends the process unless TARN_CHECK_CONTINUE is on.
// Takes some ten nanoseconds an object. 0, at once, where the checked mode is off.
size_t tarn_check_heap(void);

#ifdef __cplusplus
}  // extern "C"

namespace tarn {

inline size_t CheckHeap() noexcept { return tarn_check_heap(); }

}  // namespace tarn
#endif

#endif
