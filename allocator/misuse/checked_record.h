// SPDX-License-Identifier: Apache-2.0
//
// The record of an object in the checked mode. It lies in the span's record, apart from the program's memory.
//
//   kUnused       nobody had the object since its span was made
//   kLive         the program has it
//   kBusy         a free or a realloc is changing it where it lies
//   kQuarantined  freed, and not to be handed out yet
//   kFree         may be handed out
//
// A free claims the object by one step from kLive to kBusy, so of two frees at once one goes on. The generation
// changes with each allocation: who finds the same word before and after a look has looked at one object, in one state.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "allocator/pages/span.h"

namespace tarn {

// Which function made an object.
enum class Family : std::uint8_t { kMalloc, kNew, kNewArray };

struct CheckedRecord {
  enum class State : std::uint8_t { kUnused, kLive, kBusy, kQuarantined, kFree };

  // A word of the record, taken apart.
  struct Facts {
    std::size_t bytes = 0;  // that the program asked for
    State state = State::kUnused;
    Family family = Family::kMalloc;
    std::uint16_t generation = 0;

    std::uint64_t word() const {
      return std::uint64_t{bytes} << 16 | std::uint64_t{generation} << 6 | static_cast<std::uint64_t>(family) << 3 |
             static_cast<std::uint64_t>(state);
    }
  };
  static constexpr std::size_t kMaxBytes = (std::size_t{1} << 48) - 1;
  static constexpr std::uint16_t kGenerations = 1 << 10;

  static Facts FactsOf(std::uint64_t word) {
    return {word >> 16, static_cast<State>(word & 7), static_cast<Family>(word >> 3 & 7),
            static_cast<std::uint16_t>(word >> 6 & (kGenerations - 1))};
  }
  // Acquire pairs with the release of Set: what was written to the object before is seen.
  std::uint64_t Load() const { return word.load(std::memory_order_acquire); }
  void Set(const Facts& facts) { word.store(facts.word(), std::memory_order_release); }
  // From the word that the caller has seen to other facts. False: another thread was quicker, and nothing has changed.
  [[nodiscard]] bool Change(std::uint64_t seen, const Facts& facts) {
    return word.compare_exchange_strong(seen, facts.word(), std::memory_order_acq_rel, std::memory_order_relaxed);
  }

  std::atomic<std::uint64_t> word;
  // Numbers of the stack table.
  std::atomic<std::uint32_t> allocation_stack;
  std::atomic<std::uint32_t> free_stack;
};
static_assert(sizeof(CheckedRecord) == Span::kCheckedRecordBytes);

// The record of an object of a kChecked span, by its index, or of a checked large one.
inline CheckedRecord* RecordOf(Span* span, std::size_t index = 0) {
  return static_cast<CheckedRecord*>(span->checked_records()) + index;
}

}  // namespace tarn
