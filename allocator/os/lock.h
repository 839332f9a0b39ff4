// SPDX-License-Identifier: Apache-2.0
//
// A lock of four bytes that knows its owner.
//
// Spins shortly, then sleeps in the kernel (futex), so that more threads than CPUs do no harm. The word holds the
// owner's thread id: a fork from a signal handler must not wait for a lock that its own thread holds.
//
// os/lock_rank.h lists all locks in their order.
#pragma once

#include <atomic>
#include <cstdint>

#include "allocator/base/attributes.h"
#include "allocator/os/lock_rank.h"
#include "allocator/os/thread_state.h"

namespace tarn {

class TARN_CAPABILITY("lock") Lock {
 public:
  constexpr explicit Lock(LockRank rank) : rank_(rank) {}
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

  void Acquire() TARN_ACQUIRE() {
    // A lock that this thread holds already has another message, see AcquireSlow.
    if (RankOfLock::kRecorded && !HeldByThisThread()) thread_state.locks.CheckOrder(rank_.get());
    std::uint32_t expected = 0;
    // Acquire pairs with the release in Release(): the owner before is done with what the lock guards.
    if (!word_.compare_exchange_strong(expected, ThreadId(), std::memory_order_acquire, std::memory_order_relaxed)) {
      AcquireSlow();
    }
    thread_state.locks.NoteAcquired(rank_.get());
  }

  bool TryAcquire() TARN_TRY_ACQUIRE(true) {
    std::uint32_t expected = 0;
    const bool acquired =
        word_.compare_exchange_strong(expected, ThreadId(), std::memory_order_acquire, std::memory_order_relaxed);
    if (RankOfLock::kRecorded && acquired) thread_state.locks.NoteAcquired(rank_.get());
    return acquired;
  }

  void Release() TARN_RELEASE() {
    thread_state.locks.NoteReleased(rank_.get());
    if ((word_.exchange(0, std::memory_order_release) & kHasWaiters) != 0) WakeOne();
  }

  // Relaxed, because only the calling thread can have stored its own id.
  bool HeldByThisThread() const { return (word_.load(std::memory_order_relaxed) & ~kHasWaiters) == ThreadId(); }

  // For a thread that jumped out of its own Release: wakes one sleeper, if there is one.
  void WakeAfterJump() { WakeOne(); }

  bool IsHeld() const { return word_.load(std::memory_order_relaxed) != 0; }

  // For tests: another thread sleeps, or is about to sleep, until the owner releases the lock.
  bool HasWaiters() const { return (word_.load(std::memory_order_relaxed) & kHasWaiters) != 0; }

  // For the child of a fork, where no other thread is left: makes the lock free whatever it was. Acquire pairs with the
  // release of threads that ended before the fork, so that what the lock guards may be repaired without acquiring it.
  void ResetInForkedChild() {
    if (RankOfLock::kRecorded && HeldByThisThread()) thread_state.locks.NoteReleased(rank_.get());
    word_.exchange(0, std::memory_order_acquire);
  }
  // For the child of a fork whose only thread holds the lock: no other thread sleeps on it.
  void AdoptInForkedChild() { word_.exchange(ThreadId(), std::memory_order_acquire); }

 private:
  // Thread ids stay below 2^31 (os/thread_state.h), so the top bit is free.
  static constexpr std::uint32_t kHasWaiters = std::uint32_t{1} << 31;

  TARN_COLD void AcquireSlow();
  TARN_COLD void WakeOne();

  // 0: free. Else the owner's thread id, and kHasWaiters when somebody may sleep on the word.
  std::atomic<std::uint32_t> word_ = 0;
  [[no_unique_address]] RankOfLock rank_;
};

class TARN_SCOPED_CAPABILITY LockHolder {
 public:
  explicit LockHolder(Lock& lock) TARN_ACQUIRE(lock) : lock_(lock) { lock_.Acquire(); }
  ~LockHolder() TARN_RELEASE() { lock_.Release(); }
  LockHolder(const LockHolder&) = delete;
  LockHolder& operator=(const LockHolder&) = delete;

 private:
  Lock& lock_;
};

// Gives up a lock that the caller holds, and takes it back at the end of the scope. What the lock guards may be another
// then.
class TARN_SCOPED_CAPABILITY Unlocked {
 public:
  explicit Unlocked(Lock& lock) TARN_RELEASE(lock) : lock_(lock) { lock_.Release(); }
  ~Unlocked() TARN_RELEASE() { lock_.Acquire(); }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

 private:
  Lock& lock_;
};

}  // namespace tarn
