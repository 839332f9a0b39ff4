// SPDX-License-Identifier: Apache-2.0
//
// The part of the page heap that has the kernel bring memory which is about to be used: a page fault costs more than
// anything that an allocator does. docs/memory-return.md has the figures.
//
// Small objects fill their spans, and spans their huge pages, so this memory is populated before it is touched: some
// pages ahead, and in heaps that are large enough a whole huge page, as a THP. The part that is populated and not used
// is bounded by a share of what is in use. So small processes touch what they use, and nothing else.
//
// Transparent huge pages (THP) are advised
//   unless the system's setting is `never`, or TARN_HUGE_PAGES says no;
//   for huge pages that become dense: behind the growth of objects of up to 8 KiB, and for large objects that malloc is
//   asked for (calloc's may be tables that stay empty);
//   not for ever: the scavenger breaks up what became sparse (page_heap_release.cc).
//
// Every reservation refuses huge pages from its start (MADV_NOHUGEPAGE). With the setting `always` the kernel would
// make a huge page of the first byte that is touched. khugepaged would fill again what was released, so nearly nothing
// of a burst would go back. The setting does not matter to the refusal, since it may change while the process
// runs. The kernel knows such advice by mapping, and a process has only some ten thousands of these. So a huge page for
// small objects is asked for only as long as it takes to touch it, which leaves one mapping again. khugepaged finds
// nothing to do there, so nothing that was released comes back by itself.
#include "allocator/pages/page_heap.h"

#include <algorithm>

#include "allocator/os/clock.h"
#include "allocator/os/huge_page_setting.h"
#include "allocator/os/virtual_memory.h"

