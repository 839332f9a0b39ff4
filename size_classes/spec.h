// SPDX-License-Identifier: Apache-2.0
//
// The spec of the size classes: the limits within which the table has to stay, and what one row of it says.
//
// For the generator, which chooses the classes, for the table that it writes, and for size_classes.h. All other code
// includes that. Includes std only. After a change of a number, run the generator again (README.md says how). A test
// compares its output with the committed table, another one holds the table to these limits.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tarn {

// Our page, the unit of spans and of the page map. Chosen: two OS pages. So the page map costs half as much, and a
// one-page span of 16-byte objects has the 512 objects that a span's bitmap holds.
inline constexpr std::size_t kPageShift = 13;
inline constexpr std::size_t kPageBytes = 8192;
static_assert(kPageBytes == std::size_t{1} << kPageShift);

// A class is an index into the table. Class 0 means "not a plain small object". It has 0 bytes and 0 pages. The page
// map says it for every page that no class owns, and every slab has capacity zero for it.
using SizeClass = std::uint8_t;

// The largest class. Chosen: beyond 256 KiB the copy or the page faults of an object cost many times what a lock does.
// So larger objects may go to the page heap each time, and a slab serves all others.
inline constexpr std::size_t kMaxSmallBytes = 262144;

// Upper bound of the number of classes, class 0 included. Each class costs a header word and an array in every slab.
inline constexpr int kMaxSizeClassCount = 96;

// Every class but the one of 8 bytes is a multiple of this, because malloc promises 16-byte alignment.
inline constexpr std::size_t kMallocAlignmentBytes = 16;

// The class that only operator new uses, for objects of up to 8 bytes.
inline constexpr std::size_t kNewOnlyBytes = 8;

// Up to here a class follows every 16 bytes. Measured (README.md): a third of a Python heap lies between 128 and 256
// bytes, and it is 3 % smaller than with steps of 32 there. The four more classes cost no other program more than 0.2
// %.
inline constexpr std::size_t kFineLimitBytes = 256;

// Above it every doubling is divided into this many equal steps. Measured (README.md): with 8 the objects waste less
// inside, but the additional spans that are partly free cost more than that. 3 would exceed the bounds below.
inline constexpr std::size_t kStepsPerDoubling = 4;

// Classes outside of that pattern. Measured: 4 KiB and a header, which SQLite's page cache requests, would waste 15 %
// of an object of 5120 bytes. Such objects are most of the heap of a program that uses it.
inline constexpr std::size_t kExtraSizesBytes[] = {4608};

// The lookup tables of the fast path: one entry per 16 bytes up to kSmallLookupMaxBytes, one per 128 bytes up to the
// largest class. So every class above kSmallLookupMaxBytes is a multiple of 128.
inline constexpr std::size_t kSmallLookupMaxBytes = 1024;
inline constexpr std::size_t kSmallLookupShift = 4;
inline constexpr std::size_t kLargeLookupShift = 7;

// Bounds of waste, in thousandths. Internal waste is the part of an object that the request did not ask for. It is
// bounded for requests above kWasteBoundFromBytes; below, 16-byte alignment alone costs more. The mean is over all
// request sizes of a class, equally weighted. Tail waste is the part of a span behind its last object.
inline constexpr std::size_t kWasteBoundFromBytes = 128;
inline constexpr std::uint32_t kMaxWorstInternalWasteMilli = 200;
inline constexpr std::uint32_t kMaxMeanInternalWasteMilli = 125;
inline constexpr std::uint32_t kMaxTailWasteMilli = 30;

// A span's free objects are bits of a bitmap of fixed length. The 8-byte class alone has twice as many, so that its
// span is not smaller than a page.
inline constexpr std::size_t kMaxObjectsPerSpan = 512;
inline constexpr std::size_t kMaxNewOnlyObjectsPerSpan = 1024;

// The longest span. ObjectIndex is exact up to here (its comment has the proof).
inline constexpr std::size_t kMaxSpanPages = 64;

// A span has at least this many objects up to kManyObjectsMaxBytes, and above at least as many as fit into
// kMinLargeSpanBytes, or one. Taking a span from the page heap costs a lock, which enough objects have to share. But a
// span goes back only when all of its objects are free. A long one fits into few of the gaps that others leave.
// Measured (README.md).
inline constexpr std::size_t kMinObjectsPerSpan = 4;
inline constexpr std::size_t kManyObjectsMaxBytes = 4096;
inline constexpr std::size_t kMinLargeSpanBytes = kMinObjectsPerSpan * kManyObjectsMaxBytes;

// A batch is what moves between a CPU cache and the central list at once: about 32 KiB worth, so that the time under
// the lock and the memory that moves stay bounded, within 2 and 64 objects.
inline constexpr std::size_t kBatchBytes = 32768;
inline constexpr std::size_t kMinBatchObjects = 2;
inline constexpr std::size_t kMaxBatchObjects = 64;

// The longest that a slab's array of a class may become: about 128 KiB worth, within 4 and 4096 objects. Shorter arrays
// miss more often: with 64 KiB and 256 objects the bench random_order took 15 % more time than with 128 KiB and 512,
// and 256 KiB gained nothing more; batches of up to 10 000 objects, of which half have 32 bytes, took 8 % more with
// 2048 objects than with 4096. Beyond 512 slots an array has pages of the kernel's of its own, so that longer ones cost
// a short process nothing: it touches the first slots only. The sum over all classes is bounded because a slab's header
// word addresses its arrays with 16 bits.
inline constexpr std::size_t kMaxCachedBytes = 131072;
inline constexpr std::size_t kMinMaxCachedObjects = 4;
inline constexpr std::size_t kMaxMaxCachedObjects = 4096;
inline constexpr std::size_t kMaxCachedObjectsOfAllClasses = 32000;

// ObjectIndex divides units of 8 bytes (every class is a multiple of it), by multiplication and this shift.
inline constexpr std::size_t kObjectIndexUnitShift = 3;
inline constexpr std::size_t kReciprocalShift = 31;

// One row of the table. All members of class 0 are zero.
struct SizeClassInfo {
  std::uint32_t size_bytes;          // of an object, a multiple of 16, or 8
  std::uint16_t span_pages;          // of a span, at most kMaxSpanPages
  std::uint16_t objects_per_span;    // as many as fit
  std::uint16_t batch_objects;       // moved at once, at most half of max_cached_objects
  std::uint16_t max_cached_objects;  // upper bound of one slab's array
  std::uint32_t reciprocal;          // for ObjectIndex: 2^31 over the size in units of 8 bytes, rounded up
};
static_assert(sizeof(SizeClassInfo) == 16);

}  // namespace tarn
