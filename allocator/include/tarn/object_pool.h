// SPDX-License-Identifier: Apache-2.0
//
// tarn/object_pool.h: objects of one type in memory of their own.
//
//   tarn::ObjectPool<Order> orders("orders");
//   Order* order = orders.Create(17, "sugar");       // from any thread
//   orders.Destroy(order);                           // from any thread
//   orders.DestroyAll();                             // every order that is left
//
// For many objects of one size that come and go. They lie together, apart from what else the program allocates. Free
// ones are reused first, and the end of the pool ends all of them. Create and Destroy work on objects that the running
// CPU keeps, without a lock or an atomic instruction. Every few dozen objects a batch passes to or from the pool's
// regions under a lock. Free memory is not written to; regions without objects go back.
//
// Misuse ends the process with a line on stderr: a second Destroy, or a pointer that is not an object of the pool. It
// is seen when the object reaches its region, which is later than the call; with `checked`, at the call. A pool with
// `checked` that dies with live objects says so on stderr. Destructors may create and destroy other objects of the same
// pool, also while DestroyAll or the pool's end runs them. Each object is ended once, whether the pool comes to it
// first or an object that owns it. DestroyAll ends objects in no particular order; a destructor that always creates
// another object keeps it going for ever. A destructor that throws: Destroy frees the memory and lets the exception
// pass. DestroyAll lets it pass too, and the objects that it has not come to live on. At the pool's end std::terminate
// is called. A destructor that ends its own pool ends the process with a line on stderr. Objects: up to 1 GiB each,
// aligned up to 2 MiB. With limit_bytes set, regions never take more than that.
//
// For C and C++. With TARN_C_INTERFACE_ONLY defined, a C++ program gets what a C program gets.
#ifndef TARN_OBJECT_POOL_H
#define TARN_OBJECT_POOL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tarn_object_pool tarn_object_pool;

// All zero but for the first is a valid choice.
typedef struct tarn_object_pool_options {
  size_t object_bytes;
  size_t alignment;    // a power of two; 0: 16, or 8 for objects of up to 8 bytes
  const char* name;    // null: the pool does not appear in statistics (tarn/registry.h)
  size_t limit_bytes;  // of regions; 0: none
  int checked;  // non-zero, or TARN_CHECK=on: every misuse is seen at the call, and left objects are reported; slow
} tarn_object_pool_options;

typedef struct tarn_object_pool_stats {
  size_t live_objects;    // exact while no other call is under way
  size_t cached_objects;  // free, kept by CPUs
  size_t region_bytes;
  uint64_t allocations;
  uint64_t frees;
} tarn_object_pool_stats;

// Null with errno EINVAL (a size or alignment out of range) or ENOMEM.
tarn_object_pool* tarn_object_pool_create(const tarn_object_pool_options* options);
// Nobody uses the pool or its objects any more. Null is ignored.
void tarn_object_pool_destroy(tarn_object_pool* pool);
// Null when there is no memory or the limit is reached; errno is not changed.
void* tarn_object_pool_allocate(tarn_object_pool* pool);
// Null is ignored.
void tarn_object_pool_free(tarn_object_pool* pool, void* object);
// Frees every object, in time proportional to the number of regions. No other call may be under way.
void tarn_object_pool_free_all(tarn_object_pool* pool);
// Calls visit for every object that is not free. No other call may be under way, and visit makes none.
void tarn_object_pool_for_each(tarn_object_pool* pool, void (*visit)(void* object, void* context), void* context);
tarn_object_pool_stats tarn_object_pool_get_stats(tarn_object_pool* pool);

// The end of all objects one by one, where each has a destructor that may use the pool, as the C++ class below does it:
// begin; then next until it returns null, and for each object its destructor, and no free; then finish. In between,
// what has a destructor to run and an object to free asks claim first. Only those destructors use the pool until
// then.
typedef enum tarn_object_pool_claim {
  TARN_OBJECT_ENDED,     // has been ended, or is just being ended: nothing to do
  TARN_OBJECT_CLAIMED,   // run the destructor, do not free
  TARN_OBJECT_ORDINARY,  // made since the begin: run the destructor and free
} tarn_object_pool_claim;
void tarn_object_pool_begin_end(tarn_object_pool* pool);
void* tarn_object_pool_next_to_end(tarn_object_pool* pool);
tarn_object_pool_claim tarn_object_pool_claim_to_end(tarn_object_pool* pool, void* object);
void tarn_object_pool_finish_end(tarn_object_pool* pool);

