// SPDX-License-Identifier: Apache-2.0
//
// A pool of blocks of one size in regions of its own: what ObjectPool is, and each size of a Heap.
//
// For object_pool.cc and heap.cc; gets regions from heap/regions.h.
//
//   Allocate/Free --> the CPU's stack (cpu_stacks.h) --batch, under the lock--> free bits of the regions --> page heap
//
// A region is a power of two of pages, aligned to its own size. So the region of a block is found by masking the
// address and a look at the page map. Bits behind the region's Span record say which blocks are out; a block in a stack
// counts as out. The word before the bits names the pool. Nothing is written into free blocks.
//
// Invariants, under the lock: a region is on `available` if it has a free block, else on `full`; of those without any
// block out, at most one is kept. live_objects + set bits == object_count of each region.
//
// Misuse is seen when a block reaches its region: a second free, a pointer that does not belong to this pool. With
// `checked` there are no stacks, so that is at the call.
//
// Ending objects one by one (BeginEndOfObjects), where each has a destructor that may free or allocate blocks of this
// pool: the stacks are flushed and all regions with live blocks go to `ending`, marked as such. There a set bit means
// "ended", no matter whether the pool took the block (NextToEnd) or a destructor did (ClaimToEnd). Both set the bit
// under the lock, so each block is handed to one of them. Blocks of these regions are not handed out again until all
// is over. So a pointer that an ended object owns still names the same object. New blocks come from new regions. Once
// `ending` has none left, the regions that have live blocks by then follow, and so on until there are none.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/base/intrusive_list.h"
#include "allocator/heap/regions.h"
#include "allocator/life/fork_locks.h"
#include "allocator/pages/span.h"
#include "allocator/pools/cpu_stacks.h"

struct tarn_registry_record;

namespace tarn {

struct BlockPoolStats {
  std::size_t live_objects = 0;    // with the user
  std::size_t cached_objects = 0;  // in stacks
  std::size_t region_bytes = 0;
  std::uint64_t allocations = 0;
  std::uint64_t frees = 0;
};

// Shared by the pools of one owner: a limit and a place in the statistics.
struct BlockBudget {
  tarn_registry_record* record = nullptr;
  std::size_t limit_bytes = 0;  // 0: none
  std::size_t used_bytes = 0;   // atomically: regions of all pools
  // Charges `bytes` of regions; false: beyond the limit.
  bool Charge(std::size_t bytes);
  void Discharge(std::size_t bytes);
};

class BlockPool {
 public:
  // `block_bytes` from 1 to kMaxBlockBytes, `alignment` a power of two up to 2 MiB. Null: no memory. `owner` is
  // whatever the caller wants to find again from a block. Without a budget the pool has one of its own.
  [[nodiscard]] static BlockPool* Create(std::size_t block_bytes, std::size_t alignment, BlockBudget* budget,
                                         bool checked, void* owner);
  // Claims the end of the pool, for Destroy: of two threads that do so, one ends the process with a line. `call` is
  // named in messages about misuse, here and below.
  void BeginDestroy(const char* call);
  // After BeginDestroy. Nobody uses the pool or its blocks any more.
  void Destroy(const char* call);

  static constexpr std::size_t kMaxBlockBytes = std::size_t{1} << 30;
  // Regions up to this size, which are those of blocks up to an eighth of it, are found from each of their pages.
  static constexpr std::size_t kUsualRegionBytes = std::size_t{64} << 10;

  [[nodiscard]] TARN_ALWAYS_INLINE void* Allocate() {
    void* block;
    if (StackPop(&stacks_, &block)) [[likely]]
      return block;
    return AllocateSlow();
  }
  // False: the CPU has none at hand.
  [[nodiscard]] TARN_ALWAYS_INLINE bool TryAllocate(void** block) { return StackPop(&stacks_, block); }
  TARN_ALWAYS_INLINE void Free(void* block, const char* call) {
    if (StackPush(&stacks_, block)) [[likely]]
      return;
    FreeSlow(block, call);
  }

