// SPDX-License-Identifier: Apache-2.0
//
// The other side of misuse_test.cc: uses that are unusual and valid, and must never end in an
// abort. Each ends with malloc_trim(0), which empties all caches. So an object that the library itself
// filed under a wrong class, or freed twice, would be noticed here.

#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/wait.h>

#include <new>
#include <string>
#include <thread>
#include <vector>

#include "tests/entry/on_tarn.h"
#include "tests/entry/surface.h"

namespace tarn_test {
namespace {

class ValidUse : public ::testing::Test {
 protected:
  ~ValidUse() override { malloc_trim(0); }
};

const size_t kSizes[] = {0,    1,         8,         16,         24,         100,    1000, 4096,    8192,
                         9000, 30 * kKiB, 90 * kKiB, 250 * kKiB, 256 * kKiB, 500000, kMiB, 5 * kMiB};

TEST_F(ValidUse, FreeOfNullInAllForms) {
  free(nullptr);
  if (Opaque(&cfree) != nullptr) cfree(nullptr);
  if (Opaque(&free_sized) != nullptr) free_sized(nullptr, 100);
  if (Opaque(&free_aligned_sized) != nullptr) free_aligned_sized(nullptr, 64, 100);
  ::operator delete(nullptr);
  ::operator delete (nullptr, size_t{100});
  ::operator delete[](nullptr, std::align_val_t{64});
  EXPECT_EQ(malloc_usable_size(nullptr), 0u);
}

TEST_F(ValidUse, FreeInAnotherThread) {
  for (size_t size : kSizes) {
    std::vector<void*> objects(50);
    for (void*& object : objects) object = malloc(size);
    std::thread([&objects] {
      for (void* object : objects) free(object);
    }).join();
    // And by a thread that allocated nothing itself, of a thread that is gone.
    std::thread([&objects, size] {
      for (void*& object : objects) object = malloc(size);
    }).join();
    for (void* object : objects) free(object);
  }
}

TEST_F(ValidUse, FreeInTheChildOfAFork) {
  std::vector<void*> objects;
  for (size_t size : kSizes) {
    for (int i = 0; i < 20; ++i) objects.push_back(malloc(size));
  }
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    for (void* object : objects) free(object);
    malloc_trim(0);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  // The parent's own copies are untouched.
  for (void* object : objects) free(object);
}

TEST_F(ValidUse, ReallocDownToAlmostNothingAndUpAgain) {
  for (size_t size : kSizes) {
    void* object = malloc(size);
    for (size_t other : {size_t{1}, 2 * kMiB, size_t{1}, size_t{300}, size_t{1}}) {
      object = realloc(object, other);
      ASSERT_NE(object, nullptr);
    }
    free(object);
  }
}

TEST_F(ValidUse, ReallocAndFreeOfAlignedObjects) {
  for (size_t alignment = 16; alignment <= 8 * kMiB; alignment *= 2) {
    for (size_t size : {size_t{1}, size_t{3000}, 300 * kKiB}) {
      void* first = memalign(alignment, size);
      void* second = memalign(alignment, size);
      ASSERT_NE(first, nullptr);
      ASSERT_NE(second, nullptr);
      first = realloc(first, size * 2);
      ASSERT_NE(first, nullptr);
      first = realloc(first, 1);
      free(first);
      free(second);
    }
  }
}

TEST_F(ValidUse, SizedFreeWithTheRequestedSize) {
  if (Opaque(&free_sized) == nullptr) GTEST_SKIP() << "a stand-in without free_sized";
  for (size_t size = 0; size <= 70 * kKiB; size += 1 + size / 50) {
    void* objects[6] = {malloc(size),
                        calloc(1, size),
                        malloc(size),
                        realloc(malloc(5), size + 1),
                        realloc(malloc(200 * kKiB), size + 1),
                        reallocarray(nullptr, 1, size)};
    for (size_t i = 0; i < 6; ++i) {
      ASSERT_NE(objects[i], nullptr);
      free_sized(objects[i], i == 3 || i == 4 ? size + 1 : size);
    }
  }
  for (size_t size : {250 * kKiB, 256 * kKiB, 256 * kKiB + 1, 500000 * size_t{1}, 40 * kMiB}) {
    free_sized(malloc(size), size);
    free_sized(calloc(size, 1), size);
    // Grown and shrunk in place, where the library may keep more than was asked for.
    free_sized(realloc(malloc(size), size + 5 * kMiB), size + 5 * kMiB);
    free_sized(realloc(malloc(size), size - 8 * kKiB), size - 8 * kKiB);
    free_sized(realloc(malloc(size), size / 2), size / 2);
  }
}

// C23 allows each size between the requested and the usable one for free_sized only as requested,
// but operator delete is called with sizeof; both meet where realloc stayed in place.
TEST_F(ValidUse, SizedFreeAfterReallocStayedInPlace) {
  if (Opaque(&free_sized) == nullptr) GTEST_SKIP() << "a stand-in without free_sized";
  for (size_t size : kSizes) {
    for (int percent = 10; percent <= 200; percent += 10) {
      const size_t other = size * static_cast<size_t>(percent) / 100 + 1;
      void* object = realloc(malloc(size), other);
      ASSERT_NE(object, nullptr);
      free_sized(object, other);
    }
  }
}

TEST_F(ValidUse, AlignedSizedFree) {
  if (Opaque(&free_aligned_sized) == nullptr) GTEST_SKIP() << "a stand-in without it";
  for (size_t alignment = 1; alignment <= 2 * kMiB; alignment *= 2) {
    for (size_t size : kSizes) {
      void* object = aligned_alloc(alignment, size);
      ASSERT_NE(object, nullptr);
      free_aligned_sized(object, alignment, size);
    }
  }
}

TEST_F(ValidUse, AlignedAndSizedDelete) {
  for (size_t alignment = 1; alignment <= 2 * kMiB; alignment *= 2) {
    const std::align_val_t given{alignment};
    for (size_t size : kSizes) {
      ::operator delete(::operator new(size, given), given);
      ::operator delete(::operator new(size, given), size, given);
      ::operator delete[](::operator new[](size, given), size, given);
      ::operator delete[](::operator new[](size, given, std::nothrow), given, std::nothrow);
    }
  }
  for (size_t size : kSizes) {
    ::operator delete(::operator new(size), size);
    ::operator delete[](::operator new[](size, std::nothrow), size);
  }
}

TEST_F(ValidUse, FreeInAnyOrder) {
  Random random(3);
  std::vector<void*> objects;
  for (int i = 0; i < 30000; ++i) objects.push_back(malloc(random.Size(400 * kKiB)));
  while (!objects.empty()) {
    const size_t victim = random.Below(objects.size());
    free(objects[victim]);
    objects[victim] = objects.back();
    objects.pop_back();
    if (objects.size() % 5000 == 0) malloc_trim(0);
  }
}

// The same address again and again does not count as a second free.
TEST_F(ValidUse, TheSameAddressOverAndOver) {
  for (size_t size : kSizes) {
    for (int i = 0; i < 300; ++i) {
      void* object = malloc(size);
      ASSERT_NE(object, nullptr);
      free(object);
      if (i % 100 == 0) malloc_trim(0);
    }
  }
}

// Objects of libc that are freed by the program, and the other way round.
TEST_F(ValidUse, ObjectsThatCrossTheBorderOfLibc) {
  for (int i = 0; i < 100; ++i) {
    char* text = strdup("some text");
    ASSERT_NE(text, nullptr);
    free(text);
    char* formatted = nullptr;
    ASSERT_GT(asprintf(&formatted, "%d %s", i, std::string(static_cast<size_t>(i) * 50, 'x').c_str()), 0);
    formatted = static_cast<char*>(realloc(formatted, 10));
    free(formatted);
    char* path = realpath("/proc", nullptr);
    ASSERT_NE(path, nullptr);
    free(path);
    char* line = static_cast<char*>(malloc(1));
    size_t capacity = 1;
    FILE* file = fopen("/proc/self/maps", "r");
    ASSERT_NE(file, nullptr);
    while (getline(&line, &capacity, file) > 0) {
    }
    fclose(file);
    free(line);
    char* buffer = nullptr;
    size_t length = 0;
    FILE* stream = open_memstream(&buffer, &length);
    ASSERT_NE(stream, nullptr);
    for (int k = 0; k < 500; ++k) fprintf(stream, "%d,", k);
    fclose(stream);
    free(buffer);
  }
}

// Sanity checks of old programs: free what was never used, allocate what is never touched.
TEST_F(ValidUse, MemoryThatNobodyTouches) {
  for (int round = 0; round < 3; ++round) {
    std::vector<void*> objects;
    for (int i = 0; i < 8; ++i) objects.push_back(malloc(200 * kMiB));
    for (void* object : objects) {
      ASSERT_NE(object, nullptr);
      free(object);
    }
  }
}

}  // namespace
}  // namespace tarn_test
