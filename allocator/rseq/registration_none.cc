// SPDX-License-Identifier: Apache-2.0
//
// Stands in for registration.cc in the build without rseq: slabs belong to threads, and nothing is asked of the kernel.
#include "allocator/os/thread_state.h"
#include "allocator/rseq/registration.h"

namespace tarn {

RseqSupport DetectRseq(bool) {
  RseqSupport support;
  support.reason = "built without rseq";
  support.offsets.id = ThreadPointerOffset(&thread_state.slab_index);
  support.offsets.rseq_cs = ThreadPointerOffset(&thread_state.area.rseq_cs);
  return support;
}

bool RegisterThreadArea() { return false; }

bool AbortAllSequences() { return false; }

}  // namespace tarn
