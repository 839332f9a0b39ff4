// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/address_source.h"

#include <algorithm>
#include <cstdint>

#include "allocator/os/virtual_memory.h"
#include "allocator/pages/huge_page.h"
#include "allocator/pages/page_map.h"

namespace tarn {

namespace {

// As large as a leaf of the page map, so that a large heap needs few of either.
constexpr std::size_t kLargestHugePages = Reservation::kMaxHugePages;
// 32 MiB hold what a small process has. Chosen.
constexpr std::size_t kFirstHugePages = 16;
// Large objects seldom come alone. Where each has a reservation of its own, one that ends leaves memory that the next
// does not fit into: with 10 blocks of 5 to 25 MiB that are replaced in turn, that was twice the page faults.
constexpr std::size_t kObjectsPerReservation = 8;
// Under an address space limit a reservation takes at most this part of it, because thread stacks and files must find
// room too. Chosen.
constexpr std::size_t kLimitedReservationDivisor = 16;
constexpr std::size_t kMinReservationHugePages = 4;

}  // namespace

bool IsServable(const void* start, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(start) + bytes <= std::uintptr_t{1} << kAddressBits;
}

// The limit of addresses is asked for at the first reservation, or the first object that moves.
std::size_t AddressSource::Largest() {
  std::size_t largest = largest_.load(std::memory_order_relaxed);
  if (largest != 0) return largest;
  const std::size_t limit_bytes = AddressSpaceLimitBytes();
  largest = limit_bytes == SIZE_MAX ? kLargestHugePages
                                    : std::clamp(limit_bytes / kLimitedReservationDivisor / kHugePageBytes,
                                                 kMinReservationHugePages, kLargestHugePages - 1);
  largest_.store(largest, std::memory_order_relaxed);
  return largest;
}

bool AddressSource::IsLimited() { return Largest() != kLargestHugePages; }

void* AddressSource::ReserveAtLeast(std::size_t huge_pages, std::size_t reserved, std::size_t* count) {
  const std::size_t usual = std::max({reserved, kFirstHugePages, kObjectsPerReservation * huge_pages});
  *count = std::max(std::min(usual, Largest()), huge_pages);
  bool refused = false;
  while (true) {
    const std::size_t bytes = *count * kHugePageBytes;
    void* start = Reserve(bytes, kHugePageBytes);
    if (start != nullptr && !IsServable(start, bytes)) {
      Unreserve(start, bytes);
      return nullptr;
    }
    if (start != nullptr || *count == huge_pages) return start;
    if (!refused) {
      // The limit may have come later. What it is costs a system call, which a sandbox may forbid by now.
      refused = true;
      const std::size_t largest = std::max(*count / kLimitedReservationDivisor, kMinReservationHugePages);
      largest_.store(largest, std::memory_order_relaxed);
      *count = std::max(largest, huge_pages);
      continue;
    }
    *count = std::max(*count / 2, huge_pages);
  }
}

}  // namespace tarn
