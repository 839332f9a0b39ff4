// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/page_heap.h"

#include <algorithm>
#include <atomic>
#include <new>

#include "allocator/os/clock.h"
#include "allocator/os/move_pages.h"
#include "allocator/os/virtual_memory.h"
#include "allocator/pages/page_map.h"

namespace tarn {

namespace {

// Large objects up to this, alignment included, come out of reservations; larger ones have a mapping of their own,
// which costs three system calls but no search, and their pages would seldom fit anything else. Half a reservation.
constexpr std::size_t kMaxRunHugePages = Reservation::kMaxHugePages / 2;
// Objects of at least this size move to a mapping of their own when they cannot grow where they are: moving their pages
// takes less than copying them. Chosen; docs/memory-return.md has what it brings.
constexpr std::size_t kMoveFloorBytes = std::size_t{4} << 20;
// An object that grew once will grow again: its mapping has room for twice its size, in addresses, not in memory.
constexpr std::size_t kMappingGrowth = 2;
// Each such object takes up to four of the 65530 mappings that a process may have, so beyond this they are copied.
constexpr std::size_t kMaxMovedObjects = 4096;
// Free huge pages keep their memory up to this, up to a share of what is in use, and up to the recent peak: programs
// that allocate and free large blocks in turn must not fault each time. What goes beyond is released at once by the
// thread that frees it.
constexpr std::size_t kWarmFloorBytes = std::size_t{64} << 20;
constexpr std::size_t kWarmShareDivisor = 4;
// A scavenger is wanted when so much more is free and warm than what the last one could not release: less is not worth
// the trouble. Chosen.
constexpr std::size_t kScavengerWantedBytes = std::size_t{4} << 20;

std::size_t IndexInHugePage(PageId page) { return page.raw() % kPagesPerHugePage; }

}  // namespace

// --- Spans ---------------------------------------------------------------------------------------------------------

Span* PageHeap::AllocateSmall(SizeClass size_class, SpanKind kind) {
  const SizeClassInfo& info = kSizeClasses[size_class];
  Span* span;
  bool needs_room;
  {
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    span = NewSpan(info.objects_per_span, kind == SpanKind::kSampled);
    if (span == nullptr) return nullptr;
    const Run run = AllocateRun(PageCount(info.span_pages), PageCount(1));
    if (run.huge_page == nullptr) {
      metadata_.DeleteSpan(span);
      return nullptr;
    }
    span->first_page = run.first_page;
    span->huge_page = run.huge_page;
    if (run.zero) PopulateAhead(run, PageCount(info.span_pages), info.size_bytes);
    needs_room = NeedsRoom();
  }
  if (needs_room) [[unlikely]]
    MakeRoom(PageCount(info.span_pages).bytes());
  span->pages = PageCount(info.span_pages);
  span->kind = kind;
  span->size_class = size_class;
  span->object_count = info.objects_per_span;
  std::uint64_t* words = span->free_bits();
  for (std::size_t left = info.objects_per_span; left != 0; ++words) {
    const std::size_t here = std::min<std::size_t>(left, 64);
    *words = ~std::uint64_t{0} >> (64 - here);
    left -= here;
  }
  if (kind == SpanKind::kSampled) std::fill_n(span->samples(), info.objects_per_span, 0u);
  page_map.Register(span);
  return span;
}

Span* PageHeap::AllocateLarge(PageCount pages, PageCount alignment, bool* zero, bool prefer_zero,
                              std::size_t record_objects) {
  if (pages.huge_pages_ceil() + alignment.huge_pages_ceil() - 1 > kMaxRunHugePages) {
    *zero = true;
    return AllocateMapped(pages, alignment, prefer_zero, record_objects);
  }
  Span* span;
  Run run;
  bool needs_room;
  {
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    span = NewSpan(record_objects, false);
    if (span == nullptr) return nullptr;
    run = AllocateRun(pages, alignment, prefer_zero);
    if (run.huge_page == nullptr) {
      metadata_.DeleteSpan(span);
      return nullptr;
    }
    span->first_page = run.first_page;
    span->huge_page = run.huge_page;
    *zero = run.zero;
    usage_.AddLarge(pages);
    needs_room = NeedsRoom();
  }
  if (run.asked_count != 0) Ask(run);
  if (needs_room) [[unlikely]]
    MakeRoom(pages.bytes());
  span->pages = pages;
  span->kind = SpanKind::kLarge;
  page_map.Register(span);
  return span;
}

void PageHeap::AdviseMapping(void* start, std::size_t bytes, bool huge_pages) {
  if (huge_pages) {
    static_cast<void>(WantHugePages(start, bytes / kHugePageBytes * kHugePageBytes));
  } else {
    static_cast<void>(RefuseHugePages(start, bytes));
  }
}

void* PageHeap::MapCommitted(std::size_t bytes, std::size_t alignment_bytes) {
  void* start = Reserve(bytes, alignment_bytes);
  if (start == nullptr) return nullptr;
  if (IsServable(start, bytes) && Commit(start, bytes)) return start;
  Unreserve(start, bytes);
  return nullptr;
}

Span* PageHeap::AllocateMapped(PageCount pages, PageCount alignment, bool prefer_zero, std::size_t record_objects) {
  // The kernel's pages may be larger than ours.
  const std::size_t bytes = RoundUp(pages.bytes(), std::max(OsPageBytes(), kPageBytes));
  const std::size_t alignment_bytes = std::max(alignment.bytes(), kHugePageBytes);
  {
    LockHolder holder(lock_);
    if (!Permits(bytes)) return nullptr;
  }
  void* start = MapCommitted(bytes, alignment_bytes);
  Span* span = nullptr;
  bool ask;
  bool needs_room;
  {
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    ask = !prefer_zero && BacksHugePages();
    // Reservations may hold unused what is missing: addresses, or the charge for memory.
    if (start == nullptr && UnreserveFree()) start = MapCommitted(bytes, alignment_bytes);
    if (start == nullptr) return nullptr;
    // Once more: others may have taken memory since.
    if (PermitsMapping(start, bytes) && EnsureLeaves(PageId::Containing(start), PageCount(1))) {
      span = NewSpan(record_objects, false);
    }
    if (span != nullptr) {
      usage_.AddMappedObject(PageCount::FromBytesCeil(bytes));
      NoteFresh(bytes);
    }
    needs_room = NeedsRoom();
  }
  if (span == nullptr) {
    Unreserve(start, bytes);
    return nullptr;
  }
  span->first_page = PageId::Containing(start);
  span->pages = PageCount::FromBytesCeil(bytes);
  span->mapping_pages = span->pages.raw();
  span->kind = SpanKind::kMapped;
  NameMemory(start, bytes, "tarn large");
  AdviseMapping(start, bytes, ask);
  if (needs_room) MakeRoom(bytes);
  page_map.Register(span);
  return span;
}

void PageHeap::Deallocate(Span* span) {
  if (IsAbandoned(span)) [[unlikely]]
    return DeallocateAbandoned(span);
  // First out of the map, then free: as soon as the lock is released the pages may have another owner.
  page_map.Unregister(span);
  const PageId first_page = span->first_page;
  const PageCount pages = span->pages;
  const SpanKind kind = span->kind;
  HugePage* const huge_page = kind == SpanKind::kMapped ? nullptr : span->huge_page;
  if (kind == SpanKind::kMapped) Unreserve(first_page.start(), PageCount(span->mapping_pages).bytes());
  std::size_t keep_warm_bytes;
  bool too_warm;
  {
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    metadata_.DeleteSpan(span);
    if (kind == SpanKind::kMapped) {
      usage_.RemoveMappedObject(pages);
    } else {
      if (kind == SpanKind::kLarge) usage_.RemoveLarge(pages);
      FreeRun(huge_page, first_page, pages);
    }
    keep_warm_bytes = KeepWarmBytes();
    too_warm = free_.warm_pages().bytes() > keep_warm_bytes;
  }
  if (too_warm) ReleaseFree(keep_warm_bytes, false);
}

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
    if (!ResizeWithinReservation(span, pages, &added)) return false;
    keep_warm_bytes = KeepWarmBytes();
    too_warm = free_.warm_pages().bytes() > keep_warm_bytes;
    needs_room = NeedsRoom();
  }
  if (added.asked_count != 0) Ask(added);
  if (needs_room) MakeRoom(added_pages.bytes());
  if (too_warm) ReleaseFree(keep_warm_bytes, false);
  return true;
}

