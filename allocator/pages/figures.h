// SPDX-License-Identifier: Apache-2.0
//
// The figures of the page heap: Stats(), and what readers get without the lock.
#pragma once

#include <cstddef>

#include "allocator/include/tarn/snapshot.h"
#include "allocator/pages/free_pages.h"
#include "allocator/pages/metadata.h"
#include "allocator/pages/metadata_source.h"
#include "allocator/pages/reservations.h"
#include "allocator/pages/usage.h"

namespace tarn {

// Bytes, as of one moment. reserved = metadata_block + in_use + free_warm + free_zero + uncommitted.
struct PageHeapStats {
  std::size_t reserved_bytes = 0;        // address space in reservations, those of metadata included
  std::size_t metadata_block_bytes = 0;  // given to the metadata
  std::size_t metadata_used_bytes = 0;   // of these, handed out
  std::size_t untouched_bytes = 0;       // of in_use and mapped bytes, taken for never touched (Goals::most_bytes)
  std::size_t in_use_bytes = 0;          // in spans that lie in reservations
  std::size_t free_warm_bytes = 0;       // free, but the kernel still holds memory for them
  std::size_t free_zero_bytes = 0;       // free and released, or never touched
  std::size_t uncommitted_bytes = 0;
  std::size_t mapped_bytes = 0;  // in spans with a mapping of their own, beside the reservations
  std::size_t large_bytes = 0;   // in_use and mapped bytes that belong to large objects
  std::size_t large_objects = 0;
  std::size_t large_allocations_total = 0;
  std::size_t whole_free_huge_pages = 0;  // committed ones
  std::size_t released_bytes_total = 0;
};

// The parts that figures are read from, under the page heap's lock.
struct FigureSources {
  const Reservations& reservations;
  const FreePages& free;
  const MetadataSource& metadata_source;
  const Metadata& metadata;
  const Usage& usage;
};

PageHeapStats ReadStats(const FigureSources& sources);

// Stores the figures for readers that take no lock. One writer at a time.
void PublishFigures(const FigureSources& sources, tarn_snapshot_pages* published);

}  // namespace tarn
