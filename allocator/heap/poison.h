// SPDX-License-Identifier: Apache-2.0
//
// Telling AddressSanitizer which memory is nobody's at present, where it is in the process.
//
// The library itself is not compiled with it, so its functions are weak here. Only objects whose user is compiled with
// it are poisoned: nobody else takes the poison off again.
#pragma once

#include <cstddef>

extern "C" {
__attribute__((weak)) void __asan_poison_memory_region(void const volatile* start, std::size_t bytes);
__attribute__((weak)) void __asan_unpoison_memory_region(void const volatile* start, std::size_t bytes);
}

namespace tarn {

inline bool CanPoison() { return &__asan_poison_memory_region != nullptr && &__asan_unpoison_memory_region != nullptr; }
inline void Poison(bool wanted, const void* start, std::size_t bytes) {
  if (wanted && bytes != 0) __asan_poison_memory_region(start, bytes);
}
inline void Unpoison(bool wanted, const void* start, std::size_t bytes) {
  if (wanted && bytes != 0) __asan_unpoison_memory_region(start, bytes);
}

}  // namespace tarn
