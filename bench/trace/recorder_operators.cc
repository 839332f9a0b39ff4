// SPDX-License-Identifier: Apache-2.0
//
// The operators of C++, under the names that the linker knows them by: defined as operators, the compiler would want
// them to be as the standard says, with exceptions and all. One that throws passes through these frames, which have
// nothing to clean up.
//
// A C program may load a C++ library with names of its own (python does with its modules). The C++ library's operators
// are then out of sight, and malloc does instead: that is what those are made of.

#include <dlfcn.h>
#include <malloc.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "bench/trace/call_log.h"

namespace tarn::trace {
namespace {

char not_found_yet;

// The next definition of `symbol`, or null. Two threads may search at once, and find the same: nothing hangs on the
// order, so it is relaxed.
void* FindOnce(std::atomic<void*>& cache, const char* symbol) {
  void* function = cache.load(std::memory_order_relaxed);
  if (function == &not_found_yet) [[unlikely]] {
    function = dlsym(RTLD_NEXT, symbol);
    cache.store(function, std::memory_order_relaxed);
  }
  return function;
}

void* NewWithoutNext(std::size_t bytes, std::size_t alignment, bool may_fail) {
  void* object = alignment == 0 ? malloc(bytes) : memalign(alignment, bytes);
  if (object == nullptr && !may_fail) {
    Say("libtarn_trace: operator new(%zu) has no memory, and no C++ library in sight to throw\n", bytes);
    std::abort();
  }
  return object;
}

template <typename... Arguments>
void* RecordNew(void* (*function)(Arguments...), std::size_t bytes, std::size_t alignment, bool may_fail,
                Arguments... arguments) {
  if (function == nullptr) return NewWithoutNext(bytes, alignment, may_fail);
  return RecordAllocation(alignment == 0 ? RecordKind::kMalloc : RecordKind::kAligned, alignment, bytes,
                          [&] { return function(arguments...); });
}

template <typename... Arguments>
void RecordDelete(void (*function)(void*, Arguments...), void* object, Arguments... arguments) {
  if (function == nullptr) return free(object);
  RecordFree(object);
  thread.deleting = object;
  function(object, arguments...);
  thread.deleting = nullptr;
}

}  // namespace
}  // namespace tarn::trace

using namespace tarn::trace;

#define NEXT(result, parameters, symbol)            \
  static std::atomic<void*> cache = &not_found_yet; \
  const auto next_function = reinterpret_cast<result(*) parameters>(FindOnce(cache, symbol))

#define DEFINE_NEW(name, symbol)                                 \
  extern "C" EXPORTED void* name(std::size_t bytes) asm(symbol); \
  void* name(std::size_t bytes) {                                \
    NEXT(void*, (std::size_t), symbol);                          \
    return RecordNew(next_function, bytes, 0, false, bytes);     \
  }

#define DEFINE_NEW_NOTHROW(name, symbol)                                              \
  extern "C" EXPORTED void* name(std::size_t bytes, const void* nothrow) asm(symbol); \
  void* name(std::size_t bytes, const void* nothrow) {                                \
    NEXT(void*, (std::size_t, const void*), symbol);                                  \
    return RecordNew(next_function, bytes, 0, true, bytes, nothrow);                  \
  }

#define DEFINE_NEW_ALIGNED(name, symbol)                                                \
  extern "C" EXPORTED void* name(std::size_t bytes, std::size_t alignment) asm(symbol); \
  void* name(std::size_t bytes, std::size_t alignment) {                                \
    NEXT(void*, (std::size_t, std::size_t), symbol);                                    \
    return RecordNew(next_function, bytes, alignment, false, bytes, alignment);         \
  }

#define DEFINE_NEW_ALIGNED_NOTHROW(name, symbol)                                                             \
  extern "C" EXPORTED void* name(std::size_t bytes, std::size_t alignment, const void* nothrow) asm(symbol); \
  void* name(std::size_t bytes, std::size_t alignment, const void* nothrow) {                                \
    NEXT(void*, (std::size_t, std::size_t, const void*), symbol);                                            \
    return RecordNew(next_function, bytes, alignment, true, bytes, alignment, nothrow);                      \
  }

