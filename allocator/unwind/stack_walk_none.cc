// SPDX-License-Identifier: Apache-2.0
//
// For architectures whose frames nobody has described here yet: samples have no stacks.
#include "allocator/unwind/stack_walk.h"

namespace tarn {

std::size_t WalkStack(std::uintptr_t*, std::size_t, bool* truncated, WalkPlaces*) {
  *truncated = false;
  return 0;
}

std::size_t WalkInterruptedStack(const StackRegisters&, std::uintptr_t*, std::size_t, bool* truncated) {
  *truncated = false;
  return 0;
}

}  // namespace tarn
