// SPDX-License-Identifier: Apache-2.0
//
// Where the calls of this process are written down: the recording, and the part of it that each thread has.
//
// No lock. A thread writes into a mapped chunk of the file that is its own, and takes a number from one atomic counter.
// No memory of the allocator is used.
#pragma once

#include <pthread.h>

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "bench/trace/recording.h"

#define EXPORTED __attribute__((visibility("default")))

namespace tarn::trace {

// One page that the kernel wipes in a child of fork, so that `on` is false there.
struct Recording {
  std::atomic<bool> on;
  std::atomic<std::uint64_t> numbers;  // the last one given out
  std::atomic<std::uint64_t> chunks;   // the last one given out; 0 is the header's
  std::atomic<std::uint64_t> threads;
  pthread_key_t thread_end;
  char path[3072];
};
static_assert(sizeof(Recording) <= 4096);

// Null until the first call that can be recorded.
extern std::atomic<Recording*> recording;

struct ThreadState {
  Record* next;  // where the next record goes, up to `end`; both null without a chunk
  Record* end;
  void* chunk;
  std::uint64_t number;
  const void* recorded;  // the object that was recorded last; cleared before a call that may record from within
  const void* deleting;  // the object of the operator delete that is under way, recorded already
  unsigned end_rounds;   // how often the destructor of `thread_end` has run
  bool busy;             // taking a chunk
  bool ended;            // nothing is recorded any more
};
extern constinit thread_local ThreadState thread;

// Writes to stderr, without stdio.
[[gnu::format(printf, 1, 2)]] void Say(const char* format, ...);

// Gives this thread a new chunk; false if nothing can be recorded.
[[gnu::noinline, gnu::cold]] bool TakeChunk(Recording* self);

// Begins the recording, unless it is too early; null where there is none.
[[gnu::noinline, gnu::cold]] Recording* Start();

// The recording if there is one now, else null.
inline Recording* Current() {
  Recording* self = recording.load(std::memory_order_acquire);
  if (self == nullptr) [[unlikely]]
    self = Start();
  return self != nullptr && self->on.load(std::memory_order_relaxed) ? self : nullptr;
}

inline std::uint64_t TakeNumber(Recording* self) { return self->numbers.fetch_add(1, std::memory_order_relaxed) + 1; }

inline void Write(Recording* self, std::uint64_t tag, const void* object, std::uint64_t bytes) {
  if (thread.next == thread.end && !TakeChunk(self)) return;
  Record* record = thread.next++;
  record->address = reinterpret_cast<std::uintptr_t>(object);
  record->bytes = bytes;
  // Release: a process that is killed here leaves a record that is whole or none.
  std::atomic_ref(record->tag).store(tag, std::memory_order_release);
}

inline void RecordFree(const void* object) {
  if (object == nullptr || object == thread.deleting) return;
  if (Recording* self = Current()) Write(self, MakeTag(TakeNumber(self), 0, RecordKind::kFree), object, 0);
}

// Calls `allocate`, and records its result unless a call within has done so.
template <typename Allocate>
void* RecordAllocation(RecordKind kind, std::size_t alignment, std::size_t bytes, Allocate allocate) {
  thread.recorded = nullptr;
  void* object = allocate();
  if (object == nullptr || object == thread.recorded) return object;
  thread.recorded = object;
  if (Recording* self = Current()) {
    const auto alignment_log2 = static_cast<unsigned>(alignment > 1 ? std::bit_width(alignment - 1) : 0);
    Write(self, MakeTag(TakeNumber(self), alignment_log2, kind), object, bytes);
  }
  return object;
}

}  // namespace tarn::trace
