// SPDX-License-Identifier: Apache-2.0

#include "allocator/cpu_cache/cpu_cache.h"

#include <algorithm>

#include "allocator/cpu_cache/slab_ops.h"
#include "allocator/cpu_cache/slab_words.h"
#include "allocator/os/cpus.h"
#include "allocator/os/thread_state.h"

namespace tarn {

constinit const SlabHeader empty_headers[kSizeClassCount + kMaxVforkChildren] = {};
constinit SlabTable slab_table = {};

namespace {

// Thread mode: there are many more threads than CPUs. Most slots belong to the smallest objects, and few of these are
// ever used; with all of them a slab takes 240 KiB of addresses, with these 90.
constexpr std::size_t kMaxSlotsOfThread = 512;

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
  entries_ = first_entries_;
  if (index_bound > kFirstEntries) {
    entries_ = static_cast<Entry*>(
        page_heap->AllocateMetadata(index_bound * sizeof(Entry), alignof(Entry), MetadataKind::kCaches));
  }
  index_bound_ = entries_ == nullptr ? 0 : index_bound;
  slab_table.offsets = rseq.offsets;
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
  const auto place = [&](Slots* slots, std::size_t count) {
    slots->begin = static_cast<std::uint16_t>(next_slot);
    next_slot += count;
    TARN_CHECK(next_slot <= kSlabTopMask);
    slots->limit = static_cast<std::uint16_t>(next_slot);
  };
  const auto slots_of = [&](int c) {
    const std::size_t slots = kSizeClasses[c].max_cached_objects;
    return mode_ == CacheMode::kThread ? std::min(slots, kMaxSlotsOfThread) : slots;
  };
  // Where no class can move, the near slots are all there are.
  const std::size_t most_near = mode_ == CacheMode::kThread || rseq_.remote_abort ? kNearSlots : kSlabTopMask;
  for (int c = 1; c < kSizeClassCount; ++c) place(&layout_[c].near, std::min(slots_of(c), most_near));
  // One slot in between is nobody's: the end of the last near ones is none of the far ones.
  first_far_slot_ = static_cast<std::uint16_t>(++next_slot);
  for (int c = 1; c < kSizeClassCount; ++c) {
    if (slots_of(c) > most_near) place(&layout_[c].far, slots_of(c));
  }
  slab_bytes_ = next_slot * sizeof(void*);
}

// --- Refill and flush ----------------------------------------------------------------------------------------------

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
  const std::uint16_t end = LoadEnd(slab, size_class);
  const std::size_t room = end - SlotsOf(size_class, end).begin;
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

std::size_t CpuCache::FlushBatch(Slab* slab, SizeClass size_class, std::size_t count, const char* call, bool to_spans) {
  void* batch[kMaxBatchObjects];
  const std::size_t popped = SlabPopBatch(size_class, batch, count);
  if (popped == 0) return 0;
  Count(slab->counters[size_class].flushed, popped);
  // These pops were no allocations. A sample that fell among them is drawn anew from here on; for one that lies beyond
  // them nothing has changed, since the distance has no memory.
  if (LoadWord(slab, size_class) >= LoadDue(slab, size_class)) {
    std::uint64_t due;
    static_cast<void>(ClaimSample(size_class, slab, &due));
  }
  TransferCache& transfer = Transfer(size_class);
  to_spans ? transfer.central().InsertRange(batch, popped, call) : transfer.InsertRange(batch, popped, call);
  return popped;
}

// Another thread may work on this slab, and this thread may run on another one by now. No thread but this one has the
// object and may push it. So the slot below the top holds it only if it was pushed before. A slot above the top may
// hold anything. Acquire: the slot is read after the word, so it was below the top at some time.
bool CpuCache::IsLastPushed(Slab* slab, SizeClass size_class, const void* object) const {
  const std::size_t top =
      std::atomic_ref<std::uint64_t>(slab->headers[size_class].word).load(std::memory_order_acquire) & kSlabTopMask;
  return top != 0 && top != SlotsOf(size_class, top).begin && slab->slots()[top - 1] == object;
}

void CpuCache::DeallocateSlow(SizeClass size_class, void* object, const char* call) {
  Slab* slab = CurrentSlab();
  TransferCache& transfer = Transfer(size_class);
  if (slab == nullptr) {
    Count(direct_[size_class].frees, 1);
    transfer.InsertRange(&object, 1, call);
    return;
  }
  if (IsLastPushed(slab, size_class, object)) transfer.central().ReportSecondFree(object, call);
  SlabCounters& counters = slab->counters[size_class];
  Grow(slab, size_class, Miss::kFull);
  if (SlabPush(size_class, object)) return;
  Count(counters.flushes, 1);
  FlushBatch(slab, size_class, kSizeClasses[size_class].batch_objects, call);
  if (SlabPush(size_class, object)) return;
  Count(counters.direct_frees, 1);
  transfer.InsertRange(&object, 1, call);
}

void* CpuCache::AllocateCold(SizeClass size_class) {
  CountUse(size_class);
  void* const object = Transfer(size_class).central().RemoveOne();
  if (object != nullptr) Count(direct_[size_class].allocations, 1);
  return object;
}

void CpuCache::DeallocateCold(SizeClass size_class, void* object, const char* call) {
  CentralFreeList& central = Transfer(size_class).central();
  CountUse(size_class);
  // A slab has objects of a cold class where it cannot be emptied from outside, and where a fork made its thread's own.
  const std::int32_t id = CurrentIndex();
  if (id >= 0 && static_cast<std::size_t>(id) < index_bound_) {
    Slab* const slab = slab_table.slabs[id].load(std::memory_order_acquire);
    if (IsLastPushed(slab, size_class, object)) central.ReportSecondFree(object, call);
  }
  central.InsertOne(object, call);
  Count(direct_[size_class].frees, 1);
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

void CpuCache::UnfillSlab(SizeClass size_class) {
  if (!IsCold(size_class)) return;
  SlowPathScope scope;
  Slab* const slab = CurrentSlab();
  if (slab == nullptr) return;
  FlushBatch(slab, size_class, kMaxBatchObjects, "malloc", true);
  const std::uint16_t end = LoadEnd(slab, size_class);
  const std::uint16_t begin = SlotsOf(size_class, end).begin;
  if (!SlabSetEnd(size_class, slab, end, begin)) return;
  slab->policy.spare_bytes.fetch_add(std::int64_t{end - begin} * kSizeClasses[size_class].size_bytes,
                                     std::memory_order_relaxed);
  slab->counters[size_class].last_miss.store(0, std::memory_order_relaxed);
}

// --- Sampling ------------------------------------------------------------------------------------------------------

// Changes of the rate. What was drawn at a rate that is no longer in force may lie too far away, at the rate 0 beyond
// all pops. A thread stores a drawing for a class that gets its first room in a slab, for a claim or for a restart. It
// looks at the rate once more behind a full fence. The thread that changes the rate looks for classes with room behind
// a full fence. One of the two fences is the first. If it is that of the change, the other thread sees the new rate and
// draws anew. Else the change finds the class, and its store to sample_due is the later one. A class without room has
// no pops, so its word may stay as it is.

bool CpuCache::TakeSample(SizeClass size_class, unsigned* shift) {
  Slab* slab = CurrentSlab();
  std::uint64_t due;
  const bool claimed =
      slab != nullptr && LoadWord(slab, size_class) >= LoadDue(slab, size_class) && ClaimSample(size_class, slab, &due);
  // A sample that was due when the rate became 0 is claimed all the same: else each further pop of the class misses.
  if (sampler_.rate_bytes() == 0) return false;
  if (claimed) {
    *shift = static_cast<unsigned>(due & kSlabTopMask);
    return true;
  }
  // An allocation that comes here and is not due bypasses the slab's count of pops, as the first object of a refill.
  return sampler_.Draw(size_class, shift);
}

bool CpuCache::ClaimSample(SizeClass size_class, Slab* slab, std::uint64_t* due) {
  const std::size_t rate_bytes = sampler_.rate_bytes();
  if (!SlabClaimSample(size_class, slab, sampler_.DrawDistance(size_class), due)) return false;
  RestartIfRateChanged(slab, rate_bytes);
  return true;
}

void CpuCache::RestartSampling() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  // Every process comes here once, with one slab or two: the rest of a large table is not looked at. The number may
  // rise during the loop, before the new slab is found. In the thread mode it may fall, too.
  std::size_t found = 0;
  const bool count = mode_ == CacheMode::kCpu;
  for (std::size_t i = 0; i < IndexEnd() && (!count || found < populated_slabs()); ++i) {
    Slab* slab = SlabAt(i);
    if (slab == nullptr) continue;
    ++found;
    RestartSamplingOf(slab);
  }
}

void CpuCache::RestartSamplingOf(Slab* slab) {
  std::size_t rate_bytes;
  do {
    rate_bytes = sampler_.rate_bytes();
    for (int c = 1; c < kSizeClassCount; ++c) {
      const auto size_class = static_cast<SizeClass>(c);
      const std::uint16_t end = LoadEnd(slab, size_class);
      // 0 in a slab that is released.
      if (end > SlotsOf(size_class, end).begin) DrawSample(slab, size_class);
    }
    std::atomic_thread_fence(std::memory_order_seq_cst);
  } while (sampler_.rate_bytes() != rate_bytes);
}

void CpuCache::DrawSample(Slab* slab, SizeClass size_class) {
  const std::uint64_t due = (LoadWord(slab, size_class) & ~kSlabTopMask) + sampler_.DrawDistance(size_class);
  std::atomic_ref<std::uint64_t>(slab->headers[size_class].sample_due).store(due, std::memory_order_relaxed);
}

void CpuCache::RestartIfRateChanged(Slab* slab, std::size_t rate_bytes) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (sampler_.rate_bytes() != rate_bytes) RestartSamplingOf(slab);
}

}  // namespace tarn
