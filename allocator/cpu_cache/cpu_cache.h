// SPDX-License-Identifier: Apache-2.0
//
// The CPU cache: all slabs, and the policy over them.
//
// AllocateSlow serves entry/ after a pop that missed, DeallocateSlow heap/ after a push; both move batches by the
// transfer caches. They are in cpu_cache.cc; capacity.cc decides who gets room, owners.cc has new slabs and their
// owners, drain.cc the work on slabs of others.
//
// Cold classes. A class that has been used a few times only is not cached: AllocateCold and DeallocateCold take and
// give single objects, whose spans see misuse at the call. A small process has no slab then.
//
// Capacities. Each slab has a budget in bytes. A class starts with no capacity at all and gets room for a batch at its
// first misses. It gets room for one more batch whenever a miss is of the other kind than the one before: empty after
// full, or full after empty. Then objects went to the spans and were wanted back, which more room would have spared. A
// program that only allocates, or only frees, gains nothing by more room. The room comes out of the spare part of the
// budget. When that is used up, it comes out of the capacity of a class that has not missed since the stealing hand
// came by. A thread's slab gives a class room for one object when an object of it was allocated and freed and the class
// misses again. It doubles that up to a batch: hundreds of threads may use a size once, and slabs of CPUs are few. So
// the budget goes where it saves misses, and a class that is not used costs nothing.
//
// Sweeping. Cached objects keep the spans that they are from: a few hundred, freed in random order, may keep as many
// spans that are empty otherwise (sqlite3, building a database, held 9 of 48 MiB so). So when the page heap has grown,
// a slab is swept at its next refill. Classes whose spans are sparse are flushed, and so are those that nobody used
// since the sweep before. Empty spans go back, and refills come out of the fullest spans from then on. It costs some
// microseconds for each 32nd by which the heap grows.
//
// Ownership. In the CPU mode a slab belongs to the thread that runs under its id, through restartable sequences only.
// To work on another one's slab, DrainAll stores the empty slab into the table, lets membarrier restart all sequences,
// and then owns the slab: every sequence from now on finds the empty slab, and a thread that comes to the slow path so
// goes past the cache. The slab is put back with a release store; its next user reads the table entry and then the
// slab through it. That address dependency orders the loads on every architecture that Linux runs on. In the thread
// mode a slab belongs to the thread that attached it. Where libc has registered the threads with the kernel, another
// thread takes it out of the table in the same way. Else nobody touches it until the thread detaches it at its exit.
//
// Slabs of threads that are gone are empty. A few stay as they are for the threads to come. The memory of the others
// goes back to the kernel, and their counts go to the first slab (ReleaseSlab).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "allocator/central/transfer_cache.h"
#include "allocator/cpu_cache/sampler.h"
#include "allocator/cpu_cache/slab.h"
#include "allocator/include/tarn/snapshot.h"
#include "allocator/os/lock.h"
#include "allocator/os/thread_state.h"
#include "allocator/pages/page_heap.h"
#include "allocator/rseq/registration.h"

namespace tarn {

enum class CacheMode : std::uint8_t { kCpu, kThread };

// Of one size class over all slabs. Exact while no thread allocates or frees; otherwise each slab's part is
// from a moment of its own.
struct CacheClassStats {
  std::uint64_t allocations = 0;
  std::uint64_t frees = 0;
  std::uint64_t cached_objects = 0;  // in slabs
  std::uint64_t refills = 0;         // allocations that missed, and
  std::uint64_t flushes = 0;         // frees that did, where there was a slab
};

class CpuCache {
 public:
  constexpr CpuCache() = default;

  // Called once, before hit_limit_bytes is set. `budget_bytes` is per slab; 0 turns the caches off.
  void Init(CacheMode mode, const RseqSupport& rseq, std::size_t budget_bytes, TransferCache* transfer_caches,
            PageHeap* page_heap);

