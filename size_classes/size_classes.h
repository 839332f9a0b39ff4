// SPDX-License-Identifier: Apache-2.0
//
// From a request to a size class, and from a class to what the allocator needs to know of it.
//
// For all rooms above; the fast path of malloc indexes the two lookup tables itself. Includes std only. Everything is
// constexpr, and the tables are constants in read-only memory. So all of it works before the first constructor has run.
// What stays true: a class returned for a request is at least as large as the request, aligned as asked, and the
// smallest such class; 0 says that there is none.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "size_classes/size_class_table.h"
#include "size_classes/spec.h"

namespace tarn {

static_assert(kSizeClassCount <= kMaxSizeClassCount);
static_assert(kSizeClasses[kSizeClassCount - 1].size_bytes == kMaxSmallBytes);
// operator new's class comes first, malloc's follow: the lookups rely on it.
static_assert(kSizeClasses[1].size_bytes == kNewOnlyBytes);
static_assert(kSizeClasses[2].size_bytes == kMallocAlignmentBytes);

inline constexpr SizeClass kNewOnlySizeClass = 1;

namespace size_classes_internal {

// Entry i is the smallest class of malloc that holds i << kShift bytes. malloc(0) takes the smallest object too.
template <std::size_t kMaxBytes, std::size_t kShift>
constexpr auto MakeLookup() {
  std::array<SizeClass, (kMaxBytes >> kShift) + 1> lookup = {};
  SizeClass size_class = kNewOnlySizeClass + 1;
  for (std::size_t i = 0; i < lookup.size(); ++i) {
    while (kSizeClasses[size_class].size_bytes < i << kShift) ++size_class;
    lookup[i] = size_class;
  }
  return lookup;
}

}  // namespace size_classes_internal

// The class of a malloc of up to kSmallLookupMaxBytes, at (bytes + 15) / 16.
inline constexpr auto kSmallSizeClasses = size_classes_internal::MakeLookup<kSmallLookupMaxBytes, kSmallLookupShift>();
// The class of a malloc above that and up to kMaxSmallBytes, at (bytes + 127) / 128. At or below
// kSmallLookupMaxBytes it answers with a class that is large enough, but not always the smallest.
inline constexpr auto kLargeSizeClasses = size_classes_internal::MakeLookup<kMaxSmallBytes, kLargeLookupShift>();
static_assert(kSmallSizeClasses.size() == 65);
static_assert(kLargeSizeClasses.size() == 2049);

constexpr std::size_t SmallLookupIndex(std::size_t bytes) { return (bytes + 15) >> kSmallLookupShift; }
constexpr std::size_t LargeLookupIndex(std::size_t bytes) { return (bytes + 127) >> kLargeLookupShift; }

// The class that malloc uses: the smallest of at least `bytes` whose objects are 16-byte aligned (malloc promises that
// for every size, 0 included). 0 above kMaxSmallBytes.
constexpr SizeClass MallocSizeClass(std::size_t bytes) {
  if (bytes <= kSmallLookupMaxBytes) return kSmallSizeClasses[SmallLookupIndex(bytes)];
  if (bytes <= kMaxSmallBytes) return kLargeSizeClasses[LargeLookupIndex(bytes)];
  return 0;
}

// The class that operator new uses: as malloc's, but an object of up to 8 bytes needs no more than 8-byte alignment.
constexpr SizeClass NewSizeClass(std::size_t bytes) {
  if (bytes <= kNewOnlyBytes) return kNewOnlySizeClass;
  return MallocSizeClass(bytes);
}

// The smallest class of at least `bytes` whose size is a multiple of `alignment`, so that every object of its spans is
// so aligned; 0 when there is none, which is always so above a page, where spans themselves are not aligned.
// `alignment` is a power of two. 0 bytes are served as 1 byte.
constexpr SizeClass AlignedSizeClass(std::size_t bytes, std::size_t alignment) {
  if (bytes > kMaxSmallBytes || alignment > kPageBytes) return 0;
  // Every class that qualifies is a multiple of the alignment, so rounding up to it loses none of them and saves steps:
  // the next power of two is among them, so only the rest of a doubling is passed (for 0 bytes more, which nobody
  // asks).
  SizeClass size_class = NewSizeClass((bytes + alignment - 1) & ~(alignment - 1));
  while ((kSizeClasses[size_class].size_bytes & (alignment - 1)) != 0) ++size_class;
  return size_class;
}

// The index of the object at `offset_bytes` of a span of the class, without a division. It is
// offset_bytes / size_bytes, rounded down, for every offset within kMaxSpanPages; so the offset is that of an object's
// start if and only if it is index * size_bytes and the index is below objects_per_span (behind the last object lies
// the tail).
//
// Why it is exact: let n be the offset and d the size in units of 8 bytes (the size is a multiple, so cutting the
// offset changes no quotient), and m = (2^31 + e) / d the reciprocal, with 0 <= e < d. Then n * m / 2^31 is
// n / d + n * e / (d * 2^31), and the quotient is right as long as the second part is below 1 / d, that is
// n * e < 2^31. n is below 2^16 in 64 pages and e is below 2^15.
constexpr std::uint32_t ObjectIndex(SizeClass size_class, std::uint32_t offset_bytes) {
  const std::uint64_t units = offset_bytes >> kObjectIndexUnitShift;
  return static_cast<std::uint32_t>((units * kSizeClasses[size_class].reciprocal) >> kReciprocalShift);
}
static_assert(((kMaxSpanPages << kPageShift) >> kObjectIndexUnitShift) * (kMaxSmallBytes >> kObjectIndexUnitShift) <=
              std::size_t{1} << kReciprocalShift);

}  // namespace tarn
