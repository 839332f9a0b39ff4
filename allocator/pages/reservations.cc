// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/reservations.h"

#include <algorithm>
#include <new>

namespace tarn {

namespace {

constexpr std::size_t kMetadataAlignmentBytes = 64;

}  // namespace

Reservation* Reservations::NewRecord(std::size_t count, Metadata* metadata) {
  for (Reservation** link = &spare_; *link != nullptr; link = &(*link)->next) {
    Reservation* spare = *link;
    if (spare->tracker_capacity < count) continue;
    *link = spare->next;
    HugePage* const trackers = spare->huge_pages;
    const std::size_t capacity = spare->tracker_capacity;
    for (std::size_t i = 0; i < count; ++i) ::new (&trackers[i]) HugePage;
    Reservation* reservation = ::new (spare) Reservation;
    reservation->huge_page_count = count;
    reservation->huge_pages = trackers;
    reservation->tracker_capacity = capacity;
    return reservation;
  }
  auto* reservation =
      ::new (metadata->Allocate(sizeof(Reservation), kMetadataAlignmentBytes, MetadataKind::kPages)) Reservation;
  reservation->huge_page_count = count;
  reservation->huge_pages = static_cast<HugePage*>(
      metadata->Allocate(count * sizeof(HugePage), kMetadataAlignmentBytes, MetadataKind::kPages));
  reservation->tracker_capacity = count;
  return reservation;
}

std::size_t Reservations::RecordBytes(std::size_t huge_pages) {
  return sizeof(Reservation) + huge_pages * sizeof(HugePage) + 2 * kMetadataAlignmentBytes;
}

void Reservations::Add(Reservation* reservation) {
  const std::size_t count = reservation->huge_page_count;
  huge_page_count_ += count;
  reservation->list_with_room = &first_with_room_;
  reservation->ListWithRoom();
  reservation->whole_free.SetRange(0, count);
  reservation->longest_free_bound = count;
  reservation->next = first_;
  first_ = reservation;
}

void Reservations::Shrink(Reservation* reservation, std::size_t huge_pages) {
  const std::size_t gone = reservation->huge_page_count - huge_pages;
  reservation->whole_free.ClearRange(huge_pages, gone);
  reservation->huge_page_count = huge_pages;
  huge_page_count_ -= gone;
}

void Reservations::RemoveEmpty() {
  for (Reservation** link = &first_with_room_; *link != nullptr;) {
    Reservation* const reservation = *link;
    if (reservation->huge_page_count != 0) {
      link = &reservation->next_with_room;
      continue;
    }
    *link = reservation->next_with_room;
    reservation->is_listed_with_room = false;
  }
  for (Reservation** link = &first_; *link != nullptr;) {
    Reservation* const reservation = *link;
    if (reservation->huge_page_count != 0) {
      link = &reservation->next;
      continue;
    }
    *link = reservation->next;
    reservation->next = spare_;
    spare_ = reservation;
  }
}

Reservations::Place Reservations::Find(std::size_t count, std::size_t alignment, Preference preference) {
  Place best;
  std::size_t best_length = SIZE_MAX;
  std::size_t best_warm = 0;
  for (Reservation** link = &first_with_room_; *link != nullptr;) {
    Reservation* const reservation = *link;
    if (reservation->longest_free_bound < count) {
      if (reservation->longest_free_bound == 0) {
        *link = reservation->next_with_room;
        reservation->is_listed_with_room = false;
      } else {
        link = &reservation->next_with_room;
      }
      continue;
    }
    link = &reservation->next_with_room;
    const std::size_t first_number = reservation->first_page.raw() / kPagesPerHugePage;
    std::size_t longest = 0;
    const bool zero_only = preference == Preference::kZero;
    const auto candidates = zero_only ? reservation->whole_free.AndNot(reservation->warm) : reservation->whole_free;
    for (auto run = candidates.NextRun(0); run.count != 0; run = candidates.NextRun(run.first + run.count)) {
      longest = std::max(longest, run.count);
      std::size_t aligned_first = RoundUp(first_number + run.first, alignment) - first_number;
      if (aligned_first + count > run.first + run.count) continue;
      std::size_t warm = 0;
      if (preference == Preference::kMostWarm) {
        const Window window =
            WarmestWindow(reservation, {aligned_first, run.first + run.count - aligned_first}, count, alignment);
        aligned_first = window.first;
        warm = window.warm;
      }
      if (best.first == nullptr || warm > best_warm || (warm == best_warm && run.count < best_length)) {
        best = {reservation, &reservation->huge_pages[aligned_first]};
        best_length = run.count;
        best_warm = warm;
      }
    }
    if (!zero_only) reservation->longest_free_bound = longest;
  }
  return best;
}

// Finds, in a run of free huge pages, the `count` in a row of which most are warm. The run begins aligned and is long
// enough.
Reservations::Window Reservations::WarmestWindow(const Reservation* reservation, HugePageRun run, std::size_t count,
                                                 std::size_t alignment) {
  const auto is_warm = [reservation](std::size_t index) { return reservation->warm.Test(index) ? 1u : 0u; };
  const std::size_t last = run.first + run.count - count;
  std::size_t first = run.first;
  std::size_t warm = reservation->warm.CountRange(first, count);
  std::size_t warm_behind = reservation->warm.CountRange(first + count, run.count - count);
  Window best{first, warm};
  // The last warm one comes in where no window may begin, perhaps: then on to the next one that may.
  bool may_begin = true;
  while ((warm_behind != 0 || !may_begin) && best.warm != count && first != last) {
    warm_behind -= is_warm(first + count);
    warm += is_warm(first + count);
    warm -= is_warm(first);
    ++first;
    may_begin = (first - run.first) % alignment == 0;
    if (may_begin && warm > best.warm) best = {first, warm};
  }
  return best;
}

bool Reservations::Serves(std::uintptr_t address) const {
  const PageId page = PageId::Containing(address);
  for (const Reservation* reservation = first_; reservation != nullptr; reservation = reservation->next) {
    if (page < reservation->first_page) continue;
    const std::size_t index = (page - reservation->first_page).raw() / kPagesPerHugePage;
    if (index >= reservation->huge_page_count) continue;
    return reservation->huge_pages[index].committed;
  }
  return false;
}

HugePage* Reservations::NextPacked(Walk* walk, bool* end_of_pass) const {
  // Reservations may have come and gone since the last call, or in a flush; their records stay readable.
  if (walk->reservation == nullptr) *walk = {first_, 0};
  Reservation* const reservation = walk->reservation;
  const std::size_t index = walk->index++;
  if (reservation == nullptr || index >= reservation->huge_page_count) {
    if (reservation != nullptr) *walk = {reservation->next, 0};
    *end_of_pass = walk->reservation == nullptr;
    return nullptr;
  }
  HugePage* const huge_page = &reservation->huge_pages[index];
  // Not in use; its tracker may never have been written.
  if (reservation->whole_free.Test(index) || huge_page->state != HugePageState::kPacked) return nullptr;
  return huge_page;
}

}  // namespace tarn