bool PageHeap::ResizeWithinReservation(Span* span, PageCount pages, Run* added) {
  const PageId old_end = span->first_page + span->pages;
  const PageId new_end = span->first_page + pages;
  // The trackers of a reservation lie in a row.
  const auto huge_page_of = [span](PageId page) {
    return span->huge_page + (page.raw() / kPagesPerHugePage - span->first_page.raw() / kPagesPerHugePage);
  };
  if (new_end < old_end) {
    FreeRun(huge_page_of(new_end), new_end, old_end - new_end);
    usage_.ResizeLarge(span->pages, pages);
    span->pages = pages;
    return true;
  }
  if (!Permits((new_end - old_end).bytes())) return false;
  const Reservation* const reservation = span->huge_page->reservation;
  const HugePage* const reservation_end = reservation->huge_pages + reservation->huge_page_count;
  // Look first, so that nothing has to be undone for pages that are in use.
  HugePage* const start = huge_page_of(old_end);
  HugePage* huge_page = start;
  PageId page = old_end;
  while (page < new_end) {
    if (huge_page == reservation_end) return false;
    const std::size_t index = IndexInHugePage(page);
    const std::size_t count = std::min(kPagesPerHugePage - index, (new_end - page).raw());
    const bool whole_free = huge_page->state == HugePageState::kWholeFree;
    if (!whole_free && (huge_page->state != HugePageState::kPacked || !huge_page->free.AllSet(index, count))) {
      return false;
    }
    page = page + PageCount(count);
    ++huge_page;
  }
  // The ends first, which may lie in huge pages that are in use; then the whole ones between, for which the lock may be
  // let go.
  const auto take_part = [&](HugePage* part, std::size_t index, std::size_t count) TARN_NO_THREAD_SAFETY_ANALYSIS {
    if (count == 0) return false;
    usage_.Use(PageCount(count));
    return Use(part, index, count);
  };
  HugePage* whole = start;
  std::size_t head = 0;
  if (start->state == HugePageState::kPacked) {
    head = std::min(kPagesPerHugePage - IndexInHugePage(old_end), (new_end - old_end).raw());
    take_part(start, IndexInHugePage(old_end), head);
    ++whole;
  }
  const std::size_t left = (new_end - old_end).raw() - head;
  HugePage* const last = whole + left / kPagesPerHugePage;
  std::size_t tail = left % kPagesPerHugePage;
  // With a tail in a huge page that is free, that one is taken like the others.
  const bool tail_is_whole = tail != 0 && last->state == HugePageState::kWholeFree;
  if (tail != 0 && !tail_is_whole) take_part(last, 0, tail);
  const std::size_t whole_count = left / kPagesPerHugePage + (tail_is_whole ? 1 : 0);
  const bool may_ask = whole_count >= kAskFloorHugePages && BacksHugePages();
  if (whole_count != 0 && !TakeThese(whole, whole_count)) {
    if (head != 0) FreeRun(start, old_end, PageCount(head));
    if (tail != 0 && !tail_is_whole) FreeRun(last, new_end - PageCount(tail), PageCount(tail));
    return false;
  }
  added->huge_page = whole;
  if (whole_count != 0) added->first_page = whole->first_page;
  for (std::size_t i = 0; i < whole_count; ++i) {
    const std::size_t here = tail_is_whole && i + 1 == whole_count ? tail : kPagesPerHugePage;
    if (take_part(&whole[i], 0, here)) added->NoteZero(i, here);
  }
  if (!may_ask) added->asked_count = 0;
  if (added->asked_count != 0) NoteAsked(added);
  usage_.ResizeLarge(span->pages, pages);
  span->pages = pages;
  return true;
}

