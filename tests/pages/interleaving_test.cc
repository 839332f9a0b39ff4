// SPDX-License-Identifier: Apache-2.0
//
// Another thread, a child of fork, or a reader from outside, while an operation of the page heap is under way. Each
// test stops the operation at that moment.

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <new>

#include "allocator/os/virtual_memory.h"
#include "allocator/pages/page_heap.h"
#include "tests/os/in_child.h"
#include "tests/os/watched_thread.h"
#include "tests/pages/fresh_page_heap.h"

namespace tarn {
namespace {

class Interleaving : public testing::Test {
 protected:
  void SetUp() override {
    if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer makes system calls of its own";
  }
};

// In the child of a fork that was made under the page heap's lock.
[[noreturn]] void LookInTheChild(PageHeap& heap, const PageHeapStats& before) {
  heap.lock().ResetInForkedChild();
  heap.RepairInForkedChild();
  heap.CheckInvariants();
  const PageHeapStats stats = heap.Stats();
  TARN_REQUIRE(stats.in_use_bytes == before.in_use_bytes);
  TARN_REQUIRE(stats.whole_free_huge_pages == before.whole_free_huge_pages);
  TARN_REQUIRE(stats.uncommitted_bytes == before.uncommitted_bytes);
  bool zero;
  Span* again = heap.AllocateLarge(PageCount::FromHugePages(5), PageCount(1), &zero);
  TARN_REQUIRE(again != nullptr);
  static_cast<char*>(again->start())[0] = 1;
  heap.Deallocate(again);
  heap.CheckInvariants();
  _exit(0);
}

// A fork while another thread commits huge pages. In the child they are free again, and none is lost.
TEST_F(Interleaving, HugePagesUnderCommitAreFreeInTheChildOfFork) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              PageHeap& heap = tarn_test::FreshPageHeap();
              bool zero;
              // Makes the reservation, and a free huge page that is committed.
              Span* first = heap.AllocateLarge(PageCount::FromHugePages(1), PageCount(1), &zero);
              TARN_REQUIRE(first != nullptr);
              heap.Deallocate(first);
              const PageHeapStats before = heap.Stats();
              int status = -1;
              bool forked = false;
              Span* span = nullptr;
              const bool watched = tarn_test::RunWatched(
                  SYS_mprotect,
                  [&] {
                    bool told;
                    span = heap.AllocateLarge(PageCount::FromHugePages(5), PageCount(1), &told);
                  },
                  [&](const tarn_test::WatchedCall&) {
                    if (forked) return 0;
                    forked = true;
                    // The thread stands in its commit, without the lock.
                    heap.lock().Acquire();
                    const pid_t child = fork();
                    if (child == 0) LookInTheChild(heap, before);
                    heap.lock().Release();
                    TARN_REQUIRE(child > 0 && waitpid(child, &status, 0) == child);
                    return 0;
                  });
              if (!watched) return;
              TARN_REQUIRE(forked && status == 0);
              TARN_REQUIRE(span != nullptr);
              heap.CheckInvariants();
            }),
            "");
}

// In the child of a fork that was made under the page heap's lock, while the mapping of the span was growing.
[[noreturn]] void GrowInTheChild(PageHeap& heap, Span* span, std::size_t before_bytes) {
  heap.lock().ResetInForkedChild();
  TARN_REQUIRE(heap.Stats().mapped_bytes > before_bytes);
  heap.RepairInForkedChild();
  heap.CheckInvariants();
  TARN_REQUIRE(heap.Stats().mapped_bytes == before_bytes);
  TARN_REQUIRE(heap.ResizeLarge(span, PageCount(200)));
  heap.Deallocate(span);
  heap.CheckInvariants();
  TARN_REQUIRE(heap.Stats().mapped_bytes == 0);
  _exit(0);
}

// A fork while another thread makes an object with a mapping of its own larger. In the child the object is as large as
// before, and no more is counted.
TEST_F(Interleaving, AMappingThatGrowsIsNotCountedInTheChildOfFork) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              PageHeap& heap = tarn_test::FreshPageHeap();
              bool zero;
              const PageCount pages = PageCount::FromHugePages(1000);
              Span* const span = heap.AllocateLarge(pages, PageCount(1), &zero);
              TARN_REQUIRE(span != nullptr && span->kind == SpanKind::kMapped);
              TARN_REQUIRE(heap.ResizeLarge(span, PageCount(100)));
              const std::size_t before_bytes = heap.Stats().mapped_bytes;
              int status = -1;
              bool forked = false;
              const bool watched = tarn_test::RunWatched(
                  SYS_mprotect, [&] { TARN_REQUIRE(heap.ResizeLarge(span, pages)); },
                  [&](const tarn_test::WatchedCall&) {
                    if (forked) return 0;
                    forked = true;
                    heap.lock().Acquire();
                    const pid_t child = fork();
                    if (child == 0) GrowInTheChild(heap, span, before_bytes);
                    heap.lock().Release();
                    TARN_REQUIRE(child > 0 && waitpid(child, &status, 0) == child);
                    return 0;
                  });
              if (!watched) return;
              TARN_REQUIRE(forked && status == 0);
              heap.CheckInvariants();
              TARN_REQUIRE(heap.Stats().mapped_bytes == pages.bytes());
            }),
            "");
}

