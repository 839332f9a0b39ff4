// SPDX-License-Identifier: Apache-2.0
//
// Stands in for rseq.cc in the build without rseq: slabs belong to threads, and nothing is asked of the kernel.
#include "allocator/os/rseq.h"
#include "allocator/os/thread_state.h"

namespace tarn {

RseqSupport DetectRseq(bool) {
  RseqSupport support;
  support.reason = "built without rseq";
  support.id_offset = ThreadPointerOffset(&thread_state.slab_index);
  support.rseq_cs_offset = ThreadPointerOffset(&thread_state.area.rseq_cs);
  return support;
}

bool RegisterThreadArea() { return false; }

bool AbortAllSequences() { return false; }

}  // namespace tarn
