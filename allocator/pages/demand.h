// SPDX-License-Identifier: Apache-2.0
//
// How much free memory is likely to be wanted back, by what the program did lately.
//
// The page heap reports frees and returns; the scavenger and the threads that free read. Two windows:
//
//   short   Memory that was in use within the last second and a half (TARN_RELEASE_DELAY) stays: a program that works
//           in bursts does not fault its memory in again and again.
//   long    Huge pages that came back into use after lying free for longer than that show a burst that repeats more
//           slowly. As many as came back are kept for three times as long as they had lain free, up to a minute. A
//           burst that does not repeat leaves no trace, so an idle program keeps nothing.
//
// Guarded by the page heap's lock. Times are those of CoarseMilliseconds().
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "allocator/os/clock.h"

namespace tarn {

class Demand {
 public:
  // The short window. Chosen: programs that work in bursts mostly do so every second or faster, and five seconds after
  // the last one the memory shall be back.
  static constexpr std::uint32_t kDefaultWindowMs = 1500;
  // A repetition that is slower than this is not waited for.
  static constexpr std::uint32_t kLongestGapMs = 30'000;
  static constexpr std::uint32_t kGapsKept = 3;
  static constexpr std::uint32_t kLongestKeptMs = 60'000;

  std::uint32_t short_window_ms() const { return kDefaultWindowMs + short_window_change_ms_; }
  void SetShortWindow(std::uint32_t milliseconds) { short_window_change_ms_ = milliseconds - kDefaultWindowMs; }

  // Memory is about to become free, of `in_use_bytes`.
  void NoteFree(std::size_t in_use_bytes, std::uint32_t now_ms) {
    Rotate(now_ms);
    peak_bytes_ = std::max(peak_bytes_, in_use_bytes);
  }
  // The most that was in use within the short window, as far as frees have reported it; up to twice as long ago.
  std::size_t RecentPeakBytes(std::uint32_t now_ms) {
    Rotate(now_ms);
    return std::max(peak_bytes_, previous_peak_bytes_);
  }

  // A huge page that was free since `freed_at_ms` comes into use.
  void NoteReturn(std::uint32_t freed_at_ms, std::uint32_t now_ms) {
    const std::uint32_t gap_ms = MillisecondsBetween(freed_at_ms, now_ms);
    if (gap_ms < kSurgeMs || gap_ms > kLongestGapMs) return;
    if (MillisecondsBetween(last_return_ms_, now_ms) > kSurgeMs) {
      // A new surge. The one before counts on while it is not forgotten.
      previous_returned_ = KeptHugePages(now_ms);
      returned_ = 0;
      gap_ms_ = previous_returned_ == 0 ? 0 : gap_ms_;
    }
    ++returned_;
    gap_ms_ = std::max(gap_ms_, gap_ms);
    last_return_ms_ = now_ms;
  }
  // The number of free huge pages kept beyond the short window.
  std::size_t KeptHugePages(std::uint32_t now_ms) const {
    const std::uint32_t kept_ms = std::min(gap_ms_ * kGapsKept, kLongestKeptMs);
    if (MillisecondsBetween(last_return_ms_, now_ms) >= kept_ms) return 0;
    return std::max(returned_, previous_returned_);
  }

 private:
  // Returns that are this close to each other are of one surge; shorter gaps are the short window's affair.
  static constexpr std::uint32_t kSurgeMs = 500;

  void Rotate(std::uint32_t now_ms) {
    const std::uint32_t age_ms = MillisecondsBetween(peak_since_ms_, now_ms);
    if (age_ms < short_window_ms()) return;
    previous_peak_bytes_ = age_ms < 2 * short_window_ms() ? peak_bytes_ : 0;
    peak_bytes_ = 0;
    peak_since_ms_ = now_ms;
  }

  // By which it differs from the default, modulo 2^32: the heap is all zeroes at the start (heap/process_heap.h).
  std::uint32_t short_window_change_ms_ = 0;
  std::size_t peak_bytes_ = 0;
  std::size_t previous_peak_bytes_ = 0;
  std::uint32_t peak_since_ms_ = 0;
  std::uint32_t last_return_ms_ = 0;
  std::uint32_t gap_ms_ = 0;
  std::size_t returned_ = 0;  // huge pages, in the surge under way or the last one
  std::size_t previous_returned_ = 0;
};

}  // namespace tarn
