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

TEST(AddressSource, ReservesTheUsualSizeOrMoreInWholeHugePages) {
  AddressSource source;
  for (const std::size_t wanted : {std::size_t{1}, Reservation::kMaxHugePages + 1}) {
    std::size_t count = 0;
    void* start = source.ReserveAtLeast(wanted, &count);
    if (start == nullptr) {
      ASSERT_TRUE(source.IsLimited());
      continue;
    }
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(start) % kHugePageBytes, 0u);
    EXPECT_GE(count, wanted);
    if (!source.IsLimited()) {
      EXPECT_EQ(count, wanted == 1 ? Reservation::kMaxHugePages : wanted);
    }
    Unreserve(start, count * kHugePageBytes);
  }
}

TEST(AddressSource, IsRefusedMoreThanThereIs) {
  AddressSource source;
  std::size_t count = 0;
  EXPECT_EQ(source.ReserveAtLeast((std::size_t{1} << 51) / kHugePageBytes, &count), nullptr);
}

}  // namespace
}  // namespace tarn
