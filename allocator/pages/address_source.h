// SPDX-License-Identifier: Apache-2.0
//
// Gets address space for reservations: 1 GiB at a time, less under an address space limit.
//
// Not guarded: threads that find the usual size unknown find the same. All zero at the start (heap/process_heap.h).
#pragma once

#include <atomic>
#include <cstddef>

namespace tarn {

// True if the page map knows all of these addresses.
bool IsServable(const void* start, std::size_t bytes);

class AddressSource {
 public:
  // Reserves at least `huge_pages`, the usual size if that is possible; null: the kernel refuses.
  void* ReserveAtLeast(std::size_t huge_pages, std::size_t* count);
  bool IsLimited();

 private:
  // The usual size of a reservation, in huge pages.
  std::size_t Goal();

  // 0: not known yet.
  std::atomic<std::size_t> goal_ = 0;
};

}  // namespace tarn
