// SPDX-License-Identifier: Apache-2.0
//
// tarn/arena.h: memory that is given back all at once.
//
// An arena hands out memory by moving a pointer, a handful of instructions, and takes nothing back one by one: Reset()
// ends the life of everything in it. For data that dies together: a request, a frame, a phase of a compiler.
//
//   tarn::Arena arena;                                        // owns no memory yet
//   auto* point = arena.Create<Point>(1, 2);                  // destructor registered only if Point needs one
//   std::pmr::vector<int> numbers(&arena);                    // an arena is a std::pmr::memory_resource
//   arena.Reset();                                            // runs destructors, keeps the memory for the next round
//
// The memory comes in chunks: the first has 8 KiB, each next one twice as much, up to 2 MiB. They lie in spans that
// only the arena uses, and free() of a pointer into an arena ends the process with a clear line. Reset keeps all
// chunks, Release gives them back.
//
// Threads: one at a time; see tarn/concurrent_arena.h for more. An arena neither moves nor is copied. Limits: with
// limit_bytes set, the chunks never take more than that; whatever does not fit is refused. Refused (limit, no memory, a
// size beyond PTRDIFF_MAX): Allocate throws std::bad_alloc, TryAllocate and the C functions return null. Built without
// exceptions, the throwing functions abort. Zero bytes: a pointer that is not null and may be that of the next
// allocation.
//
// For C and C++. With TARN_C_INTERFACE_ONLY defined, a C++ program gets what a C program gets.
#ifndef TARN_ARENA_H
#define TARN_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include <tarn/poison.h>

