// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/stall.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <iterator>

#include "allocator/base/attributes.h"
#include "allocator/os/clock.h"

namespace tarn {

TARN_IN_TOUCHED_DATA constinit tarn_snapshot_stalls stalls = {};

void BeginStall() { thread_state.stall_start_ns = MonotonicNanoseconds(); }

void EndStall() {
  const std::uint64_t now_ns = MonotonicNanoseconds();
  const std::uint64_t ns = now_ns - std::min(now_ns, thread_state.stall_start_ns);
  thread_state.stall_start_ns = 0;
  const auto add = [](std::uint64_t& counter, std::uint64_t value) {
    std::atomic_ref<std::uint64_t>(counter).fetch_add(value, std::memory_order_relaxed);
  };
  add(stalls.count, 1);
  add(stalls.total_ns, ns);
  const auto place = static_cast<std::size_t>(std::bit_width(ns / 1000));
  add(stalls.by_time[std::min(place, std::size(stalls.by_time) - 1)], 1);
  const std::atomic_ref<std::uint64_t> longest(stalls.longest_ns);
  std::uint64_t before = longest.load(std::memory_order_relaxed);
  while (before < ns && !longest.compare_exchange_weak(before, ns, std::memory_order_relaxed)) {
  }
}

}  // namespace tarn
