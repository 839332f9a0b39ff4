// SPDX-License-Identifier: Apache-2.0
//
// fork in a process with threads.
//
// The child has one thread, and a copy of every lock as it was at that moment. So the forking thread acquires all locks
// first: then nobody is inside of what they guard. Three things make this harder than it sounds.
//
// Order against libc. After the handlers, glibc's fork takes the lock of the list of stdio files, and a thread that
// allocates under that lock waits for ours: each waits for the other. So we take libc's (recursive, exported) lock
// first; a thread that holds it can still allocate and will release it.
//
// A fork from a signal handler that interrupted one of our slow paths: the thread itself holds a lock. That one is left
// as it is: in the child the same thread returns from the handler and goes on. No lock is acquired while another one is
// held (os/lock_rank.h). So none of the other holders can be waiting for the interrupted thread, and waiting for them
// ends.
//
// The scavenger's thread is one that libc does not know of. A fork ends it and waits for its end, and starts it again
// in the parent. Not so a fork from a slow path: a cycle may be waiting for the lock that this thread holds. What a
// cycle has on its way is then lost in the child, but for pages under release, which the page heap finds again.
//
// A drain holds its lock while it calls into the other floors, so waiting for it might not end; the child repairs what
// a drain can leave behind instead (CpuCache::RepairInForkedChild).
//
// Order against libc, again. glibc 2.36 and later release the lock of the list of handlers while they run one. They
// hold it from the last prepare handler to the end of the fork. A thread in pthread_atfork allocates under that lock
// when the list has to grow: it would wait for our locks, and the fork for it. So registrations hold a lock of ours
// around libc's (entry/register_atfork.cc), and the prepare handler acquires it before all others.
//
// A process with a single thread needs none of this: nobody else can hold a lock. Most forks in the world are of this
// kind, and cost nothing here.
//
// _Fork and a bare clone run no handlers. POSIX allows their child only async-signal-safe calls if the process had
// threads, but programs allocate there. The first slow path finds that a fork has wiped out its mark
// (os/fork_mark.h). It frees all locks whose holders are not there. The state behind such a lock may be half
// changed; see RepairUnpreparedChild for what is done about it.
#include <pthread.h>

#include "allocator/heap/process_heap.h"
#include "allocator/life/fork_locks.h"
#include "allocator/misuse/hardened_mode.h"
#include "allocator/os/fork_mark.h"
#include "allocator/os/process.h"
#include "allocator/os/signals.h"
#include "allocator/os/thread_state.h"

// glibc 2.2.5 and later; weak, for other libcs have other ways.
extern "C" {
__attribute__((weak)) void _IO_list_lock(void);
__attribute__((weak)) void _IO_list_unlock(void);
__attribute__((weak)) void _IO_list_resetlock(void);
}

