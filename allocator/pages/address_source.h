// SPDX-License-Identifier: Apache-2.0
//
// Gets address space for reservations, as much as there is already, from 32 MiB to 1 GiB at a time: a small process
// takes little, and a large heap is built of few. For large objects it is more, under an address space limit less.
//
// Not guarded: threads that find the largest size unknown find the same. All zero at the start (heap/process_heap.h).
#pragma once

#include <atomic>
#include <cstddef>

namespace tarn {

// True if the page map knows all of these addresses.
bool IsServable(const void* start, std::size_t bytes);

class AddressSource {
 public:
  // Reserves at least `huge_pages`, where `reserved` are reserved already; null: the kernel refuses.
  void* ReserveAtLeast(std::size_t huge_pages, std::size_t reserved, std::size_t* count);
  bool IsLimited();

 private:
  // The largest size of a reservation, in huge pages.
  std::size_t Largest();

  // 0: not known yet.
  std::atomic<std::size_t> largest_ = 0;
};

}  // namespace tarn
