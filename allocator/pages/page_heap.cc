// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/page_heap.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>

#include "allocator/os/clock.h"
#include "allocator/os/virtual_memory.h"
#include "allocator/pages/page_map.h"

namespace tarn {

namespace {

// Large objects up to this, alignment included, come out of reservations; larger ones have a mapping of their own,
// which costs three system calls but no search, and their pages would seldom fit anything else. Half of the largest
// reservation.
constexpr std::size_t kMaxRunHugePages = Reservation::kMaxHugePages / 2;
// Free huge pages keep their memory up to this, up to a share of what is in use, and up to the recent peak: programs
// that allocate and free large blocks in turn must not fault each time. What goes beyond is released at once by the
// thread that frees it.
constexpr std::size_t kWarmFloorBytes = std::size_t{64} << 20;
constexpr std::size_t kWarmShareDivisor = 4;
// How much fresh memory makes the caches sweep (cpu_cache/cpu_cache.h). Chosen: a sweep takes a few microseconds, the
// page faults of the least step 20 to 100. The most is what a sweep waited for before.
constexpr std::size_t kGrowthShareDivisor = 32;
constexpr std::size_t kGrowthMinBytes = std::size_t{128} << 10;
constexpr std::size_t kGrowthFloorBytes = std::size_t{1} << 20;
constexpr std::size_t kGrowthMaxBytes = std::size_t{2} << 20;
// Memory that is resident and comes into use again counts for as much less: it costs no page faults. Chosen.
constexpr std::size_t kTakenDivisor = 4;
// A scavenger is wanted when so much more is free and warm than what the last one could not release: less is not worth
// the trouble. Chosen.
constexpr std::size_t kScavengerWantedBytes = std::size_t{4} << 20;

}  // namespace

// --- Spans ---------------------------------------------------------------------------------------------------------

Span* PageHeap::AllocateSmall(SizeClass size_class, SpanKind kind, bool grows) {
  const SizeClassInfo& info = kSizeClasses[size_class];
  Span* span;
  bool needs_room;
  {
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    span = NewSpan(info.objects_per_span, kind);
    if (span == nullptr) return nullptr;
    const Run run = AllocateRun(PageCount(info.span_pages), PageCount(1));
    if (run.huge_page == nullptr) {
      metadata_.DeleteSpan(span);
      return nullptr;
    }
    span->first_page = run.first_page;
    span->huge_page = run.huge_page;
    if (run.zero && grows) PopulateAhead(run, PageCount(info.span_pages), info.size_bytes);
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
  if (const std::size_t kept_bytes = info.objects_per_span * Span::BytesPerObject(kind); kept_bytes != 0) {
    std::memset(span->checked_records(), 0, kept_bytes);
  }
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
    span = NewSpan(record_objects, SpanKind::kLarge);
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
  if (run.is_table) span->bucket = Span::kTableBucket;
  page_map.Register(span);
  return span;
}

void PageHeap::BeginRest(Span* span) {
  span->bucket = Span::kRestingBucket;
  if (IsAbandoned(span)) [[unlikely]]
    return;
  LockHolder holder(lock_);
  const PublishAtEnd publish{this};
  usage_.RemoveLarge(span->pages);
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
  if (kind == SpanKind::kMapped) {
    {
      LockHolder holder(lock_);
      dense_sizes_.NoteGone(first_page, pages, lock_);
    }
    Unreserve(first_page.start(), PageCount(span->mapping_pages).bytes());
  }
  // A table that stayed nearly empty must not count as resident: its few pages go back, and all of it is zero.
  const bool rested = kind == SpanKind::kLarge && span->bucket == Span::kRestingBucket;
  const bool is_table = kind == SpanKind::kLarge && span->bucket == Span::kTableBucket;
  const bool zero = (is_table || rested) && pages.bytes() % OsPageBytes() == 0 &&
                    LooksEmpty(first_page.start(), pages.bytes()) && Release(first_page.start(), pages.bytes());
  std::size_t keep_warm_bytes;
  bool too_warm;
  {
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    if (kind == SpanKind::kLarge) dense_sizes_.NoteGone(first_page, pages, lock_);
    metadata_.DeleteSpan(span);
    const std::uint32_t now_ms = CoarseMilliseconds();
    if (kind == SpanKind::kMapped) {
      usage_.RemoveMappedObject(pages);
    } else {
      if (kind == SpanKind::kLarge && !rested) usage_.RemoveLarge(pages);
      FreeRun(huge_page, first_page, pages, now_ms, zero);
    }
    keep_warm_bytes = KeepWarmBytes(now_ms);
    too_warm = free_.warm_pages().bytes() > keep_warm_bytes;
  }
  if (too_warm) ReleaseFree(keep_warm_bytes, false);
}

bool PageHeap::Permits(std::size_t bytes) const {
  return !bounds_.has_hard_limit() || bounds_.Permits(InUseBytes(), bytes);
}

void PageHeap::NoteFresh(std::size_t bytes) {
  const std::uint64_t fresh_bytes = fresh_bytes_.load(std::memory_order_relaxed) + bytes;
  fresh_bytes_.store(fresh_bytes, std::memory_order_relaxed);
  if (check_at_bytes_ != 0 && fresh_bytes >= check_at_bytes_)
    attention_.fetch_or(kCheckWanted, std::memory_order_relaxed);
  if (fresh_bytes >= next_displacing_at_bytes_) NoteUnfit();
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

std::size_t PageHeap::KeepWarmBytes(std::uint32_t now_ms) {
  std::size_t keep_bytes = std::max(kWarmFloorBytes, usage_.in_use().bytes() / kWarmShareDivisor);
  const std::size_t peak_bytes = demand_.RecentPeakBytes(now_ms);
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
  const bool may_ask = !prefer_zero && pages.raw() / kPagesPerHugePage >= kAskFloorHugePages && MayAsk(pages.bytes());
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
  usage_.Use(pages);
  if (run.asked_count != 0) NoteAsked(&run);
  run.is_table = prefer_zero && StopAsking(first, count);
  return run;
}

PageHeap::Run PageHeap::AllocateWithinHugePage(std::size_t pages, std::size_t alignment) {
  if (!Permits(PageCount(pages).bytes())) return {};
  // A free run of this length contains an aligned one wherever it starts; and a whole huge page does in any case.
  const std::size_t sufficient_pages = std::min(pages + alignment - 1, kPagesPerHugePage);
  // Resident memory first: what was freed serves before the kernel brings more.
  HugePage* huge_page = free_.TryTakeForWarmRun(sufficient_pages);
  if (huge_page == nullptr && free_.warm_pages().newest() == nullptr) huge_page = free_.TryTakeForRun(sufficient_pages);
  if (huge_page == nullptr) {
    huge_page = TakeHugePages(1, 1);
    if (huge_page == nullptr) return {};
  }
  const std::size_t first = huge_page->FindFree(pages, alignment);
  const bool zero = Use(huge_page, first, pages);
  usage_.Use(PageCount(pages));
  NoteGrowth(pages);
  return {huge_page, huge_page->first_page + PageCount(first), zero, 0, 0};
}

void PageHeap::NoteGrowth(std::size_t pages) {
  taken_bytes_ += PageCount(pages).bytes();
  const std::uint64_t moved_bytes = fresh_bytes_.load(std::memory_order_relaxed) + taken_bytes_ / kTakenDivisor;
  if (moved_bytes < std::max<std::uint64_t>(next_growth_at_bytes_, kGrowthFloorBytes)) return;
  const std::size_t step_bytes =
      std::clamp(usage_.in_use().bytes() / kGrowthShareDivisor, kGrowthMinBytes, kGrowthMaxBytes);
  next_growth_at_bytes_ = moved_bytes + step_bytes;
  growth_.store(growth_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

bool PageHeap::Use(HugePage* huge_page, std::size_t first, std::size_t count) {
  if (huge_page == partly_dumped_) [[unlikely]]
    DumpMore(first + count);
  const std::size_t zero_pages = free_.Use(huge_page, first, count);
  NoteTouched(huge_page, zero_pages);
  return zero_pages == count;
}

void PageHeap::FreeRun(HugePage* huge_page, PageId first_page, PageCount pages, std::uint32_t now_ms, bool zero) {
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

void PageHeap::NoteWarm() {
  const PageCount warm = free_.warm();
  unreleasable_ = std::min(unreleasable_, warm);
  if (!scavenger_at_work_ && (warm - unreleasable_).bytes() >= kScavengerWantedBytes) {
    attention_.fetch_or(kScavengerWanted, std::memory_order_relaxed);
  }
}

void PageHeap::NoteFall(std::uint32_t now_ms) {
  const PageCount warm = free_.warm();
  if ((warm - unreleasable_).bytes() < kScavengerWantedBytes) return;
  std::uint32_t wanted = kScavengerWanted;
  // Where memory was told to stay for longer than usual, a fall is left to those who go by age.
  if (warm.bytes() > usage_.in_use().bytes() / kWarmShareDivisor &&
      demand_.short_window_ms() <= Demand::kDefaultWindowMs && release_budget_.Allows(now_ms)) {
    wanted |= kFallen;
    displacing_ = false;
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
  PageHeapStats stats = ReadStats({reservations_, free_, metadata_source_, metadata_, usage_});
  stats.untouched_bytes = bounds_.UntouchedBytes(InUseBytes(), usage_);
  return stats;
}

void PageHeap::Publish() {
  const std::size_t peak_bytes = usage_.UpdatePeak();
  if (next_peak_bytes_ != 0 && peak_bytes >= next_peak_bytes_) [[unlikely]]
    attention_.fetch_or(kPeakReached, std::memory_order_relaxed);
  PublishFigures({reservations_, free_, metadata_source_, metadata_, usage_}, &published_);
}

}  // namespace tarn