DEFINE_NEW(New, "_Znwm")
DEFINE_NEW(NewArray, "_Znam")
DEFINE_NEW_NOTHROW(NewNothrow, "_ZnwmRKSt9nothrow_t")
DEFINE_NEW_NOTHROW(NewArrayNothrow, "_ZnamRKSt9nothrow_t")
DEFINE_NEW_ALIGNED(NewAligned, "_ZnwmSt11align_val_t")
DEFINE_NEW_ALIGNED(NewArrayAligned, "_ZnamSt11align_val_t")
DEFINE_NEW_ALIGNED_NOTHROW(NewAlignedNothrow, "_ZnwmSt11align_val_tRKSt9nothrow_t")
DEFINE_NEW_ALIGNED_NOTHROW(NewArrayAlignedNothrow, "_ZnamSt11align_val_tRKSt9nothrow_t")

#define DEFINE_DELETE(name, symbol)                        \
  extern "C" EXPORTED void name(void* object) asm(symbol); \
  void name(void* object) {                                \
    NEXT(void, (void*), symbol);                           \
    RecordDelete(next_function, object);                   \
  }

// The second argument is a size, an alignment or the address of std::nothrow: one register in any case.
#define DEFINE_DELETE_2(name, symbol)                                             \
  extern "C" EXPORTED void name(void* object, std::uintptr_t second) asm(symbol); \
  void name(void* object, std::uintptr_t second) {                                \
    NEXT(void, (void*, std::uintptr_t), symbol);                                  \
    RecordDelete(next_function, object, second);                                  \
  }

#define DEFINE_DELETE_3(name, symbol)                                                                   \
  extern "C" EXPORTED void name(void* object, std::uintptr_t second, std::uintptr_t third) asm(symbol); \
  void name(void* object, std::uintptr_t second, std::uintptr_t third) {                                \
    NEXT(void, (void*, std::uintptr_t, std::uintptr_t), symbol);                                        \
    RecordDelete(next_function, object, second, third);                                                 \
  }

DEFINE_DELETE(Delete, "_ZdlPv")
DEFINE_DELETE(DeleteArray, "_ZdaPv")
DEFINE_DELETE_2(DeleteSized, "_ZdlPvm")
DEFINE_DELETE_2(DeleteArraySized, "_ZdaPvm")
DEFINE_DELETE_2(DeleteNothrow, "_ZdlPvRKSt9nothrow_t")
DEFINE_DELETE_2(DeleteArrayNothrow, "_ZdaPvRKSt9nothrow_t")
DEFINE_DELETE_2(DeleteAligned, "_ZdlPvSt11align_val_t")
DEFINE_DELETE_2(DeleteArrayAligned, "_ZdaPvSt11align_val_t")
DEFINE_DELETE_3(DeleteSizedAligned, "_ZdlPvmSt11align_val_t")
DEFINE_DELETE_3(DeleteArraySizedAligned, "_ZdaPvmSt11align_val_t")
DEFINE_DELETE_3(DeleteAlignedNothrow, "_ZdlPvSt11align_val_tRKSt9nothrow_t")
DEFINE_DELETE_3(DeleteArrayAlignedNothrow, "_ZdaPvSt11align_val_tRKSt9nothrow_t")

// C23's; where the allocator has none, free does instead.
extern "C" EXPORTED void free_sized(void* object, std::size_t bytes) {
  NEXT(void, (void*, std::size_t), "free_sized");
  RecordDelete(next_function, object, bytes);
}

extern "C" EXPORTED void free_aligned_sized(void* object, std::size_t alignment, std::size_t bytes) {
  NEXT(void, (void*, std::size_t, std::size_t), "free_aligned_sized");
  RecordDelete(next_function, object, alignment, bytes);
}
