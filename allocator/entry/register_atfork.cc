// SPDX-License-Identifier: Apache-2.0
//
// The function that pthread_atfork calls, in front of libc's function: a registration and a fork must not wait for each
// other (life/fork.cc says how they would).
//
// glibc's pthread_atfork is a part of each program and library that uses it, and calls this function with the caller's
// handle. Before glibc 2.36 the lock of the list is held while the handlers of a fork run: no registration can be under
// way then, and a lock around libc's would be the second half of a deadlock.
//
// The function is weak for programs that libc itself is linked into. There libc's, which is not, takes its place, and
// entry/pthread_atfork.cc has the lock.
#include "allocator/entry/register_atfork.h"

#include <atomic>
#include <cerrno>

#include "allocator/heap/process_heap.h"
#include "allocator/os/libc_function.h"
#include "allocator/os/load_order.h"
#include "allocator/os/process.h"

namespace tarn {

namespace {

// Any of several threads stores the same.
TARN_IN_TOUCHED_DATA constinit std::atomic<RegisterAtfork> libc_register = nullptr;

bool LibcGivesUpItsLock() {
  enum class Answer { kUnknown, kYes, kNo };
  static constinit std::atomic<Answer> known = Answer::kUnknown;
  Answer answer = known.load(std::memory_order_relaxed);
  if (answer == Answer::kUnknown) {
    answer = LibcIsGlibcFrom(2, 36) ? Answer::kYes : Answer::kNo;
    known.store(answer, std::memory_order_relaxed);
  }
  return answer == Answer::kYes;
}

}  // namespace

int RegisterBetweenForks(RegisterAtfork next, AtforkHandler prepare, AtforkHandler parent, AtforkHandler child,
                         void* handle) {
  // The only thread is not in a fork, or in one whose handler calls this.
  if (HasOneThread() || !LibcGivesUpItsLock()) return next(prepare, parent, child, handle);
  Lock& lock = ForkRegistrationLock();
  // A handler of a fork may register others, while the fork has the lock.
  if (lock.HeldByThisThread()) return next(prepare, parent, child, handle);
  const LockHolder holder(lock);
  return next(prepare, parent, child, handle);
}

}  // namespace tarn

extern "C" __attribute__((visibility("default"), weak)) int __register_atfork(void (*prepare)(), void (*parent)(),
                                                                              void (*child)(), void* handle) {
  tarn::RegisterAtfork next = tarn::libc_register.load(std::memory_order_relaxed);
  if (next == nullptr) {
    next = reinterpret_cast<tarn::RegisterAtfork>(tarn::FindLibcFunction("__register_atfork"));
    // A program that libc is linked into, without libc's function: so it has no fork either, which needs that.
    if (next == nullptr) return tarn::FirstLoadedObject() == nullptr ? 0 : ENOMEM;
    tarn::libc_register.store(next, std::memory_order_relaxed);
  }
  return tarn::RegisterBetweenForks(next, prepare, parent, child, handle);
}
