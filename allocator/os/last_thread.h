// SPDX-License-Identifier: Apache-2.0
//
// The last thread that tarn made for one purpose, until the kernel does not count it any more.
//
// A thread is listed in /proc/self/task, and counted by unshare(2) and setns(2), for a moment longer than its memory is
// in use: pthread_join(3) and CLONE_CHILD_CLEARTID say that the memory is free. Two rules keep that moment from
// mattering. The next thread of the kind starts when the last one is gone. An order to end the threads waits until the
// last one is gone. So one id is enough to know.
#pragma once

#include <atomic>
#include <cstdint>

namespace tarn {

class LastThread {
 public:
  constexpr LastThread() = default;

  // These two are called on the thread itself: first of all, and when it has only to return.
  void Begin();
  void End();

  // Returns when the kernel does not count the thread, or when a second has passed since its end: then its id belongs
  // to another thread, or a debugger keeps it. At once where there was none, or the thread itself calls (from a
  // destructor of libc's that runs behind its end). In the process of the thread, behind a synchronisation with its
  // end.
  void AwaitEnd() const;

  // In the child of a fork, which has no such thread.
  void Forget() { id_.store(0, std::memory_order_relaxed); }

 private:
  std::atomic<std::uint32_t> id_ = 0;
  std::atomic<std::uint64_t> ended_at_ns_ = 0;
};

}  // namespace tarn