bool PageHeap::ResizeWithinMapping(Span* span, PageCount pages) {
  // The kernel's pages may be larger than ours.
  pages = PageCount(RoundUp(pages.raw(), std::max<std::size_t>(OsPageBytes() / kPageBytes, 1)));
  if (pages.raw() > span->mapping_pages) return false;
  const bool grows = pages > span->pages;
  void* const border = (span->first_page + std::min(pages, span->pages)).start();
  const std::size_t bytes = (grows ? pages - span->pages : span->pages - pages).bytes();
  if (grows) {
    // Counted before it is there, so that no other thread gets it too.
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    if (!Permits(bytes)) return false;
    usage_.AddMapped(bytes);
  }
  bool done = true;
  if (grows) {
    done = Commit(border, bytes);
  } else if (bytes != 0) {
    const Decommitted decommitted = Decommit(border, bytes);
    done = decommitted != Decommitted::kUnchanged;
    if (decommitted == Decommitted::kLost) {
      const PageCount reserved = PageCount(span->mapping_pages) - span->pages;
      if (reserved != PageCount(0)) Unreserve((span->first_page + span->pages).start(), reserved.bytes());
      span->mapping_pages = pages.raw();
    }
  }
  bool needs_room;
  {
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    // A growth that failed, or a tail that went.
    if (grows != done) usage_.RemoveMapped(bytes);
    if (!done) return false;
    if (grows) NoteFresh(bytes);
    usage_.ResizeMapped(span->pages, pages);
    span->pages = pages;
    needs_room = NeedsRoom();
  }
  if (needs_room) MakeRoom(bytes);
  return true;
}

