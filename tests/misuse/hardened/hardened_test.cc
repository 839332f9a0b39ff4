// SPDX-License-Identifier: Apache-2.0
//
// The hardened mode (TARN_HARDEN=on): what each of its ideas promises. The environment of the test turns the mode on.
//
// Where objects lie and how long they rest is random. A test that looks at chance allows for any outcome that comes
// oftener than once in 2^60 runs.

#include <gtest/gtest.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "allocator/include/tarn/memstats.h"
#include "tests/entry/on_tarn.h"
#include "tests/entry/surface.h"
#include "tests/misuse/checked/child_outcome.h"

namespace tarn_test {
namespace {

using Outcome = ChildOutcome;

Outcome RunInChild(const std::function<void()>& body) {
  return OutcomeOfChild([&] {
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    body();
    _exit(0);
  });
}

const size_t kSmallSizes[] = {1, 16, 24, 100, 1000, 5000, 40000, 100000, 250000};
const size_t kSizes[] = {1, 16, 24, 100, 1000, 5000, 40000, 100000, 250000, kMiB, 9 * kMiB};

char* Allocate(size_t size) {
  char* object = static_cast<char*>(Opaque(malloc(size)));
  if (object == nullptr) _exit(2);
  return object;
}
void Free(void* object) { free(Opaque(object)); }

class HardenedTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (any_allocator_allowed()) GTEST_SKIP() << "another allocator was allowed";
  }
};

void ExpectReport(const Outcome& outcome, const std::string& call, const std::string& what, size_t size) {
  EXPECT_TRUE(outcome.aborted()) << size << "\n" << outcome.err;
  const std::string start = "tarn: fatal: " + call;
  EXPECT_EQ(outcome.err.compare(0, start.size(), start), 0) << size << "\n" << outcome.err;
  EXPECT_TRUE(outcome.says(what)) << size << "\n" << outcome.err;
}

// --- Placement -----------------------------------------------------------------------------------------------------

// The distances between objects that are allocated one after the other, as a child finds them.
std::vector<intptr_t> DistancesInChild(size_t size) {
  constexpr size_t kCount = 64;
  void* const shared = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  auto* const distances = static_cast<intptr_t*>(shared);
  const Outcome outcome = RunInChild([&] {
    const char* last = Allocate(size);
    for (size_t i = 0; i < kCount; ++i) {
      const char* const object = Allocate(size);
      distances[i] = object - last;
      last = object;
    }
  });
  EXPECT_TRUE(outcome.ended_well()) << outcome.err;
  std::vector<intptr_t> result(distances, distances + kCount);
  munmap(shared, 4096);
  return result;
}

TEST_F(HardenedTest, ChildrenPlaceObjectsDifferently) {
  for (const size_t size : {16, 100, 1000}) {
    std::set<std::vector<intptr_t>> seen;
    for (int i = 0; i < 5; ++i) seen.insert(DistancesInChild(size));
    EXPECT_EQ(seen.size(), 5u) << size;
    for (const auto& distances : seen) {
      EXPECT_TRUE(std::any_of(distances.begin(), distances.end(), [](intptr_t distance) { return distance < 0; }));
    }
  }
}

// --- Reuse ---------------------------------------------------------------------------------------------------------

// The bytes that rest bound how soon an object may come back: half of the 128 KiB of a class wait in order.
TEST_F(HardenedTest, AFreedObjectRests) {
  for (const size_t size : {16, 100, 1000, 5000}) {
    const size_t rests = 64 * 1024 / malloc_usable_size(Allocate(size));
    void* const object = Allocate(size);
    Free(object);
    for (size_t i = 1; i < rests; ++i) {
      char* const other = Allocate(size);
      ASSERT_NE(other, object) << size << " after " << i;
      Free(other);
    }
  }
}

TEST_F(HardenedTest, AFreedObjectComesBackAtSomeTime) {
  void* const object = Allocate(1000);
  Free(object);
  bool came_back = false;
  for (int i = 0; i < 1000000 && !came_back; ++i) {
    void* const other = Allocate(1000);
    came_back = other == object;
    Free(other);
  }
  EXPECT_TRUE(came_back);
}

TEST_F(HardenedTest, AFreedObjectIsZero) {
  for (const size_t size : kSmallSizes) {
    char* const object = Allocate(size);
    const size_t bytes = malloc_usable_size(object);
    memset(object, 0x41, bytes);
    Free(object);
    const char* const freed = Opaque(object);
    EXPECT_TRUE(std::all_of(freed, freed + bytes, [](char byte) { return byte == 0; })) << size;
  }
}

// Small ones are looked at when they are handed out again; the memory of large ones cannot be accessed.
TEST_F(HardenedTest, AWriteAfterTheFreeIsSeenAtReuse) {
  for (const size_t size : {16, 100, 1000, 5000}) {
    for (const bool at_end : {false, true}) {
      const Outcome outcome = RunInChild([&] {
        char* const object = Allocate(size);
        const size_t at = at_end ? malloc_usable_size(object) - 1 : 0;
        Free(object);
        Opaque(object)[at] = 1;
        for (int i = 0; i < 1000000; ++i) Free(Allocate(size));
      });
      ExpectReport(outcome, "malloc: ", "freed memory was overwritten at 0x", size);
    }
  }
}

