// SPDX-License-Identifier: Apache-2.0
//
// malloc, free, their sized and old forms, and malloc_usable_size: what POSIX, C23 and glibc's
// manual say of them.

#include <errno.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "tests/entry/on_tarn.h"
#include "tests/entry/surface.h"

namespace tarn_test {
namespace {

// Sizes around every power of two, each multiple of 16 up to 2 KiB, and some odd ones beyond.
std::vector<size_t> SampledSizes(size_t most) {
  std::set<size_t> sizes;
  for (size_t size = 0; size <= 2 * kKiB; size += 16) sizes.insert(size);
  for (size_t power = 1; power <= most; power *= 2) {
    for (size_t offset = 0; offset <= 2; ++offset) {
      sizes.insert(power - std::min(power, offset));
      sizes.insert(power + offset);
      sizes.insert(power + power / 2 + offset);
    }
  }
  for (size_t size = 3 * kKiB; size <= most; size += size / 7) sizes.insert(size);
  while (!sizes.empty() && *sizes.rbegin() > most) sizes.erase(*sizes.rbegin());
  return {sizes.begin(), sizes.end()};
}

TEST(Malloc, EverySizeIs16ByteAligned) {
  const auto check = [](size_t size) {
    void* first = malloc(size);
    void* second = malloc(size);
    void* third = malloc(size);
    for (void* object : {first, second, third}) {
      ASSERT_NE(object, nullptr) << size;
      ASSERT_TRUE(IsAligned(object, 16)) << size << " " << object;
    }
    free(second);
    free(first);
    free(third);
  };
  for (size_t size = 0; size <= 4 * kKiB; ++size) check(size);
  for (size_t size = 4 * kKiB; size <= 2 * kMiB; size += 509) check(size);
  for (size_t size : SampledSizes(256 * kMiB)) check(size);
}

TEST(Malloc, ZeroGivesDistinctObjects) {
  std::set<void*> objects;
  for (int i = 0; i < 2000; ++i) {
    void* object = malloc(0);
    ASSERT_NE(object, nullptr);
    ASSERT_TRUE(objects.insert(object).second) << "malloc(0) gave one address twice";
  }
  for (void* object : objects) free(object);
}

TEST(Malloc, LiveObjectsDoNotOverlapAndKeepTheirContents) {
  struct Live {
    unsigned char* object;
    size_t size;
  };
  std::vector<Live> live;
  Random random(1);
  for (size_t i = 0; i < 20000; ++i) {
    const size_t size = random.Size(300 * kKiB);
    unsigned char* object = static_cast<unsigned char*>(malloc(size));
    ASSERT_NE(object, nullptr);
    Fill(object, i, 0, size);
    live.push_back({object, size});
    // Every third one is given back again, so that addresses are reused.
    if (i % 3 == 0) {
      const size_t victim = random.Below(live.size());
      free(live[victim].object);
      live[victim] = live.back();
      live.pop_back();
    }
  }
  // The seed of an object is gone after the shuffle; its first byte gives it back, for a pattern
  // depends on the seed by its low byte alone.
  for (const Live& entry : live) ASSERT_TRUE(Holds(entry.object, entry.object[0], 0, entry.size));
  std::sort(live.begin(), live.end(), [](const Live& a, const Live& b) { return a.object < b.object; });
  for (size_t i = 1; i < live.size(); ++i) {
    ASSERT_LE(live[i - 1].object + malloc_usable_size(live[i - 1].object), live[i].object);
  }
  for (const Live& entry : live) free(entry.object);
}

TEST(Malloc, SuccessLeavesErrnoAlone) {
  for (size_t size : SampledSizes(64 * kMiB)) {
    errno = EXDEV;
    void* object = malloc(size);
    ASSERT_NE(object, nullptr);
    ASSERT_EQ(errno, EXDEV) << "malloc " << size;
    object = realloc(object, size + size / 2 + 1);
    ASSERT_NE(object, nullptr);
    ASSERT_EQ(errno, EXDEV) << "realloc " << size;
    void* zeroed = calloc(1, size);
    ASSERT_NE(zeroed, nullptr);
    ASSERT_EQ(errno, EXDEV) << "calloc " << size;
    void* aligned = memalign(256, size);
    ASSERT_NE(aligned, nullptr);
    ASSERT_EQ(errno, EXDEV) << "memalign " << size;
    EXPECT_GE(malloc_usable_size(object), size);
    ASSERT_EQ(errno, EXDEV) << "malloc_usable_size " << size;
    free(object);
    free(zeroed);
    free(aligned);
  }
}

TEST(Malloc, SizesBeyondPtrdiffMaxAreRefused) {
  std::vector<size_t> sizes = {size_t{PTRDIFF_MAX}, size_t{PTRDIFF_MAX} + 1, SIZE_MAX / 2 + 2, SIZE_MAX / 4 * 3};
  // Just below the top, where adding a header, a page or a huge page would wrap around to a small
  // size.
  for (size_t below = 0; below <= 130; ++below) sizes.push_back(SIZE_MAX - below);
  for (size_t unit : {4 * kKiB, 8 * kKiB, 2 * kMiB, kGiB}) {
    for (size_t offset : {size_t{0}, size_t{1}, size_t{16}}) {
      sizes.push_back(SIZE_MAX - unit + offset);
      sizes.push_back(SIZE_MAX - unit - offset);
      sizes.push_back(size_t{PTRDIFF_MAX} - unit + offset);
    }
  }
  void* kept = malloc(100);
  ASSERT_NE(kept, nullptr);
  Fill(kept, 7, 0, 100);
  for (size_t size : sizes) {
    const size_t huge = Opaque(size);
    const auto refused = [huge](const char* call, void* result) {
      EXPECT_EQ(result, nullptr) << call << " " << huge;
      EXPECT_EQ(errno, ENOMEM) << call << " " << huge;
      errno = 0;
    };
    errno = 0;
    refused("malloc", malloc(huge));
    refused("calloc(1, n)", calloc(1, huge));
    refused("calloc(n, 1)", calloc(huge, 1));
    refused("realloc", realloc(kept, huge));
    refused("realloc of null", realloc(nullptr, huge));
    refused("reallocarray", reallocarray(kept, 1, huge));
    refused("aligned_alloc", aligned_alloc(64, huge));
    refused("memalign", memalign(64, huge));
    refused("memalign of a page", memalign(4 * kKiB, huge));
    refused("valloc", valloc(huge));
    refused("pvalloc", pvalloc(huge));
  }
  EXPECT_TRUE(Holds(kept, 7, 0, 100)) << "a realloc that failed changed the object";
  free(kept);
}

TEST(MallocUsableSize, IsAtLeastTheSizeAndWritable) {
  EXPECT_EQ(malloc_usable_size(nullptr), 0u);
  for (size_t size : SampledSizes(8 * kMiB)) {
    // The neighbours would lose their contents if the usable size were too large.
    void* objects[3];
    size_t usable[3];
    for (size_t i = 0; i < 3; ++i) {
      objects[i] = malloc(size);
      ASSERT_NE(objects[i], nullptr);
      usable[i] = malloc_usable_size(objects[i]);
      ASSERT_GE(usable[i], size);
      Fill(objects[i], i + 1, 0, usable[i]);
    }
    for (size_t i = 0; i < 3; ++i) {
      ASSERT_EQ(malloc_usable_size(objects[i]), usable[i]) << size;
      ASSERT_TRUE(Holds(objects[i], i + 1, 0, usable[i])) << size;
      free(objects[i]);
    }
  }
}

TEST(Free, NullIsNothing) {
  errno = EXDEV;
  free(nullptr);
  EXPECT_EQ(errno, EXDEV);
}

TEST(Free, KeepsErrno) {
  std::vector<void*> objects;
  for (size_t size : SampledSizes(128 * kMiB)) {
    for (int i = 0; i < 3; ++i) {
      void* object = malloc(size);
      ASSERT_NE(object, nullptr);
      // Touched, so that giving the pages back is work for the kernel.
      if (size > 0) Fill(object, 1, 0, std::min(size, 64 * kKiB));
      objects.push_back(object);
    }
  }
  for (void* object : objects) {
    errno = EXDEV;
    free(object);
    ASSERT_EQ(errno, EXDEV);
  }
  malloc_trim(0);
}

// The kernel refuses everything by which memory is given back; free must hide that.
TEST(Free, KeepsErrnoWhenTheKernelRefuses) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto refuse = [](int number) {
      return std::pair{sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1),
                       sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)};
    };
    const auto [is_munmap, refuse_munmap] = refuse(SYS_munmap);
    const auto [is_madvise, refuse_madvise] = refuse(SYS_madvise);
    const auto [is_mprotect, refuse_mprotect] = refuse(SYS_mprotect);
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),  // the number of the system call
        is_munmap,
        refuse_munmap,
        is_madvise,
        refuse_madvise,
        is_mprotect,
        refuse_mprotect,
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter = {sizeof(program) / sizeof(program[0]), program};
    void* objects[4][4];
    const size_t sizes[4] = {1000, 100 * kKiB, 3 * kMiB, 130 * kMiB};
    for (size_t s = 0; s < 4; ++s) {
      for (void*& object : objects[s]) {
        object = malloc(sizes[s]);
        if (object == nullptr) _exit(2);
        Fill(object, 1, 0, std::min(sizes[s], kMiB));
      }
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) _exit(77);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) _exit(77);
    for (size_t s = 0; s < 4; ++s) {
      for (void* object : objects[s]) {
        errno = EXDEV;
        free(object);
        if (errno != EXDEV) _exit(static_cast<int>(10 + s));
      }
    }
    malloc_trim(0);
    // An object that could not be given back leaves malloc at work.
    void* again = malloc(1000);
    if (again == nullptr) _exit(3);
    Fill(again, 1, 0, 1000);
    free(again);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "seccomp is unavailable here";
  EXPECT_EQ(WEXITSTATUS(status), 0) << "10 to 13: errno changed by the free of that size";
}