  // True if the calling thread has to call AttachThread before it can use a slab.
  bool NeedsAttach() const { return attach_threads_ && NeedsAttachSlow(); }
  // Gives the thread a slab (thread mode) or registers it with the kernel (where libc did not).
  void AttachThread();
  // Thread mode, when the calling thread has all that its slab was to serve first: others may empty it from now on.
  void SettleThread();
  // Thread mode, at the thread's exit: empties the slab and gives it back.
  void DetachThread();

  // A refill: one object for the caller, the rest of the batch for the slab. Null when there is no memory.
  [[nodiscard]] void* AllocateSlow(SizeClass size_class);
  // A flush, or more room: the object is taken in any case. `call` is named in messages about misuse.
  void DeallocateSlow(SizeClass size_class, void* object, const char* call);

  // A class is cold until it has been used kColdUses times, and all of them together kColdUsesInAll times. Both counts
  // begin anew when the caches are emptied on request. No cache holds objects of a cold class: each call goes to the
  // span, and its bits see misuse at the call.
  bool IsCold(SizeClass size_class) const {
    return uses_[size_class].load(std::memory_order_relaxed) < kColdUses &&
           uses_in_all_.load(std::memory_order_relaxed) < kColdUsesInAll;
  }
  // Measured (callgrind): a call of a cold class takes 150 to 350 instructions. A slab that draws samples
  // for classes with room alone takes 10 000 less. So programs that start and end take within 1 % of what they took.
  static constexpr std::uint8_t kColdUses = 32;
  static constexpr std::uint32_t kColdUsesInAll = 80;
  // As AllocateSlow and DeallocateSlow, for a cold class.
  [[nodiscard]] void* AllocateCold(SizeClass size_class);
  void DeallocateCold(SizeClass size_class, void* object, const char* call);

  // Sees to it that the next allocation of the class by this thread (thread mode) hits. False: no memory.
  [[nodiscard]] bool FillSlab(SizeClass size_class);
  // Behind that allocation: what FillSlab left goes if the class is cold.
  void UnfillSlab(SizeClass size_class);

  // True if the allocation that has just missed is to be sampled: one is due in the current slab, or no slab counts the
  // allocation and chance says so. At most one caller gets each sample that is due.
  bool TakeSample(SizeClass size_class, unsigned* shift);
  // Sampled objects are allocated and freed past the slabs, and counted all the same.
  void CountSampledAllocation(SizeClass size_class) { Bump(direct_[size_class].allocations); }
  void CountSampledFree(SizeClass size_class) { Bump(direct_[size_class].frees); }
  // Draws all samples that are due anew, after the rate was changed.
  void RestartSampling();
  Sampler& sampler() { return sampler_; }

  // Empties all slabs (where sequences cannot be restarted: in the thread mode the calling thread's, else none) and all
  // transfer caches into the spans; returns the bytes.
  std::size_t DrainAll(const char* call);

  // Empties the classes of all slabs, and the transfer caches, that nobody has used since kIdleLooks calls ago: what
  // caches hold keeps the spans that it is from. Slabs only where sequences can be restarted. In the thread mode a call
  // looks at kSlabsPerLook of them, and the next one goes on behind these.
  static constexpr int kIdleLooks = 2;
  struct IdleDrain {
    std::size_t drained_bytes = 0;
    // In caches that may become idle yet.
    std::size_t pending_bytes = 0;
  };
  IdleDrain DrainIdle(const char* call);

  // In the child of a fork: only the calling thread is left. `may_lock` is false when that thread was interrupted in a
  // slow path; what the slabs of the other threads hold is lost then (thread mode). With `interrupted_drain` it was
  // interrupted in a drain, which goes on when the signal handler returns: everything stays as it is.
  void RepairInForkedChild(bool may_lock, bool interrupted_drain);
  // vfork, and clone with CLONE_VM and CLONE_VFORK: the parent's step before, the child's first step, and the
  // parent when it goes on. See vfork_child.cc.
  static void BeginVfork() { ++thread_state.vfork_calls; }
  void BeginVforkChild();
  void EndVfork();
  // For after a jump out of a slow path of the calling thread. That may have been making a slab (CPU mode) or draining
  // its slab (thread mode).
  void RepairAfterJump();
  Lock& drain_lock() TARN_THREAD_ANNOTATION(lock_returned(drain_lock_)) { return drain_lock_; }

