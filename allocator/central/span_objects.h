// SPDX-License-Identifier: Apache-2.0
//
// The objects of a span: taking free ones out and putting them back, by bits.
//
// For the central free list, under its lock, except FindObject and IsFree, which need none. Nothing here touches the
// objects themselves.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "allocator/base/check.h"
#include "allocator/pages/span.h"

namespace tarn {

// Takes up to `count` free objects out of the span, lowest address first, and stores their addresses; returns how many.
inline std::size_t TakeObjects(Span* span, void** objects, std::size_t count) {
  const std::size_t size_bytes = kSizeClasses[span->size_class].size_bytes;
  std::uint64_t* words = span->free_bits();
  std::size_t taken = 0;
  for (std::size_t w = 0; w < span->word_count() && taken < count; ++w) {
    std::uint64_t word = words[w];
    while (word != 0 && taken < count) {
      const std::size_t index = w * 64 + static_cast<std::size_t>(std::countr_zero(word));
      objects[taken++] = reinterpret_cast<void*>(span->start_address() + index * size_bytes);
      word &= word - 1;
    }
    std::atomic_ref<std::uint64_t>(words[w]).store(word, std::memory_order_relaxed);
  }
  span->live_objects = static_cast<std::uint16_t>(span->live_objects + taken);
  return taken;
}

// Takes the free object with the lowest address. The span has one.
inline void* TakeObject(Span* span) {
  std::uint64_t* words = span->free_bits();
  std::size_t w = 0;
  while (words[w] == 0) ++w;
  const std::size_t index = w * 64 + static_cast<std::size_t>(std::countr_zero(words[w]));
  std::atomic_ref<std::uint64_t>(words[w]).store(words[w] & (words[w] - 1), std::memory_order_relaxed);
  ++span->live_objects;
  return reinterpret_cast<void*>(span->start_address() + index * kSizeClasses[span->size_class].size_bytes);
}

// Takes the free object that `random` chooses among those of the span, which has one; each is as likely.
inline void* TakeObjectAtRandom(Span* span, std::uint32_t random) {
  std::uint64_t* words = span->free_bits();
  const std::uint32_t free_objects = std::uint32_t{span->object_count} - span->live_objects;
  auto skip = static_cast<std::uint32_t>(std::uint64_t{random} * free_objects >> 32);
  std::size_t w = 0;
  for (; skip >= static_cast<std::uint32_t>(std::popcount(words[w])); ++w) {
    skip -= static_cast<std::uint32_t>(std::popcount(words[w]));
  }
  std::uint64_t left = words[w];
  for (; skip != 0; --skip) left &= left - 1;
  const auto bit = static_cast<std::size_t>(std::countr_zero(left));
  std::atomic_ref<std::uint64_t>(words[w]).store(words[w] & ~(std::uint64_t{1} << bit), std::memory_order_relaxed);
  ++span->live_objects;
  const std::size_t index = w * 64 + bit;
  return reinterpret_cast<void*>(span->start_address() + index * kSizeClasses[span->size_class].size_bytes);
}

// The index of the object that starts at `address`, which lies in the span; or -1 when none starts there.
inline int FindObject(const Span* span, std::uintptr_t address) {
  const auto offset_bytes = static_cast<std::uint32_t>(address - span->start_address());
  const std::uint32_t index = ObjectIndex(span->size_class, offset_bytes);
  if (index >= span->object_count || index * kSizeClasses[span->size_class].size_bytes != offset_bytes) return -1;
  return static_cast<int>(index);
}

// The address of the object that `address`, which lies in the span, is part of; or 0 when it lies behind the last one.
inline std::uintptr_t ObjectAround(const Span* span, std::uintptr_t address) {
  const std::size_t size_bytes = kSizeClasses[span->size_class].size_bytes;
  const std::size_t index = (address - span->start_address()) / size_bytes;
  return index >= span->object_count ? 0 : span->start_address() + index * size_bytes;
}

inline bool IsFree(Span* span, std::size_t index) {
  // Relaxed: without the lock, others may change other bits of the word.
  const std::atomic_ref<std::uint64_t> word(span->free_bits()[index / 64]);
  return (word.load(std::memory_order_relaxed) >> (index % 64) & 1) != 0;
}

// Puts the object back. False when it is free already: then nothing has changed.
[[nodiscard]] inline bool ReturnObject(Span* span, std::size_t index) {
  std::uint64_t& word = span->free_bits()[index / 64];
  const std::uint64_t bit = std::uint64_t{1} << (index % 64);
  if ((word & bit) != 0) return false;
  std::atomic_ref<std::uint64_t>(word).store(word | bit, std::memory_order_relaxed);
  --span->live_objects;
  return true;
}

}  // namespace tarn
