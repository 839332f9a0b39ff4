// SPDX-License-Identifier: Apache-2.0
//
// libtarn.so opened by dlopen, by a program that runs on glibc's malloc, as a plug-in that was
// linked with it would do. Its malloc is used by its address, beside glibc's.
//
// The build gives the path of libtarn.so. Each body runs in a child, because the library reads its
// environment once, when it is loaded, and stays.

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "tests/base/patience.h"
#include "tests/entry/on_tarn.h"
#include "tests/life/churn.h"
#include "tests/life/expect_child.h"
#include "tests/life/process.h"

namespace tarn_test {
namespace {

constexpr double kBodySeconds = 2 * kPatienceSeconds;

// The library's own calls.
struct Tarn {
  void* handle = nullptr;
  void* (*malloc_call)(size_t) = nullptr;
  void* (*calloc_call)(size_t, size_t) = nullptr;
  void* (*realloc_call)(void*, size_t) = nullptr;
  void (*free_call)(void*) = nullptr;
  size_t (*usable_call)(void*) = nullptr;
};

Tarn Open() {
  Tarn tarn;
  tarn.handle = dlopen(TARN_LIFE_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  if (tarn.handle == nullptr) dprintf(2, "%s\n", dlerror());
  TARN_LIFE_REQUIRE(tarn.handle != nullptr);
  const auto find = [&tarn](const char* name) {
    void* address = dlsym(tarn.handle, name);
    TARN_LIFE_REQUIRE(address != nullptr);
    // The library's own, and not the program's.
    Dl_info info = {};
    TARN_LIFE_REQUIRE(dladdr(address, &info) != 0);
    TARN_LIFE_REQUIRE(strstr(info.dli_fname, "libtarn") != nullptr);
    return address;
  };
  tarn.malloc_call = reinterpret_cast<void* (*)(size_t)>(find("malloc"));
  tarn.calloc_call = reinterpret_cast<void* (*)(size_t, size_t)>(find("calloc"));
  tarn.realloc_call = reinterpret_cast<void* (*)(void*, size_t)>(find("realloc"));
  tarn.free_call = reinterpret_cast<void (*)(void*)>(find("free"));
  tarn.usable_call = reinterpret_cast<size_t (*)(void*)>(find("malloc_usable_size"));
  return tarn;
}

void Use(const Tarn& tarn, uint64_t seed, size_t count) {
  Random random(seed);
  std::vector<void*> objects;
  std::vector<size_t> sizes;
  for (size_t i = 0; i < count; ++i) {
    const size_t size = random.Size(600 * kKiB);
    void* object = i % 3 == 0 ? tarn.calloc_call(1, size) : tarn.malloc_call(size);
    TARN_LIFE_REQUIRE(object != nullptr && IsAligned(object, 16));
    TARN_LIFE_REQUIRE(i % 3 != 0 || IsZero(object, size));
    TARN_LIFE_REQUIRE(tarn.usable_call(object) >= size);
    Fill(object, i, 0, size);
    objects.push_back(object);
    sizes.push_back(size);
  }
  for (size_t i = 0; i < count; ++i) {
    TARN_LIFE_REQUIRE(Holds(objects[i], i, 0, sizes[i]));
    if (i % 4 == 0) {
      objects[i] = tarn.realloc_call(objects[i], sizes[i] + 5000);
      TARN_LIFE_REQUIRE(objects[i] != nullptr && Holds(objects[i], i, 0, sizes[i]));
    }
    tarn.free_call(objects[i]);
  }
}

class DlopenTest : public ::testing::TestWithParam<const char*> {
 protected:
  template <typename Body>
  void Check(const Body& body) {
    if (any_allocator_allowed()) {
      void* library = dlopen(TARN_LIFE_LIBRARY, RTLD_LAZY);
      void* call = library == nullptr ? nullptr : dlsym(library, "free_sized");
      if (call == nullptr) GTEST_SKIP() << "the library is a stand-in that has no malloc";
    }
    ExpectGoodEnd(kBodySeconds, [&body] {
      TARN_LIFE_REQUIRE(setenv("TARN_MODE", GetParam(), 1) == 0);
      body();
    });
  }
};

TEST_P(DlopenTest, IsUsedBesideGlibcAndClosed) {
  Check([] {
    Churn glibc(1);
    glibc.Steps(500);
    const Tarn tarn = Open();
    Use(tarn, 1, 5000);
    glibc.Steps(500);
    TARN_LIFE_REQUIRE(dlclose(tarn.handle) == 0);
    glibc.Steps(5000);
    std::thread([] { Churn(2).Steps(2000); }).join();
    const pid_t child = fork();
    if (child == 0) {
      glibc.Steps(500);
      _exit(0);
    }
    RequireGoodEnd(child, kPatienceSeconds);
    glibc.Verify();
  });
}

TEST_P(DlopenTest, IsOpenedOverAndOver) {
  Check([] {
    for (uint64_t i = 0; i < 30; ++i) {
      const Tarn tarn = Open();
      Use(tarn, i, 300);
      TARN_LIFE_REQUIRE(dlclose(tarn.handle) == 0);
    }
  });
}

// The threads are there before the library, so that its thread-local storage must fit into theirs.
// They end after it was closed, when what is to be done at their end must still be there.
TEST_P(DlopenTest, ServesThreadsThatAreOlderAndEndLater) {
  Check([] {
    std::atomic<const Tarn*> opened = nullptr;
    std::atomic<size_t> used = 0;
    std::atomic<bool> closed = false;
    std::vector<std::thread> threads;
    for (uint64_t i = 0; i < 8; ++i) {
      threads.emplace_back([i, &opened, &used, &closed] {
        while (opened == nullptr) sched_yield();
        Use(*opened, i, 1000);
        ++used;
        while (!closed) sched_yield();
        Churn(i).Steps(500);
      });
    }
    const Tarn tarn = Open();
    opened = &tarn;
    Use(tarn, 99, 1000);
    while (used < threads.size()) sched_yield();
    TARN_LIFE_REQUIRE(dlclose(tarn.handle) == 0);
    closed = true;
    for (std::thread& thread : threads) thread.join();
  });
}

TEST_P(DlopenTest, LivesThroughForksAndThreads) {
  Check([] {
    const Tarn tarn = Open();
    void* inherited = tarn.malloc_call(1000);
    TARN_LIFE_REQUIRE(inherited != nullptr);
    std::atomic<bool> stop = false;
    std::vector<std::thread> threads;
    for (uint64_t i = 0; i < 2; ++i) {
      threads.emplace_back([i, &tarn, &stop] {
        while (!stop) Use(tarn, i, 200);
      });
    }
    for (uint64_t i = 0; i < 24; ++i) {
      const pid_t child = fork();
      if (child == 0) {
        tarn.free_call(inherited);
        Use(tarn, i, 100);
        std::thread([&tarn] { Use(tarn, 5, 100); }).join();
        _exit(0);
      }
      RequireGoodEnd(child, kPatienceSeconds);
    }
    stop = true;
    for (std::thread& thread : threads) thread.join();
    tarn.free_call(inherited);
  });
}

INSTANTIATE_TEST_SUITE_P(Modes, DlopenTest, ::testing::Values("cpu", "thread"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace tarn_test
