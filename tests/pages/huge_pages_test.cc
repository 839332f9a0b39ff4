// SPDX-License-Identifier: Apache-2.0
//
// Huge pages of the kernel: where they are advised, what is resident then, and that they go where they became sparse.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "allocator/os/huge_page_setting.h"
#include "allocator/os/virtual_memory.h"
#include "allocator/pages/page_heap.h"
#include "size_classes/size_classes.h"
#include "tests/os/in_child.h"
#include "tests/os/mapping_facts.h"
#include "tests/pages/fresh_page_heap.h"

namespace tarn {
namespace {

using tarn_test::ExpectConsistent;
using tarn_test::HasMappingFlag;
using tarn_test::IsZero;
using tarn_test::kMiB;
using tarn_test::Large;
using tarn_test::PassOverIdlePages;
using tarn_test::ResidentBytes;
using tarn_test::Touch;

// These tests go on however long a huge page takes here.
PageHeap& UnmeasuredPageHeap() {
  PageHeap& heap = tarn_test::FreshPageHeap();
  heap.IgnoreBringCost();
  return heap;
}

// From here on a huge page is no more than the share that is brought ahead.
constexpr std::size_t kLargeHeapPages = 72 * kMiB / kPageBytes;

// Huge pages that the kernel did not have, for any process: memory is short or in pieces.
std::uint64_t MissingHugePages() {
  std::ifstream file("/proc/vmstat");
  std::uint64_t sum = 0;
  std::string name;
  for (std::uint64_t count; file >> name >> count;) {
    if (name == "thp_fault_fallback" || name == "thp_collapse_alloc_failed") sum += count;
  }
  return sum;
}

class HugePages : public testing::Test {
 protected:
  void SetUp() override {
    if (ReadHugePageSetting() == HugePageSetting::kNever || OsPageBytes() != 4096) {
      GTEST_SKIP() << "the system has no huge pages";
    }
  }
  // True where one may have been missing since the start of the test, which then says nothing of what is resident.
  bool WereMissing() const { return MissingHugePages() != missing_at_start_; }

