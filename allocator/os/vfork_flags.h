// SPDX-License-Identifier: Apache-2.0
//
// The flags of clone(2) that make a child like vfork's.
#pragma once

#include <sched.h>

namespace tarn {

// True if the child runs on its parent's memory, thread-local memory included, while the parent waits.
inline bool MakesVforkChild(int clone_flags) {
  constexpr int kSharesMemoryAndWaits = CLONE_VM | CLONE_VFORK;
  return (clone_flags & (kSharesMemoryAndWaits | CLONE_SETTLS)) == kSharesMemoryAndWaits;
}

}  // namespace tarn
