// SPDX-License-Identifier: Apache-2.0
//
// The invariants of the page heap, counted anew. Slow; for tests.
#include "allocator/base/check.h"
#include "allocator/pages/page_heap.h"

namespace tarn {

namespace {

struct Sums {
  std::size_t used_pages = 0;
  std::size_t warm_bytes = 0;
  std::size_t refused_bytes = 0;
  std::size_t committed = 0;
  std::size_t whole_free_committed = 0;
  std::size_t free_pages = 0;
  std::size_t zero_pages = 0;
  std::size_t ahead_pages = 0;
  std::size_t huge_backed = 0;
  std::size_t asked = 0;
};

// A committed huge page.
void CheckOne(const HugePage& huge_page, bool whole_free, const Packing& packing, Sums* sums) {
  TARN_CHECK(huge_page.free_pages == huge_page.free.Count());
  TARN_CHECK(huge_page.backing == Backing::kSmall || huge_page.zero.Count() == 0);
  TARN_CHECK(huge_page.zero.AndNot(huge_page.free).Count() == 0);
  TARN_CHECK(huge_page.idle.AndNot(huge_page.free).Count() == 0);
  TARN_CHECK(whole_free == (huge_page.free_pages == kPagesPerHugePage));
  TARN_CHECK(whole_free == (huge_page.state == HugePageState::kWholeFree));
  TARN_CHECK(huge_page.ahead_pages <= huge_page.warm_pages());
  if (whole_free) {
    TARN_CHECK(huge_page.linked() == (huge_page.warm_pages() != 0));
    (huge_page.refused_at_ms != 0 ? sums->refused_bytes : sums->warm_bytes) +=
        PageCount(huge_page.warm_pages()).bytes();
  } else {
    TARN_CHECK(huge_page.longest_free_run == huge_page.free.LongestRun());
    TARN_CHECK(huge_page.linked() == (huge_page.longest_free_run != 0));
    TARN_CHECK(huge_page.longest_free_run == 0 || packing.has_run_of(huge_page.longest_free_run));
  }
  sums->huge_backed += huge_page.backing == Backing::kHuge ? 1 : 0;
  sums->asked += huge_page.backing == Backing::kAsked ? 1 : 0;
  sums->used_pages += kPagesPerHugePage - huge_page.free_pages;
  sums->free_pages += huge_page.free_pages;
  sums->zero_pages += huge_page.zero.Count();
  sums->ahead_pages += huge_page.ahead_pages;
}

}  // namespace

void PageHeap::CheckInvariants() {
  LockHolder holder(lock_);
  Sums sums;
  std::size_t reserved = 0;
  for (Reservation* reservation = reservations_.first(); reservation != nullptr; reservation = reservation->next) {
    reserved += reservation->huge_page_count;
    TARN_CHECK(reservation->whole_free.Count() == 0 || reservation->is_listed_with_room);
    TARN_CHECK(reservation->whole_free.LongestRun() <= reservation->longest_free_bound);
    for (std::size_t i = 0; i < reservation->huge_page_count; ++i) {
      const HugePage& huge_page = reservation->huge_pages[i];
      const bool whole_free = reservation->whole_free.Test(i);
      TARN_CHECK(reservation->warm.Test(i) == (whole_free && huge_page.committed && huge_page.linked()));
      if (!huge_page.committed) {
        TARN_CHECK(whole_free || huge_page.state == HugePageState::kLost);
        continue;
      }
      ++sums.committed;
      sums.whole_free_committed += whole_free ? 1 : 0;
      TARN_CHECK(huge_page.reservation == reservation);
      CheckOne(huge_page, whole_free, free_.packing(), &sums);
    }
  }
  TARN_CHECK(sums.used_pages == usage_.in_use().raw());
  TARN_CHECK(sums.warm_bytes == free_.warm_pages().bytes());
  TARN_CHECK(sums.refused_bytes == free_.warm_pages().refused_bytes());
  TARN_CHECK(reserved == reservations_.huge_page_count() && sums.committed == free_.committed_huge_pages());
  TARN_CHECK(sums.whole_free_committed == free_.whole_free_huge_pages());
  TARN_CHECK(sums.free_pages == free_.free().raw() && sums.zero_pages == free_.zero().raw());
  TARN_CHECK(sums.ahead_pages == free_.ahead().raw());
  TARN_CHECK(sums.huge_backed == free_.huge_backed() && sums.asked == free_.asked());
  TARN_CHECK(usage_.LargeBytesFrom(0) ==
             usage_.large_in_use().bytes() + usage_.mapped_bytes() - usage_.growing_bytes());
}

}  // namespace tarn
