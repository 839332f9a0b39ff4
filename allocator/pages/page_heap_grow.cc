// SPDX-License-Identifier: Apache-2.0
//
// The part of the page heap that makes free huge pages where there are none: commits, reserves, gives up what others
// hold unused.
//
// TakeHugePages tries, grows and tries again. Nothing below it calls it: metadata has addresses of its own.
#include <algorithm>
#include <new>

#include "allocator/os/clock.h"
#include "allocator/os/virtual_memory.h"
#include "allocator/pages/page_heap.h"
#include "allocator/pages/page_map.h"

namespace tarn {

namespace {

// Of what is committed, the share that is committed ahead by one call: so a heap grows by some twenty calls for each
// tenfold of its size, and not by one for each huge page. Chosen.
constexpr std::size_t kCommitAheadDivisor = 8;
// Of the first huge page this part belongs to core dumps from the start: as much as most short processes use.
constexpr std::size_t kFirstDumpedPages = kPagesPerHugePage / 4;
// And then in steps of this.
constexpr std::size_t kDumpStepPages = kPagesPerHugePage / 8;

}  // namespace

// Finds whole free huge pages, in a new reservation if there are none. With an alignment beyond the huge page the
// reservation must be long enough wherever it happens to start.
Reservations::Place PageHeap::FindOrReserve(std::size_t count, std::size_t alignment) {
  // Warm ones come first: what is not resident costs page faults.
  const bool prefer_warm = count > 1 && free_.warm_pages().bytes() != 0;
  const auto preference = prefer_warm ? Reservations::Preference::kMostWarm : Reservations::Preference::kShortestRun;
  const Reservations::Place place = reservations_.Find(count, alignment, preference);
  if (place.first != nullptr || !AddReservation(count + alignment - 1)) return place;
  return reservations_.Find(count, alignment, preference);
}

HugePage* PageHeap::TakeHugePages(std::size_t count, std::size_t alignment, bool prefer_zero) {
  Reservations::Place place;
  if (prefer_zero) place = reservations_.Find(count, alignment, Reservations::Preference::kZero);
  if (place.first == nullptr && count == 1 && alignment == 1) {
    if (HugePage* const newest = free_.warm_pages().newest()) place = {newest->reservation, newest};
  }
  if (place.first == nullptr) place = FindOrReserve(count, alignment);
  if (place.first == nullptr || TakeThese(place, count)) return place.first;
  // Free memory stays charged to the process (RLIMIT_DATA, strict overcommit) until its addresses are given up.
  if (!UnreserveFree()) return nullptr;
  place = FindOrReserve(count, alignment);
  return place.first != nullptr && TakeThese(place, count) ? place.first : nullptr;
}

bool PageHeap::TakeThese(Reservations::Place place, std::size_t count) {
  HugePage* const first = place.first;
  const std::uint32_t now_ms = CoarseMilliseconds();
  bool all_committed = true;
  for (std::size_t i = 0; i < count; ++i) {
    HugePage* const huge_page = &first[i];
    if (huge_page->committed) {
      free_.RemoveWhole(huge_page);
      if (huge_page->freed_at_ms != 0) demand_.NoteReturn(huge_page->freed_at_ms, now_ms);
    } else {
      all_committed = false;
      place.reservation->SetUp(huge_page);
    }
    huge_page->state = HugePageState::kTaken;
  }
  if (!all_committed && !CommitTaken(place, count)) return false;
  for (std::size_t i = 0; i < count; ++i) first[i].state = HugePageState::kPacked;
  return true;
}

namespace {

// Commits those of the huge pages that are not, in as few calls as possible. No other thread looks at huge pages that
// are taken. False: the kernel refuses one of the first `needed`. The others it may refuse. They stay uncommitted where
// memory is locked, too: a commit brings it there (mm/mprotect.c).
bool CommitEach(InFlight* in_flight, std::size_t needed) {
  HugePage* const first = in_flight->huge_page;
  const bool ahead = needed < in_flight->count && !IsLocked(first[needed].first_page.start(), kHugePageBytes);
  const std::size_t count = ahead ? in_flight->count : needed;
  std::size_t end;
  for (std::size_t i = 0; i < count; i = end) {
    end = i + 1;
    if (first[i].committed) continue;
    while (end < count && !first[end].committed) ++end;
    const auto commit = [&] {
      void* const start = first[i].first_page.start();
      const std::size_t bytes = (end - i) * kHugePageBytes;
      if (!Commit(start, bytes)) return false;
      Dump(start, bytes);
      return true;
    };
    if (!commit()) {
      if (end <= needed) return false;
      end = needed;
      if (!commit()) return false;
      in_flight->committed = end;
      break;
    }
    in_flight->committed = end;
  }
  return true;
}

// Takes what is not committed from this huge page on into core dumps. Then a commit moves a border of mappings, where
// it needs a mapping more otherwise.
void DumpUncommitted(const Reservation* reservation, const HugePage* first) {
  const std::size_t index = reservation->IndexOf(first);
  std::size_t end = index;
  while (end < reservation->huge_page_count && !reservation->huge_pages[end].committed) ++end;
  Dump((reservation->first_page + PageCount::FromHugePages(index)).start(), (end - index) * kHugePageBytes);
}

}  // namespace

std::size_t PageHeap::TakeAhead(Reservation* reservation, std::size_t index) {
  const std::size_t most = free_.committed_huge_pages() / kCommitAheadDivisor;
  std::size_t count = 0;
  while (count < most && index + count < reservation->huge_page_count && reservation->whole_free.Test(index + count) &&
         !reservation->huge_pages[index + count].committed) {
    HugePage* const huge_page = &reservation->huge_pages[index + count];
    reservation->SetUp(huge_page);
    huge_page->state = HugePageState::kTaken;
    ++count;
  }
  return count;
}

bool PageHeap::CommitTaken(Reservations::Place place, std::size_t count) {
  HugePage* const first = place.first;
  const std::size_t end_index = place.reservation->IndexOf(first) + count;
  const std::size_t ahead = first[count - 1].committed ? 0 : TakeAhead(place.reservation, end_index);
  InFlight in_flight_under_lock;
  InFlight* const listed = in_flight_.New(&metadata_);
  InFlight& in_flight = listed != nullptr ? *listed : in_flight_under_lock;
  in_flight.huge_page = first;
  in_flight.count = count + ahead;
  in_flight.committed_by = place.reservation;
  bool enough;
  if (listed != nullptr) {
    in_flight_.List(listed);
    const Unlocked during_the_call(lock_);
    enough = CommitEach(&in_flight, count);
  } else {
    // Without a record the lock stays held.
    enough = CommitEach(&in_flight, count);
  }
  std::size_t refused = in_flight.committed;
  while (refused < count && first[refused].committed) ++refused;
  if (!enough && refused < count) {
    // The process may have no mappings left. The lock stays held, for others would fail in the same way.
    DumpUncommitted(place.reservation, &first[refused]);
    enough = CommitEach(&in_flight, count);
  }
  for (std::size_t i = 0; i < in_flight.committed; ++i) {
    if (!first[i].committed) free_.AddCommitted(&first[i]);
  }
  PutBack(in_flight, enough ? count : 0);
  if (listed != nullptr) in_flight_.Delete(listed);
  return enough;
}

void PageHeap::PutBack(const InFlight& in_flight, std::size_t from) {
  for (std::size_t i = from; i < in_flight.count; ++i) {
    HugePage* const huge_page = &in_flight.huge_page[i];
    if (huge_page->committed) {
      free_.PutWhole(huge_page);
    } else {
      in_flight.committed_by->Clear(huge_page);
    }
  }
}

// It needs memory for itself: its record, trackers, and leaves for both of the GiB that it may lie in.
//
// What is not in use stays out of core dumps, which gcore writes in full. That is what is not committed, and a part of
// the first huge page.
bool PageHeap::AddReservation(std::size_t huge_pages) {
  if (huge_pages > Reservation::kMaxHugePages) return false;
  std::size_t count = 0;
  const auto reserve = [&]() TARN_REQUIRES(lock_) {
    return address_source_.ReserveAtLeast(huge_pages, reservations_.huge_page_count(), &count);
  };
  void* start = reserve();
  // Other reservations may hold unused what is missing.
  if (start == nullptr && UnreserveFree()) start = reserve();
  if (start == nullptr) return false;
  const PageId first_page = PageId::Containing(start);
  const bool is_first = metadata_.block_bytes() == 0;
  bool has_metadata = EnsureMetadataFor(first_page, count);
  // Under a limit of addresses, the reservation may have taken what its own metadata needs.
  while (!has_metadata && count > huge_pages) {
    const std::size_t kept = std::max(count / 2, huge_pages);
    Unreserve((first_page + PageCount::FromHugePages(kept)).start(), (count - kept) * kHugePageBytes);
    count = kept;
    has_metadata = EnsureMetadataFor(first_page, count);
  }
  if (!has_metadata || (is_first && !Commit(start, kHugePageBytes))) {
    Unreserve(start, count * kHugePageBytes);
    return false;
  }
  NameMemory(start, count * kHugePageBytes, "tarn");
  const bool refuses_huge_pages = RefuseHugePages(start, count * kHugePageBytes);
  LeaveOutOfDumps(start, count * kHugePageBytes);

  Reservation* const reservation = reservations_.NewRecord(count, &metadata_);
  reservation->first_page = first_page;
  reservation->refuses_huge_pages = refuses_huge_pages;
  reservations_.Add(reservation);
  if (!is_first) return true;
  // The first huge page will be used at once.
  page_map.LeaveOutOfDumps();
  Dump(start, PageCount(kFirstDumpedPages).bytes());
  HugePage* const first = reservation->huge_pages;
  reservation->SetUp(first);
  free_.AddCommitted(first);
  free_.PutWhole(first);
  partly_dumped_ = first;
  dumped_pages_ = kFirstDumpedPages;
  return true;
}

// The lock stays held: it happens six times in a process at most.
void PageHeap::DumpMore(std::size_t pages) {
  if (pages <= dumped_pages_) return;
  const std::size_t dumped = RoundUp(pages, kDumpStepPages);
  Dump((partly_dumped_->first_page + PageCount(dumped_pages_)).start(), PageCount(dumped - dumped_pages_).bytes());
  dumped_pages_ = dumped;
  if (dumped == kPagesPerHugePage) partly_dumped_ = nullptr;
}

// Under an address space limit reservations are small, and a large object may need the space of several in a row. The
// lock stays held: the caller has no memory, so the others have none either.
bool PageHeap::UnreserveFree() {
  bool any = false;
  for (Reservation* reservation = reservations_.first(); reservation != nullptr; reservation = reservation->next) {
    any |= UnreserveEnd(reservation);
    any |= DecommitFree(reservation);
  }
  reservations_.RemoveEmpty();
  return any;
}

bool PageHeap::UnreserveEnd(Reservation* reservation) {
  std::size_t end = reservation->huge_page_count;
  while (end != 0 && reservation->whole_free.Test(end - 1)) {
    --end;
    if (reservation->huge_pages[end].committed) free_.ForgetWhole(&reservation->huge_pages[end]);
    reservation->whole_free.ClearRange(end, 1);
  }
  const std::size_t freed = reservation->huge_page_count - end;
  if (freed == 0) return false;
  Unreserve((reservation->first_page + PageCount::FromHugePages(end)).start(), freed * kHugePageBytes);
  reservations_.Shrink(reservation, end);
  return true;
}

bool PageHeap::DecommitFree(Reservation* reservation) {
  bool any = false;
  for (auto run = reservation->whole_free.NextRun(0); run.count != 0;
       run = reservation->whole_free.NextRun(run.first + run.count)) {
    for (std::size_t i = run.first; i < run.first + run.count; ++i) {
      HugePage* const huge_page = &reservation->huge_pages[i];
      if (!huge_page->committed) continue;
      void* const start = huge_page->first_page.start();
      const Decommitted decommitted = Decommit(start, kHugePageBytes);
      if (decommitted == Decommitted::kUnchanged) continue;
      any = true;
      free_.ForgetWhole(huge_page);
      if (decommitted == Decommitted::kLost) {
        ::new (huge_page) HugePage;
        huge_page->state = HugePageState::kLost;
        continue;
      }
      // A new mapping lies there.
      LeaveOutOfDumps(start, kHugePageBytes);
      if (reservation->refuses_huge_pages) static_cast<void>(RefuseHugePages(start, kHugePageBytes));
      reservation->Clear(huge_page);
    }
  }
  return any;
}

}  // namespace tarn
