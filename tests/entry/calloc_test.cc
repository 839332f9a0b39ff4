// SPDX-License-Identifier: Apache-2.0
//
// calloc gives zeros, also where the memory was dirty before, and refuses products that overflow.

#include <errno.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>
#include <vector>

#include "tests/entry/surface.h"

namespace tarn_test {
namespace {

std::vector<size_t> SampledSizes() {
  std::vector<size_t> sizes;
  for (size_t size = 0; size <= 1024; size += 8) sizes.push_back(size);
  for (size_t size = 1025; size <= kMiB; size += 1 + size / 13) sizes.push_back(size);
  sizes.push_back(kMiB);
  return sizes;
}

// Allocates, soils and frees objects of one size, so that the next ones of it are dirty.
void Soil(size_t size, size_t count) {
  std::vector<void*> objects(count);
  for (void*& object : objects) {
    object = malloc(size);
    ASSERT_NE(object, nullptr);
    memset(object, 0xA5, malloc_usable_size(object));
  }
  for (void* object : objects) free(object);
}

TEST(Calloc, GivesZerosWhateverWasThereBefore) {
  for (size_t size : SampledSizes()) {
    const size_t count = size <= 4 * kKiB ? 20 : 3;
    Soil(size, count);
    std::vector<void*> objects(count + 2);
    for (void*& object : objects) {
      object = calloc(1, size);
      ASSERT_NE(object, nullptr);
      ASSERT_TRUE(IsAligned(object, 16));
      ASSERT_TRUE(IsZero(object, size)) << size;
      memset(object, 0x5A, malloc_usable_size(object));
    }
    for (void* object : objects) free(object);
  }
}

// Memory that wanders between sizes: large and dirty, then carved into small objects, then large
// again, with what was given back to the kernel in between.
TEST(Calloc, GivesZerosWhenMemoryChangesItsSize) {
  for (int round = 0; round < 3; ++round) {
    Soil(5 * kMiB, 4);
    Soil(300 * kKiB, 20);
    if (round == 1) malloc_trim(0);
    std::vector<void*> objects;
    for (size_t i = 0; i < 4000; ++i) {
      const size_t size = 16 + (i * 131) % (12 * kKiB);
      void* object = calloc(size / 4 + 1, 4);
      ASSERT_NE(object, nullptr);
      ASSERT_TRUE(IsZero(object, (size / 4 + 1) * 4)) << size;
      memset(object, 0xFF, malloc_usable_size(object));
      objects.push_back(object);
    }
    for (void* object : objects) free(object);
    if (round == 2) malloc_trim(0);
    void* large = calloc(1, 7 * kMiB);
    ASSERT_NE(large, nullptr);
    ASSERT_TRUE(IsZero(large, 7 * kMiB));
    free(large);
  }
}

TEST(Calloc, LargeObjectsAreZeroAfterEveryKindOfReuse) {
  for (size_t size : {200 * kKiB, 256 * kKiB + 1, kMiB, 2 * kMiB, 2 * kMiB + 1, 9 * kMiB, 33 * kMiB}) {
    for (int round = 0; round < 3; ++round) {
      unsigned char* object = static_cast<unsigned char*>(calloc(size, 1));
      ASSERT_NE(object, nullptr);
      ASSERT_TRUE(IsZero(object, size)) << size << " in round " << round;
      memset(object, 0xEE, malloc_usable_size(object));
      // A shrink leaves dirty pages behind the object, which the next one may get.
      if (round == 1) object = static_cast<unsigned char*>(realloc(object, size / 3));
      ASSERT_NE(object, nullptr);
      free(object);
    }
  }
}

// malloc and calloc of the same pages in turn: the one does not tell the other that pages are zero
// when they have been written to.
TEST(Calloc, DoesNotTrustPagesThatMallocHandedOut) {
  for (size_t size : {16 * kKiB, 100 * kKiB, 700 * kKiB, 3 * kMiB}) {
    for (size_t round = 0; round < 20; ++round) {
      unsigned char* soiled = static_cast<unsigned char*>(malloc(size));
      ASSERT_NE(soiled, nullptr);
      // One byte only, at a different place each time.
      soiled[(round * 7919) % size] = 1;
      free(soiled);
      void* zeroed = calloc(1, size);
      ASSERT_NE(zeroed, nullptr);
      ASSERT_TRUE(IsZero(zeroed, size)) << size << " in round " << round;
      free(zeroed);
    }
  }
}

TEST(Calloc, ZeroCountOrSizeGivesDistinctObjects) {
  std::set<void*> objects;
  for (int i = 0; i < 500; ++i) {
    for (void* object :
         {calloc(0, 100), calloc(100, 0), calloc(0, 0), calloc(0, Opaque(SIZE_MAX)), calloc(Opaque(SIZE_MAX), 0)}) {
      ASSERT_NE(object, nullptr);
      ASSERT_TRUE(objects.insert(object).second);
    }
  }
  for (void* object : objects) free(object);
}

TEST(Calloc, RefusesProductsThatOverflow) {
  const size_t half = size_t{1} << 32;
  const std::pair<size_t, size_t> products[] = {
      {SIZE_MAX, 2},
      {2, SIZE_MAX},
      {half, half},
      {half, half + 1},
      {SIZE_MAX, SIZE_MAX},
      {SIZE_MAX / 2, 3},
      {SIZE_MAX / 16 + 2, 16},
      {16, SIZE_MAX / 16 + 2},
      // These do not overflow but are larger than PTRDIFF_MAX.
      {half, half / 2},
      {SIZE_MAX / 2 + 1, 1},
  };
  for (const auto& [count, size] : products) {
    errno = 0;
    EXPECT_EQ(calloc(Opaque(count), Opaque(size)), nullptr) << count << " * " << size;
    EXPECT_EQ(errno, ENOMEM) << count << " * " << size;
  }
}

}  // namespace
}  // namespace tarn_test