bool PageHeap::MoveLarge(Span* span, PageCount pages) {
  if (IsAbandoned(span)) return false;
  const PageCount old_pages = span->pages;
  if (old_pages.bytes() < kMoveFloorBytes || pages <= old_pages) return false;
  const std::size_t os_page_bytes = std::max(OsPageBytes(), kPageBytes);
  const std::size_t bytes = RoundUp(pages.bytes(), os_page_bytes);
  pages = PageCount::FromBytesCeil(bytes);
  if (old_pages.bytes() % os_page_bytes != 0 || span->start_address() % os_page_bytes != 0) return false;
  // Addresses are dear where they are limited.
  std::size_t mapping_bytes = address_source_.IsLimited() ? bytes : RoundUp(bytes * kMappingGrowth, kHugePageBytes);
  void* start = Reserve(mapping_bytes, kHugePageBytes);
  if (start == nullptr && mapping_bytes != bytes) start = Reserve(mapping_bytes = bytes, kHugePageBytes);
  if (start == nullptr) return false;
  // The contents come to its start, which stays reserved until then.
  char* const added = static_cast<char*>(start) + old_pages.bytes();
  bool possible = IsServable(start, mapping_bytes) && Commit(added, bytes - old_pages.bytes());
  bool ask = false;
  bool leaves_nothing = true;
  bool needs_room;
  if (possible) {
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    ask = BacksHugePages();
    possible = (span->kind == SpanKind::kMapped || usage_.mapped_objects() < kMaxMovedObjects) &&
               PermitsMapping(start, bytes - old_pages.bytes()) &&
               EnsureLeaves(PageId::Containing(start), PageCount(1));
    // Counted before it is there, so that no other thread gets it too.
    if (possible) usage_.AddMapped(bytes - old_pages.bytes());
    if (possible && span->kind == SpanKind::kLarge) {
      const PageId last_page = span->first_page + old_pages - PageCount(1);
      const std::size_t huge_pages =
          last_page.raw() / kPagesPerHugePage - span->first_page.raw() / kPagesPerHugePage + 1;
      leaves_nothing = StopAsking(span->huge_page, huge_pages);
    }
  }
  if (!possible) {
    Unreserve(start, mapping_bytes);
    return false;
  }
  NameMemory(start, mapping_bytes, "tarn large");
  const MoveResult result = MovePages(span->start(), start, old_pages.bytes(), ask);
  if (result == MoveResult::kFailed) {
    Unreserve(added, mapping_bytes - old_pages.bytes());
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    usage_.RemoveMapped(bytes - old_pages.bytes());
    return false;
  }
  // Before the old pages may have another owner.
  page_map.Unregister(span);
  // An object that grew so far is dense. One advice for all of it leaves one mapping.
  AdviseMapping(start, mapping_bytes, ask);
  if (span->kind == SpanKind::kMapped) {
    Unreserve(span->start(), PageCount(span->mapping_pages).bytes());
  } else {
    ForgetAdvice(span->start(), old_pages.bytes());
  }
  {
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    if (span->kind == SpanKind::kLarge) {
      FreeRun(span->huge_page, span->first_page, old_pages, leaves_nothing && result == MoveResult::kMoved);
      usage_.MakeMapped(old_pages);
    }
    usage_.ResizeMapped(old_pages, pages);
    NoteFresh((pages - old_pages).bytes());
    needs_room = NeedsRoom();
  }
  if (needs_room) MakeRoom((pages - old_pages).bytes());
  span->first_page = PageId::Containing(start);
  span->pages = pages;
  span->kind = SpanKind::kMapped;
  span->mapping_pages = PageCount::FromBytesCeil(mapping_bytes).raw();
  page_map.Register(span);
  return true;
}

