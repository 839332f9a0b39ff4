// operator new where the hit path could not serve: the slow path, the new-handler, bad_alloc.
#pragma once

#include <cstddef>

#include "allocator/base/attributes.h"

namespace tarn {

// `alignment` is a power of two, or 0 for the plain operator new. Never null: throws bad_alloc, by way of the program's
// own C++ library, when the new-handler has given up.
TARN_NOINLINE void* NewMiss(std::size_t bytes, std::size_t alignment);

// Null when there is no memory; an exception of the new-handler is swallowed.
TARN_NOINLINE void* NewMissNothrow(std::size_t bytes, std::size_t alignment) noexcept;

}  // namespace tarn
