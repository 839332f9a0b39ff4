// SPDX-License-Identifier: Apache-2.0
//
// The stack of the calling thread, as addresses of call sites.
//
// For the heap profile, when an allocation is sampled, from anywhere: in any thread, in a signal handler, in a
// constructor, under any lock of the program or the loader. So it takes no lock, allocates nothing, and touches no
// memory of the stack that it does not know to be readable.
//
// Programs are built without frame pointers, and then a walk by frame pointers invents frames; so each frame is left by
// what the unwinding tables say of its instruction (unwind/eh_frame.h). What was worked out is kept in a cache by
// address, which makes a frame cost some fifty nanoseconds. Frame pointers serve where there is no table, as in code
// that a program made at run time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tarn {

// The places on the stack where a walk found the return addresses, innermost first, with the allocator's own frames.
struct WalkPlaces {
  static constexpr std::size_t kMost = 24;
  std::uintptr_t places[kMost];
  std::size_t count = 0;
  // Those up to the first call site that is reported, where the allocator's frames are told from the program's; else 0.
  std::size_t own_count = 0;
  // All of them stand here: no return address came from elsewhere, and there was room.
  bool known = true;
};

// Stores up to `max` call sites (return addresses minus 1), innermost first, beginning with the caller of the allocator
// (of this function, where the allocator is linked statically and cannot be told from the program); returns how many.
// `*truncated`: there were more. `*places` (null: unwanted) gets the places of all frames that were looked at, but for
// the one that `truncated` reports.
std::size_t WalkStack(std::uintptr_t* call_sites, std::size_t max, bool* truncated, WalkPlaces* places = nullptr);

// The registers that a walk begins with.
struct StackRegisters {
  std::uintptr_t pc = 0;
  std::uintptr_t sp = 0;
  std::uintptr_t bp = 0;
};
// The same for code that a signal interrupted: the first entry is the interrupted instruction itself.
std::size_t WalkInterruptedStack(const StackRegisters& registers, std::uintptr_t* call_sites, std::size_t max,
                                 bool* truncated);

}  // namespace tarn
