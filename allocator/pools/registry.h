// SPDX-License-Identifier: Apache-2.0
//
// The registry of named arenas, pools and heaps: finding a name's record, and counting in it.
//
// The records are plain memory that is never given back (allocator/include/tarn/registry.h says what is in them).
//
// Protocol: a record's `state` goes 0 -> 1 -> 2, each step once. The thread that moves it from 0 to 1 by
// compare-exchange writes name and kind and then stores 2 with release; a reader that sees 2 with acquire may read
// both. Two threads that look for the same new name walk the array in the same order. So the second one meets the first
// one's record, waits for the 2 and compares names. The 2 is a few instructions away, and a fork in between is seen by
// the bounded wait. Figures are relaxed atomic additions.
#pragma once

#include <cstdint>

#include "allocator/include/tarn/registry.h"

namespace tarn {

// The record for the name, made if there is none yet; null for a null or empty name. Counts one instance more.
tarn_registry_record* JoinRegistry(const char* name, std::uint32_t kind);
// Counts one instance less. Null is allowed, here and below.
void LeaveRegistry(tarn_registry_record* record);

inline void CountSigned(std::int64_t* figure, std::int64_t change) {
  if (change != 0) __atomic_fetch_add(figure, change, __ATOMIC_RELAXED);
}
inline void CountUp(std::uint64_t* figure, std::uint64_t change = 1) {
  if (change != 0) __atomic_fetch_add(figure, change, __ATOMIC_RELAXED);
}

}  // namespace tarn
