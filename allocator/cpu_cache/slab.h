// SPDX-License-Identifier: Apache-2.0
//
// A slab: the table of cached pointers of one (virtual) CPU, or of one thread where there is no rseq.
//
// Pop and Push work on it (cpu_cache/slab_ops.h); cpu_cache/cpu_cache.h decides what is in it.
//
//   +-----------------------------+ 0
//   | SlabHeader, one per class   |   32 bytes each: all that a pop or push reads besides the slot
//   +-----------------------------+
//   | SlabPolicy                  |   the budget, of slow paths only
//   | SlabCounters, one per class |
//   +-----------------------------+ kFirstSlot * 8
//   | near slots of class 1       |   [begin, end) is in use as a stack, [end, limit) is room to grow into
//   | near slots of class 2 ...   |
//   +-----------------------------+
//   | far slots of class 1        |   of classes that may have more than 64 slots
//   | far slots of class 2 ...    |
//   +-----------------------------+
//
// begin, end and limit of a class are in its near slots, until it needs more of them than there are
// (CpuCache::MoveToFarSlots). A small process so touches seven pages of a slab, and not one page for each class.
//
// A slot is named by its index from the start of the slab in units of 8 bytes, so that 16 bits suffice. Slots that were
// never used are never touched.
//
// Who may write a header: Pop, Push and their kin on the slab that the running thread's id names, whose one store
// commits; and a thread that took the slab out of the table (CpuCache::DrainAll), with plain stores.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "allocator/base/units.h"
#include "allocator/rseq/current_index.h"

namespace tarn {

// word:  63                         16 15            0
//        |  pops since the start (48) |  top (16)     |
//
// `top` is the index of the first slot above the stack: begin <= top <= end. A pop adds 0xFFFF (one pop more, top one
// lower), a push adds 1; that one store commits the operation, the counting comes with it.
struct alignas(32) SlabHeader {
  std::uint64_t word;
  // A pop that finds word >= sample_due leaves it to the slow path. In the unit of word: pops << 16. The low 16 bits
  // hold the sampler's shift at the time of the drawing; they are below every top and change nothing in the comparison.
  std::uint64_t sample_due;
  std::uint16_t begin;
  std::uint16_t end;
  std::uint16_t limit;  // the most that end may become
  std::uint16_t reserved[5];
};
static_assert(sizeof(SlabHeader) == 32);

inline constexpr std::size_t kSlabHeaderShift = 5;
inline constexpr int kSlabPopsShift = 16;
inline constexpr std::uint64_t kSlabTopMask = 0xFFFF;
inline constexpr std::uint64_t kSlabPopIncrement = (std::uint64_t{1} << kSlabPopsShift) - 1;
// More pops than there will ever be, with room above so that flushes can move it on.
inline constexpr std::uint64_t kNeverSample = std::uint64_t{1} << 63;

// Objects that the slow paths moved, because pops and pushes count their batches too:
//   allocations by the program = pops - flushed + direct_allocations
//   frees by the program       = pushes - refilled + direct_frees,   pushes = (top - begin) + pops
// Several threads may be in a slow path of the same slab at once, so these are atomics.
struct SlabCounters {
  std::atomic<std::uint64_t> refilled;            // objects pushed by refills
  std::atomic<std::uint64_t> flushed;             // objects popped by flushes, drains and stealing
  std::atomic<std::uint64_t> direct_allocations;  // handed to the program without a pop
  std::atomic<std::uint64_t> direct_frees;        // taken from the program without a push
  std::atomic<std::uint32_t> refills;
  std::atomic<std::uint32_t> flushes;
  // A miss since the stealing hand came by.
  std::atomic<bool> recently_missed;
  // The kind of the last miss, see CpuCache::Grow.
  std::atomic<std::uint8_t> last_miss;
  // For DrainIdle, under the drain lock: how many times in a row it found the header's word as it was, of which it
  // keeps the low half.
  std::uint8_t idle_looks;
  std::uint8_t reserved;
  std::uint32_t word_at_look;
};

struct SlabPolicy {
  // The bound on the capacity of all classes together. Does not change.
  std::int64_t budget_bytes;
  // Bytes of the budget that no class has as capacity.
  std::atomic<std::int64_t> spare_bytes;
  // The page heap's growth when the slab was last swept.
  std::atomic<std::uint64_t> growth_at_sweep;
  // The class that the stealing hand points at.
  std::atomic<std::uint32_t> steal_hand;
  std::uint32_t reserved;
};

struct Slab {
  SlabHeader headers[kSizeClassCount];
  SlabPolicy policy;
  SlabCounters counters[kSizeClassCount];
  // The low half of each header's word at the last sweep: equal where the class was neither popped from nor pushed to.
  std::atomic<std::uint32_t> words_at_sweep[kSizeClassCount];
  // Slots follow; they are addressed through slots().

