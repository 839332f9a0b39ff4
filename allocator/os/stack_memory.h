// SPDX-License-Identifier: Apache-2.0
//
// The memory of stacks: what can be read, what is left, which stack the thread is on.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tarn {

// Whether eight bytes at the address, a multiple of eight, can be read now. Asks the kernel, in about 0.1 microseconds;
// keeps errno.
bool IsReadable(std::uintptr_t address);

// Touches the stack `bytes` below the caller: an overflow comes here or not at all. Reads, so that the kernel
// need not supply memory for it.
void ProbeStack(std::size_t bytes);

// Returns whether the address, one of the thread's stacks, is on the stack that the thread runs on: both on the
// alternate stack for signals, or neither. False where the kernel does not say (sigaltstack(2)).
bool OnTheStackOf(std::uintptr_t address);

}  // namespace tarn