 private:
  const std::uint64_t missing_at_start_ = MissingHugePages();
};

#define TARN_SKIP_WHERE_HUGE_PAGES_WERE_MISSING() \
  if (WereMissing()) GTEST_SKIP() << "the kernel had no huge page to give"

// Mappings that touch a reservation: others come and go with whatever the test's libraries do.
std::size_t MappingCount(const Reservation* reservation) {
  const std::uintptr_t begin = reservation->first_page.address();
  const std::uintptr_t end = begin + reservation->huge_page_count * kHugePageBytes;
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) {
    const std::uintptr_t from = std::stoull(line, nullptr, 16);
    const std::uintptr_t to = std::stoull(line.substr(line.find('-') + 1), nullptr, 16);
    if (from < end && to > begin) ++count;
  }
  return count;
}

// Makes the heap so large by one object, which nobody touches.
void MakeLarge(PageHeap& heap) { static_cast<void>(Large(heap, kLargeHeapPages)); }

// Spans of small objects, one page each, that fill huge pages nobody used before.
std::vector<Span*> SmallSpans(PageHeap& heap, std::size_t huge_pages) {
  const SizeClass size_class = MallocSizeClass(64);
  EXPECT_EQ(kSizeClasses[size_class].span_pages, 1u);
  std::vector<Span*> spans;
  while (spans.size() < huge_pages * kPagesPerHugePage) spans.push_back(heap.AllocateSmall(size_class));
  return spans;
}

char* HugePageOf(const Span* span) { return static_cast<char*>(span->huge_page->first_page.start()); }

TEST_F(HugePages, StandBehindTheGrowthOfLargeHeapsAndLeaveNoMappings) {
  PageHeap& heap = UnmeasuredPageHeap();
  MakeLarge(heap);
  std::vector<Span*> spans = SmallSpans(heap, 1);
  const Reservation* const reservation = spans.back()->huge_page->reservation;
  const std::size_t mappings = MappingCount(reservation);
  for (Span* span : SmallSpans(heap, 8)) spans.push_back(span);
  TARN_SKIP_WHERE_HUGE_PAGES_WERE_MISSING();
  // The first may have been begun before.
  EXPECT_GE(heap.published()->backed_huge_pages, 8u);
  EXPECT_LE(MappingCount(reservation), mappings);
  // All of it came with the first span.
  Span* const next = SmallSpans(heap, 1).back();
  TARN_SKIP_WHERE_HUGE_PAGES_WERE_MISSING();
  EXPECT_EQ(ResidentBytes(HugePageOf(next), kHugePageBytes), kHugePageBytes);
  ExpectConsistent(heap);
  for (Span* span : spans) {
    EXPECT_TRUE(IsZero(span->start(), span->bytes()));
    heap.Deallocate(span);
  }
  heap.ReleaseFree(0, true);
  ExpectConsistent(heap);
}

TEST_F(HugePages, DoNotStandBehindSmallHeapsNorWhereTheyAreSwitchedOff) {
  PageHeap& small = UnmeasuredPageHeap();
  SmallSpans(small, 2);
  EXPECT_EQ(small.published()->backed_huge_pages, 0u);

  PageHeap& refused = UnmeasuredPageHeap();
  refused.AllowHugePages(false);
  MakeLarge(refused);
  SmallSpans(refused, 2);
  EXPECT_EQ(refused.published()->backed_huge_pages + refused.published()->asked_huge_pages, 0u);
}

TEST_F(HugePages, DoNotStandBehindObjectsOfWhichPagesMayStayUntouched) {
  PageHeap& heap = UnmeasuredPageHeap();
  MakeLarge(heap);
  for (const std::size_t bytes : {std::size_t{9000}, std::size_t{64} << 10, std::size_t{256} << 10}) {
    const SizeClass size_class = MallocSizeClass(bytes);
    std::size_t pages = 0;
    while (pages < 3 * kPagesPerHugePage) {
      const Span* const span = heap.AllocateSmall(size_class);
      EXPECT_EQ(ResidentBytes(span->start(), span->bytes()), 0u) << bytes;
      pages += span->bytes() / kPageBytes;
    }
    EXPECT_EQ(heap.published()->backed_huge_pages, 0u) << bytes;
  }
  ExpectConsistent(heap);
}

TEST_F(HugePages, StayWhereTheyAreDenseAndGoWhereTheyBecameSparse) {
  PageHeap& heap = UnmeasuredPageHeap();
  MakeLarge(heap);
  SmallSpans(heap, 1);
  std::vector<Span*> spans = SmallSpans(heap, 3);
  // Those that are whole.
  const HugePage* const dense = spans[kPagesPerHugePage]->huge_page;
  const HugePage* const sparse = spans[2 * kPagesPerHugePage]->huge_page;
  ASSERT_NE(dense, sparse);
  TARN_SKIP_WHERE_HUGE_PAGES_WERE_MISSING();
  ASSERT_EQ(dense->backing, Backing::kHuge);
  ASSERT_EQ(sparse->backing, Backing::kHuge);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < spans.size(); ++i) {
    Span*& span = spans[i];
    std::memset(span->start(), 7, span->bytes());
    const std::size_t index = tarn_test::IndexInHugePage(span);
    const bool goes = (span->huge_page == dense && index % 32 == 0) || (span->huge_page == sparse && index % 8 == 0);
    kept += span->huge_page == sparse && !goes ? span->bytes() : 0;
    if (goes) {
      heap.Deallocate(span);
      span = nullptr;
    }
  }
  PassOverIdlePages(heap);
  PassOverIdlePages(heap);
  EXPECT_EQ(dense->backing, Backing::kHuge);
  EXPECT_EQ(ResidentBytes(dense->first_page.start(), kHugePageBytes), kHugePageBytes);
  EXPECT_EQ(sparse->backing, Backing::kSmall);
  EXPECT_EQ(ResidentBytes(sparse->first_page.start(), kHugePageBytes), kept);
  ExpectConsistent(heap);
  // A limit takes what it can get.
  std::size_t released = 0;
  while (!heap.ReleaseIdlePages(SIZE_MAX, &released, PageHeap::Idle::kAnyFree)) {
  }
  EXPECT_EQ(dense->backing, Backing::kSmall);
  EXPECT_LT(ResidentBytes(dense->first_page.start(), kHugePageBytes), kHugePageBytes);
  ExpectConsistent(heap);
  for (const Span* span : spans) {
    if (span == nullptr) continue;
    EXPECT_EQ(static_cast<const char*>(span->start())[kPageBytes - 1], 7);
  }
}

