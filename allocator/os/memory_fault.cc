// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/memory_fault.h"

#include <signal.h>
#include <ucontext.h>

#include <atomic>

#include "allocator/os/system_call.h"
#include "allocator/os/thread_state.h"

// libc's own name of sigaction, which tarn's does not stand in front of. musl has none.
extern "C" __attribute__((weak)) int __sigaction(int, const struct sigaction*, struct sigaction*);

namespace tarn {

namespace {

// Null: there is no handler of ours.
std::atomic<OnMemoryFault> handle_fault = nullptr;

// The program's action in one word, which a handler may read while another thread sets it: the handler, and above it
// two of the flags. All else is in the kernel's record of this handler. 0 is SIG_DFL.
constexpr std::uint64_t kHasDetails = std::uint64_t{1} << 62;
constexpr std::uint64_t kOneShot = std::uint64_t{1} << 63;
std::atomic<std::uint64_t> program_action = 0;

constexpr int kResetHandler = static_cast<int>(SA_RESETHAND);

std::uint64_t WordOf(const struct sigaction& action) {
  return reinterpret_cast<std::uintptr_t>(action.sa_handler) | ((action.sa_flags & SA_SIGINFO) != 0 ? kHasDetails : 0) |
         ((action.sa_flags & kResetHandler) != 0 ? kOneShot : 0);
}
std::uintptr_t HandlerOf(std::uint64_t word) { return word & ~(kHasDetails | kOneShot); }

int LibcAction(const struct sigaction* action, struct sigaction* before) {
  return __sigaction != nullptr ? __sigaction(SIGSEGV, action, before) : ::sigaction(SIGSEGV, action, before);
}

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

// True if what raised the signal happens again when the handler returns: a fault of an access. Not so a signal that was
// sent, the trap of an instruction that is done, and a signal frame that the kernel refused.
bool ComesAgain(const siginfo_t& info, [[maybe_unused]] const void* context) {
  if (info.si_code <= 0) return false;
#if defined(__x86_64__)
  // Stack, general protection and page fault (Intel SDM volume 3, 6.3.1).
  const auto number = static_cast<const ucontext_t*>(context)->uc_mcontext.gregs[REG_TRAPNO];
  return number >= 12 && number <= 14;
#else
  return true;
#endif
}

void EndByDefault(int number, siginfo_t* info, const void* context) {
  struct sigaction standard = {};
  standard.sa_handler = SIG_DFL;
  static_cast<void>(LibcAction(&standard, nullptr));
  // As it came, from whom it came. Blocked until the handler returns. A fault is repeated instead: the kernel logs it.
  if (!ComesAgain(*info, context))
    SystemCall(SYS_rt_tgsigqueueinfo, SystemCall(SYS_getpid), SystemCall(SYS_gettid), number, info);
}

void PassOn(int number, siginfo_t* info, void* context) {
  std::uint64_t word = program_action.load(std::memory_order_relaxed);
  // One of two threads that fault at once gets a handler of one shot.
  while ((word & kOneShot) != 0 && !program_action.compare_exchange_weak(word, 0, std::memory_order_relaxed)) continue;
  const std::uintptr_t handler = HandlerOf(word);
  if (handler == reinterpret_cast<std::uintptr_t>(SIG_DFL)) return EndByDefault(number, info, context);
  (word & kHasDetails) != 0 ? reinterpret_cast<void (*)(int, siginfo_t*, void*)>(handler)(number, info, context)
                            : reinterpret_cast<void (*)(int)>(handler)(number);
}

void OnSignal(int number, siginfo_t* info, void* context) {
  const OnMemoryFault handle = handle_fault.load(std::memory_order_relaxed);
  if (info->si_code == SEGV_ACCERR && handle(FaultOf(*info, context))) return;
  PassOn(number, info, context);
}

bool IsOurs(const struct sigaction& action) { return action.sa_sigaction == &OnSignal; }

// The kernel's action for the program's.
struct sigaction InFrontOf(const struct sigaction& action) {
  struct sigaction ours = action;
  if (action.sa_handler == SIG_DFL) {
    ours = {};
    ours.sa_flags = SA_ONSTACK;
  }
  ours.sa_sigaction = &OnSignal;
  ours.sa_flags = (ours.sa_flags | SA_SIGINFO) & ~kResetHandler;
  return ours;
}

// The program's action, from the kernel's record of ours.
struct sigaction BehindOurs(const struct sigaction& ours, std::uint64_t word) {
  struct sigaction action = {};
  if (HandlerOf(word) == reinterpret_cast<std::uintptr_t>(SIG_DFL)) return action;
  action = ours;
  action.sa_handler = reinterpret_cast<void (*)(int)>(HandlerOf(word));
  if ((word & kHasDetails) == 0) action.sa_flags &= ~SA_SIGINFO;
  if ((word & kOneShot) != 0) action.sa_flags |= kResetHandler;
  return action;
}

}  // namespace

bool HandleMemoryFaults(OnMemoryFault on_fault) {
  struct sigaction before;
  if (LibcAction(nullptr, &before) != 0) return false;
  program_action.store(WordOf(before), std::memory_order_relaxed);
  handle_fault.store(on_fault, std::memory_order_release);
  if (before.sa_handler == SIG_IGN) return true;
  const struct sigaction ours = InFrontOf(before);
  return LibcAction(&ours, nullptr) == 0;
}

// Between the two steps, the word and the call, the new handler may be called with the old one's mask and flags.
int SetFaultAction(SignalAction next, const struct sigaction* action, struct sigaction* before) {
  const std::uint64_t word_before = program_action.load(std::memory_order_relaxed);
  struct sigaction ours;
  // The child of vfork has its parent's word, but an action of its own. A library between this one and libc may do
  // something of its own with each handler: the JVM's libjsig keeps the program's behind that of the JVM.
  if (action != nullptr && action->sa_handler != SIG_IGN && thread_state.vfork_calls == 0 && next == &__sigaction &&
      handle_fault.load(std::memory_order_acquire) != nullptr) {
    ours = InFrontOf(*action);
    // Ours came to the program past this function. It stands for what was behind it.
    if (!IsOurs(*action)) program_action.store(WordOf(*action), std::memory_order_relaxed);
    action = &ours;
  }
  const int result = next(SIGSEGV, action, before);
  if (result == 0 && before != nullptr && IsOurs(*before)) *before = BehindOurs(*before, word_before);
  return result;
}

}  // namespace tarn
