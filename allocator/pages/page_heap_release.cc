// SPDX-License-Identifier: Apache-2.0
//
// The part of the page heap that gives memory back to the kernel. Pages that are on their way are marked as used, so
// that nobody else can have them while the lock is not held.
#include "allocator/pages/page_heap.h"

#include <algorithm>
#include <iterator>
#include <new>

#include "allocator/os/clock.h"
#include "allocator/os/stack_memory.h"
#include "allocator/os/virtual_memory.h"

namespace tarn {

namespace {

// The number of trackers that a pass over packed huge pages looks at before it lets others have the lock: some 10 us.
constexpr std::size_t kTrackersPerHold = 64;
// A THP is broken up when this many of its pages are idle. docs/memory-return.md has the figures.
constexpr std::size_t kSparseIdlePages = kPagesPerHugePage / 16;
// The stack that functions with a batch, of some 4 KiB, need beyond it. They touch it before they take the lock,
// so that a stack overflow leaves the lock free.
constexpr std::size_t kReleaseStackBytes = 2048;
// The inverse of the share of what is in use that stays free and resident after a fall. It is half of what counts as a
// fall, so that not every free after it counts as the next one.
constexpr std::size_t kFallKeepDivisor = 8;

}  // namespace

PageHeap::InFlight* PageHeap::NewInFlight() {
  if (InFlight* spare = spare_in_flight_.PopFront()) return spare;
  if (!gave_first_in_flight_) {
    gave_first_in_flight_ = true;
    return &first_in_flight_;
  }
  void* memory = metadata_.Allocate(sizeof(InFlight), alignof(InFlight), MetadataKind::kPages);
  return memory == nullptr ? nullptr : ::new (memory) InFlight;
}

void PageHeap::DeleteInFlight(InFlight* in_flight) {
  if (in_flight->linked()) IntrusiveList<InFlight>::Remove(in_flight);
  *in_flight = {};
  spare_in_flight_.PushFront(in_flight);
}

void PageHeap::TakeOut(InFlight* in_flight, HugePage* huge_page, HugePage::PageBits pages) {
  if (huge_page->state == HugePageState::kWholeFree) {
    RemoveWholeFree(huge_page);
    huge_page->state = HugePageState::kPacked;
  } else {
    Unlist(huge_page);
  }
  for (auto run = pages.NextRun(0); run.count != 0; run = pages.NextRun(run.first + run.count)) {
    MarkUsed(huge_page, run.first, run.count, false);
  }
  Relist(huge_page);
  in_flight->huge_page = huge_page;
  in_flight->pages = pages;
  in_flight_.PushFront(in_flight);
}

void PageHeap::BringBack(InFlight* in_flight, bool zero) {
  HugePage* const huge_page = in_flight->huge_page;
  const HugePage::PageBits pages = in_flight->pages;
  DeleteInFlight(in_flight);
  Unlist(huge_page);
  for (auto run = pages.NextRun(0); run.count != 0; run = pages.NextRun(run.first + run.count)) {
    MarkFree(huge_page, run.first, run.count, zero);
  }
  Relist(huge_page);
}

std::size_t PageHeap::ReleaseWhole(HugePage* huge_page) {
  InFlight* const in_flight = NewInFlight();
  if (in_flight == nullptr) return 0;
  TakeOut(in_flight, huge_page, huge_page->free);
  const bool stopped = StopAsking(huge_page, 1);
  lock_.Release();
  const bool released = tarn::Release(huge_page->first_page.start(), kHugePageBytes);
  lock_.Acquire();
  if (released && stopped) {
    SetBacking(huge_page, Backing::kSmall);
    huge_page->was_released = true;
  }
  BringBack(in_flight, released && stopped);
  if (!released || !stopped) return 0;
  released_bytes_total_ += kHugePageBytes;
  return kHugePageBytes;
}

// On the stack of the thread that releases, some 4 KiB.
struct PageHeap::ReleaseBatch {
  static constexpr std::size_t kHugePages = 8;

  // True if another huge page has room: none has more runs than half its pages.
  bool HasRoom() const {
    return huge_page_count < kHugePages && range_count + kPagesPerHugePage / 2 <= std::size(ranges);
  }

  std::size_t huge_page_count = 0;
  std::size_t range_count = 0;
  InFlight* in_flight[kHugePages];
  MemoryRange ranges[kPagesPerHugePage];
};

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
  InFlight* const in_flight = NewInFlight();
  if (in_flight == nullptr) {
    batch->range_count = range_count_before;
    return;
  }
  TakeOut(in_flight, huge_page, whole);
  batch->in_flight[batch->huge_page_count++] = in_flight;
}

