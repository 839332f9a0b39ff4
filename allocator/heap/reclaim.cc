// SPDX-License-Identifier: Apache-2.0

#include "allocator/heap/reclaim.h"

#include "allocator/heap/deferred_frees.h"
#include "allocator/heap/hardened_objects.h"
#include "allocator/heap/process_heap.h"
#include "allocator/heap/regions.h"
#include "allocator/heap/slow_path.h"
#include "allocator/os/stall.h"

namespace tarn {

Reclaimed Reclaim(ReclaimDepth depth, const char* call, std::size_t keep_bytes) {
  Reclaimed reclaimed;
  FreeKeptRegions();
  if (depth == ReclaimDepth::kToKernel && Hardens()) EmptyHardenedQuarantine(call);
  reclaimed.drained_bytes = process_heap.cpu_cache.DrainAll(call);
  if (depth == ReclaimDepth::kToKernel) {
    reclaimed.released_bytes = process_heap.page_heap.ReleaseFree(keep_bytes, keep_bytes == 0);
  }
  return reclaimed;
}

std::size_t ReleaseBytes(std::size_t bytes) {
  if (bytes == SIZE_MAX) return Trim(0);
  SlowPath path;
  if (path.nested()) return 0;
  FreeDeferred();
  PageHeap& page_heap = process_heap.page_heap;
  std::size_t released_bytes = page_heap.ReleaseOldest(bytes);
  if (released_bytes < bytes) {
    Reclaim(ReclaimDepth::kToPageHeap, "tarn_release_memory");
    released_bytes += page_heap.ReleaseOldest(bytes - released_bytes);
  }
  if (released_bytes < bytes) released_bytes += page_heap.ReleaseFree(0, true);
  ForgetStall();
  return released_bytes;
}

std::size_t Trim(std::size_t keep_bytes) {
  SlowPath path;
  if (path.nested()) return 0;
  FreeDeferred();
  const Reclaimed reclaimed = Reclaim(ReclaimDepth::kToKernel, "malloc_trim", keep_bytes);
  ForgetStall();
  return reclaimed.released_bytes;
}

}  // namespace tarn
