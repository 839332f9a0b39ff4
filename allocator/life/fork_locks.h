// SPDX-License-Identifier: Apache-2.0
//
// Locks that come and go with the pools of the user's API, for fork to find: it has to acquire them all.
//
// A holder of such a lock acquires no other one. See life/fork.cc for what a fork needs, os/lock_rank.h for the ranks.
#pragma once

#include "allocator/base/intrusive_list.h"
#include "allocator/os/lock.h"

namespace tarn {

struct ForkLock : ListLink<ForkLock> {
  Lock lock = Lock(LockRank::kPool);
  // The forking thread was interrupted while it held the lock.
  bool held_before_fork = false;
};

// Before the lock's first use (a second call does nothing), and after its last.
void AddForkLock(ForkLock* lock);
void RemoveForkLock(ForkLock* lock);

// Which of these locks, or the list's own, the calling thread holds. kUnknown where another thread holds the list's: it
// may be a fork that waits for a lock of this very thread.
HeldLocks FindHeldForkLocks();
// Wakes one sleeper of each (life/held_locks.cc).
void WakeForkLocksAfterJump();

// The handlers of a fork. Between the first and one of the others no lock of a pool can change hands.
void AcquireForkLocks();
void ReleaseForkLocks();
void ReleaseForkLocksInChild();
// The child of a fork without handlers, where no lock is the calling thread's.
void ResetForkLocksInChild();
// The lock of the list of these locks, for tests.
Lock& ForkLockListLock();

}  // namespace tarn
