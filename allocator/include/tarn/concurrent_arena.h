// SPDX-License-Identifier: Apache-2.0
//
// tarn/concurrent_arena.h: an arena that several threads use at the same time.
//
// As tarn/arena.h, with a bump region per CPU: an allocation moves the pointer of the running CPU's region, in a
// restartable sequence, without a lock or an atomic instruction. Where the kernel has no rseq, a region belongs to a
// thread. There are no marks, because what "after" means differs from thread to thread.
//
// Threads: Allocate, Create and Copy from any, at the same time. Reset, Release and the end want all others to be done.
// Sizes are rounded up to 16 bytes. Refused: as with Arena.
//
// For C and C++. With TARN_C_INTERFACE_ONLY defined, a C++ program gets what a C program gets.
#ifndef TARN_CONCURRENT_ARENA_H
#define TARN_CONCURRENT_ARENA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tarn_concurrent_arena tarn_concurrent_arena;

// All zero is a valid choice: no name, no limit, not checked.
typedef struct tarn_concurrent_arena_options {
  const char* name;    // null: the arena does not appear in statistics (tarn/registry.h)
  size_t limit_bytes;  // of all chunks; 0: none
  // Non-zero, or TARN_CHECK=on: memory that a reset ended is made inaccessible and comes back late, so that a use after
  // the reset ends the process where it happens. Slow.
  int checked;
} tarn_concurrent_arena_options;

typedef struct tarn_concurrent_arena_stats {
  size_t used_bytes;      // of chunks in use, with what is still free in the CPUs' regions
  size_t capacity_bytes;  // of all chunks, used and spare
  size_t limit_bytes;     // 0: none
} tarn_concurrent_arena_stats;

// `poison`: the caller is compiled with AddressSanitizer, and takes the poison off what it allocates, as the C++ class
// does; use tarn_concurrent_arena_create.
tarn_concurrent_arena* tarn_concurrent_arena_create_with(const tarn_concurrent_arena_options* options, int poison);
// `options` may be null. Null with errno ENOMEM.
static inline tarn_concurrent_arena* tarn_concurrent_arena_create(const tarn_concurrent_arena_options* options) {
  return tarn_concurrent_arena_create_with(options, 0);
}
// Null is ignored. Ends the process with a line on stderr when a function that the arena runs at its reset calls it.
void tarn_concurrent_arena_destroy(tarn_concurrent_arena* arena);
// `alignment` is a power of two; 0 stands for 16. Null when refused; errno is not changed, but for EINVAL when the
// alignment is above 16 and no power of two.
void* tarn_concurrent_arena_allocate(tarn_concurrent_arena* arena, size_t bytes, size_t alignment);
// Has run(object) called at the reset, the last registered first; it must not throw. 0: refused, nothing is registered.
int tarn_concurrent_arena_add_cleanup(tarn_concurrent_arena* arena, void (*run)(void* object), void* object);
// Runs the registered functions and makes all memory free again; keeps the chunks.
void tarn_concurrent_arena_reset(tarn_concurrent_arena* arena);
// Resets, and gives all memory back.
void tarn_concurrent_arena_release(tarn_concurrent_arena* arena);
tarn_concurrent_arena_stats tarn_concurrent_arena_get_stats(tarn_concurrent_arena* arena);

#ifdef __cplusplus
}  // extern "C"
#endif

#if defined(__cplusplus) && !defined(TARN_C_INTERFACE_ONLY)

#include <cstring>
#include <memory_resource>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

#include <tarn/bad_alloc.h>
#include <tarn/poison.h>

namespace tarn {

using ConcurrentArenaOptions = tarn_concurrent_arena_options;

// Throws std::bad_alloc when it is made without memory.
class ConcurrentArena final : public std::pmr::memory_resource {
 public:
  explicit ConcurrentArena(const char* name = nullptr, std::size_t limit_bytes = 0)
      : ConcurrentArena(ConcurrentArenaOptions{name, limit_bytes, 0}) {}
  explicit ConcurrentArena(const ConcurrentArenaOptions& options)
      : arena_(tarn_concurrent_arena_create_with(&options, TARN_POISON_MEMORY)) {
    if (arena_ == nullptr) ThrowBadAlloc();
  }
  ConcurrentArena(const ConcurrentArena&) = delete;
  ConcurrentArena& operator=(const ConcurrentArena&) = delete;
  ~ConcurrentArena() override { tarn_concurrent_arena_destroy(arena_); }

  [[nodiscard]] void* TryAllocate(std::size_t bytes, std::size_t alignment = alignof(std::max_align_t)) noexcept {
    void* object = tarn_concurrent_arena_allocate(arena_, bytes, alignment);
    UnpoisonMemory(object, bytes);
    return object;
  }
  [[nodiscard]] void* Allocate(std::size_t bytes, std::size_t alignment = alignof(std::max_align_t)) {
    void* object = TryAllocate(bytes, alignment);
    if (object == nullptr) [[unlikely]]
      ThrowRefused(alignment);
    return object;
  }
  template <typename T, typename... Arguments>
  [[nodiscard]] T* Create(Arguments&&... arguments) {
    T* object = ::new (Allocate(sizeof(T), alignof(T))) T(std::forward<Arguments>(arguments)...);
    if constexpr (!std::is_trivially_destructible_v<T>) {
      if (tarn_concurrent_arena_add_cleanup(arena_, &DestroyOne<T>, object) == 0) [[unlikely]] {
        object->~T();
        ThrowBadAlloc();
      }
    }
    return object;
  }
  [[nodiscard]] std::string_view Copy(std::string_view text) {
    auto* copy = static_cast<char*>(Allocate(text.size(), 1));
    if (!text.empty()) std::memcpy(copy, text.data(), text.size());
    return {copy, text.size()};
  }

  void Reset() { tarn_concurrent_arena_reset(arena_); }
  void Release() { tarn_concurrent_arena_release(arena_); }
  tarn_concurrent_arena_stats Stats() { return tarn_concurrent_arena_get_stats(arena_); }
  tarn_concurrent_arena* c_arena() { return arena_; }

 private:
  // A destructor that throws calls std::terminate: the functions that run it are C.
  template <typename T>
  static void DestroyOne(void* object) noexcept {
    static_cast<T*>(object)->~T();
  }
  void* do_allocate(std::size_t bytes, std::size_t alignment) override { return Allocate(bytes, alignment); }
  void do_deallocate(void*, std::size_t, std::size_t) override {}
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }

  tarn_concurrent_arena* const arena_;
};

}  // namespace tarn

#endif
#endif
