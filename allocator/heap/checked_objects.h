// SPDX-License-Identifier: Apache-2.0
//
// malloc's checked mode: each object has a record apart from the program's memory, which each call looks at.
//
// The hit paths stay closed. hit_limit_bytes stays 0, and small objects lie in spans of their own kind (kChecked), the
// pages of which have no size class in the page map. So every call takes its slow path, and the ordinary mode pays
// nothing. Objects come from the lists that serve sampled ones otherwise; no samples are taken here. A large object is
// a span of its own, marked kCheckedBucket, with a record behind the span's.
//
//   slot      [ the object, as long as it was asked for | canary, at least 16 bytes ]
//
// The last 16 bytes of a slot hold the canary from its first allocation on. They guard the front of the next slot's
// object, too.
//
// A freed object is filled and goes to the quarantine, in which its memory may not change; then back to its list. Frees
// in signal handlers that interrupted a slow path take no lock, so they leave the quarantine as it is.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/heap/object.h"
#include "allocator/misuse/checked_mode.h"
#include "allocator/misuse/checked_record.h"

namespace tarn {

// A checked object's place and record.
struct CheckedSlot {
  char* start = nullptr;
  Span* span = nullptr;
  CheckedRecord* record = nullptr;
  std::size_t bytes = 0;  // of the slot
  std::size_t index = 0;  // in its span

  bool is_large() const { return span->kind != SpanKind::kChecked; }
};
// Of an object of kChecked.
CheckedSlot SlotOf(const Object& object);
// The slot of this index; of a large object's span, 0.
CheckedSlot SlotAt(Span* span, std::size_t index);

// For the functions of malloc's family, in the checked mode. Each opens a slow path.

// `alignment` is a power of two, or 0. Null: no memory, or a signal handler that interrupted tarn.
[[nodiscard]] void* AllocateChecked(std::size_t bytes, std::size_t alignment, Family family, bool zero);
void FreeChecked(const Object& object, const char* call);
[[nodiscard]] void* ReallocateChecked(const Object& object, std::size_t bytes);
// The bytes that the program asked for; reports an object that is free.
[[nodiscard]] std::size_t CheckedBytes(const Object& object, const char* call);

// The same without a report.
[[nodiscard]] std::size_t PeekCheckedBytes(const Object& object);

// For what frees left behind (heap/deferred_frees.h): the object leaves the quarantine. In a slow path that is not
// nested.
void LetGo(const Object& object, const char* call);

// Looks at the bounds of all live objects and at the memory of all freed ones. Returns the number of faults, each of
// which was reported. Other threads may go on. `call` is named in reports.
std::size_t SweepChecked(const char* call);
// Reports what is live, by stack. At the end of the process.
void ReportLive();

// --- For the files of this part ------------------------------------------------------------------------------------

// The most of the canary behind an object that is written and looked at, besides the slot's last 16 bytes. Chosen.
inline constexpr std::size_t kCanaryBytes = 64;
inline constexpr std::size_t kSlackBytes = 16;

// The first byte in the canary behind the object, or in that in front of it, that was overwritten; null: none.
const char* FindOverflow(const CheckedSlot& slot, const CheckedRecord::Facts& facts);
const char* FindUnderflow(const CheckedSlot& slot);
// The first byte of a freed object that was written since; null: none.
const char* FindLateWrite(const CheckedSlot& slot, const CheckedRecord::Facts& facts);

// A fault at an object. `address` is the program's pointer, or the byte that was overwritten. Comes back where the
// process goes on after a report.
TARN_COLD void ReportChecked(const CheckedSlot& slot, const CheckedRecord::Facts& facts, const char* call,
                             const void* address, Misuse::Kind kind);
// The pointer lies in the span, where no object starts.
[[noreturn]] TARN_COLD void ReportCheckedInterior(const char* call, const void* pointer, Span* span);

}  // namespace tarn
