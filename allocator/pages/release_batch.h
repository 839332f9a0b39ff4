// SPDX-License-Identifier: Apache-2.0
//
// Free pages of several huge pages in use that go to the kernel by one call.
#pragma once

#include <cstddef>
#include <iterator>

#include "allocator/base/units.h"
#include "allocator/os/virtual_memory.h"
#include "allocator/pages/in_flight.h"

namespace tarn {

// The number of trackers that a pass over packed huge pages looks at before it lets others have the lock: some 10 us.
inline constexpr std::size_t kTrackersPerHold = 64;
// The stack that functions with a batch, of some 4 KiB, need beyond it. They touch it before they take the lock,
// so that a stack overflow leaves the lock free.
inline constexpr std::size_t kReleaseStackBytes = 2048;

// On the stack of the thread that releases, some 4 KiB.
struct ReleaseBatch {
  static constexpr std::size_t kHugePages = 8;

  // True if another huge page has room: none has more runs than half its pages.
  bool HasRoom() const {
    return huge_page_count < kHugePages && range_count + kPagesPerHugePage / 2 <= std::size(ranges);
  }

  std::size_t huge_page_count = 0;
  std::size_t range_count = 0;
  std::size_t bytes = 0;
  InFlight* in_flight[kHugePages];
  MemoryRange ranges[kPagesPerHugePage];
};

}  // namespace tarn
