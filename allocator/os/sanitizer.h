// SPDX-License-Identifier: Apache-2.0
//
// The malloc of a sanitizer whose runtime is in the process, and whether there is one.
//
// AddressSanitizer, LeakSanitizer, MemorySanitizer and ThreadSanitizer find their bugs by being the malloc of the
// process. Where libtarn.so is linked, the loader takes their malloc: their runtimes come first. Two cases are left:
// libtarn.a in a program that gcc built, whose runtimes are shared libraries behind the program, and libtarn.so
// preloaded before them. There the hit paths stay closed. The slow paths pass malloc, free and the others on to the
// sanitizer from the first call to the last. Objects are the sanitizer's in every program that has one.
//
// The runtimes offer their functions under second names, for programs that define malloc themselves
// (compiler-rt/lib/interception/interception.h): __interceptor_malloc and so on.
//
// sanitizer_none.cc stands in for sanitizer.cc in tarn's own builds with a sanitizer, where unit tests call tarn.
#pragma once

#include <cstddef>

extern "C" __attribute__((weak)) void* __interceptor_malloc(std::size_t bytes);

namespace tarn {

bool HasSanitizerFunctions();

// False in nearly every process, at the cost of one load.
inline bool MayHaveSanitizer() { return __interceptor_malloc != nullptr; }
// Does not change as long as the process lives. Where it is true, the functions below are there.
inline bool SanitizerServes() { return MayHaveSanitizer() && HasSanitizerFunctions(); }

// As the functions of libc. `alignment` is a power of two.
void* SanitizerMalloc(std::size_t bytes);
void* SanitizerCalloc(std::size_t bytes);
void* SanitizerRealloc(void* object, std::size_t bytes);
void* SanitizerMemalign(std::size_t alignment, std::size_t bytes);
void SanitizerFree(void* object);
std::size_t SanitizerUsableBytes(const void* object);

}  // namespace tarn
