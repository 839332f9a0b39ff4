// SPDX-License-Identifier: Apache-2.0
//
// operator new where the hit path could not serve: the slow path, the new-handler, bad_alloc.
//
// Where the program has replaced malloc, or the operator that a form is defined by, these go by the program's
// (entry/replaced.h).
#pragma once

#include <cstddef>
#include <new>

#include "allocator/base/attributes.h"
#include "allocator/entry/allocate.h"

namespace tarn {

// `alignment` is a power of two, or 0 for the plain operator new. Never null: throws bad_alloc, by way of the program's
// C++ library, when the new-handler has given up.
TARN_NOINLINE void* NewMiss(std::size_t bytes, std::size_t alignment, Request request = Request::kNew);

// The nothrow forms: null when there is no memory. An exception of the new-handler, or of the program's operator, is
// swallowed.
TARN_NOINLINE void* NewNothrowMiss(std::size_t bytes) noexcept;
TARN_NOINLINE void* NewArrayNothrowMiss(std::size_t bytes) noexcept;
TARN_NOINLINE void* NewNothrowAligned(std::size_t bytes, std::align_val_t alignment) noexcept;
TARN_NOINLINE void* NewArrayNothrowAligned(std::size_t bytes, std::align_val_t alignment) noexcept;

}  // namespace tarn
