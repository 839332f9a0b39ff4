// SPDX-License-Identifier: Apache-2.0
//
// Regions: which are kept for reuse, which go back to the page heap, and that none is handed out twice.
//
// Each in a forked child, with a heap of its own. In the thread mode, so that the thread keeps its shard, unless the
// test is about several threads.

#include "allocator/heap/regions.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "allocator/heap/process_heap.h"
#include "allocator/pages/page_map.h"
#include "tests/os/in_child.h"

namespace tarn {
namespace {

using tarn_test::ComplaintOfChild;

std::size_t InUseBytes() { return process_heap.page_heap.Stats().in_use_bytes; }

template <typename Body>
std::string InThreadMode(Body body) {
  return ComplaintOfChild([&] {
    setenv("TARN_MODE", "thread", 1);
    process_heap.EnsureStarted();
    // The thread has its slab from here on.
    FreeRegion(NewRegion(PageCount(32), PageCount(1)));
    body();
  });
}

TEST(Regions, SmallOnesAreKeptOnePerSize) {
  EXPECT_EQ(InThreadMode([] {
              for (const std::size_t pages : {1u, 2u, 4u, 8u, 16u}) {
                Span* first = NewRegion(PageCount(pages), PageCount(1));
                Span* second = NewRegion(PageCount(pages), PageCount(1));
                TARN_REQUIRE(first != nullptr && second != nullptr && first != second);
                TARN_REQUIRE(first->bytes() == pages * kPageBytes);
                const std::size_t bytes = InUseBytes();
                FreeRegion(first);
                TARN_REQUIRE(InUseBytes() == bytes);
                // There is one place.
                FreeRegion(second);
                TARN_REQUIRE(InUseBytes() == bytes - pages * kPageBytes);
                TARN_REQUIRE(NewRegion(PageCount(pages), PageCount(1)) == first);
                TARN_REQUIRE(NewRegion(PageCount(pages), PageCount(1)) != first);
              }
            }),
            "");
}

TEST(Regions, OthersGoBackAtOnce) {
  EXPECT_EQ(InThreadMode([] {
              // Not of a kept size; then with a record of objects, as pools have.
              for (const std::size_t pages : {3u, 5u, 32u}) {
                const std::size_t bytes = InUseBytes();
                Span* region = NewRegion(PageCount(pages), PageCount(1));
                TARN_REQUIRE(region != nullptr && InUseBytes() == bytes + pages * kPageBytes);
                FreeRegion(region);
                TARN_REQUIRE(InUseBytes() == bytes);
              }
              const std::size_t bytes = InUseBytes();
              Span* region = NewRegion(PageCount(4), PageCount(4), 100);
              TARN_REQUIRE(region != nullptr && region->start_address() % (4 * kPageBytes) == 0);
              region->object_count = 100;
              FreeRegion(region);
              TARN_REQUIRE(InUseBytes() == bytes);
              // One that is kept has neither a record nor an alignment to offer.
              FreeRegion(NewRegion(PageCount(4), PageCount(1)));
              Span* kept = NewRegion(PageCount(4), PageCount(1));
              FreeRegion(kept);
              Span* with_record = NewRegion(PageCount(4), PageCount(1), 64);
              Span* aligned = NewRegion(PageCount(4), PageCount(4));
              TARN_REQUIRE(with_record != kept && aligned != kept);
              TARN_REQUIRE(NewRegion(PageCount(4), PageCount(1)) == kept);
            }),
            "");
}

TEST(Regions, TheRecordSaysWhatTheyAre) {
  EXPECT_EQ(InThreadMode([] {
              Span* region = NewRegion(PageCount(3), PageCount(1), 1024);
              TARN_REQUIRE(region->is_region() && *RegionOwner(region) == nullptr);
              TARN_REQUIRE(page_map.SpanOf(PageId::Containing(region->start_address())) == region);
              // The bits of all objects have room.
              std::memset(RegionBits(region), 0xFF, 1024 / 8);
              *RegionOwner(region) = region;
              Span* next = NewRegion(PageCount(3), PageCount(1), 1024);
              TARN_REQUIRE(next->is_region() && *RegionOwner(next) == nullptr);
              TARN_REQUIRE(RegionBits(region)[1024 / 64 - 1] == ~std::uint64_t{0});
              FreeRegion(next);
              // The marks of another one in the record are gone.
              FreeRegion(region);
              region = NewRegion(PageCount(3), PageCount(1), 1024);
              TARN_REQUIRE(*RegionOwner(region) == nullptr);
            }),
            "");
}

TEST(Regions, ZeroIsSaidOnlyOfWhatIsZero) {
  EXPECT_EQ(InThreadMode([] {
              for (const std::size_t pages : {1u, 16u, 20u}) {
                for (int round = 0; round < 20; ++round) {
                  bool zero = false;
                  Span* region = NewRegion(PageCount(pages), PageCount(1), 0, &zero);
                  const auto* bytes = static_cast<const char*>(region->start());
                  for (std::size_t i = 0; zero && i < region->bytes(); ++i) TARN_REQUIRE(bytes[i] == 0);
                  std::memset(region->start(), 1, region->bytes());
                  FreeRegion(region);
                }
              }
            }),
            "");
}

TEST(Regions, KeptOnesAreGivenBackOnDemand) {
  EXPECT_EQ(InThreadMode([] {
              const std::size_t bytes = InUseBytes();
              std::vector<Span*> regions;
              for (const std::size_t pages : {1u, 2u, 4u, 8u, 16u}) {
                regions.push_back(NewRegion(PageCount(pages), PageCount(1)));
              }
              for (Span* region : regions) FreeRegion(region);
              TARN_REQUIRE(InUseBytes() == bytes + 31 * kPageBytes);
              FreeKeptRegions();
              TARN_REQUIRE(InUseBytes() == bytes);
              FreeKeptRegions();
              TARN_REQUIRE(InUseBytes() == bytes);
            }),
            "");
}

// More threads than shards. Another thread gives the kept ones back all the time.
TEST(Regions, NoneIsHandedOutTwice) {
  EXPECT_EQ(ComplaintOfChild([] {
              process_heap.EnsureStarted();
              std::atomic<bool> stop = false;
              std::thread taker([&stop] {
                while (!stop.load()) {
                  FreeKeptRegions();
                  std::this_thread::yield();
                }
              });
              std::vector<std::thread> threads;
              for (std::uint64_t t = 1; t <= 20; ++t) {
                threads.emplace_back([t] {
                  for (int i = 0; i < 500; ++i) {
                    Span* region = NewRegion(PageCount(1), PageCount(1));
                    TARN_REQUIRE(region != nullptr);
                    auto* word = static_cast<std::uint64_t*>(region->start());
                    __atomic_store_n(word, t, __ATOMIC_RELAXED);
                    std::this_thread::yield();
                    TARN_REQUIRE(__atomic_load_n(word, __ATOMIC_RELAXED) == t);
                    FreeRegion(region);
                  }
                });
              }
              for (std::thread& thread : threads) thread.join();
              stop.store(true);
              taker.join();
            }),
            "");
}

}  // namespace
}  // namespace tarn
