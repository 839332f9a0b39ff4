// SPDX-License-Identifier: Apache-2.0
//
// Names what the policies act on. The root hands it to each of them at the start, so that none of them names the root.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/cpu_cache/cpu_cache.h"
#include "allocator/pages/page_heap.h"
#include "allocator/policy/background.h"
#include "allocator/settings/options.h"

namespace tarn {

class Limits;

// Constant, one per heap. The functions are those of rooms above, for slow paths.
struct PolicyParts {
  PageHeap* page_heap;
  CpuCache* cpu_cache;
  const Background* background;
  Limits* limits;
  // The setting, which may change.
  std::uint32_t (*release_delay_ms)();
  // Makes one setting as the program itself would.
  void (*set_memory_limit)(LimitSetting setting);
  // Drains kept regions and objects in caches into the page heap. Returns the bytes from caches.
  std::size_t (*drain)(const char* call);
  // The same, and releases all free pages. Returns the bytes that the kernel got.
  std::size_t (*release_all)(const char* call);
  // Lets pools free what they can do without.
  void (*report_pressure)();
};

}  // namespace tarn
