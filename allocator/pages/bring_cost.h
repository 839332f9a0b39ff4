// SPDX-License-Identifier: Apache-2.0
//
// The cost of bringing memory before its use, measured as the program runs. It says whether huge pages pay, and how
// much one call may bring.
//
// A huge page saves 511 page faults, and costs a fifth of them where the machine has it at hand. It costs ten times
// what they cost where the host of a virtual machine has to find it, or the kernel to compact memory. Small pages come
// from what was freed lately. So no huge page is brought for a while after one that took long, and for twice
// as long after each further one. Small pages that take long are a sign of it too, which costs less to see.
//
// Times are elapsed ones: a thread's own are not known without a system call. What was preempted counts as dear.
//
// Pure: no lock, no system call. Guarded by the page heap's lock. All zero at the start (heap/process_heap.h).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "allocator/base/units.h"
#include "allocator/os/clock.h"

namespace tarn {

class BringCost {
 public:
  // A huge page that takes longer is dear, and so is one that takes twice as long as its memory in small pages. A page
  // fault takes some 1.3 times as long as a populated page (docs/memory-return.md), and one entry in the processor's
  // translation cache is worth something too. Chosen.
  static constexpr std::uint64_t kMostHugeNs = 1'000'000;
  static constexpr std::uint64_t kMostTimesSmall = 2;
  // One call may bring as many small pages as take this time, by the last figures.
  static constexpr std::uint64_t kMostSmallNs = 500'000;
  // Small pages of 4 KiB that take as long as the first are a sign that huge pages are dear. Usual are 0.3 to 1.5 us;
  // memory that the host has to find takes 9 us. In a call that took as long as the second, the thread had no CPU. A
  // call for fewer pages than the third says more of the call than of the pages.
  static constexpr std::uint64_t kDearSmallNs = 4'000;
  static constexpr std::uint64_t kPreemptedNs = 2'000'000;
  static constexpr std::size_t kTellingPages = 16;
  static constexpr std::uint32_t kFirstPauseMs = 1'000;
  static constexpr std::uint32_t kLastPauseMs = 128'000;
  static constexpr std::uint32_t kSampleMs = 100;

  // `bytes` were brought in small pages.
  void NoteSmall(std::size_t bytes, std::uint64_t ns, std::uint32_t now_ms) {
    const std::size_t pages = bytes / kSmallBytes;
    const std::uint64_t page_ns = ns / pages;
    // Rises at once, and falls slowly.
    small_ns_ = std::max(page_ns, small_ns_ - small_ns_ / 8);
    if (page_ns >= kDearSmallNs && ns < kPreemptedNs && pages >= kTellingPages && HugePagesPay(now_ms)) {
      Pause(now_ms, pause_ms_);
    }
  }
  // A huge page was brought, or the kernel had none.
  void NoteHuge(bool brought, std::uint64_t ns, std::uint32_t now_ms) {
    sampled_ = true;
    sampled_at_ms_ = now_ms;
    constexpr std::uint64_t kSmallPages = kHugePageBytes / kSmallBytes;
    const bool dear_by_small = small_ns_ != 0 && ns > kMostTimesSmall * kSmallPages * small_ns_;
    if (!brought || ns > kMostHugeNs || dear_by_small) {
      Pause(now_ms, pause_ms_ * 2);
    } else {
      paused_ = false;
      pause_ms_ -= (pause_ms_ + 3) / 4;
    }
  }

  // Large objects bring their huge pages by themselves. True: it is time to see again what one takes.
  bool IsTimeToSample(std::uint32_t now_ms) const {
    return !sampled_ || MillisecondsBetween(sampled_at_ms_, now_ms) >= kSampleMs;
  }
  bool HugePagesPay(std::uint32_t now_ms) {
    if (paused_ && MillisecondsBetween(paused_at_ms_, now_ms) >= pause_ms_) paused_ = false;
    return !paused_ || ignored_;
  }
  // For tests of what huge pages are brought for.
  void Ignore() { ignored_ = true; }

  // Returns the bytes that one call may bring in small pages. The figure falls with each question, or no call would be
  // made any more after one that took very long.
  std::size_t MostSmallBytes() {
    small_ns_ -= (small_ns_ + 63) / 64;
    return small_ns_ == 0 ? SIZE_MAX : kMostSmallNs / small_ns_ * kSmallBytes;
  }

 private:
  static constexpr std::size_t kSmallBytes = 4096;

  void Pause(std::uint32_t now_ms, std::uint32_t length_ms) {
    paused_ = true;
    paused_at_ms_ = now_ms;
    pause_ms_ = std::clamp(length_ms, kFirstPauseMs, kLastPauseMs);
  }

  std::uint64_t small_ns_ = 0;  // for 4 KiB; 0: not known
  std::uint32_t paused_at_ms_ = 0;
  std::uint32_t pause_ms_ = 0;
  std::uint32_t sampled_at_ms_ = 0;
  bool paused_ = false;
  bool sampled_ = false;
  bool ignored_ = false;
};

}  // namespace tarn
