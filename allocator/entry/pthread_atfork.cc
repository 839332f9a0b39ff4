// SPDX-License-Identifier: Apache-2.0
//
// pthread_atfork of programs that libtarn.a is linked into, in place of the one that libc links into them.
//
// In a program that libc is linked into, too, no function can stand in front of libc's __register_atfork: the linker
// takes one of them. So the lock is taken here. In other programs this function calls entry/register_atfork.cc, which
// takes the lock for their libraries, too. It is weak and hidden like libc's: a library does not use the program's.
#include "allocator/entry/register_atfork.h"

extern "C" {

const char* gnu_get_libc_version(void);
// LibcIsGlibcFrom refers to the function weakly, which links nothing into a program. This does.
[[gnu::used]] static const char* (*const libc_version)(void) = &gnu_get_libc_version;

int __register_atfork(void (*prepare)(), void (*parent)(), void (*child)(), void* handle);
// Of the program, or of the library that this is linked into. Source: glibc, nptl/pthread_atfork.c.
extern __attribute__((weak, visibility("hidden"))) void* __dso_handle;

__attribute__((weak, visibility("hidden"))) int pthread_atfork(void (*prepare)(), void (*parent)(), void (*child)()) {
  void* const handle = &__dso_handle == nullptr ? nullptr : __dso_handle;
  return tarn::RegisterBetweenForks(&__register_atfork, prepare, parent, child, handle);
}

}  // extern "C"