// A free huge page goes back to the kernel, the call fails half-way, and another thread's mapping lands there. It is
// left alone for ever.
TEST_F(Interleaving, AHugePageWhoseAddressesAreLostIsNeverUsedAgain) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              PageHeap& heap = tarn_test::FreshPageHeap();
              Span* spans[12];
              bool zero;
              for (Span*& span : spans) {
                span = heap.AllocateLarge(PageCount(kPagesPerHugePage), PageCount(1), &zero);
                TARN_REQUIRE(span != nullptr);
              }
              // Free ones between others, which keep their addresses when memory runs out.
              for (std::size_t i = 0; i < 10; i += 2) heap.Deallocate(spans[i]);
              tarn_test::LimitFurtherData(3 * kHugePageBytes);
              char* others = nullptr;
              const bool watched = tarn_test::RunWatched(
                  SYS_mmap,
                  [&] {
                    bool told;
                    Span* large = heap.AllocateLarge(PageCount(6 * kPagesPerHugePage), PageCount(1), &told);
                    if (large != nullptr) heap.Deallocate(large);
                  },
                  [&](const tarn_test::WatchedCall& call) {
                    if (others != nullptr || (call.arguments[3] & MAP_FIXED) == 0) return 0;
                    others = reinterpret_cast<char*>(call.arguments[0]);
                    TARN_REQUIRE(munmap(others, call.arguments[1]) == 0);
                    TARN_REQUIRE(mmap(others, 4 * OsPageBytes(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                                      0) == others);
                    return ENOMEM;
                  });
              if (!watched) return;
              TARN_REQUIRE(others != nullptr);
              heap.CheckInvariants();
              // All that there is; none of it is the other thread's.
              while (Span* span = heap.AllocateLarge(PageCount(kPagesPerHugePage), PageCount(1), &zero)) {
                TARN_REQUIRE(span->start() != others);
                static_cast<char*>(span->start())[0] = 1;
              }
              heap.ReleaseFree(0, true);
              heap.CheckInvariants();
              TARN_REQUIRE(others[0] == 0);
            }),
            "");
}

// The published figures at every instruction of a process that allocates and frees: whenever the sequence number is
// even, they add up.
TEST_F(Interleaving, FiguresAddUpWheneverTheirSequenceIsEven) {
  void* const memory =
      mmap(nullptr, sizeof(PageHeap), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* const heap = ::new (memory) PageHeap;
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    bool zero;
    Span* span = heap->AllocateLarge(PageCount(100), PageCount(1), &zero);
    if (span == nullptr || ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(77);
    raise(SIGSTOP);
    Span* another = heap->AllocateLarge(PageCount(30), PageCount(1), &zero);
    heap->Deallocate(span);
    _exit(another == nullptr ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) GTEST_SKIP() << "ptrace is not allowed here";
  const volatile tarn_snapshot_pages* const figures = heap->published();
  std::size_t steps = 0;
  std::size_t odd = 0;
  std::size_t wrong = 0;
  std::size_t changes = 0;
  std::uint64_t sequence = figures->sequence;
  while (WIFSTOPPED(status)) {
    ++steps;
    if (figures->sequence != sequence) ++changes;
    sequence = figures->sequence;
    if (sequence % 2 != 0) {
      ++odd;
    } else if (figures->in_use_bytes + figures->free_bytes + figures->metadata_block_bytes !=
               figures->committed_bytes) {
      ++wrong;
    }
    if (ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) != 0) break;
    ASSERT_EQ(waitpid(child, &status, 0), child);
  }
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_EQ(wrong, 0u) << "of " << steps << " steps";
  EXPECT_GE(changes, 4u) << "two operations publish";
  EXPECT_GT(odd, 20u);
  munmap(memory, sizeof(PageHeap));
}

}  // namespace
}  // namespace tarn
