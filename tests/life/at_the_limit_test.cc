// SPDX-License-Identifier: Apache-2.0
//
// A process at its limit still gets all that is kept for speed, in whatever form it is kept.
//
// Each body fills the memory up to a hard limit with objects of one size. It gives a little back that stays in one kind
// of cache, and asks for another size.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "allocator/include/tarn/arena.h"
#include "allocator/include/tarn/limits.h"
#include "allocator/include/tarn/profile.h"
#include "tests/entry/surface.h"
#include "tests/life/expect_child.h"
#include "tests/life/process.h"

namespace tarn_test {
namespace {

constexpr double kSeconds = kPatienceSeconds;
constexpr size_t kFilled = 200000;
// Eight to a page, and a span is a page: what is free in a row of them can be anything.
constexpr size_t kFillBytes = 1024;
// Sizes that nothing else in the process uses.
constexpr size_t kOtherBytes = 20000;
constexpr size_t kLargeBytes = 300000;

// In static memory, which the limit does not count.
void* objects[kFilled];
size_t filled = 0;

void FillUp(size_t bytes = kFillBytes) {
  void* object;
  while (filled < kFilled && (object = malloc(bytes)) != nullptr) objects[filled++] = object;
  TARN_LIFE_REQUIRE(filled != kFilled);
  std::sort(objects, objects + filled);
}

// The longest run of neighbours, from its first on.
size_t LongestRun(size_t bytes, size_t* first) {
  size_t longest = 0;
  size_t start = 0;
  for (size_t i = 1; i <= filled; ++i) {
    if (i < filled && AddressOf(objects[i]) == AddressOf(objects[i - 1]) + bytes) continue;
    if (i - start > longest) {
      longest = i - start;
      *first = start;
    }
    start = i;
  }
  return longest;
}

// Frees neighbours of `bytes` in all, of which the caches keep some.
void FreeNeighbours(size_t bytes) {
  size_t first = 0;
  TARN_LIFE_REQUIRE(LongestRun(kFillBytes, &first) >= bytes / kFillBytes + 8);
  for (size_t i = 0; i < bytes / kFillBytes; ++i) free(objects[first + 4 + i]);
}

TEST(AtTheLimit, ObjectsInCachesServeOtherSizes) {
  ExpectGoodEnd(kSeconds, [] {
    tarn_set_profile_rate(0);
    tarn_set_hard_limit(16 * kMiB);
    FillUp();
    TARN_LIFE_REQUIRE(malloc(kOtherBytes) == nullptr);
    FreeNeighbours(64 * kKiB);
    TARN_LIFE_REQUIRE(malloc(kOtherBytes) != nullptr);
  });
}

TEST(AtTheLimit, ObjectsInCachesServeLargeObjects) {
  ExpectGoodEnd(kSeconds, [] {
    tarn_set_profile_rate(0);
    tarn_set_hard_limit(16 * kMiB);
    FillUp();
    TARN_LIFE_REQUIRE(malloc(kLargeBytes) == nullptr);
    FreeNeighbours(kLargeBytes + 64 * kKiB);
    TARN_LIFE_REQUIRE(malloc(kLargeBytes) != nullptr);
  });
}

// Arenas and pools keep their regions for the next one.
TEST(AtTheLimit, KeptRegionsServeObjects) {
  ExpectGoodEnd(kSeconds, [] {
    tarn_set_profile_rate(0);
    tarn_set_hard_limit(16 * kMiB);
    tarn_arena arena;
    tarn_arena_init(&arena, nullptr);
    for (int i = 0; i < 30; ++i) TARN_LIFE_REQUIRE(tarn_arena_allocate(&arena, 8000, 16) != nullptr);
    const size_t capacity_bytes = tarn_arena_get_stats(&arena).capacity_bytes;
    FillUp();
    tarn_arena_destroy(&arena);
    size_t served = 0;
    while (malloc(kFillBytes) != nullptr) served += kFillBytes;
    // The records of spans take some.
    TARN_LIFE_REQUIRE(served + 32 * kKiB >= capacity_bytes);
  });
}

// Sampled objects lie in spans of their own; freed, they serve any call for their size.
TEST(AtTheLimit, AFreeMakesRoomForAnObjectOfTheSameSize) {
  for (const size_t rate : {size_t{0}, size_t{1}, 64 * kKiB}) {
    ExpectGoodEnd(kSeconds, [rate] {
      tarn_set_profile_rate(rate);
      tarn_set_hard_limit(16 * kMiB);
      for (const size_t bytes : {size_t{1000}, size_t{50000}, size_t{kLargeBytes}}) {
        filled = 0;
        FillUp(bytes);
        for (size_t i = 0; i < filled; ++i) {
          free(objects[i]);
          TARN_LIFE_REQUIRE((objects[i] = malloc(bytes)) != nullptr);
        }
        for (size_t i = 0; i < filled; ++i) free(objects[i]);
      }
    });
  }
}

}  // namespace
}  // namespace tarn_test
