// What happens at the library's own start and end, beside the first allocation.
//
// Nothing waits for these: an allocation before the constructor or after the destructor works like any other.
#include "allocator/heap/process_heap.h"
#include "allocator/heap/thread_exit.h"
#include "allocator/observe/statistics.h"

namespace tarn {

namespace {

// Before the constructors of the program, and after libc is up: the handlers of fork that a program registers itself
// then run outside of ours.
__attribute__((constructor(101))) void OnLoad() {
  PrepareThread();
  RegisterForkHandlers();
}

__attribute__((destructor(101))) void OnExit() {
  if (!process_heap.options.stats) return;
  Statistics statistics;
  process_heap.GatherStatistics(&statistics);
  WriteStatistics(statistics);
}

}  // namespace

}  // namespace tarn
