// What tarn keeps per thread: one small block in static TLS.
//
// The block holds no pointer that was derived from a CPU: kernels from 6.19 on do not rewrite the ids at every
// preemption, so such a pointer would outlive its truth. Everything is zero or a constant at a thread's start, so no
// constructor runs and the block is valid before main and after every destructor.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tarn {

// The kernel's struct rseq as far as we use it (include/uapi/linux/rseq.h). The kernel writes the ids, we write only
// rseq_cs.
struct alignas(32) RseqArea {
  std::uint32_t cpu_id_start;
  std::int32_t cpu_id;  // -1: not registered, -2: registration failed.
  std::uint64_t rseq_cs;
  std::uint32_t flags;
  std::uint32_t node_id;
  std::int32_t mm_cid;
  std::uint32_t reserved;
};
static_assert(sizeof(RseqArea) == 32);

struct ThreadState {
  // Registered with the kernel only where libc registered none. The ids of a thread that has nothing yet are -1, which
  // finds the empty slab.
  RseqArea area = {0, -1, 0, 0, 0, -1, 0};
  // Thread mode: the index of the thread's own slab, or -1.
  std::int32_t slab_index = -1;
  // The thread's id as the kernel counts, or 0 when it was not asked for yet. Owners of locks are named by it.
  std::uint32_t tid = 0;
  // How many slow paths of tarn this thread is in. A second one is a signal handler that interrupted the first.
  std::uint32_t slow_path_depth = 0;
  // The state of the thread's random numbers; 0: not seeded yet.
  std::uint64_t random = 0;
  // When the slow path came to what may take long (os/stall.h); 0: it has not.
  std::uint64_t stall_start_ns = 0;
  // The thread mode's slab was given back at the thread's exit; what still comes goes past the caches.
  bool exiting = false;
};
static_assert(sizeof(ThreadState) <= 256, "static TLS is scarce: dlopen fails when a library wants much of it");

extern constinit thread_local ThreadState thread_state;

// Where a field of the calling thread's block lies, as an offset from the thread pointer: the same in every thread.
inline std::ptrdiff_t ThreadPointerOffset(const void* field_of_thread_state) {
  return static_cast<const char*>(field_of_thread_state) - static_cast<const char*>(__builtin_thread_pointer());
}

// The calling thread's id; asks the kernel once per thread.
std::uint32_t ThreadId();

// Counts the stall that began at stall_start_ns (os/stall.h).
void EndStall();

// Marks the calling thread as being inside a slow path for as long as it lives, and keeps errno.
//
// A signal handler may interrupt a slow path while it holds a lock and then allocate. Waiting for that lock would never
// end, so a slow path that finds itself nested must not take any: malloc answers NULL, free puts the object aside.
class SlowPathScope {
 public:
  SlowPathScope();
  ~SlowPathScope();
  SlowPathScope(const SlowPathScope&) = delete;
  SlowPathScope& operator=(const SlowPathScope&) = delete;

  bool nested() const { return nested_; }

 private:
  const int saved_errno_;
  const bool nested_;
};

}  // namespace tarn
