// SPDX-License-Identifier: Apache-2.0
//
// A program that replaces some of the operators only, as leak counters do: its objects stand 16 bytes behind what it
// got from malloc, so that a call past its operators frees a wrong pointer. Which operators, OWN_FORMS says:
//
//   1  the two basic forms
//   2  these, and those for arrays
//   3  the two basic aligned forms
//
// Exits with 0 if each other form goes by the program's, as [new.delete.single] and [new.delete.array] say.

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <new>

namespace {

constexpr std::size_t kShift = 64;

int g_single = 0;
int g_array = 0;
int g_single_deletes = 0;
int g_array_deletes = 0;
bool g_refuses = false;

#define REQUIRE(condition)                                            \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "line %d: not so: %s\n", __LINE__, #condition); \
      _exit(1);                                                       \
    }                                                                 \
  } while (false)

// Keeps the compiler from knowing that one call undoes the other.
void* Opaque(void* pointer) {
  asm volatile("" : "+r"(pointer) : : "memory");
  return pointer;
}

void* Allocate(std::size_t bytes, int* count) {
  if (g_refuses) throw std::bad_alloc();
  ++*count;
  char* const object = static_cast<char*>(aligned_alloc(kShift, (bytes + kShift) / kShift * kShift + kShift));
  if (object == nullptr) throw std::bad_alloc();
  return object + kShift;
}

void Free(void* object, int* count) {
  if (object == nullptr) return;
  ++*count;
  free(static_cast<char*>(object) - kShift);
}

}  // namespace

#if OWN_FORMS == 1 || OWN_FORMS == 2
void* operator new(std::size_t bytes) { return Allocate(bytes, &g_single); }
void operator delete(void* object) noexcept { Free(object, &g_single_deletes); }
#endif
#if OWN_FORMS == 2
void* operator new[](std::size_t bytes) { return Allocate(bytes, &g_array); }
void operator delete[](void* object) noexcept { Free(object, &g_array_deletes); }
#endif
#if OWN_FORMS == 3
void* operator new(std::size_t bytes, std::align_val_t) { return Allocate(bytes, &g_single); }
void operator delete(void* object, std::align_val_t) noexcept { Free(object, &g_single_deletes); }
#endif

namespace {

template <typename New, typename Delete>
void Try(const char* name, bool is_array, New make, Delete destroy) {
  int* const made = is_array && OWN_FORMS == 2 ? &g_array : &g_single;
  int* const destroyed = is_array && OWN_FORMS == 2 ? &g_array_deletes : &g_single_deletes;
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{100}, std::size_t{5000}, std::size_t{1} << 20}) {
    // Twice: the first one may come before tarn has looked.
    for (int i = 0; i < 2; ++i) {
      const int made_before = *made;
      const int destroyed_before = *destroyed;
      void* object = Opaque(make(bytes));
      if (*made != made_before + 1) fprintf(stderr, "%s of %zu bytes: not made by the program's\n", name, bytes);
      REQUIRE(*made == made_before + 1);
      destroy(object, bytes);
      if (*destroyed != destroyed_before + 1) fprintf(stderr, "%s of %zu bytes: not freed by it\n", name, bytes);
      REQUIRE(*destroyed == destroyed_before + 1);
    }
  }
}

}  // namespace

int main() {
  using std::nothrow;
#if OWN_FORMS == 3
  constexpr std::align_val_t kAlignment{64};
  const auto single = [](std::size_t n) { return ::operator new(n, kAlignment); };
  Try("new and sized delete", false, single, [](void* p, std::size_t n) { ::operator delete(p, n, kAlignment); });
  Try("new and nothrow delete", false, single, [](void* p, std::size_t) { ::operator delete(p, kAlignment, nothrow); });
  Try(
      "nothrow new and delete", false, [](std::size_t n) { return ::operator new(n, kAlignment, nothrow); },
      [](void* p, std::size_t) { ::operator delete(p, kAlignment); });
  const auto array = [](std::size_t n) { return ::operator new[](n, kAlignment); };
  Try("new[] and delete[]", true, array, [](void* p, std::size_t) { ::operator delete[](p, kAlignment); });
  Try("new[] and sized delete[]", true, array, [](void* p, std::size_t n) { ::operator delete[](p, n, kAlignment); });
  Try(
      "nothrow new[] and nothrow delete[]", true,
      [](std::size_t n) { return ::operator new[](n, kAlignment, nothrow); },
      [](void* p, std::size_t) { ::operator delete[](p, kAlignment, nothrow); });
  // The forms without an alignment are tarn's still.
  ::operator delete (Opaque(::operator new(100)), std::size_t{100});
  ::operator delete[](Opaque(::operator new[](100)));
  g_refuses = true;
  REQUIRE(Opaque(::operator new(100, kAlignment, nothrow)) == nullptr);
  REQUIRE(Opaque(::operator new[](100, kAlignment, nothrow)) == nullptr);
#else
  const auto single = [](std::size_t n) { return ::operator new(n); };
  Try("new and sized delete", false, single, [](void* p, std::size_t n) { ::operator delete(p, n); });
  Try("new and nothrow delete", false, single, [](void* p, std::size_t) { ::operator delete(p, nothrow); });
  Try(
      "nothrow new and delete", false, [](std::size_t n) { return ::operator new(n, nothrow); },
      [](void* p, std::size_t) { ::operator delete(p); });
  const auto array = [](std::size_t n) { return ::operator new[](n); };
  Try("new[] and delete[]", true, array, [](void* p, std::size_t) { ::operator delete[](p); });
  Try("new[] and sized delete[]", true, array, [](void* p, std::size_t n) { ::operator delete[](p, n); });
  Try(
      "nothrow new[] and nothrow delete[]", true, [](std::size_t n) { return ::operator new[](n, nothrow); },
      [](void* p, std::size_t) { ::operator delete[](p, nothrow); });
  // The aligned forms are defined by nothing that is replaced.
  ::operator delete (Opaque(::operator new (100, std::align_val_t{64})), std::size_t{100}, std::align_val_t{64});
  g_refuses = true;
  REQUIRE(Opaque(::operator new(100, nothrow)) == nullptr);
  REQUIRE(Opaque(::operator new[](100, nothrow)) == nullptr);
  bool thrown = false;
  try {
    Opaque(::operator new[](100));
  } catch (const std::bad_alloc&) {
    thrown = true;
  }
  REQUIRE(thrown);
#endif
  return 0;
}
