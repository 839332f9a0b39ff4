// SPDX-License-Identifier: Apache-2.0
//
// Allocations that the hit path cannot serve: misses, large and aligned objects, zeroed memory.
//
// Null means that there is no memory, or that a signal handler interrupted tarn where it held a lock. errno is never
// changed here: its callers set it.
#pragma once

#include <cstddef>

#include "allocator/base/attributes.h"

namespace tarn {

// Any size. The memory is aligned to 16 bytes; of the forms of new, requests of up to 8 bytes may be aligned to 8 only.
enum class Request { kMalloc, kNew, kNewArray };
[[nodiscard]] TARN_NOINLINE void* AllocateSlow(std::size_t bytes, Request request);

// `alignment` is a power of two of any size.
[[nodiscard]] TARN_NOINLINE void* AllocateAligned(std::size_t bytes, std::size_t alignment,
                                                  Request request = Request::kMalloc);

// Zeroed memory; nothing is written to pages that are known to be zero.
[[nodiscard]] TARN_NOINLINE void* AllocateZeroed(std::size_t bytes);

}  // namespace tarn
