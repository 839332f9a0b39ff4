// SPDX-License-Identifier: Apache-2.0
//
// Moves the contents of memory to another address without copying, where the kernel can.
//
// The move is a series of mremap(MREMAP_DONTUNMAP) (Linux 5.7), each of a range within one mapping, and without
// MREMAP_FIXED. Such a call either moves the whole range or changes nothing. With MREMAP_FIXED it is different.
// Up to Linux 6.16 the kernel unmaps the destination before it refuses a source of several mappings. From 6.17
// on a move of several mappings may stop half-way. The program makes borders of mappings at any page, by
// madvise, mlock, mprotect.
//
// The source stays mapped all the time, so no mapping of another thread can land there, and every move can be undone.
// The destination is reserved, and unmapped just before the move: the address is a hint, and a result elsewhere shows
// that another thread was faster.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tarn {

enum class MoveResult : std::uint8_t {
  kMoved,   // the source is committed memory with nothing resident, as if released
  kCopied,  // some of the contents were copied; the source is committed memory with any contents
  kFailed,  // the source holds its contents; the destination is not the caller's any more
};

// Moves `bytes` from committed memory to memory in the state Reserved (os/virtual_memory.h), of which each byte is
// committed afterwards. The ranges do not overlap. What cannot be moved is copied.
//
// Pages that move keep what the kernel knows of them: locked, left out of core dumps, protection. Pages that are copied
// stay locked from Linux 5.4 on, and lose the rest. Before, nothing says what is locked, and all pages are copied. With
// MCL_FUTURE in force the source stays locked, too.
//
// With `huge_pages`, huge pages are advised for a destination that is copied to.
[[nodiscard]] MoveResult MovePages(void* from, void* to, std::size_t bytes, bool huge_pages);

// Takes back what the program has told the kernel of committed memory that it does not own any more: protection,
// MADV_DONTDUMP, MADV_DONTFORK, MADV_WIPEONFORK. Locked memory stays locked.
void ForgetAdvice(void* start, std::size_t bytes);

}  // namespace tarn