TEST(FreeSized, TakesTheRequestedSize) {
  if (Opaque(&free_sized) == nullptr) GTEST_SKIP() << "a stand-in without free_sized";
  free_sized(nullptr, 0);
  free_sized(nullptr, 100);
  for (size_t size : SampledSizes(8 * kMiB)) {
    for (int round = 0; round < 3; ++round) {
      errno = EXDEV;
      free_sized(malloc(size), size);
      free_sized(calloc(1, size), size);
      free_sized(realloc(malloc(10), size == 0 ? 1 : size), size == 0 ? 1 : size);
      ASSERT_EQ(errno, EXDEV) << size;
    }
  }
}

TEST(FreeSized, GivesBackToTheSameClassAsFree) {
  if (Opaque(&free_sized) == nullptr) GTEST_SKIP() << "a stand-in without free_sized";
  // Were the object filed under another class, its next owner would get fewer bytes than asked for.
  for (size_t size = 1; size <= 40 * kKiB; size += 1 + size / 9) {
    void* objects[8];
    for (int round = 0; round < 3; ++round) {
      for (void*& object : objects) {
        object = malloc(size);
        ASSERT_NE(object, nullptr);
        ASSERT_GE(malloc_usable_size(object), size);
        Fill(object, size, 0, malloc_usable_size(object));
      }
      for (void* object : objects) {
        ASSERT_TRUE(Holds(object, size, 0, size));
        free_sized(object, size);
      }
    }
  }
  EXPECT_GE(malloc_trim(0), 0);
}

