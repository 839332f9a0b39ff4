// SPDX-License-Identifier: Apache-2.0
//
// tarn/poison.h: telling AddressSanitizer which memory is free, in programs that are compiled with it; else nothing.
#ifndef TARN_POISON_H
#define TARN_POISON_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define TARN_POISON_MEMORY 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TARN_POISON_MEMORY 1
#endif
#endif
#ifndef TARN_POISON_MEMORY
#define TARN_POISON_MEMORY 0
#endif

#if TARN_POISON_MEMORY
#ifdef __cplusplus
extern "C" {
#endif
void __asan_poison_memory_region(void const volatile* start, size_t bytes);
void __asan_unpoison_memory_region(void const volatile* start, size_t bytes);
#ifdef __cplusplus
}
#endif
#endif

#ifdef __cplusplus
namespace tarn {
// Null is ignored by the second one.
inline void PoisonMemory([[maybe_unused]] void* start, [[maybe_unused]] size_t bytes) {
#if TARN_POISON_MEMORY
  __asan_poison_memory_region(start, bytes);
#endif
}
inline void UnpoisonMemory([[maybe_unused]] void* start, [[maybe_unused]] size_t bytes) {
#if TARN_POISON_MEMORY
  if (start != nullptr) __asan_unpoison_memory_region(start, bytes);
#endif
}
}  // namespace tarn
#endif

#endif
