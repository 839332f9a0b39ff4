// SPDX-License-Identifier: Apache-2.0
//
// The page heap's records of one huge page, and of the reservations that huge pages come from.
//
// Everything here is guarded by the page heap's lock.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/base/bitmap.h"
#include "allocator/base/intrusive_list.h"
#include "allocator/base/units.h"
#include "allocator/os/clock.h"

namespace tarn {

struct Reservation;

// The index of a page in its huge page.
constexpr std::size_t IndexInHugePage(PageId page) { return page.raw() % kPagesPerHugePage; }

enum class HugePageState : std::uint8_t {
  kWholeFree,  // no page is in a span; may be uncommitted, released or warm
  kPacked,     // some pages are in spans, some may be free
  kTaken,      // in no list, on its way to somebody: being committed without the lock
  kLost,       // its addresses are not ours any more: a decommit failed half-way
};

// The kernel's backing, as far as it is known: a THP or small pages. A THP is resident as a whole, and comes and goes
// as a whole most cheaply.
enum class Backing : std::uint8_t {
  kSmall,  // small pages
  kHuge,   // a huge page, brought by us
  kAsked,  // huge pages, whenever something of it is touched: no page of it may be taken as not resident
};

// Invariants: zero and idle are subsets of free; free_pages and longest_free_run describe free. A kPacked huge page is
// on the packing list of its longest_free_run, if that is not 0. A kWholeFree one that is committed and not all zero is
// on the warm list, or, with refused_at_ms, on the list of refused ones.
struct HugePage : ListLink<HugePage> {
  using PageBits = Bitmap<kPagesPerHugePage>;

  PageId first_page;
  Reservation* reservation = nullptr;
  PageBits free;  // pages in no span
  PageBits zero;  // free pages that nobody wrote since they were committed or released: not resident, zero
  PageBits idle;  // pages that were free when the scavenger last came by, and ever since
  // When the last page became free, if the state is kWholeFree; 0 when it never was in use. CoarseMilliseconds().
  std::uint32_t freed_at_ms = 0;
  // When the kernel last refused to take pages of it back, which it does where they are locked. CoarseMilliseconds();
  // 0: it did not, or it is time to try again.
  std::uint32_t refused_at_ms = 0;
  std::uint16_t free_pages = 0;
  static constexpr std::uint16_t kUnknownRun = UINT16_MAX;
  std::uint16_t longest_free_run = kUnknownRun;  // known while it is on a list
  std::uint16_t ahead_pages = 0;                 // free pages that were brought before their use; at most warm_pages()
  HugePageState state = HugePageState::kWholeFree;
  bool committed : 1 = false;
  bool was_released : 1 = false;  // pages of it were released at some time; those that are zero may be of these
  Backing backing : 2 = Backing::kSmall;

  std::size_t warm_pages() const { return free_pages - zero.Count(); }

  // Memory that the kernel refused is tried again after this time, or when it becomes free anew: it may be unlocked.
  // Chosen.
  static constexpr std::uint32_t kTryRefusedAgainMs = 10'000;
  // A page of it was refused, and not long ago.
  bool IsRefused(std::uint32_t now_ms) const {
    return refused_at_ms != 0 && MillisecondsBetween(refused_at_ms, now_ms) < kTryRefusedAgainMs;
  }

  // Marks free pages as used. Returns the number of those that were zero.
  std::size_t MarkUsed(std::size_t first, std::size_t count);
  // Marks used pages as free, and zero or not.
  void MarkFree(std::size_t first, std::size_t count, bool is_zero);
  // True if a free run of this length has memory behind it.
  bool HasWarmRun(std::size_t pages) const;
  // Returns the first page of an aligned place for `pages`, in the shortest free run that has one: one with memory
  // behind it, if there is such a run. There is one.
  std::size_t FindFree(std::size_t pages, std::size_t alignment) const;
};

// A reservation: address space that grows into use from its start, in huge pages.
struct Reservation {
  static constexpr std::size_t kMaxHugePages = 512;  // 1 GiB

  Reservation* next = nullptr;
  PageId first_page;
  std::size_t huge_page_count = 0;
  HugePage* huge_pages = nullptr;
  std::size_t tracker_capacity = 0;  // trackers at huge_pages, at least huge_page_count
  Bitmap<kMaxHugePages> whole_free;
  // Those of whole_free that have memory behind them: WarmPages keeps it.
  Bitmap<kMaxHugePages> warm;
  // An upper bound of the longest run in whole_free, so that a search passes by what has no room.
  std::size_t longest_free_bound = 0;
  // The list of those in which whole huge pages may be free. A search takes off it those in which none is.
  Reservation** list_with_room = nullptr;
  Reservation* next_with_room = nullptr;
  bool is_listed_with_room = false;
  // The kernel makes huge pages of its own here only where it is asked to (MADV_NOHUGEPAGE).
  bool refuses_huge_pages = false;

  std::size_t IndexOf(const HugePage* huge_page) const { return static_cast<std::size_t>(huge_page - huge_pages); }
  void SetWholeFree(const HugePage* huge_page) {
    whole_free.SetRange(IndexOf(huge_page), 1);
    longest_free_bound = huge_page_count;
    ListWithRoom();
  }
  void ListWithRoom() {
    if (is_listed_with_room) return;
    is_listed_with_room = true;
    next_with_room = *list_with_room;
    *list_with_room = this;
  }
  // Sets up the tracker of a huge page that is about to be committed, as one that is all free and zero. Not done with
  // the reservation, so that unused trackers are never touched.
  void SetUp(HugePage* huge_page);
  // The huge page is free, and not committed.
  void Clear(HugePage* huge_page);
};

}  // namespace tarn
