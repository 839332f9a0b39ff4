// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/reservations.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "tests/pages/page_parts.h"

namespace tarn {
namespace {

using Preference = Reservations::Preference;

class ReservationsTest : public testing::Test {
 protected:
  static constexpr std::size_t kMetadataBytes = std::size_t{1} << 20;

  ReservationsTest() : block_(new std::uint64_t[kMetadataBytes / sizeof(std::uint64_t)]()) {
    metadata_.AddBlock(block_.get(), kMetadataBytes);
  }
  // `number` counts huge pages from address 0 on.
  Reservation* Add(std::size_t huge_pages, std::size_t number) {
    Reservation* const reservation = reservations_.NewRecord(huge_pages, &metadata_);
    reservation->first_page = PageId(0) + PageCount::FromHugePages(number);
    reservations_.Add(reservation);
    return reservation;
  }
  // As if it were committed and free, with that number of warm pages.
  HugePage* Commit(Reservation* reservation, std::size_t index, std::size_t warm_pages) {
    HugePage* const huge_page = &reservation->huge_pages[index];
    reservation->SetUp(huge_page);
    huge_page->committed = true;
    huge_page->zero.ClearRange(0, warm_pages);
    reservation->SetWholeFree(huge_page);
    if (warm_pages != 0) warm_.Add(huge_page);
    return huge_page;
  }
  HugePage* Find(std::size_t count, std::size_t alignment = 1, Preference preference = Preference::kShortestRun) {
    return reservations_.Find(count, alignment, preference).first;
  }
  static void Use(Reservation* reservation, std::size_t index) { reservation->SetUp(&reservation->huge_pages[index]); }

