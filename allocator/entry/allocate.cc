// SPDX-License-Identifier: Apache-2.0

#include "allocator/entry/allocate.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "allocator/cpu_cache/slab_ops.h"
#include "allocator/entry/sizes.h"
#include "allocator/heap/checked_objects.h"
#include "allocator/heap/deferred_frees.h"
#include "allocator/heap/hardened_objects.h"
#include "allocator/heap/process_heap.h"
#include "allocator/heap/reclaim.h"
#include "allocator/heap/sampled_objects.h"
#include "allocator/heap/slow_path.h"
#include "allocator/os/sanitizer.h"
#include "allocator/os/virtual_memory.h"

namespace tarn {

namespace {

TARN_NOINLINE void* RefillClass(SizeClass size_class, std::size_t bytes, std::size_t alignment) {
  SlowPath path;
  if (path.nested()) return nullptr;
  if (Hardens()) return AllocateHardened(size_class, bytes, alignment);
  CpuCache& cache = process_heap.cpu_cache;
  const bool cold = cache.IsCold(size_class);
  unsigned shift;
  if (cold ? cache.sampler().Draw(size_class, &shift) : cache.TakeSample(size_class, &shift)) [[unlikely]] {
    if (void* object = AllocateSampled(size_class, bytes, alignment, shift)) return object;
  }
  void* object = cold ? cache.AllocateCold(size_class) : cache.AllocateSlow(size_class);
  if (object == nullptr) [[unlikely]] {
    // Memory that is kept for other classes may hold the missing pages.
    FreeDeferred();
    Reclaim(ReclaimDepth::kToPageHeap, "malloc");
    object = cache.AllocateCold(size_class);
    if (object == nullptr) object = cache.AllocateSlow(size_class);
    if (object == nullptr) object = AllocateFromSampled(size_class, bytes, alignment);
    if (object == nullptr) process_heap.limits.CountHardFailure();
  }
  return object;
}

void* AllocateClass(SizeClass size_class, std::size_t bytes, std::size_t alignment) {
  // Not every caller comes from a miss: sizes that only the larger of the two lookups knows, aligned ones and realloc's
  // hit here. (Not before the start: the sequence would not know where rseq_cs lies.)
  if (slab_table.hit_limit_bytes != 0) {
    if (void* object = SlabPop(size_class)) return object;
  }
  return RefillClass(size_class, bytes, alignment);
}

Span* AllocateLarge(std::size_t bytes, std::size_t alignment, bool* zero, bool prefer_zero) {
  // Nothing has room for these, so nothing is given back in vain to make it.
  constexpr std::size_t kAddressableBytes = std::size_t{1} << kAddressBits;
  if (bytes >= kAddressableBytes || alignment >= kAddressableBytes) return nullptr;
  SlowPath path;
  if (path.nested()) return nullptr;
  const PageCount pages = LargePages(bytes);
  const PageCount alignment_pages = std::max(PageCount::FromBytesCeil(alignment), PageCount(1));
  Span* span = process_heap.page_heap.AllocateLarge(pages, alignment_pages, zero, prefer_zero);
  if (span == nullptr) {
    // The caches and the page heap may keep the missing memory.
    FreeDeferred();
    Reclaim(ReclaimDepth::kToKernel, "malloc");
    span = process_heap.page_heap.AllocateLarge(pages, alignment_pages, zero);
  }
  span != nullptr ? SampleLarge(span, bytes) : process_heap.limits.CountHardFailure();
  return span;
}

TARN_NOINLINE void* AllocateLarge(std::size_t bytes, std::size_t alignment) {
  bool zero;
  Span* span = AllocateLarge(bytes, alignment, &zero, false);
  return span == nullptr ? nullptr : span->start();
}

// From this size on calloc writes no zeroes: it takes memory that is zero, or lets the kernel have the warm memory that
// it got. Most programs that request that many zeroes do not touch them all at once. Chosen.
constexpr std::size_t kLeaveUntouchedBytes = std::size_t{4} << 20;

bool ReleaseContents(Span* span) {
  SlowPathScope scope;
  return span->bytes() % OsPageBytes() == 0 && Release(span->start(), span->bytes());
}

void* AllocateLargeZeroed(std::size_t bytes) {
  bool zero = false;
  const bool leave_untouched = bytes >= kLeaveUntouchedBytes;
  Span* span = AllocateLarge(bytes, 0, &zero, leave_untouched);
  if (span == nullptr) return nullptr;
  if (!zero && !(leave_untouched && ReleaseContents(span))) std::memset(span->start(), 0, bytes);
  return span->start();
}

inline void* AllocateOwn(std::size_t bytes, Request request) {
  const SizeClass size_class = request == Request::kMalloc ? MallocSizeClass(bytes) : NewSizeClass(bytes);
  return size_class == 0 ? AllocateLarge(bytes, 0) : AllocateClass(size_class, bytes, kMallocAlignmentBytes);
}

void* AllocateOwnAligned(std::size_t bytes, std::size_t alignment) {
  const SizeClass size_class = AlignedNewSizeClass(bytes, alignment);
  return size_class == 0 ? AllocateLarge(bytes, alignment) : AllocateClass(size_class, bytes, alignment);
}

// True where objects are checked. The first call of the process finds that out by the start.
bool ChecksThis() {
  if (!process_heap.started()) PrepareThread();
  return ChecksMalloc();
}

Family FamilyOf(Request request) {
  switch (request) {
    case Request::kNew:
      return Family::kNew;
    case Request::kNewArray:
      return Family::kNewArray;
    default:
      return Family::kMalloc;
  }
}

// The hit path is closed: the heap has not started, a sanitizer serves, or objects are checked or
// hardened.
TARN_NOINLINE void* AllocateClosed(std::size_t bytes, std::size_t alignment, Request request) {
  if (SanitizerServes()) return alignment == 0 ? SanitizerMalloc(bytes) : SanitizerMemalign(alignment, bytes);
  if (ChecksThis()) return AllocateChecked(bytes, alignment, FamilyOf(request), false);
  if (alignment != 0 && bytes > kMaxRequestBytes) return nullptr;
  return alignment == 0 ? AllocateOwn(bytes, request) : AllocateOwnAligned(bytes, alignment);
}

}  // namespace

// Objects above the small table hit here, so all calls are at ends: nothing is saved on the stack before a hit.
void* AllocateSlow(std::size_t bytes, Request request) {
  if (slab_table.hit_limit_bytes == 0) [[unlikely]]
    return AllocateClosed(bytes, 0, request);
  return AllocateOwn(bytes, request);
}

void* AllocateAligned(std::size_t bytes, std::size_t alignment, Request request) {
  if (slab_table.hit_limit_bytes == 0) [[unlikely]]
    return AllocateClosed(bytes, alignment, request);
  if (bytes > kMaxRequestBytes) return nullptr;
  return AllocateOwnAligned(bytes, alignment);
}

void* AllocateZeroed(std::size_t bytes) {
  if (slab_table.hit_limit_bytes == 0) [[unlikely]] {
    if (SanitizerServes()) return SanitizerCalloc(bytes);
    if (ChecksThis()) return AllocateChecked(bytes, 0, Family::kMalloc, true);
  }
  if (MallocSizeClass(bytes) == 0) return AllocateLargeZeroed(bytes);
  void* object = AllocateSlow(bytes, Request::kMalloc);
  if (object != nullptr) std::memset(object, 0, bytes);
  return object;
}

}  // namespace tarn