TEST_F(HugePages, AreAskedForWhereLargeObjectsTakeThemWhole) {
  PageHeap& heap = UnmeasuredPageHeap();
  // Four and a half.
  Span* const span = Large(heap, 4 * kPagesPerHugePage + kPagesPerHugePage / 2);
  EXPECT_EQ(heap.published()->asked_huge_pages, 4u);
  auto* const memory = static_cast<char*>(span->start());
  memory[0] = 1;
  TARN_SKIP_WHERE_HUGE_PAGES_WERE_MISSING();
  EXPECT_EQ(ResidentBytes(memory, span->bytes()), kHugePageBytes);
  memory[4 * kHugePageBytes] = 1;
  EXPECT_EQ(ResidentBytes(memory, span->bytes()), kHugePageBytes + OsPageBytes());
  heap.Deallocate(span);
  EXPECT_EQ(heap.ReleaseFree(0, false), 4 * kHugePageBytes + kHugePageBytes / 2);
  EXPECT_EQ(heap.published()->asked_huge_pages, 0u);
  ExpectConsistent(heap);
  // For memory that comes to lie there, none is advised.
  Span* const page = Large(heap, 1);
  ASSERT_EQ(HugePageOf(page), memory);
  *static_cast<char*>(page->start()) = 1;
  EXPECT_EQ(ResidentBytes(memory, kHugePageBytes), OsPageBytes());
}

TEST_F(HugePages, AreAskedForWhatALargeObjectGrowsInto) {
  PageHeap& heap = UnmeasuredPageHeap();
  Span* span = Large(heap, kPagesPerHugePage + 100);
  ASSERT_EQ(heap.published()->asked_huge_pages, 0u);
  Touch(span);
  // The rest of the huge page that it has begun, three whole ones, and a part of the next.
  ASSERT_TRUE(heap.ResizeLarge(span, PageCount(5 * kPagesPerHugePage + 10)));
  EXPECT_EQ(heap.published()->asked_huge_pages, 3u);
  char* const third = HugePageOf(span) + 2 * kHugePageBytes;
  third[5] = 1;
  TARN_SKIP_WHERE_HUGE_PAGES_WERE_MISSING();
  EXPECT_EQ(ResidentBytes(third, kHugePageBytes), kHugePageBytes);
  char* const second = third - kHugePageBytes;
  second[5] = 1;
  EXPECT_LT(ResidentBytes(second, kHugePageBytes), kHugePageBytes);
  ExpectConsistent(heap);
  // One at a time is not worth a mapping.
  ASSERT_TRUE(heap.ResizeLarge(span, PageCount(7 * kPagesPerHugePage)));
  EXPECT_EQ(heap.published()->asked_huge_pages, 3u);
  ASSERT_TRUE(heap.MoveLarge(span, PageCount(9 * kPagesPerHugePage)));
  EXPECT_EQ(third[5] + second[5], 0);
  EXPECT_EQ(static_cast<char*>(span->start())[2 * kHugePageBytes + 5], 1);
  EXPECT_EQ(heap.published()->asked_huge_pages, 0u);
  ExpectConsistent(heap);
  heap.Deallocate(span);
}

