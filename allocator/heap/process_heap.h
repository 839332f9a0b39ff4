// SPDX-License-Identifier: Apache-2.0
//
// The composition root: the one heap of the process, and how it starts.
//
// heap/, life/, pools/ and entry/ reach every floor through here. All of it is constinit and zero. So it exists before
// the first constructor runs, and costs nothing where it is not used. One member that is not zero would move all of it
// into the file's data, with a page fault for every page that is touched (tools/check_exports looks). With TARN_DCHECK
// the ranks of the locks are such members. Start() brings it to life at the first allocation:
//
//   1. options from the environment
//   2. the mode: rseq by libc's registration, by our own, or none
//   3. the floors learn of each other; the table of slabs gets the empty slab everywhere
//   4. hit_limit_bytes opens the hit path
//
// What needs libc's own start-up to be over waits for the library's constructor (entry/lifetime.cc), and allocations do
// not: fork handlers are registered there, and there the sampling begins. A sample asks _dl_find_object, and in a
// static program libc allocates within that function's own initialisation, which is not over then. Before the
// constructor the rate is 0, whatever the setting says. libc calls constructors, those of .preinit_array included,
// after the last of its own initialisations, so none of the program's code runs before.
#pragma once

#include <atomic>

#include "allocator/central/transfer_cache.h"
#include "allocator/cpu_cache/cpu_cache.h"
#include "allocator/include/tarn/snapshot.h"
#include "allocator/life/profile_dumps.h"
#include "allocator/misuse/guarded_objects.h"
#include "allocator/observe/profile.h"
#include "allocator/pages/page_heap.h"
#include "allocator/policy/background.h"
#include "allocator/policy/limits.h"
#include "allocator/policy/scavenger.h"
#include "allocator/pools/caretaker.h"
#include "allocator/settings/settings.h"

namespace tarn {

// The members that every process touches stand at the start, on one page if possible: each page costs a page fault.
struct alignas(4096) ProcessHeap {
  enum class State : int { kNotStarted, kStarting, kStarted };
  std::atomic<State> state = State::kNotStarted;
  // The library's own constructor has run (entry/lifetime.cc).
  std::atomic<bool> loaded = false;
  std::atomic<bool> line_due = false;  // TARN_VERBOSE asks for the line, and nobody has written it
  // Those that change after the start are written under the profile's lock, as their description is.
  Options options = {};
  Limits limits;
  Background background;
  GuardedObjects guards;
  Scavenger scavenger;
  PageHeap page_heap;
  // For those who look from outside.
  tarn_snapshot_option described_options[kSettingCount] = {};
  // Its counters stand at its end, and most of them stay untouched.
  CpuCache cpu_cache;
  TransferCache transfer_caches[kSizeClassCount];
  Profile profile;
  Caretaker caretaker;
  // The owners of sampled objects, by size class. Set up with the first sample, which short processes never come to;
  // until then nothing touches their memory. The mark changes under the profile's lock only.
  std::atomic<bool> sampled_lists_ready = false;
  CentralFreeList sampled_lists[kSizeClassCount];
  ProfileDumps profile_dumps;

  bool started() const { return state.load(std::memory_order_acquire) == State::kStarted; }
  // Returns when the heap has started. Not called by a slow path that is nested in another.
  void EnsureStarted() {
    if (!started()) Start();
  }
  bool has_sampled_lists() const { return sampled_lists_ready.load(std::memory_order_acquire); }
  // Called once, when libc is ready.
  void BeginSampling() { ApplyProfileRate(options.profile_rate_bytes); }
  void EnsureSampledLists() {
    if (!has_sampled_lists()) SetUpSampledLists();
  }

  // Settings that may change while other threads read them.
  Preset preset() const {
    Preset preset;
    __atomic_load(&options.preset, &preset, __ATOMIC_RELAXED);
    return preset;
  }
  // Pools, arenas and heaps are checked, and the sizes of frees.
  bool checks() const { return (__atomic_load_n(&options.check, __ATOMIC_RELAXED) & kCheckPools) != 0; }
  bool prints_statistics() const { return __atomic_load_n(&options.stats, __ATOMIC_RELAXED); }
  std::uint32_t pool_objects() const { return __atomic_load_n(&options.pool_objects, __ATOMIC_RELAXED); }
  std::uint32_t release_delay_ms() const { return __atomic_load_n(&options.release_delay_ms, __ATOMIC_RELAXED); }

  // Settings by the program itself. Of several threads that set the same at once, any may have the last word. Called in
  // no slow path.
  void SetMemoryLimit(LimitSetting setting);
  // Does nothing in a signal handler that interrupted a slow path with a lock.
  void SetHardLimit(LimitSetting setting);
  // The mean distance of the samples, from now on; 0: none are taken.
  void SetProfileRate(std::size_t rate_bytes);
  // Returns false, and changes nothing, in a signal handler that interrupted a slow path with a lock.
  [[nodiscard]] bool SetPreset(Preset preset);

 private:
  void Start();
  void SetUp();
  // Runs it under the lock of the settings.
  template <typename Change>
  void ChangeSettings(Change change);
  void ApplyProfileRate(std::size_t rate_bytes);
  void SetUpSampledLists();
};

extern constinit ProcessHeap process_heap;

// Starts the heap if this is the process's first allocation (life/start.cc), and attaches the thread where slabs
// belong to threads or rseq has to be registered (life/threads.cc). Not when nested in another slow path: the
// interrupted one has been here, or is here.
void PrepareThread();
// Registers the handlers that make fork safe (life/fork.cc).
void RegisterForkHandlers();
// Held by the registering thread around each registration of fork handlers with libc.
Lock& ForkRegistrationLock();

}  // namespace tarn
