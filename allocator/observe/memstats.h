// SPDX-License-Identifier: Apache-2.0
//
// The statistics of this process, as the public header describes them, and as a table for people.
#pragma once

#include "allocator/include/tarn/memstats.h"
#include "allocator/include/tarn/snapshot.h"

namespace tarn {

// All zeroes when the heap of the block has not started. What the kernel has to say (rss_bytes) is left out with
// `ask_kernel` false, which spares three system calls.
void ReadMemStats(const tarn_snapshot_block& block, bool ask_kernel, tarn_memstats_t* stats);

// Writes a table for people to stderr, without allocating.
void WriteStatistics(const tarn_memstats_t& stats);

}  // namespace tarn
