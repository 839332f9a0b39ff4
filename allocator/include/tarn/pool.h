// SPDX-License-Identifier: Apache-2.0
//
// tarn/pool.h: objects that are used again, as Go's sync.Pool has it.
//
//   tarn::Pool<std::string> buffers({.name = "buffers", .reset = [](std::string& s) { s.clear(); },
//                                    .size = [](const std::string& s) { return s.capacity(); },
//                                    .max_object_bytes = 64 << 10});
//   auto buffer = buffers.Acquire();         // a handle; the object goes back at its end
//   std::string* raw = buffers.Get();        // or by hand
//   buffers.Put(raw);
//
// For objects that are costly to make and hold no state worth keeping. Get returns one that was put back, the last one
// of the running CPU first, or makes a new one. Put takes it back; it refuses objects that have grown beyond
// max_object_bytes and more than max_objects in all, and destroys them.
//
// Objects that nobody asks for go in two epochs: at the end of an epoch what lies in the pool becomes the pool's
// victims, and the victims of the epoch before are destroyed; Get takes victims too, and those live on. (Go does that
// at each garbage collection: sync.Pool, "victim cache".) An epoch ends when it is epoch_ms old, or by Tick(). When
// memory is short, that is, near the soft limit (tarn/limits.h) with no free memory left to give back, everything in
// the pool is destroyed.
//
// Who destroys: the thread that calls. Get and Put look whether an epoch is over, on their slow paths, and
// tarn_background_tick() does, for all pools. So T's destructor must not need a lock that the caller of Get or Put
// holds. A pool that nobody calls keeps its objects. With TARN_BACKGROUND=on in the environment, and in a process with
// threads, an ordinary thread does it, "tarn-caretaker": it runs T's destructor with all signals blocked, and holds no
// lock of tarn. It is started by the first Put and exists only while a pool has objects in it. The pool's end waits
// until that thread is done with it, so an object's destructor must not wait for the thread that ends the pool; one
// that ends its own pool ends the process with a line on stderr. After exit() has begun it destroys nothing more. In
// the child of a fork the thread is started again by the first slow path of a Get or Put; an object that another thread
// was just destroying is lost there. What a destructor puts back at the pool's end is destroyed at once. One that
// throws calls std::terminate; `drop` in C must not throw.
//
// Threads: any, at the same time; an object is moved without a lock or an atomic instruction in the common case. (Under
// a lock where other CPUs' objects could not be had back: in the thread mode, and on kernels before 5.10.) The pool's
// end wants all others to be done. Objects that were not put back are the caller's. Not for signal handlers.
//
// Misuse: with `checked`, an object that is put back while the pool has it already ends the process with a line on
// stderr, at the call.
//
// For C and C++. With TARN_C_INTERFACE_ONLY defined, a C++ program gets what a C program gets.
#ifndef TARN_POOL_H
#define TARN_POOL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tarn_pool tarn_pool;

// As epoch_ms: epochs end by tarn_pool_tick only. When memory is short, the pool is emptied by the next slow path.
#define TARN_POOL_NO_EPOCHS UINT32_MAX

// All zero but for drop is a valid choice.
typedef struct tarn_pool_options {
  void (*drop)(void* object, void* context);  // destroys an object that the pool gives up
  void* context;
  const char* name;    // null: the pool does not appear in statistics (tarn/registry.h)
  size_t max_objects;  // kept, victims not counted; 0: TARN_POOL_OBJECTS (1024), at most 2^20
  unsigned epoch_ms;   // 0: 2000
  int checked;         // non-zero, or TARN_CHECK=on: no object may be put back twice; slow
} tarn_pool_options;

typedef struct tarn_pool_stats {
  uint64_t hits;    // Get found an object in the CPU's own stack
  uint64_t steals;  // Get found one among the shared ones or the victims
  uint64_t misses;  // Get found none
  uint64_t puts;    // objects taken back
  uint64_t drops;   // objects destroyed
  size_t cached_objects;
} tarn_pool_stats;

