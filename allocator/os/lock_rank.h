// SPDX-License-Identifier: Apache-2.0
//
// The order of all locks of tarn. Builds with TARN_DCHECK hold each thread to it: the thread's block records the ranks
// of the locks that the thread holds, and a wait for a lock out of order fails a check. Other builds record nothing.
#pragma once

#include <cstdint>

#include "allocator/base/attributes.h"

namespace tarn {

// All locks, in the order in which a fork acquires them. A thread that holds a lock of one of the first three ranks may
// acquire one of a later rank. A thread that holds any other lock acquires none. So the order of those cannot matter,
// and a fork may acquire all of them in any state of the process. Adding a nesting means to rethink life/fork.cc.
//
// An attempt that does not wait (TryAcquire) is allowed in any order.
enum class LockRank : std::uint8_t {
  kNone,  // in memory that no constructor wrote
  // Of registrations (life/fork.cc): held while libc registers fork handlers, which allocates.
  kRegistration,
  // The scavenger's cycle lock (policy/scavenger.h). A fork from within a slow path does not acquire it.
  kCycle,
  // The CPU cache's drain lock (cpu_cache/cpu_cache.h). A fork does not acquire it.
  kDrain,
  // One per size class (central/transfer_cache.h).
  kTransferCache,
  // Of the heap profile (observe/profile.h). Also guards the settings that change (heap/process_heap.h), and whether
  // there are lists of sampled objects.
  kProfile,
  // Two per size class, those of the sampled objects second (central/central_free_list.h).
  kCentralFreeList,
  // Also guards the metadata and the writers of the page map (pages/page_heap.h).
  kPageHeap,
  // Of the list of pools (life/fork_locks.cc).
  kPoolList,
  // Of pools, which come and go with them (life/fork_locks.h), and the caretaker's (pools/caretaker.h).
  kPool,
};
inline constexpr int kLockRankCount = static_cast<int>(LockRank::kPool) + 1;
// The last of those whose holder may acquire another lock.
inline constexpr LockRank kLastNestingRank = LockRank::kDrain;

#if TARN_DCHECK_ENABLED

// The rank that a lock carries.
class RankOfLock {
 public:
  static constexpr bool kRecorded = true;
  constexpr explicit RankOfLock(LockRank rank) : rank_(rank) {}
  LockRank get() const { return rank_; }

 private:
  const LockRank rank_;
};

// The locks that the calling thread holds, as numbers by rank.
//
// A lock is recorded after it was acquired, and no longer when its release begins. So a signal handler that jumps out
// of an acquisition or a release (siglongjmp) leaves a lock that is held and not recorded, never the reverse.
class LockRecord {
 public:
  // Fails a check where the order forbids a wait for a lock of this rank.
  void CheckOrder(LockRank wanted);
  void NoteAcquired(LockRank rank) { ++held_[static_cast<int>(rank)]; }
  void NoteReleased(LockRank rank) { --held_[static_cast<int>(rank)]; }

  // A fork acquires the locks of all ranks in turn, whatever the thread held when a signal handler forked.
  void BeginFork() {
    forks_ = true;
    last_of_fork_ = LockRank::kNone;
  }
  void EndFork() { forks_ = false; }

  // After a jump out of a slow path that held no lock. The lock of registrations does not belong to slow paths.
  void ForgetSlowPath() {
    const std::uint32_t registrations = held_[static_cast<int>(LockRank::kRegistration)];
    *this = {};
    held_[static_cast<int>(LockRank::kRegistration)] = registrations;
  }

 private:
  std::uint32_t held_[kLockRankCount] = {};
  bool forks_ = false;
  LockRank last_of_fork_ = LockRank::kNone;
};

#else

class RankOfLock {
 public:
  static constexpr bool kRecorded = false;
  constexpr explicit RankOfLock(LockRank /*rank*/) {}
  LockRank get() const { return LockRank::kNone; }
};

class LockRecord {
 public:
  void CheckOrder(LockRank /*wanted*/) {}
  void NoteAcquired(LockRank /*rank*/) {}
  void NoteReleased(LockRank /*rank*/) {}
  void BeginFork() {}
  void EndFork() {}
  void ForgetSlowPath() {}
};

#endif

}  // namespace tarn
