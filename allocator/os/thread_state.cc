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

// The fences keep the compiler from moving a lock past the mark's address, and the mark behind it: the only other
// observer is a signal handler on the same thread.
SlowPathScope::SlowPathScope(Opener opener)
    : opener_(opener),
      mark_{0, reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0))},
      errno_place_(&errno),
      saved_errno_(*errno_place_),
      outer_depth_(thread_state.slow_path_depth),
      outer_(thread_state.slow_path) {
  if (outer_ == nullptr) [[likely]] {
    TouchStack(mark_.frame - kSlowPathStackBytes);
    BecomeOutermost();
  }
  thread_state.slow_path_depth = outer_depth_ + 1;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (outer_ == nullptr && fork_mark.IsWiped()) [[unlikely]]
    RepairUnseenFork();
}

// Depth and mark are set to what they were: the end of a slow path ends all that were jumped out of within it.
SlowPathScope::~SlowPathScope() {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (thread_state.stall_start_ns != 0 && outer_ == nullptr) [[unlikely]]
    EndStall();
  if (thread_state.forgotten_slow_path == &mark_) [[unlikely]]
    thread_state.forgotten_slow_path = nullptr;
  thread_state.slow_path = outer_;
  thread_state.slow_path_depth = outer_depth_;
  *errno_place_ = saved_errno_;
}

void SlowPathScope::BecomeOutermost() {
  mark_.word = SlowPathMark::kAlive;
  thread_state.unlocked_in_a_row = 0;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  thread_state.slow_path = &mark_;
}

namespace {

bool HasLostItsWord(const SlowPathMark* mark) {
  return WordHasChanged(reinterpret_cast<std::uintptr_t>(&mark->word), SlowPathMark::kAlive);
}

}  // namespace

// The word first: where it stands, so does the rest of the mark.
bool SlowPathScope::OuterIsGone() const {
  if (HasLostItsWord(outer_)) return true;
  switch (FindStackRelation(reinterpret_cast<std::uintptr_t>(outer_))) {
    case StackRelation::kLeft:
      return true;
    case StackRelation::kSame:
      // At the marked one's own address no handler of the program can stand: its frames lie below what it interrupted.
      return mark_.frame > outer_->frame || (opener_ == Opener::kProgram && mark_.frame == outer_->frame);
    case StackRelation::kInterrupted:
      break;
  }
  return false;
}

bool SlowPathScope::MustNotLock() {
  const HeldLocks held = FindHeldLocks();
  if (held == HeldLocks::kUnknown) return true;
  if (thread_state.forgotten_slow_path != nullptr && HasLostItsWord(thread_state.forgotten_slow_path)) {
    thread_state.forgotten_slow_path = nullptr;
  }
  const bool may_drop = outer_ != nullptr && opener_ == Opener::kProgram;
  if (held == HeldLocks::kNone && !may_drop) return false;
  const bool outer_is_gone = outer_ == nullptr || OuterIsGone();
  if (held == HeldLocks::kHeld) {
    if (outer_is_gone && thread_state.forgotten_slow_path == nullptr) ReportAbandonedLock();
    return true;
  }
  if (!outer_is_gone) {
    if (thread_state.forgotten_slow_path != nullptr || ++thread_state.unlocked_in_a_row < kForgetAfter) return false;
    thread_state.forgotten_slow_path = outer_;
  }
  outer_ = nullptr;
  outer_depth_ = 0;
  thread_state.slow_path_depth = 1;
  BecomeOutermost();
  thread_state.stall_start_ns = 0;
  RepairAfterJump();
  return false;
}

}  // namespace tarn
