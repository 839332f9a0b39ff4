// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/huge_page.h"

#include <algorithm>
#include <new>

#include "allocator/base/check.h"

namespace tarn {

std::size_t HugePage::MarkUsed(std::size_t first, std::size_t count) {
  // The longest run stays the longest unless this was it, or one as long: then it is looked for.
  if (free.RunAround(first).count == longest_free_run) longest_free_run = kUnknownRun;
  std::size_t zero_pages = 0;
  std::uint64_t not_free = 0;
  PageBits::ForWords(first, count, [&](std::size_t index, std::uint64_t mask) {
    not_free |= ~free.word(index) & mask;
    free.word(index) &= ~mask;
    zero_pages += PageBits::CountBits(zero.word(index) & mask);
    zero.word(index) &= ~mask;
    idle.word(index) &= ~mask;
  });
  TARN_CHECK(not_free == 0);
  free_pages = static_cast<std::uint16_t>(free_pages - count);
  return zero_pages;
}

void HugePage::MarkFree(std::size_t first, std::size_t count, bool is_zero) {
  std::uint64_t free_before = 0;
  PageBits::ForWords(first, count, [&](std::size_t index, std::uint64_t mask) {
    free_before |= free.word(index) & mask;
    free.word(index) |= mask;
    if (is_zero) zero.word(index) |= mask;
  });
  TARN_CHECK(free_before == 0);
  if (longest_free_run != kUnknownRun) {
    longest_free_run = std::max(longest_free_run, static_cast<std::uint16_t>(free.RunAround(first).count));
  }
  free_pages = static_cast<std::uint16_t>(free_pages + count);
}

bool HugePage::HasWarmRun(std::size_t pages) const {
  const PageBits warm = free.AndNot(zero);
  for (auto run = warm.NextRun(0); run.count != 0; run = warm.NextRun(run.first + run.count)) {
    if (run.count >= pages) return true;
  }
  return false;
}

namespace {

// kPagesPerHugePage: none.
std::size_t FindAmong(const HugePage::PageBits& bits, std::size_t pages, std::size_t alignment) {
  std::size_t best_first = kPagesPerHugePage;
  std::size_t best_length = kPagesPerHugePage + 1;
  for (auto run = bits.NextRun(0); run.count != 0; run = bits.NextRun(run.first + run.count)) {
    const std::size_t aligned_first = RoundUp(run.first, alignment);
    if (aligned_first + pages <= run.first + run.count && run.count < best_length) {
      best_first = aligned_first;
      best_length = run.count;
      if (best_length == pages) break;
    }
  }
  return best_first;
}

}  // namespace

std::size_t HugePage::FindFree(std::size_t pages, std::size_t alignment) const {
  std::size_t first = FindAmong(free.AndNot(zero), pages, alignment);
  if (first == kPagesPerHugePage) first = FindAmong(free, pages, alignment);
  TARN_CHECK(first != kPagesPerHugePage);
  return first;
}

void Reservation::SetUp(HugePage* huge_page) {
  const std::size_t index = IndexOf(huge_page);
  ::new (huge_page) HugePage;
  huge_page->first_page = first_page + PageCount::FromHugePages(index);
  huge_page->reservation = this;
  huge_page->free.SetRange(0, kPagesPerHugePage);
  huge_page->zero.SetRange(0, kPagesPerHugePage);
  huge_page->free_pages = kPagesPerHugePage;
  whole_free.ClearRange(index, 1);
}

void Reservation::Clear(HugePage* huge_page) {
  ::new (huge_page) HugePage;
  SetWholeFree(huge_page);
}

}  // namespace tarn
