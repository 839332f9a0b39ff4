// SPDX-License-Identifier: Apache-2.0
//
// tarn/pool.h: per-CPU stacks in front of a locked array of shared objects, and behind that one of victims.
//
//   Get:  the CPU's stack, else half a stack from the shared ones, else a victim
//   Put:  the CPU's stack, else half of the stack to the shared ones; what has no room is dropped
//   Tick: victims are dropped; all stacks and the shared ones become victims
//
// Bounds: the stacks together hold at most half of max_objects, the shared array the rest, and the victims are not more
// than both together; Get and Put never hold an object in two places. Objects are dropped outside of the lock, because
// drop is the user's function and may use the pool.
//
// Tick owns all stacks for a moment, as cpu_stacks.h describes. The bound goes to 0, and every sequence under way is
// restarted. Until the bound is back, Get and Put take their slow paths and wait for the lock. The system call
// (membarrier) is made under the lock, because no other thread may touch stack or shared objects during it; it happens
// once per epoch. Where there is no such call (the thread mode, kernels before 5.10) a pool has no stacks: else
// objects that an idle thread had put back would stay.
//
// Care: a pool with objects in it is `watched`: it is a duty of the caretaker (pools/caretaker.h), which ends its
// epochs. One without epochs is not, because it would keep the caretaker's thread for ever. A tick takes all
// capacities away, so that the next Put on each CPU takes its slow path; there the pool, if it was found empty and left
// unwatched, asks for care again. Both happen under the pool's lock: no object comes into an unwatched pool without a
// slow path.
#define TARN_C_INTERFACE_ONLY
#include "allocator/include/tarn/pool.h"

#include <errno.h>

#include <algorithm>
#include <new>

#include "allocator/base/attributes.h"
#include "allocator/base/units.h"
#include "allocator/heap/process_heap.h"
#include "allocator/heap/regions.h"
#include "allocator/life/fork_locks.h"
#include "allocator/os/clock.h"
#include "allocator/os/crash.h"
#include "allocator/os/fork_mark.h"
#include "allocator/os/thread_state.h"
#include "allocator/pools/caretaker.h"
#include "allocator/pools/checked_mode.h"
#include "allocator/pools/cpu_stacks.h"
#include "allocator/pools/handle.h"
#include "allocator/pools/registry.h"
#include "allocator/pools/stack_count.h"
#include "allocator/rseq/registration.h"

struct tarn_pool {
  tarn::CpuStacks stacks;
  tarn::ForkLock lock;
  void** shared;
  std::size_t shared_count;
  std::size_t shared_capacity;
  void** victims;
  std::size_t victim_count;
  // Of the tick under way, taken from the end, under the lock. Not empty between two ticks in the child of a fork.
  void** dying;
  std::size_t dying_count;
  // The process whose thread is in Tick, or 0: in the child of a fork such a thread is no more, or has forked in a
  // drop.
  std::uint64_t ticking;
  tarn::Duty duty;
  bool watched;
  bool checked;
  std::uint32_t epoch_ms;
  std::uint32_t epoch_began_ms;
  std::uint32_t pressure_seen;
  void (*drop)(void*, void*);
  void* context;
  // Moved by batches, which the stacks' counters count as well.
  std::uint64_t refilled;
  std::uint64_t flushed;
  std::uint64_t steals;
  std::uint64_t misses;
  std::uint64_t direct_puts;
  std::uint64_t drops;
  tarn_pool_stats reported;
  tarn::Span* own_region;
  tarn_registry_record* record;
};

