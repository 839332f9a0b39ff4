// SPDX-License-Identifier: Apache-2.0
//
// Random operations on a page heap, against an oracle that remembers every span: nothing overlaps, nothing is lost,
// what is told to be zero is zero, and the numbers add up. Then the same from several threads at once.

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "allocator/os/virtual_memory.h"
#include "allocator/pages/page_heap.h"
#include "allocator/pages/page_map.h"
#include "tests/os/in_child.h"
#include "tests/pages/fresh_page_heap.h"

namespace tarn {
namespace {

using tarn_test::ExpectConsistent;
using tarn_test::FreshPageHeap;

// One word at both ends of each page, so that a page with two owners or a lost page shows.
void Stamp(const Span* span, std::uint64_t value, std::size_t from_page = 0) {
  for (std::size_t page = from_page; page < span->pages.raw(); ++page) {
    auto* words = static_cast<std::uint64_t*>((span->first_page + PageCount(page)).start());
    words[0] = value + page;
    words[kPageBytes / 8 - 1] = ~(value + page);
  }
}
bool HasStamp(const Span* span, std::uint64_t value, std::size_t pages) {
  for (std::size_t page = 0; page < pages; ++page) {
    const auto* words = static_cast<const std::uint64_t*>((span->first_page + PageCount(page)).start());
    if (words[0] != value + page || words[kPageBytes / 8 - 1] != ~(value + page)) return false;
  }
  return true;
}
bool IsZeroWhereStampsGo(const Span* span) {
  for (std::size_t page = 0; page < span->pages.raw(); ++page) {
    const auto* words = static_cast<const std::uint64_t*>((span->first_page + PageCount(page)).start());
    if (words[0] != 0 || words[kPageBytes / 8 - 1] != 0) return false;
  }
  return true;
}

struct Owned {
  Span* span;
  std::uint64_t stamp;
};

class Walk {
 public:
  Walk(PageHeap& heap, std::uint64_t seed) : heap_(heap), random_(seed), next_stamp_(seed << 40) {}

  std::size_t Below(std::size_t bound) { return random_() % bound; }

  void AllocateSmall() {
    const auto size_class = static_cast<SizeClass>(1 + Below(kSizeClassCount - 1));
    Span* span = heap_.AllocateSmall(size_class);
    ASSERT_NE(span, nullptr);
    ASSERT_EQ(span->pages.raw(), kSizeClasses[size_class].span_pages);
    Take(span);
  }
  void AllocateLarge() {
    // Mostly short, at times several huge pages, seldom a mapping of its own.
    const std::size_t pick = Below(100);
    std::size_t pages = 1 + Below(pick < 60 ? 40 : pick < 90 ? 300 : 1500);
    if (pick == 99) pages = 257 * kPagesPerHugePage;
    const std::size_t alignment = Below(4) == 0 ? std::size_t{1} << Below(11) : 1;
    bool zero = false;
    Span* span = heap_.AllocateLarge(PageCount(pages), PageCount(alignment), &zero);
    ASSERT_NE(span, nullptr);
    ASSERT_EQ(span->pages.raw(), pages);
    ASSERT_EQ(span->first_page.raw() % alignment, 0u);
    if (span->kind == SpanKind::kMapped) {
      ASSERT_TRUE(zero);
      heap_.Deallocate(span);
      return;
    }
    ASSERT_TRUE(!zero || IsZeroWhereStampsGo(span));
    Take(span);
  }
  void Resize() {
    auto* owned = Any();
    if (owned == nullptr || owned->span->kind != SpanKind::kLarge) return;
    const std::size_t old_pages = owned->span->pages.raw();
    const std::size_t pages = 1 + Below(Below(3) == 0 ? 1000 : 2 * old_pages);
    const bool resized = heap_.ResizeLarge(owned->span, PageCount(pages));
    ASSERT_TRUE(resized || pages > old_pages);
    ASSERT_EQ(owned->span->pages.raw(), resized ? pages : old_pages);
    ASSERT_TRUE(HasStamp(owned->span, owned->stamp, std::min(old_pages, owned->span->pages.raw())));
    if (resized && pages > old_pages) Stamp(owned->span, owned->stamp, old_pages);
    owned_pages_ += owned->span->pages.raw() - old_pages;
  }
  void Deallocate() {
    const auto* owned = Any();
    if (owned == nullptr) return;
    Span* span = owned->span;
    ASSERT_TRUE(HasStamp(span, owned->stamp, span->pages.raw()));
    ASSERT_EQ(page_map.SpanOf(span->first_page), span);
    owned_pages_ -= span->pages.raw();
    owned_.erase(span->start_address());
    heap_.Deallocate(span);
  }
  void Release() { heap_.ReleaseFree(Below(2) * Below(20) * kHugePageBytes, Below(2) == 0); }

  void Step(std::size_t most_pages) {
    const std::size_t pick = Below(100);
    if (pick < 2) {
      Release();
    } else if (pick < 12) {
      Resize();
    } else if (owned_pages_ < most_pages && pick < 60) {
      pick % 2 == 0 ? AllocateSmall() : AllocateLarge();
    } else {
      Deallocate();
    }
  }
  void DeallocateAll() {
    while (!owned_.empty()) ASSERT_NO_FATAL_FAILURE(Deallocate());
  }

