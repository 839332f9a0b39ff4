// The one file of the library that knows exceptions: it is compiled with them, the others are not.
//
// The library depends on libc alone, so everything of the C++ run time is weak here, the personality routine included:
// a C program has none of it, and then nothing can throw either.
#include "allocator/entry/new_miss.h"

#include <new>

#include "allocator/entry/slow_path.h"
#include "allocator/os/crash.h"

// std::get_new_handler and std::__throw_bad_alloc, which libstdc++ (from GCC 4.9 on) and libc++ export.
extern "C" {
__attribute__((weak)) std::new_handler _ZSt15get_new_handlerv();
__attribute__((weak)) void _ZSt17__throw_bad_allocv();
}
// What the compilers refer to for the catch clause below: gcc the first four, clang std::terminate too.
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

void* TryNew(std::size_t bytes, std::size_t alignment) {
  return alignment == 0 ? AllocateSlow(bytes, Request::kNew) : AllocateAligned(bytes, alignment);
}

std::new_handler NewHandler() { return _ZSt15get_new_handlerv != nullptr ? _ZSt15get_new_handlerv() : nullptr; }

}  // namespace

// The loop of [new.delete.single]. The handler may throw; the exception passes through here.
void* NewMiss(std::size_t bytes, std::size_t alignment) {
  while (true) {
    if (void* object = TryNew(bytes, alignment)) return object;
    const std::new_handler handler = NewHandler();
    if (handler == nullptr) ThrowBadAlloc();
    handler();
  }
}

void* NewMissNothrow(std::size_t bytes, std::size_t alignment) noexcept {
  while (true) {
    if (void* object = TryNew(bytes, alignment)) return object;
    const std::new_handler handler = NewHandler();
    if (handler == nullptr) return nullptr;
    try {
      handler();
    } catch (...) {
      return nullptr;
    }
  }
}

}  // namespace tarn
