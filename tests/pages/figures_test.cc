// SPDX-License-Identifier: Apache-2.0
//
// Each figure against the parts that it is read from. The numbers all differ, so that no field can stand for another.

#include "allocator/pages/figures.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

#include "tests/pages/page_parts.h"

namespace tarn {
namespace {

using tarn_test::FakeReservation;

class FiguresTest : public testing::Test {
 protected:
  // Of eight reserved huge pages five are committed: three are free, two partly in use. The metadata has as much
  // as one, between pages without access.
  FiguresTest() {
    metadata_.AddBlock(metadata_source_.Take(kHugePageBytes, true), kHugePageBytes);
    Reservation* const reservation = reservations_.NewRecord(8, &metadata_);
    reservation->first_page = PageId(0) + PageCount::FromHugePages(512);
    reservations_.Add(reservation);
    span_ = metadata_.NewSpan(100);
    for (std::size_t i = 0; i < 5; ++i) {
      free_.AddCommitted(pages_[i]);
      free_.PutWhole(pages_[i]);
    }
    UseOf(pages_[0], 200);
    UseOf(pages_[1], 56);
    // Seven of these pages are free again, and warm.
    static_cast<void>(free_.Free(pages_[0], 10, 7, false, 1));
    free_.SetBacking(pages_[0], Backing::kHuge);
    free_.SetBacking(pages_[1], Backing::kHuge);
    free_.SetBacking(pages_[2], Backing::kAsked);
    usage_.Use(PageCount(249));
    usage_.AddLarge(PageCount(40));
    usage_.AddLarge(PageCount(30));
    usage_.RemoveLarge(PageCount(30));
    usage_.AddLarge(PageCount(20));
    usage_.AddMappedObject(PageCount(600));
    static_cast<void>(usage_.UpdatePeak());
    usage_.ResizeMapped(PageCount(600), PageCount(500));
    usage_.NoteReleased(12345);
  }

  FigureSources sources() const { return {reservations_, free_, metadata_source_, metadata_, usage_}; }

  static constexpr std::size_t kGuardBytes = std::size_t{128} << 10;

  FakeReservation pages_{5};
  MetadataSource metadata_source_;
  Metadata metadata_;
  Reservations reservations_;
  FreePages free_;
  Usage usage_;
  Span* span_ = nullptr;

