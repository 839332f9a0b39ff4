// SPDX-License-Identifier: Apache-2.0

#include "allocator/heap/slow_path.h"

#include <cstdint>

#include "allocator/heap/process_heap.h"

namespace tarn {

void DoDuties() {
  const bool requested = process_heap.scavenger.requested();
  const std::uint32_t wanted = process_heap.page_heap.attention();
  if ((wanted == 0 && !requested) || thread_state.slow_path_depth != 0) [[likely]]
    return;
  if ((wanted & PageHeap::kCheckWanted) != 0) process_heap.limits.Check(true);
  if ((wanted & (PageHeap::kScavengerWanted | PageHeap::kFallen)) != 0) process_heap.scavenger.Attend();
  if ((wanted & PageHeap::kPeakReached) != 0) process_heap.profile_dumps.AttendPeak();
  if (requested) process_heap.scavenger.AnswerRequests();
}

}  // namespace tarn
