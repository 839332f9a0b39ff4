// SPDX-License-Identifier: Apache-2.0
//
// The allocator's own memory: span records, leaves of the page map, slabs, trackers of huge pages.
//
// A bump allocator over blocks that the page heap hands in, with a free list per size of span record (the only thing
// that is ever given back). Everything is zero when handed out for the first time. Guarded by the page heap's lock.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/include/tarn/snapshot.h"
#include "allocator/pages/span.h"

namespace tarn {

// The purpose of a piece of metadata, as statistics report it.
enum class MetadataKind : std::uint8_t {
  kSpans = TARN_METADATA_SPANS,
  kPageMap = TARN_METADATA_PAGE_MAP,
  kCaches = TARN_METADATA_CACHES,
  kPages = TARN_METADATA_PAGES,
  kProfile = TARN_METADATA_PROFILE,
  kOther = TARN_METADATA_OTHER,
};

class Metadata {
 public:
  constexpr Metadata() = default;

  // Zero-filled memory, or null when the current block has not enough left: then the caller adds a block. `alignment`
  // is a power of two up to 4096. What is aligned to whole pages comes from the block's end, apart from small pieces:
  // between two that go back to the kernel, each of these would keep a page.
  static constexpr std::size_t kFromEndAlignment = 4096;
  void* Allocate(std::size_t bytes, std::size_t alignment, MetadataKind kind = MetadataKind::kOther);
  bool Fits(std::size_t bytes, std::size_t alignment) const;

  // Makes [start, start + bytes) the current block; it is zero-filled. What was left of the block before is lost, so
  // blocks are large against what is asked of them.
  void AddBlock(void* start, std::size_t bytes);

  // Records for spans of `objects` objects, with what a span of the kind keeps of each. Null as Allocate.
  Span* NewSpan(std::size_t objects, SpanKind kind = SpanKind::kSmall);
  void DeleteSpan(Span* span);

  std::size_t used_bytes() const;
  std::size_t used_bytes(MetadataKind kind) const { return used_bytes_[static_cast<std::size_t>(kind)]; }
  // Of the records of spans that exist.
  std::size_t span_bytes() const { return span_bytes_; }
  std::size_t block_bytes() const { return block_bytes_; }

 private:
  std::uintptr_t next_ = 0;
  std::uintptr_t end_ = 0;
  std::size_t used_bytes_[TARN_METADATA_KINDS] = {};
  std::size_t span_bytes_ = 0;
  std::size_t block_bytes_ = 0;
  // By record units. Unused records are linked through their own ListLink: metadata may hold links, user memory not.
  IntrusiveList<Span> free_spans_[kMaxSpanRecordUnits + 1];
};

}  // namespace tarn
