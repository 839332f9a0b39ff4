// SPDX-License-Identifier: Apache-2.0
//
// The one file of the library that knows exceptions: it is compiled with them, the others are not.
//
// The library depends on libc alone, so everything of the C++ run time is weak here, the personality routine included:
// a C program has none of it, and then nothing can throw either.
#include "allocator/entry/new_miss.h"

#include <algorithm>
#include <cstddef>
#include <new>

#include "allocator/cpu_cache/slab.h"
#include "allocator/entry/replaced.h"
#include "allocator/os/crash.h"

// std::get_new_handler and std::__throw_bad_alloc, which libstdc++ (from GCC 4.9 on) and libc++ export.
extern "C" {
__attribute__((weak)) std::new_handler _ZSt15get_new_handlerv();
__attribute__((weak)) void _ZSt17__throw_bad_allocv();
}
// The symbols that compilers refer to for the catch clause below: gcc the first four, clang std::terminate too.
asm(".weak __gxx_personality_v0\n"
    ".weak __cxa_begin_catch\n"
    ".weak __cxa_end_catch\n"
    ".weak _Unwind_Resume\n"
    ".weak _ZSt9terminatev\n");

namespace tarn {

namespace {

[[noreturn]] TARN_COLD void ThrowBadAlloc() {
  if (_ZSt17__throw_bad_allocv != nullptr) _ZSt17__throw_bad_allocv();
  WriteToStderr("tarn: fatal: operator new: out of memory, and no C++ library to throw bad_alloc\n");
  __builtin_trap();
}

void* TryNew(std::size_t bytes, std::size_t alignment, Request request) {
  if (alignment != 0) {
    if (!ReplacedAligned()) return AllocateAligned(bytes, alignment, request);
    return bound::AllocateAligned(std::max(alignment, sizeof(void*)), std::max<std::size_t>(bytes, 1));
  }
  // Malloc may answer null to 0 bytes.
  if (Replaced(Function::kMalloc)) return bound::Malloc(std::max<std::size_t>(bytes, 1));
  void* object = AllocateSlow(bytes, request);
  // The first one has started the heap.
  if (slab_table.new_limit_bytes == 0) OpenOperators();
  return object;
}

std::new_handler NewHandler() { return _ZSt15get_new_handlerv != nullptr ? _ZSt15get_new_handlerv() : nullptr; }

}  // namespace

// The loop of [new.delete.single]. The handler may throw; the exception passes through here.
void* NewMiss(std::size_t bytes, std::size_t alignment, Request request) {
  while (true) {
    if (void* object = TryNew(bytes, alignment, request)) return object;
    const std::new_handler handler = NewHandler();
    if (handler == nullptr) ThrowBadAlloc();
    handler();
  }
}

namespace {

void* NewMissNothrow(std::size_t bytes, std::size_t alignment, Request request = Request::kNew) noexcept {
  while (true) {
    if (void* object = TryNew(bytes, alignment, request)) return object;
    const std::new_handler handler = NewHandler();
    if (handler == nullptr) return nullptr;
    try {
      handler();
    } catch (...) {
      return nullptr;
    }
  }
}

// Calls the program's operator; null where it throws.
template <typename New>
void* OrNull(New program_new) noexcept {
  try {
    return program_new();
  } catch (...) {
    return nullptr;
  }
}

}  // namespace

void* NewNothrowMiss(std::size_t bytes) noexcept {
  if (!Replaced(Function::kNew)) return NewMissNothrow(bytes, 0);
  return OrNull([=] { return ::operator new(bytes); });
}

void* NewArrayNothrowMiss(std::size_t bytes) noexcept {
  if (!Replaced(Function::kNewArray)) {
    return Replaced(Function::kNew) ? NewNothrowMiss(bytes) : NewMissNothrow(bytes, 0, Request::kNewArray);
  }
  return OrNull([=] { return ::operator new[](bytes); });
}

void* NewNothrowAligned(std::size_t bytes, std::align_val_t alignment) noexcept {
  if (!Replaced(Function::kNewAligned)) return NewMissNothrow(bytes, static_cast<std::size_t>(alignment));
  return OrNull([=] { return ::operator new(bytes, alignment); });
}

void* NewArrayNothrowAligned(std::size_t bytes, std::align_val_t alignment) noexcept {
  if (!Replaced(Function::kNewArrayAligned)) {
    return Replaced(Function::kNewAligned)
               ? NewNothrowAligned(bytes, alignment)
               : NewMissNothrow(bytes, static_cast<std::size_t>(alignment), Request::kNewArray);
  }
  return OrNull([=] { return ::operator new[](bytes, alignment); });
}

}  // namespace tarn
