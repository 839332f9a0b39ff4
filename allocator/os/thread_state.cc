#include "allocator/os/thread_state.h"

#include <atomic>
#include <cerrno>

#include "allocator/os/system_call.h"

namespace tarn {

constinit thread_local ThreadState thread_state;

std::uint32_t ThreadId() {
  if (thread_state.tid == 0) thread_state.tid = static_cast<std::uint32_t>(SystemCall(SYS_gettid));
  return thread_state.tid;
}

// The fences keep the compiler from moving a lock past the mark: the only other observer is a signal handler on the
// same thread.
SlowPathScope::SlowPathScope() : saved_errno_(errno), nested_(thread_state.slow_path_depth != 0) {
  ++thread_state.slow_path_depth;
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

SlowPathScope::~SlowPathScope() {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (thread_state.stall_start_ns != 0 && !nested_) [[unlikely]]
    EndStall();
  --thread_state.slow_path_depth;
  errno = saved_errno_;
}

}  // namespace tarn
