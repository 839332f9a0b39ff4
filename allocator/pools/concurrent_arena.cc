// SPDX-License-Identifier: Apache-2.0
//
// tarn/concurrent_arena.h: bump regions per CPU.
//
// The arena's table (CpuStacks, cpu_stacks.h) has one word per CPU: the address of the CPU's BumpRegion. An allocation
// is a restartable sequence: read the id, the word, the region's next and end; commit by storing next. An abort leaves
// nothing.
//
// A refill, under the lock: try again (another thread may have refilled). Else write start and end of a new chunk into
// an unused BumpRegion and put its address into the CPU's word. The sequence stores only if the word is still the one
// that was read; migrated to another CPU, it begins again there. The region that was replaced is unused from then on: a
// sequence that had read its address was on this CPU, hence interrupted before the store, hence starts over. There is
// one region more than there are CPUs, so that one is always unused.
//
// Cleanups are a list that threads push to by compare-exchange (release) and that only the reset takes from, when all
// others are done; so no element is ever taken while another is pushed.
#define TARN_C_INTERFACE_ONLY
#include "allocator/include/tarn/concurrent_arena.h"

#include <errno.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <new>

#include "allocator/base/attributes.h"
#include "allocator/base/check.h"
#include "allocator/base/units.h"
#include "allocator/heap/poison.h"
#include "allocator/heap/process_heap.h"
#include "allocator/heap/regions.h"
#include "allocator/life/fork_locks.h"
#include "allocator/os/crash.h"
#include "allocator/os/thread_state.h"
#include "allocator/pools/checked_mode.h"
#include "allocator/pools/cpu_stacks.h"
#include "allocator/pools/handle.h"
#include "allocator/pools/quarantine.h"
#include "allocator/pools/registry.h"
#include "allocator/pools/stack_count.h"

namespace tarn {

namespace {

struct alignas(64) BumpRegion {
  std::uintptr_t next;
  std::uintptr_t end;
};

struct Cleanup {
  void (*run)(void*);
  void* object;
  Cleanup* next;
};

// Chosen: as Arena's, but less at most, because every CPU has one.
constexpr std::size_t kFirstChunkBytes = kPageBytes;
constexpr std::size_t kLargestChunkBytes = std::size_t{512} << 10;
constexpr std::size_t kStrideBytes = 64;

// The region that every CPU begins with: no room.
constinit const BumpRegion no_region = {0, 0};

}  // namespace

}  // namespace tarn

struct tarn_concurrent_arena {
  tarn::CpuStacks stacks;
  tarn::BumpRegion* regions;
  tarn::BumpRegion* unused;
  std::size_t regions_used;
  tarn::BumpRegion shared;  // under the lock, for threads without an id
  std::atomic<tarn::Cleanup*> cleanups;
  tarn::ForkLock lock;
  tarn::IntrusiveList<tarn::Span> used;
  tarn::IntrusiveList<tarn::Span> spare;
  std::size_t used_bytes;
  std::size_t capacity_bytes;
  std::size_t limit_bytes;
  bool checked;
  bool in_cleanup;  // a registered function runs, in the thread that resets
  bool poison;      // the user is compiled with AddressSanitizer
  tarn::Quarantine quarantine;
  tarn::Span* own_region;
  tarn_registry_record* record;
};

