// SPDX-License-Identifier: Apache-2.0
//
// The function that pthread_atfork calls, in front of libc's function: a registration and a fork must not wait for each
// other (heap/fork.cc says how they would).
//
// glibc's pthread_atfork is a part of each program and library that uses it, and calls this function with the caller's
// handle. Before glibc 2.36 the lock of the list is held while the handlers of a fork run: no registration can be under
// way then, and a lock around libc's would be the second half of a deadlock. A statically linked program has no place
// for a function in front of libc. There a registration of the 49th handler, and then of every half more, may meet a
// fork.
#include <atomic>
#include <cerrno>

#include "allocator/heap/process_heap.h"
#include "allocator/os/libc_function.h"
#include "allocator/os/process.h"

namespace {

using Register = int (*)(void (*)(), void (*)(), void (*)(), void*);

// Any of several threads stores the same.
TARN_IN_TOUCHED_DATA constinit std::atomic<Register> libc_register = nullptr;

bool LibcGivesUpItsLock() {
  enum class Answer { kUnknown, kYes, kNo };
  static constinit std::atomic<Answer> known = Answer::kUnknown;
  Answer answer = known.load(std::memory_order_relaxed);
  if (answer == Answer::kUnknown) {
    answer = tarn::LibcIsGlibcFrom(2, 36) ? Answer::kYes : Answer::kNo;
    known.store(answer, std::memory_order_relaxed);
  }
  return answer == Answer::kYes;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int __register_atfork(void (*prepare)(), void (*parent)(),
                                                                        void (*child)(), void* handle) {
  Register next = libc_register.load(std::memory_order_relaxed);
  if (next == nullptr) {
    next = reinterpret_cast<Register>(tarn::FindLibcFunction("__register_atfork"));
    if (next == nullptr) return ENOMEM;
    libc_register.store(next, std::memory_order_relaxed);
  }
  // The only thread is not in a fork, or in one whose handler calls this.
  if (tarn::HasOneThread() || !LibcGivesUpItsLock()) return next(prepare, parent, child, handle);
  tarn::Lock& lock = tarn::ForkRegistrationLock();
  // A handler of a fork may register others, while the fork has the lock.
  if (lock.HeldByThisThread()) return next(prepare, parent, child, handle);
  const tarn::LockHolder holder(lock);
  return next(prepare, parent, child, handle);
}
