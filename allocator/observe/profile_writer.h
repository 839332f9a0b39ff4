// SPDX-License-Identifier: Apache-2.0
//
// Writes the heap profile of this process as profile.proto (github.com/google/pprof), without allocating.
//
// For the public functions of tarn/profile.h. Reads the published tables like any reader from outside, so it takes
// no lock and stops nobody. What it needs to remember (which addresses it has written) lies in memory that it maps for
// the time of the call; of the stack it takes less than 4 KiB, for signal handlers may run on a small one. The file has
// addresses and mappings but no names: `tarn heap FILE` or pprof add those.
#pragma once

#include "allocator/include/tarn/snapshot.h"

namespace tarn {

// False, with the reason in errno, when the file could not be written or there was no memory.
bool WriteHeapProfile(const tarn_snapshot_block& block, int descriptor);

}  // namespace tarn
