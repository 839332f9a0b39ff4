// SPDX-License-Identifier: Apache-2.0

#include "allocator/heap/hardened_objects.h"

#include <atomic>
#include <cstring>

#include "allocator/heap/deferred_frees.h"
#include "allocator/heap/process_heap.h"
#include "allocator/heap/reclaim.h"
#include "allocator/heap/sampled_objects.h"
#include "allocator/misuse/patterns.h"
#include "allocator/misuse/report.h"
#include "allocator/os/virtual_memory.h"

namespace tarn {

namespace {

void* Allocate(SizeClass size_class, std::size_t bytes, std::size_t alignment) {
  unsigned shift;
  if (process_heap.cpu_cache.sampler().Draw(size_class, &shift)) [[unlikely]] {
    if (void* const object = AllocateSampled(size_class, bytes, alignment, shift)) return object;
  }
  return AllocateUnsampled(size_class);
}

void LetGoSpan(void* out) {
  auto* const span = static_cast<Span*>(out);
  hardened_mode.freed_span_bytes.fetch_sub(span->bytes(), std::memory_order_relaxed);
  // Its pages stay where nobody gets them if the kernel refuses.
  if (!Commit(span->start(), span->bytes())) return;
  process_heap.page_heap.Deallocate(span);
}

}  // namespace

void* AllocateHardened(SizeClass size_class, std::size_t bytes, std::size_t alignment) {
  if (void* const object = Allocate(size_class, bytes, alignment)) return object;
  FreeDeferred();
  Reclaim(ReclaimDepth::kToKernel, "malloc");
  void* object = Allocate(size_class, bytes, alignment);
  if (object == nullptr) object = AllocateFromSampled(size_class, bytes, alignment);
  if (object == nullptr) process_heap.limits.CountHardFailure();
  return object;
}

void RetireHardened(void* object, SizeClass size_class, const char* call) {
  std::memset(object, 0, kSizeClasses[size_class].size_bytes);
  if (void* const leaving = hardened_mode.freed[size_class].Push(object)) {
    process_heap.sampled_lists[size_class].InsertOne(leaving, call);
  }
}

bool RetireLarge(Span* span) {
  // A mapping of its own goes as a whole.
  if (span->kind != SpanKind::kLarge || span->bytes() % OsPageBytes() != 0) return false;
  if (!Release(span->start(), span->bytes())) std::memset(span->start(), 0, span->bytes());
  process_heap.page_heap.BeginRest(span);
  // One must not push all others out.
  if (span->bytes() > HardenedMode::kMostSpanBytes / 8) return false;
  // Where the kernel has no mappings left, the addresses rest all the same.
  static_cast<void>(Forbid(span->start(), span->bytes()));
  std::atomic<std::size_t>& held_bytes = hardened_mode.freed_span_bytes;
  held_bytes.fetch_add(span->bytes(), std::memory_order_relaxed);
  if (void* const out = hardened_mode.freed_spans.Push(span)) LetGoSpan(out);
  std::size_t from = 0;
  while (held_bytes.load(std::memory_order_relaxed) > HardenedMode::kMostSpanBytes) {
    void* const out = hardened_mode.freed_spans.Pop(&from);
    if (out == nullptr) break;
    LetGoSpan(out);
  }
  return true;
}

void EmptyHardenedQuarantine(const char* call) {
  std::size_t from = 0;
  while (void* const out = hardened_mode.freed_spans.Pop(&from)) LetGoSpan(out);
  for (int c = 1; c < kSizeClassCount; ++c) {
    from = 0;
    while (void* const object = hardened_mode.freed[c].Pop(&from)) {
      process_heap.sampled_lists[c].InsertOne(object, call);
    }
    process_heap.sampled_lists[c].ReleaseKept();
  }
}

void RequireZero(const void* object, std::size_t bytes) {
  const auto* const start = static_cast<const unsigned char*>(object);
  const std::size_t at = FindOther(start, bytes, 0);
  if (at == bytes) [[likely]]
    return;
  const StackHere here;
  MisuseReport report = {};
  report.misuse = {.call = "malloc",
                   .address = start + at,
                   .kind = Misuse::kFreedOverwritten,
                   .start = object,
                   .object_bytes = bytes};
  report.state = MisuseReport::ObjectState::kFreed;
  report.here = here.facts();
  ReportAndMayGoOn(report);
}

}  // namespace tarn
