// SPDX-License-Identifier: Apache-2.0
//
// Looks at all objects of the checked mode: for bytes that were overwritten, and for what is live at the end.
//
// Spans are found by the page map. Other threads may allocate and free during a sweep. While one is counted, no object
// leaves the quarantine, so memory that the sweep may look at stays mapped. A fault is reported only if the record says
// the same before and after the look: then nobody has resized, freed or handed out the object in between.
#include <algorithm>

#include "allocator/heap/checked_objects.h"
#include "allocator/heap/process_heap.h"
#include "allocator/os/virtual_memory.h"

namespace tarn {

namespace {

using Facts = CheckedRecord::Facts;
using State = CheckedRecord::State;

template <typename Visit>
void VisitSlots(Visit visit) {
  page_map.VisitSpans([&](PageId page, Span* span) {
    if (span->first_page != page) return;
    const bool is_small = span->kind == SpanKind::kChecked;
    if (!is_small && !span->is_checked_large()) return;
    const std::size_t count = is_small ? span->object_count : 1;
    for (std::size_t i = 0; i < count; ++i) visit(SlotAt(span, i));
  });
}

struct Fault {
  const char* byte = nullptr;
  Misuse::Kind kind = Misuse::kEndOverwritten;
};

Fault FindFault(const CheckedSlot& slot, const Facts& facts) {
  if (facts.state == State::kQuarantined) return {FindLateWrite(slot, facts), Misuse::kFreedOverwritten};
  if (facts.state != State::kLive || !Checks(kCheckBounds)) return {};
  if (const char* byte = FindOverflow(slot, facts)) return {byte, Misuse::kEndOverwritten};
  return {FindUnderflow(slot), Misuse::kStartOverwritten};
}

// --- What is live --------------------------------------------------------------------------------------------------

struct Place {
  std::uint32_t stack;
  std::uint32_t objects;
  std::uint64_t bytes;
};
constexpr std::size_t kStackPlaces = std::size_t{1} << 14;

// The objects of one stack, or where the table is full of those of many.
Place* PlaceOf(Place* places, std::uint32_t stack) {
  std::size_t i = (stack * 0x9E3779B1u) % kStackPlaces;
  for (std::size_t tries = 0; tries < kStackPlaces; ++tries, i = (i + 1) % kStackPlaces) {
    if (places[i].objects == 0 || places[i].stack == stack) {
      places[i].stack = stack;
      return &places[i];
    }
  }
  return &places[i];
}

}  // namespace

std::size_t SweepChecked(const char* call) {
  if (!ChecksMalloc()) return 0;
  std::size_t faults = 0;
  checked_mode.sweeps.fetch_add(1, std::memory_order_seq_cst);
  VisitSlots([&](const CheckedSlot& slot) {
    const std::uint64_t word = slot.record->word.load(std::memory_order_seq_cst);
    const Facts facts = CheckedRecord::FactsOf(word);
    const Fault fault = FindFault(slot, facts);
    if (fault.byte == nullptr || slot.record->Load() != word) return;
    ++faults;
    ReportChecked(slot, facts, call, fault.byte, fault.kind);
  });
  checked_mode.sweeps.fetch_sub(1, std::memory_order_seq_cst);
  return faults;
}

void ReportLive() {
  constexpr std::size_t kBytes = kStackPlaces * sizeof(Place);
  void* memory = Reserve(kBytes, OsPageBytes());
  if (memory == nullptr || !Commit(memory, kBytes)) return;
  auto* places = static_cast<Place*>(memory);
  Place all = {};
  VisitSlots([&](const CheckedSlot& slot) {
    const Facts facts = CheckedRecord::FactsOf(slot.record->Load());
    if (facts.state != State::kLive) return;
    Place* place = PlaceOf(places, slot.record->allocation_stack.load(std::memory_order_relaxed));
    for (Place* sum : {place, &all}) {
      ++sum->objects;
      sum->bytes += facts.bytes;
    }
  });
  LiveReport report;
  report.bytes = all.bytes;
  report.objects = all.objects;
  for (Place* place = places; place != places + kStackPlaces; ++place) report.places += place->objects != 0 ? 1 : 0;
  while (report.shown < std::min(report.places, LiveReport::kMostShown)) {
    Place* largest = std::max_element(places, places + kStackPlaces, [](const Place& a, const Place& b) {
      return a.bytes != b.bytes ? a.bytes < b.bytes : a.objects < b.objects;
    });
    report.largest[report.shown++] = {largest->bytes, largest->objects, checked_mode.FactsOf(largest->stack)};
    *largest = {};
  }
  Unreserve(memory, kBytes);
  WriteLiveReport(report);
}

}  // namespace tarn
