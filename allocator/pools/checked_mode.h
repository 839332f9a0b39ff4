// SPDX-License-Identifier: Apache-2.0
//
// The checked mode of a pool, an arena or a heap: by its own option, or for all of them by TARN_CHECK.
#pragma once

#include "allocator/heap/process_heap.h"

namespace tarn {

// The caller has called PrepareThread: the settings are read.
inline bool IsChecked(int option) { return option != 0 || process_heap.checks(); }

}  // namespace tarn
