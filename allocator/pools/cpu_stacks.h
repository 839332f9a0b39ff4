// SPDX-License-Identifier: Apache-2.0
//
// Stacks of pointers, one per CPU (or per thread, in the thread mode), for the pools of the user's API.
//
// The same idea as the slabs of malloc (cpu_cache/slab.h), for one size: pop and push are restartable sequences on the
// stack that the running thread's id names. For block_pool.cc and pool.cc; the operations are in
// cpu_stacks_x86_64.h and cpu_stacks_portable.h.
//
//   stacks + id * stride:  | word | capacity | slot 0 | slot 1 | ...
//
//   word:  63                          16 15            0
//          |  pops since the start (48) |  top (16)     |
//
// A pop adds 0xFFFF to the word, a push adds 1: that one store commits. A stack is all zeroes until its first miss:
// capacity zero, so that both operations miss; then any thread stores the capacity, which is the same for all of them.
//
// Owning all stacks. With the pool's bound at 0 every id is out of range and every operation misses. To look into
// the stacks of other CPUs, a thread stores 0 there and restarts all sequences under way (AbortAllSequences, a
// barrier on every CPU). Then it works with plain loads and stores, and stores the bound again with release; a
// sequence that sees it reads the stack through it afterwards. In the thread mode, and in the build without rseq,
// there is no such barrier: then a thread may look only when no other call uses the pool.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "allocator/base/attributes.h"
#include "allocator/cpu_cache/slab.h"
#include "allocator/rseq/sequence.h"

namespace tarn {

struct CpuStack {
  std::uint64_t word;
  std::uint64_t capacity;
  void* slots[1];

  std::size_t top() const { return word & 0xFFFF; }
  std::uint64_t pops() const { return word >> 16; }
};

struct CpuStacks {
  std::uint64_t bound;         // ids below it have a stack; 0 while somebody owns them all
  std::uint64_t stride_bytes;  // from one stack to the next
  char* stacks;
  std::uint64_t ids;  // the value of bound in use
  std::uint64_t capacity;

  static constexpr std::size_t StrideBytes(std::size_t capacity) {
    return (2 * sizeof(std::uint64_t) + capacity * sizeof(void*) + 63) / 64 * 64;
  }
  CpuStack* At(std::size_t id) { return reinterpret_cast<CpuStack*>(stacks + id * stride_bytes); }
};

// The id that an operation of the running thread would use now. Far too large where the thread has none.
inline std::uint32_t CurrentStackId() { return static_cast<std::uint32_t>(CurrentIndex()); }

}  // namespace tarn

#if TARN_HAS_SEQUENCES
#include "allocator/pools/cpu_stacks_x86_64.h"
#else
#include "allocator/pools/cpu_stacks_portable.h"
#endif

namespace tarn {

// Gives the running CPU's stack its capacity. A store of the same value by two threads does no harm.
inline void EnableStack(CpuStacks* stacks) {
  const std::uint64_t id = CurrentStackId();
  if (id >= __atomic_load_n(&stacks->bound, __ATOMIC_RELAXED)) return;
  __atomic_store_n(&stacks->At(id)->capacity, stacks->capacity, __ATOMIC_RELAXED);
}

}  // namespace tarn
