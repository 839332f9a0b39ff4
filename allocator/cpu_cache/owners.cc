// SPDX-License-Identifier: Apache-2.0
//
// Slabs and their owners: made, given to threads, taken back; the table; forks and jumps.
#include "allocator/cpu_cache/cpu_cache.h"

#include <algorithm>
#include <cstring>

#include "allocator/cpu_cache/slab_ops.h"
#include "allocator/cpu_cache/slab_words.h"
#include "allocator/os/thread_state.h"
#include "allocator/os/virtual_memory.h"

namespace tarn {

namespace {

// Slabs beyond the first ones have a part of the budget, for hundreds of threads may each have filled theirs.
constexpr std::size_t kSlabsOfFullBudget = 16;
constexpr std::size_t kLaterSlabDivisor = 4;
// The slabs without an owner that keep their memory. Chosen: programs with a thread for each job have few at a time.
constexpr std::uint32_t kMostUnowned = 16;
// Metadata knows no larger one.
constexpr std::size_t kSlabAlignmentOfThread = 4096;

}  // namespace

Slab* CpuCache::SlabAt(std::size_t index) const {
  const Entry& entry = entries_[index];
  // Acquire pairs with the releases in AttachThread and Populate.
  if (entry.is_released.load(std::memory_order_acquire)) return nullptr;
  return entry.slab.load(std::memory_order_acquire);
}

Slab* CpuCache::NewSlab(std::size_t index) {
  // Pages of its own, where a slab may go back.
  const std::size_t alignment = mode_ == CacheMode::kThread ? kSlabAlignmentOfThread
                                : alignof(Slab) < 64        ? 64
                                                            : alignof(Slab);
  void* memory = page_heap_->AllocateMetadata(RoundUp(slab_bytes_, alignment), alignment, MetadataKind::kCaches);
  if (memory == nullptr) return nullptr;
  // Metadata is zero, and the slots stay untouched.
  auto* slab = static_cast<Slab*>(memory);
  InitSlab(slab, index);
  return slab;
}

void CpuCache::InitSlab(Slab* slab, std::size_t index) {
  for (int c = 1; c < kSizeClassCount; ++c) {
    SlabHeader& header = slab->headers[c];
    const Slots& slots = layout_[c].near;
    header.word = slots.begin;
    // Drawn when the class gets room, which most never do.
    header.sample_due = kNeverSample;
    header.begin = slots.begin;
    header.end = slots.begin;
    header.limit = slots.limit;
  }
  const bool is_later = mode_ == CacheMode::kThread && index >= kSlabsOfFullBudget;
  slab->policy.budget_bytes = static_cast<std::int64_t>(is_later ? budget_bytes_ / kLaterSlabDivisor : budget_bytes_);
  slab->policy.spare_bytes.store(slab->policy.budget_bytes, std::memory_order_relaxed);
  slab->policy.steal_hand.store(1, std::memory_order_relaxed);
  Count(populated_slabs_, 1);
}

bool CpuCache::MoveToFarSlots(Slab* slab, SizeClass size_class) {
  // A drain may have the slab, and this thread waits for none. The next miss tries again. A signal handler finds the
  // empty slab for as long as this lasts, and the lock keeps it from putting the slab back.
  if (!drain_lock_.TryAcquire()) return false;
  std::size_t index = mode_ == CacheMode::kThread ? static_cast<std::size_t>(thread_state.slab_index) : 0;
  while (entries_[index].slab.load(std::memory_order_relaxed) != slab) ++index;
  const bool moved = TakeOutAndMove(index, slab, size_class);
  drain_lock_.Release();
  return moved;
}

bool CpuCache::TakeOutAndMove(std::size_t index, Slab* slab, SizeClass size_class) {
  OwnedSlabs slabs(this);
  slabs.TakeOut(index, slab);
  Slab* const owned = slabs.Own() ? slabs.Next() : nullptr;
  if (owned == nullptr) return false;
  MoveOwnedToFarSlots(owned, size_class);
  return true;
}

void CpuCache::MoveOwnedToFarSlots(Slab* slab, SizeClass size_class) {
  SlabHeader& header = slab->headers[size_class];
  const auto [near, far] = layout_[size_class];
  if (header.begin != near.begin) return;
  std::copy(slab->slots() + near.begin, slab->slots() + (header.word & kSlabTopMask), slab->slots() + far.begin);
  // No function is called from here on: a jump out of the slow path comes before it or after it.
  std::atomic_ref<std::uint16_t>(header.begin).store(far.begin, std::memory_order_relaxed);
  FinishMove(slab, size_class);
}

// Others read the header at any time.
TARN_ALWAYS_INLINE void CpuCache::FinishMove(Slab* slab, SizeClass size_class) {
  SlabHeader& header = slab->headers[size_class];
  const auto [near, far] = layout_[size_class];
  const std::size_t by = far.begin - near.begin;
  std::atomic_ref<std::uint16_t>(header.limit).store(far.limit, std::memory_order_relaxed);
  if ((header.word & kSlabTopMask) < first_far_slot_) {
    std::atomic_ref<std::uint64_t>(header.word).fetch_add(by, std::memory_order_relaxed);
  }
  const auto end = static_cast<std::uint16_t>(header.end + by);
  std::atomic_ref<std::uint16_t>(header.end).store(end, std::memory_order_relaxed);
}

void CpuCache::RepairMoves(Slab* slab) {
  for (int c = 1; c < kSizeClassCount; ++c) {
    const SlabHeader& header = slab->headers[c];
    if (header.begin >= first_far_slot_ && header.end < first_far_slot_) FinishMove(slab, static_cast<SizeClass>(c));
  }
}

Slab* CpuCache::Populate(std::size_t index) {
  std::uint32_t nobody = 0;
  if (!entries_[index].claimed_by.compare_exchange_strong(nobody, ThreadId(), std::memory_order_relaxed))
    return nullptr;
  Slab* slab = NewSlab(index);
  if (slab == nullptr) {
    entries_[index].claimed_by.store(0, std::memory_order_relaxed);
    return nullptr;
  }
  // Under the lock, because a drain that is under way must not find a slab in the table that it did not take out.
  LockHolder holder(drain_lock_);
  // A signal handler in here may have taken the claim for one that was left by a jump. The slab is lost then.
  if (entries_[index].slab.load(std::memory_order_relaxed) != nullptr) return nullptr;
  entries_[index].slab.store(slab, std::memory_order_release);
  return PutIntoTable(index, slab) ? slab : nullptr;
}

bool CpuCache::PutIntoTable(std::size_t index, Slab* slab) {
  Slab* expected = EmptySlab();
  // Release: a thread that finds the slab in the table sees its headers.
  return slab_table.slabs[index].compare_exchange_strong(expected, slab, std::memory_order_release,
                                                         std::memory_order_relaxed);
}

void CpuCache::TakeOutOfTable(std::size_t index, Slab* slab) {
  // Where the entry is an empty slab already, a vfork child has put it there, and it stays.
  static_cast<void>(slab_table.slabs[index].compare_exchange_strong(slab, EmptySlab(), std::memory_order_relaxed));
}

bool CpuCache::NeedsAttachSlow() const {
  // In the thread mode a thread that was unregistered keeps its slab, though its sequences miss.
  const std::int32_t id = mode_ == CacheMode::kThread ? thread_state.slab_index : CurrentIndex();
  return id < 0 && !thread_state.exiting;
}

void CpuCache::AttachThread() {
  // A child of vfork would register its parent's area for itself. The ids in it would stay behind when the child ends,
  // and the parent would run sequences that nobody restarts. In the thread mode its own would be such ones.
  if (thread_state.vfork_calls != 0 && (rseq_.register_threads || rseq_.remote_abort)) return;
  if (rseq_.register_threads && mode_ == CacheMode::kCpu) {
    // One attempt: a thread that the kernel refuses goes without a slab.
    if (!RegisterThreadArea()) thread_state.exiting = true;
    return;
  }
  if (budget_bytes_ == 0) {
    thread_state.exiting = true;
    return;
  }
  std::uint32_t index_plus_one = 0;
  {
    LockHolder holder(drain_lock_);
    index_plus_one = TakeUnowned();
    const std::uint32_t used = indices_used_.load(std::memory_order_relaxed);
    if (index_plus_one == 0 && used < index_bound_) {
      index_plus_one = used + 1;
      indices_used_.store(index_plus_one, std::memory_order_relaxed);
    }
    if (index_plus_one != 0) entries_[index_plus_one - 1].claimed_by.store(1, std::memory_order_relaxed);
  }
  if (index_plus_one == 0) {
    thread_state.exiting = true;
    return;
  }
  const std::size_t index = index_plus_one - 1;
  Entry& entry = entries_[index];
  if (SlabAt(index) == nullptr) {
    Slab* slab = entry.slab.load(std::memory_order_relaxed);
    if (slab != nullptr) {
      InitSlab(slab, index);
    } else {
      slab = NewSlab(index);
    }
    // Without memory the thread keeps the index and the empty slab. Release pairs with the acquire in SlabAt.
    entry.slab.store(slab, std::memory_order_release);
    entry.is_released.store(false, std::memory_order_release);
    slab_table.slabs[index].store(slab == nullptr ? EmptySlab() : slab, std::memory_order_relaxed);
    if (slab == nullptr) {
      thread_state.exiting = true;
      return;
    }
  }
  // No kernel writes this word of a thread in the thread mode. The sequences look at it only where libc registers none.
  if (thread_state.area.cpu_id < 0) thread_state.area.cpu_id = 0;
  thread_state.slab_index = static_cast<std::int32_t>(index);
}

void CpuCache::SettleThread() {
  if (mode_ != CacheMode::kThread || thread_state.slab_index < 0) return;
  // Release: who may take the slab out sees it in the table.
  entries_[thread_state.slab_index].claimed_by.store(0, std::memory_order_release);
}

void CpuCache::DetachThread() {
  thread_state.exiting = true;
  if (mode_ != CacheMode::kThread || thread_state.slab_index < 0) return;
  const auto index = static_cast<std::size_t>(thread_state.slab_index);
  thread_state.slab_index = -1;
  {
    // Waits for a drain that has the slab.
    LockHolder holder(drain_lock_);
    entries_[index].claimed_by.store(1, std::memory_order_relaxed);
  }
  DrainOwned(entries_[index].slab.load(std::memory_order_relaxed), "thread exit");
  {
    LockHolder holder(drain_lock_);
    if (IsKept(index)) return PutUnowned(index);
  }
  ReleaseSlab(index);
  LockHolder holder(drain_lock_);
  PutReleased(index);
}

// The first slab has the counts of those that are released.
bool CpuCache::IsKept(std::size_t index) const {
  return index == 0 || unowned_count_ < kMostUnowned || entries_[0].slab.load(std::memory_order_acquire) == nullptr;
}

// The lists are whole at each instant, for a fork in between. The count may be too large in the child.
void CpuCache::PutUnowned(std::size_t index) {
  ++unowned_count_;
  entries_[index].next_unowned = first_unowned_;
  first_unowned_ = static_cast<std::uint16_t>(index + 1);
}

void CpuCache::PutReleased(std::size_t index) {
  entries_[index].next_unowned = first_released_;
  first_released_ = static_cast<std::uint16_t>(index + 1);
}

std::uint32_t CpuCache::TakeUnowned() {
  const bool has_memory = first_unowned_ != 0;
  std::uint16_t& first = has_memory ? first_unowned_ : first_released_;
  const std::uint32_t index_plus_one = first;
  if (index_plus_one != 0) first = entries_[index_plus_one - 1].next_unowned;
  if (has_memory) --unowned_count_;
  return index_plus_one;
}

// Nobody pops or pushes here: the thread that had the index is gone, or has -1 by now, also for a signal handler that
// interrupts its exit. Others get here by the entry:
//
//   sums of counts (ClassStats, PinnedBytes), also those of another process: they find counts here and in the first
//     slab, or in neither, for a moment, and zeroes afterwards. The addresses stay mapped.
//   RestartSampling, on its way since before: it may write to the slab that is gone, which brings a page back. A class
//     that gets room later has its sample drawn then.
//   the child of a fork in the midst of this: RepairInForkedChild lists the index once more; the counts of this slab
//     may be there twice.
//
// The thread that gets the index does so by a list, under the drain lock, which orders its stores behind these.
void CpuCache::ReleaseSlab(std::size_t index) {
  Slab* const slab = entries_[index].slab.load(std::memory_order_relaxed);
  Slab* const heir = entries_[0].slab.load(std::memory_order_acquire);
  entries_[index].is_released.store(true, std::memory_order_relaxed);
  TakeOutOfTable(index, slab);
  populated_slabs_.fetch_sub(1, std::memory_order_relaxed);
  for (int c = 1; c < kSizeClassCount; ++c) {
    const SlabCounters& from = slab->counters[c];
    SlabCounters& to = heir->counters[c];
    const std::uint64_t pops = LoadWord(slab, static_cast<SizeClass>(c)) >> kSlabPopsShift;
    Count(to.direct_allocations, pops - from.flushed + from.direct_allocations);
    Count(to.direct_frees, pops - from.refilled + from.direct_frees);
    Count(to.refills, from.refills);
    Count(to.flushes, from.flushes);
  }
  // Also where the kernel keeps the memory.
  std::memset(static_cast<void*>(slab), 0, sizeof(Slab));
  const std::size_t os_page_bytes = OsPageBytes();
  const std::uintptr_t start = RoundUp(reinterpret_cast<std::uintptr_t>(slab), os_page_bytes);
  const std::uintptr_t end = (reinterpret_cast<std::uintptr_t>(slab) + RoundUp(slab_bytes_, kSlabAlignmentOfThread)) /
                             os_page_bytes * os_page_bytes;
  if (start < end) static_cast<void>(Release(reinterpret_cast<void*>(start), end - start));
}

// The lock stays held, because all of them are few, or inherited in a fork.
void CpuCache::ReleaseUnowned() {
  LockHolder holder(drain_lock_);
  std::uint32_t index_plus_one = first_unowned_;
  first_unowned_ = 0;
  unowned_count_ = 0;
  while (index_plus_one != 0) {
    const std::size_t index = index_plus_one - 1;
    index_plus_one = entries_[index].next_unowned;
    if (index == 0 || entries_[0].slab.load(std::memory_order_acquire) == nullptr) {
      PutUnowned(index);
    } else {
      ReleaseSlab(index);
      PutReleased(index);
    }
  }
}

void CpuCache::RepairInForkedChild(bool may_lock, bool interrupted_drain) {
  if (interrupted_drain) {
    drain_lock_.AdoptInForkedChild();
    return;
  }
  drain_lock_.ResetInForkedChild();
  if (mode_ == CacheMode::kCpu) {
    // A drain of a thread that is no more may have left slabs out of the table, or a vfork child of such a thread.
    for (std::size_t i = 0; i < index_bound_; ++i) {
      Slab* slab = entries_[i].slab.load(std::memory_order_relaxed);
      if (slab != nullptr) {
        RepairMoves(slab);
        slab_table.slabs[i].store(slab, std::memory_order_relaxed);
      } else {
        entries_[i].claimed_by.store(0, std::memory_order_relaxed);
        slab_table.slabs[i].store(EmptySlab(), std::memory_order_relaxed);
      }
    }
    return;
  }
  // A drain of a thread that is no more may have taken this one out.
  if (thread_state.slab_index >= 0) {
    const auto own = static_cast<std::size_t>(thread_state.slab_index);
    if (Slab* const slab = SlabAt(own)) PutIntoTable(own, slab);
  }
  // The slabs of threads that are no more.
  const std::size_t end = IndexEnd();
  for (std::size_t i = 0; i < end; ++i) {
    Slab* const slab = static_cast<std::int64_t>(i) == thread_state.slab_index ? nullptr : SlabAt(i);
    if (slab != nullptr) RepairMoves(slab);
  }
  if (!may_lock) return;
  LockHolder holder(drain_lock_);
  first_unowned_ = first_released_ = 0;
  unowned_count_ = 0;
  for (std::size_t i = 0; i < end; ++i) {
    if (static_cast<std::int64_t>(i) == thread_state.slab_index) continue;
    entries_[i].claimed_by.store(1, std::memory_order_relaxed);
    // An index whose thread was only just getting its slab may have none.
    Slab* const slab = SlabAt(i);
    if (slab != nullptr) DrainOwned(slab, "fork");
    if (slab != nullptr && IsKept(i)) {
      PutUnowned(i);
      continue;
    }
    if (slab != nullptr) ReleaseSlab(i);
    PutReleased(i);
  }
}

void CpuCache::RepairAfterJump() {
  // A slab that is out of the table has the drain lock held: then the process ends.
  if (mode_ != CacheMode::kCpu) return;
  for (std::size_t i = 0; i < index_bound_; ++i) {
    if (entries_[i].slab.load(std::memory_order_relaxed) != nullptr) continue;
    std::uint32_t claimant = ThreadId();
    entries_[i].claimed_by.compare_exchange_strong(claimant, 0, std::memory_order_relaxed);
  }
}

}  // namespace tarn
