// SPDX-License-Identifier: Apache-2.0

#include "allocator/entry/free.h"

#include <atomic>
#include <cstdint>

#include "allocator/cpu_cache/slab_ops.h"
#include "allocator/entry/next_owner.h"
#include "allocator/entry/sizes.h"
#include "allocator/heap/checked_objects.h"
#include "allocator/heap/deferred_frees.h"
#include "allocator/heap/object.h"
#include "allocator/heap/process_heap.h"
#include "allocator/heap/slow_path.h"
#include "allocator/os/crash.h"
#include "allocator/os/sanitizer.h"

namespace tarn {

namespace {

void Free(const Object& object, const char* call) {
  if (object.is_foreign()) {
    if (FreeByNextOwner(object.start)) return;
    ReportBadPointer(call, object.start);
  }
  if (object.kind == Object::Kind::kChecked) return FreeChecked(object, call);
  if (object.kind == Object::Kind::kSmall && SlabPush(object.size_class, object.start)) return;
  SlowPath path;
  if (path.nested()) {
    DeferFree(object.start);
    return;
  }
  FreeDeferred();
  Deallocate(object, call);
}

// The first lines are enough to find the fault; a program that frees by a wrong size mostly does so all the time.
constexpr std::uint32_t kMostNotes = 20;
std::atomic<std::uint32_t> notes = 0;

TARN_COLD void NoteSize(const char* call, const void* start, std::size_t object_bytes, std::size_t given_bytes) {
  if (notes.load(std::memory_order_relaxed) >= kMostNotes) return;
  if (notes.fetch_add(1, std::memory_order_relaxed) < kMostNotes) {
    NoteMisuse({.call = call,
                .address = start,
                .kind = Misuse::kWrongSize,
                .object_bytes = object_bytes,
                .given_bytes = given_bytes});
  }
}

// realloc leaves an object that shrinks where it is, so only what the object cannot hold is wrong.
bool HoldsBytes(const Object& object, std::size_t bytes) { return bytes <= object.bytes(); }

// The record of a checked object has the very size. The object may be free: the free that follows reports it.
TARN_COLD void CheckSize(const Object& object, std::size_t bytes, bool may_be_smaller, const char* call) {
  const std::size_t own_bytes = PeekCheckedBytes(object);
  if (bytes == own_bytes || (may_be_smaller && bytes < own_bytes)) return;
  NoteSize(call, object.start, own_bytes, bytes);
}

// operator new gives each size one class, or one number of pages.
bool IsNewFor(const Object& object, std::size_t bytes, std::size_t alignment) {
  const SizeClass expected_class = alignment == 0 ? NewSizeClass(bytes) : AlignedNewSizeClass(bytes, alignment);
  if (object.size_class != expected_class) return false;
  if (object.kind != Object::Kind::kLarge) return true;
  // A mapping of its own is rounded up to the kernel's pages.
  if (object.span->kind == SpanKind::kMapped) return bytes <= object.bytes();
  return object.span->pages == LargePages(bytes);
}

}  // namespace

void FreeSlow(void* pointer, const char* call) {
  if (pointer == nullptr) return;
  if (SanitizerServes()) [[unlikely]]
    return SanitizerFree(pointer);
  Free(Resolve(pointer, call), call);
}

void FreeSized(void* pointer, std::size_t bytes, const char* call) {
  if (pointer == nullptr) return;
  if (SanitizerServes()) [[unlikely]]
    return SanitizerFree(pointer);
  const Object object = Resolve(pointer, call);
  if (object.kind == Object::Kind::kChecked) {
    CheckSize(object, bytes, true, call);
  } else if (process_heap.checks() && !object.is_foreign()) {
    RequireStart(object, call);
    if (!HoldsBytes(object, bytes)) NoteSize(call, object.start, object.bytes(), bytes);
  }
  Free(object, call);
}

void DeleteSized(void* pointer, std::size_t bytes, std::size_t alignment, const char* call) {
  if (pointer == nullptr) return;
  if (SanitizerServes()) [[unlikely]]
    return SanitizerFree(pointer);
  const Object object = Resolve(pointer, call);
  if (object.kind == Object::Kind::kChecked) {
    CheckSize(object, bytes, false, call);
  } else if (process_heap.checks() && !object.is_foreign() && !IsNewFor(object, bytes, alignment)) {
    RequireStart(object, call);
    NoteSize(call, object.start, object.bytes(), bytes);
  }
  Free(object, call);
}

}  // namespace tarn