namespace tarn {

namespace {

// Held while libc registers handlers of fork (entry/register_atfork.cc): it allocates under its own lock of their list.
TARN_IN_TOUCHED_DATA constinit Lock registration_lock(LockRank::kRegistration);

constexpr int kLockCount = 3 * kSizeClassCount + 2;

// Returns the locks in the order of their ranks; null for a sampled list where no sample was ever taken. The profile's
// lock, which is acquired before, keeps that so until the end of the fork.
Lock* LockAt(int index) {
  if (index < kSizeClassCount) return &process_heap.transfer_caches[index].lock();
  index -= kSizeClassCount;
  if (index == 0) return &process_heap.profile.lock();
  index -= 1;
  if (index < kSizeClassCount) return &process_heap.transfer_caches[index].central().lock();
  index -= kSizeClassCount;
  if (index == kSizeClassCount) return &process_heap.page_heap.lock();
  return process_heap.has_sampled_lists() ? &process_heap.sampled_lists[index].lock() : nullptr;
}

// Of the fork that is under way. Only one can be: the prepare handler holds all locks, and those it does not hold
// belong to the same thread.
struct {
  bool locked_stdio = false;
  bool locked = false;
  // The forking thread's signal mask. All signals are blocked from the prepare handler to the end: a handler that
  // allocates would wait for locks that its own thread holds.
  SignalMask signals = 0;
  bool locked_cycle = false;
  bool registering_before = false;
  std::uint32_t forker = 0;
  bool held_thread = false;
  bool held_before[kLockCount] = {};
} fork_state;

// One that was forgotten without proof may be under way.
bool InNoSlowPath() { return thread_state.slow_path_depth == 0 && thread_state.forgotten_slow_path == nullptr; }

void BeforeFork() TARN_NO_THREAD_SAFETY_ANALYSIS {
  if (!process_heap.started() || (HasOneThread() && !Scavenger::ThreadIsAlive())) return;
  SignalMask signals = 0;
  if (!BlockSignals(&signals)) return;
  // Drops the mark of a slow path that a jump has left, where that can be proved.
  static_cast<void>(SlowPathScope(SlowPathScope::Opener::kProgram).nested());
  // A fork from a signal handler that interrupted a slow path cannot: the thread may wait for a lock that this one
  // holds.
  const bool hold_thread = InNoSlowPath();
  if (hold_thread) process_heap.scavenger.HoldThread();
  thread_state.locks.BeginFork();
  // First, while no other lock is held that its holder may be waiting for.
  fork_state.registering_before = registration_lock.HeldByThisThread();
  if (!fork_state.registering_before) registration_lock.Acquire();
  const bool lock_stdio = _IO_list_lock != nullptr && _IO_list_unlock != nullptr && _IO_list_resetlock != nullptr;
  if (lock_stdio) _IO_list_lock();
  // Before the others, for its holder may be waiting for any of them.
  fork_state.locked_cycle = InNoSlowPath();
  if (fork_state.locked_cycle) process_heap.scavenger.cycle_lock().Acquire();
  for (int i = 0; i < kLockCount; ++i) {
    Lock* lock = LockAt(i);
    const bool held = lock != nullptr && lock->HeldByThisThread();
    if (lock != nullptr && !held) lock->Acquire();
    fork_state.held_before[i] = held;
  }
  AcquireForkLocks();
  fork_state.signals = signals;
  fork_state.locked_stdio = lock_stdio;
  fork_state.forker = ThreadId();
  fork_state.held_thread = hold_thread;
  fork_state.locked = true;
}

void AfterForkInParent() TARN_NO_THREAD_SAFETY_ANALYSIS {
  if (!fork_state.locked) return;
  fork_state.locked = false;
  const SignalMask signals = fork_state.signals;
  const bool locked_stdio = fork_state.locked_stdio;
  const bool locked_cycle = fork_state.locked_cycle;
  const bool registering_before = fork_state.registering_before;
  const bool held_thread = fork_state.held_thread;
  ReleaseForkLocks();
  for (int i = kLockCount - 1; i >= 0; --i) {
    Lock* lock = LockAt(i);
    if (lock != nullptr && !fork_state.held_before[i]) lock->Release();
  }
  if (locked_cycle) process_heap.scavenger.cycle_lock().Release();
  if (locked_stdio) _IO_list_unlock();
  if (!registering_before) registration_lock.Release();
  thread_state.locks.EndFork();
  if (held_thread) process_heap.scavenger.LetThread();
  RestoreSignals(signals);
}

// A child must not place objects where its parent will.
void RenewRandomInChild() {
  if (!Hardens()) return;
  RenewRandom();
  for (CentralFreeList& list : process_heap.sampled_lists) list.RestartRandom();
}

void AfterForkInChild() {
  const bool interrupted_drain = process_heap.cpu_cache.drain_lock().HeldByThisThread();
  // The state may be an earlier fork's.
  const bool locked_cycle = fork_state.locked && fork_state.locked_cycle;
  const bool interrupted_cycle = !locked_cycle && process_heap.scavenger.cycle_lock().HeldByThisThread();
  const bool registers = fork_state.locked ? fork_state.registering_before : registration_lock.HeldByThisThread();
  registers ? registration_lock.AdoptInForkedChild() : registration_lock.ResetInForkedChild();
  if (!process_heap.started()) return;
  const bool was_locked = fork_state.locked;
  fork_state.locked = false;
  Lock& cycle_lock = process_heap.scavenger.cycle_lock();
  interrupted_cycle ? cycle_lock.AdoptInForkedChild() : cycle_lock.ResetInForkedChild();
  process_heap.scavenger.ForgetThreadInForkedChild();
  process_heap.caretaker.RepairInForkedChild();
  if (InNoSlowPath()) process_heap.limits.RepairInForkedChild();
  process_heap.profile_dumps.RepairInForkedChild();
  bool interrupted_slow_path = false;
  if (was_locked) {
    ReleaseForkLocksInChild();
    for (int i = 0; i < kLockCount; ++i) {
      Lock* lock = LockAt(i);
      if (lock == nullptr) continue;
      if (fork_state.held_before[i]) {
        lock->AdoptInForkedChild();
        interrupted_slow_path = true;
      } else {
        lock->ResetInForkedChild();
      }
    }
    thread_state.locks.EndFork();
    if (fork_state.locked_stdio) _IO_list_resetlock();
  }
  if (was_locked && InNoSlowPath()) process_heap.page_heap.RepairInForkedChild();
  // A thread that forks from a handler may be getting a slab or giving one up, without a lock.
  const bool may_lock = was_locked && !interrupted_slow_path && InNoSlowPath();
  process_heap.cpu_cache.RepairInForkedChild(may_lock, interrupted_drain);
  RenewRandomInChild();
  fork_mark.Renew();
  if (was_locked) RestoreSignals(fork_state.signals);
}

// The same for the child of a fork that ran no handlers. The calling thread is the only one that was there at the fork,
// or one that it has started since; neither was in a slow path, and no lock is theirs.
//
// A lock that is held means that another thread may have been in the middle of a change. A transfer cache is good at
// each instant, for one store of its size makes a change. Central lists and the page heap are not. Their state
// cannot be finished for a thread that is gone. So all of it is left behind, and the child begins with an empty
// heap; its objects stay, and can be freed (pages/page_heap_abandon.cc). With the profile it is the same by itself.
void RepairUnpreparedChild() {
  // Another thread may have been in the middle of a fork; then it held all locks, between two changes. Those that it
  // had held before, where its fork came from a signal handler, are in the middle of one.
  bool at_rest = fork_state.locked;
  for (const bool held_before : fork_state.held_before) at_rest = at_rest && !held_before;
  fork_state = {};
  const auto half_changed = [at_rest](const Lock& lock) { return !at_rest && lock.IsHeld(); };
  bool abandon = half_changed(process_heap.page_heap.lock());
  for (int c = 1; c < kSizeClassCount; ++c) {
    abandon = abandon || half_changed(process_heap.transfer_caches[c].central().lock());
    if (process_heap.has_sampled_lists()) abandon = abandon || half_changed(process_heap.sampled_lists[c].lock());
  }
  if (half_changed(process_heap.profile.lock())) process_heap.profile.AbandonInForkedChild();
  if (abandon) {
    process_heap.page_heap.AbandonInForkedChild();
    for (int c = 1; c < kSizeClassCount; ++c) {
      process_heap.transfer_caches[c].central().AbandonInForkedChild();
      if (process_heap.has_sampled_lists()) process_heap.sampled_lists[c].AbandonInForkedChild();
    }
  }
  registration_lock.ResetInForkedChild();
  process_heap.scavenger.cycle_lock().ResetInForkedChild();
  for (int i = 0; i < kLockCount; ++i) {
    if (Lock* lock = LockAt(i); lock != nullptr) lock->ResetInForkedChild();
  }
  ResetForkLocksInChild();
  thread_state.locks = {};
  process_heap.scavenger.ForgetThreadInForkedChild();
  process_heap.caretaker.RepairInForkedChild();
  process_heap.limits.RepairInForkedChild();
  process_heap.profile_dumps.RepairInForkedChild();
  process_heap.page_heap.RepairInForkedChild();
  // The forker is the child's first thread. Where one that it has started comes here before it, its slab is in use.
  process_heap.cpu_cache.RepairInForkedChild(KernelThreadId() == ProcessId(), false);
  RenewRandomInChild();
}

}  // namespace

Lock& ForkRegistrationLock() { return registration_lock; }

void RepairUnseenFork() {
  if (!fork_mark.BeginRepair()) return;
  // A handler of the program's may allocate in the child before ours has run.
  if (fork_state.locked && fork_state.forker == ThreadId()) {
    AfterForkInChild();
    return;
  }
  if (process_heap.started()) RepairUnpreparedChild();
  fork_mark.Renew();
}

void RegisterForkHandlers() { static_cast<void>(::pthread_atfork(&BeforeFork, &AfterForkInParent, &AfterForkInChild)); }

}  // namespace tarn
