// SPDX-License-Identifier: Apache-2.0
//
// The quarantine of the hardened mode: freed objects of one size class on their way back to their spans.
//
//   free -> a place at random -> [ first in, first out ] -> the span
//
// A freed object takes a place that chance chooses; the object that had the place moves to a ring, and the ring's
// oldest leaves. So nobody can say after how many frees an object is handed out again, and never at once. The places
// bound the bytes.
//
// Each step is an exchange, which hands a pointer to exactly one thread. There is no lock. So a fork and a jump in the
// middle lose one object at most, and leave the places whole.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "allocator/base/mix_bits.h"

namespace tarn {

class DelayedFrees {
 public:
  constexpr DelayedFrees() = default;

  // `memory` is an array of 2 * half, all null, that stays. Without Init nothing is kept.
  void Init(std::atomic<void*>* memory, std::size_t half) {
    places_ = memory;
    half_ = half;
  }
  // Chooses places by this number from now on.
  void Seed(std::uint64_t secret) { draws_.store(secret, std::memory_order_relaxed); }

  // Takes an object; returns the one that leaves, which is this one where nothing is kept, or null.
  [[nodiscard]] void* Push(void* object) {
    if (half_ == 0) return object;
    const std::uint64_t draw = MixBits(draws_.fetch_add(kMixStep, std::memory_order_relaxed));
    // Release and acquire: what the thread that freed an object wrote into it is seen by the one that hands it out.
    void* const moved = places_[draw % half_].exchange(object, std::memory_order_acq_rel);
    if (moved == nullptr) return nullptr;
    const std::size_t turn = turns_.fetch_add(1, std::memory_order_relaxed) % half_;
    return places_[half_ + turn].exchange(moved, std::memory_order_acq_rel);
  }

  // An object that leaves, from the place `*from` on, which becomes the next place to look at; null: there is none.
  [[nodiscard]] void* Pop(std::size_t* from) {
    while (*from < 2 * half_) {
      std::atomic<void*>& place = places_[(*from)++];
      if (place.load(std::memory_order_relaxed) == nullptr) continue;
      if (void* const object = place.exchange(nullptr, std::memory_order_acq_rel)) return object;
    }
    return nullptr;
  }

 private:
  std::atomic<void*>* places_ = nullptr;
  std::size_t half_ = 0;
  std::atomic<std::uint64_t> draws_ = 0;
  std::atomic<std::size_t> turns_ = 0;
};

}  // namespace tarn
