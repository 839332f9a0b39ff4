// SPDX-License-Identifier: Apache-2.0
//
// The library's own start and end, apart from the first allocation.
//
// Nothing waits for these: an allocation before the constructor or after the destructor works like any other.
#include "allocator/entry/lifetime.h"

#include "allocator/base/text.h"
#include "allocator/heap/checked_objects.h"
#include "allocator/heap/process_heap.h"
#include "allocator/observe/memstats.h"
#include "allocator/observe/published.h"
#include "allocator/os/clock.h"
#include "allocator/os/crash.h"
#include "allocator/os/sanitizer.h"

namespace tarn {

namespace {

void BeginStacks() {
  checked_mode.has_stacks.store(true, std::memory_order_relaxed);
  if (Checks(kCheckGuard)) process_heap.guards.BeginHandlingFaults();
}

}  // namespace

void Load() {
  // An exchange, so that the memory is written first: read first and written then, it takes two page faults.
  if (process_heap.loaded.exchange(true, std::memory_order_relaxed)) return;
  // A thread of the thread mode allocates a record of libc's when it is prepared; a sanitizer's malloc may not be
  // ready.
  SanitizerServes() ? process_heap.EnsureStarted() : PrepareThread();
  RegisterForkHandlers();
  EndStartOfClock();
  // Checked objects have stacks of their own, and no samples.
  ChecksMalloc() ? BeginStacks() : process_heap.BeginSampling();
  process_heap.profile_dumps.HandleSignal();
}

namespace {

// Fork handlers that are registered before ours would run with our locks held, so this runs before the constructors of
// all others: the shared library is marked for it (-z initfirst), the static one has entry/preinit.cc.
__attribute__((constructor(101))) void OnLoad() { Load(); }

void EndChecks() {
  SweepChecked("exit");
  if (const std::uint64_t unguarded = checked_mode.unguarded.load(std::memory_order_relaxed); unguarded != 0) {
    Text<160> line;
    line << "tarn: TARN_CHECK=guard: " << unguarded
         << " objects had no pages of their own: too large, or too many at a time\n";
    WriteToStderr(line.view());
  }
  if (Checks(kCheckLeaks)) ReportLive();
}

__attribute__((destructor(101))) void OnExit() {
  process_heap.profile_dumps.AtExit();
  if (ChecksMalloc()) EndChecks();
  if (!process_heap.prints_statistics()) return;
  tarn_memstats_t stats;
  ReadMemStats(own_snapshot, false, &stats);
  WriteStatistics(stats);
}

}  // namespace

}  // namespace tarn