#ifdef __cplusplus
}  // extern "C"
#endif

#if defined(__cplusplus) && !defined(TARN_C_INTERFACE_ONLY)

#include <cerrno>
#include <memory>
#include <memory_resource>
#include <new>
#include <type_traits>
#include <utility>

#include <tarn/bad_alloc.h>
#include <tarn/poison.h>

namespace tarn {

struct ObjectPoolOptions {
  const char* name = nullptr;
  std::size_t limit_bytes = 0;
  bool checked = false;
};

template <typename T>
class ObjectPool {
 public:
  // Gives the object back to its pool: for std::unique_ptr.
  struct Deleter {
    ObjectPool* pool;
    void operator()(T* object) const { pool->Destroy(object); }
  };
  using Pointer = std::unique_ptr<T, Deleter>;

  explicit ObjectPool(const char* name = nullptr) : ObjectPool(ObjectPoolOptions{name, 0, false}) {}
  // Throws std::bad_alloc.
  explicit ObjectPool(const ObjectPoolOptions& options) {
    const tarn_object_pool_options c_options = {sizeof(T), alignof(T), options.name, options.limit_bytes,
                                                options.checked ? 1 : 0};
    pool_ = tarn_object_pool_create(&c_options);
    if (pool_ != nullptr) return;
    if (errno == EINVAL) ThrowInvalidArgument("tarn::ObjectPool: the type is too large or too much aligned");
    ThrowBadAlloc();
  }
  ObjectPool(const ObjectPool&) = delete;
  ObjectPool& operator=(const ObjectPool&) = delete;
  ~ObjectPool() {
    RunDestructors();
    tarn_object_pool_destroy(pool_);
  }

  // Throws std::bad_alloc, and what T's constructor throws.
  template <typename... Arguments>
  [[nodiscard]] T* Create(Arguments&&... arguments) {
    void* memory = tarn_object_pool_allocate(pool_);
    if (memory == nullptr) [[unlikely]]
      ThrowBadAlloc();
    UnpoisonMemory(memory, sizeof(T));
    if constexpr (std::is_nothrow_constructible_v<T, Arguments...>) {
      return ::new (memory) T(std::forward<Arguments>(arguments)...);
    } else {
      Undo undo{this, memory};
      T* object = ::new (memory) T(std::forward<Arguments>(arguments)...);
      undo.memory = nullptr;
      return object;
    }
  }
  template <typename... Arguments>
  [[nodiscard]] Pointer CreateUnique(Arguments&&... arguments) {
    return Pointer(Create(std::forward<Arguments>(arguments)...), Deleter{this});
  }

  // Null is ignored.
  void Destroy(T* object) {
    if (object == nullptr) return;
    if constexpr (std::is_trivially_destructible_v<T>) {
      Free(object);
    } else if (is_ending_) [[unlikely]] {
      DestroyWhileEnding(object);
    } else {
      DestroyAndFree(object);
    }
  }

  // During these two no other call may use the pool. DestroyAll takes time proportional to the number of regions,
  // and to that of objects only if their destructor does anything.
  void DestroyAll() {
    RunDestructors();
    tarn_object_pool_free_all(pool_);
  }
  // visit(T&) for every live object; it neither creates nor destroys any.
  template <typename Visit>
  void ForEach(Visit visit) {
    tarn_object_pool_for_each(
        pool_, [](void* object, void* context) { (*static_cast<Visit*>(context))(*static_cast<T*>(object)); }, &visit);
  }

  tarn_object_pool_stats Stats() const { return tarn_object_pool_get_stats(pool_); }
  tarn_object_pool* c_pool() { return pool_; }

 private:
  struct Undo {
    ObjectPool* pool;
    void* memory;
    ~Undo() {
      if (memory != nullptr) pool->Free(memory);
    }
  };

