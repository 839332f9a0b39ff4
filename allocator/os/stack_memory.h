// SPDX-License-Identifier: Apache-2.0
//
// The memory of stacks: what can be read, what is left, which stack the thread is on.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tarn {

// True if eight bytes at the address, a multiple of eight, can be read now. Asks the kernel, in about 0.1 microseconds;
// keeps errno.
bool IsReadable(std::uintptr_t address);

// Touches the stack at the address, below the caller: an overflow comes here or not at all. Reads, so that the kernel
// need not supply memory for it. Memory below the stack pointer may be poisoned.
__attribute__((no_sanitize("address", "thread"))) inline void TouchStack(std::uintptr_t address) {
  static_cast<void>(*reinterpret_cast<const volatile char*>(address));
}
// The same, `bytes` below the caller's frame.
void ProbeStack(std::size_t bytes);

// Returns whether the word at the address, a multiple of four, certainly does not hold the value: another one stands
// there, or nothing can be read. False where the kernel does not say. Keeps errno.
bool WordHasChanged(std::uintptr_t address, std::uint32_t value);

// Where an address lies, one of the thread's stacks, seen from the stack that the thread runs on now. The alternate
// stack for signals is told apart from all others (sigaltstack(2)).
enum class StackRelation : std::uint8_t {
  kSame,        // both on the alternate stack, or neither
  kLeft,        // on the alternate stack, which the thread does not run on
  kInterrupted  // not on the alternate stack, which the thread runs on; or the kernel does not say
};
StackRelation FindStackRelation(std::uintptr_t address);

}  // namespace tarn