TEST(FreeAlignedSized, TakesWhatAlignedAllocTook) {
  if (Opaque(&free_aligned_sized) == nullptr) GTEST_SKIP() << "a stand-in without it";
  free_aligned_sized(nullptr, 64, 100);
  for (size_t alignment = 1; alignment <= 4 * kMiB; alignment *= 2) {
    for (size_t size : {size_t{1}, size_t{64}, size_t{100}, 5 * kKiB, 300 * kKiB}) {
      errno = EXDEV;
      void* object = aligned_alloc(alignment, size);
      ASSERT_NE(object, nullptr) << alignment << " " << size;
      Fill(object, 3, 0, size);
      free_aligned_sized(object, alignment, size);
      ASSERT_EQ(errno, EXDEV);
    }
  }
  EXPECT_GE(malloc_trim(0), 0);
}

TEST(Cfree, IsFree) {
  if (Opaque(&cfree) == nullptr) GTEST_SKIP() << "a stand-in without cfree";
  cfree(nullptr);
  for (size_t size : {size_t{0}, size_t{24}, 10 * kKiB, 3 * kMiB}) {
    errno = EXDEV;
    cfree(calloc(1, size));
    EXPECT_EQ(errno, EXDEV);
  }
}

}  // namespace
}  // namespace tarn_test
