// SPDX-License-Identifier: Apache-2.0

#include "allocator/misuse/hardened_mode.h"

#include <algorithm>
#include <atomic>

#include "allocator/base/attributes.h"
#include "allocator/base/units.h"
#include "allocator/os/random_bytes.h"
#include "allocator/os/virtual_memory.h"

namespace tarn {

constinit HardenedMode hardened_mode;
TARN_IN_TOUCHED_DATA constinit bool hardens = false;

namespace {

// Half of the most freed large objects. Each takes up to two of the mappings that a process has. Chosen.
constexpr std::size_t kSpanPlaces = 128;

// Half of the bytes are placed at random, half wait in the ring. At least one object each, whatever its size.
std::size_t PlacesOf(int size_class, std::size_t quarantine_bytes) {
  return std::max<std::size_t>(quarantine_bytes / 2 / kSizeClasses[size_class].size_bytes, 1);
}

}  // namespace

void RenewRandom() {
  FillRandom(&hardened_mode.key, sizeof hardened_mode.key);
  // From a stream that places nothing: no class has the number 0.
  RandomStream seeds;
  seeds.Init(&hardened_mode.key, 0);
  hardened_mode.freed_spans.Seed(seeds.Next());
  for (int c = 1; c < kSizeClassCount; ++c) hardened_mode.freed[c].Seed(seeds.Next());
}

void BeginHardening(std::size_t quarantine_bytes) {
  hardens = true;
  RenewRandom();
  std::size_t places = 2 * kSpanPlaces;
  for (int c = 1; c < kSizeClassCount; ++c) {
    hardened_mode.placement[c].Init(&hardened_mode.key, static_cast<std::uint32_t>(c));
    places += 2 * PlacesOf(c, quarantine_bytes);
  }
  if (quarantine_bytes == 0) return;
  // Without the memory, as under a limit on addresses, there is no quarantine.
  const std::size_t bytes = RoundUp(places * sizeof(std::atomic<void*>), OsPageBytes());
  auto* const memory = static_cast<std::atomic<void*>*>(Reserve(bytes, OsPageBytes()));
  if (memory == nullptr) return;
  if (!Commit(memory, bytes)) {
    Unreserve(memory, bytes);
    return;
  }
  NameMemory(memory, bytes, "tarn quarantine");
  hardened_mode.freed_spans.Init(memory, kSpanPlaces);
  std::atomic<void*>* next = memory + 2 * kSpanPlaces;
  for (int c = 1; c < kSizeClassCount; ++c) {
    hardened_mode.freed[c].Init(next, PlacesOf(c, quarantine_bytes));
    next += 2 * PlacesOf(c, quarantine_bytes);
  }
}

}  // namespace tarn
