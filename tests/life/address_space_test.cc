// SPDX-License-Identifier: Apache-2.0
//
// The address space that a process takes: little in a small one, and a limit that the program sets after its start
// (setrlimit, RLIMIT_AS) leaves room for threads and mappings, and bounds malloc.

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <vector>

#include "tests/entry/surface.h"
#include "tests/life/expect_child.h"
#include "tests/life/process.h"
#include "tests/os/in_child.h"

namespace tarn_test {
namespace {

constexpr double kSeconds = kPatienceSeconds;
constexpr std::size_t kStackBytes = 8 * kMiB;

void StartThreads(int count) {
  std::vector<pthread_t> threads(static_cast<std::size_t>(count));
  pthread_attr_t attributes;
  TARN_LIFE_REQUIRE(pthread_attr_init(&attributes) == 0);
  TARN_LIFE_REQUIRE(pthread_attr_setstacksize(&attributes, kStackBytes) == 0);
  for (pthread_t& thread : threads) {
    const auto body = [](void*) -> void* {
      void* volatile object = malloc(1000);
      free(object);
      return nullptr;
    };
    TARN_LIFE_REQUIRE(pthread_create(&thread, &attributes, body, nullptr) == 0);
  }
  for (pthread_t thread : threads) TARN_LIFE_REQUIRE(pthread_join(thread, nullptr) == 0);
}

TEST(AddressSpace, IsSmallInASmallProcess) {
  ExpectGoodEnd(kSeconds, [] {
    void* volatile object = malloc(100);
    free(object);
    // The program, its libraries, a stack of 8 MiB and the first reservation.
    TARN_LIFE_REQUIRE(AddressSpaceBytes() < 160 * kMiB);
  });
}

TEST(AddressSpace, GrowsWithTheHeap) {
  ExpectGoodEnd(kSeconds, [] {
    const std::size_t before = AddressSpaceBytes();
    std::vector<void*> objects;
    for (std::size_t i = 0; i < 400; ++i) objects.push_back(malloc(kMiB));
    const std::size_t taken = AddressSpaceBytes() - before;
    TARN_LIFE_REQUIRE(taken > 300 * kMiB);
    TARN_LIFE_REQUIRE(taken < 1100 * kMiB);
    for (void* object : objects) free(object);
  });
}

TEST(AddressSpace, ALimitSetLaterLeavesRoomAndBoundsMalloc) {
  ExpectGoodEnd(kSeconds, [] {
    void* volatile first = malloc(100);
    free(first);
    LimitFurtherAddressSpace(200 * kMiB);
    for (int round = 0; round < 3; ++round) {
      StartThreads(4);
      void* const mapping = mmap(nullptr, 64 * kMiB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      TARN_LIFE_REQUIRE(mapping != MAP_FAILED);
      TARN_LIFE_REQUIRE(munmap(mapping, 64 * kMiB) == 0);
      static void* objects[1000];
      std::size_t served = 0;
      while (served < 1000 && (objects[served] = malloc(kMiB)) != nullptr) ++served;
      // The first reservation and what the limit leaves, but for stacks that libc keeps.
      TARN_LIFE_REQUIRE(served >= 120 && served < 250);
      while (served != 0) free(objects[--served]);
      malloc_trim(0);
    }
  });
}

}  // namespace
}  // namespace tarn_test
