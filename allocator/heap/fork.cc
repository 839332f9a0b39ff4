// fork in a process with threads.
//
// The child has one thread, and a copy of every lock as it was at that moment. So the forking thread acquires all locks
// first: then nobody is inside of what they guard. Three things make this harder than it sounds.
//
// Order against libc. After the handlers, glibc's fork takes the lock of the list of stdio files, and a thread that
// allocates under that lock waits for ours: each waits for the other. So we take libc's (recursive, exported) lock
// first; whoever holds it can still allocate and will let go of it.
//
// A fork from a signal handler that interrupted one of our slow paths: the thread itself holds a lock. That one is left
// as it is: in the child the same thread returns from the handler and goes on. No lock is acquired while another one is
// held (os/lock.h), so none of the other holders can be waiting for the interrupted thread, and waiting for them ends.
//
// The scavenger's thread is one that libc does not know of: it may hold locks though the process seems to have a single
// thread. A fork waits for the end of its cycle, unless it comes from a slow path itself: a cycle may be waiting for the
// lock that this thread holds. What a cycle has on its way is then lost in the child, but for pages under release, which
// the page heap finds again.
//
// A drain holds its lock while it calls into the other floors, so waiting for it might not end; the child repairs what
// a drain can leave behind instead (CpuCache::RepairInForkedChild).
//
// A process with a single thread needs none of this: nobody else can hold a lock. Most forks in the world are of this
// kind, and cost nothing here. _Fork runs no handlers; POSIX allows its child only async-signal-safe calls if the
// process had threads.
#include <pthread.h>

#include "allocator/heap/fork_locks.h"
#include "allocator/heap/process_heap.h"
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

constexpr int kLockCount = 3 * kSizeClassCount + 2;

Lock& LockAt(int index) {
  if (index < kSizeClassCount) return process_heap.transfer_caches[index].lock();
  if (index < 2 * kSizeClassCount) return process_heap.transfer_caches[index - kSizeClassCount].central().lock();
  if (index == 2 * kSizeClassCount) return process_heap.page_heap.lock();
  if (index == 2 * kSizeClassCount + 1) return process_heap.profile.lock();
  return process_heap.sampled_lists[index - 2 * kSizeClassCount - 2].lock();
}

// Those of the sampled lists are the last, and are left alone where no sample was ever taken. The profile's lock, which
// is acquired before, keeps that so until the end of the fork.
int LocksInUse() { return process_heap.has_sampled_lists() ? kLockCount : kLockCount - kSizeClassCount; }

// Of the fork that is under way. Only one can be: the prepare handler holds all locks, and those it does not hold
// belong to the same thread.
struct {
  bool locked_stdio = false;
  bool locked = false;
  // The forking thread's signal mask. All signals are blocked from the prepare handler to the end: a handler that
  // allocates would wait for locks that its own thread holds.
  SignalMask signals = 0;
  bool locked_cycle = false;
  bool held_before[kLockCount] = {};
} fork_state;

void BeforeFork() TARN_NO_THREAD_SAFETY_ANALYSIS {
  if (!process_heap.started() || (HasOneThread() && !Scavenger::ThreadIsAlive())) return;
  SignalMask signals = 0;
  if (!BlockSignals(&signals)) return;
  const bool lock_stdio = _IO_list_lock != nullptr && _IO_list_unlock != nullptr && _IO_list_resetlock != nullptr;
  if (lock_stdio) _IO_list_lock();
  // First, for its holder may be waiting for any of the others.
  fork_state.locked_cycle = thread_state.slow_path_depth == 0;
  if (fork_state.locked_cycle) process_heap.scavenger.cycle_lock().Acquire();
  for (int i = 0; i < LocksInUse(); ++i) {
    const bool held = LockAt(i).HeldByThisThread();
    if (!held) LockAt(i).Acquire();
    fork_state.held_before[i] = held;
  }
  AcquireForkLocks();
  fork_state.signals = signals;
  fork_state.locked_stdio = lock_stdio;
  fork_state.locked = true;
}

void AfterForkInParent() TARN_NO_THREAD_SAFETY_ANALYSIS {
  if (!fork_state.locked) return;
  fork_state.locked = false;
  const SignalMask signals = fork_state.signals;
  const bool locked_stdio = fork_state.locked_stdio;
  const bool locked_cycle = fork_state.locked_cycle;
  ReleaseForkLocks();
  for (int i = LocksInUse() - 1; i >= 0; --i) {
    if (!fork_state.held_before[i]) LockAt(i).Release();
  }
  if (locked_cycle) process_heap.scavenger.cycle_lock().Release();
  if (locked_stdio) _IO_list_unlock();
  RestoreSignals(signals);
}

void AfterForkInChild() {
  // Asked under the id that the thread had in the parent.
  const bool interrupted_drain = process_heap.cpu_cache.drain_lock().HeldByThisThread();
  const bool interrupted_cycle = !fork_state.locked_cycle && process_heap.scavenger.cycle_lock().HeldByThisThread();
  thread_state.tid = 0;  // The child's only thread has a new one.
  if (!process_heap.started()) return;
  const bool was_locked = fork_state.locked;
  fork_state.locked = false;
  Lock& cycle_lock = process_heap.scavenger.cycle_lock();
  interrupted_cycle ? cycle_lock.AdoptInForkedChild() : cycle_lock.ResetInForkedChild();
  process_heap.scavenger.ForgetThreadInForkedChild();
  process_heap.caretaker.RepairInForkedChild();
  if (thread_state.slow_path_depth == 0) process_heap.limits.RepairInForkedChild();
  process_heap.profile_dumps.RepairInForkedChild();
  bool interrupted_slow_path = false;
  if (was_locked) {
    ReleaseForkLocksInChild();
    for (int i = 0; i < LocksInUse(); ++i) {
      if (fork_state.held_before[i]) {
        LockAt(i).AdoptInForkedChild();
        interrupted_slow_path = true;
      } else {
        LockAt(i).ResetInForkedChild();
      }
    }
    if (fork_state.locked_stdio) _IO_list_resetlock();
  }
  if (was_locked && thread_state.slow_path_depth == 0) process_heap.page_heap.RepairInForkedChild();
  process_heap.cpu_cache.RepairInForkedChild(was_locked && !interrupted_slow_path, interrupted_drain);
  if (was_locked) RestoreSignals(fork_state.signals);
}

}  // namespace

void RegisterForkHandlers() { static_cast<void>(::pthread_atfork(&BeforeFork, &AfterForkInParent, &AfterForkInChild)); }

}  // namespace tarn