namespace tarn {

namespace {

// Up to this share of what is in use is brought ahead at once. At most twice as much is there unused at any time, for
// short runs are left over. Where small pages are brought it is at most kPopulateMaxBytes at once, which bounds the
// time of one malloc.
constexpr std::size_t kPopulateShareDivisor = 32;
constexpr std::size_t kAheadShareDivisor = kPopulateShareDivisor / 2;
constexpr std::size_t kPopulateMinBytes = std::size_t{16} << 10;
constexpr std::size_t kPopulateMaxBytes = std::size_t{256} << 10;
// Larger objects have many OS pages, of which most may never be touched. A program that holds 20 000 buffers of 64 KiB,
// and seldom uses more than a few KiB of each, would have them all resident. With two it is twice as much at worst.
constexpr std::size_t kPopulateMaxObjectBytes = 8192;
// THP are used where OS pages have this size: there they are as large as our huge pages.
constexpr std::size_t kOsPageBytes = 4096;
// Objects that huge pages are asked for are mappings for the kernel. At worst every second huge page is one.
constexpr std::size_t kMaxAskedHugePages = 8192;

}  // namespace

std::size_t PageHeap::AheadBytes() const {
  const std::size_t most_bytes = usage_.in_use().bytes() / kAheadShareDivisor;
  return most_bytes - std::min(most_bytes, (bounds_.coming() + free_.ahead()).bytes());
}

void PageHeap::PopulateAhead(const Run& run, PageCount pages, std::size_t object_bytes) {
  if (object_bytes > kPopulateMaxObjectBytes || PopulateHugePage(run, pages)) return;
  const std::size_t goal_bytes = std::min(
      {usage_.in_use().bytes() / kPopulateShareDivisor, kPopulateMaxBytes, AheadBytes(), bring_cost_.MostSmallBytes()});
  // Where the kernel's pages are larger than ours, a fault brings more by itself.
  if (goal_bytes < kPopulateMinBytes || OsPageBytes() > kPageBytes || !bounds_.HasRoomAhead(HeldBytes(), goal_bytes))
    return;
  HugePage* const huge_page = run.huge_page;
  const std::size_t first = run.first_page.raw() % kPagesPerHugePage + pages.raw();
  const std::size_t most = std::min(PageCount::FromBytesCeil(goal_bytes).raw(), kPagesPerHugePage - first);
  const auto next = huge_page->zero.NextRun(first);
  InFlight* const ahead = next.count != 0 && next.first == first ? in_flight_.New(&metadata_) : nullptr;
  std::size_t ahead_pages = 0;
  if (ahead != nullptr) {
    ahead_pages = std::min(next.count, most);
    HugePage::PageBits bits;
    bits.SetRange(first, ahead_pages);
    TakeOut(ahead, huge_page, bits);
  }
  // The run is in use already, but a thread that loses its CPU may touch it late.
  const PageCount all_pages = pages + PageCount(ahead_pages);
  bounds_.BeginComing(all_pages);
  bool populated;
  std::uint64_t ns;
  {
    const Unlocked during_the_call(lock_);
    const std::uint64_t start_ns = MonotonicNanoseconds();
    populated = Populate(run.first_page.start(), all_pages.bytes());
    ns = MonotonicNanoseconds() - start_ns;
  }
  bounds_.EndComing(all_pages);
  if (populated) bring_cost_.NoteSmall(all_pages.bytes(), ns, CoarseMilliseconds());
  if (populated) NoteTouched(huge_page, ahead_pages);
  if (ahead == nullptr) return;
  BringBack(ahead, populated ? HugePage::PageBits() : ahead->pages);
  if (populated) free_.SetAhead(huge_page, huge_page->ahead_pages + ahead_pages);
  NoteWarm();
}

bool PageHeap::PopulateHugePage(const Run& run, PageCount pages) {
  HugePage* const huge_page = run.huge_page;
  if (usage_.in_use().bytes() / kPopulateShareDivisor < kHugePageBytes || AheadBytes() < kHugePageBytes) return false;
  if (!bounds_.HasRoomAhead(HeldBytes(), kHugePageBytes)) return false;
  // Nothing of it is resident: all that is not the run is free and zero.
  if (huge_page->zero.Count() + pages.raw() != kPagesPerHugePage || !BacksHugePages()) return false;
  if (!huge_page->reservation->refuses_huge_pages) return false;
  if (!bring_cost_.HugePagesPay(CoarseMilliseconds())) return false;
  // A huge page lies within one mapping.
  if (huge_page == partly_dumped_) DumpMore(kPagesPerHugePage);
  InFlight* const rest = in_flight_.New(&metadata_);
  if (rest == nullptr) return false;
  TakeOut(rest, huge_page, huge_page->zero);
  bounds_.BeginComing(PageCount(kPagesPerHugePage));
  bool backed;
  std::uint64_t ns;
  {
    const Unlocked during_the_call(lock_);
    const std::uint64_t start_ns = MonotonicNanoseconds();
    backed = BackByHugePage(huge_page->first_page.start(), kHugePageBytes);
    ns = MonotonicNanoseconds() - start_ns;
  }
  bring_cost_.NoteHuge(backed, ns, CoarseMilliseconds());
  bounds_.EndComing(PageCount(kPagesPerHugePage));
  if (backed) {
    free_.SetBacking(huge_page, Backing::kHuge);
    NoteTouched(huge_page, rest->pages.Count());
  }
  const std::size_t rest_pages = rest->pages.Count();
  BringBack(rest, backed ? HugePage::PageBits() : rest->pages);
  if (backed) free_.SetAhead(huge_page, huge_page->ahead_pages + rest_pages);
  NoteWarm();
  return backed;
}

bool PageHeap::BacksHugePages() {
  if (huge_pages_ != HugePages::kUnknown) return huge_pages_ == HugePages::kAsked;
  huge_pages_ = HugePages::kLeftAlone;
  if (OsPageBytes() != kOsPageBytes || KnownHugePageSetting() == HugePageSetting::kNever) return false;
  huge_pages_ = HugePages::kAsked;
  return true;
}

bool PageHeap::MayAsk(std::size_t bytes) {
  // One touch brings 2 MiB, and an object may be touched here and there only.
  return BacksHugePages() && bring_cost_.HugePagesPay(CoarseMilliseconds()) && bounds_.HasRoomAhead(HeldBytes(), bytes);
}

void PageHeap::NoteAsked(Run* run, const void* grown, std::size_t filled_bytes) {
  HugePage* const first = run->huge_page + run->asked_first;
  if (run->asked_count < kAskFloorHugePages || free_.asked() + run->asked_count > kMaxAskedHugePages ||
      !run->huge_page->reservation->refuses_huge_pages) {
    run->asked_count = 0;
  } else if (grown == nullptr) {
    const DenseSizes::Filled filled = dense_sizes_.LikelyFilled(first->first_page, run->asked_count, lock_);
    run->asked_count = filled.huge_pages;
    run->filled = filled.known;
  } else {
    {
      const Unlocked during_the_look(lock_);
      run->filled = LooksFilled(grown, filled_bytes);
    }
    if (!run->filled) run->asked_count = 0;
  }
  for (std::size_t i = 0; i < run->asked_count; ++i) free_.SetBacking(&first[i], Backing::kAsked);
}

void PageHeap::Ask(const Run& run) {
  void* const start = (run.first_page + PageCount::FromHugePages(run.asked_first)).start();
  if (!WantHugePages(start, run.asked_count * kHugePageBytes) || !run.filled || !IsDear(start)) return;
  LockHolder holder(lock_);
  const PublishAtEnd publish{this};
  static_cast<void>(StopAsking(run.huge_page + run.asked_first, run.asked_count));
}

bool PageHeap::IsDear(void* huge_page) {
  {
    LockHolder holder(lock_);
    if (!bring_cost_.IsTimeToSample(CoarseMilliseconds())) return false;
  }
  const std::uint64_t start_ns = MonotonicNanoseconds();
  *static_cast<volatile char*>(huge_page) = 0;
  const std::uint64_t ns = MonotonicNanoseconds() - start_ns;
  LockHolder holder(lock_);
  const std::uint32_t now_ms = CoarseMilliseconds();
  bring_cost_.NoteHuge(true, ns, now_ms);
  return !bring_cost_.HugePagesPay(now_ms);
}

bool PageHeap::StopAsking(HugePage* first, std::size_t count) {
  while (count != 0 && first->backing != Backing::kAsked) {
    ++first;
    --count;
  }
  while (count != 0 && first[count - 1].backing != Backing::kAsked) --count;
  if (count == 0) return true;
  {
    const Unlocked during_the_call(lock_);
    if (!RefuseHugePages(first->first_page.start(), count * kHugePageBytes)) return false;
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (first[i].backing == Backing::kAsked) free_.SetBacking(&first[i], Backing::kSmall);
  }
  return true;
}

void PageHeap::AllowHugePages(bool allowed) {
  LockHolder holder(lock_);
  huge_pages_ = allowed ? HugePages::kUnknown : HugePages::kLeftAlone;
}

}  // namespace tarn