// Of a huge page that is asked for, one touch brings all.
TEST_F(HugePages, AreNotAskedForWhereAContainerHasNoRoomForAllOfThem) {
  PageHeap& heap = UnmeasuredPageHeap();
  heap.SetGoals({60 * kMiB, 62 * kMiB, 64 * kMiB});
  Span* span = Large(heap, 54 * kMiB / kPageBytes);
  EXPECT_EQ(heap.published()->asked_huge_pages, 0u);
  auto* memory = static_cast<char*>(span->start());
  memory[kMiB] = 1;
  EXPECT_EQ(ResidentBytes(memory, 4 * kMiB), OsPageBytes());
  // Nor for its growth in place, and in a mapping of its own.
  ASSERT_TRUE(heap.ResizeLarge(span, PageCount(60 * kMiB / kPageBytes)));
  EXPECT_EQ(heap.published()->asked_huge_pages, 0u);
  const PageCount pages(150 * kMiB / kPageBytes);
  if (!heap.ResizeLarge(span, pages)) {
    ASSERT_TRUE(heap.MoveLarge(span, pages));
  }
  memory = static_cast<char*>(span->start());
  memory[120 * kMiB] = 1;
  EXPECT_EQ(ResidentBytes(memory, span->bytes()), 2 * OsPageBytes());
  heap.Deallocate(span);
  span = Large(heap, 600 * kMiB / kPageBytes);
  ASSERT_EQ(span->kind, SpanKind::kMapped);
  memory = static_cast<char*>(span->start());
  memory[kMiB] = 1;
  EXPECT_EQ(ResidentBytes(memory, 4 * kMiB), OsPageBytes());
  heap.Deallocate(span);
  ExpectConsistent(heap);
}

TEST_F(HugePages, AreNotAskedForTablesThatMayStayEmpty) {
  PageHeap& heap = UnmeasuredPageHeap();
  bool zero = false;
  Span* const span = heap.AllocateLarge(PageCount(8 * kPagesPerHugePage), PageCount(1), &zero, true);
  EXPECT_TRUE(zero);
  EXPECT_EQ(heap.published()->asked_huge_pages, 0u);
  static_cast<char*>(span->start())[kHugePageBytes] = 1;
  EXPECT_EQ(ResidentBytes(span->start(), span->bytes()), OsPageBytes());
}

TEST_F(HugePages, PartsOfAnObjectThatShrankDoNotComeBackByThemselves) {
  PageHeap& heap = UnmeasuredPageHeap();
  Span* const span = Large(heap, 4 * kPagesPerHugePage);
  std::memset(span->start(), 1, span->bytes());
  // The last huge page is cut in two.
  ASSERT_TRUE(heap.ResizeLarge(span, PageCount(3 * kPagesPerHugePage + 100)));
  PassOverIdlePages(heap);
  EXPECT_EQ(PassOverIdlePages(heap), PageCount(kPagesPerHugePage - 100).bytes());
  EXPECT_EQ(heap.published()->asked_huge_pages, 3u);
  const char* const tail = static_cast<const char*>(span->start()) + span->bytes();
  EXPECT_EQ(ResidentBytes(tail, PageCount(kPagesPerHugePage - 100).bytes()), 0u);
  ExpectConsistent(heap);
}

TEST_F(HugePages, OfAnObjectThatMovedAreNotResidentBehindIt) {
  PageHeap& heap = UnmeasuredPageHeap();
  Span* const span = Large(heap, 4 * kPagesPerHugePage + 10);
  char* const before = static_cast<char*>(span->start());
  std::memset(before, 1, span->bytes());
  ASSERT_TRUE(heap.MoveLarge(span, PageCount(8 * kPagesPerHugePage)));
  EXPECT_EQ(static_cast<char*>(span->start())[4 * kHugePageBytes], 1);
  EXPECT_EQ(heap.published()->asked_huge_pages, 0u);
  ExpectConsistent(heap);
  bool zero = false;
  Span* const next = Large(heap, 1, 1, &zero);
  ASSERT_EQ(static_cast<char*>(next->start()), before);
  EXPECT_TRUE(zero);
  EXPECT_TRUE(IsZero(next->start(), kPageBytes));
  *before = 1;
  EXPECT_EQ(ResidentBytes(before, kHugePageBytes), kPageBytes) << "what was read, by the kernel's page of zeros";
}

// --- Large objects that are filled, or not ---------------------------------------------------------------------------

// One byte for each MiB.
void TouchSparsely(Span* span) {
  for (std::size_t i = 0; i < span->bytes(); i += kMiB) static_cast<char*>(span->start())[i] = 1;
}

// The most that is resident then. Where the heap looked, the kernel's page of zeros counts too: two for each look.
std::size_t SparseBytes(const Span* span) { return (span->bytes() / kMiB + 6) * OsPageBytes(); }

