#include "allocator/os/stack_memory.h"

#include <errno.h>
#include <signal.h>

#include "allocator/os/system_call.h"

namespace tarn {

// rt_sigprocmask with an operation that does not exist: the kernel copies the new mask in before it looks at the
// operation, so it answers EFAULT where it cannot read and EINVAL where it can, and changes nothing. No sandbox forbids
// the call. (The idea is that of abseil's AddressIsReadable.)
bool IsReadable(std::uintptr_t address) {
  constexpr int kNoSuchOperation = -1;
  constexpr unsigned long kKernelMaskBytes = 8;
  return SystemCall(SYS_rt_sigprocmask, kNoSuchOperation, address, nullptr, kKernelMaskBytes) != -EFAULT;
}

// What lies below the stack pointer may be poisoned.
__attribute__((no_sanitize("address", "thread"), noinline)) void ProbeStack(std::size_t bytes) {
  const auto frame = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  static_cast<void>(*reinterpret_cast<const volatile char*>(frame - bytes));
}

bool OnTheStackOf(std::uintptr_t address) {
  stack_t alternate = {};
  if (SystemCall(SYS_sigaltstack, nullptr, &alternate) != 0) return false;
  const auto start = reinterpret_cast<std::uintptr_t>(alternate.ss_sp);
  const bool address_is_on_it = address - start < alternate.ss_size;
  return ((alternate.ss_flags & SS_ONSTACK) != 0) == address_is_on_it;
}

}  // namespace tarn
