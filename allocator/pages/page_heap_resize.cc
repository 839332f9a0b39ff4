// SPDX-License-Identifier: Apache-2.0
//
// The part of the page heap that makes a large object end elsewhere, within its reservation.
#include <algorithm>

#include "allocator/os/clock.h"
#include "allocator/pages/page_heap.h"

namespace tarn {

namespace {

// The trackers of a reservation lie in a row.
HugePage* HugePageOf(const Span* span, PageId page) {
  return span->huge_page + (page.raw() / kPagesPerHugePage - span->first_page.raw() / kPagesPerHugePage);
}

// True if the pages between the span's end and the new one are free, and in its reservation.
bool IsFreeBehind(const Span* span, PageId new_end) {
  const Reservation* const reservation = span->huge_page->reservation;
  const HugePage* const reservation_end = reservation->huge_pages + reservation->huge_page_count;
  PageId page = span->first_page + span->pages;
  for (const HugePage* huge_page = HugePageOf(span, page); page < new_end; ++huge_page) {
    if (huge_page == reservation_end) return false;
    const std::size_t index = IndexInHugePage(page);
    const std::size_t count = std::min(kPagesPerHugePage - index, (new_end - page).raw());
    const bool whole_free = huge_page->state == HugePageState::kWholeFree;
    if (!whole_free && (huge_page->state != HugePageState::kPacked || !huge_page->free.AllSet(index, count))) {
      return false;
    }
    page = page + PageCount(count);
  }
  return true;
}

}  // namespace

bool PageHeap::ResizeLarge(Span* span, PageCount pages) {
  if (IsAbandoned(span)) return false;
  if (span->kind == SpanKind::kMapped) return ResizeWithinMapping(span, pages);
  std::size_t keep_warm_bytes;
  bool too_warm;
  bool needs_room;
  const PageCount added_pages = pages > span->pages ? pages - span->pages : PageCount(0);
  Run added;
  {
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    const std::uint32_t now_ms = CoarseMilliseconds();
    if (pages < span->pages) {
      ShrinkWithinReservation(span, pages, now_ms);
    } else if (!GrowWithinReservation(span, pages, &added)) {
      return false;
    }
    keep_warm_bytes = KeepWarmBytes(now_ms);
    too_warm = free_.warm_pages().bytes() > keep_warm_bytes;
    needs_room = NeedsRoom();
  }
  if (added.asked_count != 0) Ask(added);
  if (needs_room) MakeRoom(added_pages.bytes());
  if (too_warm) ReleaseFree(keep_warm_bytes, false);
  return true;
}

void PageHeap::ShrinkWithinReservation(Span* span, PageCount pages, std::uint32_t now_ms) {
  const PageId new_end = span->first_page + pages;
  dense_sizes_.NoteGone(span->first_page, span->pages, lock_);
  FreeRun(HugePageOf(span, new_end), new_end, span->pages - pages, now_ms);
  usage_.ResizeLarge(span->pages, pages);
  span->pages = pages;
}

bool PageHeap::UsePart(HugePage* huge_page, std::size_t index, std::size_t count) {
  usage_.Use(PageCount(count));
  return Use(huge_page, index, count);
}

bool PageHeap::GrowWithinReservation(Span* span, PageCount pages, Run* added) {
  const PageId old_end = span->first_page + span->pages;
  const PageId new_end = span->first_page + pages;
  const PageCount added_pages = new_end - old_end;
  // Look first, so that nothing has to be undone for pages that are in use.
  if (!Permits(added_pages.bytes()) || !IsFreeBehind(span, new_end)) return false;
  // The ends first, which may lie in huge pages that are in use; then the whole ones between, for which the lock may be
  // let go.
  HugePage* const start = HugePageOf(span, old_end);
  HugePage* whole = start;
  std::size_t head = 0;
  if (start->state == HugePageState::kPacked) {
    head = std::min(kPagesPerHugePage - IndexInHugePage(old_end), added_pages.raw());
    if (head != 0) UsePart(start, IndexInHugePage(old_end), head);
    ++whole;
  }
  const std::size_t left = added_pages.raw() - head;
  HugePage* const last = whole + left / kPagesPerHugePage;
  const std::size_t tail = left % kPagesPerHugePage;
  // With a tail in a huge page that is free, that one is taken like the others.
  const bool tail_is_whole = tail != 0 && last->state == HugePageState::kWholeFree;
  const bool tail_is_part = tail != 0 && !tail_is_whole;
  if (tail_is_part) UsePart(last, 0, tail);
  const std::size_t whole_count = left / kPagesPerHugePage + (tail_is_whole ? 1 : 0);
  const bool may_ask = whole_count >= kAskFloorHugePages && MayAsk(added_pages.bytes());
  if (whole_count != 0 && !TakeThese({span->huge_page->reservation, whole}, whole_count)) {
    const std::uint32_t now_ms = CoarseMilliseconds();
    if (head != 0) FreeRun(start, old_end, PageCount(head), now_ms);
    if (tail_is_part) FreeRun(last, new_end - PageCount(tail), PageCount(tail), now_ms);
    return false;
  }
  added->huge_page = whole;
  if (whole_count != 0) added->first_page = whole->first_page;
  for (std::size_t i = 0; i < whole_count; ++i) {
    const std::size_t here = tail_is_whole && i + 1 == whole_count ? tail : kPagesPerHugePage;
    if (UsePart(&whole[i], 0, here)) added->NoteZero(i, here);
  }
  if (!may_ask) added->asked_count = 0;
  const PageCount old_pages = span->pages;
  usage_.ResizeLarge(old_pages, pages);
  span->pages = pages;
  if (added->asked_count != 0) NoteAsked(added, span->start(), old_pages.bytes());
  // Its new part may be advised, and is not to be released like that.
  if (span->bucket == Span::kTableBucket) span->bucket = 0;
  return true;
}

}  // namespace tarn
