// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/in_flight.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace tarn {
namespace {

TEST(InFlights, TheFirstRecordNeedsNoMetadata) {
  InFlights in_flights;
  Metadata metadata;
  InFlight* const first = in_flights.New(&metadata);
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(in_flights.New(&metadata), nullptr) << "metadata has no room";
  first->count = 3;
  in_flights.List(first);
  EXPECT_EQ(in_flights.front(), first);
  in_flights.Delete(first);
  EXPECT_EQ(in_flights.front(), nullptr);
  EXPECT_EQ(in_flights.New(&metadata), first);
  EXPECT_EQ(first->count, 0u);
}

TEST(InFlights, RecordsAreKeptForTheNext) {
  constexpr std::size_t kWords = 8192;
  const std::unique_ptr<std::uint64_t[]> block(new std::uint64_t[kWords]());
  InFlights in_flights;
  Metadata metadata;
  metadata.AddBlock(block.get(), kWords * sizeof(std::uint64_t));
  InFlight* const first = in_flights.New(&metadata);
  InFlight* const second = in_flights.New(&metadata);
  ASSERT_NE(second, nullptr);
  in_flights.List(first);
  in_flights.List(second);
  const std::size_t used_bytes = metadata.used_bytes();
  in_flights.Delete(first);
  EXPECT_EQ(in_flights.front(), second);
  EXPECT_EQ(in_flights.New(&metadata), first);
  in_flights.Delete(second);
  // One that was never listed.
  in_flights.Delete(first);
  EXPECT_EQ(in_flights.front(), nullptr);
  static_cast<void>(in_flights.New(&metadata));
  static_cast<void>(in_flights.New(&metadata));
  EXPECT_EQ(metadata.used_bytes(), used_bytes);
}

}  // namespace
}  // namespace tarn
