// SPDX-License-Identifier: Apache-2.0
//
// realloc, and how large an object is.
#pragma once

#include <cstddef>

#include "allocator/base/attributes.h"

namespace tarn {

// realloc for a pointer that is not null and a size that is not 0.
[[nodiscard]] TARN_NOINLINE void* Reallocate(void* pointer, std::size_t bytes);

// The bytes that the object really has; 0 for null. Aborts when the pointer is misuse.
std::size_t UsableBytes(const void* pointer, const char* call);

}  // namespace tarn