  std::unique_ptr<std::uint64_t[]> block_;
  Metadata metadata_;
  WarmPages warm_;
  Reservations reservations_;
};

TEST_F(ReservationsTest, FindsTheShortestRunThatWillDo) {
  EXPECT_EQ(Find(1), nullptr);
  Reservation* const reservation = Add(32, 64);
  EXPECT_EQ(reservations_.huge_page_count(), 32u);
  Use(reservation, 0);
  Use(reservation, 5);   // 1..4
  Use(reservation, 8);   // 6..7
  Use(reservation, 20);  // 9..19, 21..31
  EXPECT_EQ(Find(1), &reservation->huge_pages[6]);
  EXPECT_EQ(Find(3), &reservation->huge_pages[1]);
  EXPECT_EQ(Find(5), &reservation->huge_pages[9]);
  EXPECT_EQ(Find(11), &reservation->huge_pages[9]) << "the lowest of equals";
  EXPECT_EQ(Find(12), nullptr);
  EXPECT_EQ(Find(12), nullptr) << "passed by, for the bound is known";
  reservation->Clear(&reservation->huge_pages[20]);
  EXPECT_EQ(Find(12), &reservation->huge_pages[9]);
}

TEST_F(ReservationsTest, AlignmentCountsFromAddressZero) {
  Reservation* const reservation = Add(16, 67);
  EXPECT_EQ(Find(2, 4), &reservation->huge_pages[1]);
  EXPECT_EQ(Find(2, 16), &reservation->huge_pages[13]);
  EXPECT_EQ(Find(4, 16), nullptr);
}

TEST_F(ReservationsTest, ZeroOnesAndWarmOnesArePreferred) {
  Reservation* const reservation = Add(12, 64);
  Commit(reservation, 1, 5);
  Commit(reservation, 2, 5);
  Commit(reservation, 5, 5);
  Use(reservation, 7);
  EXPECT_EQ(Find(2), &reservation->huge_pages[8]);
  EXPECT_EQ(Find(2, 1, Preference::kMostWarm), &reservation->huge_pages[1]);
  EXPECT_EQ(Find(5, 1, Preference::kMostWarm), &reservation->huge_pages[1]);
  EXPECT_EQ(Find(2, 2, Preference::kMostWarm), &reservation->huge_pages[0]);
  EXPECT_EQ(Find(2, 1, Preference::kZero), &reservation->huge_pages[3]);
  EXPECT_EQ(Find(5, 1, Preference::kZero), nullptr);
}

// The last warm one may lie where no aligned place begins.
TEST_F(ReservationsTest, AnAlignedPlaceIsWhereMostAreWarm) {
  Reservation* const reservation = Add(8, 64);
  Commit(reservation, 2, 5);
  EXPECT_EQ(Find(2, 2, Preference::kMostWarm), &reservation->huge_pages[2]);
  Commit(reservation, 3, 5);
  Commit(reservation, 5, 5);
  EXPECT_EQ(Find(3, 4, Preference::kMostWarm), &reservation->huge_pages[0]);
  EXPECT_EQ(Find(4, 4, Preference::kMostWarm), &reservation->huge_pages[0]);
  Commit(reservation, 6, 5);
  Commit(reservation, 7, 5);
  EXPECT_EQ(Find(4, 4, Preference::kMostWarm), &reservation->huge_pages[4]);
}

TEST_F(ReservationsTest, KnowsWhoseAnAddressIs) {
  Reservation* const first = Add(4, 64);
  Add(4, 32);
  Commit(first, 2, 0);
  EXPECT_TRUE(reservations_.Serves(66 * kHugePageBytes + 100));
  EXPECT_FALSE(reservations_.Serves(64 * kHugePageBytes)) << "never committed";
  EXPECT_FALSE(reservations_.Serves(65 * kHugePageBytes)) << "not committed";
  EXPECT_FALSE(reservations_.Serves(68 * kHugePageBytes)) << "behind it";
  EXPECT_FALSE(reservations_.Serves(40 * kHugePageBytes));
}

TEST_F(ReservationsTest, AFullOneIsFoundAgainOnceItHasRoom) {
  Reservation* const first = Add(2, 64);
  Reservation* const second = Add(2, 32);
  for (Reservation* const reservation : {first, second}) {
    Use(reservation, 0);
    Use(reservation, 1);
  }
  for (int round = 0; round < 3; ++round) {
    // The first search looks, the second passes by.
    EXPECT_EQ(Find(1), nullptr);
    EXPECT_EQ(Find(1), nullptr);
    EXPECT_FALSE(first->is_listed_with_room);
    EXPECT_FALSE(second->is_listed_with_room);
    first->Clear(&first->huge_pages[1]);
    EXPECT_EQ(Find(1), &first->huge_pages[1]);
    second->Clear(&second->huge_pages[0]);
    Use(first, 1);
    EXPECT_EQ(Find(1), &second->huge_pages[0]);
    EXPECT_EQ(Find(2), nullptr);
    Use(second, 0);
  }
}

TEST_F(ReservationsTest, RecordsOfWhatWentServeAgain) {
  Reservation* const large = Add(64, 64);
  Reservation* const small = Add(4, 256);
  reservations_.Shrink(large, 0);
  reservations_.Shrink(small, 1);
  reservations_.RemoveEmpty();
  EXPECT_EQ(reservations_.huge_page_count(), 1u);
  EXPECT_EQ(reservations_.first(), small);
  EXPECT_EQ(small->next, nullptr);
  EXPECT_EQ(Find(1), &small->huge_pages[0]);
  EXPECT_EQ(Find(2), nullptr);
  const std::size_t used_bytes = metadata_.used_bytes();
  Reservation* const again = Add(40, 512);
  EXPECT_EQ(again, large);
  EXPECT_EQ(again->tracker_capacity, 64u);
  EXPECT_EQ(metadata_.used_bytes(), used_bytes);
  EXPECT_EQ(Find(40), &again->huge_pages[0]);
}

TEST_F(ReservationsTest, AWalkSeesEachPackedHugePageOnce) {
  Reservation* const first = Add(4, 64);
  Reservation* const second = Add(3, 128);
  Use(first, 0);
  Use(first, 3);
  Use(second, 1);
  std::size_t seen = 0;
  bool end = false;
  Reservations::Walk walk;
  while (!end) seen += reservations_.NextPacked(&walk, &end) != nullptr ? 1 : 0;
  EXPECT_EQ(seen, 0u) << "none is packed yet";
  first->huge_pages[0].state = first->huge_pages[3].state = second->huge_pages[1].state = HugePageState::kPacked;
  for (int round = 0; round < 2; ++round) {
    seen = 0;
    for (end = false; !end;) seen += reservations_.NextPacked(&walk, &end) != nullptr ? 1 : 0;
    EXPECT_EQ(seen, 3u);
  }
}

}  // namespace
}  // namespace tarn