  CacheMode mode() const { return mode_; }
  bool can_drain_remotely() const { return rseq_.remote_abort; }
  const RseqSupport& rseq() const { return rseq_; }
  std::size_t budget_bytes() const { return budget_bytes_; }
  // Those that have memory.
  std::size_t populated_slabs() const { return populated_slabs_.load(std::memory_order_relaxed); }
  std::size_t slab_bytes() const { return slab_bytes_; }
  CacheClassStats ClassStats(SizeClass size_class) const;
  // The most memory that cached objects may keep in spans which are empty otherwise.
  std::size_t PinnedBytes() const;
  // Fills in where slabs and counters lie.
  void Describe(tarn_snapshot_block* block) const;

 private:
  // The slots of a class: its near ones, and its far ones where it may have more than kNearSlots. The near ones of all
  // classes lie close together: a small process touches few pages of the slab. A class begins with its near slots. When
  // it needs more it moves to the far ones, and stays there.
  struct Slots {
    std::uint16_t begin;
    std::uint16_t limit;
  };
  struct Layout {
    Slots near;
    Slots far;
  };

  struct Entry {
    // The slab of this index, whether it is in the table or not. Null: not populated.
    std::atomic<Slab*> slab;
    // CPU mode: the thread that makes the slab, or has made it; 0: none.
    // Thread mode: not 0 while no other thread may take the slab out: its owner is only getting it, or is gone.
    std::atomic<std::uint32_t> claimed_by;
    // Thread mode: the next index on a list of slabs without an owner, plus 1. Guarded by the drain lock.
    std::uint16_t next_unowned;
    // Thread mode: the kernel has the memory of the slab, which is nobody's.
    std::atomic<bool> is_released;
  };
  static_assert(sizeof(Entry) == 16);

  bool NeedsAttachSlow() const;
  // The slab of the running thread, or null: not populated and no memory for it, taken out by a drain, no id.
  Slab* CurrentSlab();
  Slab* Populate(std::size_t index);
  // Claims the sample that is due in the slab, and draws the next.
  bool ClaimSample(SizeClass size_class, Slab* slab, std::uint64_t* due);
  void RestartSamplingOf(Slab* slab);
  // Draws the next sample of a class that gets room in the slab.
  void DrawSample(Slab* slab, SizeClass size_class);
  // Called when something was stored in the slab that was drawn at this rate.
  void RestartIfRateChanged(Slab* slab, std::size_t rate_bytes);
  TransferCache& Transfer(SizeClass size_class) {
    transfer_caches_[size_class].Init(size_class, page_heap_);
    return transfer_caches_[size_class];
  }
  // Into the table, unless a vfork child keeps the index empty.
  static bool PutIntoTable(std::size_t index, Slab* slab);
  // Out of it. Returns at once; who is in a sequence on the slab stays there.
  static void TakeOutOfTable(std::size_t index, Slab* slab);
  // Slabs that this thread takes out of the table for as long as it works on them. The destructor puts back those that
  // Next has not put back. In the CPU mode the thread holds the drain lock as long as this lives.
  class OwnedSlabs {
   public:
    explicit OwnedSlabs(CpuCache* cache) : cache_(cache) {}
    ~OwnedSlabs() {
      while (Next() != nullptr) {
      }
    }
    OwnedSlabs(const OwnedSlabs&) = delete;
    OwnedSlabs& operator=(const OwnedSlabs&) = delete;

    bool empty() const { return end_ == 0; }
    // By rising indices, before Own.
    void TakeOut(std::size_t index, Slab* slab);
    // Restarts all sequences. True: from now on this thread alone changes what it has taken out.
    [[nodiscard]] bool Own();
    // Puts the slab of the last call back and returns the next one, null behind the last.
    Slab* Next();

   private:
    void PutBackCurrent();

