// SPDX-License-Identifier: Apache-2.0
//
// Gives up memory that is kept for speed: for those that ran out of memory, and for requests.
//
// One operation with a depth, so that no caller forgets a part. The caller is in a slow path and holds no lock.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tarn {

enum class ReclaimDepth : std::uint8_t {
  kToPageHeap,  // kept regions, objects in caches, empty spans: their pages serve any size
  kToKernel,    // and free pages, of huge pages in use too
};

// `call` is named in messages about misuse. With kToKernel, `keep_bytes` of whole free huge pages stay; if that is not
// 0, free pages of huge pages in use stay too. Returns the bytes that went to the kernel.
std::size_t Reclaim(ReclaimDepth depth, const char* call, std::size_t keep_bytes = 0);

}  // namespace tarn
