// SPDX-License-Identifier: Apache-2.0
//
// Holds the table of size classes to its spec, and the lookups to what a plain search of the table says: exhaustively,
// for every request size, every alignment and every offset in a span.

#include "size_classes/size_classes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace tarn {
namespace {

// The oracle: the first class of the table, in order of size, that is large enough and a multiple of the alignment.
SizeClass FindClass(std::size_t bytes, std::size_t alignment) {
  for (int i = 1; i < kSizeClassCount; ++i) {
    const std::size_t size_bytes = kSizeClasses[i].size_bytes;
    if (size_bytes >= bytes && size_bytes % alignment == 0) return static_cast<SizeClass>(i);
  }
  return 0;
}

// Sizes beyond the table, up to the largest there is.
constexpr std::size_t kTooLargeBytes[] = {kMaxSmallBytes + 1,
                                          kMaxSmallBytes + 128,
                                          2 * kMaxSmallBytes,
                                          std::size_t{1} << 32,
                                          (std::size_t{1} << 32) + 16,
                                          std::numeric_limits<std::size_t>::max() / 2,
                                          std::numeric_limits<std::size_t>::max() - 127,
                                          std::numeric_limits<std::size_t>::max() - 14,
                                          std::numeric_limits<std::size_t>::max()};

// The lookups are constant expressions, in which an index beyond a table does not compile.
static_assert(MallocSizeClass(0) == 2 && NewSizeClass(0) == 1 && AlignedSizeClass(0, 8) == 1);
static_assert(MallocSizeClass(kMaxSmallBytes) == kSizeClassCount - 1);
static_assert(MallocSizeClass(kMaxSmallBytes + 1) == 0 && NewSizeClass(kMaxSmallBytes + 1) == 0);
static_assert(AlignedSizeClass(kMaxSmallBytes + 1, 1) == 0 && AlignedSizeClass(kMaxSmallBytes - 1, kPageBytes) != 0);
static_assert(ObjectIndex(2, 17) == 1);

TEST(SizeClassTable, ClassZeroIsNoSmallObject) {
  EXPECT_EQ(kSizeClasses[0].size_bytes, 0u);
  EXPECT_EQ(kSizeClasses[0].span_pages, 0u);
  EXPECT_EQ(kSizeClasses[0].objects_per_span, 0u);
  EXPECT_EQ(kSizeClasses[0].batch_objects, 0u);
  EXPECT_EQ(kSizeClasses[0].max_cached_objects, 0u);
  EXPECT_EQ(kSizeClasses[0].reciprocal, 0u);
}

TEST(SizeClassTable, SizesIncreaseInTheGranularityOfTheLookups) {
  EXPECT_LE(kSizeClassCount, 96);
  EXPECT_EQ(kSizeClasses[kSizeClassCount - 1].size_bytes, kMaxSmallBytes);
  EXPECT_EQ(kSizeClasses[1].size_bytes, 8u);
  for (int i = 2; i < kSizeClassCount; ++i) {
    const std::size_t size_bytes = kSizeClasses[i].size_bytes;
    EXPECT_GT(size_bytes, kSizeClasses[i - 1].size_bytes);
    EXPECT_EQ(size_bytes % 16, 0u) << size_bytes;
    if (size_bytes > kSmallLookupMaxBytes) {
      EXPECT_EQ(size_bytes % 128, 0u) << size_bytes;
    }
  }
}

TEST(SizeClassTable, EveryPowerOfTwoIsAClass) {
  for (std::size_t size_bytes = 8; size_bytes <= kMaxSmallBytes; size_bytes *= 2) {
    EXPECT_EQ(kSizeClasses[NewSizeClass(size_bytes)].size_bytes, size_bytes);
  }
}

TEST(SizeClassTable, SpansHoldWhatTheySay) {
  for (int i = 1; i < kSizeClassCount; ++i) {
    const SizeClassInfo& info = kSizeClasses[i];
    SCOPED_TRACE(info.size_bytes);
    const std::size_t span_bytes = info.span_pages * kPageBytes;
    EXPECT_GE(info.span_pages, 1u);
    EXPECT_LE(info.span_pages, kMaxSpanPages);
    EXPECT_EQ(info.objects_per_span, span_bytes / info.size_bytes);
    EXPECT_LE(info.objects_per_span, info.size_bytes == 8 ? kMaxNewOnlyObjectsPerSpan : kMaxObjectsPerSpan);
    EXPECT_LE(span_bytes % info.size_bytes * 1000, span_bytes * kMaxTailWasteMilli);
    if (info.size_bytes <= kManyObjectsMaxBytes) {
      EXPECT_GE(info.objects_per_span, kMinObjectsPerSpan);
    } else {
      EXPECT_GE((info.objects_per_span + 1u) * info.size_bytes, kMinLargeSpanBytes);
    }
  }
  EXPECT_LE(kMaxNewOnlyObjectsPerSpan, 1024u);
  EXPECT_LE(kMaxObjectsPerSpan, 512u);
  EXPECT_LE(kMaxTailWasteMilli, 60u);
}

TEST(SizeClassTable, BatchesAndCachesAreBounded) {
  std::size_t max_cached_objects = 0;
  for (int i = 1; i < kSizeClassCount; ++i) {
    const SizeClassInfo& info = kSizeClasses[i];
    SCOPED_TRACE(info.size_bytes);
    EXPECT_GE(info.batch_objects, 2u);
    EXPECT_LE(info.batch_objects, 64u);
    EXPECT_LE(info.batch_objects, info.max_cached_objects / 2u);
    EXPECT_GE(info.max_cached_objects, 4u);
    EXPECT_LE(info.max_cached_objects, 4096u);
    if (info.batch_objects > 2) {
      EXPECT_LE(info.batch_objects * info.size_bytes, 32768u);
    }
    if (info.max_cached_objects > 4) {
      EXPECT_LE(info.max_cached_objects * info.size_bytes, 131072u);
    }
    max_cached_objects += info.max_cached_objects;
  }
  EXPECT_LT(max_cached_objects, kMaxCachedObjectsOfAllClasses);
}

// Measured on the answers of MallocSizeClass, not on the table, so that a lookup that wastes is seen as well.
TEST(SizeClassTable, InternalWasteIsBounded) {
  std::uint64_t worst_waste_milli = 0;
  double sum_of_waste = 0;
  std::size_t bytes = kWasteBoundFromBytes + 1;
  while (bytes <= kMaxSmallBytes) {
    // Over the request sizes that get the same class.
    const SizeClass size_class = MallocSizeClass(bytes);
    const std::uint64_t size_bytes = kSizeClasses[size_class].size_bytes;
    std::uint64_t requests = 0;
    std::uint64_t wasted_bytes = 0;
    for (; bytes <= kMaxSmallBytes && MallocSizeClass(bytes) == size_class; ++bytes) {
      ASSERT_GE(size_bytes, bytes);
      const std::uint64_t waste_bytes = size_bytes - bytes;
      EXPECT_LE(waste_bytes * 1000, size_bytes * kMaxWorstInternalWasteMilli) << bytes;
      worst_waste_milli = std::max(worst_waste_milli, waste_bytes * 1000 / size_bytes);
      sum_of_waste += static_cast<double>(waste_bytes) / static_cast<double>(size_bytes);
      wasted_bytes += waste_bytes;
      ++requests;
    }
    EXPECT_LE(wasted_bytes * 1000, requests * size_bytes * kMaxMeanInternalWasteMilli) << size_bytes;
  }
  RecordProperty("worst_waste_milli", static_cast<int>(worst_waste_milli));
  RecordProperty("mean_waste_milli",
                 static_cast<int>(1000 * sum_of_waste / static_cast<double>(kMaxSmallBytes - kWasteBoundFromBytes)));
  EXPECT_LE(kMaxWorstInternalWasteMilli, 200u);
  EXPECT_LE(kMaxMeanInternalWasteMilli, 125u);
}

TEST(SizeClassLookup, MallocTakesTheSmallestClassOf16ByteAlignment) {
  for (std::size_t bytes = 0; bytes <= kMaxSmallBytes; ++bytes) {
    ASSERT_EQ(MallocSizeClass(bytes), FindClass(bytes, 16)) << bytes;
  }
  for (const std::size_t bytes : kTooLargeBytes) EXPECT_EQ(MallocSizeClass(bytes), 0) << bytes;
}

TEST(SizeClassLookup, NewTakesThe8ByteClassUpTo8BytesAndElseMallocs) {
  for (std::size_t bytes = 0; bytes <= kMaxSmallBytes; ++bytes) {
    ASSERT_EQ(NewSizeClass(bytes), FindClass(bytes, bytes <= 8 ? 8 : 16)) << bytes;
  }
  for (const std::size_t bytes : kTooLargeBytes) EXPECT_EQ(NewSizeClass(bytes), 0) << bytes;
}

// The fast path of malloc indexes the tables itself.
TEST(SizeClassLookup, TablesAnswerAsTheFastPathReadsThem) {
  ASSERT_EQ(kSmallLookupMaxBytes, 1024u);
  for (std::size_t bytes = 0; bytes <= 1024; ++bytes) {
    ASSERT_EQ(kSmallSizeClasses[(bytes + 15) / 16], FindClass(bytes, 16)) << bytes;
  }
  for (std::size_t bytes = 1025; bytes <= kMaxSmallBytes; ++bytes) {
    ASSERT_EQ(kLargeSizeClasses[(bytes + 127) / 128], FindClass(bytes, 16)) << bytes;
  }
  // Below, the large table may be coarse, but never too small nor unaligned.
  for (std::size_t bytes = 0; bytes <= 1024; ++bytes) {
    const SizeClassInfo& info = kSizeClasses[kLargeSizeClasses[(bytes + 127) / 128]];
    ASSERT_GE(info.size_bytes, bytes);
    ASSERT_EQ(info.size_bytes % 16, 0u);
  }
}

TEST(SizeClassLookup, AlignedTakesTheSmallestClassThatIsAMultiple) {
  for (std::size_t alignment = 1; alignment <= kPageBytes; alignment *= 2) {
    for (std::size_t bytes = 0; bytes <= kMaxSmallBytes; ++bytes) {
      ASSERT_EQ(AlignedSizeClass(bytes, alignment), FindClass(bytes, alignment)) << bytes << " at " << alignment;
    }
    for (const std::size_t bytes : kTooLargeBytes) EXPECT_EQ(AlignedSizeClass(bytes, alignment), 0) << bytes;
  }
}

TEST(SizeClassLookup, AlignedHasNoClassAboveAPage) {
  for (std::size_t alignment = 2 * kPageBytes; alignment != 0; alignment *= 2) {
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, kPageBytes, 2 * kPageBytes, kMaxSmallBytes}) {
      EXPECT_EQ(AlignedSizeClass(bytes, alignment), 0) << bytes << " at " << alignment;
    }
  }
}

