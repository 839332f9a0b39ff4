// SPDX-License-Identifier: Apache-2.0
//
// A lock of four bytes that knows its owner.
//
// Spins shortly, then sleeps in the kernel (futex), so that more threads than CPUs do no harm. The word holds the
// owner's thread id: a fork from a signal handler must not wait for a lock that its own thread holds.
//
// All locks of tarn, in rank order. But for the first three, and the list of pools in a fork, none is held while
// another one is acquired. So their order cannot matter, and a fork may acquire all of them in any state of the
// process. Adding a nesting means to rethink life/fork.cc.
//   -  the lock of registrations (life/fork.cc), held while libc registers fork handlers, which allocates: while its
//      owner calls into 0..5; a fork acquires it before all others
//   0. the scavenger's cycle lock (policy/scavenger.h), held while its owner calls into 1..5; a fork acquires it first,
//      and not at all from within a slow path
//   1. the CPU cache's drain lock (cpu_cache/cpu_cache.h), held while its owner calls into 2..5; a fork does not
//      acquire it
//   2. a transfer cache's lock, one per size class (central/transfer_cache.h)
//   3. a central free list's lock, two per size class (central/central_free_list.h)
//   4. the heap profile's lock (observe/profile.h), which also guards the settings that change (heap/process_heap.h)
//   5. the page heap's lock (pages/page_heap.h), which also guards the metadata and the writers of the page map
//   6. the lock of the list of pools (life/fork_locks.cc); a fork, and only a fork, holds it while it acquires
//   7. the locks of pools (life/fork_locks.h), which come and go with them, and the caretaker's (pools/caretaker.h)
#pragma once

#include <atomic>
#include <cstdint>

#include "allocator/base/attributes.h"
#include "allocator/os/thread_state.h"

namespace tarn {

class TARN_CAPABILITY("lock") Lock {
 public:
  constexpr Lock() = default;
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

  void Acquire() TARN_ACQUIRE() {
    std::uint32_t expected = 0;
    // Acquire pairs with the release in Release(): the owner before is done with what the lock guards.
    if (!word_.compare_exchange_strong(expected, ThreadId(), std::memory_order_acquire, std::memory_order_relaxed)) {
      AcquireSlow();
    }
  }

  bool TryAcquire() TARN_TRY_ACQUIRE(true) {
    std::uint32_t expected = 0;
    return word_.compare_exchange_strong(expected, ThreadId(), std::memory_order_acquire, std::memory_order_relaxed);
  }

  void Release() TARN_RELEASE() {
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
  void ResetInForkedChild() { word_.exchange(0, std::memory_order_acquire); }
  // For the child of a fork whose only thread holds the lock: no other thread sleeps on it.
  void AdoptInForkedChild() { word_.exchange(ThreadId(), std::memory_order_acquire); }

 private:
  // Thread ids stay below 2^31 (os/thread_state.h), so the top bit is free.
  static constexpr std::uint32_t kHasWaiters = std::uint32_t{1} << 31;

  TARN_COLD void AcquireSlow();
  TARN_COLD void WakeOne();

  // 0: free. Else the owner's thread id, and kHasWaiters when somebody may sleep on the word.
  std::atomic<std::uint32_t> word_ = 0;
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
