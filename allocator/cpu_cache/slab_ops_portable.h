// SPDX-License-Identifier: Apache-2.0
//
// The slab operations for the mode without rseq, in plain C++: the slab belongs to the running thread.
//
// Used where there is no assembly for the architecture, and by the build without rseq, which valgrind and the thread
// sanitizer can follow. The layout and the order of stores are those of the other modes: slots first, the word last.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "allocator/base/attributes.h"
#include "allocator/cpu_cache/slab.h"
#include "allocator/os/thread_state.h"

namespace tarn {

TARN_ALWAYS_INLINE Slab* OwnSlab() {
  // An id of -1 or -2 means the entries in front of the table.
  const std::int32_t id = thread_state.slab_index;
  return id < 0 ? slab_table.unregistered[id + 2] : slab_table.slabs[id].load(std::memory_order_relaxed);
}

TARN_ALWAYS_INLINE bool SlabTryPop(SizeClass size_class, void** object) {
  Slab* slab = OwnSlab();
  SlabHeader& header = slab->headers[size_class];
  const std::uint64_t top = header.word & kSlabTopMask;
  if (header.word >= header.sample_due || top <= header.begin) return false;
  *object = slab->slots()[top - 1];
  header.word += kSlabPopIncrement;
  return true;
}

TARN_ALWAYS_INLINE bool SlabPush(SizeClass size_class, void* object) {
  Slab* slab = OwnSlab();
  SlabHeader& header = slab->headers[size_class];
  const std::uint64_t top = header.word & kSlabTopMask;
  if (top >= header.end || slab->slots()[top - 1] == object) return false;
  slab->slots()[top] = object;
  ++header.word;
  return true;
}

TARN_ALWAYS_INLINE std::size_t SlabPopBatch(SizeClass size_class, void** objects, std::size_t count) {
  Slab* slab = OwnSlab();
  SlabHeader& header = slab->headers[size_class];
  const std::size_t top = header.word & kSlabTopMask;
  const std::size_t taken = std::min<std::size_t>(count, top - header.begin);
  if (taken == 0) return 0;  // The empty slab is read-only.
  std::copy(slab->slots() + top - taken, slab->slots() + top, objects);
  header.word += taken * kSlabPopIncrement;
  return taken;
}

TARN_ALWAYS_INLINE std::size_t SlabPushBatch(SizeClass size_class, void* const* objects, std::size_t count) {
  Slab* slab = OwnSlab();
  SlabHeader& header = slab->headers[size_class];
  const std::size_t top = header.word & kSlabTopMask;
  const std::size_t pushed = std::min<std::size_t>(count, header.end - top);
  if (pushed == 0) return 0;
  std::copy(objects, objects + pushed, slab->slots() + top);
  header.word += pushed;
  return pushed;
}

TARN_ALWAYS_INLINE bool SlabSetEnd(SizeClass size_class, const Slab* expected_slab, std::uint16_t old_end,
                                   std::uint16_t new_end) {
  Slab* slab = OwnSlab();
  SlabHeader& header = slab->headers[size_class];
  if (slab != expected_slab || header.end != old_end || (header.word & kSlabTopMask) > new_end) return false;
  header.end = new_end;
  return true;
}

TARN_ALWAYS_INLINE bool SlabClaimSample(SizeClass size_class, const Slab* expected_slab, std::uint64_t distance,
                                        std::uint64_t* due) {
  Slab* slab = OwnSlab();
  SlabHeader& header = slab->headers[size_class];
  if (slab != expected_slab || header.word < header.sample_due) return false;
  *due = header.sample_due;
  header.sample_due = (header.word & ~kSlabTopMask) + distance;
  return true;
}

}  // namespace tarn
