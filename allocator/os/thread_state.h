// SPDX-License-Identifier: Apache-2.0
//
// The state of tarn per thread: one small block in static TLS.
//
// The block holds no pointer that was derived from a CPU: kernels from 6.19 on do not rewrite the ids at every
// preemption, so such a pointer would outlive its truth. Everything is zero or a constant at a thread's start, so no
// constructor runs and the block is valid before main and after every destructor.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/os/lock_rank.h"

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

struct SlowPathMark;

struct ThreadState {
  // Registered with the kernel only where libc registered none. The ids of a thread that has nothing yet are -1, which
  // finds the empty slab. Without any registration the thread mode stores 0 to cpu_id when the thread gets its slab,
  // because sequences miss where cpu_id is negative.
  RseqArea area = {0, -1, 0, 0, 0, -1, 0};
  // Thread mode: the index of the slab of this thread, or -1.
  std::int32_t slab_index = -1;
  // The number that tarn gave the thread, or 0 before it has one. Names the owner of a lock.
  std::uint32_t id = 0;
  // The number of tarn's slow paths that this thread is in, as far as it knows: one that a signal handler jumped out of
  // (siglongjmp) never ends. See SlowPathScope.
  std::uint32_t slow_path_depth = 0;
  // Slow paths in a row that found another one under way and no lock held, see SlowPathScope.
  std::uint32_t unlocked_in_a_row = 0;
  // The marks on the stack of the outermost slow path, and of one that was forgotten without proof; null: there is
  // none.
  const SlowPathMark* slow_path = nullptr;
  const SlowPathMark* forgotten_slow_path = nullptr;
  // The state of the thread's random numbers; 0: not seeded yet.
  std::uint64_t random = 0;
  // When the slow path came to what may take long (os/stall.h); 0: it has not.
  std::uint64_t stall_start_ns = 0;
  // The thread mode's slab was given back at the thread's exit; what still comes goes past the caches.
  bool exiting = false;
  // tarn's bare thread (os/bare_thread.h): it has no descriptors, and may open next to nothing.
  bool is_background = false;
  // The child of vfork runs on its parent's block: how many vforks deep the running code is called, how many of these
  // children have withdrawn the slab, and its index (cpu_cache/vfork_child.cc).
  std::uint16_t vfork_calls = 0;
  std::uint16_t vfork_withdrawals = 0;
  std::uint32_t vfork_index = 0;
  [[no_unique_address]] LockRecord locks;
};
static_assert(sizeof(ThreadState) <= 256, "static TLS is scarce: dlopen fails when a library wants much of it");

extern constinit thread_local ThreadState thread_state;

// Where a field of the calling thread's block lies, as an offset from the thread pointer: the same in every thread.
inline std::ptrdiff_t ThreadPointerOffset(const void* field_of_thread_state) {
  return static_cast<const char*>(field_of_thread_state) - static_cast<const char*>(__builtin_thread_pointer());
}

// Returns the calling thread's number: 1 and up, below 2^31. Not the kernel's, which takes a system call. The child of
// a fork keeps the number of the thread that forked. A number comes again after 2^31 threads.
std::uint32_t ThreadId();

// Counts the stall that began at stall_start_ns (os/stall.h).
void EndStall();

// Which locks of tarn the calling thread holds. Implemented by life/held_locks.cc: the locks of all floors are known
// there.
enum class HeldLocks {
  kNone,
  kHeld,
  kUnknown,  // the heap is starting, or a list of locks is being changed
};
HeldLocks FindHeldLocks();
// Repairs what a slow path of this thread that never ends has left behind. Implemented there too.
void RepairAfterJump();
// Repairs the child of a fork that ran no handlers, where the mark is wiped (os/fork_mark.h). Called in the first slow
// path, by a thread that is in no other. Implemented by life/fork.cc.
void RepairUnseenFork();

// The mark that a slow path keeps on the stack, see SlowPathScope.
struct SlowPathMark {
  // Chosen: no address, no small number.
  static constexpr std::uint32_t kAlive = 0x7A5B0CA7;

