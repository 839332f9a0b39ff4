// SPDX-License-Identifier: Apache-2.0
//
// Large objects that are likely to be filled, by what the program did with others of about their size.
//
// Size alone says nothing: a table of 200 MiB may hold a byte for each MiB. So the first object of a size that takes
// memory which is not resident gets no huge pages. A process may try a few all the same. The object is looked at when
// the next one of about its size is allocated, or when it is freed. If it is filled, the next ones get huge pages, up
// to a multiple of its size. Then the last of them is looked at. The multiple grows with each object that is found
// filled. So a program that fills all of its objects pays for the first, and for few looks.
//
// The kernel reads some words of the object (os/stack_memory.h), so a look at memory that the program protected or
// unmapped does no harm. Memory that was filled with zeroes counts as empty.
//
// Guarded by the page heap's lock, which a look is not made under: the memory may be in swap, or wait for a handler of
// the program's (userfaultfd). All zero at the start (heap/process_heap.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/base/attributes.h"
#include "allocator/base/units.h"
#include "allocator/os/lock.h"

namespace tarn {

// True if nearly all OS pages of the range hold something else than zeroes, as far as eight of them say. Two to
// three microseconds, and up to ten where that is not so.
bool LooksFilled(const void* start, std::size_t bytes);
// The contrary: nearly all of them hold zeroes, or nothing.
bool LooksEmpty(const void* start, std::size_t bytes);

class DenseSizes {
 public:
  // An object is allocated, of which the huge pages from this one on are not resident; at least two. Returns how many
  // of them get huge pages, and whether others were found filled.
  struct Filled {
    std::size_t huge_pages;
    bool known;
  };
  // Drops the lock for a look.
  Filled LikelyFilled(PageId first_page, std::size_t huge_pages, Lock& lock) TARN_REQUIRES(lock);
  // An object is about to be freed, moved or cut short. Drops the lock for a look.
  void NoteGone(PageId first_page, PageCount pages, Lock& lock) TARN_REQUIRES(lock);

 private:
  // Of objects of 4 to 64 MiB, to 1 GiB, and so on.
  struct Sizes {
    // The last object.
    std::uintptr_t address = 0;
    std::size_t huge_pages = 0;  // of it that were not resident; 0: there is none
    std::size_t credit = 0;      // huge pages that the next ones get
    std::size_t filled = 0;      // objects in a row that were found filled
  };
  static constexpr std::size_t kSizes = (kAddressBits - kHugePageShift + 1 + 2) / 4 + 1;

  static void Judge(Sizes* sizes, Lock& lock) TARN_REQUIRES(lock);

  Sizes sizes_[kSizes] = {};
  std::size_t tried_ = 0;
};

}  // namespace tarn
