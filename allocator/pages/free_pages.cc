// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/free_pages.h"

#include <algorithm>

namespace tarn {

std::size_t FreePages::Use(HugePage* huge_page, std::size_t first, std::size_t count) {
  packing_.Unlist(huge_page);
  const std::size_t zero_pages = MarkUsed(huge_page, first, count);
  if (huge_page->ahead_pages != 0) {
    SetAhead(huge_page, huge_page->ahead_pages - std::min<std::size_t>(huge_page->ahead_pages, count - zero_pages));
  }
  Relist(huge_page);
  return zero_pages;
}

PageCount FreePages::Free(HugePage* huge_page, std::size_t first, std::size_t count, bool zero, std::uint32_t now_ms) {
  const bool whole = huge_page->free_pages + count == kPagesPerHugePage;
  const PageCount warm_before(whole ? huge_page->warm_pages() : 0);
  packing_.Unlist(huge_page);
  if (zero) SetBacking(huge_page, Backing::kSmall);
  MarkFree(huge_page, first, count, zero);
  if (whole) {
    // As a whole it is worth another try.
    huge_page->refused_at_ms = 0;
    huge_page->freed_at_ms = now_ms;
  }
  Relist(huge_page);
  return warm_before;
}

void FreePages::TakeOut(HugePage* huge_page, const HugePage::PageBits& pages) {
  if (huge_page->state == HugePageState::kWholeFree) {
    RemoveWhole(huge_page);
    huge_page->state = HugePageState::kPacked;
  } else {
    packing_.Unlist(huge_page);
  }
  for (auto run = pages.NextRun(0); run.count != 0; run = pages.NextRun(run.first + run.count)) {
    MarkUsed(huge_page, run.first, run.count);
  }
  Relist(huge_page);
}

void FreePages::BringBack(HugePage* huge_page, const HugePage::PageBits& pages, const HugePage::PageBits& zero) {
  const HugePage::PageBits warm_pages = pages.AndNot(zero);
  const HugePage::PageBits zero_pages = pages.And(zero);
  packing_.Unlist(huge_page);
  for (const HugePage::PageBits* bits : {&warm_pages, &zero_pages}) {
    for (auto run = bits->NextRun(0); run.count != 0; run = bits->NextRun(run.first + run.count)) {
      MarkFree(huge_page, run.first, run.count, bits == &zero_pages);
    }
  }
  SetAhead(huge_page, std::min<std::size_t>(huge_page->ahead_pages, huge_page->warm_pages()));
  Relist(huge_page);
}

void FreePages::AddCommitted(HugePage* huge_page) {
  huge_page->committed = true;
  ++committed_huge_pages_;
  free_ += PageCount(kPagesPerHugePage);
  zero_ += PageCount(kPagesPerHugePage);
}

void FreePages::PutWhole(HugePage* huge_page) {
  huge_page->state = HugePageState::kWholeFree;
  huge_page->longest_free_run = HugePage::kUnknownRun;
  huge_page->reservation->SetWholeFree(huge_page);
  ++whole_free_huge_pages_;
  warm_.Add(huge_page);
}

void FreePages::RemoveWhole(HugePage* huge_page) {
  Reservation* const reservation = huge_page->reservation;
  reservation->whole_free.ClearRange(reservation->IndexOf(huge_page), 1);
  --whole_free_huge_pages_;
  if (huge_page->linked()) warm_.Remove(huge_page);
}

void FreePages::ForgetWhole(HugePage* huge_page) {
  RemoveWhole(huge_page);
  SetBacking(huge_page, Backing::kSmall);
  SetAhead(huge_page, 0);
  --committed_huge_pages_;
  free_ -= PageCount(kPagesPerHugePage);
  zero_ -= PageCount(huge_page->zero.Count());
}

void FreePages::SetBacking(HugePage* huge_page, Backing backing) {
  const auto count = [this](Backing which) -> std::size_t* {
    if (which == Backing::kHuge) return &huge_backed_;
    return which == Backing::kAsked ? &asked_ : nullptr;
  };
  if (std::size_t* const before = count(huge_page->backing)) --*before;
  if (std::size_t* const after = count(backing)) ++*after;
  huge_page->backing = backing;
}

std::size_t FreePages::MarkUsed(HugePage* huge_page, std::size_t first, std::size_t count) {
  const std::size_t zero_pages = huge_page->MarkUsed(first, count);
  free_ -= PageCount(count);
  zero_ -= PageCount(zero_pages);
  return zero_pages;
}

void FreePages::MarkFree(HugePage* huge_page, std::size_t first, std::size_t count, bool zero) {
  huge_page->MarkFree(first, count, zero);
  free_ += PageCount(count);
  if (zero) zero_ += PageCount(count);
}

void FreePages::Relist(HugePage* huge_page) {
  if (huge_page->free_pages == kPagesPerHugePage) {
    PutWhole(huge_page);
  } else {
    packing_.List(huge_page);
  }
}

}  // namespace tarn
