// SPDX-License-Identifier: Apache-2.0
//
// The free pages of all committed huge pages: marks pages used and free, moves huge pages to the list where they then
// belong, and keeps the sums.
//
// Pure: no lock, no system call. Guarded by the page heap's lock. All zero at the start (heap/process_heap.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/base/units.h"
#include "allocator/pages/huge_page.h"
#include "allocator/pages/packing.h"
#include "allocator/pages/warm_pages.h"

namespace tarn {

class FreePages {
 public:
  // Takes a huge page that has a free run of at least `pages`, and is partly in use, off its list; null: none.
  // Use() lists it again.
  HugePage* TryTakeForRun(std::size_t pages) { return packing_.TryTake(pages); }
  // The same, if memory is behind the run, as far as a short search finds one.
  HugePage* TryTakeForWarmRun(std::size_t pages) {
    return warm().bytes() - warm_.bytes() - warm_.refused_bytes() < PageCount(pages).bytes()
               ? nullptr
               : packing_.TryTakeWarm(pages);
  }

  // Free pages of a packed huge page come into use. Returns the number of those that were zero.
  std::size_t Use(HugePage* huge_page, std::size_t first, std::size_t count);
  // Pages go out of use, and are zero or not. If the huge page is free as a whole then, returns the number of pages
  // that were free and warm before; else 0.
  PageCount Free(HugePage* huge_page, std::size_t first, std::size_t count, bool zero, std::uint32_t now_ms);

  // Takes these free pages out, as if they were used, so that no other thread gets them while they are on their way.
  void TakeOut(HugePage* huge_page, const HugePage::PageBits& pages);
  // Brings them back, of which these are zero.
  void BringBack(HugePage* huge_page, const HugePage::PageBits& pages, const HugePage::PageBits& zero);

  // Whole free huge pages. One that was just committed is zero. One that is put becomes free, one that is removed is on
  // no list. One that is forgotten goes back to the kernel with its addresses or its charge, and has no memory then.
  void AddCommitted(HugePage* huge_page);
  void PutWhole(HugePage* huge_page);
  void RemoveWhole(HugePage* huge_page);
  void ForgetWhole(HugePage* huge_page);

  void SetAhead(HugePage* huge_page, std::size_t pages) {
    ahead_ += PageCount(pages);
    ahead_ -= PageCount(huge_page->ahead_pages);
    huge_page->ahead_pages = static_cast<std::uint16_t>(pages);
  }
  void SetBacking(HugePage* huge_page, Backing backing);

  PageCount free() const { return free_; }
  PageCount zero() const { return zero_; }
  PageCount warm() const { return free_ - zero_; }
  PageCount ahead() const { return ahead_; }  // the sum of ahead_pages
  std::size_t committed_huge_pages() const { return committed_huge_pages_; }
  std::size_t whole_free_huge_pages() const { return whole_free_huge_pages_; }
  std::size_t huge_backed() const { return huge_backed_; }  // huge pages that are Backing::kHuge
  std::size_t asked() const { return asked_; }              // and Backing::kAsked
  WarmPages& warm_pages() { return warm_; }
  const WarmPages& warm_pages() const { return warm_; }
  const Packing& packing() const { return packing_; }

 private:
  // These leave the lists alone.
  std::size_t MarkUsed(HugePage* huge_page, std::size_t first, std::size_t count);
  void MarkFree(HugePage* huge_page, std::size_t first, std::size_t count, bool zero);
  void Relist(HugePage* huge_page);

  PageCount free_;
  PageCount zero_;
  PageCount ahead_;
  std::size_t committed_huge_pages_ = 0;
  std::size_t whole_free_huge_pages_ = 0;  // committed ones
  std::size_t huge_backed_ = 0;
  std::size_t asked_ = 0;
  WarmPages warm_;
  // Long, and mostly untouched.
  Packing packing_;
};

}  // namespace tarn
