// The replaceable operator new and delete of C++20 [new.delete]: twelve forms of delete, eight of new.
//
// When there is no memory the throwing forms call the new-handler until it gives up, then throw bad_alloc, both by way
// of the program's own C++ library: ours depends on libc alone. A program without one is told so and ended.
#include <cstddef>
#include <new>

#include "allocator/base/attributes.h"
#include "allocator/entry/fast_path.h"
#include "allocator/entry/new_miss.h"
#include "allocator/entry/slow_path.h"

namespace {

using tarn::NewMiss;
using tarn::NewMissNothrow;

TARN_ALWAYS_INLINE void* New(std::size_t bytes) {
  void* object;
  if (tarn::NewHit(bytes, &object)) [[likely]]
    return object;
  return NewMiss(bytes, 0);
}

TARN_ALWAYS_INLINE void* NewNothrow(std::size_t bytes) {
  void* object;
  if (tarn::NewHit(bytes, &object)) [[likely]]
    return object;
  return NewMissNothrow(bytes, 0);
}

TARN_NOINLINE void DeleteMiss(void* object) { tarn::FreeSlow(object, "operator delete"); }
TARN_NOINLINE void SizedDeleteMiss(void* object, std::size_t bytes) { tarn::DeleteSized(object, bytes, 0); }

TARN_ALWAYS_INLINE void Delete(void* object) {
  if (tarn::FreeHit(object)) [[likely]]
    return;
  DeleteMiss(object);
}

TARN_ALWAYS_INLINE void DeleteSized(void* object, std::size_t bytes) {
  if (tarn::SizedDeleteHit(object, bytes)) [[likely]]
    return;
  SizedDeleteMiss(object, bytes);
}

std::size_t Raw(std::align_val_t alignment) { return static_cast<std::size_t>(alignment); }

}  // namespace

TARN_EXPORT void* operator new(std::size_t bytes) { return New(bytes); }
TARN_EXPORT void* operator new[](std::size_t bytes) { return New(bytes); }
TARN_EXPORT void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return NewNothrow(bytes); }
TARN_EXPORT void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return NewNothrow(bytes); }

TARN_EXPORT void* operator new(std::size_t bytes, std::align_val_t alignment) { return NewMiss(bytes, Raw(alignment)); }
TARN_EXPORT void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return NewMiss(bytes, Raw(alignment));
}
TARN_EXPORT void* operator new(std::size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return NewMissNothrow(bytes, Raw(alignment));
}
TARN_EXPORT void* operator new[](std::size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return NewMissNothrow(bytes, Raw(alignment));
}

TARN_EXPORT void operator delete(void* object) noexcept { Delete(object); }
TARN_EXPORT void operator delete[](void* object) noexcept { Delete(object); }
TARN_EXPORT void operator delete(void* object, const std::nothrow_t&) noexcept { Delete(object); }
TARN_EXPORT void operator delete[](void* object, const std::nothrow_t&) noexcept { Delete(object); }
TARN_EXPORT void operator delete(void* object, std::size_t bytes) noexcept { DeleteSized(object, bytes); }
TARN_EXPORT void operator delete[](void* object, std::size_t bytes) noexcept { DeleteSized(object, bytes); }

TARN_EXPORT void operator delete(void* object, std::align_val_t) noexcept { Delete(object); }
TARN_EXPORT void operator delete[](void* object, std::align_val_t) noexcept { Delete(object); }
TARN_EXPORT void operator delete(void* object, std::align_val_t, const std::nothrow_t&) noexcept { Delete(object); }
TARN_EXPORT void operator delete[](void* object, std::align_val_t, const std::nothrow_t&) noexcept { Delete(object); }
TARN_EXPORT void operator delete(void* object, std::size_t bytes, std::align_val_t alignment) noexcept {
  tarn::DeleteSized(object, bytes, Raw(alignment));
}
TARN_EXPORT void operator delete[](void* object, std::size_t bytes, std::align_val_t alignment) noexcept {
  tarn::DeleteSized(object, bytes, Raw(alignment));
}