TEST_F(HugePages, AreNotAskedForWhereLargeObjectsAreSparse) {
  // In reservations, and with a mapping of their own.
  for (const std::size_t huge_pages : {std::size_t{100}, Reservation::kMaxHugePages / 2 + 1}) {
    PageHeap& heap = UnmeasuredPageHeap();
    std::vector<Span*> spans;
    for (int i = 0; i < 4; ++i) {
      spans.push_back(Large(heap, huge_pages * kPagesPerHugePage));
      TouchSparsely(spans.back());
    }
    heap.Deallocate(spans[0]);
    spans[0] = Large(heap, huge_pages * kPagesPerHugePage);
    for (Span* span : spans) {
      TouchSparsely(span);
      EXPECT_LE(ResidentBytes(span->start(), span->bytes()), SparseBytes(span));
      heap.Deallocate(span);
    }
    heap.ReleaseFree(0, true);
  }
}

TEST_F(HugePages, AreAskedForWhereOthersOfThatSizeWereFilled) {
  constexpr std::size_t kHugePages = 20;  // too large to be tried
  for (const bool freed : {false, true}) {
    PageHeap& heap = UnmeasuredPageHeap();
    Span* const first = Large(heap, kHugePages * kPagesPerHugePage);
    EXPECT_EQ(heap.published()->asked_huge_pages, 0u);
    Touch(first);
    if (freed) {
      heap.Deallocate(first);
      heap.ReleaseFree(0, false);
    }
    static_cast<void>(Large(heap, kHugePages * kPagesPerHugePage));
    EXPECT_EQ(heap.published()->asked_huge_pages, kHugePages) << freed;
    // Of quite another size none was.
    static_cast<void>(Large(heap, 4 * kHugePages * kPagesPerHugePage));
    EXPECT_EQ(heap.published()->asked_huge_pages, kHugePages) << freed;
    ExpectConsistent(heap);
  }
}

// A sparse table left a page in each huge page. It would keep the kernel from bringing any, and count as resident.
TEST_F(HugePages, AreAskedForWhereASparseTableWas) {
  constexpr std::size_t kHugePages = 20;
  PageHeap& heap = UnmeasuredPageHeap();
  Span* const filled = Large(heap, kHugePages * kPagesPerHugePage);
  void* const place = filled->start();
  Touch(filled);
  heap.Deallocate(filled);
  heap.ReleaseFree(0, false);
  bool zero = false;
  for (int round = 0; round < 3; ++round) {
    Span* const table = heap.AllocateLarge(PageCount(kHugePages * kPagesPerHugePage), PageCount(1), &zero, true);
    ASSERT_EQ(table->start(), place);
    EXPECT_TRUE(zero);
    TouchSparsely(table);
    heap.Deallocate(table);
    ExpectConsistent(heap);
  }
  Span* const next = Large(heap, kHugePages * kPagesPerHugePage, 1, &zero);
  ASSERT_EQ(next->start(), place);
  EXPECT_TRUE(zero);
  EXPECT_TRUE(IsZero(place, kHugePageBytes));
  EXPECT_EQ(heap.published()->asked_huge_pages, kHugePages);
  // A table that is filled stays.
  heap.Deallocate(next);
  heap.ReleaseFree(0, false);
  Span* const table = heap.AllocateLarge(PageCount(kHugePages * kPagesPerHugePage), PageCount(1), &zero, true);
  Touch(table);
  heap.Deallocate(table);
  EXPECT_EQ(ResidentBytes(place, kHugePages * kHugePageBytes), kHugePages * kHugePageBytes);
  ExpectConsistent(heap);
}

