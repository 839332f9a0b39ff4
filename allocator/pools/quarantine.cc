// SPDX-License-Identifier: Apache-2.0

#include "allocator/pools/quarantine.h"

#include "allocator/heap/regions.h"
#include "allocator/os/virtual_memory.h"

namespace tarn {

namespace {

// Chosen: enough for a use after reset to be met, little enough for a test program.
constexpr std::size_t kMostBytes = std::size_t{64} << 20;

}  // namespace

bool Quarantine::Take(Span* chunk) {
  switch (Decommit(chunk->start(), chunk->bytes())) {
    case Decommitted::kDone:
      break;
    case Decommitted::kUnchanged:
      return false;
    case Decommitted::kLost:
      // As below.
      return true;
  }
  bytes_ += chunk->bytes();
  chunks_.PushFront(chunk);
  while (bytes_ > kMostBytes) FreeOldest();
  return true;
}

void Quarantine::FreeOldest() {
  Span* chunk = chunks_.back();
  bytes_ -= chunk->bytes();
  IntrusiveList<Span>::Remove(chunk);
  // Where the kernel refuses, the addresses stay lost: nothing that cannot be touched may reach the page heap.
  if (Commit(chunk->start(), chunk->bytes())) FreeRegion(chunk);
}

void Quarantine::Empty() {
  while (!chunks_.empty()) FreeOldest();
}

}  // namespace tarn
