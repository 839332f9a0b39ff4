// SPDX-License-Identifier: Apache-2.0
//
// Reservations without memory behind them, for the tests of the parts that never look into it.
#pragma once

#include <cstddef>
#include <memory>

#include "allocator/base/units.h"
#include "allocator/pages/huge_page.h"

namespace tarn_test {

// A reservation whose huge pages are all whole and free. Its trackers are set up as if committed.
class FakeReservation {
 public:
  explicit FakeReservation(std::size_t huge_pages, std::size_t first_huge_page = 1024)
      : trackers_(new tarn::HugePage[huge_pages]) {
    record_.first_page = tarn::PageId(0) + tarn::PageCount::FromHugePages(first_huge_page);
    record_.huge_page_count = huge_pages;
    record_.huge_pages = trackers_.get();
    record_.tracker_capacity = huge_pages;
    record_.longest_free_bound = huge_pages;
    record_.list_with_room = &list_with_room_;
    record_.whole_free.SetRange(0, huge_pages);
    for (std::size_t i = 0; i < huge_pages; ++i) {
      tarn::HugePage& huge_page = trackers_[i];
      huge_page.first_page = record_.first_page + tarn::PageCount::FromHugePages(i);
      huge_page.reservation = &record_;
      huge_page.free.SetRange(0, tarn::kPagesPerHugePage);
      huge_page.zero.SetRange(0, tarn::kPagesPerHugePage);
      huge_page.free_pages = tarn::kPagesPerHugePage;
    }
  }
  tarn::HugePage* operator[](std::size_t i) { return &trackers_[i]; }
  tarn::Reservation* record() { return &record_; }

 private:
  tarn::Reservation record_;
  tarn::Reservation* list_with_room_ = nullptr;
  std::unique_ptr<tarn::HugePage[]> trackers_;
};

}  // namespace tarn_test
