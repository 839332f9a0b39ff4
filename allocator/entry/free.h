// SPDX-License-Identifier: Apache-2.0
//
// Frees that the hit path cannot serve, and those that are given a size.
#pragma once

#include <cstddef>

#include "allocator/base/attributes.h"

namespace tarn {

// `call` is named when the pointer turns out to be misuse. Null is allowed and does nothing.
TARN_NOINLINE void FreeSlow(void* pointer, const char* call);

// free_sized and free_aligned_sized: frees the object by its own size. Where checks are on, notes a size that the
// object cannot have been asked for with; it may be larger than usual, because realloc leaves a shrunk object where it
// is. Null is allowed.
TARN_NOINLINE void FreeSized(void* pointer, std::size_t bytes, const char* call);

// The sized operator delete: frees the object by its own size. Where checks are on, notes a size for which operator new
// would not give an object of this size class (`alignment` 0: the plain operator new). Null is allowed.
TARN_NOINLINE void DeleteSized(void* pointer, std::size_t bytes, std::size_t alignment, const char* call);

}  // namespace tarn
