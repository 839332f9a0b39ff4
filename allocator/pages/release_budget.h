// SPDX-License-Identifier: Apache-2.0
//
// The budget for giving memory back from the program's own slow paths.
//
// A release costs twice: the calls that release, and the page faults when the memory is used again. Memory that stays
// unused was worth the calls. So only memory that returns is charged, with the time that its release took and with the
// page faults. The charge is a debt that time pays off, 3 % of what elapses. With debt, nothing is released. Time
// without debt is a credit, of ten seconds at most, since the next fall may come right after the return.
//
// The first fall of a process is answered whatever its size and whenever it comes: no later call may come by. If the
// memory returns, this first release was in vain, and its cost is the most that a short program loses.
//
// A return of an eighth or more shows that the program works in bursts. Then the charge is multiplied:
//
//   by 8                memory that was away for less than the default release delay. A program whose use rises and
//                       falls that fast keeps its memory
//   by 2, up to 16      for each fall before that was followed by a return within half a minute. A fall that was not
//                       followed by a return takes one doubling back
//
// Both together are at most 32. The multiplied part of the debt is at most what a minute pays off. So a program that
// once worked in large bursts gives memory back again a minute later.
//
// Free memory that growth does not fit into goes, too: it is displaced by what the kernel brings. That has an account
// of its own. All of it is charged at once, as if it returned. 1.5 % of the time pays for it, a second of it also
// before. What was displaced and returns is a debt for falls like any other.
//
// Pure: no lock, no system call. Guarded by the page heap's lock. All zero at the start (heap/process_heap.h). Times
// are those of CoarseMilliseconds().
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "allocator/os/clock.h"

namespace tarn {

class ReleaseBudget {
 public:
  // The share of time that may be lost, as its inverse: 3 %.
  static constexpr std::int64_t kTimeDivisor = 32;
  // Debt below this does not count: what a growing program takes back of released memory, page by page. Chosen.
  static constexpr std::int64_t kNoDebtNs = 1'000'000;
  // The page faults of a MiB: 256 of 1.6 us. Measured (docs/memory-return.md).
  static constexpr std::uint64_t kFaultNsPerMiB = 400'000;
  static constexpr std::uint32_t kLongestGapMs = 30'000;
  // Shorter than this, the gap is that of a burst. Demand::kDefaultWindowMs.
  static constexpr std::uint32_t kShortGapMs = 1500;
  static constexpr unsigned kShortGapDoublings = 3;
  static constexpr unsigned kMostReturnDoublings = 4;
  static constexpr unsigned kMostDoublings = 5;
  // A smaller share of what was released does not count as a burst: a program allocates as much while it frees much
  // more.
  static constexpr std::size_t kBurstDivisor = 8;
  static constexpr std::int64_t kLongestDebtNs = 60'000'000'000 / kTimeDivisor;
  static constexpr std::uint32_t kMostCreditMs = 10'000;
  static constexpr std::int64_t kMostCreditNs = std::int64_t{kMostCreditMs} * 1'000'000 / kTimeDivisor;

  // For growth: 1.5 %, and the credit of a second.
  static constexpr std::int64_t kDisplacingTimeDivisor = 64;
  static constexpr std::int64_t kMostDisplacingCreditNs = 1'000'000'000 / kDisplacingTimeDivisor;

  // `bytes` were released, which took `ns`.
  void NoteRelease(std::size_t bytes, std::uint64_t ns, std::uint32_t now_ms) {
    if (bytes == 0) return;
    Settle(now_ms);
    if (returned_bytes_ != 0) BeginFall(now_ms);
    released_bytes_ += bytes;
    released_ns_ += ns;
    released_at_ms_ = now_ms;
  }

