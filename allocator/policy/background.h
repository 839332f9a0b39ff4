// SPDX-License-Identifier: Apache-2.0
//
// Decides when tarn may have threads (TARN_BACKGROUND).
//
// A program may do things that only a process with one thread can (unshare, setns), count its threads, give up rights,
// put itself into a sandbox. A thread that it does not know of gets in the way. So there are none, unless they are
// asked for. Two rules stand above the setting: a process that never made a thread gets none from tarn, and
// tarn_stop_background() ends them for good.
//
//               the scavenger's thread                     the caretaker of pools
//   off, auto   never                                      never
//   on          yes                                        yes
//
// The scavenger's thread has a seccomp filter of its own (os/bare_thread.h). The kernel refuses a filter for all
// threads (SECCOMP_FILTER_FLAG_TSYNC) while one thread has a filter that the others have not. Browsers set such
// filters. The caretaker is a thread of libc's like any other. Its start takes calls that a sandbox forbids, and the
// call of a pool that wants it may come at any time; where it runs already, it stays outside of a filter that a thread
// sets for itself. Without the threads, slow paths of malloc give memory back, and calls of pools end epochs.
#pragma once

#include <atomic>

#include "allocator/os/process.h"
#include "allocator/settings/options.h"

namespace tarn {

class Background {
 public:
  constexpr Background() = default;

  void Init(BackgroundSetting setting) { setting_.store(setting, std::memory_order_relaxed); }

  // True if tarn may start threads. Makes no system call.
  bool MayHaveThreads() const {
    return setting_.load(std::memory_order_relaxed) == BackgroundSetting::kOn && !stopped() && !HasOneThread();
  }

  // From now on none may. tarn_stop_background() then waits for the end of those that there are.
  void Stop() { stopped_.store(true, std::memory_order_seq_cst); }
  bool stopped() const { return stopped_.load(std::memory_order_seq_cst); }

 private:
  std::atomic<BackgroundSetting> setting_ = BackgroundSetting::kAuto;
  std::atomic<bool> stopped_ = false;
};

}  // namespace tarn
