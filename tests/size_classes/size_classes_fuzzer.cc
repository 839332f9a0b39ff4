// SPDX-License-Identifier: Apache-2.0
//
// Fuzzes the tables of size classes. The oracle searches the rows one by one. The class of a request is the smallest
// that will do, and every object of a span is aligned as asked. An offset leads to the object that it lies in. A sized
// delete finds the class that operator new took.
#include "size_classes/size_classes.h"

#include <cstddef>
#include <cstdint>

#include "tests/fuzz/fuzzer.h"

namespace tarn {
namespace {

SizeClass Smallest(std::size_t bytes, std::size_t alignment) {
  for (int c = 1; c < kSizeClassCount; ++c) {
    const std::size_t size_bytes = kSizeClasses[c].size_bytes;
    if (size_bytes >= bytes && size_bytes % alignment == 0) return static_cast<SizeClass>(c);
  }
  return 0;
}

void CheckRequest(std::size_t bytes, std::size_t alignment) {
  const std::size_t least = bytes == 0 ? 1 : bytes;
  FUZZ_REQUIRE(MallocSizeClass(bytes) == Smallest(least, kMallocAlignmentBytes));
  FUZZ_REQUIRE(NewSizeClass(bytes) == (bytes <= kNewOnlyBytes ? kNewOnlySizeClass : MallocSizeClass(bytes)));
  const SizeClass aligned = AlignedSizeClass(bytes, alignment);
  FUZZ_REQUIRE(aligned == (alignment > kPageBytes ? SizeClass{0} : Smallest(least, alignment)));
  // The two tables of the fast path agree where both may be asked.
  if (bytes > kSmallLookupMaxBytes && bytes <= kMaxSmallBytes) {
    FUZZ_REQUIRE(kLargeSizeClasses[LargeLookupIndex(bytes)] == MallocSizeClass(bytes));
  } else if (bytes <= kSmallLookupMaxBytes) {
    FUZZ_REQUIRE(kLargeSizeClasses[LargeLookupIndex(bytes)] >= MallocSizeClass(bytes));
  }
  for (const SizeClass size_class : {MallocSizeClass(bytes), NewSizeClass(bytes), aligned}) {
    if (size_class == 0) continue;
    // Usable bytes lead to the same class, so a sized delete may have them.
    const std::size_t size_bytes = kSizeClasses[size_class].size_bytes;
    FUZZ_REQUIRE(NewSizeClass(size_bytes) == size_class);
    FUZZ_REQUIRE(AlignedSizeClass(size_bytes, 1) == size_class);
  }
}

void CheckOffset(SizeClass size_class, std::uint32_t offset_bytes) {
  const SizeClassInfo& info = kSizeClasses[size_class];
  const std::uint32_t index = ObjectIndex(size_class, offset_bytes);
  FUZZ_REQUIRE(index == offset_bytes / info.size_bytes);
  const bool is_start = index * info.size_bytes == offset_bytes && index < info.objects_per_span;
  FUZZ_REQUIRE(is_start ==
               (offset_bytes % info.size_bytes == 0 && offset_bytes + info.size_bytes <= info.span_pages * kPageBytes));
}

}  // namespace
}  // namespace tarn

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tarn_test::Input input(data, size);
  while (!input.empty()) {
    const std::size_t bytes = input.OneIn(16) ? input.Number(8) : input.Below(tarn::kMaxSmallBytes + 4096);
    tarn::CheckRequest(bytes, std::size_t{1} << input.Below(15));
    const auto size_class = static_cast<tarn::SizeClass>(1 + input.Below(tarn::kSizeClassCount - 1));
    const std::size_t span_bytes = tarn::kSizeClasses[size_class].span_pages * tarn::kPageBytes;
    tarn::CheckOffset(size_class, static_cast<std::uint32_t>(input.Below(span_bytes)));
  }
  return 0;
}
