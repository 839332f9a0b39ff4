// SPDX-License-Identifier: Apache-2.0
//
// tarn/heap.h: a heap for a subsystem or a tenant.
//
//   tarn::Heap heap({.name = "plugin", .limit_bytes = 64 << 20});
//   void* object = heap.Allocate(100);             // from any thread
//   heap.Free(object);                             // from any thread
//   std::pmr::vector<int> v(&heap);
//   heap.FreeAll();                                // or the heap's end: everything at once
//
// malloc's semantics, with spans that hold this heap's objects alone, a limit and figures. FreeAll ends all objects in
// time proportional to the number of spans. Misuse ends the process with a line on stderr: free() of an object of a
// heap, and Free of an object that is not this heap's. So does a second Free, when the object reaches its span, or at
// the call with `checked`.
//
// Threads: any, at the same time; the common case takes neither a lock nor an atomic instruction. FreeAll and the
// heap's end want all others to be done. Objects are aligned to 16 bytes at least. Zero bytes are one. Refused (limit,
// no memory, sizes beyond PTRDIFF_MAX): Allocate throws std::bad_alloc, TryAllocate and the C functions return null.
// The limit counts the pages of spans, so a heap needs some 64 KiB for each size that it uses.
//
// For C and C++. With TARN_C_INTERFACE_ONLY defined, a C++ program gets what a C program gets.
#ifndef TARN_HEAP_H
#define TARN_HEAP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tarn_heap tarn_heap;

// All zero is a valid choice.
typedef struct tarn_heap_options {
  const char* name;    // null: the heap does not appear in statistics (tarn/registry.h)
  size_t limit_bytes;  // of spans; 0: none
  int checked;  // non-zero, or TARN_CHECK=on: every misuse is seen at the call, and left objects are reported; slow
} tarn_heap_options;

typedef struct tarn_heap_stats {
  size_t live_objects;  // exact while no other call is under way
  size_t live_bytes;    // of their size classes, or pages
  size_t span_bytes;    // bounded by the limit
  uint64_t allocations;
  uint64_t frees;
} tarn_heap_stats;

// `options` may be null. Null with errno ENOMEM.
tarn_heap* tarn_heap_create(const tarn_heap_options* options);
// Null is ignored.
void tarn_heap_destroy(tarn_heap* heap);
// `alignment` is a power of two, or 0 for 16. Null with errno EINVAL when it is above 16 and no power of two.
void* tarn_heap_allocate(tarn_heap* heap, size_t bytes, size_t alignment);
// As realloc, for objects with an alignment of up to 16. On null the old object is as it was.
void* tarn_heap_reallocate(tarn_heap* heap, void* object, size_t bytes);
// Null is ignored.
void tarn_heap_free(tarn_heap* heap, void* object);
void tarn_heap_free_all(tarn_heap* heap);
// The size of the object, at least what was requested.
size_t tarn_heap_usable_bytes(tarn_heap* heap, const void* object);
tarn_heap_stats tarn_heap_get_stats(tarn_heap* heap);

#ifdef __cplusplus
}  // extern "C"
#endif

#if defined(__cplusplus) && !defined(TARN_C_INTERFACE_ONLY)

#include <memory>
#include <memory_resource>
#include <new>
#include <utility>

#include <tarn/bad_alloc.h>

namespace tarn {

struct HeapOptions {
  const char* name = nullptr;
  std::size_t limit_bytes = 0;
  bool checked = false;
};

class Heap final : public std::pmr::memory_resource {
 public:
  // Destroys the object and gives its memory back: for std::unique_ptr.
  template <typename T>
  struct Deleter {
    Heap* heap;
    void operator()(T* object) const { heap->Destroy(object); }
  };
  template <typename T>
  using Pointer = std::unique_ptr<T, Deleter<T>>;

  explicit Heap(const HeapOptions& options = {}) {
    const tarn_heap_options c_options = {options.name, options.limit_bytes, options.checked ? 1 : 0};
    heap_ = tarn_heap_create(&c_options);
    if (heap_ == nullptr) ThrowBadAlloc();
  }
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;
  ~Heap() override { tarn_heap_destroy(heap_); }

  [[nodiscard]] void* TryAllocate(std::size_t bytes, std::size_t alignment = alignof(std::max_align_t)) noexcept {
    return tarn_heap_allocate(heap_, bytes, alignment);
  }
  [[nodiscard]] void* Allocate(std::size_t bytes, std::size_t alignment = alignof(std::max_align_t)) {
    void* object = TryAllocate(bytes, alignment);
    if (object == nullptr) [[unlikely]]
      ThrowRefused(alignment);
    return object;
  }
  [[nodiscard]] void* TryReallocate(void* object, std::size_t bytes) noexcept {
    return tarn_heap_reallocate(heap_, object, bytes);
  }
  void Free(void* object) noexcept { tarn_heap_free(heap_, object); }

  template <typename T, typename... Arguments>
  [[nodiscard]] T* Create(Arguments&&... arguments) {
    Undo undo{this, Allocate(sizeof(T), alignof(T))};
    T* object = ::new (undo.memory) T(std::forward<Arguments>(arguments)...);
    undo.memory = nullptr;
    return object;
  }
  template <typename T>
  void Destroy(T* object) {
    if (object == nullptr) return;
    // The memory goes back after a destructor that throws, too, as with delete.
    const Undo free_at_end{this, object};
    object->~T();
  }
  template <typename T, typename... Arguments>
  [[nodiscard]] Pointer<T> CreateUnique(Arguments&&... arguments) {
    return Pointer<T>(Create<T>(std::forward<Arguments>(arguments)...), Deleter<T>{this});
  }

  // No destructor runs.
  void FreeAll() { tarn_heap_free_all(heap_); }
  [[nodiscard]] std::size_t UsableBytes(const void* object) const { return tarn_heap_usable_bytes(heap_, object); }
  tarn_heap_stats Stats() const { return tarn_heap_get_stats(heap_); }
  tarn_heap* c_heap() { return heap_; }

 private:
  struct Undo {
    Heap* heap;
    void* memory;
    ~Undo() {
      if (memory != nullptr) heap->Free(memory);
    }
  };
  void* do_allocate(std::size_t bytes, std::size_t alignment) override { return Allocate(bytes, alignment); }
  void do_deallocate(void* object, std::size_t, std::size_t) override { Free(object); }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }

  tarn_heap* heap_;
};

}  // namespace tarn

#endif
#endif
