// SPDX-License-Identifier: Apache-2.0
//
// Reads of a slab by threads that may not own it: relaxed loads, of values that may be stale at once.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "allocator/cpu_cache/slab.h"

namespace tarn {

// Others change it by SlabSetEnd only, which compares; so a stale value is caught there.
inline std::uint16_t LoadEnd(Slab* slab, SizeClass size_class) {
  return std::atomic_ref<std::uint16_t>(slab->headers[size_class].end).load(std::memory_order_relaxed);
}

inline std::uint64_t LoadWord(const Slab* slab, SizeClass size_class) {
  return std::atomic_ref<std::uint64_t>(const_cast<Slab*>(slab)->headers[size_class].word)
      .load(std::memory_order_relaxed);
}

inline std::uint64_t LoadDue(const Slab* slab, SizeClass size_class) {
  return std::atomic_ref<std::uint64_t>(const_cast<Slab*>(slab)->headers[size_class].sample_due)
      .load(std::memory_order_relaxed);
}

template <typename T>
void Count(std::atomic<T>& counter, std::size_t by) {
  counter.fetch_add(static_cast<T>(by), std::memory_order_relaxed);
}

}  // namespace tarn
