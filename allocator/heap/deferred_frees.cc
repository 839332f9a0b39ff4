// SPDX-License-Identifier: Apache-2.0

#include "allocator/heap/deferred_frees.h"

#include <atomic>
#include <cstddef>

#include "allocator/heap/object.h"

namespace tarn {

namespace {

constexpr std::size_t kPlaces = 256;
constinit std::atomic<void*> places[kPlaces];
constinit std::atomic<std::size_t> count = 0;

}  // namespace

void DeferFree(void* object) {
  for (std::atomic<void*>& place : places) {
    void* expected = nullptr;
    // Release pairs with the acquire of the exchange below.
    if (place.compare_exchange_strong(expected, object, std::memory_order_release, std::memory_order_relaxed)) {
      count.fetch_add(1, std::memory_order_relaxed);
      return;
    }
  }
}

void FreeDeferred() {
  if (count.load(std::memory_order_relaxed) == 0) [[likely]]
    return;
  for (std::atomic<void*>& place : places) {
    void* object = place.exchange(nullptr, std::memory_order_acquire);
    if (object == nullptr) continue;
    count.fetch_sub(1, std::memory_order_relaxed);
    Deallocate(Resolve(object, "free"), "free");
  }
}

}  // namespace tarn