#ifdef __cplusplus
extern "C" {
#endif

// All zero is a valid choice: no name, no limit, no buffer, not checked.
typedef struct tarn_arena_options {
  const char* name;    // null: the arena does not appear in statistics (tarn/registry.h)
  size_t limit_bytes;  // of all chunks, the buffer not counted; 0: none
  void* buffer;        // memory of the caller's that is used first; it outlives the arena
  size_t buffer_bytes;
  // Non-zero: the checked mode. Memory that a reset or a rewind ended is made inaccessible (whole chunks) or filled
  // with 0xDF (the rest), and is reused late. So a use after the reset ends the process where it happens. Slow.
  // TARN_CHECK=on does the same for all arenas.
  int checked;
} tarn_arena_options;

typedef struct tarn_arena_cleanup {
  void (*run)(void* object);
  void* object;
  struct tarn_arena_cleanup* next;
} tarn_arena_cleanup;

// Marks with a number in (after, last], which a rewind made stale.
typedef struct tarn_arena_stale_marks {
  uint64_t after;
  uint64_t last;
} tarn_arena_stale_marks;

// The fields belong to the library, but for the inline function below. An arena must not be copied or moved.
typedef struct tarn_arena {
  uintptr_t next;  // [next, end) is free; next > end before the first chunk
  uintptr_t end;   // a multiple of 8
  uintptr_t start;
  tarn_arena_cleanup* cleanups;  // the last registered first
  void* used[2];                 // chunks, the current one first; empty while in the caller's buffer
  void* spare[2];                // chunks that a reset left
  void* quarantine[3];           // checked mode
  uintptr_t buffer;
  size_t buffer_bytes;
  size_t used_before_bytes;  // in the chunks before the current one
  size_t capacity_bytes;     // of all chunks
  size_t limit_bytes;
  size_t reported_bytes;
  uint64_t generation;  // resets
  uint64_t marks;       // made since the reset; the number of the last one
  tarn_arena_stale_marks stale[4];
  struct tarn_registry_record* record;
  uint32_t poison;
  uint16_t checked;
  uint16_t in_cleanup;  // a registered function runs
} tarn_arena;

// A place in an arena to which it can go back.
typedef struct tarn_arena_mark {
  void* chunk;
  uintptr_t next;
  uintptr_t end;
  tarn_arena_cleanup* cleanups;
  size_t used_before_bytes;
  uint64_t generation;
  uint64_t number;
  const struct tarn_arena* arena;
} tarn_arena_mark;

typedef struct tarn_arena_stats {
  size_t used_bytes;      // handed out since the last reset, with what alignment took and what was left at chunks' ends
  size_t capacity_bytes;  // of all chunks, used and spare
  size_t limit_bytes;     // 0: none
} tarn_arena_stats;

// `poison`: the caller is compiled with AddressSanitizer; use tarn_arena_init.
void tarn_arena_init_with(tarn_arena* arena, const tarn_arena_options* options, int poison);
// Resets, and gives all memory back. The arena is as after tarn_arena_init, with the same options.
void tarn_arena_release(tarn_arena* arena);
// Releases and takes the arena out of the statistics. Ends the process with a line on stderr when a function that the
// arena runs at its reset calls it.
void tarn_arena_destroy(tarn_arena* arena);
// Runs the destructors, the last registered first, and makes all memory free again; keeps the chunks.
void tarn_arena_reset(tarn_arena* arena);
tarn_arena_mark tarn_arena_get_mark(tarn_arena* arena);
// Ends everything that was allocated after the mark was made. Misuse ends the process with a line on stderr: a mark of
// another arena, and a mark from before a reset or a rewind to an earlier mark. The last four rewinds are remembered; a
// rewind to the same or an earlier mark takes the place of those before.
void tarn_arena_rewind(tarn_arena* arena, const tarn_arena_mark* mark);
tarn_arena_stats tarn_arena_get_stats(tarn_arena* arena);
// Has run(object) called at the reset; it must not throw. 0: refused, nothing is registered.
int tarn_arena_add_cleanup(tarn_arena* arena, void (*run)(void* object), void* object);
// The slow path of tarn_arena_allocate.
void* tarn_arena_grow(tarn_arena* arena, size_t bytes, size_t alignment);

// `options` may be null.
static inline void tarn_arena_init(tarn_arena* arena, const tarn_arena_options* options) {
  tarn_arena_init_with(arena, options, TARN_POISON_MEMORY);
}

// `alignment` is a power of two; for any other, 0 too, the answer is null with errno EINVAL.
static inline void* tarn_arena_allocate(tarn_arena* arena, size_t bytes, size_t alignment) {
  const uintptr_t object = (arena->next + (alignment - 1)) & ~(uintptr_t)(alignment - 1);
  // The last test costs nothing where the compiler knows the alignment.
  if (__builtin_expect(bytes > (size_t)PTRDIFF_MAX || object + bytes > arena->end || alignment == 0 ||
                           (alignment & (alignment - 1)) != 0,
                       0)) {
    return tarn_arena_grow(arena, bytes, alignment);
  }
  arena->next = object + bytes;
#if TARN_POISON_MEMORY
  __asan_unpoison_memory_region((void*)object, bytes);
#endif
  return (void*)object;
}

#ifdef __cplusplus
}  // extern "C"
#endif

#if defined(__cplusplus) && !defined(TARN_C_INTERFACE_ONLY)
#include <cstring>
#include <memory>
#include <memory_resource>
#include <new>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include <tarn/bad_alloc.h>

namespace tarn {

using ArenaOptions = tarn_arena_options;

class Arena final : public std::pmr::memory_resource {
 public:
  Arena() { tarn_arena_init(&arena_, nullptr); }
  explicit Arena(const ArenaOptions& options) { tarn_arena_init(&arena_, &options); }
  explicit Arena(const char* name) : Arena(ArenaOptions{name, 0, nullptr, 0, 0}) {}
  // Uses the buffer first.
  explicit Arena(std::span<std::byte> buffer) : Arena(ArenaOptions{nullptr, 0, buffer.data(), buffer.size(), 0}) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() override { tarn_arena_destroy(&arena_); }