  void** slots() { return reinterpret_cast<void**>(this); }
};

inline constexpr std::size_t kFirstSlot = (sizeof(Slab) + sizeof(void*) - 1) / sizeof(void*);

// The near slots of all classes take 18 KiB. Chosen: the first batch fits, and few classes of a small process get more.
inline constexpr std::size_t kNearSlots = kMaxBatchObjects;

// The most slabs: one per possible CPU, or one per living thread in the thread mode (threads beyond it go without).
// CONFIG_NR_CPUS goes no higher than 8192.
inline constexpr std::size_t kMaxSlabs = 8192;

// operator delete(void*); its forms without a size; those with one, unless checks are to see the size.
inline constexpr std::uint32_t kDirectDelete = 1;
inline constexpr std::uint32_t kDirectDerivedDelete = 2;
inline constexpr std::uint32_t kDirectSizedDelete = 4;

// The words that the hit paths of malloc and free read first.
struct SlabTable {
  // Requests below this are served by the hit path. 0 until the allocator has started. So the very first malloc, which
  // the loader may make before any constructor ran, takes the slow path without a test of its own.
  std::size_t hit_limit_bytes;
  // The same for operator new, and for its other forms; both stay 0 where the program has replaced what they are
  // defined by (entry/replaced.h).
  std::size_t new_limit_bytes;
  std::size_t derived_new_limit_bytes;
  // Where the index of the thread's slab is, and rseq_cs.
  RseqOffsets offsets;
  // Which forms of operator delete may go by the hit path of free: kDirectDelete and so on.
  std::uint32_t direct_operators;
  // A thread without a slab of its own has the index -1 (thread mode), or one that is not registered the cpu_id -1 or
  // -2: the two entries below index 0 hold the empty slab, so that no operation needs a test of the range.
  Slab* unregistered[2];
  std::atomic<Slab*> slabs[kMaxSlabs];
};

extern constinit SlabTable slab_table;

// Capacity zero and a sample due in every class: both operations fall into their slow paths by themselves. Only its
// headers exist, all zeroes, in read-only memory.
//
// There is one for each number of vfork children that keep an index empty (cpu_cache/vfork_child.cc): they overlap,
// each begins one header behind the other. So one compare-and-exchange of the table entry changes the number, too.
inline constexpr std::size_t kMaxVforkChildren = 31;
extern const SlabHeader empty_headers[kSizeClassCount + kMaxVforkChildren];
inline Slab* EmptySlab(std::size_t vfork_children = 0) {
  return reinterpret_cast<Slab*>(const_cast<SlabHeader*>(empty_headers + vfork_children));
}
inline bool IsEmptySlab(const Slab* slab) {
  const std::uintptr_t offset =
      reinterpret_cast<std::uintptr_t>(slab) - reinterpret_cast<std::uintptr_t>(empty_headers);
  return offset <= kMaxVforkChildren * sizeof(SlabHeader);
}
// Of an empty slab.
inline std::size_t VforkChildrenOf(const Slab* slab) {
  return static_cast<std::size_t>(reinterpret_cast<const SlabHeader*>(slab) - empty_headers);
}

// The index that a sequence of the running thread would use now, see rseq/current_index.h. For slow paths.
inline std::int32_t CurrentIndex() { return CurrentIndex(slab_table.offsets); }

}  // namespace tarn
