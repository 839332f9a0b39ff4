// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/stack_memory.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>

#include "allocator/base/attributes.h"
#include "allocator/os/system_call.h"

namespace tarn {

namespace {

// A futex call that moves no sleeper from the address to another word, if the address holds the value. The kernel reads
// the address first, and answers EFAULT where it cannot. Otherwise it answers 0, or EAGAIN for another value, and
// changes nothing. FUTEX_WAIT would read too, but could take a wake away from a sleeper on the same word. A sandbox
// that allows locks allows the call.
long CompareWord(std::uintptr_t address, std::uint32_t value) {
  constexpr int kWakeNone = 0;
  constexpr unsigned long kMoveNone = 0;
  std::uint32_t target = 0;
  return SystemCall(SYS_futex, address, FUTEX_CMP_REQUEUE_PRIVATE, kWakeNone, kMoveNone, &target, value);
}

}  // namespace

bool IsReadable(std::uintptr_t address) { return CompareWord(address, 0) != -EFAULT; }

bool WordHasChanged(std::uintptr_t address, std::uint32_t value) {
  const long result = CompareWord(address, value);
  return result == -EAGAIN || result == -EFAULT;
}

TARN_NOINLINE void ProbeStack(std::size_t bytes) {
  TouchStack(reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)) - bytes);
}

StackRelation FindStackRelation(std::uintptr_t address) {
  stack_t alternate = {};
  if (SystemCall(SYS_sigaltstack, nullptr, &alternate) != 0) return StackRelation::kInterrupted;
  const auto start = reinterpret_cast<std::uintptr_t>(alternate.ss_sp);
  const bool address_is_on_it = address - start < alternate.ss_size;
  const bool thread_is_on_it = (alternate.ss_flags & SS_ONSTACK) != 0;
  if (address_is_on_it == thread_is_on_it) return StackRelation::kSame;
  return address_is_on_it ? StackRelation::kLeft : StackRelation::kInterrupted;
}

}  // namespace tarn
