// SPDX-License-Identifier: Apache-2.0

#include "allocator/entry/resize.h"

#include <algorithm>
#include <cstring>

#include "allocator/cpu_cache/slab_ops.h"
#include "allocator/entry/allocate.h"
#include "allocator/entry/free.h"
#include "allocator/entry/next_owner.h"
#include "allocator/entry/sizes.h"
#include "allocator/heap/checked_objects.h"
#include "allocator/heap/deferred_frees.h"
#include "allocator/heap/object.h"
#include "allocator/heap/process_heap.h"
#include "allocator/heap/sampled_objects.h"
#include "allocator/heap/slow_path.h"
#include "allocator/os/sanitizer.h"

namespace tarn {

namespace {

constexpr char kCall[] = "realloc";

// True if the object stays where it is: shrinking moves only when half of it would be wasted and a smaller class would
// do.
bool StaysInPlace(const Object& object, std::size_t bytes) {
  const std::size_t old_bytes = object.bytes();
  return bytes <= old_bytes && (bytes >= old_bytes / 2 || MallocSizeClass(bytes) == object.size_class);
}

// A new object with the contents of the old one, which stays. Null: there is no memory.
void* Copy(const Object& object, std::size_t bytes) {
  void* copy = AllocateSlow(bytes, Request::kMalloc);
  if (copy != nullptr) std::memcpy(copy, object.start, std::min(bytes, object.bytes()));
  return copy;
}

// The result of realloc without memory for a copy: an object that shrinks may stay.
void* WithoutCopy(const Object& object, std::size_t bytes) { return bytes <= object.bytes() ? object.start : nullptr; }

// Strings and vectors grow here: one look at the page map, and where the caches serve, both of their hits.
void* ReallocateSmall(const Object& object, std::size_t bytes) {
  RequireStart(object, kCall);
  if (StaysInPlace(object, bytes)) return object.start;
  void* copy = Copy(object, bytes);
  if (copy == nullptr) return WithoutCopy(object, bytes);
  if (object.kind != Object::Kind::kSmall || !SlabPush(object.size_class, object.start)) FreeSlow(object.start, kCall);
  return copy;
}

// Resizes an object that this call has claimed where it lies, or moves its pages, and ends the claim. Null: it can do
// neither, and nothing has changed.
void* ResizePages(Span* span, std::size_t bytes) {
  const PageCount pages = PageCount::FromBytesCeil(bytes);
  if (pages == span->pages) return Disclaim(span);
  SlowPath path;
  if (path.nested()) return nullptr;
  PageHeap& page_heap = process_heap.page_heap;
  if (!page_heap.ResizeLarge(span, pages) && !page_heap.MoveLarge(span, pages)) return nullptr;
  SampleLarge(span, bytes);
  return Disclaim(span);
}

void* ReallocateLarge(const Object& object, std::size_t bytes) {
  Span* const span = object.span;
  ClaimLarge(object, kCall);
  if (bytes > kMaxSmallBytes) {
    if (void* resized = ResizePages(span, bytes)) return resized;
  }
  if (StaysInPlace(object, bytes)) return Disclaim(span);
  // A small result of half the bytes or less, or a large one that could not be resized where it is.
  void* copy = Copy(object, bytes);
  if (copy == nullptr) {
    Disclaim(span);
    return WithoutCopy(object, bytes);
  }
  SlowPath path;
  if (path.nested()) {
    DeferFree(Disclaim(span));
  } else {
    FreeDeferred();
    DeallocateClaimed(span);
  }
  return copy;
}

}  // namespace

void* Reallocate(void* pointer, std::size_t bytes) {
  if (SanitizerServes()) [[unlikely]]
    return SanitizerRealloc(pointer, bytes);
  if (bytes > kMaxRequestBytes) {
    static_cast<void>(UsableBytes(pointer, kCall));
    return nullptr;
  }
  const Object object = Resolve(pointer, kCall);
  if (object.is_foreign()) {
    void* result;
    if (ReallocateByNextOwner(pointer, bytes, &result)) return result;
    ReportBadPointer(kCall, pointer);
  }
  if (object.kind == Object::Kind::kChecked) return ReallocateChecked(object, bytes);
  return object.kind == Object::Kind::kLarge ? ReallocateLarge(object, bytes) : ReallocateSmall(object, bytes);
}

std::size_t UsableBytes(const void* pointer, const char* call) {
  if (pointer == nullptr) return 0;
  if (SanitizerServes()) [[unlikely]]
    return SanitizerUsableBytes(pointer);
  const Object object = Resolve(const_cast<void*>(pointer), call);
  if (object.is_foreign()) {
    std::size_t bytes;
    if (UsableBytesByNextOwner(pointer, &bytes)) return bytes;
    ReportBadPointer(call, pointer);
  }
  if (object.kind == Object::Kind::kChecked) return CheckedBytes(object, call);
  RequireStart(object, call);
  return object.bytes();
}

}  // namespace tarn
