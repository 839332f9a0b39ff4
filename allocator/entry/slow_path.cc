// SPDX-License-Identifier: Apache-2.0

#include "allocator/entry/slow_path.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "allocator/central/span_objects.h"
#include "allocator/cpu_cache/slab_ops.h"
#include "allocator/entry/next_owner.h"
#include "allocator/heap/process_heap.h"
#include "allocator/heap/reclaim.h"
#include "allocator/heap/thread_exit.h"
#include "allocator/os/crash.h"
#include "allocator/os/sanitizer.h"
#include "allocator/os/stall.h"
#include "allocator/os/thread_state.h"
#include "allocator/os/virtual_memory.h"
#include "allocator/pages/page_map.h"

namespace tarn {

namespace {

constexpr std::size_t kMaxRequestBytes = PTRDIFF_MAX;

// --- Frees by signal handlers that interrupted tarn ----------------------------------------------------------------

// Such a free may need a lock that its own thread holds. So the object is put here, for the next slow free that is not
// nested. An object that finds no place is leaked.
constexpr std::size_t kDeferredFrees = 256;
std::atomic<void*> deferred_frees[kDeferredFrees];
std::atomic<std::size_t> deferred_count = 0;

void DeferFree(void* object) {
  for (auto& place : deferred_frees) {
    void* expected = nullptr;
    // Release pairs with the acquire of the exchange below.
    if (place.compare_exchange_strong(expected, object, std::memory_order_release, std::memory_order_relaxed)) {
      deferred_count.fetch_add(1, std::memory_order_relaxed);
      return;
    }
  }
}

void FreeUnnested(void* object, SizeClass size_class, const char* call);

// Answers the requests of the page heap and of other processes, as the last act of every slow path.
void Attend() {
  const bool requested = process_heap.scavenger.requested();
  if ((process_heap.page_heap.attention() != 0 || requested) && thread_state.slow_path_depth == 0) [[unlikely]] {
    const std::uint32_t wanted = process_heap.page_heap.attention();
    if ((wanted & PageHeap::kCheckWanted) != 0) process_heap.limits.Check(true);
    if ((wanted & (PageHeap::kScavengerWanted | PageHeap::kFallen)) != 0) process_heap.scavenger.Attend();
    if ((wanted & PageHeap::kPeakReached) != 0) process_heap.profile_dumps.AttendPeak();
    if (requested) process_heap.scavenger.AnswerRequests();
  }
}

void FreeDeferred() {
  if (deferred_count.load(std::memory_order_relaxed) == 0) [[likely]]
    return;
  for (auto& place : deferred_frees) {
    void* object = place.exchange(nullptr, std::memory_order_acquire);
    if (object == nullptr) continue;
    deferred_count.fetch_sub(1, std::memory_order_relaxed);
    FreeUnnested(object, page_map.ClassOf(reinterpret_cast<std::uintptr_t>(object)), "free");
  }
}

// Stands in front of the SlowPathScope, so that the slow path is over when it goes.
struct AttendAtEnd {
  ~AttendAtEnd() { Attend(); }
};

// --- Pointers that may be anything ---------------------------------------------------------------------------------

[[noreturn]] TARN_COLD void ReportInterior(const char* call, const void* object, const Span* span) {
  const auto address = reinterpret_cast<std::uintptr_t>(object);
  const bool small = span->kind == SpanKind::kSmall || span->kind == SpanKind::kSampled;
  const std::uintptr_t start = small ? ObjectAround(span, address) : span->start_address();
  if (start == 0) ReportMisuse(call, object, Misuse::kInteriorPointer);
  const std::size_t bytes = small ? kSizeClasses[span->size_class].size_bytes : span->bytes();
  ReportInteriorPointer(call, object, reinterpret_cast<const void*>(start), bytes);
}

[[noreturn]] TARN_COLD void ReportBadPointer(const char* call, const void* object) {
  const auto address = reinterpret_cast<std::uintptr_t>(object);
  if (const Span* span = page_map.SpanAround(address)) {
    if (span->is_region()) ReportMisuse(call, object, Misuse::kRegionPointer);
    ReportInterior(call, object, span);
  }
  const bool was_ours = process_heap.page_heap.ServesAddress(address);
  ReportMisuse(call, object, was_ours ? Misuse::kSpanAlreadyFree : Misuse::kNotAllocated);
}

// True if no span of tarn has the address, nor had it before it was freed. Slow; for pointers that are misuse, or
// foreign.
TARN_COLD bool IsForeign(const void* object) {
  const auto address = reinterpret_cast<std::uintptr_t>(object);
  if (page_map.SpanAround(address) != nullptr) return false;
  SlowPathScope scope;
  // ServesAddress locks. Where that may not be, misuse is reported as well as it can be.
  return !scope.nested() && !process_heap.page_heap.ServesAddress(address);
}

// False for all addresses of living objects, at the cost of one look.
bool MayBeForeign(const void* object) { return page_map.SpanOf(PageId::Containing(object)) == nullptr; }

// The span of an object of which the page map says class 0: a large object, or a sampled one. Aborts when none starts
// at the address.
Span* SlowSpan(const void* object, const char* call) {
  const auto address = reinterpret_cast<std::uintptr_t>(object);
  Span* span = page_map.SpanOf(PageId::Containing(address));
  if (span == nullptr || span->kind == SpanKind::kFree || span->is_region()) ReportBadPointer(call, object);
  const bool starts =
      span->kind == SpanKind::kSampled ? FindObject(span, address) >= 0 : span->start_address() == address;
  if (!starts) ReportBadPointer(call, object);
  return span;
}

// --- One owner per object ------------------------------------------------------------------------------------------

// A free or realloc of an object that is not small first claims the object, by one atomic step. A program may call two
// of them for one object at once, which is misuse. The claim decides: one call goes on, each other one ends the process
// with a line, and no structure behind the claim is changed twice.
//
//   Large object:    PageMap::Claim replaces the page map's entry by null. The winner owns the record and the pages,
//                    and calls PageHeap::Deallocate, or resizes. While realloc has the claim, the map has no entry for
//                    the object. Disclaim puts the entry back, for the old or the new pages.
//   Sampled object:  ClaimSample replaces the number of the object's sample by 0. A live object always has a number:
//                    kNoSample where the profile had no memory. realloc claims at its free of the old object.
//
// A call may lose time between its look at the map and its claim, and another call may free the object then. If the
// pages or the record were handed out again, the claim fails (another record stands in the map), or the object there is
// a new one at the same address. The latter is a free of the new object: no allocator without tags in pointers can
// tell. A span record that was reused as another kind is seen by the second look of ClaimLarge. Records stay mapped for
// ever, so every look is safe.
//
// A fork while another thread has the claim: the child cannot free that object. Its owner is the thread that is gone.

// For an object of which the page map says class 0. Aborts when another call was first.
void ClaimLarge(Span* span, const void* object, const char* call) {
  const auto address = reinterpret_cast<std::uintptr_t>(object);
  if (!page_map.Claim(PageId::Containing(address), span)) ReportMisuse(call, object, Misuse::kAlreadyFree);
  const bool is_large = span->kind == SpanKind::kLarge || span->kind == SpanKind::kMapped;
  if (!is_large || span->is_region() || span->start_address() != address) [[unlikely]]
    ReportBadPointer(call, object);
}

// Ends a claim without a free: the object is as it was, or as the page heap has made it.
void* Disclaim(Span* span) {
  page_map.Register(span);
  return span->start();
}

// The number of a live sampled object of which the profile keeps no sample.
constexpr std::uint32_t kNoSample = UINT32_MAX;

// Aborts when another call was first.
void ClaimSample(Span* span, const void* object, const char* call) {
  const auto address = reinterpret_cast<std::uintptr_t>(object);
  std::uint32_t* const place = &span->samples()[FindObject(span, address)];
  std::uint32_t number = __atomic_load_n(place, __ATOMIC_RELAXED);
  if (number == 0 || !__atomic_compare_exchange_n(place, &number, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    ReportMisuse(call, object, Misuse::kAlreadyFree);
  }
  // The record may have been handed out again before the exchange.
  if (page_map.SpanOf(PageId::Containing(address)) != span) ReportMisuse(call, object, Misuse::kAlreadyFree);
  if (number != kNoSample) process_heap.profile.Remove(number);
}

// The class of an object, whether it is sampled or not; 0 for a large one. Aborts like SlowSpan.
SizeClass ClassOfObject(const void* object, const char* call) {
  const SizeClass size_class = page_map.ClassOf(reinterpret_cast<std::uintptr_t>(object));
  if (size_class != 0) return size_class;
  const Span* span = SlowSpan(object, call);
  return span->kind == SpanKind::kSampled ? span->size_class : SizeClass{0};
}

// Aborts when no object of its class starts there. For small objects that are not sampled.
void RequireStart(const void* object, const char* call) {
  const Span* span = page_map.SpanOf(PageId::Containing(object));
  if (FindObject(span, reinterpret_cast<std::uintptr_t>(object)) < 0) [[unlikely]]
    ReportInterior(call, object, span);
}

// --- Samples of the heap profile -----------------------------------------------------------------------------------

// An object that the profile keeps a sample of. Null: there is no memory for it, and an ordinary one may still be had.
void* AllocateSampled(SizeClass size_class, std::size_t bytes, unsigned shift) {
  process_heap.EnsureSampledLists();
  void* object;
  if (process_heap.sampled_lists[size_class].RemoveRange(&object, 1) == 0) return nullptr;
  process_heap.cpu_cache.CountSampledAllocation(size_class);
  const std::uint32_t sample = process_heap.profile.Add(kSizeClasses[size_class].size_bytes, bytes, shift);
  Span* span = page_map.SpanOf(PageId::Containing(object));
  span->samples()[FindObject(span, reinterpret_cast<std::uintptr_t>(object))] = sample != 0 ? sample : kNoSample;
  return object;
}

// An object in the span of sampled ones, without a sample. At a limit, a free of a sampled object makes room for its
// size like any other: there may be no memory but that object.
void* AllocateFromSampled(SizeClass size_class) {
  if (!process_heap.has_sampled_lists()) return nullptr;
  void* object;
  if (process_heap.sampled_lists[size_class].RemoveRange(&object, 1) == 0) return nullptr;
  process_heap.cpu_cache.CountSampledAllocation(size_class);
  Span* span = page_map.SpanOf(PageId::Containing(object));
  span->samples()[FindObject(span, reinterpret_cast<std::uintptr_t>(object))] = kNoSample;
  return object;
}

void FreeSampled(Span* span, void* object, const char* call) {
  ClaimSample(span, object, call);
  process_heap.cpu_cache.CountSampledFree(span->size_class);
  process_heap.sampled_lists[span->size_class].InsertRange(&object, 1, call);
}

// Takes a sample of a large object that was just made or resized, or none, as chance has it.
void SampleLarge(Span* span, std::size_t bytes) {
  process_heap.profile.Remove(span->large_sample());
  unsigned shift;
  const bool sampled = process_heap.cpu_cache.sampler().DrawBytes(span->bytes(), &shift);
  span->set_large_sample(sampled ? process_heap.profile.Add(span->bytes(), bytes, shift) : 0);
}

// --- Sizes ---------------------------------------------------------------------------------------------------------

// Not below one page: huge alignments make large objects of any size.
PageCount LargePages(std::size_t bytes) { return std::max(PageCount::FromBytesCeil(bytes), PageCount(1)); }

SizeClass ClassFor(std::size_t bytes, Request request) {
  return request == Request::kNew ? NewSizeClass(bytes) : MallocSizeClass(bytes);
}

SizeClass AlignedNewSizeClass(std::size_t bytes, std::size_t alignment) {
  return AlignedSizeClass(bytes, std::max(alignment, kMallocAlignmentBytes));
}

// --- Allocation ----------------------------------------------------------------------------------------------------

void* AllocateClass(SizeClass size_class, std::size_t bytes) {
  // Not every caller comes from a miss: sizes that only the larger of the two lookups knows, aligned ones and realloc's
  // hit here. (Not before the start: the sequence would not know where rseq_cs lies.)
  if (slab_table.hit_limit_bytes != 0) {
    if (void* object = SlabPop(size_class)) return object;
  }
  PrepareThread();
  const AttendAtEnd attend;
  SlowPathScope scope(SlowPathScope::Opener::kProgram);
  if (scope.nested()) return nullptr;
  unsigned shift;
  if (process_heap.cpu_cache.TakeSample(size_class, &shift)) [[unlikely]] {
    if (void* object = AllocateSampled(size_class, bytes, shift)) return object;
  }
  void* object = process_heap.cpu_cache.AllocateSlow(size_class);
  if (object == nullptr) [[unlikely]] {
    // Memory that is kept for other classes may hold the missing pages.
    FreeDeferred();
    Reclaim(ReclaimDepth::kToPageHeap, "malloc");
    object = process_heap.cpu_cache.AllocateSlow(size_class);
    if (object == nullptr) object = AllocateFromSampled(size_class);
    if (object == nullptr) process_heap.limits.CountHardFailure();
  }
  return object;
}

void* AllocateLarge(std::size_t bytes, std::size_t alignment, bool* zero, bool prefer_zero = false) {
  // Nothing has room for these, so nothing is given back in vain to make it.
  constexpr std::size_t kAddressableBytes = std::size_t{1} << kAddressBits;
  if (bytes >= kAddressableBytes || alignment >= kAddressableBytes) return nullptr;
  PrepareThread();
  const AttendAtEnd attend;
  SlowPathScope scope(SlowPathScope::Opener::kProgram);
  if (scope.nested()) return nullptr;
  const PageCount pages = LargePages(bytes);
  const PageCount alignment_pages = std::max(PageCount::FromBytesCeil(alignment), PageCount(1));
  Span* span = process_heap.page_heap.AllocateLarge(pages, alignment_pages, zero, prefer_zero);
  if (span == nullptr) {
    // The caches and the page heap may keep the missing memory.
    FreeDeferred();
    Reclaim(ReclaimDepth::kToKernel, "malloc");
    span = process_heap.page_heap.AllocateLarge(pages, alignment_pages, zero);
    if (span == nullptr) process_heap.limits.CountHardFailure();
  }
  if (span == nullptr) return nullptr;
  SampleLarge(span, bytes);
  return span->start();
}

// From this size on calloc writes no zeroes: it takes memory that is zero, or lets the kernel have the warm memory that
// it got. Most programs that request that many zeroes do not touch them all at once. Chosen.
constexpr std::size_t kLeaveUntouchedBytes = std::size_t{4} << 20;

// A large object that this call has claimed.
void FreeClaimed(Span* span) {
  process_heap.profile.Remove(span->large_sample());
  process_heap.page_heap.Deallocate(span);
}

bool ReleaseLarge(void* object) {
  SlowPathScope scope;
  return Release(object, SlowSpan(object, "calloc")->bytes());
}

void FreeUnnested(void* object, SizeClass size_class, const char* call) {
  if (size_class != 0) {
    process_heap.cpu_cache.DeallocateSlow(size_class, object, call);
    return;
  }
  Span* span = SlowSpan(object, call);
  if (span->kind == SpanKind::kSampled) {
    FreeSampled(span, object, call);
  } else {
    ClaimLarge(span, object, call);
    FreeClaimed(span);
  }
}

}  // namespace

void* AllocateSlow(std::size_t bytes, Request request) {
  if (SanitizerServes()) [[unlikely]]
    return SanitizerMalloc(bytes);
  const SizeClass size_class = ClassFor(bytes, request);
  if (size_class == 0) {
    bool zero;
    return AllocateLarge(bytes, 0, &zero);
  }
  return AllocateClass(size_class, bytes);
}

void* AllocateAligned(std::size_t bytes, std::size_t alignment) {
  if (SanitizerServes()) [[unlikely]]
    return SanitizerMemalign(alignment, bytes);
  if (bytes > kMaxRequestBytes) return nullptr;
  const SizeClass size_class = AlignedNewSizeClass(bytes, alignment);
  if (size_class == 0) {
    bool zero;
    return AllocateLarge(bytes, alignment, &zero);
  }
  return AllocateClass(size_class, bytes);
}

void* AllocateZeroed(std::size_t bytes) {
  if (SanitizerServes()) [[unlikely]]
    return SanitizerCalloc(bytes);
  const SizeClass size_class = MallocSizeClass(bytes);
  if (size_class == 0) {
    bool zero = false;
    const bool leave_untouched = bytes >= kLeaveUntouchedBytes;
    void* object = AllocateLarge(bytes, 0, &zero, leave_untouched);
    if (object != nullptr && !zero && !(leave_untouched && ReleaseLarge(object))) {
      std::memset(object, 0, bytes);
    }
    return object;
  }
  void* object = AllocateSlow(bytes, Request::kMalloc);
  if (object != nullptr) std::memset(object, 0, bytes);
  return object;
}

// --- Deallocation --------------------------------------------------------------------------------------------------

void FreeSlow(void* object, const char* call) {
  if (object == nullptr) return;
  if (SanitizerServes()) [[unlikely]]
    return SanitizerFree(object);
  const SizeClass size_class = page_map.ClassOf(reinterpret_cast<std::uintptr_t>(object));
  if (size_class == 0) {
    if (MayBeForeign(object) && IsForeign(object) && FreeByNextOwner(object)) return;
    static_cast<void>(SlowSpan(object, call));
  } else if (SlabPush(size_class, object)) {
    return;
  }
  PrepareThread();
  const AttendAtEnd attend;
  SlowPathScope scope(SlowPathScope::Opener::kProgram);
  if (scope.nested()) {
    DeferFree(object);
    return;
  }
  FreeDeferred();
  FreeUnnested(object, size_class, call);
}

namespace {

std::size_t BytesOf(const Span* span) {
  return span->kind == SpanKind::kSampled ? kSizeClasses[span->size_class].size_bytes : span->bytes();
}

// The first lines are enough to find the fault; a program that frees by a wrong size mostly does so all the time.
constexpr std::uint32_t kMostNotes = 20;
std::atomic<std::uint32_t> notes = 0;

TARN_COLD void NoteSize(const char* call, const void* object, std::size_t given_bytes, std::size_t object_bytes) {
  if (notes.load(std::memory_order_relaxed) >= kMostNotes) return;
  if (notes.fetch_add(1, std::memory_order_relaxed) < kMostNotes) {
    NoteWrongSize(call, object, given_bytes, object_bytes);
  }
}

// realloc leaves an object that shrinks where it is, so only what the object cannot hold is wrong.
TARN_COLD void CheckFreedSize(const void* object, std::size_t bytes, const char* call) {
  if (MayBeForeign(object)) return;
  const std::size_t object_bytes = UsableBytes(object, call);
  if (bytes > object_bytes) NoteSize(call, object, bytes, object_bytes);
}

// operator new gives each size one class, or one number of pages.
TARN_COLD void CheckDeletedSize(const void* object, std::size_t bytes, std::size_t alignment, const char* call) {
  if (MayBeForeign(object)) return;
  const SizeClass size_class = ClassOfObject(object, call);
  const SizeClass expected_class = alignment == 0 ? NewSizeClass(bytes) : AlignedNewSizeClass(bytes, alignment);
  bool matches = size_class == expected_class;
  if (size_class == 0) {
    const Span* span = SlowSpan(object, call);
    // A mapping of its own is rounded up to the kernel's pages.
    matches = matches && (span->kind == SpanKind::kMapped ? bytes <= span->bytes() : span->pages == LargePages(bytes));
  }
  if (!matches) NoteSize(call, object, bytes, UsableBytes(object, call));
}

}  // namespace

void FreeSized(void* object, std::size_t bytes, const char* call) {
  if (object == nullptr) return;
  if (process_heap.checks()) CheckFreedSize(object, bytes, call);
  FreeSlow(object, call);
}

void DeleteSized(void* object, std::size_t bytes, std::size_t alignment) {
  if (object == nullptr) return;
  if (process_heap.checks()) CheckDeletedSize(object, bytes, alignment, "operator delete");
  FreeSlow(object, "operator delete");
}

// --- Resizing ------------------------------------------------------------------------------------------------------

std::size_t UsableBytes(const void* object, const char* call) {
  if (object == nullptr) return 0;
  if (SanitizerServes()) [[unlikely]]
    return SanitizerUsableBytes(object);
  const SizeClass size_class = page_map.ClassOf(reinterpret_cast<std::uintptr_t>(object));
  if (size_class != 0) {
    RequireStart(object, call);
    return kSizeClasses[size_class].size_bytes;
  }
  std::size_t bytes;
  if (MayBeForeign(object) && IsForeign(object) && UsableBytesByNextOwner(object, &bytes)) return bytes;
  return BytesOf(SlowSpan(object, call));
}

namespace {

// True if an object of this class stays where it is: shrinking moves only when half of it would be wasted and a smaller
// class would do.
bool StaysInPlace(std::size_t bytes, SizeClass size_class, std::size_t old_bytes) {
  return bytes <= old_bytes && (bytes >= old_bytes / 2 || MallocSizeClass(bytes) == size_class);
}

// Strings and vectors grow here: one look at the page map, and where the caches serve, both of their hits.
void* ReallocateSmall(void* object, SizeClass size_class, std::size_t bytes) {
  RequireStart(object, "realloc");
  const std::size_t old_bytes = kSizeClasses[size_class].size_bytes;
  if (StaysInPlace(bytes, size_class, old_bytes)) return object;
  void* moved = AllocateSlow(bytes, Request::kMalloc);
  if (moved == nullptr) return bytes <= old_bytes ? object : nullptr;
  std::memcpy(moved, object, std::min(bytes, old_bytes));
  if (!SlabPush(size_class, object)) FreeSlow(object, "realloc");
  return moved;
}

void* ReallocateLarge(Span* span, void* object, std::size_t bytes) {
  ClaimLarge(span, object, "realloc");
  const std::size_t old_bytes = span->bytes();
  if (bytes > kMaxSmallBytes) {
    const PageCount pages = PageCount::FromBytesCeil(bytes);
    if (pages == span->pages) return Disclaim(span);
    PrepareThread();
    const AttendAtEnd attend;
    SlowPathScope scope(SlowPathScope::Opener::kProgram);
    if (!scope.nested() &&
        (process_heap.page_heap.ResizeLarge(span, pages) || process_heap.page_heap.MoveLarge(span, pages))) {
      SampleLarge(span, bytes);
      return Disclaim(span);
    }
  }
  if (StaysInPlace(bytes, 0, old_bytes)) return Disclaim(span);
  // A small result of half the bytes or less, or a large one that could not be resized where it is.
  void* moved = AllocateSlow(bytes, Request::kMalloc);
  if (moved == nullptr) {
    Disclaim(span);
    return bytes <= old_bytes ? object : nullptr;
  }
  std::memcpy(moved, object, std::min(bytes, old_bytes));
  PrepareThread();
  const AttendAtEnd attend;
  SlowPathScope scope(SlowPathScope::Opener::kProgram);
  if (scope.nested()) {
    DeferFree(Disclaim(span));
  } else {
    FreeDeferred();
    FreeClaimed(span);
  }
  return moved;
}

}  // namespace

void* Reallocate(void* object, std::size_t bytes) {
  if (SanitizerServes()) [[unlikely]]
    return SanitizerRealloc(object, bytes);
  if (bytes > kMaxRequestBytes) {
    static_cast<void>(UsableBytes(object, "realloc"));
    return nullptr;
  }
  const SizeClass small_class = page_map.ClassOf(reinterpret_cast<std::uintptr_t>(object));
  if (small_class != 0) return ReallocateSmall(object, small_class, bytes);
  void* result;
  if (MayBeForeign(object) && IsForeign(object) && ReallocateByNextOwner(object, bytes, &result)) return result;
  Span* span = SlowSpan(object, "realloc");
  if (span->kind != SpanKind::kSampled) return ReallocateLarge(span, object, bytes);
  const std::size_t old_bytes = kSizeClasses[span->size_class].size_bytes;
  if (StaysInPlace(bytes, span->size_class, old_bytes)) return object;
  void* moved = AllocateSlow(bytes, Request::kMalloc);
  if (moved == nullptr) return bytes <= old_bytes ? object : nullptr;
  std::memcpy(moved, object, std::min(bytes, old_bytes));
  FreeSlow(object, "realloc");
  return moved;
}

std::size_t ReleaseBytes(std::size_t bytes) {
  if (bytes == SIZE_MAX) return Trim(0);
  PrepareThread();
  SlowPathScope scope(SlowPathScope::Opener::kProgram);
  if (scope.nested()) return 0;
  FreeDeferred();
  PageHeap& page_heap = process_heap.page_heap;
  std::size_t released_bytes = page_heap.ReleaseOldest(bytes);
  if (released_bytes < bytes) {
    Reclaim(ReclaimDepth::kToPageHeap, "tarn_release_memory");
    released_bytes += page_heap.ReleaseOldest(bytes - released_bytes);
  }
  if (released_bytes < bytes) released_bytes += page_heap.ReleaseFree(0, true);
  ForgetStall();
  return released_bytes;
}

std::size_t Trim(std::size_t keep_bytes) {
  PrepareThread();
  SlowPathScope scope;
  if (scope.nested()) return 0;
  FreeDeferred();
  const std::size_t released_bytes = Reclaim(ReclaimDepth::kToKernel, "malloc_trim", keep_bytes);
  ForgetStall();
  return released_bytes;
}

}  // namespace tarn