namespace tarn {

namespace {

// Counts the bytes as capacity, unless the limit forbids them.
bool Reserve(tarn_concurrent_arena* arena, std::size_t bytes) {
  const std::size_t before = __atomic_fetch_add(&arena->capacity_bytes, bytes, __ATOMIC_RELAXED);
  if (arena->limit_bytes == 0 || before + bytes <= arena->limit_bytes) return true;
  __atomic_fetch_sub(&arena->capacity_bytes, bytes, __ATOMIC_RELAXED);
  return false;
}

Span* NewChunk(tarn_concurrent_arena* arena, std::size_t bytes) {
  const std::size_t capacity_bytes = __atomic_load_n(&arena->capacity_bytes, __ATOMIC_RELAXED);
  std::size_t chunk_bytes =
      std::max(std::clamp(capacity_bytes, kFirstChunkBytes, kLargestChunkBytes), RoundUp(bytes, kPageBytes));
  chunk_bytes = PageCount::FromBytesCeil(chunk_bytes).bytes();
  // Near the limit, what the request needs is enough.
  if (!Reserve(arena, chunk_bytes)) {
    chunk_bytes = RoundUp(bytes, kPageBytes);
    if (!Reserve(arena, chunk_bytes)) return nullptr;
  }
  Span* chunk = NewRegion(PageCount::FromBytesCeil(chunk_bytes), PageCount(1));
  if (chunk == nullptr) {
    __atomic_fetch_sub(&arena->capacity_bytes, chunk_bytes, __ATOMIC_RELAXED);
    return nullptr;
  }
  // A mapping of its own may be larger.
  __atomic_fetch_add(&arena->capacity_bytes, chunk->bytes() - chunk_bytes, __ATOMIC_RELAXED);
  if (arena->record != nullptr) {
    CountSigned(&arena->record->capacity_bytes, static_cast<std::int64_t>(chunk->bytes()));
  }
  return chunk;
}

// The CPU's word now; null where the thread has no id.
const void* CurrentRegion(tarn_concurrent_arena* arena) {
  const std::uint64_t id = CurrentStackId();
  if (id >= arena->stacks.bound) return nullptr;
  return reinterpret_cast<const void*>(__atomic_load_n(&arena->stacks.At(id)->word, __ATOMIC_RELAXED));
}

// Lets the running CPU allocate from [next, end).
void Install(tarn_concurrent_arena* arena, std::uintptr_t next, std::uintptr_t end) TARN_REQUIRES(arena->lock.lock) {
  BumpRegion* region = arena->unused;
  if (region == nullptr) {
    // One more than there are CPUs.
    TARN_DCHECK(arena->regions_used <= arena->stacks.ids);
    region = &arena->regions[arena->regions_used++];
  }
  arena->unused = nullptr;
  *region = {next, end};
  while (true) {
    const void* current = CurrentRegion(arena);
    if (current == nullptr) {
      arena->shared = *region;
      arena->unused = region;
      return;
    }
    if (!BumpReplace(&arena->stacks, current, region)) continue;
    if (current != &no_region) arena->unused = static_cast<BumpRegion*>(const_cast<void*>(current));
    return;
  }
}

void Enter(tarn_concurrent_arena* arena, Span* chunk) TARN_REQUIRES(arena->lock.lock) {
  Poison(arena->poison, chunk->start(), chunk->bytes());
  arena->used.PushFront(chunk);
  arena->used_bytes += chunk->bytes();
  if (arena->record != nullptr) {
    CountSigned(&arena->record->live_bytes, static_cast<std::int64_t>(chunk->bytes()));
    CountUp(&arena->record->allocations);
  }
}

void Discharge(tarn_concurrent_arena* arena, std::size_t bytes) {
  arena->capacity_bytes -= bytes;
  if (arena->record != nullptr) {
    CountSigned(&arena->record->capacity_bytes, -static_cast<std::int64_t>(bytes));
  }
}

// One chunk of a list that others may use.
Span* PopChunk(tarn_concurrent_arena* arena, IntrusiveList<Span> tarn_concurrent_arena::*list) {
  SlowPathScope scope;
  LockHolder holder(arena->lock.lock);
  return (arena->*list).PopFront();
}

// The objects of the chunks have ended; no other call uses the arena. Makes system calls and calls the page heap, so
// without the lock. Chunks that the quarantine cannot take stay.
void QuarantineChunks(tarn_concurrent_arena* arena) {
  IntrusiveList<Span> refused;
  while (Span* chunk = PopChunk(arena, &tarn_concurrent_arena::used)) {
    const std::size_t bytes = chunk->bytes();
    Unpoison(arena->poison, chunk->start(), bytes);
    if (arena->quarantine.Take(chunk)) {
      Discharge(arena, bytes);
    } else {
      refused.PushFront(chunk);
    }
  }
  SlowPathScope scope;
  LockHolder holder(arena->lock.lock);
  while (Span* chunk = refused.PopFront()) arena->used.PushFront(chunk);
}

// Tries without a new chunk.
void* TryAgain(tarn_concurrent_arena* arena, std::size_t bytes) TARN_REQUIRES(arena->lock.lock) {
  void* object;
  if (BumpAllocate(&arena->stacks, bytes, &object)) return object;
  if (CurrentRegion(arena) != nullptr || arena->shared.next + bytes > arena->shared.end) return nullptr;
  arena->shared.next += bytes;
  return reinterpret_cast<void*>(arena->shared.next - bytes);
}

// `bytes` is a multiple of 16.
TARN_NOINLINE void* Refill(tarn_concurrent_arena* arena, std::size_t bytes) {
  RequireHandle(arena, HandleKind::kConcurrentArena, "tarn_concurrent_arena_allocate");
  if (bytes >= std::size_t{1} << kAddressBits) return nullptr;
  PrepareThread();
  // A request of half a chunk and more gets a chunk of its own, so that the CPU's region is not given up for it.
  const bool alone = bytes > kLargestChunkBytes / 2;
  Span* chunk = nullptr;
  while (true) {
    {
      SlowPathScope scope;
      if (scope.nested()) return nullptr;
      LockHolder holder(arena->lock.lock);
      if (void* object = alone ? nullptr : TryAgain(arena, bytes)) {
        if (chunk != nullptr) arena->spare.PushFront(chunk);
        return object;
      }
      if (chunk == nullptr && !arena->spare.empty() && arena->spare.front()->bytes() >= bytes) {
        chunk = arena->spare.PopFront();
      }
      if (chunk != nullptr) {
        Enter(arena, chunk);
        const std::uintptr_t start = chunk->start_address();
        if (!alone) Install(arena, start + bytes, start + chunk->bytes());
        return chunk->start();
      }
    }
    chunk = NewChunk(arena, bytes);
    if (chunk == nullptr) {
      if (arena->record != nullptr) CountUp(&arena->record->failures);
      return nullptr;
    }
  }
}

// For an alignment above 16: what is placed at a multiple of 16 needs so much more.
TARN_NOINLINE void* AllocateAligned(tarn_concurrent_arena* arena, std::size_t bytes, std::size_t alignment) {
  if (!std::has_single_bit(alignment)) {
    errno = EINVAL;
    return nullptr;
  }
  if (alignment > PTRDIFF_MAX) return nullptr;
  const std::size_t rounded = RoundUp(std::max(bytes, std::size_t{1}), 16) + alignment - 16;
  void* object;
  if (!BumpAllocate(&arena->stacks, rounded, &object)) object = Refill(arena, rounded);
  return reinterpret_cast<void*>(RoundUp(reinterpret_cast<std::uintptr_t>(object), alignment));
}

}  // namespace

extern "C" {

TARN_EXPORT tarn_concurrent_arena* tarn_concurrent_arena_create_with(const tarn_concurrent_arena_options* options,
                                                                     int poison) {
  PrepareThread();
  const std::size_t cpus = StackCount();
  constexpr std::size_t kFirstStack = RoundUp(sizeof(tarn_concurrent_arena), 64);
  const std::size_t own_bytes = kFirstStack + cpus * kStrideBytes + (cpus + 1) * sizeof(BumpRegion);
  Span* own_region = NewRegion(PageCount::FromBytesCeil(own_bytes), PageCount(1));
  if (own_region == nullptr) {
    errno = ENOMEM;
    return nullptr;
  }
  auto* arena = ::new (own_region->start()) tarn_concurrent_arena{};
  char* stacks = static_cast<char*>(own_region->start()) + kFirstStack;
  arena->stacks = {cpus, kStrideBytes, stacks, cpus, 0};
  arena->regions = reinterpret_cast<BumpRegion*>(stacks + cpus * kStrideBytes);
  for (std::size_t i = 0; i < cpus; ++i) {
    arena->stacks.At(i)->word = reinterpret_cast<std::uint64_t>(&no_region);
  }
  arena->poison = poison != 0 && CanPoison();
  arena->checked = IsChecked(options != nullptr ? options->checked : 0);
  if (options != nullptr) {
    arena->limit_bytes = options->limit_bytes;
    arena->record = JoinRegistry(options->name, TARN_KIND_CONCURRENT_ARENA);
  }
  arena->own_region = own_region;
  AddForkLock(&arena->lock);
  OpenHandle(own_region, HandleKind::kConcurrentArena);
  return arena;
}

TARN_EXPORT void* tarn_concurrent_arena_allocate(tarn_concurrent_arena* arena, std::size_t bytes,
                                                 std::size_t alignment) {
  if (bytes > PTRDIFF_MAX) [[unlikely]]
    return nullptr;
  if (alignment > 16) [[unlikely]]
    return AllocateAligned(arena, bytes, alignment);
  // At least 16, so that no two allocations have one address.
  const std::size_t rounded = (bytes + 15 + (bytes == 0 ? 1 : 0)) & ~std::size_t{15};
  void* object;
  if (BumpAllocate(&arena->stacks, rounded, &object)) [[likely]]
    return object;
  return Refill(arena, rounded);
}

TARN_EXPORT int tarn_concurrent_arena_add_cleanup(tarn_concurrent_arena* arena, void (*run)(void*), void* object) {
  auto* cleanup = static_cast<Cleanup*>(tarn_concurrent_arena_allocate(arena, sizeof(Cleanup), alignof(Cleanup)));
  if (cleanup == nullptr) return 0;
  Unpoison(arena->poison, cleanup, sizeof(*cleanup));
  *cleanup = {run, object, arena->cleanups.load(std::memory_order_relaxed)};
  while (!arena->cleanups.compare_exchange_weak(cleanup->next, cleanup, std::memory_order_release,
                                                std::memory_order_relaxed)) {
  }
  return 1;
}

TARN_EXPORT void tarn_concurrent_arena_reset(tarn_concurrent_arena* arena) {
  RequireHandle(arena, HandleKind::kConcurrentArena, "tarn_concurrent_arena_reset");
  while (Cleanup* cleanup = arena->cleanups.load(std::memory_order_acquire)) {
    // Off the list first: a destructor may use the arena.
    arena->cleanups.store(cleanup->next, std::memory_order_relaxed);
    const bool outer = arena->in_cleanup;
    arena->in_cleanup = true;
    cleanup->run(cleanup->object);
    arena->in_cleanup = outer;
  }
  if (arena->checked) QuarantineChunks(arena);
  SlowPathScope scope;
  LockHolder holder(arena->lock.lock);
  for (std::size_t i = 0; i < arena->stacks.ids; ++i) {
    arena->stacks.At(i)->word = reinterpret_cast<std::uint64_t>(&no_region);
  }
  arena->unused = nullptr;
  arena->regions_used = 0;
  arena->shared = {0, 0};
  while (Span* chunk = arena->used.PopFront()) {
    Poison(arena->poison, chunk->start(), chunk->bytes());
    arena->spare.PushFront(chunk);
  }
  if (arena->record != nullptr) {
    CountSigned(&arena->record->live_bytes, -static_cast<std::int64_t>(arena->used_bytes));
    CountUp(&arena->record->resets);
  }
  arena->used_bytes = 0;
}

TARN_EXPORT void tarn_concurrent_arena_release(tarn_concurrent_arena* arena) {
  tarn_concurrent_arena_reset(arena);
  while (Span* chunk = PopChunk(arena, &tarn_concurrent_arena::spare)) {
    Discharge(arena, chunk->bytes());
    FreeRegion(chunk);
  }
  arena->quarantine.Empty();
}

TARN_EXPORT void tarn_concurrent_arena_destroy(tarn_concurrent_arena* arena) {
  if (arena == nullptr) return;
  BeginEnd(arena, HandleKind::kConcurrentArena, "tarn_concurrent_arena_destroy");
  if (arena->in_cleanup) ReportMisuse("tarn_concurrent_arena_destroy", arena, Misuse::kPoolAtWork);
  tarn_concurrent_arena_release(arena);
  LeaveRegistry(arena->record);
  RemoveForkLock(&arena->lock);
  // A call that still uses the arena misses, and is reported on its slow path.
  arena->stacks.bound = 0;
  FreeHandle(arena->own_region);
}

TARN_EXPORT tarn_concurrent_arena_stats tarn_concurrent_arena_get_stats(tarn_concurrent_arena* arena) {
  RequireHandle(arena, HandleKind::kConcurrentArena, "tarn_concurrent_arena_get_stats");
  SlowPathScope scope;
  LockHolder holder(arena->lock.lock);
  return {arena->used_bytes, arena->capacity_bytes, arena->limit_bytes};
}

}  // extern "C"

}  // namespace tarn
