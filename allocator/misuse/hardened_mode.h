// SPDX-License-Identifier: Apache-2.0
//
// The hardened mode (TARN_HARDEN): its random numbers and its quarantines. heap/hardened_objects.h has what it does.
//
// The mode is settled at the start and does not change. All of it is zero where it is off.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "allocator/base/random_stream.h"
#include "allocator/misuse/delayed_frees.h"
#include "size_classes/size_classes.h"

namespace tarn {

struct HardenedMode {
  RandomKey key = {};
  // By size class: where objects are placed, under the lock of the class's list; and what was freed.
  RandomStream placement[kSizeClassCount];
  DelayedFrees freed[kSizeClassCount];
  // The spans of freed large objects, and their bytes: addresses, whose memory went back to the kernel.
  DelayedFrees freed_spans;
  std::atomic<std::size_t> freed_span_bytes = 0;
  static constexpr std::size_t kMostSpanBytes = std::size_t{128} << 20;  // chosen
};

extern constinit HardenedMode hardened_mode;

// Apart from the rest, which no other process touches.
extern constinit bool hardens;
inline bool Hardens() { return hardens; }

// Once, at the start, before any object exists. `quarantine_bytes` bounds what is kept of each class.
void BeginHardening(std::size_t quarantine_bytes);
// New random numbers, for the child of a fork. What the streams have in store is dropped by CentralFreeList.
void RenewRandom();

}  // namespace tarn
