// SPDX-License-Identifier: Apache-2.0
//
// A pointer that the program hands back, resolved: what it points to, and whose that is.
//
// A call resolves its pointer once, and everything after that asks the result.
//
// One owner per object: a free or realloc of an object that is not small first claims the object, by one atomic step. A
// program may call two of them for one object at once, which is misuse. The claim decides: one call goes on, each other
// one ends the process with a line, and no structure behind the claim is changed twice.
//
//   Large object:    PageMap::Claim replaces the page map's entry by null. The winner owns the record and the pages,
//                    and calls PageHeap::Deallocate, or resizes. While realloc has the claim, the map has no entry for
//                    the object. Disclaim puts the entry back, for the old or the new pages.
//   Sampled object:  The claim replaces the number of the object's sample by 0. A live object always has a number:
//                    kNoSample where the profile had no memory. realloc claims at its free of the old object.
//   Guarded object:  The claim changes the state of its place. As above, realloc claims at its free.
//
// A call may lose time between its look at the map and its claim, and another call may free the object then. If the
// pages or the record were handed out again, the claim fails (another record stands in the map), or the object there is
// a new one at the same address. The latter is a free of the new object: no allocator without tags in pointers can
// tell. A span record that was reused as another kind is seen by the second look of ClaimLarge. Records stay mapped for
// ever, so every look is safe.
//
// A fork while another thread has the claim: the child cannot free that object. Its owner is the thread that is gone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/base/attributes.h"
#include "allocator/base/units.h"
#include "allocator/misuse/guarded_objects.h"
#include "allocator/pages/page_map.h"
#include "allocator/pages/span.h"
#include "size_classes/size_classes.h"

namespace tarn {

struct Object {
  enum class Kind : std::uint8_t {
    kSmall,    // lies in a span of its class. That an object starts here is not known yet: see RequireStart
    kSampled,  // lies in a span of sampled objects of its class
    kLarge,    // has a span of its own
    kGuarded,  // is a live guarded object (misuse/guarded_objects.h)
    kChecked,  // has a record of the checked mode (heap/checked_objects.h); small or large
    kForeign,  // no memory of tarn's is or was there
  };

  void* start = nullptr;
  union {
    Span* span = nullptr;  // of kSampled, kLarge and kChecked
    GuardedPlace* place;   // of kGuarded
  };
  SizeClass size_class = 0;  // of all but kLarge and kChecked
  Kind kind = Kind::kForeign;

  bool is_foreign() const { return kind == Kind::kForeign; }
  // The bytes that the program may use. Not for foreign ones.
  std::size_t bytes() const {
    if (kind == Kind::kLarge) return span->bytes();
    return kind == Kind::kGuarded ? place->bytes.load(std::memory_order_relaxed) : kSizeClasses[size_class].size_bytes;
  }
};

// For pointers without a size class in the page map. Aborts when they point into memory that tarn has or had, but to no
// object.
TARN_NOINLINE Object ResolveUnclassed(void* pointer, const char* call);

// `call` is named when the pointer is misuse. Any bit pattern but null is valid. A small object costs one look at the
// page map.
inline Object Resolve(void* pointer, const char* call) {
  const SizeClass size_class = page_map.ClassOf(reinterpret_cast<std::uintptr_t>(pointer));
  if (size_class == 0) return ResolveUnclassed(pointer, call);
  return {pointer, {nullptr}, size_class, Object::Kind::kSmall};
}

// Aborts when the object is small and none of its class starts there, or when it is free already. Frees leave this to
// the central free list, where it costs no cache miss of its own.
void RequireStart(const Object& object, const char* call);

// Reports the misuse: no object starts at the pointer.
[[noreturn]] TARN_COLD void ReportBadPointer(const char* call, const void* pointer);

// Frees the object: gives it to its class's cache, or its span to the page heap. Aborts when it is free already. In a
// slow path that is not nested. Not for foreign ones.
void Deallocate(const Object& object, const char* call);

// Claims an object of kLarge; aborts when another call was first.
void ClaimLarge(const Object& object, const char* call);
// Ends a claim without a free: the object is as it was, or as the page heap has made it. Returns where it starts.
void* Disclaim(Span* span);
// Frees a large object that this call has claimed. In a slow path that is not nested.
void DeallocateClaimed(Span* span);

}  // namespace tarn