bool PageHeap::Permits(std::size_t bytes) const {
  return !bounds_.has_hard_limit() || bounds_.Permits(InUseBytes(), bytes);
}

bool PageHeap::PermitsMapping(const void* start, std::size_t bytes) const {
  const bool has_leaf = page_map.HasLeaf(PageId::Containing(start).raw() / kPagesPerLeaf);
  return Permits(bytes + (has_leaf ? 0 : sizeof(PageMapLeaf)));
}

void PageHeap::NoteFresh(std::size_t bytes) {
  const std::uint64_t fresh_bytes = fresh_bytes_.load(std::memory_order_relaxed) + bytes;
  fresh_bytes_.store(fresh_bytes, std::memory_order_relaxed);
  if (check_at_bytes_ != 0 && fresh_bytes >= check_at_bytes_)
    attention_.fetch_or(kCheckWanted, std::memory_order_relaxed);
}

void PageHeap::NoteTouched(const HugePage* huge_page, std::size_t zero_pages) {
  if (zero_pages == 0) return;
  const std::size_t bytes = PageCount(zero_pages).bytes();
  NoteFresh(bytes);
  if (huge_page->was_released) release_budget_.NoteReturn(bytes, CoarseMilliseconds());
}

void PageHeap::SetNextCheck(std::size_t bytes) {
  LockHolder holder(lock_);
  // Never 0, which stands for no check.
  check_at_bytes_ = std::max<std::uint64_t>(fresh_bytes_.load(std::memory_order_relaxed) + bytes, 1);
  if (bytes == 0) {
    attention_.fetch_or(kCheckWanted, std::memory_order_relaxed);
  } else {
    attention_.fetch_and(~kCheckWanted, std::memory_order_relaxed);
  }
}

void PageHeap::SetNextPeak(std::size_t bytes) {
  LockHolder holder(lock_);
  next_peak_bytes_ = bytes == 0 ? 0 : usage_.peak_bytes() + bytes;
  attention_.fetch_and(~kPeakReached, std::memory_order_relaxed);
}

void PageHeap::SetHardLimit(std::size_t bytes) {
  LockHolder holder(lock_);
  bounds_.SetHardLimit(bytes);
}

void PageHeap::SetReleaseDelay(std::uint32_t milliseconds) {
  LockHolder holder(lock_);
  demand_.SetShortWindow(milliseconds);
}

std::size_t PageHeap::KeepWarmBytes() {
  std::size_t keep_bytes = std::max(kWarmFloorBytes, usage_.in_use().bytes() / kWarmShareDivisor);
  const std::size_t peak_bytes = demand_.RecentPeakBytes(CoarseMilliseconds());
  if (peak_bytes > usage_.in_use().bytes()) keep_bytes = std::max(keep_bytes, peak_bytes - usage_.in_use().bytes());
  // Warm memory counts against the limit too, though it would not be refused.
  if (bounds_.has_hard_limit()) keep_bytes = std::min(keep_bytes, bounds_.RoomBelowLimit(InUseBytes()));
  return keep_bytes;
}

// --- Runs of pages -------------------------------------------------------------------------------------------------

PageHeap::Run PageHeap::AllocateRun(PageCount pages, PageCount alignment, bool prefer_zero) {
  if (pages.raw() <= kPagesPerHugePage && alignment.raw() <= kPagesPerHugePage) {
    return AllocateWithinHugePage(pages.raw(), alignment.raw());
  }
  const std::size_t count = pages.huge_pages_ceil();
  if (!Permits(pages.bytes())) return {};
  const bool may_ask = !prefer_zero && pages.raw() / kPagesPerHugePage >= kAskFloorHugePages && BacksHugePages();
  HugePage* first = TakeHugePages(count, alignment.huge_pages_ceil(), prefer_zero);
  if (first == nullptr) return {};
  Run run{first, first->first_page, true};
  std::size_t left = pages.raw();
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t here = std::min(left, kPagesPerHugePage);
    const bool zero = Use(&first[i], 0, here);
    if (zero) run.NoteZero(i, here);
    run.zero &= zero;
    left -= here;
  }
  if (!may_ask) run.asked_count = 0;
  NoteAsked(&run);
  usage_.Use(pages);
  return run;
}

