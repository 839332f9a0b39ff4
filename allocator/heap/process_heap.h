// The composition root: the one heap of the process, and how it starts.
//
// entry/ and observe/ reach every floor through here. All of it is constinit and zero, so it exists before the first
// constructor runs, and lies in memory that costs nothing where it is not used; Start() brings it to life at the first
// allocation:
//
//   1. options from the environment
//   2. the mode: rseq by libc's registration, by our own, or none
//   3. the floors learn of each other; the table of slabs gets the empty slab everywhere
//   4. hit_limit_bytes opens the hit path
//
// What needs libc's own start-up to be over (fork handlers) is registered by a constructor, which nothing waits for.
#pragma once

#include <atomic>

#include "allocator/central/transfer_cache.h"
#include "allocator/cpu_cache/cpu_cache.h"
#include "allocator/heap/limits.h"
#include "allocator/heap/options.h"
#include "allocator/heap/scavenger.h"
#include "allocator/include/tarn/snapshot.h"
#include "allocator/observe/profile.h"
#include "allocator/pages/page_heap.h"

namespace tarn {

struct ProcessHeap {
  PageHeap page_heap;
  TransferCache transfer_caches[kSizeClassCount];
  CpuCache cpu_cache;
  Scavenger scavenger;
  // The owners of sampled objects, by size class.
  CentralFreeList sampled_lists[kSizeClassCount];
  Profile profile;
  Limits limits;
  Options options = {};
  // For those who look from outside.
  tarn_snapshot_option described_options[kSettingCount] = {};

  bool started() const { return state.load(std::memory_order_acquire) == State::kStarted; }
  // Returns when the heap has started. Not called by a slow path that is nested in another.
  void EnsureStarted() {
    if (!started()) Start();
  }

  // The mean distance of the samples, from now on; 0: none are taken.
  void SetProfileRate(std::size_t rate_bytes) {
    profile.SetRate(rate_bytes);
    cpu_cache.RestartSampling();
  }

  enum class State : int { kNotStarted, kStarting, kStarted };
  std::atomic<State> state = State::kNotStarted;

 private:
  void Start();
};

extern constinit ProcessHeap process_heap;

// Registers the handlers that make fork safe (heap/fork.cc).
void RegisterForkHandlers();

}  // namespace tarn
