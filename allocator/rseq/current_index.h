// SPDX-License-Identifier: Apache-2.0
//
// The index of the running thread: what its next sequence would use, read by plain code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/os/thread_state.h"

namespace tarn {

// Where the words that a sequence reads lie, as offsets from the thread pointer: the same in every thread.
struct RseqOffsets {
  std::ptrdiff_t id = 0;       // the field with the index: cpu_id, mm_cid, or the thread's slab_index
  std::ptrdiff_t rseq_cs = 0;  // the field rseq_cs of the area
};

// cpu_id lies 4 bytes before rseq_cs (linux/rseq.h), so its place needs no word of its own.
inline constexpr std::ptrdiff_t kFromRseqCsToCpuId = offsetof(RseqArea, rseq_cs) - offsetof(RseqArea, cpu_id);
static_assert(kFromRseqCsToCpuId == 4);

// Reads an id as the kernel writes it: between any two instructions, so volatile.
inline std::int32_t ReadId(std::ptrdiff_t offset) {
  return *reinterpret_cast<const volatile std::int32_t*>(static_cast<const char*>(__builtin_thread_pointer()) + offset);
}

// Returns the index that a sequence of the running thread would use now. Negative: its sequences miss. It may be out of
// date when it is returned, so it chooses a place and never proves that the thread owns it.
inline std::int32_t CurrentIndex(const RseqOffsets& offsets) {
  const std::int32_t cpu_id = ReadId(offsets.rseq_cs - kFromRseqCsToCpuId);
  return cpu_id < 0 ? cpu_id : ReadId(offsets.id);
}

}  // namespace tarn
