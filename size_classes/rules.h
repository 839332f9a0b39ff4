// SPDX-License-Identifier: Apache-2.0
//
// The rules by which the table follows from the spec: which sizes there are, how long their spans are, and the rest of
// a row.
//
// For the generator and the comparison of other choices, never for the allocator, which sees only the table.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "size_classes/spec.h"

namespace tarn {

// The choices that may differ; the defaults are those of the spec.
struct SizeRules {
  std::size_t fine_limit_bytes = kFineLimitBytes;
  std::size_t steps_per_doubling = kStepsPerDoubling;
  std::span<const std::size_t> extra_sizes_bytes = kExtraSizesBytes;
};

struct SpanRules {
  std::size_t min_objects = kMinObjectsPerSpan;
  std::uint32_t max_tail_waste_milli = kMaxTailWasteMilli;
};

// The sizes of a table without class 0, in increasing order. More than kMaxSizeClassCount may be tried, not committed.
struct SizeList {
  std::array<std::size_t, 256> bytes = {};
  std::size_t count = 0;
};

// 8, every multiple of 16 up to the fine limit (a power of two), equal steps from each power of two to the next one,
// and the extra sizes. Every power of two is among them, which alignments need. Steps that do not fit the granularity
// of the lookup tables are rounded up to it.
constexpr SizeList ChooseSizes(const SizeRules& rules) {
  SizeList sizes;
  sizes.bytes[sizes.count++] = kNewOnlyBytes;
  for (std::size_t size = kMallocAlignmentBytes; size <= rules.fine_limit_bytes; size += kMallocAlignmentBytes) {
    sizes.bytes[sizes.count++] = size;
  }
  for (std::size_t base = rules.fine_limit_bytes; base < kMaxSmallBytes; base *= 2) {
    for (std::size_t step = 1; step <= rules.steps_per_doubling; ++step) {
      const std::size_t size = base + base * step / rules.steps_per_doubling;
      const std::size_t unit = std::size_t{1} << (size <= kSmallLookupMaxBytes ? kSmallLookupShift : kLargeLookupShift);
      sizes.bytes[sizes.count++] = (size + unit - 1) & ~(unit - 1);
    }
  }
  for (const std::size_t size : rules.extra_sizes_bytes) sizes.bytes[sizes.count++] = size;
  const auto end = sizes.bytes.begin() + static_cast<std::ptrdiff_t>(sizes.count);
  std::sort(sizes.bytes.begin(), end);
  sizes.count = static_cast<std::size_t>(std::unique(sizes.bytes.begin(), end) - sizes.bytes.begin());
  return sizes;
}

// The shortest span that has enough objects and a small tail, or 0 where none is. Enough are min_objects up to
// kManyObjectsMaxBytes, and above as many as fit into min_objects of that size, but at least one.
constexpr std::size_t ChooseSpanPages(std::size_t size_bytes, const SpanRules& rules) {
  const std::size_t enough = size_bytes <= kManyObjectsMaxBytes
                                 ? rules.min_objects
                                 : std::max<std::size_t>(1, rules.min_objects * kManyObjectsMaxBytes / size_bytes);
  for (std::size_t pages = 1; pages <= kMaxSpanPages; ++pages) {
    const std::size_t span_bytes = pages * kPageBytes;
    if (span_bytes / size_bytes < enough) continue;
    if (span_bytes % size_bytes * 1000 <= rules.max_tail_waste_milli * span_bytes) return pages;
  }
  return 0;
}

constexpr std::size_t BatchObjects(std::size_t size_bytes) {
  return std::clamp(kBatchBytes / size_bytes, kMinBatchObjects, kMaxBatchObjects);
}

constexpr std::size_t MaxCachedObjects(std::size_t size_bytes) {
  return std::clamp(kMaxCachedBytes / size_bytes, kMinMaxCachedObjects, kMaxMaxCachedObjects);
}

constexpr std::uint32_t Reciprocal(std::size_t size_bytes) {
  const std::uint64_t units = size_bytes >> kObjectIndexUnitShift;
  return static_cast<std::uint32_t>(((std::uint64_t{1} << kReciprocalShift) + units - 1) / units);
}

}  // namespace tarn
