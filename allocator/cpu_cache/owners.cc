// SPDX-License-Identifier: Apache-2.0
//
// Slabs and their owners: made, given to threads, taken back; the table; forks and jumps.
#include "allocator/cpu_cache/cpu_cache.h"

#include "allocator/cpu_cache/slab_ops.h"
#include "allocator/cpu_cache/slab_words.h"
#include "allocator/os/thread_state.h"

namespace tarn {

namespace {

// Slabs beyond the first ones have a part of the budget, for hundreds of threads may each have filled theirs.
constexpr std::size_t kSlabsOfFullBudget = 16;
constexpr std::size_t kLaterSlabDivisor = 4;

}  // namespace

Slab* CpuCache::NewSlab(std::size_t budget_bytes) {
  void* memory =
      page_heap_->AllocateMetadata(slab_bytes_, alignof(Slab) < 64 ? 64 : alignof(Slab), MetadataKind::kCaches);
  if (memory == nullptr) return nullptr;
  // Metadata is zero, and the slots stay untouched.
  auto* slab = static_cast<Slab*>(memory);
  for (int c = 1; c < kSizeClassCount; ++c) {
    SlabHeader& header = slab->headers[c];
    header.word = layout_[c].begin;
    header.sample_due = sampler_.DrawDistance(static_cast<SizeClass>(c));
    header.begin = layout_[c].begin;
    header.end = layout_[c].begin;
    header.limit = layout_[c].limit;
  }
  slab->policy.budget_bytes = static_cast<std::int64_t>(budget_bytes);
  slab->policy.spare_bytes.store(slab->policy.budget_bytes, std::memory_order_relaxed);
  slab->policy.steal_hand.store(1, std::memory_order_relaxed);
  Count(populated_slabs_, 1);
  return slab;
}

Slab* CpuCache::Populate(std::size_t index) {
  std::uint32_t nobody = 0;
  if (!entries_[index].claimed_by.compare_exchange_strong(nobody, ThreadId(), std::memory_order_relaxed))
    return nullptr;
  const std::size_t rate_bytes = sampler_.rate_bytes();
  Slab* slab = NewSlab(budget_bytes_);
  if (slab == nullptr) {
    entries_[index].claimed_by.store(0, std::memory_order_relaxed);
    return nullptr;
  }
  // Under the lock, because a drain that is under way must not find a slab in the table that it did not take out.
  LockHolder holder(drain_lock_);
  // A signal handler in here may have taken the claim for one that was left by a jump. The slab is lost then.
  if (entries_[index].slab.load(std::memory_order_relaxed) != nullptr) return nullptr;
  entries_[index].slab.store(slab, std::memory_order_release);
  RestartIfRateChanged(slab, rate_bytes);
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
  if (rseq_.register_threads && mode_ == CacheMode::kCpu) {
    // A child of vfork would register its parent's area for itself. The ids in it would stay behind when the child
    // ends, and the parent would run sequences that nobody restarts.
    if (thread_state.vfork_calls != 0) return;
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
    if (first_unowned_ != 0) {
      index_plus_one = first_unowned_;
      first_unowned_ = entries_[index_plus_one - 1].slab.load(std::memory_order_relaxed)->policy.next_unowned;
    } else if (indices_used_ < index_bound_) {
      index_plus_one = ++indices_used_;
    }
  }
  if (index_plus_one == 0) {
    thread_state.exiting = true;
    return;
  }
  const std::size_t index = index_plus_one - 1;
  if (entries_[index].slab.load(std::memory_order_relaxed) == nullptr) {
    const std::size_t rate_bytes = sampler_.rate_bytes();
    Slab* slab = NewSlab(index < kSlabsOfFullBudget ? budget_bytes_ : budget_bytes_ / kLaterSlabDivisor);
    // Without memory the thread keeps the index and the empty slab. Release pairs with the acquire in RestartSampling.
    entries_[index].slab.store(slab, std::memory_order_release);
    if (slab != nullptr) RestartIfRateChanged(slab, rate_bytes);
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

void CpuCache::DetachThread() {
  thread_state.exiting = true;
  if (mode_ != CacheMode::kThread || thread_state.slab_index < 0) return;
  const auto index = static_cast<std::size_t>(thread_state.slab_index);
  Slab* slab = entries_[index].slab.load(std::memory_order_relaxed);
  thread_state.slab_index = -1;
  DrainOwned(slab, "thread exit");
  LockHolder holder(drain_lock_);
  slab->policy.next_unowned = first_unowned_;
  first_unowned_ = static_cast<std::uint32_t>(index + 1);
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
        slab_table.slabs[i].store(slab, std::memory_order_relaxed);
      } else {
        entries_[i].claimed_by.store(0, std::memory_order_relaxed);
        slab_table.slabs[i].store(EmptySlab(), std::memory_order_relaxed);
      }
    }
    return;
  }
  if (!may_lock) return;
  // The slabs of threads that are no more.
  LockHolder holder(drain_lock_);
  first_unowned_ = 0;
  for (std::uint32_t i = 0; i < indices_used_; ++i) {
    if (static_cast<std::int32_t>(i) == thread_state.slab_index) continue;
    Slab* slab = entries_[i].slab.load(std::memory_order_relaxed);
    // An index whose thread was only just getting its slab has none and is lost.
    if (slab == nullptr) continue;
    DrainOwned(slab, "fork");
    slab->policy.next_unowned = first_unowned_;
    first_unowned_ = i + 1;
  }
}

void CpuCache::RepairAfterJump() {
  if (mode_ == CacheMode::kCpu) {
    for (std::size_t i = 0; i < index_bound_; ++i) {
      if (entries_[i].slab.load(std::memory_order_relaxed) != nullptr) continue;
      std::uint32_t claimant = ThreadId();
      entries_[i].claimed_by.compare_exchange_strong(claimant, 0, std::memory_order_relaxed);
    }
    return;
  }
  if (thread_state.slab_index < 0) return;
  const auto index = static_cast<std::size_t>(thread_state.slab_index);
  Slab* slab = entries_[index].slab.load(std::memory_order_relaxed);
  if (slab != nullptr) PutIntoTable(index, slab);
}

}  // namespace tarn
