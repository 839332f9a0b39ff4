// SPDX-License-Identifier: Apache-2.0
//
// Writes heap profiles by itself, as the settings TARN_PROFILE_* say: at the process's end, on a signal, whenever the
// heap has grown by a given amount, and near a limit.
//
// The files are called PREFIX.PID.N.REASON.pb. N counts from 1 in each process, and a name that is taken already is
// passed over, so nothing is ever written over; REASON is exit, signal, growth or limit. A file that could not be
// written whole is removed, and the first such failure is told on stderr.
//
// Who writes. The writer (observe/profile_writer.h) allocates nothing, takes no lock and reads tables that are whole at
// every instruction of their owner. So it may run anywhere. It runs at the end of a slow path, with no lock held
// (growth, limit), and in a destructor (exit). It runs in a signal handler that interrupted any part of tarn or libc
// (signal): a process that sleeps would never come to a slow path that a note could be left for. Else it uses only
// system calls, memory of its own, and two atomics.
//
// One profile is written at a time. A writer may find another one at work, in a thread or in the code that a handler
// has interrupted. Then it leaves its request for that one, which looks again at its end.
//
// A signal handler may jump out of the writer. Except in the signal's own handler, whose stack may be too small for it,
// the writer is a slow path: the thread's next one that notices the jump takes its mark away (RepairAfterJump).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "allocator/os/thread_state.h"
#include "allocator/settings/options.h"

namespace tarn {

class ProfileDumps {
 public:
  enum class Reason : std::uint8_t { kExit, kSignal, kGrowth, kLimit };

  constexpr ProfileDumps() = default;

  // Nothing in here is touched where no setting asks for profiles: each page that is costs a page fault.
  // The prefix, which is the environment's, is replaced by a copy.
  void Init(Options* options);
  // Installs the handler of the signal. When libc has been set up: that is later than Init.
  void HandleSignal();

  // A profile near the limit at another share of it, 0: at none. Before it is told, the first is forgotten.
  void SetLimitShare(unsigned percent);

  // The heap has grown by a step. Called in no slow path.
  void AttendPeak();
  // Waits for a profile that another thread is writing, but not for ever.
  void AtExit();

  // For the child of a fork: the thread that was writing is gone.
  void RepairInForkedChild() { writing_.store(0, std::memory_order_relaxed); }
  // After a jump out of a slow path of the calling thread, which may have been writing.
  void RepairAfterJump() {
    std::uint32_t writer = ThreadId();
    writing_.compare_exchange_strong(writer, 0, std::memory_order_release, std::memory_order_relaxed);
  }

 private:
  static void DumpNearLimit(unsigned percent, std::size_t used_bytes, std::size_t limit_bytes, void* argument);
  void Dump(Reason reason);
  void WriteFile(Reason reason);

  // Bit i: one is wanted for Reason i.
  std::atomic<std::uint32_t> wanted_ = 0;
  // The thread that writes, or 0.
  std::atomic<std::uint32_t> writing_ = 0;
  std::atomic<bool> complained_ = false;
  // The number of the next name, and the process that it is for: a child begins anew. For the thread that is writing.
  std::uint64_t number_ = 0;
  std::uint64_t process_id_ = 0;
  std::uint64_t limit_dumps_ = 0;
  char prefix_[kMaxPrefixBytes + 1] = {};
};

}  // namespace tarn