// Null with errno EINVAL (drop is null, or max_objects too large) or ENOMEM.
tarn_pool* tarn_pool_create(const tarn_pool_options* options);
// Drops all objects. Null is ignored.
void tarn_pool_destroy(tarn_pool* pool);
// An object, or null: then the caller makes one.
void* tarn_pool_get(tarn_pool* pool);
// The pool owns the object from here on, and has dropped it if it is full. Null is ignored.
void tarn_pool_put(tarn_pool* pool, void* object);
// Drops the object instead, and counts that. Not null.
void tarn_pool_refuse(tarn_pool* pool, void* object);
// Ends an epoch now: drops the victims, on this thread. Does nothing while another thread is at it.
void tarn_pool_tick(tarn_pool* pool);
tarn_pool_stats tarn_pool_get_stats(tarn_pool* pool);

#ifdef __cplusplus
}  // extern "C"
#endif

#if defined(__cplusplus) && !defined(TARN_C_INTERFACE_ONLY)

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <functional>
#include <memory>
#include <memory_resource>
#include <type_traits>
#include <utility>

#include <tarn/bad_alloc.h>
#include <tarn/poison.h>

namespace tarn {

template <typename T>
struct PoolOptions {
  const char* name = nullptr;
  std::function<T*()> make = {};                   // an object of new; by default: new T(), where T has that
  std::function<void(T&)> reset = {};              // before the object is put back
  std::function<std::size_t(const T&)> size = {};  // compared with max_object_bytes
  std::size_t max_object_bytes = SIZE_MAX;
  // With max_object_bytes set, the pool never keeps more than max_bytes / max_object_bytes objects.
  std::size_t max_bytes = SIZE_MAX;
  std::size_t max_objects = 0;  // at most 2^20; 0: what max_bytes allows, or else TARN_POOL_OBJECTS (1024)
  unsigned epoch_ms = 2000;     // TARN_POOL_NO_EPOCHS: epochs end by Tick only
  bool checked = false;         // no object may be put back twice; slow
};

template <typename T>
class Pool {
 public:
  struct Returner {
    Pool* pool;
    void operator()(T* object) const { pool->Put(object); }
  };
  using Handle = std::unique_ptr<T, Returner>;

