// SPDX-License-Identifier: Apache-2.0
//
// The check of the order of locks. Only in builds with TARN_DCHECK.
#include "allocator/os/lock_rank.h"

#include <cstdlib>

#include "allocator/base/text.h"
#include "allocator/os/crash.h"

namespace tarn {

namespace {

const char* NameOf(LockRank rank) {
  switch (rank) {
    case LockRank::kNone:
      return "a lock without a rank";
    case LockRank::kRegistration:
      return "the lock of registrations";
    case LockRank::kCycle:
      return "the scavenger's cycle lock";
    case LockRank::kDrain:
      return "the drain lock";
    case LockRank::kTransferCache:
      return "a transfer cache's lock";
    case LockRank::kProfile:
      return "the profile's lock";
    case LockRank::kCentralFreeList:
      return "a central free list's lock";
    case LockRank::kPageHeap:
      return "the page heap's lock";
    case LockRank::kPoolList:
      return "the lock of the list of pools";
    case LockRank::kPool:
      return "a pool's lock";
  }
  return "an unknown lock";
}

[[noreturn]] TARN_COLD void OrderFailed(LockRank wanted, const char* relation, LockRank earlier) {
  Text<256> line;
  line << "tarn: fatal: check failed: a thread waits for " << NameOf(wanted) << relation << NameOf(earlier)
       << " (the order is in os/lock_rank.h)\n";
  WriteToStderr(line.view());
  std::abort();
}

}  // namespace

void LockRecord::CheckOrder(LockRank wanted) {
  TARN_CHECK(wanted != LockRank::kNone);
  if (forks_) {
    if (wanted < last_of_fork_) OrderFailed(wanted, " in a fork, after ", last_of_fork_);
    last_of_fork_ = wanted;
    return;
  }
  for (int i = 0; i < kLockRankCount; ++i) {
    const auto rank = static_cast<LockRank>(i);
    if (held_[i] == 0 || (rank <= kLastNestingRank && rank < wanted)) continue;
    OrderFailed(wanted, " while it holds ", rank);
  }
}

}  // namespace tarn
