// SPDX-License-Identifier: Apache-2.0
//
// Shared by the files of this suite: how an object is used, and how a result is counted.
//
// Every benchmark reports items per second, and an item is one allocation with its free. Single-threaded ones are rated
// by the CPU time of the thread, those with several threads by wall time.
#pragma once

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace micro {

// One byte is written, as a program would: an allocator that hands out cold or unmapped memory pays for it here.
inline void* Use(void* object) {
  if (object == nullptr) [[unlikely]] {
    std::fputs("micro: the allocator returned null\n", stderr);
    std::abort();
  }
  *static_cast<volatile char*>(object) = 1;
  return object;
}

inline std::size_t Argument(const benchmark::State& state, std::size_t index = 0) {
  return static_cast<std::size_t>(state.range(index));
}

inline void CountItems(benchmark::State& state, std::size_t items_per_iteration) {
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(items_per_iteration));
}

}  // namespace micro
