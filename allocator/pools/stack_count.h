// SPDX-License-Identifier: Apache-2.0
//
// The number of CPUs (or threads, in the thread mode) that get a stack or bump region in each pool and arena.
#pragma once

#include <cerrno>
#include <cstddef>

#include "allocator/heap/process_heap.h"
#include "allocator/os/cpus.h"

namespace tarn {

// The heap has started. What runs under a larger id, or is a thread more in the thread mode, shares what lies behind
// the lock.
inline std::size_t StackCount() {
  constexpr std::size_t kThreadStacks = 128;
  if (process_heap.cpu_cache.mode() == CacheMode::kThread) return kThreadStacks;
  const int saved_errno = errno;
  const std::size_t bound = ConfiguredCpus();
  errno = saved_errno;
  return bound;
}

}  // namespace tarn
