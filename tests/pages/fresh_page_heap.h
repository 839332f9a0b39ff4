// SPDX-License-Identifier: Apache-2.0
//
// Page heaps for tests, each with reservations of its own. The page map is that of the process.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <vector>

#include "allocator/os/virtual_memory.h"
#include "allocator/pages/page_heap.h"
#include "tests/os/in_child.h"

namespace tarn_test {

constexpr std::size_t kMiB = std::size_t{1} << 20;

// Never given back, because a page heap has no end: its memory stays mapped and in the page map.
inline tarn::PageHeap& FreshPageHeap() {
  static std::vector<std::unique_ptr<tarn::PageHeap>> heaps;
  heaps.push_back(std::make_unique<tarn::PageHeap>());
  return *heaps.back();
}

// Checks what holds at any quiet moment.
inline void ExpectConsistent(tarn::PageHeap& heap) {
  heap.CheckInvariants();
  const tarn::PageHeapStats stats = heap.Stats();
  EXPECT_EQ(stats.reserved_bytes, stats.metadata_block_bytes + stats.in_use_bytes + stats.free_warm_bytes +
                                      stats.free_zero_bytes + stats.uncommitted_bytes);
  EXPECT_LE(stats.metadata_used_bytes, stats.metadata_block_bytes);
  EXPECT_LE(stats.mapped_bytes, stats.large_bytes);
  EXPECT_LE(stats.large_bytes, stats.in_use_bytes + stats.mapped_bytes);
  EXPECT_LE(stats.large_objects, stats.large_allocations_total);
}

// Places one object of that many pages.
inline tarn::Span* Large(tarn::PageHeap& heap, std::size_t pages, std::size_t alignment = 1, bool* zero = nullptr) {
  bool told = false;
  tarn::Span* span = heap.AllocateLarge(tarn::PageCount(pages), tarn::PageCount(alignment), zero ? zero : &told);
  EXPECT_NE(span, nullptr) << pages << " pages aligned to " << alignment;
  return span;
}

// Frees five of twelve huge pages, between others that keep their addresses. Returns the start of one of the five.
// In a child (tests/os/in_child.h).
inline const void* FreeHugePageBetweenOthers(tarn::PageHeap& heap) {
  tarn::Span* spans[12];
  bool zero;
  for (tarn::Span*& span : spans) {
    span = heap.AllocateLarge(tarn::PageCount(tarn::kPagesPerHugePage), tarn::PageCount(1), &zero);
    TARN_REQUIRE(span != nullptr);
  }
  const void* const freed = spans[4]->start();
  for (std::size_t i = 0; i < 10; i += 2) heap.Deallocate(spans[i]);
  return freed;
}

inline void Touch(tarn::Span* span) { std::memset(span->start(), 1, span->bytes()); }

// Everything that the scavenger's pass would release now.
inline std::size_t PassOverIdlePages(tarn::PageHeap& heap) {
  std::size_t bytes = 0;
  bool end = false;
  while (!end) {
    std::size_t released = 0;
    end = heap.ReleaseIdlePages(SIZE_MAX, &released);
    bytes += released;
  }
  return bytes;
}

inline std::size_t ResidentBytes(const void* start, std::size_t bytes) {
  const std::size_t os_page_bytes = tarn::OsPageBytes();
  std::vector<unsigned char> resident(bytes / os_page_bytes);
  EXPECT_EQ(mincore(const_cast<void*>(start), bytes, resident.data()), 0);
  std::size_t count = 0;
  for (const unsigned char page : resident) count += page & 1u;
  return count * os_page_bytes;
}

inline std::size_t IndexInHugePage(const tarn::Span* span) { return span->first_page.raw() % tarn::kPagesPerHugePage; }

inline bool IsZero(const void* start, std::size_t bytes) {
  const auto* words = static_cast<const std::size_t*>(start);
  for (std::size_t i = 0; i < bytes / sizeof(*words); ++i) {
    if (words[i] != 0) return false;
  }
  return true;
}

}  // namespace tarn_test
