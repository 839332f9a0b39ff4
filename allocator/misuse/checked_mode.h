// SPDX-License-Identifier: Apache-2.0
//
// malloc's checked mode (TARN_CHECK): its parts, its stacks, its quarantine. heap/checked_objects.h has what it does.
//
// The mode is settled at the start and does not change. All of it is zero where it is off.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "allocator/misuse/freed_objects.h"
#include "allocator/misuse/report.h"
#include "allocator/misuse/stack_memo.h"
#include "allocator/misuse/stack_table.h"
#include "allocator/settings/options.h"

namespace tarn {

struct CheckedMode {
  // Stacks are walked from here on: libc is ready for it.
  std::atomic<bool> has_stacks = false;
  StackTable stacks;
  StackMemo memo;
  FreedObjects freed;
  // The number of sweeps that look at objects. While there is one, nothing leaves the quarantine.
  std::atomic<std::uint32_t> sweeps = 0;

  // Objects that `guard` found no place for.
  std::atomic<std::uint64_t> unguarded = 0;

  std::uint32_t CaptureStack() { return has_stacks.load(std::memory_order_relaxed) ? memo.Capture() : 0; }
  StackFacts FactsOf(std::uint32_t stack) const {
    const StackTable::Stack found = stacks.Find(stack);
    return {found.frames, found.count, 0};
  }
};

extern constinit CheckedMode checked_mode;

// Of CheckPart; 0: malloc is not checked. Apart from the rest, which no other process touches.
extern constinit std::uint32_t checked_parts;

inline bool ChecksMalloc() { return checked_parts != 0; }
inline bool Checks(std::uint32_t parts) { return (checked_parts & parts) != 0; }

// Once, at the start, before any object exists.
void BeginChecks(const Options& options);
inline void SetUpChecks(const Options& options) {
  if ((options.check & kCheckMalloc) != 0) BeginChecks(options);
}

}  // namespace tarn
