// SPDX-License-Identifier: Apache-2.0
//
// tarn/memory_resource.h: for std::pmr and for the allocators of the standard containers.
//
//   tarn::ScopedDefaultResource scope(&arena);             // std::pmr containers made from here on use the arena
//   std::vector<int, tarn::Allocator<int, tarn::Arena>> v(arena);   // without a virtual call
//   auto point = tarn::MakeUnique<Point>(&heap, 1, 2);     // a std::unique_ptr that goes back to the heap
#ifndef TARN_MEMORY_RESOURCE_H
#define TARN_MEMORY_RESOURCE_H

#include <cstddef>
#include <memory>
#include <memory_resource>
#include <new>
#include <utility>

#include <tarn/bad_alloc.h>

namespace tarn {

// Makes a resource the default one for std::pmr until the end of the scope, so that code which names no resource uses
// it. The default resource belongs to the whole process, as the standard has it: other threads see it as well. What is
// made in the scope must not outlive the resource; it may outlive the scope.
class ScopedDefaultResource {
 public:
  explicit ScopedDefaultResource(std::pmr::memory_resource* resource)
      : previous_(std::pmr::set_default_resource(resource)) {}
  ~ScopedDefaultResource() { std::pmr::set_default_resource(previous_); }
  ScopedDefaultResource(const ScopedDefaultResource&) = delete;
  ScopedDefaultResource& operator=(const ScopedDefaultResource&) = delete;

 private:
  std::pmr::memory_resource* const previous_;
};

// For std::unique_ptr: destroys the object and gives its memory back to the resource. There is no way from a deleter of
// one type to that of another, since the resource is told the size.
template <typename T>
struct ResourceDeleter {
  std::pmr::memory_resource* resource = nullptr;
  void operator()(T* object) const {
    object->~T();
    resource->deallocate(object, sizeof(T), alignof(T));
  }
};
template <typename T>
using UniquePtr = std::unique_ptr<T, ResourceDeleter<T>>;

// Throws what the resource and T's constructor throw.
template <typename T, typename... Arguments>
[[nodiscard]] UniquePtr<T> MakeUnique(std::pmr::memory_resource* resource, Arguments&&... arguments) {
  // Owns the memory while the constructor runs.
  struct Undo {
    std::pmr::memory_resource* resource;
    void* memory;
    ~Undo() {
      if (memory != nullptr) resource->deallocate(memory, sizeof(T), alignof(T));
    }
  } undo{resource, resource->allocate(sizeof(T), alignof(T))};
  T* object = ::new (undo.memory) T(std::forward<Arguments>(arguments)...);
  undo.memory = nullptr;
  return UniquePtr<T>(object, ResourceDeleter<T>{resource});
}

// An allocator for containers that calls the source directly: Arena, ConcurrentArena, Heap, or any memory_resource.
// Arenas are final classes, so that nothing virtual is left of the calls.
template <typename T, typename Source>
class Allocator {
 public:
  using value_type = T;

  Allocator(Source& source) noexcept : source_(&source) {}  // NOLINT: containers take the source as it is
  template <typename U>
  Allocator(const Allocator<U, Source>& other) noexcept : source_(other.source()) {}

  [[nodiscard]] T* allocate(std::size_t count) {
    std::size_t bytes;
    if (__builtin_mul_overflow(count, sizeof(T), &bytes)) ThrowBadAlloc();
    return static_cast<T*>(source_->allocate(bytes, alignof(T)));
  }
  void deallocate(T* objects, std::size_t count) noexcept {
    source_->deallocate(objects, count * sizeof(T), alignof(T));
  }

  Source* source() const noexcept { return source_; }
  template <typename U>
  friend bool operator==(const Allocator& a, const Allocator<U, Source>& b) noexcept {
    return a.source_ == b.source();
  }

 private:
  Source* source_;
};

}  // namespace tarn

#endif