// The request rounded up to its alignment is what any allocator has to give; a class adds at most a third to that, and
// never goes beyond the next power of two.
TEST(SizeClassLookup, AlignedDoesNotWasteGrossly) {
  for (std::size_t alignment = 16; alignment <= kPageBytes; alignment *= 2) {
    for (std::size_t bytes = 1; bytes <= kMaxSmallBytes; ++bytes) {
      const std::size_t rounded_bytes = (bytes + alignment - 1) / alignment * alignment;
      const std::size_t size_bytes = kSizeClasses[AlignedSizeClass(bytes, alignment)].size_bytes;
      ASSERT_LE(size_bytes, std::bit_ceil(rounded_bytes)) << bytes << " at " << alignment;
      ASSERT_LE(size_bytes * 3, rounded_bytes * 4) << bytes << " at " << alignment;
    }
  }
}

TEST(ObjectIndex, IsExactForEveryOffsetOfASpan) {
  for (int i = 1; i < kSizeClassCount; ++i) {
    const SizeClassInfo& info = kSizeClasses[i];
    const auto span_bytes = static_cast<std::uint32_t>(info.span_pages * kPageBytes);
    for (std::uint32_t offset_bytes = 0; offset_bytes < span_bytes; ++offset_bytes) {
      ASSERT_EQ(ObjectIndex(static_cast<SizeClass>(i), offset_bytes), offset_bytes / info.size_bytes)
          << offset_bytes << " in a span of " << info.size_bytes;
    }
  }
}

// The proof in the comment at ObjectIndex, for the longest span there may be, whatever the class.
TEST(ObjectIndex, IsExactUpToTheLongestSpan) {
  for (int i = 1; i < kSizeClassCount; ++i) {
    const std::uint32_t size_bytes = kSizeClasses[i].size_bytes;
    for (std::uint32_t offset_bytes = 0; offset_bytes < kMaxSpanPages * kPageBytes; ++offset_bytes) {
      ASSERT_EQ(ObjectIndex(static_cast<SizeClass>(i), offset_bytes), offset_bytes / size_bytes)
          << offset_bytes << " in a span of " << size_bytes;
    }
  }
}

}  // namespace
}  // namespace tarn
