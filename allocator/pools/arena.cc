// SPDX-License-Identifier: Apache-2.0
//
// The slow paths of tarn/arena.h: chunks, resets, rewinds.
//
// A chunk is a region (heap/regions.h); its Span record is the chunk's record, and the list link of that record puts it
// on one of the arena's three lists. `used` has the current chunk in front; `spare` has the next chunk to use in front.
// So moving all of `used` to `spare`, one by one, restores the order in which they were first used. Invariants:
//   start <= next <= end within the current chunk or buffer; or next > end: nothing was handed out yet;
//   used_before_bytes + (next - start) is what is handed out
// Cleanup records lie at the end of the chunks, away from the objects, and grow downwards.
//
// One thread at a time uses an arena, so there is no lock and nothing for a fork to repair.
#define TARN_C_INTERFACE_ONLY
#include "allocator/include/tarn/arena.h"

#include <errno.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>
#include <new>

#include "allocator/base/attributes.h"
#include "allocator/base/intrusive_list.h"
#include "allocator/base/units.h"
#include "allocator/heap/poison.h"
#include "allocator/heap/process_heap.h"
#include "allocator/heap/regions.h"
#include "allocator/os/crash.h"
#include "allocator/pools/checked_mode.h"
#include "allocator/pools/quarantine.h"
#include "allocator/pools/registry.h"