    CpuCache* const cache_;
    Slab* current_ = nullptr;
    std::size_t next_ = 0;
    std::size_t end_ = 0;
    // Other threads may be in a sequence on one of them.
    bool is_others_ = false;
  };
  // Puts a slab back that the end of a vfork child has left out of the table.
  Slab* PutBackLeftOut(std::size_t index);
  // True if a thread that holds the drain lock may take the slab of this index out of the table.
  bool MayTakeOut(std::size_t index) const {
    return mode_ == CacheMode::kCpu || static_cast<std::int64_t>(index) == thread_state.slab_index ||
           (rseq_.remote_abort && entries_[index].claimed_by.load(std::memory_order_acquire) == 0);
  }
  // The slab of an index that has memory, or null.
  Slab* SlabAt(std::size_t index) const;
  // No slab has this index or one above it.
  std::size_t IndexEnd() const {
    return mode_ == CacheMode::kThread ? indices_used_.load(std::memory_order_relaxed) : index_bound_;
  }
  Slab* NewSlab(std::size_t index);
  // Makes the slab one that nobody has used. All of it but the slots is written.
  void InitSlab(Slab* slab, std::size_t index);
  // Thread mode. An index gets onto the list of slabs that have memory, or of those that have not, and off them.
  void PutUnowned(std::size_t index) TARN_REQUIRES(drain_lock_);
  void PutReleased(std::size_t index) TARN_REQUIRES(drain_lock_);
  bool IsKept(std::size_t index) const TARN_REQUIRES(drain_lock_);
  std::uint32_t TakeUnowned() TARN_REQUIRES(drain_lock_);
  // Gives the memory of an empty slab, which is nobody's and on no list, to the kernel.
  void ReleaseSlab(std::size_t index);
  void ReleaseUnowned() TARN_EXCLUDES(drain_lock_);
  // A header's begin, end, limit and top change together when its class moves. A thread that does not own the slab may
  // see some of them from before and others from after it. So each of them says by itself which slots it belongs to.
  const Slots& SlotsOf(SizeClass size_class, std::size_t slot) const {
    return slot < first_far_slot_ ? layout_[size_class].near : layout_[size_class].far;
  }
  std::size_t CachedObjects(SizeClass size_class, std::uint64_t word) const {
    const std::size_t top = word & kSlabTopMask;
    // 0 in a slab that is released.
    return top == 0 ? 0 : top - SlotsOf(size_class, top).begin;
  }
  // Moves a class from its near slots to the far ones. It may have moved by then. False: nothing has changed.
  bool MoveToFarSlots(Slab* slab, SizeClass size_class);
  bool TakeOutAndMove(std::size_t index, Slab* slab, SizeClass size_class);
  void MoveOwnedToFarSlots(Slab* slab, SizeClass size_class);
  // From where the header's begin is changed.
  void FinishMove(Slab* slab, SizeClass size_class);
  // In the child of a fork that has no handlers: a thread that is no more may have been there.
  void RepairMoves(Slab* slab);
  void ComputeLayout();

  // True if the slab holds the object as the last that was pushed of the class.
  bool IsLastPushed(Slab* slab, SizeClass size_class, const void* object) const;

