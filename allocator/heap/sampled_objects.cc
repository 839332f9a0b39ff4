// SPDX-License-Identifier: Apache-2.0

#include "allocator/heap/sampled_objects.h"

#include <cstdint>

#include "allocator/central/span_objects.h"
#include "allocator/heap/hardened_objects.h"
#include "allocator/heap/process_heap.h"
#include "allocator/os/crash.h"

namespace tarn {

namespace {

// The number of a live sampled object of which the profile keeps no sample.
constexpr std::uint32_t kNoSample = UINT32_MAX;
// The number of one that was freed; 0: it was never allocated since its span was made.
constexpr std::uint32_t kFreed = UINT32_MAX - 1;

bool IsLive(std::uint32_t number) { return number != 0 && number != kFreed; }

// An object of the list of sampled ones, with that number.
void* Take(SizeClass size_class) {
  void* const object = process_heap.sampled_lists[size_class].RemoveOne();
  if (object != nullptr) process_heap.cpu_cache.CountSampledAllocation(size_class);
  return object;
}

void SetSample(void* object, std::uint32_t number) {
  Span* span = page_map.SpanOf(PageId::Containing(object));
  std::uint32_t* const place = &span->samples()[FindObject(span, reinterpret_cast<std::uintptr_t>(object))];
  if (Hardens() && __atomic_load_n(place, __ATOMIC_RELAXED) == kFreed) {
    RequireZero(object, kSizeClasses[span->size_class].size_bytes);
  }
  __atomic_store_n(place, number, __ATOMIC_RELAXED);
}

// See object.h. Aborts when another call was first.
void Claim(const Object& object, const char* call) {
  Span* const span = object.span;
  const PageId page = PageId::Containing(object.start);
  // The span may have been freed since the pointer was resolved, and its record handed out as one of another kind.
  const int index = FindObject(span, reinterpret_cast<std::uintptr_t>(object.start));
  if (page_map.SpanOf(page) != span || span->kind != SpanKind::kSampled || index < 0) {
    ReportMisuse(call, object.start, Misuse::kAlreadyFree);
  }
  std::uint32_t* const place = &span->samples()[index];
  std::uint32_t number = __atomic_load_n(place, __ATOMIC_RELAXED);
  if (!IsLive(number) ||
      !__atomic_compare_exchange_n(place, &number, kFreed, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    ReportMisuse(call, object.start, Misuse::kAlreadyFree);
  }
  // The record may have been handed out again before the exchange.
  if (page_map.SpanOf(page) != span) ReportMisuse(call, object.start, Misuse::kAlreadyFree);
  if (number != kNoSample) process_heap.profile.Remove(number);
}

// The profile keeps it by the size of its class, as if it were none.
void* AllocateGuarded(SizeClass size_class, std::size_t bytes, std::size_t alignment, unsigned shift) {
  GuardedPlace* const place = process_heap.guards.Allocate(size_class, bytes, alignment);
  if (place == nullptr) return nullptr;
  place->sample = process_heap.profile.Add(kSizeClasses[size_class].size_bytes, bytes, shift);
  return place->object();
}

}  // namespace

void* AllocateSampled(SizeClass size_class, std::size_t bytes, std::size_t alignment, unsigned shift) {
  if (process_heap.guards.Draw()) {
    if (void* object = AllocateGuarded(size_class, bytes, alignment, shift)) return object;
  }
  process_heap.EnsureSampledLists();
  void* object = Take(size_class);
  if (object == nullptr) return nullptr;
  const std::uint32_t sample = process_heap.profile.Add(kSizeClasses[size_class].size_bytes, bytes, shift);
  SetSample(object, sample != 0 ? sample : kNoSample);
  return object;
}

void* AllocateUnsampled(SizeClass size_class) {
  void* const object = Take(size_class);
  if (object != nullptr) SetSample(object, kNoSample);
  return object;
}

void* AllocateFromSampled(SizeClass size_class, std::size_t bytes, std::size_t alignment) {
  if (process_heap.has_sampled_lists()) {
    if (void* const object = AllocateUnsampled(size_class)) return object;
  }
  GuardedPlace* const place =
      process_heap.guards.has_region() ? process_heap.guards.Allocate(size_class, bytes, alignment) : nullptr;
  return place == nullptr ? nullptr : place->object();
}

void FreeSampled(const Object& object, const char* call) {
  Claim(object, call);
  void* start = object.start;
  process_heap.cpu_cache.CountSampledFree(object.size_class);
  if (Hardens()) return RetireHardened(start, object.size_class, call);
  process_heap.sampled_lists[object.size_class].InsertRange(&start, 1, call);
}

void RequireLiveSampled(const Object& object, const char* call) {
  const int index = FindObject(object.span, reinterpret_cast<std::uintptr_t>(object.start));
  if (index < 0 || !IsLive(__atomic_load_n(&object.span->samples()[index], __ATOMIC_RELAXED))) {
    ReportMisuse(call, object.start, Misuse::kAlreadyFree);
  }
}

void SampleLarge(Span* span, std::size_t bytes) {
  process_heap.profile.Remove(span->large_sample());
  unsigned shift;
  const bool sampled = process_heap.cpu_cache.sampler().DrawBytes(span->bytes(), &shift);
  span->set_large_sample(sampled ? process_heap.profile.Add(span->bytes(), bytes, shift) : 0);
}

}  // namespace tarn
