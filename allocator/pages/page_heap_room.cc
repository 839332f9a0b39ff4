// SPDX-License-Identifier: Apache-2.0
//
// The part of the page heap that makes room in a container: memory that comes into use displaces free memory that is
// resident, in the thread that takes it.
#include <algorithm>

#include "allocator/os/clock.h"
#include "allocator/os/stack_memory.h"
#include "allocator/pages/page_heap.h"
#include "allocator/pages/release_batch.h"

namespace tarn {

namespace {

// MakeRoom releases more than is missing, so that it need not be called at each step: by this share of the goal, as its
// inverse, and at least by this much.
constexpr std::size_t kRoomStepDivisor = 128;
constexpr std::size_t kLeastRoomStepBytes = std::size_t{1} << 20;
// The release of a run of free pages that is this long costs little more per byte than that of a huge page. Chosen.
constexpr std::size_t kLongRunPages = kPagesPerHugePage / 16;

HugePage::PageBits LongRuns(const HugePage::PageBits& pages) {
  HugePage::PageBits result;
  for (auto run = pages.NextRun(0); run.count != 0; run = pages.NextRun(run.first + run.count)) {
    if (run.count >= kLongRunPages) result.SetRange(run.first, run.count);
  }
  return result;
}

}  // namespace

void PageHeap::SetGoals(const Goals& goals) {
  LockHolder holder(lock_);
  bounds_.SetGoals(goals);
  next_room_at_bytes_ = 0;
}

void PageHeap::MakeRoom(std::size_t fresh_bytes) {
  ProbeStack(kReleaseStackBytes);
  LockHolder holder(lock_);
  const PublishAtEnd publish{this};
  const std::size_t step_bytes = std::max(bounds_.goals().soft_bytes / kRoomStepDivisor, kLeastRoomStepBytes);
  const std::size_t most_bytes = fresh_bytes + step_bytes;
  std::size_t released_bytes = 0;
  TryRefusedAgain(false);
  while (released_bytes < most_bytes && bounds_.Excess(HeldBytes(), step_bytes) != 0 &&
         free_.warm_pages().oldest() != nullptr && ReleaseWhole(free_.warm_pages().oldest(), &released_bytes)) {
  }
  if (released_bytes < most_bytes) released_bytes += ReleaseScattered(most_bytes - released_bytes, step_bytes);
  // With nothing left to release, the next try is worthwhile a step later.
  next_room_at_bytes_ = released_bytes < most_bytes ? fresh_bytes_.load(std::memory_order_relaxed) + step_bytes : 0;
}

std::size_t PageHeap::ReleaseScattered(std::size_t most_bytes, std::size_t margin_bytes) {
  ReleaseBatch batch;
  std::size_t released_bytes = 0;
  std::size_t held = 0;
  bool critical = bounds_.CriticalExcess(HeldBytes()) != 0;
  // Once around, wherever the hand is.
  for (std::size_t left = reservations_.huge_page_count(); left != 0; --left) {
    if (!batch.HasRoom() || released_bytes + batch.bytes >= most_bytes) {
      released_bytes += ReleaseBatched(&batch);
      critical = bounds_.CriticalExcess(HeldBytes()) != 0;
      held = 0;
      if (released_bytes >= most_bytes || bounds_.Excess(HeldBytes(), margin_bytes) == 0) return released_bytes;
    }
    if (++held == kTrackersPerHold) {
      const Unlocked others_may_have_it(lock_);
      held = 0;
    }
    bool end_of_pass = false;
    HugePage* huge_page = reservations_.NextPacked(&room_hand_, &end_of_pass);
    if (end_of_pass) huge_page = reservations_.NextPacked(&room_hand_, &end_of_pass);
    if (huge_page == nullptr || huge_page->IsRefused(CoarseMilliseconds())) continue;
    const HugePage::PageBits free = huge_page->free.AndNot(huge_page->zero);
    AddToBatch(&batch, huge_page, critical ? free : LongRuns(free));
  }
  return released_bytes + ReleaseBatched(&batch);
}

}  // namespace tarn
