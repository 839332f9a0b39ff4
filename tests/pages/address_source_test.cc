// SPDX-License-Identifier: Apache-2.0
//
// Reservations without a limit of addresses, or with whatever limit the test itself runs under. Limits that come while
// a process runs are in page_heap_limits_test.cc.

#include "allocator/pages/address_source.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

#include "allocator/base/units.h"
#include "allocator/os/virtual_memory.h"
#include "allocator/pages/huge_page.h"

namespace tarn {
namespace {

TEST(AddressSource, ServesAddressesOfThePageMapOnly) {
  constexpr std::uintptr_t kEnd = std::uintptr_t{1} << 47;
  EXPECT_TRUE(IsServable(reinterpret_cast<void*>(kEnd - kHugePageBytes), kHugePageBytes));
  EXPECT_FALSE(IsServable(reinterpret_cast<void*>(kEnd - kHugePageBytes), kHugePageBytes + 1));
  EXPECT_FALSE(IsServable(reinterpret_cast<void*>(kEnd), 1));
}

TEST(AddressSource, ReservesAsMuchAsThereIsInWholeHugePages) {
  AddressSource source;
  constexpr std::size_t kMost = Reservation::kMaxHugePages;
  struct Case {
    std::size_t wanted;
    std::size_t reserved;
    std::size_t count;
  };
  for (const auto& [wanted, reserved, expected] :
       {Case{1, 0, 16}, Case{1, 16, 16}, Case{1, 32, 32}, Case{10, 32, 80}, Case{100, 32, kMost}, Case{1, 333, 333},
        Case{1, kMost, kMost}, Case{1, 100 * kMost, kMost}, Case{kMost + 1, 0, kMost + 1}}) {
    std::size_t count = 0;
    void* start = source.ReserveAtLeast(wanted, reserved, &count);
    if (start == nullptr) {
      ASSERT_TRUE(source.IsLimited());
      continue;
    }
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(start) % kHugePageBytes, 0u);
    EXPECT_GE(count, wanted);
    if (!source.IsLimited()) {
      EXPECT_EQ(count, expected);
    }
    Unreserve(start, count * kHugePageBytes);
  }
}

TEST(AddressSource, IsRefusedMoreThanThereIs) {
  AddressSource source;
  std::size_t count = 0;
  EXPECT_EQ(source.ReserveAtLeast((std::size_t{1} << 51) / kHugePageBytes, 0, &count), nullptr);
}

}  // namespace
}  // namespace tarn
