// SPDX-License-Identifier: Apache-2.0
//
// Says whether this process allocates from tarn. Without this check every test here would pass
// without a word on glibc's malloc if the linker had dropped the library.
//
// TARN_TEST_ALLOW_ANY=1 in the environment accepts any allocator; it serves to try the tests
// themselves on another one.

#ifndef TARN_TESTS_ENTRY_ON_TARN_H_
#define TARN_TESTS_ENTRY_ON_TARN_H_

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "tests/entry/surface.h"

namespace tarn_test {

inline bool any_allocator_allowed() {
  const char* value = std::getenv("TARN_TEST_ALLOW_ANY");
  return value != nullptr && std::strcmp(value, "1") == 0;
}

// Empty when the function belongs to libtarn.so, or to the program itself, as it does where
// libtarn.a is linked in; otherwise the complaint. A program of position-independent code, as all
// tests here are, sees the true address of a function and not that of its own jump table.
inline std::string WhyNotFromTarn(const char* name, const void* function) {
  Dl_info theirs = {};
  Dl_info ours = {};
  if (function == nullptr || dladdr(function, &theirs) == 0 || theirs.dli_fname == nullptr) {
    return std::string(name) + " belongs to no loaded file; ";
  }
  static const char own_address = 0;
  if (dladdr(&own_address, &ours) != 0 && ours.dli_fbase == theirs.dli_fbase) return "";
  const char* slash = std::strrchr(theirs.dli_fname, '/');
  const char* file = slash == nullptr ? theirs.dli_fname : slash + 1;
  if (std::strncmp(file, "libtarn", 7) == 0) return "";
  return std::string(name) + " comes from " + theirs.dli_fname + "; ";
}

inline std::string WhyNotOnTarn() {
  const auto address = [](auto* function) { return reinterpret_cast<const void*>(function); };
  std::string why;
  why += WhyNotFromTarn("malloc", address(&malloc));
  why += WhyNotFromTarn("free", address(&free));
  why += WhyNotFromTarn("calloc", address(&calloc));
  why += WhyNotFromTarn("realloc", address(&realloc));
  why += WhyNotFromTarn("aligned_alloc", address(&aligned_alloc));
  why += WhyNotFromTarn("malloc_usable_size", address(&malloc_usable_size));
  why += WhyNotFromTarn("mallinfo2", address(&mallinfo2));
  why += WhyNotFromTarn("free_sized", address(&free_sized));
  why += WhyNotFromTarn("operator new", address(static_cast<void* (*)(size_t)>(&::operator new)));
  why += WhyNotFromTarn("operator delete", address(static_cast<void (*)(void*) noexcept>(&::operator delete)));
  return why;
}

}  // namespace tarn_test

#endif  // TARN_TESTS_ENTRY_ON_TARN_H_
