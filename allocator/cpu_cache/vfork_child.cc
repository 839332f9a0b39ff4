// SPDX-License-Identifier: Apache-2.0
//
// The child of vfork, and of clone with CLONE_VM and CLONE_VFORK: another process on its parent's memory, its
// thread-local memory included, while the parent's thread waits.
//
// The kernel gives such a child no registration (include/linux/rseq.h, rseq_fork): nobody updates the ids that it
// reads, and nobody restarts its sequences. It reads the ids of the waiting thread, and another thread of the parent
// may run under the same ones. So no sequence of the child may find a slab. Nothing that the child could read in
// passing says that it is one, and the ids are the kernel's to write. But its index cannot change. So the child
// withdraws the slab of this index: it puts an empty slab into the table before it does anything else. All of its
// operations miss then, and so do those of other threads that come to run under the index; they go past the cache until
// the child execs or ends. Nobody has to be restarted, for the child never touches the slab, and the others have it to
// themselves as before.
//
//   table entry   slab --child--> EmptySlab(1) --another--> EmptySlab(2) --end--> EmptySlab(1) --end--> EmptySlab()
//                  ^                                                                                            |
//                  +--------------------- under the drain lock: a drain, or the next miss ----------------------+
//
// Two children may have one index: the parent of the first waits, and another thread got its id. Hence the count, which
// is a part of the entry's value; all changes are compare-and-exchange. A slab comes into the table from EmptySlab()
// only, and under the drain lock only. The lock is tried and never waited for, here: the interrupted parent may hold
// it.
//
// At kMaxVforkChildren the count stays where it is, and the index without a slab: memory is safe, and misses are slow.
// The same holds for the index of a child that was killed before its parent learnt of the withdrawal.
//
// Where threads register themselves (libc does not), the parent may not have done so before. The child then leaves it
// undone, and goes past the cache (CpuCache::AttachThread).
//
// In the thread mode the slab is the waiting thread's. Where no other thread drains it, the child may use it like
// everything else of that thread. Else it is withdrawn, too: nobody restarts the child's sequences for a drain.
#include <algorithm>
#include <cerrno>

#include "allocator/cpu_cache/cpu_cache.h"

namespace tarn {

void CpuCache::BeginVforkChild() {
  ThreadState& state = thread_state;
  if (mode_ != CacheMode::kCpu && !rseq_.remote_abort) return;
  const std::int32_t id = CurrentIndex();
  if (id < 0 || static_cast<std::size_t>(id) >= index_bound_) return;
  const auto index = static_cast<std::size_t>(id);
  std::atomic<Slab*>& entry = slab_table.slabs[index];
  Slab* seen = entry.load(std::memory_order_relaxed);
  Slab* next;
  do {
    const std::size_t children = IsEmptySlab(seen) ? VforkChildrenOf(seen) : 0;
    next = EmptySlab(std::min(children + 1, kMaxVforkChildren));
    // Relaxed: the child's own sequences come after it in the program's order, and no other thread depends on it.
  } while (!entry.compare_exchange_weak(seen, next, std::memory_order_relaxed));
  state.vfork_index = static_cast<std::uint32_t>(index);
  state.vfork_withdrawals = state.vfork_calls;
}

void CpuCache::EndVfork() {
  ThreadState& state = thread_state;
  // Unequal where no child came to run, or where it had nothing to withdraw.
  const bool withdrawn = state.vfork_calls == state.vfork_withdrawals;
  --state.vfork_calls;
  if (!withdrawn) return;
  --state.vfork_withdrawals;
  std::atomic<Slab*>& entry = slab_table.slabs[state.vfork_index];
  Slab* seen = entry.load(std::memory_order_relaxed);
  std::size_t children;
  do {
    children = IsEmptySlab(seen) ? VforkChildrenOf(seen) : 0;
    if (children == 0 || children == kMaxVforkChildren) return;
  } while (!entry.compare_exchange_weak(seen, EmptySlab(children - 1), std::memory_order_relaxed));
  const int saved_errno = errno;
  if (children == 1) static_cast<void>(PutBackLeftOut(state.vfork_index));
  errno = saved_errno;
}

Slab* CpuCache::PutBackLeftOut(std::size_t index) {
  // Of another drain's, or held by a drain that this thread's signal handler interrupted: that puts the slab back.
  if (!drain_lock_.TryAcquire()) return nullptr;
  Slab* slab = entries_[index].slab.load(std::memory_order_relaxed);
  if (slab != nullptr && !PutIntoTable(index, slab)) slab = nullptr;
  drain_lock_.Release();
  return slab;
}

}  // namespace tarn
