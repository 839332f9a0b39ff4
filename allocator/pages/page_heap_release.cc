// SPDX-License-Identifier: Apache-2.0
//
// The part of the page heap that gives memory back to the kernel. Pages that are on their way are marked as used, so
// that nobody else can have them while the lock is not held.
#include "allocator/pages/page_heap.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <new>

#include "allocator/os/clock.h"
#include "allocator/os/stack_memory.h"
#include "allocator/os/virtual_memory.h"
#include "allocator/pages/release_batch.h"

namespace tarn {

namespace {

// A THP is broken up when this many of its pages are idle. docs/memory-return.md has the figures.
constexpr std::size_t kSparseIdlePages = kPagesPerHugePage / 16;
// The inverse of the share of what is in use that stays free and resident after a fall. It is half of what counts as a
// fall, so that not every free after it counts as the next one.
constexpr std::size_t kFallKeepDivisor = 8;
// The least free memory that growth displaces, and how much grows between two looks. Chosen.
constexpr std::size_t kDisplacingStepBytes = std::size_t{1} << 20;
// Whole huge pages that were in use within this time are left alone: others of their kind come and go. Chosen.
constexpr std::uint32_t kDisplacedAgeMs = 100;
// For times of which 0 says that there is none.
std::uint32_t NowOrOne() { return std::max<std::uint32_t>(CoarseMilliseconds(), 1); }

}  // namespace

void PageHeap::TakeOut(InFlight* in_flight, HugePage* huge_page, HugePage::PageBits pages) {
  free_.TakeOut(huge_page, pages);
  in_flight->huge_page = huge_page;
  in_flight->pages = pages;
  in_flight_.List(in_flight);
}

void PageHeap::BringBack(InFlight* in_flight, const HugePage::PageBits& zero) {
  HugePage* const huge_page = in_flight->huge_page;
  const HugePage::PageBits pages = in_flight->pages;
  in_flight_.Delete(in_flight);
  free_.BringBack(huge_page, pages, zero);
}

void PageHeap::TryRefusedAgain(bool all) {
  if (free_.warm_pages().has_refused()) [[unlikely]]
    free_.warm_pages().TryRefusedAgain(CoarseMilliseconds(), all);
}

bool PageHeap::ReleaseWhole(HugePage* huge_page, std::size_t* released_bytes) {
  InFlight* const in_flight = in_flight_.New(&metadata_);
  if (in_flight == nullptr) return false;
  const HugePage::PageBits zero_before = huge_page->zero;
  const PageCount warm(huge_page->warm_pages());
  TakeOut(in_flight, huge_page, huge_page->free);
  bounds_.BeginLeaving(warm);
  const bool stopped = StopAsking(huge_page, 1);
  bool released;
  {
    const Unlocked during_the_call(lock_);
    released = tarn::Release(huge_page->first_page.start(), kHugePageBytes);
  }
  bounds_.EndLeaving(warm);
  // While huge pages are asked for, a touch of one page may bring all of them.
  released &= stopped;
  huge_page->refused_at_ms = released ? 0 : NowOrOne();
  if (released) {
    free_.SetBacking(huge_page, Backing::kSmall);
    huge_page->was_released = true;
  }
  const HugePage::PageBits zero_now = released ? in_flight->pages : zero_before;
  BringBack(in_flight, zero_now);
  if (!released) return true;
  usage_.NoteReleased(warm.bytes());
  *released_bytes += warm.bytes();
  return true;
}

void PageHeap::AddToBatch(ReleaseBatch* batch, HugePage* huge_page, const HugePage::PageBits& pages) {
  const std::size_t os_pages = std::max<std::size_t>(OsPageBytes() / kPageBytes, 1);
  HugePage::PageBits whole;
  const std::size_t range_count_before = batch->range_count;
  for (auto run = pages.NextRun(0); run.count != 0; run = pages.NextRun(run.first + run.count)) {
    const std::size_t end = (run.first + run.count) / os_pages * os_pages;
    const std::size_t first = RoundUp(run.first, os_pages);
    if (first >= end) continue;
    whole.SetRange(first, end - first);
    batch->ranges[batch->range_count++] = {(huge_page->first_page + PageCount(first)).start(),
                                           PageCount(end - first).bytes()};
  }
  if (batch->range_count == range_count_before) return;
  InFlight* const in_flight = in_flight_.New(&metadata_);
  if (in_flight == nullptr) {
    batch->range_count = range_count_before;
    return;
  }
  TakeOut(in_flight, huge_page, whole);
  bounds_.BeginLeaving(PageCount(whole.Count()));
  batch->bytes += PageCount(whole.Count()).bytes();
  batch->in_flight[batch->huge_page_count++] = in_flight;
}

std::size_t PageHeap::ReleaseBatched(ReleaseBatch* batch) {
  if (batch->huge_page_count == 0) return 0;
  for (std::size_t i = 0; i < batch->huge_page_count; ++i) {
    static_cast<void>(StopAsking(batch->in_flight[i]->huge_page, 1));
  }
  bool released[std::size(batch->ranges)];
  {
    const Unlocked during_the_call(lock_);
    ReleaseRanges(batch->ranges, batch->range_count, released);
  }
  bounds_.EndLeaving(PageCount::FromBytesCeil(batch->bytes));
  std::size_t released_bytes = 0;
  const bool* next = released;
  for (std::size_t i = 0; i < batch->huge_page_count; ++i) {
    InFlight* const in_flight = batch->in_flight[i];
    HugePage* const huge_page = in_flight->huge_page;
    HugePage::PageBits zero;
    bool all = true;
    const HugePage::PageBits& pages = in_flight->pages;
    for (auto run = pages.NextRun(0); run.count != 0; run = pages.NextRun(run.first + run.count)) {
      all &= *next;
      if (*next++) zero.SetRange(run.first, run.count);
    }
    huge_page->refused_at_ms = all ? 0 : NowOrOne();
    const bool any = zero.Count() != 0;
    if (any && huge_page->backing == Backing::kHuge) free_.SetBacking(huge_page, Backing::kSmall);
    // While huge pages are asked for, a touch of one page may bring all of them.
    if (huge_page->backing != Backing::kSmall) zero = {};
    if (any) huge_page->was_released = true;
    released_bytes += PageCount(zero.Count()).bytes();
    BringBack(in_flight, zero);
    // The others may have become free while the lock was not held.
    if (huge_page->state == HugePageState::kWholeFree) huge_page->freed_at_ms = CoarseMilliseconds();
  }
  batch->huge_page_count = batch->range_count = batch->bytes = 0;
  usage_.NoteReleased(released_bytes);
  return released_bytes;
}

std::size_t PageHeap::ReleaseFree(std::size_t keep_warm_bytes, bool break_huge_pages) {
  ProbeStack(kReleaseStackBytes);
  LockHolder holder(lock_);
  const PublishAtEnd publish{this};
  std::size_t released_bytes = 0;
  // A request is not refused without a try.
  TryRefusedAgain(break_huge_pages);
  while (free_.warm_pages().bytes() > keep_warm_bytes) {
    // The one that was freed longest ago.
    if (!ReleaseWhole(free_.warm_pages().oldest(), &released_bytes)) break;
  }
  if (!break_huge_pages) return released_bytes;
  ReleaseBatch batch;
  Reservations::Walk walk;
  while (true) {
    if (!batch.HasRoom()) released_bytes += ReleaseBatched(&batch);
    bool end_of_pass = false;
    HugePage* const huge_page = reservations_.NextPacked(&walk, &end_of_pass);
    if (end_of_pass) break;
    if (huge_page != nullptr) AddToBatch(&batch, huge_page, huge_page->free.AndNot(huge_page->zero));
  }
  released_bytes += ReleaseBatched(&batch);
  // Where addresses are limited, stacks and files need them, too.
  if (address_source_.IsLimited()) UnreserveFree();
  return released_bytes;
}

ScavengeResult PageHeap::ReleaseUnwanted(std::uint32_t now_ms, std::size_t most_bytes) {
  LockHolder holder(lock_);
  const PublishAtEnd publish{this};
  ScavengeResult result;
  TryRefusedAgain(false);
  const std::size_t kept_bytes = PageCount::FromHugePages(demand_.KeptHugePages(now_ms)).bytes();
  while (HugePage* huge_page = free_.warm_pages().oldest()) {
    const std::uint32_t age_ms = MillisecondsBetween(huge_page->freed_at_ms, now_ms);
    if (age_ms < demand_.short_window_ms()) {
      result.next_ms = demand_.short_window_ms() - age_ms;
      break;
    }
    if (free_.warm_pages().bytes() <= kept_bytes) {
      result.next_ms = demand_.short_window_ms();
      break;
    }
    if (result.released_bytes >= most_bytes) {
      result.next_ms = 0;
      break;
    }
    if (!ReleaseWhole(huge_page, &result.released_bytes)) {
      result.next_ms = demand_.short_window_ms();
      break;
    }
  }
  result.warm_huge_bytes = free_.warm_pages().bytes();
  return result;
}

std::size_t PageHeap::ReleaseOldest(std::size_t bytes) {
  LockHolder holder(lock_);
  const PublishAtEnd publish{this};
  TryRefusedAgain(false);
  std::size_t released_bytes = 0;
  while (released_bytes < bytes && free_.warm_pages().oldest() != nullptr &&
         ReleaseWhole(free_.warm_pages().oldest(), &released_bytes)) {
  }
  return released_bytes;
}

// --- Pages of huge pages in use ------------------------------------------------------------------------------------

bool PageHeap::ReleaseIdlePages(std::size_t most_bytes, std::size_t* released_bytes, Idle which) {
  ProbeStack(kReleaseStackBytes);
  LockHolder holder(lock_);
  const PublishAtEnd publish{this};
  *released_bytes = 0;
  ReleaseBatch batch;
  bool end_of_pass = false;
  for (std::size_t looked_at = 0; looked_at < kTrackersPerHold && *released_bytes < most_bytes; ++looked_at) {
    if (!batch.HasRoom()) *released_bytes += ReleaseBatched(&batch);
    HugePage* const huge_page = reservations_.NextPacked(&idle_hand_, &end_of_pass);
    if (end_of_pass) break;
    if (huge_page == nullptr) continue;
    if (which == Idle::kIdle && huge_page->IsRefused(CoarseMilliseconds())) continue;
    const HugePage::PageBits idle = (which == Idle::kIdle ? huge_page->idle : huge_page->free).AndNot(huge_page->zero);
    // A huge page of the kernel's that is dense stays one.
    const bool sparse = huge_page->backing == Backing::kSmall || idle.Count() >= kSparseIdlePages;
    if (which == Idle::kAnyFree || sparse) AddToBatch(&batch, huge_page, idle);
    if (which == Idle::kIdle) huge_page->idle = huge_page->free;
  }
  *released_bytes += ReleaseBatched(&batch);
  return end_of_pass;
}

bool PageHeap::MayReleaseWhole(bool displacing) const {
  const HugePage* const oldest = free_.warm_pages().oldest();
  return oldest != nullptr &&
         (!displacing || MillisecondsBetween(oldest->freed_at_ms, CoarseMilliseconds()) >= kDisplacedAgeMs);
}

void PageHeap::NoteUnfit() {
  next_displacing_at_bytes_ = fresh_bytes_.load(std::memory_order_relaxed) + kDisplacingStepBytes;
  const std::size_t warm_bytes = (free_.warm() - std::min(free_.warm(), unreleasable_)).bytes();
  const std::size_t kept_bytes = usage_.in_use().bytes() / kFallKeepDivisor + kDisplacingStepBytes;
  if (warm_bytes < kept_bytes || scavenger_at_work_ || (attention() & kFallen) != 0) return;
  const std::size_t young_bytes = MayReleaseWhole(true) ? 0 : free_.warm_pages().bytes();
  if (warm_bytes < kept_bytes + young_bytes || demand_.short_window_ms() > Demand::kDefaultWindowMs ||
      !release_budget_.AllowsDisplacing(CoarseMilliseconds())) {
    return;
  }
  displacing_ = true;
  attention_.fetch_or(kFallen, std::memory_order_relaxed);
}

PageHeap::Fall PageHeap::BeginGivingBack() {
  LockHolder holder(lock_);
  attention_.fetch_and(~kFallen, std::memory_order_relaxed);
  const Fall fall = {displacing_ ? 0 : freed_since_fall_bytes_, usage_.in_use().bytes()};
  freed_since_fall_bytes_ = 0;
  return fall;
}

PageHeap::Excess PageHeap::ReleaseExcess(std::size_t least_bytes, std::size_t* released_bytes) {
  {
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    *released_bytes = 0;
    const auto excess_bytes = [this]() TARN_NO_THREAD_SAFETY_ANALYSIS {
      const std::size_t warm_bytes = free_.warm().bytes() - free_.warm_pages().refused_bytes();
      return warm_bytes - std::min(warm_bytes, usage_.in_use().bytes() / kFallKeepDivisor);
    };
    TryRefusedAgain(false);
    while (*released_bytes < least_bytes && excess_bytes() != 0 && MayReleaseWhole(displacing_)) {
      if (!ReleaseWhole(free_.warm_pages().oldest(), released_bytes)) return Excess::kDone;
    }
    if (excess_bytes() == 0) return Excess::kDone;
    if (*released_bytes >= least_bytes) return Excess::kMore;
    // Behind the last one, the hand would come to the first again.
    if (!in_excess_pass_) idle_hand_ = {};
    in_excess_pass_ = true;
  }
  std::size_t scattered_bytes = 0;
  const bool end_of_pass = ReleaseIdlePages(least_bytes - *released_bytes, &scattered_bytes, Idle::kSparse);
  *released_bytes += scattered_bytes;
  return end_of_pass ? Excess::kDone : Excess::kMore;
}

void PageHeap::EndGivingBack(std::size_t released_bytes, std::uint64_t ns, Excess excess) {
  LockHolder holder(lock_);
  if (displacing_) {
    release_budget_.NoteDisplaced(released_bytes, ns);
  } else {
    release_budget_.NoteRelease(released_bytes, ns, CoarseMilliseconds());
  }
  if (excess == Excess::kMore) {
    attention_.fetch_or(kFallen, std::memory_order_relaxed);
    return;
  }
  in_excess_pass_ = false;
  displacing_ = false;
  // The rest would be left again, unless the pass has not seen it.
  const PageCount warm = free_.warm();
  const PageCount unseen = std::min(warm, freed_in_excess_pass_);
  freed_in_excess_pass_ = PageCount(0);
  unreleasable_ =
      warm.bytes() > usage_.in_use().bytes() / kFallKeepDivisor + kHugePageBytes ? warm - unseen : PageCount(0);
}

void PageHeap::BeginScavenging() {
  LockHolder holder(lock_);
  scavenger_at_work_ = true;
  displacing_ = false;
  attention_.fetch_and(~(kScavengerWanted | kFallen), std::memory_order_relaxed);
}

void PageHeap::EndScavenging(bool finished) {
  LockHolder holder(lock_);
  scavenger_at_work_ = false;
  unreleasable_ = finished ? free_.warm() : PageCount(0);
  if (!finished) NoteFall(CoarseMilliseconds());
}

void PageHeap::RepairInForkedChild() {
  LockHolder holder(lock_);
  const PublishAtEnd publish{this};
  scavenger_at_work_ = false;
  in_excess_pass_ = false;
  displacing_ = false;
  freed_in_excess_pass_ = PageCount(0);
  unreleasable_ = PageCount(0);
  bounds_.ForgetPassing();
  usage_.ForgetGrowths();
  // The thread that released these is gone; it is unknown whether the kernel got to it.
  while (InFlight* in_flight = in_flight_.front()) {
    if (in_flight->committed_by != nullptr) {
      PutBack(*in_flight, 0);
      in_flight_.Delete(in_flight);
      continue;
    }
    BringBack(in_flight, {});
  }
}

}  // namespace tarn