  // Ends live blocks one by one. Only the destructors of what is ended use the pool until then. They may use all
  // but BeginEndOfObjects, FreeAll and Destroy, and hand blocks of before the begin to ClaimToEnd in place of Free.
  enum class ToEnd {
    kEnded,     // by NextToEnd or an earlier claim: its destructor has run, or runs
    kClaimed,   // the caller runs the destructor, and that is all
    kOrdinary,  // the block was made since the begin: the caller runs the destructor and frees it
  };
  void BeginEndOfObjects(const char* call);
  // Null: there is none left.
  [[nodiscard]] void* NextToEnd();
  [[nodiscard]] ToEnd ClaimToEnd(void* block, const char* call);
  // Also where some are left, because a destructor threw: they are live as before.
  void FinishEndOfObjects();

  // During these three no other call may use the pool.
  void FreeAll(const char* call);
  template <typename Visit>
  void ForEach(Visit visit) {
    FlushAllStacks();
    ForEachRegion([&](Span* region) {
      for (std::size_t i = 0; i < region->object_count; ++i) {
        if ((RegionBits(region)[i / 64] >> (i % 64) & 1) == 0) {
          visit(reinterpret_cast<void*>(region->start_address() + i * stride_bytes_));
        }
      }
    });
  }
  // Exact in quiet moments.
  BlockPoolStats Stats();

  std::size_t stride_bytes() const { return stride_bytes_; }
  bool checked() const { return stacks_.ids == 0; }
  void* owner() const { return owner_; }
  BlockBudget& budget() { return *budget_; }

 private:
  TARN_NOINLINE void* AllocateSlow();
  // A batch for the stack, one of it for the caller; null where no region has a free block.
  void* Refill(IntrusiveList<Span>* empty);
  void ReportLive() TARN_REQUIRES(lock_.lock);
  TARN_NOINLINE void FreeSlow(void* block, const char* call);
  Span* AddRegion();
  // Takes up to `count` blocks; 0: there is none.
  std::size_t TakeBatch(void** blocks, std::size_t count) TARN_REQUIRES(lock_.lock);
  // Puts the blocks into their regions; empty regions are put on `empty`.
  void ReturnBatch(void* const* blocks, std::size_t count, IntrusiveList<Span>* empty, const char* call)
      TARN_REQUIRES(lock_.lock);
  Span* RegionOf(void* block, std::size_t* index, const char* call);
  void FlushAllStacks();
  // Moves the regions with live blocks to `ending_`. False: there is none.
  bool CollectToEnd() TARN_REQUIRES(lock_.lock);
  void CountEnded(Span* region) TARN_REQUIRES(lock_.lock);
  template <typename Visit>
  void ForEachRegion(Visit visit) {
    for (IntrusiveList<Span>* list : {&available_, &full_}) {
      for (Span* region = list->front(); region != nullptr;) {
        Span* next = list->Next(region);
        visit(region);
        region = next;
      }
    }
  }
  void Release(Span* region);

  // These two first, for the hit paths.
  CpuStacks stacks_;
  void* owner_;
  std::size_t stride_bytes_;
  std::uint64_t reciprocal_;  // ceil(2^32 / stride), for offsets below 2^21; 0 beyond
  std::size_t region_bytes_;
  std::size_t blocks_per_region_;
  BlockBudget* budget_;
  BlockBudget own_budget_;
  Span* own_region_;
  ForkLock lock_;
  IntrusiveList<Span> available_;
  IntrusiveList<Span> full_;
  // While objects are ended one by one: regions with blocks to end, and those without any left.
  IntrusiveList<Span> ending_;
  IntrusiveList<Span> ended_;
  bool is_ending_;
  Span* spare_;  // on `available_`, without any block out; or null
  std::size_t regions_;
  // Moved between stacks and regions.
  std::uint64_t refilled_;
  std::uint64_t flushed_;
  std::uint64_t direct_allocations_;
  std::uint64_t direct_frees_;
  std::size_t out_;  // blocks out of regions
  std::size_t reported_;
};

}  // namespace tarn
