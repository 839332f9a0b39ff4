// SPDX-License-Identifier: Apache-2.0
//
// The number of the calling thread's stack, for each malloc and free of the checked mode.
//
// A walk takes some fifty nanoseconds a frame (unwind/stack_walk.h). Programs allocate from the same places again and
// again, so walks are remembered: for each one, where on the stack the return addresses stood, and which they were. If
// the same words stand in the same places again, the stack is the same one.
//
// Why that is sound enough. The comparison goes from the innermost frame outward. The same return address in the same
// place means the same function, in the same call. A function has a frame of the same size at each call of one place,
// so the next return address stands where it stood. The exception is a function whose frame varies (alloca, arrays of
// variable length, realigned stacks) and that left an old copy of a return address just where one stood before. The
// result is a stack that was seen earlier with the same innermost frames. It appears in a report, and nothing else
// depends on it. For the same reason no word is read that is not on the stack: the frames that were equal so far prove
// that there is a next one.
//
// An entry is guarded by a sequence number, as the cache of rules in unwind/: nobody waits. Who meets a writer walks
// the stack.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "allocator/base/attributes.h"
#include "allocator/misuse/stack_table.h"
#include "allocator/unwind/stack_walk.h"

namespace tarn {

class StackMemo {
 public:
  // Chosen: the hot call sites of a program, at a few depths each.
  static constexpr std::size_t kEntries = 2048;
  static constexpr std::size_t kEntryBytes = 192;
  static constexpr std::size_t kBytes = kEntries * kEntryBytes;
  static constexpr std::size_t kSteps = 1024;

  constexpr StackMemo() = default;

  // `memory` has kBytes, zero, and stays. `max_frames` is at most StackTable::kMaxFrames.
  void Init(void* memory, StackTable* table, std::size_t max_frames);

  // 0: not kept. The allocator's own frames are left out where they can be told from the program's.
  TARN_NOINLINE std::uint32_t Capture();

 private:
  static constexpr std::size_t kMostPlaces = 21;
  // A place on the stack as its distance from the frame in words, 16 bits, and the word that stood there, 48 bits.
  struct Entry {
    std::atomic<std::uint32_t> sequence;  // odd: being written
    std::atomic<std::uint32_t> count;
    std::atomic<std::uint32_t> stack;
    std::uint32_t reserved;
    std::atomic<std::uintptr_t> frame;
    std::atomic<std::uint64_t> places[kMostPlaces];
  };
  static_assert(sizeof(Entry) == kEntryBytes);

  std::size_t IndexOf(const std::uintptr_t* frame) const;
  static std::uint32_t Recall(const Entry& entry, const std::uintptr_t* frame);
  static void Remember(Entry* entry, const std::uintptr_t* frame, const WalkPlaces& places, std::uint32_t stack);
  void NoteSteps(const std::uintptr_t* frame, const WalkPlaces& places);
  TARN_NOINLINE std::uint32_t Walk(const std::uintptr_t* frame);

  // By return address into the allocator, how far above it on the stack the next one stands: 52 bits of the one, 12 of
  // the other. The steps lead to the program's call sites, which tell stacks of the same depth apart.
  static constexpr int kMostSteps = 4;
  static constexpr unsigned kDistanceBits = 12;

  Entry* entries_ = nullptr;
  StackTable* table_ = nullptr;
  std::size_t max_frames_ = 0;
  std::atomic<std::uint64_t> steps_[kSteps] = {};
};

}  // namespace tarn
