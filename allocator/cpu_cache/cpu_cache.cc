// SPDX-License-Identifier: Apache-2.0

#include "allocator/cpu_cache/cpu_cache.h"

#include <algorithm>
#include <new>

#include "allocator/cpu_cache/slab_ops.h"
#include "allocator/os/cpus.h"
#include "allocator/os/thread_state.h"

namespace tarn {

constinit const SlabHeader empty_headers[kSizeClassCount + kMaxVforkChildren] = {};
constinit SlabTable slab_table = {};

namespace {

// Thread mode: there are many more threads than CPUs. Most slots belong to the smallest objects, and few of these are
// ever used; with all of them a slab takes 240 KiB of addresses, with these 90.
constexpr std::size_t kMaxSlotsOfThread = 512;
// Slabs beyond the first ones have a part of the budget, for hundreds of threads may each have filled theirs.
constexpr std::size_t kSlabsOfFullBudget = 16;
constexpr std::size_t kLaterSlabDivisor = 4;
// The number of classes that a miss looks at for capacity to steal. Chosen: bounds the time of a slow path.
constexpr int kStealTries = 8;

std::uint16_t LoadEnd(Slab* slab, SizeClass size_class) {
  // Others change it by SlabSetEnd only, which compares; so a stale value is caught there.
  return std::atomic_ref<std::uint16_t>(slab->headers[size_class].end).load(std::memory_order_relaxed);
}

std::uint64_t LoadWord(const Slab* slab, SizeClass size_class) {
  return std::atomic_ref<std::uint64_t>(const_cast<Slab*>(slab)->headers[size_class].word)
      .load(std::memory_order_relaxed);
}

std::uint64_t LoadDue(const Slab* slab, SizeClass size_class) {
  return std::atomic_ref<std::uint64_t>(const_cast<Slab*>(slab)->headers[size_class].sample_due)
      .load(std::memory_order_relaxed);
}

template <typename T>
void Count(std::atomic<T>& counter, std::size_t by) {
  counter.fetch_add(static_cast<T>(by), std::memory_order_relaxed);
}

}  // namespace

// --- Start-up ------------------------------------------------------------------------------------------------------

void CpuCache::Init(CacheMode mode, const RseqSupport& rseq, std::size_t budget_bytes, TransferCache* transfer_caches,
                    PageHeap* page_heap) {
  mode_ = mode;
  rseq_ = rseq;
  budget_bytes_ = budget_bytes;
  transfer_caches_ = transfer_caches;
  page_heap_ = page_heap;
  attach_threads_ = mode == CacheMode::kThread || rseq.register_threads;
  const std::size_t index_bound = mode == CacheMode::kThread ? kMaxSlabs : std::min(CpuIdBound(), kMaxSlabs);
  // Without memory for the indices there are no slabs, and everything goes past the caches.
  entries_ = static_cast<Entry*>(
      page_heap->AllocateMetadata(index_bound * sizeof(Entry), alignof(Entry), MetadataKind::kCaches));
  index_bound_ = entries_ == nullptr ? 0 : index_bound;
  slab_table.id_offset = rseq.id_offset;
  slab_table.rseq_cs_offset = rseq.rseq_cs_offset;
  slab_table.unregistered[0] = EmptySlab();
  slab_table.unregistered[1] = EmptySlab();
  // In the thread mode the table is filled as indices are given out.
  if (mode == CacheMode::kCpu) {
    for (std::size_t i = 0; i < index_bound; ++i) slab_table.slabs[i].store(EmptySlab(), std::memory_order_relaxed);
  }
  ComputeLayout();
}

void CpuCache::ComputeLayout() {
  std::size_t next_slot = kFirstSlot;
  for (int c = 1; c < kSizeClassCount; ++c) {
    std::size_t slots = kSizeClasses[c].max_cached_objects;
    if (mode_ == CacheMode::kThread) slots = std::min(slots, kMaxSlotsOfThread);
    layout_[c].begin = static_cast<std::uint16_t>(next_slot);
    next_slot += slots;
    TARN_CHECK(next_slot <= kSlabTopMask);
    layout_[c].limit = static_cast<std::uint16_t>(next_slot);
  }
  slab_bytes_ = next_slot * sizeof(void*);
}

// --- Slabs and their owners ----------------------------------------------------------------------------------------

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

Slab* CpuCache::CurrentSlab() {
  const std::int32_t id = CurrentIndex();
  if (id < 0 || static_cast<std::size_t>(id) >= index_bound_) return nullptr;
  const auto index = static_cast<std::size_t>(id);
  Slab* slab = slab_table.slabs[index].load(std::memory_order_acquire);
  if (!IsEmptySlab(slab)) return slab;
  if (budget_bytes_ == 0) return nullptr;
  // Populated but not in the table: a drain is at work, a vfork child keeps the index empty, or one did.
  if (entries_[index].slab.load(std::memory_order_relaxed) != nullptr) return PutBackLeftOut(index);
  return Populate(index);
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
    Slab* slab = NewSlab(index < kSlabsOfFullBudget ? budget_bytes_ : budget_bytes_ / kLaterSlabDivisor);
    // Without memory the thread keeps the index and the empty slab.
    entries_[index].slab.store(slab, std::memory_order_relaxed);
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

// --- Refill and flush ----------------------------------------------------------------------------------------------

void* CpuCache::AllocateDirect(SizeClass size_class) {
  void* object;
  if (Transfer(size_class).RemoveRange(&object, 1) == 0) return nullptr;
  Count(direct_[size_class].allocations, 1);
  return object;
}

void* CpuCache::AllocateSlow(SizeClass size_class) {
  Slab* slab = CurrentSlab();
  if (slab == nullptr) return AllocateDirect(size_class);
  SlabCounters& counters = slab->counters[size_class];
  Count(counters.refills, 1);
  SweepIfGrown(slab);
  Grow(slab, size_class, Miss::kEmpty);

  // No more than there is room for, and the one that the caller gets.
  const SlabHeader& header = slab->headers[size_class];
  const std::size_t room = LoadEnd(slab, size_class) - header.begin;
  const std::size_t wanted = std::min<std::size_t>(kSizeClasses[size_class].batch_objects, room + 1);
  void* batch[kMaxBatchObjects];
  const std::size_t got = Transfer(size_class).RemoveRange(batch, wanted);
  if (got == 0) return nullptr;
  // The first is the lowest address of its span; the slab gives out the others from the last pushed on. They are
  // turned round to come out in rising order, as memory is best walked.
  std::reverse(batch + 1, batch + got);
  // The thread may run elsewhere by now: the objects then go to that slab, and the sum of the counters is right still.
  const std::size_t pushed = got == 1 ? 0 : SlabPushBatch(size_class, batch + 1, got - 1);
  Count(counters.refilled, pushed);
  Count(counters.direct_allocations, 1);
  if (pushed < got - 1) {
    Transfer(size_class).InsertRange(batch + 1 + pushed, got - 1 - pushed, "malloc");
  }
  return batch[0];
}

std::size_t CpuCache::FlushBatch(Slab* slab, SizeClass size_class, std::size_t count, const char* call) {
  void* batch[kMaxBatchObjects];
  const std::size_t popped = SlabPopBatch(size_class, batch, count);
  if (popped == 0) return 0;
  Count(slab->counters[size_class].flushed, popped);
  // These pops were no allocations. A sample that fell among them is drawn anew from here on; for one that lies beyond
  // them nothing has changed, since the distance has no memory.
  if (LoadWord(slab, size_class) >= LoadDue(slab, size_class)) {
    std::uint64_t due;
    static_cast<void>(SlabClaimSample(size_class, slab, sampler_.DrawDistance(size_class), &due));
  }
  Transfer(size_class).InsertRange(batch, popped, call);
  return popped;
}

void CpuCache::DeallocateSlow(SizeClass size_class, void* object, const char* call) {
  Slab* slab = CurrentSlab();
  TransferCache& transfer = Transfer(size_class);
  if (slab == nullptr) {
    Count(direct_[size_class].frees, 1);
    transfer.InsertRange(&object, 1, call);
    return;
  }
  SlabCounters& counters = slab->counters[size_class];
  Grow(slab, size_class, Miss::kFull);
  if (SlabPush(size_class, object)) return;
  Count(counters.flushes, 1);
  FlushBatch(slab, size_class, kSizeClasses[size_class].batch_objects, call);
  if (SlabPush(size_class, object)) return;
  Count(counters.direct_frees, 1);
  transfer.InsertRange(&object, 1, call);
}

bool CpuCache::FillSlab(SizeClass size_class) {
  SlowPathScope scope;
  // The first miss, after which the next one makes room.
  if (Slab* slab = CurrentSlab()) Grow(slab, size_class, Miss::kEmpty);
  void* object = AllocateSlow(size_class);
  if (object == nullptr) return false;
  // Taken and given back: neither an allocation nor a free of the program, and the counters say so in sum.
  DeallocateSlow(size_class, object, "malloc");
  return true;
}

// --- Sampling ------------------------------------------------------------------------------------------------------

bool CpuCache::TakeSample(SizeClass size_class, unsigned* shift) {
  if (sampler_.rate_bytes() == 0) return false;
  Slab* slab = CurrentSlab();
  if (slab != nullptr && LoadWord(slab, size_class) >= LoadDue(slab, size_class)) {
    std::uint64_t due;
    if (SlabClaimSample(size_class, slab, sampler_.DrawDistance(size_class), &due)) {
      *shift = static_cast<unsigned>(due & kSlabTopMask);
      return true;
    }
  }
  // An allocation that comes here and is not due bypasses the slab's count of pops, as the first object of a refill.
  return sampler_.Draw(size_class, shift);
}

void CpuCache::RestartSampling() {
  // Every process comes here once, with one slab or two: the rest of a large table is not looked at.
  std::size_t left = populated_slabs_.load(std::memory_order_relaxed);
  for (std::size_t i = 0; i < index_bound_ && left != 0; ++i) {
    Slab* slab = entries_[i].slab.load(std::memory_order_acquire);
    if (slab == nullptr) continue;
    --left;
    for (int c = 1; c < kSizeClassCount; ++c) {
      const auto size_class = static_cast<SizeClass>(c);
      // Beside the slab's owner, who may be storing one of his own: either will do.
      const std::uint64_t due = (LoadWord(slab, size_class) & ~kSlabTopMask) + sampler_.DrawDistance(size_class);
      std::atomic_ref<std::uint64_t>(slab->headers[c].sample_due).store(due, std::memory_order_relaxed);
    }
  }
}

// --- Capacities ----------------------------------------------------------------------------------------------------

void CpuCache::Grow(Slab* slab, SizeClass size_class, Miss miss) {
  const auto object_bytes = static_cast<std::int64_t>(kSizeClasses[size_class].size_bytes);
  // Nothing that the other classes could give up would be enough.
  if (object_bytes > slab->policy.budget_bytes) return;
  SlabCounters& counters = slab->counters[size_class];
  counters.recently_missed.store(true, std::memory_order_relaxed);
  const std::uint16_t end = LoadEnd(slab, size_class);
  // Several threads may be here for the same slab; which of them leaves the mark is of no consequence.
  const auto last_miss = static_cast<Miss>(counters.last_miss.load(std::memory_order_relaxed));
  const std::size_t capacity = end - layout_[size_class].begin;
  if (last_miss == miss && capacity >= kSizeClasses[size_class].batch_objects) return;
  counters.last_miss.store(static_cast<std::uint8_t>(miss), std::memory_order_relaxed);
  const std::size_t room = layout_[size_class].limit - end;
  std::size_t step = kSizeClasses[size_class].batch_objects;
  if (mode_ == CacheMode::kThread) {
    // The second miss may be the free of what the first one brought, which makes no use of it yet.
    const bool used_once = last_miss == Miss::kNone || (last_miss == Miss::kEmpty && miss == Miss::kFull);
    if (capacity == 0 && used_once) return;
    if (capacity < step) step = std::min(std::max<std::size_t>(capacity, 1), step - capacity);
  }
  const std::size_t by = std::min(step, room);
  if (by == 0) return;
  const std::int64_t wanted_bytes = static_cast<std::int64_t>(by) * object_bytes;
  // Taken first and given back if it was not available, so that threads in here at once never overdraw it.
  std::int64_t missing_bytes =
      wanted_bytes - slab->policy.spare_bytes.fetch_sub(wanted_bytes, std::memory_order_relaxed);
  if (missing_bytes > 0) missing_bytes -= Steal(slab, size_class, missing_bytes);
  // The rest is unavailable: grow by less, down to nothing.
  std::int64_t granted_bytes = wanted_bytes;
  if (missing_bytes > 0) {
    const std::int64_t covered_bytes = std::max<std::int64_t>(wanted_bytes - missing_bytes, 0);
    granted_bytes = covered_bytes / object_bytes * object_bytes;
  }
  const auto new_end = static_cast<std::uint16_t>(end + granted_bytes / object_bytes);
  if (granted_bytes != 0 && !SlabSetEnd(size_class, slab, end, new_end)) granted_bytes = 0;
  if (granted_bytes != wanted_bytes) {
    slab->policy.spare_bytes.fetch_add(wanted_bytes - granted_bytes, std::memory_order_relaxed);
  }
}

std::int64_t CpuCache::Steal(Slab* slab, SizeClass for_class, std::int64_t wanted_bytes) {
  std::int64_t stolen_bytes = 0;
  for (int tries = 0; tries < kStealTries && stolen_bytes < wanted_bytes; ++tries) {
    const std::uint32_t hand = slab->policy.steal_hand.fetch_add(1, std::memory_order_relaxed);
    const auto victim = static_cast<SizeClass>(1 + hand % (kSizeClassCount - 1));
    if (victim == for_class) continue;
    const std::uint16_t end = LoadEnd(slab, victim);
    const std::size_t capacity = end - layout_[victim].begin;
    if (capacity == 0) continue;
    // A class that missed since the hand was here last is in use; it is spared this time.
    if (slab->counters[victim].recently_missed.exchange(false, std::memory_order_relaxed)) continue;
    const SizeClassInfo& info = kSizeClasses[victim];
    const std::size_t by = std::min<std::size_t>(info.batch_objects, capacity);
    const auto new_end = static_cast<std::uint16_t>(end - by);
    if (!SlabSetEnd(victim, slab, end, new_end)) {
      FlushBatch(slab, victim, by, "free");
      if (!SlabSetEnd(victim, slab, end, new_end)) continue;
    }
    const std::int64_t bytes = static_cast<std::int64_t>(by) * info.size_bytes;
    slab->policy.spare_bytes.fetch_add(bytes, std::memory_order_relaxed);
    stolen_bytes += bytes;
  }
  return stolen_bytes;
}

void CpuCache::SweepIfGrown(Slab* slab) {
  const std::uint64_t growth = page_heap_->growth();
  if (slab->policy.growth_at_sweep.load(std::memory_order_relaxed) == growth) [[likely]]
    return;
  slab->policy.growth_at_sweep.store(growth, std::memory_order_relaxed);
  Sweep(slab);
}

void CpuCache::Sweep(Slab* slab) {
  for (int c = 1; c < kSizeClassCount; ++c) {
    const auto size_class = static_cast<SizeClass>(c);
    CentralFreeList& central = transfer_caches_[c].central();
    if (central.kept_spans() != 0) central.ReleaseKept();
    if (!central.IsSparse()) continue;
    // No more than the slab held: the thread may run on another CPU by now and flush there, while others push.
    const std::size_t cached = (LoadWord(slab, size_class) & kSlabTopMask) - layout_[c].begin;
    for (std::size_t flushed = 0; flushed < cached;) {
      const std::size_t popped = FlushBatch(slab, size_class, kMaxBatchObjects, "free");
      if (popped == 0) break;
      flushed += popped;
    }
    transfer_caches_[c].Drain("free");
  }
}

// --- Drain ---------------------------------------------------------------------------------------------------------

std::size_t CpuCache::DrainOwned(Slab* slab, const char* call) {
  std::size_t drained_bytes = 0;
  for (int c = 1; c < kSizeClassCount; ++c) drained_bytes += DrainOwnedClass(slab, static_cast<SizeClass>(c), call);
  return drained_bytes;
}

std::size_t CpuCache::DrainOwnedClass(Slab* slab, SizeClass size_class, const char* call) {
  std::size_t drained_bytes = 0;
  SlabHeader& header = slab->headers[size_class];
  const std::size_t size_bytes = kSizeClasses[size_class].size_bytes;
  void* batch[kMaxBatchObjects];
  while (true) {
    const std::size_t top = header.word & kSlabTopMask;
    const std::size_t count = std::min<std::size_t>(top - header.begin, kMaxBatchObjects);
    if (count == 0) break;
    std::copy(slab->slots() + top - count, slab->slots() + top, batch);
    // The word before the insertion: a fork in between leaks the batch in the child instead of having it twice.
    std::atomic_ref<std::uint64_t>(header.word).fetch_add(count * kSlabPopIncrement, std::memory_order_relaxed);
    // No allocations: the next sample is as many allocations away as before.
    header.sample_due += count << kSlabPopsShift;
    Count(slab->counters[size_class].flushed, count);
    Transfer(size_class).central().InsertRange(batch, count, call);
    drained_bytes += count * size_bytes;
  }
  // The capacity goes too, and is learnt anew.
  const std::int64_t capacity_bytes =
      static_cast<std::int64_t>(header.end - header.begin) * static_cast<std::int64_t>(size_bytes);
  std::atomic_ref<std::uint16_t>(header.end).store(header.begin, std::memory_order_relaxed);
  slab->policy.spare_bytes.fetch_add(capacity_bytes, std::memory_order_relaxed);
  return drained_bytes;
}

std::size_t CpuCache::DrainAll(const char* call) {
  std::size_t drained_bytes = 0;
  if (mode_ == CacheMode::kThread) {
    Slab* slab = thread_state.slab_index < 0 ? nullptr : CurrentSlab();
    if (slab != nullptr) {
      // Out of the table, because a signal handler of this thread would pop what is about to be handed on.
      const auto index = static_cast<std::size_t>(thread_state.slab_index);
      TakeOutOfTable(index, slab);
      std::atomic_signal_fence(std::memory_order_seq_cst);
      drained_bytes += DrainOwned(slab, call);
      PutIntoTable(index, slab);
    }
  } else {
    LockHolder holder(drain_lock_);
    for (std::size_t i = 0; i < index_bound_; ++i) {
      if (Slab* slab = entries_[i].slab.load(std::memory_order_relaxed)) TakeOutOfTable(i, slab);
    }
    // The barrier orders the stores above before whatever any thread does next, and restarts what it was doing.
    const bool owned = AbortAllSequences();
    for (std::size_t i = 0; i < index_bound_; ++i) {
      Slab* slab = entries_[i].slab.load(std::memory_order_relaxed);
      if (slab == nullptr) continue;
      if (owned) drained_bytes += DrainOwned(slab, call);
      PutIntoTable(i, slab);
    }
  }
  for (int c = 1; c < kSizeClassCount; ++c) {
    if (transfer_caches_[c].drainable_bytes() != 0) drained_bytes += transfer_caches_[c].Drain(call);
  }
  return drained_bytes;
}

bool CpuCache::LookWhetherIdle(Slab* slab, SizeClass size_class, std::size_t* pending_bytes) {
  SlabCounters& counters = slab->counters[size_class];
  const std::uint64_t word = LoadWord(slab, size_class);
  const std::size_t cached = (word & kSlabTopMask) - layout_[size_class].begin;
  const auto low_half = static_cast<std::uint32_t>(word);
  if (cached == 0 || counters.word_at_look != low_half) {
    counters.idle_looks = 0;
  } else if (counters.idle_looks < kIdleLooks) {
    ++counters.idle_looks;
  }
  counters.word_at_look = low_half;
  if (counters.idle_looks == kIdleLooks) return true;
  *pending_bytes += cached * kSizeClasses[size_class].size_bytes;
  return false;
}

CpuCache::IdleDrain CpuCache::DrainIdle(const char* call) {
  IdleDrain result;
  LockHolder holder(drain_lock_);
  if (mode_ == CacheMode::kCpu && rseq_.remote_abort) DrainIdleSlabs(call, &result);
  DrainIdleTransferCaches(call, &result);
  return result;
}

void CpuCache::DrainIdleSlabs(const char* call, IdleDrain* result) {
  bool any = false;
  for (std::size_t i = 0; i < index_bound_; ++i) {
    Slab* slab = entries_[i].slab.load(std::memory_order_acquire);
    if (slab == nullptr) continue;
    bool idle = false;
    for (int c = 1; c < kSizeClassCount; ++c) {
      idle |= LookWhetherIdle(slab, static_cast<SizeClass>(c), &result->pending_bytes);
    }
    // Out of the table for as long as its idle classes are emptied, as in DrainAll.
    if (idle) TakeOutOfTable(i, slab);
    any |= idle;
  }
  if (any) {
    const bool owned = AbortAllSequences();
    for (std::size_t i = 0; i < index_bound_; ++i) {
      Slab* slab = entries_[i].slab.load(std::memory_order_relaxed);
      if (slab == nullptr) continue;
      // A slab with an idle class was not in the table at the barrier, and nothing puts one there but under the drain
      // lock. What is in the table has none, or a vfork child took it out after the barrier, when none was idle.
      for (int c = 1; owned && c < kSizeClassCount; ++c) {
        const auto size_class = static_cast<SizeClass>(c);
        if (slab->counters[c].idle_looks == kIdleLooks)
          result->drained_bytes += DrainOwnedClass(slab, size_class, call);
      }
      if (slab_table.slabs[i].load(std::memory_order_relaxed) != slab) PutIntoTable(i, slab);
    }
  }
}

void CpuCache::DrainIdleTransferCaches(const char* call, IdleDrain* result) {
  for (int c = 1; c < kSizeClassCount; ++c) {
    TransferLook& look = transfer_looks_[c];
    const std::size_t drainable_bytes = transfer_caches_[c].drainable_bytes();
    if (drainable_bytes == 0) {
      look.idle_looks = 0;
      continue;
    }
    // Whatever comes or goes is counted as a refill, a flush, or as gone past the slabs.
    const CacheClassStats stats = ClassStats(static_cast<SizeClass>(c));
    const std::uint64_t uses = stats.refills + stats.flushes + direct_[c].allocations.load(std::memory_order_relaxed) +
                               direct_[c].frees.load(std::memory_order_relaxed);
    look.idle_looks = uses == look.uses ? look.idle_looks + 1 : 0;
    look.uses = uses;
    if (look.idle_looks >= kIdleLooks) {
      result->drained_bytes += transfer_caches_[c].Drain(call);
      look.idle_looks = 0;
    } else {
      result->pending_bytes += drainable_bytes;
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

// --- Statistics ----------------------------------------------------------------------------------------------------

CacheClassStats CpuCache::ClassStats(SizeClass size_class) const {
  CacheClassStats stats;
  stats.allocations = direct_[size_class].allocations.load(std::memory_order_relaxed);
  stats.frees = direct_[size_class].frees.load(std::memory_order_relaxed);
  for (std::size_t i = 0; i < index_bound_; ++i) {
    const Slab* slab = entries_[i].slab.load(std::memory_order_acquire);
    if (slab == nullptr) {
      // Indices of threads are given out in order, those of CPUs are not.
      if (mode_ == CacheMode::kThread) break;
      continue;
    }
    const SlabCounters& counters = slab->counters[size_class];
    const std::uint64_t word = LoadWord(slab, size_class);
    const std::uint64_t pops = word >> kSlabPopsShift;
    const std::uint64_t cached = (word & kSlabTopMask) - slab->headers[size_class].begin;
    stats.allocations += pops - counters.flushed.load(std::memory_order_relaxed) +
                         counters.direct_allocations.load(std::memory_order_relaxed);
    stats.frees += cached + pops - counters.refilled.load(std::memory_order_relaxed) +
                   counters.direct_frees.load(std::memory_order_relaxed);
    stats.cached_objects += cached;
    stats.refills += counters.refills.load(std::memory_order_relaxed);
    stats.flushes += counters.flushes.load(std::memory_order_relaxed);
  }
  return stats;
}

std::size_t CpuCache::PinnedBytes() const {
  std::size_t pinned_bytes = 0;
  for (int c = 1; c < kSizeClassCount; ++c) {
    const SizeClassInfo& info = kSizeClasses[c];
    std::size_t objects = transfer_caches_[c].cached_objects() + transfer_caches_[c].central().kept_spans();
    for (std::size_t i = 0; i < index_bound_; ++i) {
      const Slab* slab = entries_[i].slab.load(std::memory_order_acquire);
      if (slab == nullptr) {
        if (mode_ == CacheMode::kThread) break;
        continue;
      }
      objects += (LoadWord(slab, static_cast<SizeClass>(c)) & kSlabTopMask) - slab->headers[c].begin;
    }
    pinned_bytes += objects * PageCount(info.span_pages).bytes();
  }
  return pinned_bytes;
}

// The published structures are these, under other names.
static_assert(sizeof(SlabHeader) == sizeof(tarn_snapshot_slab_header));
static_assert(offsetof(SlabHeader, limit) == offsetof(tarn_snapshot_slab_header, limit));
static_assert(sizeof(SlabCounters) == sizeof(tarn_snapshot_slab_counters));
static_assert(offsetof(SlabCounters, direct_frees) == offsetof(tarn_snapshot_slab_counters, direct_frees));
static_assert(offsetof(SlabCounters, flushes) == offsetof(tarn_snapshot_slab_counters, flushes));

void CpuCache::Describe(tarn_snapshot_block* block) const {
  block->cache_mode = mode_ == CacheMode::kCpu ? TARN_CACHES_PER_CPU : TARN_CACHES_PER_THREAD;
  block->cache_index = mode_ == CacheMode::kThread        ? TARN_INDEX_THREAD
                       : rseq_.index == RseqIndex::kMmCid ? TARN_INDEX_MM_CID
                                                          : TARN_INDEX_CPU_ID;
  block->slab_entries_address = reinterpret_cast<std::uintptr_t>(&entries_[0].slab);
  block->slab_entry_stride = sizeof(Entry);
  block->slab_entry_count = static_cast<std::uint32_t>(index_bound_);
  block->slab_headers_offset = offsetof(Slab, headers);
  block->slab_counters_offset = offsetof(Slab, counters);
  block->cache_budget_bytes = budget_bytes_;
  static_assert(sizeof(DirectCounters) == 2 * sizeof(std::uint64_t));
  block->direct_counters_address = reinterpret_cast<std::uintptr_t>(direct_);
}

}  // namespace tarn
