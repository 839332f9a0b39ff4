// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/metadata.h"

#include <cstring>
#include <iterator>
#include <new>
#include <numeric>

namespace tarn {

bool Metadata::Fits(std::size_t bytes, std::size_t alignment) const {
  const std::uintptr_t start = RoundUp(next_, alignment);
  return start <= end_ && bytes <= end_ - start;
}

void* Metadata::Allocate(std::size_t bytes, std::size_t alignment, MetadataKind kind) {
  if (!Fits(bytes, alignment)) return nullptr;
  const bool from_end = alignment >= kFromEndAlignment;
  const std::uintptr_t start = from_end ? (end_ - bytes) / alignment * alignment : RoundUp(next_, alignment);
  (from_end ? end_ : next_) = from_end ? start : start + bytes;
  used_bytes_[static_cast<std::size_t>(kind)] += bytes;
  return reinterpret_cast<void*>(start);
}

void Metadata::AddBlock(void* start, std::size_t bytes) {
  next_ = reinterpret_cast<std::uintptr_t>(start);
  end_ = next_ + bytes;
  block_bytes_ += bytes;
}

std::size_t Metadata::used_bytes() const {
  return std::accumulate(std::begin(used_bytes_), std::end(used_bytes_), std::size_t{0});
}

Span* Metadata::NewSpan(std::size_t objects, SpanKind kind) {
  const std::size_t units = Span::RecordUnits(objects, kind);
  void* memory = free_spans_[units].PopFront();
  if (memory == nullptr) {
    memory = Allocate(units * Span::kRecordUnitBytes, Span::kRecordUnitBytes, MetadataKind::kSpans);
    if (memory == nullptr) return nullptr;
  }
  Span* span = ::new (memory) Span;
  span->record_units = static_cast<std::uint8_t>(units);
  span_bytes_ += units * Span::kRecordUnitBytes;
  return span;
}

void Metadata::DeleteSpan(Span* span) {
  span->kind = SpanKind::kFree;
  span_bytes_ -= span->record_units * Span::kRecordUnitBytes;
  free_spans_[span->record_units].PushFront(span);
}

}  // namespace tarn
