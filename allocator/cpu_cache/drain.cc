// SPDX-License-Identifier: Apache-2.0
//
// Emptying slabs and transfer caches into their spans: all of them, or those that nobody uses.
#include "allocator/cpu_cache/cpu_cache.h"

#include <algorithm>

#include "allocator/cpu_cache/slab_ops.h"
#include "allocator/cpu_cache/slab_words.h"
#include "allocator/os/thread_state.h"

namespace tarn {

namespace {

// A look at a slab reads two OS pages, some microseconds where they are not in the processor's caches. Chosen.
constexpr std::size_t kSlabsPerLook = 64;

}  // namespace

void CpuCache::OwnedSlabs::TakeOut(std::size_t index, Slab* slab) {
  if (end_ == 0) next_ = index;
  end_ = index + 1;
  is_others_ =
      is_others_ || cache_->mode_ == CacheMode::kCpu || static_cast<std::int64_t>(index) != thread_state.slab_index;
  TakeOutOfTable(index, slab);
}

bool CpuCache::OwnedSlabs::Own() {
  if (is_others_) {
    // The barrier orders the stores of TakeOut before whatever any thread does next, and restarts what it was doing.
    return AbortAllSequences();
  }
  // The slab is the calling thread's. A signal handler of it would pop what is about to be passed on.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return true;
}

Slab* CpuCache::OwnedSlabs::Next() {
  PutBackCurrent();
  while (next_ < end_) {
    const std::size_t index = next_++;
    Slab* const slab = cache_->MayTakeOut(index) ? cache_->SlabAt(index) : nullptr;
    // One in the table was not taken out: its thread settled after that. One that is out was, or a vfork child took it
    // out after the barrier. Then nobody uses it until the drain lock is free.
    if (slab == nullptr || slab_table.slabs[index].load(std::memory_order_relaxed) == slab) continue;
    return current_ = slab;
  }
  return nullptr;
}

void CpuCache::OwnedSlabs::PutBackCurrent() {
  if (current_ == nullptr) return;
  const std::size_t index = next_ - 1;
  if (slab_table.slabs[index].load(std::memory_order_relaxed) != current_) PutIntoTable(index, current_);
  current_ = nullptr;
}

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
    std::atomic_ref<std::uint64_t>(header.sample_due).fetch_add(count << kSlabPopsShift, std::memory_order_relaxed);
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

std::size_t CpuCache::DrainOwnedSlabs(OwnedSlabs* slabs, const char* call) {
  std::size_t drained_bytes = 0;
  if (!slabs->Own()) return 0;
  while (Slab* slab = slabs->Next()) drained_bytes += DrainOwned(slab, call);
  return drained_bytes;
}

std::size_t CpuCache::DrainAll(const char* call) {
  std::size_t drained_bytes = 0;
  {
    // Also for the thread's own slab: a signal handler that allocates must not put it back.
    LockHolder holder(drain_lock_);
    OwnedSlabs slabs(this);
    const std::size_t end = IndexEnd();
    for (std::size_t i = 0; i < end; ++i) {
      Slab* const slab = MayTakeOut(i) ? SlabAt(i) : nullptr;
      if (slab != nullptr) slabs.TakeOut(i, slab);
    }
    drained_bytes += DrainOwnedSlabs(&slabs, call);
  }
  if (mode_ == CacheMode::kThread) ReleaseUnowned();
  for (int c = 1; c < kSizeClassCount; ++c) {
    if (transfer_caches_[c].drainable_bytes() != 0) drained_bytes += transfer_caches_[c].Drain(call);
    if (rseq_.remote_abort) Cool(static_cast<SizeClass>(c));
  }
  if (rseq_.remote_abort) uses_in_all_.store(0, std::memory_order_relaxed);
  return drained_bytes;
}

void CpuCache::CoolClasses() {
  // Sums over many slabs take long. A class of them is cooled on request only.
  if (!rseq_.remote_abort || populated_slabs() > kSlabsPerLook) return;
  for (int c = 1; c < kSizeClassCount; ++c) {
    const auto size_class = static_cast<SizeClass>(c);
    ClassLook& look = class_looks_[c];
    if (IsCold(size_class)) {
      // It may be used as often until the next look.
      Cool(size_class);
      look.slow_looks = 0;
      continue;
    }
    // Also where the count in all has made it so.
    uses_[c].store(kColdUses, std::memory_order_relaxed);
    const CacheClassStats stats = ClassStats(size_class);
    const auto calls = static_cast<std::uint32_t>(stats.allocations + stats.frees);
    look.slow_looks = calls - look.calls < kColdUses ? look.slow_looks + 1 : 0;
    look.calls = calls;
    if (look.slow_looks >= kIdleLooks) Cool(size_class);
  }
  uses_in_all_.store(0, std::memory_order_relaxed);
}

bool CpuCache::LookWhetherIdle(Slab* slab, SizeClass size_class, std::size_t* pending_bytes) {
  SlabCounters& counters = slab->counters[size_class];
  const std::uint64_t word = LoadWord(slab, size_class);
  const std::size_t cached = CachedObjects(size_class, word);
  const auto low_half = static_cast<std::uint32_t>(word);
  const std::uint16_t end = LoadEnd(slab, size_class);
  if (class_looks_[size_class].slow_looks >= kIdleLooks && end > SlotsOf(size_class, end).begin) {
    counters.idle_looks = kIdleLooks;
  } else if (cached == 0 || counters.word_at_look != low_half) {
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
  CoolClasses();
  if (rseq_.remote_abort) DrainIdleSlabs(call, &result);
  DrainIdleTransferCaches(call, &result);
  return result;
}

void CpuCache::DrainIdleSlabs(const char* call, IdleDrain* result) {
  OwnedSlabs slabs(this);
  std::size_t first = 0;
  std::size_t end = IndexEnd();
  if (mode_ == CacheMode::kThread) {
    first = idle_hand_ < end ? idle_hand_ : 0;
    end = std::min(end, first + kSlabsPerLook);
    idle_hand_ = end;
  }
  for (std::size_t i = first; i < end; ++i) {
    Slab* const slab = MayTakeOut(i) ? SlabAt(i) : nullptr;
    if (slab == nullptr) continue;
    bool idle = false;
    for (int c = 1; c < kSizeClassCount; ++c) {
      idle |= LookWhetherIdle(slab, static_cast<SizeClass>(c), &result->pending_bytes);
    }
    if (idle) slabs.TakeOut(i, slab);
  }
  if (slabs.empty() || !slabs.Own()) return;
  while (Slab* slab = slabs.Next()) {
    for (int c = 1; c < kSizeClassCount; ++c) {
      if (slab->counters[c].idle_looks == kIdleLooks) {
        result->drained_bytes += DrainOwnedClass(slab, static_cast<SizeClass>(c), call);
      }
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

}  // namespace tarn
