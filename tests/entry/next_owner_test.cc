// SPDX-License-Identifier: Apache-2.0
//
// Objects of libc's malloc, given to tarn's functions: libc gets them. What nobody owns is answered with tarn's line,
// also where libc has handed out memory.

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <new>
#include <thread>

#include "tests/entry/on_tarn.h"
#include "tests/entry/surface.h"

// glibc's own names, which nobody replaces.
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_memalign(size_t alignment, size_t size);
}

namespace tarn_test {
namespace {

// In an arena's heap, in the top, and with mappings of their own.
const size_t kSizes[] = {1, 24, 100, 1000, 5000, 100000, 200000, kMiB, 40 * kMiB};

size_t BytesInUseOfLibc() {
  void* libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  auto* const info = reinterpret_cast<struct mallinfo2 (*)()>(dlsym(libc, "mallinfo2"));
  const struct mallinfo2 now = info();
  dlclose(libc);
  return now.uordblks + now.hblkhd;
}

struct Form {
  const char* name;
  void (*call)(void* object, size_t size);
};
const Form kForms[] = {
    {"free", [](void* p, size_t) { free(p); }},
    {"cfree", [](void* p, size_t) { cfree(p); }},
    {"free_sized", [](void* p, size_t n) { free_sized(p, n); }},
    {"free_aligned_sized", [](void* p, size_t n) { free_aligned_sized(p, 16, n); }},
    {"realloc to nothing", [](void* p, size_t) { Opaque(realloc(p, Opaque(size_t{0}))); }},
    {"delete", [](void* p, size_t) { ::operator delete(p); }},
    {"sized delete", [](void* p, size_t n) { ::operator delete(p, n); }},
    {"sized delete[]", [](void* p, size_t n) { ::operator delete[](p, n); }},
    {"aligned delete", [](void* p, size_t) { ::operator delete (p, std::align_val_t{64}); }},
};

TEST(NextOwner, IsGivenItsObjects) {
  for (const Form& form : kForms) {
    for (const size_t size : kSizes) {
      const size_t before = BytesInUseOfLibc();
      void* object = Opaque(__libc_malloc(size));
      ASSERT_NE(object, nullptr);
      const size_t with_it = BytesInUseOfLibc();
      form.call(object, size);
      // Small ones come from a cache of libc's and go back to it, and count as in use there.
      if (size > 2000) {
        EXPECT_GE(with_it, before + size);
        EXPECT_EQ(BytesInUseOfLibc(), before) << form.name << " of " << size;
      }
    }
  }
}

TEST(NextOwner, IsGivenAlignedObjectsAndThoseOfOtherArenas) {
  std::thread([] {
    for (const size_t size : kSizes) {
      void* object = Opaque(__libc_malloc(size));
      ASSERT_NE(object, nullptr);
      free(object);
    }
    for (const size_t alignment : {64u, 4096u, 65536u}) {
      for (const size_t size : kSizes) {
        void* object = Opaque(__libc_memalign(alignment, size));
        ASSERT_NE(object, nullptr);
        free(object);
      }
    }
  }).join();
}

TEST(NextOwner, ResizesItsObjects) {
  for (const size_t size : kSizes) {
    char* object = static_cast<char*>(Opaque(__libc_malloc(size)));
    memset(object, 0x3c, size);
    EXPECT_GE(malloc_usable_size(object), size);
    object = static_cast<char*>(Opaque(realloc(object, size + 100000)));
    ASSERT_NE(object, nullptr);
    for (size_t i = 0; i < size; i += 97) ASSERT_EQ(object[i], 0x3c);
    object = static_cast<char*>(Opaque(reallocarray(object, size + 3000, 1)));
    ASSERT_NE(object, nullptr);
    EXPECT_EQ(object[size - 1], 0x3c);
    free(object);
  }
}

// A library whose calls of malloc go to libc, whatever stands before it.
TEST(NextOwner, IsGivenTheObjectsOfADeeplyBoundLibrary) {
  void* plugin = dlopen(TARN_DEEP_PLUGIN, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  ASSERT_NE(plugin, nullptr) << dlerror();
  auto* const make = reinterpret_cast<void* (*)(size_t)>(dlsym(plugin, "MakeObject"));
  ASSERT_NE(make, nullptr);
  for (const size_t size : kSizes) {
    const size_t before = BytesInUseOfLibc();
    void* object = Opaque(make(size));
    if (size > 2000) {
      ASSERT_GE(BytesInUseOfLibc(), before + size) << "the library is not on libc's malloc";
    }
    free(object);
  }
  dlclose(plugin);
}

// A library with a libc of its own, which this process's libc knows nothing of.
class SecondLibc {
 public:
  SecondLibc() : plugin_(dlmopen(LM_ID_NEWLM, TARN_DEEP_PLUGIN, RTLD_NOW | RTLD_LOCAL)) {
    if (plugin_ != nullptr) make_ = reinterpret_cast<void* (*)(size_t)>(dlsym(plugin_, "MakeObject"));
  }
  bool is_loaded() const { return make_ != nullptr; }
  void* Make(size_t size) const { return Opaque(make_(size)); }

 private:
  // Never closed: it has objects of libc.
  void* const plugin_;
  void* (*make_)(size_t) = nullptr;
};

bool NamespacesAreListed() {
  int major = 0;
  int minor = 0;
  return sscanf(gnu_get_libc_version(), "%d.%d", &major, &minor) == 2 && (major > 2 || minor >= 35);
}

TEST(NextOwnerDeathTest, ASecondLibcIsGivenItsObjects) {
  if (!NamespacesAreListed()) GTEST_SKIP() << "libc lists no namespaces";
  const auto use = [] {
    const SecondLibc second;
    if (!second.is_loaded()) _exit(3);
    for (const size_t size : kSizes) {
      char* object = static_cast<char*>(second.Make(size));
      memset(object, 0x3c, size);
      if (malloc_usable_size(object) < size) _exit(1);
      object = static_cast<char*>(Opaque(realloc(object, size + 3000)));
      if (object == nullptr || object[size - 1] != 0x3c) _exit(2);
      free(object);
    }
    _exit(0);
  };
  EXPECT_EXIT(use(), testing::ExitedWithCode(0), "");
}

// Which of two libcs an object is of, nobody can tell; its size can be read all the same.
TEST(NextOwnerDeathTest, TwoLibcsThatHaveAllocatedAreNotGuessedAt) {
  if (any_allocator_allowed()) GTEST_SKIP() << "another allocator was allowed";
  if (!NamespacesAreListed()) GTEST_SKIP() << "libc lists no namespaces";
  const auto use = [](bool frees) {
    const SecondLibc second;
    if (!second.is_loaded()) _exit(3);
    void* const object = second.Make(5000);
    void* const other = Opaque(__libc_malloc(5000));
    if (malloc_usable_size(object) < 5000 || malloc_usable_size(other) < 5000) _exit(1);
    if (!frees) _exit(0);
    free(object);
    _exit(2);
  };
  EXPECT_EXIT(use(false), testing::ExitedWithCode(0), "");
  EXPECT_DEATH(use(true), "^tarn: fatal: free\\(0x[0-9a-f]+\\): pointer was not allocated by tarn\n");
}

void ExpectForeign(void* pointer) {
  EXPECT_DEATH(free(Opaque(pointer)), "^tarn: fatal: free\\(0x[0-9a-f]+\\): pointer was not allocated by tarn\n");
  EXPECT_DEATH(Opaque(realloc(Opaque(pointer), 100)), "^tarn: fatal: realloc\\(0x[0-9a-f]+\\): pointer was not");
}

TEST(NextOwnerDeathTest, IsNotGivenWhatNobodyOwns) {
  if (any_allocator_allowed()) GTEST_SKIP() << "another allocator was allowed";
  // So that libc has handed out memory.
  void* const object = Opaque(__libc_malloc(100));
  // Aligned so that no mapping could start at the words below the pointers: see the last size.
  alignas(64) uint64_t words[16] = {};
  ExpectForeign(&words[2]);
  ExpectForeign(reinterpret_cast<char*>(words) + 1);
  // Sizes that cannot be, below the pointer.
  for (const uint64_t size : {uint64_t{8}, uint64_t{24}, uint64_t{0x4141414141414141}, UINT64_MAX, uint64_t{1} << 48}) {
    words[7] = size;
    ExpectForeign(&words[8]);
  }
  // That of a mapping, where there is none.
  words[6] = 0;
  words[7] = 4096 | 2;
  ExpectForeign(&words[8]);
  // At the very start of a mapping, where nothing can be read below.
  char* const pages =
      static_cast<char*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(static_cast<void*>(pages), MAP_FAILED);
  ASSERT_EQ(mprotect(pages, 4096, PROT_NONE), 0);
  ExpectForeign(pages + 4096);
  ExpectForeign(pages);
  free(object);
}

}  // namespace
}  // namespace tarn_test