 private:
  void UseOf(HugePage* page, std::size_t count) {
    free_.RemoveWhole(page);
    page->state = HugePageState::kPacked;
    EXPECT_EQ(free_.Use(page, 0, count), count);
  }
};

TEST_F(FiguresTest, StatsAreThoseOfTheParts) {
  const PageHeapStats stats = ReadStats(sources());
  EXPECT_EQ(stats.reserved_bytes, 9 * kHugePageBytes + kGuardBytes);
  EXPECT_EQ(stats.metadata_block_bytes, kHugePageBytes);
  EXPECT_EQ(stats.metadata_used_bytes, metadata_.used_bytes());
  EXPECT_GT(stats.metadata_used_bytes, 0u);
  EXPECT_EQ(stats.in_use_bytes, 249 * kPageBytes);
  EXPECT_EQ(stats.free_warm_bytes, 7 * kPageBytes);
  EXPECT_EQ(stats.free_zero_bytes, 5 * kHugePageBytes - 256 * kPageBytes);
  EXPECT_EQ(stats.uncommitted_bytes, 3 * kHugePageBytes + kGuardBytes);
  EXPECT_EQ(stats.mapped_bytes, 500 * kPageBytes);
  EXPECT_EQ(stats.large_bytes, 560 * kPageBytes) << "in reservations and in mappings of their own";
  EXPECT_EQ(stats.large_objects, 3u);
  EXPECT_EQ(stats.large_allocations_total, 4u);
  EXPECT_EQ(stats.whole_free_huge_pages, 3u);
  EXPECT_EQ(stats.released_bytes_total, 12345u);
  EXPECT_EQ(stats.untouched_bytes, 0u) << "filled in by the page heap";
}

TEST_F(FiguresTest, StatsAddUpToWhatIsReserved) {
  const PageHeapStats stats = ReadStats(sources());
  EXPECT_EQ(stats.metadata_block_bytes + stats.in_use_bytes + stats.free_warm_bytes + stats.free_zero_bytes +
                stats.uncommitted_bytes,
            stats.reserved_bytes);
}

TEST_F(FiguresTest, PublishedOnesAreThoseOfTheParts) {
  tarn_snapshot_pages pages = {};
  PublishFigures(sources(), &pages);
  EXPECT_EQ(pages.reserved_bytes, 9 * kHugePageBytes + kGuardBytes);
  EXPECT_EQ(pages.committed_bytes, 6 * kHugePageBytes) << "the metadata's included";
  EXPECT_EQ(pages.huge_pages, 5u) << "the metadata's not";
  EXPECT_EQ(pages.in_use_bytes, 249 * kPageBytes);
  EXPECT_EQ(pages.large_bytes, 60 * kPageBytes) << "in reservations only";
  EXPECT_EQ(pages.mapped_bytes, 500 * kPageBytes);
  EXPECT_EQ(pages.free_bytes, 5 * kHugePageBytes - 249 * kPageBytes);
  EXPECT_EQ(pages.free_zero_bytes, 5 * kHugePageBytes - 256 * kPageBytes);
  EXPECT_EQ(pages.metadata_block_bytes, kHugePageBytes);
  EXPECT_EQ(pages.span_record_bytes, metadata_.span_bytes());
  EXPECT_GT(pages.span_record_bytes, 0u);
  EXPECT_EQ(pages.large_objects, 3u);
  EXPECT_EQ(pages.large_allocations, 4u);
  EXPECT_EQ(pages.large_allocated_bytes, pages.large_freed_bytes + 560 * kPageBytes);
  EXPECT_EQ(pages.large_freed_bytes, usage_.large_freed_bytes_total());
  EXPECT_EQ(pages.whole_free_huge_pages, 3u);
  EXPECT_EQ(pages.released_bytes, 12345u);
  EXPECT_EQ(pages.peak_in_use_bytes, 849 * kPageBytes) << "as of the last update of the peak";
  EXPECT_EQ(pages.backed_huge_pages, 2u);
  EXPECT_EQ(pages.asked_huge_pages, 1u);
  for (const std::uint64_t reserved : pages.reserved) EXPECT_EQ(reserved, 0u);
}

TEST_F(FiguresTest, MetadataIsPublishedByKind) {
  static_cast<void>(metadata_.Allocate(300, 1, MetadataKind::kOther));
  tarn_snapshot_pages pages = {};
  PublishFigures(sources(), &pages);
  std::uint64_t sum_bytes = 0;
  for (std::size_t kind = 0; kind < TARN_METADATA_KINDS; ++kind) {
    EXPECT_EQ(pages.metadata_bytes[kind], metadata_.used_bytes(static_cast<MetadataKind>(kind)));
    sum_bytes += pages.metadata_bytes[kind];
  }
  EXPECT_EQ(sum_bytes, ReadStats(sources()).metadata_used_bytes);
  // A record that is used again stays handed out, and its span is gone.
  metadata_.DeleteSpan(span_);
  PublishFigures(sources(), &pages);
  EXPECT_EQ(pages.span_record_bytes, 0u);
}

TEST_F(FiguresTest, EachPublicationIsAnEvenNumberAndReplacesTheLast) {
  tarn_snapshot_pages pages = {};
  PublishFigures(sources(), &pages);
  EXPECT_EQ(pages.sequence, 2u);
  usage_.NoteReleased(55);
  PublishFigures(sources(), &pages);
  EXPECT_EQ(pages.sequence, 4u);
  EXPECT_EQ(pages.released_bytes, 12400u);
}

}  // namespace
}  // namespace tarn
