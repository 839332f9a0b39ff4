// SPDX-License-Identifier: Apache-2.0
//
// How much memory the process may have: a soft limit that is kept by giving memory back, a hard limit at which
// allocations fail.
//
// The soft limit (TARN_MEMORY_LIMIT) is for the resident memory of the process as the kernel counts it. That is what
// users mean, and what ends a container. By default it follows the cgroup: nine tenths of its limit. It is checked when
// memory is taken that was not resident, about every hundredth of the limit. The thread that took it checks, at the end
// of its slow path. Near the limit free memory goes back: first whole huge pages, then what caches hold, then free
// pages of huge pages in use. For what is missing then, pools of recycled objects are asked (pools/caretaker.h). It
// never fails an allocation. The time for this is at most a tenth of the time that passes: a program that needs more
// than its limit goes beyond it rather than standing still.
//
// The hard limit (TARN_HARD_LIMIT) is for what tarn has handed out or needs itself: spans, mappings, metadata. It is
// checked exactly, by the page heap: what would exceed it gets no memory (after free memory and caches have been given
// up), which malloc turns into ENOMEM and operator new into bad_alloc.
//
// Callbacks are called by the thread that looks at the limit, in no slow path and with no lock held: they may allocate
// and free.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "allocator/include/tarn/snapshot.h"
#include "allocator/os/lock.h"
#include "allocator/os/thread_state.h"
#include "allocator/pages/page_heap.h"
#include "allocator/policy/parts.h"
#include "allocator/settings/options.h"

namespace tarn {

class Limits {
 public:
  using Callback = void (*)(unsigned percent, std::size_t used_bytes, std::size_t limit_bytes, void* argument);

  constexpr Limits() = default;

  void Init(const PolicyParts* parts, LimitSetting soft, LimitSetting hard, Lock* cycle_lock);

  void SetSoft(LimitSetting setting);
  void SetHard(LimitSetting setting);
  // In force now; SIZE_MAX: none.
  std::size_t soft_bytes() const { return ~Load(&tarn_snapshot_limits::not_soft_bytes); }
  std::size_t hard_bytes() const { return ~Load(&tarn_snapshot_limits::not_hard_bytes); }

  // Looks at the soft limit and does what it asks for. Called in no slow path; by the scavenger's thread without
  // callbacks, which need a thread of the program.
  void Check(bool may_call_back);

  // Calls back when the memory in use reaches `percent` (1 to 100) of the limit, soft or else hard, and again after it
  // was five points lower. False when there is no place left.
  bool AddCallback(unsigned percent, Callback callback, void* argument);
  bool RemoveCallback(Callback callback, void* argument);

  void CountHardFailure();

  tarn_snapshot_limits Stats() const;
  const tarn_snapshot_limits* published() const { return &published_; }
  // For the child of a fork: the thread that was in Check is gone.
  void RepairInForkedChild() { checking_.store(0, std::memory_order_relaxed); }
  // After a jump out of a slow path of the calling thread, which may have been a check.
  void RepairAfterJump() {
    std::uint32_t checker = ThreadId();
    checking_.compare_exchange_strong(checker, 0, std::memory_order_release, std::memory_order_relaxed);
  }

 private:
  struct CallbackPlace {
    // 0: free, 1: being filled or emptied, else percent + 1.
    std::atomic<unsigned> state = 0;
    std::atomic<Callback> callback = nullptr;
    std::atomic<void*> argument = nullptr;
    std::atomic<bool> armed = false;
  };
  static constexpr int kCallbackPlaces = 16;

  using Field = std::uint64_t tarn_snapshot_limits::*;
  std::uint64_t Load(Field field) const { return __atomic_load_n(&(published_.*field), __ATOMIC_RELAXED); }
  void Store(Field field, std::uint64_t value) { __atomic_store_n(&(published_.*field), value, __ATOMIC_RELAXED); }
  void Add(Field field, std::uint64_t value) { __atomic_fetch_add(&(published_.*field), value, __ATOMIC_RELAXED); }

  void ReadFacts();
  // Reads the limits of the container where that is due, and once what else lies in files.
  void ReadWhatIsDue(std::uint32_t now_ms);
  void CountExcess(std::uint64_t excess_bytes);
  // Releases what is above the limit, or comes near it, and takes it off `used_bytes`. `delta_bytes` were handed out
  // since the last check. Returns after how many bytes the next check is due.
  std::size_t Keep(std::size_t limit_bytes, std::uint64_t delta_bytes, std::uint32_t now_ms, std::size_t* used_bytes);
  void ApplyHard(LimitSetting setting);
  void ReadLimits();
  void SetGoals(std::size_t limit_bytes, std::int64_t others_bytes);
  std::size_t UsedBytes() const;
  // The page heap's memory, as far as it knows: pages in use that were never touched count.
  std::size_t OwnBytes() const;
  // A limit, or a callback, was asked for by the user or the program.
  bool MayReadFiles() const;
  std::size_t Release(std::size_t bytes, std::uint32_t now_ms);
  // How far it is to the next threshold; 0 when one is passed and has not been told.
  std::size_t DistanceToCallback(std::size_t used_bytes) const;
  void CallBack(std::size_t used_bytes);

  const PolicyParts* parts_ = nullptr;
  // The scavenger's: the pass over huge pages in use is shared with it.
  Lock* cycle_lock_ = nullptr;

  // Written by the setters and by Check. A setting is never torn, since each is one atomic.
  std::atomic<LimitSetting::Kind> soft_kind_ = LimitSetting::Kind::kNone;
  std::atomic<std::size_t> soft_value_ = 0;
  std::atomic<bool> soft_asked_for_ = false;
  std::atomic<LimitSetting::Kind> hard_kind_ = LimitSetting::Kind::kNone;
  std::atomic<std::size_t> hard_value_ = 0;
  std::atomic<bool> read_again_ = false;

  // One thread at a time looks; the fields below are its own.
  std::atomic<std::uint32_t> checking_ = 0;
  bool has_read_ = false;
  bool has_facts_ = false;
  // Resident memory besides the page heap's, as of the reading of the container's limit.
  std::size_t other_bytes_ = 0;
  // Zero until it is read, like no limit: there is none in force by then.
  std::size_t container_bytes_ = 0;
  PageHeap::Goals goals_;
  std::uint32_t read_at_ms_ = 0;
  std::uint32_t drained_at_ms_ = 0;
  std::uint64_t fresh_bytes_at_check_ = 0;
  std::uint64_t checked_at_ns_ = 0;
  std::int64_t credit_ns_ = 0;

  std::atomic<int> callbacks_ = 0;
  CallbackPlace callback_places_[kCallbackPlaces];

  // Read from outside. Limits are complements, so that no limit is all zeroes: heap/process_heap.h tells why nothing
  // else may be there at the start.
  tarn_snapshot_limits published_ = {};
};

}  // namespace tarn