// Where a block with huge pages was, a table has none, and leaves none advised.
TEST_F(HugePages, AreNotAskedForAnyLongerWhereATableComes) {
  constexpr std::size_t kHugePages = 20;
  PageHeap& heap = UnmeasuredPageHeap();
  Touch(Large(heap, kHugePages * kPagesPerHugePage));
  Span* const block = Large(heap, kHugePages * kPagesPerHugePage);
  ASSERT_EQ(heap.published()->asked_huge_pages, kHugePages);
  Touch(block);
  // All other places are taken, so the table comes to lie here.
  const auto has_room = [](const Reservation* reservation) {
    const auto& free = reservation->whole_free;
    for (auto run = free.NextRun(0); run.count != 0; run = free.NextRun(run.first + run.count)) {
      if (run.count >= kHugePages) return true;
    }
    return false;
  };
  const Span* last = block;
  while (has_room(last->huge_page->reservation) || has_room(block->huge_page->reservation)) {
    last = Large(heap, kHugePages * kPagesPerHugePage);
  }
  void* const place = block->start();
  heap.Deallocate(block);
  bool zero = true;
  Span* const table = heap.AllocateLarge(PageCount(kHugePages * kPagesPerHugePage), PageCount(1), &zero, true);
  ASSERT_EQ(table->start(), place);
  EXPECT_FALSE(zero);
  EXPECT_FALSE(HasMappingFlag(place, "hg"));
  ASSERT_TRUE(Release(place, table->bytes()));
  TouchSparsely(table);
  EXPECT_LE(ResidentBytes(place, table->bytes()), SparseBytes(table));
  heap.Deallocate(table);
  EXPECT_FALSE(HasMappingFlag(place, "hg"));
  ExpectConsistent(heap);
}

// An object that was cut short cannot be read any longer, and proves nothing.
TEST_F(HugePages, AreNotAskedForWhereAnObjectWasCutShort) {
  constexpr std::size_t kHugePages = Reservation::kMaxHugePages / 2 + 1;
  PageHeap& heap = UnmeasuredPageHeap();
  Span* const first = Large(heap, kHugePages * kPagesPerHugePage);
  ASSERT_EQ(first->kind, SpanKind::kMapped);
  TouchSparsely(first);
  ASSERT_TRUE(heap.ResizeLarge(first, PageCount(kPagesPerHugePage)));
  Span* const next = Large(heap, kHugePages * kPagesPerHugePage);
  TouchSparsely(next);
  EXPECT_LE(ResidentBytes(next->start(), next->bytes()), SparseBytes(next));
}

TEST_F(HugePages, OfObjectsThatAreSparseInTheEndAreAMultipleOfWhatWasFilled) {
  constexpr std::size_t kHugePages = 20;
  constexpr std::size_t kCredit = 8;
  PageHeap& heap = UnmeasuredPageHeap();
  Touch(Large(heap, kHugePages * kPagesPerHugePage));
  for (std::size_t i = 0; i < 4 * kCredit; ++i) static_cast<void>(Large(heap, kHugePages * kPagesPerHugePage));
  EXPECT_EQ(heap.published()->asked_huge_pages, kCredit * kHugePages);
  ExpectConsistent(heap);
}

TEST_F(HugePages, AreNotAskedForWhatASparseObjectGrowsInto) {
  PageHeap& heap = UnmeasuredPageHeap();
  Span* const span = Large(heap, 100 * kPagesPerHugePage);
  // With room behind it.
  ASSERT_TRUE(heap.ResizeLarge(span, PageCount(20 * kPagesPerHugePage)));
  heap.ReleaseFree(0, false);
  TouchSparsely(span);
  ASSERT_TRUE(heap.ResizeLarge(span, PageCount(40 * kPagesPerHugePage)));
  EXPECT_EQ(heap.published()->asked_huge_pages, 0u);
  ASSERT_TRUE(heap.MoveLarge(span, PageCount(80 * kPagesPerHugePage)));
  EXPECT_TRUE(HasMappingFlag(span->start(), "nh"));
  TouchSparsely(span);
  EXPECT_LE(ResidentBytes(span->start(), span->bytes()), SparseBytes(span));
  heap.Deallocate(span);
}

// Such memory cannot be read, but looked at by the kernel.
TEST_F(HugePages, OfAnObjectThatTheProgramProtectedAreNoDanger) {
  PageHeap& heap = UnmeasuredPageHeap();
  Span* const span = Large(heap, 20 * kPagesPerHugePage);
  Touch(span);
  ASSERT_EQ(mprotect(span->start(), span->bytes(), PROT_NONE), 0);
  static_cast<void>(Large(heap, 20 * kPagesPerHugePage));
  ASSERT_EQ(mprotect(span->start(), span->bytes(), PROT_READ | PROT_WRITE), 0);
  heap.Deallocate(span);
  ExpectConsistent(heap);
}