  explicit Pool(PoolOptions<T> options = {}) : options_(std::move(options)) {
    std::size_t max_objects = options_.max_objects;
    if (options_.max_bytes != SIZE_MAX && options_.max_object_bytes != SIZE_MAX && options_.max_object_bytes != 0) {
      const std::size_t allowed_objects = options_.max_bytes / options_.max_object_bytes;
      if (allowed_objects == 0) ThrowInvalidArgument("tarn::Pool: max_bytes leaves room for no object");
      max_objects = std::min(max_objects == 0 ? kMostObjects : max_objects, allowed_objects);
    }
    if (!std::is_default_constructible_v<T> && !options_.make) {
      ThrowInvalidArgument("tarn::Pool: a type without default constructor needs `make`");
    }
    const tarn_pool_options c_options = {&Drop,       nullptr,           options_.name,
                                         max_objects, options_.epoch_ms, options_.checked ? 1 : 0};
    pool_ = tarn_pool_create(&c_options);
    if (pool_ == nullptr && errno == EINVAL) ThrowInvalidArgument("tarn::Pool: max_objects is beyond 2^20");
    if (pool_ == nullptr) ThrowBadAlloc();
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() { tarn_pool_destroy(pool_); }

  // Throws what making an object throws.
  [[nodiscard]] T* Get() {
    if (void* object = tarn_pool_get(pool_)) [[likely]]
      return static_cast<T*>(object);
    if constexpr (std::is_default_constructible_v<T>) {
      if (!options_.make) return new T();
    }
    return options_.make();
  }
  // Null is ignored.
  void Put(T* object) {
    if (object == nullptr) return;
    if (options_.size && options_.size(*object) > options_.max_object_bytes) [[unlikely]] {
      tarn_pool_refuse(pool_, object);
      return;
    }
    if (options_.reset) options_.reset(*object);
    tarn_pool_put(pool_, object);
  }
  [[nodiscard]] Handle Acquire() { return Handle(Get(), Returner{this}); }

  // Ends an epoch now: destroys the victims, on this thread. Does nothing while another thread is at it.
  void Tick() { tarn_pool_tick(pool_); }
  tarn_pool_stats Stats() const { return tarn_pool_get_stats(pool_); }
  tarn_pool* c_pool() { return pool_; }

 private:
  static constexpr std::size_t kMostObjects = std::size_t{1} << 20;

  // An exception would have no handler, since mostly tarn's thread destroys: std::terminate.
  static void Drop(void* object, void*) noexcept { delete static_cast<T*>(object); }

  const PoolOptions<T> options_;
  tarn_pool* pool_;
};

struct RecyclingResourceOptions {
  std::size_t buffer_bytes;
  std::size_t alignment = alignof(std::max_align_t);  // of buffers, a power of two
  const char* name = nullptr;
  std::size_t max_buffers = 0;  // kept, victims not counted; 0: TARN_POOL_OBJECTS (1024), at most 2^20
  unsigned epoch_ms = 2000;     // TARN_POOL_NO_EPOCHS: epochs end by Tick only
  bool checked = false;
  // Called from any thread, the caretaker's among them.
  std::pmr::memory_resource* upstream = std::pmr::new_delete_resource();
};

// A pool as a std::pmr::memory_resource, for containers that take large buffers again and again. A request of
// more than half a buffer gets a buffer of the pool, or a new one from upstream; freed, it goes to the pool.
// Other requests go upstream. Throws what upstream throws. Any thread. Its end gives the pool's buffers back to
// upstream.
class RecyclingResource final : public std::pmr::memory_resource {
 public:
  explicit RecyclingResource(std::size_t buffer_bytes)
      : RecyclingResource(RecyclingResourceOptions{.buffer_bytes = buffer_bytes}) {}
  explicit RecyclingResource(const RecyclingResourceOptions& options) : options_(options) {
    const std::size_t alignment = options.alignment;
    if (options.buffer_bytes == 0 || alignment == 0 || (alignment & (alignment - 1)) != 0) {
      ThrowInvalidArgument("tarn::RecyclingResource: buffer size or alignment out of range");
    }
    const tarn_pool_options c_options = {
        &Drop, this, options.name, options.max_buffers, options.epoch_ms, options.checked ? 1 : 0};
    pool_ = tarn_pool_create(&c_options);
    if (pool_ == nullptr && errno == EINVAL)
      ThrowInvalidArgument("tarn::RecyclingResource: max_buffers is beyond 2^20");
    if (pool_ == nullptr) ThrowBadAlloc();
  }
  RecyclingResource(const RecyclingResource&) = delete;
  RecyclingResource& operator=(const RecyclingResource&) = delete;
  ~RecyclingResource() override { tarn_pool_destroy(pool_); }

  // Ends an epoch now.
  void Tick() { tarn_pool_tick(pool_); }
  tarn_pool_stats Stats() const { return tarn_pool_get_stats(pool_); }

 private:
  static void Drop(void* buffer, void* context) {
    const RecyclingResourceOptions& options = static_cast<RecyclingResource*>(context)->options_;
    UnpoisonMemory(buffer, options.buffer_bytes);
    options.upstream->deallocate(buffer, options.buffer_bytes, options.alignment);
  }
  bool IsBuffer(std::size_t bytes, std::size_t alignment) const {
    return bytes > options_.buffer_bytes / 2 && bytes <= options_.buffer_bytes && alignment <= options_.alignment;
  }
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    if (!IsBuffer(bytes, alignment)) return options_.upstream->allocate(bytes, alignment);
    void* buffer = tarn_pool_get(pool_);
    if (buffer == nullptr) return options_.upstream->allocate(options_.buffer_bytes, options_.alignment);
    UnpoisonMemory(buffer, bytes);
    return buffer;
  }
  void do_deallocate(void* buffer, std::size_t bytes, std::size_t alignment) override {
    if (!IsBuffer(bytes, alignment)) return options_.upstream->deallocate(buffer, bytes, alignment);
    PoisonMemory(buffer, options_.buffer_bytes);
    tarn_pool_put(pool_, buffer);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }

  const RecyclingResourceOptions options_;
  tarn_pool* pool_;
};

}  // namespace tarn

#endif
#endif