  // kAlive in the outermost scope, 0 in a nested one, which may stand where one stood that is gone. Volatile: what ends
  // with its scope would not be stored.
  volatile std::uint32_t word;
  // A stack address that falls with the depth of calls. Of two scopes in one function it may be the same.
  std::uintptr_t frame;
};

// Marks the calling thread as being inside a slow path for as long as it lives, and keeps errno.
//
// A signal handler may interrupt a slow path and then allocate. Where the slow path holds a lock, waiting for that lock
// would never end, so the handler's own slow path must not take any: malloc answers NULL, free puts the object aside.
// Where it holds none, the handler's slow path is as good as one of another thread, and goes on.
//
// A signal handler may also jump out of the slow path by siglongjmp. The mark then stays, and nothing says so. What
// follows rests on the locks and on the stack. Three things prove that the marked slow path is gone:
//
//   its word           The mark of a slow path is on its stack and keeps kAlive. Nothing that is alive writes there, so
//                      another value shows that later frames have taken its place. The kernel compares, since the stack
//                      may be unmapped.
//   its place          A slow path that the program opened (Opener::kProgram) at the marked one's place on the same
//                      stack, or any slow path above. A loop that calls malloc again from where it was left stands at
//                      the very place.
//   its stack          The marked one is on the alternate stack for signals, and the thread is not (sigaltstack(2)).
//
// Use of the proof:
//
//   no lock held       The thread goes on, whether the marked slow path is alive or gone. A slow path that the program
//                      opened drops the mark after the proof, or after kForgetAfter such calls in a row. Without proof
//                      the marked one may be alive, and may take a lock later. So it is remembered
//                      (forgotten_slow_path) until its word is lost or it ends, and until then each slow path looks at
//                      the locks.
//   a lock held        After any proof: the lock will never be released, so one line, and abort. Without one the answer
//                      is NULL, as for a handler: the word may still stand in a frame that has written only parts of
//                      itself.
//
// A signal may come in the middle of the constructor. One store, of the mark's address, makes the slow path the
// outermost one. A handler before it leaves null there again, one after it finds the mark complete.
//
// A stack overflow cannot strike under a lock: the outermost slow path touches the stack that it may need before it
// sets the mark (kSlowPathStackBytes), what needs more does so before its lock. A program that jumps out of its handler
// of the overflow thus leaves nothing behind.
//
// Not covered: an alternate stack with SS_AUTODISARM, which the kernel does not report during the handler.
class SlowPathScope {
 public:
  // kProgram: a malloc or free of the program has led here directly. No slow path of tarn is under way, except one that
  // was interrupted or left.
  enum class Opener : std::uint8_t { kTarn, kProgram };

  explicit SlowPathScope(Opener opener = Opener::kTarn);
  ~SlowPathScope();
  SlowPathScope(const SlowPathScope&) = delete;
  SlowPathScope& operator=(const SlowPathScope&) = delete;

  // True: no lock may be taken.
  bool nested() { return (outer_ != nullptr || thread_state.forgotten_slow_path != nullptr) && MustNotLock(); }

  // The stack that slow paths need, from the scope to the deepest call under a lock. Measured with -fstack-usage: 2.7
  // KiB for a refill that sweeps.
  static constexpr std::size_t kSlowPathStackBytes = 4096;
  // Chosen: a handler rarely misses so often, and each of these calls looks at all locks, in some microseconds.
  static constexpr std::uint32_t kForgetAfter = 64;

 private:
  bool MustNotLock();
  bool OuterIsGone() const;
  void BecomeOutermost();

  const Opener opener_;
  SlowPathMark mark_;
  int* const errno_place_;  // the same for the life of the thread, and a call finds it
  const int saved_errno_;
  std::uint32_t outer_depth_;
  // The outermost slow path around this one; null: there is none, or it is gone.
  const SlowPathMark* outer_;
};

}  // namespace tarn