  void Cool(SizeClass size_class) { uses_[size_class].store(0, std::memory_order_relaxed); }
  // Makes cold what is used seldom.
  void CoolClasses() TARN_REQUIRES(drain_lock_);
  // Of two threads that count at once, one may count for both. A class that is hot comes here when memory is short; its
  // count stays.
  void CountUse(SizeClass size_class) {
    const int uses = uses_[size_class].load(std::memory_order_relaxed);
    if (uses < kColdUses) uses_[size_class].store(static_cast<std::uint8_t>(uses + 1), std::memory_order_relaxed);
    uses_in_all_.store(uses_in_all_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  static void Bump(std::atomic<std::uint64_t>& counter) { counter.fetch_add(1, std::memory_order_relaxed); }

  // A miss of an empty class or of a full one.
  enum class Miss : std::uint8_t { kNone, kEmpty, kFull };
  void Grow(Slab* slab, SizeClass size_class, Miss miss);
  void SweepIfGrown(Slab* slab);
  void Sweep(Slab* slab);
  std::size_t FlushBatch(Slab* slab, SizeClass size_class, std::size_t count, const char* call, bool to_spans = false);
  std::int64_t Steal(Slab* slab, SizeClass for_class, std::int64_t wanted_bytes);
  void* AllocateDirect(SizeClass size_class);
  // Empties a slab, or one class of it, that the caller owns.
  std::size_t DrainOwned(Slab* slab, const char* call);
  std::size_t DrainOwnedSlabs(OwnedSlabs* slabs, const char* call);
  std::size_t DrainOwnedClass(Slab* slab, SizeClass size_class, const char* call);
  void DrainIdleSlabs(const char* call, IdleDrain* result) TARN_REQUIRES(drain_lock_);
  void DrainIdleTransferCaches(const char* call, IdleDrain* result) TARN_REQUIRES(drain_lock_);
  // True if the class of the slab is idle; adds the bytes of one that is not, but holds objects, to `pending_bytes`.
  bool LookWhetherIdle(Slab* slab, SizeClass size_class, std::size_t* pending_bytes) TARN_REQUIRES(drain_lock_);

  CacheMode mode_ = CacheMode::kCpu;
  bool attach_threads_ = false;
  RseqSupport rseq_;
  std::size_t budget_bytes_ = 0;
  std::size_t slab_bytes_ = 0;
  std::size_t index_bound_ = 0;
  TransferCache* transfer_caches_ = nullptr;
  PageHeap* page_heap_ = nullptr;
  Layout layout_[kSizeClassCount] = {};
  std::uint16_t first_far_slot_ = 0;
  // Counted while the class is cold.
  std::atomic<std::uint8_t> uses_[kSizeClassCount] = {};
  std::atomic<std::uint32_t> uses_in_all_ = 0;
  std::atomic<std::size_t> populated_slabs_ = 0;
  Sampler sampler_;

  // Held while slabs are taken out of the table or put into it. Nests outside of the transfer caches' locks.
  Lock drain_lock_ = Lock(LockRank::kDrain);
  // By index; in zeroed metadata where there may be more than kFirstEntries. A process that allocates nothing needs no
  // metadata then, and so no reservation.
  Entry* entries_ = nullptr;
  static constexpr std::size_t kFirstEntries = 32;
  Entry first_entries_[kFirstEntries] = {};
  // Thread mode: slabs without an owner, by index + 1, linked through Entry::next_unowned: those that have memory, of
  // which there are at most unowned_count_, and those that have not.
  std::uint16_t first_unowned_ TARN_GUARDED_BY(drain_lock_) = 0;
  std::uint16_t first_released_ TARN_GUARDED_BY(drain_lock_) = 0;
  std::uint32_t unowned_count_ TARN_GUARDED_BY(drain_lock_) = 0;
  // The next index that DrainIdle looks at.
  std::size_t idle_hand_ TARN_GUARDED_BY(drain_lock_) = 0;
  // The number of indices that were ever given out. Written under the drain lock, read without it.
  std::atomic<std::uint32_t> indices_used_ = 0;

  // For DrainIdle: what it saw of each transfer cache, and how many times in a row.
  struct TransferLook {
    std::uint64_t uses = 0;
    int idle_looks = 0;
  };
  TransferLook transfer_looks_[kSizeClassCount] TARN_GUARDED_BY(drain_lock_);
  // For CoolClasses: the allocations and frees at the last look, and how many looks in a row found few.
  struct ClassLook {
    std::uint32_t calls = 0;
    std::uint32_t slow_looks = 0;
  };
  ClassLook class_looks_[kSizeClassCount] TARN_GUARDED_BY(drain_lock_);

  // Calls that bypassed all slabs.
  struct DirectCounters {
    std::atomic<std::uint64_t> allocations = 0;
    std::atomic<std::uint64_t> frees = 0;
  };
  DirectCounters direct_[kSizeClassCount];
};

}  // namespace tarn
