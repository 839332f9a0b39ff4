// SPDX-License-Identifier: Apache-2.0
//
// Restartable sequences and the barrier that goes with them: finding out what the kernel and libc offer.
//
// The frame of the sequences is in rseq/sequence_x86_64.h. Facts: linux/rseq.h, rseq(2) as described by glibc's manual
// ("Restartable Sequences"), membarrier(2).
#pragma once

#include "allocator/rseq/current_index.h"

namespace tarn {

// How slabs are indexed.
enum class RseqIndex {
  kNone,   // no usable rseq: slabs belong to threads
  kCpuId,  // by the CPU's number
  kMmCid,  // by the compact id that Linux 6.3 and later keep below min(threads, CPUs) of the process
};

struct RseqSupport {
  RseqIndex index = RseqIndex::kNone;
  RseqOffsets offsets;
  // The area is ours, so every thread has to register it by RegisterThreadArea before its ids mean anything.
  bool register_threads = false;
  // membarrier can restart the sequences of all other threads.
  bool remote_abort = false;
  // Why the index is kNone, in words for the start line.
  const char* reason = nullptr;
};

// Looks at libc's registration, tries our own where there is none, and checks the ids against the kernel's word.
// Registers the process with membarrier. With `by_thread` the answer is kNone: slabs shall belong to threads. Called
// once, at start-up; may change errno.
RseqSupport DetectRseq(bool by_thread);

// Registers the calling thread's own area (register_threads only). False when the kernel refuses.
bool RegisterThreadArea();

// Restarts every sequence that any thread of the process is in. When it returns true, each thread either has committed
// before or will see, in its next sequence, all stores that were made before the call (membarrier is a full barrier on
// every CPU that runs the process). False: the kernel refused, nothing is known.
[[nodiscard]] bool AbortAllSequences();

}  // namespace tarn