PageHeap::Run PageHeap::AllocateWithinHugePage(std::size_t pages, std::size_t alignment) {
  if (!Permits(PageCount(pages).bytes())) return {};
  // A free run of this length contains an aligned one wherever it starts; and a whole huge page does in any case.
  const std::size_t sufficient_pages = std::min(pages + alignment - 1, kPagesPerHugePage);
  HugePage* huge_page = free_.TryTakeForRun(sufficient_pages);
  if (huge_page == nullptr) {
    huge_page = TakeHugePages(1, 1);
    if (huge_page == nullptr) return {};
    growth_.store(growth_.load(std::memory_order_relaxed) + (huge_page->zero.Count() != 0 ? 1 : 0),
                  std::memory_order_relaxed);
  }
  const std::size_t first = huge_page->FindFree(pages, alignment);
  const bool zero = Use(huge_page, first, pages);
  usage_.Use(PageCount(pages));
  return {huge_page, huge_page->first_page + PageCount(first), zero, 0, 0};
}

bool PageHeap::Use(HugePage* huge_page, std::size_t first, std::size_t count) {
  const std::size_t zero_pages = free_.Use(huge_page, first, count);
  NoteTouched(huge_page, zero_pages);
  return zero_pages == count;
}

void PageHeap::FreeRun(HugePage* huge_page, PageId first_page, PageCount pages, bool zero) {
  const std::uint32_t now_ms = CoarseMilliseconds();
  demand_.NoteFree(usage_.in_use().bytes(), now_ms);
  unreleasable_ = std::min(unreleasable_, free_.warm());
  usage_.Free(pages);
  std::size_t index = IndexInHugePage(first_page);
  for (std::size_t left = pages.raw(); left != 0; ++huge_page) {
    const std::size_t here = std::min(left, kPagesPerHugePage - index);
    // Pages that were left because their huge page was dense go with the whole.
    const PageCount warm_before = free_.Free(huge_page, index, here, zero, now_ms);
    unreleasable_ -= std::min(unreleasable_, warm_before);
    left -= here;
    index = 0;
  }
  freed_since_fall_bytes_ += pages.bytes();
  freed_in_excess_pass_ += in_excess_pass_ ? pages : PageCount(0);
  if (!scavenger_at_work_) NoteFall(now_ms);
}

void PageHeap::NoteFall(std::uint32_t now_ms) {
  const PageCount warm = free_.warm();
  if ((warm - unreleasable_).bytes() < kScavengerWantedBytes) return;
  std::uint32_t wanted = kScavengerWanted;
  // Where memory was told to stay for longer than usual, a fall is left to those who go by age.
  if (warm.bytes() > usage_.in_use().bytes() / kWarmShareDivisor &&
      demand_.short_window_ms() <= Demand::kDefaultWindowMs && release_budget_.Allows(now_ms)) {
    wanted |= kFallen;
  }
  if ((~attention() & wanted) != 0) attention_.fetch_or(wanted, std::memory_order_relaxed);
}

// --- What others may know ------------------------------------------------------------------------------------------

bool PageHeap::ServesAddress(std::uintptr_t address) {
  LockHolder holder(lock_);
  return reservations_.Serves(address);
}

PageHeapStats PageHeap::Stats() {
  LockHolder holder(lock_);
  PageHeapStats stats = ReadStats({reservations_, free_, metadata_, usage_});
  stats.untouched_bytes = bounds_.UntouchedBytes(InUseBytes(), usage_);
  return stats;
}

void PageHeap::Publish() {
  const std::size_t peak_bytes = usage_.UpdatePeak();
  if (next_peak_bytes_ != 0 && peak_bytes >= next_peak_bytes_) [[unlikely]]
    attention_.fetch_or(kPeakReached, std::memory_order_relaxed);
  PublishFigures({reservations_, free_, metadata_, usage_}, &published_);
}

}  // namespace tarn