  // `alignment` is a power of two; std::invalid_argument for any other.
  [[nodiscard]] void* Allocate(std::size_t bytes, std::size_t alignment = alignof(std::max_align_t)) {
    void* object = tarn_arena_allocate(&arena_, bytes, alignment);
    if (object == nullptr) [[unlikely]]
      ThrowRefused(alignment);
    return object;
  }
  [[nodiscard]] void* TryAllocate(std::size_t bytes, std::size_t alignment = alignof(std::max_align_t)) noexcept {
    return tarn_arena_allocate(&arena_, bytes, alignment);
  }

  // A T that lives until the reset. Its destructor is registered if it does anything.
  template <typename T, typename... Arguments>
  [[nodiscard]] T* Create(Arguments&&... arguments) {
    void* memory = Allocate(sizeof(T), alignof(T));
    if constexpr (std::is_trivially_destructible_v<T>) {
      return ::new (memory) T(std::forward<Arguments>(arguments)...);
    } else {
      // Constructed in any case before it is registered, and undone if it cannot be.
      T* object = ::new (memory) T(std::forward<Arguments>(arguments)...);
      if (tarn_arena_add_cleanup(&arena_, &DestroyOne<T>, object) == 0) [[unlikely]] {
        object->~T();
        ThrowBadAlloc();
      }
      return object;
    }
  }

  // `count` objects without their lives begun: for types that need neither constructor nor destructor.
  template <typename T>
  [[nodiscard]] std::span<T> AllocateArray(std::size_t count) {
    static_assert(std::is_trivially_destructible_v<T> && std::is_trivially_default_constructible_v<T>,
                  "AllocateArray runs neither constructors nor destructors; use a std::pmr::vector on the arena");
    std::size_t bytes;
    if (__builtin_mul_overflow(count, sizeof(T), &bytes)) ThrowBadAlloc();
    return {static_cast<T*>(Allocate(bytes, alignof(T))), count};
  }

  // Copies that live until the reset.
  [[nodiscard]] std::string_view Copy(std::string_view text) {
    auto* copy = static_cast<char*>(Allocate(text.size(), 1));
    if (!text.empty()) std::memcpy(copy, text.data(), text.size());
    return {copy, text.size()};
  }
  template <typename T>
  [[nodiscard]] std::span<std::remove_const_t<T>> Copy(std::span<T> objects) {
    static_assert(std::is_trivially_copyable_v<T>, "only what memcpy may copy");
    auto* copy = static_cast<std::remove_const_t<T>*>(Allocate(objects.size_bytes(), alignof(T)));
    if (!objects.empty()) std::memcpy(copy, objects.data(), objects.size_bytes());
    return {copy, objects.size()};
  }

  using Mark = tarn_arena_mark;
  [[nodiscard]] Mark GetMark() { return tarn_arena_get_mark(&arena_); }
  void Rewind(const Mark& mark) { tarn_arena_rewind(&arena_, &mark); }
  void Reset() { tarn_arena_reset(&arena_); }
  void Release() { tarn_arena_release(&arena_); }

  tarn_arena_stats Stats() { return tarn_arena_get_stats(&arena_); }
  tarn_arena* c_arena() { return &arena_; }

 private:
  // A destructor that throws calls std::terminate: the functions that run it are C.
  template <typename T>
  static void DestroyOne(void* object) noexcept {
    static_cast<T*>(object)->~T();
  }

  void* do_allocate(std::size_t bytes, std::size_t alignment) override { return Allocate(bytes, alignment); }
  // The last allocation is taken back, so that a container that shrinks or a temporary at the end costs nothing; all
  // else waits for the reset.
  void do_deallocate(void* object, std::size_t bytes, std::size_t) override {
    const auto address = reinterpret_cast<std::uintptr_t>(object);
#if TARN_POISON_MEMORY
    __asan_poison_memory_region(object, bytes);
#endif
    if (address + bytes == arena_.next && address >= arena_.start) arena_.next = address;
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }

  tarn_arena arena_;
};

// Rewinds the arena at the end of the scope to where it was at its start.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.GetMark()) {}
  ~ArenaScope() { arena_.Rewind(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  const Arena::Mark mark_;
};

}  // namespace tarn

#endif
#endif
