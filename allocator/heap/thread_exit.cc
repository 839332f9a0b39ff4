#include "allocator/heap/thread_exit.h"

#include "allocator/heap/process_heap.h"
#include "allocator/os/thread_state.h"

// libc's registry of thread_local destructors (glibc 2.18 and later, musl has none): a thread's exit is seen without
// one of the 1024 pthread keys, which are all the program's. Weak: without it a thread's slab stays filled after its
// exit until another thread takes it over.
extern "C" __attribute__((weak)) int __cxa_thread_atexit_impl(void (*destructor)(void*), void* object,
                                                              void* dso_handle);
extern "C" __attribute__((visibility("hidden"))) void* __dso_handle;

namespace tarn {

namespace {

void OnThreadExit(void*) {
  SlowPathScope scope;
  process_heap.cpu_cache.DetachThread();
}

}  // namespace

void PrepareThread() {
  if (thread_state.slow_path_depth != 0) return;
  process_heap.EnsureStarted();
  if (!process_heap.cpu_cache.NeedsAttach()) return;
  {
    SlowPathScope scope;
    process_heap.cpu_cache.AttachThread();
  }
  if (process_heap.cpu_cache.mode() != CacheMode::kThread || thread_state.exiting) return;
  // The registration allocates, which the slab serves that the thread has by now.
  if (__cxa_thread_atexit_impl != nullptr) {
    static_cast<void>(__cxa_thread_atexit_impl(&OnThreadExit, nullptr, &__dso_handle));
  }
}

}  // namespace tarn
