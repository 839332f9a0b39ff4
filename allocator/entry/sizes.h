// SPDX-License-Identifier: Apache-2.0
//
// Sizes of requests: their classes, their pages, and the largest one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "allocator/base/units.h"
#include "size_classes/size_classes.h"

namespace tarn {

inline constexpr std::size_t kMaxRequestBytes = PTRDIFF_MAX;

// The pages of a large object. Not below one: huge alignments make large objects of any size.
inline PageCount LargePages(std::size_t bytes) { return std::max(PageCount::FromBytesCeil(bytes), PageCount(1)); }

// 0: a large object.
inline SizeClass AlignedNewSizeClass(std::size_t bytes, std::size_t alignment) {
  return AlignedSizeClass(bytes, std::max(alignment, kMallocAlignmentBytes));
}

}  // namespace tarn
