// SPDX-License-Identifier: Apache-2.0
//
// A program whose malloc counts and passes on to the next one in the order of search, which is tarn's: the usual way to
// watch a program's allocations. Its objects have a header, so that a caller that goes past it frees a wrong pointer.
//
// Exits with 0 if the operators and the derived functions are counted.

#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cstddef>
#include <memory>
#include <new>

namespace {

constexpr std::size_t kHeader = 16;

int g_mallocs = 0;
int g_frees = 0;

#define REQUIRE(condition)                                       \
  do {                                                           \
    if (!(condition)) {                                          \
      dprintf(2, "line %d: not so: %s\n", __LINE__, #condition); \
      _exit(1);                                                  \
    }                                                            \
  } while (false)

template <typename Function>
Function* Next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

void* Opaque(void* pointer) {
  asm volatile("" : "+r"(pointer) : : "memory");
  return pointer;
}

}  // namespace

extern "C" {
void* malloc(std::size_t bytes) noexcept {
  static auto* const next = Next<void*(std::size_t)>("malloc");
  char* object = static_cast<char*>(next(bytes + kHeader));
  if (object == nullptr) return nullptr;
  ++g_mallocs;
  memset(object, 0x5a, kHeader);
  return object + kHeader;
}
void free(void* object) noexcept {
  static auto* const next = Next<void(void*)>("free");
  if (object == nullptr) return;
  ++g_frees;
  char* const start = static_cast<char*>(object) - kHeader;
  for (std::size_t i = 0; i < kHeader; ++i) REQUIRE(start[i] == 0x5a);
  next(start);
}
void* calloc(std::size_t count, std::size_t bytes) noexcept {
  void* object = malloc(count * bytes);
  return object == nullptr ? nullptr : memset(object, 0, count * bytes);
}
void* realloc(void* object, std::size_t bytes) noexcept {
  static auto* const usable = Next<std::size_t(void*)>("malloc_usable_size");
  void* moved = malloc(bytes);
  if (object == nullptr) return moved;
  const std::size_t old_bytes = usable(static_cast<char*>(object) - kHeader) - kHeader;
  memcpy(moved, object, old_bytes < bytes ? old_bytes : bytes);
  free(object);
  return moved;
}
}

int main() {
  const auto counted = [](auto call) {
    const int mallocs = g_mallocs;
    const int frees = g_frees;
    call();
    return g_mallocs - mallocs == g_frees - frees && g_mallocs != mallocs;
  };
  for (int round = 0; round < 2; ++round) {
    REQUIRE(counted([] { ::operator delete(Opaque(::operator new(100))); }));
    REQUIRE(counted([] { ::operator delete (Opaque(::operator new(100)), std::size_t{100}); }));
    REQUIRE(counted([] { ::operator delete[](Opaque(::operator new[](100))); }));
    REQUIRE(counted([] { ::operator delete(Opaque(::operator new(1000000, std::nothrow))); }));
    REQUIRE(counted([] { free(Opaque(reallocarray(malloc(10), 10, 10))); }));
    // The aligned functions are not the program's: both ends are tarn's.
    REQUIRE(
        !counted([] { ::operator delete (Opaque(::operator new (100, std::align_val_t{64})), std::align_val_t{64}); }));
  }
  return 0;
}
