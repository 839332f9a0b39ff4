// SPDX-License-Identifier: Apache-2.0
//
// Chunks of arenas in the checked mode whose objects have ended: their memory is gone, their addresses stay taken for a
// while, so that a use of such an object ends the process where it happens.
//
// For arena.cc and concurrent_arena.cc, under the lock or rule that guards the arena. All zeroes is an empty one.
#pragma once

#include <cstddef>

#include "allocator/base/intrusive_list.h"
#include "allocator/pages/span.h"

namespace tarn {

class Quarantine {
 public:
  // False: the kernel refused, and the chunk is as it was. Those that have been here longest may go for it.
  [[nodiscard]] bool Take(Span* chunk);
  // Lets all go.
  void Empty();

 private:
  void FreeOldest();

  IntrusiveList<Span> chunks_;  // the oldest one last
  std::size_t bytes_ = 0;
};

}  // namespace tarn
