// SPDX-License-Identifier: Apache-2.0
//
// Whether a pool, an arena or a heap is in the checked mode: by its own option, or all of them by TARN_CHECK.
#pragma once

#include "allocator/heap/process_heap.h"

namespace tarn {

// Whoever calls this has called PrepareThread: the settings are read.
inline bool IsChecked(int option) { return option != 0 || process_heap.checks(); }

}  // namespace tarn
