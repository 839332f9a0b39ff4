// SPDX-License-Identifier: Apache-2.0
//
// The reservations of the page heap: their records, and which of their huge pages are free as a whole.
//
// Pure: no lock, no system call. Guarded by the page heap's lock. All zero at the start (heap/process_heap.h). The list
// can be read in any state (page_heap_abandon.cc): entries come and go by single stores of pointers to whole records.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/base/bitmap.h"
#include "allocator/base/units.h"
#include "allocator/pages/huge_page.h"
#include "allocator/pages/metadata.h"

namespace tarn {

class Reservations {
 public:
  // The record of a new reservation with its trackers, all zero, which Add enters. Metadata has room for RecordBytes.
  Reservation* NewRecord(std::size_t huge_pages, Metadata* metadata);
  static std::size_t RecordBytes(std::size_t huge_pages);
  // All of its huge pages are free, and not committed.
  void Add(Reservation* reservation);
  // Its last huge pages go back to the kernel. They are free and not committed.
  void Shrink(Reservation* reservation, std::size_t huge_pages);
  // Takes the records without huge pages off the list. They stay readable, and serve new reservations.
  void RemoveEmpty();

  // Finds `count` whole free huge pages in a row; both null: there are none. `alignment` counts huge pages.
  enum class Preference : std::uint8_t {
    kShortestRun,  // the shortest run of free ones that will do, so that long ones stay whole; the lowest of equals
    kMostWarm,     // where most are warm; of equals, as before
    kZero,         // none that is warm
  };
  struct Place {
    Reservation* reservation = nullptr;
    HugePage* first = nullptr;  // its tracker may never have been written
  };
  Place Find(std::size_t count, std::size_t alignment, Preference preference);

  // True if the address lies in a huge page that spans are or were made of.
  bool Serves(std::uintptr_t address) const;

  // A walk over all huge pages, which begins again behind the last one. Reservations may come and go between steps.
  struct Walk {
    Reservation* reservation = nullptr;
    std::size_t index = 0;
  };
  // Returns the next one; null where that one is not packed.
  HugePage* NextPacked(Walk* walk, bool* end_of_pass) const;

  Reservation* first() const { return first_; }
  std::size_t huge_page_count() const { return huge_page_count_; }

 private:
  using HugePageRun = Bitmap<Reservation::kMaxHugePages>::Run;
  struct Window {
    std::size_t first;
    std::size_t warm;
  };
  static Window WarmestWindow(const Reservation* reservation, HugePageRun run, std::size_t count,
                              std::size_t alignment);

  Reservation* first_ = nullptr;
  // Many reservations are full in a large heap.
  Reservation* first_with_room_ = nullptr;
  // Records of reservations that went back to the kernel.
  Reservation* spare_ = nullptr;
  std::size_t huge_page_count_ = 0;
};

}  // namespace tarn
