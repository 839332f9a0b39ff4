// SPDX-License-Identifier: Apache-2.0
//
// Gives up memory that is kept for speed: where memory has run out, and on request.
//
// One operation with a depth, so that no caller forgets a part.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tarn {

enum class ReclaimDepth : std::uint8_t {
  kToPageHeap,  // kept regions, objects in caches, empty spans: their pages serve any size
  kToKernel,    // and free pages, of huge pages in use too
};

struct Reclaimed {
  std::size_t drained_bytes = 0;   // from caches
  std::size_t released_bytes = 0;  // to the kernel
};

// `call` is named in messages about misuse. With kToKernel, `keep_bytes` of whole free huge pages stay; if that is not
// 0, free pages of huge pages in use stay too. The caller is in a slow path and holds no lock that ranks above the
// caches'.
Reclaimed Reclaim(ReclaimDepth depth, const char* call, std::size_t keep_bytes = 0);

// Requests of the program, which open a slow path. Each returns the bytes that the kernel got.

// Gives at least this many bytes back, if there are as many free ones: whole huge pages first, then what caches hold,
// then all free pages; SIZE_MAX: everything.
std::size_t ReleaseBytes(std::size_t bytes);
// Gives back what can be given back, keeping about `keep_bytes` of free memory.
std::size_t Trim(std::size_t keep_bytes);

}  // namespace tarn
