// SPDX-License-Identifier: Apache-2.0
//
// System calls made directly, past the functions of libc.
//
// Everything in allocator/os/ that asks the kernel goes through here, for three reasons. A program may define mmap,
// clock_gettime, prctl and their like itself (libfaketime, sandboxes, recorders). Such a function may allocate, or need
// thread-local memory that a bare thread (bare_thread.h) has not. Sanitizers intercept the same functions, and their
// interceptors are not ready before main. And open, read, write and others are cancellation points in libc, which
// functions of an allocator must not be.
//
//   long SystemCall(long number, arguments...)
//
// returns what the kernel returns: a negative number -E for the error E of errno.h, anything else on success. errno is
// neither read nor changed. Integers, enumerations and pointers are passed as they are; what is left out is 0.
//
// What os/ still takes from libc, because libc itself is needed: its registration of fork handlers, exit handlers and
// thread-local destructors; pthread_create and its attributes, for threads that libc knows; sigaction, because
// libraries that chain handlers (the JVM's libjsig) have to see ours; abort; getauxval, environ, errno and the
// variables by which libc reports itself (__libc_stack_end, __rseq_offset); and memcpy, strlen and the like, which
// compilers call by themselves. The test `interposable_calls` holds the list.
#pragma once

#include <sys/syscall.h>

#include <type_traits>

#if defined(TARN_HOOKED_SYSTEM_CALLS)
#include "allocator/os/system_call_hooked.h"
#elif defined(__x86_64__) && defined(__LP64__)
#include "allocator/os/system_call_x86_64.h"
#else
#include "allocator/os/system_call_portable.h"
#endif

namespace tarn {

// A system call's argument as a register holds it.
template <typename T>
long SystemCallWord(T value) {
  if constexpr (std::is_null_pointer_v<T>) {
    return 0;
  } else if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<long>(value);
  } else {
    static_assert((std::is_integral_v<T> || std::is_enum_v<T>)&&sizeof(T) <= sizeof(long));
    return static_cast<long>(value);
  }
}

template <typename... Arguments>
long SystemCall(long number, Arguments... arguments) {
  return SystemCallByWords(number, SystemCallWord(arguments)...);
}

}  // namespace tarn
