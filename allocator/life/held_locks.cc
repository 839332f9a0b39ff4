// SPDX-License-Identifier: Apache-2.0
//
// FindHeldLocks and RepairAfterJump of os/thread_state.h: a look at all locks of the heap, some 250.
//
// Only a slow path that finds another one of its thread under way comes here.
#include "allocator/heap/process_heap.h"
#include "allocator/life/fork_locks.h"
#include "allocator/os/lock.h"
#include "allocator/os/thread_state.h"

namespace tarn {

namespace {

// Calls `visit` for each lock but those of pools, until it returns true. Returns whether it did.
template <typename Visit>
bool VisitLocks(Visit visit) {
  for (TransferCache& cache : process_heap.transfer_caches) {
    if (visit(cache.lock()) || visit(cache.central().lock())) return true;
  }
  // The lists of samples stay untouched where no sample was ever taken.
  if (process_heap.has_sampled_lists()) {
    for (CentralFreeList& list : process_heap.sampled_lists) {
      if (visit(list.lock())) return true;
    }
  }
  return visit(process_heap.page_heap.lock()) || visit(process_heap.profile.lock()) ||
         visit(process_heap.cpu_cache.drain_lock()) || visit(process_heap.scavenger.cycle_lock());
}

}  // namespace

HeldLocks FindHeldLocks() {
  if (!process_heap.started()) return HeldLocks::kUnknown;
  if (VisitLocks([](Lock& lock) { return lock.HeldByThisThread(); })) return HeldLocks::kHeld;
  return FindHeldForkLocks();
}

// A jump out of Lock::Release, between the release and the wake, leaves a sleeper to wake. A wake in vain does no harm.
void RepairAfterJump() {
  thread_state.locks.ForgetSlowPath();
  process_heap.limits.RepairAfterJump();
  process_heap.scavenger.RepairAfterJump();
  process_heap.profile_dumps.RepairAfterJump();
  process_heap.cpu_cache.RepairAfterJump();
  const auto wake = [](Lock& lock) {
    lock.WakeAfterJump();
    return false;
  };
  static_cast<void>(VisitLocks(wake));
  WakeForkLocksAfterJump();
}

}  // namespace tarn
