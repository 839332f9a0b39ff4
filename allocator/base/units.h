// SPDX-License-Identifier: Apache-2.0
//
// Units of address space: our pages and huge pages, as types that do not mix with bytes.
//
// A page is kPageBytes (8 KiB) of ours, whatever the kernel's page size is; a huge page is an aligned 2 MiB. PageCount
// is a length, PageId a place: the number of the page in the address space.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

#include "size_classes/size_classes.h"

namespace tarn {

inline constexpr std::size_t kHugePageShift = 21;
inline constexpr std::size_t kHugePageBytes = std::size_t{1} << kHugePageShift;
inline constexpr std::size_t kPagesPerHugePage = kHugePageBytes / kPageBytes;
static_assert(kPagesPerHugePage == 256);

// User space ends at 2^47 with four-level page tables. Linux hands out higher addresses only to a program that asks
// for them by hint, which we never do.
inline constexpr std::size_t kAddressBits = 47;

class PageCount {
 public:
  constexpr PageCount() = default;
  constexpr explicit PageCount(std::size_t pages) : pages_(pages) {}
  // The pages that hold `bytes`, rounded up. `bytes` is at most 2^63.
  static constexpr PageCount FromBytesCeil(std::size_t bytes) {
    return PageCount((bytes + kPageBytes - 1) >> kPageShift);
  }
  static constexpr PageCount FromHugePages(std::size_t huge_pages) { return PageCount(huge_pages * kPagesPerHugePage); }

  constexpr std::size_t raw() const { return pages_; }
  constexpr std::size_t bytes() const { return pages_ << kPageShift; }
  // The huge pages that hold them when the first page is the start of a huge page.
  constexpr std::size_t huge_pages_ceil() const { return (pages_ + kPagesPerHugePage - 1) / kPagesPerHugePage; }

  constexpr auto operator<=>(const PageCount&) const = default;
  constexpr PageCount operator+(PageCount other) const { return PageCount(pages_ + other.pages_); }
  constexpr PageCount operator-(PageCount other) const { return PageCount(pages_ - other.pages_); }
  constexpr PageCount& operator+=(PageCount other) { return *this = *this + other; }
  constexpr PageCount& operator-=(PageCount other) { return *this = *this - other; }

 private:
  std::size_t pages_ = 0;
};

class PageId {
 public:
  constexpr PageId() = default;
  constexpr explicit PageId(std::uintptr_t number) : number_(number) {}
  static constexpr PageId Containing(std::uintptr_t address) { return PageId(address >> kPageShift); }
  static PageId Containing(const void* address) { return Containing(reinterpret_cast<std::uintptr_t>(address)); }

  constexpr std::uintptr_t raw() const { return number_; }
  constexpr std::uintptr_t address() const { return number_ << kPageShift; }
  void* start() const { return reinterpret_cast<void*>(address()); }

  constexpr auto operator<=>(const PageId&) const = default;
  constexpr PageId operator+(PageCount pages) const { return PageId(number_ + pages.raw()); }
  constexpr PageId operator-(PageCount pages) const { return PageId(number_ - pages.raw()); }
  // The distance from `other`, which is not behind this page.
  constexpr PageCount operator-(PageId other) const { return PageCount(number_ - other.number_); }

 private:
  std::uintptr_t number_ = 0;
};

constexpr std::size_t RoundUp(std::size_t value, std::size_t power_of_two) {
  return (value + power_of_two - 1) & ~(power_of_two - 1);
}

}  // namespace tarn
