// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/thread_state.h"

#include <atomic>
#include <cerrno>

#include "allocator/base/attributes.h"
#include "allocator/os/crash.h"
#include "allocator/os/fork_mark.h"
#include "allocator/os/stack_memory.h"

namespace tarn {

constinit thread_local ThreadState thread_state;

namespace {

TARN_IN_TOUCHED_DATA constinit std::atomic<std::uint32_t> last_id = 0;

TARN_COLD std::uint32_t NewId() {
  constexpr std::uint32_t kMostIds = (std::uint32_t{1} << 31) - 1;
  std::uint32_t id = 0;
  // Relaxed: numbers only have to differ.
  while (id == 0) id = (last_id.fetch_add(1, std::memory_order_relaxed) + 1) & kMostIds;
  return thread_state.id = id;
}

}  // namespace

// A signal handler may come in between, and gives its thread another number. It holds no lock any more when it returns.
std::uint32_t ThreadId() { return thread_state.id != 0 ? thread_state.id : NewId(); }

// The fences keep the compiler from moving a lock past the mark: the only other observer is a signal handler on the
// same thread.
SlowPathScope::SlowPathScope(Opener opener)
    : saved_errno_(errno),
      outer_depth_(thread_state.slow_path_depth),
      opener_(opener),
      frame_(reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0))) {
  if (outer_depth_ == 0) {
    ProbeStack(kSlowPathStackBytes);
    thread_state.slow_path_frame = frame_;
    thread_state.unlocked_in_a_row = 0;
  }
  thread_state.slow_path_depth = outer_depth_ + 1;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (outer_depth_ == 0 && fork_mark.IsWiped()) [[unlikely]]
    RepairUnseenFork();
}

// The depth is set and not counted down: the end of a slow path ends all that were jumped out of within it.
SlowPathScope::~SlowPathScope() {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (thread_state.stall_start_ns != 0 && outer_depth_ == 0) [[unlikely]]
    EndStall();
  thread_state.slow_path_depth = outer_depth_;
  errno = saved_errno_;
}

bool SlowPathScope::MustNotLock() {
  // At the marked one's own address no handler of the program can stand: its frames lie below what it interrupted.
  const bool stands_above =
      frame_ > thread_state.slow_path_frame || (opener_ == Opener::kProgram && frame_ == thread_state.slow_path_frame);
  switch (FindHeldLocks()) {
    case HeldLocks::kHeld:
      if (stands_above && OnTheStackOf(thread_state.slow_path_frame)) ReportAbandonedLock();
      return true;
    case HeldLocks::kUnknown:
      return true;
    case HeldLocks::kNone:
      break;
  }
  if (opener_ == Opener::kProgram && (stands_above || ++thread_state.unlocked_in_a_row >= kForgetAfter)) {
    outer_depth_ = 0;
    thread_state.slow_path_depth = 1;
    thread_state.slow_path_frame = frame_;
    thread_state.unlocked_in_a_row = 0;
    thread_state.stall_start_ns = 0;
    RepairAfterJump();
  }
  return false;
}

}  // namespace tarn
