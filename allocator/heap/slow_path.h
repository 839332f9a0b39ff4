// SPDX-License-Identifier: Apache-2.0
//
// The frame of a slow path that the program's own call has led to.
#pragma once

#include "allocator/heap/process_heap.h"
#include "allocator/os/thread_state.h"

namespace tarn {

// Does what the page heap, or another process, has asked for: checks limits, gives memory back, writes the profile of a
// peak, answers requests. Does nothing inside of a slow path.
void DoDuties();

// One object around a slow path: prepares the thread, marks it (SlowPathScope), and does the duties at the end, when
// the mark is gone and no lock is held.
class SlowPath {
 public:
  SlowPath() = default;
  SlowPath(const SlowPath&) = delete;
  SlowPath& operator=(const SlowPath&) = delete;

  // True: no lock may be taken.
  bool nested() { return scope_.nested(); }

 private:
  struct Ends {
    Ends() { PrepareThread(); }
    ~Ends() { DoDuties(); }
  };
  const Ends ends_;  // first, so that its destructor runs last
  SlowPathScope scope_ = SlowPathScope(SlowPathScope::Opener::kProgram);
};

}  // namespace tarn
