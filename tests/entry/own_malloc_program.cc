// SPDX-License-Identifier: Apache-2.0
//
// A program with a malloc of its own, as glibc's manual describes it ("Replacing malloc"), and tarn in the process. Its
// objects lie in one array, so that it sees whose a pointer is. It ends when it is given a pointer that is not its own.
//
// Exits with 0 if all functions and operators that it does not define go by those that it does.

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <vector>

// Weak, since libc does not have them: the preloaded library does.
extern "C" {
__attribute__((weak)) void free_sized(void* object, std::size_t bytes) noexcept;
__attribute__((weak)) void free_aligned_sized(void* object, std::size_t alignment, std::size_t bytes) noexcept;
__attribute__((weak)) void cfree(void* object) noexcept;
}

namespace {

alignas(4096) char g_heap[64 << 20];
std::atomic<std::size_t> g_used = 0;
std::atomic<int> g_frees = 0;

#define REQUIRE(condition)                                       \
  do {                                                           \
    if (!(condition)) {                                          \
      dprintf(2, "line %d: not so: %s\n", __LINE__, #condition); \
      _exit(1);                                                  \
    }                                                            \
  } while (false)

bool IsMine(const void* object) { return object >= g_heap && object < g_heap + sizeof(g_heap); }

// The size stands in the eight bytes before the object.
void* Take(std::size_t alignment, std::size_t bytes) {
  if (alignment < 16) alignment = 16;
  const std::size_t start = g_used.fetch_add(bytes + alignment + 32);
  REQUIRE(start + bytes + alignment + 32 <= sizeof(g_heap));
  const auto address = (reinterpret_cast<std::uintptr_t>(g_heap) + start + 16 + alignment - 1) / alignment * alignment;
  reinterpret_cast<std::size_t*>(address)[-1] = bytes;
  return reinterpret_cast<void*>(address);
}

std::size_t SizeOf(const void* object) { return static_cast<const std::size_t*>(object)[-1]; }

}  // namespace

extern "C" {
void* malloc(std::size_t bytes) noexcept { return Take(16, bytes); }
void free(void* object) noexcept {
  if (object == nullptr) return;
  REQUIRE(IsMine(object));
  ++g_frees;
}
void* calloc(std::size_t count, std::size_t bytes) noexcept { return Take(16, count * bytes); }
void* realloc(void* object, std::size_t bytes) noexcept {
  void* moved = Take(16, bytes);
  if (object == nullptr) return moved;
  REQUIRE(IsMine(object));
  memcpy(moved, object, SizeOf(object) < bytes ? SizeOf(object) : bytes);
  ++g_frees;
  return moved;
}
void* memalign(std::size_t alignment, std::size_t bytes) noexcept { return Take(alignment, bytes); }
void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept { return Take(alignment, bytes); }
int posix_memalign(void** result, std::size_t alignment, std::size_t bytes) noexcept {
  *result = Take(alignment, bytes);
  return 0;
}
}

namespace {

void* Opaque(void* pointer) {
  asm volatile("" : "+r"(pointer) : : "memory");
  return pointer;
}

// Takes an object that `make` has made, which must be the program's, and frees it, which must come to the program.
template <typename Free>
void Try(int line, void* object, std::size_t alignment, Free destroy) {
  const int frees = g_frees;
  object = Opaque(object);
  if (!IsMine(object)) dprintf(2, "line %d: the object is another's\n", line);
  REQUIRE(IsMine(object) && reinterpret_cast<std::uintptr_t>(object) % alignment == 0);
  destroy(object);
  if (g_frees != frees + 1) dprintf(2, "line %d: not freed by the program\n", line);
  REQUIRE(g_frees == frees + 1);
}
#define TRY(make, alignment, destroy) Try(__LINE__, make, alignment, [](void* p) { destroy; })

}  // namespace

int main() {
  constexpr std::align_val_t k64{64};
  constexpr std::align_val_t k4096{4096};
  using std::nothrow;
  for (int round = 0; round < 2; ++round) {
    TRY(strdup("a copy"), 1, free(p));
    TRY(reallocarray(malloc(10), 10, 10), 16, cfree(p));
    TRY(reallocarray(nullptr, 10, 10), 16, free_sized(p, 100));
    TRY(valloc(100), 4096, free_aligned_sized(p, 4096, 100));
    TRY(pvalloc(5000), 4096, free(p));
    TRY(::operator new(100), 16, ::operator delete(p));
    TRY(::operator new(100), 16, ::operator delete (p, std::size_t{100}));
    TRY(::operator new(0), 1, ::operator delete(p));
    TRY(::operator new(1 << 20), 16, ::operator delete(p, nothrow));
    TRY(::operator new(100, nothrow), 16, ::operator delete(p));
    TRY(::operator new[](100), 16, ::operator delete[](p));
    TRY(::operator new[](100, nothrow), 16, ::operator delete[](p, std::size_t{100}));
    TRY(::operator new[](100), 16, ::operator delete[](p, nothrow));
    TRY(::operator new(100, k64), 64, ::operator delete(p, k64));
    TRY(::operator new(100, k4096, nothrow), 4096, ::operator delete (p, std::size_t{100}, k4096));
    TRY(::operator new[](100, k64), 64, ::operator delete[](p, k64));
    TRY(::operator new[](100, k64, nothrow), 64, ::operator delete[](p, std::size_t{100}, k64));
    TRY(::operator new[](100, k4096), 4096, ::operator delete[](p, k4096, nothrow));
  }
  // Code of the C and C++ libraries.
  std::vector<std::string> strings;
  for (std::size_t i = 0; i < 1000; ++i) strings.push_back(std::string(100 + i, 'x'));
  char* line = nullptr;
  std::size_t capacity = 0;
  FILE* file = fopen("/proc/self/maps", "r");
  REQUIRE(file != nullptr);
  while (getline(&line, &capacity, file) > 0) {
  }
  free(line);
  fclose(file);
  return 0;
}
