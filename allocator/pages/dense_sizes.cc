// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/dense_sizes.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>

#include "allocator/os/stack_memory.h"

namespace tarn {

namespace {

constexpr std::size_t kLookedPageBytes = 4096;
// One of the eight may differ, for an object that is not filled to its end. Chosen.
constexpr std::size_t kLooks = 8;
constexpr std::size_t kMayDiffer = 1;
// An OS page is empty if the first word of each step is 0. Odd words too: the lower half of a small number as
// a double is 0.
constexpr std::size_t kWordStepBytes = 508;
// An object that was found filled gives eight times its size to the next ones. Each further one in a row gives twice
// as much, up to 64 times. Chosen.
constexpr unsigned kCreditShift = 3;
constexpr std::size_t kMostFilled = 3;
// Without any evidence, a process gets this many huge pages, once: 16 MiB at worst. Only for objects of up to 32 MiB.
// Chosen: so programs that work with blocks of some MiB, which mostly fill them, need not fault the first one in.
constexpr std::size_t kTried = 8;
constexpr std::size_t kMostTriedBy = 16;

bool IsEmpty(std::uintptr_t page) {
  for (std::size_t offset = 0; offset < kLookedPageBytes; offset += kWordStepBytes) {
    if (WordHasChanged(page + offset, 0)) return false;
  }
  return true;
}

// True if nearly all of the pages are empty, or not empty.
bool Look(bool empty, const void* start, std::size_t bytes) {
  const std::size_t step_pages = bytes / kLookedPageBytes / kLooks;
  std::size_t different = 0;
  for (std::size_t i = 0; i < kLooks; ++i) {
    // Each at another place of its step, so that none of a row of equal gaps is met again and again: multiples of the
    // golden ratio.
    const std::size_t place = step_pages * ((i + 1) * 0x9E3779B9 & 0xFFFFFFFF) >> 32;
    const std::size_t page = i * step_pages + place;
    const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(start) + page * kLookedPageBytes;
    // Memory that cannot be read is neither.
    if ((!IsReadable(address) || IsEmpty(address) != empty) && ++different > kMayDiffer) return false;
  }
  return true;
}

}  // namespace

bool LooksFilled(const void* start, std::size_t bytes) { return Look(false, start, bytes); }
bool LooksEmpty(const void* start, std::size_t bytes) { return Look(true, start, bytes); }

// Forgets the object first. Others may note another one during the look, or free this one.
void DenseSizes::Judge(Sizes* sizes, Lock& lock) {
  const std::size_t huge_pages = std::exchange(sizes->huge_pages, 0);
  if (huge_pages == 0) return;
  const auto* const start = reinterpret_cast<const void*>(sizes->address);
  bool filled;
  {
    const Unlocked during_the_look(lock);
    filled = LooksFilled(start, huge_pages * kHugePageBytes);
  }
  if (!filled) {
    sizes->credit = 0;
    sizes->filled = 0;
    return;
  }
  sizes->credit += huge_pages << (kCreditShift + sizes->filled);
  sizes->filled = std::min(sizes->filled + 1, kMostFilled);
}

DenseSizes::Filled DenseSizes::LikelyFilled(PageId first_page, std::size_t huge_pages, Lock& lock) {
  Sizes& sizes = sizes_[(static_cast<std::size_t>(std::bit_width(huge_pages)) + 2) / 4];
  if (sizes.credit < huge_pages) Judge(&sizes, lock);
  sizes.address = first_page.address();
  sizes.huge_pages = huge_pages;
  if (sizes.credit >= huge_pages) {
    sizes.credit -= huge_pages;
    return {huge_pages, true};
  }
  const std::size_t tried = huge_pages <= kMostTriedBy ? std::min(huge_pages, kTried - tried_) : 0;
  tried_ += tried;
  return {tried, false};
}

void DenseSizes::NoteGone(PageId first_page, PageCount pages, Lock& lock) {
  for (Sizes& sizes : sizes_) {
    if (sizes.huge_pages == 0 || sizes.address - first_page.address() >= pages.bytes()) continue;
    if (sizes.credit < sizes.huge_pages) {
      Judge(&sizes, lock);
    } else {
      sizes.huge_pages = 0;
    }
  }
}

}  // namespace tarn
