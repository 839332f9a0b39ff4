// SPDX-License-Identifier: Apache-2.0
//
// Huge pages that are free as a whole and have memory behind them, the last freed first. Those that the kernel refused
// to take back stand apart, and are tried again later.
//
// Pure: no lock, no system call. Guarded by the page heap's lock. All zero at the start (heap/process_heap.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/base/intrusive_list.h"
#include "allocator/base/units.h"
#include "allocator/pages/huge_page.h"

namespace tarn {

class WarmPages {
 public:
  // By refused_at_ms it is one that the kernel refused, or not. One without warm pages stays on no list.
  void Add(HugePage* huge_page) {
    const std::size_t bytes = PageCount(huge_page->warm_pages()).bytes();
    if (bytes == 0) return;
    const bool refused = huge_page->refused_at_ms != 0;
    (refused ? refused_ : warm_).PushFront(huge_page);
    (refused ? refused_bytes_ : bytes_) += bytes;
    Reservation* const reservation = huge_page->reservation;
    reservation->warm.SetRange(reservation->IndexOf(huge_page), 1);
  }
  // Its figures are those that it was added with.
  void Remove(HugePage* huge_page) {
    IntrusiveList<HugePage>::Remove(huge_page);
    (huge_page->refused_at_ms != 0 ? refused_bytes_ : bytes_) -= PageCount(huge_page->warm_pages()).bytes();
    Reservation* const reservation = huge_page->reservation;
    reservation->warm.ClearRange(reservation->IndexOf(huge_page), 1);
  }

  // The one that was freed last, of those that can be released if there is one; null: none.
  HugePage* newest() const { return warm_.empty() ? refused_.front() : warm_.front(); }
  // The one to release first: null where no more can be released.
  HugePage* oldest() const { return warm_.back(); }
  bool has_refused() const { return !refused_.empty(); }

  // Those that were refused long ago, or all, count as such that can be released, and come first in that.
  void TryRefusedAgain(std::uint32_t now_ms, bool all) {
    while (HugePage* const huge_page = refused_.back()) {
      if (!all && huge_page->IsRefused(now_ms)) break;
      const std::size_t bytes = PageCount(huge_page->warm_pages()).bytes();
      IntrusiveList<HugePage>::Remove(huge_page);
      huge_page->refused_at_ms = 0;
      refused_bytes_ -= bytes;
      bytes_ += bytes;
      warm_.PushBack(huge_page);
    }
  }

  // The warm pages of those that can be released, and of those that were refused.
  std::size_t bytes() const { return bytes_; }
  std::size_t refused_bytes() const { return refused_bytes_; }

 private:
  IntrusiveList<HugePage> warm_;
  IntrusiveList<HugePage> refused_;
  std::size_t bytes_ = 0;
  std::size_t refused_bytes_ = 0;
};

}  // namespace tarn