TEST_F(HardenedTest, AnAccessToAFreedLargeObjectFaults) {
  for (const bool write : {false, true}) {
    const Outcome outcome = RunInChild([&] {
      char* const object = Allocate(kMiB);
      memset(object, 1, kMiB);
      Free(object);
      char* const at = Opaque(object) + kMiB / 2;
      if (write) {
        *static_cast<volatile char*>(at) = 1;
      } else {
        _exit(*static_cast<volatile char*>(at));
      }
    });
    EXPECT_TRUE(WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGSEGV) << outcome.status << outcome.err;
  }
}

TEST_F(HardenedTest, TheAddressesOfLargeObjectsRest) {
  void* const object = Allocate(kMiB);
  Free(object);
  for (int i = 0; i < 50; ++i) {
    void* const other = Allocate(kMiB);
    ASSERT_NE(other, object) << i;
    Free(other);
  }
}

TEST_F(HardenedTest, TrimGivesBackWhatRests) {
  std::vector<void*> held;
  for (int i = 0; i < 30; ++i) held.push_back(Allocate(4 * kMiB));
  for (void* object : held) Free(object);
  EXPECT_EQ(malloc_trim(0), 1);
  // Their addresses serve again, and can be written.
  for (void*& object : held) memset(object = Allocate(4 * kMiB), 1, 4 * kMiB);
  for (void* object : held) Free(object);
}

// --- Misuse --------------------------------------------------------------------------------------------------------

TEST_F(HardenedTest, ASecondFreeIsSeenAtTheCall) {
  for (const size_t size : kSizes) {
    for (const int between : {0, 1, 10, 1000, 20000}) {
      if (size >= 100000 && between > 10) continue;
      const Outcome outcome = RunInChild([&] {
        std::vector<void*> others;
        for (int i = 0; i < between; ++i) others.push_back(Allocate(size));
        char* const object = Allocate(size);
        Free(object);
        for (void* other : others) Free(other);
        Free(object);
      });
      // Behind the quarantine, the span may be gone.
      ExpectReport(outcome, "free(0x", outcome.says("span is") ? "span is already free" : "object is already free",
                   size);
    }
  }
}

TEST_F(HardenedTest, ASecondFreeInAnotherThreadIsSeenAtTheCall) {
  for (const size_t size : kSizes) {
    const Outcome outcome = RunInChild([&] {
      char* const object = Allocate(size);
      Free(object);
      std::thread([&] { Free(object); }).join();
    });
    EXPECT_TRUE(outcome.aborted() && outcome.says("tarn: fatal: free(0x")) << size << outcome.err;
  }
}

TEST_F(HardenedTest, OtherCallsSeeAFreedObject) {
  for (const size_t size : kSizes) {
    const Outcome resized = RunInChild([&] {
      char* const object = Allocate(size);
      Free(object);
      // Also of a size that the object has.
      Opaque(realloc(Opaque(object), size));
    });
    EXPECT_TRUE(resized.aborted() && resized.says("tarn: fatal: realloc(0x")) << size << resized.err;
    const Outcome measured = RunInChild([&] {
      char* const object = Allocate(size);
      Free(object);
      Opaque(malloc_usable_size(Opaque(object)));
    });
    EXPECT_TRUE(measured.aborted() && measured.says("tarn: fatal: malloc_usable_size(0x")) << size << measured.err;
  }
}

TEST_F(HardenedTest, AFreeInsideAnObjectIsSeenAtTheCall) {
  for (const size_t size : kSizes) {
    if (size < 100) continue;
    for (const size_t offset : {size_t{8}, size_t{16}, size / 2}) {
      const Outcome outcome = RunInChild([&] { Free(Allocate(size) + offset); });
      ExpectReport(outcome, "free(0x", "pointer is inside an object, not at its start", size);
    }
  }
}

// --- The rest of the library ---------------------------------------------------------------------------------------

TEST_F(HardenedTest, FiguresAreExact) {
  tarn_memstats_t before;
  tarn_memstats_t after;
  ASSERT_EQ(tarn_memstats(&before, sizeof before), 0);
  void* const small = Allocate(5000);
  void* const large = Allocate(3 * kMiB);
  Free(Allocate(5000));
  Free(Allocate(3 * kMiB));
  ASSERT_EQ(tarn_memstats(&after, sizeof after), 0);
  EXPECT_EQ(after.mallocs - before.mallocs, 4u);
  EXPECT_EQ(after.frees - before.frees, 2u);
  EXPECT_EQ(after.heap_alloc_bytes - before.heap_alloc_bytes, malloc_usable_size(small) + malloc_usable_size(large));
  Free(small);
  Free(large);
}

// Says which mode saw the second free: only the checked one knows where the object was freed.
TEST_F(HardenedTest, TheCheckedModeComesFirst) {
  const auto free_twice = [](const char* check) {
    return OutcomeOfChild([check] {
      setenv("TARN_CHECK", check, 1);
      execl("/proc/self/exe", "hardened_test", "--gtest_filter=*FreesTwice", "--gtest_also_run_disabled_tests",
            nullptr);
    });
  };
  const Outcome checked = free_twice("on");
  EXPECT_TRUE(checked.aborted() && checked.says("The free:")) << checked.err;
  const Outcome pools = free_twice("pools");
  EXPECT_TRUE(pools.aborted() && pools.says("object is already free")) << pools.err;
  EXPECT_FALSE(pools.says("The free:")) << pools.err;
}

TEST_F(HardenedTest, DISABLED_FreesTwice) {
  const struct rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  char* const object = Allocate(100);
  Free(object);
  Free(object);
}

}  // namespace
}  // namespace tarn_test
