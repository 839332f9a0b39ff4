// SPDX-License-Identifier: Apache-2.0
//
// Guarded objects by themselves: where they lie, whose they are, and what is refused.

#include "allocator/misuse/guarded_objects.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>

#include <atomic>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "allocator/os/thread_state.h"
#include "allocator/os/virtual_memory.h"
#include "tests/os/in_child.h"
#include "tests/pages/fresh_page_heap.h"

namespace tarn {
namespace {

using tarn_test::ChildEnd;
using tarn_test::ComplaintOfChild;
using tarn_test::RunInChild;

constexpr std::uint32_t kPlaces = 16;
constexpr SizeClass kAnyClass = 5;

// Guards of a heap of their own. Constant-initialised memory is what they expect.
struct Guards {
  GuardedObjects guards;

  explicit Guards(std::uint32_t places = kPlaces, std::uint32_t rate = 1) {
    guards.Init(&tarn_test::FreshPageHeap(), places, rate, false);
  }
  char* Allocate(std::size_t bytes, std::size_t alignment = 16) {
    SlowPathScope scope;
    GuardedPlace* const place = guards.Allocate(kAnyClass, bytes, alignment);
    return place == nullptr ? nullptr : static_cast<char*>(place->object());
  }
  void Free(char* object) {
    SlowPathScope scope;
    guards.Free(guards.Resolve(object, "free"), "free");
  }
  const tarn_snapshot_guards& figures() { return *guards.published(); }
};

TEST(GuardedObjects, LieApartAndAligned) {
  Guards guards;
  std::vector<char*> objects;
  for (std::uint32_t i = 0; i < kPlaces; ++i) {
    const std::size_t bytes = 1 + i * 700;
    const std::size_t alignment = std::size_t{16} << (i % 9);
    char* const object = guards.Allocate(bytes, alignment);
    ASSERT_NE(object, nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(object) % alignment, 0u);
    EXPECT_TRUE(guards.guards.Contains(reinterpret_cast<std::uintptr_t>(object)));
    std::memset(object, 0x11, bytes);
    objects.push_back(object);
  }
  EXPECT_EQ(guards.Allocate(100), nullptr);
  EXPECT_EQ(guards.figures().live_objects, kPlaces);
  for (char* object : objects) guards.Free(object);
  EXPECT_EQ(guards.figures().live_objects, 0u);
  EXPECT_EQ(guards.figures().live_bytes, 0u);
  EXPECT_EQ(guards.figures().held_objects, kPlaces);
}

TEST(GuardedObjects, AreNotTooLarge) {
  Guards guards;
  EXPECT_EQ(guards.Allocate(GuardedObjects::kPlaceBytes + 1), nullptr);
  EXPECT_FALSE(guards.guards.has_region());
  EXPECT_NE(guards.Allocate(GuardedObjects::kPlaceBytes), nullptr);
  EXPECT_EQ(guards.Allocate(SIZE_MAX - 5000), nullptr);
  EXPECT_EQ(guards.Allocate(SIZE_MAX - 5), nullptr);
}

TEST(GuardedObjects, TheOldestPlaceIsUsedFirst) {
  Guards guards;
  std::vector<char*> objects;
  for (std::uint32_t i = 0; i < kPlaces; ++i) objects.push_back(guards.Allocate(4096));
  for (const std::size_t i : {7u, 3u, 11u}) guards.Free(objects[i]);
  // These take whole pages, so each lies where the one before did.
  EXPECT_EQ(guards.Allocate(4096), objects[7]);
  EXPECT_EQ(guards.Allocate(4096), objects[3]);
  guards.Free(objects[7]);
  EXPECT_EQ(guards.Allocate(4096), objects[11]);
  EXPECT_EQ(guards.Allocate(4096), objects[7]);
}

TEST(GuardedObjects, ResolveKnowsStrangers) {
  Guards guards;
  char* const object = guards.Allocate(4096);
  GuardedObjects& set = guards.guards;
  EXPECT_EQ(set.Resolve(object, "free")->object(), object);
  EXPECT_EQ(set.Resolve(object + GuardedObjects::kPlaceBytes, "free"), nullptr);
  EXPECT_EQ(set.Resolve(object - 1, "free"), nullptr);
  EXPECT_EQ(set.Resolve(object + GuardedObjects::kPlaceBytes + GuardedObjects::kGuardBytes, "free"), nullptr);
  EXPECT_FALSE(set.Contains(reinterpret_cast<std::uintptr_t>(&guards)));
  EXPECT_FALSE(set.Contains(0));
}

TEST(GuardedObjects, ARateOfNoneDrawsNone) {
  Guards guards(kPlaces, 0);
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(guards.guards.Draw());
}

// A rate above 1 is bounded in time, too: of a burst, a part is drawn.
TEST(GuardedObjects, ABurstIsDrawnInPart) {
  Guards guards(kPlaces, 2);
  int drawn = 0;
  for (int i = 0; i < 1000; ++i) drawn += guards.guards.Draw() ? 1 : 0;
  EXPECT_GT(drawn, 0);
  EXPECT_LT(drawn, 1000);
}

TEST(GuardedObjects, TwoFreesAtOnceAreAMisuse) {
  const ChildEnd end = RunInChild([] {
    Guards guards;
    char* const object = guards.Allocate(100);
    GuardedPlace* const place = guards.guards.Resolve(object, "free");
    guards.guards.Free(place, "free");
    guards.guards.Free(place, "free");
  });
  EXPECT_EQ(end.signal, SIGABRT);
  EXPECT_NE(end.output.find("object is already free: the object of 100 bytes starts at"), std::string::npos)
      << end.output;
}

// An object is not guarded where the kernel refuses, and the one that was in its place stays.
TEST(GuardedObjects, MayBeRefused) {
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer makes system calls of its own";
  EXPECT_EQ(ComplaintOfChild([] {
              Guards guards;
              char* const first = guards.Allocate(4096);
              char* const second = guards.Allocate(4096);
              guards.Free(second);
              if (!tarn_test::RefuseSystemCall(SYS_mprotect, ENOMEM)) _exit(0);
              TARN_REQUIRE(guards.Allocate(100) == nullptr);
              TARN_REQUIRE(guards.figures().refused == 1);
              TARN_REQUIRE(guards.figures().held_objects == 1);
              std::memset(first, 1, 4096);
              guards.Free(first);
              TARN_REQUIRE(guards.figures().held_objects == 2 && guards.figures().live_objects == 0);
            }),
            "");
  EXPECT_EQ(ComplaintOfChild([] {
              Guards guards;
              if (!tarn_test::RefuseSystemCall(SYS_mmap, ENOMEM)) _exit(0);
              TARN_REQUIRE(guards.Allocate(100) == nullptr);
              TARN_REQUIRE(guards.Allocate(100) == nullptr && !guards.guards.has_region());
            }),
            "");
}

// Each place has one owner, however many threads ask.
TEST(GuardedObjects, ThreadsShareThePlaces) {
  Guards guards(8);
  constexpr int kThreads = 4;
  constexpr int kRounds = 2000;
  std::atomic<int> allocated = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&guards, &allocated, t] {
      for (int i = 0; i < kRounds; ++i) {
        char* const object = guards.Allocate(64);
        if (object == nullptr) continue;
        std::memset(object, t, 64);
        for (int at = 0; at < 64; ++at) ASSERT_EQ(object[at], t);
        guards.Free(object);
        allocated.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(allocated.load(), kRounds);
  EXPECT_EQ(guards.figures().allocations, static_cast<std::uint64_t>(allocated.load()));
  EXPECT_EQ(guards.figures().live_objects, 0u);
  EXPECT_LE(guards.figures().held_objects, 8u);
}

}  // namespace
}  // namespace tarn