  // `bytes` that had been released are used again.
  void NoteReturn(std::size_t bytes, std::uint32_t now_ms) {
    Settle(now_ms);
    returned_bytes_ += bytes;
    // A preempted release seems to have taken long; no machine takes longer than this.
    const std::uint64_t release_ns_per_mib =
        released_bytes_ < kMiB ? kFaultNsPerMiB : std::min(released_ns_ / (released_bytes_ / kMiB), kMostNsPerMiB);
    const auto cost_ns = static_cast<std::int64_t>((release_ns_per_mib + kFaultNsPerMiB) * bytes / kMiB);
    const std::uint32_t gap_ms = MillisecondsBetween(released_at_ms_, now_ms);
    unsigned doublings = 0;
    if (returned_bytes_ >= released_bytes_ / kBurstDivisor) {
      doublings = std::min(doublings_ + (gap_ms < kShortGapMs ? kShortGapDoublings : 0), kMostDoublings);
    }
    // The part that the multiplication adds stops at kLongestDebtNs, the cost itself does not.
    debt_ns_ = std::max(debt_ns_ + cost_ns, std::min(debt_ns_ + (cost_ns << doublings), kLongestDebtNs));
    if (returned_bytes_ >= released_bytes_ / 2 && gap_ms < kLongestGapMs) regretted_ = true;
  }

  bool Allows(std::uint32_t now_ms) {
    if (debt_ns_ <= kNoDebtNs) return true;
    Settle(now_ms);
    return debt_ns_ <= kNoDebtNs;
  }

  bool AllowsDisplacing(std::uint32_t now_ms) {
    const std::uint32_t passed_ms = displaced_at_ms_ == 0 ? 0 : MillisecondsBetween(displaced_at_ms_, now_ms);
    displaced_at_ms_ = now_ms;
    displacing_debt_ns_ = std::max(displacing_debt_ns_ - std::int64_t{passed_ms} * 1'000'000 / kDisplacingTimeDivisor,
                                   -kMostDisplacingCreditNs);
    return displacing_debt_ns_ <= 0;
  }
  void NoteDisplaced(std::size_t bytes, std::uint64_t ns) {
    // A preempted release seems to have taken long. One that finds nothing counts, too.
    const std::uint64_t most_ns = kMostNsPerMiB + kMostNsPerMiB * bytes / kMiB;
    displacing_debt_ns_ += static_cast<std::int64_t>(kFaultNsPerMiB * bytes / kMiB + std::min(ns, most_ns));
  }

 private:
  static constexpr std::size_t kMiB = std::size_t{1} << 20;
  static constexpr std::uint64_t kMostNsPerMiB = kFaultNsPerMiB;

  void BeginFall(std::uint32_t now_ms) {
    if (regretted_) {
      doublings_ = std::min(doublings_ + 1, kMostReturnDoublings);
    } else if (MillisecondsBetween(released_at_ms_, now_ms) >= kLongestGapMs && doublings_ != 0) {
      --doublings_;
    }
    regretted_ = false;
    released_bytes_ = 0;
    released_ns_ = 0;
    returned_bytes_ = 0;
  }

  void Settle(std::uint32_t now_ms) {
    const std::uint32_t passed_ms = settled_at_ms_ == 0 ? 0 : MillisecondsBetween(settled_at_ms_, now_ms);
    debt_ns_ = std::max(debt_ns_ - std::int64_t{passed_ms} * 1'000'000 / kTimeDivisor, -kMostCreditNs);
    settled_at_ms_ = now_ms;
  }

  // Negative: a credit.
  std::int64_t debt_ns_ = 0;
  std::uint32_t settled_at_ms_ = 0;
  unsigned doublings_ = 0;
  // Of the last fall.
  std::size_t released_bytes_ = 0;
  std::uint64_t released_ns_ = 0;
  std::size_t returned_bytes_ = 0;
  std::uint32_t released_at_ms_ = 0;
  bool regretted_ = false;
  // Negative: a credit.
  std::int64_t displacing_debt_ns_ = 0;
  std::uint32_t displaced_at_ms_ = 0;
};

}  // namespace tarn
