// SPDX-License-Identifier: Apache-2.0
//
// malloc and its family, as C23, POSIX and glibc's manual have them.
//
// A call of a small size takes the hit path (fast_path.h), or by a tail call the slow path (allocate.h, free.h). Only
// here is errno set: ENOMEM where null means that there is no memory, EINVAL for wrong alignments. A call that succeeds
// leaves errno alone, and so does free.
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "allocator/base/attributes.h"
#include "allocator/entry/allocate.h"
#include "allocator/entry/fast_path.h"
#include "allocator/entry/free.h"
#include "allocator/entry/replaced.h"
#include "allocator/entry/resize.h"
#include "allocator/include/tarn/malloc.h"
#include "allocator/os/virtual_memory.h"

namespace tarn {

namespace {

void* OrNoMemory(void* object) {
  if (object == nullptr) [[unlikely]]
    errno = ENOMEM;
  return object;
}

TARN_NOINLINE void* MallocMiss(std::size_t bytes) { return OrNoMemory(AllocateSlow(bytes, Request::kMalloc)); }
TARN_NOINLINE void FreeMiss(void* object) { FreeSlow(object, "free"); }

// As std::has_single_bit, which counts the bits, and that is a call on an x86-64 that need not have the instruction.
constexpr bool IsPowerOfTwo(std::size_t value) { return value != 0 && (value & (value - 1)) == 0; }

void* Memalign(std::size_t alignment, std::size_t bytes) { return OrNoMemory(AllocateAligned(bytes, alignment)); }

void* PageAligned(std::size_t bytes) {
  const std::size_t alignment = OsPageBytes();
  return ReplacedAligned() ? bound::AllocateAligned(alignment, bytes) : Memalign(alignment, bytes);
}

}  // namespace

extern "C" {

TARN_EXPORT void* malloc(std::size_t bytes) noexcept {
  void* object;
  if (MallocHit(bytes, &object)) [[likely]]
    return object;
  return MallocMiss(bytes);
}

TARN_EXPORT void free(void* object) noexcept {
  if (FreeHit(object)) [[likely]]
    return;
  FreeMiss(object);
}

TARN_EXPORT void* calloc(std::size_t count, std::size_t bytes) noexcept {
  std::size_t total_bytes;
  if (__builtin_mul_overflow(count, bytes, &total_bytes)) {
    errno = ENOMEM;
    return nullptr;
  }
  void* object;
  if (MallocHit(total_bytes, &object)) [[likely]]
    return std::memset(object, 0, total_bytes);
  return OrNoMemory(AllocateZeroed(total_bytes));
}

TARN_EXPORT void* realloc(void* object, std::size_t bytes) noexcept {
  if (object == nullptr) return malloc(bytes);
  if (bytes == 0) {
    free(object);
    return nullptr;
  }
  return OrNoMemory(Reallocate(object, bytes));
}

TARN_EXPORT void* reallocarray(void* object, std::size_t count, std::size_t bytes) noexcept {
  std::size_t total_bytes;
  if (__builtin_mul_overflow(count, bytes, &total_bytes)) {
    errno = ENOMEM;
    return nullptr;
  }
  return Replaced(Function::kRealloc) ? bound::Reallocate(object, total_bytes) : realloc(object, total_bytes);
}

// C23 7.24.3.4 and .5. A wrong size is undefined there; these free by the object's own, and note it where checks are
// on.
TARN_EXPORT void free_sized(void* object, std::size_t bytes) {
  Replaced(Function::kFree) ? bound::Free(object) : FreeSized(object, bytes, "free_sized");
}
TARN_EXPORT void free_aligned_sized(void* object, std::size_t, std::size_t bytes) {
  Replaced(Function::kFree) ? bound::Free(object) : FreeSized(object, bytes, "free_aligned_sized");
}

// Removed from glibc's headers, but old binaries call it.
TARN_EXPORT void cfree(void* object) { Replaced(Function::kFree) ? bound::Free(object) : free(object); }

TARN_EXPORT void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
  if (!IsPowerOfTwo(alignment)) {
    errno = EINVAL;
    return nullptr;
  }
  return Memalign(alignment, bytes);
}

TARN_EXPORT int posix_memalign(void** result, std::size_t alignment, std::size_t bytes) noexcept {
  if (!IsPowerOfTwo(alignment) || alignment % sizeof(void*) != 0) return EINVAL;
  void* object = AllocateAligned(bytes, alignment);
  if (object == nullptr) return ENOMEM;
  *result = object;
  return 0;
}

TARN_EXPORT void* memalign(std::size_t alignment, std::size_t bytes) noexcept {
  // As glibc: any alignment is rounded up to a power of two; one that has none in range is refused.
  if (alignment > SIZE_MAX / 2 + 1) {
    errno = EINVAL;
    return nullptr;
  }
  return Memalign(std::bit_ceil(alignment), bytes);
}

TARN_EXPORT void* valloc(std::size_t bytes) noexcept { return PageAligned(bytes); }

TARN_EXPORT void* pvalloc(std::size_t bytes) noexcept {
  const std::size_t page_bytes = OsPageBytes();
  if (bytes > SIZE_MAX - page_bytes) {
    errno = ENOMEM;
    return nullptr;
  }
  return PageAligned((bytes + page_bytes - 1) / page_bytes * page_bytes);
}

TARN_EXPORT std::size_t malloc_usable_size(void* object) noexcept { return UsableBytes(object, "malloc_usable_size"); }

}  // extern "C"

}  // namespace tarn

TARN_OWN_NAME(malloc, "malloc");
TARN_OWN_NAME(free, "free");
TARN_OWN_NAME(realloc, "realloc");
TARN_OWN_NAME(memalign, "memalign");
TARN_OWN_NAME(aligned_alloc, "aligned_alloc");
TARN_OWN_NAME(posix_memalign, "posix_memalign");
