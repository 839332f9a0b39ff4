// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/memory_fault.h"

#include <signal.h>
#include <ucontext.h>

#include "allocator/os/system_call.h"

namespace tarn {

namespace {

OnMemoryFault handle_fault;
// The action before ours.
struct sigaction action_before;

MemoryFault FaultOf(const siginfo_t& info, [[maybe_unused]] const void* context) {
  MemoryFault fault = {reinterpret_cast<std::uintptr_t>(info.si_addr), MemoryFault::Access::kUnknown, 0, 0, 0};
#if defined(__x86_64__)
  const auto& registers = static_cast<const ucontext_t*>(context)->uc_mcontext.gregs;
  // The page fault's error code (Intel SDM volume 3, 4.7): bit 1 is set for a write, bit 4 for a fetch of code.
  const auto error = static_cast<std::uint64_t>(registers[REG_ERR]);
  if ((error & 0x10) == 0) fault.access = (error & 2) != 0 ? MemoryFault::Access::kWrite : MemoryFault::Access::kRead;
  fault.pc = static_cast<std::uintptr_t>(registers[REG_RIP]);
  fault.sp = static_cast<std::uintptr_t>(registers[REG_RSP]);
  fault.bp = static_cast<std::uintptr_t>(registers[REG_RBP]);
#endif
  return fault;
}

void EndByDefault(int number, siginfo_t* info, bool was_sent) {
  struct sigaction standard = {};
  standard.sa_handler = SIG_DFL;
  static_cast<void>(::sigaction(number, &standard, nullptr));
  // As it came, from whom it came. Blocked until the handler returns.
  if (was_sent) SystemCall(SYS_rt_tgsigqueueinfo, SystemCall(SYS_getpid), SystemCall(SYS_gettid), number, info);
}

void PassOn(int number, siginfo_t* info, void* context) {
  const bool was_sent = info->si_code <= 0;
  const bool has_details = (action_before.sa_flags & SA_SIGINFO) != 0;
  // The two lie in one place.
  void (*const handler)(int) = action_before.sa_handler;
  void (*const detailed)(int, siginfo_t*, void*) = action_before.sa_sigaction;
  if (handler == SIG_IGN && was_sent) return;
  if (handler == SIG_DFL || handler == SIG_IGN) return EndByDefault(number, info, was_sent);
  constexpr int kOneShot = static_cast<int>(SA_RESETHAND);
  if ((action_before.sa_flags & kOneShot) != 0) action_before.sa_handler = SIG_DFL;
  has_details ? detailed(number, info, context) : handler(number);
}

void OnSignal(int number, siginfo_t* info, void* context) {
  if (info->si_code == SEGV_ACCERR && handle_fault(FaultOf(*info, context))) return;
  PassOn(number, info, context);
}

}  // namespace

bool HandleMemoryFaults(OnMemoryFault on_fault) {
  handle_fault = on_fault;
  // Another thread's fault may come before the second call has told what was there.
  if (::sigaction(SIGSEGV, nullptr, &action_before) != 0) return false;
  struct sigaction action = {};
  action.sa_sigaction = &OnSignal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  if (action_before.sa_handler != SIG_DFL && action_before.sa_handler != SIG_IGN) {
    action.sa_mask = action_before.sa_mask;
    constexpr int kTakenOver = SA_ONSTACK | SA_NODEFER | SA_RESTART;
    action.sa_flags = SA_SIGINFO | (action_before.sa_flags & kTakenOver);
  }
  return ::sigaction(SIGSEGV, &action, nullptr) == 0;
}

}  // namespace tarn
