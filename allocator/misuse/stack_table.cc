// SPDX-License-Identifier: Apache-2.0

#include "allocator/misuse/stack_table.h"

#include <algorithm>

namespace tarn {

namespace {

std::uint32_t HashOf(const std::uintptr_t* frames, std::size_t count) {
  std::uint64_t hash = count;
  for (std::size_t i = 0; i < count; ++i) hash = (hash ^ frames[i]) * 0x9E3779B97F4A7C15 ^ hash >> 29;
  return static_cast<std::uint32_t>(hash >> 32);
}

std::atomic<std::uint32_t>& HeadOf(std::uint64_t* words, std::uint32_t hash) {
  return reinterpret_cast<std::atomic<std::uint32_t>*>(words)[hash % StackTable::kHeads];
}

}  // namespace

void StackTable::Init(void* memory, std::size_t bytes) {
  words_ = static_cast<std::uint64_t*>(memory);
  word_count_ = static_cast<std::uint32_t>(bytes / sizeof *words_);
  // Behind the heads, so no entry has the number 0.
  used_words_.store(kHeadBytes / sizeof *words_, std::memory_order_relaxed);
}

std::uint32_t StackTable::FindInChain(std::uint32_t first, std::uint32_t end, std::uint32_t hash,
                                      const std::uintptr_t* frames, std::size_t count) const {
  for (std::uint32_t number = first; number != end; number = static_cast<std::uint32_t>(EntryAt(number)->next)) {
    Entry* entry = EntryAt(number);
    if (entry->hash == hash && entry->count == count && std::equal(frames, frames + count, entry->frames())) {
      return number;
    }
  }
  return 0;
}

std::uint32_t StackTable::NewEntry(std::uint32_t hash, const std::uintptr_t* frames, std::size_t count) {
  const auto words = static_cast<std::uint32_t>(sizeof(Entry) / sizeof *words_ + count);
  // The look comes first, so that a full table does not count on and wrap.
  if (used_words_.load(std::memory_order_relaxed) + words > word_count_) return 0;
  const std::uint32_t number = used_words_.fetch_add(words, std::memory_order_relaxed);
  if (number + words > word_count_) return 0;
  Entry* entry = EntryAt(number);
  entry->hash = hash;
  entry->count = static_cast<std::uint32_t>(count);
  std::copy_n(frames, count, entry->frames());
  return number;
}

std::uint32_t StackTable::Keep(const std::uintptr_t* frames, std::size_t count) {
  if (count == 0 || words_ == nullptr) return 0;
  count = std::min(count, kMaxFrames);
  const std::uint32_t hash = HashOf(frames, count);
  std::atomic<std::uint32_t>& head = HeadOf(words_, hash);
  // Acquire pairs with the release below: the entry that the head names is complete, and so are those behind it.
  std::uint32_t first = head.load(std::memory_order_acquire);
  if (const std::uint32_t number = FindInChain(first, 0, hash, frames, count); number != 0) return number;
  const std::uint32_t number = NewEntry(hash, frames, count);
  if (number == 0) {
    dropped_.fetch_add(1, std::memory_order_relaxed);
    return 0;
  }
  while (true) {
    EntryAt(number)->next = first;
    const std::uint32_t seen = first;
    if (head.compare_exchange_weak(first, number, std::memory_order_release, std::memory_order_acquire)) return number;
    // Others have come in between; one of them may have kept this very stack. The room of the entry is lost then.
    if (const std::uint32_t other = FindInChain(first, seen, hash, frames, count); other != 0) return other;
  }
}

StackTable::Stack StackTable::Find(std::uint32_t number) const {
  if (number == 0 || words_ == nullptr) return {};
  Entry* entry = EntryAt(number);
  return {entry->frames(), entry->count};
}

}  // namespace tarn
