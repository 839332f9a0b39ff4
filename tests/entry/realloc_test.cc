// SPDX-License-Identifier: Apache-2.0
//
// realloc and reallocarray: when the address stays, that the contents always do, and what null,
// zero and impossible sizes mean.

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "tests/entry/surface.h"

namespace tarn_test {
namespace {

// A size from every kind of memory: the smallest classes, larger classes, the last class, objects
// of pages, and objects of huge pages.
const size_t kReallocSizes[] = {1,          8,        16,        24,           100,        1000,
                                4000,       8 * kKiB, 20 * kKiB, 64 * kKiB,    200 * kKiB, 256 * kKiB,
                                300 * kKiB, kMiB,     2 * kMiB,  3 * kMiB + 7, 5 * kMiB,   12 * kMiB};

TEST(Realloc, OfNullIsMalloc) {
  for (size_t size : kReallocSizes) {
    void* object = realloc(nullptr, size);
    ASSERT_NE(object, nullptr);
    EXPECT_TRUE(IsAligned(object, 16));
    EXPECT_GE(malloc_usable_size(object), size);
    free(object);
  }
  void* empty = realloc(nullptr, 0);
  EXPECT_NE(empty, nullptr);
  free(empty);
}

TEST(Realloc, ToZeroFreesAndReturnsNull) {
  for (size_t size : kReallocSizes) {
    errno = EXDEV;
    EXPECT_EQ(realloc(malloc(size), Opaque(size_t{0})), nullptr) << size;
    EXPECT_EQ(errno, EXDEV) << size;
    EXPECT_EQ(reallocarray(malloc(size), Opaque(size_t{0}), 8), nullptr) << size;
    EXPECT_EQ(reallocarray(malloc(size), 8, Opaque(size_t{0})), nullptr) << size;
  }
  // Freed, and not only forgotten: this would take 16 GiB otherwise.
  for (int i = 0; i < 1000; ++i) {
    void* object = malloc(16 * kMiB);
    ASSERT_NE(object, nullptr);
    static_cast<char*>(object)[0] = 1;
    ASSERT_EQ(realloc(object, Opaque(size_t{0})), nullptr);
  }
  const struct mallinfo2 info = mallinfo2();
  EXPECT_LT(info.uordblks + info.hblkhd, kGiB);
}

TEST(Realloc, ToTheSameSizeStays) {
  for (size_t base : kReallocSizes) {
    for (size_t size = base; size < base + 40; size += 13) {
      void* object = malloc(size);
      ASSERT_NE(object, nullptr);
      const uintptr_t before = AddressOf(object);
      void* same = realloc(object, size);
      EXPECT_EQ(AddressOf(same), before) << size;
      free(same);
    }
  }
}

TEST(Realloc, WithinTheUsableSizeStays) {
  for (size_t base : kReallocSizes) {
    for (size_t size = base; size < base + 60; size += 7) {
      void* object = malloc(size);
      ASSERT_NE(object, nullptr);
      const size_t usable = malloc_usable_size(object);
      Fill(object, size, 0, size);
      const uintptr_t before = AddressOf(object);
      for (size_t larger : {size, size + (usable - size) / 2, usable}) {
        object = realloc(object, larger);
        ASSERT_EQ(AddressOf(object), before) << size << " to " << larger << " of " << usable;
        ASSERT_GE(malloc_usable_size(object), larger);
      }
      ASSERT_TRUE(Holds(object, size, 0, size));
      Fill(object, size, 0, usable);
      free(object);
    }
  }
}

TEST(Realloc, KeepsTheContentsBetweenAllSizes) {
  uint64_t seed = 1;
  for (size_t from : kReallocSizes) {
    for (size_t to : kReallocSizes) {
      // A neighbour on each side makes growing in place harder and shows what spills over.
      const size_t neighbour = std::min(from, 64 * kKiB);
      void* before = malloc(from);
      void* object = malloc(from);
      void* after = malloc(from);
      ASSERT_NE(before, nullptr);
      ASSERT_NE(object, nullptr);
      ASSERT_NE(after, nullptr);
      Fill(before, seed + 1, 0, neighbour);
      Fill(after, seed + 2, 0, neighbour);
      Fill(object, seed, 0, from);
      object = realloc(object, to);
      ASSERT_NE(object, nullptr);
      ASSERT_TRUE(IsAligned(object, 16));
      ASSERT_GE(malloc_usable_size(object), to);
      ASSERT_TRUE(Holds(object, seed, 0, std::min(from, to))) << from << " to " << to;
      Fill(object, seed + 3, 0, to);
      ASSERT_TRUE(Holds(before, seed + 1, 0, neighbour)) << from << " to " << to;
      ASSERT_TRUE(Holds(after, seed + 2, 0, neighbour)) << from << " to " << to;
      // And back again.
      object = realloc(object, from);
      ASSERT_NE(object, nullptr);
      ASSERT_TRUE(Holds(object, seed + 3, 0, std::min(from, to))) << to << " to " << from;
      free(before);
      free(after);
      free(object);
      seed += 5;
    }
  }
}

// Growing step by step, as a vector or a string buffer does, with other objects in the way.
TEST(Realloc, KeepsTheContentsInSmallSteps) {
  for (size_t step : {size_t{1}, size_t{37}, 5 * kKiB, 96 * kKiB, kMiB}) {
    size_t size = 1;
    unsigned char* object = static_cast<unsigned char*>(malloc(size));
    ASSERT_NE(object, nullptr);
    Fill(object, step, 0, size);
    std::vector<void*> obstacles;
    for (int i = 0; i < 60; ++i) {
      const size_t larger = size + step;
      object = static_cast<unsigned char*>(realloc(object, larger));
      ASSERT_NE(object, nullptr);
      ASSERT_TRUE(Holds(object, step, size > 64 * kKiB ? size - 64 * kKiB : 0, size));
      Fill(object, step, size, larger);
      size = larger;
      if (i % 8 == 0) obstacles.push_back(malloc(step));
    }
    ASSERT_TRUE(Holds(object, step, 0, size)) << step;
    while (size > 1) {
      size = size * 2 / 3;
      if (size == 0) size = 1;
      object = static_cast<unsigned char*>(realloc(object, size));
      ASSERT_NE(object, nullptr);
      ASSERT_TRUE(Holds(object, step, 0, size)) << step;
    }
    free(object);
    for (void* obstacle : obstacles) free(obstacle);
  }
}

// Memory that a large object gave up by shrinking belongs to others now and must not come back with it.
TEST(Realloc, ShrinkingGivesTheRestAway) {
  const size_t size = 24 * kMiB;
  unsigned char* object = static_cast<unsigned char*>(malloc(size));
  ASSERT_NE(object, nullptr);
  Fill(object, 1, 0, size);
  object = static_cast<unsigned char*>(realloc(object, 700 * kKiB));
  ASSERT_NE(object, nullptr);
  EXPECT_LT(malloc_usable_size(object), 2 * kMiB);
  std::vector<void*> others;
  for (int i = 0; i < 40; ++i) {
    others.push_back(malloc(600 * kKiB));
    ASSERT_NE(others.back(), nullptr);
    memset(others.back(), 0xCC, 600 * kKiB);
  }
  object = static_cast<unsigned char*>(realloc(object, size));
  ASSERT_NE(object, nullptr);
  EXPECT_TRUE(Holds(object, 1, 0, 700 * kKiB));
  memset(object + 700 * kKiB, 0x11, size - 700 * kKiB);
  for (void* other : others) {
    const unsigned char* bytes = static_cast<unsigned char*>(other);
    for (size_t i = 0; i < 600 * kKiB; i += 64) ASSERT_EQ(bytes[i], 0xCC);
    free(other);
  }
  free(object);
}

TEST(Realloc, TakesObjectsOfAllCalls) {
  void* posix = nullptr;
  ASSERT_EQ(posix_memalign(&posix, 512, 1000), 0);
  void* objects[] = {posix,        aligned_alloc(64, 1000), memalign(8 * kKiB, 1000),
                     valloc(1000), pvalloc(1000),           calloc(10, 100),
                     malloc(1000), memalign(4 * kMiB, 1000)};
  for (void* object : objects) {
    ASSERT_NE(object, nullptr);
    Fill(object, 9, 0, 1000);
    for (size_t size : {1500u, 200000u, 3000000u, 1000u, 90u}) {
      object = realloc(object, size);
      ASSERT_NE(object, nullptr);
      ASSERT_TRUE(Holds(object, 9, 0, std::min<size_t>(size, 90)));
    }
    free(object);
  }
}

// True where the kernel can read the byte.
bool IsReadable(const void* address) {
  int ends[2];
  if (pipe(ends) != 0) return true;
  const bool readable = write(ends[1], address, 1) == 1;
  close(ends[0]);
  close(ends[1]);
  return readable;
}

// A copy reads as many bytes as the old object has. These objects end where accessible memory ends.
TEST(Realloc, ReadsNothingBehindALargeObject) {
  bool guarded = false;
  for (int i = 0; i < 8 && !guarded; ++i) {
    // So aligned that it has a mapping of its own.
    char* object = static_cast<char*>(aligned_alloc(kGiB, kMiB));
    if (object == nullptr) GTEST_SKIP() << "no addresses for this alignment";
    char* const end = object + malloc_usable_size(object);
    const size_t page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    void* const guard = mmap(end, page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    guarded = guard == end;
    if (guard != MAP_FAILED && guard != end) munmap(guard, page_bytes);
    Fill(object, 3, 0, kMiB);
    object = static_cast<char*>(realloc(object, 3 * kMiB));
    ASSERT_NE(object, nullptr);
    EXPECT_TRUE(Holds(object, 3, 0, kMiB));
    if (guarded) munmap(guard, page_bytes);
    free(object);
  }
  EXPECT_TRUE(guarded) << "something lies behind each of the objects";
}

TEST(Realloc, ReadsNothingBehindASmallObject) {
  constexpr size_t kSize = 32 * kKiB;
  // Some of the size that it grows to are in a cache, so that no memory is made accessible for it. A cache takes up a
  // size when it is used again and again.
  for (int i = 0; i < 100; ++i) {
    void* const first = Opaque(malloc(2 * kSize));
    void* const second = Opaque(malloc(2 * kSize));
    free(first);
    free(second);
  }
  std::vector<void*> objects;
  void* last = nullptr;
  while (last == nullptr && objects.size() < 4096) {
    void* const object = malloc(kSize);
    ASSERT_NE(object, nullptr);
    if (IsReadable(static_cast<char*>(object) + malloc_usable_size(object))) {
      objects.push_back(object);
    } else {
      last = object;
    }
  }
  if (last != nullptr) {
    Fill(last, 4, 0, kSize);
    last = realloc(last, 2 * kSize);
    ASSERT_NE(last, nullptr);
    EXPECT_TRUE(Holds(last, 4, 0, kSize));
    free(last);
  }
  for (void* object : objects) free(object);
}

TEST(Realloc, FailureKeepsTheObject) {
  for (size_t size : kReallocSizes) {
    void* object = malloc(size);
    ASSERT_NE(object, nullptr);
    Fill(object, 5, 0, size);
    errno = 0;
    ASSERT_EQ(realloc(object, Opaque(SIZE_MAX - 100)), nullptr);
    ASSERT_EQ(errno, ENOMEM);
    // Not beyond PTRDIFF_MAX, but more than any address space of today has.
    errno = 0;
    ASSERT_EQ(realloc(object, Opaque(size_t{1} << 60)), nullptr);
    ASSERT_EQ(errno, ENOMEM);
    ASSERT_TRUE(Holds(object, 5, 0, size));
    free(object);
  }
}

TEST(Reallocarray, MultipliesAndRefusesOverflow) {
  void* object = reallocarray(nullptr, 25, 40);
  ASSERT_NE(object, nullptr);
  EXPECT_GE(malloc_usable_size(object), 1000u);
  Fill(object, 2, 0, 1000);
  object = reallocarray(object, 5000, 40);
  ASSERT_NE(object, nullptr);
  EXPECT_GE(malloc_usable_size(object), 200000u);
  EXPECT_TRUE(Holds(object, 2, 0, 1000));
  const size_t half = size_t{1} << 32;
  const std::pair<size_t, size_t> products[] = {
      {SIZE_MAX, 2}, {2, SIZE_MAX}, {half, half}, {half + 1, half}, {SIZE_MAX / 8 + 1, 8}};
  for (const auto& [count, size] : products) {
    errno = 0;
    EXPECT_EQ(reallocarray(Opaque(object), Opaque(count), Opaque(size)), nullptr);
    EXPECT_EQ(errno, ENOMEM);
  }
  EXPECT_TRUE(Holds(object, 2, 0, 1000));
  free(object);
}

}  // namespace
}  // namespace tarn_test
