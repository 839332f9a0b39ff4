// SPDX-License-Identifier: Apache-2.0
//
// Prints numbers of the build that the docs name, as "name value" lines, for docs_test.py.
#include <cstddef>
#include <cstdio>

#include "allocator/cpu_cache/slab.h"
#include "allocator/pages/span.h"
#include "size_classes/size_classes.h"

int main() {
  std::size_t slots = tarn::kFirstSlot;
  for (const tarn::SizeClassInfo& info : tarn::kSizeClasses) {
    const std::size_t most = info.max_cached_objects;
    slots += most <= tarn::kNearSlots ? most : tarn::kNearSlots + most;
  }
  // The one between near and far slots.
  ++slots;
  std::printf("slab_bytes %zu\n", slots * sizeof(void*));
  std::printf("slab_header_bytes %zu\n", sizeof(tarn::SlabHeader));
  std::printf("span_bytes %zu\n", sizeof(tarn::Span));
  std::printf("size_classes %d\n", tarn::kSizeClassCount);
  std::printf("page_kib %zu\n", tarn::kPageBytes / 1024);
}
