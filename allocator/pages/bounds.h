// SPDX-License-Identifier: Apache-2.0
//
// The bounds on memory: the hard limit, and the goals that a container sets. Says how far they are exceeded.
//
// Pure: no lock, no system call. Guarded by the page heap's lock. All zero at the start (heap/process_heap.h).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "allocator/base/units.h"
#include "allocator/pages/usage.h"

namespace tarn {

// Bounds for the memory that may be resident: pages in use, free ones that are warm, mappings, metadata. All 0: none.
struct MemoryGoals {
  // Beyond it, memory that was not resident displaces free memory that is, in the thread that takes it: whole huge
  // pages and long runs.
  std::size_t soft_bytes = 0;
  // Beyond it, any free page goes.
  std::size_t critical_bytes = 0;
  // More than that cannot be resident, for the process would be dead. If more is in use, a part of it was never
  // touched, and large objects are taken to be that part. Free memory is then kept in proportion to the others.
  std::size_t most_bytes = 0;
  bool operator==(const MemoryGoals&) const = default;
};

class Bounds {
 public:
  // The bytes that may be resident, as far as the page heap knows.
  struct Held {
    std::size_t in_use_bytes;     // mappings and metadata included
    std::size_t untouched_bytes;  // of these, UntouchedBytes
    std::size_t warm_bytes;       // free
  };

  // SIZE_MAX: no limit.
  void SetHardLimit(std::size_t bytes) { hard_limit_bytes_ = bytes == SIZE_MAX ? 0 : std::max<std::size_t>(bytes, 1); }
  // True if the hard limit leaves room for another `bytes`.
  bool Permits(std::size_t in_use_bytes, std::size_t bytes) const {
    return in_use_bytes <= hard_limit_bytes_ && bytes <= hard_limit_bytes_ - in_use_bytes;
  }
  bool has_hard_limit() const { return hard_limit_bytes_ != 0; }
  // Returns what the hard limit leaves.
  std::size_t RoomBelowLimit(std::size_t in_use_bytes) const {
    return hard_limit_bytes_ - std::min(in_use_bytes, hard_limit_bytes_);
  }

  void SetGoals(const MemoryGoals& goals) { goals_ = goals; }
  const MemoryGoals& goals() const { return goals_; }
  bool has_goals() const { return goals_.soft_bytes != 0; }
  // Returns the bytes of large objects that are taken for untouched: 0 unless more is in use than can be resident.
  std::size_t UntouchedBytes(std::size_t in_use_bytes, const Usage& usage) const;
  // Returns the bytes by which the goals are exceeded, of which the soft one is lowered by `margin_bytes`.
  std::size_t Excess(const Held& held, std::size_t margin_bytes) const;
  // Returns the bytes by which the critical one is exceeded.
  std::size_t CriticalExcess(const Held& held) const;
  // True if the goals let `bytes` be brought before their use.
  bool HasRoomAhead(const Held& held, std::size_t bytes) const;

  // Memory that is resident, and free again soon: on its way to the kernel, or brought before it is used.
  void BeginLeaving(PageCount pages) { leaving_ += pages; }
  void EndLeaving(PageCount pages) { leaving_ -= pages; }
  void BeginComing(PageCount pages) { coming_ += pages; }
  void EndComing(PageCount pages) { coming_ -= pages; }
  PageCount coming() const { return coming_; }
  void ForgetPassing() { coming_ = leaving_ = PageCount(0); }

 private:
  // 0: none.
  std::size_t hard_limit_bytes_ = 0;
  MemoryGoals goals_;
  PageCount leaving_;
  PageCount coming_;
};

}  // namespace tarn
