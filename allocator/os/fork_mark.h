// SPDX-License-Identifier: Apache-2.0
//
// A mark that a fork wipes out: it tells the child of a fork that ran no handlers (_Fork, a bare clone) from its
// parent.
//
// A page that the kernel gives to a child as zeroes (MADV_WIPEONFORK, Linux 4.14) holds the word 1. A child that shares
// its parent's memory (vfork) shares the page and finds the mark. Reading it costs two loads, no system call.
//
//   kLaid     the process that laid the mark, or a child that was repaired
//   0         a forked child before its repair
//   kRepairs  one of its threads is at it
//
// The page is made when the process has a second thread for the first time: before that, nobody else can have been in
// the middle of anything. Where the kernel refuses, no fork without handlers is ever noticed.
#pragma once

#include <atomic>
#include <cstdint>

namespace tarn {

class ForkMark {
 public:
  constexpr ForkMark() = default;

  bool laid() const { return word_.load(std::memory_order_relaxed) != nullptr; }
  // Does nothing where it is laid already.
  void Lay();

  // This process is the child of a fork, and nobody has repaired it yet.
  bool IsWiped() const {
    const std::atomic<std::uint32_t>* word = word_.load(std::memory_order_relaxed);
    // Acquire pairs with the release in Renew: the repair is seen whole.
    return word != nullptr && word->load(std::memory_order_acquire) != kLaid;
  }
  // Of the threads that find the mark wiped, one gets true and has to Renew it; the others return after that.
  [[nodiscard]] bool BeginRepair();
  // Lays the mark anew, where there was one, and begins the next generation.
  void Renew();
  // Differs between a process and its forked children, once these have run their handlers or repairs. Never 0.
  std::uint32_t generation() const { return generation_.load(std::memory_order_relaxed) + 1; }

 private:
  static constexpr std::uint32_t kLaid = 1;
  static constexpr std::uint32_t kRepairs = 2;

  std::atomic<std::atomic<std::uint32_t>*> word_ = nullptr;
  std::atomic<std::uint32_t> generation_ = 0;
};

extern constinit ForkMark fork_mark;

}  // namespace tarn
