// SPDX-License-Identifier: Apache-2.0
//
// Where a call goes that its hit path could not serve, and everything that is not malloc or free of a small object.
//
// For malloc.cc, operator_new.cc and malloc_info.cc. Null means that there is no memory (or that a signal handler
// interrupted tarn itself); errno is never changed here, that is the callers' affair.
#pragma once

#include <cstddef>

#include "allocator/base/attributes.h"

namespace tarn {

// Any size. The memory is aligned to 16 bytes; with kNew, requests of up to 8 bytes may be aligned to 8 only.
enum class Request { kMalloc, kNew };
[[nodiscard]] TARN_NOINLINE void* AllocateSlow(std::size_t bytes, Request request);

// `alignment` is a power of two of any size.
[[nodiscard]] TARN_NOINLINE void* AllocateAligned(std::size_t bytes, std::size_t alignment);

// Zeroed memory; nothing is written to pages that are known to be zero.
[[nodiscard]] TARN_NOINLINE void* AllocateZeroed(std::size_t bytes);

// `call` is named when the pointer turns out to be none of ours. Null is allowed and does nothing.
TARN_NOINLINE void FreeSlow(void* object, const char* call);

// free_sized and free_aligned_sized: frees the object by its own size. Where checks are on, notes a size that the
// object cannot have been asked for with; it may be larger than usual, because realloc leaves a shrunk object where it
// is. Null is allowed.
TARN_NOINLINE void FreeSized(void* object, std::size_t bytes, const char* call);

// The sized operator delete: frees the object by its own size. Where checks are on, notes a size for which operator new
// would not give an object of this size class (`alignment` 0: the plain operator new). Null is allowed.
TARN_NOINLINE void DeleteSized(void* object, std::size_t bytes, std::size_t alignment);

// realloc for a pointer that is not null and a size that is not 0.
[[nodiscard]] TARN_NOINLINE void* Reallocate(void* object, std::size_t bytes);

// The bytes that the object really has; 0 for null. Aborts when the pointer is none of ours.
std::size_t UsableBytes(const void* object, const char* call);

// Gives at least `bytes` back to the kernel, or all free ones if there are fewer: whole huge pages first, then what
// caches hold, then all free pages; SIZE_MAX: everything. Returns the bytes that the kernel got.
std::size_t ReleaseBytes(std::size_t bytes);

// Gives back what can be given back, keeping about `keep_bytes` of free memory; returns the bytes that the kernel got.
std::size_t Trim(std::size_t keep_bytes);

}  // namespace tarn
