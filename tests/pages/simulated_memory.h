// SPDX-License-Identifier: Apache-2.0
//
// The kernel's memory, simulated: defines the functions of os/virtual_memory.h, os/move_pages.h, os/clock.h and
// os/huge_page_setting.h in a test's own executable, in place of those in the library.
//
// Addresses, refusals and time follow from a seed, so a run repeats exactly. Each call that the page heap makes without
// its lock gives the test the moment to act as another thread would. Memory is real, from one large mapping.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tarn_test {

// The bits of splitmix64, which are the same everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t Next() {
    state_ += 0x9E3779B97F4A7C15;
    std::uint64_t bits = state_;
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9;
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB;
    return bits ^ bits >> 31;
  }
  std::size_t Below(std::size_t bound) { return Next() % bound; }
  bool OneIn(std::size_t bound) { return Below(bound) == 0; }

 private:
  std::uint64_t state_;
};

struct SimulatedMemory {
  // Starts over with this seed; addresses that were handed out stay so.
  void Reset(std::uint64_t seed);
  // Starts over with all addresses free, and with a page map that knows none. Page heaps that had some end with that.
  void ForgetAll(std::uint64_t seed);

  // One call of this number is refused; 0: none.
  std::size_t refusals = 0;
  std::size_t address_space_limit_bytes = SIZE_MAX;
  bool has_huge_pages = true;
  std::uint32_t now_ms = 1;
  // Called in the middle of each call.
  void (*during_call)(const char* call) = nullptr;

  // Of all calls so far, with their results.
  std::uint64_t digest = 0;
  void Note(std::uint64_t value) { digest = (digest ^ value) * 0x9E3779B97F4A7C15 + (digest >> 29); }
  // The start of all addresses, which is another one in each process.
  std::uintptr_t base = 0;
  // Of reservations that exist.
  std::size_t reserved_bytes = 0;
};

extern SimulatedMemory memory;

}  // namespace tarn_test
