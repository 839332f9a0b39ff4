// SPDX-License-Identifier: Apache-2.0
//
// Measures stalls of allocations and frees. A stall begins with the first system call for memory of a slow path, or
// with its first wait in the kernel for a lock. It lasts to the end of that slow path.
//
// It costs nothing elsewhere. A slow path without such a call does not read the clock. One with it does so twice, which
// is little compared with the call. Page faults are not seen, nor what a slow path does before. Not counted are
// the scavenger's thread, for which nothing waits, and what a program requested (malloc_trim, tarn_release_memory,
// tarn_background_tick).
#pragma once

#include "allocator/include/tarn/snapshot.h"
#include "allocator/os/thread_state.h"

namespace tarn {

// Of the whole process. Added to by relaxed atomics.
extern constinit tarn_snapshot_stalls stalls;

void BeginStall();

// Called before what may take long. Outside of slow paths it does nothing, nor in a slow path inside another: that is a
// signal handler's, and what it noted while the outer one ends would be taken for the start of the thread's next stall.
inline void NoteStall() {
  if (thread_state.slow_path_depth == 1 && thread_state.stall_start_ns == 0) BeginStall();
}

// Leaves out the stall of the calling thread's slow path so far.
inline void ForgetStall() { thread_state.stall_start_ns = 0; }

}  // namespace tarn
