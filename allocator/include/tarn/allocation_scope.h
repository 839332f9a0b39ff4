// SPDX-License-Identifier: Apache-2.0
//
// tarn/allocation_scope.h: how much a piece of code allocates. For C++17 and later.
//
//   tarn::AllocationScope scope;
//   Parse(input);
//   std::printf("%llu allocations, %llu bytes\n", scope.Counts().mallocs, scope.Counts().allocated_bytes);
//
//   double allocations = tarn::AllocationsPerRun(100, [&] { Parse(input); });       // as Go's testing.AllocsPerRun
//
// Counts what the whole process allocates during the scope, by malloc, operator new and their families. This is exact
// while other threads are quiet. Bytes are those of the objects, which are up to a quarter larger than the requests.
// The code in the scope is not slowed, since tarn counts anyway. Reading takes microseconds and allocates nothing.
//
// A program that includes this header need not be linked with tarn. Without it, and where nobody preloads it,
// Available() is false and all counts are zero. (A program that is linked without tarn and with -no-pie has no way to
// find a preloaded one.)
#ifndef TARN_ALLOCATION_SCOPE_H
#define TARN_ALLOCATION_SCOPE_H

#include <cstddef>
#include <cstdint>

#include <tarn/memstats.h>

namespace tarn {

namespace internal {
// A second name for tarn_memstats that may stay unresolved, and is null then; what the program itself makes of
// tarn_memstats is not changed by it.
static int MemstatsOrNull(tarn_memstats_t*, std::size_t) __attribute__((weakref("tarn_memstats")));
}  // namespace internal

// All since the construction of the scope.
struct AllocationCounts {
  std::uint64_t mallocs;
  std::uint64_t frees;
  std::uint64_t allocated_bytes;
  std::uint64_t freed_bytes;
  // Growth of the live bytes; below zero if more was freed than allocated.
  std::int64_t live_growth_bytes() const { return static_cast<std::int64_t>(allocated_bytes - freed_bytes); }
};

// May be made, read and destroyed by any thread.
class AllocationScope {
 public:
  AllocationScope() : start_(Read()) {}

  // True if the malloc of the process is tarn's.
  static bool Available() { return &internal::MemstatsOrNull != nullptr; }

  AllocationCounts Counts() const {
    const AllocationCounts now = Read();
    return {now.mallocs - start_.mallocs, now.frees - start_.frees, now.allocated_bytes - start_.allocated_bytes,
            now.freed_bytes - start_.freed_bytes};
  }

 private:
  // Since the process began; all zero without tarn.
  static AllocationCounts Read() {
    tarn_memstats_t stats = {};
    if (Available()) static_cast<void>(internal::MemstatsOrNull(&stats, sizeof stats));
    return {stats.mallocs, stats.frees, stats.total_alloc_bytes, stats.total_freed_bytes};
  }

  AllocationCounts start_;
};

// Calls `run` once, to let it fill its caches, and then `runs` times more; returns how many allocations one of these
// took in the mean. 0 without tarn, or if `runs` is 0.
template <typename Function>
double AllocationsPerRun(std::size_t runs, Function&& run) {
  run();
  const AllocationScope scope;
  for (std::size_t i = 0; i < runs; ++i) run();
  const std::uint64_t mallocs = scope.Counts().mallocs;
  return runs == 0 ? 0 : static_cast<double>(mallocs) / static_cast<double>(runs);
}

}  // namespace tarn

#endif
