// SPDX-License-Identifier: Apache-2.0

#include "allocator/misuse/checked_mode.h"

#include <algorithm>

#include "allocator/base/attributes.h"
#include "allocator/base/units.h"
#include "allocator/os/virtual_memory.h"

namespace tarn {

constinit CheckedMode checked_mode;
TARN_IN_TOUCHED_DATA constinit std::uint32_t checked_parts = 0;

namespace {

// The most objects in quarantine. Chosen: objects of 128 bytes fill the usual 16 MiB.
constexpr std::size_t kQuarantinePlaces = std::size_t{1} << 17;

}  // namespace

void BeginChecks(const Options& options) {
  checked_parts = options.check & kCheckMalloc;
  // Without the memory, as under a limit on addresses, there are no stacks and no quarantine.
  constexpr std::size_t kPlaceBytes = kQuarantinePlaces * sizeof(std::atomic<void*>);
  const std::size_t bytes = RoundUp(StackTable::kBytes + StackMemo::kBytes + kPlaceBytes, OsPageBytes());
  auto* memory = static_cast<char*>(Reserve(bytes, OsPageBytes()));
  if (memory == nullptr) return;
  if (!Commit(memory, bytes)) {
    Unreserve(memory, bytes);
    return;
  }
  NameMemory(memory, bytes, "tarn checks");
  checked_mode.stacks.Init(memory, StackTable::kBytes);
  const std::size_t max_frames = std::min<std::size_t>(options.check_frames, StackTable::kMaxFrames);
  if (max_frames != 0) checked_mode.memo.Init(memory + StackTable::kBytes, &checked_mode.stacks, max_frames);
  if (!Checks(kCheckQuarantine) || options.check_quarantine_bytes == 0) return;
  auto* places = reinterpret_cast<std::atomic<void*>*>(memory + StackTable::kBytes + StackMemo::kBytes);
  checked_mode.freed.Init(places, kQuarantinePlaces, options.check_quarantine_bytes);
}

}  // namespace tarn
