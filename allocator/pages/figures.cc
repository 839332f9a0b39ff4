// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/figures.h"

#include <atomic>
#include <cstdint>
#include <utility>

#include "allocator/base/units.h"

namespace tarn {

PageHeapStats ReadStats(const FigureSources& sources) {
  const auto& [reservations, free, metadata_source, metadata, usage] = sources;
  PageHeapStats stats;
  stats.reserved_bytes = reservations.huge_page_count() * kHugePageBytes + metadata_source.reserved_bytes();
  stats.uncommitted_bytes =
      stats.reserved_bytes - free.committed_huge_pages() * kHugePageBytes - metadata.block_bytes();
  stats.free_zero_bytes = free.zero().bytes();
  stats.free_warm_bytes = free.warm().bytes();
  stats.whole_free_huge_pages = free.whole_free_huge_pages();
  stats.metadata_block_bytes = metadata.block_bytes();
  stats.metadata_used_bytes = metadata.used_bytes();
  stats.in_use_bytes = usage.in_use().bytes();
  stats.mapped_bytes = usage.mapped_bytes();
  stats.large_bytes = usage.large_in_use().bytes() + usage.mapped_bytes();
  stats.large_objects = usage.large_objects();
  stats.large_allocations_total = usage.large_allocations_total();
  stats.released_bytes_total = usage.released_bytes_total();
  return stats;
}

void PublishFigures(const FigureSources& sources, tarn_snapshot_pages* published) {
  // Copies: the stores below might change the references of `sources`, as far as the compiler knows.
  const Reservations& reservations = sources.reservations;
  const FreePages& free = sources.free;
  const Metadata& metadata = sources.metadata;
  const Usage& usage = sources.usage;
  // A sequence lock. The fence keeps the fields behind the odd number, the release of the even number keeps them before
  // it; a reader that sees a new field therefore sees an odd or a later number. The fields are stored one by one where
  // they belong: to fill a structure and to copy it took three times as long (bench/micro, pair_malloc of 512 KiB).
  const auto put = [](std::uint64_t& field, std::uint64_t value) {
    std::atomic_ref<std::uint64_t>(field).store(value, std::memory_order_relaxed);
  };
  tarn_snapshot_pages& out = *published;
  const std::uint64_t sequence = out.sequence;
  put(out.sequence, sequence + 1);
  std::atomic_thread_fence(std::memory_order_release);
  put(out.reserved_bytes, reservations.huge_page_count() * kHugePageBytes + sources.metadata_source.reserved_bytes());
  put(out.committed_bytes, free.committed_huge_pages() * kHugePageBytes + metadata.block_bytes());
  put(out.in_use_bytes, usage.in_use().bytes());
  put(out.large_bytes, usage.large_in_use().bytes());
  put(out.mapped_bytes, usage.mapped_bytes());
  put(out.free_bytes, free.free().bytes());
  put(out.free_zero_bytes, free.zero().bytes());
  put(out.metadata_block_bytes, metadata.block_bytes());
  [&]<std::size_t... kKinds>(std::index_sequence<kKinds...>) {
    (put(out.metadata_bytes[kKinds], metadata.used_bytes(static_cast<MetadataKind>(kKinds))), ...);
  }
  (std::make_index_sequence<TARN_METADATA_KINDS>());
  put(out.span_record_bytes, metadata.span_bytes());
  put(out.large_objects, usage.large_objects());
  put(out.large_allocations, usage.large_allocations_total());
  put(out.large_allocated_bytes, usage.large_allocated_bytes_total());
  put(out.large_freed_bytes, usage.large_freed_bytes_total());
  put(out.huge_pages, free.committed_huge_pages());
  put(out.whole_free_huge_pages, free.whole_free_huge_pages());
  put(out.released_bytes, usage.released_bytes_total());
  put(out.peak_in_use_bytes, usage.peak_bytes());
  put(out.backed_huge_pages, free.huge_backed());
  put(out.asked_huge_pages, free.asked());
  std::atomic_ref<std::uint64_t>(out.sequence).store(sequence + 2, std::memory_order_release);
}

}  // namespace tarn
