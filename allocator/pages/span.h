// SPDX-License-Identifier: Apache-2.0
//
// A span: a run of pages with one owner, and the bits that say which of its objects are free.
//
// Created and destroyed by the page heap (pages/page_heap.h). A span of small objects belongs to the central free list
// of its class; a large span is one object of a user. All of this lies in metadata, never in the span's own pages.
//
// Invariants of a span of small objects, under the lock of its central free list:
//   live_objects + number of set bits == object_count
//   the span is on one of the list's bucket lists if and only if it has a free object
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/base/intrusive_list.h"
#include "allocator/base/units.h"

namespace tarn {

struct HugePage;

enum class SpanKind : std::uint8_t {
  kFree,     // the record is unused
  kSmall,    // carved into objects of one size class
  kSampled,  // the same, and the heap profile keeps a sample of each object; the page map says class 0
  kChecked,  // the same, with a record of each object in the checked mode (misuse/checked_record.h)
  kLarge,    // one object, pages out of a reservation
  kMapped,   // one object with a mapping of its own
};

struct Span : ListLink<Span> {
  PageId first_page;
  PageCount pages;
  union {
    // The huge page of the first page.
    HugePage* huge_page = nullptr;
    // Of a span with a mapping of its own: the pages of the mapping, of which those behind `pages` are only reserved.
    std::size_t mapping_pages;
  };
  SpanKind kind = SpanKind::kFree;
  SizeClass size_class = 0;
  // Small spans: the bucket list that the span is on, by how full it is. Others: kApiBucket if an arena or a pool owns
  // the span, so that nobody may give it to free; kTableBucket if it was asked for as large zero memory; kCheckedBucket
  // if the checked mode keeps a record of the object; kRestingBucket if the object was freed and its pages stay out of
  // use for a while; else 0.
  std::uint8_t bucket = 0;
  // Bytes of this record in units of kRecordUnitBytes, for its way back to the page heap's free records.
  std::uint8_t record_units = 0;
  std::uint16_t object_count = 0;
  // Objects out of the span: with the user or in a cache.
  std::uint16_t live_objects = 0;

  static constexpr std::size_t kRecordUnitBytes = 64;
  static constexpr std::uint8_t kApiBucket = 255;
  static constexpr std::uint8_t kTableBucket = 254;
  static constexpr std::uint8_t kCheckedBucket = 253;
  static constexpr std::uint8_t kRestingBucket = 252;

  // Bit i is set when object i is free. The words lie behind the record.
  std::uint64_t* free_bits() { return reinterpret_cast<std::uint64_t*>(this + 1); }
  std::size_t word_count() const { return (object_count + std::size_t{63}) / 64; }

  // Belongs to an arena or a pool of the user's API (heap/regions.h).
  bool is_region() const { return (kind == SpanKind::kLarge || kind == SpanKind::kMapped) && bucket == kApiBucket; }
  // Of a region: what a pool's regions and records are marked with, 0 where nothing is (pools/handle.h,
  // pools/block_pool.h). It lies where small spans have their class.
  std::uint8_t& region_mark() { return size_class; }
  std::uintptr_t start_address() const { return first_page.address(); }
  void* start() const { return first_page.start(); }
  std::size_t bytes() const { return pages.bytes(); }

  // The samples that the heap profile keeps of objects (observe/profile.h), by number; 0: none. Of a kSampled span
  // there is one per object, behind the bits; of a large one the number lies where others count objects.
  std::uint32_t* samples() { return reinterpret_cast<std::uint32_t*>(free_bits() + word_count()); }
  std::uint32_t large_sample() const { return object_count | std::uint32_t{live_objects} << 16; }
  void set_large_sample(std::uint32_t sample) {
    object_count = static_cast<std::uint16_t>(sample);
    live_objects = static_cast<std::uint16_t>(sample >> 16);
  }

  // The records of the checked mode, one per object of a kChecked span, behind the bits. That of a large object lies
  // directly behind this.
  void* checked_records() { return free_bits() + word_count(); }
  bool is_checked_large() const {
    return (kind == SpanKind::kLarge || kind == SpanKind::kMapped) && bucket == kCheckedBucket;
  }

  static constexpr std::size_t kCheckedRecordBytes = 16;
  // The bytes that a span of the kind keeps of each object besides its bit.
  static constexpr std::size_t BytesPerObject(SpanKind kind) {
    return kind == SpanKind::kSampled ? sizeof(std::uint32_t) : kind == SpanKind::kChecked ? kCheckedRecordBytes : 0;
  }
  // The units that a record with bits for `objects` objects takes, and with what a span of the kind keeps of them.
  static constexpr std::size_t RecordUnits(std::size_t objects, SpanKind kind = SpanKind::kSmall);
};
static_assert(sizeof(Span) == 48);

constexpr std::size_t Span::RecordUnits(std::size_t objects, SpanKind kind) {
  const std::size_t bytes = sizeof(Span) + (objects + 63) / 64 * sizeof(std::uint64_t) + objects * BytesPerObject(kind);
  return (bytes + kRecordUnitBytes - 1) / kRecordUnitBytes;
}

// The largest record: a checked span of 512 objects of 16 bytes. The class of 1024 objects of 8 bytes is never checked.
inline constexpr std::size_t kMaxSpanRecordUnits = Span::RecordUnits(512, SpanKind::kChecked);
static_assert(kMaxSpanRecordUnits >= Span::RecordUnits(1024, SpanKind::kSampled) && kMaxSpanRecordUnits <= 255);

}  // namespace tarn
