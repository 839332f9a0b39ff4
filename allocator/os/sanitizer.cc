// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/sanitizer.h"

#include <algorithm>

extern "C" {
#define TARN_WEAK __attribute__((weak))
TARN_WEAK void* __interceptor_calloc(std::size_t count, std::size_t bytes);
TARN_WEAK void* __interceptor_realloc(void* object, std::size_t bytes);
TARN_WEAK int __interceptor_posix_memalign(void** object, std::size_t alignment, std::size_t bytes);
TARN_WEAK void __interceptor_free(void* object);
TARN_WEAK std::size_t __interceptor_malloc_usable_size(void* object);
#undef TARN_WEAK
}

namespace tarn {

bool HasSanitizerFunctions() {
  return __interceptor_malloc != nullptr && __interceptor_calloc != nullptr && __interceptor_realloc != nullptr &&
         __interceptor_posix_memalign != nullptr && __interceptor_free != nullptr &&
         __interceptor_malloc_usable_size != nullptr;
}

void* SanitizerMalloc(std::size_t bytes) { return __interceptor_malloc(bytes); }

void* SanitizerCalloc(std::size_t bytes) { return __interceptor_calloc(1, bytes); }

void* SanitizerRealloc(void* object, std::size_t bytes) { return __interceptor_realloc(object, bytes); }

void* SanitizerMemalign(std::size_t alignment, std::size_t bytes) {
  void* object = nullptr;
  return __interceptor_posix_memalign(&object, std::max(alignment, sizeof(void*)), bytes) == 0 ? object : nullptr;
}

void SanitizerFree(void* object) { __interceptor_free(object); }

std::size_t SanitizerUsableBytes(const void* object) {
  return __interceptor_malloc_usable_size(const_cast<void*>(object));
}

}  // namespace tarn