namespace tarn {

namespace {

constexpr std::size_t kMaxObjects = std::size_t{1} << 20;
constexpr std::uint32_t kDefaultEpochMs = 2000;
// Chosen: room for what one CPU has in use at a time.
constexpr std::size_t kMaxCapacity = 30;

tarn_pool_stats Gather(tarn_pool* pool) TARN_REQUIRES(pool->lock.lock) {
  tarn_pool_stats stats = {};
  std::uint64_t pops = 0;
  std::size_t in_stacks = 0;
  for (std::size_t i = 0; i < pool->stacks.ids; ++i) {
    const std::uint64_t word = __atomic_load_n(&pool->stacks.At(i)->word, __ATOMIC_RELAXED);
    pops += word >> 16;
    in_stacks += word & 0xFFFF;
  }
  stats.hits = pops - pool->flushed;
  stats.steals = pool->steals;
  stats.misses = pool->misses;
  stats.puts = pops + in_stacks - pool->refilled + pool->direct_puts;
  stats.drops = __atomic_load_n(&pool->drops, __ATOMIC_RELAXED);
  stats.cached_objects = in_stacks + pool->shared_count + pool->victim_count;
  return stats;
}

void Report(tarn_pool* pool) TARN_REQUIRES(pool->lock.lock) {
  if (pool->record == nullptr) return;
  const tarn_pool_stats now = Gather(pool);
  const tarn_pool_stats& before = pool->reported;
  CountUp(&pool->record->hits, now.hits - before.hits);
  CountUp(&pool->record->steals, now.steals - before.steals);
  CountUp(&pool->record->misses, now.misses - before.misses);
  CountUp(&pool->record->drops, now.drops - before.drops);
  CountUp(&pool->record->allocations, now.hits + now.steals + now.misses - before.hits - before.steals - before.misses);
  CountUp(&pool->record->frees, now.puts - before.puts);
  CountSigned(&pool->record->live_objects,
              static_cast<std::int64_t>(now.cached_objects) - static_cast<std::int64_t>(before.cached_objects));
  pool->reported = now;
}

void Drop(tarn_pool* pool, void* object) {
  __atomic_fetch_add(&pool->drops, 1, __ATOMIC_RELAXED);
  pool->drop(object, pool->context);
}

// Takes an object that is not in the CPU's stack.
void* TakeShared(tarn_pool* pool) TARN_REQUIRES(pool->lock.lock) {
  if (pool->shared_count != 0) {
    EnableStack(&pool->stacks);
    void* object = pool->shared[--pool->shared_count];
    std::size_t batch = pool->stacks.capacity / 2;
    while (batch > 1 && pool->shared_count != 0 && StackPush(&pool->stacks, pool->shared[pool->shared_count - 1])) {
      --pool->shared_count;
      ++pool->refilled;
      --batch;
    }
    ++pool->steals;
    return object;
  }
  if (pool->victim_count != 0) {
    ++pool->steals;
    return pool->victims[--pool->victim_count];
  }
  ++pool->misses;
  Report(pool);
  return nullptr;
}

// Where every object is in one of the arrays.
void CheckIsNotHere(tarn_pool* pool, void* object) TARN_REQUIRES(pool->lock.lock) {
  void** const shared_end = pool->shared + pool->shared_count;
  void** const victims_end = pool->victims + pool->victim_count;
  if (std::find(pool->shared, shared_end, object) != shared_end ||
      std::find(pool->victims, victims_end, object) != victims_end) {
    ReportMisuse("tarn_pool_put", object, Misuse::kAlreadyFree);
  }
}

// False: there is no room.
bool GiveShared(tarn_pool* pool, void* object) TARN_REQUIRES(pool->lock.lock) {
  if (pool->checked) CheckIsNotHere(pool, object);
  EnableStack(&pool->stacks);
  if (StackPush(&pool->stacks, object)) return true;
  if (pool->shared_count == pool->shared_capacity) return false;
  pool->shared[pool->shared_count++] = object;
  ++pool->direct_puts;
  // Room for the next ones.
  for (std::size_t i = 0; i < pool->stacks.capacity / 2 && pool->shared_count < pool->shared_capacity; ++i) {
    void* popped;
    if (!StackPop(&pool->stacks, &popped)) break;
    pool->shared[pool->shared_count++] = popped;
    ++pool->flushed;
  }
  Report(pool);
  return true;
}

// Moves what the stacks hold to the victims, and takes their capacity. False: they cannot be owned now. `alone`: nobody
// else uses the pool.
bool EmptyStacks(tarn_pool* pool, bool alone) TARN_REQUIRES(pool->lock.lock) {
  if (pool->stacks.ids == 0) return true;
  __atomic_store_n(&pool->stacks.bound, 0, __ATOMIC_RELAXED);
  const bool owned = alone || AbortAllSequences();
  for (std::size_t i = 0; owned && i < pool->stacks.ids; ++i) {
    CpuStack* stack = pool->stacks.At(i);
    const std::size_t top = stack->top();
    for (std::size_t k = 0; k < top; ++k) pool->victims[pool->victim_count++] = stack->slots[k];
    stack->word += top * 0xFFFF;
    stack->capacity = 0;
    pool->flushed += top;
  }
  __atomic_store_n(&pool->stacks.bound, pool->stacks.ids, __ATOMIC_RELEASE);
  return owned;
}

// Destroys the victims of the epoch before. Each leaves under the lock, one by one: a drop may fork, and a tick of the
// child may come before this one goes on.
void DropDying(tarn_pool* pool) {
  while (true) {
    void* object;
    {
      SlowPathScope scope;
      LockHolder holder(pool->lock.lock);
      if (pool->dying_count == 0) return;
      object = pool->dying[--pool->dying_count];
    }
    Drop(pool, object);
  }
}

// Nothing is dying: the victims do from now on, and what the pool holds becomes victims.
void BeginEpoch(tarn_pool* pool, bool alone) TARN_REQUIRES(pool->lock.lock) {
  __atomic_store_n(&pool->epoch_began_ms, CoarseMilliseconds(), __ATOMIC_RELAXED);
  std::swap(pool->victims, pool->dying);
  pool->dying_count = pool->victim_count;
  std::copy(pool->shared, pool->shared + pool->shared_count, pool->victims);
  pool->victim_count = pool->shared_count;
  pool->shared_count = 0;
  const bool all = EmptyStacks(pool, alone);
  // The objects that are in here now are gone after the next epoch, unless a Get takes them.
  pool->watched = !all || pool->victim_count != 0;
}

// Ends an epoch. The model tests/models/pool_epochs.pml searches its states.
void Tick(tarn_pool* pool, bool alone = false) {
  RequireHandle(pool, HandleKind::kPool, "tarn_pool_tick");
  PrepareThread();
  const std::uint64_t process = fork_mark.generation();
  {
    SlowPathScope scope;
    if (scope.nested()) return;
    LockHolder holder(pool->lock.lock);
    if (pool->ticking == process) return;
    pool->ticking = process;
  }
  while (true) {
    // Those that a tick of the parent has left.
    DropDying(pool);
    SlowPathScope scope;
    LockHolder holder(pool->lock.lock);
    if (pool->dying_count != 0) continue;
    BeginEpoch(pool, alone);
    break;
  }
  DropDying(pool);
  SlowPathScope scope;
  LockHolder holder(pool->lock.lock);
  pool->ticking = 0;
  Report(pool);
}

bool IsTicking(tarn_pool* pool) {
  SlowPathScope scope;
  LockHolder holder(pool->lock.lock);
  return pool->ticking == fork_mark.generation();
}

bool IsWatched(tarn_pool* pool) {
  SlowPathScope scope;
  LockHolder holder(pool->lock.lock);
  return pool->watched;
}

// Ends the epoch if its time has come; everything goes when memory is short. In how many milliseconds the next one
// ends.
std::uint32_t EndEpochIfDue(tarn_pool* pool, bool memory_is_short) {
  if (memory_is_short) {
    Tick(pool);
    Tick(pool);
  } else if (pool->epoch_ms != TARN_POOL_NO_EPOCHS) {
    const std::uint32_t began_ms = __atomic_load_n(&pool->epoch_began_ms, __ATOMIC_RELAXED);
    const std::uint32_t age_ms = MillisecondsBetween(began_ms, CoarseMilliseconds());
    if (age_ms < pool->epoch_ms) return pool->epoch_ms - age_ms;
    Tick(pool);
  }
  return IsWatched(pool) ? pool->epoch_ms : Duty::kNothingLeft;
}

std::uint32_t RunDuty(void* pool, bool memory_is_short) {
  return EndEpochIfDue(static_cast<tarn_pool*>(pool), memory_is_short);
}

// The last act of a slow path: sees to it that somebody looks after a pool with objects.
void Attend(tarn_pool* pool, bool unwatched) {
  Caretaker& caretaker = process_heap.caretaker;
  if (pool->epoch_ms != TARN_POOL_NO_EPOCHS) {
    if (unwatched) caretaker.Ask(&pool->duty);
    if (caretaker.IsAtWork()) return;
  }
  const std::uint32_t pressure = caretaker.pressure();
  const bool memory_is_short = __atomic_exchange_n(&pool->pressure_seen, pressure, __ATOMIC_RELAXED) != pressure;
  static_cast<void>(EndEpochIfDue(pool, memory_is_short));
}

TARN_NOINLINE void* GetSlow(tarn_pool* pool) {
  RequireHandle(pool, HandleKind::kPool, "tarn_pool_get");
  PrepareThread();
  void* object;
  bool watched;
  {
    SlowPathScope scope;
    if (scope.nested()) return nullptr;
    LockHolder holder(pool->lock.lock);
    object = TakeShared(pool);
    watched = pool->watched;
  }
  if (watched) Attend(pool, false);
  return object;
}

TARN_NOINLINE void PutSlow(tarn_pool* pool, void* object) {
  RequireHandle(pool, HandleKind::kPool, "tarn_pool_put");
  PrepareThread();
  bool taken = false;
  bool unwatched = false;
  {
    SlowPathScope scope;
    if (!scope.nested()) {
      LockHolder holder(pool->lock.lock);
      taken = GiveShared(pool, object);
      if (taken && !pool->watched) {
        pool->watched = unwatched = true;
        __atomic_store_n(&pool->epoch_began_ms, CoarseMilliseconds(), __ATOMIC_RELAXED);
      }
    }
  }
  if (!taken) {
    Drop(pool, object);
  } else {
    Attend(pool, unwatched);
  }
}

}  // namespace

extern "C" {

TARN_EXPORT tarn_pool* tarn_pool_create(const tarn_pool_options* options) {
  if (options == nullptr || options->drop == nullptr || options->max_objects > kMaxObjects) {
    errno = EINVAL;
    return nullptr;
  }
  PrepareThread();
  const std::size_t max_objects = options->max_objects != 0 ? options->max_objects : process_heap.pool_objects();
  const bool checked = IsChecked(options->checked);
  const CpuCache& cpu_cache = process_heap.cpu_cache;
  const bool can_own = cpu_cache.mode() == CacheMode::kCpu && cpu_cache.can_drain_remotely();
  std::size_t cpus = can_own && !checked ? StackCount() : 0;
  // On a machine of many CPUs, a small pool does with the shared array.
  const std::size_t capacity = cpus == 0 ? 0 : std::min(max_objects / 2 / cpus, kMaxCapacity);
  if (capacity == 0) cpus = 0;
  const std::size_t shared_capacity = max_objects - cpus * capacity;
  const std::size_t stride_bytes = CpuStacks::StrideBytes(capacity);
  constexpr std::size_t kFirstStack = RoundUp(sizeof(tarn_pool), 64);
  const std::size_t own_bytes = kFirstStack + cpus * stride_bytes + (shared_capacity + 2 * max_objects) * sizeof(void*);
  bool zero;
  Span* own_region = NewRegion(PageCount::FromBytesCeil(own_bytes), PageCount(1), 0, &zero);
  if (own_region == nullptr) {
    errno = ENOMEM;
    return nullptr;
  }
  auto* pool = ::new (own_region->start()) tarn_pool{};
  char* stacks = static_cast<char*>(own_region->start()) + kFirstStack;
  pool->stacks = {cpus, stride_bytes, stacks, cpus, capacity};
  if (!zero) {
    for (std::size_t i = 0; i < cpus; ++i) pool->stacks.At(i)->word = pool->stacks.At(i)->capacity = 0;
  }
  pool->shared = reinterpret_cast<void**>(stacks + cpus * stride_bytes);
  pool->shared_capacity = shared_capacity;
  pool->victims = pool->shared + shared_capacity;
  pool->dying = pool->victims + max_objects;
  pool->drop = options->drop;
  pool->context = options->context;
  pool->duty.run = &RunDuty;
  pool->duty.owner = pool;
  pool->checked = checked;
  pool->epoch_ms = options->epoch_ms != 0 ? options->epoch_ms : kDefaultEpochMs;
  pool->pressure_seen = process_heap.caretaker.pressure();
  pool->own_region = own_region;
  pool->record = JoinRegistry(options->name, TARN_KIND_POOL);
  process_heap.caretaker.Prepare();
  AddForkLock(&pool->lock);
  OpenHandle(own_region, HandleKind::kPool);
  return pool;
}

TARN_EXPORT void tarn_pool_destroy(tarn_pool* pool) {
  if (pool == nullptr) return;
  BeginEnd(pool, HandleKind::kPool, "tarn_pool_destroy");
  if (!process_heap.caretaker.Dismiss(&pool->duty) || IsTicking(pool)) {
    ReportMisuse("tarn_pool_destroy", pool, Misuse::kPoolAtWork);
  }
  // Objects that a drop puts back are dropped, too: there is no room, and no care any more.
  pool->shared_capacity = 0;
  pool->stacks.capacity = 0;
  pool->epoch_ms = TARN_POOL_NO_EPOCHS;
  Tick(pool, true);
  Tick(pool, true);
  LeaveRegistry(pool->record);
  RemoveForkLock(&pool->lock);
  // A call that still uses the pool misses, and is reported on its slow path.
  pool->stacks.bound = 0;
  FreeHandle(pool->own_region);
}

TARN_EXPORT void* tarn_pool_get(tarn_pool* pool) {
  void* object;
  if (StackPop(&pool->stacks, &object)) [[likely]]
    return object;
  return GetSlow(pool);
}

TARN_EXPORT void tarn_pool_put(tarn_pool* pool, void* object) {
  if (object == nullptr) [[unlikely]]
    return;
  if (StackPush(&pool->stacks, object)) [[likely]]
    return;
  PutSlow(pool, object);
}

TARN_EXPORT void tarn_pool_refuse(tarn_pool* pool, void* object) {
  RequireHandle(pool, HandleKind::kPool, "tarn_pool_refuse");
  Drop(pool, object);
}

TARN_EXPORT void tarn_pool_tick(tarn_pool* pool) { Tick(pool); }

TARN_EXPORT tarn_pool_stats tarn_pool_get_stats(tarn_pool* pool) {
  RequireHandle(pool, HandleKind::kPool, "tarn_pool_get_stats");
  SlowPathScope scope;
  LockHolder holder(pool->lock.lock);
  Report(pool);
  return Gather(pool);
}

}  // extern "C"

}  // namespace tarn
