// SPDX-License-Identifier: Apache-2.0
//
// Memory that the page heap brings before its use, over a simulated kernel (simulated_memory.h). The kernel takes its
// time, and other threads act in the middle of its calls.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "allocator/pages/page_heap.h"
#include "size_classes/size_classes.h"
#include "tests/pages/simulated_memory.h"

namespace tarn {
namespace {

using tarn_test::memory;

constexpr std::size_t kMiB = std::size_t{1} << 20;

std::size_t backed = 0;
std::uint32_t ms_for_a_huge_page = 0;
PageHeap* heap = nullptr;
int threads_to_come = 0;

bool Is(const char* call, const char* name) { return std::strcmp(call, name) == 0; }

class BroughtMemory : public testing::Test {
 protected:
  void SetUp() override {
    memory.Reset(1);
    backed = 0;
    static std::vector<std::unique_ptr<PageHeap>> heaps;
    heaps.push_back(std::make_unique<PageHeap>());
    heap = heaps.back().get();
  }
  void TearDown() override { memory.during_call = nullptr; }

  // In use, and not touched.
  static void MakeLarge(std::size_t bytes) {
    bool zero = false;
    ASSERT_NE(heap->AllocateLarge(PageCount(bytes / kPageBytes), PageCount(1), &zero), nullptr);
  }
  static void NewSpan() { ASSERT_NE(heap->AllocateSmall(MallocSizeClass(64)), nullptr); }
};

TEST_F(BroughtMemory, HugePagesThatTakeLongAreSeldomTried) {
  memory.during_call = [](const char* call) {
    if (!Is(call, "back")) return;
    ++backed;
    memory.now_ms += ms_for_a_huge_page;
  };
  MakeLarge(72 * kMiB);
  ms_for_a_huge_page = 6;
  const std::uint32_t start_ms = memory.now_ms;
  // A hundred MiB a second, for 20 seconds.
  for (std::size_t i = 0; i < 2000 * kMiB / kPageBytes; ++i) {
    NewSpan();
    if (i % (kMiB / kPageBytes) == 0) memory.now_ms += 10;
  }
  ASSERT_GE(memory.now_ms - start_ms, 20'000u);
  // After 0, 1, 3, 7 and 15 s.
  EXPECT_EQ(backed, 5u);
  // They are cheap again, and it takes a while to notice.
  ms_for_a_huge_page = 0;
  memory.now_ms += 20'000;
  for (std::size_t i = 0; i < 100 * kMiB / kPageBytes; ++i) NewSpan();
  EXPECT_GE(backed, 50u);
  heap->CheckInvariants();
}

TEST_F(BroughtMemory, InVainGoesBackInAProgramThatNeverFrees) {
  MakeLarge(256 * kMiB);
  threads_to_come = 3;
  memory.during_call = [](const char* call) {
    if (!Is(call, "back") || threads_to_come == 0) return;
    --threads_to_come;
    NewSpan();
  };
  // Each of four threads brings a huge page, for none sees those of the others.
  NewSpan();
  ASSERT_EQ(threads_to_come, 0);
  const std::size_t brought_bytes = heap->Stats().free_warm_bytes;
  ASSERT_GT(brought_bytes, 7 * kMiB);
  EXPECT_NE(heap->attention() & PageHeap::kScavengerWanted, 0u) << "a slow path is told";
  std::size_t released_bytes = 0;
  for (int pass = 0; pass < 2; ++pass) {
    std::size_t bytes = 0;
    while (!heap->ReleaseIdlePages(SIZE_MAX, &bytes)) released_bytes += bytes;
    released_bytes += bytes;
  }
  EXPECT_EQ(released_bytes, brought_bytes);
  heap->CheckInvariants();
}

}  // namespace
}  // namespace tarn
