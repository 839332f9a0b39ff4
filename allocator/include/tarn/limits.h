// SPDX-License-Identifier: Apache-2.0
//
// tarn/limits.h: how much memory the process may have, and giving memory back.
//
// For C, with the same in C++ in namespace tarn. All functions may be called from any thread, and keep errno. Sizes are
// bytes. Nothing here is needed for tarn to give memory back: frees do that (docs/memory-return.md). In a program that
// may run without tarn, look the functions up by dlsym or declare them weak.
#ifndef TARN_LIMITS_H
#define TARN_LIMITS_H

#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
#include <cstddef>
#include <cstdint>
#endif

#ifdef __cplusplus
extern "C" {
#endif

// No limit at all; and a soft limit of nine tenths of the memory cgroup's, read again every second (the default).
#define TARN_LIMIT_NONE SIZE_MAX
#define TARN_LIMIT_AUTO ((size_t)0)

// The soft limit, TARN_MEMORY_LIMIT in the environment: the resident memory of the process is kept below it by giving
// free memory back; no allocation fails for it. `bytes`: the limit, TARN_LIMIT_NONE or TARN_LIMIT_AUTO.
void tarn_set_memory_limit(size_t bytes);
// In force now; TARN_LIMIT_NONE where there is none. With TARN_LIMIT_AUTO the first value is read when the heap has
// grown to some 32 MiB.
size_t tarn_memory_limit(void);

// The hard limit, TARN_HARD_LIMIT: beyond it allocations fail (ENOMEM, std::bad_alloc). Counted is what tarn has given
// out, by pages, and what it needs itself. TARN_LIMIT_NONE: none.
void tarn_set_hard_limit(size_t bytes);
size_t tarn_hard_limit(void);

// Calls `callback` when the resident memory has come to `percent` (1 to 100) of the soft limit (of the hard one where
// there is no soft one), and again when it was five points lower in between. It is called at the end of an allocation
// or a free, by that thread, and may allocate and free, but not throw. 0, or -1 when all 16 places are taken or an
// argument makes no sense.
typedef void (*tarn_limit_callback)(unsigned percent, size_t used_bytes, size_t limit_bytes, void* argument);
int tarn_add_limit_callback(unsigned percent, tarn_limit_callback callback, void* argument);
// 0, or -1 when there is no such pair. A call that is under way may still go on for a moment.
int tarn_remove_limit_callback(tarn_limit_callback callback, void* argument);

// Gives at least `bytes` of free memory back to the kernel, or all if there is less: whole huge pages first. SIZE_MAX:
// all of it, like malloc_trim(0). Returns the bytes.
size_t tarn_release_memory(size_t bytes);

// One cycle of the scavenger, for programs that let no other thread run: call it now and then, about twice a second
// while there is something to do. Pools whose epoch is over (tarn/pool.h) drop objects on the calling thread, unless
// tarn's own is at it. Returns after how many milliseconds the next call is worthwhile; UINT32_MAX: not before memory
// has been freed again.
uint32_t tarn_background_tick(void);

// Ends tarn's threads, if there are any (TARN_BACKGROUND), and starts no more: when it returns, there are none, in this
// process and its children by fork. For programs that are about to enter a sandbox or to give up rights, and for those
// that must have one thread. Memory goes back as in programs that never had such a thread. Not for signal handlers. In
// a destructor that a pool runs (tarn/pool.h), the thread that runs it ends behind it.
void tarn_stop_background(void);

// Totals since the start of the process.
typedef struct tarn_limit_stats {
  uint64_t checks;             // looks at the soft limit
  uint64_t exceeded;           // of these, how many found more resident memory than it allows
  uint64_t peak_excess_bytes;  // the most that was found above it
  uint64_t released_bytes;     // given back to keep it
  uint64_t release_ns;         // the time for that
  uint64_t skipped;            // not given back, because that had taken a tenth of the time already
  uint64_t hard_failures;      // allocations that failed while a hard limit was set
  uint64_t scavenger_cycles;   // in any thread
  uint64_t scavenger_starts;   // of the thread
  uint64_t scavenger_cpu_ns;   // of all cycles
  uint64_t scavenger_released_bytes;
  uint64_t scavenger_drained_bytes;  // out of caches
  uint64_t scavenger_running;        // 1 while there is the thread
  uint64_t reserved[3];
} tarn_limit_stats;
void tarn_get_limit_stats(tarn_limit_stats* stats);

#ifdef __cplusplus
}  // extern "C"

namespace tarn {

inline constexpr std::size_t kNoLimit = TARN_LIMIT_NONE;
inline constexpr std::size_t kAutoLimit = TARN_LIMIT_AUTO;

inline void SetMemoryLimit(std::size_t bytes) noexcept { tarn_set_memory_limit(bytes); }
inline std::size_t MemoryLimit() noexcept { return tarn_memory_limit(); }
inline void SetHardLimit(std::size_t bytes) noexcept { tarn_set_hard_limit(bytes); }
inline std::size_t HardLimit() noexcept { return tarn_hard_limit(); }
inline std::size_t ReleaseMemory(std::size_t bytes = SIZE_MAX) noexcept { return tarn_release_memory(bytes); }
inline std::uint32_t BackgroundTick() noexcept { return tarn_background_tick(); }
inline void StopBackground() noexcept { tarn_stop_background(); }
inline tarn_limit_stats LimitStats() noexcept {
  tarn_limit_stats stats;
  tarn_get_limit_stats(&stats);
  return stats;
}

}  // namespace tarn
#endif

#endif
