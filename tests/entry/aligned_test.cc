// SPDX-License-Identifier: Apache-2.0
//
// aligned_alloc, posix_memalign, memalign, valloc and pvalloc.

#include <errno.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/entry/on_tarn.h"
#include "tests/entry/surface.h"

namespace tarn_test {
namespace {

const size_t kSizes[] = {0,    1,    8,        16,        63,         64,         100,  1000,
                         4096, 5000, 8 * kKiB, 30 * kKiB, 256 * kKiB, 300 * kKiB, kMiB, 5 * kMiB};

// Writes to both ends of the object and to its first page.
void Touch(void* object, size_t size) {
  Fill(object, 1, 0, std::min(size, 4 * kKiB));
  if (size > 0) static_cast<volatile char*>(object)[size - 1] = 1;
}

// All of a small object, the beginning of a large one: faults cost most of the time of this test.
size_t FilledBytes(void* object) { return std::min(malloc_usable_size(object), 40 * kKiB); }

TEST(Aligned, EveryPowerOfTwoUpTo64KiBWithEverySize) {
  for (size_t alignment = sizeof(void*); alignment <= 64 * kKiB; alignment *= 2) {
    for (size_t size : kSizes) {
      std::vector<void*> objects;
      for (int i = 0; i < 3; ++i) {
        void* posix = nullptr;
        ASSERT_EQ(posix_memalign(&posix, alignment, size), 0);
        objects.insert(objects.end(), {posix, aligned_alloc(alignment, size), memalign(alignment, size)});
      }
      for (void* object : objects) {
        ASSERT_NE(object, nullptr) << alignment << " " << size;
        ASSERT_TRUE(IsAligned(object, alignment)) << alignment << " " << size << " " << object;
        ASSERT_GE(malloc_usable_size(object), size);
        Fill(object, AddressOf(object) >> 4, 0, FilledBytes(object));
      }
      for (void* object : objects) {
        ASSERT_TRUE(Holds(object, AddressOf(object) >> 4, 0, FilledBytes(object)));
      }
      std::sort(objects.begin(), objects.end());
      ASSERT_EQ(std::unique(objects.begin(), objects.end()), objects.end());
      for (void* object : objects) free(object);
    }
  }
}

TEST(Aligned, LargeAlignmentsUpTo1GiB) {
  for (size_t alignment = 128 * kKiB; alignment <= kGiB; alignment *= 2) {
    for (size_t size : {size_t{0}, size_t{1}, size_t{100}, 9 * kKiB, kMiB, 3 * kMiB + 5}) {
      void* first = aligned_alloc(alignment, size);
      void* second = memalign(alignment, size);
      void* third = nullptr;
      ASSERT_EQ(posix_memalign(&third, alignment, size), 0) << alignment << " " << size;
      for (void* object : {first, second, third}) {
        ASSERT_NE(object, nullptr) << alignment << " " << size;
        ASSERT_TRUE(IsAligned(object, alignment)) << alignment << " " << size;
        ASSERT_GE(malloc_usable_size(object), size);
        Touch(object, size);
      }
      ASSERT_NE(first, second);
      ASSERT_NE(second, third);
      ASSERT_NE(first, third);
      free(second);
      free(third);
      free(first);
    }
  }
}

// Beyond that the address space decides; what is unavailable is refused and nothing else breaks.
TEST(Aligned, HugeAlignmentsAreServedOrRefused) {
  for (size_t alignment = 2 * kGiB; alignment != 0; alignment *= 2) {
    for (size_t size : {size_t{1}, 5 * kMiB}) {
      errno = 0;
      void* object = aligned_alloc(Opaque(alignment), size);
      if (object == nullptr) {
        EXPECT_TRUE(errno == ENOMEM || errno == EINVAL) << alignment << " errno " << errno;
      } else {
        EXPECT_TRUE(IsAligned(object, alignment));
        Touch(object, size);
        free(object);
      }
      void* out = &errno;
      const int error = posix_memalign(&out, Opaque(alignment), size);
      if (error == 0) {
        EXPECT_TRUE(IsAligned(out, alignment));
        free(out);
      } else {
        EXPECT_TRUE(error == ENOMEM || error == EINVAL) << error;
        EXPECT_EQ(out, static_cast<void*>(&errno)) << "a failed call wrote to its result";
      }
    }
  }
}

TEST(Aligned, FreedMemoryIsUsedAgain) {
  const size_t before = ResidentBytes();
  for (int i = 0; i < 4000; ++i) {
    const size_t alignment = size_t{64} << (i % 15);
    void* object = memalign(alignment, 70 * kKiB);
    ASSERT_NE(object, nullptr);
    memset(object, 1, 70 * kKiB);
    free(object);
  }
  EXPECT_LT(ResidentBytes(), before + 64 * kMiB);
}

TEST(PosixMemalign, RefusesWrongAlignmentsAndLeavesErrnoAndResultAlone) {
  int marker = 0;
  for (size_t alignment : {0u, 1u, 2u, 3u, 4u, 7u, 12u, 24u, 48u, 100u, 4095u, 4097u}) {
    void* out = &marker;
    errno = EXDEV;
    EXPECT_EQ(posix_memalign(&out, Opaque(alignment), 100), EINVAL) << alignment;
    EXPECT_EQ(errno, EXDEV);
    EXPECT_EQ(out, static_cast<void*>(&marker));
  }
}

TEST(PosixMemalign, RefusesHugeSizesAndLeavesErrnoAndResultAlone) {
  int marker = 0;
  for (size_t alignment : {size_t{8}, size_t{16}, size_t{64}, 4 * kKiB, kMiB, kGiB}) {
    for (size_t size : {SIZE_MAX, SIZE_MAX - 7, SIZE_MAX - 64, SIZE_MAX - 8 * kKiB, SIZE_MAX - 2 * kGiB,
                        SIZE_MAX / 2 + 1, size_t{1} << 60}) {
      void* out = &marker;
      errno = EXDEV;
      EXPECT_EQ(posix_memalign(&out, alignment, Opaque(size)), ENOMEM) << alignment << " " << size;
      EXPECT_EQ(errno, EXDEV);
      EXPECT_EQ(out, static_cast<void*>(&marker));
    }
  }
}

TEST(PosixMemalign, SuccessLeavesErrnoAlone) {
  for (size_t alignment = 8; alignment <= 16 * kMiB; alignment *= 2) {
    void* out = nullptr;
    errno = EXDEV;
    ASSERT_EQ(posix_memalign(&out, alignment, alignment / 2 + 1), 0);
    EXPECT_EQ(errno, EXDEV);
    free(out);
    EXPECT_EQ(errno, EXDEV);
  }
}

TEST(AlignedAlloc, RefusesWhatIsNoPowerOfTwo) {
  // glibc did not check before 2.38, so that a stand-in may fail here.
  if (any_allocator_allowed()) GTEST_SKIP() << "not every allocator checks";
  for (size_t alignment : {size_t{0}, size_t{3}, size_t{12}, size_t{24}, size_t{48}, size_t{100}, size_t{4097},
                           kMiB + 16, SIZE_MAX, SIZE_MAX / 2}) {
    errno = 0;
    EXPECT_EQ(aligned_alloc(Opaque(alignment), 4800), nullptr) << alignment;
    EXPECT_EQ(errno, EINVAL) << alignment;
  }
}

TEST(AlignedAlloc, TakesSizesThatAreNoMultipleOfTheAlignment) {
  for (size_t alignment : {1u, 2u, 4u, 8u, 16u, 32u, 256u, 4096u}) {
    for (size_t size : {1u, 3u, 17u, 100u, 5001u}) {
      void* object = aligned_alloc(Opaque(alignment), Opaque(size));
      ASSERT_NE(object, nullptr);
      EXPECT_TRUE(IsAligned(object, alignment));
      EXPECT_GE(malloc_usable_size(object), size);
      free(object);
    }
  }
}

TEST(Memalign, RoundsTheAlignmentUp) {
  const struct {
    size_t asked;
    size_t given;
  } kCases[] = {{0, 16},
                {1, 16},
                {3, 16},
                {17, 32},
                {24, 32},
                {48, 64},
                {65, 128},
                {3000, 4096},
                {4097, 8192},
                {100 * kKiB, 128 * kKiB},
                {kMiB + 1, 2 * kMiB},
                {3 * kMiB, 4 * kMiB}};
  for (const auto& [asked, given] : kCases) {
    for (size_t size : {size_t{1}, size_t{1000}, 40 * kKiB}) {
      void* objects[4];
      for (void*& object : objects) {
        object = memalign(Opaque(asked), size);
        ASSERT_NE(object, nullptr) << asked;
        EXPECT_TRUE(IsAligned(object, given)) << asked;
        Fill(object, 1, 0, size);
      }
      for (void* object : objects) free(object);
    }
  }
}

TEST(Memalign, RefusesAlignmentsThatCannotBeRoundedUp) {
  for (size_t alignment : {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX / 2 + 2}) {
    errno = 0;
    EXPECT_EQ(memalign(Opaque(alignment), 100), nullptr);
    EXPECT_TRUE(errno == EINVAL || errno == ENOMEM) << errno;
  }
}

TEST(Valloc, IsAlignedToThePageOfTheOs) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (size_t size : kSizes) {
    void* object = valloc(size);
    ASSERT_NE(object, nullptr);
    EXPECT_TRUE(IsAligned(object, page));
    EXPECT_GE(malloc_usable_size(object), size);
    Touch(object, size);
    free(object);
  }
}

TEST(Pvalloc, RoundsTheSizeUpToWholePagesOfTheOs) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (size_t size : kSizes) {
    void* object = pvalloc(size);
    ASSERT_NE(object, nullptr);
    EXPECT_TRUE(IsAligned(object, page));
    const size_t rounded = (size + page - 1) / page * page;
    EXPECT_GE(malloc_usable_size(object), rounded) << size;
    Touch(object, rounded);
    free(object);
  }
}

}  // namespace
}  // namespace tarn_test
