// SPDX-License-Identifier: Apache-2.0
//
// The stacks that the checked mode remembers, each one kept once and named by a number of 32 bits.
//
// A hash table with chains in a mapping of its own. Entries are written in full, then linked to the head of their chain
// by compare-and-exchange, and never change or go away. So lookups and insertions take no lock: a signal handler, a
// fork and a jump out of the middle leave nothing behind but, at most, the room of one entry. Two threads that insert
// the same stack at once may both keep it; each number names the right stack.
//
// The mapping is bounded. A stack that finds no room gets the number 0, "not kept".
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tarn {

class StackTable {
 public:
  // The most frames of a stack.
  static constexpr std::size_t kMaxFrames = 16;
  // Chosen: some 80 000 stacks of 12 frames.
  static constexpr std::size_t kBytes = std::size_t{8} << 20;

  constexpr StackTable() = default;

  // `memory` is zero, aligned to 8 bytes, and stays. `bytes` are at most 32 GiB, at least kHeadBytes.
  void Init(void* memory, std::size_t bytes);

  // The number of the stack, which is kept if it was not; 0: it is empty, or there is no room.
  [[nodiscard]] std::uint32_t Keep(const std::uintptr_t* frames, std::size_t count);

  // The frames of a number that Keep has returned.
  struct Stack {
    const std::uintptr_t* frames = nullptr;
    std::size_t count = 0;
  };
  Stack Find(std::uint32_t number) const;

  // Stacks that found no room.
  std::uint32_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

  static constexpr std::size_t kHeads = 16384;
  static constexpr std::size_t kHeadBytes = kHeads * sizeof(std::uint32_t);

 private:
  struct Entry {
    std::uint32_t hash;
    std::uint32_t count;
    std::uint64_t next;  // the number of the next entry of the chain, 0: none
    // The frames follow.
    std::uintptr_t* frames() { return reinterpret_cast<std::uintptr_t*>(this + 1); }
  };

  // Of an entry: where it lies, in units of 8 bytes.
  Entry* EntryAt(std::uint32_t number) const { return reinterpret_cast<Entry*>(words_ + number); }
  std::uint32_t FindInChain(std::uint32_t first, std::uint32_t end, std::uint32_t hash, const std::uintptr_t* frames,
                            std::size_t count) const;
  std::uint32_t NewEntry(std::uint32_t hash, const std::uintptr_t* frames, std::size_t count);

  std::uint64_t* words_ = nullptr;
  std::uint32_t word_count_ = 0;
  std::atomic<std::uint32_t> used_words_ = 0;
  std::atomic<std::uint32_t> dropped_ = 0;
};

}  // namespace tarn