std::size_t PageHeap::ReleaseBatched(ReleaseBatch* batch) {
  if (batch->huge_page_count == 0) return 0;
  for (std::size_t i = 0; i < batch->huge_page_count; ++i) {
    static_cast<void>(StopAsking(batch->in_flight[i]->huge_page, 1));
  }
  lock_.Release();
  std::size_t released = ReleaseRanges(batch->ranges, batch->range_count);
  lock_.Acquire();
  std::size_t released_bytes = 0;
  for (std::size_t i = 0; i < released; ++i) released_bytes += batch->ranges[i].bytes;
  for (std::size_t i = 0; i < batch->huge_page_count; ++i) {
    InFlight* const in_flight = batch->in_flight[i];
    std::size_t runs = 0;
    const HugePage::PageBits& pages = in_flight->pages;
    for (auto run = pages.NextRun(0); run.count != 0; run = pages.NextRun(run.first + run.count)) {
      ++runs;
    }
    // Of a huge page of which only some ranges went, all count as not released.
    const bool all = released >= runs;
    released -= all ? runs : released;
    HugePage* const huge_page = in_flight->huge_page;
    if (all) huge_page->was_released = true;
    if (all && huge_page->backing == Backing::kHuge) SetBacking(huge_page, Backing::kSmall);
    BringBack(in_flight, all && huge_page->backing == Backing::kSmall);
    // The others may have become free while the lock was not held.
    if (huge_page->state == HugePageState::kWholeFree) huge_page->freed_at_ms = CoarseMilliseconds();
  }
  batch->huge_page_count = batch->range_count = 0;
  released_bytes_total_ += released_bytes;
  return released_bytes;
}

std::size_t PageHeap::ReleaseFree(std::size_t keep_warm_bytes, bool break_huge_pages) {
  ProbeStack(kReleaseStackBytes);
  LockHolder holder(lock_);
  const PublishAtEnd publish{this};
  std::size_t released_bytes = 0;
  while (warm_huge_bytes_ > keep_warm_bytes) {
    const std::size_t bytes = ReleaseWhole(warm_.back());  // the one that was freed longest ago
    if (bytes == 0) break;                                 // The kernel refuses; it would refuse the next one too.
    released_bytes += bytes;
  }
  if (!break_huge_pages) return released_bytes;
  ReleaseBatch batch;
  for (Reservation* reservation = reservations_; reservation != nullptr; reservation = reservation->next) {
    for (std::size_t i = 0; i < reservation->huge_page_count; ++i) {
      // The reservation may become shorter while the lock is not held.
      if (!batch.HasRoom()) released_bytes += ReleaseBatched(&batch);
      if (i >= reservation->huge_page_count) break;
      HugePage* huge_page = &reservation->huge_pages[i];
      // Not in use; its tracker may never have been written.
      if (reservation->whole_free.Test(i) || huge_page->state != HugePageState::kPacked) continue;
      AddToBatch(&batch, huge_page, huge_page->free.AndNot(huge_page->zero));
    }
  }
  return released_bytes + ReleaseBatched(&batch);
}

ScavengeResult PageHeap::ReleaseUnwanted(std::uint32_t now_ms, std::size_t most_bytes) {
  LockHolder holder(lock_);
  const PublishAtEnd publish{this};
  ScavengeResult result;
  const std::size_t kept_bytes = PageCount::FromHugePages(demand_.KeptHugePages(now_ms)).bytes();
  while (HugePage* huge_page = warm_.back()) {
    const std::uint32_t age_ms = MillisecondsBetween(huge_page->freed_at_ms, now_ms);
    if (age_ms < demand_.short_window_ms()) {
      result.next_ms = demand_.short_window_ms() - age_ms;
      break;
    }
    if (warm_huge_bytes_ <= kept_bytes) {
      result.next_ms = demand_.short_window_ms();
      break;
    }
    if (result.released_bytes >= most_bytes) {
      result.next_ms = 0;
      break;
    }
    const std::size_t bytes = ReleaseWhole(huge_page);
    if (bytes == 0) {
      // The kernel refuses. Not at once again.
      result.next_ms = demand_.short_window_ms();
      break;
    }
    result.released_bytes += bytes;
  }
  result.warm_huge_bytes = warm_huge_bytes_;
  return result;
}

std::size_t PageHeap::ReleaseOldest(std::size_t bytes) {
  LockHolder holder(lock_);
  const PublishAtEnd publish{this};
  std::size_t released_bytes = 0;
  while (released_bytes < bytes && !warm_.empty()) {
    const std::size_t step_bytes = ReleaseWhole(warm_.back());
    if (step_bytes == 0) break;
    released_bytes += step_bytes;
  }
  return released_bytes;
}

