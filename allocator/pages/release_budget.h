// The budget for giving memory back from the program's own slow paths.
//
// A release costs twice: the calls that release, and the page faults when the memory is used again. Memory that nobody
// uses again was worth the calls. So only memory that returns is charged, with the time that its release took and with
// the page faults. The charge is a debt that time pays off, 3 % of what elapses. While there is debt, nothing is released.
// So a first fall of the use gives everything back at once, and a program whose use falls and rises again for ever loses
// at most 3 % of its time.
//
// Falls that were all followed by a return within half a minute show a program that works in bursts. Each doubles the
// charge of the next, up to 16 times, so such a program loses less and less. A fall that was not followed by a return
// halves it.
//
// Pure: no lock, no system call. Guarded by the page heap's lock. All zero at the start (heap/process_heap.h). Times are
// those of CoarseMilliseconds().
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "allocator/os/clock.h"

namespace tarn {

class ReleaseBudget {
 public:
  // The share of time that may be lost, as its inverse: 3 %.
  static constexpr std::uint64_t kTimeDivisor = 32;
  // Debt below this does not count: what a growing program takes back of released memory, page by page. Chosen.
  static constexpr std::uint64_t kNoDebtNs = 1'000'000;
  // The page faults of a MiB: 256 of 0.6 us. Measured (docs/memory-return.md).
  static constexpr std::uint64_t kFaultNsPerMiB = 150'000;
  static constexpr std::uint32_t kLongestGapMs = 30'000;
  static constexpr unsigned kMostDoublings = 4;

  // `bytes` were released, which took `ns`.
  void NoteRelease(std::size_t bytes, std::uint64_t ns, std::uint32_t now_ms) {
    if (bytes == 0) return;
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
    debt_ns_ += ((release_ns_per_mib + kFaultNsPerMiB) * bytes / kMiB) << doublings_;
    if (!regretted_ && returned_bytes_ >= released_bytes_ / 2 &&
        MillisecondsBetween(released_at_ms_, now_ms) < kLongestGapMs) {
      regretted_ = true;
      doublings_ = std::min(doublings_ + 1, kMostDoublings);
    }
  }

  bool Allows(std::uint32_t now_ms) {
    if (debt_ns_ <= kNoDebtNs) return true;
    Settle(now_ms);
    return debt_ns_ <= kNoDebtNs;
  }

 private:
  static constexpr std::size_t kMiB = std::size_t{1} << 20;
  static constexpr std::uint64_t kMostNsPerMiB = 4 * kFaultNsPerMiB;

  void BeginFall(std::uint32_t now_ms) {
    if (!regretted_ && MillisecondsBetween(released_at_ms_, now_ms) >= kLongestGapMs && doublings_ != 0) --doublings_;
    regretted_ = false;
    released_bytes_ = 0;
    released_ns_ = 0;
    returned_bytes_ = 0;
  }

  void Settle(std::uint32_t now_ms) {
    const std::uint64_t paid_ns = std::uint64_t{MillisecondsBetween(settled_at_ms_, now_ms)} * 1'000'000 / kTimeDivisor;
    debt_ns_ -= std::min(debt_ns_, paid_ns);
    settled_at_ms_ = now_ms;
  }

  std::uint64_t debt_ns_ = 0;
  std::uint32_t settled_at_ms_ = 0;
  unsigned doublings_ = 0;
  // Of the last fall.
  std::size_t released_bytes_ = 0;
  std::uint64_t released_ns_ = 0;
  std::size_t returned_bytes_ = 0;
  std::uint32_t released_at_ms_ = 0;
  bool regretted_ = false;
};

}  // namespace tarn
