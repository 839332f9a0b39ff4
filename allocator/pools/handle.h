// SPDX-License-Identifier: Apache-2.0
//
// Handles of the user's API: the records of pools, heaps and concurrent arenas, each at the start of a region of its
// own.
//
// The span record of the region says which kind of handle lives there. So a pointer that is not a handle, is of another
// kind, or whose handle has ended is reported as such: at each end, and on slow paths. Hit paths do not look; a handle
// that ends leaves them without anything to hit.
//
// Protocol of the mark: 0, then the kind (OpenHandle), then the kind with kEnding (BeginEnd), then 0 (FreeHandle).
// BeginEnd is one compare-exchange, so of two ends of one handle at the same time exactly one goes on. Records of spans
// are never unmapped, so any pointer may be looked up. A handle at the address of one that has ended is
// indistinguishable from it.
#pragma once

#include <cstdint>

#include "allocator/base/attributes.h"
#include "allocator/pages/span.h"

namespace tarn {

enum class HandleKind : std::uint8_t { kBlockPool = 1, kConcurrentArena, kFixedPool, kHeap, kPool };

// The record at the region's start is complete.
void OpenHandle(Span* region, HandleKind kind);

// Claims the end of the handle. Ends the process with a line when `handle` is none of this kind, or ends already.
// `call` is named in the line.
void BeginEnd(const void* handle, HandleKind kind, const char* call);

// Ends the process with a line unless the handle lives. One that is just ending lives: destructors may use it.
void RequireHandle(const void* handle, HandleKind kind, const char* call);

// After BeginEnd: the region goes back.
void FreeHandle(Span* region);

}  // namespace tarn
