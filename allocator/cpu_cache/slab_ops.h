// SPDX-License-Identifier: Apache-2.0
//
// The seam between the architectures: each offers the six operations on the current slab.
//
//   bool SlabTryPop(c, &object)        the top object of the class; false: empty, a sample is due, or no slab
//   bool SlabPush(c, object)           false: full, no slab, or the slot below the top has the same object
//   size_t SlabPopBatch(c, out, n)     up to n of the top objects
//   size_t SlabPushBatch(c, in, n)     up to n objects
//   bool SlabSetEnd(c, slab, old, new) changes the end of the class's slots from old to new, if the current slab is
//                                      `slab` and holds no object above the new end
//   bool SlabClaimSample(c, slab, distance, &due)   takes a sample that is due, if the current slab is `slab`: the next
//                                      one is then `distance` away; `due` is what was due
//
// Each is all or nothing against preemption, migration and signals, and against a drain that takes the slab out of the
// table: it works on one slab, which is the current one at the moment of its commit. In the thread mode the current
// slab is the thread's own; where the kernel has no rseq for the thread, a signal handler that allocates while it
// interrupts one of them is not safe.
#pragma once

#include "allocator/rseq/sequence.h"

#if TARN_HAS_SEQUENCES
#include "allocator/cpu_cache/slab_ops_x86_64.h"
#else
#include "allocator/cpu_cache/slab_ops_portable.h"
#endif

namespace tarn {

// The same with null for false.
inline void* SlabPop(SizeClass size_class) {
  void* object;
  void* volatile result = nullptr;  // volatile: see the head of sequence_x86_64.h
  if (SlabTryPop(size_class, &object)) result = object;
  return result;
}

}  // namespace tarn
