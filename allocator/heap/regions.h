// SPDX-License-Identifier: Apache-2.0
//
// Regions: spans that belong to an arena or a pool of the user's API.
//
// For pools/. A region is a large span whose record says so: its pages carry class 0 in the page map, so that free()
// of an address in it is seen at the call and named. Nothing of it is ever a small object of malloc.
//
// Small regions are kept for reuse. An arena for one request takes one and gives it back microseconds later, and the
// page heap has one lock. The kept ones lie in a table of atomics, one place per size and shard; a shard is
// what the running CPU's (or thread's) slab index picks.
//
// Protocol of a place: null, or a span that nobody else refers to. Taking is an exchange with null, giving is a
// compare-exchange of null with the span, so each span comes out exactly once; there is no link to follow and so no
// ABA. The acquire of a taker pairs with the release of the giver: what the giver wrote to the record is seen. A fork
// at any moment leaves a place null or full, never in between.
#pragma once

#include <cstddef>

#include "allocator/base/units.h"
#include "allocator/pages/span.h"

namespace tarn {

// `alignment` is a power of two of pages. Behind the record lie one word (RegionOwner), zero, and the free bits of
// `record_objects` objects (RegionBits), at most 1024. Null: no memory, or a signal handler that interrupted tarn.
// `*zero` (null: nobody asks) tells whether every byte is known to be zero.
[[nodiscard]] Span* NewRegion(PageCount pages, PageCount alignment, std::size_t record_objects = 0,
                              bool* zero = nullptr);

// Nobody may use the region any more. Its memory must be accessible.
void FreeRegion(Span* region);

// Null in regions of arenas; a free of a heap's reads it from a pointer that may be anything's (pools/heap.cc).
inline void** RegionOwner(Span* region) { return reinterpret_cast<void**>(region + 1); }
inline std::uint64_t* RegionBits(Span* region) { return region->free_bits() + 1; }

// Gives the kept regions back to the page heap, for malloc_trim and for those that ran out of memory.
void FreeKeptRegions();

}  // namespace tarn
