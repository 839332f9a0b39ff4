// SPDX-License-Identifier: Apache-2.0

#include "allocator/central/span_objects.h"
#include "allocator/heap/checked_objects.h"

namespace tarn {

namespace {

using Facts = CheckedRecord::Facts;
using State = CheckedRecord::State;

MisuseReport MakeReport(const CheckedSlot& slot, const Facts& facts, const StackHere& here, const Misuse& misuse) {
  MisuseReport report;
  report.misuse = misuse;
  report.misuse.start = slot.start;
  report.misuse.object_bytes = facts.bytes;
  report.state = facts.state == State::kLive ? MisuseReport::ObjectState::kLive : MisuseReport::ObjectState::kFreed;
  report.here = here.facts();
  report.allocation = checked_mode.FactsOf(slot.record->allocation_stack.load(std::memory_order_relaxed));
  // Else it is that of this call, or of an owner before.
  if (facts.state != State::kLive)
    report.free = checked_mode.FactsOf(slot.record->free_stack.load(std::memory_order_relaxed));
  return report;
}

}  // namespace

void ReportChecked(const CheckedSlot& slot, const Facts& facts, const char* call, const void* address,
                   Misuse::Kind kind) {
  const StackHere here;
  ReportAndMayGoOn(MakeReport(slot, facts, here, {call, address, kind}));
}

void ReportCheckedInterior(const char* call, const void* pointer, Span* span) {
  const StackHere here;
  const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(pointer);
  std::size_t index = 0;
  if (span->kind == SpanKind::kChecked) {
    const std::size_t size_bytes = kSizeClasses[span->size_class].size_bytes;
    index = (address - span->start_address()) / size_bytes;
    if (index >= span->object_count) ReportMisuse(call, pointer, Misuse::kInteriorPointer);
  }
  const CheckedSlot slot = SlotAt(span, index);
  const Facts facts = CheckedRecord::FactsOf(slot.record->Load());
  ReportAndAbort(MakeReport(slot, facts, here, {call, pointer, Misuse::kInteriorPointer}));
}

}  // namespace tarn
