// SPDX-License-Identifier: Apache-2.0
//
// The allocator's own memory: a bump allocator, and records that are used again.

#include "allocator/pages/metadata.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

namespace tarn {
namespace {

class MetadataTest : public testing::Test {
 protected:
  // Zero-filled, at an odd multiple of 64 bytes.
  void* NewBlock(std::size_t bytes) {
    blocks_.push_back(std::make_unique<Line[]>(bytes / sizeof(Line) + 1));
    return blocks_.back()[0].bytes;
  }

  Metadata metadata_;

 private:
  struct alignas(64) Line {
    unsigned char bytes[64] = {};
  };
  std::vector<std::unique_ptr<Line[]>> blocks_;
};

TEST_F(MetadataTest, HasNothingAtFirst) {
  EXPECT_FALSE(metadata_.Fits(1, 1));
  EXPECT_EQ(metadata_.Allocate(1, 1), nullptr);
  EXPECT_EQ(metadata_.NewSpan(0), nullptr);
  EXPECT_EQ(metadata_.used_bytes(), 0u);
  EXPECT_EQ(metadata_.block_bytes(), 0u);
}

TEST_F(MetadataTest, HandsOutDisjointAlignedZeroes) {
  constexpr std::size_t kBytes = 64 * 1024;
  auto* const block = static_cast<unsigned char*>(NewBlock(kBytes));
  metadata_.AddBlock(block, kBytes);
  EXPECT_EQ(metadata_.block_bytes(), kBytes);
  unsigned char* end_before = block;
  unsigned char* start_of_pages = block + kBytes;
  std::size_t used_bytes = 0;
  for (std::size_t i = 0;; ++i) {
    const std::size_t bytes = 1 + i * 37 % 700;
    const std::size_t alignment = std::size_t{1} << (i % 13);
    const bool fits = metadata_.Fits(bytes, alignment);
    auto* const memory = static_cast<unsigned char*>(metadata_.Allocate(bytes, alignment));
    ASSERT_EQ(fits, memory != nullptr);
    if (memory == nullptr) break;
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(memory) % alignment, 0u);
    ASSERT_GE(memory, end_before);
    ASSERT_LE(memory + bytes, start_of_pages);
    ASSERT_TRUE(std::all_of(memory, memory + bytes, [](unsigned char byte) { return byte == 0; }));
    std::fill(memory, memory + bytes, static_cast<unsigned char>(0xFF));
    // Whole pages come from the block's end.
    (alignment == Metadata::kFromEndAlignment ? start_of_pages : end_before) =
        alignment == Metadata::kFromEndAlignment ? memory : memory + bytes;
    used_bytes += bytes;
    ASSERT_EQ(metadata_.used_bytes(), used_bytes);
  }
  EXPECT_GT(used_bytes, kBytes / 4);
}

TEST_F(MetadataTest, FitsExactlyWhatIsLeft) {
  metadata_.AddBlock(NewBlock(1024), 1024);
  EXPECT_TRUE(metadata_.Fits(1024, 64));
  EXPECT_FALSE(metadata_.Fits(1025, 1));
  EXPECT_FALSE(metadata_.Fits(SIZE_MAX, 1));
  EXPECT_NE(metadata_.Allocate(1024, 64), nullptr);
  EXPECT_TRUE(metadata_.Fits(0, 1));
  EXPECT_FALSE(metadata_.Fits(1, 1));
  EXPECT_EQ(metadata_.Allocate(1, 1), nullptr);
}

TEST_F(MetadataTest, ANewBlockTakesOver) {
  metadata_.AddBlock(NewBlock(256), 256);
  EXPECT_NE(metadata_.Allocate(200, 8), nullptr);
  void* const block = NewBlock(512);
  metadata_.AddBlock(block, 512);
  EXPECT_EQ(metadata_.Allocate(300, 8), block);
  EXPECT_EQ(metadata_.block_bytes(), 768u);
  EXPECT_EQ(metadata_.used_bytes(), 500u);
}

TEST_F(MetadataTest, ASpanRecordHoldsABitPerObject) {
  EXPECT_EQ(Span::RecordUnits(0), 1u);
  EXPECT_EQ(Span::RecordUnits(128), 1u);
  EXPECT_EQ(Span::RecordUnits(129), 2u);
  for (int c = 1; c < kSizeClassCount; ++c) {
    const std::size_t objects = kSizeClasses[c].objects_per_span;
    const std::size_t units = Span::RecordUnits(objects);
    EXPECT_GE(units * Span::kRecordUnitBytes, sizeof(Span) + (objects + 63) / 64 * 8);
    EXPECT_LE(units, kMaxSpanRecordUnits);
  }
}

TEST_F(MetadataTest, RecordsOfSpansAreUsedAgainBySize) {
  metadata_.AddBlock(NewBlock(64 * 1024), 64 * 1024);
  std::set<Span*> small;
  std::set<Span*> large;
  for (int i = 0; i < 20; ++i) {
    Span* a = metadata_.NewSpan(8);
    Span* b = metadata_.NewSpan(1024);
    ASSERT_TRUE(a != nullptr && b != nullptr);
    EXPECT_EQ(a->kind, SpanKind::kFree);
    EXPECT_EQ(a->record_units, Span::RecordUnits(8));
    EXPECT_EQ(b->record_units, Span::RecordUnits(1024));
    // The whole record is theirs.
    b->object_count = 1024;
    std::fill(b->free_bits(), b->free_bits() + b->word_count(), ~std::uint64_t{0});
    small.insert(a);
    large.insert(b);
  }
  const std::size_t used_bytes = metadata_.used_bytes();
  EXPECT_EQ(used_bytes, 20 * (Span::RecordUnits(8) + Span::RecordUnits(1024)) * Span::kRecordUnitBytes);
  for (Span* span : small) {
    span->kind = SpanKind::kSmall;
    span->object_count = 8;
    span->live_objects = 3;
    metadata_.DeleteSpan(span);
    EXPECT_EQ(span->kind, SpanKind::kFree);
  }
  for (int i = 0; i < 20; ++i) {
    Span* span = metadata_.NewSpan(8);
    EXPECT_EQ(small.erase(span), 1u);
    EXPECT_EQ(span->object_count, 0u);
    EXPECT_EQ(span->live_objects, 0u);
    EXPECT_FALSE(span->linked());
  }
  EXPECT_EQ(metadata_.used_bytes(), used_bytes);
  EXPECT_EQ(large.count(metadata_.NewSpan(8)), 0u);
}

}  // namespace
}  // namespace tarn