  void Free(void* memory) {
    PoisonMemory(memory, sizeof(T));
    tarn_object_pool_free(pool_, memory);
  }
  void DestroyAndFree(T* object) {
    // The memory goes back after a destructor that throws, too, as with delete.
    const Undo free_at_end{this, object};
    object->~T();
  }
  void DestroyWhileEnding(T* object) {
    switch (tarn_object_pool_claim_to_end(pool_, object)) {
      case TARN_OBJECT_ENDED:
        return;
      case TARN_OBJECT_CLAIMED:
        object->~T();
        PoisonMemory(object, sizeof(T));
        return;
      case TARN_OBJECT_ORDINARY:
        DestroyAndFree(object);
    }
  }
  // By destructor, because those of objects may throw.
  struct Ending {
    ObjectPool* pool;
    explicit Ending(ObjectPool* pool_to_end) : pool(pool_to_end) {
      tarn_object_pool_begin_end(pool->pool_);
      pool->is_ending_ = true;
    }
    ~Ending() {
      pool->is_ending_ = false;
      tarn_object_pool_finish_end(pool->pool_);
    }
    Ending(const Ending&) = delete;
    Ending& operator=(const Ending&) = delete;
  };
  void RunDestructors() {
    if constexpr (!std::is_trivially_destructible_v<T>) {
      const Ending ending(this);
      while (void* object = tarn_object_pool_next_to_end(pool_)) {
        static_cast<T*>(object)->~T();
        PoisonMemory(object, sizeof(T));
      }
    }
  }

  tarn_object_pool* pool_;
  bool is_ending_ = false;  // RunDestructors is at work, on this thread
};

struct BlockResourceOptions {
  std::size_t block_bytes;     // 1 to 1 GiB
  std::size_t alignment = 16;  // of blocks, a power of two up to 2 MiB
  const char* name = nullptr;
  std::size_t limit_bytes = 0;  // of the pool's regions; upstream is not counted
  bool checked = false;
  std::pmr::memory_resource* upstream = std::pmr::get_default_resource();
};

// An object pool as a std::pmr::memory_resource, for node-based containers: requests that fit into a block and its
// alignment go to the pool, others upstream. Throws std::bad_alloc at the pool's limit. Any thread, if upstream allows
// it.
class BlockResource final : public std::pmr::memory_resource {
 public:
  explicit BlockResource(std::size_t block_bytes, const char* name = nullptr)
      : BlockResource(BlockResourceOptions{.block_bytes = block_bytes, .name = name}) {}
  explicit BlockResource(const BlockResourceOptions& options)
      : block_bytes_(options.block_bytes), alignment_(options.alignment), upstream_(options.upstream) {
    const tarn_object_pool_options c_options = {options.block_bytes, options.alignment, options.name,
                                                options.limit_bytes, options.checked ? 1 : 0};
    pool_ = tarn_object_pool_create(&c_options);
    if (pool_ != nullptr) return;
    if (errno == EINVAL) ThrowInvalidArgument("tarn::BlockResource: block size or alignment out of range");
    ThrowBadAlloc();
  }
  BlockResource(const BlockResource&) = delete;
  BlockResource& operator=(const BlockResource&) = delete;
  ~BlockResource() override { tarn_object_pool_destroy(pool_); }

  tarn_object_pool_stats Stats() const { return tarn_object_pool_get_stats(pool_); }

 private:
  bool Fits(std::size_t bytes, std::size_t alignment) const { return bytes <= block_bytes_ && alignment <= alignment_; }
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    if (!Fits(bytes, alignment)) return upstream_->allocate(bytes, alignment);
    void* block = tarn_object_pool_allocate(pool_);
    if (block == nullptr) ThrowBadAlloc();
    UnpoisonMemory(block, bytes);
    return block;
  }
  void do_deallocate(void* block, std::size_t bytes, std::size_t alignment) override {
    if (!Fits(bytes, alignment)) return upstream_->deallocate(block, bytes, alignment);
    PoisonMemory(block, bytes);
    tarn_object_pool_free(pool_, block);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }

  const std::size_t block_bytes_;
  const std::size_t alignment_;
  std::pmr::memory_resource* const upstream_;
  tarn_object_pool* pool_;
};

}  // namespace tarn

#endif
#endif
