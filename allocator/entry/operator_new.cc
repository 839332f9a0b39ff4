// SPDX-License-Identifier: Apache-2.0
//
// The replaceable operator new and delete of C++20 [new.delete]: twelve forms of delete, eight of new.
//
// When there is no memory the throwing forms call the new-handler until it gives up, then throw bad_alloc. Both go by
// way of the program's C++ library: ours depends on libc alone. A program without one is ended with a line.
//
// A program may replace any of them. The others then go by the program's, see entry/replaced.h: the hit path is closed
// for them, and their slow path looks who is next. All are weak, so that libtarn.a can be linked into a program that
// defines some of them.
//
// The sized forms free by the object's own size and only note a wrong one, where checks are on: a delete through a base
// class without a virtual destructor gives the base's.
#include <cstddef>
#include <new>

#include "allocator/base/attributes.h"
#include "allocator/entry/fast_path.h"
#include "allocator/entry/free.h"
#include "allocator/entry/new_miss.h"
#include "allocator/entry/replaced.h"

#define TARN_OPERATOR TARN_EXPORT __attribute__((weak))

namespace {

using tarn::Function;
using tarn::NewMiss;
using tarn::Replaced;
using tarn::Request;

std::size_t Raw(std::align_val_t alignment) { return static_cast<std::size_t>(alignment); }

TARN_NOINLINE void* NewArrayMiss(std::size_t bytes) {
  return Replaced(Function::kNew) ? ::operator new(bytes) : NewMiss(bytes, 0, Request::kNewArray);
}

// --- Delete, from the forms that are defined by nothing else to those that are defined by them ----------------------

constexpr char kDelete[] = "operator delete";
constexpr char kDeleteArray[] = "operator delete[]";

void FreeAs(void* object, const char* call) {
  tarn::OpenOperators();
  Replaced(Function::kFree) ? tarn::bound::Free(object) : tarn::FreeSlow(object, call);
}

TARN_NOINLINE void DeleteMiss(void* object) { FreeAs(object, kDelete); }

TARN_NOINLINE void DerivedDeleteMiss(void* object) {
  Replaced(Function::kDelete) ? ::operator delete(object) : DeleteMiss(object);
}

TARN_NOINLINE void DeleteArrayMiss(void* object) {
  Replaced(Function::kDelete) ? ::operator delete(object) : FreeAs(object, kDeleteArray);
}

TARN_NOINLINE void DerivedDeleteArrayMiss(void* object) {
  Replaced(Function::kDeleteArray) ? ::operator delete[](object) : DeleteArrayMiss(object);
}

void SizedDelete(void* object, std::size_t bytes, const char* call) {
  if (Replaced(Function::kDelete)) return ::operator delete(object);
  tarn::OpenOperators();
  Replaced(Function::kFree) ? tarn::bound::Free(object) : tarn::DeleteSized(object, bytes, 0, call);
}

TARN_NOINLINE void SizedDeleteMiss(void* object, std::size_t bytes) { SizedDelete(object, bytes, kDelete); }

TARN_NOINLINE void SizedDeleteArrayMiss(void* object, std::size_t bytes) {
  Replaced(Function::kDeleteArray) ? ::operator delete[](object) : SizedDelete(object, bytes, kDeleteArray);
}

void AlignedDelete(void* object, const char* call) {
  tarn::OpenOperators();
  // Aligned objects are the program's where it has replaced a function that makes them.
  tarn::ReplacedAligned() ? tarn::bound::Free(object) : tarn::FreeSlow(object, call);
}

TARN_NOINLINE void AlignedDeleteMiss(void* object) { AlignedDelete(object, kDelete); }

TARN_NOINLINE void DerivedAlignedDeleteMiss(void* object, std::align_val_t alignment) {
  Replaced(Function::kDeleteAligned) ? ::operator delete(object, alignment) : AlignedDelete(object, kDelete);
}

TARN_NOINLINE void AlignedDeleteArrayMiss(void* object, std::align_val_t alignment) {
  Replaced(Function::kDeleteAligned) ? ::operator delete(object, alignment) : AlignedDelete(object, kDeleteArray);
}

TARN_NOINLINE void DerivedAlignedDeleteArrayMiss(void* object, std::align_val_t alignment) {
  Replaced(Function::kDeleteArrayAligned) ? ::operator delete[](object, alignment)
                                          : AlignedDeleteArrayMiss(object, alignment);
}

void SizedAlignedDelete(void* object, std::size_t bytes, std::align_val_t alignment, const char* call) {
  if (Replaced(Function::kDeleteAligned)) return ::operator delete(object, alignment);
  tarn::OpenOperators();
  tarn::ReplacedAligned() ? tarn::bound::Free(object) : tarn::DeleteSized(object, bytes, Raw(alignment), call);
}

void SizedAlignedDeleteArray(void* object, std::size_t bytes, std::align_val_t alignment) {
  Replaced(Function::kDeleteArrayAligned) ? ::operator delete[](object, alignment)
                                          : SizedAlignedDelete(object, bytes, alignment, kDeleteArray);
}

}  // namespace

// --- new -----------------------------------------------------------------------------------------------------------

