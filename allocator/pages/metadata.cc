#include "allocator/pages/metadata.h"

#include <cstring>
#include <new>

namespace tarn {

bool Metadata::Fits(std::size_t bytes, std::size_t alignment) const {
  const std::uintptr_t start = RoundUp(next_, alignment);
  return start <= end_ && bytes <= end_ - start;
}

void* Metadata::Allocate(std::size_t bytes, std::size_t alignment) {
  if (!Fits(bytes, alignment)) return nullptr;
  const std::uintptr_t start = RoundUp(next_, alignment);
  next_ = start + bytes;
  used_bytes_ += bytes;
  return reinterpret_cast<void*>(start);
}

void Metadata::AddBlock(void* start, std::size_t bytes) {
  next_ = reinterpret_cast<std::uintptr_t>(start);
  end_ = next_ + bytes;
  block_bytes_ += bytes;
}

Span* Metadata::NewSpan(std::size_t objects) {
  const std::size_t units = Span::RecordUnits(objects);
  void* memory = free_spans_[units].PopFront();
  if (memory == nullptr) {
    memory = Allocate(units * Span::kRecordUnitBytes, Span::kRecordUnitBytes);
    if (memory == nullptr) return nullptr;
  }
  Span* span = ::new (memory) Span;
  span->record_units = static_cast<std::uint8_t>(units);
  return span;
}

void Metadata::DeleteSpan(Span* span) {
  span->kind = SpanKind::kFree;
  free_spans_[span->record_units].PushFront(span);
}

}  // namespace tarn
