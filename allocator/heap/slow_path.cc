// SPDX-License-Identifier: Apache-2.0

#include "allocator/heap/slow_path.h"

#include <cstdint>

#include "allocator/base/attributes.h"
#include "allocator/heap/process_heap.h"

namespace tarn {

namespace {

TARN_COLD void DoThese(std::uint32_t wanted, bool requested) {
  if (thread_state.slow_path_depth != 0) return;
  if ((wanted & PageHeap::kCheckWanted) != 0) process_heap.limits.Check(true);
  if ((wanted & (PageHeap::kScavengerWanted | PageHeap::kFallen)) != 0) process_heap.scavenger.Attend();
  if ((wanted & PageHeap::kPeakReached) != 0) process_heap.profile_dumps.AttendPeak();
  if (requested) process_heap.scavenger.AnswerRequests();
}

// Apart, so that its calls cost the slow paths without duties nothing. While much is free and stays, kScavengerWanted
// is set at every slow path.
TARN_NOINLINE void DoWhatIsDue(std::uint32_t wanted) {
  if (wanted != PageHeap::kScavengerWanted || process_heap.scavenger.IsTimeToAttend()) DoThese(wanted, false);
}

}  // namespace

void DoDuties() {
  const std::uint32_t wanted = process_heap.page_heap.attention();
  if (process_heap.scavenger.requested()) [[unlikely]]
    return DoThese(wanted, true);
  if (wanted != 0) DoWhatIsDue(wanted);
}

}  // namespace tarn