TARN_OPERATOR void* operator new(std::size_t bytes) {
  void* object;
  if (tarn::NewHit(bytes, tarn::slab_table.new_limit_bytes, &object)) [[likely]]
    return object;
  return NewMiss(bytes, 0);
}

TARN_OPERATOR void* operator new[](std::size_t bytes) {
  void* object;
  if (tarn::NewHit(bytes, tarn::slab_table.derived_new_limit_bytes, &object)) [[likely]]
    return object;
  return NewArrayMiss(bytes);
}

TARN_OPERATOR void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  void* object;
  if (tarn::NewHit(bytes, tarn::slab_table.derived_new_limit_bytes, &object)) [[likely]]
    return object;
  return tarn::NewNothrowMiss(bytes);
}

TARN_OPERATOR void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept {
  void* object;
  if (tarn::NewHit(bytes, tarn::slab_table.derived_new_limit_bytes, &object)) [[likely]]
    return object;
  return tarn::NewArrayNothrowMiss(bytes);
}

TARN_OPERATOR void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return NewMiss(bytes, Raw(alignment));
}
TARN_OPERATOR void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return Replaced(Function::kNewAligned) ? ::operator new(bytes, alignment)
                                         : NewMiss(bytes, Raw(alignment), Request::kNewArray);
}
TARN_OPERATOR void* operator new(std::size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return tarn::NewNothrowAligned(bytes, alignment);
}
TARN_OPERATOR void* operator new[](std::size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return tarn::NewArrayNothrowAligned(bytes, alignment);
}

// --- delete --------------------------------------------------------------------------------------------------------

TARN_OPERATOR void operator delete(void* object) noexcept {
  if (tarn::DeleteHit(object, tarn::kDirectDelete)) [[likely]]
    return;
  DeleteMiss(object);
}
TARN_OPERATOR void operator delete[](void* object) noexcept {
  if (tarn::DeleteHit(object, tarn::kDirectDerivedDelete)) [[likely]]
    return;
  DeleteArrayMiss(object);
}
TARN_OPERATOR void operator delete(void* object, const std::nothrow_t&) noexcept {
  if (tarn::DeleteHit(object, tarn::kDirectDerivedDelete)) [[likely]]
    return;
  DerivedDeleteMiss(object);
}
TARN_OPERATOR void operator delete[](void* object, const std::nothrow_t&) noexcept {
  if (tarn::DeleteHit(object, tarn::kDirectDerivedDelete)) [[likely]]
    return;
  DerivedDeleteArrayMiss(object);
}
TARN_OPERATOR void operator delete(void* object, std::size_t bytes) noexcept {
  if (tarn::DeleteHit(object, tarn::kDirectSizedDelete)) [[likely]]
    return;
  SizedDeleteMiss(object, bytes);
}
TARN_OPERATOR void operator delete[](void* object, std::size_t bytes) noexcept {
  if (tarn::DeleteHit(object, tarn::kDirectSizedDelete)) [[likely]]
    return;
  SizedDeleteArrayMiss(object, bytes);
}

TARN_OPERATOR void operator delete(void* object, std::align_val_t) noexcept {
  if (tarn::DeleteHit(object, tarn::kDirectDerivedDelete)) [[likely]]
    return;
  AlignedDeleteMiss(object);
}
TARN_OPERATOR void operator delete[](void* object, std::align_val_t alignment) noexcept {
  if (tarn::DeleteHit(object, tarn::kDirectDerivedDelete)) [[likely]]
    return;
  AlignedDeleteArrayMiss(object, alignment);
}
TARN_OPERATOR void operator delete(void* object, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  if (tarn::DeleteHit(object, tarn::kDirectDerivedDelete)) [[likely]]
    return;
  DerivedAlignedDeleteMiss(object, alignment);
}
TARN_OPERATOR void operator delete[](void* object, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  if (tarn::DeleteHit(object, tarn::kDirectDerivedDelete)) [[likely]]
    return;
  DerivedAlignedDeleteArrayMiss(object, alignment);
}
TARN_OPERATOR void operator delete(void* object, std::size_t bytes, std::align_val_t alignment) noexcept {
  if (tarn::DeleteHit(object, tarn::kDirectSizedDelete)) [[likely]]
    return;
  SizedAlignedDelete(object, bytes, alignment, kDelete);
}
TARN_OPERATOR void operator delete[](void* object, std::size_t bytes, std::align_val_t alignment) noexcept {
  if (tarn::DeleteHit(object, tarn::kDirectSizedDelete)) [[likely]]
    return;
  SizedAlignedDeleteArray(object, bytes, alignment);
}

TARN_OWN_NAME(new, "_Znwm");
TARN_OWN_NAME(new_array, "_Znam");
TARN_OWN_NAME(new_aligned, "_ZnwmSt11align_val_t");
TARN_OWN_NAME(new_array_aligned, "_ZnamSt11align_val_t");
TARN_OWN_NAME(delete, "_ZdlPv");
TARN_OWN_NAME(delete_array, "_ZdaPv");
TARN_OWN_NAME(delete_aligned, "_ZdlPvSt11align_val_t");
TARN_OWN_NAME(delete_array_aligned, "_ZdaPvSt11align_val_t");
