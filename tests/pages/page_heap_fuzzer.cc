// SPDX-License-Identifier: Apache-2.0
//
// Fuzzes the page heap over a simulated kernel: the input chooses operations, refusals, jumps and what other threads do
// in between (page_heap_operations.h, which has the oracle).
#include <cstddef>
#include <cstdint>
#include <new>

#include "tests/fuzz/fuzzer.h"
#include "tests/pages/page_heap_operations.h"
#include "tests/pages/simulated_memory.h"

namespace {

// Choices by the input, and by chance when the input is at its end: short inputs lead far.
class Choices {
 public:
  Choices(tarn_test::Input input, std::uint64_t seed) : input_(input), random_(seed) {}
  std::uint64_t Next() { return input_.empty() ? random_.Next() : input_.Number(8); }
  std::size_t Below(std::size_t bound) { return input_.empty() ? random_.Below(bound) : input_.Below(bound); }
  bool OneIn(std::size_t bound) { return input_.empty() ? random_.OneIn(bound) : input_.OneIn(bound); }

 private:
  tarn_test::Input input_;
  tarn_test::Random random_;
};

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using tarn_test::memory;
  tarn_test::Input input(data, size);
  const std::uint64_t seed = input.Number(2);
  memory.ForgetAll(seed);
  const std::uint8_t first = input.Byte();
  memory.refusals = first % 4 == 0 ? 2 + first / 4 : 0;
  if (input.OneIn(4)) memory.address_space_limit_bytes = (std::size_t{1} << 30) + (std::size_t{input.Byte()} << 26);
  alignas(tarn::PageHeap) static unsigned char place[sizeof(tarn::PageHeap)];
  auto* const heap = ::new (place) tarn::PageHeap;
  tarn::operations_done = 0;
  tarn::PageHeapOperations<Choices> operations(*heap, Choices(input, seed));
  operations.Run(100 + size / 2);
  memory.refusals = 0;
  operations.End();
  return 0;
}