namespace tarn {

namespace {

using ChunkList = IntrusiveList<Span>;
static_assert(sizeof(ChunkList) == sizeof(tarn_arena::used) && alignof(ChunkList) <= alignof(void*));

// Chosen: the smallest region, and the size from which on larger chunks save nothing (a huge page).
constexpr std::size_t kFirstChunkBytes = kPageBytes;
constexpr std::size_t kLargestChunkBytes = kHugePageBytes;
constexpr int kDeadByte = 0xDF;
// next > end, whatever the alignment.
constexpr std::uintptr_t kNothingYet = 8;

static_assert(sizeof(Quarantine) == sizeof(tarn_arena::quarantine));

Quarantine& QuarantineOf(tarn_arena* arena) { return *reinterpret_cast<Quarantine*>(arena->quarantine); }
ChunkList& List(void** place) { return *reinterpret_cast<ChunkList*>(place); }

std::size_t CurrentBytes(const tarn_arena* arena) { return arena->next > arena->end ? 0 : arena->next - arena->start; }

void SetBounds(tarn_arena* arena, std::uintptr_t start, std::uintptr_t end) {
  arena->start = start;
  arena->next = start;
  arena->end = end;
}

void EnterBuffer(tarn_arena* arena) {
  if (arena->buffer_bytes != 0) {
    SetBounds(arena, arena->buffer, arena->buffer + arena->buffer_bytes);
  } else {
    SetBounds(arena, kNothingYet, 0);
  }
}

void EnterChunk(tarn_arena* arena, Span* chunk) {
  SetBounds(arena, chunk->start_address(), chunk->start_address() + chunk->bytes());
  List(arena->used).PushFront(chunk);
}

// Reports to the statistics, at each slow path.
void Report(tarn_arena* arena) {
  if (arena->record == nullptr) return;
  const std::size_t used_bytes = arena->used_before_bytes + CurrentBytes(arena);
  CountSigned(&arena->record->live_bytes,
              static_cast<std::int64_t>(used_bytes) - static_cast<std::int64_t>(arena->reported_bytes));
  arena->reported_bytes = used_bytes;
}

void CountCapacity(tarn_arena* arena, std::size_t bytes, bool more) {
  arena->capacity_bytes = more ? arena->capacity_bytes + bytes : arena->capacity_bytes - bytes;
  if (arena->record != nullptr) {
    CountSigned(&arena->record->capacity_bytes,
                more ? static_cast<std::int64_t>(bytes) : -static_cast<std::int64_t>(bytes));
  }
}

Span* NewChunk(tarn_arena* arena, std::size_t bytes, std::size_t alignment) {
  // Chunks start at a page; alignment beyond that takes room of its own.
  const std::size_t wanted_bytes = bytes + (alignment > kPageBytes ? alignment : 0);
  std::size_t chunk_bytes = std::clamp(arena->capacity_bytes, kFirstChunkBytes, kLargestChunkBytes);
  chunk_bytes = std::max(chunk_bytes, RoundUp(wanted_bytes, kPageBytes));
  if (arena->limit_bytes != 0) {
    const std::size_t left_bytes = arena->limit_bytes - std::min(arena->limit_bytes, arena->capacity_bytes);
    chunk_bytes = std::min(chunk_bytes, left_bytes / kPageBytes * kPageBytes);
    if (chunk_bytes < wanted_bytes || chunk_bytes == 0) return nullptr;
  }
  Span* chunk = NewRegion(PageCount::FromBytesCeil(chunk_bytes), PageCount(1));
  if (chunk != nullptr) CountCapacity(arena, chunk->bytes(), true);
  return chunk;
}

void FreeChunk(tarn_arena* arena, Span* chunk) {
  CountCapacity(arena, chunk->bytes(), false);
  FreeRegion(chunk);
}

// The current chunk is over; the one before it becomes current, or the buffer.
void LeaveChunk(tarn_arena* arena, Span* chunk) {
  ChunkList::Remove(chunk);
  if (arena->checked != 0) {
    const std::size_t bytes = chunk->bytes();
    Unpoison(arena->poison != 0, chunk->start(), bytes);
    if (QuarantineOf(arena).Take(chunk)) {
      CountCapacity(arena, bytes, false);
      return;
    }
  }
  Poison(arena->poison != 0, chunk->start(), chunk->bytes());
  List(arena->spare).PushFront(chunk);
}

void KillBytes(tarn_arena* arena, std::uintptr_t from, std::uintptr_t to) {
  if (from >= to) return;
  if (arena->checked != 0) {
    Unpoison(arena->poison != 0, reinterpret_cast<void*>(from), to - from);
    std::memset(reinterpret_cast<void*>(from), kDeadByte, to - from);
  }
  Poison(arena->poison != 0, reinterpret_cast<void*>(from), to - from);
}

[[noreturn]] void ReportStaleMark(const tarn_arena_mark* mark) {
  ReportMisuse("tarn_arena_rewind", reinterpret_cast<void*>(mark->next), Misuse::kStaleMark);
}

constexpr std::size_t kStaleRanges = std::size(decltype(tarn_arena::stale){});

// The ranges are in order and do not overlap; those in use come first.
bool IsStale(const tarn_arena* arena, const tarn_arena_mark* mark) {
  if (mark->generation != arena->generation || mark->number > arena->marks) return true;
  return std::any_of(std::begin(arena->stale), std::end(arena->stale), [mark](const tarn_arena_stale_marks& range) {
    return range.after < mark->number && mark->number <= range.last;
  });
}

// Makes the marks after this one stale. That includes all ranges after it, so they give up their places. Where none is
// left, the oldest range is forgotten.
void MakeLaterMarksStale(tarn_arena* arena, const tarn_arena_mark* mark) {
  if (mark->number == arena->marks) return;
  std::size_t kept = 0;
  while (kept < kStaleRanges && arena->stale[kept].last != 0 && arena->stale[kept].after < mark->number) ++kept;
  std::fill(arena->stale + kept, std::end(arena->stale), tarn_arena_stale_marks{});
  if (kept == kStaleRanges) {
    std::move(arena->stale + 1, std::end(arena->stale), arena->stale);
    --kept;
  }
  arena->stale[kept] = {mark->number, arena->marks};
}

// Down to where the list was at the mark; null: all.
void RunCleanups(tarn_arena* arena, const tarn_arena_mark* mark) {
  const tarn_arena_cleanup* const until = mark == nullptr ? nullptr : mark->cleanups;
  while (arena->cleanups != until) {
    // A function that runs here has reset the arena, or rewound it further.
    if (arena->cleanups == nullptr) ReportStaleMark(mark);
    // Off the list first: a destructor may use the arena.
    const tarn_arena_cleanup cleanup = *arena->cleanups;
    arena->cleanups = cleanup.next;
    const std::uint16_t outer = arena->in_cleanup;
    arena->in_cleanup = 1;
    cleanup.run(cleanup.object);
    arena->in_cleanup = outer;
  }
}

}  // namespace

extern "C" {

TARN_EXPORT void tarn_arena_init_with(tarn_arena* arena, const tarn_arena_options* options, int poison) {
  std::memset(static_cast<void*>(arena), 0, sizeof(*arena));
  arena->poison = poison != 0 && CanPoison() ? 1 : 0;
  PrepareThread();
  arena->checked = IsChecked(options != nullptr ? options->checked : 0) ? 1 : 0;
  if (options != nullptr) {
    arena->limit_bytes = options->limit_bytes;
    arena->record = JoinRegistry(options->name, TARN_KIND_ARENA);
    // Objects of whatever alignment are placed by address, cleanup records at multiples of 8.
    const auto buffer = reinterpret_cast<std::uintptr_t>(options->buffer);
    const std::uintptr_t buffer_end = (buffer + options->buffer_bytes) & ~std::uintptr_t{7};
    if (options->buffer != nullptr && buffer_end > buffer) {
      arena->buffer = buffer;
      arena->buffer_bytes = buffer_end - buffer;
      Poison(arena->poison != 0, options->buffer, arena->buffer_bytes);
    }
  }
  EnterBuffer(arena);
}

TARN_EXPORT TARN_COLD void* tarn_arena_grow(tarn_arena* arena, std::size_t bytes, std::size_t alignment) {
  if (!std::has_single_bit(alignment)) {
    errno = EINVAL;
    return nullptr;
  }
  // A chunk starts at a page, so more than the slack for alignment is never needed; what is beyond the address space is
  // refused before any sum can overflow.
  constexpr std::size_t kAddressableBytes = std::size_t{1} << kAddressBits;
  Span* chunk = nullptr;
  if (bytes < kAddressableBytes && alignment < kAddressableBytes) {
    // A spare chunk serves if the request fits wherever it starts.
    chunk = List(arena->spare).front();
    const std::size_t slack_bytes = alignment > kPageBytes ? alignment : 0;
    if (chunk != nullptr && bytes + slack_bytes <= chunk->bytes()) {
      ChunkList::Remove(chunk);
    } else {
      chunk = NewChunk(arena, std::max<std::size_t>(bytes, 1), alignment);
      if (chunk != nullptr) Poison(arena->poison != 0, chunk->start(), chunk->bytes());
    }
  }
  if (chunk == nullptr) {
    if (arena->record != nullptr) CountUp(&arena->record->failures);
    return nullptr;
  }
  arena->used_before_bytes += CurrentBytes(arena);
  EnterChunk(arena, chunk);
  const std::uintptr_t object = RoundUp(arena->next, alignment);
  arena->next = object + bytes;
  if (arena->record != nullptr) {
    Report(arena);
    CountUp(&arena->record->allocations);
  }
  Unpoison(arena->poison != 0, reinterpret_cast<void*>(object), bytes);
  return reinterpret_cast<void*>(object);
}

TARN_EXPORT int tarn_arena_add_cleanup(tarn_arena* arena, void (*run)(void*), void* object) {
  std::uintptr_t place = arena->end - sizeof(tarn_arena_cleanup);
  if (arena->next > arena->end || arena->end - arena->next < sizeof(tarn_arena_cleanup)) {
    // A chunk more, entered by an allocation of nothing.
    if (tarn_arena_grow(arena, 0, 1) == nullptr) return 0;
    place = arena->end - sizeof(tarn_arena_cleanup);
  }
  arena->end = place;
  auto* cleanup = reinterpret_cast<tarn_arena_cleanup*>(place);
  Unpoison(arena->poison != 0, cleanup, sizeof(*cleanup));
  *cleanup = {run, object, arena->cleanups};
  arena->cleanups = cleanup;
  return 1;
}

TARN_EXPORT void tarn_arena_reset(tarn_arena* arena) {
  RunCleanups(arena, nullptr);
  while (Span* chunk = List(arena->used).front()) LeaveChunk(arena, chunk);
  if (arena->buffer_bytes != 0) KillBytes(arena, arena->buffer, arena->buffer + arena->buffer_bytes);
  EnterBuffer(arena);
  arena->used_before_bytes = 0;
  ++arena->generation;
  arena->marks = 0;
  std::fill(std::begin(arena->stale), std::end(arena->stale), tarn_arena_stale_marks{});
  Report(arena);
  if (arena->record != nullptr) CountUp(&arena->record->resets);
}

TARN_EXPORT void tarn_arena_release(tarn_arena* arena) {
  tarn_arena_reset(arena);
  while (Span* chunk = List(arena->spare).PopFront()) FreeChunk(arena, chunk);
  QuarantineOf(arena).Empty();
}

TARN_EXPORT void tarn_arena_destroy(tarn_arena* arena) {
  if (arena->in_cleanup != 0) ReportMisuse("tarn_arena_destroy", arena, Misuse::kPoolAtWork);
  tarn_arena_release(arena);
  Unpoison(arena->poison != 0, reinterpret_cast<void*>(arena->buffer), arena->buffer_bytes);
  LeaveRegistry(arena->record);
  arena->record = nullptr;
}

TARN_EXPORT tarn_arena_mark tarn_arena_get_mark(tarn_arena* arena) {
  return {List(arena->used).front(), arena->next,       arena->end,     arena->cleanups,
          arena->used_before_bytes,  arena->generation, ++arena->marks, arena};
}

TARN_EXPORT void tarn_arena_rewind(tarn_arena* arena, const tarn_arena_mark* mark) {
  if (mark->arena != arena) {
    ReportMisuse("tarn_arena_rewind", reinterpret_cast<void*>(mark->next), Misuse::kForeignMark);
  }
  if (IsStale(arena, mark)) ReportStaleMark(mark);
  MakeLaterMarksStale(arena, mark);
  RunCleanups(arena, mark);
  ChunkList& used = List(arena->used);
  Span* const marked = static_cast<Span*>(mark->chunk);
  bool left_chunks = false;
  while (used.front() != marked) {
    if (used.empty()) ReportStaleMark(mark);
    LeaveChunk(arena, used.front());
    left_chunks = true;
  }
  if (!left_chunks) {
    // Memory before the mark may have been taken back since.
    arena->next = std::min(arena->next, mark->next);
  } else {
    EnterBuffer(arena);
    if (marked != nullptr) arena->start = marked->start_address();
    arena->next = mark->next;
  }
  arena->end = mark->end;
  arena->used_before_bytes = mark->used_before_bytes;
  KillBytes(arena, arena->next, arena->end);
  Report(arena);
}

TARN_EXPORT tarn_arena_stats tarn_arena_get_stats(tarn_arena* arena) {
  Report(arena);
  return {arena->used_before_bytes + CurrentBytes(arena), arena->capacity_bytes, arena->limit_bytes};
}

}  // extern "C"

}  // namespace tarn