bool PageHeap::ReleaseIdlePages(std::size_t most_bytes, std::size_t* released_bytes, Idle which) {
  ProbeStack(kReleaseStackBytes);
  LockHolder holder(lock_);
  const PublishAtEnd publish{this};
  *released_bytes = 0;
  ReleaseBatch batch;
  bool end_of_pass = false;
  for (std::size_t looked_at = 0; looked_at < kTrackersPerHold && *released_bytes < most_bytes; ++looked_at) {
    if (!batch.HasRoom()) *released_bytes += ReleaseBatched(&batch);
    // Reservations may have come and gone since the last call, or in a flush; their records stay readable.
    if (idle_hand_.reservation == nullptr) idle_hand_ = {reservations_, 0};
    Reservation* const reservation = idle_hand_.reservation;
    const std::size_t index = idle_hand_.index++;
    if (reservation == nullptr || index >= reservation->huge_page_count) {
      if (reservation != nullptr) idle_hand_ = {reservation->next, 0};
      end_of_pass = idle_hand_.reservation == nullptr;
      if (end_of_pass) break;
      continue;
    }
    HugePage* const huge_page = &reservation->huge_pages[index];
    // Not in use; its tracker may never have been written.
    if (reservation->whole_free.Test(index) || huge_page->state != HugePageState::kPacked) continue;
    const HugePage::PageBits idle = (which == Idle::kIdle ? huge_page->idle : huge_page->free).AndNot(huge_page->zero);
    // A huge page of the kernel's that is dense stays one.
    const bool sparse = huge_page->backing == Backing::kSmall || idle.Count() >= kSparseIdlePages;
    if (which == Idle::kAnyFree || sparse) AddToBatch(&batch, huge_page, idle);
    if (which == Idle::kIdle) huge_page->idle = huge_page->free;
  }
  *released_bytes += ReleaseBatched(&batch);
  return end_of_pass;
}

PageHeap::Fall PageHeap::BeginGivingBack() {
  LockHolder holder(lock_);
  attention_.fetch_and(~kFallen, std::memory_order_relaxed);
  const Fall fall = {freed_since_fall_bytes_, in_use_.bytes()};
  freed_since_fall_bytes_ = 0;
  return fall;
}

PageHeap::Excess PageHeap::ReleaseExcess(std::size_t least_bytes, std::size_t* released_bytes) {
  {
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    *released_bytes = 0;
    const auto excess_bytes = [this]() TARN_NO_THREAD_SAFETY_ANALYSIS {
      const std::size_t warm_bytes = (free_ - free_zero_).bytes();
      return warm_bytes - std::min(warm_bytes, in_use_.bytes() / kFallKeepDivisor);
    };
    while (*released_bytes < least_bytes && excess_bytes() != 0 && !warm_.empty()) {
      // Parts of it may have gone before, and bring nothing.
      const PageCount warm(warm_.back()->warm_pages());
      if (ReleaseWhole(warm_.back()) == 0) return Excess::kDone;
      *released_bytes += warm.bytes();
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
  release_budget_.NoteRelease(released_bytes, ns, CoarseMilliseconds());
  if (excess == Excess::kMore) {
    attention_.fetch_or(kFallen, std::memory_order_relaxed);
    return;
  }
  in_excess_pass_ = false;
  // The rest would be left again, unless the pass has not seen it.
  const PageCount warm = free_ - free_zero_;
  const PageCount unseen = std::min(warm, freed_in_excess_pass_);
  freed_in_excess_pass_ = PageCount(0);
  unreleasable_ = warm.bytes() > in_use_.bytes() / kFallKeepDivisor + kHugePageBytes ? warm - unseen : PageCount(0);
}

void PageHeap::BeginScavenging() {
  LockHolder holder(lock_);
  scavenger_at_work_ = true;
  attention_.fetch_and(~(kScavengerWanted | kFallen), std::memory_order_relaxed);
}

void PageHeap::EndScavenging(bool finished) {
  LockHolder holder(lock_);
  scavenger_at_work_ = false;
  unreleasable_ = finished ? free_ - free_zero_ : PageCount(0);
  if (!finished) NoteFall(CoarseMilliseconds());
}

void PageHeap::RepairInForkedChild() {
  LockHolder holder(lock_);
  const PublishAtEnd publish{this};
  scavenger_at_work_ = false;
  in_excess_pass_ = false;
  freed_in_excess_pass_ = PageCount(0);
  unreleasable_ = PageCount(0);
  // The thread that released these is gone; it is unknown whether the kernel got to it.
  while (InFlight* in_flight = in_flight_.front()) {
    if (in_flight->committed_by != nullptr) {
      PutBack(*in_flight);
      DeleteInFlight(in_flight);
      continue;
    }
    BringBack(in_flight, false);
  }
}

}  // namespace tarn