// --- Where none were asked for -------------------------------------------------------------------------------------

// Whatever the system's setting is: it may change, and `always` would fill what is not refused.
class HugePagesRefused : public testing::Test {
 protected:
  void SetUp() override {
    void* const probe = Reserve(kHugePageBytes, kHugePageBytes);
    ASSERT_NE(probe, nullptr);
    const bool refused = RefuseHugePages(probe, kHugePageBytes) && HasMappingFlag(probe, "nh");
    Unreserve(probe, kHugePageBytes);
    if (!refused) GTEST_SKIP() << "the kernel has no huge pages, or does not say what a mapping refuses";
  }
};

const void* LastByteOf(const Span* span) { return static_cast<const char*>(span->start()) + span->bytes() - 1; }

TEST_F(HugePagesRefused, ByReservationsFromTheirStart) {
  PageHeap& heap = UnmeasuredPageHeap();
  const void* const metadata = heap.AllocateMetadata(64, 64, MetadataKind::kPages);
  const Span* const small = heap.AllocateSmall(MallocSizeClass(64));
  const Span* const large = Large(heap, kPagesPerHugePage / 2);
  bool zero = false;
  const Span* const table =
      heap.AllocateLarge(PageCount(8 * kPagesPerHugePage), PageCount(1), &zero, /*prefer_zero=*/true);
  const Reservation& reservation = *table->huge_page->reservation;
  const PageId last_page =
      reservation.first_page + PageCount::FromHugePages(reservation.huge_page_count) - PageCount(1);
  const void* const addresses[] = {metadata,       small->start(),    large->start(),
                                   table->start(), LastByteOf(table), last_page.start()};
  for (const void* const address : addresses) {
    EXPECT_TRUE(HasMappingFlag(address, "nh")) << address << tarn_test::MappingFlags(address);
  }
  // So one byte brings one page.
  *static_cast<volatile char*>(large->start()) = 1;
  EXPECT_EQ(ResidentBytes(large->start(), large->bytes()), OsPageBytes());
}

TEST_F(HugePagesRefused, ByMappingsOfTheirOwn) {
  PageHeap& heap = UnmeasuredPageHeap();
  heap.AllowHugePages(false);
  bool zero = false;
  constexpr PageCount kOwnMapping = PageCount::FromHugePages(Reservation::kMaxHugePages / 2 + 1);
  Span* const table = heap.AllocateLarge(kOwnMapping, PageCount(1), &zero);
  ASSERT_EQ(table->kind, SpanKind::kMapped);
  EXPECT_TRUE(HasMappingFlag(table->start(), "nh"));
  EXPECT_TRUE(HasMappingFlag(LastByteOf(table), "nh"));
  Span* const moved = Large(heap, 4 * kPagesPerHugePage);
  *static_cast<volatile char*>(moved->start()) = 1;
  if (heap.MoveLarge(moved, PageCount(8 * kPagesPerHugePage))) {
    EXPECT_TRUE(HasMappingFlag(moved->start(), "nh"));
    EXPECT_TRUE(HasMappingFlag(LastByteOf(moved), "nh"));
  }
  heap.Deallocate(moved);
  heap.Deallocate(table);
}

// When memory runs out, free huge pages are mapped anew.
TEST_F(HugePagesRefused, ByWhatGaveUpItsCharge) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              PageHeap& heap = tarn_test::FreshPageHeap();
              const void* const freed = tarn_test::FreeHugePageBetweenOthers(heap);
              bool zero;
              TARN_REQUIRE(HasMappingFlag(freed, "wr") && HasMappingFlag(freed, "nh"));
              tarn_test::LimitFurtherData(3 * kHugePageBytes);
              Span* const large = heap.AllocateLarge(PageCount(6 * kPagesPerHugePage), PageCount(1), &zero);
              TARN_REQUIRE(large != nullptr);
              TARN_REQUIRE(!HasMappingFlag(freed, "wr") && HasMappingFlag(freed, "nh"));
              heap.CheckInvariants();
            }),
            "");
}

}  // namespace
}  // namespace tarn
