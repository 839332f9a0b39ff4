// SPDX-License-Identifier: Apache-2.0

#include "allocator/heap/object.h"

#include "allocator/central/span_objects.h"
#include "allocator/heap/checked_objects.h"
#include "allocator/heap/hardened_objects.h"
#include "allocator/heap/process_heap.h"
#include "allocator/heap/sampled_objects.h"
#include "allocator/os/crash.h"
#include "allocator/os/thread_state.h"

namespace tarn {

namespace {

std::uintptr_t AddressOf(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

[[noreturn]] TARN_COLD void ReportInterior(const char* call, const void* pointer, Span* span) {
  if (span->kind == SpanKind::kChecked || span->is_checked_large()) ReportCheckedInterior(call, pointer, span);
  const bool small = span->kind == SpanKind::kSmall || span->kind == SpanKind::kSampled;
  const std::uintptr_t start = small ? ObjectAround(span, AddressOf(pointer)) : span->start_address();
  if (start == 0) ReportMisuse(call, pointer, Misuse::kInteriorPointer);
  ReportMisuse({.call = call,
                .address = pointer,
                .kind = Misuse::kInteriorPointer,
                .start = reinterpret_cast<const void*>(start),
                .object_bytes = small ? kSizeClasses[span->size_class].size_bytes : span->bytes()});
}

enum class Served : std::uint8_t { kNever, kOnce, kUnknown };

// Says if spans were ever made of the memory there. Locks; unknown where that is not allowed.
Served WasServed(const void* pointer) {
  SlowPathScope scope;
  if (scope.nested()) return Served::kUnknown;
  return process_heap.page_heap.ServesAddress(AddressOf(pointer)) ? Served::kOnce : Served::kNever;
}

}  // namespace

void ReportBadPointer(const char* call, const void* pointer) {
  if (Span* span = page_map.SpanAround(AddressOf(pointer))) {
    if (span->is_region()) ReportMisuse(call, pointer, Misuse::kRegionPointer);
    ReportInterior(call, pointer, span);
  }
  const bool was_served = WasServed(pointer) == Served::kOnce;
  ReportMisuse(call, pointer, was_served ? Misuse::kSpanAlreadyFree : Misuse::kNotAllocated);
}

Object ResolveUnclassed(void* pointer, const char* call) {
  const std::uintptr_t address = AddressOf(pointer);
  if (process_heap.guards.Contains(address)) [[unlikely]] {
    GuardedPlace* const place = process_heap.guards.Resolve(pointer, call);
    if (place == nullptr) ReportMisuse(call, pointer, Misuse::kNotAllocated);
    Object object = {pointer, {nullptr}, place->size_class, Object::Kind::kGuarded};
    object.place = place;
    return object;
  }
  Span* const span = page_map.SpanOf(PageId::Containing(address));
  if (span == nullptr) {
    if (page_map.SpanAround(address) == nullptr && WasServed(pointer) == Served::kNever) {
      return {pointer, {nullptr}, 0, Object::Kind::kForeign};
    }
    ReportBadPointer(call, pointer);
  }
  if (span->kind == SpanKind::kFree || span->is_region()) ReportBadPointer(call, pointer);
  if (span->kind == SpanKind::kSampled) {
    if (FindObject(span, address) < 0) ReportBadPointer(call, pointer);
    return {pointer, {span}, span->size_class, Object::Kind::kSampled};
  }
  if (span->kind == SpanKind::kChecked) {
    if (FindObject(span, address) < 0) ReportBadPointer(call, pointer);
    return {pointer, {span}, 0, Object::Kind::kChecked};
  }
  if (span->start_address() != address) ReportBadPointer(call, pointer);
  return {pointer, {span}, 0, span->is_checked_large() ? Object::Kind::kChecked : Object::Kind::kLarge};
}

void RequireStart(const Object& object, const char* call) {
  if (object.kind == Object::Kind::kSampled) return RequireLiveSampled(object, call);
  if (object.kind != Object::Kind::kSmall) return;
  Span* const span = page_map.SpanOf(PageId::Containing(object.start));
  const int index = FindObject(span, AddressOf(object.start));
  if (index < 0) [[unlikely]]
    ReportInterior(call, object.start, span);
  // The bit of an object that the caller owns stays 0, whatever happens to the others of its word.
  if (IsFree(span, static_cast<std::size_t>(index))) [[unlikely]]
    ReportMisuse(call, object.start, Misuse::kAlreadyFree);
}

void ClaimLarge(const Object& object, const char* call) {
  const Span* const span = object.span;
  if (!page_map.Claim(PageId::Containing(object.start), object.span)) {
    ReportMisuse(call, object.start, Misuse::kAlreadyFree);
  }
  const bool is_large = span->kind == SpanKind::kLarge || span->kind == SpanKind::kMapped;
  if (!is_large || span->is_region() || span->start() != object.start) [[unlikely]]
    ReportBadPointer(call, object.start);
}

void* Disclaim(Span* span) {
  page_map.Register(span);
  return span->start();
}

void DeallocateClaimed(Span* span) {
  process_heap.profile.Remove(span->large_sample());
  if (Hardens() && RetireLarge(span)) return;
  process_heap.page_heap.Deallocate(span);
}

void Deallocate(const Object& object, const char* call) {
  switch (object.kind) {
    case Object::Kind::kSmall: {
      CpuCache& cache = process_heap.cpu_cache;
      cache.IsCold(object.size_class) ? cache.DeallocateCold(object.size_class, object.start, call)
                                      : cache.DeallocateSlow(object.size_class, object.start, call);
      break;
    }
    case Object::Kind::kSampled:
      FreeSampled(object, call);
      break;
    case Object::Kind::kLarge:
      ClaimLarge(object, call);
      DeallocateClaimed(object.span);
      break;
    case Object::Kind::kGuarded:
      process_heap.profile.Remove(process_heap.guards.Free(object.place, call));
      break;
    case Object::Kind::kChecked:
      LetGo(object, call);
      break;
    case Object::Kind::kForeign:
      ReportBadPointer(call, object.start);
  }
}

}  // namespace tarn