  const std::map<std::uintptr_t, Owned>& owned() const { return owned_; }
  std::size_t owned_pages() const { return owned_pages_; }

 private:
  void Take(Span* span) {
    const auto next = owned_.upper_bound(span->start_address());
    ASSERT_TRUE(next == owned_.end() || span->start_address() + span->bytes() <= next->first) << "spans overlap";
    if (next != owned_.begin()) {
      const Span* before = std::prev(next)->second.span;
      ASSERT_LE(before->start_address() + before->bytes(), span->start_address()) << "spans overlap";
    }
    next_stamp_ += std::uint64_t{1} << 24;
    owned_.emplace(span->start_address(), Owned{span, next_stamp_});
    owned_pages_ += span->pages.raw();
    Stamp(span, next_stamp_);
  }
  Owned* Any() {
    if (owned_.empty()) return nullptr;
    auto at =
        owned_.lower_bound(owned_.begin()->first + random_() % (owned_.rbegin()->first - owned_.begin()->first + 1));
    return &at->second;
  }

  PageHeap& heap_;
  std::mt19937_64 random_;
  std::uint64_t next_stamp_;
  std::map<std::uintptr_t, Owned> owned_;
  std::size_t owned_pages_ = 0;
};

TEST(PageHeapRandom, MatchesTheOracle) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    PageHeap& heap = FreshPageHeap();
    Walk walk(heap, seed);
    for (int step = 0; step < 1500; ++step) {
      // The bound rises and falls, so that huge pages fill up and drain.
      const std::size_t most_pages = step / 250 % 2 == 0 ? 6000 : 500;
      ASSERT_NO_FATAL_FAILURE(walk.Step(most_pages)) << "seed " << seed << ", step " << step;
      if (step % 32 != 0) continue;
      ExpectConsistent(heap);
      std::size_t large_pages = 0;
      std::size_t large_objects = 0;
      for (const auto& [address, owned] : walk.owned()) {
        const Span* span = owned.span;
        const std::uintptr_t inside = address + walk.Below(span->bytes());
        ASSERT_EQ(page_map.SpanAround(inside), span);
        ASSERT_EQ(page_map.ClassOf(inside), span->kind == SpanKind::kSmall ? span->size_class : 0);
        if (span->kind != SpanKind::kLarge) continue;
        large_pages += span->pages.raw();
        ++large_objects;
      }
      const PageHeapStats stats = heap.Stats();
      ASSERT_EQ(stats.in_use_bytes, PageCount(walk.owned_pages()).bytes());
      ASSERT_EQ(stats.large_bytes, PageCount(large_pages).bytes());
      ASSERT_EQ(stats.large_objects, large_objects);
      ASSERT_EQ(stats.mapped_bytes, 0u);
    }
    ASSERT_NO_FATAL_FAILURE(walk.DeallocateAll());
    ExpectConsistent(heap);
    EXPECT_EQ(heap.Stats().in_use_bytes, 0u);
    EXPECT_EQ(heap.Stats().large_objects, 0u);
    // Nothing is split for ever.
    heap.ReleaseFree(0, true);
    const PageHeapStats stats = heap.Stats();
    EXPECT_EQ(stats.free_warm_bytes, 0u);
    EXPECT_EQ(stats.whole_free_huge_pages * kHugePageBytes, stats.free_zero_bytes);
  }
}

void WalkInThreads(int thread_count, int steps) {
  PageHeap& heap = FreshPageHeap();
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (int t = 0; t < thread_count; ++t) {
    threads.emplace_back([&heap, t, steps] {
      Walk walk(heap, 100 + static_cast<std::uint64_t>(t));
      for (int step = 0; step < steps; ++step) ASSERT_NO_FATAL_FAILURE(walk.Step(800));
      ASSERT_NO_FATAL_FAILURE(walk.DeallocateAll());
    });
  }
  // Beside them somebody who looks and gives memory back.
  std::thread observer([&] {
    while (!stop.load()) {
      heap.ReleaseFree(kHugePageBytes, true);
      const PageHeapStats stats = heap.Stats();
      EXPECT_GE(stats.reserved_bytes, stats.in_use_bytes);
      static_cast<void>(heap.AllocateMetadata(64, 8, MetadataKind::kOther));
      static_cast<void>(heap.ServesAddress(0x7f0000001234));
    }
  });
  for (std::thread& thread : threads) thread.join();
  stop.store(true);
  observer.join();
  ExpectConsistent(heap);
  EXPECT_EQ(heap.Stats().in_use_bytes, 0u);
  EXPECT_EQ(heap.Stats().mapped_bytes, 0u);
  EXPECT_EQ(heap.Stats().large_objects, 0u);
}

TEST(PageHeapRandom, ThreadsDoNotMeet) { WalkInThreads(8, 800); }

// Short enough for an emulated machine, whose CPUs take long to interrupt each other.
TEST(PageHeapRandom, FewThreadsDoNotMeet) { WalkInThreads(3, 100); }

}  // namespace
}  // namespace tarn
