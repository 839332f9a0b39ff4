// SPDX-License-Identifier: Apache-2.0
//
// Random operations on page heaps (page_heap_operations.h).
//
// Everything follows from the seed. `page_heap_fuzz_test SEED SEEDS OPERATIONS digest` prints a digest per thousand
// operations, over all results, figures and system calls: two versions of the page heap that behave alike print the
// same. `trace FIRST LAST` prints each operation between the two.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "allocator/pages/page_heap.h"
#include "tests/pages/page_heap_operations.h"
#include "tests/pages/simulated_memory.h"

int main(int argc, char** argv) {
  using tarn_test::memory;
  const auto number = [&](int i, std::size_t otherwise) {
    return argc > i ? static_cast<std::size_t>(std::strtoull(argv[i], nullptr, 10)) : otherwise;
  };
  const std::size_t first_seed = number(1, 1);
  const std::size_t seeds = number(2, 40);
  const std::size_t operations = number(3, 5000);
  const bool prints = argc > 4;
  tarn::trace_first = number(5, SIZE_MAX);
  tarn::trace_last = number(6, 0);
  // A page heap has no end: its memory stays in the page map.
  std::vector<std::unique_ptr<tarn::PageHeap>> heaps;
  for (tarn::seed = first_seed; tarn::seed < first_seed + seeds; ++tarn::seed) {
    tarn::operations_done = 0;
    memory.Reset(tarn::seed);
    heaps.push_back(std::make_unique<tarn::PageHeap>());
    tarn_test::Random choices(tarn::seed);
    if (choices.OneIn(4))
      memory.address_space_limit_bytes = (std::size_t{1} << 30) + choices.Below(std::size_t{1} << 34);
    tarn::PageHeapOperations<tarn_test::Random> operation(*heaps.back(), tarn_test::Random(choices.Next()));
    for (std::size_t done = 0; done < operations; done += 1000) {
      operation.Run(std::min<std::size_t>(operations - done, 1000));
      if (prints) {
        std::printf("seed %llu, %zu operations: %016llx\n", static_cast<unsigned long long>(tarn::seed),
                    tarn::operations_done, static_cast<unsigned long long>(memory.digest));
      }
    }
  }
  return 0;
}
