// SPDX-License-Identifier: Apache-2.0

#include "allocator/life/fork_locks.h"

#include "allocator/os/thread_state.h"

namespace tarn {

namespace {

constinit Lock list_lock(LockRank::kPoolList);
constinit IntrusiveList<ForkLock> fork_locks TARN_GUARDED_BY(list_lock);
bool list_held_before = false;

}  // namespace

void AddForkLock(ForkLock* lock) {
  SlowPathScope scope;
  LockHolder holder(list_lock);
  if (!lock->linked()) fork_locks.PushFront(lock);
}

void RemoveForkLock(ForkLock* lock) {
  SlowPathScope scope;
  LockHolder holder(list_lock);
  IntrusiveList<ForkLock>::Remove(lock);
}

HeldLocks FindHeldForkLocks() {
  if (list_lock.HeldByThisThread()) return HeldLocks::kHeld;
  if (!list_lock.TryAcquire()) return HeldLocks::kUnknown;
  HeldLocks held = HeldLocks::kNone;
  for (ForkLock* lock = fork_locks.front(); lock != nullptr; lock = fork_locks.Next(lock)) {
    if (lock->lock.HeldByThisThread()) held = HeldLocks::kHeld;
  }
  list_lock.Release();
  return held;
}

void WakeForkLocksAfterJump() {
  list_lock.WakeAfterJump();
  if (!list_lock.TryAcquire()) return;
  for (ForkLock* lock = fork_locks.front(); lock != nullptr; lock = fork_locks.Next(lock)) lock->lock.WakeAfterJump();
  list_lock.Release();
}

void AcquireForkLocks() TARN_NO_THREAD_SAFETY_ANALYSIS {
  list_held_before = list_lock.HeldByThisThread();
  if (!list_held_before) list_lock.Acquire();
  for (ForkLock* lock = fork_locks.front(); lock != nullptr; lock = fork_locks.Next(lock)) {
    lock->held_before_fork = lock->lock.HeldByThisThread();
    if (!lock->held_before_fork) lock->lock.Acquire();
  }
}

void ReleaseForkLocks() TARN_NO_THREAD_SAFETY_ANALYSIS {
  for (ForkLock* lock = fork_locks.front(); lock != nullptr; lock = fork_locks.Next(lock)) {
    if (!lock->held_before_fork) lock->lock.Release();
  }
  if (!list_held_before) list_lock.Release();
}

void ReleaseForkLocksInChild() TARN_NO_THREAD_SAFETY_ANALYSIS {
  for (ForkLock* lock = fork_locks.front(); lock != nullptr; lock = fork_locks.Next(lock)) {
    if (lock->held_before_fork) {
      lock->lock.AdoptInForkedChild();
    } else {
      lock->lock.ResetInForkedChild();
    }
  }
  if (list_held_before) {
    list_lock.AdoptInForkedChild();
  } else {
    list_lock.ResetInForkedChild();
  }
}

void ResetForkLocksInChild() TARN_NO_THREAD_SAFETY_ANALYSIS {
  // While the list itself was being changed, all of its links point to locks still, but one may not be linked yet.
  list_lock.ResetInForkedChild();
  for (ForkLock* lock = fork_locks.front(); lock != nullptr; lock = fork_locks.Next(lock)) {
    lock->held_before_fork = false;
    lock->lock.ResetInForkedChild();
  }
}

Lock& ForkLockListLock() { return list_lock; }

}  // namespace tarn
