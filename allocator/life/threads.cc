// SPDX-License-Identifier: Apache-2.0
//
// Prepares a thread for its first slow path, and cleans up at its end.

#include <cstddef>

#include "allocator/base/attributes.h"
#include "allocator/heap/process_heap.h"
#include "allocator/os/fork_mark.h"
#include "allocator/os/process.h"
#include "allocator/os/thread_state.h"
#include "size_classes/size_classes.h"

// libc's registry of thread_local destructors (glibc 2.18 and later, musl has none): a thread's exit is seen without
// one of the 1024 pthread keys, which are all the program's. Weak: without it a thread's slab stays filled after its
// exit until another thread takes it over.
extern "C" __attribute__((weak)) int __cxa_thread_atexit_impl(void (*destructor)(void*), void* object,
                                                              void* dso_handle);
extern "C" __attribute__((visibility("hidden"))) void* __dso_handle;

namespace tarn {

namespace {

// glibc's record of a destructor: a function, its argument, the library, a link (stdlib/cxa_thread_atexit_impl.c).
constexpr std::size_t kExitRecordBytes = 4 * sizeof(void*);

void OnThreadExit(void*) {
  SlowPathScope scope;
  process_heap.cpu_cache.DetachThread();
}

bool NeedsForkMark() { return !fork_mark.laid() && !HasOneThread(); }

TARN_COLD void Prepare() {
  process_heap.EnsureStarted();
  // Before this thread holds a lock that another one's _Fork could find held.
  if (NeedsForkMark()) fork_mark.Lay();
  if (!process_heap.cpu_cache.NeedsAttach()) return;
  {
    SlowPathScope scope;
    process_heap.cpu_cache.AttachThread();
  }
  // A thread for which there is no slab, and a child of vfork, have none.
  if (process_heap.cpu_cache.mode() != CacheMode::kThread || thread_state.slab_index < 0) return;
  if (__cxa_thread_atexit_impl == nullptr) return process_heap.cpu_cache.SettleThread();
  // libc allocates a record and ends the process if it cannot, so the slab gets one first; a thread without goes
  // without a slab. What we cannot help: libc takes the loader's lock here, so a constructor that dlopen runs must not
  // wait for the first allocation of a thread (docs/fork-and-signals.md).
  if (!process_heap.cpu_cache.FillSlab(MallocSizeClass(kExitRecordBytes))) {
    SlowPathScope scope;
    process_heap.cpu_cache.DetachThread();
    return;
  }
  static_cast<void>(__cxa_thread_atexit_impl(&OnThreadExit, nullptr, &__dso_handle));
  process_heap.cpu_cache.UnfillSlab(MallocSizeClass(kExitRecordBytes));
  process_heap.cpu_cache.SettleThread();
}

}  // namespace

void PrepareThread() {
  if (thread_state.slow_path_depth != 0) return;
  if (!process_heap.started() || NeedsForkMark() || process_heap.cpu_cache.NeedsAttach()) [[unlikely]]
    Prepare();
}

}  // namespace tarn
