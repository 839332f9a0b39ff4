// SPDX-License-Identifier: Apache-2.0
//
// The block that tells readers where the live counters lie (tarn/snapshot.h).
#pragma once

#include <cstddef>
#include <string_view>

#include "allocator/central/transfer_cache.h"
#include "allocator/cpu_cache/cpu_cache.h"
#include "allocator/include/tarn/registry.h"
#include "allocator/include/tarn/snapshot.h"
#include "allocator/observe/profile.h"
#include "allocator/pages/page_heap.h"

namespace tarn {

// The process's own, which the world knows as tarn_snapshot.
extern constinit tarn_snapshot_block own_snapshot asm("tarn_snapshot");

// The records of tarn/registry.h, which pools/registry.h gives out. They stand here to be published.
extern constinit tarn_registry_record own_registry[TARN_REGISTRY_RECORDS];

// The floors of one heap. `sampled_lists` and `profile` may be null; the arrays have one entry per size class.
struct HeapParts {
  const PageHeap* page_heap;
  const TransferCache* transfer_caches;
  const CentralFreeList* sampled_lists;
  const CpuCache* cpu_cache;
  const Profile* profile;
  const tarn_snapshot_limits* limits = nullptr;
  const tarn_snapshot_scavenger* scavenger = nullptr;
  const tarn_snapshot_release* release = nullptr;
  const tarn_snapshot_limit_request* limit_request = nullptr;
  const tarn_snapshot_option* options = nullptr;
  std::size_t option_count = 0;
  const tarn_snapshot_guards* guards = nullptr;
};

// Fills in the block of a heap whose floors have been set up, and marks it as started.
void PublishHeap(const HeapParts& parts, std::string_view version, tarn_snapshot_block* block);

}  // namespace tarn
