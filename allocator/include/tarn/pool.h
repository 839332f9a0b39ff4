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
// Objects that nobody asks for go in two epochs: at the end of an epoch what lies in the pool becomes the pool's victims,
// and the victims of the epoch before are destroyed; Get takes victims too, and those live on. (Go does that at each
// garbage collection.) An epoch ends when it is older than epoch_ms and Get or Put takes its slow path, or by Tick().
// Where the kernel offers no way to look at other CPUs' objects (the thread mode), an epoch sees only those of the
// running thread and those that were shared.
//
// Threads: any, at the same time; an object is moved without a lock or an atomic instruction in the common case. The
// pool's end wants all others to be done. Objects that were not put back are the caller's.
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

// All zero but for drop is a valid choice.
typedef struct tarn_pool_options {
  void (*drop)(void* object, void* context);  // destroys an object that the pool gives up
  void* context;
  const char* name;    // null: the pool does not appear in statistics (tarn/registry.h)
  size_t max_objects;  // kept, victims not counted; 0: 1024, at most 2^20
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
// The pool owns the object from here on, and has dropped it if it is full. Null is ignored. Returns 1 if that took the
// slow path, when it is a good moment to ask whether an epoch is over; else 0.
int tarn_pool_put(tarn_pool* pool, void* object);
// Drops the object, and counts that.
void tarn_pool_refuse(tarn_pool* pool, void* object);
// Ends an epoch.
void tarn_pool_tick(tarn_pool* pool);
tarn_pool_stats tarn_pool_get_stats(tarn_pool* pool);

#ifdef __cplusplus
}  // extern "C"
#endif

#if defined(__cplusplus) && !defined(TARN_C_INTERFACE_ONLY)

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <memory>
#include <utility>

#include <tarn/bad_alloc.h>

namespace tarn {

template <typename T>
struct PoolOptions {
  const char* name = nullptr;
  std::function<T*()> make = {};                   // an object of new; by default: new T()
  std::function<void(T&)> reset = {};              // before the object is put back
  std::function<std::size_t(const T&)> size = {};  // what max_object_bytes is compared with
  std::size_t max_object_bytes = SIZE_MAX;
  // With max_object_bytes set, the pool never keeps more than max_bytes / max_object_bytes objects.
  std::size_t max_bytes = SIZE_MAX;
  std::size_t max_objects = 1024;
  unsigned epoch_ms = 2000;
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
      max_objects = std::min(max_objects, options_.max_bytes / options_.max_object_bytes);
    }
    if (max_objects == 0) ThrowInvalidArgument("tarn::Pool: the limits leave room for no object");
    const tarn_pool_options c_options = {&Drop, nullptr, options_.name, max_objects};
    pool_ = tarn_pool_create(&c_options);
    if (pool_ == nullptr && errno == EINVAL) ThrowInvalidArgument("tarn::Pool: max_objects is beyond 2^20");
    if (pool_ == nullptr) ThrowBadAlloc();
    epoch_ = Now();
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() { tarn_pool_destroy(pool_); }

  // Throws what making an object throws.
  [[nodiscard]] T* Get() {
    if (void* object = tarn_pool_get(pool_)) [[likely]]
      return static_cast<T*>(object);
    TickIfDue();
    return options_.make ? options_.make() : new T();
  }
  // Null is ignored.
  void Put(T* object) {
    if (object == nullptr) return;
    if (options_.size && options_.size(*object) > options_.max_object_bytes) [[unlikely]] {
      tarn_pool_refuse(pool_, object);
      return;
    }
    if (options_.reset) options_.reset(*object);
    if (tarn_pool_put(pool_, object) != 0) [[unlikely]]
      TickIfDue();
  }
  [[nodiscard]] Handle Acquire() { return Handle(Get(), Returner{this}); }

  // Ends an epoch now, as memory pressure may want it.
  void Tick() {
    epoch_ = Now();
    tarn_pool_tick(pool_);
  }
  tarn_pool_stats Stats() const { return tarn_pool_get_stats(pool_); }
  tarn_pool* c_pool() { return pool_; }

 private:
  static void Drop(void* object, void*) { delete static_cast<T*>(object); }
  static std::uint64_t Now() {
    using std::chrono::duration_cast, std::chrono::milliseconds, std::chrono::steady_clock;
    return static_cast<std::uint64_t>(duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count());
  }
  void TickIfDue() {
    std::uint64_t epoch = epoch_.load(std::memory_order_relaxed);
    const std::uint64_t now = Now();
    // One of several threads that see it ends the epoch.
    if (now - epoch >= options_.epoch_ms && epoch_.compare_exchange_strong(epoch, now)) tarn_pool_tick(pool_);
  }

  const PoolOptions<T> options_;
  tarn_pool* pool_;
  std::atomic<std::uint64_t> epoch_;
};

}  // namespace tarn

#endif
#endif
