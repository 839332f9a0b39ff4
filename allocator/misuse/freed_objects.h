// SPDX-License-Identifier: Apache-2.0
//
// The quarantine of malloc's checked mode: freed objects, first in, first out, bounded in bytes and in number.
//
// A ring of places. A push takes the next number from the head and exchanges the object for what stands in its place:
// nothing, or what was pushed a whole ring ago, which leaves. A pop takes the next number from the tail and exchanges
// what stands there for nothing. Each exchange hands a word to exactly one thread, so each object leaves once. There is
// no lock. So a signal handler, a fork and a jump in the middle lose one object at most, and leave the ring whole.
//
// A pop may come to a place whose push has its number and has not stored yet. It finds nothing there, and the object
// stays until the ring comes round.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tarn {

class FreedObjects {
 public:
  constexpr FreedObjects() = default;

  // `places` is an array of a power of two, all null, that stays. Without Init nothing is kept.
  void Init(std::atomic<void*>* places, std::size_t count, std::size_t most_bytes) {
    places_ = places;
    mask_ = count - 1;
    most_bytes_ = most_bytes;
  }

  // Larger ones are not worth what they would push out. Chosen.
  bool Takes(std::size_t bytes) const { return places_ != nullptr && bytes <= most_bytes_ / 4; }

  // Takes an object, of bytes that Takes; returns one that leaves for it, or null. The caller calls Leave for that.
  [[nodiscard]] void* Push(void* object, std::size_t bytes) {
    bytes_.fetch_add(bytes, std::memory_order_relaxed);
    // Release and acquire: what the thread that freed an object knew of it is seen by the one that lets it go.
    return places_[head_.fetch_add(1, std::memory_order_relaxed) & mask_].exchange(object, std::memory_order_acq_rel);
  }

  // The object that has been here longest while there are more bytes than `most_bytes`; null: there are not, or it is
  // just being pushed.
  [[nodiscard]] void* Pop(std::size_t most_bytes) {
    while (bytes_.load(std::memory_order_relaxed) > most_bytes) {
      std::uint64_t tail = tail_.load(std::memory_order_relaxed);
      const std::uint64_t head = head_.load(std::memory_order_relaxed);
      if (tail >= head) return nullptr;
      // Places below were taken over by later pushes.
      const std::uint64_t places = mask_ + 1;
      const std::uint64_t first = head > tail + places ? head - places : tail;
      if (!tail_.compare_exchange_weak(tail, first + 1, std::memory_order_relaxed)) continue;
      void* object = places_[first & mask_].exchange(nullptr, std::memory_order_acq_rel);
      if (object != nullptr) return object;
    }
    return nullptr;
  }
  [[nodiscard]] void* PopExcess() { return Pop(most_bytes_); }

  // The object is here no longer.
  void Leave(std::size_t bytes) { bytes_.fetch_sub(bytes, std::memory_order_relaxed); }

  std::size_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  std::atomic<void*>* places_ = nullptr;
  std::size_t mask_ = 0;
  std::size_t most_bytes_ = 0;
  std::atomic<std::uint64_t> head_ = 0;
  std::atomic<std::uint64_t> tail_ = 0;
  std::atomic<std::size_t> bytes_ = 0;
};

}  // namespace tarn
