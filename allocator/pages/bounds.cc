// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/bounds.h"

namespace tarn {

namespace {

// Where more is in use than can be resident, objects of this part of the limit are taken for untouched. Free memory is
// kept up to a part of the others. Both are inverses, and chosen.
constexpr std::size_t kUntouchedDivisor = 8;
constexpr std::size_t kWarmInDoubtDivisor = 2;
// In a container, nothing is brought ahead when less than this part of the soft goal is left, as its inverse. Chosen.
constexpr std::size_t kRoomAheadDivisor = 8;

}  // namespace

std::size_t Bounds::UntouchedBytes(std::size_t in_use_bytes, const Usage& usage) const {
  if (!has_goals() || in_use_bytes <= goals_.most_bytes) return 0;
  return usage.LargeBytesFrom(goals_.most_bytes / kUntouchedDivisor);
}

// Memory on its way to the kernel is resident still. Where little room is left, no thread counts on another one's
// release, which may stand still for as long as that thread has no CPU.
std::size_t Bounds::CriticalExcess(const Held& held) const {
  const std::size_t resident_bytes =
      held.in_use_bytes + held.warm_bytes - held.untouched_bytes + leaving_.bytes() + coming_.bytes();
  return resident_bytes - std::min(resident_bytes, goals_.critical_bytes);
}

std::size_t Bounds::Excess(const Held& held, std::size_t margin_bytes) const {
  std::size_t kept_bytes;  // of what is warm, may stay
  if (held.in_use_bytes > goals_.most_bytes) {
    const std::size_t touched_bytes = held.in_use_bytes - held.untouched_bytes;
    kept_bytes = std::min(touched_bytes / kWarmInDoubtDivisor,
                          (goals_.soft_bytes - std::min(touched_bytes, goals_.soft_bytes)) / 2);
  } else {
    kept_bytes = goals_.soft_bytes - std::min(held.in_use_bytes, goals_.soft_bytes);
  }
  kept_bytes -= std::min(kept_bytes, margin_bytes);
  return std::max(held.warm_bytes - std::min(held.warm_bytes, kept_bytes), CriticalExcess(held));
}

bool Bounds::HasRoomAhead(const Held& held, std::size_t bytes) const {
  const std::size_t resident_bytes = held.in_use_bytes + held.warm_bytes - held.untouched_bytes + coming_.bytes();
  return !has_goals() || resident_bytes + bytes <= goals_.soft_bytes - goals_.soft_bytes / kRoomAheadDivisor;
}

}  // namespace tarn
