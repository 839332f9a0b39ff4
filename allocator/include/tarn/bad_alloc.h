// SPDX-License-Identifier: Apache-2.0
//
// tarn/bad_alloc.h: what the C++ headers do when there is no memory, or an argument makes no sense.
#ifndef TARN_BAD_ALLOC_H
#define TARN_BAD_ALLOC_H

#include <cstddef>
#include <cstdlib>
#include <new>
#include <stdexcept>

namespace tarn {

// Throws std::bad_alloc; aborts in code that is built without exceptions.
[[noreturn]] inline void ThrowBadAlloc() {
#if defined(__cpp_exceptions)
  throw std::bad_alloc();
#else
  std::abort();
#endif
}

// Throws std::invalid_argument; aborts in code that is built without exceptions.
[[noreturn]] inline void ThrowInvalidArgument([[maybe_unused]] const char* what) {
#if defined(__cpp_exceptions)
  throw std::invalid_argument(what);
#else
  std::abort();
#endif
}

inline bool IsAlignment(std::size_t alignment) { return alignment != 0 && (alignment & (alignment - 1)) == 0; }

// An allocation was refused: because of its alignment, or for want of memory.
[[noreturn]] inline void ThrowRefused(std::size_t alignment) {
  if (!IsAlignment(alignment)) ThrowInvalidArgument("tarn: an alignment is a power of two");
  ThrowBadAlloc();
}

}  // namespace tarn

#endif
