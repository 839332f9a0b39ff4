// SPDX-License-Identifier: Apache-2.0

#include "allocator/heap/reclaim.h"

#include "allocator/heap/process_heap.h"
#include "allocator/heap/regions.h"

namespace tarn {

std::size_t Reclaim(ReclaimDepth depth, const char* call, std::size_t keep_bytes) {
  FreeKeptRegions();
  process_heap.cpu_cache.DrainAll(call);
  if (depth == ReclaimDepth::kToPageHeap) return 0;
  return process_heap.page_heap.ReleaseFree(keep_bytes, keep_bytes == 0);
}

}  // namespace tarn
